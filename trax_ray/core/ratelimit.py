"""What each answer of a provider means for the requests that may go to it next.

One `ProviderLimits` per provider is fed every answer (`ProviderSignal`) and says how many requests may start: by a
window of concurrency, what the provider asks for in its headers, a breaker, and money. It changes only through its
`on_` methods, `configure` and `resume`, all with the time as an argument; questions change nothing. So a journal
replays to the same state, whoever asked what in between.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any, NamedTuple, TypeGuard

__all__ = ["FREE_RETRIES", "ProviderLimits", "ProviderSignal", "SignalKind", "Verdict"]

FREE_RETRIES = 100
"""How often a task may come back for free; after that it costs it retries all the same."""

INITIAL_WINDOW = 8

ROUND = 50
"""Answers in a round of the window, at least: a probe that is refused is 3 answers of 100, not every second one."""

CUT = 0.125
"""What refusals take of the window at first."""

HELPS = 0.5
"""A smaller window helps if it leaves less than this share of the refusals that there were before."""

QUIET = 0.002
"""Share of refusals that is expected of any provider."""

NOISE_MOST = 0.4
"""Above this share of refusals the window shrinks whether that helps or not."""

TRIAL_EVERY = 10
"""Rounds from one measurement of the noise to the next."""

GAP_LEAST_S, GAP_MOST_S, GAP_SHRINKS = 0.125, 30.0, 0.9
"""Bounds of the time between starts where one at a time is too many, and what each success leaves of it."""

PROBE_SHARE, PROBE_REST_MOST_S = 20.0, 60.0
"""After a wait that the provider asked for, 20 times as long without growth: waiting costs about 5 % of the time."""

SHORT_S, PARKS_ABOVE_S, WAIT_MOST_S = 10.0, 120.0, 7 * 86_400.0
"""Of Retry-After: up to the first it may be noise; above the second the provider is parked; the third is believed."""

FEW = 0.2
"""Share of an allowance that is spread over the time until more comes; what is above it may be used at once."""

TELLING = 0.1
"""Share of an allowance that has to be used before the time to the reset tells how it is refilled."""

BURST_S = 0.25
"""Spread starts that are due may catch up by so much: callers look now and then, not all the time."""

SLACK_S = 0.25
"""Between the decision to start and the provider's count of it, about."""

FAILURES_IN_A_ROW = 20
COOL_DOWN_S, COOL_DOWN_MOST_S = 30.0, 600.0

RETRY_EARNED = 0.5
RETRIES_LEAST = 10.0
TRICKLE_S, TRICKLE_MOST_S = 3.0, 600.0

_NANO = 1_000_000_000
_PLENTY = 1 << 30


class SignalKind(str, Enum):
    """What an answer was."""

    OK = "ok"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    CONNECTION = "connection"
    REFUSED = "refused"
    REJECTED = "rejected"
    BAD_ANSWER = "bad_answer"


@dataclass(frozen=True, slots=True)
class ProviderSignal:
    """What one request to a provider says about the provider, JSON types only.

    Args:
        kind: `ok`; `rate_limited` (429); `overloaded` (5xx); `connection` (none, lost, or too late); `refused` (401,
            402, 403, insufficient quota: the key or the money); `rejected` (400, 422: this request);
            `bad_answer` (a 200 with something else in it).
        status: HTTP status; 0 for none.
        retry_after_s: Seconds that the provider asked to wait; None where it said nothing.
        limit_requests: Requests in a full allowance; None here and below where the header was missing.
        remaining_requests: What is left of it.
        reset_requests_s: Seconds until it is full again.
        limit_tokens: The same for tokens.
        remaining_tokens: The same for tokens.
        reset_tokens_s: The same for tokens.
        used_tokens: Tokens that this request was counted for; 0 when unknown.
        latency_s: Seconds from sending to the answer.
        cost_usd: What it cost; None where nothing is known to be charged.
        request_id: The provider's name for it, for a person who asks them.
    """

    kind: SignalKind = SignalKind.OK
    status: int = 0
    retry_after_s: float | None = None
    limit_requests: int | None = None
    remaining_requests: int | None = None
    reset_requests_s: float | None = None
    limit_tokens: int | None = None
    remaining_tokens: int | None = None
    reset_tokens_s: float | None = None
    used_tokens: int = 0
    latency_s: float = 0.0
    cost_usd: float | None = None
    request_id: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", SignalKind(self.kind))

    @property
    def turned_away(self) -> bool:
        """Whether the provider said that it was asked too much: 429, 503 and 529. A 500 says nothing of the kind."""
        return self.kind is SignalKind.RATE_LIMITED or self.status in (503, 529)

    @property
    def failed(self) -> bool:
        """Whether the provider failed: a 5xx, or no word of it."""
        return self.kind in (SignalKind.OVERLOADED, SignalKind.CONNECTION)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer means for its own task.

    Args:
        costs_retry: Whether trying again is one of the task's retries. After a 429 with Retry-After it isn't, nor
            after a probe or a refusal: they say nothing of the task. Callers count those that cost nothing, and let
            them cost after `FREE_RETRIES`.
        retry_at: When the task may be tried again at the earliest, seconds; callers add their own back-off (`max`).
    """

    costs_retry: bool
    retry_at: float


def _usable(value: float | None) -> TypeGuard[float]:
    """Whether a header's figure is one: providers also send -1 and worse."""
    return value is not None and math.isfinite(value) and value >= 0


@dataclass(slots=True)
class _Window:
    """How many requests may be under way at the same time: additive increase, multiplicative decrease.

    It doubles per window of successes until requests are turned away, then grows by 1 per round of `max(ROUND, size)`
    answers, and by 2, 4, 8 ... after more rounds without a refusal. Refusals take an eighth, but not what is under
    way, for the provider has just said that one more than these is too many; where most answers are refusals, the
    size follows what is under way all the way down. The floor is 1; where one at a time is too many, there is a gap
    between starts that doubles with every refusal.

    A cut is a trial: it has to help. If refusals go on in the next round, all of whose requests were started since,
    they are noise that comes at any size: the cut is taken back and this share, with three standard deviations,
    means nothing any more, until it is measured again. Where it is more than `NOISE_MOST`, the size is halved instead,
    once per round, since one overload brings many refusals that were under way together. A 500 or a lost connection
    says nothing of what the provider has room for; when they are most of a round, halving is tried in the same way.
    A 429 whose headers say that the allowance is used up is the meter's matter, not the window's.

    Source:
        D.-M. Chiu, R. Jain, "Analysis of the Increase and Decrease Algorithms for Congestion Avoidance in Computer
        Networks", Computer Networks and ISDN Systems 17, 1989: additive increase with multiplicative decrease
        converges to full and fair use. RFC 5681, 3.1: slow start, halving, one reduction per window; RFC 7661: no
        growth while the window isn't used. The eighth: T. Kelly, "Scalable TCP", 2003; halving for single refusals
        would leave a quarter of the capacity unused. The trial and its figures are ours; what they achieve is shown
        by the simulations in `tests/unit/test_core_ratelimit.py`.
    """

    most: int
    size: int = 0
    slow_start: bool = True
    step: int = 1
    answers: int = 0
    turned_away: int = 0
    failures: int = 0
    full: bool = False
    last_turned_away: float = 0.0
    last_failures: float = 0.0
    noise: float = 0.0
    rounds: int = 0
    trial: str = ""
    trial_of: int = 0
    trial_slow: bool = False
    to_skip: int = 0
    rest_until: float = -math.inf
    rest_rounds: int = 0
    gap_s: float = 0.0
    free_at: float = -math.inf

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Start small, as with a provider of which nothing is known."""
        self.size = min(INITIAL_WINDOW, self.most)
        self.slow_start, self.step = True, 1
        self.noise, self.trial, self.to_skip, self.rest_rounds = 0.0, "", 0, 0
        self.last_turned_away = self.last_failures = self.gap_s = 0.0
        self.rest_until = self.free_at = -math.inf
        self._begin_round()

    def on_started(self, under_way: int, now: float) -> None:
        """So many are under way now."""
        self.full = self.full or under_way >= self.size
        self.free_at = now + self.gap_s

    def on_success(self) -> None:
        """A request was answered."""
        self.gap_s = self.gap_s * GAP_SHRINKS if self.gap_s > GAP_LEAST_S else 0.0
        if self.slow_start and self.full and not self.trial:
            self._grow(1)

    def on_turned_away(self, under_way: int, wait_s: float, now: float) -> bool:
        """The provider was asked too much while so many others were under way; it asked to wait `wait_s`.

        Returns:
            Whether that means anything; False where it is noise.
        """
        self.turned_away += 1
        if not under_way and not wait_s:
            self.gap_s = min(GAP_MOST_S, max(2 * GAP_LEAST_S, 2 * self.gap_s))
            self.free_at = max(self.free_at, now + self.gap_s)
        expected = max(self.noise, QUIET) * self._round()
        if self.turned_away <= expected + 3 * math.sqrt(expected) + 1:
            return not self.noise
        if not self.trial:
            self._begin_trial("turned away", self.size)
        most_are = self.turned_away >= 4 and 2 * self.turned_away > self.answers
        before = self.size
        self.size = max(1, min(self.size, max(under_way, 1 if most_are else _cut(self.trial_of))))
        if self.size < before:
            self.to_skip = self.answers + 1 + under_way
        self.rest_until = max(self.rest_until, now + min(PROBE_SHARE * wait_s, PROBE_REST_MOST_S))
        return True

    def on_failure(self) -> None:
        """The provider failed, by a 5xx or without a word."""
        self.failures += 1

    def on_answered(self, now: float) -> None:
        """Count an answer of whatever kind; call this last. What a round has shown takes effect at its end."""
        self.answers += 1
        if self.to_skip:
            if self.answers >= self.to_skip:
                self.to_skip = 0
                self._begin_round()
        elif self.answers >= self._round():
            self._end_round(now)

    def _end_round(self, now: float) -> None:
        turned_away, failures = self.turned_away / self.answers, self.failures / self.answers
        self.rounds += 1
        self.rest_rounds -= self.rest_rounds > 0
        full = self.full
        self._begin_round()
        if self.trial:
            share, before = (
                (failures, self.last_failures) if self.trial == "failures" else (turned_away, self.last_turned_away)
            )
            self._end_trial(share, before)
            return
        self.last_turned_away, self.last_failures = turned_away, failures
        if failures > 0.5 and not self.rest_rounds and self.size > 1:
            self._begin_trial("failures", self.size // 2)
        elif self.noise and self.rounds % TRIAL_EVERY == 0:
            self._begin_trial("turned away", _cut(self.size))
        elif full and not self.slow_start and not self.gap_s and now >= self.rest_until:
            self._grow(self.step)
            self.step = min(2 * self.step, max(1, self.size // 4))

    def _begin_trial(self, of: str, size: int) -> None:
        """What is under way was started at the old size: its answers, so many, don't count."""
        self.trial, self.trial_of, self.trial_slow = of, self.size, self.slow_start
        self.to_skip = self.answers + self.size
        self.size = size

    def _end_trial(self, share: float, before: float) -> None:
        of, self.trial = self.trial, ""
        helped = share <= 1 / self._round() or share < HELPS * before
        if of == "failures":
            self.rest_rounds = 0 if helped else TRIAL_EVERY
        else:
            self.noise = 0.0 if helped or share > NOISE_MOST else share
            self.last_turned_away = share
            if share > NOISE_MOST and self.size > 1:
                self._begin_trial(of, self.size // 2)
                self.trial_slow = False
                return
            helped = helped or share > NOISE_MOST
        if helped:
            self.slow_start, self.step = False, 1
        else:
            self.size, self.slow_start = min(self.trial_of, self.most), self.trial_slow
            self.rest_until = -math.inf

    def _begin_round(self) -> None:
        self.answers = self.turned_away = self.failures = 0
        self.full = False

    def _round(self) -> int:
        return max(ROUND, self.size)

    def _grow(self, by: int) -> None:
        self.size = min(self.most, self.size + by)


def _cut(size: int) -> int:
    return max(1, min(size - 1, int(size * (1 - CUT))))


class _Told(NamedTuple):
    """What the headers of an answer say of one allowance."""

    limit: int | None
    remaining: int | None
    reset_s: float | None
    latency_s: float


@dataclass(slots=True)
class _Meter:
    """An allowance that the provider's headers tell of: so many requests or tokens, and when it is full again.

    What is left is what the newest answer said, less what has started since that request was sent. When a fifth or
    less is left, it is spread over the time until more comes.

    There are two kinds, and the headers tell which: a bucket that is refilled all the time (OpenAI's), where the
    time to the reset grows with what is missing; and windows, each with a full allowance, where it runs down with
    the clock. Until that shows it is taken for a window: nothing comes before the reset. An answer of a window
    that took longer than the window tells no more than the limit.

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
    starts: deque[float] = field(default_factory=lambda: deque(maxlen=1024))

    def on_started(self, now: float) -> None:
        """A request starts."""
        self.starts.append(now)
        if not self.limit:
            return
        self._advance(now)
        if self.left - self._cost() < FEW * self.limit:
            self.due_at = max(self.due_at, now - BURST_S) + self._interval_s(self.left, self.reset_at, now)
        self.left -= self._cost()

    def on_headers(self, told: _Told, under_way: int, now: float) -> None:
        """An answer told what is left, while so many requests were under way."""
        if not _usable(told.remaining) or not _usable(told.reset_s) or (told.limit is not None and told.limit <= 0):
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
        left = remaining - self._cost() * min(under_way, len(self.starts))
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
        at_once = int((left - FEW * self.limit) / self._cost())
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


@dataclass(slots=True)
class _Breaker:
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
                self.reason, self.opens_at, self.refused = f"refused: {_words(signal)}", None, True
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
                self._open(f"the request that was tried came back: {_words(signal)}", now)
            elif not self.reason and self.in_a_row >= FAILURES_IN_A_ROW:
                self._open(f"no answer to {self.in_a_row} requests in a row, the last: {_words(signal)}", now)
        return False

    def _open(self, reason: str, now: float) -> None:
        self.reason, self.opens_at = reason, now + self.cool_down_s
        self.cool_down_s = min(2 * self.cool_down_s, COOL_DOWN_MOST_S)
        self.since_closed = 0


@dataclass(slots=True)
class _Retries:
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


class ProviderLimits:
    """What one provider's answers mean for the requests that may go to it next.

    Times are seconds of a clock that is given with every call; an earlier time counts as the latest one.

    Args:
        max_workers: Requests under way at the same time at the most, 1 or more.
        max_cost_usd: What may be spent; None sets no cap.
        first_window: Requests at the same time that are tried at first.

    Attributes:
        spent_usd: What the answers so far have cost, as far as they tell.
    """

    def __init__(
        self, max_workers: int, *, max_cost_usd: float | None = None, first_window: int = INITIAL_WINDOW
    ) -> None:
        self._now = -math.inf
        self._max_cost: int | None = None
        self._spent = self._reserved = 0
        self._running: dict[str, tuple[int, int]] = {}  # resumes before it, estimate
        self._held_until = -math.inf
        self._held_for = ""
        self._parked = False
        self._breaker = _Breaker()
        self._requests, self._tokens = _Meter(), _Meter(cost=0.0)
        self._window = _Window(max(1, max_workers))
        self._retries = _Retries(max(RETRIES_LEAST, max_workers), max(RETRIES_LEAST, max_workers))
        self.configure(max_workers=max_workers, max_cost_usd=max_cost_usd)
        self._window.size = min(first_window, self._window.most)

    # What happens

    def configure(self, *, max_workers: int, max_cost_usd: float | None) -> None:
        """Take other ceilings, as of a later run; what was learned stays."""
        self._max_cost = None if max_cost_usd is None else round(max_cost_usd * _NANO)
        self._window.most = max(1, max_workers)
        self._window.size = min(self._window.size, self._window.most)
        self._retries.most = max(RETRIES_LEAST, float(max_workers))
        self._retries.tokens = min(self._retries.tokens, self._retries.most)

    def on_started(self, task_id: str, now: float, *, retry: bool = False, estimate_usd: float | None = None) -> None:
        """An attempt starts.

        Args:
            task_id: Whose; a task has one attempt under way at the most.
            now: When.
            retry: Whether it isn't the task's first.
            estimate_usd: What it will cost, about; None where no price is known.
        """
        now = self._at(now)
        self.on_lost(task_id, now)
        estimate = round(estimate_usd * _NANO) if _usable(estimate_usd) else 0
        self._running[task_id] = self._breaker.resumes, estimate
        self._reserved += estimate
        self._window.on_started(len(self._running), now)
        self._requests.on_started(now)
        self._tokens.on_started(now)
        self._breaker.on_started(task_id)
        if not retry:
            self._retries.earn()

    def on_lost(self, task_id: str, now: float) -> None:
        """An attempt ended without an answer of the provider: cancelled, preempted, or its process died."""
        self._at(now)
        self._reserved -= self._running.pop(task_id, (0, 0))[1]
        if self._breaker.probe == task_id:
            self._breaker.probe = ""

    def on_all_lost(self, now: float) -> None:
        """No attempt is under way any more, as after the death of the coordinator."""
        for task_id in list(self._running):
            self.on_lost(task_id, now)

    def on_signal(self, task_id: str, signal: ProviderSignal, now: float) -> Verdict:
        """An attempt came back with an answer, or with none.

        Args:
            task_id: Whose; of an attempt that isn't known to be under way the answer counts all the same.
            signal: The answer.
            now: When.
        """
        now = self._at(now)
        resumes, _ = self._running.get(task_id, (self._breaker.resumes, 0))
        probed = task_id == self._breaker.probe
        closes = self._breaker.on_signal(task_id, signal, resumes, now)
        self.on_lost(task_id, now)
        if _usable(signal.cost_usd):
            self._spent += round(signal.cost_usd * _NANO)
        self._read_headers(signal, now)
        if closes:
            self._window.restart()
        if self._resize(signal, now):
            self._hold(signal, resumes, now)
        if signal.kind is SignalKind.OK:
            self._retries.earn()
        return self._judge(signal, probed, now)

    def resume(self, now: float) -> None:
        """Somebody says to go on: a provider that was parked is tried with one request. Others aren't concerned."""
        now = self._at(now)
        if self._parked or self._breaker.reason:
            self._breaker.half_open(now)
            self._held_until, self._held_for, self._parked = now, "", False

    # What the caller asks

    def allowed(self, running: int, now: float) -> int:
        """How many more requests may start now, money aside from the next one's (`may_start`).

        Args:
            running: Attempts under way at this provider.
            now: The time.
        """
        now = max(now, self._now)
        if now < max(self._held_until, self._window.free_at) or self.cost_capped:
            return 0
        room = self._breaker.may_start(now) if self._breaker.reason else self._window.size - running
        return max(0, min(room, self._requests.may_start(now), self._tokens.may_start(now))) if room > 0 else 0

    def may_start(self, estimate_usd: float | None) -> bool:
        """Whether the money suffices for one more request, all that are under way counted as estimated."""
        if self._max_cost is None:
            return True
        estimate = round(estimate_usd * _NANO) if _usable(estimate_usd) else 0
        total = self._spent + self._reserved
        return total < self._max_cost and total + estimate <= self._max_cost

    def next_at(self, now: float) -> float | None:
        """When requests may start again by time alone, seconds.

        Returns:
            None where time isn't what they wait for: they may start now, or wait for an answer or a person.
        """
        now = max(now, self._now)
        if self._breaker.reason and (self._breaker.opens_at is None or self._breaker.probe):
            return None
        if self.cost_capped:
            return None
        times = [self._held_until, self._window.free_at, self._breaker.opens_at or -math.inf]
        times += [meter.next_at(now) or -math.inf for meter in (self._requests, self._tokens)]
        latest = max(times)
        return latest if latest > now else None

    @property
    def parked_until(self) -> float | None:
        """Until when the provider asked not to be asked, where that is long; None where it didn't."""
        return self._held_until if self._parked and self._held_until > self._now else None

    @property
    def refused(self) -> str:
        """Why the provider refuses to work for this user until somebody acts; empty where it doesn't."""
        return self._breaker.reason if self._breaker.refused else ""

    @property
    def cost_capped(self) -> bool:
        """Whether the money is used up, or will be by what is under way."""
        return not self.may_start(None)

    @property
    def spent_usd(self) -> float:
        """What the answers have cost so far."""
        return self._spent / _NANO

    @property
    def in_flight_usd(self) -> float:
        """What is under way will cost, by its estimates."""
        return self._reserved / _NANO

    @property
    def window(self) -> int:
        """How many requests may be under way at the same time."""
        return self._window.size

    def why(self, now: float) -> str:
        """Why not more requests start, in words for a person; empty where nothing is in the way."""
        now = max(now, self._now)
        if self._breaker.reason:
            wait = self._breaker.opens_at
            if wait is not None and wait > now:
                return f"{self._breaker.reason}; one request is tried in {wait - now:.0f} s"
            return self._breaker.reason + ("; one request is being tried" if self._breaker.probe else "")
        if self.cost_capped and self._max_cost is not None:
            under_way = f" and {self.in_flight_usd:.2f} under way" if self._reserved else ""
            return f"cost cap: {self.spent_usd:.2f} USD spent{under_way} of {self._max_cost / _NANO:.2f}"
        if now < self._held_until:
            state = "parked" if self._parked else "waits"
            return f"{state} {self._held_until - now:.0f} s, as the provider asked ({self._held_for})"
        for meter, name in ((self._requests, "requests"), (self._tokens, "tokens")):
            if meter.next_at(now) is not None:
                return f"rate limit: {name} are spread until the allowance of {meter.limit:.0f} is full again"
        if self._window.gap_s:
            return f"rate limit: one request every {self._window.gap_s:.1f} s, as the provider takes no more"
        if self.window < self._window.most and (self._window.trial or not self._window.slow_start):
            return f"rate limit: at most {self.window} at the same time, as the provider takes no more"
        return ""

    def dump(self) -> dict[str, Any]:
        """The whole state as JSON types: equal dumps are equal states."""
        parts = {
            "window": asdict(self._window),
            "requests": _dumped(self._requests),
            "tokens": _dumped(self._tokens),
            "breaker": asdict(self._breaker),
            "retries": asdict(self._retries),
            "hold": [self._held_until, self._held_for, self._parked],
            "money_nano_usd": [self._spent, self._reserved, self._max_cost],
            "running": {task_id: list(entry) for task_id, entry in self._running.items()},
            "now": self._now,
        }
        return {name: _finite(part) for name, part in parts.items()}

    # The parts

    def _at(self, now: float) -> float:
        self._now = max(self._now, now)
        return self._now

    def _read_headers(self, signal: ProviderSignal, now: float) -> None:
        if signal.used_tokens > 0:
            self._tokens.cost += (signal.used_tokens - self._tokens.cost) * (0.125 if self._tokens.cost else 1.0)
        latency_s = signal.latency_s if _usable(signal.latency_s) else 0.0
        told = _Told(signal.limit_requests, signal.remaining_requests, signal.reset_requests_s, latency_s)
        self._requests.on_headers(told, len(self._running), now)
        told = _Told(signal.limit_tokens, signal.remaining_tokens, signal.reset_tokens_s, latency_s)
        self._tokens.on_headers(told, len(self._running), now)

    def _hold(self, signal: ProviderSignal, resumes: int, now: float) -> None:
        """Heed Retry-After. What was asked before somebody said to go on doesn't park again."""
        wait_s = _wait_s(signal)
        if not wait_s or now + wait_s <= self._held_until:
            return
        parks = wait_s > PARKS_ABOVE_S
        if parks and resumes < self._breaker.resumes:
            return
        self._held_until, self._held_for, self._parked = now + wait_s, _words(signal), parks

    def _resize(self, signal: ProviderSignal, now: float) -> bool:
        """Let the window learn; False where what the answer asks for concerns its own task only."""
        if self._breaker.reason or signal.kind is SignalKind.REFUSED:
            return True
        under_way, wait_s, concerns_all = len(self._running), _wait_s(signal), True
        if signal.kind is SignalKind.OK:
            self._window.on_success()
        elif signal.turned_away and (signal.remaining_requests == 0 or signal.remaining_tokens == 0):
            pass  # the allowance per minute is used up, and the meter knows
        elif signal.turned_away:
            concerns_all = self._window.on_turned_away(under_way, wait_s, now) or wait_s > SHORT_S
        elif signal.failed:
            self._window.on_failure()
        self._window.on_answered(now)
        return concerns_all

    def _judge(self, signal: ProviderSignal, probed: bool, now: float) -> Verdict:
        if signal.kind in (SignalKind.OK, SignalKind.REJECTED, SignalKind.REFUSED):
            return Verdict(costs_retry=signal.kind is not SignalKind.REFUSED, retry_at=now)
        asked = signal.kind is SignalKind.RATE_LIMITED and _usable(signal.retry_after_s)
        retry_at = max(self._retries.take(now), self._held_until, now + _wait_s(signal))
        return Verdict(costs_retry=not asked and not probed, retry_at=retry_at)


def _wait_s(signal: ProviderSignal) -> float:
    return min(signal.retry_after_s, WAIT_MOST_S) if _usable(signal.retry_after_s) else 0.0


def _words(signal: ProviderSignal) -> str:
    """An answer in a few words."""
    number = f" by the request {signal.request_id}" if signal.request_id else ""
    return f"{signal.kind.value.replace('_', ' ')}{f', status {signal.status}' if signal.status else ''}{number}"


def _dumped(meter: _Meter) -> dict[str, Any]:
    return {
        name: list(meter.starts) if name == "starts" else getattr(meter, name) for name in _Meter.__dataclass_fields__
    }


def _finite(value: Any) -> Any:
    """The same with None for infinities, which JSON doesn't have."""
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
