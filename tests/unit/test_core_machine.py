"""The machine by example: what each event does, which commands come out, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from trax_ray.core.policy.retry import LOST
from trax_ray.core.spec import BatchSpec, RetryPolicy
from trax_ray.core.standing import failures_of, fold
from trax_ray.core.state.additions import additions
from trax_ray.core.state.events import (
    AttemptEnded,
    Cancel,
    Command,
    CoordinatorStarted,
    Dispatch,
    Draining,
    Event,
    Expanded,
    Finish,
    InputsClosed,
    Known,
    Paused,
    Preempted,
    Resumed,
    RetryFailed,
    Revived,
    Scaled,
    Started,
    Stopped,
    TasksAdded,
    decode_event,
    encode_event,
)
from trax_ray.core.state.ledger import TRANSITIONS, Cause, Ledger, TaskRecord
from trax_ray.core.state.machine import BatchState
from trax_ray.core.task import BatchTask, Category, Failure, FailureClass, Outcome, ResourceRequest, Result, TaskState
from trax_ray.errors import IllegalTransition, UsageError
from trax_ray.testing.clock import FakeClock
from trax_ray.testing.factories import make_task

POLICY = RetryPolicy(base_s=1.0, cap_s=8.0, aging_s=4.0)


def failure(kind: str, code: str = "some_code", **fields: Any) -> Failure:
    """A failure of a class."""
    return Failure(FailureClass(kind), Category.NETWORK, code, f"it was {kind}", **fields)


def artifacts(dispatch: Dispatch) -> dict[str, str]:
    """The artifacts of a task's children."""
    return {name: made.artifact_key for name, made in dispatch.children.items()}


class Batch:
    """A coordinator without Ray: it feeds the machine, logs the events, and lets time pass."""

    def __init__(self, policy: RetryPolicy = POLICY, *, largest_node_mb: int = 0, **spec: Any) -> None:
        self.clock = FakeClock()
        self.state = BatchState()
        self.log: list[dict[str, Any]] = []
        self.policy = policy
        self.largest_node_mb = largest_node_mb
        self.spec = spec
        self.run = ""
        self.epoch = 0
        self.take_over()

    def do(self, event: Event) -> list[Command]:
        """Let something happen now."""
        commands = self.state.handle(event, self.clock())
        self.log.append(encode_event(event, self.clock()))
        return commands

    def take_over(self, run: str | None = None) -> list[Command]:
        """Another coordinator, with the next epoch, on a state that the journal gave; in the same run by default."""
        self.run = self.run if run is None else run
        self.epoch += 1
        self.clock.advance(1.0)
        spec = BatchSpec(output_dir="/out", retry=self.policy).to_dict() | self.spec
        return self.do(CoordinatorStarted(self.epoch, spec, self.largest_node_mb, self.run))

    def add(self, *tasks: BatchTask) -> list[Command]:
        """Add tasks as the coordinator does."""
        return [command for event in additions(self.state.ledger, tasks) for command in self.do(event)]

    def start(self, count: int = 1) -> list[Dispatch]:
        """Start the best candidates."""
        tasks = self.state.candidates(count, self.clock())
        if not tasks:
            return []
        commands = self.do(Started(tuple((task.id, self.state.next_attempt(task.id)) for task in tasks)))
        assert all(isinstance(command, Dispatch) for command in commands)
        return [command for command in commands if isinstance(command, Dispatch)]

    def end(self, dispatch: Dispatch, outcome: Outcome | Failure | None = None, jitter: float = 0.0) -> list[Command]:
        """An attempt's outcome arrives."""
        if outcome is None:
            outcome = Outcome(artifact_key=f"key-{dispatch.task.id}")
        elif isinstance(outcome, Failure):
            outcome = Outcome(failure=outcome)
        return self.do(AttemptEnded(dispatch.task.id, dispatch.epoch, dispatch.attempt, outcome, jitter))

    def expand(self, dispatch: Dispatch, children: Iterable[BatchTask]) -> list[Command]:
        """An attempt plans children."""
        outcome = Outcome(children=tuple(children))
        return self.do(Expanded(dispatch.task.id, dispatch.epoch, dispatch.attempt, outcome))

    def preempt(self, dispatch: Dispatch) -> list[Command]:
        """An attempt is ended to give back memory."""
        return self.do(Preempted(dispatch.task.id, dispatch.epoch, dispatch.attempt, "memory"))

    def is_(self, task_id: str) -> str:
        """A task's state."""
        return self.state.records[task_id].state.value

    def states(self) -> dict[str, str]:
        """Every task's state."""
        return {task_id: record.state.value for task_id, record in self.state.records.items()}

    def replayed(self) -> BatchState:
        """Another machine that got the same events through JSON."""
        state = BatchState()
        for record in json.loads(json.dumps(self.log)):
            state.handle(*decode_event(record))
        return state


def child(parent: BatchTask, number: int, **fields: Any) -> BatchTask:
    """A chunk."""
    fields.setdefault("depends_on", ())
    return replace(parent, id=f"{parent.id}/{number}", parent=parent.id, chunk=number, **fields)


# The straight way


def test_a_batch_from_start_to_finish() -> None:
    batch = Batch()
    assert batch.add(make_task("a"), make_task("b")) == []
    first, second = batch.start(5)
    assert first == Dispatch(make_task("a"), 1, 1, {})
    assert (second.task.id, second.epoch, second.attempt) == ("b", 1, 1)
    assert batch.end(second) == []
    assert batch.do(InputsClosed()) == []
    assert batch.end(first) == [Finish("complete")]
    assert batch.states() == {"a": "succeeded", "b": "succeeded"}
    assert batch.state.finished == "complete"
    assert batch.state.records["a"].artifact_key == "key-a"
    assert fold(batch.state, batch.clock(), {}).completed_tasks == 2


def test_an_open_batch_never_finishes_and_an_empty_closed_one_does_at_once() -> None:
    batch = Batch()
    batch.add(make_task("a"))
    assert batch.end(batch.start()[0]) == []
    assert not batch.state.finished
    assert batch.do(InputsClosed()) == [Finish("complete")]
    assert Batch().do(InputsClosed()) == [Finish("complete")]


def test_nothing_starts_while_paused_and_what_runs_goes_on() -> None:
    batch = Batch()
    batch.add(make_task("a"), make_task("b"))
    running = batch.start()[0]
    batch.do(Paused())
    assert batch.state.candidates(9, batch.clock()) == []
    batch.end(running)
    assert batch.states() == {"a": "succeeded", "b": "queued"}
    batch.do(Resumed())
    assert [task.id for task in batch.state.candidates(9, batch.clock())] == ["b"]


def test_priority_then_order_of_adding() -> None:
    batch = Batch()
    batch.add(make_task("late", priority=5), make_task("a"), make_task("b"), make_task("urgent", priority=0))
    assert [task.id for task in batch.state.candidates(9, batch.clock())] == ["a", "b", "urgent", "late"]
    assert [task.id for task in batch.state.candidates(2, batch.clock())] == ["a", "b"]


def test_the_second_stop_of_a_run_and_a_stop_after_the_end_say_nothing() -> None:
    batch = Batch()
    batch.add(make_task("a"), make_task("b"))
    running = batch.start()[0]
    assert batch.do(Stopped()) == [Cancel("a", 1, running.attempt), Finish("stopped")]
    assert batch.states() == {"a": "cancelled", "b": "cancelled"}
    assert batch.do(Stopped()) == []
    assert batch.end(running) == []
    assert batch.is_("a") == "cancelled"
    assert batch.state.candidates(9, batch.clock()) == []

    done = Batch()
    assert done.do(InputsClosed()) == [Finish("complete")]
    assert done.do(Stopped()) == []
    assert done.state.finished == "complete"


def test_the_next_run_does_cancelled_ones_again_and_finishes_again() -> None:
    batch = Batch()
    batch.add(make_task("a"), make_task("b", depends_on=("a",)))
    batch.start()
    batch.do(Stopped())
    batch.take_over("the next run")
    assert not batch.state.finished
    batch.add(make_task("a"), make_task("b", depends_on=("a",)))
    assert batch.states() == {"a": "queued", "b": "blocked"}
    batch.do(InputsClosed())
    (again,) = batch.start(9)
    assert (again.epoch, again.attempt) == (2, 2)
    batch.end(again)
    assert batch.end(batch.start()[0]) == [Finish("complete")]


# Pauses, stops, requests


@pytest.mark.parametrize("event", [Stopped("signal"), Draining(), None])
@pytest.mark.parametrize("run", [None, "the next run"])
def test_a_pause_outlasts_a_signal_a_coordinator_and_a_run(event: Event | None, run: str | None) -> None:
    batch = Batch()
    batch.do(Paused())
    if event is not None:
        batch.do(event)
    batch.take_over(run)
    batch.add(make_task("a"))
    assert batch.state.paused
    assert batch.start() == []
    batch.do(Resumed())
    assert not batch.state.paused
    if run is not None or event is None:
        assert len(batch.start()) == 1


def test_a_stop_ends_a_pause_even_one_that_comes_after_the_end() -> None:
    for first in (InputsClosed(), Stopped("signal"), Resumed()):
        batch = Batch()
        batch.do(Paused())
        batch.do(first)
        batch.do(Paused())
        ended = batch.state.finished
        assert batch.do(Stopped()) == ([] if ended else [Finish("stopped")])
        assert not batch.state.paused
        assert batch.state.finished == ended or batch.state.finished == "stopped"


@pytest.mark.parametrize(
    ("event", "opposite"),
    [
        (Paused(request="r"), Resumed()),
        (Resumed(request="r"), Paused()),
        (Stopped(request="r"), Resumed()),
        (RetryFailed(request="r"), Resumed()),
    ],
)
@pytest.mark.parametrize("run", [None, "the next run"])
def test_a_request_is_obeyed_once_whoever_is_at_work_then(event: Event, opposite: Event, run: str | None) -> None:
    batch = Batch()
    batch.do(event)
    assert list(batch.state.requests) == ["r"]
    batch.take_over("the next run" if isinstance(event, Stopped) else run)
    batch.do(Resumed())
    batch.add(make_task("a"), make_task("b"))
    batch.end(batch.start()[0], failure("permanent"))
    batch.do(opposite)
    before = batch.state.dump()
    for same in (event, Stopped(request="r")):
        assert batch.do(same) == []
        assert batch.state.dump() == before
    batch.do(replace(event, request="another"))  # type: ignore[type-var]
    after = batch.state.dump()
    assert after.pop("requests") == ["r", "another"]
    assert after != {name: value for name, value in before.items() if name != "requests"}


def test_events_that_answer_no_request_are_obeyed_every_time() -> None:
    batch = Batch()
    for _ in range(2):
        batch.do(Paused())
        assert batch.state.paused
        batch.do(Resumed())
        assert not batch.state.paused
    assert not batch.state.requests


def test_after_a_signal_nothing_starts_and_what_runs_may_end() -> None:
    batch = Batch()
    batch.add(make_task("good"), make_task("flaky"), make_task("waiting"))
    batch.do(InputsClosed())
    good, flaky = batch.start(2)
    assert batch.do(Draining()) == []
    assert batch.start() == []
    batch.end(good)
    batch.end(flaky, failure("transient"), jitter=0.5)
    batch.clock.advance(10.0)
    assert batch.start() == []
    batch.do(Resumed())
    assert batch.start() == [], "a signal is no pause"
    assert batch.do(Stopped("signal")) == [Finish("stopped")]
    assert batch.states() == {"good": "succeeded", "flaky": "cancelled", "waiting": "cancelled"}


def test_a_signal_is_about_its_run_and_about_all_of_it() -> None:
    batch = Batch()
    batch.add(make_task("a"))
    batch.do(Draining())
    batch.take_over()
    assert batch.state.draining, "the coordinator died before all was ended"
    assert batch.start() == []
    batch.take_over("the next run")
    batch.add(make_task("a"))
    assert not batch.state.draining
    assert len(batch.start()) == 1


def test_a_shared_task_that_plans_chunks_gives_its_place_back() -> None:
    batch = Batch()
    batch.add(*(make_task(f"t{number}", shared=True) for number in range(20)))
    for number in range(20):
        (running,) = batch.start()
        assert running.task.id == f"t{number}"
        batch.expand(running, [make_task(f"t{number}/0", parent=f"t{number}", provider="another", priority=9)])
    assert not batch.state.services.dump()["under_way"]


@pytest.mark.parametrize("reason", ["stop", "signal"])
def test_a_run_that_was_stopped_stays_so_whoever_takes_over(reason: str) -> None:
    """Its coordinator may die before anybody learns of it; what is added then waits for the next run."""
    batch = Batch()
    batch.add(make_task("a"))
    batch.do(Stopped(reason))
    assert batch.take_over() == [Finish("stopped")]
    batch.add(make_task("a"), make_task("b"))
    assert batch.start(9) == []
    batch.take_over("the next run")
    batch.add(make_task("a"), make_task("b"))
    assert len(batch.start(9)) == 2


def test_a_batch_that_ends_before_the_grace_period_does_is_complete() -> None:
    batch = Batch()
    batch.add(make_task("a"))
    batch.do(InputsClosed())
    running = batch.start()[0]
    batch.do(Draining())
    assert batch.end(running) == [Finish("complete")]
    assert batch.do(Stopped("signal")) == []


def test_how_many_may_run_is_remembered() -> None:
    batch = Batch()
    assert batch.state.scaled is None
    batch.do(Scaled(3, "others"))
    batch.do(Scaled(2, "memory"))
    batch.take_over("the next run")
    assert batch.state.scaled == Scaled(2, "memory")
    assert batch.replayed().dump()["scaled"] == {"slots": 2, "reason": "memory"}


# Doing failed ones again


def test_what_failed_in_this_run_is_done_again_at_once_with_what_depends_on_it() -> None:
    batch = Batch()
    batch.add(
        make_task("good"),
        make_task("bad", max_retries=1),
        make_task("needy", depends_on=("bad",)),
        make_task("last", depends_on=("needy", "good")),
    )
    good, bad = batch.start(2)
    batch.end(good)
    batch.end(bad, failure("transient"))
    batch.end(batch.start()[0], failure("unknown", "worker_died"))
    assert batch.states() == {"good": "succeeded", "bad": "failed", "needy": "failed", "last": "failed"}
    assert batch.do(RetryFailed(request="r")) == []
    assert batch.states() == {"good": "succeeded", "bad": "queued", "needy": "blocked", "last": "blocked"}
    record = batch.state.records["bad"]
    assert (record.spent, record.deaths, record.degradation, record.failure) == (0, 0, 0, None)
    assert failures_of(batch.state) == []
    batch.do(InputsClosed())
    third = batch.start()[0]
    assert (third.task.id, third.attempt) == ("bad", 3)
    batch.end(third)
    batch.end(batch.start()[0])
    assert batch.end(batch.start()[0]) == [Finish("complete")]
    assert fold(batch.state, batch.clock(), {}).completed_tasks == 4


def test_what_is_done_again_may_need_a_task_that_was_added_later() -> None:
    """As where the first run had no conversion, and the next one has."""
    batch = Batch()
    batch.add(make_task("b", fingerprint="1"), make_task("c", fingerprint="1", depends_on=("b",)))
    batch.end(batch.start()[0])
    batch.end(batch.start()[0])
    batch.take_over("the next run")
    batch.add(
        make_task("a"),
        make_task("b", fingerprint="2", depends_on=("a",)),
        make_task("c", fingerprint="2", depends_on=("b",)),
    )
    batch.end(batch.start()[0], failure("permanent"))
    assert batch.states() == {"b": "failed", "c": "failed", "a": "failed"}
    batch.do(RetryFailed())
    assert batch.states() == {"b": "blocked", "c": "blocked", "a": "queued"}
    for _ in range(3):
        batch.end(batch.start()[0])
    assert set(batch.states().values()) == {"succeeded"}


def test_what_failed_in_an_earlier_run_is_done_again_when_it_is_given() -> None:
    batch = Batch()
    batch.add(make_task("bad", fingerprint="1"), make_task("other", fingerprint="1"), make_task("good"))
    for dispatch, outcome in zip(batch.start(3), (failure("permanent"), failure("permanent"), None), strict=True):
        batch.end(dispatch, outcome)
    batch.take_over("the next run")
    batch.do(RetryFailed())
    assert batch.states() == {"bad": "failed", "other": "failed", "good": "succeeded"}
    assert additions(batch.state.ledger, [make_task("good"), make_task("bad", fingerprint="1")]) == [
        Known(("good",)),
        Revived((make_task("bad", fingerprint="1"),)),
    ]
    batch.add(make_task("bad", fingerprint="1"))
    assert batch.states() == {"bad": "queued", "other": "failed", "good": "succeeded"}
    batch.end(batch.start()[0], failure("permanent"))
    batch.take_over("the run after that")
    batch.add(make_task("bad", fingerprint="1"), make_task("other", fingerprint="1"))
    assert batch.states() == {"bad": "failed", "other": "queued", "good": "succeeded"}


def test_what_was_known_to_have_failed_is_of_this_run() -> None:
    batch = Batch()
    batch.add(make_task("bad"))
    batch.end(batch.start()[0], failure("permanent"))
    batch.take_over("the next run")
    batch.add(make_task("bad"))
    assert batch.is_("bad") == "failed"
    batch.do(RetryFailed())
    assert batch.is_("bad") == "queued"


def test_after_the_end_failed_ones_wait_for_the_next_run() -> None:
    batch = Batch()
    batch.add(make_task("bad"))
    batch.do(InputsClosed())
    assert batch.end(batch.start()[0], failure("permanent")) == [Finish("complete")]
    assert batch.do(RetryFailed()) == []
    assert batch.is_("bad") == "failed"
    batch.take_over("the next run")
    batch.add(make_task("bad"))
    assert batch.is_("bad") == "queued"


def test_a_task_that_needs_one_of_an_earlier_run_fails_again_and_holds_nobody_up() -> None:
    batch = Batch()
    batch.add(make_task("old"))
    batch.end(batch.start()[0], failure("permanent"))
    batch.take_over("the next run")
    batch.add(make_task("second", depends_on=("old",)), make_task("third", depends_on=("second",)))
    assert batch.states() == {"old": "failed", "second": "failed", "third": "failed"}
    batch.do(RetryFailed())
    assert batch.states() == {"old": "failed", "second": "failed", "third": "failed"}
    assert batch.do(InputsClosed()) == [Finish("complete")]
    batch.take_over("the run after that")
    batch.add(make_task("old"), make_task("second", depends_on=("old",)), make_task("third", depends_on=("second",)))
    assert batch.states() == {"old": "queued", "second": "blocked", "third": "blocked"}


def test_what_is_given_without_what_it_needs_fails_again() -> None:
    batch = Batch()
    chain = [make_task("a"), make_task("b", depends_on=("a",)), make_task("c", depends_on=("b",))]
    batch.add(*chain)
    batch.end(batch.start()[0], failure("permanent"))
    batch.take_over("the next run")
    batch.add(*chain[1:])
    assert batch.states() == {"a": "failed", "b": "failed", "c": "failed"}
    assert fold(batch.state, batch.clock(), {}).failed_tasks == 2


def test_of_what_is_given_at_once_one_may_need_another_behind_it() -> None:
    batch = Batch()
    batch.add(make_task("a"), make_task("b"), make_task("c"), make_task("old"))
    for dispatch in batch.start(4):
        batch.end(dispatch, failure("permanent"))
    batch.do(Revived((make_task("a", depends_on=("b",)), make_task("b", depends_on=("c",)), make_task("c"))))
    assert batch.states() == {"a": "blocked", "b": "blocked", "c": "queued", "old": "failed"}
    batch.end(batch.start()[0], failure("permanent"))
    batch.do(Revived((make_task("a", depends_on=("b",)), make_task("b", depends_on=("old",)))))
    assert batch.states() == {"a": "failed", "b": "failed", "c": "failed", "old": "failed"}


def test_a_failed_chunk_is_done_again_while_its_recording_goes_on() -> None:
    batch = Batch()
    batch.add(make_task("p"))
    batch.do(InputsClosed())
    parent = batch.start()[0]
    batch.expand(parent, [child(parent.task, number) for number in range(2)])
    first, second = batch.start(2)
    batch.end(first, failure("permanent"))
    batch.do(RetryFailed())
    assert batch.states() == {"p": "blocked", "p/0": "queued", "p/1": "running"}
    batch.end(second)
    assert batch.is_("p") == "blocked"
    batch.end(batch.start()[0])
    (again,) = batch.start(9)
    assert artifacts(again) == {"p/0": "key-p/0", "p/1": "key-p/1"}
    assert batch.end(again) == [Finish("complete")]


def test_chunks_of_a_failed_recording_are_done_again_when_it_plans_them() -> None:
    batch = Batch()
    batch.add(make_task("p", fingerprint="same"))
    parent = batch.start()[0]
    batch.expand(parent, [child(parent.task, 0), child(parent.task, 1)])
    top = batch.start()[0]
    batch.expand(top, [child(top.task, 0)])
    bottom, other = batch.start(2)
    assert (bottom.task.id, other.task.id) == ("p/0/0", "p/1")
    batch.end(other)
    batch.end(bottom, failure("permanent"))
    assert batch.states() == {"p": "failed", "p/0": "failed", "p/1": "succeeded", "p/0/0": "failed"}
    batch.do(RetryFailed())
    assert batch.states() == {"p": "queued", "p/0": "failed", "p/1": "succeeded", "p/0/0": "failed"}
    again = batch.start()[0]
    batch.expand(again, [child(parent.task, 0), child(parent.task, 1)])
    assert batch.states() == {"p": "blocked", "p/0": "queued", "p/1": "succeeded", "p/0/0": "failed"}


def test_old_chunks_of_a_recording_that_waits_for_another_task_are_left_alone() -> None:
    batch = Batch()
    batch.add(make_task("p", fingerprint="1"), make_task("x"))
    parent, needed = batch.start(2)
    batch.expand(parent, [child(parent.task, 0)])
    batch.end(batch.start()[0], failure("permanent"))
    batch.add(make_task("p", fingerprint="2", depends_on=("x",)))
    batch.do(RetryFailed())
    assert batch.states() == {"p": "blocked", "x": "running", "p/0": "failed"}
    batch.end(needed)
    assert [task.id for task in batch.state.candidates(9, batch.clock())] == ["p"]


def test_after_the_end_failed_chunks_are_left_alone_too() -> None:
    batch = Batch()
    batch.add(make_task("p"))
    batch.do(InputsClosed())
    parent = batch.start()[0]
    batch.expand(parent, [child(parent.task, 0), child(parent.task, 1)])
    first, second = batch.start(2)
    batch.end(first, failure("permanent"))
    assert batch.end(second, failure("config")) == [Finish("parked")]
    assert batch.do(RetryFailed()) == []
    assert batch.states() == {"p": "blocked", "p/0": "failed", "p/1": "queued"}


def test_a_recording_waits_for_chunks_that_failed_before_they_could_start_too() -> None:
    batch = Batch()
    batch.add(make_task("bad"), make_task("p"))
    bad, parent = batch.start(2)
    batch.end(bad, failure("permanent"))
    batch.expand(parent, [child(parent.task, 0, depends_on=("bad",)), child(parent.task, 1)])
    assert batch.states() == {"bad": "failed", "p": "blocked", "p/0": "failed", "p/1": "queued"}
    assert batch.state.records["p"].waiting_for == {"p/1"}
    batch.do(RetryFailed())
    assert batch.states() == {"bad": "queued", "p": "blocked", "p/0": "blocked", "p/1": "queued"}
    assert batch.state.records["p"].waiting_for == {"p/0", "p/1"}
    for _ in range(3):
        batch.end(batch.start()[0])
    assert artifacts(batch.start()[0]) == {"p/0": "key-p/0", "p/1": "key-p/1"}


def test_a_failed_chunk_of_chunks_is_done_again_as_a_whole_while_its_recording_goes_on() -> None:
    batch = Batch()
    batch.add(make_task("p"))
    parent = batch.start()[0]
    batch.expand(parent, [child(parent.task, 0), child(parent.task, 1), child(parent.task, 2, depends_on=("p/0",))])
    top, other = batch.start(2)
    batch.expand(top, [child(top.task, 0)])
    batch.end(batch.start()[0], failure("permanent"))
    assert batch.states() == {"p": "blocked", "p/0": "failed", "p/1": "running", "p/2": "failed", "p/0/0": "failed"}
    batch.do(RetryFailed())
    assert batch.states() == {"p": "blocked", "p/0": "queued", "p/1": "running", "p/2": "blocked", "p/0/0": "failed"}
    batch.end(other)
    batch.end(batch.start()[0])
    batch.end(batch.start()[0])
    assert artifacts(batch.start()[0]) == {name: f"key-{name}" for name in ("p/0", "p/1", "p/2")}


# Attempts


def test_only_the_current_attempt_counts() -> None:
    batch = Batch()
    batch.add(make_task("a"))
    first = batch.start()[0]
    before = batch.state.dump()
    for stale in (
        replace(first, epoch=0),
        replace(first, epoch=2),
        replace(first, attempt=0),
        replace(first, attempt=2),
    ):
        assert batch.end(stale) == []
        assert batch.expand(stale, [child(first.task, 0)]) == []
        assert batch.preempt(stale) == []
        assert batch.state.dump() == before
    batch.end(first, failure("transient"))
    second = batch.start()[0]
    assert second.attempt == 2
    batch.end(first)
    assert batch.is_("a") == "running"
    batch.end(second)
    assert batch.is_("a") == "succeeded"


def test_a_new_coordinator_queues_again_what_ran_and_knows_the_old_ones_results_not() -> None:
    batch = Batch()
    batch.add(make_task("a"))
    old = batch.start()[0]
    batch.take_over()
    assert batch.is_("a") == "queued"
    assert batch.end(old) == []
    assert batch.is_("a") == "queued"
    new = batch.start()[0]
    assert (new.epoch, new.attempt) == (2, 2)
    batch.end(old)
    assert batch.is_("a") == "running"
    assert batch.state.records["a"].spent == 0


def test_a_retry_waits_and_is_degraded() -> None:
    batch = Batch()
    batch.add(make_task("a"), make_task("b"))
    batch.end(batch.start()[0], failure("transient"), jitter=0.5)
    assert batch.is_("a") == "delayed"
    assert batch.state.next_due() == batch.clock() + 0.5
    batch.clock.advance(0.25)
    assert [task.id for task in batch.state.candidates(9, batch.clock())] == ["b"]
    batch.clock.advance(0.25)
    assert [task.id for task in batch.state.candidates(9, batch.clock())] == ["b", "a"]
    batch.clock.advance(POLICY.aging_s)
    assert [task.id for task in batch.state.candidates(9, batch.clock())] == ["a", "b"]
    assert batch.state.records["a"].queued_at == batch.clock() - POLICY.aging_s


def test_max_retries_is_the_number_of_attempts_after_the_first() -> None:
    for retries in (0, 1, 3):
        batch = Batch()
        batch.add(make_task("a", max_retries=retries))
        attempts = 0
        while dispatches := batch.start():
            attempts += 1
            batch.end(dispatches[0], failure("transient"))
        assert attempts == retries + 1
        assert batch.is_("a") == "failed"


@pytest.mark.parametrize("kind", ["transient", "unknown", "resource"])
def test_what_is_made_again(kind: str) -> None:
    batch = Batch()
    batch.add(make_task("a"))
    batch.end(batch.start()[0], failure(kind))
    record = batch.state.records["a"]
    assert (record.state, record.spent, record.deaths, record.losses) == (TaskState.DELAYED, 1, 0, 0)


def test_permanent_failures_are_final() -> None:
    batch = Batch()
    batch.add(make_task("a"))
    batch.end(batch.start()[0], failure("permanent"))
    assert batch.is_("a") == "failed"
    (told,) = failures_of(batch.state)
    assert told == {
        "file_id": "a",
        "task_id": "a",
        "file_name": "a",
        "failed_step": "transcribe",
        "failure_class": "permanent",
        "category": "network",
        "code": "some_code",
        "error": "it was permanent",
        "attempts": 1,
    }


def test_what_kills_workers_twice_is_quarantined() -> None:
    batch = Batch()
    batch.add(make_task("a", max_retries=9))
    batch.end(batch.start()[0], failure("unknown", "worker_died"))
    assert batch.is_("a") == "delayed"
    batch.end(batch.start()[0], failure("transient"))
    batch.end(batch.start()[0], failure("unknown", "worker_died"))
    record = batch.state.records["a"]
    assert record.state is TaskState.FAILED
    assert record.failure is not None
    assert (record.failure.code, record.failure.failure_class) == ("quarantined", FailureClass.PERMANENT)
    assert "ended 2 workers" in record.failure.message


def test_deaths_that_use_up_the_retries_first_stay_what_they_are() -> None:
    batch = Batch()
    batch.add(make_task("a", max_retries=0))
    batch.end(batch.start()[0], failure("unknown", "worker_died"))
    record = batch.state.records["a"]
    assert record.failure is not None
    assert (record.state, record.failure.code) == (TaskState.FAILED, "worker_died")


def test_what_is_preempted_waits_again_as_if_it_had_not_started() -> None:
    batch = Batch()
    batch.add(make_task("a"), make_task("b", priority=1))
    batch.do(InputsClosed())
    batch.end(batch.start()[0], failure("transient"))
    running = batch.start()[0]
    before = batch.state.records["a"]
    kept = (before.spent, before.deaths, before.losses, before.degradation, before.failure)
    assert kept[0] == 1
    assert batch.preempt(running) == [Cancel("a", 1, 2)]
    record = batch.state.records["a"]
    assert record.state is TaskState.QUEUED
    assert (record.spent, record.deaths, record.losses, record.degradation, record.failure) == kept
    assert batch.end(running) == [], "its outcome comes too late"
    assert batch.preempt(running) == []
    again, _ = batch.start(2)
    assert (again.task.id, again.attempt) == ("a", 3)
    assert batch.preempt(running) == []
    assert batch.is_("a") == "running"


def test_what_is_preempted_while_it_assembles_assembles_again_and_a_parked_one_is_held() -> None:
    batch = Batch()
    batch.add(make_task("p"), make_task("q"))
    parent, other = batch.start(2)
    batch.expand(parent, [child(parent.task, 0)])
    batch.end(batch.start()[0])
    assembling = batch.start()[0]
    batch.preempt(assembling)
    assert artifacts(batch.start()[0]) == {"p/0": "key-p/0"}
    batch.end(other, failure("config"))
    batch.do(Resumed())
    first, second = (dispatch for name in "pq" for dispatch in current(batch, name))
    batch.end(first, failure("config"))
    batch.preempt(second)
    batch.do(InputsClosed())
    assert batch.start() == []
    assert batch.state.finished == "parked"


def current(batch: Batch, task_id: str) -> list[Dispatch]:
    """The attempt that runs, started if it doesn't."""
    record = batch.state.records[task_id]
    if record.state is TaskState.RUNNING:
        return [Dispatch(record.task, record.epoch, record.attempt, {})]
    return [dispatch for dispatch in batch.start(9) if dispatch.task.id == task_id]


@pytest.mark.parametrize("kind", ["unknown", "permanent"])
def test_a_death_in_a_shared_process_counts_against_nobody_and_makes_suspects(kind: str) -> None:
    batch = Batch()
    batch.add(*(make_task(name, shared=True, max_retries=0) for name in "ab"), make_task("c"))
    first, second, third = batch.start(3)
    assert (first.alone, second.alone, third.alone) == (False, False, True)
    for dispatch in (first, second):
        batch.end(dispatch, failure(kind, "worker_died"), jitter=0.5)
        record = batch.state.records[dispatch.task.id]
        assert (record.state, record.queued_at) == (TaskState.QUEUED, batch.clock()), "at once: it wasn't its fault"
        assert (record.spent, record.deaths, record.losses, record.degradation) == (0, 0, 0, 0)
    suspects = batch.state.candidates(9, batch.clock())
    assert [task.shared for task in suspects] == [False, False], "it asks for what an own process takes"
    for dispatch in batch.start(2):
        assert dispatch.alone
        assert not dispatch.task.shared
        batch.end(dispatch)
    assert batch.states() == {"a": "succeeded", "b": "succeeded", "c": "running"}


def test_other_failures_in_a_shared_process_are_the_tasks_own() -> None:
    batch = Batch()
    batch.add(make_task("a", shared=True))
    batch.end(batch.start()[0], failure("transient"))
    (again,) = batch.start()
    assert not again.alone
    assert batch.state.records["a"].spent == 1


def test_a_suspect_that_ends_two_processes_of_its_own_is_quarantined() -> None:
    batch = Batch()
    batch.add(make_task("a", shared=True, max_retries=9, fingerprint="1"))
    for state, deaths in (("queued", 0), ("delayed", 1), ("failed", 2)):
        (dispatch,) = batch.start()
        assert dispatch.alone is (dispatch.attempt > 1)
        batch.end(dispatch, failure("unknown", "worker_died"))
        assert (batch.is_("a"), batch.state.records["a"].deaths) == (state, deaths)
    told = batch.state.records["a"].failure
    assert told is not None
    assert told.code == "quarantined"
    assert "ended 2 workers" in told.message
    batch.do(RetryFailed())
    (dispatch,) = batch.start()
    assert dispatch.alone, "what was quarantined isn't let in with others again"
    batch.end(dispatch, failure("permanent"))
    batch.add(make_task("a", shared=True, fingerprint="2"))
    assert not batch.start()[0].alone, "a changed input is another matter"


@pytest.mark.parametrize("code", sorted(LOST))
def test_lost_attempts_cost_no_retry_until_there_are_too_many(code: str) -> None:
    policy = replace(POLICY, max_losses=3)
    batch = Batch(policy)
    batch.add(make_task("a", max_retries=1))
    for lost in (1, 2, 3):
        batch.end(batch.start()[0], failure("unknown", code), jitter=0.5)
        record = batch.state.records["a"]
        assert (record.losses, record.spent, record.deaths, record.degradation) == (lost, 0, 0, 0)
        assert record.queued_at == batch.clock() + 0.5 * 2.0 ** (lost - 1)
        assert not record.recovered
        batch.clock.advance(60.0)
    batch.end(batch.start()[0], failure("unknown", code))
    record = batch.state.records["a"]
    assert (record.state, record.losses, record.spent, record.degradation) == (TaskState.DELAYED, 4, 1, 1)
    batch.end(batch.start()[0], failure("unknown", code))
    assert (batch.is_("a"), record.losses) == ("failed", 5)
    batch.do(RetryFailed())
    assert record.losses == 0


def test_losses_recover_nothing_because_nothing_was_wrong() -> None:
    batch = Batch()
    batch.add(make_task("lost"), make_task("flaky"))
    lost, flaky = batch.start(2)
    batch.end(lost, failure("unknown", "node_died"))
    batch.end(flaky, failure("transient"))
    for dispatch in batch.start(2):
        batch.end(dispatch)
    assert fold(batch.state, batch.clock(), {}).quality_metrics["recovered_count"] == 1


def test_out_of_memory_asks_for_more_up_to_the_largest_node() -> None:
    batch = Batch(largest_node_mb=1500)
    batch.add(make_task("a", max_retries=9, resources=ResourceRequest(memory_mb=512)))
    asked = []
    while dispatches := batch.start():
        asked.append(dispatches[0].task.resources.memory_mb)
        batch.end(dispatches[0], failure("resource", "out_of_memory"))
    # 1280, not 1536: requests go in steps of 256 MiB, and one that fits no node would hang.
    assert asked == [512, 1024, 1280]
    assert batch.is_("a") == "failed"


# Dependencies


def test_dependents_wait_for_all_that_they_need() -> None:
    batch = Batch()
    batch.add(make_task("a"), make_task("b"), make_task("c", depends_on=("a", "b")), make_task("d", depends_on=("c",)))
    first, second = batch.start(9)
    assert batch.states() == {"a": "running", "b": "running", "c": "blocked", "d": "blocked"}
    batch.end(first)
    assert batch.is_("c") == "blocked"
    batch.end(second)
    assert batch.states() == {"a": "succeeded", "b": "succeeded", "c": "queued", "d": "blocked"}


def test_dependents_of_a_failure_fail_with_it_and_name_it() -> None:
    batch = Batch()
    batch.add(make_task("a"), make_task("b", depends_on=("a",)), make_task("c", depends_on=("b",)))
    batch.end(batch.start()[0], failure("permanent"))
    assert batch.states() == {"a": "failed", "b": "failed", "c": "failed"}
    told = batch.state.records["b"].failure
    assert told is not None
    assert (told.code, told.failure_class) == ("dependency_failed", FailureClass.PERMANENT)
    assert told.message == "transcribe failed before it: it was permanent"
    batch.add(make_task("late", depends_on=("c",)))
    assert batch.is_("late") == "failed"
    last = batch.state.records["late"].failure
    assert last == told, "the first cause, told once however long the chain is"
    assert batch.do(InputsClosed()) == [Finish("complete")]


def test_a_chain_of_any_length_ends_with_its_head() -> None:
    batch = Batch()
    length = 2000
    tasks = [make_task("0")]
    tasks += [make_task(str(number), depends_on=(str(number - 1),)) for number in range(1, length)]
    batch.add(*tasks)
    batch.end(batch.start()[0], failure("permanent"))
    assert batch.state.ledger.counts[TaskState.FAILED] == length


def test_a_dependency_must_have_been_added() -> None:
    batch = Batch()
    with pytest.raises(UsageError, match="task b depends on a, which has not been added"):
        additions(batch.state.ledger, [make_task("b", depends_on=("a",)), make_task("a")])
    with pytest.raises(UsageError, match="depends on a"):
        additions(batch.state.ledger, [make_task("a", depends_on=("a",))])
    a, b = make_task("a"), make_task("b", depends_on=("a",))
    assert additions(batch.state.ledger, [a, b]) == [TasksAdded((a, b))]


def test_a_revived_task_learns_of_a_dependency_that_it_did_not_have() -> None:
    batch = Batch()
    batch.add(make_task("a"), make_task("b"))
    batch.do(Stopped())
    batch.take_over("the next run")
    batch.add(make_task("a"), make_task("b", depends_on=("a",)))
    batch.do(InputsClosed())
    assert batch.states() == {"a": "queued", "b": "blocked"}
    batch.end(batch.start(9)[0])
    assert batch.is_("b") == "queued"
    assert batch.end(batch.start(9)[0]) == [Finish("complete")]


# Adding again


def test_which_tasks_are_done_again() -> None:
    batch = Batch()
    batch.add(
        make_task("good", fingerprint="1"),
        make_task("bad", fingerprint="1"),
        make_task("open", fingerprint="1"),
    )
    good, bad = batch.start(2)
    batch.end(good)
    batch.end(bad, failure("permanent"))

    def sorted_out(fingerprint: str) -> tuple[list[str], list[str]]:
        tasks = [make_task(name, fingerprint=fingerprint) for name in ("good", "bad", "open", "new")]
        events = additions(batch.state.ledger, tasks)
        new = [task.id for event in events if isinstance(event, TasksAdded) for task in event.tasks]
        return new, [task.id for event in events if isinstance(event, Revived) for task in event.tasks]

    assert sorted_out("1") == (["new"], [])
    assert sorted_out("2") == (["new"], ["good", "bad"])


def test_a_task_that_is_given_twice_at_once_is_added_or_revived_once() -> None:
    batch = Batch()
    batch.add(make_task("a"), make_task("a"))
    assert batch.states() == {"a": "queued"}
    batch.do(Stopped())
    batch.take_over()
    batch.add(make_task("a"), make_task("a"))
    assert batch.states() == {"a": "queued"}


def test_a_revived_task_starts_afresh_but_its_attempts_go_on_counting() -> None:
    batch = Batch()
    batch.add(make_task("a", max_retries=1, fingerprint="1"))
    batch.end(batch.start()[0], failure("unknown", "worker_died"))
    batch.end(batch.start()[0], failure("unknown", "worker_died"))
    assert batch.is_("a") == "failed"
    batch.add(make_task("a", max_retries=1, fingerprint="2"))
    record = batch.state.records["a"]
    assert (record.spent, record.deaths, record.degradation, record.failure) == (0, 0, 0, None)
    third = batch.start()[0]
    assert (third.attempt, third.task.fingerprint) == (3, "2")
    batch.end(third, failure("unknown", "worker_died"))
    assert batch.is_("a") == "delayed"


def test_the_estimate_counts_what_this_run_has_done() -> None:
    batch = Batch()
    batch.add(*(make_task(name, size_bytes=10) for name in "abcd"))
    for dispatch in batch.start(2):
        batch.end(dispatch)
    batch.do(Stopped())
    batch.take_over("the next run")
    batch.add(*(make_task(name, size_bytes=10, fingerprint="changed") for name in "abcd"))
    batch.clock.advance(0.5)
    assert fold(batch.state, batch.clock(), {}).estimated_remaining_s is None
    batch.end(batch.start()[0])
    progress = fold(batch.state, batch.clock(), {})
    assert progress.estimated_remaining_s == pytest.approx(1.5)
    assert progress.quality_metrics["x_realtime"] == 0.0


def test_the_speed_counts_what_this_run_has_done() -> None:
    batch = Batch()
    batch.add(make_task("a"), make_task("b"))
    for dispatch in batch.start(2):
        batch.end(dispatch, Outcome(artifact_key="k", metrics={"duration_s": 60.0}))
    batch.take_over("the next run")
    batch.add(make_task("a", fingerprint="changed"), make_task("c"))
    batch.clock.advance(10.0)

    def speed() -> float:
        return float(fold(batch.state, batch.clock(), {}).quality_metrics["x_realtime"])

    assert speed() == 0.0
    batch.end(batch.start(1)[0], Outcome(artifact_key="k", metrics={"duration_s": 30.0}))
    assert speed() == 3.0


# Children


def test_children_run_and_then_their_parent_assembles() -> None:
    batch = Batch()
    batch.add(make_task("p"), make_task("after", depends_on=("p",)))
    batch.do(InputsClosed())
    parent = batch.start()[0]
    batch.expand(parent, [child(parent.task, 0), child(parent.task, 1)])
    assert batch.states() == {"p": "blocked", "after": "blocked", "p/0": "queued", "p/1": "queued"}
    assert fold(batch.state, batch.clock(), {}).total_tasks == 2
    for dispatch in batch.start(9):
        batch.end(dispatch)
    (again,) = batch.start(9)
    made = {name: Result(f"key-{name}", {}, "transcribe") for name in ("p/0", "p/1")}
    assert again == Dispatch(parent.task, 1, 2, made)
    batch.end(again)
    assert batch.is_("after") == "queued"


def test_a_parent_fails_when_all_children_have_ended_and_one_failed() -> None:
    batch = Batch()
    batch.add(make_task("p"), make_task("after", depends_on=("p",)))
    parent = batch.start()[0]
    batch.expand(parent, [child(parent.task, number) for number in range(3)])
    first, second, third = batch.start(9)
    batch.end(second, failure("permanent"))
    batch.end(first)
    assert batch.is_("p") == "blocked"
    batch.end(third)
    assert batch.is_("p") == "failed"
    assert batch.is_("after") == "failed"
    told = batch.state.records["p"].failure
    assert told is not None
    assert told.message == "1 of 3 chunks failed: it was permanent"
    assert [entry["task_id"] for entry in failures_of(batch.state)] == ["p", "after"]


def test_a_parent_fails_as_its_only_child_did() -> None:
    batch = Batch()
    batch.add(make_task("p"))
    parent = batch.start()[0]
    batch.expand(parent, [child(parent.task, 0)])
    batch.end(batch.start()[0], failure("permanent"))
    told = batch.state.records["p"].failure
    assert told is not None
    assert told.message == "it was permanent"


def test_children_of_children_and_dependents_among_children_tell_those_above() -> None:
    batch = Batch()
    batch.add(make_task("p"))
    batch.do(InputsClosed())
    top = batch.start()[0]
    batch.expand(top, [child(top.task, 0), child(top.task, 1, depends_on=("p/0",))])
    middle = batch.start(9)[0]
    batch.expand(middle, [child(middle.task, 0)])
    bottom = batch.start(9)[0]
    assert bottom.task.id == "p/0/0"
    commands = batch.end(bottom, failure("permanent"))
    assert batch.states() == {"p": "failed", "p/0": "failed", "p/1": "failed", "p/0/0": "failed"}
    assert commands == [Finish("complete")]


def test_a_second_expansion_does_only_what_changed() -> None:
    batch = Batch()
    batch.add(make_task("p", fingerprint="1"))
    parent = batch.start()[0]
    batch.expand(parent, [child(parent.task, number, fingerprint="same") for number in range(2)])
    first, second = batch.start(9)
    batch.end(first)
    batch.end(second, failure("permanent"))
    batch.add(make_task("p", fingerprint="2"))
    again = batch.start()[0]
    batch.expand(again, [child(again.task, number, fingerprint="same") for number in range(2)])
    assert batch.states() == {"p": "blocked", "p/0": "succeeded", "p/1": "queued"}
    batch.end(batch.start()[0])
    assert artifacts(batch.start()[0]) == {"p/0": "key-p/0", "p/1": "key-p/1"}


def test_a_second_expansion_with_nothing_left_to_do_goes_straight_on() -> None:
    batch = Batch()
    batch.add(make_task("p", fingerprint="1"))
    parent = batch.start()[0]
    batch.expand(parent, [child(parent.task, 0, fingerprint="same")])
    batch.end(batch.start()[0])
    batch.take_over()
    batch.end(batch.start()[0])
    batch.add(make_task("p", fingerprint="2"))
    batch.expand(batch.start()[0], [child(parent.task, 0, fingerprint="same")])
    assert batch.states() == {"p": "queued", "p/0": "succeeded"}


# Parking


def test_a_config_failure_parks_the_provider_and_burns_nothing() -> None:
    batch = Batch()
    batch.add(make_task("a"), make_task("b"), make_task("other", provider="another"))
    batch.do(InputsClosed())
    a, other = batch.start(1)[0], None
    batch.end(a, failure("config"))
    assert [task.id for task in batch.state.candidates(9, batch.clock())] == ["other"]
    assert batch.states() == {"a": "queued", "b": "queued", "other": "queued"}
    assert set(batch.state.parked) == {"scripted"}
    assert batch.state.records["a"].spent == 0
    other = batch.start(9)[0]
    assert batch.end(other) == [Finish("parked")]
    assert fold(batch.state, batch.clock(), {}).parked == {"scripted": "it was config"}


def test_resuming_and_another_run_try_parked_providers_again() -> None:
    batch = Batch()
    batch.add(make_task("a"))
    batch.end(batch.start()[0], failure("config"))
    assert batch.start() == []
    batch.do(Resumed())
    dispatch = batch.start()[0]
    assert dispatch.attempt == 2
    batch.end(dispatch, failure("config"))
    assert batch.do(InputsClosed()) == [Finish("parked")]
    batch.take_over()
    assert not batch.state.parked
    assert batch.start()[0].attempt == 3


def test_what_parks_everything_and_whom_a_failure_names() -> None:
    batch = Batch()
    batch.add(make_task("a"), make_task("b", provider="another"))
    batch.end(batch.start()[0], failure("config", parks="*"))
    assert batch.state.candidates(9, batch.clock()) == []
    batch.add(make_task("c", provider="third"))
    assert batch.state.candidates(9, batch.clock()) == []

    named = Batch()
    named.add(make_task("a"), make_task("b", provider="another"))
    named.end(named.start()[0], failure("config", parks="another"))
    assert [task.id for task in named.state.candidates(9, named.clock())] == ["a"]

    nobody = Batch()
    nobody.add(make_task("a", provider=""), make_task("b", provider="another"))
    nobody.end(nobody.start()[0], failure("config"))
    assert nobody.state.candidates(9, nobody.clock()) == []


def test_a_delayed_task_of_a_parked_provider_is_held_when_its_time_comes() -> None:
    batch = Batch()
    batch.add(make_task("a"), make_task("b"), make_task("c", provider="another"))
    batch.end(batch.start()[0], failure("transient"), jitter=0.5)
    batch.end(batch.start()[0], failure("config"))
    batch.do(InputsClosed())
    assert not batch.state.finished
    batch.clock.advance(1.0)
    assert [task.id for task in batch.state.candidates(9, batch.clock())] == ["c"]
    assert batch.states() == {"a": "queued", "b": "queued", "c": "queued"}
    assert batch.end(batch.start()[0]) == [Finish("parked")]


@pytest.mark.parametrize("late", ["a", "b"])
def test_no_batch_waits_for_the_delays_of_parked_providers_because_nothing_would_wake_it(late: str) -> None:
    batch = Batch()
    batch.add(make_task("a"), make_task("b"), make_task("c", depends_on=("a",)))
    batch.do(InputsClosed())
    first, second = sorted(batch.start(2), key=lambda dispatch: dispatch.task.id == late)
    outcomes = {"a": failure("transient"), "b": failure("config")}
    assert batch.end(first, outcomes[first.task.id], jitter=0.5) == []
    assert batch.end(second, outcomes[second.task.id], jitter=0.5) == [Finish("parked")]
    assert batch.states() == {"a": "delayed", "b": "queued", "c": "blocked"}
    batch.take_over()
    batch.clock.advance(1.0)
    assert [dispatch.task.id for dispatch in batch.start(9)] == ["b", "a"]


def test_a_batch_waits_for_the_delays_of_others() -> None:
    batch = Batch()
    batch.add(make_task("a", provider="another"), make_task("b"))
    batch.do(InputsClosed())
    first, second = batch.start(2)
    batch.end(first, failure("transient"), jitter=0.5)
    assert batch.end(second, failure("config")) == []
    batch.clock.advance(1.0)
    assert batch.end(batch.start()[0]) == [Finish("parked")]


def test_a_delayed_task_of_a_provider_that_another_task_parked_ends_the_batch() -> None:
    batch = Batch()
    batch.add(make_task("a", provider="another"), make_task("b"))
    batch.do(InputsClosed())
    first, second = batch.start(2)
    batch.end(first, failure("transient"), jitter=0.5)
    assert batch.end(second, failure("config", parks="another")) == []
    assert batch.end(batch.start()[0]) == [Finish("parked")]
    assert batch.states() == {"a": "delayed", "b": "succeeded"}


# Time, and what is refused


def test_time_never_runs_backwards() -> None:
    batch = Batch()
    at = batch.clock()
    batch.state.handle(TasksAdded((make_task("a"),)), at - 100)
    assert batch.state.now == at
    assert batch.state.records["a"].queued_at == at


@pytest.mark.parametrize("event", [TasksAdded((make_task("a"),)), Started((("a", 2),)), Revived((make_task("a"),))])
def test_illegal_events_are_refused_with_the_tasks_story(event: Event) -> None:
    batch = Batch()
    batch.add(make_task("a"))
    batch.start()
    with pytest.raises(IllegalTransition) as caught:
        batch.do(event)
    assert "task a" in str(caught.value)
    at = f"{batch.clock():.3f}"
    assert f"{at} added -> blocked; {at} ready -> queued; {at} start -> running" in str(caught.value)


def test_an_attempt_has_the_number_after_the_last_one() -> None:
    batch = Batch()
    batch.add(make_task("a"))
    for attempt in (0, 2):
        with pytest.raises(IllegalTransition, match=f"task a can't start attempt {attempt}: .*ready -> queued"):
            batch.do(Started((("a", attempt),)))


def test_blocked_and_delayed_tasks_do_not_start() -> None:
    batch = Batch()
    batch.add(make_task("a"), make_task("b", depends_on=("a",)))
    with pytest.raises(IllegalTransition, match="task b is blocked and can't start"):
        batch.do(Started((("b", 1),)))
    batch.end(batch.start()[0], failure("transient"), jitter=0.5)
    with pytest.raises(IllegalTransition, match="task a is delayed and can't start"):
        batch.do(Started((("a", 2),)))


@pytest.mark.parametrize("state", list(TaskState))
@pytest.mark.parametrize("cause", list(Cause))
def test_the_transition_table_is_all_that_is_allowed(state: TaskState, cause: Cause) -> None:
    ledger = Ledger()
    record = ledger.add(make_task("a"))
    reach(ledger, record, state)
    target = TRANSITIONS.get((state, cause))
    if target is None:
        with pytest.raises(IllegalTransition, match=f"task a is {state.value} and can't {cause.value}: .*added"):
            ledger.move(record, cause)
        assert record.state is state
    else:
        ledger.move(record, cause)
        assert record.state is target
        assert +ledger.counts == {target: 1}
    assert not any(source.terminal and cause is not Cause.REVIVE for source, cause in TRANSITIONS), (
        "nothing but a revival leaves a terminal state"
    )


def reach(ledger: Ledger, record: TaskRecord, state: TaskState) -> None:
    """Bring a new record to a state."""
    ways = {
        TaskState.BLOCKED: [],
        TaskState.QUEUED: [Cause.READY],
        TaskState.RUNNING: [Cause.READY, Cause.START],
        TaskState.DELAYED: [Cause.READY, Cause.START, Cause.RETRY],
        TaskState.SUCCEEDED: [Cause.READY, Cause.START, Cause.SUCCEED],
        TaskState.FAILED: [Cause.READY, Cause.START, Cause.FAIL],
        TaskState.CANCELLED: [Cause.CANCEL],
    }
    for cause in ways[state]:
        ledger.move(record, cause)


def test_a_story_is_the_last_eight_changes() -> None:
    batch = Batch()
    batch.add(make_task("a", max_retries=9))
    for _ in range(5):
        batch.end(batch.start()[0], failure("transient"))
    story = batch.state.records["a"].tell().split("; ")
    assert len(story) == 8
    assert story[-1].endswith("retry -> delayed")


# Replay


def test_a_replay_of_the_journal_gives_the_same_state() -> None:
    batch = Batch(largest_node_mb=4096)
    batch.add(make_task("p", note="caf\udce9"), make_task("x", max_retries=1), make_task("y", depends_on=("x",)))
    parent, other = batch.start(2)
    batch.expand(parent, [child(parent.task, 0), child(parent.task, 1)])
    batch.end(other, failure("resource", "out_of_memory"), jitter=0.3)
    batch.clock.advance(0.7)
    for dispatch in batch.start(2):
        batch.end(dispatch, Outcome(artifact_key="k", metrics={"duration_s": 1.5, "warnings": ["repetition"]}))
    batch.take_over()
    batch.do(Paused(request="p"))
    batch.do(Resumed(request="r"))
    batch.do(Scaled(2, "memory"))
    batch.add(make_task("s", shared=True), make_task("l"), make_task("m"))
    running = {dispatch.task.id: dispatch for dispatch in batch.start(9)}
    batch.end(running["s"], failure("unknown", "worker_died"))
    batch.end(running["l"], failure("unknown", "node_died"), jitter=0.7)
    batch.preempt(running["m"])
    batch.end(running["p"], failure("permanent"))
    batch.do(RetryFailed(request="f"))
    batch.do(RetryFailed(request="f"))
    batch.do(Draining())
    replayed = batch.replayed()
    for state in (batch.state, replayed):
        state.candidates(1, batch.clock())
    assert replayed.dump() == batch.state.dump()
    assert json.loads(json.dumps(replayed.dump())) == replayed.dump()


# Runs


def test_another_run_does_what_it_is_given_and_counts_nothing_else() -> None:
    batch = Batch()
    batch.add(*(make_task(name, fingerprint="1") for name in ("done", "failed", "running", "waiting")))
    done, failed, _ = batch.start(3)
    batch.end(done, Outcome(artifact_key="k", metrics={"duration_s": 60.0}))
    batch.end(failed, failure("permanent"))
    batch.take_over("the next run")
    assert batch.states() == {"done": "succeeded", "failed": "failed", "running": "cancelled", "waiting": "cancelled"}
    assert fold(batch.state, batch.clock(), {}).total_tasks == 0
    batch.add(make_task("done", fingerprint="1"), make_task("running", fingerprint="1"), make_task("new"))
    progress = fold(batch.state, batch.clock(), {})
    assert (progress.total_tasks, progress.completed_tasks, progress.failed_tasks) == (3, 1, 0)
    assert progress.quality_metrics["audio_s"] == 60.0
    assert progress.quality_metrics["x_realtime"] == 0.0
    assert failures_of(batch.state) == []
    batch.do(InputsClosed())
    started = batch.start(9)
    assert [dispatch.task.id for dispatch in started] == ["running", "new"]
    commands = [command for dispatch in started for command in batch.end(dispatch)]
    assert commands == [Finish("complete")]
    assert batch.state.ledger.total.verdicts[TaskState.FAILED] == 1


def test_a_coordinator_that_replaces_a_dead_one_goes_on_with_everything() -> None:
    batch = Batch()
    batch.take_over("a run")
    batch.add(make_task("a"), make_task("b"))
    batch.start()
    batch.take_over()
    assert batch.states() == {"a": "queued", "b": "queued"}
    assert fold(batch.state, batch.clock(), {}).total_tasks == 2


def test_what_failed_for_another_task_is_given_another_chance() -> None:
    batch = Batch()
    batch.add(make_task("first", fingerprint="1"), make_task("second", depends_on=("first",), fingerprint="1"))
    batch.end(batch.start()[0], failure("permanent"))
    assert batch.states() == {"first": "failed", "second": "failed"}
    batch.take_over("the next run")
    batch.add(make_task("first", fingerprint="2"), make_task("second", depends_on=("first",), fingerprint="1"))
    assert batch.states() == {"first": "queued", "second": "blocked"}
    batch.end(batch.start()[0])
    batch.end(batch.start()[0])
    assert batch.states() == {"first": "succeeded", "second": "succeeded"}


def test_finished_chunks_count_towards_the_estimate() -> None:
    batch = Batch()
    batch.add(make_task("long", size_bytes=100))
    children = tuple(make_task(f"long/{number}", parent="long", file_id="long", size_bytes=25) for number in range(4))
    batch.expand(batch.start()[0], children)
    batch.clock.advance(10.0)
    batch.end(batch.start()[0])
    assert fold(batch.state, batch.clock(), {}).estimated_remaining_s == pytest.approx(30.0)
    half = fold(batch.state, batch.clock(), {"long/1": 0.5})
    assert half.estimated_remaining_s == pytest.approx(10.0 * 62.5 / 37.5)


def test_a_recording_that_is_given_again_and_waits_has_no_chunks_yet() -> None:
    batch = Batch()
    batch.add(make_task("before", fingerprint="1"), make_task("long", fingerprint="1"))
    _, long = batch.start(2)
    batch.expand(long, [make_task("long/0", parent="long", file_id="long")])
    batch.do(Stopped())
    batch.take_over("the next run")
    batch.add(make_task("before", fingerprint="1"), make_task("long", fingerprint="2", depends_on=("before",)))
    assert batch.is_("long") == "blocked"
    assert fold(batch.state, batch.clock(), {}).total_tasks == 2


def test_the_chunks_of_a_recording_come_before_the_next_recording() -> None:
    batch = Batch()
    batch.add(make_task("first"), make_task("second"))
    first = batch.start()[0]
    batch.expand(first, [child(first.task, 0), child(first.task, 1)])
    assert [dispatch.task.id for dispatch in batch.start(3)] == ["first/0", "first/1", "second"]


def test_what_succeeded_and_whose_results_are_missing_is_done_again() -> None:
    batch = Batch()
    first, second = make_task("a"), make_task("b", depends_on=("a",))
    batch.add(first, second)
    for _ in "ab":
        batch.end(batch.start()[0])
    batch.do(InputsClosed())
    batch.take_over("another")
    assert additions(batch.state.ledger, [first, second]) == [Known(("a", "b"))]
    found = additions(batch.state.ledger, [first, second], {"b"})
    assert found == [Known(("a",)), Revived((second,))]
    assert additions(batch.state.ledger, [first, second], {"a"}) == [Revived((first,)), Known(("b",))]


def test_a_dispatch_brings_what_the_tasks_made_that_it_depends_on() -> None:
    batch = Batch()
    batch.add(make_task("a", kind="download"), make_task("b"), make_task("c", depends_on=("b", "a")))
    for dispatch in batch.start(2):
        assert (dispatch.needed, dispatch.children) == ({}, {})
        made = Outcome(artifact_key=f"key-{dispatch.task.id}", metrics={"outputs": [f"{dispatch.task.id}.mp3"]})
        batch.end(dispatch, made)
    (dispatch,) = batch.start()
    assert list(dispatch.needed.items()) == [
        ("b", Result("key-b", {"outputs": ["b.mp3"]}, "transcribe")),
        ("a", Result("key-a", {"outputs": ["a.mp3"]}, "download")),
    ]
    batch.expand(dispatch, [make_task("c/0", parent="c", chunk=0, depends_on=("a",))])
    (part,) = batch.start()
    assert set(part.needed) == {"a"}, "a part gets it too"
