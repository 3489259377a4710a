"""A disk that fails, a process that dies, a power cut: at any step that is chosen, in a real folder.

    with use(FaultySystem(folder)) as disk:     # trax_ray.store.system.use
        disk.fail(3, errno.ENOSPC)              # the third operation from here on
        write_atomically(folder / "a", b"...")  # raises DiskFull

What can be done to whatever changes its disk through `trax_ray.store.system`:

count       `operations` tells what was done; a good run first shows how many places there are to fail
fail        an operation raises OSError, once or from then on; it has done nothing (a close has closed)
short       writes take a few bytes at a time, so that a later fault falls into the middle
kill        before or after an operation; from then on every operation raises Killed: the dead do nothing. Their
            files are closed, and so their locks are free
power cut   `lose_power` makes the folder look as it may look when the machine is on again
restart     after either, the next process

The power cut's disk keeps only what it must. Bytes are safe after an fsync of their file, names after an fsync of
their folder, and each of the two without the other. All else is left to chance: bytes are missing from any place on,
or zeros; of the steps that changed a folder's names any may have got lost, and others not. After an fsync that failed
no later one saves the bytes, though it says so: memory has them and the disk hasn't, until `System.forget_cached`.

For small folders: they are held in memory. For one thread.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TypeAlias

from trax_ray.store.system import AnyPath, System

__all__ = ["FaultySystem", "Killed", "Operation"]

_ZEROS = 0.25
"""How often what is beyond the synced bytes comes back as zeros: the length was on the disk, the bytes weren't."""


class Killed(BaseException):
    """The process is dead. Not an Exception, because nothing that goes on after errors may go on after this."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A step that changes a disk, or was to.

    Args:
        number: Counted from 1.
        kind: Name of the method of System.
        path: What it was done to; of two names the new one; of an open file that by which it was opened.
    """

    number: int
    kind: str
    path: Path


class FaultySystem(System):
    """The real system with faults in it. To be put in place by `trax_ray.store.system.use`.

    Without a fault it does the real thing, but fsync only takes notes: that is fast, and no power will be lost.

    Args:
        root: The folder that `lose_power` is about. What is in it now is on the disk. Links in it aren't looked at.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(_absolute(root))
        self.operations: list[Operation] = []
        """What was done so far, failed steps among it."""
        self.retried_fsyncs: list[Operation] = []
        """Every fsync of an open file of which an earlier one had failed; there should be none."""
        self.dead = False
        """Whether the process was killed."""
        self._tree = _scan(self.root)
        self._files: dict[int, _Open] = {}
        self._faults: list[_Fault] = []
        self._kills: list[_Kill] = []
        self._write_limit: int | None = None

    # What a test says

    def fail(
        self,
        number: int = 1,
        error: int = errno.EIO,
        *,
        kind: str | None = None,
        below: Path | None = None,
        for_good: bool = False,
    ) -> None:
        """Let an operation fail.

        Args:
            number: Which one, counted from 1 and from now on, among those that fit.
            error: The errno that it raises.
            kind: Only operations of this name count. None means any.
            below: Only operations on this path, or on what is below it, count. None means any.
            for_good: Those after it fail too.
        """
        self._faults.append(_Fault(number, error, kind, None if below is None else Path(_absolute(below)), for_good))

    def heal(self) -> None:
        """Take back what `fail` and `write_at_most` said: the disk is well again. What got lost stays lost."""
        self._faults.clear()
        self._write_limit = None

    def write_at_most(self, limit_bytes: int) -> None:
        """Let every write take so many bytes and no more."""
        self._write_limit = limit_bytes

    def kill(self, number: int, *, after: bool = False) -> None:
        """Let the process die.

        Args:
            number: At which operation, counted from 1 and from now on.
            after: When it is done, instead of before.
        """
        self._kills.append(_Kill(number, after))

    def lose_power(self, random: Random) -> None:
        """Make the folder look as after a power cut at this moment; the process is dead, the machine on again.

        Args:
            random: Decides what else than the synced bytes and names there is.
        """
        if not self.dead:
            self._bury()
        seen: dict[_File, bytes] = {}
        _look(self._tree, self.root, seen)
        _restore(self._tree, self.root, _Survivors(seen, random))
        self._tree = _scan(self.root)

    def restart(self) -> None:
        """Begin a new process: on the same machine, where what was written and not synced is still to be seen; or
        after a power cut, where that is gone. Objects of the old one must not be used any more."""
        if not self.dead:
            self._bury()
        self.dead = False
        self._files.clear()
        self._kills.clear()
        self.heal()

    # What the code under test does

    def open(self, path: AnyPath, flags: int, mode: int = 0o666) -> int:
        with self._operation("open", path) as at:
            new = bool(flags & os.O_CREAT) and not os.path.lexists(at)
            if flags & os.O_ACCMODE == os.O_WRONLY:
                flags += os.O_RDWR - os.O_WRONLY  # fsync has to read what is there
            fd = super().open(path, flags, mode)
            self._files[fd] = _Open(at, self._made(at, _File()) if new else self._node(at))
        return fd

    def close(self, fd: int) -> None:
        open_file = self._files.pop(fd, None)
        try:
            with self._operation("close", open_file.path if open_file else ""):
                pass
        finally:
            super().close(fd)  # also of the dead, whose numbers must not stay in use, and also where it fails

    def write(self, fd: int, data: bytes | memoryview) -> int:
        with self._operation("write", self._path(fd)):
            return super().write(fd, data if self._write_limit is None else memoryview(data)[: self._write_limit])

    def truncate(self, fd: int, length: int) -> None:
        with self._operation("truncate", self._path(fd)):
            super().truncate(fd, length)

    def fsync(self, fd: int) -> None:
        open_file = self._files.get(fd) or _Open(Path(), None)
        try:
            with self._operation("fsync", open_file.path):
                if open_file.failed:
                    self.retried_fsyncs.append(self.operations[-1])
                self._save(fd, open_file)
        except OSError:
            open_file.failed = True
            if isinstance(open_file.node, _File):
                open_file.node.lost = True
            raise

    def forget_cached(self, fd: int) -> None:
        if self.dead:
            raise Killed
        open_file = self._files.get(fd)
        if open_file is not None and isinstance(open_file.node, _File) and open_file.node.lost:
            open_file.path.write_bytes(open_file.node.synced)

    def mkdir(self, path: AnyPath) -> None:
        with self._operation("mkdir", path) as at:
            super().mkdir(path)
            self._made(at, _Folder())

    def rmdir(self, path: AnyPath) -> None:
        with self._operation("rmdir", path) as at:
            super().rmdir(path)
            self._changed(at, None)

    def link(self, source: AnyPath, target: AnyPath) -> None:
        with self._operation("link", target) as at:
            node = self._node(Path(_absolute(source)))
            super().link(source, target)
            if node is not None:
                self._made(at, node)

    def replace(self, source: AnyPath, target: AnyPath) -> None:
        with self._operation("replace", target) as at:
            self._rename(Path(_absolute(source)), at, super().replace)

    def rename_exclusively(self, source: AnyPath, target: AnyPath) -> None:
        with self._operation("rename_exclusively", target) as at:
            self._rename(Path(_absolute(source)), at, super().rename_exclusively)

    def unlink(self, path: AnyPath) -> None:
        with self._operation("unlink", path) as at:
            self._remember(at)
            super().unlink(path)
            self._changed(at, None)

    # Steps

    @contextmanager
    def _operation(self, kind: str, path: AnyPath) -> Iterator[Path]:
        """Count a step, and let it fail or the process die where that was asked for."""
        if self.dead:
            raise Killed
        operation = Operation(len(self.operations) + 1, kind, Path(_absolute(path)))
        self.operations.append(operation)
        due = [kill.after for kill in self._kills if kill.is_due()]
        if False in due:
            self._die()
        numbers = [fault.error for fault in self._faults if fault.hits(operation)]
        try:
            if numbers:
                raise OSError(numbers[0], os.strerror(numbers[0]), str(operation.path))
            yield operation.path
        finally:
            if True in due:
                self._die()

    def _die(self) -> None:
        self._bury()
        raise Killed

    def _bury(self) -> None:
        """Let go of all files, so that locks are free; the numbers stay in use, as the dead one's objects know them."""
        self.dead = True
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for fd in self._files:
            os.dup2(nowhere, fd, inheritable=False)
        os.close(nowhere)

    # What is on the disk

    def _path(self, fd: int) -> Path:
        return self._files[fd].path if fd in self._files else Path()

    def _save(self, fd: int, open_file: _Open) -> None:
        """Note what an fsync brings to the disk."""
        node = open_file.node
        if isinstance(node, _Folder):
            _look(node, open_file.path, {}, deep=False)
            node.synced = dict(node.names)
            node.changes.clear()
        elif node is not None and not node.lost:
            node.synced = os.pread(fd, os.fstat(fd).st_size, 0)

    def _rename(self, source: Path, target: Path, call: Callable[[AnyPath, AnyPath], None]) -> None:
        node = self._node(source)
        self._remember(target)
        call(source, target)
        if source.parent == target.parent:
            self._changed(target, node, source.name)
        else:
            self._changed(target, node)
            self._changed(source, None)

    def _made(self, path: Path, node: _Node) -> _Node:
        self._changed(path, node)
        return node

    def _changed(self, path: Path, node: _Node | None, gone: str = "") -> None:
        """Note that a name means another thing, and that in the same step a name in the same folder is gone."""
        folder = self._node(path.parent)
        if isinstance(folder, _Folder):
            folder.change({path.name: node} | ({gone: None} if gone else {}))

    def _remember(self, path: Path) -> None:
        """Keep the bytes of what is about to lose this name."""
        node = self._node(path)
        if isinstance(node, _File):
            node.last_seen = path.read_bytes()

    def _node(self, path: Path) -> _Node | None:
        """What is at a path; None outside of the root, or where there is nothing."""
        if path == self.root:
            return self._tree
        if self.root not in path.parents:
            return None
        folder = self._node(path.parent)
        if not isinstance(folder, _Folder):
            return None
        if path.name not in folder.names:
            _look(folder, path.parent, {}, deep=False)
        return folder.names.get(path.name)


@dataclass(slots=True)
class _Fault:
    number: int
    error: int
    kind: str | None
    below: Path | None
    for_good: bool
    seen: int = 0

    def hits(self, operation: Operation) -> bool:
        """Whether this operation is the one; counts it where it fits."""
        if self.kind not in (None, operation.kind):
            return False
        if self.below not in (None, operation.path, *operation.path.parents):
            return False
        self.seen += 1
        return self.seen == self.number or (self.for_good and self.seen > self.number)


@dataclass(slots=True)
class _Kill:
    number: int
    after: bool
    seen: int = 0

    def is_due(self) -> bool:
        """Whether this operation is the one; counts it."""
        self.seen += 1
        return self.seen == self.number


# A model of the disk: what is safe, and what has changed since


@dataclass(eq=False, slots=True)
class _File:
    synced: bytes = b""
    """The bytes that are on the disk."""
    lost: bool = False
    """Whether an fsync has failed: what isn't on the disk by then never gets there."""
    last_seen: bytes = b""
    """The bytes at the time when it last lost a name; who still has one has newer ones."""


@dataclass(eq=False, slots=True)
class _Folder:
    names: dict[str, _Node] = field(default_factory=dict)
    """As everybody sees it."""
    synced: dict[str, _Node] = field(default_factory=dict)
    """As it is on the disk."""
    changes: list[dict[str, _Node | None]] = field(default_factory=list)
    """What leads from one to the other, step by step; None where a name was taken away."""

    def change(self, names: dict[str, _Node | None]) -> None:
        """Take one step."""
        self.changes.append(names)
        _apply(names, self.names)


@dataclass(slots=True)
class _Open:
    path: Path
    node: _Node | None
    failed: bool = False


@dataclass(slots=True)
class _Survivors:
    """What a power cut leaves, by chance; the same for all names of a file."""

    seen: dict[_File, bytes]
    random: Random
    chosen: dict[_File, bytes] = field(default_factory=dict)

    def bytes_of(self, file: _File) -> bytes:
        """The bytes of a file."""
        if file not in self.chosen:
            self.chosen[file] = self._choose(file.synced, self.seen.get(file, file.last_seen))
        return self.chosen[file]

    def names_of(self, folder: _Folder) -> dict[str, _Node]:
        """The names of a folder."""
        names = dict(folder.synced)
        for change in folder.changes:
            if self.random.random() < 0.5:
                _apply(change, names)
        return names

    def _choose(self, synced: bytes, latest: bytes) -> bytes:
        if not latest.startswith(synced):  # changed in place
            return self.random.choice([synced, latest, latest[: self.random.randint(0, len(latest))]])
        length = self.random.randint(len(synced), len(latest))
        if self.random.random() < _ZEROS:
            return synced + bytes(length - len(synced))
        return latest[:length]


_Node: TypeAlias = "_File | _Folder"


def _absolute(path: AnyPath) -> str:
    return os.path.abspath(os.fspath(path))


def _apply(change: dict[str, _Node | None], names: dict[str, _Node]) -> None:
    for name, node in change.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _scan(path: Path) -> _Folder:
    """A folder as it is, all of it on the disk."""
    folder = _Folder()
    for entry in os.scandir(path):
        if entry.is_dir(follow_symlinks=False):
            folder.names[entry.name] = _scan(path / entry.name)
        elif entry.is_file(follow_symlinks=False):
            folder.names[entry.name] = _File((path / entry.name).read_bytes())
    folder.synced = dict(folder.names)
    return folder


def _look(folder: _Folder, path: Path, seen: dict[_File, bytes], *, deep: bool = True) -> None:
    """Take note of names that came and went behind our back; and, if deep, of all bytes that are to be seen."""
    there = {entry.name: entry for entry in os.scandir(path) if entry.is_file(follow_symlinks=False) or _is_dir(entry)}
    for name in there.keys() - folder.names.keys():
        folder.change({name: _Folder() if _is_dir(there[name]) else _File()})
    for name in folder.names.keys() - there.keys():
        folder.change({name: None})
    if deep:
        for name, node in folder.names.items():
            if isinstance(node, _Folder):
                _look(node, path / name, seen)
            else:
                seen[node] = (path / name).read_bytes()


def _is_dir(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _restore(folder: _Folder, path: Path, survivors: _Survivors) -> None:
    """Make a real folder what the power cut leaves of it."""
    names = survivors.names_of(folder)
    for name in folder.names:
        if name not in names or names[name] is not folder.names[name]:
            _remove(path / name)
    for name, node in names.items():
        at = path / name
        if isinstance(node, _Folder):
            at.mkdir(exist_ok=True)
            _restore(node, at, survivors)
            continue
        data = survivors.bytes_of(node)
        if not (at.is_file() and at.read_bytes() == data):
            _remove(at)  # its other names have bytes of their own from now on
            at.write_bytes(data)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
