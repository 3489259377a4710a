"""Journal segments in an object store: each group is an object, created once.

Segment n is the object `%06d.jsonl`, whose creation takes the epoch, and the objects below `%06d/`, each named by the
byte at which its group would begin in one file. An object is there whole or not at all, so a group that can't be read
is damage, and never a torn end.

A group never changes, and a journal has thousands, which are read when a batch starts, by each report and each look at
it. So each machine keeps those that it has read, under what the store knows them by.
"""

from __future__ import annotations

import json
import os
import platform
import re
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from trax_ray.codes import FailureCode
from trax_ray.core.ids import digest
from trax_ray.errors import FencedError, FileError, JournalError, TraxRayError
from trax_ray.store import files, writing
from trax_ray.store.creating import create_object
from trax_ray.store.journal import Group, encode_group, is_group, read_group
from trax_ray.store.layout import Layout
from trax_ray.store.objects import ObjectStat, list_below, read_object
from trax_ray.store.uris import ObjectPath

__all__ = ["ObjectJournalWriter", "iter_object_segment"]

_GROUP = re.compile(r"[0-9]{16}")
_AT_ONCE = 32
"""Groups that are asked for at the same time: a segment may have thousands, each some milliseconds away."""


class ObjectJournalWriter:
    """Fills one segment; for one thread. See `JournalWriter`, whose methods it has.

    Args:
        path: The segment to create.

    Raises:
        FileExistsError: The segment exists; another process was first.
        StoreError, NetworkError: As `create_object`.
    """

    def __init__(self, path: ObjectPath) -> None:
        self.path = path
        self._folder = _folder_of(path)
        self._size = 0
        self._failure: TraxRayError | None = None
        self._closed = False
        # With a token, so that we know our own again where its first answer got lost.
        writer = {"writer": f"process {os.getpid()} on {platform.node()}", "token": secrets.token_hex(16)}
        if not create_object(path, json.dumps(writer).encode("ascii") + b"\n"):
            raise FileExistsError(str(path))

    @property
    def size(self) -> int:
        """Bytes of the segment's groups."""
        return self._size

    @property
    def removed(self) -> bool:
        """Never known here; whoever looks for higher epochs sees whether the own one is still there."""
        return False

    def append(self, records: Sequence[dict[str, Any]]) -> int:
        """Add one group: one request. On return the store has it. Nothing happens without records.

        An answer that doesn't come ends the segment: the group may be there or not, or get there yet. Then none of its
        commands were run, and a successor reads it where it was there when it looked.

        Args:
            records: See `encode_group`.

        Returns:
            Bytes of the segment's groups now.

        Raises:
            StoreError, NetworkError: As `create_object`. Also later appends.
            FencedError: Another one has written here.
            FileError: The segment is closed.
        """
        if self._failure is not None:
            raise type(self._failure)(
                f"journal segment {self.path} takes no more groups after: {self._failure}",
                failure_class=self._failure.failure_class,
                code=self._failure.code,
            )
        if self._closed:
            raise FileError(f"journal segment {self.path} is closed", code=FailureCode.CLOSED)
        if not records:
            return self._size
        data = encode_group(records, self._size)
        try:
            if not create_object(self._folder / f"{self._size:016d}", data):
                raise FencedError(f"journal segment {self.path} has a group that another one wrote: it must stop")
        except TraxRayError as error:
            self._failure = error
            raise
        except BaseException as error:
            self._failure = FileError(
                f"journal segment {self.path}: interrupted by {type(error).__name__}", code=FailureCode.NOT_WRITABLE
            )
            raise
        self._size += len(data)
        return self._size

    def close(self) -> None:
        """Let go of it. Whatever was appended is in the store already. May be called twice."""
        self._closed = True


def iter_object_segment(path: ObjectPath, limit: int | None = None) -> Iterator[Group]:
    """The groups of a segment, a few in memory at a time; as `iter_segment`.

    Raises:
        JournalError: A group is damaged or missing, or there are fewer bytes than `limit`; permanent.
        StoreError, NetworkError: As `stat_of`.
    """
    folder = _folder_of(path)
    found = sorted((each, stat) for each, stat in list_below(folder) if _GROUP.fullmatch(each.name))
    wanted = [(each, stat) for each, stat in found if limit is None or int(each.name) < limit]
    kept = _Kept.of(folder)
    end = 0
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        waiting = iter(wanted)
        while several := list(islice(waiting, _AT_ONCE)):
            for (each, _), data in zip(several, pool.map(kept.read, several), strict=True):
                if int(each.name) != end:
                    raise JournalError(
                        f"journal segment {path}: the group at byte {end} is missing, the next is at {int(each.name)}: "
                        "restore the object from a backup or an earlier version of the bucket"
                    )
                group = read_group(data, end, str(each))
                end = group.end
                yield group
    if limit is not None and end != limit:
        raise JournalError(
            f"journal segment {path} has good groups up to byte {end} only, but {limit} bytes of it were read once: "
            "restore its objects from a backup or an earlier version of the bucket"
        )


@dataclass(frozen=True, slots=True)
class _Kept:
    """Groups of a segment that were read on this machine before.

    Args:
        folder: Where they are; None keeps none.
    """

    folder: Path | None

    @classmethod
    def of(cls, segment: ObjectPath) -> _Kept:
        """Those of the segment whose groups lie in a folder of a store."""
        try:
            folder = Layout(segment.parent.parent.parent).work / "journal" / segment.name
            files.ensure_folder(folder, lasting=False)
        except TraxRayError:  # no home, no room: then all is asked for
            return cls(None)
        return cls(folder)

    def read(self, group: tuple[ObjectPath, ObjectStat]) -> bytes:
        """The bytes of a group; raises as `read_object`."""
        path, stat = group
        if self.folder is None or not stat.etag:
            return read_object(path)[0]
        # What is cut off or spoilt there shows in the group's checksum: it is asked for.
        place = self.folder / f"{path.name}-{digest([stat.etag, stat.size_bytes])}"
        with suppress(OSError):
            data = place.read_bytes()
            if is_group(data, int(path.name)):
                return data
        data = read_object(path)[0]
        with suppress(TraxRayError):
            writing.write_atomically(place, data, lasting=False)
        return data


def _folder_of(segment: ObjectPath) -> ObjectPath:
    return segment.parent / segment.name.removesuffix(".jsonl")
