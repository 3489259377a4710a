"""The journal once more: the state of a batch as its coordinator had it, and every attempt that was made.

The state remembers tasks, not attempts. Attempts follow from the events around it, seen before and after the
machine handles them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trax_ray.codes import FailureCode
from trax_ray.core.policy.retry import is_unanswered
from trax_ray.core.state.events import (
    AttemptEnded,
    Command,
    CoordinatorStarted,
    Draining,
    Event,
    Expanded,
    Paused,
    Preempted,
    Resumed,
    RetryFailed,
    Scaled,
    Started,
    Stopped,
)
from trax_ray.core.state.ledger import TaskRecord
from trax_ray.core.state.machine import BatchState
from trax_ray.core.task import Failure, TaskState
from trax_ray.errors import FileError
from trax_ray.store.batch_journal import events_of
from trax_ray.store.epochs import openings, read_chain
from trax_ray.store.explaining import shown
from trax_ray.store.layout import Layout

__all__ = ["Attempt", "History", "Run", "read_history"]


_REQUESTS: Mapping[type, str] = {
    Paused: "paused",
    Resumed: "resumed",
    RetryFailed: "asked for what had failed again",
    Draining: "asked to end",
    Stopped: "stopped",
}


@dataclass(slots=True)
class Attempt:
    """One execution of a task. Times are seconds since the epoch.

    Args:
        task_id: Whose.
        epoch: Of the coordinator that started it.
        attempt: Its number, from 1.
        limit: The number of the last attempt that the task could have had when this one started. Above
            `max_retries + 1` where earlier attempts were interrupted or cost nothing.
        priority: The task's priority plus what retries had added; what aging took back is not known here.
        started_at: By the worker's clock where the worker said so, else by the coordinator's.
        ended_at: By the same clock. None while it runs, and for one that was interrupted: nobody saw its end.
        outcome: `running`, `succeeded`, `expanded` (it planned chunks), `failed`, `interrupted` (its
            coordinator ended before it did), `preempted` (ended to give back memory, or to make way for another batch)
            or `cancelled`.
        failure: Why it failed, as the machine put it (a task may have been quarantined).
        delay_s: Seconds that the task then waits before its retry; 0.0 where it makes none.
        retried: Whether its failure spent a retry.
        node: Where it ran; empty when unknown.
        pid: The process that ran it; 0 when unknown.
        memory_peak_mb: Peak resident memory of that process, MiB; 0.0 when unknown.
        cost_usd: What the provider charged for it, or may have, where nobody heard of it again; None when unknown.
        estimate_usd: What it was expected to cost; None where it asks nobody, or no price is known.
    """

    task_id: str
    epoch: int
    attempt: int
    limit: int
    priority: int
    started_at: float
    ended_at: float | None = None
    outcome: str = "running"
    failure: Failure | None = None
    delay_s: float = 0.0
    retried: bool = False
    node: str = ""
    pid: int = 0
    memory_peak_mb: float = 0.0
    cost_usd: float | None = None
    estimate_usd: float | None = None

    def lose(self) -> None:
        """Nobody hears of it again: it counts as paid, as in `core.limits`."""
        self.cost_usd = self.estimate_usd


@dataclass(slots=True)
class Run:
    """What one coordinator did.

    Args:
        epoch: Its number.
        started_at: When it took over, seconds since the epoch.
        last_event_at: The last thing that it wrote down.
        holder: Who it was, for people.
    """

    epoch: int
    started_at: float
    last_event_at: float
    holder: str = ""


@dataclass(slots=True)
class History:
    """State, attempts and runs of a batch: all that its journal tells.

    Args:
        state: As the events left it. Change it through `handle` only.
        attempts: In the order in which they started.
        runs: One per coordinator, oldest first.
        spec: What the last coordinator was asked to do, as `BatchSpec.to_dict` wrote it.
        decisions: How many attempts were let run, when (seconds since the epoch) and why, oldest first.
        requests: What people asked for, when and what, such as `paused`, oldest first.
    """

    state: BatchState = field(default_factory=BatchState)
    attempts: list[Attempt] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    spec: Mapping[str, Any] = field(default_factory=dict)
    decisions: list[tuple[float, Scaled]] = field(default_factory=list)
    requests: list[tuple[float, str]] = field(default_factory=list)
    _open: dict[str, Attempt] = field(default_factory=dict, init=False, repr=False)

    @property
    def started_at(self) -> float:
        """When the first coordinator started, seconds since the epoch."""
        return self.runs[0].started_at if self.runs else 0.0

    @property
    def worked_s(self) -> float:
        """Seconds from each coordinator's start to its last event: without the nights in between."""
        return sum(run.last_event_at - run.started_at for run in self.runs)

    @property
    def retries(self) -> int:
        """Attempts whose failure spent a retry."""
        return sum(attempt.retried for attempt in self.attempts)

    def handle(self, event: Event, at: float) -> list[Command]:
        """Let the machine handle an event, and note what it means for attempts.

        Args:
            event: What happened.
            at: When, seconds since the epoch.

        Returns:
            The machine's commands.

        Raises:
            IllegalTransition: The event doesn't fit the state.
        """
        if isinstance(event, CoordinatorStarted):
            self._close_all("interrupted", None)
        spent = self.state.records[event.task_id].spent if isinstance(event, AttemptEnded) else 0
        commands = self.state.handle(event, at)
        now = self.state.now
        if isinstance(event, CoordinatorStarted):
            self.spec = event.spec
            self.runs.append(Run(event.epoch, now, now))
        elif isinstance(event, Started):
            for task_id, _ in event.starts:
                self._open_attempt(self.state.records[task_id])
        elif isinstance(event, AttemptEnded | Expanded):
            self._end_attempt(event, spent)
        elif isinstance(event, Preempted):
            self._preempt(event, now)
        elif isinstance(event, Scaled):
            self.decisions.append((now, event))
        elif isinstance(event, Stopped) and commands:  # none: it had ended, or the same request once more
            self._close_all("cancelled", now)
        if type(event) in _REQUESTS:
            self.requests.append((now, _REQUESTS[type(event)]))
        if self.runs:
            self.runs[-1].last_event_at = now
        return commands

    def _open_attempt(self, record: TaskRecord) -> None:
        attempt = Attempt(
            task_id=record.task.id,
            epoch=record.epoch,
            attempt=record.attempt,
            limit=record.attempt + max(0, record.task.max_retries - record.spent),
            priority=record.task.priority + record.degradation,
            started_at=record.started_at,
            estimate_usd=record.task.data.get("estimate_usd") if record.task.asks_provider else None,
        )
        self._open[record.task.id] = attempt
        self.attempts.append(attempt)

    def _take_open(self, event: AttemptEnded | Expanded | Preempted) -> Attempt | None:
        """The attempt that ends now; None where the machine dropped it too: it was interrupted or cancelled."""
        attempt = self._open.get(event.task_id)
        if attempt is None or (attempt.epoch, attempt.attempt) != (event.epoch, event.attempt):
            return None
        return self._open.pop(event.task_id)

    def _preempt(self, event: Preempted, now: float) -> None:
        attempt = self._take_open(event)
        if attempt is not None:
            attempt.outcome, attempt.ended_at = "preempted", now
            attempt.lose()

    def _end_attempt(self, event: AttemptEnded | Expanded, spent: int) -> None:
        attempt = self._take_open(event)
        if attempt is None:
            return
        record, outcome = self.state.records[event.task_id], event.outcome
        attempt.ended_at = self.state.now
        if outcome.started_at > 0 and outcome.ended_at > 0:
            attempt.started_at, attempt.ended_at = outcome.started_at, outcome.ended_at
        attempt.node, attempt.pid, attempt.memory_peak_mb = outcome.node, outcome.pid, outcome.memory_peak_mb
        attempt.cost_usd = outcome.metrics.get("cost_usd")
        if is_unanswered(outcome):
            attempt.lose()
        if isinstance(event, Expanded):
            attempt.outcome = "expanded"
        elif outcome.failure is None:
            attempt.outcome = "succeeded"
        else:
            attempt.outcome, attempt.failure = "failed", record.failure
            if record.state is TaskState.DELAYED:
                attempt.delay_s = record.queued_at - self.state.now
                attempt.retried = record.spent > spent

    def _close_all(self, outcome: str, at: float | None) -> None:
        for attempt in self._open.values():
            attempt.outcome, attempt.ended_at = outcome, at
            attempt.lose()
        self._open.clear()


def read_history(output_dir: str | Path) -> History:
    """Replay a batch's journal. A live coordinator isn't disturbed: what it has committed so far is read.

    Args:
        output_dir: The batch's output folder.

    Raises:
        FileError: There has been no batch in this folder, or its journal can't be read; permanent.
        JournalError: The journal is damaged, or was written by another version.
        IllegalTransition: The journal's events contradict each other.
    """
    layout = Layout.of(output_dir)
    history = History()
    for event, at in events_of(layout, read_chain(layout.journal)):
        history.handle(event, at)
    if not history.runs:
        raise FileError(
            f"there is no batch in {shown(layout.output_dir)}: "
            "give the output folder of one, or start one with `trax-ray batch INPUT -o OUT`",
            code=FailureCode.NOT_FOUND,
        )
    holders = {opening.epoch: opening.holder for opening in openings(layout.journal)}
    for run in history.runs:
        run.holder = holders.get(run.epoch, "")
    return history
