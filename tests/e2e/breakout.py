"""Programs of the tests in the place of slipwayd's children, on a host: where slipwayd finds them, and what they said."""

import os
import pathlib
import re

PROGRAM_DIR = "/usr/lib/slipway"


def test_programs():
    """Where those are that the build made (tests/breakout)."""
    return pathlib.Path(os.environ["SLIPWAY_E2E_BREAKOUT"])


test_programs.__test__ = False


def put(host, directory, name, source=None):
    """A program in the place of an installed one, as an upgrade would: who runs goes on with the old."""
    host.write(f"{PROGRAM_DIR}/{name}", (directory / (source or name)).read_bytes(), mode=0o755)


def put_back(host, install):
    for name in ("slipway-fetch", "slipway-unpack"):
        put(host, install / PROGRAM_DIR.lstrip("/"), name)


def pid_of(host, words):
    """The process of the unit whose command line begins so, or None."""
    pids = host.run(["cat", "/sys/fs/cgroup/system.slice/slipwayd.service/cgroup.procs"], check=False).stdout.split()
    lines = {pid: host.run(["cat", f"/proc/{pid}/cmdline"], check=False).stdout.replace("\0", " ") for pid in pids}
    return next((pid for pid, line in lines.items() if line.startswith(words)), None)


def kill(host, words):
    """Kills such a process, if there is one."""
    pid = pid_of(host, words)
    if pid is not None:
        host.run(["kill", "-9", pid], check=False)


def said(host, word, *, after=None):
    """What was said after a word: (the next word, the rest of the line); after: since a place in the journal."""
    since = [] if after is None else [f"--after-cursor={after}"]
    return re.findall(rf"{word} (\S+) (.*)$", host.journal("slipwayd.service", *since), re.MULTILINE)
