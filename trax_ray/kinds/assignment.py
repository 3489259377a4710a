"""What an attempt is given and what it says while it works."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field

from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import BatchTask, Outcome, Result

__all__ = ["Assignment", "Progress", "TaskCaller", "TaskRunner"]


@dataclass(frozen=True, slots=True)
class Progress:
    """A sign of life.

    Args:
        fraction: Share of the attempt's work that is done, 0-1.
        came_bytes: What has come of what it fetches.
        total_bytes: Of how many; 0 where nobody knows.
        loading: Whether the work hasn't begun: what it needs is being loaded, which takes a core whatever comes then.
    """

    fraction: float = 0.0
    came_bytes: int = 0
    total_bytes: int = 0
    loading: bool = False


@dataclass(frozen=True, slots=True)
class Assignment:
    """One attempt.

    Args:
        spec: The batch.
        task: What to do.
        epoch: Of the coordinator that dispatched it.
        attempt: From 1.
        children: What the tasks made that an earlier attempt planned, by their ids, in order; empty where none did.
        needed: What the tasks made that this one depends on, by their ids, in order.
    """

    spec: BatchSpec
    task: BatchTask
    epoch: int = 0
    attempt: int = 1
    children: Mapping[str, Result] = field(default_factory=dict)
    needed: Mapping[str, Result] = field(default_factory=dict)


TaskRunner = Callable[[Assignment], Iterator[Progress | Outcome]]
"""Makes one attempt: any number of Progress, then one Outcome. May raise; `run` turns that into a Failure."""

TaskCaller = Callable[[Assignment], Awaitable[Outcome]]
"""Makes one attempt that mostly waits, beside others in one process: it may not compute on their event loop."""
