"""Recordings in an object store as files: read by ranges, of which some are kept, and never another object's bytes."""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import BinaryIO, cast

from trax_ray.codes import FailureCode
from trax_ray.errors import FileError
from trax_ray.store.objects import ObjectStat, read_range, stat_of
from trax_ray.store.uris import ObjectPath

__all__ = ["StoredRecording"]

FIRST_BYTES = 1024 * 1024
"""Asked for where reading begins or goes on elsewhere."""

MOST_BYTES = 4 * 1024 * 1024
"""Asked for at once; twice as much each time while reading goes straight on."""

KEPT_BYTES = 4 * MOST_BYTES
"""Of all recordings of a process: whoever looks at a file's ends, and then reads it, asks once."""


@dataclass(frozen=True, slots=True)
class StoredRecording:
    """An object as it was when it was looked at: what is read of it is of that state, or an error.

    Args:
        path: Where it is.
        stat: What is known of it.
    """

    path: ObjectPath
    stat: ObjectStat

    @classmethod
    def at(cls, path: ObjectPath) -> StoredRecording:
        """The object that is there now; errors as `stat_of`."""
        return cls(path, stat_of(path))

    def __str__(self) -> str:
        return str(self.path)

    @property
    def size_bytes(self) -> int:
        return self.stat.size_bytes

    def open(self) -> BinaryIO:
        """A file of its bytes, to be read and closed."""
        return cast(BinaryIO, _Ranged(self))

    def exists(self) -> bool:
        """Whether it is there; it was when it was looked at."""
        return True


class _Windows:
    """Stretches of recordings that were read last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[StoredRecording, int], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def find(self, recording: StoredRecording, at: int) -> tuple[int, bytes] | None:
        """The stretch that holds a byte, and where it begins."""
        with self._lock:
            for key, data in reversed(self._kept.items()):
                if key[0] == recording and key[1] <= at < key[1] + len(data):
                    self._kept.move_to_end(key)
                    return key[1], data
        return None

    def keep(self, recording: StoredRecording, start: int, data: bytes) -> None:
        with self._lock:
            known = self._kept.pop((recording, start), b"")
            self._kept[recording, start] = data
            self._bytes += len(data) - len(known)
            while self._bytes > KEPT_BYTES:
                self._bytes -= len(self._kept.popitem(last=False)[1])


_windows = _Windows()


class _Ranged(io.RawIOBase):
    def __init__(self, recording: StoredRecording) -> None:
        super().__init__()
        self._recording = recording
        self._at = 0
        self._ask_bytes = FIRST_BYTES // 2
        self._asked_to = 0
        # FFmpeg takes a hint from the suffix. More of the name is none of its business.
        self.name = f"recording{recording.path.suffix}"

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._recording.size_bytes}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int = -1) -> bytes:
        """The next bytes, all that are asked for where there are as many.

        Raises:
            FileError: `changed_while_read`: transient, it is another object by now.
            StoreError, NetworkError: As `stat_of`.
        """
        left = max(0, self._recording.size_bytes - self._at)
        left = left if size is None or size < 0 else min(size, left)
        parts = []
        while left > 0:
            start, data = self._window()
            part = data[self._at - start : self._at - start + left]
            parts.append(part)
            self._at += len(part)
            left -= len(part)
        return b"".join(parts)

    def _window(self) -> tuple[int, bytes]:
        """A stretch that holds the byte that is next."""
        recording, at = self._recording, self._at
        found = _windows.find(recording, at)
        if found is not None:
            return found
        straight_on = self._asked_to <= at <= self._asked_to + self._ask_bytes
        self._ask_bytes = min(MOST_BYTES, 2 * self._ask_bytes) if straight_on else FIRST_BYTES
        end = min(recording.size_bytes, at + self._ask_bytes)
        data, stat = read_range(recording.path, at, end)
        if stat.state != recording.stat.state:
            raise FileError(
                f"{recording} changed while it was read: is it still being written? Try again later",
                failure_class="transient",
                code=FailureCode.CHANGED_WHILE_READ,
            )
        self._asked_to = end
        _windows.keep(recording, at, data)
        return at, data
