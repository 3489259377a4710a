"""Rate limits, breaker, retry budget and money: each rule by example, and all of them against simulated providers."""

from __future__ import annotations

import heapq
import json
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trax_ray.core.limits.ratelimit import ProviderLimits
from trax_ray.core.limits.signals import ProviderSignal, SignalKind, Verdict
from trax_ray.core.state.events import encode

OK = ProviderSignal(status=200, latency_s=1.0)
TOO_MANY = ProviderSignal(SignalKind.RATE_LIMITED, 429, latency_s=0.1)
BROKEN = ProviderSignal(SignalKind.OVERLOADED, 500, latency_s=0.1)
LOST = ProviderSignal(SignalKind.CONNECTION, latency_s=0.1)
NO_KEY = ProviderSignal(SignalKind.REFUSED, 401, request_id="req_1")
NOT_THIS = ProviderSignal(SignalKind.REJECTED, 400)
GARBAGE = ProviderSignal(SignalKind.BAD_ANSWER, 200)


def wait(seconds: float) -> ProviderSignal:
    return replace(TOO_MANY, retry_after_s=seconds)


class Caller:
    """A caller that starts whatever may start, with tasks named by numbers; `now` stands still unless told."""

    def __init__(self, max_workers: int = 64, **settings: Any) -> None:
        self.limits = ProviderLimits(max_workers, **settings)
        self.now = 1000.0
        self.running: list[str] = []
        self.count = 0

    def start(self, most: int = 10_000, **about: Any) -> int:
        """Start what may start; how many that are."""
        started = min(most, self.limits.allowed(len(self.running), self.now))
        for _ in range(started):
            self.count += 1
            self.running.append(str(self.count))
            self.limits.on_started(self.running[-1], self.now, **about)
        return started

    def answer(self, signal: ProviderSignal = OK, count: int = 1) -> list[Verdict]:
        """The oldest attempts come back."""
        return [self.limits.on_signal(self.running.pop(0), signal, self.now) for _ in range(count)]

    def answer_all(self, signal: ProviderSignal = OK) -> list[Verdict]:
        return self.answer(signal, len(self.running))

    def rounds(self, count: int) -> None:
        """So many seconds, each with a full window of successes."""
        for _ in range(count):
            self.start()
            self.now += 1.0
            self.answer_all()

    def allowed(self) -> int:
        return self.limits.allowed(len(self.running), self.now)


# Signals


def test_a_signal_is_json_without_its_defaults() -> None:
    assert encode(OK) == {"status": 200, "latency_s": 1.0}
    written = json.loads(json.dumps(encode(wait(2.0))))
    assert written == {"kind": "rate_limited", "status": 429, "retry_after_s": 2.0, "latency_s": 0.1}
    assert ProviderSignal(**written) == wait(2.0)


def test_only_429_503_and_529_say_that_it_was_too_much() -> None:
    assert [replace(BROKEN, status=status).turned_away for status in (500, 502, 503, 504, 529)] == [0, 0, 1, 0, 1]
    assert TOO_MANY.turned_away
    assert not any(signal.turned_away for signal in (OK, LOST, NO_KEY, NOT_THIS, GARBAGE))


# The window


def test_it_starts_small_and_doubles() -> None:
    caller = Caller(max_workers=100)
    seen = []
    for _ in range(5):
        seen.append(caller.start())
        caller.now += 1
        caller.answer_all()
    assert seen == [8, 16, 32, 64, 100]
    assert Caller(max_workers=3).start() == 3


def test_it_doesn_t_grow_while_it_isn_t_used() -> None:
    caller = Caller()
    for _ in range(500):
        caller.start(2)
        caller.answer_all()
    assert caller.limits.window == 8


def test_what_is_turned_away_leaves_what_is_under_way() -> None:
    caller = Caller()
    caller.start()
    caller.now += 0.1
    caller.answer(TOO_MANY, 7)
    assert caller.limits.window == 1, "one runs, and one more was too many"
    assert caller.allowed() == 0
    assert caller.limits.why(caller.now) == "rate limit: at most 1 at the same time, as the provider takes no more"


def test_the_floor_is_one_request_and_then_a_gap_that_doubles() -> None:
    caller = Caller()
    caller.start()
    caller.answer_all(TOO_MANY)
    gaps = []
    for _ in range(9):
        assert caller.limits.window == 1
        assert caller.allowed() == 0
        at = caller.limits.next_at(caller.now)
        assert at is not None
        gaps.append(at - caller.now)
        caller.now = at
        assert caller.start() == 1
        caller.answer(TOO_MANY)
    assert gaps == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert "one request every 30.0 s" in caller.limits.why(caller.now)
    for _ in range(60):
        caller.now = caller.limits.next_at(caller.now) or caller.now
        caller.start()
        caller.answer()
    assert caller.limits.next_at(caller.now) is None


def test_after_a_refusal_it_grows_by_one_per_round() -> None:
    caller = Caller()
    caller.start()
    caller.answer(TOO_MANY, 5)
    caller.answer_all()
    assert caller.limits.window == 3
    caller.rounds(32)
    assert caller.limits.window == 3, "the round after a cut shows whether it helped"
    caller.rounds(10)
    assert caller.limits.window == 4


def test_a_500_or_a_lost_connection_now_and_then_costs_no_concurrency() -> None:
    caller = Caller()
    for number in range(400):
        caller.start()
        caller.answer(BROKEN if number % 3 == 0 else LOST if number % 3 == 1 else OK, len(caller.running) // 2)
        caller.answer_all()
    assert caller.limits.window == 64


@pytest.mark.parametrize(("helps", "sizes"), [(True, [64, 32, 33]), (False, [64, 32, 64])])
def test_when_most_requests_fail_half_as_many_are_tried_and_kept_if_that_helps(helps: bool, sizes: list[int]) -> None:
    caller = Caller()
    caller.rounds(5)
    seen = [caller.limits.window]
    for number in range(500):
        caller.start()
        bears = helps and len(caller.running) <= 32
        caller.answer(OK if bears or number % 3 == 0 else BROKEN)
        if caller.limits.window != seen[-1]:
            seen.append(caller.limits.window)
    assert seen[:3] == sizes


def test_a_429_that_the_headers_explain_is_no_sign_of_too_many_at_the_same_time() -> None:
    caller = Caller()
    caller.start()
    used_up = replace(TOO_MANY, limit_requests=100, remaining_requests=0, reset_requests_s=30.0)
    caller.answer(used_up, 8)
    assert caller.limits.window == 8
    assert caller.limits.next_at(caller.now) == caller.now + 30


# What the provider asks for


def test_a_short_retry_after_holds_back_all_starts() -> None:
    caller = Caller()
    caller.start()
    caller.now += 1
    (verdict,) = caller.answer(wait(5.0))
    assert verdict == Verdict(costs_retry=False, retry_at=caller.now + 5)
    assert caller.allowed() == 0
    assert caller.limits.next_at(caller.now) == caller.now + 5
    assert caller.limits.why(caller.now) == "waits 5 s, as the provider asked (rate limited, status 429)"
    assert caller.limits.parked_until is None
    caller.answer(wait(2.0))
    assert caller.limits.next_at(caller.now) == caller.now + 5, "the longest wait counts"
    caller.now += 5
    assert caller.allowed() > 0


def test_a_long_retry_after_parks_the_provider() -> None:
    caller = Caller()
    caller.start()
    caller.answer(wait(1200.0))
    assert caller.limits.parked_until == caller.now + 1200
    assert caller.limits.why(caller.now) == "parked 1200 s, as the provider asked (rate limited, status 429)"
    assert caller.allowed() == 0
    caller.now += 1200
    assert caller.allowed() > 0


def test_a_parked_provider_is_tried_with_one_request_when_somebody_says_to_go_on() -> None:
    caller = Caller()
    caller.start()
    caller.answer(wait(1200.0))
    caller.limits.resume(caller.now)
    assert caller.limits.parked_until is None
    assert caller.start() == 1
    probe = caller.running.pop()
    caller.answer(wait(1000.0), len(caller.running))
    assert caller.limits.parked_until is None, "they were sent before"
    caller.limits.on_signal(probe, OK, caller.now)
    assert caller.start() == 8


def test_to_go_on_changes_nothing_where_nothing_is_parked() -> None:
    caller = Caller()
    caller.start()
    caller.answer(wait(5.0))
    before = caller.limits.dump()
    caller.limits.resume(caller.now)
    assert caller.limits.dump() == before


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0])
def test_headers_that_make_no_sense_are_no_headers(seconds: float) -> None:
    caller = Caller()
    caller.start()
    senseless = ProviderSignal(
        SignalKind.RATE_LIMITED,
        429,
        retry_after_s=seconds,
        limit_requests=-1,
        remaining_requests=-1,
        reset_requests_s=seconds,
        limit_tokens=0,
        remaining_tokens=5,
        reset_tokens_s=0.0,
        latency_s=seconds,
        cost_usd=seconds,
    )
    (verdict,) = caller.answer(senseless)
    assert verdict.costs_retry
    assert caller.limits.spent_usd == 0
    assert caller.limits.next_at(caller.now) is None
    json.dumps(caller.limits.dump(), allow_nan=False)


def test_the_last_fifth_of_an_allowance_is_spread_until_the_reset() -> None:
    caller = Caller()
    caller.start()
    caller.now += 1
    told = replace(OK, limit_requests=60, remaining_requests=16, reset_requests_s=30.0)
    caller.answer_all(told)
    assert caller.start() == 4, "more than a fifth is left: at once"
    starts = [caller.now]
    assert caller.start() == 1
    while len(starts) < 12:
        at = caller.limits.next_at(caller.now)
        assert at is not None
        assert "requests are spread" in caller.limits.why(caller.now)
        caller.now = at
        assert caller.start() == 1
        starts.append(at)
        caller.answer_all(NOT_THIS)
    assert 1028 < starts[-1] <= 1031
    assert max(later - sooner for sooner, later in pairwise(starts)) < 3


def test_tokens_count_by_what_requests_have_used() -> None:
    caller = Caller()
    caller.start()
    caller.now += 1
    told = replace(OK, limit_tokens=10_000, remaining_tokens=3000, reset_tokens_s=60.0, used_tokens=500)
    caller.answer_all(told)
    assert caller.start() == 2, "1,000 of 3,000 tokens are more than a fifth of 10,000"
    assert caller.start() == 1
    assert caller.limits.why(caller.now).startswith("rate limit: tokens are spread")
    caller.now += 60
    assert caller.start() > 5


# The breaker


def test_a_refusal_stops_everything_until_somebody_says_to_go_on() -> None:
    caller = Caller()
    caller.start()
    (verdict,) = caller.answer(NO_KEY)
    assert not verdict.costs_retry
    assert caller.limits.refused == "refused, status 401 by the request req_1", "said once"
    caller.answer_all()
    caller.now += 1e6
    assert caller.allowed() == 0
    assert caller.limits.next_at(caller.now) is None
    assert caller.limits.why(caller.now) == caller.limits.refused


def test_one_probe_closes_it_or_opens_it_again() -> None:
    caller = Caller()
    caller.rounds(4)
    caller.start()
    caller.answer(NO_KEY)
    caller.limits.resume(caller.now)
    old = caller.running
    caller.running = []
    assert caller.start() == 1
    assert caller.allowed() == 0
    assert caller.start() == 0
    for task_id in old:
        caller.limits.on_signal(task_id, NO_KEY, caller.now)
    assert not caller.limits.refused, "they were sent with the key that was"
    caller.answer(NO_KEY)
    assert caller.limits.refused
    assert caller.allowed() == 0
    caller.limits.resume(caller.now)
    assert caller.start() == 1
    caller.answer()
    assert caller.start() == 8, "the window starts small again"


@pytest.mark.parametrize("lost", [True, False])
def test_a_probe_that_tells_nothing_is_followed_by_another(lost: bool) -> None:
    caller = Caller()
    caller.start()
    caller.answer_all(NO_KEY)
    caller.limits.resume(caller.now)
    caller.start()
    if lost:
        caller.limits.on_lost(caller.running.pop(), caller.now)
    else:
        (verdict,) = caller.answer(GARBAGE)
        assert not verdict.costs_retry, "it was sent to try the provider, not the task"
        assert caller.allowed() == 0
        caller.now = caller.limits.next_at(caller.now) or 0.0
    assert caller.start() == 1
    caller.answer(NOT_THIS)
    assert caller.start() == 8, "a request that is rejected shows that the key is accepted"


def test_twenty_failures_in_a_row_open_it_for_a_tenth_of_the_time_that_they_last() -> None:
    caller = Caller()
    for number in range(20):
        assert caller.limits.next_at(caller.now) is None, number
        caller.start(1)
        caller.answer(replace(BROKEN, status=502) if number % 2 else BROKEN)
    assert caller.limits.why(caller.now).startswith(
        "no answer to 20 requests in a row, the last: overloaded, status 502; one request is tried in 1 s"
    )
    waits = []
    began = caller.now
    while caller.now < began + 1000:
        at = caller.limits.next_at(caller.now)
        assert at is not None
        assert caller.allowed() == 0
        waits.append((caller.now - began, at - caller.now))
        caller.now = at
        assert caller.start() == 1
        assert caller.allowed() == 0
        caller.answer(BROKEN)
    for lasted_s, wait_s in waits:
        assert wait_s == pytest.approx(min(max(1.0, 0.1 * lasted_s), 60.0))


def test_an_outage_that_follows_another_begins_anew() -> None:
    caller = Caller()

    def outage() -> float:
        while caller.limits.next_at(caller.now) is None:
            caller.start(1)
            caller.answer(BROKEN)
        length = (caller.limits.next_at(caller.now) or 0.0) - caller.now
        caller.now += length
        caller.start()
        caller.answer()
        return length

    assert outage() == 1
    assert outage() == 1


def test_a_success_between_failures_keeps_it_closed() -> None:
    caller = Caller()
    for _ in range(100):
        for _ in range(19):
            caller.start(1)
            caller.answer(LOST)
        caller.start(1)
        caller.answer()
    assert caller.limits.next_at(caller.now) is None


# The retry budget


def test_retries_take_what_first_attempts_and_successes_have_earned() -> None:
    caller = Caller(max_workers=10)
    caller.start(8)
    verdicts = caller.answer_all(GARBAGE)
    assert [verdict.retry_at for verdict in verdicts] == [caller.now] * 8
    caller.start(8, retry=True)
    verdicts = caller.answer_all(GARBAGE)
    assert [verdict.retry_at - caller.now for verdict in verdicts] == [0, 0, 3, 6, 9, 12, 15, 18], "one per 3 seconds"
    assert all(verdict.costs_retry for verdict in verdicts)
    caller.start(8)
    caller.answer_all()
    caller.start(8)
    assert caller.answer(GARBAGE)[0].retry_at == caller.now


def test_what_isn_t_tried_again_takes_nothing() -> None:
    caller = Caller(max_workers=10)
    for _ in range(50):
        caller.start(1, retry=True)
        assert caller.answer(NOT_THIS)[0].retry_at == caller.now
    caller.start(1, retry=True)
    assert caller.answer(GARBAGE)[0].retry_at == caller.now


def requests_in(fault_share: float, tasks: int, seconds: float) -> tuple[int, int]:
    """First attempts and retries that 64 workers make in a time, each lasting a second."""
    caller = Caller()
    draw = random.Random(1)
    waiting: list[tuple[float, str]] = []
    first = retries = 0
    while caller.now < 1000 + seconds:
        while caller.allowed():
            retry = bool(waiting) and waiting[0][0] <= caller.now
            if not retry and first == tasks:
                break
            if retry:
                task_id = heapq.heappop(waiting)[1]
                retries += 1
            else:
                first += 1
                task_id = f"{first:06}"
            caller.running.append(task_id)
            caller.limits.on_started(task_id, caller.now, retry=retry)
        caller.now += 1.0
        for task_id in list(caller.running):
            signal = GARBAGE if draw.random() < fault_share else OK
            (verdict,) = caller.answer(signal)
            if signal is GARBAGE:
                heapq.heappush(waiting, (verdict.retry_at, task_id))
    return first, retries


def test_the_budget_bears_a_third_of_faults_and_makes_an_outage_half_worse_at_most() -> None:
    first, retries = requests_in(0.33, 2000, 120)
    assert first == 2000
    assert retries == pytest.approx(2000 * 0.33 / 0.67, rel=0.1)
    first, retries = requests_in(1.0, 100_000, 300)
    assert retries <= 64 + 0.5 * first + 300 / 3


# Money


def test_nothing_starts_that_could_exceed_the_cap() -> None:
    caller = Caller(max_cost_usd=1.0)
    assert caller.start(4, estimate_usd=0.2) == 4
    assert caller.limits.may_start(0.2)
    assert not caller.limits.may_start(0.21)
    assert caller.limits.in_flight_usd == pytest.approx(0.8)
    caller.answer(replace(OK, cost_usd=0.25))
    assert not caller.limits.may_start(0.2)
    assert caller.limits.may_start(0.15)
    caller.answer(replace(OK, cost_usd=0.7))
    assert caller.limits.cost_capped
    assert caller.allowed() == 0
    assert caller.limits.next_at(caller.now) is None
    assert caller.limits.why(caller.now) == "cost cap: 0.95 USD spent and 0.40 in flight of 1.00"
    caller.limits.on_all_lost(caller.now)
    assert caller.limits.spent_usd == pytest.approx(1.35), "a lost request counts as paid"
    assert not caller.limits.may_start(0.05)
    caller.limits.configure(max_workers=64, max_cost_usd=None)
    assert caller.limits.may_start(1e9)


def test_what_fails_without_a_price_gives_its_estimate_back() -> None:
    caller = Caller(max_cost_usd=1.0)
    caller.start(1, estimate_usd=1.0)
    assert caller.limits.cost_capped
    caller.answer(LOST)
    assert not caller.limits.cost_capped
    assert caller.limits.spent_usd == 0


@given(
    st.floats(0.0, 5.0),
    st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)), max_size=60),
    st.integers(1, 8),
)
def test_the_cap_is_exceeded_by_no_more_than_what_is_under_way(
    cap: float, prices: list[tuple[float, float]], workers: int
) -> None:
    caller = Caller(max_workers=workers, max_cost_usd=cap)
    under_way: list[tuple[float, float]] = []
    spent = 0.0
    for estimate, price in prices:
        if not caller.allowed() or not caller.limits.may_start(estimate):
            if not under_way:
                break
            _, paid = under_way.pop(0)
            caller.answer(replace(OK, cost_usd=paid))
            spent += paid
            continue
        assert spent + sum(entry[0] for entry in under_way) + estimate <= cap + 1e-6
        caller.start(1, estimate_usd=estimate)
        under_way.append((estimate, price))
    assert caller.limits.spent_usd == pytest.approx(spent, abs=1e-6)


# All of them, whatever comes

seconds = st.sampled_from([0.0, 0.01, 0.3, 1.0, 7.0, 30.0, 500.0])
signals = st.builds(
    ProviderSignal,
    kind=st.sampled_from([SignalKind.OK, SignalKind.OK, SignalKind.OK, *SignalKind]),
    status=st.sampled_from([0, 200, 429, 500, 503]),
    retry_after_s=st.none() | st.none() | seconds,
    limit_requests=st.none() | st.integers(-1, 100),
    remaining_requests=st.none() | st.integers(-1, 100),
    reset_requests_s=st.none() | seconds,
    limit_tokens=st.none() | st.integers(0, 10**6),
    remaining_tokens=st.none() | st.integers(0, 10**6),
    reset_tokens_s=st.none() | seconds,
    used_tokens=st.sampled_from([0, 0, 10, 100_000]),
    latency_s=seconds,
    cost_usd=st.none() | st.floats(0, 0.2),
)
steps = st.one_of(
    st.tuples(st.just("start"), st.integers(1, 20), st.booleans()),
    st.tuples(st.just("answer"), st.integers(0, 20), signals),
    st.tuples(st.just("time"), seconds, st.none()),
    st.tuples(st.just("wake"), st.none(), st.none()),
    st.tuples(st.just("lost"), st.integers(0, 20), st.none()),
    st.tuples(st.just("resume"), st.none(), st.none()),
)


def play(caller: Caller, step: tuple[Any, ...], ask: Callable[[Caller], None]) -> None:
    what, first, second = step
    if what == "start":
        caller.start(first, retry=second, estimate_usd=0.1)
    elif what in ("answer", "lost") and caller.running:
        task_id = caller.running.pop(first % len(caller.running))
        if what == "answer":
            caller.limits.on_signal(task_id, second, caller.now)
        else:
            caller.limits.on_lost(task_id, caller.now)
    elif what == "time":
        caller.now += first
    elif what == "wake":
        caller.now = caller.limits.next_at(caller.now) or caller.now
    elif what == "resume":
        caller.limits.resume(caller.now)
    ask(caller)


def check(caller: Caller) -> None:
    """What holds at any time."""
    limits, now, running = caller.limits, caller.now, len(caller.running)
    most = caller.limits.dump()["window"]["most"]
    before = json.dumps(limits.dump(), allow_nan=False)
    assert 1 <= limits.window <= most
    assert 0 <= limits.allowed(running, now) <= most
    assert limits.allowed(running, now) + running <= max(running + 1, limits.window)
    assert limits.spent_usd >= 0
    assert limits.in_flight_usd == pytest.approx(0.1 * running)
    at = limits.next_at(now)
    if at is not None:
        assert at > now
        assert limits.allowed(0, now) == 0
        assert limits.allowed(0, (now + at) / 2) == 0
        assert limits.allowed(0, at) >= 1
    elif not limits.allowed(0, now):
        assert limits.allowed(0, now + 1e7) == 0, "neither now nor by time alone"
        assert limits.why(now)
    assert json.dumps(limits.dump(), allow_nan=False) == before, "questions change nothing"


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 40), st.none() | st.just(2.0), st.lists(steps, max_size=80))
def test_never_too_many_never_stuck_and_a_replay_gives_the_same(
    workers: int, cap: float | None, history: list[tuple[Any, ...]]
) -> None:
    asked, silent = Caller(workers, max_cost_usd=cap), Caller(workers, max_cost_usd=cap)
    for step in history:
        play(asked, step, check)
        play(silent, step, lambda caller: None)
    assert asked.limits.dump() == silent.limits.dump()


# Simulated providers


class Provider:
    """Answers after 0.5 to 1.5 times `mean_s`; turns away what exceeds `capacity`, and fails at random."""

    def __init__(
        self,
        capacity: int = 10**9,
        *,
        mean_s: float = 1.0,
        retry_after_s: float | None = None,
        faults: dict[ProviderSignal, float] | None = None,
    ) -> None:
        self.capacity = capacity
        self.mean_s = mean_s
        self.retry_after_s = retry_after_s
        self.faults = faults or {}
        self.ends: list[float] = []

    def latency_s(self, draw: random.Random) -> float:
        return self.mean_s * (0.5 + draw.random())

    def arrive(self, at: float, draw: random.Random) -> ProviderSignal:
        chance = draw.random()
        for signal, share in self.faults.items():
            if chance < share:
                slow = signal.kind is SignalKind.BAD_ANSWER
                return replace(signal, latency_s=self.latency_s(draw) if slow else 0.2 * draw.random())
            chance -= share
        while self.ends and self.ends[0] <= at:
            heapq.heappop(self.ends)
        if len(self.ends) >= self.capacity:
            return replace(TOO_MANY, latency_s=0.03, retry_after_s=self.retry_after_s)
        latency_s = self.latency_s(draw)
        heapq.heappush(self.ends, at + latency_s)
        return replace(OK, latency_s=latency_s)


class Metered(Provider):
    """An allowance with proper headers: a bucket that is refilled all the time, or windows."""

    def __init__(self, limit: int, length_s: float, *, mean_s: float, bucket: bool) -> None:
        super().__init__(mean_s=mean_s)
        self.limit, self.length_s, self.bucket = limit, length_s, bucket
        self.left, self.at = float(limit), 0.0

    def arrive(self, at: float, draw: random.Random) -> ProviderSignal:
        if self.bucket:
            self.left = min(self.limit, self.left + (at - self.at) * self.limit / self.length_s)
        elif int(at / self.length_s) != int(self.at / self.length_s):
            self.left = float(self.limit)
        self.at = at
        accepted = self.left >= 1
        self.left -= accepted
        missing_s = (self.limit - self.left) * self.length_s / self.limit
        return replace(
            super().arrive(at, draw) if accepted else replace(TOO_MANY, latency_s=0.03),
            limit_requests=self.limit,
            remaining_requests=int(self.left),
            reset_requests_s=missing_s if self.bucket else self.length_s - at % self.length_s,
        )


class Run:
    """A caller with endless tasks against a simulated provider.

    Args:
        provider: Whom it asks.
        workers: The most at the same time.
        seconds: How long.
        fixed: Go without limits, with all workers: what is to be had at best.
        tick_s: Answers are seen at multiples of this only, as by a coordinator that folds them in groups.
    """

    def __init__(
        self,
        provider: Provider,
        workers: int,
        seconds: float,
        *,
        fixed: bool = False,
        tick_s: float = 0.0,
        seed: int = 1,
    ) -> None:
        draw = random.Random(seed)
        limits = ProviderLimits(workers)
        self.limits = limits
        self.answers: list[tuple[float, SignalKind]] = []
        self.windows: list[tuple[float, int]] = []
        events: list[tuple[float, int, str, ProviderSignal | None]] = []
        waiting: list[tuple[float, str]] = []
        now, running, count = 0.0, 0, 0
        while now < seconds:
            free = workers - running if fixed else limits.allowed(running, now)
            for _ in range(free):
                count += 1
                retry = bool(waiting) and waiting[0][0] <= now
                task_id = heapq.heappop(waiting)[1] if retry else str(count)
                if not fixed:
                    limits.on_started(task_id, now, retry=retry)
                running += 1
                heapq.heappush(events, (now + 0.01, count, task_id, None))
            if free and not fixed:
                continue
            due = [events[0][0]] if events else []
            due += [at for at in (None if fixed else limits.next_at(now),) if at is not None]
            now = min(due)
            while events and events[0][0] <= now:
                at, number, task_id, signal = heapq.heappop(events)
                if signal is None:
                    signal = provider.arrive(at, draw)
                    at += signal.latency_s + 0.01
                    at = (int(at / tick_s) + 1) * tick_s if tick_s else at
                    heapq.heappush(events, (at, number, task_id, signal))
                    continue
                running -= 1
                self.answers.append((at, signal.kind))
                retry_at = at if fixed else limits.on_signal(task_id, signal, at).retry_at
                self.windows.append((at, limits.window))
                if signal.kind is not SignalKind.OK:
                    heapq.heappush(waiting, (max(retry_at, at + draw.random()), task_id))

    def throughput(self, begin: float, end: float) -> float:
        """Successes per second."""
        return sum(kind is SignalKind.OK for at, kind in self.answers if begin <= at < end) / (end - begin)

    def refused(self, begin: float, end: float) -> float:
        """Share of the answers that were 429."""
        kinds = [kind for at, kind in self.answers if begin <= at < end]
        return sum(kind is SignalKind.RATE_LIMITED for kind in kinds) / len(kinds)


@pytest.mark.parametrize("retry_after_s", [None, 1.0])
@pytest.mark.parametrize(("capacity", "warm_s", "seconds"), [(1, 60, 600), (3, 60, 400), (10, 60, 250), (50, 40, 140)])
def test_it_finds_the_capacity_of_a_provider(
    capacity: int, warm_s: float, seconds: float, retry_after_s: float | None
) -> None:
    run = Run(Provider(capacity, retry_after_s=retry_after_s), 512, seconds)
    assert run.throughput(warm_s, seconds) > 0.9 * capacity
    assert run.refused(warm_s, seconds) < 0.04


def test_it_finds_a_large_capacity_too() -> None:
    run = Run(Provider(300), 512, 60)
    assert run.throughput(20, 60) > 0.9 * 300
    assert run.refused(20, 60) < 0.02


def test_it_does_so_when_answers_are_seen_in_groups() -> None:
    run = Run(Provider(50), 512, 140, tick_s=0.1)
    assert run.throughput(40, 140) > 0.85 * 50
    assert run.refused(40, 140) < 0.04


def test_it_follows_a_capacity_that_changes() -> None:
    provider = Provider(50)
    changes = iter([(60.0, 10), (120.0, 100), (1e9, 0)])
    at, capacity = next(changes)

    def arrive(now: float, draw: random.Random) -> ProviderSignal:
        nonlocal at, capacity
        if now >= at:
            provider.capacity = capacity
            at, capacity = next(changes)
        return Provider.arrive(provider, now, draw)

    provider.arrive = arrive  # type: ignore[method-assign]
    run = Run(provider, 256, 200)
    assert run.throughput(30, 60) > 0.9 * 50
    assert run.throughput(75, 120) > 0.85 * 10
    assert run.throughput(165, 200) > 0.9 * 100


MIXED = {
    TOO_MANY: 0.06,
    BROKEN: 0.06,
    replace(BROKEN, status=503): 0.06,
    LOST: 0.06,
    GARBAGE: 0.06,
}
FAULTS = {
    "mixed": MIXED,
    "mixed, with Retry-After": {
        replace(signal, retry_after_s=1.0) if signal is TOO_MANY else signal: share for signal, share in MIXED.items()
    },
    "500": {BROKEN: 0.3},
    "503": {replace(BROKEN, status=503): 0.3},
    "429": {TOO_MANY: 0.3},
    "few 429": {TOO_MANY: 0.02},
}


@pytest.mark.parametrize("name", FAULTS)
def test_random_faults_aren_t_taken_for_a_lack_of_capacity(name: str) -> None:
    run = Run(Provider(faults=FAULTS[name]), 64, 120)
    best = Run(Provider(faults=FAULTS[name]), 64, 60, fixed=True)
    assert run.throughput(30, 120) > 0.8 * best.throughput(10, 60)


@pytest.mark.parametrize("bucket", [True, False])
@pytest.mark.parametrize(
    ("limit", "length_s", "mean_s"),
    [(20, 1.0, 0.2), (20, 1.0, 2.0), (10, 10.0, 2.0), (60, 60.0, 10.0), (500, 60.0, 2.0)],
)
def test_headers_keep_it_below_the_limit_and_near_it(limit: int, length_s: float, mean_s: float, bucket: bool) -> None:
    run = Run(Metered(limit, length_s, mean_s=mean_s, bucket=bucket), 64, 360)
    assert run.refused(0, 360) < 0.01
    best = min(limit / length_s, 64 / mean_s)
    assert run.throughput(120, 360) > 0.85 * best
