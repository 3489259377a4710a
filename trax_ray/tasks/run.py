"""One attempt, from assignment to outcome: nothing that an attempt raises gets past here."""

from __future__ import annotations

import logging
import math
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from typing import Any

from trax_ray.core.task import Outcome, TaskType
from trax_ray.errors import SetupError
from trax_ray.tasks.assignment import Assignment, Progress, TaskRunner
from trax_ray.tasks.failures import failure_of

__all__ = ["IMPLEMENTED", "make_attempt", "run"]

logger = logging.getLogger(__name__)

IMPLEMENTED = {
    TaskType.TRANSCRIBE: "trax_ray.tasks.transcribe:transcribe",
    TaskType.PREPROCESS: "trax_ray.tasks.preprocess:preprocess",
}
"""The function of each kind, imported in the worker that runs it and nowhere else."""


def load(path: str) -> TaskRunner:
    """The function that `module:name` stands for."""
    module, _, name = path.partition(":")
    function: TaskRunner = getattr(import_module(module), name)
    return function


def run(assignment: Assignment) -> Iterator[Progress | Outcome]:
    """Make an attempt at a task of any kind."""
    path = IMPLEMENTED.get(assignment.task.task_type)
    if path is None:
        raise SetupError(f"this version of trax_ray can't do tasks of the kind {assignment.task.task_type.value} yet")
    yield from load(path)(assignment)


def make_attempt(assignment: Assignment) -> Iterator[Progress | Outcome]:
    """Make an attempt and see it to its outcome, whatever happens.

    Yields:
        Any number of Progress, then exactly one Outcome, which says where and when the attempt ran.
    """
    started_at = time.time()
    outcome: Outcome | None = None
    task = assignment.task
    logger.debug("%s: attempt %d of %r begins", task.id, assignment.attempt, task.data.get("name", ""))
    try:
        for item in load(assignment.spec.runner)(assignment):
            if isinstance(item, Outcome):
                outcome = item
                break
            yield item
        if outcome is None:
            raise RuntimeError(f"{assignment.spec.runner} ended without an outcome")
    except Exception as error:  # the border: every exception becomes a failure with a class
        logger.debug("%s: attempt %d raised", task.id, assignment.attempt, exc_info=True)
        outcome = Outcome(failure=failure_of(error))
    logger.debug("%s: attempt %d took %.2f s", task.id, assignment.attempt, time.time() - started_at)
    yield replace(
        outcome,
        failure=outcome.failure and replace(outcome.failure, retry_after_s=_finite(outcome.failure.retry_after_s)),
        metrics={name: _finite(value) for name, value in outcome.metrics.items()},
        node=platform.node(),
        pid=os.getpid(),
        started_at=started_at,
        ended_at=time.time(),
        memory_peak_mb=round(_peak_mb(), 1),
    )


def _finite(value: Any) -> Any:
    """None for what is no number: JSON has no word for it, and a figure that isn't known is None here."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _peak_mb() -> float:
    """Peak resident memory of this process so far, MiB. The process may have made other attempts before."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
