"""The journal replayed for the report: the same state, and every attempt with how it ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from test_report_support import NO_SAMPLES, START, TIMEOUT, Batch, failed, tell_everything, worked

from trax_ray.core.limits.signals import ProviderSignal
from trax_ray.core.state.events import (
    AttemptEnded,
    CoordinatorStarted,
    Draining,
    InputsClosed,
    Paused,
    Preempted,
    RetryFailed,
    Scaled,
    Stopped,
    TasksAdded,
)
from trax_ray.core.task import Category, Failure, FailureClass, Outcome
from trax_ray.errors import FileError, JournalError
from trax_ray.report.fold import Attempt, read_history

LOST = Failure(FailureClass.UNKNOWN, Category.RESOURCE, "node_died", "the node was lost")
DIED = Failure(FailureClass.UNKNOWN, Category.RESOURCE, "worker_died", "the worker died")


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[Batch]:
    batch = Batch(tmp_path / "out")
    yield batch
    batch.close()


def test_the_state_is_the_coordinators(tmp_path: Path) -> None:
    batch = tell_everything(tmp_path)
    batch.close()
    history = read_history(str(tmp_path))
    assert history.state.dump() == batch.state.dump()
    assert [(run.epoch, run.holder) for run in history.runs] == [(1, "batch on host-1"), (2, "batch on host-1")]
    assert history.started_at == START
    assert history.worked_s == 60 + 10, "without the time when nobody was at work"


def test_every_attempt_and_how_it_ended(tmp_path: Path) -> None:
    tell_everything(tmp_path).close()
    history = read_history(tmp_path)
    name = {task_id: record.task.data.get("name", task_id) for task_id, record in history.state.records.items()}
    told = [(name[each.task_id], each.epoch, each.attempt, each.outcome) for each in history.attempts]
    assert told == [
        ("good.mp3", 1, 1, "succeeded"),
        ("long.mp3", 1, 1, "expanded"),
        ("long.mp3", 1, 1, "succeeded"),
        ("long.mp3", 1, 1, "succeeded"),
        ("long.mp3", 1, 2, "succeeded"),
        ("flaky.mp3", 1, 1, "failed"),
        ("flaky.mp3", 1, 2, "succeeded"),
        ("broken.mp3", 1, 1, "failed"),
        ("silence.wav", 1, 1, "succeeded"),
        ("p-1", 1, 1, "succeeded"),
        ("p-2", 1, 1, "failed"),
        ("b\udcffd.wav", 1, 1, "interrupted"),
        ("b\udcffd.wav", 2, 2, "succeeded"),
        ("late.mp3", 2, 1, "failed"),
    ]
    assert history.retries == 1


def test_times_are_the_workers_where_it_told_them(batch: Batch) -> None:
    batch.open(0)
    told, silent = batch.task("told.mp3"), batch.task("silent.mp3")
    batch.add(TasksAdded((told, silent)), 0)
    batch.start(1, told, silent)
    batch.end(9, told, worked(started_at=START + 2, ended_at=START + 8))
    batch.end(9, silent, worked())
    attempts = read_history(batch.layout.output_dir).attempts
    assert [(each.started_at - START, (each.ended_at or 0) - START) for each in attempts] == [(2, 8), (1, 9)]


def test_an_attempt_that_runs_has_no_end(batch: Batch) -> None:
    batch.open(0)
    task = batch.task("a.mp3")
    batch.add(TasksAdded((task,)), 0)
    batch.start(1, task)
    assert read_history(batch.layout.output_dir).attempts == [
        Attempt(task.id, epoch=1, attempt=1, limit=4, priority=0, started_at=START + 1)
    ]


def test_a_retry_has_a_delay_and_a_lower_rank(batch: Batch) -> None:
    batch.open(0)
    task = batch.task("a.mp3", priority=7)
    batch.add(TasksAdded((task,)), 0)
    for at in (0, 10, 20, 40):
        batch.start(at, task)
        batch.end(at + 1, task, failed(TIMEOUT), jitter=0.75)
    attempts = read_history(batch.layout.output_dir).attempts
    assert [each.delay_s for each in attempts] == [5.0, 5.0, 5.0, 0.0], "Retry-After is 5 s; the last has no retry"
    assert [each.retried for each in attempts] == [True, True, True, False]
    assert [each.priority for each in attempts] == [7, 8, 9, 10]
    assert [(each.attempt, each.limit) for each in attempts] == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_an_interrupted_attempt_spends_no_retry(batch: Batch) -> None:
    batch.open(0)
    task = batch.task("a.mp3")
    batch.add(TasksAdded((task,)), 0)
    batch.start(1, task)
    batch.open(100)
    batch.start(101, task)
    first, second = read_history(batch.layout.output_dir).attempts
    assert (first.outcome, first.ended_at, first.retried) == ("interrupted", None, False)
    assert (second.outcome, second.attempt, second.limit) == ("running", 2, 5)


def test_an_outcome_that_comes_too_late_changes_nothing(batch: Batch) -> None:
    batch.open(0)
    task = batch.task("a.mp3")
    batch.add(TasksAdded((task,)), 0)
    batch.start(1, task)
    batch.open(100)
    batch.start(101, task)
    batch.add(AttemptEnded(task.id, 1, 1, worked()), 102)
    batch.add(Stopped(), 103)
    batch.add(AttemptEnded(task.id, 2, 2, failed(NO_SAMPLES)), 104)
    first, second = read_history(batch.layout.output_dir).attempts
    assert (first.outcome, second.outcome, second.failure) == ("interrupted", "cancelled", None)
    assert second.ended_at == START + 103


def test_a_preempted_attempt_ended_and_spent_no_retry(batch: Batch) -> None:
    batch.open(0)
    task = batch.task("a.mp3")
    batch.add(TasksAdded((task,)), 0)
    batch.start(1, task)
    batch.add(Preempted(task.id, 1, 1, "memory"), 2)
    batch.add(AttemptEnded(task.id, 1, 1, worked()), 3)
    batch.start(4, task)
    for stale in (Preempted(task.id, 1, 1, "memory"), Preempted(task.id, 0, 2, "memory")):
        batch.add(stale, 5)
    history = read_history(batch.layout.output_dir)
    first, second = history.attempts
    assert (first.outcome, first.ended_at, first.failure) == ("preempted", START + 2, None)
    assert (first.delay_s, first.retried) == (0.0, False)
    assert (second.outcome, second.attempt, second.limit, second.priority) == ("running", 2, 5, first.priority)
    assert history.retries == 0


def test_a_lost_attempt_failed_and_is_made_again_but_that_is_no_retry(batch: Batch) -> None:
    batch.open(0)
    task = batch.task("a.mp3")
    batch.add(TasksAdded((task,)), 0)
    for at, failure in ((0, LOST), (100, TIMEOUT), (200, LOST)):
        batch.start(at, task)
        batch.end(at + 1, task, failed(failure), jitter=0.5)
    history = read_history(batch.layout.output_dir)
    assert [each.outcome for each in history.attempts] == ["failed"] * 3
    assert [each.failure for each in history.attempts] == [LOST, TIMEOUT, LOST]
    assert [each.delay_s for each in history.attempts] == [0.5, 5.0, 1.0]
    assert [each.retried for each in history.attempts] == [False, True, False]
    assert [each.limit for each in history.attempts] == [4, 5, 5], "a retry more, as none was spent"
    assert history.retries == 1


def test_an_attempt_in_a_shared_process_that_died_failed_and_is_no_retry(batch: Batch) -> None:
    batch.open(0)
    task = replace(batch.task("a.mp3"), shared=True)
    batch.add(TasksAdded((task,)), 0)
    batch.start(1, task)
    batch.end(2, task, failed(DIED))
    batch.start(3, task)
    batch.end(4, task, worked())
    history = read_history(batch.layout.output_dir)
    first, second = history.attempts
    assert (first.outcome, first.failure, first.delay_s, first.retried) == ("failed", DIED, 0.0, False)
    assert (second.outcome, second.failure) == ("succeeded", None)


def test_what_nobody_heard_of_again_costs_what_it_was_expected_to_as_in_the_machine(batch: Batch) -> None:
    """Lost with its process, preempted, interrupted, cancelled; one that was answered costs what it says."""
    batch.open(0)
    plain = batch.task("a.mp3")
    task = replace(plain, shared=True, data={**plain.data, "estimate_usd": 0.5})
    batch.add(TasksAdded((task,)), 0)
    batch.start(1, task)
    batch.end(2, task, failed(DIED))
    batch.start(3, task)
    batch.add(Preempted(task.id, 1, 2, "memory"), 4)
    batch.start(5, task)
    batch.open(100)
    batch.start(101, task)
    batch.end(102, task, Outcome(failure=TIMEOUT, signal=ProviderSignal(cost_usd=0.125), metrics={"cost_usd": 0.125}))
    batch.start(200, task)
    batch.add(Stopped(), 201)
    history = read_history(batch.layout.output_dir)
    assert [each.outcome for each in history.attempts] == ["failed", "preempted", "interrupted", "failed", "cancelled"]
    assert [each.cost_usd for each in history.attempts] == [0.5, 0.5, 0.5, 0.125, 0.5]
    assert history.state.services.spent_usd == pytest.approx(2.125)


def test_how_many_were_let_run_and_when_and_why(batch: Batch) -> None:
    batch.open(0)
    batch.add(Scaled(4, ""), 1)
    batch.add(Scaled(1, "memory"), 2)
    batch.open(100)
    batch.add(Scaled(4, ""), 101)
    history = read_history(batch.layout.output_dir)
    assert history.decisions == [
        (START + 1, Scaled(4, "")),
        (START + 2, Scaled(1, "memory")),
        (START + 101, Scaled(4, "")),
    ]


def test_a_request_that_was_answered_before_ends_no_attempt(batch: Batch) -> None:
    batch.open(0)
    task = batch.task("a.mp3")
    batch.add(Stopped(request="r"), 1)
    batch.open(10)
    batch.add(TasksAdded((task,)), 11)
    batch.start(12, task)
    batch.add(Stopped(request="r"), 13)
    batch.end(14, task, worked())
    (attempt,) = read_history(batch.layout.output_dir).attempts
    assert (attempt.outcome, attempt.ended_at) == ("succeeded", START + 14)


def test_pauses_signals_and_retry_failed_end_no_attempt(batch: Batch) -> None:
    batch.open(0)
    bad, task = batch.task("bad.mp3"), batch.task("a.mp3")
    batch.add(TasksAdded((bad, task)), 0)
    batch.start(1, bad, task)
    batch.end(2, bad, failed(NO_SAMPLES))
    batch.add(RetryFailed(request="r"), Paused(), Draining(), 3)
    history = read_history(batch.layout.output_dir)
    assert history.state.dump() == batch.state.dump()
    assert [each.outcome for each in history.attempts] == ["failed", "running"]
    batch.start(4, bad)
    again = read_history(batch.layout.output_dir).attempts[-1]
    assert (again.task_id, again.attempt, again.limit) == (bad.id, 2, 5), "with all its retries"


def test_a_quarantined_task_says_so(batch: Batch) -> None:
    batch.open(0)
    task = batch.task("a.mp3")
    batch.add(TasksAdded((task,)), InputsClosed(), 0)
    for at in (0, 100):
        batch.start(at, task)
        batch.end(at + 1, task, failed(DIED))
    first, second = read_history(batch.layout.output_dir).attempts
    assert first.failure == DIED
    assert second.failure is not None
    assert (second.failure.code, second.failure.failure_class) == ("quarantined", FailureClass.PERMANENT)


def test_the_last_spec_counts(batch: Batch) -> None:
    batch.open(0)
    assert batch.journal is not None
    batch.add(CoordinatorStarted(1, batch.spec.to_dict() | {"name": "later"}), 5)
    assert read_history(batch.layout.output_dir).spec["name"] == "later"


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_without_a_batch(tmp_path: Path, there: bool) -> None:
    out = tmp_path / "out"
    if there:
        out.mkdir()
    with pytest.raises(FileError, match=r"no batch in .*/out: .*trax-ray batch"):
        read_history(out)
    assert out.exists() is there, "reading makes nothing"


@pytest.mark.parametrize("record", [{"event": "Teleported", "at": 1.0}, {"event": "Stopped", "at": 1.0, "mood": 1}])
def test_a_record_of_another_version(batch: Batch, record: dict[str, object]) -> None:
    batch.open(0)
    assert batch.journal is not None
    batch.journal.append([record])
    with pytest.raises(JournalError, match="use the version that wrote it"):
        read_history(batch.layout.output_dir)
