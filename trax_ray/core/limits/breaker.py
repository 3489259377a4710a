"""When nothing more is asked of a provider, and how much is asked of it again."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trax_ray.core.limits.signals import ProviderSignal, SignalKind

__all__ = ["RETRIES_LEAST", "Breaker", "Retries"]

FAILURES_IN_A_ROW = 20
COOL_DOWN_S, COOL_DOWN_MOST_S = 30.0, 600.0

RETRY_EARNED = 0.5
RETRIES_LEAST = 10.0
TRICKLE_S, TRICKLE_MOST_S = 3.0, 600.0


@dataclass(slots=True)
class Breaker:
    """Closed, nothing is in the way. Open, nothing starts, but for one probe at a time once it is half-open.

    A refusal (the key, the money) opens it until somebody says to go on; `FAILURES_IN_A_ROW` failures without an
    answer between them open it for a cool-down. A probe that is answered closes it, any other opens it again for
    twice as long; `FAILURES_IN_A_ROW` answers later the cool-down is short again.
    """

    reason: str = ""
    opens_at: float | None = None
    refused: bool = False
    probe: str = ""
    in_a_row: int = 0
    cool_down_s: float = COOL_DOWN_S
    since_closed: int = 0
    resumes: int = 0

    def may_start(self, now: float) -> int:
        """How many requests an open one lets through: the probe, or none."""
        return int(self.opens_at is not None and now >= self.opens_at and not self.probe)

    def on_started(self, task_id: str) -> None:
        """A request starts; the first one while half-open is the probe."""
        if self.reason and not self.probe:
            self.probe = task_id

    def half_open(self, now: float) -> None:
        """Somebody says to go on: let a probe through."""
        self.reason, self.opens_at, self.refused = "one request is tried first", now, False
        self.resumes += 1

    def on_signal(self, task_id: str, signal: ProviderSignal, resumes: int, now: float) -> bool:
        """Take an answer to a request that was started after so many resumes; True where it closes the breaker."""
        probed = bool(task_id) and task_id == self.probe
        self.probe = "" if probed else self.probe
        if signal.kind is SignalKind.REFUSED:
            if resumes == self.resumes:  # else it was sent with the key that was
                self.reason, self.opens_at, self.refused = signal.words, None, True
        elif signal.kind in (SignalKind.OK, SignalKind.REJECTED):
            self.in_a_row = 0
            self.since_closed += 1
            if self.since_closed >= FAILURES_IN_A_ROW:
                self.cool_down_s = COOL_DOWN_S
            if probed:
                self.reason, self.opens_at, self.since_closed = "", None, 0
            return probed
        else:
            self.in_a_row += signal.failed
            if probed:
                self._open(f"the request that was tried came back: {signal.words}", now)
            elif not self.reason and self.in_a_row >= FAILURES_IN_A_ROW:
                self._open(f"no answer to {self.in_a_row} requests in a row, the last: {signal.words}", now)
        return False

    def _open(self, reason: str, now: float) -> None:
        self.reason, self.opens_at = reason, now + self.cool_down_s
        self.cool_down_s = min(2 * self.cool_down_s, COOL_DOWN_MOST_S)
        self.since_closed = 0


@dataclass(slots=True)
class Retries:
    """A token bucket that keeps retries to a share of what is asked for anyway.

    Each first attempt adds a half and each success another; a retry takes one. So a task that gets through has
    earned one retry: that sustains fault rates up to one half (p / (1 - p) retries per task), while an outage, where
    nothing succeeds, is made worse by half at the most. When it is empty, retries aren't dropped but wait their
    turn, one per `TRICKLE_S`.

    Source:
        The idea: Finagle's RetryBudget (20 % of the requests, and 10 a second), gRPC's retry throttling (proposal
        A6). The figures are larger than theirs because the number of requests under way is bounded here by the
        window and the breaker, and because what isn't retried is a file that fails.
    """

    most: float
    tokens: float
    slot_at: float = -math.inf

    def earn(self) -> None:
        """A first attempt started, or a request succeeded."""
        self.tokens = min(self.most, self.tokens + RETRY_EARNED)

    def take(self, now: float) -> float:
        """Take one; returns when the retry may start."""
        if self.tokens >= 1.0:
            self.tokens -= 1.0
            return now
        self.slot_at = min(max(self.slot_at, now) + TRICKLE_S, now + TRICKLE_MOST_S)
        return self.slot_at
