"""The records of a batch: one transition table, one place where a state changes, and counts that follow."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from trax_ray.core.quality import QualityTotals
from trax_ray.core.task import BatchTask, Failure, TaskState
from trax_ray.errors import IllegalTransition

__all__ = ["TRANSITIONS", "Cause", "Ledger", "TaskRecord"]

STORY_LENGTH = 8


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


@dataclass(slots=True)
class TaskRecord:
    """What the machine knows of one task. Times are seconds since the epoch, 0.0 when not yet."""

    task: BatchTask
    sequence: int
    state: TaskState = TaskState.BLOCKED
    epoch: int = 0
    attempt: int = 0
    spent: int = 0
    deaths: int = 0
    degradation: int = 0
    recovered: bool = False
    waiting_for: set[str] = field(default_factory=set)
    children: tuple[str, ...] = ()
    failure: Failure | None = None
    artifact_key: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    queued_at: float = 0.0
    started_at: float = 0.0
    ended_at: float = 0.0
    story: deque[tuple[float, str, str]] = field(default_factory=lambda: deque(maxlen=STORY_LENGTH))

    @property
    def work(self) -> float:
        """What the task weighs in the estimate of the time still to go: bytes where known, else 1."""
        return float(self.task.data.get("size_bytes") or 1)

    def tell(self) -> str:
        """The task's last changes, oldest first."""
        return "; ".join(f"{at:.3f} {cause} -> {state}" for at, cause, state in self.story)


@dataclass(slots=True)
class _Input:
    """One input: its verdict follows from the states of its tasks (children excepted)."""

    tasks: int = 0
    states: Counter[TaskState] = field(default_factory=Counter)

    def verdict(self) -> TaskState | None:
        for state in (TaskState.FAILED, TaskState.CANCELLED):
            if self.states[state]:
                return state
        return TaskState.SUCCEEDED if self.states[TaskState.SUCCEEDED] == self.tasks else None


class Ledger:
    """Every task of a batch, and the counts of tasks and inputs that follow from their states.

    Inputs are counted, not tasks: an input's verdict is failed or cancelled as soon as one of its tasks is,
    and succeeded when all of them are. Children are work inside their parent and change no count of inputs.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.records: dict[str, TaskRecord] = {}
        self.counts: Counter[TaskState] = Counter()
        self.inputs: dict[str, _Input] = {}
        self.verdicts: Counter[TaskState] = Counter()
        self.quality = QualityTotals()
        self.work_total = 0.0
        self.work_ended = 0.0

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
        if not task.parent:
            self._count_input(self.inputs.setdefault(task.file_id, _Input()), TaskState.BLOCKED, tasks=1)
            self.work_total += record.work
        record.story.append((self.now, "added", record.state.value))
        return record

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
        if record.state is TaskState.SUCCEEDED:
            self._count_quality(record, sign=-1)
        elif target is TaskState.SUCCEEDED:
            self._count_quality(record)
        self.counts[record.state] -= 1
        self.counts[target] += 1
        if not record.task.parent:
            self._count_input(self.inputs[record.task.file_id], target, before=record.state)
            self.work_ended += record.work * (target.terminal - record.state.terminal)
        at = self.now if at is None else at
        record.ended_at = at if target.terminal else 0.0
        record.state = target
        record.story.append((at, cause.value, target.value))

    def replace_task(self, record: TaskRecord, task: BatchTask) -> None:
        """Give an open record another description of its task, as after a change of the input."""
        if not task.parent:
            self.work_total -= record.work
        record.task = task
        if not task.parent:
            self.work_total += record.work

    @property
    def open_count(self) -> int:
        """Tasks that haven't ended."""
        return sum(count for state, count in self.counts.items() if not state.terminal)

    def _count_quality(self, record: TaskRecord, *, sign: int = 1) -> None:
        if not record.task.parent:
            if sign > 0:
                record.recovered = record.spent > 0 or any(self.records[name].spent > 0 for name in record.children)
            self.quality.add(record.task.task_type.value, record.metrics, recovered=record.recovered, sign=sign)

    def _count_input(self, entry: _Input, state: TaskState, *, tasks: int = 0, before: TaskState | None = None) -> None:
        old = entry.verdict() if entry.tasks else None
        entry.tasks += tasks
        if before is not None:
            entry.states[before] -= 1
        entry.states[state] += 1
        new = entry.verdict()
        if old is not None:
            self.verdicts[old] -= 1
        if new is not None:
            self.verdicts[new] += 1
