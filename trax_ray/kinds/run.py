"""One attempt, from assignment to outcome: nothing that an attempt raises gets past here."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from importlib import import_module
from typing import Any

from trax_ray.codes import FailureCode
from trax_ray.core.limits.signals import ProviderSignal
from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import BatchTask, Failure, Outcome
from trax_ray.errors import ResourceError, SetupError
from trax_ray.kinds.assignment import Assignment, Progress
from trax_ray.kinds.base import Kind
from trax_ray.kinds.failures import failure_of_task

__all__ = ["call", "kind_of", "make_attempt", "make_call", "prepares_calls", "run", "timed_out"]

logger = logging.getLogger(__name__)


def load(path: str) -> Any:
    """The function that `module:name` stands for."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def kind_of(task: BatchTask) -> Kind[Any]:
    """What does a task's work.

    Raises:
        SetupError: This version has no such kind.
    """
    # Imported in the worker that runs it and nowhere else.
    from trax_ray.kinds.table import KINDS

    kind = KINDS.get(task.kind)
    if kind is None:
        raise SetupError(f"this version of trax_ray can't do tasks of the kind {task.kind} yet")
    return kind


def prepares_calls(task: BatchTask, spec: BatchSpec) -> bool:
    """Whether an attempt at a task prepares what is asked on a lane next, as far as one can know before."""
    from trax_ray.kinds.table import KINDS

    kind = KINDS.get(task.kind)
    return kind is not None and kind.prepares_calls is not None and kind.prepares_calls(task, spec)


def run(assignment: Assignment) -> Iterator[Progress | Outcome]:
    """Make an attempt at a task of any kind, in a process that makes no other at the same time."""
    kind = kind_of(assignment.task)
    if kind.runs is not None:
        yield from kind.runs(assignment)
    else:  # its lane died under it and others, and it has this process for itself
        yield Progress()
        yield asyncio.run(_alone(kind, assignment))


async def call(assignment: Assignment) -> Outcome:
    """Make an attempt at a task whose attempts share a process."""
    kind = kind_of(assignment.task)
    if kind.calls is None:
        raise SetupError(f"tasks of the kind {kind.name} need a process of their own")
    return await kind.calls(assignment)


async def _alone(kind: Kind[Any], assignment: Assignment) -> Outcome:
    assert kind.calls is not None
    try:
        return await kind.calls(assignment)
    finally:
        if kind.closes is not None:
            await kind.closes()


def make_attempt(assignment: Assignment) -> Iterator[Progress | Outcome]:
    """Make an attempt and see it to its outcome, whatever happens.

    Where the batch limits the time of an attempt, it is looked at between signs of life; the coordinator sees to
    attempts that give none.

    Yields:
        Any number of Progress, then exactly one Outcome, which says where and when the attempt ran.
    """
    began = _begin(assignment)
    began_s = time.monotonic()  # the wall clock may be set meanwhile
    limit_s = math.inf if assignment.spec.task_timeout_s is None else assignment.spec.task_timeout_s
    outcome: Outcome | None = None
    try:
        for item in load(assignment.spec.runner)(assignment):
            if isinstance(item, Outcome):
                outcome = item
                break
            if time.monotonic() - began_s > limit_s:
                raise timed_out(limit_s)
            yield item
        if outcome is None:
            raise RuntimeError(f"{assignment.spec.runner} ended without an outcome")
    except Exception as error:  # noqa: BLE001 - the border: every exception becomes a failure with a class
        outcome = _failed(assignment, error)
    yield _finish(assignment, outcome, began)


async def make_call(assignment: Assignment) -> Outcome:
    """As `make_attempt`, for attempts that share a process.

    Returns:
        The outcome; it says where and when the attempt ran.
    """
    began = _begin(assignment)
    timeout_s = assignment.spec.task_timeout_s
    try:
        outcome = await asyncio.wait_for(_call(assignment), timeout_s)
    except asyncio.TimeoutError:
        assert timeout_s is not None
        outcome = _failed(assignment, timed_out(timeout_s))
    return _finish(assignment, outcome, began)


async def _call(assignment: Assignment) -> Outcome:
    """The outcome of a call; a time-out that it raises is somebody else's, and no reason to blame our limit."""
    try:
        outcome = await load(assignment.spec.caller)(assignment)
        if not isinstance(outcome, Outcome):
            raise RuntimeError(f"{assignment.spec.caller} ended without an outcome")
        return outcome
    except Exception as error:  # noqa: BLE001 - the border, once more
        return _failed(assignment, error)


def timed_out(timeout_s: float) -> ResourceError:
    """The error of an attempt that took longer than the batch allows."""
    return ResourceError(
        f"the attempt took longer than {timeout_s:g} s: give a larger --task-timeout, or a smaller --chunk-size",
        failure_class="transient",
        code=FailureCode.TIMED_OUT,
    )


def _begin(assignment: Assignment) -> float:
    task = assignment.task
    logger.debug("%s: attempt %d of %r begins", task.id, assignment.attempt, task.data.get("name", ""))
    return time.time()


def _failed(assignment: Assignment, error: BaseException) -> Outcome:
    logger.debug("%s: attempt %d raised", assignment.task.id, assignment.attempt, exc_info=error)
    return Outcome(failure=failure_of_task(error, assignment.task))


def _finish(assignment: Assignment, outcome: Outcome, began: float) -> Outcome:
    """The outcome as it may travel, with where and when the attempt ran."""
    logger.debug("%s: attempt %d took %.2f s", assignment.task.id, assignment.attempt, time.time() - began)
    return replace(
        outcome,
        failure=outcome.failure and replace(outcome.failure, **_finite_of(outcome.failure)),
        signal=outcome.signal and replace(outcome.signal, **_finite_of(outcome.signal)),
        metrics={name: _finite(value) for name, value in outcome.metrics.items()},
        node=platform.node(),
        pid=os.getpid(),
        started_at=began,
        ended_at=time.time(),
        memory_peak_mb=round(_peak_mb(), 1),
    )


def _finite_of(said: Failure | ProviderSignal) -> dict[str, Any]:
    """The figures of what a host or a library said."""
    figures = {each.name: getattr(said, each.name) for each in fields(said)}
    return {name: _finite(value) for name, value in figures.items() if isinstance(value, float)}


def _finite(value: Any) -> Any:
    """None for what is no number: JSON has no word for it, and a figure that isn't known is None here."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _peak_mb() -> float:
    """Peak resident memory of this process so far, MiB. The process may have made other attempts before."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
