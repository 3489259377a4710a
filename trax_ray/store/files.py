"""Files that are there entirely or not at all, and what an OSError means for a batch.

Everything is written under a temporary name in the same folder, brought to the disk, and only then given
its name. A crash leaves at most a `.tmp-…` file, which `remove_leftovers` takes away later.
"""

from __future__ import annotations

import contextlib
import errno
import filecmp
import io
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

from trax_ray.codes import FailureCode
from trax_ray.errors import DiskFull, FileError, ResourceError, TraxRayError
from trax_ray.store import system
from trax_ray.store.creating import create_object, delete_object, replace_object
from trax_ray.store.looking import put_file, temporary_folder
from trax_ray.store.objects import list_folder, read_object
from trax_ray.store.uris import ObjectPath, Place

__all__ = [
    "Draft",
    "absolute",
    "bring_to_disk",
    "create_exclusively",
    "ensure_folder",
    "explain",
    "fsync",
    "fsync_folder",
    "is_leftover",
    "names_in",
    "open_regular",
    "read_bytes",
    "read_regular",
    "remove",
    "remove_leftovers",
    "shown",
    "write_all",
    "write_atomically",
    "written_atomically",
]

_TEMPORARY = re.compile(r"\.tmp-[0-9a-f]{16}")

_settled: set[Path] = set()
"""Folders whose own names this process knows to be on the disk."""

_MAX_SETTLED = 10_000

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

# What link(2) answers where the file system has no hard links, or none between these two names.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
# What renameat2(2) answers where the kernel or the file system doesn't know RENAME_NOREPLACE.
_NO_RENAME = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
# What fsync(2) answers for what can't be brought to the disk, on many file systems folders; there is nothing to
# wait for then.
_NO_SYNC = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EBADF}


def absolute(path: str | os.PathLike[str]) -> Path:
    """A path from the root, without `..` where that means the same: behind a link it may not."""
    full = Path(path).absolute()
    short = Path(os.path.normpath(full))
    return short if os.path.realpath(short) == os.path.realpath(full) else full


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


def write_all(fd: int, data: bytes) -> None:
    """Write every byte; one write(2) unless the system takes less at a time.

    Raises:
        OSError: Some of the bytes may have been written.
    """
    write = system.current().write
    rest = memoryview(data)
    while rest:
        rest = rest[write(fd, rest) :]


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


def write_atomically(path: Place, data: bytes, *, lasting: bool = True) -> bool:
    """Give a file these bytes; a reader sees the old ones or the new ones, never a mixture.

    A file that has exactly these bytes is left alone, so that its times don't change and tools that watch
    them (make, rsync, backup programs) don't wake.

    Args:
        path: In a folder that exists.
        data: All of the new content.
        lasting: False for what can be made again and says itself whether it is whole: it isn't brought to the disk,
            and a power cut may leave any bytes under its name. A process that dies leaves the old ones or the new.

    Returns:
        True when the file was written, False when it had these bytes already.

    Raises:
        DiskFull: No space, no quota, read-only; the old file is intact.
        FileError: Not permitted, or no such folder; permanent, the old file is intact.
    """
    if isinstance(path, ObjectPath):
        replace_object(path, data)
        return True
    try:
        if _has_bytes(path, data):
            # They may be another's, or of a run that died, whose name for them isn't on the disk yet.
            if lasting:
                fsync_folder(path.parent)
            return False
        with Draft(path) as draft:
            write_all(draft.fd, data)
            return draft.commit(lasting=lasting)
    except OSError as error:
        raise explain(error, path, "write") from error


@contextlib.contextmanager
def written_atomically(path: Place) -> Iterator[Path]:
    """A temporary file to fill, for what is too large for memory; it gets its name when the block ends well.

    Args:
        path: The name; a file that has it is replaced. Its folder exists.

    Yields:
        The path of an empty file in the same folder, to be opened by whatever fills it; for an object, among this
        machine's temporary files.

    Raises:
        DiskFull: No space, no quota, read-only.
        FileError: Any other failure to write.
    """
    try:
        with Draft(path) as draft:
            yield draft.temporary
            draft.commit()
    except OSError as error:
        raise explain(error, path, "write") from error


class Draft:
    """A file in the making, under a temporary name: a context manager; what isn't committed in it is discarded.

    It is open from its creation to its commit, so that no failure to write goes unnoticed, also of bytes that another
    part of the process wrote: the system reports it to those who had the file open when it happened.

    Args:
        path: The name that it will have; a file that has it then is replaced. Its folder exists. An object is made as
            a file among this machine's temporary ones, for nobody else to read, and is sent whole.

    Raises:
        OSError: The temporary file can't be made.
    """

    def __init__(self, path: Place) -> None:
        self.path = path
        self.temporary = _temporary_in(temporary_folder(path))
        mode = 0o600 if isinstance(path, ObjectPath) else 0o666
        self._fd = system.current().open(self.temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    @property
    def fd(self) -> int:
        """The open file, to be written to; -1 once it is closed."""
        return self._fd

    def stream(self) -> io.BufferedWriter:
        """The open file for what wants a stream. To be closed, or flushed, before `commit`; that leaves `fd` open."""
        return io.BufferedWriter(_Raw(self))

    def commit(self, *, keep_same: bool = False, lasting: bool = True) -> bool:
        """Bring the bytes to the disk, and give them their name.

        Args:
            keep_same: Leave a file alone that has the same bytes already. An object is written all the same: to compare
                it costs more.
            lasting: False leaves it to the system when the bytes and the name come to the disk.

        Returns:
            False where that was so.

        Raises:
            OSError: The old file is intact, unless it was the folder that couldn't be brought to the disk.
            StoreError, NetworkError: As `replace_object`.
        """
        if isinstance(self.path, ObjectPath):
            self._close()
            put_file(self.temporary, self.path)
            return True
        # Not asked of the new file's size alone: what is to be replaced may be a pipe, which has none.
        changed = not (keep_same and self.path.is_file() and filecmp.cmp(self.temporary, self.path, shallow=False))
        if changed:
            if lasting:
                fsync(self._fd)
            self._close()
            system.current().replace(self.temporary, self.path)
            self.temporary = self.path
        if lasting:
            fsync_folder(self.path.parent)
        return changed

    def discard(self) -> None:
        """Let go of everything but what has been committed."""
        with contextlib.suppress(OSError):
            self._close()
        if self.temporary != self.path:
            _unlink(self.temporary)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            system.current().close(fd)


class _Raw(io.RawIOBase):
    """A draft's file as an unbuffered stream. It belongs to the draft: closing the stream doesn't close it."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return system.current().write(self._draft.fd, data)


def create_exclusively(path: Place, data: bytes) -> bool:
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
    if isinstance(path, ObjectPath):
        return create_object(path, data)
    try:
        created = not os.path.lexists(path) and _create(path, data)
        # Also for the loser, which relies on the winner's file: a power cut may come before the winner, which may be
        # dead, has brought the file and the folder to the disk.
        if not created:
            with contextlib.suppress(FileNotFoundError, PermissionError):  # gone again, or not one of ours
                bring_to_disk(path)
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
                    system.current().unlink(path)
                    removed += 1
    return removed


def _read_object(path: ObjectPath) -> bytes:
    try:
        return read_object(path)[0]
    except FileError as error:
        if error.code != FailureCode.NOT_FOUND:
            raise
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None


def _has_bytes(path: Path, data: bytes) -> bool:
    try:
        status = path.stat()
        # Regular files only: reading a FIFO would wait for ever. The size first: most changes show there.
        return stat.S_ISREG(status.st_mode) and status.st_size == len(data) and path.read_bytes() == data
    except OSError:
        return False  # missing or unreadable: the write will say what is wrong, if anything is


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


def _temporary_in(folder: Path) -> Path:
    # The name has a fixed length, and nothing of the final name in it: that one may have 255 bytes already.
    return folder / f".tmp-{secrets.token_hex(8)}"


def _write_temporary(folder: Path, data: bytes) -> Path:
    path = _temporary_in(folder)
    _write_new(path, data)
    return path


def _write_new(path: Path, data: bytes) -> None:
    """Create a file that must not exist, with its bytes on the disk; nothing is left after an error."""
    fd = system.current().open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        try:
            write_all(fd, data)
            fsync(fd)
        finally:
            system.current().close(fd)
    except BaseException:
        _unlink(path)
        raise


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        system.current().unlink(path)


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
        system.current().link(temporary, path)
    except FileExistsError:
        # NFS may answer "exists" to the repetition of a request whose first reply was lost: then it is ours.
        return path.exists() and path.samefile(temporary)
    return True


def _rename_without_replacing(temporary: Path, path: Path) -> bool:
    try:
        system.current().rename_exclusively(temporary, path)
    except FileExistsError:
        return False
    return True
