"""An allowance of a provider (requests or tokens per period), as the headers of its answers state it."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from trax_ray.core.limits.signals import usable

__all__ = ["Meter", "Told"]

FEW = 0.2
"""Share of an allowance that is spread over the time until more comes; what is above it may be used at once."""

SPREAD_MOST_S = 120.0
"""Time to the reset up to which an allowance is spread. One per hour or day is used while it lasts: the batch may fit
into it, and one that doesn't waits no longer for having used it up sooner."""

TELLING = 0.1
"""Share of an allowance that has to be used before the time to the reset tells how it is refilled."""

BURST_S = 0.25
"""How far spread starts may catch up, seconds: callers ask now and then, not all the time."""

SLACK_S = 0.25
"""About how long it takes from the decision to start until the provider counts the request, seconds."""

_PLENTY = 1 << 30


class Told(NamedTuple):
    """What the headers of an answer say of one allowance."""

    limit: int | None
    remaining: int | None
    reset_s: float | None
    latency_s: float


@dataclass(slots=True)
class Meter:
    """An allowance that the provider's headers state: how many requests or tokens, and when it is full again.

    What is left is what the newest answer said, less what has started since that request was sent. When a fifth or
    less is left, it is spread over the time until more comes.

    There are two kinds, and the headers tell which: a bucket that is refilled all the time (OpenAI's), where the
    time to the reset grows with what is missing; and windows, each with a full allowance, where it runs down with
    the clock. Until that shows it is taken for a window: nothing comes before the reset. An answer of a window
    that took longer than the window tells no more than the limit. Where a provider that turns requests away asks to
    wait for much less than the time to its reset, the reset isn't believed any more: Retry-After governs.

    Args:
        cost: What one request takes, on average; 0.0 when unknown.
    """

    cost: float = 1.0
    limit: float = 0.0
    left: float = 0.0
    at: float = 0.0
    reset_at: float = 0.0
    window_s: float = 0.0
    bucket_s: float = 0.0
    leans_to_bucket: float = 0.0
    newest: tuple[float, float, float] = (-math.inf, 0.0, 0.0)
    due_at: float = -math.inf
    believed: bool = True
    starts: deque[float] = field(default_factory=lambda: deque(maxlen=1024))

    def on_started(self, now: float) -> None:
        """A request starts."""
        self.starts.append(now)
        if not self.limit:
            return
        self._advance(now)
        if self.left - self._cost() < self._few(self.reset_at, now):
            self.due_at = max(self.due_at, now - BURST_S) + self._interval_s(self.left, self.reset_at, now)
        self.left -= self._cost()

    def on_headers(self, told: Told, in_flight: int, now: float) -> None:
        """An answer stated what is left; `in_flight` requests had no answer yet."""
        if not self.believed or (told.limit is not None and told.limit <= 0):
            return
        if not usable(told.remaining) or not usable(told.reset_s):
            return
        before, self.limit = self.limit, float(told.limit or max(self.limit, told.remaining))
        if self.limit != before:
            self.bucket_s = self.window_s = 0.0
        self.window_s = max(self.window_s, float(math.ceil(told.reset_s)))  # whole seconds, as they are in practice
        sent_at, remaining = now - told.latency_s - SLACK_S, float(told.remaining)
        newest_at, had, had_s = self.newest
        if not self.limit or sent_at < newest_at - SLACK_S:
            return
        tells = told.reset_s >= told.latency_s  # else what it tells of may be over: the window that it was sent in
        if tells:
            self._learn(sent_at, remaining, told.reset_s)
        self._advance(now)
        if sent_at < newest_at + SLACK_S and told.reset_s <= had_s + SLACK_S:
            # Sent at about the same time, in whatever order they were counted: what is less is newer.
            sent_at, remaining = max(sent_at, newest_at), min(remaining, had)
        self.newest = sent_at, remaining, told.reset_s
        if not tells and not self._is_bucket:
            return
        while self.starts and self.starts[0] <= sent_at:
            self.starts.popleft()
        left = remaining - self._cost() * min(in_flight, len(self.starts))
        if self._is_bucket:
            came = max(0.0, now - sent_at - SLACK_S) * self.limit / self.bucket_s
            left = min(left + came, self.limit if came < FEW * self.limit else self.left)
        self.left, self.reset_at = left, now + told.reset_s

    def may_start(self, now: float) -> int:
        """How many requests the allowance leaves now."""
        if not self.limit:
            return _PLENTY
        left, reset_at, due_at = self._state(now)
        if not self.cost:
            return _PLENTY if left > 0 else 0
        at_once = int((left - self._few(reset_at, now)) / self._cost())
        if at_once > 0:
            return at_once
        due_at = max(due_at, now - BURST_S)
        if left < self._cost() or due_at > now:
            return 0
        interval_s = self._interval_s(left, reset_at, now)
        return int(min(left / self._cost(), (now - due_at) / interval_s + 1)) if interval_s else 1

    def next_at(self, now: float) -> float | None:
        """When the next request may start, seconds; None where one may now."""
        if self.may_start(now):
            return None
        left, reset_at, due_at = self._state(now)
        if not self._is_bucket:
            return reset_at if left < self._cost() or left <= 0 else min(reset_at, due_at)
        missing = max(0.0, self._cost() - left)
        return max(due_at, now + missing * self.bucket_s / self.limit + 1e-3)  # rounding must not make it too early

    @property
    def used_up(self) -> bool:
        """Whether the newest answer said that nothing is left."""
        return bool(self.limit) and self.newest[1] <= 0

    def disbelieve(self) -> None:
        """What the headers say isn't what the provider goes by."""
        self.forget()
        self.believed = False

    def forget(self) -> None:
        """Nothing is known until the next answer tells."""
        self.limit = self.left = self.reset_at = self.window_s = self.bucket_s = 0.0
        self.leans_to_bucket, self.newest, self.due_at = 0.0, (-math.inf, 0.0, 0.0), -math.inf
        self.starts.clear()

    def _few(self, reset_at: float, now: float) -> float:
        """How much of the allowance isn't used at once but spread until the reset."""
        full_in_s = self.bucket_s if self._is_bucket else reset_at - now
        return FEW * self.limit if full_in_s <= SPREAD_MOST_S else 0.0

    @property
    def _is_bucket(self) -> bool:
        return self.leans_to_bucket > 0 and self.bucket_s > 0

    def _learn(self, sent_at: float, remaining: float, reset_s: float) -> None:
        """See how the time to the reset behaves from one answer to the next."""
        newest_at, had, had_s = self.newest
        full = (1 - TELLING) * self.limit
        if remaining > full:
            return
        whole_s = self.limit * reset_s / (self.limit - remaining)
        self.bucket_s = max(whole_s, self.bucket_s + (whole_s - self.bucket_s) * 0.02)
        by_clock_s = had_s - (sent_at - newest_at)
        if had <= full and by_clock_s > 0:
            by_bucket_s = had_s * (self.limit - remaining) / (self.limit - had)
            vote = abs(reset_s - by_clock_s) - abs(reset_s - by_bucket_s)
            self.leans_to_bucket = 0.9 * self.leans_to_bucket + (vote > 0) - (vote < 0)

    def _state(self, now: float) -> tuple[float, float, float]:
        """What is left at a time, when it is full again, and when the next spread start is due."""
        if self._is_bucket:
            left = min(self.limit, self.left + max(0.0, now - self.at) * self.limit / self.bucket_s)
            return left, now + (self.limit - left) * self.bucket_s / self.limit, self.due_at
        if now < self.reset_at:
            return self.left, self.reset_at, self.due_at
        ahead_s = self.window_s - math.fmod(now - self.reset_at, self.window_s) if self.window_s else 0.0
        return self.limit, now + ahead_s, -math.inf

    def _advance(self, now: float) -> None:
        self.left, self.reset_at, self.due_at = self._state(now)
        self.at = now

    def _cost(self) -> float:
        return min(self.cost, self.limit)

    def _interval_s(self, left: float, reset_at: float, now: float) -> float:
        if self._is_bucket:
            return self._cost() * self.bucket_s / self.limit
        return max(0.0, reset_at - now) * self._cost() / max(left, self._cost(), 1e-9)
