"""All tasks of a run, looked at once: how many of each kind, what is still to do, what has gone wrong last.

Looking at ten thousand tasks takes some milliseconds: whoever shows a batch does so now and then, not on every turn.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trax_ray.core.policy.prediction import CUT, PREPROCESS, TRANSCRIBE, Ahead, Observation
from trax_ray.core.state.ledger import TaskRecord
from trax_ray.core.state.machine import BatchState
from trax_ray.core.task import BatchTask, Outcome, TaskState, TaskType

__all__ = ["Lengths", "Survey", "ahead_of", "observation_of", "survey"]

LAST_FAILURES = 3

FROM_STORE = 0.5
"""An attempt that took less than this share of what its result took to make found it made."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """What is known of a batch beside its tasks.

    Args:
        model: Its model, for tasks that name none.
        chunk_s: Longest stretch of one attempt, seconds.
        is_service: Whether a model is asked over the network.
        audio_s: How long the recording of a task is, seconds; None where nobody knows.
    """

    model: str
    chunk_s: float
    is_service: Callable[[str], bool]
    audio_s: Callable[[BatchTask], float | None]

    def model_of(self, task: BatchTask) -> str:
        """The model of a task; empty for one that needs none."""
        return str(task.data.get("model") or self.model) if task.task_type is TaskType.TRANSCRIBE else ""

    def ahead(self) -> Ahead:
        """Nothing to do so far."""
        return Ahead(self.chunk_s, self.is_service)


@dataclass(slots=True)
class Survey:
    """What a look at all tasks of a run came to.

    Args:
        ahead: What is still to do.
        kinds: Tasks by kind, and of each kind by what has become of them: `total`, `ended`, `failed`, `running`.
        failures: The last tasks that failed for good, newest first: `name`, `step`, `code`, `error`.
    """

    ahead: Ahead
    kinds: dict[str, dict[str, int]] = field(default_factory=dict)
    failures: tuple[Mapping[str, str], ...] = ()


def ahead_of(tasks: Iterable[BatchTask], lengths: Lengths) -> Ahead:
    """What tasks that haven't been begun will come to."""
    ahead = lengths.ahead()
    for task in tasks:
        _add_task(ahead, task, lengths, left=1.0)
    return ahead


def survey(state: BatchState, fractions: Mapping[str, float], lengths: Lengths) -> Survey:
    """Look at all tasks of the present run.

    Args:
        state: The batch.
        fractions: Per running task how much of its attempt is done, 0-1.
        lengths: What is known beside the tasks.
    """
    found = Survey(lengths.ahead())
    members = state.ledger.run.members
    failed: list[TaskRecord] = []
    for record in state.records.values():
        task = record.task
        root = task
        while root.parent:
            root = state.records[root.parent].task
        if root.id not in members:
            continue
        _count(found.kinds.setdefault(task.kind, {"total": 0, "ended": 0, "failed": 0, "running": 0}), record)
        if record.state is TaskState.FAILED and record.failure is not None:
            failed.append(record)
        if record.state.terminal:
            continue
        left = 1.0 - fractions.get(task.id, 0.0)
        if task.parent:
            length_s = float(task.data.get("end_s", 0.0)) - float(task.data.get("start_s", 0.0))
            found.ahead.add(task.kind, lengths.model_of(task), length_s * left, shared=task.shared)
        elif not record.children:
            _add_task(found.ahead, task, lengths, left=left)
    last = heapq.nlargest(LAST_FAILURES, failed, key=lambda record: record.ended_at)
    found.failures = tuple(map(_told, last))
    return found


def _add_task(ahead: Ahead, task: BatchTask, lengths: Lengths, *, left: float) -> None:
    if task.data.get("missing"):
        return  # its attempt ends at once
    if task.kind == PREPROCESS:
        length_s = lengths.audio_s(task)
        if length_s is not None:
            ahead.add(PREPROCESS, "", length_s * left)
    elif task.kind == TRANSCRIBE:
        length_s = lengths.audio_s(task)
        # Of one that is being cut nobody sees how far it is.
        short = length_s is not None and length_s <= lengths.chunk_s
        ahead.add_recording(lengths.model_of(task), length_s * left if short and length_s is not None else length_s)


def _count(counts: dict[str, int], record: TaskRecord) -> None:
    counts["total"] += 1
    counts["ended"] += record.state.terminal
    counts["failed"] += record.state is TaskState.FAILED
    counts["running"] += record.state is TaskState.RUNNING


def _told(record: TaskRecord) -> Mapping[str, str]:
    assert record.failure is not None
    data = record.task.data
    return {
        "name": str(data.get("name") or data.get("file_path") or data.get("url") or record.task.id),
        "step": record.task.kind,
        "code": record.failure.code,
        "error": record.failure.message,
    }


def observation_of(
    task: BatchTask, outcome: Outcome, lengths: Lengths, *, joins: bool, seconds: float, machine: str, run: str
) -> Observation | None:
    """What an attempt says of how long such attempts take; None where it says nothing.

    Args:
        task: Its task.
        outcome: What it came to.
        lengths: What is known beside the tasks.
        joins: Whether it joined what its parts had brought.
        seconds: What it took.
        machine: Where it ran.
        run: Names the run.
    """
    if outcome.failure is not None or joins or seconds <= 0:
        return None
    metrics: Mapping[str, Any] = outcome.metrics
    kind, audio_s = task.kind, float(metrics.get("duration_s") or 0.0)
    if outcome.children:
        kind = CUT
        audio_s = max((float(child.data.get("end_s") or 0.0) for child in outcome.children), default=0.0)
    elif metrics.get("cached") or seconds < FROM_STORE * float(metrics.get("processing_s") or 0.0):
        return None
    if audio_s <= 0:
        return None
    return Observation(
        kind,
        lengths.model_of(task),
        machine,
        round(audio_s, 3),
        round(seconds, 3),
        round(outcome.memory_peak_mb, 1),
        round(outcome.ended_at, 3),
        run,
    )
