"""A lock on a local output folder: who is at work there. Safety doesn't hang on it, the epoch sees to that."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
from pathlib import Path
from typing import Any

from trax_ray.errors import BusyError, FileError
from trax_ray.store import files, system

__all__ = ["Lease"]

_MAX_NOTE_BYTES = 4096
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


class Lease:
    """An exclusive `flock` on a file, free the moment the process that holds it is dead.

    For local disks: on network file systems locks come and go with the mount's options. The file itself is
    never deleted, because a lock on a deleted file excludes nobody.

    Args:
        path: The lock file; made where it is missing, its folder too.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd >= 0

    def acquire(self, holder: str) -> None:
        """Take the lock, at once or not at all. Nothing happens where this object holds it already.

        Args:
            holder: Who takes it, for whoever finds it taken: what the batch is, or its command.

        Raises:
            BusyError: Another process, or another Lease in this one, holds it; says who, and the ways out.
            DiskFull: No space, no quota, read-only.
            FileError: The file can't be opened, or the file system has no locks; permanent.
        """
        if self.held:
            return
        files.ensure_folder(self.path.parent)
        fd = -1
        try:
            while fd < 0:
                fd = self._lock()
            note = {"holder": holder, "pid": os.getpid(), "host": socket.gethostname()}
            system.current().truncate(fd, 0)
            files.write_all(fd, json.dumps(note).encode("ascii"))
        except OSError as error:
            if fd >= 0:
                system.current().close(fd)
            raise files.explain(error, self.path, "write") from error
        self._fd = fd
        _held.add(self)

    def release(self) -> None:
        """Give the lock back. Nothing happens where it isn't held."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            _held.discard(self)
            with contextlib.suppress(OSError):  # the name is for people; the lock goes with the descriptor
                system.current().truncate(fd, 0)
            with contextlib.suppress(OSError):
                system.current().close(fd)

    def _lock(self) -> int:
        """The open and locked file; -1 when it was deleted at that moment, and has to be opened anew."""
        fd = system.current().open(self.path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self.path.exists() and os.path.samestat(os.fstat(fd), self.path.stat()):
                locked, fd = fd, -1
                return locked
        except OSError as error:
            if error.errno == errno.EWOULDBLOCK:
                raise self._busy(os.pread(fd, _MAX_NOTE_BYTES, 0)) from error
            if error.errno in _NO_LOCKS:
                raise FileError(
                    f"there are no file locks where {files.shown(self.path)} lies: put --output-dir on a local disk",
                    code="no_locks",
                ) from error
            raise
        finally:
            if fd >= 0:
                system.current().close(fd)
        return -1

    def _busy(self, data: bytes) -> BusyError:
        try:
            note: dict[str, Any] = json.loads(data)
            who = f"{note['holder']}, process {note['pid']} on {note['host']}"
        except (ValueError, KeyError, TypeError):
            who = "a process that hasn't said its name yet"  # it has the lock and is about to write
        return BusyError(
            f"{files.shown(self.path)} is held by another batch ({who}): "
            "wait for it, stop it, or give another --output-dir"
        )


_held: set[Lease] = set()


def _let_go_after_fork() -> None:
    # A child made by fork shares the lock, and would hold it beyond its parent's death. Closing the child's
    # descriptor doesn't unlock the parent's.
    for lease in _held:
        os.close(lease._fd)
        lease._fd = -1
    _held.clear()


os.register_at_fork(after_in_child=_let_go_after_fork)
