"""How long what runs may go on after a signal."""

from __future__ import annotations

from collections.abc import Iterable

from trax_ray.core.task import BatchTask, TaskType

__all__ = ["GRACE_S", "PAID_GRACE_S", "grace_s"]

GRACE_S = 2.0
"""Seconds that running attempts are given to end after a signal, where nobody says."""

PAID_GRACE_S = 10.0
"""The same as long as paid requests are under way: they are paid whether their answers are waited for or not."""


def grace_s(given_s: float | None, running: Iterable[BatchTask]) -> float:
    """How long attempts may go on after a signal, seconds.

    Args:
        given_s: What the batch says; None leaves it to what runs.
        running: The tasks whose attempts run.
    """
    if given_s is not None:
        return given_s
    graces = [_grace_of(task) for task in running]
    return max(graces, default=GRACE_S)


def _grace_of(task: BatchTask) -> float:
    if _is_paid(task):
        return PAID_GRACE_S
    # What is fetched stays, and the next run goes on behind its last byte.
    return 0.0 if task.task_type is TaskType.DOWNLOAD else GRACE_S


def _is_paid(task: BatchTask) -> bool:
    return task.asks_provider and bool(task.data.get("estimate_usd"))
