"""How a batch stands: `BatchProgress` as it says itself, `BatchStatus` as it is seen from outside.

A figure is one field of `BatchProgress`. From there it is in the coordinator's snapshot, in `status.json`, in what a
progress callback gets, and in `trax-ray status --json`; what people are shown of it is said where it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

from trax_ray.codes import FailureCode
from trax_ray.core.state.ledger import TaskRecord, work_of
from trax_ray.core.task import BatchTask, TaskState

if TYPE_CHECKING:
    from trax_ray.core.state.machine import BatchState

__all__ = [
    "BatchProgress",
    "BatchStatus",
    "Expected",
    "Phase",
    "decode_progress",
    "encode_progress",
    "estimate_remaining_s",
    "failures_of",
    "fold",
    "format_duration",
    "format_progress",
    "format_usd",
    "percent",
]


class Phase(str, Enum):
    """Where a batch stands.

    STARTING (Ray is being started), RUNNING, PAUSED (nothing starts, also in the next run), DRAINING (a signal came or
    its hours are over: what runs is finished), WAITING (for its start time or its hours), PARKED (what is left waits
    for a person), COMPLETE, STOPPED, INTERRUPTED (no process holds it, and the journal has no end: it was killed).
    """

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    DRAINING = "draining"
    WAITING = "waiting"
    PARKED = "parked"
    COMPLETE = "complete"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"


def percent(part: int, whole: int) -> float:
    """100 x part / whole; 0.0 of nothing."""
    return 100.0 * part / whole if whole else 0.0


@dataclass(frozen=True)
class BatchProgress:
    """Counts of inputs (or `add_task` calls), never of chunks or steps.

    Args:
        total_tasks: Inputs that the run is given, those included that haven't reached its queue yet.
        completed_tasks: Those that succeeded.
        failed_tasks: Those that failed for good.
        cancelled_tasks: Those that were cancelled.
        active_workers: Attempts that run now.
        memory_usage_mb: Memory of the batch's own processes, MiB (PSS; USS on macOS).
        cpu_usage_percent: Load of the coordinator's node, percent of all its cores.
        memory_peak_mb: Highest `memory_usage_mb` so far.
        cpu_peak_percent: Highest `cpu_usage_percent` so far.
        elapsed_s: Seconds since this run began.
        estimated_remaining_s: Seconds still to go; None when unknown.
        quality_metrics: As in the report.
        queued_tasks: Inputs that wait, for their turn, for a retry or for another task.
        parked: Providers that wait for a person, with the reason.
        waits_until: When the batch's hours begin, seconds since the epoch; None within them.
        services: Services that get no more requests at present, with the reason.
        phase: Where it stands.
        slots: How many attempts of one core each the machine lets run now; None when unknown.
        limits_reason: Why no more.
    """

    total_tasks: int = field(default=0, metadata={"key": "total"})
    completed_tasks: int = field(default=0, metadata={"key": "succeeded"})
    failed_tasks: int = field(default=0, metadata={"key": "failed"})
    cancelled_tasks: int = field(default=0, metadata={"key": "cancelled"})
    active_workers: int = field(default=0, metadata={"key": "active"})
    memory_usage_mb: float = field(default=0.0, metadata={"key": "memory_mb"})
    cpu_usage_percent: float = field(default=0.0, metadata={"key": "cpu_percent"})
    memory_peak_mb: float = 0.0
    cpu_peak_percent: float = 0.0
    elapsed_s: float = 0.0
    estimated_remaining_s: float | None = None
    quality_metrics: Mapping[str, Any] = field(default_factory=dict)
    queued_tasks: int = field(default=0, metadata={"key": "queued"})
    parked: Mapping[str, str] = field(default_factory=dict)
    waits_until: float | None = None
    services: Mapping[str, str] = field(default_factory=dict)
    phase: Phase = Phase.STARTING
    slots: int | None = None
    limits_reason: str = ""

    @property
    def paused(self) -> bool:
        """True while nothing may start because a person asked for a pause."""
        return self.phase is Phase.PAUSED

    @property
    def success_rate(self) -> float:
        """100 x completed / total; 0.0 of nothing."""
        return percent(self.completed_tasks, self.total_tasks)

    @property
    def failure_rate(self) -> float:
        """100 x failed / total; 0.0 of nothing."""
        return percent(self.failed_tasks, self.total_tasks)

    def __str__(self) -> str:
        return format_progress(self)


@dataclass(frozen=True, kw_only=True)
class BatchStatus(BatchProgress):
    """How a batch stands, seen from outside: its progress in its present or last run, and which process runs it.

    Times are seconds since the epoch. Memory and load are 0.0 where no process runs it.

    Args:
        name: The batch's.
        output_dir: Its output folder.
        holder: What holds the folder, for people; empty where nothing does.
        pid: The process that holds it; None where none does, 0 where it hasn't said its name yet.
        host: Its machine; empty where no process holds it.
        since: When it began; None where no process holds it.
        epoch: Number of the coordinator that wrote last.
        updated_at: How old these figures are; 0.0 when unknown.
        failures: Inputs that failed for good, by failure class; empty where it wasn't asked for.
        requests: Commands that no batch has taken up yet, oldest first.
    """

    name: str
    output_dir: str
    holder: str = ""
    pid: int | None = None
    host: str = ""
    since: float | None = None
    epoch: int = 0
    updated_at: float = 0.0
    failures: Mapping[str, int] = field(default_factory=dict)
    requests: tuple[str, ...] = ()

    # The names that these figures have had here from the first version on, which are those of the JSON.
    total = property(attrgetter("total_tasks"))
    succeeded = property(attrgetter("completed_tasks"))
    failed = property(attrgetter("failed_tasks"))
    cancelled = property(attrgetter("cancelled_tasks"))
    active = property(attrgetter("active_workers"))
    queued = property(attrgetter("queued_tasks"))

    @property
    def memory_mb(self) -> float | None:
        """Memory of the batch's own processes, MiB; None where it wasn't measured."""
        return self.memory_usage_mb or None

    @property
    def cpu_percent(self) -> float | None:
        """Load of the coordinator's node, percent of all its cores; None where it wasn't measured."""
        return None if self.memory_mb is None else self.cpu_usage_percent

    @property
    def at_work(self) -> bool:
        """Whether a process runs the batch now."""
        return self.pid is not None

    @property
    def progress(self) -> BatchProgress:
        """The same: a status is what a batch reports to its own callback, and more."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """The status as JSON types."""
        return encode_progress(self) | {"memory_mb": self.memory_mb, "cpu_percent": self.cpu_percent}


Progress = TypeVar("Progress", bound=BatchProgress)


def encode_progress(progress: BatchProgress) -> dict[str, Any]:
    """A progress or a status as JSON types: every field, under the key of its metadata where it has one."""
    return {each.metadata.get("key", each.name): _plain(getattr(progress, each.name)) for each in fields(progress)}


def decode_progress(kind: type[Progress], said: Mapping[str, Any]) -> Progress:
    """What `encode_progress` wrote, by this version, an earlier or a later one.

    What isn't there has its default, and what isn't known here is left out. A phase that isn't known here is one in
    which a batch runs.
    """
    given = {each.name: said.get(each.metadata.get("key", each.name)) for each in fields(kind)}
    phase = given["phase"]
    given["phase"] = Phase(phase) if phase in {each.value for each in Phase} else Phase.RUNNING
    return kind(**{name: value for name, value in given.items() if value is not None})


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple):
        return list(value)
    return round(value, 3) if isinstance(value, float) else value


@dataclass(frozen=True, slots=True)
class Expected:
    """What a run is given in all, where that is known before it has reached its queue.

    Args:
        inputs: How many.
        work: Their work, in the measure of `work_of`.
    """

    inputs: int = 0
    work: float = 0.0

    @classmethod
    def of(cls, tasks: Iterable[BatchTask]) -> Expected:
        """What these tasks are together."""
        tasks = list(tasks)
        return cls(len({task.file_id for task in tasks}), sum(map(work_of, tasks)))

    def __add__(self, other: Expected) -> Expected:
        return Expected(self.inputs + other.inputs, self.work + other.work)


def estimate_remaining_s(work_done: float, work_left: float, elapsed_s: float) -> float | None:
    """Seconds still to go at the speed so far.

    Args:
        work_done: Work that this run has finished, in any unit.
        work_left: Work still to do, in the same unit.
        elapsed_s: Seconds that `work_done` took.

    Returns:
        Seconds; 0.0 when nothing is left; None as long as nothing is finished.
    """
    if work_left <= 0:
        return 0.0
    if work_done <= 0 or elapsed_s <= 0:
        return None
    return elapsed_s * work_left / work_done


def format_duration(seconds: float) -> str:
    """`42s`, `3m10s`, `2h05m`, `3d04h`: two units at most, rounded to the smaller one."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    minutes = round(whole / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60}h{minutes % 60:02d}m"
    hours = round(whole / 3600)
    return f"{hours // 24}d{hours % 24:02d}h"


def format_usd(usd: float) -> str:
    """`$12.34`, and small sums with four decimals."""
    return f"${usd:.2f}" if usd >= 1 else f"${usd:.4f}"


def format_progress(progress: BatchProgress) -> str:
    """The founding progress line, and the ETA."""
    remaining = progress.estimated_remaining_s
    return (
        f"Progress: {progress.completed_tasks}/{progress.total_tasks} ({progress.success_rate:.1f}% success)"
        f" | Active: {progress.active_workers} | Failed: {progress.failed_tasks}"
        f" | Memory: {progress.memory_usage_mb:.1f}MB | CPU: {progress.cpu_usage_percent:.1f}%"
        f" | ETA: {'--' if remaining is None else format_duration(remaining)}"
    )


def fold(
    state: BatchState,
    now: float,
    fractions: Mapping[str, float],
    *,
    waits_until: float | None = None,
    expected: Expected = Expected(),
) -> BatchProgress:
    """How the present run of a batch stands, apart from what is measured of memory and load.

    Args:
        state: The batch.
        now: Seconds since the epoch.
        fractions: Per running task how much of its attempt is done, 0-1.
        waits_until: When its hours begin, seconds since the epoch; None within them.
        expected: What the run is given in all; what is known already is counted where that is more.
    """
    run = state.ledger.run
    elapsed_s = max(0.0, now - state.started_at)
    roots = {task_id: fraction for task_id, fraction in fractions.items() if not state.records[task_id].task.parent}
    partial = sum(state.records[task_id].work * fraction for task_id, fraction in roots.items())
    partial += sum(_work_of_chunks(state, parent, fractions) for parent in state.expanded)
    succeeded = run.verdicts[TaskState.SUCCEEDED]
    failed = run.verdicts[TaskState.FAILED]
    cancelled = run.verdicts[TaskState.CANCELLED]
    active = len({state.records[task_id].task.file_id for task_id in fractions})
    total = max(len(run.inputs), expected.inputs)
    if state.finished == "stopped":
        cancelled += total - len(run.inputs)  # they never reached the queue, and won't
    phase = _phase(state, waits_until, running=bool(fractions))
    work_left = max(run.work_total, expected.work) - run.work_ended - partial
    remaining_s = estimate_remaining_s(run.work_ended - run.work_ended_before + partial, work_left, elapsed_s)
    # What waits for a person, for a command or for its hours ends when they come, not at the speed so far.
    goes_on = phase is Phase.RUNNING and not state.parked
    return BatchProgress(
        total_tasks=total,
        completed_tasks=succeeded,
        failed_tasks=failed,
        cancelled_tasks=cancelled,
        active_workers=len(fractions),
        elapsed_s=elapsed_s,
        estimated_remaining_s=remaining_s if goes_on or work_left <= 0 else None,
        quality_metrics=run.quality.metrics(
            succeeded=succeeded, failed=failed, elapsed_s=elapsed_s, audio_us_before=run.audio_us_before
        ),
        queued_tasks=max(0, total - succeeded - failed - cancelled - active),
        parked={provider: failure.message for provider, failure in state.parked.items()},
        waits_until=waits_until,
        services=state.services.why(now),
        phase=phase,
        slots=state.scaled.slots if state.scaled else None,
        limits_reason=state.scaled.reason if state.scaled else "",
    )


def _phase(state: BatchState, waits_until: float | None, *, running: bool) -> Phase:
    """Where a batch stands that a process runs, or that has ended."""
    if state.finished:
        return Phase(state.finished)
    if state.draining:
        return Phase.DRAINING
    if state.paused:
        return Phase.PAUSED
    if waits_until is None:
        return Phase.RUNNING
    return Phase.DRAINING if running else Phase.WAITING


def _work_of_chunks(state: BatchState, parent: str, fractions: Mapping[str, float]) -> float:
    """What the chunks of a recording have done so far, in the recording's own measure."""
    record = state.records[parent]
    if record.state is not TaskState.BLOCKED or record.task.parent or not record.children:
        return 0.0
    chunks = [state.records[name] for name in record.children]
    done = sum(chunk.work * (1.0 if chunk.state.terminal else fractions.get(chunk.task.id, 0.0)) for chunk in chunks)
    return record.work * done / sum(chunk.work for chunk in chunks)


def failures_of(state: BatchState) -> list[dict[str, Any]]:
    """One mapping per input of this run that failed for good, in the order of adding: `BatchResult.failures`."""
    failed: dict[str, TaskRecord] = {}
    for record in state.records.values():
        given = record.task.id in state.ledger.run.members
        if not given or record.state is not TaskState.FAILED or record.failure is None:
            continue
        first = failed.get(record.task.file_id)
        # Of the steps of one input the one that failed by itself, not those that then couldn't be made.
        if first is None or (_is_consequence(first) and not _is_consequence(record)):
            failed[record.task.file_id] = record
    return [_failure_of(record) for record in failed.values()]


def _is_consequence(record: TaskRecord) -> bool:
    return record.failure is not None and record.failure.code == FailureCode.DEPENDENCY_FAILED


def _failure_of(record: TaskRecord) -> dict[str, Any]:
    assert record.failure is not None
    data = record.task.data
    return {
        "file_id": record.task.file_id,
        "task_id": record.task.id,
        "file_name": data.get("name") or data.get("file_path") or data.get("url") or record.task.id,
        "failed_step": record.task.task_type.value,
        "failure_class": record.failure.failure_class.value,
        "category": record.failure.category.value,
        "code": record.failure.code,
        "error": record.failure.message,
        "attempts": record.attempt,
    }
