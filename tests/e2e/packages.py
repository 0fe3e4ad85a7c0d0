"""The packages that scripts/package builds of this checkout."""

import contextlib
import fcntl
import os
import pathlib
import re
import shutil
import subprocess

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BUILD_SEC = 300


@contextlib.contextmanager
def alone():
    """Other lanes build from this checkout, too, and a build begins by removing the packages of the one before."""
    with open(SOURCE / "build/packages.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build(kind, directory):
    """Builds packages and returns them, by the names of the packages."""
    directory.mkdir()
    made = {}
    with alone():
        done = subprocess.run([SOURCE / "scripts/package", f"--{kind}"], capture_output=True, text=True, timeout=BUILD_SEC)
        assert done.returncode == 0, done.stderr
        for line in re.findall(r"^== (build/packages/\S+)$", done.stderr, re.MULTILINE):
            name = re.match(r"slipway(-publish)?(-dbgsym)?", os.path.basename(line)).group(0)
            made[name] = pathlib.Path(shutil.copy(SOURCE / line, directory))
    assert {"slipway", "slipway-publish"} <= set(made), done.stderr
    return made
