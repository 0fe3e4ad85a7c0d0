"""The sandbox itself: runs that begin and end at the same time."""

import pathlib
import threading

import sandbox
from waiting import wait_for


def is_waited_for(directory):
    """Whether somebody waits for the directory's lock (proc_locks(5))."""
    inode = f":{directory.stat().st_ino}"
    lines = pathlib.Path("/proc/locks").read_text(encoding="ascii").splitlines()
    return any("->" in line and line.split()[-3].endswith(inode) for line in lines)


def test_a_run_that_ends_waits_for_one_that_begins(tmp_path):
    work, lock = sandbox.make_work(tmp_path, tmp_path / "cgroups")
    with lock:
        with sandbox.locked(tmp_path):
            end = threading.Thread(target=sandbox.end_work, args=[work])
            end.start()
            wait_for(lambda: is_waited_for(tmp_path), 10, "the end of a run to wait for the beginning of another")
            sandbox.sweep(tmp_path, tmp_path / "cgroups")
            assert (work / "lock").exists()
        end.join()
    assert not work.exists()


def test_what_was_left_behind_is_removed(tmp_path):
    left, lock = sandbox.make_work(tmp_path, tmp_path / "cgroups")
    lock.close()
    work, lock = sandbox.make_work(tmp_path, tmp_path / "cgroups")
    with lock:
        assert work.exists() and not left.exists()
