"""disk_model.py, by which a loss of power is judged: a wrong model would hide what a disk can lose."""

import os

import pytest

import disk_model
from disk_model import Meta, Record

FILE_MODE = 0o100600


class Log:
    """Operations on a directory with a file `old`, written as the agent's programs write them."""

    def __init__(self, root):
        (root / "old").write_bytes(b"old")
        self.root = root
        self.disk = disk_model.Disk([str(root)])
        self._top = self._node(root)

    @staticmethod
    def _node(path):
        status = os.lstat(path)
        return status.st_dev, status.st_ino

    def add(self, operation, name="", node=(0, 0), value=0, text=b""):
        self.disk.apply([Record(operation, 0, node, Meta(FILE_MODE, 0, 0, 0), self._top, self._top, value, name, text)])

    def make(self, name, content, inode):
        self.add(disk_model.OPEN, name, (1, inode), os.O_CREAT)
        self.add(disk_model.WRITE, node=(1, inode), text=content)
        return (1, inode)

    def sync_directory(self):
        self.add(disk_model.SYNC, node=self._top)

    def seen(self):
        return self._contents(self.disk.seen())

    def left(self, **options):
        return self._contents(self.disk.left(**options))

    @staticmethod
    def _contents(trees):
        return {path: content for path, (_, content) in trees[0].entries.items() if path != "."}


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path)


def test_nothing_is_sure_that_was_not_synced(log):
    log.make("new", b"new", 1)
    assert log.seen() == {"old": b"old", "new": b"new"}
    assert log.left() == {"old": b"old"}
    assert log.left(names=True) == {"old": b"old", "new": b""}


def test_a_synced_file_without_its_name_is_lost(log):
    log.add(disk_model.SYNC, node=log.make("new", b"new", 1))
    assert log.left() == {"old": b"old"}
    assert log.left(names=True) == {"old": b"old", "new": b"new"}


def test_a_replacement_is_the_old_or_the_new(log):
    log.add(disk_model.SYNC, node=log.make("aside", b"new", 1))
    log.add(disk_model.RENAME, "aside", text=b"old")
    assert log.left() == {"old": b"old"}
    log.sync_directory()
    assert log.left() == {"old": b"new"}


def test_a_name_that_was_synced_before_its_content_is_empty(log):
    log.make("aside", b"new", 1)
    log.add(disk_model.RENAME, "aside", text=b"old")
    log.sync_directory()
    assert log.left() == {"old": b""}


def test_removing_is_sure_after_a_sync(log):
    log.add(disk_model.UNLINK, "old")
    assert log.seen() == {} and log.left() == {"old": b"old"}
    log.sync_directory()
    assert log.left() == {}


def test_syncfs_makes_all_of_its_file_system_sure(log):
    log.make("new", b"new", 1)
    log.add(disk_model.SYNCFS, node=(1, 99))
    assert log.left(names=True) == {"old": b"old", "new": b"new"}
    assert log.left() == {"old": b"old"}, "the directory is on another one"


def test_a_symlink_is_its_name(log):
    log.add(disk_model.SYMLINK, "link", (1, 1), text=b"old")
    assert log.left() == {"old": b"old"}
    log.sync_directory()
    assert log.left() == {"old": b"old", "link": "old"}


def test_a_tree_is_written_as_it_was_read(tmp_path):
    there, copy = tmp_path / "there", tmp_path / "copy"
    (there / "d" / "e").mkdir(parents=True)
    copy.mkdir()
    (there / "d" / "file").write_bytes(b"x")
    os.chmod(there / "d" / "file", 0o640)
    (there / "link").symlink_to("d/file")
    os.utime(there / "d", ns=(1, 2))
    tree = disk_model.Tree.read(there)
    tree.write(copy)
    assert disk_model.Tree.read(copy) == tree
    assert set(tree.below("d").entries) == {".", "e", "file"} and tree.below("none") is None


def test_a_record_that_was_cut_off_did_not_happen():
    size = disk_model.RECORD.size + 8

    def record(operation, name):
        head = disk_model.RECORD.pack(size, operation, 7, 1, 2, FILE_MODE, 0, 0, 0, 5, 6, 3, 4, 0, 0, 9, len(name), 0)
        return (head + name).ljust(size, b"\0")
    records = disk_model.read_log(record(disk_model.UNLINK, b"one") + record(0, b"two") + record(disk_model.UNLINK, b"three"))
    assert [r.name for r in records] == ["one", "three"]
    assert (records[0].node, records[0].directory, records[0].meta.mtime_nsec) == ((1, 2), (3, 4), 5 * 10 ** 9 + 6)
