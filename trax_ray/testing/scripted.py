"""Attempts that follow a script: a `BatchSpec.runner` for tests on real Ray, without audio or models.

`data["script"]` has one step per attempt; the last one is used for all later attempts:

    ok          succeed
    transient, permanent, config, unknown, resource   fail with that class
    die         end the worker process, as a crash or the OOM killer would
    hang        give one sign of life, then none
    expand:N    plan N children, whose script is `data["child_script"]`; succeed when they have
    raise       raise an exception that is nobody's

`data["sleep_s"]` is how long an attempt takes, `data["log"]` a file that gets a line per attempt.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from trax_ray.core.task import BatchTask, Category, Failure, FailureClass, Outcome
from trax_ray.tasks.assignment import Assignment, Progress

__all__ = ["SCRIPTED", "attempts_in", "run"]

SCRIPTED = "trax_ray.testing.scripted:run"
"""What to give as `BatchSpec.runner`."""

HANG_S = 3600.0
TICK_S = 0.02


def run(assignment: Assignment) -> Iterator[Progress | Outcome]:
    """Make the attempt that the script has for this number."""
    task = assignment.task
    script = task.data.get("script", ["ok"])
    step = script[min(assignment.attempt, len(script)) - 1]
    log = task.data.get("log")
    if log:
        _append(Path(log), f"{task.id} {assignment.epoch} {assignment.attempt} {os.getpid()}\n")
    yield Progress(0.0)
    end = time.monotonic() + float(task.data.get("sleep_s", 0.0))
    while time.monotonic() < end:
        time.sleep(min(TICK_S, max(0.0, end - time.monotonic())))
        yield Progress(0.5)
    if step == "die":
        os._exit(1)
    if step == "hang":
        time.sleep(HANG_S)
    if step == "raise":
        raise LookupError("nobody expected this")
    if step.startswith("expand:") and not assignment.children:
        yield Outcome(children=_children(task, int(step.partition(":")[2])))
    elif step in {kind.value for kind in FailureClass}:
        yield Outcome(failure=_failure(step, task))
    else:
        metrics = dict(task.data.get("metrics", {})) | {"children": len(assignment.children)}
        yield Outcome(artifact_key=f"key-{task.id}", metrics=metrics)


def attempts_in(log: Path) -> list[tuple[str, int, int]]:
    """The attempts that were made, in order: task id, epoch, attempt."""
    if not log.exists():
        return []
    lines = [line.split(" ") for line in log.read_text().splitlines()]
    return [(task_id, int(epoch), int(attempt)) for task_id, epoch, attempt, _ in lines]


def _append(path: Path, line: str) -> None:
    with path.open("a") as file:  # one short write in append mode: lines of several processes don't mix
        file.write(line)


def _children(task: BatchTask, count: int) -> tuple[BatchTask, ...]:
    script = task.data.get("child_script", ["ok"])
    return tuple(
        BatchTask(
            id=f"{task.id}/{number}",
            task_type=task.task_type,
            data={"script": script, "log": task.data.get("log")},
            priority=task.priority,
            max_retries=task.max_retries,
            file_id=task.file_id,
            parent=task.id,
            chunk=number,
            provider=task.provider,
            resources=task.resources,
        )
        for number in range(count)
    )


def _failure(step: str, task: BatchTask) -> Failure:
    kind = FailureClass(step)
    category = Category.RESOURCE if kind is FailureClass.RESOURCE else Category.NETWORK
    code = "out_of_memory" if kind is FailureClass.RESOURCE else f"scripted_{step}"
    return Failure(kind, category, code, f"the script of {task.id} says {step}", task.data.get("retry_after_s"))
