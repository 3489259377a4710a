"""The state of a batch: an event goes in, the state changes, commands come out.

Pure: no Ray, no clock, no randomness, no files. Time and jitter travel inside the events, so replaying the
journal gives the same state to the bit. What can happen to a task stands in `ledger.TRANSITIONS`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from trax_ray.codes import FailureCode
from trax_ray.core.groups import Shut
from trax_ray.core.limits.ratelimit import FREE_RETRIES
from trax_ray.core.limits.services import Services
from trax_ray.core.limits.signals import Parks
from trax_ray.core.policy.prefetch import MEGABYTE, Coming, is_prefetch, within
from trax_ray.core.policy.retry import LOST, REPEATED, TRIED_ONCE_MORE, backoff_s, decide, is_unanswered
from trax_ray.core.policy.schedule import PeakHours
from trax_ray.core.spec import BatchSpec, RetryPolicy
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
    LetGo,
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
from trax_ray.core.state.families import Families
from trax_ray.core.state.ledger import Cause, Ledger, TaskRecord
from trax_ray.core.state.waiting import EVERYTHING, Waiting
from trax_ray.core.task import BatchTask, Category, Failure, FailureClass, TaskState
from trax_ray.errors import IllegalTransition

__all__ = ["BatchState"]

LOOK_AHEAD = 256
"""Ready tasks of a group, best first, among which those are looked for that may start: where the money doesn't suffice
for one, it may for a smaller one behind it."""


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
        self.ledger = Ledger()
        self.run: str | None = None
        self._policy = RetryPolicy()
        self._largest_node_mb = 0
        self._prefetch_bytes: int | None = None
        self._waiting = Waiting(self.ledger, self._policy.aging_s)
        self._families = Families(self.ledger, self._waiting)
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
        return self._waiting.ready_count

    @property
    def delayed_count(self) -> int:
        """Tasks that wait for their time."""
        return self._waiting.delayed_count

    @property
    def parked(self) -> Mapping[str, Failure]:
        """Providers that wait for a person, with the reason."""
        return self._waiting.parked

    @property
    def expanded(self) -> Collection[str]:
        """Ids of tasks that planned children and haven't started again since."""
        return self._families.expanded.keys()

    def next_due(self) -> float | None:
        """When the next delayed task gets ready, seconds since the epoch; None where none waits."""
        return self._waiting.next_due()

    def saves_until(self) -> float | None:
        """When tasks may start that wait for a provider's cheap hours, seconds since the epoch; None without any."""
        return self._waiting.saves_until(self.now)

    def candidates(self, count: int, now: float, coming: Mapping[str, Coming] | None = None) -> list[BatchTask]:
        """The next tasks to start, best first; none while paused or draining, or after the end.

        Args:
            count: How many at the most.
            now: When, seconds since the epoch.
            coming: What is known of the downloads that run, by their ids.
        """
        return list(islice(self.upcoming(now, coming), count))

    def upcoming(
        self, now: float, coming: Mapping[str, Coming] | None = None, shut: Shut | None = None
    ) -> Iterator[BatchTask]:
        """As `candidates`, each looked for when it is asked for: where nothing may start, that is one of thousands.

        Nothing may happen to the state meanwhile.

        Args:
            now: When, seconds since the epoch.
            coming: What is known of the downloads that run, by their ids.
            shut: Groups that are passed over: those of which the caller wants no more, and those that may not start.
        """
        shut = Shut() if shut is None else shut
        now = max(now, self.now)
        self._waiting.pass_time(now)
        if self.paused or self.draining or self.finished:
            return iter(())
        tasks = (record.to_run for record in self._waiting.best(shut, LOOK_AHEAD))
        disk = self.ledger.media.disk(self._prefetch_bytes, coming)
        return within(self.services.startable(tasks, now, shut), disk, self._only_downloads_are_left, shut)

    def ends_by_time(self, now: float) -> bool:
        """Whether the batch has come to its end by nothing but the time: the next event, any, ends it.

        A download may be delayed behind others that the disk keeps back until a person mends a service. When its delay
        is over all wait for that person, and nothing happens by which this would be noticed.
        """
        self._waiting.pass_time(max(now, self.now))
        return not self.finished and bool(self._ending())

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
        self._waiting.pass_time(self.now)
        commands = self._apply(event)
        self._park_where_money_is_short()
        commands += map(LetGo, self.ledger.media.let_go())
        ended = self._ending()
        if ended and not self.finished:
            self.finished = ended
            commands.append(Finish(ended))
        return commands

    def _park_where_money_is_short(self) -> None:
        if not self.services.has_cap or self.finished or self.services.money_suffices:
            return
        shut = Shut()
        ready = (record.task for record in self._waiting.best(shut, LOOK_AHEAD))
        for provider, failure in self.services.capped(ready, shut).items():
            self._waiting.park(provider, failure, requests=True)

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
            self.services.expect(event.tasks)
            for task in event.tasks:
                self._families.add(task)
        elif isinstance(event, Expanded):
            self._on_expanded(event)
        elif isinstance(event, Revived):
            self.services.expect(event.tasks)
            self._families.revive(event.tasks)
        elif isinstance(event, Known):
            for task_id in event.task_ids:
                self.ledger.give(self.records[task_id])
            for task in event.tasks:
                self.ledger.replace_task(self.records[task.id], task)
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
            self._waiting.unpark()
            self.services.resume(self.now)
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
        # After a signal the stop that follows is the reason, and not what else would have come in its way.
        return "parked" if self._all_wait_for_a_person() and not self.draining else ""

    def _all_wait_for_a_person(self) -> bool:
        """Downloads too that the disk keeps back until media are transcribed that wait for a parked service."""
        if not self._waiting.all_parked(but=is_prefetch):
            return False
        if not self._waiting.ready_count:
            return True
        first = next(self._waiting.best()).task
        return self.ledger.media.disk(self._prefetch_bytes).keeps_back(first)

    def _only_downloads_are_left(self) -> bool:
        """Whether a download that the disk keeps back would wait for ever."""
        if self.ledger.counts[TaskState.RUNNING] or self._waiting.delayed_count or self._waiting.parked:
            return False
        return all(is_prefetch(record.task) for record in self._waiting.best())

    def _on_coordinator_started(self, event: CoordinatorStarted) -> None:
        spec = BatchSpec.from_dict(event.spec)
        self.epoch = event.epoch
        self.closed = False
        self.finished = ""
        self._largest_node_mb = event.largest_node_mb
        self._policy = spec.retry
        most_mb = spec.limits.prefetch_mb
        self._prefetch_bytes = None if most_mb is None else most_mb * MEGABYTE
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
        self._waiting.rebuild(self._policy.aging_s, PeakHours(frozenset(spec.enhance.peak_hours)))

    def _start(self, task_id: str, attempt: int) -> Dispatch:
        record = self.records[task_id]
        if attempt != record.attempt + 1:
            raise IllegalTransition(f"task {task_id} can't start attempt {attempt}: {record.tell()}")
        self._waiting.start(record)
        children, needed = self._families.start(record)
        record.epoch, record.attempt, record.started_at = self.epoch, attempt, self.now
        self.services.on_started(record.task, self.now, retry=record.spent + record.turned_away > 0)
        return Dispatch(record.to_run, self.epoch, attempt, children, needed)

    def _preempt(self, event: Preempted) -> list[Command]:
        record = self._current(event)
        if record is None:
            return []
        self.services.on_lost(record.task, self.now)
        self._waiting.requeue(record)
        return [Cancel(event.task_id, event.epoch, event.attempt)]

    def _retry_failed(self) -> None:
        roots, children = self._families.failed()
        for record in roots:
            record.retry_wanted = True  # forgotten where it is revived, now or when a run is given it
        if not self.finished:
            mine = [record for record in roots if record.task.id in self.ledger.run.members]
            self._families.revive(record.task for record in [*mine, *children])

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
        verdict = None
        if is_unanswered(outcome):
            self.services.on_lost(record.task, self.now)
        else:
            verdict = self.services.on_ended(record.task, outcome.signal, self.now)
        if verdict is not None and verdict.recovered:
            self._waiting.hasten(record.task.provider)
        if verdict is not None and verdict.parks is not None:
            self._park_service(record, verdict.parks, outcome.failure)
        if outcome.failure is None:
            record.artifact_key, record.metrics, record.failure = outcome.artifact_key, outcome.metrics, None
            self._families.end(record, Cause.SUCCEED)
            return
        record.failure = outcome.failure
        if outcome.failure.failure_class is FailureClass.CONFIG:
            parks = outcome.failure.parks or record.task.provider or EVERYTHING
            self._waiting.park(parks, outcome.failure, requests=outcome.signal is not None)
            self._waiting.requeue(record)
            return
        failure = outcome.failure
        if verdict is not None:
            wait_s = max(failure.retry_after_s or 0.0, verdict.retry_at - self.now)
            failure = replace(failure, retry_after_s=wait_s)
        if verdict is not None and not verdict.costs_retry and record.turned_away < FREE_RETRIES:
            record.turned_away += 1
            self._waiting.retry(record, max(failure.retry_after_s or 0.0, backoff_s(self._policy, 0, event.jitter)))
            return
        self._on_failure(record, failure, event.jitter)

    def _park_service(self, record: TaskRecord, parks: Parks, last: Failure | None) -> None:
        """No single answer is to blame: it takes the task's provider, and none of the tasks."""
        provider = record.task.provider
        message = f"{provider}: {parks.words}{f'; the last one: {last.message}' if last else ''}"
        failure = Failure(FailureClass.CONFIG, Category.NETWORK, parks.code, message, parks=provider)
        self._waiting.park(provider, failure, requests=True)

    def _on_failure(self, record: TaskRecord, failure: Failure, jitter: float) -> None:
        if failure.code == FailureCode.WORKER_DIED and record.to_run.shared:
            # It was one of many in its process, and who killed that nobody knows: the next attempt, alone, will tell.
            record.suspect = True
            self._waiting.requeue(record)
            return
        record.deaths += failure.code == FailureCode.WORKER_DIED
        record.losses += failure.code in LOST
        if failure.code in REPEATED:
            record.repeats[failure.code] = record.repeats.get(failure.code, 0) + 1
        decision = decide(
            failure,
            self._policy,
            spent=record.spent,
            max_retries=record.task.max_retries,
            deaths=record.deaths,
            losses=record.losses,
            repeats=record.repeats.get(failure.code, 0),
            memory_mb=record.task.resources.memory_mb,
            largest_node_mb=self._largest_node_mb,
            jitter=jitter,
        )
        if decision is None:
            if failure.code == FailureCode.WORKER_DIED and record.deaths >= self._policy.max_deaths:
                message = f"{failure.message} (quarantined: it ended {record.deaths} workers)"
                record.failure = replace(
                    failure, failure_class=FailureClass.PERMANENT, code=FailureCode.QUARANTINED, message=message
                )
            elif failure.code in TRIED_ONCE_MORE:
                record.failure = replace(failure, failure_class=FailureClass.PERMANENT)
            self._families.end(record, Cause.FAIL)
            return
        record.spent += decision.spends
        record.degradation += decision.degradation
        if decision.memory_mb is not None:
            record.task = record.task.with_memory(decision.memory_mb)
        self._waiting.retry(record, decision.delay_s)

    def _on_expanded(self, event: Expanded) -> None:
        record = self._current(event)
        if record is None:
            return
        self.services.on_ended(record.task, event.outcome.signal, self.now)
        self.services.expect(event.outcome.children)
        self._families.expand(record, event.outcome.children)

    def _stop(self, event: Stopped) -> list[Command]:
        if event.reason == "stop":
            self.paused = False
        if self.finished:
            return []
        commands: list[Command] = []
        for record in self.records.values():
            if record.state is TaskState.RUNNING:
                self.services.on_lost(record.task, self.now)
                commands.append(Cancel(record.task.id, record.epoch, record.attempt))
            if not record.state.terminal:
                self._waiting.cancel(record)
        self.stopped = True
        return commands

    def dump(self) -> dict[str, Any]:
        """The whole state as JSON types: equal dumps are equal states."""
        return {
            "now": self.now,
            "epoch": self.epoch,
            "flags": [self.paused, self.draining, self.closed, self.stopped, self.finished],
            "requests": list(self.requests),
            "scaled": encode(self.scaled) if self.scaled else None,
            "services": self.services.dump(),
            "parked": encode(self._waiting.parked),
            "held": list(self._waiting.held),
            "saving": list(self._waiting.saving),
            "run": self.run,
            "media": self.ledger.media.dump(),
            "tallies": [
                {
                    "members": sorted(tally.members),
                    "verdicts": {state.value: count for state, count in sorted(tally.verdicts.items()) if count},
                    "quality": encode(tally.quality),
                    "work": [tally.work_total, tally.work_ended, tally.work_ended_before, tally.audio_us_before],
                }
                for tally in (self.ledger.total, self.ledger.run)
            ],
            "queue": [record.task.id for record in self._waiting.best()],
            "records": [
                encode(record) | {"waiting_for": sorted(record.waiting_for), "story": record.tell()}
                for record in self.records.values()
            ],
        }
