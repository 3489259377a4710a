"""What a kind of task is: one object that holds all that the rest of the package has to know of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from trax_ray.core.spec import DEFAULT_MAX_RETRIES, BatchSpec
from trax_ray.core.task import BatchTask, ResourceRequest, TaskType
from trax_ray.kinds.assignment import TaskCaller, TaskRunner
from trax_ray.kinds.codec import from_json, to_json

__all__ = ["Kind"]

D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class Kind(Generic[D]):
    """One kind of task.

    An attempt at it is made by `runs`, a generator in a process of its own, or by `calls`, a coroutine on a lane,
    beside others. One of the two is given. What is on a lane when that dies is made again alone, by the same
    coroutine.

    Args:
        name: Its name: what tasks name, and the Ray dashboard shows.
        task_type: Which of the five steps users see it as.
        data: What its tasks are given: a frozen dataclass of JSON types.
        runs: Makes an attempt: any number of Progress, then one Outcome.
        calls: Makes an attempt that mostly waits: it may not compute on the event loop.
        closes: Lets go of what `calls` keeps between attempts, such as connections.
        asks: Whether it asks a provider: its rates, its breaker and the batch's money hold for it.
        resources: What an attempt in a process of its own asks of a node, where nothing else says so.
        needs: Name of the field of its data without which a task makes no sense; empty for none.
        prepares_calls: Says of a task, in a batch, whether an attempt prepares what is asked on a lane next, as far as
            one can know before; None where none does.
    """

    name: str
    task_type: TaskType
    data: type[D]
    runs: TaskRunner | None = None
    calls: TaskCaller | None = None
    closes: Callable[[], Awaitable[None]] | None = None
    asks: bool = False
    resources: ResourceRequest = field(default_factory=ResourceRequest)
    needs: str = ""
    prepares_calls: Callable[[BatchTask, BatchSpec], bool] | None = None

    def __post_init__(self) -> None:
        if (self.runs is None) == (self.calls is None):
            raise ValueError(f"expected the kind {self.name} to have either `runs` or `calls`")

    @property
    def shared(self) -> bool:
        """Whether its attempts run on a lane."""
        return self.calls is not None

    def read(self, task: BatchTask) -> D:
        """What a task of this kind was given.

        Raises:
            KeyError: Its data lack a field.
        """
        return from_json(self.data, task.data)

    def task(
        self,
        data: D,
        *,
        id: str,
        file_id: str = "",
        fingerprint: str = "",
        priority: int = 0,
        max_retries: int = DEFAULT_MAX_RETRIES,
        depends_on: Sequence[str] = (),
        parent: str = "",
        chunk: int | None = None,
        provider: str = "",
        resources: ResourceRequest | None = None,
    ) -> BatchTask:
        """A task of this kind.

        Args:
            data: What it is given.
            id: Its id, and likewise the other fields of `BatchTask`.
        """
        return BatchTask(
            id=id,
            task_type=self.task_type,
            data=to_json(data),
            priority=priority,
            max_retries=max_retries,
            depends_on=tuple(depends_on),
            file_id=file_id,
            parent=parent,
            chunk=chunk,
            provider=provider or self.name,
            resources=resources or self.resources,
            shared=self.shared,
            fingerprint=fingerprint,
            asks=self.asks,
            kind=self.name,
        )
