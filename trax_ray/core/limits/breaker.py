"""When requests to a provider stop, and how many retries it gets."""

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
    """A circuit breaker. Closed: requests start. Open: none starts. Half-open: one request at a time, the probe.

    A refusal (of the key, or for lack of money) opens it until a person resumes, `FAILURES_IN_A_ROW` failures in a row
    open it for a cool-down; it is half-open afterwards. A probe that is answered closes it; one that isn't opens it for
    twice as long. After `FAILURES_IN_A_ROW` answers the cool-down has its first length again.
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
        """How many requests an open breaker lets through: 1 (the probe) or 0."""
        return int(self.opens_at is not None and now >= self.opens_at and not self.probe)

    def on_started(self, task_id: str) -> None:
        """A request starts; the first one while half-open is the probe."""
        if self.reason and not self.probe:
            self.probe = task_id

    def half_open(self, now: float) -> None:
        """A person resumes: let a probe through."""
        self.reason, self.opens_at, self.refused = "one request is tried first", now, False
        self.resumes += 1

    def on_signal(self, task_id: str, signal: ProviderSignal, resumes: int, now: float) -> bool:
        """Take the answer to a request that started after `resumes` resumes; True where it closes the breaker."""
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
    """A token bucket that bounds retries to a share of the requests.

    Each first attempt adds half a token and each success another half; a retry takes one token. So a task that succeeds
    has earned one retry, which sustains fault rates up to one half (p / (1 - p) retries per task). In an outage, where
    nothing succeeds, retries add at most half of the load. When the bucket is empty, retries aren't dropped: one starts
    per `TRICKLE_S`.

    Source:
        The idea: Finagle's RetryBudget (20 % of the requests, and 10 a second), gRPC's retry throttling (proposal
        A6). The figures are larger than theirs because the number of requests in flight is bounded here by the
        window and the breaker, and because what isn't retried is a file that fails.
    """

    most: float
    tokens: float
    slot_at: float = -math.inf

    def earn(self) -> None:
        """A first attempt started, or a request succeeded."""
        self.tokens = min(self.most, self.tokens + RETRY_EARNED)

    def take(self, now: float) -> float:
        """Take a token for one retry; returns when it may start, seconds."""
        if self.tokens >= 1.0:
            self.tokens -= 1.0
            return now
        self.slot_at = min(max(self.slot_at, now) + TRICKLE_S, now + TRICKLE_MOST_S)
        return self.slot_at
