"""What Ray's own errors mean for the task whose attempt they ended."""

from __future__ import annotations

import ray.exceptions as rex

from trax_ray.codes import FailureCode
from trax_ray.core.task import Category, Failure, FailureClass

__all__ = ["answer_lost", "failure_of_ray", "greedy", "lost_with_node", "stalled"]

_MEANINGS = (
    (rex.OutOfMemoryError, FailureCode.OUT_OF_MEMORY, "ran out of memory on its node"),
    (rex.NodeDiedError, FailureCode.NODE_DIED, "was lost with its node"),
    (rex.WorkerCrashedError, FailureCode.WORKER_DIED, "ended its worker process"),
    # A lane: its calls are all of it that is ever lost.
    (rex.RayActorError, FailureCode.WORKER_DIED, "was in a process that died"),
    (rex.TaskUnschedulableError, FailureCode.UNSCHEDULABLE, "fits on no node"),
    (rex.RuntimeEnvSetupError, FailureCode.RUNTIME_ENV, "has no environment to run in"),
    (rex.AuthenticationError, FailureCode.AUTHENTICATION, "was refused by the cluster"),
    (rex.TaskCancelledError, FailureCode.CANCELLED, "was cancelled from outside"),
    (rex.ObjectLostError, FailureCode.RESULT_LOST, "lost its result"),
    (rex.OwnerDiedError, FailureCode.OWNER_DIED, "lost its owner"),
)

_WITH_DETAILS = (FailureCode.OUT_OF_MEMORY, FailureCode.UNSCHEDULABLE, FailureCode.RUNTIME_ENV)
"""Where Ray's own sentence says more than ours."""


def failure_of_ray(error: BaseException) -> Failure:
    """The failure that an error from Ray means: FACTS of Ray's error types, one row each."""
    for kind, code, what in _MEANINGS:
        if isinstance(error, kind):
            details = f": {_first_line(error)}" if code in _WITH_DETAILS else ""
            return _failure(code, f"the attempt {what}{details}")
    return _failure(FailureCode.RAY, f"the attempt ended with {type(error).__name__}: {_first_line(error)}")


def stalled(silent_s: float) -> Failure:
    """The failure of an attempt that gave no sign of life for so long that it was ended."""
    message = f"the attempt gave no sign of life for {silent_s:.0f} s and was ended"
    return _failure(FailureCode.STALLED, message)


def greedy(used_mb: float, requested_mb: int, limit_mb: int) -> Failure:
    """The failure of an attempt that was ended because it took far more memory than it asked for."""
    message = (
        f"the attempt used {used_mb:.0f} MB of memory where it had asked for {requested_mb} MB and the batch may use "
        f"{limit_mb} MB: give a larger --memory-limit if it needs as much"
    )
    return _failure(FailureCode.OUT_OF_MEMORY, message)


def lost_with_node(failure: Failure) -> Failure:
    """The same failure where the node was lost too: then the worker died of that, and not of its task."""
    return _failure(FailureCode.NODE_DIED, f"{failure.message}, whose node was lost")


def answer_lost() -> Failure:
    """The failure of an attempt of which nothing more was heard, though its process lives."""
    message = "the attempt's answer got lost on its way; its process lives"
    return _failure(FailureCode.RESULT_LOST, message, Category.NETWORK)


def _failure(code: FailureCode, message: str, category: Category = Category.RESOURCE) -> Failure:
    """A failure of the code's class and category; where the code leaves them open, unknown and this category."""
    return Failure(code.failure_class or FailureClass.UNKNOWN, code.category or category, code, message)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else "no details")[:300]
