#!/usr/bin/env python3
"""What an upgrade from one tree to another costs in bytes, beside what its changed files come to when they are compressed.

    upgrade.py BUILD_DIRECTORY OLD_TREE NEW_TREE [LEVEL]

Runs in the Python of `tests/e2e/make/cached python-env`. Prints how many files changed, what a host with OLD_TREE fetches and in
how many requests, the changed files compressed one by one and
as one tar archive (both by zstd, at the same level), the ratios of these, and how large the index is beside the artifact.
"""

import pathlib
import subprocess
import sys
import tempfile

import zstandard

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

import formats  # noqa: E402  (found by the line above)

LEVEL_DEFAULT = 3
TIMES = 1_700_000_000, 1_700_086_400


def pack(program, tree, output, time, level, predecessor=None):
    """-> [artifact bytes, index bytes, fetched bytes, requests]; the last two with a predecessor only"""
    command = [program, tree, output, str(time), str(level), *([predecessor] if predecessor else [])]
    return [int(word) for word in subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()]


def compressed_size(data, level):
    return len(zstandard.ZstdCompressor(level=level).compress(data))


def compressed_together(tree, paths, level):
    tar = subprocess.run(["tar", "-cf", "-", "-C", tree, "--null", "-T", "-"], input="\0".join(paths).encode(),
                         stdout=subprocess.PIPE, check=True).stdout
    return compressed_size(tar, level)


def main(build, old_tree, new_tree, level=LEVEL_DEFAULT):
    program = pathlib.Path(build) / "tests/bench/pack-tree"
    with tempfile.TemporaryDirectory() as directory:
        old, new = (pathlib.Path(directory) / name for name in ("old", "new"))
        pack(program, old_tree, old, TIMES[0], level)
        artifact, index, fetched, n_requests = pack(program, new_tree, new, TIMES[1], level, f"{old}.index")
        have = {f.sha256 for f in formats.Index.unpack(pathlib.Path(f"{old}.index").read_bytes()).files}
        changed = [f.path for f in formats.Index.unpack(pathlib.Path(f"{new}.index").read_bytes()).files
                   if f.type == "f" and f.size > 0 and f.sha256 not in have]
    if not changed:
        sys.exit("nothing changed")
    alone = sum(compressed_size((pathlib.Path(new_tree) / path).read_bytes(), level) for path in changed)
    together = compressed_together(new_tree, changed, level)
    print(f"{len(changed)} files changed; {fetched} bytes in {n_requests} requests")
    print(f"compressed one by one: {alone} (ratio {fetched / alone:.2f}), together: {together} (ratio {fetched / together:.2f})")
    print(f"artifact: {artifact}, index: {index} ({100 * index / artifact:.1f} %)")


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    main(*sys.argv[1:4], *map(int, sys.argv[4:]))
