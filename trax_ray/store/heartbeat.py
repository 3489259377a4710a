"""Where a file system has no locks: who holds something, told by a file in which the holder counts."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from trax_ray.errors import TraxRayError
from trax_ray.store import files, system, writing
from trax_ray.store.explaining import explain, shown
from trax_ray.store.uris import ObjectPath, Place

__all__ = [
    "BEAT_PERIOD_S",
    "Heart",
    "Holder",
    "beat_path",
    "content_of",
    "holder_in",
    "is_released",
    "noted",
    "numbers_of",
]

BEAT_PERIOD_S = 5.0
"""How often a holder counts, seconds. Half of the time that others allow for, because its loop may be late."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock.

    Args:
        holder: What it said it is; empty where it hasn't yet.
        pid: Its process; 0 where it hasn't said.
        host: The machine that it runs on.
        since: When it took the lock, by its clock, seconds since the epoch.
    """

    holder: str
    pid: int
    host: str
    since: float

    def __str__(self) -> str:
        """For people: `batch talks, process 4711 on anton, since 2026-01-31 08:15:00 UTC`."""
        if not self.pid:
            return "a process that hasn't said its name yet"  # it has the lock and is about to write
        since = datetime.fromtimestamp(self.since, tz=timezone.utc)
        return f"{self.holder}, process {self.pid} on {self.host}, since {since:%Y-%m-%d %H:%M:%S} UTC"


_NAMELESS = Holder("", 0, "", 0.0)


def noted(data: bytes) -> dict[str, Any]:
    """What a holder wrote; empty where it can't be read."""
    try:
        note = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return note if isinstance(note, dict) else {}


def holder_in(note: Mapping[str, Any]) -> Holder:
    """The holder that a note names; a nameless one where it names none."""
    try:
        holder = Holder(str(note["holder"]), int(note["pid"]), str(note["host"]), float(note["since"]))
        str(holder)  # a time that is none shows here
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return _NAMELESS
    return holder


# The heartbeat


@dataclass(slots=True)
class Heart:
    """The file in which a holder counts.

    Args:
        lock: The lock file.
        number: Which holder it is, counted from 1.
        note: What it says about itself.
        beaten_at: When it counted last, by the monotonic clock.
        count: How often.
    """

    lock: Place
    number: int
    note: dict[str, Any]
    beaten_at: float
    count: int = 0

    @property
    def file(self) -> Place:
        """Where it counts."""
        return beat_path(self.lock, self.number)

    def content(self) -> bytes:
        """What is in the file; it never gets shorter, so that it can be written over."""
        return json.dumps({**self.note, "count": f"{self.count:012d}"}).encode("ascii") + b"\n"

    def beat(self, now: float) -> bool:
        """Count, where a beat is due. False where another process has taken over."""
        if now - self.beaten_at < BEAT_PERIOD_S:
            return True
        with contextlib.suppress(OSError, TraxRayError):
            if not self.is_highest():
                return False
            self.count += 1
            self._write(self.content())
            self.beaten_at = now
        return True

    def stop(self) -> None:
        """Note that the lock is free."""
        self._write(b"{}".ljust(len(self.content()) - 1) + b"\n")

    def is_highest(self) -> bool:
        """Whether no later holder exists."""
        return numbers_of(self.lock)[-1:] == [self.number]

    def _write(self, data: bytes) -> None:
        if isinstance(self.file, ObjectPath):
            writing.write_atomically(self.file, data)
            return
        # In place, not by a new file under the name: network file systems look again when a file is opened, but
        # may remember for a minute which file a name means. It needn't be synced: a power cut ends the holder too.
        fd = system.current().open(self.file, os.O_WRONLY)
        try:
            writing.write_all(fd, data)
        finally:
            system.current().close(fd)


def beat_path(lock: Place, number: int) -> Place:
    """The file in which the holder of that number counts."""
    return lock.parent / (f"{lock.name}.{number:06d}")


def numbers_of(lock: Place) -> list[int]:
    """Numbers of the holders whose files are there, lowest first."""
    pattern = re.compile(re.escape(lock.name) + r"\.([0-9]{6,})")
    names = files.names_in(lock.parent)
    return sorted(int(match[1]) for match in map(pattern.fullmatch, names) if match)


def is_released(content: bytes) -> bool:
    """Whether its holder has noted that the lock is free."""
    return content.strip() == b"{}"


def content_of(file: Place) -> bytes | None:
    """The bytes of a holder's file; None where it is gone: its successor took it away."""
    try:
        return files.read_regular(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise explain(error, shown(file), "read") from error
