"""The records of a batch: one transition table, one place where a state changes, and counts that follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from trax_ray.core.policy.quality import QualityTotals, audio_us
from trax_ray.core.state.media import Media
from trax_ray.core.task import BatchTask, Failure, TaskState
from trax_ray.errors import IllegalTransition

__all__ = ["NOBODY", "TRANSITIONS", "Cause", "Ledger", "Tally", "TaskRecord", "work_of"]

STORY_LENGTH = 8

NOBODY: frozenset[str] = frozenset()
"""One for all: Python makes another empty set each time."""


class Cause(str, Enum):
    """Why a task changes its state."""

    READY = "ready"
    START = "start"
    SUCCEED = "succeed"
    FAIL = "fail"
    RETRY = "retry"
    REQUEUE = "requeue"
    EXPAND = "expand"
    CANCEL = "cancel"
    REVIVE = "revive"


TRANSITIONS: Mapping[tuple[TaskState, Cause], TaskState] = {
    (TaskState.BLOCKED, Cause.READY): TaskState.QUEUED,
    (TaskState.BLOCKED, Cause.FAIL): TaskState.FAILED,
    (TaskState.BLOCKED, Cause.CANCEL): TaskState.CANCELLED,
    (TaskState.QUEUED, Cause.START): TaskState.RUNNING,
    (TaskState.QUEUED, Cause.CANCEL): TaskState.CANCELLED,
    (TaskState.DELAYED, Cause.READY): TaskState.QUEUED,
    (TaskState.DELAYED, Cause.CANCEL): TaskState.CANCELLED,
    (TaskState.RUNNING, Cause.SUCCEED): TaskState.SUCCEEDED,
    (TaskState.RUNNING, Cause.FAIL): TaskState.FAILED,
    (TaskState.RUNNING, Cause.RETRY): TaskState.DELAYED,
    (TaskState.RUNNING, Cause.REQUEUE): TaskState.QUEUED,
    (TaskState.RUNNING, Cause.EXPAND): TaskState.BLOCKED,
    (TaskState.RUNNING, Cause.CANCEL): TaskState.CANCELLED,
    (TaskState.SUCCEEDED, Cause.REVIVE): TaskState.BLOCKED,
    (TaskState.FAILED, Cause.REVIVE): TaskState.BLOCKED,
    (TaskState.CANCELLED, Cause.REVIVE): TaskState.BLOCKED,
}


def work_of(task: BatchTask) -> float:
    """What a task weighs in the estimate of the time still to go: bytes where known, else 1."""
    return float(task.data.get("size_bytes") or 1)


@dataclass(slots=True)
class TaskRecord:
    """What the machine knows of one task. Times are seconds since the epoch, 0.0 when not yet.

    `deaths` counts processes that died of it alone, `losses` attempts that were lost with their node, `repeats`
    failures by their code, where how often matters (`retry.REPEATED`). What retries have changed in `task`: more
    memory. `suspect`: it was in a shared process that died, so from now on its attempts have one of their own.
    """

    task: BatchTask
    sequence: int
    given_in: int = 0
    state: TaskState = TaskState.BLOCKED
    epoch: int = 0
    attempt: int = 0
    spent: int = 0
    deaths: int = 0
    losses: int = 0
    turned_away: int = 0
    repeats: dict[str, int] = field(default_factory=dict)
    retry_wanted: bool = False
    suspect: bool = False
    degradation: int = 0
    recovered: bool = False
    waiting_for: frozenset[str] = NOBODY
    children: tuple[str, ...] = ()
    failure: Failure | None = None
    artifact_key: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    queued_at: float = 0.0
    started_at: float = 0.0
    ended_at: float = 0.0
    story: tuple[tuple[float, str, str], ...] = ()

    @property
    def to_run(self) -> BatchTask:
        """The task as its next attempt runs it: alone where it is a suspect."""
        return self.task.alone() if self.suspect else self.task

    @property
    def work(self) -> float:
        """What the task weighs in the estimate of the time still to go."""
        return work_of(self.task)

    def note(self, at: float, cause: str) -> None:
        """Add to the task's story what brought it to its present state, and when."""
        # A hundred thousand of them are in memory: empty sets and rings of eight would be a third of all.
        self.story = (*self.story[1 - STORY_LENGTH :], (at, cause, self.state.value))

    def tell(self) -> str:
        """The task's last changes, oldest first."""
        return "; ".join(f"{at:.3f} {cause} -> {state}" for at, cause, state in self.story)


@dataclass(slots=True)
class _Input:
    """One input: its verdict follows from the states of its tasks (children excepted).

    Those of the last run that was given it count: a step that an earlier run had and this one hasn't says nothing of
    what the input has come to.
    """

    given_in: int = 0
    tasks: tuple[str, ...] = ()
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0

    def count(self, state: TaskState, by: int) -> None:
        if state is TaskState.SUCCEEDED:
            self.succeeded += by
        elif state is TaskState.FAILED:
            self.failed += by
        elif state is TaskState.CANCELLED:
            self.cancelled += by

    def verdict(self) -> TaskState | None:
        if self.failed:
            return TaskState.FAILED
        if self.cancelled:
            return TaskState.CANCELLED
        return TaskState.SUCCEEDED if self.succeeded == len(self.tasks) else None


class Tally:
    """Counts of inputs, quality and work over some of the records, kept up to date move by move.

    Inputs are counted, not tasks: an input's verdict is failed or cancelled as soon as one of its tasks is,
    and succeeded when all of them are. Children are work inside their parent and aren't counted.
    """

    def __init__(self) -> None:
        self.members: set[str] = set()
        self.inputs: dict[str, _Input] = {}
        self.verdicts: Counter[TaskState] = Counter()
        self.quality = QualityTotals()
        self.work_total = 0.0
        self.work_ended = 0.0
        self.work_ended_before = 0.0
        self.audio_us_before = 0

    def enter(self, record: TaskRecord) -> None:
        """Count a record as it stands, if it isn't counted yet. What it has done already was done before."""
        if record.task.parent:
            return
        self._enter_input(record)
        if record.task.id in self.members:
            return
        self.members.add(record.task.id)
        self.work_total += record.work
        if record.state.terminal:
            self.work_ended += record.work
            self.work_ended_before += record.work
        if record.state is TaskState.SUCCEEDED:
            self._count_quality(record)
            self.audio_us_before += audio_us(record.task.task_type.value, record.metrics)

    def _enter_input(self, record: TaskRecord) -> None:
        entry = self.inputs.get(record.task.file_id)
        if entry is None:
            entry = self.inputs[record.task.file_id] = _Input()
        if record.given_in == entry.given_in and record.task.id in entry.tasks:
            return
        old = entry.verdict() if entry.tasks else None
        if record.given_in > entry.given_in:
            entry.given_in = record.given_in
            entry.tasks = ()
            entry.succeeded = entry.failed = entry.cancelled = 0
        entry.tasks += (record.task.id,)
        entry.count(record.state, 1)
        self._note_verdict(old, entry.verdict())

    def moved(self, record: TaskRecord, target: TaskState, *, before: bool) -> None:
        """Follow a change of state, while the record still has the old one.

        Args:
            record: Whose.
            target: The new state.
            before: Whether what it leaves, if it had ended, was done before this tally's time.
        """
        if record.task.id not in self.members:
            return
        entry = self.inputs[record.task.file_id]
        if record.task.id in entry.tasks:
            old = entry.verdict()
            entry.count(record.state, -1)
            entry.count(target, 1)
            self._note_verdict(old, entry.verdict())
        ended = record.work * (target.terminal - record.state.terminal)
        self.work_ended += ended
        if before and record.state.terminal:
            self.work_ended_before += ended
        if record.state is TaskState.SUCCEEDED:
            self._count_quality(record, sign=-1)
            self.audio_us_before -= audio_us(record.task.task_type.value, record.metrics) if before else 0
        elif target is TaskState.SUCCEEDED:
            self._count_quality(record)

    def reweigh(self, record: TaskRecord, work: float) -> None:
        """An open record is about to weigh `work`."""
        if record.task.id in self.members:
            self.work_total += work - record.work

    def _count_quality(self, record: TaskRecord, *, sign: int = 1) -> None:
        self.quality.add(record.task.task_type.value, record.metrics, recovered=record.recovered, sign=sign)

    def _note_verdict(self, old: TaskState | None, new: TaskState | None) -> None:
        if old is not None:
            self.verdicts[old] -= 1
        if new is not None:
            self.verdicts[new] += 1


class Ledger:
    """Every task of an output folder: its state, and the counts that follow.

    Attributes:
        total: Everything that the folder has.
        run: What the present run was given, new or known: what its user asked for and is told about.
        media: What was fetched and is needed.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.run_began_at = 0.0
        self.records: dict[str, TaskRecord] = {}
        self.counts: Counter[TaskState] = Counter()
        self.total = Tally()
        self.run = Tally()
        self.media = Media()
        self.runs = 0

    def begin_run(self) -> None:
        """Another run: nothing has been given to it yet."""
        self.run = Tally()
        self.runs += 1
        self.run_began_at = self.now

    def add(self, task: BatchTask) -> TaskRecord:
        """A new record, blocked.

        Raises:
            IllegalTransition: The id is taken.
        """
        if task.id in self.records:
            raise IllegalTransition(f"task {task.id} was added twice: {self.records[task.id].tell()}")
        record = TaskRecord(task, sequence=len(self.records))
        self.records[task.id] = record
        self.counts[TaskState.BLOCKED] += 1
        self.give(record)
        self.media.add(record)
        record.note(self.now, "added")
        return record

    def give(self, record: TaskRecord) -> None:
        """Count a record in the present run, which was given it."""
        record.given_in = self.runs
        self.total.enter(record)
        self.run.enter(record)

    def move(self, record: TaskRecord, cause: Cause, *, at: float | None = None) -> None:
        """Change a record's state: the only place where one changes.

        Args:
            record: Whose.
            cause: Why.
            at: When, seconds since the epoch; None means now.

        Raises:
            IllegalTransition: The transition table has no such step; the message tells the task's story.
        """
        target = TRANSITIONS.get((record.state, cause))
        if target is None:
            raise IllegalTransition(
                f"task {record.task.id} is {record.state.value} and can't {cause.value}: {record.tell()}"
            )
        if target is TaskState.SUCCEEDED:
            record.recovered = record.spent > 0 or any(self.records[name].spent > 0 for name in record.children)
        before = record.ended_at < self.run_began_at
        self.total.moved(record, target, before=False)
        self.run.moved(record, target, before=before)
        self.counts[record.state] -= 1
        self.counts[target] += 1
        at = self.now if at is None else at
        record.ended_at = at if target.terminal else 0.0
        record.state = target
        self.media.moved(record)
        record.note(at, cause.value)

    def replace_task(self, record: TaskRecord, task: BatchTask) -> None:
        """Give a record another description of its task, as after a change of the input.

        One that has ended must weigh the same by it.
        """
        self.total.reweigh(record, work_of(task))
        self.run.reweigh(record, work_of(task))
        record.task = task
        self.media.add(record)

    @property
    def open_count(self) -> int:
        """Tasks that haven't ended."""
        return sum(count for state, count in self.counts.items() if not state.terminal)
