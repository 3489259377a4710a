"""Where a recording's bytes come from: a file on a disk, or whatever else can be opened and read like one."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import BinaryIO, Protocol, runtime_checkable

from trax_ray.codes import FailureCode
from trax_ray.errors import FileError

__all__ = ["LocalFile", "Medium", "Readable", "medium_of", "named"]


@runtime_checkable
class Medium(Protocol):
    """Bytes that are opened and read like a file's, by us and not by FFmpeg; hashable, and alike for the same bytes.

    What `open` and `read` raise of trax_ray's own errors passes through the decoder as it is.
    """

    @property
    def size_bytes(self) -> int: ...

    def open(self) -> BinaryIO: ...


Readable = str | os.PathLike[str] | Medium
"""A path, or bytes from elsewhere, whose `str` is what people know them by."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A regular file.

    Args:
        name: Absolute path.
        identity: Size, time of the last change in ns, and inode.
    """

    name: str
    identity: tuple[int, int, int]

    @property
    def size_bytes(self) -> int:
        return self.identity[0]

    def open(self) -> BinaryIO:
        return open(self.name, "rb")  # noqa: PTH123 - keeps names that Path would change

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> LocalFile:
        """A file that is there and may be read.

        Raises:
            FileError: `not_a_file`: permanent.
            OSError: It can't be looked at or opened.
        """
        name = os.path.abspath(os.fspath(path))  # noqa: PTH100 - keeps names that Path would change
        status = os.stat(name)  # noqa: PTH116
        if not stat.S_ISREG(status.st_mode):
            raise FileError(f"{path} is a folder or a device, not a media file", code=FailureCode.NOT_A_FILE)
        found = cls(name, (status.st_size, status.st_mtime_ns, status.st_ino))
        found.open().close()  # only to learn whether it may be read
        return found


def medium_of(path: Readable) -> Medium:
    """The bytes of a path, or of what has bytes already; raises as `LocalFile.of`."""
    return LocalFile.of(path) if isinstance(path, str | os.PathLike) else path


def named(path: Readable) -> str:
    """What people know it by."""
    return os.fspath(path) if isinstance(path, str | os.PathLike) else str(path)
