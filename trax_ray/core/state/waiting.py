"""What waits: for its turn, for its time, for cheap hours, or for a person.

A task that is queued is in the queue, or held because its provider is parked or charges more at present; one that is
delayed is in the queue until its time comes. Who may start, and when, is decided here; why, elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from trax_ray.core.groups import Group, Shut
from trax_ray.core.policy.prefetch import is_prefetch
from trax_ray.core.policy.schedule import NO_PEAK, PeakHours
from trax_ray.core.state.ledger import Cause, Ledger, TaskRecord
from trax_ray.core.state.queue import Order, TaskQueue
from trax_ray.core.task import BatchTask, Failure, TaskState

__all__ = ["EVERYTHING", "Waiting"]

EVERYTHING = "*"
"""The provider that stands for all of them: what a full disk parks."""


class Waiting:
    """The tasks that are queued or delayed, and the providers that are parked.

    Args:
        ledger: Where the tasks are; states change there.
        aging_s: Seconds of waiting that take one step of degradation back.

    Attributes:
        parked: Providers that wait for a person, with the reason.
        held: Ids of queued tasks whose provider is parked, in the order in which they were held.
        saving: Ids of queued tasks that wait for the end of the hours at which their provider charges more. Out of the
            queue, so that thousands of them stand in nobody's way.
    """

    def __init__(self, ledger: Ledger, aging_s: float) -> None:
        self.parked: dict[str, Failure] = {}
        self.held: dict[str, None] = {}
        self.saving: dict[str, None] = {}
        self._peak = NO_PEAK
        self._at_peak = False
        self._ledger = ledger
        self._queue = TaskQueue(aging_s)
        self._assembles: dict[str, None] = {}

    # What may start

    @property
    def ready_count(self) -> int:
        """Tasks that could start now."""
        return self._queue.ready_count

    @property
    def delayed_count(self) -> int:
        """Tasks that wait for their time."""
        return self._queue.delayed_count

    def next_due(self) -> float | None:
        """When the next delayed task gets ready, seconds since the epoch; None where none waits."""
        return self._queue.next_due()

    def best(self, shut: Shut | None = None, most: int | None = None) -> Iterator[TaskRecord]:
        """The next tasks to start, best first, each looked up when it is asked for: nothing may change meanwhile.

        Args:
            shut: Groups that are passed over.
            most: So many of a group are looked at; None for all.
        """
        return (self._ledger.records[task_id] for task_id in self._queue.in_order(shut, most))

    def all_parked(self, but: Callable[[BatchTask], bool]) -> bool:
        """Whether all that waits waits for a person, some of the ready tasks apart.

        Delayed tasks of parked providers count: when their time comes they are held, and that is no event.

        Args:
            but: Tells those that don't count.
        """
        if not self.parked or self.saving or not all(but(record.task) for record in self.best()):
            return False
        delayed = (record for record in self._ledger.records.values() if record.state is TaskState.DELAYED)
        return all(self._is_parked(record) for record in delayed)

    # What waits

    def pass_time(self, now: float) -> None:
        """Let time pass. A task got ready when its time came, not when this was called."""
        if self._at_peak is not self._peak.hold(now):
            self._turn(at_peak=not self._at_peak)
        for task_id in self._queue.advance(now):
            record = self._ledger.records[task_id]
            self._ledger.move(record, Cause.READY, at=record.queued_at)
            self._hold_if_needed(record)

    def make_ready(self, record: TaskRecord) -> None:
        """A blocked task has all that it needs."""
        self._ledger.move(record, Cause.READY)
        self._push(record, self._ledger.now)

    def requeue(self, record: TaskRecord) -> None:
        """A running task waits for its turn again."""
        self._ledger.move(record, Cause.REQUEUE)
        self._push(record, self._ledger.now)

    def retry(self, record: TaskRecord, delay_s: float) -> None:
        """A running task waits for its retry, `delay_s` seconds from now."""
        self._ledger.move(record, Cause.RETRY)
        self._push_delayed(record, self._ledger.now + delay_s)

    def start(self, record: TaskRecord) -> None:
        """A task that waits starts.

        What a service's answers mean differs from version to version. Where the journal of another one says that a
        request started it did, though by these rules its time hadn't come, or its service was parked.
        """
        if record.state is TaskState.DELAYED and record.task.asks_provider:
            self._ledger.move(record, Cause.READY)
        self._ledger.move(record, Cause.START)
        if record.task.id in self._queue:
            self._queue.remove(record.task.id)
        self._let_go(record)

    def cancel(self, record: TaskRecord) -> None:
        """A task that hasn't ended won't be done, wherever it is."""
        if record.task.id in self._queue:
            self._queue.remove(record.task.id)
        self._let_go(record)
        self._ledger.move(record, Cause.CANCEL)

    def _let_go(self, record: TaskRecord) -> None:
        self.held.pop(record.task.id, None)
        self.saving.pop(record.task.id, None)

    def rebuild(self, aging_s: float, peak: PeakHours = NO_PEAK) -> None:
        """Build the queue anew from the ledger: under a new policy, with nothing parked.

        Args:
            aging_s: See above.
            peak: When tasks wait that are to be done at other hours.
        """
        self.parked.clear()
        self.held.clear()
        self.saving.clear()
        self._peak, self._at_peak = peak, peak.hold(self._ledger.now)
        self._queue = TaskQueue(aging_s)
        for record in self._ledger.records.values():
            if record.state is TaskState.QUEUED:
                self._push(record, record.queued_at)
            elif record.state is TaskState.DELAYED:
                self._push_delayed(record, record.queued_at)

    # Cheap hours

    def saves_until(self, now: float) -> float | None:
        """When tasks that wait for cheap hours may start, seconds since the epoch; None where none waits for them."""
        return self._peak.end_after(now) if self.saving else None

    def _turn(self, *, at_peak: bool) -> None:
        """Hours at which a provider charges more have begun, or are over."""
        self._at_peak = at_peak
        if at_peak:
            self._hold_all()
            return
        saving, self.saving = self.saving, {}
        for task_id in saving:
            record = self._ledger.records[task_id]
            self._push(record, record.queued_at)

    def _is_saved(self, record: TaskRecord) -> bool:
        """Whether a task waits for cheap hours. What was paid for is brought to its end at any."""
        return self._at_peak and bool(record.task.data.get("off_peak")) and not record.children

    # Who was away

    def hasten(self, provider: str) -> None:
        """What waits for its time because a provider was away needn't any longer."""
        for record in self._ledger.records.values():
            if record.state is TaskState.DELAYED and record.task.provider == provider:
                self._queue.remove(record.task.id)
                self._ledger.move(record, Cause.READY)
                self._push(record, self._ledger.now)

    # Providers

    def park(self, provider: str, failure: Failure, *, requests: bool = False) -> None:
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
        self._hold_all()

    def _hold_all(self) -> None:
        for record in self._ledger.records.values():
            if record.state is TaskState.QUEUED and record.task.id in self._queue:
                self._hold_if_needed(record)

    def unpark(self) -> None:
        """No provider is parked any more."""
        held, self.held = self.held, {}
        self.parked.clear()
        for task_id in held:
            self._push(self._ledger.records[task_id], self._ledger.now)

    def _is_parked(self, record: TaskRecord) -> bool:
        if EVERYTHING in self.parked:
            return True
        provider = record.task.provider
        return provider in self.parked and not (record.children and provider in self._assembles)

    def _hold_if_needed(self, record: TaskRecord) -> None:
        if self._is_parked(record):
            self._queue.remove(record.task.id)
            self.held[record.task.id] = None
        elif self._is_saved(record):
            self._queue.remove(record.task.id)
            self.saving[record.task.id] = None

    # The queue

    def _sequence(self, record: TaskRecord) -> Order:
        """The place among equals: chunks follow their recording, so that one is finished before the next is begun."""
        order: Order = (record.sequence,)
        while record.task.parent:
            record = self._ledger.records[record.task.parent]
            order = (record.sequence, *order)
        return order

    def _push(self, record: TaskRecord, since: float) -> None:
        record.queued_at = since
        self._queue.push(
            record.task.id,
            sequence=self._sequence(record),
            priority=record.task.priority,
            degradation=record.degradation,
            since=since,
            group=_group(record),
        )
        self._hold_if_needed(record)

    def _push_delayed(self, record: TaskRecord, ready_at: float) -> None:
        record.queued_at = ready_at
        self._queue.push_delayed(
            record.task.id,
            sequence=self._sequence(record),
            priority=record.task.priority,
            degradation=record.degradation,
            ready_at=ready_at,
            group=_group(record),
        )


def _group(record: TaskRecord) -> Group:
    """What the task's next attempt waits for."""
    task = record.to_run
    coreless = not task.shared and not task.resources.num_cpus
    return Group(task.provider if task.asks_provider else "", is_prefetch(task), coreless)
