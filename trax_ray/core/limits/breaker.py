"""When requests to a provider stop, how an outage is sat out, and how many retries a provider gets."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trax_ray.core.limits.signals import ProviderSignal, SignalKind

__all__ = ["RETRIES_LEAST", "Breaker", "Outage", "Retries"]

FAILURES_IN_A_ROW = 20
COOL_DOWN_S, COOL_DOWN_MOST_S = 1.0, 60.0

LATENESS = 0.1
"""How much longer than an outage the wait for its end may last: each cool-down is this share of what it has lasted."""

RETRY_EARNED = 0.5
RETRIES_LEAST = 10.0
TRICKLE_S, TRICKLE_MOST_S = 3.0, 600.0

OUTAGE_S, OUTAGE_FAILURES = 2.0, 4
"""From where on failures in a row are an outage, and not some that fell together."""

UNREACHED_PARKS = 5
UNREACHED_FIRST_S, UNREACHED_LATER_S = 10.0, 300.0
"""Nobody listens: how long that is borne where the provider hasn't answered in this run, and where it has."""

AWAY_MOST_S = 3600.0
"""How long a provider may fail all the time until a person is asked."""


@dataclass(slots=True)
class Outage:
    """Failures in a row: requests that were lost, and a 5xx each.

    Args:
        in_a_row: How many, since the last answer.
        broken_off: How many of them in a row, up to the last one, had no answer at all, and soon.
        since: When the first came; None where there is none.
        unreached_since: When the first of those without an answer came.
        answered: Whether the provider has answered anything in this run.
    """

    in_a_row: int = 0
    broken_off: int = 0
    since: float | None = None
    unreached_since: float | None = None
    answered: bool = False

    def begin(self) -> None:
        """A run begins: what failed before may have been mended since."""
        self.in_a_row = self.broken_off = 0
        self.since = self.unreached_since = None
        self.answered = False

    def on_signal(self, signal: ProviderSignal, now: float) -> bool:
        """Take an answer, or that there was none; True where it ends an outage."""
        if not signal.failed:
            ends = self.in_a_row >= OUTAGE_FAILURES and self.lasts_s(now) >= OUTAGE_S
            if signal.status:
                self.begin()
                self.answered = True
            return ends and signal.kind in (SignalKind.OK, SignalKind.REJECTED)
        self.in_a_row += 1
        self.since = now if self.since is None else self.since
        if signal.kind is SignalKind.CONNECTION and not signal.late:
            self.broken_off += 1
            self.unreached_since = now if self.unreached_since is None else self.unreached_since
        else:
            self.broken_off, self.unreached_since = 0, None
            self.answered = self.answered or signal.status > 0
        return False

    def lasts_s(self, now: float) -> float:
        """How long it has lasted, seconds."""
        return 0.0 if self.since is None else now - self.since

    def is_unreachable(self, now: float) -> bool:
        """Whether there is nobody, and waiting is no use."""
        if self.broken_off < UNREACHED_PARKS or self.unreached_since is None:
            return False
        return now - self.unreached_since >= (UNREACHED_LATER_S if self.answered else UNREACHED_FIRST_S)

    def is_too_long(self, now: float) -> bool:
        """Whether a person should see to it."""
        return self.lasts_s(now) >= AWAY_MOST_S


@dataclass(slots=True)
class Breaker:
    """A circuit breaker. Closed: requests start. Open: none starts. Half-open: one request at a time, the probe.

    A refusal (of the key, or for lack of money) opens it until a person resumes, `FAILURES_IN_A_ROW` failures in a row
    open it for a cool-down; it is half-open afterwards. A probe that is answered closes it; one that isn't opens it
    again. A cool-down is a tenth of the outage so far, so that its end is seen a tenth of it late at the most.
    """

    reason: str = ""
    opens_at: float | None = None
    refused: bool = False
    probe: str = ""
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

    def park(self, reason: str) -> None:
        """Open it until a person resumes."""
        self.reason, self.opens_at, self.refused = reason, None, True

    def on_signal(self, task_id: str, signal: ProviderSignal, resumes: int, outage: Outage, now: float) -> bool:
        """Take the answer to a request that started after `resumes` resumes; True where it closes the breaker."""
        probed = bool(task_id) and task_id == self.probe
        self.probe = "" if probed else self.probe
        if signal.kind is SignalKind.REFUSED:
            if resumes == self.resumes:  # else it was sent with the key that was
                self.park(signal.words)
        elif signal.kind in (SignalKind.OK, SignalKind.REJECTED):
            if probed:
                self.reason, self.opens_at = "", None
            return probed
        elif probed:
            self._open(f"the request that was tried came back: {signal.words}", outage, now)
        elif not self.reason and outage.in_a_row >= FAILURES_IN_A_ROW:
            self._open(f"no answer to {outage.in_a_row} requests in a row, the last: {signal.words}", outage, now)
        return False

    def _open(self, reason: str, outage: Outage, now: float) -> None:
        cool_down_s = min(max(COOL_DOWN_S, LATENESS * outage.lasts_s(now)), COOL_DOWN_MOST_S)
        self.reason, self.opens_at = reason, now + cool_down_s


@dataclass(slots=True)
class Retries:
    """A token bucket that bounds retries to a share of the requests.

    Each first attempt adds half a token and each success another half; a retry takes one token. So a task that succeeds
    has earned one retry, which sustains fault rates up to one half (p / (1 - p) retries per task). In an outage, where
    nothing succeeds, retries add at most half of the load. When the bucket is empty, retries aren't dropped: one starts
    per `TRICKLE_S`. Where an outage ends the bucket is full again: what it held back is due.

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

    def fill(self) -> None:
        """An outage has ended."""
        self.tokens, self.slot_at = self.most, -math.inf

    def take(self, now: float) -> float:
        """Take a token for one retry; returns when it may start, seconds."""
        if self.tokens >= 1.0:
            self.tokens -= 1.0
            return now
        self.slot_at = min(max(self.slot_at, now) + TRICKLE_S, now + TRICKLE_MOST_S)
        return self.slot_at
