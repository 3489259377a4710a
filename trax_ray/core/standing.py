"""From a batch's state to its figures: `fold` says how the present run stands, `failures_of` what has failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from trax_ray.codes import FailureCode
from trax_ray.core.policy.prediction import Experience, blend, predict
from trax_ray.core.progress import BatchProgress, Phase
from trax_ray.core.state.ledger import TaskRecord, work_of
from trax_ray.core.state.machine import BatchState
from trax_ray.core.survey import Survey
from trax_ray.core.task import BatchTask, TaskState

__all__ = ["Expected", "estimate_remaining_s", "failures_of", "fold", "with_survey"]


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
    slots = state.scaled.slots if state.scaled else None
    # What waits for a person, a command, its hours or another batch ends when they let it, not at the speed so far.
    goes_on = phase is Phase.RUNNING and not state.parked and slots != 0
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
        cost_usd=state.services.spent_usd or None,
        slots=slots,
        limits_reason=state.scaled.reason if state.scaled else "",
        saves_until=state.saves_until(),
    )


def with_survey(
    progress: BatchProgress,
    state: BatchState,
    found: Survey,
    experience: Experience,
    *,
    workers: int,
    expected: Expected = Expected(),
) -> BatchProgress:
    """A progress with what a look at all tasks tells: kinds, failures, and the range of the time still to go.

    Args:
        progress: As of `fold`.
        state: The batch.
        found: The look.
        experience: What is known of how long things take.
        workers: Attempts that run at the same time, at most.
        expected: As of `fold`.
    """
    progress = replace(progress, kinds=found.kinds, last_failures=found.failures)
    predicted = predict(found.ahead, experience, slots=min(workers, progress.slots or workers), workers=workers)
    if predicted is None or progress.phase is not Phase.RUNNING or state.parked or progress.slots == 0:
        return progress
    run = state.ledger.run
    given = max(run.work_total, expected.work)
    known_left, left = run.work_total - run.work_ended, given - run.work_ended
    if known_left > 0 and left > known_left:  # what hasn't reached the queue yet is as what has
        predicted = predicted.times(left / known_left)
    done = run.work_ended - run.work_ended_before
    share = done / (done + left) if done + left > 0 else 1.0
    found_left = blend(predicted, progress.estimated_remaining_s, share) or predicted
    return replace(
        progress,
        estimated_remaining_s=found_left.middle_s,
        remaining_low_s=found_left.low_s,
        remaining_high_s=found_left.high_s,
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
