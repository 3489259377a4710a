"""Files that are there entirely or not at all.

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
from typing import Any

from trax_ray.store import files, system
from trax_ray.store.creating import create_object, replace_object
from trax_ray.store.explaining import explain
from trax_ray.store.looking import put_file, temporary_folder
from trax_ray.store.uris import ObjectPath, Place

__all__ = [
    "Draft",
    "create_exclusively",
    "is_leftover",
    "remove_leftovers",
    "write_all",
    "write_atomically",
    "written_atomically",
]

_TEMPORARY = re.compile(r"\.tmp-[0-9a-f]{16}")
# What link(2) answers where the file system has no hard links, or none between these two names.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
# What renameat2(2) answers where the kernel or the file system doesn't know RENAME_NOREPLACE.
_NO_RENAME = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


def write_all(fd: int, data: bytes) -> None:
    """Write every byte; one write(2) unless the system takes less at a time.

    Raises:
        OSError: Some of the bytes may have been written.
    """
    write = system.current().write
    rest = memoryview(data)
    while rest:
        rest = rest[write(fd, rest) :]


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
                files.fsync_folder(path.parent)
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
                files.fsync(self._fd)
            self._close()
            system.current().replace(self.temporary, self.path)
            self.temporary = self.path
        if lasting:
            files.fsync_folder(self.path.parent)
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
                files.bring_to_disk(path)
        files.fsync_folder(path.parent)
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


def _has_bytes(path: Path, data: bytes) -> bool:
    try:
        status = path.stat()
        # Regular files only: reading a FIFO would wait for ever. The size first: most changes show there.
        return stat.S_ISREG(status.st_mode) and status.st_size == len(data) and path.read_bytes() == data
    except OSError:
        return False  # missing or unreadable: the write will say what is wrong, if anything is


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
            files.fsync(fd)
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
