"""Looking at files that are on a disk or in an object store: whether they are there, and what is in them."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from trax_ray.codes import FailureCode
from trax_ray.errors import FileError
from trax_ray.store.creating import replace_object
from trax_ray.store.objects import ObjectStat, list_below, stats_of
from trax_ray.store.ranged import StoredRecording
from trax_ray.store.uris import ObjectPath, Place

__all__ = ["Presence", "exists", "opened", "put_file", "stamp_of", "temporary_folder"]

_MOST_ASKED = 64
"""Objects that are asked for one by one; of more the folder is listed, a thousand a request."""


def exists(path: Place) -> bool:
    """Whether a file is there.

    Raises:
        OSError: It can't be told.
        StoreError, NetworkError: As `stat_of`.
    """
    return path.exists() if isinstance(path, Path) else stats_of([path])[path] is not None


def opened(path: Place) -> BinaryIO:
    """A file to be read from any place in it, and closed; an object is read as it is asked for, not as a whole.

    Raises:
        OSError: As of `open`; of an object only FileNotFoundError.
        StoreError, NetworkError: As `stat_of`.
    """
    if isinstance(path, Path):
        return path.open("rb")
    try:
        return StoredRecording.at(path).open()
    except FileError as error:
        raise _as_on_a_disk(error, path) from None


def stamp_of(path: Place) -> str:
    """What a file is known by until it is written again.

    Raises:
        As `opened`.
    """
    if isinstance(path, Path):
        status = path.stat()
        return f"{status.st_size} {status.st_mtime_ns}"
    try:
        return " ".join(map(str, StoredRecording.at(path).stat.state))
    except FileError as error:
        raise _as_on_a_disk(error, path) from None


def _as_on_a_disk(error: FileError, path: ObjectPath) -> Exception:
    if error.code != FailureCode.NOT_FOUND:
        return error
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def temporary_folder(path: Place) -> Path:
    """Where a file is made that gets this name when it is whole: beside it; for an object among temporary files."""
    return path.parent if isinstance(path, Path) else Path(tempfile.gettempdir())


def put_file(source: Path, path: ObjectPath) -> None:
    """Give an object the bytes of a file, read piece by piece; raises as `replace_object`."""
    replace_object(path, source)


class Presence:
    """Which files are there, asked of a store with few requests: a run that goes on has thousands of them to see to.

    What a store has said to be there is taken to stay: what somebody deletes meanwhile shows in the next run.

    Args:
        folder: All of them are below it.
    """

    def __init__(self, folder: Place) -> None:
        self._folder = folder
        self._listed: dict[ObjectPath, ObjectStat] | None = None

    def missing(self, paths: Iterable[Place]) -> set[Place]:
        """Those that aren't there; raises as `exists`."""
        wanted = dict.fromkeys(paths)
        gone: set[Place] = {path for path in wanted if isinstance(path, Path) and not path.exists()}
        objects = [path for path in wanted if isinstance(path, ObjectPath)]
        if self._listed is None and len(objects) > _MOST_ASKED and isinstance(self._folder, ObjectPath):
            self._listed = dict(list_below(self._folder))
        unknown = [path for path in objects if self._listed is None or path not in self._listed]
        return gone | {path for path, stat in stats_of(unknown).items() if stat is None}
