"""The state of a batch: an event goes in, the state changes, commands come out.

Pure: no Ray, no clock, no randomness, no files. Time and jitter travel inside the events, so replaying the
journal gives the same state to the bit. What can happen to a task stands in `ledger.TRANSITIONS`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from trax_ray.core.events import (
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
    encode,
)
from trax_ray.core.ledger import DEPENDENCY_FAILED, Cause, Ledger, TaskRecord
from trax_ray.core.queue import Order, TaskQueue
from trax_ray.core.ratelimit import FREE_RETRIES
from trax_ray.core.retry import LOST, WORKER_DIED, backoff_s, decide
from trax_ray.core.services import Services
from trax_ray.core.spec import BatchSpec, RetryPolicy
from trax_ray.core.task import BatchTask, Failure, FailureClass, TaskState
from trax_ray.errors import IllegalTransition

__all__ = ["BatchState"]

EVERYTHING = "*"
"""The provider that stands for all of them: what a full disk parks."""


class BatchState:
    """All tasks of a batch and what may happen to them next."""

    def __init__(self) -> None:
        self.epoch = 0
        self.started_at = 0.0
        self.paused = False
        self.draining = False
        self.closed = False
        self.stopped = False
        self.finished = ""
        self.requests: dict[str, None] = {}
        self.scaled: Scaled | None = None
        self.parked: dict[str, Failure] = {}
        self.ledger = Ledger()
        self.run: str | None = None
        self.expanded: dict[str, None] = {}
        self._policy = RetryPolicy()
        self._largest_node_mb = 0
        self._queue = TaskQueue(self._policy.aging_s)
        self._held: dict[str, None] = {}
        self._dependents: dict[str, dict[str, None]] = {}
        self._assembles: dict[str, None] = {}
        self.services = Services()

    # What the shell asks

    @property
    def now(self) -> float:
        """The time of the last event, seconds since the epoch."""
        return self.ledger.now

    @property
    def records(self) -> dict[str, TaskRecord]:
        """Every task by id, in the order of adding."""
        return self.ledger.records

    @property
    def ready_count(self) -> int:
        """Tasks that could start now."""
        return self._queue.ready_count

    def next_due(self) -> float | None:
        """When the next delayed task gets ready, seconds since the epoch; None where none waits."""
        return self._queue.next_due()

    def candidates(self, count: int, now: float) -> list[BatchTask]:
        """The next tasks to start, best first; none while paused or draining, or after the end."""
        self._wake(max(now, self.now))
        if self.paused or self.draining or self.finished:
            return []
        tasks = (self.records[task_id].task for task_id in self._queue.peek(count))
        return list(self.services.startable(tasks, self.now))

    def next_attempt(self, task_id: str) -> int:
        """The number that the task's next attempt has, from 1."""
        return self.records[task_id].attempt + 1

    # What happens

    def handle(self, event: Event, now: float) -> list[Command]:
        """Change the state by one event.

        Args:
            event: What happened.
            now: When, seconds since the epoch; never runs backwards (an earlier time counts as the last one).

        Returns:
            What to do now, in this order.

        Raises:
            IllegalTransition: The event doesn't fit the state; names the task and its story.
        """
        self.ledger.now = max(self.now, now)
        self._wake(self.now)
        commands = self._apply(event)
        for provider, failure in self.services.capped().items():
            if provider not in self.parked and not self.finished:
                self._park(provider, failure, requests=True)
        ended = self._ending()
        if ended and not self.finished:
            self.finished = ended
            commands.append(Finish(ended))
        return commands

    def _apply(self, event: Event) -> list[Command]:
        commands: list[Command] = []
        request = getattr(event, "request", "")
        if request in self.requests:
            return []  # its answer was journalled, its file wasn't deleted any more
        if request:
            self.requests[request] = None
        if isinstance(event, AttemptEnded):
            self._on_attempt_ended(event)
        elif isinstance(event, Started):
            commands.extend(self._start(task_id, attempt) for task_id, attempt in event.starts)
        elif isinstance(event, TasksAdded):
            for task in event.tasks:
                self._add(task)
        elif isinstance(event, Expanded):
            self._on_expanded(event)
        elif isinstance(event, Revived):
            self._revive(event.tasks)
        elif isinstance(event, Known):
            for task_id in event.task_ids:
                self.ledger.run.enter(self.records[task_id])
        elif isinstance(event, InputsClosed):
            self.closed = True
        elif isinstance(event, CoordinatorStarted):
            self._on_coordinator_started(event)
        elif isinstance(event, Preempted):
            commands.extend(self._preempt(event))
        elif isinstance(event, Scaled):
            self.scaled = event
        elif isinstance(event, Paused):
            self.paused = True
        elif isinstance(event, Resumed):
            self.paused = False
            self._unpark()
        elif isinstance(event, RetryFailed):
            self._retry_failed()
        elif isinstance(event, Draining):
            self.draining = True
        elif isinstance(event, Stopped):
            commands.extend(self._stop(event))
        return commands

    def _ending(self) -> str:
        """Why the batch has ended, empty while it hasn't."""
        if self.finished:
            return self.finished
        if self.stopped:
            return "stopped"
        if not self.closed or self.ledger.counts[TaskState.RUNNING]:
            return ""
        if not self.ledger.open_count:
            return "complete"
        return "parked" if self.parked and not self._queue.ready_count and self._all_delayed_are_parked() else ""

    def _all_delayed_are_parked(self) -> bool:
        """When their time comes they are held, and nothing happens then that would be an event."""
        delayed = (record for record in self.records.values() if record.state is TaskState.DELAYED)
        return all(self._is_parked(record) for record in delayed)

    def _on_coordinator_started(self, event: CoordinatorStarted) -> None:
        spec = BatchSpec.from_dict(event.spec)
        self.epoch = event.epoch
        self.closed = False
        self.finished = ""
        self._largest_node_mb = event.largest_node_mb
        self._policy = spec.retry
        another = self.run is not None and event.run != self.run
        for record in self.records.values():
            if another and not record.state.terminal:
                self.ledger.move(record, Cause.CANCEL)
            elif record.state is TaskState.RUNNING:
                self.ledger.move(record, Cause.REQUEUE)
        if another or self.run is None:
            self.run = event.run
            self.draining = self.stopped = False
            self.started_at = self.now
            self.ledger.begin_run()
        self.services.begin(spec, self.now)
        self._requeue_all()

    def _requeue_all(self) -> None:
        """Build the queue anew: under a new policy, with nothing parked."""
        self.parked.clear()
        self._held.clear()
        self._queue = TaskQueue(self._policy.aging_s)
        for record in self.records.values():
            if record.state is TaskState.QUEUED:
                self._enqueue(record, record.queued_at)
            elif record.state is TaskState.DELAYED:
                self._delay(record, record.queued_at)

    def _add(self, task: BatchTask) -> None:
        record = self.ledger.add(task)
        self._note_dependencies(task)
        self._settle(record)

    def _note_dependencies(self, task: BatchTask) -> None:
        for name in task.depends_on:
            self._dependents.setdefault(name, {})[task.id] = None

    def _settle(self, record: TaskRecord) -> None:
        """A blocked task: queue it, keep it blocked, or end it, as the tasks stand that it depends on."""
        needed = [self.records[name] for name in record.task.depends_on]
        for other in needed:
            if other.state in (TaskState.FAILED, TaskState.CANCELLED):
                self._abandon(record, other)
                self._spread(record)
                return
        record.waiting_for = {other.task.id for other in needed if other.state is not TaskState.SUCCEEDED}
        if not record.waiting_for:
            self._make_ready(record)

    def _revive(self, tasks: Iterable[BatchTask]) -> None:
        """Do again what has ended. First all of it is open, then it settles: one may need another that comes later."""
        for record in [self._reopen(task) for task in tasks]:
            self._settle(record)

    def _reopen(self, task: BatchTask) -> TaskRecord:
        record = self.records[task.id]
        self.ledger.move(record, Cause.REVIVE)
        self.ledger.run.enter(record)
        self.ledger.replace_task(record, task)
        self._note_dependencies(task)
        record.spent = record.deaths = record.losses = record.degradation = record.turned_away = 0
        record.retry_wanted = False
        record.failure, record.artifact_key, record.metrics, record.children = None, "", {}, ()
        record.waiting_for = set()
        self.expanded.pop(task.id, None)
        return record

    def _start(self, task_id: str, attempt: int) -> Dispatch:
        record = self.records[task_id]
        if attempt != record.attempt + 1:
            raise IllegalTransition(f"task {task_id} can't start attempt {attempt}: {record.tell()}")
        self.ledger.move(record, Cause.START)
        self._queue.remove(task_id)
        self.expanded.pop(task_id, None)
        record.epoch, record.attempt, record.started_at = self.epoch, attempt, self.now
        children = {name: self.records[name].artifact_key for name in record.children}
        self.services.on_started(record.task, self.now, retry=record.spent + record.turned_away > 0)
        return Dispatch(record.task, self.epoch, attempt, children, alone=not record.task.shared)

    def _preempt(self, event: Preempted) -> list[Command]:
        record = self._current(event)
        if record is None:
            return []
        self.services.on_ended(record.task, None, self.now)
        self.ledger.move(record, Cause.REQUEUE)
        self._enqueue(record, self.now)
        return [Cancel(event.task_id, event.epoch, event.attempt)]

    def _retry_failed(self) -> None:
        """Of chunks those whose recording goes on; one that failed plans its chunks again."""
        again = []
        for record in self.records.values():
            if record.state is not TaskState.FAILED:
                continue
            parent = self.records.get(record.task.parent)
            if parent is None and (self.finished or record.task.id not in self.ledger.run.members):
                record.retry_wanted = True
            elif parent is None:
                again.append(record.task)
            elif not self.finished and parent.state is TaskState.BLOCKED and record.task.id in parent.children:
                parent.waiting_for.add(record.task.id)
                again.append(record.task)
        self._revive(again)

    def _current(self, event: AttemptEnded | Expanded | Preempted) -> TaskRecord | None:
        """The running task that the event is about; None where the attempt isn't the current one."""
        record = self.records[event.task_id]
        running = record.state is TaskState.RUNNING and (record.epoch, record.attempt) == (event.epoch, event.attempt)
        return record if running else None

    def _on_attempt_ended(self, event: AttemptEnded) -> None:
        record = self._current(event)
        if record is None:
            return
        outcome = event.outcome
        verdict = self.services.on_ended(record.task, outcome.signal, self.now)
        if outcome.failure is None:
            record.artifact_key, record.metrics, record.failure = outcome.artifact_key, outcome.metrics, None
            self._end(record, Cause.SUCCEED)
            return
        record.failure = outcome.failure
        if outcome.failure.failure_class is FailureClass.CONFIG:
            self.ledger.move(record, Cause.REQUEUE)
            parks = outcome.failure.parks or record.task.provider or EVERYTHING
            self._park(parks, outcome.failure, requests=outcome.signal is not None)
            self._enqueue(record, self.now)
            return
        failure = outcome.failure
        if verdict is not None:
            wait_s = max(failure.retry_after_s or 0.0, verdict.retry_at - self.now)
            failure = replace(failure, retry_after_s=wait_s)
        if verdict is not None and not verdict.costs_retry and record.turned_away < FREE_RETRIES:
            record.turned_away += 1
            self.ledger.move(record, Cause.RETRY)
            self._delay(record, self.now + max(failure.retry_after_s or 0.0, backoff_s(self._policy, 0, event.jitter)))
            return
        self._on_failure(record, failure, event.jitter)

    def _on_failure(self, record: TaskRecord, failure: Failure, jitter: float) -> None:
        if failure.code == WORKER_DIED and record.task.shared:
            # It was one of many in its process, and who killed that nobody knows: the next attempt, alone, will tell.
            record.task = replace(record.task, shared=False)
            self.ledger.move(record, Cause.REQUEUE)
            self._enqueue(record, self.now)
            return
        record.deaths += failure.code == WORKER_DIED
        record.losses += failure.code in LOST
        decision = decide(
            failure,
            self._policy,
            spent=record.spent,
            max_retries=record.task.max_retries,
            deaths=record.deaths,
            losses=record.losses,
            memory_mb=record.task.resources.memory_mb,
            largest_node_mb=self._largest_node_mb,
            jitter=jitter,
        )
        if decision is None:
            if failure.code == WORKER_DIED and record.deaths >= self._policy.max_deaths:
                message = f"{failure.message} (quarantined: it ended {record.deaths} workers)"
                record.failure = replace(
                    failure, failure_class=FailureClass.PERMANENT, code="quarantined", message=message
                )
            self._end(record, Cause.FAIL)
            return
        record.spent += decision.spends
        record.degradation += decision.degradation
        if decision.memory_mb is not None:
            record.task = record.task.with_memory(decision.memory_mb)
        self.ledger.move(record, Cause.RETRY)
        self._delay(record, self.now + decision.delay_s)

    def _on_expanded(self, event: Expanded) -> None:
        record = self._current(event)
        if record is None:
            return
        children = event.outcome.children
        if not children:
            raise IllegalTransition(f"task {record.task.id} can't expand into nothing: {record.tell()}")
        # Known only when all are there: a child that fails while it is added must not judge its parent.
        record.children = ()
        self.ledger.move(record, Cause.EXPAND)
        self.expanded[record.task.id] = None
        for child in children:
            known = self.records.get(child.id)
            if known is None:
                self._add(child)
            elif known.state is TaskState.SUCCEEDED and known.task.fingerprint == child.fingerprint:
                continue
            elif known.state.terminal:
                self._revive([child])
        record.children = tuple(child.id for child in children)
        record.waiting_for = {name for name in record.children if not self.records[name].state.terminal}
        self._check_parent(record)

    def _stop(self, event: Stopped) -> list[Command]:
        if event.reason == "stop":
            self.paused = False
        if self.finished:
            return []
        commands: list[Command] = []
        for record in self.records.values():
            if record.state is TaskState.RUNNING:
                self.services.on_ended(record.task, None, self.now)
                commands.append(Cancel(record.task.id, record.epoch, record.attempt))
            if not record.state.terminal:
                if record.task.id in self._queue:
                    self._queue.remove(record.task.id)
                self.ledger.move(record, Cause.CANCEL)
        self._held.clear()
        self.stopped = True
        return commands

    # The parts

    def _wake(self, now: float) -> None:
        """Let time pass in the queue. A task got ready when its time came, not when somebody looked."""
        for task_id in self._queue.advance(now):
            record = self.records[task_id]
            self.ledger.move(record, Cause.READY, at=record.queued_at)
            self._hold_if_parked(record)

    def _make_ready(self, record: TaskRecord) -> None:
        self.ledger.move(record, Cause.READY)
        self._enqueue(record, self.now)

    def _sequence(self, record: TaskRecord) -> Order:
        """The place among equals: chunks follow their recording, so that one is finished before the next is begun."""
        order: Order = (record.sequence,)
        while record.task.parent:
            record = self.records[record.task.parent]
            order = (record.sequence, *order)
        return order

    def _enqueue(self, record: TaskRecord, since: float) -> None:
        record.queued_at = since
        self._queue.push(
            record.task.id,
            sequence=self._sequence(record),
            priority=record.task.priority,
            degradation=record.degradation,
            since=since,
        )
        self._hold_if_parked(record)

    def _delay(self, record: TaskRecord, ready_at: float) -> None:
        record.queued_at = ready_at
        self._queue.push_delayed(
            record.task.id,
            sequence=self._sequence(record),
            priority=record.task.priority,
            degradation=record.degradation,
            ready_at=ready_at,
        )

    def _park(self, provider: str, failure: Failure, *, requests: bool = False) -> None:
        """Hold what needs a provider.

        Args:
            provider: Its name.
            failure: Why.
            requests: It is a service that is asked no more. What it was paid for is still brought to its end: a
                recording whose requests are answered only has to be assembled.
        """
        if requests and provider not in self.parked:
            self._assembles[provider] = None
        elif not requests:
            self._assembles.pop(provider, None)
        self.parked[provider] = failure
        for record in self.records.values():
            if record.state is TaskState.QUEUED and record.task.id in self._queue:
                self._hold_if_parked(record)

    def _is_parked(self, record: TaskRecord) -> bool:
        if EVERYTHING in self.parked:
            return True
        provider = record.task.provider
        return provider in self.parked and not (record.children and provider in self._assembles)

    def _hold_if_parked(self, record: TaskRecord) -> None:
        if self._is_parked(record):
            self._queue.remove(record.task.id)
            self._held[record.task.id] = None

    def _unpark(self) -> None:
        held, self._held = self._held, {}
        self.parked.clear()
        self.services.resume(self.now)
        for task_id in held:
            self._enqueue(self.records[task_id], self.now)

    def _end(self, record: TaskRecord, cause: Cause) -> None:
        """A task ends for good."""
        self.ledger.move(record, cause)
        self._spread(record)

    def _spread(self, record: TaskRecord) -> None:
        """The parent and the dependents of a task that has ended learn of it, and theirs in turn."""
        ended = [record]
        for each in ended:  # grows meanwhile: a chain of dependents may be longer than Python's stack
            if each.task.parent:
                self._check_parent(self.records[each.task.parent])
            for name in self._dependents.get(each.task.id, ()):
                other = self.records[name]
                if other.state is not TaskState.BLOCKED or each.task.id not in other.waiting_for:
                    continue
                if each.state is not TaskState.SUCCEEDED:
                    self._abandon(other, each)
                    ended.append(other)
                    continue
                other.waiting_for.discard(each.task.id)
                if not other.waiting_for:
                    self._make_ready(other)

    def _abandon(self, record: TaskRecord, ended: TaskRecord) -> None:
        """A blocked task can't run any more, because one that it needs failed or was cancelled."""
        if ended.state is TaskState.CANCELLED:
            self.ledger.move(record, Cause.CANCEL)
        else:
            assert ended.failure is not None
            record.failure = ended.failure
            if ended.failure.code != DEPENDENCY_FAILED:
                message = f"{ended.task.task_type.value} failed before it: {ended.failure.message}"
                record.failure = replace(
                    ended.failure, failure_class=FailureClass.PERMANENT, code=DEPENDENCY_FAILED, message=message
                )
            self.ledger.move(record, Cause.FAIL)

    def _check_parent(self, parent: TaskRecord) -> None:
        """An expanded task goes on when its children have all succeeded, and fails when all ended and one failed."""
        if parent.state is not TaskState.BLOCKED or not parent.children:
            return
        children = [self.records[name] for name in parent.children]
        if any(not child.state.terminal for child in children):
            return
        parent.waiting_for.clear()
        failed = [child for child in children if child.failure is not None and child.state is TaskState.FAILED]
        if failed:
            first = failed[0]
            assert first.failure is not None
            parent.failure = replace(
                first.failure, message=f"{len(failed)} of {len(children)} chunks failed: {first.failure.message}"
            )
            self._end(parent, Cause.FAIL)
        else:
            self._make_ready(parent)

    def dump(self) -> dict[str, Any]:
        """The whole state as JSON types: equal dumps are equal states."""
        return {
            "now": self.now,
            "epoch": self.epoch,
            "flags": [self.paused, self.draining, self.closed, self.stopped, self.finished],
            "requests": list(self.requests),
            "scaled": encode(self.scaled) if self.scaled else None,
            "services": self.services.dump(),
            "parked": encode(self.parked),
            "held": list(self._held),
            "run": self.run,
            "tallies": [
                {
                    "members": sorted(tally.members),
                    "verdicts": {state.value: count for state, count in sorted(tally.verdicts.items()) if count},
                    "quality": encode(tally.quality),
                    "work": [tally.work_total, tally.work_ended, tally.work_ended_before, tally.audio_us_before],
                }
                for tally in (self.ledger.total, self.ledger.run)
            ],
            "queue": self._queue.peek(len(self._queue)),
            "records": [
                encode(record) | {"waiting_for": sorted(record.waiting_for), "story": record.tell()}
                for record in self.records.values()
            ],
        }
