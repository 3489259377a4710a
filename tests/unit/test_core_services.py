"""What services let start, as the machine sees it: limits, refusals, money."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from trax_ray.codes import FailureCode
from trax_ray.core.groups import Shut
from trax_ray.core.limits.signals import ProviderSignal, SignalKind
from trax_ray.core.policy.admission import Allowance, admit
from trax_ray.core.spec import BatchSpec, Limits
from trax_ray.core.state.events import (
    AttemptEnded,
    CoordinatorStarted,
    Dispatch,
    Expanded,
    InputsClosed,
    Resumed,
    Started,
    TasksAdded,
)
from trax_ray.core.state.machine import BatchState
from trax_ray.core.state.waiting import Waiting
from trax_ray.core.task import BatchTask, Category, Failure, FailureClass, Outcome, ResourceRequest, TaskState, TaskType
from trax_ray.testing.factories import make_task

OK = ProviderSignal(status=200, latency_s=1.0)


def request(name: str, **more: Any) -> BatchTask:
    return make_task(name, provider="openai", shared=True, **more)


class Batch:
    """A machine and its time."""

    def __init__(self, *tasks: BatchTask, **fields: Any) -> None:
        self.state = BatchState()
        self.now = 1000.0
        self.begin(**fields)
        self.do(TasksAdded(tasks))
        self.do(InputsClosed())

    def begin(self, epoch: int = 1, run: str = "r", **fields: Any) -> None:
        limits = Limits(max_workers=64, prefetch_mb=fields.pop("prefetch_mb", None))
        spec = BatchSpec(output_dir="/out", limits=limits, **fields)
        self.do(CoordinatorStarted(epoch, spec.to_dict(), run=run))

    def do(self, event: Any) -> list[Any]:
        return self.state.handle(event, self.now)

    def start(self, most: int = 99) -> list[Dispatch]:
        tasks = self.state.candidates(most, self.now)
        if not tasks:
            return []
        commands = self.do(Started(tuple((task.id, self.state.next_attempt(task.id)) for task in tasks)))
        return [command for command in commands if isinstance(command, Dispatch)]

    def end(self, dispatch: Dispatch, signal: ProviderSignal | None = OK, failure: Failure | None = None) -> None:
        outcome = Outcome(failure=failure, artifact_key="k", signal=signal)
        self.do(AttemptEnded(dispatch.task.id, dispatch.epoch, dispatch.attempt, outcome, jitter=0.5))


def refused() -> tuple[ProviderSignal, Failure]:
    failure = Failure(FailureClass.CONFIG, Category.NETWORK, "key_refused", "no", parks="openai")
    return ProviderSignal(kind=SignalKind.REFUSED, status=401), failure


def turned_away(after_s: float) -> tuple[ProviderSignal, Failure]:
    failure = Failure(FailureClass.TRANSIENT, Category.NETWORK, "rate_limited", "slower", retry_after_s=after_s)
    return ProviderSignal(kind=SignalKind.RATE_LIMITED, status=429, retry_after_s=after_s), failure


def test_a_service_is_asked_a_little_first_and_more_when_it_answers() -> None:
    batch = Batch(*(request(f"t{number}") for number in range(100)))
    first = batch.start()
    assert 1 <= len(first) < 64
    for dispatch in first:
        batch.now += 0.1
        batch.end(dispatch)
    assert len(batch.start()) > len(first)


def test_what_asks_no_service_does_not_wait_for_one() -> None:
    batch = Batch(*(request(f"t{number}") for number in range(100)), make_task("local"))
    assert "local" in {dispatch.task.id for dispatch in batch.start(999)}


def test_a_429_that_says_when_costs_no_retry_and_is_obeyed() -> None:
    batch = Batch(request("t", max_retries=0))
    (first,) = batch.start()
    batch.end(first, *turned_away(5.0))
    record = batch.state.records["t"]
    assert (record.state, record.spent, record.turned_away) == (TaskState.DELAYED, 0, 1)
    assert record.queued_at >= batch.now + 5.0
    batch.now = record.queued_at
    (again,) = batch.start()
    batch.end(again)
    assert record.state is TaskState.SUCCEEDED


def test_a_refused_key_burns_no_file_and_one_request_tries_whether_to_go_on() -> None:
    batch = Batch(*(request(f"t{number}", max_retries=0) for number in range(10)))
    first, *rest = batch.start()
    batch.end(first, *refused())
    for dispatch in rest:
        batch.end(dispatch, *refused())
    assert batch.start() == []
    assert batch.state.finished == "parked"
    assert set(batch.state.parked) == {"openai"}
    assert not any(record.state is TaskState.FAILED for record in batch.state.records.values())
    batch.begin(epoch=2)
    batch.do(InputsClosed())
    (probe,) = batch.start()
    assert batch.start() == []
    batch.end(probe)
    assert batch.start()


def test_money_stops_new_requests_and_what_was_paid_is_brought_to_its_end() -> None:
    tasks = [request(f"t{number}", estimate_usd=0.10) for number in range(10)]
    batch = Batch(*tasks, max_cost_usd=0.35)
    started = batch.start()
    assert len(started) == 3, "a fourth might exceed it"
    for dispatch in started:
        batch.end(dispatch, ProviderSignal(status=200, latency_s=1.0, cost_usd=0.10))
    assert batch.start() == []
    assert batch.state.finished == "parked"
    assert batch.state.parked["openai"].code == FailureCode.COST_CAP
    assert "--max-cost" in batch.state.parked["openai"].message
    assert batch.state.services.spent_usd == pytest.approx(0.3)
    batch.begin(epoch=2, max_cost_usd=1.0)
    batch.do(InputsClosed())
    assert batch.start()


def test_requests_that_cost_less_than_expected_let_others_start() -> None:
    batch = Batch(*(request(f"t{number}", estimate_usd=0.10) for number in range(4)), max_cost_usd=0.25)
    for dispatch in batch.start():
        batch.end(dispatch, ProviderSignal(status=200, latency_s=1.0, cost_usd=0.01))
    assert len(batch.start()) == 2


def test_a_recording_whose_requests_are_answered_is_assembled_although_its_service_is_parked() -> None:
    whole = make_task("whole", provider="openai")
    batch = Batch(whole, request("other"))
    dispatches = {dispatch.task.id: dispatch for dispatch in batch.start()}
    child = request("whole/0", parent="whole", chunk=0, file_id="whole")
    first = dispatches["whole"]
    batch.do(Expanded("whole", first.epoch, first.attempt, Outcome(children=(child,))))
    (asked,) = batch.start()
    batch.end(dispatches["other"], *refused())
    batch.end(asked)
    (assembly,) = batch.start()
    assert assembly.task.id == "whole"
    batch.end(assembly, None)
    assert batch.state.finished == "parked"
    batch.do(Resumed())


def test_an_attempt_that_ends_without_an_answer_frees_its_place() -> None:
    batch = Batch(*(request(f"t{number}") for number in range(30)))
    started = batch.start()
    lost = Failure(FailureClass.UNKNOWN, Category.RESOURCE, "node_died", "gone")
    for dispatch in started:
        batch.end(dispatch, None, lost)
    batch.now += 120.0
    assert len(batch.start()) == len(started)


def test_nobody_looks_through_what_waits_while_the_money_suffices_for_any_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[int] = []
    best = Waiting.best
    monkeypatch.setattr(Waiting, "best", lambda self, *how: looks.append(len(how)) or best(self, *how))
    batch = Batch(*(request(f"t{number}", estimate_usd=0.10) for number in range(9)), max_cost_usd=0.55)
    first = batch.start(3)
    looks.clear()
    for dispatch in first:
        batch.end(dispatch, ProviderSignal(cost_usd=0.10))
    assert looks == []
    for dispatch in batch.start(3):
        batch.end(dispatch, ProviderSignal(cost_usd=0.10))
    assert len(looks) > 1, "the next one would be too much"
    assert set(batch.state.parked) == {"openai"}


def test_one_that_is_dearer_than_all_the_money_parks_its_service_at_once() -> None:
    assert set(Batch(request("t", estimate_usd=2.0), max_cost_usd=1.0).state.parked) == {"openai"}
    assert Batch(request("t", estimate_usd=1.0), max_cost_usd=1.0).state.parked == {}


def test_while_nothing_may_start_one_of_all_that_waits_is_looked_at_and_calls_are_not_held_back() -> None:
    batch = Batch(*(make_task(f"local{number}") for number in range(500)))
    seen: list[str] = []
    shut = Shut()

    def upcoming() -> Iterator[BatchTask]:
        for task in batch.state.upcoming(batch.now, shut=shut):
            seen.append(task.id)
            yield task

    limits, full = Limits(max_workers=64), Allowance(cores=0.5, memory_mb=9999)
    running = [make_task("running")]
    assert admit(limits, full, running, upcoming(), shut) == []
    assert seen == ["local0"]
    batch = Batch(request("call"), *(make_task(f"local{number}") for number in range(500)))
    seen.clear()
    shut = Shut()
    assert [task.id for task in admit(limits, full, running, upcoming(), shut)] == ["call"]
    assert seen == ["call", "local0"]


def started_beside(batch: Batch, cores: float = 4.0) -> list[str]:
    """Who starts, as the coordinator decides it: as far as services, cores and workers allow."""
    running = [record.to_run for record in batch.state.records.values() if record.state is TaskState.RUNNING]
    shut = Shut()
    waiting = batch.state.upcoming(batch.now, shut=shut)
    found = admit(Limits(max_workers=64), Allowance(cores=cores, memory_mb=1e6), running, waiting, shut)
    if found:
        batch.do(Started(tuple((task.id, batch.state.next_attempt(task.id)) for task in found)))
    return [task.id for task in found]


def test_thousands_that_their_service_does_not_let_start_stand_in_nobodys_way() -> None:
    batch = Batch(*(request(f"w{number}") for number in range(2000)), make_task("speech"), make_task("more"))
    first = started_beside(batch)
    assert first[-2:] == ["speech", "more"], "behind all windows, of which the service takes some"
    assert 1 <= len(first) - 2 < 64
    assert started_beside(batch) == []
    batch.do(TasksAdded((make_task("later"),)))
    looked_at: list[str] = []
    records = batch.state.ledger.records
    batch.state.ledger.records = Watched(records, looked_at)
    assert started_beside(batch) == ["later"]
    assert looked_at.count("w100") == 0
    assert len([name for name in looked_at if name.startswith("w")]) <= 2, "and one look passes over them"


class Watched(dict[str, Any]):
    """Records, and which of them were looked up."""

    def __init__(self, records: dict[str, Any], looked_at: list[str]) -> None:
        super().__init__(records)
        self.looked_at = looked_at

    def __getitem__(self, name: str) -> Any:
        self.looked_at.append(name)
        return super().__getitem__(name)


def test_what_money_does_not_suffice_for_stands_in_nobodys_way() -> None:
    dear = [request(f"w{number}", estimate_usd=0.10) for number in range(600)]
    batch = Batch(*dear, make_task("speech"), max_cost_usd=0.25)
    assert started_beside(batch) == ["w0", "w1", "speech"]


def test_hundreds_of_downloads_of_a_slow_host_or_without_disk_stand_in_nobodys_way() -> None:
    def download(name: str, host: str, output: str = "") -> BatchTask:
        more = {"output": output} if output else {}
        none = ResourceRequest(num_cpus=0.0, memory_mb=256)
        return make_task(name, TaskType.DOWNLOAD, provider=host, asks=True, resources=none, size_bytes=10**12, **more)

    slow = [download(f"d{number}", "slow", "kept") for number in range(600)]
    batch = Batch(*slow, download("other", "quick", "kept"), make_task("speech"))
    first = started_beside(batch)
    assert first[-2:] == ["other", "speech"]
    large = [download(f"d{number}", f"host{number}") for number in range(600)]
    batch = Batch(*large, make_task("speech"), prefetch_mb=1)
    assert started_beside(batch) == ["d0", "speech"], "one is fetched while nothing else is there"
    assert started_beside(batch) == []


def test_a_full_machine_takes_on_what_needs_no_core_from_behind_hundreds_that_do() -> None:
    one = ResourceRequest(num_cpus=1.0, memory_mb=256)
    none = ResourceRequest(num_cpus=0.0, memory_mb=256)
    local = [make_task(f"t{number}", resources=one) for number in range(600)]
    batch = Batch(*local, make_task("assembly", resources=none), request("call"))
    assert started_beside(batch, cores=2.0) == ["t0", "t1", "assembly"], "a call isn't taken before those that wait"
