"""Which of the files in a folder that is watched are whole: those that haven't changed for a while.

Pure: what is seen there goes in with the time, the files that may be taken come out. A file that is being copied grows,
or its time of change moves on; one whose name changes is another one. Nobody can tell a copy that has stalled for
longer than that from a whole file. Such a file changes again later, and is given once more then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Look", "Settling"]

AGAIN_MOST_S = 3600.0


@dataclass(frozen=True, slots=True)
class Look:
    """What one look shows of a file: what tells one state of it from another."""

    size_bytes: int
    mtime_ns: int
    inode: int = 0


@dataclass(slots=True)
class _Waiting:
    look: Look
    since: float


@dataclass(slots=True)
class _Again:
    at: float
    after_s: float


class Settling:
    """The files of one watch.

    Empty files are none: whoever copies makes one first. A file that changes after it was given is given again, and
    then now and then: whoever takes it may be at work on its former state, and not know the new one yet.

    Args:
        settle_s: How long a file has to stay as it is, seconds.
    """

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._waiting: dict[str, _Waiting] = {}
        self._given: dict[str, Look] = {}
        self._again: dict[str, _Again] = {}

    @property
    def waiting_count(self) -> int:
        """Files that were seen and may still change."""
        return len(self._waiting)

    def take(self, seen: Mapping[str, Look], now: float) -> list[str]:
        """Take a look at all files.

        Args:
            seen: By path, in order; what isn't among them is gone.
            now: Seconds, of a clock that doesn't run backwards.

        Returns:
            The paths of those that are whole and weren't given as they are, in order.
        """
        self._waiting = {path: waiting for path, waiting in self._waiting.items() if path in seen}
        return [path for path, look in seen.items() if look.size_bytes > 0 and self._is_due(path, look, now)]

    def _is_due(self, path: str, look: Look, now: float) -> bool:
        if self._given.get(path) == look:
            self._waiting.pop(path, None)
            return self._is_due_again(path, now)
        waiting = self._waiting.get(path)
        if waiting is None or waiting.look != look:
            self._waiting[path] = _Waiting(look, now)
            return self._settle_s <= 0 and self._give(path, look, now)
        return now - waiting.since >= self._settle_s and self._give(path, look, now)

    def _give(self, path: str, look: Look, now: float) -> bool:
        del self._waiting[path]
        if path in self._given:
            after_s = max(1.0, self._settle_s)
            self._again[path] = _Again(now + after_s, after_s)
        self._given[path] = look
        return True

    def _is_due_again(self, path: str, now: float) -> bool:
        again = self._again.get(path)
        if again is None or now < again.at:
            return False
        again.after_s = min(AGAIN_MOST_S, 2 * again.after_s)
        again.at = now + again.after_s
        return True

    def put_back(self, path: str) -> None:
        """A file that was given couldn't be taken: it waits anew."""
        self._given.pop(path, None)
        self._again.pop(path, None)

    def next_at(self) -> float | None:
        """When the next one may be whole, seconds; None where none waits."""
        times = [waiting.since + self._settle_s for waiting in self._waiting.values()]
        return min(times, default=None)
