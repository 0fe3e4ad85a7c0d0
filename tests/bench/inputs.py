"""What releases.py deploys: real content, in two versions each, as directories `1` and `2` below one of each input."""

import contextlib
import hashlib
import os
import pathlib
import shutil
import subprocess

import application

BINARY_BYTES = 1 << 30
BINARY_REGIONS = 16
BINARY_CHANGED_SHARE = 0.01
N_TINY = 100_000
N_TINY_PER_DIRECTORY = 500
TINY_BYTES_MIN, TINY_BYTES_MAX = 40, 1500
CHUNK_BYTES = 1 << 20
HUGE_BYTES = 5 << 30
LATER_NSEC = 3600 * 10**9
LIBRARIES = ("/usr/lib", "/usr/bin", "/opt", "/usr/local")
ELF = b"\x7fELF"


def node(directory, packages, packages_next):
    """The tests' real application, and the same with one dependency upgraded."""
    for version, tree in (("1", packages), ("2", packages_next)):
        place = directory / version
        subprocess.run(["cp", "-a", "--reflink=auto", "--", str(tree), str(place)], check=True)
        shutil.copy2(application.APP / "server.js", place / "server.js")


def jvm(directory, trees):
    for version in ("1", "2"):
        subprocess.run(["cp", "-a", "--reflink=auto", "--", f"{trees}/{version}", str(directory / version)], check=True)


def programs():
    """This machine's programs and libraries, always in the same order."""
    for top in LIBRARIES:
        for parent, directories, names in os.walk(top):
            directories.sort()
            for name in sorted(names):
                path = pathlib.Path(parent, name)
                with contextlib.suppress(OSError):
                    if path.is_file() and not path.is_symlink() and path.stat().st_size > 64 << 10:
                        yield path


def binary_content():
    """Pieces of programs, BINARY_BYTES in all."""
    left = BINARY_BYTES
    for path in programs():
        with open(path, "rb") as file:
            if file.read(len(ELF)) != ELF:
                continue
            file.seek(0)
            while left > 0 and (piece := file.read(min(left, CHUNK_BYTES))):
                yield piece
                left -= len(piece)
        if left == 0:
            return
    raise RuntimeError(f"the programs of this machine are {left >> 20} MiB less than the benchmark wants")


def flip(path):
    """Changes a share of a file in place, in regions that lie evenly: what was there, with its bits inverted."""
    size = path.stat().st_size
    n_region = int(size * BINARY_CHANGED_SHARE) // BINARY_REGIONS
    inverted = bytes(range(255, -1, -1))
    with open(path, "r+b") as file:
        for n in range(BINARY_REGIONS):
            at = size * n // BINARY_REGIONS + n_region
            file.seek(at)
            region = file.read(n_region)
            file.seek(at)
            file.write(region.translate(inverted))


def binary(directory):
    """One large file, and the same with a share of it changed in place."""
    for version in ("1", "2"):
        (directory / version).mkdir()
    with open(directory / "1/program", "wb") as file:
        file.writelines(binary_content())
    shutil.copyfile(directory / "1/program", directory / "2/program")
    flip(directory / "2/program")


def tiny(directory, packages):
    """Many small files: pieces of a large source; some are others in the second version."""
    text = (packages / "node_modules/typescript/lib/typescript.js").read_bytes()
    for version, changed_every in (("1", None), ("2", 1000)):
        for n in range(N_TINY):
            number = hashlib.sha256(f"{n}{version if changed_every and n % changed_every == 0 else ''}".encode()).digest()
            size = TINY_BYTES_MIN + int.from_bytes(number[:2], "big") % (TINY_BYTES_MAX - TINY_BYTES_MIN)
            at = int.from_bytes(number[2:8], "big") % (len(text) - size)
            path = directory / version / f"{n // N_TINY_PER_DIRECTORY:03}/{n % N_TINY_PER_DIRECTORY:03}.js"
            if n % N_TINY_PER_DIRECTORY == 0:
                path.parent.mkdir(parents=True)
            path.write_bytes(text[at:at + size])


def huge(directory):
    """One file that does not compress, once."""
    (directory / "1").mkdir()
    with open(directory / "1/data", "wb") as file:
        subprocess.run(f"openssl enc -aes-128-ctr -nosalt -K {0:032} -iv {0:032} </dev/zero 2>/dev/null | head -c {HUGE_BYTES}",
                       shell=True, check=True, stdout=file)


def set_times(directory):
    """Gives files the same time in both versions where they are the same, and a later one where not: rsync goes by that."""
    first, second = directory / "1", directory / "2"
    for path in files(second):
        before = first / path.relative_to(second)
        if before.is_file():
            time_ns = before.stat().st_mtime_ns + (0 if path.read_bytes() == before.read_bytes() else LATER_NSEC)
            os.utime(path, ns=(time_ns, time_ns))


def files(tree):
    return [path for path in tree.rglob("*") if path.is_file() and not path.is_symlink()]


def changed(directory):
    """The files of the second version whose content the first has nowhere."""
    had = {hashlib.sha256(path.read_bytes()).digest() for path in files(directory / "1")}
    return [path for path in files(directory / "2") if hashlib.sha256(path.read_bytes()).digest() not in had]
