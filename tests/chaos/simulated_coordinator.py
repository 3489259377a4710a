"""The played coordinator and driver of a simulated batch, as `trax_ray.cluster` has them, without Ray."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulated_workers import STALL_S, STALLED, LooseLayout, Process, Worker

from tests.support.fault_layer import Killed
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
    Paused,
    Preempted,
    Resumed,
    RetryFailed,
    Revived,
    Scaled,
    Started,
    Stopped,
    TasksAdded,
)
from trax_ray.core.task import BatchTask, Outcome
from trax_ray.errors import TraxRayError
from trax_ray.store import inbox
from trax_ray.store.batch_journal import BatchJournal, missing_results

if TYPE_CHECKING:
    from simulated_world import World

MAX_COORDINATORS = 3
"""Coordinators that one run may use up."""

PACK = 3
"""Tasks that the driver gives at a time."""

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
    """The body of the actor."""

    def __init__(self, world: World, run: str) -> None:
        self.world = world
        self.run = run
        self.process = Process(world, f"coordinator {len(world.coordinators) + 1}")
        self.layout = LooseLayout(world.out, 0 if world.locks else len(world.coordinators) + 1)
        self.messages: list[str | Addition] = []
        self.mail: list[tuple[Dispatch, Outcome]] = []
        self.attempts: dict[tuple[str, int], Worker] = {}
        self.lane: Process | None = None
        self.book: BatchJournal | None = None
        self.result: str | TraxRayError = ""
        self.dies_at = float("inf")
        self.drained_at: float | None = None
        self.looked_at = 0.0
        self.busy = False

    @property
    def alive(self) -> bool:
        return not (self.process.dead or self.result)

    def open(self) -> None:
        self.book = BatchJournal.open(self.layout, self.process.name, self.world.wall())
        self.state = self.book.state
        self.origin = max(self.world.wall(), self.state.now) - self.world.monotonic
        if self.state.run is not None and self.run != self.state.run:
            self._forget_stops()
        spec = self.world.spec.to_dict()
        self.world.opened(self.book.epoch)
        self._commit([CoordinatorStarted(self.book.epoch, spec, 4096, self.run)])

    def turn(self) -> bool:
        """One round. Returns whether anything happened."""
        assert self.book is not None
        answers: list[tuple[Addition, int | TraxRayError]] = []
        requests = self._waiting_requests()
        events = self._drain(answers)
        events += [_REQUESTS[request.command](request.name) for request in requests]
        events += [self._end(*ended) for ended in self._ended()]
        events += self._overdue()
        events += self._given_back()
        events += self._drained()
        if self.world.monotonic - self.looked_at >= 1.0:
            # Stands for the beat of the lease: one that has nothing to write must learn too that its time is over.
            self.looked_at = self.world.monotonic
            self.book.journal.guard()
        before = self.journal_size
        self._commit(events)
        for request in requests:
            inbox.remove(self.layout.inbox, request.name)
        for addition, answer in answers:
            self.process.point()
            addition.answer = answer
        return self.journal_size > before

    def close(self) -> None:
        """End all attempts and let go of the folder."""
        for worker in list(self.attempts.values()):
            self.world.cancel(worker)
        self.attempts.clear()
        if self.book is not None:
            self.book.close()

    def bury(self) -> None:
        """What is left of the dead one is let go of; none of it reaches the disk."""
        if self.book is not None:
            for let_go in (self.book.journal.close, self.book.lease.release):
                with contextlib.suppress(Killed):
                    let_go()

    @property
    def journal_size(self) -> int:
        assert self.book is not None
        return self.book.journal.writer.size

    def now(self) -> float:
        return self.origin + self.world.monotonic

    def _commit(self, events: list[Event]) -> None:
        assert self.book is not None
        late = self.world.highest_opened > self.book.epoch
        commands = self.book.commit(events, self.now(), self._following)
        if late and commands:
            self.world.problem(f"{self.process.name} acts although epoch {self.world.highest_opened} was taken before")
        self._reach_moments(events)
        for command in commands:
            self.process.point()
            self._execute(command)

    def _reach_moments(self, events: list[Event]) -> None:
        if any(isinstance(event, TasksAdded | Revived) for event in events):
            self.world.moment("queued", self.process)
        if any(isinstance(event, AttemptEnded) and event.outcome.artifact_key for event in events):
            self.world.moment("committed", self.process)
        if any(getattr(event, "request", "") for event in events):
            self.world.moment("asked", self.process)
        self.process.point()

    def _drain(self, answers: list[tuple[Addition, int | TraxRayError]]) -> list[Event]:
        events: list[Event] = []
        while self.messages:
            message = self.messages.pop(0)
            if isinstance(message, str):
                events.append(_COMMANDS[message]())
                continue
            gone = missing_results(self.layout, self.state.records, message.tasks)
            try:
                given = additions(self.state.ledger, message.tasks, gone)
            except TraxRayError as error:
                answers.append((message, error))
                continue
            events += given
            pending = sum(len(event.tasks) for event in given if isinstance(event, TasksAdded | Revived))
            room = self.world.spec.limits.queue_size - self.state.ready_count - pending
            answers.append((message, max(0, room)))
            break
        return events

    def _waiting_requests(self) -> list[inbox.Request]:
        found = inbox.waiting(self.layout.inbox)
        for request in found:
            if request.name in self.state.requests:
                inbox.remove(self.layout.inbox, request.name)
        return [request for request in found if request.name not in self.state.requests]

    def _forget_stops(self) -> None:
        for request in inbox.waiting(self.layout.inbox):
            if request.command == "stop":
                self.world.forgotten.add(request.name)
                inbox.remove(self.layout.inbox, request.name)

    def _following(self) -> list[Event]:
        slots = self.world.spec.limits.max_workers
        following: list[Event] = []
        if self.state.scaled is None or self.state.scaled.slots != slots:
            following.append(Scaled(slots, ""))
        free = slots - len(self.attempts)
        tasks = self.state.candidates(free, self.now()) if free > 0 else []
        if tasks:
            following.append(Started(tuple((task.id, self.state.next_attempt(task.id)) for task in tasks)))
        return following

    def _execute(self, command: Command) -> None:
        if isinstance(command, Dispatch):
            self.attempts[command.task.id, command.attempt] = self.world.dispatched(self, command)
        elif isinstance(command, Cancel):
            worker = self.attempts.pop((command.task_id, command.attempt), None)
            if worker is not None:
                self.world.cancel(worker)
        elif isinstance(command, Finish):
            self.process.point()
            self.result = command.reason

    def _ended(self) -> Iterator[tuple[Dispatch, Outcome]]:
        mail, self.mail = self.mail, []
        for dispatch, outcome in mail:
            key = dispatch.task.id, dispatch.attempt
            worker = self.attempts.get(key)
            if worker is not None and worker.dispatch is dispatch:
                del self.attempts[key]
            yield dispatch, outcome  # also of others: whatever comes late or twice is the machine's to drop

    def _overdue(self) -> Iterator[Event]:
        for key, worker in list(self.attempts.items()):
            if worker.silent_since is not None and self.world.monotonic - worker.silent_since >= STALL_S:
                del self.attempts[key]
                self.world.give_up(worker)
                yield self._end(worker.dispatch, Outcome(failure=STALLED))

    def _given_back(self) -> Iterator[Event]:
        if self.attempts and not self.world.calm and self.world.random.random() < 0.01:
            worker = self.world.random.choice(list(self.attempts.values()))
            yield Preempted(worker.dispatch.task.id, worker.dispatch.epoch, worker.dispatch.attempt, "memory")

    def _drained(self) -> list[Event]:
        if not self.state.draining or self.state.finished:
            return []
        if self.drained_at is None:
            self.drained_at = self.world.monotonic + (self.world.spec.grace_s or 0.0)
        if self.attempts and self.world.monotonic < self.drained_at:
            return []
        return [Stopped("signal")]

    def _end(self, dispatch: Dispatch, outcome: Outcome) -> Event:
        if outcome.children and outcome.failure is None:
            return Expanded(dispatch.task.id, dispatch.epoch, dispatch.attempt, outcome)
        jitter = self.world.random.random() if outcome.failure is not None else 0.0
        return AttemptEnded(dispatch.task.id, dispatch.epoch, dispatch.attempt, outcome, jitter)


# The driver, as trax_ray.cluster.driver and the processor have it


@dataclass(eq=False, slots=True)
class Addition:
    """Tasks on their way to the coordinator; the answer is its room."""

    tasks: list[BatchTask]
    answer: int | TraxRayError | None = None


class Driver:
    """One run of the command."""

    def __init__(self, world: World, tasks: list[BatchTask]) -> None:
        self.world = world
        self.process = Process(world, f"driver {len(world.drivers) + 1}")
        self.run = f"run {len(world.drivers) + 1}"
        self.tasks = tasks
        self.ended = ""
        self.busy = False
        self._coordinator: Coordinator | None = None
        self._coordinators = 0
        self._addition: Addition | None = Addition([])
        self._sent = False
        self._closed = False
        self._pausing = self._ending = ""

    @property
    def alive(self) -> bool:
        return not (self.process.dead or self.ended)

    @property
    def over(self) -> str:
        """How it ended, empty while it hasn't."""
        return "died" if self.process.dead else self.ended

    def step(self) -> bool:
        """One thing that it does. Returns whether there was anything to do."""
        coordinator = self._coordinator
        if coordinator is None or coordinator.process.dead:
            self._open()
            return True
        if coordinator.result:
            error = coordinator.result
            self.ended = error if isinstance(error, str) else error.code
            return True
        return self._feed(coordinator)

    def command(self, name: str) -> None:
        if name in ("pause", "resume"):
            self._pausing = name
        elif name in ("stop", "interrupt"):
            self._ending = name
        if self._coordinator is not None:
            self._coordinator.messages.append(name)

    def _open(self) -> None:
        if self._coordinators >= MAX_COORDINATORS:
            self.ended = "coordinator_died"
            return
        self._coordinators += 1
        first = self._coordinator is None
        coordinator = self.world.new_coordinator(self.run)
        self._coordinator = coordinator
        try:
            self.world.within(coordinator, coordinator.open)
        except TraxRayError as error:
            coordinator.result = error
            self.world.within(coordinator, coordinator.close)
            self.ended = error.code
            return
        if coordinator.process.dead:
            self.ended = "setup"
            return
        if coordinator.result:
            self.world.within(coordinator, coordinator.close)  # its run had been stopped before it began
        self._sent = False
        if not first:
            for name in (self._pausing, self._ending, "close" if self._closed else ""):
                if name:
                    coordinator.messages.append(name)

    def _feed(self, coordinator: Coordinator) -> bool:
        if self._addition is not None and not self._sent:
            self._sent = True
            coordinator.messages.append(self._addition)
            return True
        if self._addition is None:
            return False
        answer = self._addition.answer
        if answer is None:
            return False
        if isinstance(answer, TraxRayError):
            self.world.problem(f"{self.process.name}: {answer}")
            self.ended = answer.code
            return True
        count = min(answer, PACK)
        pack, self.tasks = self.tasks[:count], self.tasks[count:]
        if pack or self.tasks:
            self._addition, self._sent = Addition(pack), False
        else:
            self._addition, self._closed = None, True
            coordinator.messages.append("close")
        return True
