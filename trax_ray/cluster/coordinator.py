"""The coordinator: an actor, one per batch, that owns the queue, the retry state and the journal.

One thread does all the work: it drains the inboxes, folds outcomes into the machine, commits the journal, runs
the machine's commands and waits briefly for more. The actor's other methods only put messages into the inbox or
read the last snapshot, which is replaced and never changed.
"""

from __future__ import annotations

import logging
import os
import queue
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trax_ray.cluster import failures, metrics, remote
from trax_ray.cluster.attempts import Attempts
from trax_ray.cluster.foresight import Foresight
from trax_ray.cluster.metrics import Metrics
from trax_ray.cluster.reporting import Reporting
from trax_ray.cluster.status import write_status
from trax_ray.cluster.surroundings import Surroundings
from trax_ray.core.groups import Shut
from trax_ray.core.policy import admission, ending, prefetch
from trax_ray.core.policy.prediction import Observation
from trax_ray.core.policy.schedule import parse_hours, waits_until
from trax_ray.core.progress import BatchProgress
from trax_ray.core.spec import BatchSpec
from trax_ray.core.standing import Expected, fold
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
    decode_task,
)
from trax_ray.core.task import BatchTask, Outcome
from trax_ray.errors import NetworkError, TraxRayError
from trax_ray.kinds.fetched import forget_input, inputs_with_media
from trax_ray.logs import say_what_it_is_about
from trax_ray.plan.models import request_of
from trax_ray.report.result import BatchResult, result_of
from trax_ray.store import inbox
from trax_ray.store.batch_journal import BatchJournal, missing_results
from trax_ray.store.files import ensure_folder
from trax_ray.store.layout import Layout
from trax_ray.store.looking import Presence

__all__ = ["Coordinator", "Opened", "create"]

logger = logging.getLogger(__name__)

WAIT_S = 0.05
IDLE_WAIT_S = 0.25
STATUS_PERIOD_S = 1.0
INBOX_PERIOD_S = 0.2
STORED_PERIOD_S = 5.0
"""How often the inbox is looked at, and the status written, in an object store, where each time costs a request."""

STORED_REPORT_PERIOD_S = 300.0
"""How often the report is sent there, whole each time, at the most."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What `open` found: the epoch it took, and whether the batch is paused from before."""

    epoch: int
    paused: bool


@dataclass(frozen=True, slots=True)
class _Addition:
    """Tasks on their way in; the answer is how many more there is room for, or why they were refused."""

    tasks: list[BatchTask]
    answer: queue.SimpleQueue[int | TraxRayError] = field(default_factory=queue.SimpleQueue)


_COMMANDS: dict[str, Callable[[], Event]] = {
    "pause": Paused,
    "resume": Resumed,
    "stop": Stopped,
    "interrupt": Draining,
    "close": InputsClosed,
}

_REQUESTS: dict[str, Callable[[str], Event]] = {
    "pause": lambda name: Paused(request=name),
    "resume": lambda name: Resumed(request=name),
    "stop": lambda name: Stopped(request=name),
    "retry-failed": lambda name: RetryFailed(request=name),
}


class Coordinator:
    """The body of the actor. Nothing happens in the constructor: `open` may fail, and says how."""

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[str | _Addition] = queue.SimpleQueue()
        self._snapshot: BatchProgress
        self._result: BatchResult | None = None
        self._random = random.Random()

    # What the driver calls, from other threads than the loop's

    def open(
        self,
        spec: dict[str, Any],
        run: str,
        driver_pid: int,
        keys: dict[str, str],
        expected: Expected,
        machine: str = "",
        earlier: tuple[Observation, ...] = (),
    ) -> Opened | TraxRayError:
        """Take the output folder: its lock, the next epoch, and what the journal says has happened.

        Args:
            spec: The batch, as `BatchSpec.to_dict` writes it.
            run: Names the driver's run; a coordinator that replaces a dead one continues it.
            driver_pid: The driver's process, on this node.
            keys: Keys of services by variable.
            expected: What the run is given in all, as far as the driver knows.
            machine: What observations call the driver's machine.
            earlier: What the attempts of earlier runs took.

        Returns:
            What was found, or why the folder can't be had (an error is returned, not raised, so that it
            arrives as itself).
        """
        try:
            self._attempts = Attempts(BatchSpec.from_dict(spec), keys)
            self._expected = expected
            self._foresight = Foresight(BatchSpec.from_dict(spec), machine, earlier, run)
            self._open(spec, run, driver_pid)
        except TraxRayError as error:
            return error
        return Opened(self._book.epoch, self._state.paused)

    def add(self, tasks: list[dict[str, Any]]) -> int | TraxRayError:
        """Add tasks, new or known; known ones are done again only where they changed.

        Returns:
            For how many more tasks the queue has room, or why these were refused.
        """
        addition = _Addition([decode_task(task) for task in tasks])
        self._messages.put(addition)
        return addition.answer.get()

    def command(self, name: str) -> None:
        """`pause`, `resume`, `stop`, `interrupt` (as a signal does), or `close` (no more inputs will come)."""
        if name not in _COMMANDS:
            raise ValueError(f"expected one of {', '.join(_COMMANDS)}, got {name}")
        self._messages.put(name)

    def snapshot(self) -> BatchProgress:
        """How the batch stood at the end of the last turn."""
        return self._snapshot

    def seen(self) -> tuple[Observation, ...]:
        """What the attempts of this run took, as far as this coordinator saw them."""
        return self._foresight.seen

    def run(self) -> BatchResult | TraxRayError:
        """Work until the batch has ended.

        Returns:
            The result, or the error that ended the coordinator: another one took over, the disk is full.
        """
        try:
            say_what_it_is_about(batch=self._spec.name)
            while self._result is None:
                self._turn()
            return self._result
        except TraxRayError as error:
            return error
        finally:
            self._around.leave()
            self._attempts.close()
            self._book.close()

    # The loop

    def _open(self, spec: dict[str, Any], run: str, driver_pid: int) -> None:
        self._spec = BatchSpec.from_dict(spec)
        self._hours = parse_hours(self._spec.only_between) if self._spec.only_between else None
        remote.configure_logging(self._spec.log_level)
        self._layout = Layout.of(self._spec.output_dir)
        self._book = BatchJournal.open(self._layout, f"batch {self._spec.name}", time.time())
        self._state = self._book.state
        # The wall clock may have been set back since: the batch's own time never is.
        self._clock_origin = max(time.time(), self._state.now) - time.monotonic()
        self._around = Surroundings(self._spec, self._attempts, [driver_pid, os.getpid()], run)
        self._metrics = Metrics(self._spec.name, self._spec.limits.memory_limit_mb)
        self._request = request_of(self._spec)
        self._status_at = self._asked_at = self._told_at = -1e9
        self._inbox_period_s = STORED_PERIOD_S if self._layout.stored else INBOX_PERIOD_S
        self._status_period_s = STORED_PERIOD_S if self._layout.stored else STATUS_PERIOD_S
        self._presence = Presence(self._layout.output_dir)
        self._drained_at: float | None = None
        self._waits_until: float | None = None
        if self._state.run is not None and run != self._state.run:
            self._forget_stops()
        self._most_mb = most_mb = int(min(self._around.largest_mb, self._spec.limits.memory_limit_mb))
        self._request = self._foresight.request(self._request, most_mb)
        self._bound_the_disk()
        self._commit([CoordinatorStarted(self._book.epoch, self._spec.to_dict(), most_mb, run)])
        self._forget_needless_media()
        self._meet_neighbours()
        period_s = max(self._spec.report_interval_s, STORED_REPORT_PERIOD_S if self._layout.stored else 0.0)
        self._reporting = Reporting(self._spec.output_dir, period_s)
        self._publish()

    def _bound_the_disk(self) -> None:
        """Where nobody said how much may be fetched ahead, the disk says it, media that are there already included."""
        limits = self._spec.limits
        if limits.prefetch_mb is None:
            # What is fetched lies on this machine, wherever the output folder is.
            ensure_folder(self._layout.work, lasting=False)
            free_bytes = shutil.disk_usage(self._layout.work).free + self._state.ledger.media.held_bytes
            self._spec = replace(self._spec, limits=replace(limits, prefetch_mb=prefetch.bound_mb(free_bytes)))

    def _forget_needless_media(self) -> None:
        """Media of inputs that have failed for good, where an earlier coordinator died before it let go of them."""
        for file_id in inputs_with_media(self._layout):
            if self._state.ledger.media.is_needless(file_id):
                forget_input(self._layout, file_id)

    def _now(self) -> float:
        return self._clock_origin + time.monotonic()

    def _turn(self) -> None:
        """One round: what came in, what ended, what may start; then the journal, then the commands."""
        answers: list[tuple[_Addition, int | TraxRayError]] = []
        requests = self._requests()
        events = self._drain(answers)
        events += [_REQUESTS[request.command](request.name) for request in requests]
        alive = set(self._around.nodes)
        events += [self._end(*ended) for ended in self._attempts.ended(alive)]
        if self._around.is_time:
            self._around.measure()
            self._book.lease.beat()
            events += [self._end(*ended) for ended in self._attempts.overdue()]
            self._meet_neighbours()
            events += self._give_back()
            events += self._give_way()
            self._ask_for_nodes()
        events += self._drained()
        self._commit(events)
        for request in requests:
            inbox.remove(self._layout.inbox, request.name)
            self._status_at = -1e9  # who gave it waits for news
        for addition, answer in answers:
            addition.answer.put(answer)
        self._publish()
        if any(isinstance(event, Draining | Stopped) for event in events):
            self._reporting.hurry()
        self._reporting.write_if_due()
        self._wait()

    def _commit(self, events: list[Event]) -> None:
        """Change the state, put the events into the journal in one group, then run the commands."""
        now = self._now()
        for command in self._book.commit(events, now, lambda: self._following(now)):
            self._execute(command)

    # What came in

    def _drain(self, answers: list[tuple[_Addition, int | TraxRayError]]) -> list[Event]:
        """The driver's messages as events; `answers` takes what is to be said once they are committed."""
        events: list[Event] = []
        with suppress(queue.Empty):
            while True:
                message = self._messages.get_nowait()
                if isinstance(message, str):
                    events.append(_COMMANDS[message]())
                    continue
                gone = missing_results(self._layout, self._state.records, message.tasks, self._presence)
                tasks = [self._foresight.asking(task, self._most_mb) for task in message.tasks]
                try:
                    given = additions(self._state.ledger, tasks, gone)
                except TraxRayError as error:
                    answers.append((message, error))
                    continue
                # One addition a turn: the next one may depend on what this one adds.
                events += given
                pending = sum(len(event.tasks) for event in given if isinstance(event, TasksAdded | Revived))
                answers.append((message, self._room(pending)))
                break
        return events

    def _requests(self) -> list[inbox.Request]:
        """Commands from other terminals; those that the journal knows already are taken away."""
        if time.monotonic() - self._asked_at < self._inbox_period_s:
            return []
        self._asked_at = time.monotonic()
        try:
            found = inbox.waiting(self._layout.inbox)
        except NetworkError as error:  # an object store is busy: commands can wait, and the journal tells of worse
            logger.warning("%s", error)
            return []
        for request in found:
            if request.name in self._state.requests:
                inbox.remove(self._layout.inbox, request.name)
        return [request for request in found if request.name not in self._state.requests]

    def _forget_stops(self) -> None:
        """A stop that nobody took any more was meant for the run that it came too late for."""
        for request in inbox.waiting(self._layout.inbox):
            if request.command == "stop":
                inbox.remove(self._layout.inbox, request.name)

    def _room(self, pending: int = 0) -> int:
        return max(0, self._spec.limits.queue_size - self._state.ready_count - pending)

    # What may start

    def _following(self, now: float) -> list[Event]:
        """What follows from how things stand: how many attempts may run, where that changed, and those that start."""
        following: list[Event] = []
        found = admission.capacity(self._spec.limits, self._around.allowance, self._request)
        scaled = Scaled(found.slots, found.reason)
        known = self._state.scaled
        # Not each time that a reason has other figures.
        changed = known is None or (scaled.slots, not scaled.reason) != (known.slots, not known.reason)
        if changed or self._state.ends_by_time(now):
            following.append(scaled)
        started = self._startable(now)
        return following if started is None else [*following, started]

    def _startable(self, now: float) -> Started | None:
        """The attempts that limits, hours and priorities let start now."""
        self._waits_until = self._wait_for_hours()
        if self._waits_until is not None:
            return None
        shut = Shut()
        running, waiting = self._attempts.tasks(), self._waiting(now, shut)
        limits, allowance = self._spec.limits, self._around.allowance
        admitted = admission.admit(limits, allowance, running, waiting, shut, self._attempts.starting)
        if not admitted:
            return None
        return Started(tuple((task.id, self._state.next_attempt(task.id)) for task in admitted))

    def _wait_for_hours(self) -> float | None:
        """By the machine's present clock: the batch's own time, which orders its journal, keeps what a clock that was
        ahead once has put there, and would open the hours too early."""
        if not self._spec.start_at and self._hours is None:
            return None
        zone = datetime.now().astimezone().tzinfo
        assert zone is not None
        return waits_until(time.time(), self._spec.start_at, self._hours, zone)

    def _execute(self, command: Command) -> None:
        if isinstance(command, Dispatch):
            told = {"task": command.task.id, "attempt": command.attempt}
            logger.debug("attempt %d of %s starts", command.attempt, command.task.id, extra=told)
            self._attempts.start(command, spread=self._around.spreads)
        elif isinstance(command, Cancel):
            self._attempts.cancel(command.task_id, command.attempt)
        elif isinstance(command, LetGo):
            forget_input(self._layout, command.file_id)
        elif isinstance(command, Finish):
            logger.debug("the batch has ended: %s", command.reason)
            self._finish()

    # What ended

    def _end(self, dispatch: Dispatch, outcome: Outcome) -> Event:
        self._foresight.note(dispatch, outcome)
        self._metrics.count(dispatch.task.task_type.value, outcome)
        if outcome.children and outcome.failure is None:
            return Expanded(dispatch.task.id, dispatch.epoch, dispatch.attempt, outcome)
        jitter = self._random.random() if outcome.failure is not None else 0.0
        return AttemptEnded(dispatch.task.id, dispatch.epoch, dispatch.attempt, outcome, jitter)

    def _give_back(self) -> Iterator[Event]:
        """Where the batch is far over its memory limit: the end of an attempt."""
        uses = self._attempts.uses(self._around.measured.workers)
        chosen = admission.to_give_back(self._around.allowance, uses)
        if chosen is None:
            return
        use, to_blame = chosen
        running = self._attempts.of(use.task_id)
        dispatch = running.dispatch
        if to_blame:
            failure = failures.greedy(use.memory_mb, use.requested_mb, self._spec.limits.memory_limit_mb)
            yield self._end(*self._attempts.end(running, failure))
        else:
            yield Preempted(dispatch.task.id, dispatch.epoch, dispatch.attempt, self._around.allowance.reason)

    def _give_way(self) -> Iterator[Event]:
        """Where a batch of higher priority has waited long enough: the end of attempts, for it to have their room."""
        for held in self._around.to_give_way():
            dispatch = self._attempts.of(held.task_id).dispatch
            yield Preempted(dispatch.task.id, dispatch.epoch, dispatch.attempt, self._around.allowance.reason)

    def _drained(self) -> list[Event]:
        """After a signal: the end, when nothing runs any more or the grace period is over."""
        if not self._state.draining or self._state.finished:
            return []
        if self._drained_at is None:
            self._drained_at = time.monotonic()
        until = self._drained_at + ending.grace_s(self._spec.grace_s, self._attempts.tasks())
        if len(self._attempts) and time.monotonic() < until:
            return []
        return [Stopped("signal")]

    # Looking around

    def _meet_neighbours(self) -> None:
        shut = Shut()
        self._around.meet(self._waiting(self._now(), shut) if self._waits_until is None else (), shut)

    def _ask_for_nodes(self, *, at_once: bool = False) -> None:
        goes_on = not (self._state.finished or self._state.paused or self._state.draining or self._waits_until)
        waiting = self._waiting(self._now(), Shut()) if goes_on else ()
        self._around.ask_for_nodes(waiting, at_once=at_once)

    def _waiting(self, now: float, shut: Shut) -> Iterator[BatchTask]:
        """What could start, those first that run first, but for what `shut` leaves out from then on. They are looked
        for one by one: while nothing may start, as on most turns, that is the first of thousands."""
        return self._state.upcoming(now, self._attempts.coming(), shut)

    def _wait(self) -> None:
        """Until something may have happened, and not for long: the inboxes are looked at on every turn."""
        if self._result is not None:
            return
        if not self._messages.empty():
            return
        if len(self._attempts):
            self._attempts.wait(WAIT_S)
            return
        due = self._state.next_due()
        wait_s = IDLE_WAIT_S if due is None else min(IDLE_WAIT_S, max(0.0, due - self._now()))
        with suppress(queue.Empty):
            self._messages.put(self._messages.get(timeout=max(wait_s, 0.001)))

    # What others see

    def _publish(self) -> None:
        self._snapshot = self._progress()
        now = time.monotonic()
        if now - self._status_at >= self._status_period_s or self._state.finished:
            self._status_at = now
            write_status(self._layout, self._spec.name, self._state.epoch, self._snapshot)
        if now - self._told_at >= metrics.PERIOD_S or self._state.finished:
            self._told_at = now
            self._metrics.tell(self._state, self._snapshot)

    def _progress(self) -> BatchProgress:
        folded = fold(
            self._state,
            self._now(),
            self._attempts.fractions(),
            waits_until=self._waits_until,
            expected=self._expected,
        )
        return replace(
            self._foresight.tell(folded, self._state, self._attempts, self._expected),
            memory_usage_mb=self._around.measured.memory_mb,
            cpu_usage_percent=self._around.measured.cpu_percent,
            memory_peak_mb=self._around.memory_peak_mb,
            cpu_peak_percent=self._around.cpu_peak_percent,
        )

    def _finish(self) -> None:
        """The batch has ended: write the whole report, then say how it went."""
        self._around.leave()
        self._ask_for_nodes(at_once=True)
        self._reporting.write_the_last(len(self._state.records))
        self._around.measure()
        self._result = result_of(self._state, self._progress(), self._spec.output_dir, self._reporting.error)


def create(node_id: str) -> Any:
    """Make the coordinator's actor.

    Args:
        node_id: The driver's Ray node, where the lock and the output folder are.
    """
    # No restarts by Ray: a retriable actor is what its memory killer takes first. The driver makes a new one.
    return (
        ray.remote(Coordinator)
        .options(
            num_cpus=0,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=16,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
        )
        .remote()
    )
