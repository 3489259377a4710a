"""Files that are there entirely or not at all, and what an OSError means for a batch.

Everything is written under a temporary name in the same folder, brought to the disk, and only then given
its name. A crash leaves at most a `.tmp-…` file, which `remove_leftovers` takes away later.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Literal

from trax_ray.errors import DiskFull, FileError, ResourceError, TraxRayError

__all__ = [
    "create_exclusively",
    "ensure_folder",
    "explain",
    "fsync",
    "fsync_folder",
    "is_leftover",
    "read_bytes",
    "remove_leftovers",
    "shown",
    "write_all",
    "write_atomically",
]

_TEMPORARY = re.compile(r"\.tmp-[0-9a-f]{16}")

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_SCARCE = {errno.EMFILE: "too_many_open_files", errno.ENFILE: "too_many_open_files", errno.ENOMEM: "out_of_memory"}
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
    errno.ENOENT: "not_found",
    errno.ENOTDIR: "not_found",
    errno.EACCES: "permission_denied",
    errno.EPERM: "permission_denied",
    errno.EISDIR: "is_a_directory",
    errno.ENAMETOOLONG: "name_too_long",
}

# What link(2) answers where the file system has no hard links, or none between these two names.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
# What renameat2(2) answers where the kernel or the file system doesn't know RENAME_NOREPLACE.
_NO_RENAME = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
# What fsync(2) answers where the file system can't bring a folder to the disk; there is nothing to wait for then.
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EBADF}


def shown(path: str | os.PathLike[str]) -> str:
    """A path as text that can be printed anywhere: bytes that aren't UTF-8 become `\\xff`."""
    try:
        return os.fsencode(path).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # surrogates that stand for no byte, as a JSON escape can give
        return os.fspath(path).encode("utf-8", "backslashreplace").decode()


def explain(error: OSError, path: str | os.PathLike[str], doing: Literal["read", "write"]) -> TraxRayError:
    """The trax_ray error that an OSError means; the caller raises it `from` the original.

    Args:
        error: What the operating system said.
        path: The file or folder that the person knows, not a temporary name.
        doing: Whether it was being read or written; codes differ.

    Returns:
        DiskFull for no space, no quota and read-only file systems; ResourceError for file handles and
        memory; a FileError of class transient where trying again may help; otherwise a permanent FileError
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
        return FileError(f"can't {doing} {shown(path)} just now: {reason}", failure_class="transient", code="file_busy")
    if doing == "read":
        return FileError(f"can't read {shown(path)}: {reason}", code=_READ_CODES.get(number, "unreadable"))
    if number == errno.ENAMETOOLONG:
        return FileError(f"can't write {shown(path)}: {reason}", code="name_too_long")
    return FileError(
        f"can't write {shown(path)}: {reason}: check that its folder exists and is yours to write in",
        code="not_writable",
    )


def fsync(fd: int) -> None:
    """Bring a file's bytes to the disk itself.

    On macOS plain fsync stops at the drive's cache, so F_FULLFSYNC is asked for first; network file systems
    there don't know it, and get the plain one.

    Raises:
        OSError: The bytes may be lost. A second fsync that succeeds proves nothing: never retry.
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


def fsync_folder(folder: Path) -> None:
    """Bring a folder's entries to the disk; without it a new name may be gone after a power cut.

    Raises:
        OSError: As fsync; file systems that can't do it for folders are passed over in silence.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fsync(fd)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write every byte; one write(2) unless the system takes less at a time.

    Raises:
        OSError: Some of the bytes may have been written.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def read_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        TraxRayError: See explain.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise explain(error, path, "read") from error


def ensure_folder(folder: Path) -> None:
    """Make a folder and those above it, and bring the new entries to the disk. Nothing where it is there.

    Raises:
        DiskFull: No space, no quota, read-only.
        FileError: Not permitted, or a file stands in the way; permanent.
    """
    missing = []
    at = folder
    try:
        while not at.is_dir() and at != at.parent:
            missing.append(at)
            at = at.parent
        for each in reversed(missing):
            each.mkdir(exist_ok=True)  # another process may make it at the same moment
            fsync_folder(each.parent)
    except OSError as error:
        raise explain(error, folder, "write") from error


def write_atomically(path: Path, data: bytes) -> bool:
    """Give a file these bytes; a reader sees the old ones or the new ones, never a mixture.

    A file that has exactly these bytes is left alone, so that its times don't change and tools that watch
    them (make, rsync, backup programs) don't wake.

    Args:
        path: In a folder that exists.
        data: All of the new content.

    Returns:
        True when the file was written, False when it had these bytes already.

    Raises:
        DiskFull: No space, no quota, read-only; the old file is intact.
        FileError: Not permitted, or no such folder; permanent, the old file is intact.
    """
    if _has_bytes(path, data):
        return False
    try:
        temporary = _write_temporary(path.parent, data)
        try:
            temporary.replace(path)
        except OSError:
            _unlink(temporary)
            raise
        fsync_folder(path.parent)
    except OSError as error:
        raise explain(error, path, "write") from error
    return True


@contextlib.contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """A temporary file to fill, for what is too large for memory; it gets its name when the block ends well.

    Args:
        path: The name; a file that has it is replaced. Its folder exists.

    Yields:
        The temporary path, in the same folder.

    Raises:
        DiskFull: No space, no quota, read-only.
        FileError: Any other failure to write.
    """
    temporary = path.parent / f".tmp-{secrets.token_hex(8)}"
    try:
        yield temporary
        with temporary.open("rb") as stream:
            fsync(stream.fileno())
        temporary.replace(path)
        fsync_folder(path.parent)
    except OSError as error:
        raise explain(error, path, "write") from error
    finally:
        _unlink(temporary)


def create_exclusively(path: Path, data: bytes) -> bool:
    """Create a file with these bytes, unless the name is taken: the first writer wins.

    The name appears with all of its bytes on the disk: a temporary file is written, fsynced and then given
    its name by link(2), which never replaces. Where there are no hard links, renameat2(2) with
    RENAME_NOREPLACE does the same (Linux). Where that is missing too (FAT over FUSE, some network mounts)
    the last resort is O_EXCL on the name itself: there is still one winner, but a crash can leave part of
    the bytes under the name, so what is read back must carry a checksum, as artifacts do.

    Args:
        path: In a folder that exists.
        data: All of the content.

    Returns:
        True when this call created it. False when it was there: nothing was changed.

    Raises:
        DiskFull: No space, no quota, read-only; the name is still free.
        FileError: Not permitted, or no such folder; permanent.
    """
    try:
        created = not os.path.lexists(path) and _create(path, data)
        # Also for the loser: who relies on another's file must not lose it in a power cut that comes
        # before the winner has brought the folder to the disk.
        fsync_folder(path.parent)
    except OSError as error:
        raise explain(error, path, "write") from error
    return created


def is_leftover(name: str) -> bool:
    """Whether a file name is one of our temporary ones."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_leftovers(folder: Path, older_than_s: float, now: float) -> int:
    """Remove temporary files that a crash left, in a folder and all below it.

    Args:
        folder: Where to look; links to other folders aren't followed. It need not exist.
        older_than_s: Seconds since its last write; younger ones may belong to a live writer.
        now: Seconds since the epoch. Other machines' clocks may differ: give older_than_s some room.

    Returns:
        How many files were removed. Files that can't be removed stay; they are harmless.
    """
    removed = 0
    for root, _, names in os.walk(folder):
        for name in filter(is_leftover, names):
            path = Path(root, name)
            with contextlib.suppress(OSError):
                if now - path.lstat().st_mtime > older_than_s:
                    path.unlink()
                    removed += 1
    return removed


def _has_bytes(path: Path, data: bytes) -> bool:
    try:
        status = path.stat()
        # Regular files only: reading a FIFO would wait for ever. The size first: most changes show there.
        return stat.S_ISREG(status.st_mode) and status.st_size == len(data) and path.read_bytes() == data
    except OSError:
        return False  # missing or unreadable: the write will say what is wrong, if anything is


def _write_temporary(folder: Path, data: bytes) -> Path:
    # The name has a fixed length, and nothing of the final name in it: that one may have 255 bytes already.
    path = folder / f".tmp-{secrets.token_hex(8)}"
    _write_new(path, data)
    return path


def _write_new(path: Path, data: bytes) -> None:
    """Create a file that must not exist, with its bytes on the disk; nothing is left after an error."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            write_all(fd, data)
            fsync(fd)
        finally:
            os.close(fd)
    except BaseException:
        _unlink(path)
        raise


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _create(path: Path, data: bytes) -> bool:
    temporary = _write_temporary(path.parent, data)
    try:
        for give_name, unsupported in ((_link, _NO_LINKS), (_rename_without_replacing, _NO_RENAME)):
            try:
                return give_name(temporary, path)
            except OSError as error:
                if error.errno not in unsupported:
                    raise
        try:
            _write_new(path, data)
        except FileExistsError:
            return False
        return True
    finally:
        _unlink(temporary)  # after a rename there is nothing left to unlink


def _link(temporary: Path, path: Path) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        # NFS may answer "exists" to the repetition of a request whose first reply was lost: then it is ours.
        return path.exists() and path.samefile(temporary)
    return True


def _rename_without_replacing(temporary: Path, path: Path) -> bool:
    call = _renameat2()
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    try:
        call(os.fsencode(temporary), os.fsencode(path))
    except FileExistsError:
        return False
    return True


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
