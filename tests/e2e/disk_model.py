"""What a disk holds after a loss of power, told from the operations before it: a model of files and directories in which only
what was synced is sure.

What POSIX promises, and nothing more:
- fsync of a file: its content, owner, mode and time are sure, not its name.
- fsync of a directory: its entries are sure, not what is in the files that they name. A symlink is its entry.
- syncfs: everything on that file system is sure.
What was not made sure may be on the disk or not. A Disk can be asked for two of the possible outcomes: nothing of it is
there, or only names are and no content is (`names=True`), as when metadata gets to the disk first.
"""

import dataclasses
import os
import stat
import struct

# crash-point.h
HEADER = struct.Struct("=QQQIIII16s8s")
RECORD = struct.Struct("=IIQ" "QQIIII" "qq" "QQQQQII")
(STOP, BUS, OPEN, WRITE, TRUNCATE, ALLOCATE, META, RENAME, UNLINK, MKDIR, SYMLINK, LINK, SYNC, SYNCFS) = range(1, 15)


@dataclasses.dataclass(frozen=True)
class Record:
    """One CrashRecord."""

    operation: int
    point: int
    node: tuple  # (device, inode)
    meta: "Meta"
    directory: tuple
    target: tuple
    value: int
    name: str
    text: bytes


def read_log(data):
    """The records of a log's bytes; one that was cut off did not happen."""
    records, at = [], 0
    while at < len(data):
        (size, operation, point, device, inode, mode, uid, gid, _, sec, nsec, dir_device, dir_inode, target_device,
         target_inode, value, n_name, n_text) = RECORD.unpack_from(data, at)
        if size == 0:
            break
        name = data[at + RECORD.size:at + RECORD.size + n_name]
        text = data[at + RECORD.size + n_name:at + RECORD.size + n_name + n_text]
        if operation != 0:
            records.append(Record(operation, point, (device, inode), Meta(mode, uid, gid, sec * 10 ** 9 + nsec),
                                  (dir_device, dir_inode), (target_device, target_inode), value, os.fsdecode(name), text))
        at += size
    return records


@dataclasses.dataclass(frozen=True)
class Meta:
    mode: int
    uid: int
    gid: int
    mtime_nsec: int

    @staticmethod
    def of(status):
        return Meta(status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns)


@dataclasses.dataclass
class Node:
    """A file, directory or symlink: as programs see it, and what of it is sure."""

    meta: Meta
    content: object  # bytes of a file, name -> Node of a directory, text of a symlink
    sure_meta: Meta = None
    sure_content: object = None

    def __post_init__(self):
        if self.sure_meta is None:
            self.sure_meta = self.meta
        if self.sure_content is None:
            self.sure_content = self.content if isinstance(self.content, str) else type(self.content)()

    def sync(self):
        self.sure_meta = self.meta
        self.sure_content = dict(self.content) if isinstance(self.content, dict) else self.content


@dataclasses.dataclass(frozen=True)
class Tree:
    """A directory's tree as values, to be compared and written: path -> (Meta, content of a file or symlink, or None)."""

    entries: dict

    @staticmethod
    def read(root):
        entries = {".": (Meta.of(os.lstat(root)), None)}
        for directory, names, files in os.walk(root):
            for name in names + files:
                path = os.path.join(directory, name)
                status = os.lstat(path)
                content = None
                if stat.S_ISLNK(status.st_mode):
                    content = os.readlink(path)
                elif stat.S_ISREG(status.st_mode):
                    with open(path, "rb") as file:
                        content = file.read()
                entries[os.path.relpath(path, root)] = (Meta.of(status), content)
        return Tree(entries)

    def below(self, path):
        """The part of it below a directory in it, with its own paths; None if there is no such directory."""
        if path not in self.entries:
            return None
        prefix = path + "/"
        part = {name[len(prefix):]: entry for name, entry in self.entries.items() if name.startswith(prefix)}
        return Tree({".": self.entries[path], **part})

    def write(self, root):
        """Makes the directory just this; the directory itself stays, it may be a mount point."""
        clear(root)
        for path in sorted(self.entries):
            meta, content = self.entries[path]
            target = os.path.join(root, path)
            if isinstance(content, str):
                os.symlink(content, target)
            elif content is not None:
                with open(target, "xb") as file:
                    file.write(content)
            elif path != ".":
                os.mkdir(target)
            os.chown(target, meta.uid, meta.gid, follow_symlinks=False)
            if not isinstance(content, str):
                os.chmod(target, stat.S_IMODE(meta.mode))
        for path in sorted(self.entries, reverse=True):
            meta = self.entries[path][0]
            os.utime(os.path.join(root, path), ns=(meta.mtime_nsec, meta.mtime_nsec), follow_symlinks=False)


def clear(root):
    """Removes what is in a directory."""
    for directory, names, files in os.walk(root, topdown=False):
        for name in files:
            os.unlink(os.path.join(directory, name))
        for name in names:
            path = os.path.join(directory, name)
            os.unlink(path) if os.path.islink(path) else os.rmdir(path)


class Disk:
    """Some directories as they are now, all of it sure; then what a log says happened to them."""

    def __init__(self, roots):
        self._nodes = {}
        self._roots = [self._read(root) for root in roots]

    def _read(self, path):
        status = os.lstat(path)
        if stat.S_ISDIR(status.st_mode):
            content = {name: self._read(os.path.join(path, name)) for name in os.listdir(path)}
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        else:
            with open(path, "rb") as file:
                content = file.read()
        node = Node(Meta.of(status), content)
        node.sync()
        self._nodes[status.st_dev, status.st_ino] = node
        return node

    def apply(self, records):
        """What happened, in the order of the points: that of the log may be another one, when several processes wrote it."""
        for record in sorted(records, key=lambda r: r.point):
            self._apply(record)

    def _make(self, record, content):
        """A new node under the record's name; an inode's number may be one that was used before."""
        node = Node(record.meta, content)
        self._nodes[record.node] = node
        self._nodes[record.directory].content[record.name] = node
        return node

    def _apply(self, r):
        directory = self._nodes.get(r.directory)
        node = self._nodes.get(r.node)
        if r.operation == OPEN and directory is not None:
            there = directory.content.get(r.name)
            if there is None or there is not node:
                node = self._make(r, b"")
            elif r.value & os.O_TRUNC:
                node.content = b""
        elif r.operation == MKDIR and directory is not None:
            self._make(r, {})
        elif r.operation == SYMLINK and directory is not None:
            self._make(r, os.fsdecode(r.text))
        elif r.operation == LINK and directory is not None and node is not None:
            directory.content[r.name] = node
        elif r.operation == UNLINK and directory is not None:
            del directory.content[r.name]
        elif r.operation == RENAME and directory is not None:
            self._rename(directory.content, r.name, self._nodes[r.target].content, os.fsdecode(r.text))
        elif r.operation == SYNCFS:
            for (device, _), other in self._nodes.items():
                if device == r.node[0]:
                    other.sync()
        elif node is not None:
            self._change(node, r)

    @staticmethod
    def _rename(source, name, target, new_name):
        """rename(2) does nothing with two names of one file."""
        if target.get(new_name) is not source[name]:
            target[new_name] = source.pop(name)

    @staticmethod
    def _change(node, r):
        if r.operation == WRITE:
            padded = node.content.ljust(r.value, b"\0")
            node.content = padded[:r.value] + r.text + padded[r.value + len(r.text):]
        elif r.operation == TRUNCATE:
            node.content = node.content[:r.value].ljust(r.value, b"\0")
        elif r.operation == ALLOCATE:
            node.content = node.content.ljust(r.value, b"\0")
        elif r.operation == META:
            node.meta = r.meta
        elif r.operation == SYNC:
            node.sync()

    def seen(self):
        """What programs see, a Tree for each directory."""
        return [self._tree(root, True, True) for root in self._roots]

    def left(self, *, names=False):
        """What a loss of power leaves of each directory."""
        return [self._tree(root, names, False) for root in self._roots]

    @staticmethod
    def _tree(root, names, content):
        entries, todo = {}, [(".", root)]
        while todo:
            path, node = todo.pop()
            meta = node.meta if content else node.sure_meta
            if isinstance(node.content, dict):
                entries[path] = (meta, None)
                below = node.content if names else node.sure_content
                todo += [(name if path == "." else f"{path}/{name}", child) for name, child in below.items()]
            else:
                entries[path] = (meta, node.content if content else node.sure_content)
        return Tree(entries)
