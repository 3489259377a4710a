"""The machine under random events that a shell could produce: what must hold after each of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from test_core_machine import Batch

from trax_ray.core.policy.quality import QualityTotals, audio_us
from trax_ray.core.policy.retry import LOST
from trax_ray.core.spec import RetryPolicy
from trax_ray.core.standing import failures_of, fold
from trax_ray.core.state.additions import additions
from trax_ray.core.state.events import (
    AttemptEnded,
    Cancel,
    Command,
    Dispatch,
    Draining,
    Event,
    Expanded,
    Finish,
    InputsClosed,
    Paused,
    Preempted,
    Resumed,
    RetryFailed,
    Revived,
    Scaled,
    Started,
    Stopped,
)
from trax_ray.core.state.ledger import Tally, TaskRecord
from trax_ray.core.task import BatchTask, Category, Failure, FailureClass, Outcome, ResourceRequest, Result, TaskState
from trax_ray.testing.factories import make_task

# Times are sums of powers of two, so that the recount below is exact; rounding has tests of its own.
POLICY = RetryPolicy(base_s=1.0, cap_s=8.0, aging_s=4.0, max_losses=2)
LARGEST_NODE_MB = 1500
PROVIDERS = ("", "p1", "p2")
REQUESTS = ("", "", "r1", "r2", "r3")

codes = st.sampled_from(["some_code", "worker_died", "out_of_memory", "node_died"])
failures = st.builds(
    Failure,
    st.sampled_from(FailureClass),
    st.sampled_from(Category),
    codes,
    st.just("it failed"),
    st.sampled_from([None, None, 2.0]),
    st.sampled_from(["", "", "p1", "*"]),
)
metrics = st.fixed_dictionaries(
    {},
    optional={
        "duration_s": st.floats(0, 1e5),
        "speech_s": st.floats(0, 1e5),
        "processing_s": st.floats(0, 1e5),
        "estimated_accuracy": st.floats(0, 100),
        "wer_errors": st.integers(0, 9),
        "wer_words": st.integers(0, 9),
        "no_speech": st.booleans(),
        "low_confidence_segments": st.integers(0, 9),
        "warnings": st.lists(st.sampled_from(["repetition", "truncated"])),
    },
)


def made_by(record: TaskRecord) -> Result:
    """What others are told of a task that succeeded."""
    return Result(record.artifact_key, record.metrics, record.task.kind)


def rank_of(number: int) -> int:
    """A place for each task that isn't its place in the order of adding."""
    return number * 37 % 101


class Shell(RuleBasedStateMachine):
    """A coordinator that gets whatever can happen, and a recount of everything after each event."""

    def __init__(self) -> None:
        super().__init__()
        self.batch = Batch(POLICY, largest_node_mb=LARGEST_NODE_MB)
        self.dispatches: list[Dispatch] = []
        self.finishes: Counter[int] = Counter()
        self.attempts: Counter[str] = Counter()
        self.before: dict[str, TaskState] = {}
        self.revivable: set[str] = set()
        self.succeeded: set[str] = set()
        self.suspects: set[str] = set()
        self.fingerprints: dict[str, str] = {}
        self.requests: dict[str, None] = {}
        self.paused = self.draining = False
        self.scaled: Scaled | None = None
        self.names = 0

    # What happens

    def do(self, event: Event) -> list[Command]:
        state = self.batch.state
        halted, running = self.paused or self.draining or state.finished, self.running()
        self.before = {task_id: record.state for task_id, record in state.records.items()}
        self.fingerprints = {task_id: record.task.fingerprint for task_id, record in state.records.items()}
        self.revivable = self.revived_by(event)
        cancelled = [record for record in running if self.is_cancelled_by(event, record)]
        commands = self.batch.do(event)
        self.note(event)
        for command in commands:
            if isinstance(command, Dispatch):
                assert not halted
                self.check_dispatch(command)
            elif isinstance(command, Finish):
                self.finishes[state.epoch] += 1
                assert command.reason == state.finished
        found = [command for command in commands if isinstance(command, Cancel)]
        assert found == [Cancel(record.task.id, record.epoch, record.attempt) for record in cancelled]
        self.check_changes()
        return commands

    def revived_by(self, event: Event) -> set[str]:
        """What an event may bring back to life."""
        records = self.batch.state.records
        if isinstance(event, Revived):
            return {task.id for task in event.tasks}
        if isinstance(event, Expanded):
            return {task.id for task in event.outcome.children}
        if not isinstance(event, RetryFailed) or self.batch.state.finished:
            return set()
        failed = [record for record in records.values() if record.state is TaskState.FAILED]
        chunks = {
            record.task.id
            for record in failed
            for parent in [records.get(record.task.parent)]
            if parent is not None and parent.state is TaskState.BLOCKED and record.task.id in parent.children
        }
        return chunks | {record.task.id for record in failed if record.task.id in self.batch.state.ledger.run.members}

    def is_cancelled_by(self, event: Event, record: TaskRecord) -> bool:
        """Whether an event ends the attempt that runs."""
        if isinstance(event, Stopped):
            return not self.batch.state.finished
        return isinstance(event, Preempted) and (event.task_id, event.epoch, event.attempt) == (
            record.task.id,
            record.epoch,
            record.attempt,
        )

    def note(self, event: Event) -> None:
        """What the shell itself knows of pauses, signals and requests."""
        if isinstance(event, Paused):
            self.paused = True
        elif isinstance(event, Resumed) or (isinstance(event, Stopped) and event.reason == "stop"):
            self.paused = False
        elif isinstance(event, Draining):
            self.draining = True
        elif isinstance(event, Scaled):
            self.scaled = event
        elif isinstance(event, Revived):
            self.suspects -= {task.id for task in event.tasks if self.is_another(task)}
        elif isinstance(event, Expanded):
            self.suspects -= {task.id for task in event.outcome.children if self.is_another(task)}

    def is_another(self, task: BatchTask) -> bool:
        """Whether a task that is planned again was something else before."""
        ended = task.id in self.before and self.before[task.id].terminal
        return ended and self.fingerprints[task.id] != task.fingerprint

    def check_dispatch(self, dispatch: Dispatch) -> None:
        records = self.batch.state.records
        task = dispatch.task
        assert dispatch.attempt == self.attempts[task.id] + 1
        self.attempts[task.id] = dispatch.attempt
        assert dispatch.epoch == self.batch.state.epoch
        # Once, that is: one that is being done again, while its dependents are ready already, holds nothing up.
        assert set(task.depends_on) <= self.succeeded
        assert all(records[name].state is TaskState.SUCCEEDED for name in dispatch.children)
        assert dispatch.children == {name: made_by(records[name]) for name in records[task.id].children}
        assert dispatch.needed == {name: made_by(records[name]) for name in task.depends_on}
        assert task.resources.memory_mb <= LARGEST_NODE_MB
        planned = records[task.id].task
        assert dispatch.alone is (task.id in self.suspects or not planned.shared)
        assert task.asks_provider is planned.asks_provider, "wherever it runs it is bound to its provider"

    def check_changes(self) -> None:
        """Terminal states stay."""
        for task_id, record in self.batch.state.records.items():
            before = self.before.get(task_id)
            if before is not None and before.terminal and task_id not in self.revivable:
                assert record.state is before, record.tell()
            if record.state is TaskState.SUCCEEDED:
                self.succeeded.add(task_id)

    def running(self) -> list[TaskRecord]:
        return [record for record in self.batch.state.records.values() if record.state is TaskState.RUNNING]

    def current(self) -> list[Dispatch]:
        running = {(record.task.id, record.epoch, record.attempt) for record in self.running()}
        return [each for each in self.dispatches if (each.task.id, each.epoch, each.attempt) in running]

    @initialize(count=st.integers(0, 4), shared=st.booleans())
    def some_tasks(self, count: int, shared: bool) -> None:
        for _ in range(count):
            self._give([self._new_task(priority=0, retries=2, provider="p1", depends_on=(), shared=shared)])

    def _new_task(
        self, *, priority: int, retries: int, provider: str, depends_on: tuple[str, ...], shared: bool
    ) -> BatchTask:
        self.names += 1
        return make_task(
            f"t{self.names}",
            priority=priority,
            max_retries=retries,
            provider=provider,
            depends_on=depends_on,
            resources=ResourceRequest(1.0, 512),
            shared=shared,
            file_id=f"f{self.names // 2}",
            fingerprint="1",
            size_bytes=self.names % 3,
        )

    def _give(self, tasks: list[BatchTask]) -> None:
        for event in additions(self.batch.state.ledger, tasks):
            self.do(event)
        assert not any(self.batch.state.records[task.id].retry_wanted for task in tasks)

    def _below(self, number: int) -> list[str]:
        """What a task may depend on, whichever was added first, so that none ever depends on itself."""
        roots = [name for name, record in self.batch.state.records.items() if not record.task.parent]
        return [name for name in roots if rank_of(int(name[1:])) < rank_of(number)]

    @rule(data=st.data(), count=st.integers(1, 3))
    def add(self, data: st.DataObject, count: int) -> None:
        """New tasks that depend on some before them, in the same addition too."""
        tasks: list[BatchTask] = []
        for number in range(self.names + 1, self.names + 1 + count):
            before = self._below(number)
            before += [task.id for task in tasks if rank_of(int(task.id[1:])) < rank_of(number)]
            depends_on = data.draw(st.lists(st.sampled_from(before), unique=True, max_size=2)) if before else ()
            task = self._new_task(
                priority=data.draw(st.integers(0, 3)),
                retries=data.draw(st.integers(0, 4)),
                provider=data.draw(st.sampled_from(PROVIDERS)),
                depends_on=tuple(depends_on),
                shared=data.draw(st.booleans()),
            )
            tasks.append(task)
        self._give(tasks)

    @precondition(lambda self: self.names)
    @rule(data=st.data(), fingerprint=st.sampled_from("12"), shared=st.booleans())
    def give_again(self, data: st.DataObject, fingerprint: str, shared: bool) -> None:
        """Known tasks, changed or not, with other dependencies."""
        numbers = data.draw(st.lists(st.integers(1, self.names), max_size=3))
        tasks = []
        for number in numbers:
            record = self.batch.state.records.get(f"t{number}")
            if record is None:
                continue
            below = self._below(number)
            depends_on = data.draw(st.lists(st.sampled_from(below), unique=True, max_size=2)) if below else ()
            tasks.append(replace(record.task, fingerprint=fingerprint, depends_on=tuple(depends_on), shared=shared))
        self._give(tasks)

    @rule(count=st.integers(1, 4))
    def start(self, count: int) -> None:
        state, now = self.batch.state, self.batch.clock()
        tasks = state.candidates(count, now)
        if tasks:
            commands = self.do(Started(tuple((task.id, state.next_attempt(task.id)) for task in tasks)))
            started = [command for command in commands if isinstance(command, Dispatch)]
            assert [dispatch.task.id for dispatch in started] == [task.id for task in tasks]
            self.dispatches += started

    def _some_attempt(self, data: st.DataObject) -> Dispatch | None:
        """One that runs; where none does, whatever it takes to have one. Else most sequences came to nothing."""
        state = self.batch.state
        if not self.running():
            if state.finished or state.draining:
                self.next_run()
                state = self.batch.state
                self._give([record.task for record in state.records.values() if not record.task.parent])
            if state.paused:
                self.resume()
            if not state.candidates(1, self.batch.clock()):
                self.resume()
            due = state.next_due()
            if due is not None and not state.candidates(1, self.batch.clock()):
                self.batch.clock.advance(max(0.0, due - self.batch.clock()))
            self.start(data.draw(st.integers(1, 4)))
        current = self.current()
        return data.draw(st.sampled_from(current)) if current else None

    @rule(data=st.data(), figures=metrics)
    def succeed(self, data: st.DataObject, figures: dict[str, Any]) -> None:
        dispatch = self._some_attempt(data)
        if dispatch is None:
            return
        self._end(dispatch, Outcome(artifact_key=f"key-{dispatch.task.id}-{dispatch.attempt}", metrics=figures))

    @rule(data=st.data(), failure=failures, jitter=st.sampled_from([0.0, 0.25, 0.5, 0.75]))
    def fail(self, data: st.DataObject, failure: Failure, jitter: float) -> None:
        dispatch = self._some_attempt(data)
        if dispatch is None:
            return
        record = self.batch.state.records[dispatch.task.id]
        spent, memory_mb = record.spent, record.task.resources.memory_mb
        deaths, losses, now = record.deaths, record.losses, self.batch.clock()
        self._end(dispatch, Outcome(failure=failure), jitter)
        died, lost = failure.code == "worker_died", failure.code in LOST
        counts = (record.spent, record.deaths, record.losses)
        if failure.failure_class is FailureClass.CONFIG:
            assert (record.state, *counts) == (TaskState.QUEUED, spent, deaths, losses)
            held = self.batch.state.dump()["held"]
            assert record.task.id in held or not {record.task.provider, "*"} & {
                failure.parks or record.task.provider or "*"
            }
        elif died and not dispatch.alone:
            self.suspects.add(record.task.id)
            assert (record.state, *counts, record.queued_at) == (TaskState.QUEUED, spent, deaths, losses, now)
        elif lost and losses < POLICY.max_losses:
            assert (record.state, *counts) == (TaskState.DELAYED, spent, deaths, losses + 1)
            assert record.queued_at == now + jitter * min(8.0, 2.0**losses)
        elif failure.failure_class is FailureClass.PERMANENT or spent == record.task.max_retries:
            assert record.state is TaskState.FAILED
        elif record.state is TaskState.FAILED:
            starved = failure.code == "out_of_memory" and 2 * memory_mb > LARGEST_NODE_MB
            assert (died and deaths == 1) or (starved and failure.failure_class is FailureClass.RESOURCE)
        else:
            assert (record.state, *counts) == (TaskState.DELAYED, spent + 1, deaths + died, losses + lost)
            least = max(failure.retry_after_s or 0.0, jitter * min(8.0, 2.0**spent))
            assert record.queued_at == now + least

    def _end(self, dispatch: Dispatch, outcome: Outcome, jitter: float = 0.0) -> None:
        self.do(AttemptEnded(dispatch.task.id, dispatch.epoch, dispatch.attempt, outcome, jitter))

    @rule(data=st.data())
    def preempt(self, data: st.DataObject) -> None:
        dispatch = self._some_attempt(data)
        if dispatch is None:
            return
        record = self.batch.state.records[dispatch.task.id]
        before = (record.spent, record.deaths, record.losses, record.degradation, record.children, record.failure)
        self._preempt(dispatch)
        after = (record.spent, record.deaths, record.losses, record.degradation, record.children, record.failure)
        assert (record.state, record.queued_at) == (TaskState.QUEUED, self.batch.clock())
        assert after == before

    def _preempt(self, dispatch: Dispatch) -> None:
        self.do(Preempted(dispatch.task.id, dispatch.epoch, dispatch.attempt, "memory"))

    @rule(
        data=st.data(),
        count=st.integers(1, 3),
        chained=st.booleans(),
        fingerprint=st.sampled_from("12"),
        shared=st.booleans(),
    )
    def expand(self, data: st.DataObject, count: int, chained: bool, fingerprint: str, shared: bool) -> None:
        """Chunks, and chunks of chunks; sometimes each needs the one before it."""
        dispatch = self._some_attempt(data)
        if dispatch is None or dispatch.task.id.count("/") == 2:
            return
        parent = dispatch.task
        children = [
            replace(
                parent,
                id=f"{parent.id}/{number}",
                parent=parent.id,
                chunk=number,
                fingerprint=fingerprint,
                shared=shared,
                depends_on=(f"{parent.id}/{number - 1}",) if chained and number else (),
            )
            for number in range(count)
        ]
        self.do(Expanded(parent.id, dispatch.epoch, dispatch.attempt, Outcome(children=tuple(children))))

    @precondition(lambda self: self.dispatches)
    @rule(data=st.data(), epoch=st.integers(-1, 1), attempt=st.integers(-1, 1), failure=st.none() | failures)
    def a_result_of_another_attempt(
        self, data: st.DataObject, epoch: int, attempt: int, failure: Failure | None
    ) -> None:
        some = data.draw(st.sampled_from(self.dispatches))
        stale = replace(some, epoch=some.epoch + epoch, attempt=some.attempt + attempt)
        record = self.batch.state.records[some.task.id]
        running = record.state is TaskState.RUNNING
        if running and (record.epoch, record.attempt) == (stale.epoch, stale.attempt):
            return
        self._bring_up_to_date()
        before = self.batch.state.dump()
        self._end(stale, Outcome(failure=failure))
        self._preempt(stale)
        self.do(Expanded(stale.task.id, stale.epoch, stale.attempt, Outcome(children=(make_task("never"),))))
        assert self.batch.state.dump() == before

    def _bring_up_to_date(self) -> None:
        """Let the machine know what time it is."""
        self.do(self.scaled or Scaled(1, "first"))

    @rule(
        what=st.sampled_from(
            ["pause", "resume", "close", "take_over", "next_run", "retry_failed", "stop", "signal", "drain", "scale"]
        ),
        request=st.sampled_from(REQUESTS),
    )
    def command(self, what: str, request: str) -> None:
        """One rule for all that is rare in life, else most sequences were stopped before anything had run."""
        {
            "pause": lambda: self.ask(Paused(request)),
            "resume": lambda: self.ask(Resumed(request)),
            "close": lambda: self.do(InputsClosed()),
            "take_over": self.take_over,
            "next_run": self.next_run,
            "retry_failed": lambda: self.ask(RetryFailed(request)),
            "stop": lambda: self.ask(Stopped(request=request)),
            "signal": lambda: self.ask(Stopped("signal")),
            "drain": lambda: self.do(Draining()),
            "scale": lambda: self.do(Scaled(len(self.dispatches), "others")),
        }[what]()

    def ask(self, event: Paused | Resumed | RetryFailed | Stopped) -> None:
        """A command from a terminal; what was answered already changes nothing any more."""
        if event.request and event.request in self.requests:
            self._bring_up_to_date()
            before = self.batch.state.dump()
            assert self.batch.do(event) == []
            assert self.batch.state.dump() == before
            return
        if event.request:
            self.requests[event.request] = None
        ended = self.batch.state.finished
        self.do(event)
        if isinstance(event, Resumed):
            assert not self.batch.state.parked
        elif isinstance(event, RetryFailed):
            self.check_retried()
        elif isinstance(event, Stopped) and not ended:
            assert all(record.state.terminal for record in self.batch.state.records.values())

    def resume(self) -> None:
        self.ask(Resumed())

    def check_retried(self) -> None:
        """All failed ones are open again, but those that still can't be; of other runs it is known for later."""
        records = self.batch.state.records
        lost = {TaskState.FAILED, TaskState.CANCELLED}
        for task_id, record in records.items():
            if task_id in self.revivable:
                assert not record.state.terminal or lost & {records[name].state for name in record.task.depends_on}
                assert (record.spent, record.deaths, record.losses) == (0, 0, 0)
            elif record.state is TaskState.FAILED and not record.task.parent:
                assert record.retry_wanted

    @rule(seconds=st.sampled_from([0.25, 1.0, 4.0, 64.0]))
    def time_passes(self, seconds: float) -> None:
        self.batch.clock.advance(seconds)

    def next_run(self) -> None:
        """Somebody starts anew: what was left open isn't done unless it is given again."""
        self.take_over(f"run {self.batch.epoch}")
        assert all(record.state.terminal for record in self.batch.state.records.values())
        assert not self.batch.state.ledger.run.members
        assert not self.batch.state.finished
        self.draining = False

    def take_over(self, run: str | None = None) -> None:
        """The coordinator dies; the next one has what the journal tells."""
        self._check_replay()
        self.batch.state = self.batch.replayed()
        self.before = {task_id: record.state for task_id, record in self.batch.state.records.items()}
        self.revivable = set()
        commands = self.batch.take_over(run)
        assert commands == ([Finish("stopped")] if self.batch.state.stopped else [])
        if commands:
            self.finishes[self.batch.state.epoch] += 1
        self.check_changes()
        assert not self.running()

    # What must hold

    @invariant()
    def counts_agree_with_a_recount(self) -> None:
        state, ledger = self.batch.state, self.batch.state.ledger
        records = list(state.records.values())
        roots = [record for record in records if not record.task.parent]
        assert +ledger.counts == Counter(record.state for record in records)
        assert [record.sequence for record in records] == list(range(len(records)))
        assert ledger.open_count == sum(not record.state.terminal for record in records)
        assert ledger.run.members <= ledger.total.members == {record.task.id for record in roots}
        assert all(record.task.id in ledger.run.members for record in roots if not record.state.terminal)
        self._recount(ledger.total, roots, began_at=0.0)
        given = [record for record in roots if record.task.id in ledger.run.members]
        inputs = self._recount(ledger.run, given, began_at=ledger.run_began_at)
        progress = fold(state, self.batch.clock(), {record.task.id: 0.5 for record in self.running()})
        assert progress.total_tasks == len(inputs)
        told = (progress.completed_tasks, progress.failed_tasks, progress.cancelled_tasks)
        assert told == tuple(
            ledger.run.verdicts[each] for each in (TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED)
        )
        assert {failure["file_id"] for failure in failures_of(state)} == {
            file_id for file_id, states in inputs.items() if TaskState.FAILED in states
        }

    def _recount(self, tally: Tally, roots: list[TaskRecord], *, began_at: float) -> dict[str, list[TaskState]]:
        """Count from scratch what a tally has kept up to date; gives the states of each input's tasks."""
        inputs: dict[str, list[TaskState]] = {}
        last: dict[str, int] = {}
        for record in roots:
            last[record.task.file_id] = max(record.given_in, last.get(record.task.file_id, 0))
        for record in roots:
            # A step that the last run wasn't given says nothing of what the input has come to.
            if record.given_in == last[record.task.file_id]:
                inputs.setdefault(record.task.file_id, []).append(record.state)
        verdicts: Counter[TaskState] = Counter()
        for states in inputs.values():
            if TaskState.FAILED in states:
                verdicts[TaskState.FAILED] += 1
            elif TaskState.CANCELLED in states:
                verdicts[TaskState.CANCELLED] += 1
            elif set(states) == {TaskState.SUCCEEDED}:
                verdicts[TaskState.SUCCEEDED] += 1
        assert +tally.verdicts == verdicts
        assert set(tally.inputs) == set(inputs)
        assert tally.work_total == sum(record.work for record in roots)
        ended = [record for record in roots if record.state.terminal]
        assert tally.work_ended == sum(record.work for record in ended)
        earlier = [record for record in ended if record.ended_at < began_at]
        assert tally.work_ended_before == sum(record.work for record in earlier)
        quality = QualityTotals()
        done_before_us = 0
        for record in roots:
            if record.state is TaskState.SUCCEEDED:
                done_before_us += record in earlier and audio_us(record.task.task_type.value, record.metrics)
                quality.add(record.task.task_type.value, record.metrics, recovered=record.recovered)
        assert tally.audio_us_before == done_before_us
        asked = {"succeeded": 1, "failed": 2, "elapsed_s": 3.0}
        assert tally.quality.metrics(**asked) == quality.metrics(**asked)
        return inputs

    @invariant()
    def records_fit_their_states(self) -> None:
        state = self.batch.state
        for task_id, record in state.records.items():
            assert record.attempt == self.attempts[task_id]
            assert record.spent <= record.task.max_retries
            assert record.deaths <= POLICY.max_deaths
            assert record.losses <= POLICY.max_losses + record.spent + 1
            assert record.degradation == record.spent * POLICY.priority_step
            assert not record.retry_wanted or record.state is TaskState.FAILED
            assert record.suspect is (task_id in self.suspects)
            assert (record.ended_at > 0) == record.state.terminal
            if record.state is TaskState.RUNNING:
                assert record.epoch == state.epoch
            elif record.state is TaskState.BLOCKED:
                open_ones = [name for name in record.waiting_for if not state.records[name].state.terminal]
                assert open_ones, f"{task_id} waits for nothing: {record.tell()}"
                assert set(record.waiting_for) <= {*record.task.depends_on, *record.children}
            elif record.state is TaskState.FAILED:
                assert record.failure is not None
                assert record.failure.failure_class is not FailureClass.CONFIG

    @invariant()
    def the_queue_holds_what_is_queued_and_delayed(self) -> None:
        state = self.batch.state
        by_state: dict[TaskState, set[str]] = {each: set() for each in TaskState}
        for task_id, record in state.records.items():
            by_state[record.state].add(task_id)
        dump = state.dump()
        ready, held = set(dump["queue"]), set(dump["held"])
        assert not ready & held
        assert ready | held == by_state[TaskState.QUEUED]
        assert state.ready_count == len(ready)
        delayed = {task_id: state.records[task_id].queued_at for task_id in by_state[TaskState.DELAYED]}
        assert state.next_due() == min(delayed.values(), default=None)
        assert state.delayed_count == len(delayed)
        parked = set(state.parked)
        for task_id in ready | held:
            provider = state.records[task_id].task.provider
            assert (task_id in held) == (provider in parked or "*" in parked)

    def place(self, record: TaskRecord) -> tuple[int, ...]:
        """Where a task is in the order of adding: behind its parent, before what was added after that."""
        parent = self.batch.state.records.get(record.task.parent)
        return (*(self.place(parent) if parent else ()), record.sequence)

    @invariant()
    def candidates_are_the_best_first(self) -> None:
        state, now = self.batch.state, self.batch.clock()
        assert (state.paused, state.draining, state.scaled) == (self.paused, self.draining, self.scaled)
        assert list(state.requests) == list(self.requests)
        if state.paused or state.draining or state.finished:
            assert state.candidates(99, now) == []
            return
        candidates = [task.id for task in state.candidates(99, now)]
        records = [state.records[task_id] for task_id in candidates]

        def rank(record: TaskRecord) -> tuple[int, tuple[int, ...]]:
            worn = min(record.degradation, int((now - record.queued_at) // POLICY.aging_s))
            return record.task.priority + record.degradation - worn, self.place(record)

        assert records == sorted(records, key=rank)
        ready = set(state.dump()["queue"])
        assert set(candidates) <= ready
        left_out = [state.records[task_id] for task_id in ready - set(candidates)]
        assert all(record.task.shared for record in left_out), "only services say how many may start"
        for record in records:
            assert record.queued_at <= now
            assert set(record.task.depends_on) <= self.succeeded

    @invariant()
    def it_ends_once_and_when_it_should(self) -> None:
        state = self.batch.state
        assert all(count == 1 for count in self.finishes.values())
        assert bool(state.finished) == (state.epoch in self.finishes)
        waits = state.ready_count or state.next_due() is not None
        if state.closed and not self.running() and not waits:
            assert state.finished, "a deadlock: nothing runs, nothing waits for a time, and it isn't over"
        if state.finished == "complete" and self.before:
            assert state.closed

    def _check_replay(self) -> None:
        live, replayed = self.batch.state, self.batch.replayed()
        live.candidates(1, self.batch.clock())
        replayed.candidates(1, self.batch.clock())
        assert replayed.dump() == live.dump()

    def teardown(self) -> None:
        """Whatever happened: the journal tells it all, and the next one brings everything to an end."""
        self._check_replay()
        if self.draining or self.batch.state.stopped:
            self.next_run()
        else:
            self.take_over()
        self.resume()
        self._give([record.task for record in self.batch.state.records.values() if not record.task.parent])
        commands = self.do(InputsClosed())
        for _ in range(10_000):
            if commands and isinstance(commands[-1], Finish):
                break
            self.batch.clock.advance(64.0)
            dispatches = self.batch.start(99)
            assert dispatches, "nothing can start and it isn't over"
            for dispatch in dispatches:
                commands = self.batch.end(dispatch)
        assert self.batch.state.finished == "complete"
        assert all(record.state.terminal for record in self.batch.state.records.values())


TestShell = Shell.TestCase
TestShell.pytestmark = [pytest.mark.timeout(600)]  # what it finds takes minutes to be made small
TestShell.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
