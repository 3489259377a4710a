"""Batches against simulated services in trouble, on the pure machine: what time and which files each costs."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from trax_ray.codes import FailureCode
from trax_ray.core.limits.pace import Pace
from trax_ray.core.limits.signals import ProviderSignal, SignalKind
from trax_ray.core.spec import BatchSpec, Limits
from trax_ray.core.state.events import AttemptEnded, CoordinatorStarted, InputsClosed, Revived, Started, TasksAdded
from trax_ray.core.state.machine import BatchState
from trax_ray.core.task import Category, Failure, FailureClass, Outcome, TaskState
from trax_ray.testing.factories import make_task

BEGIN = 1_000_000.0
OK = ProviderSignal(status=200)
AWAY = ProviderSignal(SignalKind.OVERLOADED, 503, latency_s=0.05)
NOBODY = ProviderSignal(SignalKind.CONNECTION, latency_s=0.01, unreached=True)
CUT = ProviderSignal(SignalKind.CONNECTION, latency_s=0.05)
AUDIO_S = 10.0

Service = Callable[[float], tuple[float, ProviderSignal]]
"""When it was asked, to when it answers and what; in the order in which it is asked."""


def transient(signal: ProviderSignal) -> Failure | None:
    if signal.kind is SignalKind.OK:
        return None
    return Failure(FailureClass.TRANSIENT, Category.NETWORK, "x", "x", retry_after_s=signal.retry_after_s)


@dataclass
class World:
    """A batch of equal clips, one request each, and the service that it asks. Starts are looked for at each event."""

    service: Service
    clips: int
    workers: int = 8
    lasts_s: float = 100_000.0
    state: BatchState = field(default_factory=BatchState)
    now: float = BEGIN
    ok_at: list[float] = field(default_factory=list)
    asked_at: list[float] = field(default_factory=list)
    epoch: int = 0

    def run(self) -> World:
        """Until the batch has ended."""
        chance = random.Random(1)
        self.epoch += 1
        spec = BatchSpec(output_dir="/out", limits=Limits(max_workers=self.workers))
        self.handle(CoordinatorStarted(self.epoch, spec.to_dict(), run=f"run {self.epoch}"))
        tasks = [make_task(f"t{number}", provider="openai", shared=True, max_retries=3) for number in range(self.clips)]
        self.handle(Revived(tuple(tasks)) if self.epoch > 1 else TasksAdded(tuple(tasks)))
        self.handle(InputsClosed())
        pace, running = Pace(), 0
        coming: list[tuple[float, int, str, int, ProviderSignal]] = []
        count = 0
        while not self.state.finished and self.now < BEGIN + self.lasts_s:
            free = self.workers - running
            starts = self.state.candidates(free, self.now) if free else []
            if starts:
                self.handle(Started(tuple((task.id, self.state.next_attempt(task.id)) for task in starts)))
            for task in starts:
                count += 1
                running += 1
                self.asked_at.append(self.now)
                at, signal = self.service(self.now)
                pace.on_sent(task.id, AUDIO_S, self.now)
                latency_s = round(at - self.now, 3)
                attempt = self.state.records[task.id].attempt
                heapq.heappush(coming, (at, count, task.id, attempt, replace(signal, latency_s=latency_s)))
            given_up = pace.due(self.now)
            for task_id in given_up:
                mine = next(entry for entry in coming if entry[2] == task_id)
                coming.remove(mine)
                heapq.heapify(coming)
                late = ProviderSignal(SignalKind.CONNECTION, latency_s=pace.on_given_up(task_id, self.now))
                heapq.heappush(coming, (self.now, 0, task_id, mine[3], late))
            if coming and coming[0][0] <= self.now:
                _, _, task_id, attempt, signal = heapq.heappop(coming)
                running -= 1
                if signal.kind is SignalKind.OK:
                    pace.on_answered(task_id, self.now)
                    self.ok_at.append(self.now)
                pace.forget(task_id)
                outcome = Outcome(failure=transient(signal), artifact_key="k", signal=signal)
                self.handle(AttemptEnded(task_id, self.epoch, attempt, outcome, jitter=chance.random()))
                continue
            waits = [self.state.next_due(), self.state.services.next_at(self.now), pace.next_due()]
            waits += [coming[0][0] if coming else None]
            later = [at for at in waits if at is not None and at > self.now]
            if not later:
                break
            self.now = min(later)
        return self

    def handle(self, event: object) -> None:
        self.state.handle(event, self.now)  # type: ignore[arg-type]

    def count(self, state: TaskState) -> int:
        return sum(record.state is state for record in self.state.records.values())

    @property
    def took_s(self) -> float:
        return self.now - BEGIN


# Retry-After and allowances


def limited(per_s: float, burst: int, **headers: object) -> Service:
    """Turns away what is beyond a rate, and asks to come again in a second."""
    left, at = float(burst), BEGIN

    def answer(now: float) -> tuple[float, ProviderSignal]:
        nonlocal left, at
        left, at = min(burst, left + (now - at) * per_s), now
        if left < 1:
            told = ProviderSignal(SignalKind.RATE_LIMITED, 429, retry_after_s=1.0, **headers)  # type: ignore[arg-type]
            return now + 0.03, told
        left -= 1
        return now + 0.5, OK

    return answer


TOLD = {"limit_tokens": 60_000, "remaining_tokens": 0, "reset_tokens_s": 360.0}


def test_retry_after_outranks_the_time_to_a_full_allowance() -> None:
    plain = World(limited(10.0, 10), 60).run()
    told = World(limited(10.0, 10, **TOLD), 60).run()
    assert (plain.count(TaskState.SUCCEEDED), told.count(TaskState.SUCCEEDED)) == (60, 60)
    assert told.took_s < plain.took_s + 2 < 20


def daily(limit: int, *, bucket: bool = False) -> Service:
    """An allowance per day, with proper headers."""
    left = limit

    def answer(now: float) -> tuple[float, ProviderSignal]:
        nonlocal left
        left -= 1
        reset_s = (limit - left) * 86_400 / limit if bucket else 80_000 - (now - BEGIN)
        if left < 0:
            left = 0
            return now + 0.03, ProviderSignal(
                SignalKind.RATE_LIMITED, 429, limit_requests=limit, remaining_requests=0, reset_requests_s=reset_s
            )
        return now + 1.0, replace(OK, limit_requests=limit, remaining_requests=left, reset_requests_s=reset_s)

    return answer


@pytest.mark.parametrize("bucket", [False, True])
def test_an_allowance_per_day_is_used_while_it_lasts(bucket: bool) -> None:
    world = World(daily(301, bucket=bucket), 300).run()
    assert (world.count(TaskState.SUCCEEDED), world.state.finished) == (300, "complete")
    assert world.took_s < 60


def test_where_it_is_used_up_for_hours_a_person_is_told_until_when() -> None:
    world = World(daily(100), 300).run()
    assert (world.count(TaskState.SUCCEEDED), world.count(TaskState.FAILED)) == (100, 0)
    assert world.state.finished == "parked"
    parked = world.state.parked["openai"]
    assert parked.code == FailureCode.ASKED_TO_WAIT
    assert "until 1970-01-13 12:00 UTC" in parked.message


def test_nobody_sits_out_a_retry_after_of_years() -> None:
    years = ProviderSignal(SignalKind.RATE_LIMITED, 429, retry_after_s=1e8)
    world = World(lambda now: (now + 0.1, years), 10).run()
    assert (world.state.finished, world.count(TaskState.FAILED)) == ("parked", 0)
    assert world.state.parked["openai"].code == FailureCode.ASKED_TO_WAIT
    assert "until 1973-03-" in world.state.parked["openai"].message
    assert world.took_s < 1


# A queue


def one_at_a_time(each_s: float) -> Service:
    free_at = BEGIN

    def answer(now: float) -> tuple[float, ProviderSignal]:
        nonlocal free_at
        free_at = max(now, free_at) + each_s
        return free_at, OK

    return answer


@pytest.mark.parametrize(("each_s", "clips", "workers"), [(20.0, 8, 8), (20.0, 40, 32), (70.0, 8, 8), (200.0, 8, 8)])
def test_no_file_fails_for_waiting_in_a_queue(each_s: float, clips: int, workers: int) -> None:
    world = World(one_at_a_time(each_s), clips, workers).run()
    assert world.count(TaskState.SUCCEEDED) == clips
    if each_s < 80:
        assert len(world.asked_at) == clips, "none was asked for twice"


def behind_a_gateway(each_s: float, gives_up_after_s: float) -> Service:
    """One at a time, behind a gateway that gives up waiting; the server works on, as they do."""
    inner = one_at_a_time(each_s)

    def answer(now: float) -> tuple[float, ProviderSignal]:
        at, signal = inner(now)
        if at - now > gives_up_after_s:
            return now + gives_up_after_s, ProviderSignal(SignalKind.OVERLOADED, 504)
        return at, signal

    return answer


def test_what_a_gateway_gives_up_is_asked_for_one_by_one_and_none_fails() -> None:
    world = World(behind_a_gateway(20.0, 60.0), 30).run()
    assert world.count(TaskState.SUCCEEDED) == 30


# Nobody there


@pytest.mark.parametrize("signal", [NOBODY, CUT])
@pytest.mark.parametrize("clips", [1, 3, 40])
def test_where_nobody_listens_no_file_is_burnt_and_the_batch_is_parked(signal: ProviderSignal, clips: int) -> None:
    world = World(lambda now: (now + 0.01, signal), clips).run()
    assert (world.state.finished, world.count(TaskState.FAILED)) == ("parked", 0)
    assert world.state.parked["openai"].code == FailureCode.UNREACHABLE
    assert world.took_s < 30
    world.service = lambda now: (now + 1.0, OK)
    world.run()
    assert (world.state.finished, world.count(TaskState.SUCCEEDED)) == ("complete", clips)


def test_a_server_that_starts_a_little_later_is_waited_for() -> None:
    world = World(lambda now: (now + 0.01, NOBODY) if now < BEGIN + 8 else (now + 1.0, OK), 40).run()
    assert (world.state.finished, world.count(TaskState.SUCCEEDED)) == ("complete", 40)


def test_a_server_that_answered_before_has_time_to_come_back() -> None:
    def restarts(now: float) -> tuple[float, ProviderSignal]:
        away = BEGIN + 10 < now < BEGIN + 130
        return (now + 0.01, NOBODY) if away else (now + 1.0, OK)

    world = World(restarts, 400).run()
    assert (world.state.finished, world.count(TaskState.SUCCEEDED)) == ("complete", 400)
    world = World(lambda now: (now + 0.01, NOBODY) if now > BEGIN + 10 else (now + 1.0, OK), 400).run()
    assert (world.state.finished, world.count(TaskState.FAILED)) == ("parked", 0)
    assert world.took_s < 600


def test_what_fails_for_an_hour_is_parked() -> None:
    world = World(lambda now: (now + 0.1, AWAY), 5).run()
    assert (world.state.finished, world.count(TaskState.FAILED)) == ("parked", 0)
    assert "nothing but failures for 6" in world.state.parked["openai"].message
    assert 3600 <= world.took_s < 3700


def test_a_file_that_only_itself_breaks_the_connection_fails() -> None:
    count = 0

    def answer(now: float) -> tuple[float, ProviderSignal]:
        nonlocal count
        count += 1
        return (now + 1.0, OK) if count <= 20 else (now + 0.1, CUT)

    world = World(answer, 21, workers=1).run()
    assert (world.count(TaskState.SUCCEEDED), world.count(TaskState.FAILED)) == (20, 1)


# After an outage


@pytest.mark.parametrize("away_s", [5.0, 25.0, 120.0, 1000.0])
@pytest.mark.parametrize(("workers", "clips"), [(8, 3000), (64, 9000), (8, 8)])
@pytest.mark.long
def test_within_ten_seconds_of_the_first_success_it_goes_as_before(away_s: float, workers: int, clips: int) -> None:
    begins, ends = BEGIN + 20, BEGIN + 20 + away_s

    def answer(now: float) -> tuple[float, ProviderSignal]:
        if clips == workers:  # from the beginning on, so that all of them wait for their retries
            return (now + 0.05, AWAY) if now < BEGIN + away_s else (now + 1.0, OK)
        return (now + 0.05, AWAY) if begins < now < ends else (now + 1.0, OK)

    world = World(answer, clips, workers).run()
    assert world.count(TaskState.FAILED) == 0
    if clips == workers:
        first, last = world.ok_at[0], world.ok_at[-1]
        assert first <= BEGIN + away_s * 1.15 + 5
        assert last <= first + 10
        return
    first = next(at for at in world.ok_at if at > begins + 1.5)
    assert first <= ends + 0.15 * away_s + 5, "it is seen soon"
    before = sum(BEGIN + 10 < at <= begins for at in world.ok_at) / 10
    after = sum(first + 10 < at <= first + 20 for at in world.ok_at) / 10
    assert after > 0.9 * before


@pytest.mark.parametrize("signal", [NOBODY, AWAY])
def test_a_journal_whose_requests_started_sooner_than_they_would_now_is_read(signal: ProviderSignal) -> None:
    world = World(lambda now: (now + 0.01, signal), 3).run()
    assert world.state.finished == "parked"
    record = world.state.records["t0"]
    assert record.state in (TaskState.DELAYED, TaskState.QUEUED)
    world.handle(Started((("t0", record.attempt + 1),)))
    assert record.state is TaskState.RUNNING
