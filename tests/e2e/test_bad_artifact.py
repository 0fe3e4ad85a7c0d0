"""Artifacts and indexes that are not what was signed, and hostile ones that were: refused before the switch, without a trace."""

import dataclasses
import random
import tarfile

import pytest

import formats
from formats import Entry

ESCAPED = "escaped-from-the-release"


@pytest.fixture(scope="module")
def follower(make_follower):
    follower = make_follower()
    follower.start()
    follower.host.write("/etc/secret", "not for releases\n", mode=0o600)
    return follower


def blocks(n=4):
    """Files that fill frames of their own."""
    return [Entry(f"block-{i}", content=random.Random(i).randbytes(300 << 10)) for i in range(n)]


def flip(data, at):
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1:]


def digests(release):
    return [release.payload["release"][name]["sha256"] for name in ("artifact", "index")]


@pytest.mark.parametrize("which", ["first", "middle", "last"])
def test_flipped_bit_in_a_frame(follower, which):
    with follower.undisturbed():
        release = follower.make(more=blocks())
        frames = formats.Index.unpack(release.index).frames
        number = {"first": 0, "middle": len(frames) // 2, "last": len(frames) - 2}[which]  # nobody needs the archive's end
        at = frames[number].offset + frames[number].size // 2
        follower.publish(dataclasses.replace(release, artifact=flip(release.artifact, at)))
        follower.wait_failed(release, rf"frame {number} of the artifact is not the one that was signed, after 3 tries",
                             condemned=False)


def test_truncated_artifact(follower):
    release = follower.make(more=blocks())
    with follower.undisturbed(digests(release)):
        follower.publish(dataclasses.replace(release, artifact=release.artifact[:-1000]))
        follower.wait_failed(release, rf"can't fetch the artifact of release .*: \S+/artifact\.tar\.zst: .*"
                             rf"has {len(release.artifact) - 1000} bytes", condemned=False)


def test_empty_artifact(follower):
    release = follower.make()
    with follower.undisturbed(digests(release)):
        follower.publish(dataclasses.replace(release, artifact=b""))
        follower.wait_failed(release, r"can't fetch the artifact of release ", condemned=False)


def test_wrong_index_digest_in_the_manifest(follower):
    with follower.undisturbed():
        release = follower.make()
        release.payload["release"]["index"]["sha256"] = formats.sha256(b"another index").hex()
        follower.publish(release)
        follower.wait_failed(release, r"index is not the one that was signed", condemned=False)


def test_flipped_bit_in_the_index(follower):
    """Once the store has the right index, the next try takes it."""
    release = follower.make()
    with follower.undisturbed(then_good=False):
        follower.publish(dataclasses.replace(release, index=flip(release.index, len(release.index) // 2)))
        follower.wait_failed(release, r"index is not the one that was signed", condemned=False)
    follower.publish(release)
    follower.wait_live(release)
    follower.assert_nothing_left()


def test_index_of_a_newer_format(follower):
    with follower.undisturbed():
        release = follower.make()
        newer = release.index.replace(formats.INDEX_MAGIC, b"SLPYIDX2", 1)
        release.payload["release"]["index"] = formats.stored(release.payload["release"]["index"]["path"], newer)
        follower.publish(dataclasses.replace(release, index=newer))
        follower.wait_failed(release, r"SLPYIDX1 only; what made this one may be newer", condemned=True)


def test_artifact_of_another_size_than_its_index(follower):
    with follower.undisturbed():
        release = follower.make()
        longer = release.artifact + formats.compress(bytes(1024))
        release.payload["release"]["artifact"] = formats.stored(release.payload["release"]["artifact"]["path"], longer)
        follower.publish(dataclasses.replace(release, artifact=longer))
        follower.wait_failed(release, r"artifact and index of the release differ in size", condemned=True)


# -- signed by a valid key, and hostile nevertheless

def in_tar(kind="f", **fields):
    """An entry that the index has as it is, while the tar's header says something else."""
    def header(info):
        for name, value in fields.items():
            setattr(info, name, value)
    return [Entry("victim", kind, header=header, link="data" if kind == "l" else "")]


BAD_PATH = r"file \d+ of the index has a path or link that is not allowed"
BAD_FIELD = r"file \d+ of the index has a type, mode, time or field that is not allowed"
NOT_IN_INDEX = r"in the archive is not in the index"


# the index says it, and the tar with it
IN_INDEX = {
    "absolute path": ([Entry(f"/tmp/{ESCAPED}", content=b"x")], BAD_PATH),
    "path with ..": ([Entry(f"../../../../../../tmp/{ESCAPED}", content=b"x")], BAD_PATH),
    "path with .. inside": ([Entry(f"data/../../{ESCAPED}", content=b"x")], BAD_PATH),
    "absolute symlink": ([Entry("x-link", "l", link="/etc/secret")], BAD_PATH),
    "symlink out of the tree": ([Entry("x-link", "l", link="../../../../etc/secret")], BAD_PATH),
    "file below a symlink": ([Entry("x-link", "l", link="data"), Entry(f"x-link/{ESCAPED}", content=b"x")],
                             rf"'x-link/{ESCAPED}' in the index is in no directory of it"),
    "duplicate name": ([Entry("twice", content=b"1"), Entry("twice", content=b"2")],
                       r"'twice' is not in order in the index, or comes twice"),
    "file and directory of one name": ([Entry("twice", "d"), Entry("twice", content=b"2")],
                                       r"'twice' is not in order in the index, or comes twice"),
    "setuid": ([Entry("su", content=b"#!/bin/sh\n", mode=0o4755)], BAD_FIELD),
    "setgid directory": ([Entry("sg", "d", mode=0o2755)], BAD_FIELD),
    "writable by all": ([Entry("w", mode=0o666)], BAD_FIELD),
    "device": ([Entry("null", indexed={"type": "c"})], BAD_FIELD),
    "fifo": ([Entry("pipe", indexed={"type": "p"})], BAD_FIELD),
    "hardlink": ([Entry("hard", indexed={"type": "h", "link": "/etc/secret"})], BAD_FIELD),
    "larger than its frames": ([Entry("x-huge", indexed={"size": 1 << 50})], r"'x-huge' in the index is larger than what its frames"),
}

DIFFERS = r"'victim' in the archive differs from the index in its "

# the index is honest, the tar is not
IN_TAR = {
    "absolute path": (in_tar(name=f"/tmp/{ESCAPED}"), NOT_IN_INDEX),
    "path with ..": (in_tar(name=f"../../../../../../tmp/{ESCAPED}"), NOT_IN_INDEX),
    "pax path with ..": (in_tar(pax_headers={"path": f"../../{ESCAPED}"}), NOT_IN_INDEX),
    "symlink in place of a file": (in_tar(type=tarfile.SYMTYPE, linkname="/etc/secret"), DIFFERS + "type"),
    "symlink to another place": (in_tar("l", linkname="/etc/secret"), DIFFERS + "link target"),
    "hardlink to a file of the host": (in_tar(type=tarfile.LNKTYPE, linkname="/etc/secret"), DIFFERS + "type"),
    "hardlink out of the tree": (in_tar(type=tarfile.LNKTYPE, linkname="../../../../etc/secret"), DIFFERS + "type"),
    "hardlink within the tree": (in_tar(type=tarfile.LNKTYPE, linkname="server.js"), DIFFERS + "type"),
    "character device": (in_tar(type=tarfile.CHRTYPE, devmajor=1, devminor=3), DIFFERS + "type"),
    "block device": (in_tar(type=tarfile.BLKTYPE, devmajor=8, devminor=0), DIFFERS + "type"),
    "fifo": (in_tar(type=tarfile.FIFOTYPE), DIFFERS + "type"),
    "setuid": (in_tar(mode=0o4755), DIFFERS + "mode"),
    "setgid directory": (in_tar("d", mode=0o2755), DIFFERS + "mode"),
    "entry that the index does not have": ([Entry("victim"), Entry(ESCAPED, indexed=None)], NOT_IN_INDEX),
    "duplicate name": ([Entry("victim"), Entry("victim", content=b"other", indexed=None)],
                       r"'victim' comes twice in the archive, or too late"),
    "entries in another order": ([Entry("victim-2", indexed={"path": "victim-1"}),
                                  Entry("victim-1", indexed={"path": "victim-2"})],
                                 r"'victim-1' of the index is missing in the archive"),
}

HOSTILE = {**{f"index: {name}": case for name, case in IN_INDEX.items()}, **{f"tar: {name}": case for name, case in IN_TAR.items()}}


def escaped(host):
    """What of hostile archives lies anywhere on the host, and files of dangerous kinds in the releases."""
    return host.run(["sh", "-c", f"find / /srv /tmp -xdev -name '*{ESCAPED}*'; "
                     "find /srv/web -type b -o -type c -o -type p -o -perm /6000"]).stdout.split()


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archive(follower, case):
    entries, said = HOSTILE[case]
    # that it goes on polling shows in the next case, and at last below
    with follower.undisturbed(then_good=False):
        n = follower.n_releases + 1
        release = follower.make(follower.entries(n) + entries)
        follower.publish(release)
        follower.wait_failed(release, said, condemned=True)
        assert escaped(follower.host) == []
    assert follower.host.read("/etc/secret") == "not for releases\n"


def test_content_larger_than_the_index_says(follower):
    """A frame that would fill memory when it is decompressed."""
    with follower.undisturbed():
        release = follower.make(more=blocks())
        index = formats.Index.unpack(release.index)
        at = index.frames[1].offset
        bomb = formats.compress(bytes(64 << 20))
        frame = dataclasses.replace(index.frames[1], size=len(bomb), sha256=formats.sha256(bomb))
        artifact = release.artifact[:at] + bomb + release.artifact[at + index.frames[1].size:]
        moved = frame.size - index.frames[1].size
        frames = [index.frames[0], frame, *(dataclasses.replace(f, offset=f.offset + moved) for f in index.frames[2:])]
        packed = formats.Index(frames, index.files).pack()
        stored = release.payload["release"]
        stored["artifact"] = formats.stored(stored["artifact"]["path"], artifact)
        stored["index"] = formats.stored(stored["index"]["path"], packed)
        follower.publish(dataclasses.replace(release, artifact=artifact, index=packed))
        follower.wait_failed(release, r"frame 1 of the artifact is not a zstd frame of the size and window", condemned=True)


def test_good_release_after_all_of_it(follower):
    follower.good()
    follower.assert_nothing_left()
