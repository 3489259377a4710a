"""How long a request is waited for: by what the server takes, and by what it still has to do before.

A fixed deadline counts the queue of a server that does one request at a time, and a file fails for having waited in it.
Here the clock of a request starts anew with every answer to one that was sent before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["DEADLINE_FACTOR", "DEADLINE_S", "Pace"]

DEADLINE_S = 60.0
DEADLINE_FACTOR = 2.0
"""What a request is given at the least: 60 s plus twice the length of its audio. Services take a tenth of the length or
less; servers on a small machine may take more, which their answers show."""

SLOWEST_FACTOR = 3.0
"""How many times longer than the slowest answer so far the next may take."""

MISSES_MOST = 6
PATIENCE_MOST_S = 3600.0
"""Without an answer in time the next requests get twice as long, up to this."""

TOGETHER_S = 1.0
"""Requests that were sent within this time were sent together: servers take them in any order."""


@dataclass(slots=True)
class _Sent:
    at: float
    since: float
    audio_s: float


@dataclass(slots=True)
class Pace:
    """What a server takes for its answers, for the requests of one process. Times are of a clock that goes forward."""

    slowest_s: float = 0.0
    misses: int = 0
    missed_at: float = float("-inf")
    _sent: dict[str, _Sent] = field(default_factory=dict)

    def on_sent(self, name: str, audio_s: float, now: float) -> None:
        """A request was sent."""
        self._sent[name] = _Sent(now, now, audio_s)

    def on_answered(self, name: str, now: float) -> None:
        """It was answered with what was asked for. Turning requests away is no work."""
        sent = self._sent.pop(name)
        self.slowest_s = max(self.slowest_s, now - sent.since)
        self.misses = 0
        for other in self._sent.values():
            if other.at >= sent.at - TOGETHER_S:
                other.since = now

    def forget(self, name: str) -> None:
        """It came to nothing, and that says nothing of the others."""
        self._sent.pop(name, None)

    def on_given_up(self, name: str, now: float) -> float:
        """Nobody waits for it any more; for how long it was waited, seconds."""
        sent = self._sent.pop(name)
        if sent.at > self.missed_at:  # those that were sent beside it tell nothing more
            self.misses, self.missed_at = min(MISSES_MOST, self.misses + 1), now
        return now - sent.at

    def deadline(self, name: str) -> float:
        """When to give it up; later when others have been answered meanwhile."""
        sent = self._sent[name]
        least_s = max(DEADLINE_S + DEADLINE_FACTOR * sent.audio_s, SLOWEST_FACTOR * self.slowest_s)
        return sent.since + min(least_s * 2.0**self.misses, max(least_s, PATIENCE_MOST_S))

    def due(self, now: float) -> list[str]:
        """The requests that are to be given up."""
        return [name for name in self._sent if self.deadline(name) <= now]

    def next_due(self) -> float | None:
        """When the next one is to be given up; None where none waits."""
        return min((self.deadline(name) for name in self._sent), default=None)
