"""The one door through which trax_ray changes a disk: a method per system call, and nothing else in them.

Everything in `store`, and the tables and transcripts that go through `store.writing`, opens files for writing, writes,
syncs, names and removes here. A test puts another implementation in its place (`tests.support.fault_layer`) and sees,
stops or spoils every step. Reading doesn't go through it, nor do locks: neither changes what a power cut leaves.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TypeAlias, TypeVar

__all__ = ["System", "current", "use"]

AnyPath: TypeAlias = "str | os.PathLike[str]"


class System:
    """The operating system as it is. Every method raises OSError, as the call that it stands for."""

    __slots__ = ()

    def open(self, path: AnyPath, flags: int, mode: int = 0o666) -> int:
        """open(2), never inherited by other programs: files to write or to sync, and folders to sync.

        Returns:
            The descriptor; `close` ends it.
        """
        return os.open(path, flags | os.O_CLOEXEC, mode)

    def close(self, fd: int) -> None:
        """close(2). The descriptor is gone, also where this raises."""
        os.close(fd)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """write(2).

        Returns:
            How many bytes were taken; may be fewer than were given.
        """
        return os.write(fd, data)

    def truncate(self, fd: int, length: int) -> None:
        """ftruncate(2)."""
        os.ftruncate(fd, length)

    def fsync(self, fd: int) -> None:
        """Bring a file's bytes, or a folder's names, to the disk itself.

        On macOS plain fsync stops at the drive's cache, so F_FULLFSYNC is asked for first; network file systems
        there don't know it, and get the plain one.

        Raises:
            OSError: They may be lost. A second fsync that succeeds proves nothing: never retry.
        """
        full = getattr(fcntl, "F_FULLFSYNC", None)
        if full is not None:
            try:
                fcntl.fcntl(fd, full)
            except OSError as error:
                # Only "not known here" may fall through: after a real failure the plain fsync could say "fine".
                if error.errno not in (errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY):
                    raise
            else:
                return
        os.fsync(fd)

    def forget_cached(self, fd: int) -> None:
        """Drop what memory holds of a file, so that what is read next is what the disk holds.

        A hint, which may be ignored; where the system doesn't know it, nothing happens. To be asked after an fsync:
        bytes that are on their way to the disk stay in memory.
        """
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def mkdir(self, path: AnyPath) -> None:
        """mkdir(2)."""
        os.mkdir(path)  # noqa: PTH102 - one method, one call

    def rmdir(self, path: AnyPath) -> None:
        """rmdir(2): an empty folder."""
        os.rmdir(path)  # noqa: PTH106

    def link(self, source: AnyPath, target: AnyPath) -> None:
        """link(2): a second name, which must be free."""
        os.link(source, target)

    def replace(self, source: AnyPath, target: AnyPath) -> None:
        """rename(2): another name, and whatever had it is gone."""
        os.replace(source, target)  # noqa: PTH105

    def rename_exclusively(self, source: AnyPath, target: AnyPath) -> None:
        """renameat2(2) with RENAME_NOREPLACE: another name, which must be free.

        Raises:
            OSError: Also ENOSYS, where libc hasn't got it.
        """
        call = _renameat2()
        if call is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        call(os.fsencode(source), os.fsencode(target))

    def unlink(self, path: AnyPath) -> None:
        """unlink(2)."""
        os.unlink(path)  # noqa: PTH108


AnySystem = TypeVar("AnySystem", bound=System)

_system = System()


def current() -> System:
    """What stands for the operating system in this process."""
    return _system


@contextlib.contextmanager
def use(system: AnySystem) -> Iterator[AnySystem]:
    """Put another implementation in place, for the whole process, until the block ends.

    Args:
        system: The implementation; threads that run already get it too.

    Yields:
        The same.
    """
    global _system
    before, _system = _system, system
    try:
        yield system
    finally:
        _system = before


@lru_cache(maxsize=1)
def _renameat2() -> Callable[[bytes, bytes], None] | None:
    """Linux's rename that refuses to replace; None where libc hasn't got it. Python doesn't offer it."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    at_working_folder, no_replace = -100, 1  # AT_FDCWD, RENAME_NOREPLACE in <linux/fcntl.h>, <linux/fs.h>

    def call(source: bytes, target: bytes) -> None:
        if function(at_working_folder, source, at_working_folder, target, no_replace) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    return call
