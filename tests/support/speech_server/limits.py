"""What a speech server takes: so many requests at the same time, so many a second, uploads up to a size."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tests.support.speech_server.answers import refusal
from tests.support.speech_server.wire import Reply

__all__ = ["UPLOAD_BYTES", "Gate", "Limits"]

UPLOAD_BYTES = 26_214_400
"""The longest body of a request, 25 MiB with all of its form. Source: OpenAI's message for longer ones."""

_TOLD_PER_MINUTE = 10_000
_TOLD_TOKENS_PER_MINUTE = 2_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What to refuse, and how long to take.

    Args:
        max_in_flight: Requests that are worked on at the same time; one more gets 429. None: any number.
        per_second: Requests that are taken in a second; one more gets 429 with `retry-after`. None: any number.
        delay_s: How long every right answer takes, or two limits between which it is drawn.
        upload_bytes: Longer bodies get 413.
        one_by_one: One request is worked on at a time; the others wait, as with Whisper on one's own machine.
        seed: For what is drawn.
    """

    max_in_flight: int | None = None
    per_second: float | None = None
    delay_s: float | tuple[float, float] = 0.0
    upload_bytes: int = UPLOAD_BYTES
    one_by_one: bool = False
    seed: int = 0


class Gate:
    """Keeps count of what was let in.

    Args:
        limits: What is let in.
        now: Seconds by a monotonic clock.
    """

    def __init__(self, limits: Limits, now: float) -> None:
        self.inside = 0
        self._tokens = _Bucket(_TOLD_TOKENS_PER_MINUTE, _TOLD_TOKENS_PER_MINUTE / 60, now)
        self.change(limits, now)

    def change(self, limits: Limits, now: float) -> None:
        """Keep to other limits from now on; what is inside stays."""
        self.limits = limits
        rate = limits.per_second
        capacity = _TOLD_PER_MINUTE if rate is None else max(1.0, rate)
        self._requests = _Bucket(capacity, _TOLD_PER_MINUTE / 60 if rate is None else rate, now)

    def enter(self, now: float) -> Reply | None:
        """Let a request in, or say why not. Who was let in must `leave`."""
        most = self.limits.max_in_flight
        if most is not None and self.inside >= most:
            message = f"Too many concurrent requests: {most} are being worked on. Please try again later."
            return refusal(429, message, kind="requests", code="rate_limit_exceeded")
        wait_s = self._requests.missing_s(1, now)
        if wait_s > 0 and self.limits.per_second is not None:
            message = f"Rate limit reached on requests. Please try again in {_span(wait_s)}."
            headers = {"retry-after": str(math.ceil(wait_s)), "retry-after-ms": str(math.ceil(wait_s * 1000))}
            return refusal(429, message, kind="requests", code="rate_limit_exceeded", headers=headers)
        self._requests.take(1, now)
        self.inside += 1
        return None

    def leave(self, tokens: int, now: float) -> None:
        """A request is over; `tokens` were used for it."""
        self.inside -= 1
        self._tokens.take(tokens, now)

    def headers(self, now: float, *, tokens: bool) -> dict[str, str]:
        """`x-ratelimit-*`: what is left, and how long until all of it is there again."""
        found = _told("requests", self._requests, now)
        return {**found, **_told("tokens", self._tokens, now)} if tokens else found


class _Bucket:
    """So many at once, filled again steadily."""

    def __init__(self, capacity: float, per_second: float, now: float) -> None:
        self.capacity = capacity
        self._per_second = per_second
        self._level = capacity
        self._at = now

    def left(self, now: float) -> float:
        self._level = min(self.capacity, self._level + (now - self._at) * self._per_second)
        self._at = now
        return self._level

    def missing_s(self, count: float, now: float) -> float:
        """Seconds until so many are there."""
        return max(0.0, (count - self.left(now)) / self._per_second)

    def take(self, count: float, now: float) -> None:
        self._level = max(0.0, self.left(now) - count)


def _told(name: str, bucket: _Bucket, now: float) -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{name}": f"{bucket.capacity:.0f}",
        f"x-ratelimit-remaining-{name}": f"{math.floor(bucket.left(now))}",
        f"x-ratelimit-reset-{name}": _span(bucket.missing_s(bucket.capacity, now)),
    }


def _span(seconds: float) -> str:
    """A duration as OpenAI writes it: `20ms`, `1.2s`, `6m0s`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f}m{rest:.0f}s" if minutes else f"{rest:.3g}s"
