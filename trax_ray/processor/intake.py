"""Tasks on their way to the coordinator: planned, and not yet with it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from trax_ray.core.task import BatchTask
from trax_ray.errors import QueueFull

__all__ = ["Intake"]


class Intake:
    """What was added and is taken as the coordinator's queue drains: inputs, and calls of `add_task`.

    Args:
        queue_size: How many calls may wait.

    Attributes:
        running: Whether a batch takes from it; else a full queue is refused and not waited for.
    """

    def __init__(self, queue_size: int) -> None:
        self.running = False
        self._queue_size = queue_size
        self._inputs: deque[BatchTask] = deque()
        self._calls: deque[BatchTask] = deque()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._inputs) + len(self._calls)

    def tasks(self) -> list[BatchTask]:
        """All that wait, calls first."""
        return [*self._calls, *self._inputs]

    @property
    def full(self) -> bool:
        """Whether a call has to wait."""
        return len(self._calls) >= self._queue_size

    def put_inputs(self, tasks: Iterable[BatchTask]) -> None:
        """Tasks of inputs: any number, the first ones first."""
        self._inputs += tasks
        self.wake()

    def put_call(self, steps: Iterable[BatchTask]) -> None:
        """The tasks of a call; whoever puts them has seen that it isn't full."""
        self._calls += steps
        self.wake()

    def take(self, count: int) -> list[BatchTask]:
        """At most so many tasks, the first ones first."""
        # Inputs first: calls may depend on them, and they never depend on calls.
        taken = [self._inputs.popleft() for _ in range(min(count, len(self._inputs)))]
        taken += [self._calls.popleft() for _ in range(min(count - len(taken), len(self._calls)))]
        if taken:
            self.wake()
        return taken

    def clear(self) -> None:
        """Forget all that wait."""
        self._inputs.clear()
        self._calls.clear()

    def wake(self) -> None:
        """Let those who wait for tasks, or for room, look again."""
        self._changed.set()

    async def room(self) -> None:
        """Wait until it isn't full any more.

        Raises:
            QueueFull: Nobody takes from it.
        """
        if not self.running:
            await asyncio.sleep(0)  # a start() that was scheduled just now gets its turn
        while self.full:
            if not self.running:
                raise QueueFull(
                    f"{len(self._calls)} tasks are waiting and the queue holds {self._queue_size}: "
                    "start the batch first and add while it runs, or give a larger queue_size"
                )
            self._changed.clear()
            await self._changed.wait()

    async def more(self, timeout_s: float | None, planning: asyncio.Lock) -> bool:
        """Wait for a task; False where none comes in time.

        Args:
            timeout_s: Seconds; None for ever.
            planning: Held by who plans just now, over a large folder maybe, and is about to add something.
        """
        self._changed.clear()
        if len(self):
            return True
        try:
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        except asyncio.TimeoutError:
            async with planning:
                pass
        return len(self) > 0
