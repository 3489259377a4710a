"""What Ray's own errors mean for the task whose attempt they ended."""

from __future__ import annotations

import ray.exceptions as rex

from trax_ray.core.policy.retry import WORKER_DIED
from trax_ray.core.task import Category, Failure, FailureClass

__all__ = ["answer_lost", "failure_of_ray", "greedy", "lost_with_node", "stalled"]

_UNKNOWN = (
    (rex.OutOfMemoryError, FailureClass.RESOURCE, Category.RESOURCE, "out_of_memory", "ran out of memory on its node"),
    (rex.NodeDiedError, FailureClass.UNKNOWN, Category.RESOURCE, "node_died", "was lost with its node"),
    (rex.WorkerCrashedError, FailureClass.UNKNOWN, Category.PROCESSING, WORKER_DIED, "ended its worker process"),
    # A lane: its calls are all of it that is ever lost.
    (rex.RayActorError, FailureClass.UNKNOWN, Category.PROCESSING, WORKER_DIED, "was in a process that died"),
    (rex.TaskUnschedulableError, FailureClass.CONFIG, Category.RESOURCE, "unschedulable", "fits on no node"),
    (rex.RuntimeEnvSetupError, FailureClass.CONFIG, Category.RESOURCE, "runtime_env", "has no environment to run in"),
    (rex.AuthenticationError, FailureClass.CONFIG, Category.NETWORK, "authentication", "was refused by the cluster"),
    (rex.TaskCancelledError, FailureClass.UNKNOWN, Category.PROCESSING, "cancelled", "was cancelled from outside"),
    (rex.ObjectLostError, FailureClass.UNKNOWN, Category.RESOURCE, "result_lost", "lost its result"),
    (rex.OwnerDiedError, FailureClass.UNKNOWN, Category.RESOURCE, "owner_died", "lost its owner"),
)


def failure_of_ray(error: BaseException) -> Failure:
    """The failure that an error from Ray means: FACTS of Ray's error types, one row each."""
    for kind, failure_class, category, code, what in _UNKNOWN:
        if isinstance(error, kind):
            return Failure(failure_class, category, code, f"the attempt {what}{_detail(error, code)}")
    return Failure(
        FailureClass.UNKNOWN,
        Category.PROCESSING,
        "ray",
        f"the attempt ended with {type(error).__name__}: {_first_line(error)}",
    )


def stalled(silent_s: float) -> Failure:
    """The failure of an attempt that gave no sign of life for so long that it was ended."""
    message = f"the attempt gave no sign of life for {silent_s:.0f} s and was ended"
    return Failure(FailureClass.TRANSIENT, Category.RESOURCE, "stalled", message)


def greedy(used_mb: float, requested_mb: int, limit_mb: int) -> Failure:
    """The failure of an attempt that was ended because it took far more memory than it asked for."""
    message = (
        f"the attempt used {used_mb:.0f} MB of memory where it had asked for {requested_mb} MB and the batch may use "
        f"{limit_mb} MB: give a larger --memory-limit if it needs as much"
    )
    return Failure(FailureClass.RESOURCE, Category.RESOURCE, "out_of_memory", message)


def lost_with_node(failure: Failure) -> Failure:
    """The same failure where the node was lost too: then the worker died of that, and not of its task."""
    return Failure(FailureClass.UNKNOWN, Category.RESOURCE, "node_died", f"{failure.message}, whose node was lost")


def answer_lost() -> Failure:
    """The failure of an attempt of which nothing more was heard, though its process lives."""
    message = "the attempt's answer got lost on its way; its process lives"
    return Failure(FailureClass.UNKNOWN, Category.NETWORK, "result_lost", message)


def _detail(error: BaseException, code: str) -> str:
    return f": {_first_line(error)}" if code in ("out_of_memory", "unschedulable", "runtime_env") else ""


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else "no details")[:300]
