"""Files and folders: reading them, making folders, and bringing both to the disk."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from trax_ray.codes import FailureCode
from trax_ray.errors import FileError
from trax_ray.store import system
from trax_ray.store.creating import delete_object
from trax_ray.store.explaining import explain
from trax_ray.store.objects import list_folder, read_object
from trax_ray.store.uris import ObjectPath, Place

__all__ = [
    "absolute",
    "bring_to_disk",
    "ensure_folder",
    "fsync",
    "fsync_folder",
    "names_in",
    "open_regular",
    "read_bytes",
    "read_regular",
    "remove",
]

_settled: set[Path] = set()
"""Folders whose own names this process knows to be on the disk."""
_MAX_SETTLED = 10_000
# What fsync(2) answers for what can't be brought to the disk, on many file systems folders; there is nothing to
# wait for then.
_NO_SYNC = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EBADF}


def absolute(path: str | os.PathLike[str]) -> Path:
    """A path from the root, without `..` where that means the same: behind a link it may not."""
    full = Path(path).absolute()
    short = Path(os.path.normpath(full))
    return short if os.path.realpath(short) == os.path.realpath(full) else full


def fsync(fd: int) -> None:
    """Bring a file's bytes to the disk itself.

    Raises:
        OSError: The bytes may be lost. A second fsync that succeeds proves nothing: never retry.
    """
    system.current().fsync(fd)


def fsync_folder(folder: Path) -> None:
    """Bring a folder's entries to the disk; without it a new name may be gone after a power cut.

    Raises:
        OSError: As fsync; file systems that can't do it for folders are passed over in silence.
    """
    fd = system.current().open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fsync(fd)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        system.current().close(fd)


def bring_to_disk(path: Path) -> None:
    """Bring the bytes of a file that another process wrote to the disk, before relying on them.

    Its writer's own fsync may have failed. Then ours may say "fine" for bytes that memory has and the disk hasn't;
    so memory is asked to forget them, and what is read afterwards is what the disk holds.

    Raises:
        OSError: It can't be opened, or the bytes may be lost.
    """
    # O_NONBLOCK, because opening a pipe would wait for a writer; it means nothing for regular files.
    fd = system.current().open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        fsync(fd)
        system.current().forget_cached(fd)
    except OSError as error:
        if error.errno not in _NO_SYNC:  # a pipe or a device stands there
            raise
    finally:
        system.current().close(fd)


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read it. A pipe would wait for a writer for ever, and a device has no end.

    Raises:
        OSError: As of open(2); EINVAL for what is no regular file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # which means nothing for regular files
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(number, "it is no regular file", os.fspath(path))
    return os.fdopen(fd, "rb")


def read_regular(path: Place) -> bytes:
    """The bytes of a file; raises as `open_regular`. Of an object: FileNotFoundError where there is none."""
    if isinstance(path, ObjectPath):
        return _read_object(path)
    with open_regular(path) as stream:
        return stream.read()


def names_in(folder: Place) -> list[str]:
    """Names of the files in a folder, in no order.

    Raises:
        TraxRayError: See explain; of an object store, there is no folder that couldn't be read.
    """
    if isinstance(folder, ObjectPath):
        return [path.name for path, _ in list_folder(folder)[1]]
    try:
        return os.listdir(folder)  # noqa: PTH208 - names are all that is asked for, often
    except OSError as error:
        raise explain(error, folder, "read") from error


def remove(path: Place) -> None:
    """Delete a file; raises OSError, of an object store as `delete_object`."""
    if isinstance(path, ObjectPath):
        delete_object(path)
    else:
        system.current().unlink(path)


def read_bytes(path: Place) -> bytes:
    """The bytes of a file.

    Raises:
        TraxRayError: See explain.
    """
    try:
        return read_regular(path)
    except OSError as error:
        raise explain(error, path, "read") from error


def ensure_folder(folder: Place, *, lasting: bool = True) -> None:
    """Make a folder and those above it, and bring the new entries to the disk.

    On return the folder's own name is on the disk too, also where another process made it: that one may have made it a
    moment ago, or have died before syncing it, and what is committed in the folder must not be lost with its name.

    Args:
        folder: Its path.
        lasting: False where its content may be lost in a power cut: then nothing is brought to the disk. A later call
            with True brings it there.

    Raises:
        DiskFull: No space, no quota, read-only.
        FileError: Not permitted, or a file stands in the way; permanent.
    """
    if isinstance(folder, ObjectPath):
        return  # there are none: names have slashes
    missing = []
    at = folder
    try:
        if not lasting:
            while not at.is_dir() and at != at.parent:
                missing.append(at)
                at = at.parent
            for each in reversed(missing):
                _make_folder(each)
            return
        while not at.is_dir() and at != at.parent:
            missing.append(at)
            at = at.parent
        # Those further up were synced before anything of ours was made in them.
        _settle(at)
        for each in reversed(missing):
            _make_folder(each)
            fsync_folder(each.parent)
            _note_settled(each)
    except OSError as error:
        raise explain(error, folder, "write") from error


def _read_object(path: ObjectPath) -> bytes:
    try:
        return read_object(path)[0]
    except FileError as error:
        if error.code != FailureCode.NOT_FOUND:
            raise
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None


def _settle(folder: Path) -> None:
    """Bring the name of a folder that is there to the disk, once in a process."""
    if folder.absolute() in _settled:
        return
    # A folder that we may not read isn't one that we made.
    with contextlib.suppress(PermissionError):
        fsync_folder(folder.parent)
    _note_settled(folder)


def _note_settled(folder: Path) -> None:
    if len(_settled) >= _MAX_SETTLED:
        _settled.clear()  # it saves work, nothing more
    _settled.add(folder.absolute())


def _make_folder(folder: Path) -> None:
    try:
        system.current().mkdir(folder)
    except FileExistsError:
        if not folder.is_dir():  # another process may make it at the same moment
            raise
