"""What an OSError means for a batch, and how a path is shown."""

from __future__ import annotations

import errno
import os
from typing import Literal

from trax_ray.codes import FailureCode
from trax_ray.errors import DiskFull, FileError, ResourceError, TraxRayError
from trax_ray.store.uris import ObjectPath

__all__ = ["explain", "shown"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_SCARCE = {
    errno.EMFILE: FailureCode.TOO_MANY_OPEN_FILES,
    errno.ENFILE: FailureCode.TOO_MANY_OPEN_FILES,
    errno.ENOMEM: FailureCode.OUT_OF_MEMORY,
}
_TRANSIENT = {
    errno.EAGAIN,
    errno.EINTR,
    errno.EBUSY,
    errno.ETIMEDOUT,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.ENETUNREACH,
    errno.ESTALE,
    errno.EPIPE,
}
_READ_CODES = {
    errno.ENOENT: FailureCode.NOT_FOUND,
    errno.ENOTDIR: FailureCode.NOT_FOUND,
    errno.EACCES: FailureCode.PERMISSION_DENIED,
    errno.EPERM: FailureCode.PERMISSION_DENIED,
    errno.EISDIR: FailureCode.IS_A_DIRECTORY,
    errno.ENAMETOOLONG: FailureCode.NAME_TOO_LONG,
}


def shown(path: str | os.PathLike[str] | ObjectPath) -> str:
    """A path as text that can be printed anywhere: bytes that aren't UTF-8 become `\\xff`."""
    if isinstance(path, ObjectPath):
        return str(path)
    try:
        return os.fsencode(path).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # surrogates that stand for no byte, as a JSON escape can give
        return os.fspath(path).encode("utf-8", "backslashreplace").decode()


def explain(error: OSError, path: str | os.PathLike[str] | ObjectPath, doing: Literal["read", "write"]) -> TraxRayError:
    """The trax_ray error that an OSError means; the caller raises it `from` the original.

    Args:
        error: What the operating system said.
        path: The file or folder that the person knows, not a temporary name.
        doing: Whether it was being read or written; codes differ.

    Returns:
        DiskFull for no space, no quota and read-only file systems; ResourceError for file handles and
        memory; a FileError of class transient where a retry may help; otherwise a permanent FileError
        with the code `not_found`, `permission_denied`, `is_a_directory`, `name_too_long`, `unreadable` or,
        when writing, `not_writable`.
    """
    reason = error.strerror or str(error)
    number = error.errno or 0
    if number == errno.EROFS:
        return DiskFull(
            f"can't {doing} {shown(path)}: the file system is read-only: "
            "remount it for writing or give another --output-dir, then run the same command again"
        )
    if number in _FULL:
        return DiskFull(
            f"can't {doing} {shown(path)}: {reason}: "
            "make room (or raise the quota), then run the same command again: it continues where it stopped"
        )
    if number in _SCARCE:
        return ResourceError(f"can't {doing} {shown(path)}: {reason}", code=_SCARCE[number])
    if number in _TRANSIENT:
        return FileError(
            f"can't {doing} {shown(path)} just now: {reason}", failure_class="transient", code=FailureCode.FILE_BUSY
        )
    if doing == "read":
        return FileError(f"can't read {shown(path)}: {reason}", code=_READ_CODES.get(number, FailureCode.UNREADABLE))
    if number == errno.ENAMETOOLONG:
        return FileError(f"can't write {shown(path)}: {reason}", code=FailureCode.NAME_TOO_LONG)
    return FileError(
        f"can't write {shown(path)}: {reason}: check that its folder exists and is yours to write in",
        code=FailureCode.NOT_WRITABLE,
    )
