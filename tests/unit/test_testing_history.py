"""The checker of histories: good ones pass, and for every promise one that breaks it is found, with the task's name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from trax_ray.core.limits.signals import ProviderSignal, SignalKind
from trax_ray.core.state.events import (
    AttemptEnded,
    CoordinatorStarted,
    Draining,
    Event,
    Expanded,
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
    encode_event,
)
from trax_ray.core.task import BatchTask, Category, Failure, FailureClass, Outcome
from trax_ray.store.artifacts import ArtifactStore
from trax_ray.store.epochs import OpenedJournal, open_journal, segment_path
from trax_ray.store.journal import encode_group
from trax_ray.store.layout import Layout
from trax_ray.testing.factories import make_spec, make_task
from trax_ray.testing.history import Findings, check, main

TIMEOUT = Failure(FailureClass.TRANSIENT, Category.NETWORK, "timeout", "it took too long")
BROKEN = Failure(FailureClass.PERMANENT, Category.FILE, "no_samples", "there is nothing in it")
NO_KEY = Failure(FailureClass.CONFIG, Category.NETWORK, "authentication", "the key is refused")
CRASH = Failure(FailureClass.UNKNOWN, Category.PROCESSING, "worker_died", "the worker died")
NODE_LOST = Failure(FailureClass.UNKNOWN, Category.RESOURCE, "node_died", "the node died")


class Writer:
    """Writes a journal event by event, right or wrong."""

    def __init__(self, out: Path) -> None:
        self.layout = Layout(out)
        self.artifacts = ArtifactStore(self.layout.artifacts)
        self.journal: OpenedJournal | None = None
        self.epoch = 0
        self.at = 1_000_000.0

    def tell(self, *events: Event) -> None:
        """Events of one group."""
        self.at += 1.0
        assert self.journal is not None
        self.journal.append([encode_event(event, self.at) for event in events])

    def write(self, *records: dict[str, Any]) -> None:
        """Records as they are."""
        assert self.journal is not None
        self.journal.append(records)

    def open(self) -> None:
        """Take the next epoch, and say nothing yet."""
        self.close()
        self.journal = open_journal(self.layout.journal, "a test", self.at)
        self.epoch = self.journal.epoch

    def coordinator(self, run: str = "run 1") -> None:
        self.open()
        self.tell(CoordinatorStarted(self.epoch, make_spec(self.layout.output_dir).to_dict(), run=run))

    def add(self, *tasks: BatchTask) -> None:
        self.tell(TasksAdded(tasks))

    def start(self, task_id: str, attempt: int = 1) -> None:
        self.tell(Started(((task_id, attempt),)))

    def end(
        self,
        task_id: str,
        attempt: int = 1,
        failure: Failure | None = None,
        *,
        epoch: int = 0,
        key: str | None = None,
    ) -> None:
        outcome = Outcome(failure=failure) if failure else Outcome(artifact_key=key or self.artifact(task_id))
        self.tell(AttemptEnded(task_id, epoch or self.epoch, attempt, outcome))

    def expand(self, task_id: str, attempt: int, *children: BatchTask) -> None:
        self.tell(Expanded(task_id, self.epoch, attempt, Outcome(children=children)))

    def do(self, task_id: str, attempt: int = 1) -> None:
        """An attempt that succeeds."""
        self.start(task_id, attempt)
        self.end(task_id, attempt)

    def artifact(self, task_id: str) -> str:
        key = self.artifacts.key("0" * 64, "transcript", {"task": task_id}, "m", 1)
        self.artifacts.put(key, {"text": task_id})
        return key

    def check(self, **options: bool) -> Findings:
        return check(self.layout.output_dir, **options)

    def close(self) -> None:
        if self.journal is not None:
            self.journal.close()
            self.journal = None

    @contextmanager
    def older(self) -> Iterator[None]:
        """Let the coordinator before this one write once more."""
        young, epoch = self.journal, self.epoch
        self.journal, self.epoch = self._old, self._old.epoch
        yield
        self._old.close()
        self.journal, self.epoch = young, epoch

    def overtake(self, run: str = "run 1") -> None:
        """Another coordinator takes over while the one before still has its segment open."""
        assert self.journal is not None
        self._old, self.journal = self.journal, None
        self.coordinator(run)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    writer = Writer(tmp_path / "out")
    yield writer
    writer.close()


def chunk(parent: str, number: int, **fields: Any) -> BatchTask:
    return make_task(f"{parent}/{number}", parent=parent, file_id=parent, chunk=number, **fields)


def found(writer: Writer, *parts: str, **options: bool) -> str:
    """The only sentence that is found, which has all of these in it."""
    problems = writer.check(**options).problems
    assert len(problems) == 1, problems
    missing = [part for part in parts if part not in problems[0]]
    assert not missing, (missing, problems[0])
    return problems[0]


# Good histories


def test_a_plain_batch(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"), make_task("b", depends_on=("a",)))
    writer.tell(InputsClosed(), Scaled(2, ""))
    writer.do("a")
    writer.do("b")
    findings = writer.check()
    assert findings == Findings((), inputs=2, tasks=2, attempts=2, successes=2, epochs=1)
    assert str(findings) == (
        "2 inputs, 2 tasks; 2 attempts: 2 succeeded, 0 interrupted, 0 outcomes dropped; 0 tasks done again; "
        "1 coordinators; no problems"
    )


def test_retries_crashes_lost_nodes_and_what_failed_for_good(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("flaky", max_retries=1), make_task("bad"), make_task("needs bad", depends_on=("bad",)))
    writer.add(
        make_task("needs that", depends_on=("needs bad",)), make_task("deadly"), make_task("weak", max_retries=0)
    )
    writer.start("flaky")
    writer.end("flaky", 1, NODE_LOST)
    writer.start("flaky", 2)
    writer.end("flaky", 2, TIMEOUT)
    writer.do("flaky", 3)
    writer.start("bad")
    writer.end("bad", 1, BROKEN)
    for attempt in (1, 2):
        writer.start("deadly", attempt)
        writer.end("deadly", attempt, CRASH)
    writer.start("weak")
    writer.end("weak", 1, TIMEOUT)
    assert writer.check() == Findings((), inputs=6, tasks=6, attempts=7, successes=1, epochs=1)


def test_chunks_of_which_some_were_there(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("long"))
    writer.start("long")
    writer.expand("long", 1, chunk("long", 0, fingerprint="x"), chunk("long", 1))
    writer.do("long/0")
    writer.start("long/1")
    writer.end("long/1", 1, BROKEN)
    writer.tell(Stopped())
    writer.coordinator("run 2")
    writer.tell(Revived((make_task("long"),)))
    writer.start("long", 2)
    writer.expand("long", 2, chunk("long", 0, fingerprint="x"), chunk("long", 1))
    writer.do("long/1", 2)
    writer.do("long", 3)
    assert writer.check() == Findings((), inputs=1, tasks=3, attempts=6, successes=3, revivals=2, epochs=2)


def test_a_recording_whose_chunk_failed_has_failed(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("long"), make_task("after", depends_on=("long",)))
    writer.start("long")
    writer.expand("long", 1, chunk("long", 0), chunk("long", 1))
    writer.start("long/0")
    writer.end("long/0", 1, BROKEN)
    writer.do("long/1")
    assert writer.check().problems == ()


def test_a_coordinator_that_died_and_outcomes_that_came_late_or_twice(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"), make_task("b"))
    writer.tell(Started((("a", 1), ("b", 1))))
    writer.end("a")
    writer.end("a")
    writer.open()  # one that died before its first word
    writer.coordinator()
    writer.start("b", 2)
    writer.end("b", 1, epoch=1)
    writer.tell(Expanded("b", 1, 1, Outcome(children=(chunk("b", 0),))))
    writer.end("b", 2)
    findings = writer.check()
    assert findings == Findings((), 2, 2, attempts=3, successes=2, interrupted=1, dropped=3, epochs=3)


def test_a_coordinator_that_was_writing_when_another_took_over(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"))
    writer.overtake()
    with writer.older(), pytest.raises(Exception, match="must stop"):
        writer.start("a")
    writer.do("a")
    assert writer.check() == Findings((), 1, 1, attempts=1, successes=1, epochs=2)


def test_pauses_signals_and_stops(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"), make_task("b"), make_task("c", provider="p"))
    writer.start("a")
    writer.tell(Paused("r1"))
    writer.end("a")
    writer.coordinator("run 2")
    writer.tell(Revived((make_task("b"), make_task("c", provider="p"))), Known(("a",)))
    writer.tell(Resumed("r2"))
    writer.start("b")
    writer.tell(Preempted("b", writer.epoch, 1, "memory"))
    writer.tell(Paused("r3"), Stopped("stop", "r4"))
    writer.coordinator("run 3")
    writer.tell(Revived((make_task("b"), make_task("c", provider="p"))))
    writer.start("c")
    writer.end("c", 1, NO_KEY)
    writer.tell(Draining(), Stopped("signal"))
    writer.coordinator("run 4")
    writer.tell(Revived((make_task("b"), make_task("c", provider="p"))))
    writer.do("b", 2)
    writer.do("c", 2)
    assert writer.check() == Findings((), 3, 3, attempts=5, successes=3, revivals=6, epochs=4)


def test_a_retry_that_a_stop_came_before(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"), make_task("b"))
    writer.tell(Started((("a", 1), ("b", 1))))
    writer.end("a", 1, TIMEOUT)
    writer.end("b", 1, TIMEOUT)
    writer.tell(Stopped())
    writer.coordinator("run 2")
    writer.tell(Revived((make_task("b"),)))
    writer.do("b", 2)
    assert writer.check().problems == ()


def test_failed_ones_are_done_again_on_request(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"), make_task("b", depends_on=("a",)), make_task("long"))
    writer.start("a")
    writer.end("a", 1, BROKEN)
    writer.start("long")
    writer.expand("long", 1, chunk("long", 0), chunk("long", 1))
    writer.start("long/0")
    writer.end("long/0", 1, BROKEN)
    writer.tell(RetryFailed("r1"))
    writer.do("a", 2)
    writer.do("b")
    writer.do("long/0", 2)
    writer.do("long/1")
    writer.do("long", 2)
    assert writer.check().problems == ()


def test_a_recording_that_failed_for_its_chunk_plans_again_on_request(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("long"))
    writer.start("long")
    writer.expand("long", 1, chunk("long", 0))
    writer.start("long/0")
    writer.end("long/0", 1, BROKEN)
    writer.tell(RetryFailed("r1"))
    writer.start("long", 2)
    writer.expand("long", 2, chunk("long", 0))
    writer.do("long/0", 2)
    writer.do("long", 3)
    assert writer.check().problems == ()


def test_a_recording_that_may_have_failed_goes_on_planning_after_its_coordinator_has_died(writer: Writer) -> None:
    """Whether a chunk that killed its process was given up the journal doesn't say."""
    writer.coordinator()
    writer.add(make_task("long"))
    writer.start("long")
    writer.expand("long", 1, chunk("long", 0))
    for attempt in (1, 2):
        writer.start("long/0", attempt)
        writer.end("long/0", attempt, CRASH)
    writer.tell(RetryFailed("r1"))
    writer.start("long", 2)
    writer.coordinator()
    writer.start("long", 3)
    writer.expand("long", 3, chunk("long", 0))
    writer.do("long/0", 3)
    writer.do("long", 4)
    assert writer.check().problems == ()


def test_a_service_may_turn_requests_away_and_be_parked_while_recordings_are_assembled(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("long", provider="p", max_retries=0))
    writer.start("long")
    writer.expand("long", 1, chunk("long", 0, provider="p", max_retries=0))
    for attempt in (1, 2, 3):
        writer.start("long/0", attempt)
        turned_away = Outcome(failure=TIMEOUT, signal=ProviderSignal(SignalKind.RATE_LIMITED, 429))
        writer.tell(AttemptEnded("long/0", writer.epoch, attempt, turned_away))
    writer.do("long/0", 4)
    writer.add(make_task("other", provider="p"))
    writer.start("other")
    refused = Outcome(failure=NO_KEY, signal=ProviderSignal(SignalKind.REFUSED, 401))
    writer.tell(AttemptEnded("other", writer.epoch, 1, refused))
    writer.do("long", 2)
    assert writer.check(ended=False).problems == ()
    writer.do("other", 2)
    found(writer, "task other: its attempt 2 was started under epoch 1 while p was parked")


def test_changed_inputs_are_done_again_and_known_ones_are_not(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a", fingerprint="1"), make_task("b"))
    writer.do("a")
    writer.do("b")
    writer.coordinator("run 2")
    writer.tell(Revived((make_task("a", fingerprint="2"),)), Known(("b",)))
    writer.do("a", 2)
    assert writer.check() == Findings((), 2, 2, attempts=3, successes=3, revivals=1, epochs=2)


def test_a_batch_that_is_not_through(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"), make_task("b"))
    writer.start("a")
    assert writer.check(ended=False).problems == ()
    assert len(writer.check().problems) == 2


def test_scripted_attempts_have_no_artifacts(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"))
    writer.start("a")
    writer.end("a", key="key-a")
    assert writer.check(artifacts=False).problems == ()
    found(writer, "task a succeeded", "key-a is no key at all")


# Broken promises: inputs and ends


def test_an_input_that_was_never_started(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a", file_id="f"))
    found(writer, "input f: task a is left open after attempt 0")


def test_an_input_whose_attempt_never_ended(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"))
    writer.start("a")
    found(writer, "input a: task a is left open: attempt 1 of epoch 1 hasn't ended")


def test_an_input_that_waits_for_ever(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"), make_task("b", depends_on=("a",)))
    writer.tell(Started((("a", 1),)))
    assert any("task b is left open after attempt 0, waiting for a" in each for each in writer.check().problems)


def test_a_recording_that_was_never_assembled(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("long"))
    writer.start("long")
    writer.expand("long", 1, chunk("long", 0))
    writer.do("long/0")
    found(writer, "task long is left open after attempt 1")


def test_an_input_that_was_given_up_with_retries_left(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a", max_retries=2))
    for attempt in (1, 2):
        writer.start("a", attempt)
        writer.end("a", attempt, TIMEOUT)
    found(writer, "task a was given up after 2 of 3 attempts, its failure being transient (timeout)")


def test_an_input_that_was_parked_and_forgotten(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"))
    writer.start("a")
    writer.end("a", 1, NO_KEY)
    found(writer, "task a is left open after attempt 1")


# Broken promises: which outcomes count


def test_an_outcome_of_an_older_attempt_that_counted(writer: Writer) -> None:
    """Nothing was done after it, as if it had been the current one's."""
    writer.coordinator()
    writer.add(make_task("a"))
    writer.start("a")
    writer.coordinator()
    writer.start("a", 2)
    writer.end("a", 1, epoch=1)
    found(writer, "task a is left open: attempt 2 of epoch 2 hasn't ended; what ended was attempt 1 of epoch 1")


def test_an_outcome_of_an_interrupted_attempt_that_counted(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"), make_task("b", depends_on=("a",)))
    writer.start("a")
    writer.coordinator()
    writer.end("a", 1, epoch=1)
    writer.do("b")
    problems = writer.check().problems
    assert any("task b: its attempt 1 was started under epoch 2 before a, which it needs" in each for each in problems)
    assert any("task a is left open after attempt 1" in each for each in problems)


def test_an_outcome_of_an_attempt_that_was_never_started(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"))
    writer.start("a")
    writer.end("a", 7)
    writer.end("a")
    found(writer, "task a: attempt 7 of epoch 1 ended, which was never started")


def test_two_successes(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"))
    writer.do("a")
    writer.do("a", 2)
    problems = writer.check().problems
    assert len(problems) == 2
    assert "task a: its attempt 2 was started under epoch 1 although it had succeeded" in problems[0]
    assert "task a succeeded 2 times (attempt 2)" in problems[1]


def test_a_success_without_an_artifact(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"))
    writer.start("a")
    writer.tell(AttemptEnded("a", 1, 1, Outcome()))
    found(writer, "task a: its attempt 1 succeeded without the key of an artifact")


def test_an_artifact_that_is_gone(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"))
    writer.do("a")
    key = writer.artifact("a")
    writer.artifacts.path(key).unlink()
    found(writer, f"task a succeeded, but its artifact {key} is not there")


def test_an_artifact_that_is_damaged(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"))
    writer.do("a")
    path = writer.artifacts.path(writer.artifact("a"))
    path.write_bytes(path.read_bytes().replace(b'"a"', b'"b"'))
    found(writer, "task a succeeded, but its artifact", "is damaged")


# Broken promises: what may start


def test_attempts_with_a_gap(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"))
    writer.do("a", 2)
    found(writer, "task a: its attempt 2 was started under epoch 1 after attempt 0")


def test_an_attempt_whose_number_was_used_before(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"))
    writer.start("a")
    writer.coordinator()
    writer.do("a", 1)
    found(writer, "task a: its attempt 1 was started under epoch 2 after attempt 1")


def test_an_attempt_beside_another_one(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"))
    writer.start("a")
    writer.do("a", 2)
    found(writer, "task a: its attempt 2 was started under epoch 1 while its attempt 1 was running")


def test_a_start_while_paused(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"))
    writer.tell(Paused("r1"))
    writer.do("a")
    found(writer, "task a: its attempt 1 was started", "while the batch was paused")


def test_a_pause_outlasts_its_coordinator_and_a_signal(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"))
    writer.tell(Paused("r1"))
    writer.tell(Draining(), Stopped("signal"))
    writer.coordinator("run 2")
    writer.tell(Revived((make_task("a"),)))
    writer.do("a")
    found(writer, "task a: its attempt 1 was started", "while the batch was paused")


def test_a_start_after_a_signal(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"))
    writer.tell(Draining())
    writer.coordinator()  # of the same run, which is to end
    writer.do("a")
    found(writer, "task a: its attempt 1 was started under epoch 2 after a signal")


def test_a_start_after_a_stop(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"))
    writer.tell(Stopped())
    writer.do("a")
    problems = writer.check().problems
    assert any("task a: its attempt 1 was started under epoch 1 after the end of its run" in each for each in problems)
    assert any("task a: its attempt 1 was started under epoch 1 although it was cancelled" in each for each in problems)


def test_what_is_added_after_a_stop_waits_for_the_next_run(writer: Writer) -> None:
    writer.coordinator()
    writer.tell(Stopped())
    writer.coordinator()
    writer.add(make_task("a"))
    writer.do("a")
    found(writer, "task a: its attempt 1 was started under epoch 2 after the end of its run (stopped by stop)")


def test_a_start_after_the_batch_was_complete(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"))
    writer.tell(InputsClosed())
    writer.do("a")
    writer.add(make_task("b"))
    writer.do("b")
    found(writer, "task b: its attempt 1 was started under epoch 1 after the end of its run (complete")


def test_a_start_before_a_dependency(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"), make_task("b", depends_on=("a",)))
    writer.do("b")
    writer.do("a")
    found(writer, "task b: its attempt 1 was started under epoch 1 before a, which it needs, had succeeded")


def test_an_assembly_before_its_chunks(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("long"))
    writer.start("long")
    writer.expand("long", 1, chunk("long", 0), chunk("long", 1))
    writer.do("long/0")
    writer.do("long", 2)
    writer.do("long/1")
    found(writer, "task long: its attempt 2 was started under epoch 1 before long/1")


def test_a_start_of_what_is_parked(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a", provider="p"), make_task("b", provider="p"))
    writer.start("a")
    writer.end("a", 1, NO_KEY)
    writer.do("b")
    writer.tell(Resumed())
    writer.do("a", 2)
    found(writer, "task b: its attempt 1 was started under epoch 1 while p was parked")


def test_finished_work_that_is_started_again(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"))
    writer.do("a")
    writer.coordinator("run 2")
    writer.tell(Known(("a",)))
    writer.start("a", 2)
    assert "task a: its attempt 2 was started under epoch 2 although it had succeeded" in writer.check().problems[0]


def test_what_failed_for_good_is_started_again(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"))
    writer.start("a")
    writer.end("a", 1, BROKEN)
    writer.do("a", 2)
    found(writer, "task a: its attempt 2 was started under epoch 1 although it had failed for good")


def test_more_attempts_than_there_are_retries(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a", max_retries=1))
    for attempt in (1, 2):
        writer.start("a", attempt)
        writer.end("a", attempt, TIMEOUT)
    writer.do("a", 3)
    problems = writer.check().problems
    assert any("task a: its attempt 3 was started" in each and "1 retries were used up" in each for each in problems)


def test_what_was_cancelled_is_started_without_being_given(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"))
    writer.coordinator("run 2")
    writer.do("a")
    found(writer, "task a: its attempt 1 was started under epoch 2 although it was cancelled")


# Broken promises: what is known


def test_tasks_that_nobody_added(writer: Writer) -> None:
    writer.coordinator()
    writer.start("ghost 1")
    writer.end("ghost 2")
    writer.tell(Revived((make_task("ghost 3"),)), Known(("ghost 4",)))
    writer.add(make_task("a", depends_on=("ghost 5",)))
    writer.do("a")
    problems = writer.check().problems
    assert len(problems) == 5
    for number, problem in enumerate(problems, 1):
        assert f"ghost {number}" in problem


def test_a_task_that_is_added_twice(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"))
    writer.add(make_task("a"))
    writer.do("a")
    found(writer, "task a was added a second time, under epoch 1")


def test_an_open_task_that_is_to_be_done_again(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"))
    writer.tell(Revived((make_task("a"),)))
    writer.do("a")
    found(writer, "task a was to be done again under epoch 1 before it had ended")


def test_a_plan_without_chunks(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"))
    writer.start("a")
    writer.expand("a", 1)
    writer.do("a", 2)
    found(writer, "task a: its attempt 1 planned chunks and named none")


def test_a_request_that_is_answered_twice(writer: Writer) -> None:
    writer.coordinator()
    writer.tell(Paused("r1"), Resumed("r2"))
    writer.tell(Paused("r1"))
    found(writer, "request r1 was answered a second time (Paused, under epoch 1)")


# Broken promises: epochs


def test_an_epoch_that_is_taken_twice(writer: Writer) -> None:
    writer.coordinator()
    writer.tell(CoordinatorStarted(1, make_spec("/out").to_dict(), run="run 1"))
    found(writer, "the segment of epoch 1 has another coordinator in it")


def test_a_coordinator_in_the_segment_of_another_epoch(writer: Writer) -> None:
    writer.open()
    writer.tell(CoordinatorStarted(5, make_spec("/out").to_dict(), run="run 1"))
    found(writer, "the segment of epoch 1 has a coordinator of epoch 5")


def test_a_segment_without_its_coordinator(writer: Writer) -> None:
    writer.open()
    writer.tell(Paused())
    found(writer, "the segment of epoch 1 begins without its coordinator")


def append(writer: Writer, *events: Event, epoch: int = 1) -> None:
    """Add a group behind a segment's end, as a coordinator would that doesn't look for others."""
    path = segment_path(writer.layout.journal, epoch)
    with path.open("ab") as segment:
        segment.write(encode_group([encode_event(event, 1.0) for event in events], path.stat().st_size))


def test_a_coordinator_that_goes_on_after_a_higher_epoch_was_taken(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"))
    writer.coordinator()
    writer.do("a")
    append(writer, Started((("a", 1),)))
    assert writer.check().problems == (), "it was writing, and then it looked"
    append(writer, AttemptEnded("a", 1, 1, Outcome()))
    found(writer, "epoch 1 went on after a higher one, up to 2, was taken: AttemptEnded (task a)")


def test_a_coordinator_that_goes_on_although_nobody_has_read_its_segment(writer: Writer) -> None:
    writer.coordinator()
    folder = writer.layout.journal
    opening = {"format": 1, "epoch": 3, "previous": 1, "holder": "a test", "at": 1.0}
    size = segment_path(folder, 1).stat().st_size
    segment_path(folder, 3).write_bytes(encode_group([opening | {"previous_bytes": size}]))
    segment_path(folder, 2).write_bytes(encode_group([opening | {"epoch": 2, "previous_bytes": size}]))
    assert writer.check().problems == (), "it had opened its segment, and then it looked"
    append(writer, Started((("a", 1),)), epoch=2)
    found(writer, "epoch 2 went on after a higher one, up to 3, was taken: Started (task a)")


# What can't be read


def test_records_that_are_none(writer: Writer) -> None:
    writer.coordinator()
    writer.write({"event": "Invented", "at": 1.0}, {"event": "Started", "at": 1.0})
    problems = writer.check().problems
    assert len(problems) == 2
    assert "epoch 1 has a record of an unknown kind, 'Invented'" in problems[0]
    assert "epoch 1 has a Started that lacks what it must have (KeyError('starts'))" in problems[1]


def test_a_damaged_journal(writer: Writer) -> None:
    writer.coordinator()
    writer.add(make_task("a"))
    writer.do("a")
    writer.close()
    path = segment_path(writer.layout.journal, 1)
    path.write_bytes(path.read_bytes().replace(b'"TasksAdded"', b'"TasksEaten"'))
    found(writer, "the history can't be read to its end", "damaged")


def test_no_batch(tmp_path: Path) -> None:
    assert check(tmp_path / "nothing").problems == (f"there is no batch in {tmp_path / 'nothing'}",)


# From a terminal


def test_it_can_be_asked_from_a_terminal(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    writer.coordinator()
    writer.add(make_task("a"))
    writer.do("a")
    writer.close()
    out = str(writer.layout.output_dir)
    assert main([out]) == 0
    assert capsys.readouterr().out.endswith("no problems\n")
    writer.coordinator("run 2")
    writer.tell(Paused("r1"))
    writer.start("a", 2)
    writer.close()
    assert main([out]) == 1
    assert "task a: its attempt 2 was started" in capsys.readouterr().out
    assert main([]) == 2
    assert "usage: " in capsys.readouterr().err


def test_it_is_a_module_that_runs(writer: Writer) -> None:
    writer.coordinator()
    writer.close()
    command = [sys.executable, "-m", "trax_ray.testing.history", str(writer.layout.output_dir)]
    asked = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (asked.returncode, asked.stderr) == (0, "")
    assert "no problems" in asked.stdout


def test_it_does_its_own_bookkeeping() -> None:
    """It must not share the machine's faults."""
    source = Path(check.__code__.co_filename).read_text()
    assert "trax_ray.core" not in source
    assert "trax_ray.report" not in source
