"""How a batch stands: `BatchProgress`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trax_ray.codes import FailureCode
from trax_ray.core.state.ledger import TaskRecord
from trax_ray.core.task import TaskState

if TYPE_CHECKING:
    from trax_ray.core.state.machine import BatchState

__all__ = [
    "BatchProgress",
    "estimate_remaining_s",
    "failures_of",
    "fold",
    "format_duration",
    "format_progress",
    "percent",
]


def percent(part: int, whole: int) -> float:
    """100 x part / whole; 0.0 of nothing."""
    return 100.0 * part / whole if whole else 0.0


@dataclass(frozen=True)
class BatchProgress:
    """Counts of inputs (or `add_task` calls), never of chunks or steps.

    Args:
        total_tasks: Inputs known so far.
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
        paused: True while nothing may start.
        parked: Providers that wait for a person, with the reason.
        waits_until: When the batch's hours begin, seconds since the epoch; None within them.
        services: Services that get no more requests at present, with the reason.
    """

    total_tasks: int = 0
    completed_tasks: int = 0
    failed_tasks: int = 0
    cancelled_tasks: int = 0
    active_workers: int = 0
    memory_usage_mb: float = 0.0
    cpu_usage_percent: float = 0.0
    memory_peak_mb: float = 0.0
    cpu_peak_percent: float = 0.0
    elapsed_s: float = 0.0
    estimated_remaining_s: float | None = None
    quality_metrics: Mapping[str, Any] = field(default_factory=dict)
    queued_tasks: int = 0
    paused: bool = False
    parked: Mapping[str, str] = field(default_factory=dict)
    waits_until: float | None = None
    services: Mapping[str, str] = field(default_factory=dict)

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


def format_progress(progress: BatchProgress) -> str:
    """The founding progress line, and the ETA."""
    remaining = progress.estimated_remaining_s
    return (
        f"Progress: {progress.completed_tasks}/{progress.total_tasks} ({progress.success_rate:.1f}% success)"
        f" | Active: {progress.active_workers} | Failed: {progress.failed_tasks}"
        f" | Memory: {progress.memory_usage_mb:.1f}MB | CPU: {progress.cpu_usage_percent:.1f}%"
        f" | ETA: {'--' if remaining is None else format_duration(remaining)}"
    )


def fold(state: BatchState, now: float, fractions: Mapping[str, float]) -> BatchProgress:
    """How the present run of a batch stands, apart from what is measured of memory and load.

    Args:
        state: The batch.
        now: Seconds since the epoch.
        fractions: Per running task how much of its attempt is done, 0-1.
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
    return BatchProgress(
        total_tasks=len(run.inputs),
        completed_tasks=succeeded,
        failed_tasks=failed,
        cancelled_tasks=cancelled,
        active_workers=len(fractions),
        elapsed_s=elapsed_s,
        estimated_remaining_s=estimate_remaining_s(
            run.work_ended - run.work_ended_before + partial,
            run.work_total - run.work_ended - partial,
            elapsed_s,
        ),
        quality_metrics=run.quality.metrics(
            succeeded=succeeded, failed=failed, elapsed_s=elapsed_s, audio_us_before=run.audio_us_before
        ),
        queued_tasks=max(0, len(run.inputs) - succeeded - failed - cancelled - active),
        paused=state.paused,
        parked={provider: failure.message for provider, failure in state.parked.items()},
        services=state.services.why(now),
    )


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
