"""The priority queue: ready heaps, a delayed heap, and degradation that wears off with age.

Lower numbers run first, ties in the order of adding. A retry degrades its task by a step; every `aging_s`
seconds of waiting take one step back, down to the task's own priority and never below.

Tasks that wait for the same are a group and have a heap of their own, so that thousands that may not start are passed
over by one look. Whoever reads gets all groups as one order.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from trax_ray.core.groups import Group, Shut

__all__ = ["Order", "TaskQueue"]

Order = tuple[int, ...]
"""Place among those of one priority, unique; lower first. More than one number orders within a group."""

ALONE = Group()
"""Of tasks that wait for nothing but their turn, and a core."""

STALE_MOST = 64
"""So many stale items are never worth a search."""


@dataclass(slots=True)
class _Entry:
    sequence: Order
    priority: int
    degradation: int
    since: float
    stamp: int
    ready: bool
    group: Group


_Item = tuple[int, Order, int, str]
"""Priority that counts, place among equals, stamp, id."""


@dataclass(slots=True)
class _Line:
    """The ready tasks of a group: a heap, and how many of its items aren't stale."""

    heap: list[_Item] = field(default_factory=list)
    ready: int = 0


@dataclass(slots=True)
class _Reading:
    """A group that somebody reads: so many of it are still looked at, None for all."""

    group: Group
    heap: list[_Item]
    left: int | None


class TaskQueue:
    """Ids of tasks that are ready or delayed.

    Heap items carry the stamp of the entry that they were pushed for; an item with an older stamp is stale
    and is dropped where it surfaces, so removing and re-ranking cost no search.
    """

    def __init__(self, aging_s: float) -> None:
        self._aging_s = aging_s
        self._entries: dict[str, _Entry] = {}
        self._lines: dict[Group, _Line] = {}
        self._delayed: list[tuple[float, Order, int, str]] = []
        self._aging: list[tuple[float, Order, int, str]] = []
        self._stamp = 0
        self._ready_count = 0

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def ready_count(self) -> int:
        """Tasks that could start now."""
        return self._ready_count

    @property
    def delayed_count(self) -> int:
        """Tasks that wait for their time."""
        return len(self._entries) - self._ready_count

    def push(
        self,
        task_id: str,
        *,
        sequence: Order,
        priority: int,
        degradation: int,
        since: float,
        group: Group = ALONE,
    ) -> None:
        """Make a task ready.

        Args:
            task_id: Must not be in the queue.
            sequence: Breaks ties.
            priority: The task's own priority.
            degradation: Steps that retries have added.
            since: When it became ready, seconds; degradation wears off from here.
            group: What it waits for besides its turn.
        """
        entry = self._insert(task_id, _Entry(sequence, priority, degradation, since, 0, ready=True, group=group))
        self._count(entry, 1)
        self._rank(task_id, entry, since)

    def push_delayed(
        self,
        task_id: str,
        *,
        sequence: Order,
        priority: int,
        degradation: int,
        ready_at: float,
        group: Group = ALONE,
    ) -> None:
        """Make a task wait until `ready_at`, seconds."""
        entry = self._insert(task_id, _Entry(sequence, priority, degradation, ready_at, 0, ready=False, group=group))
        heapq.heappush(self._delayed, (ready_at, sequence, entry.stamp, task_id))

    def remove(self, task_id: str) -> None:
        """Take a task out, ready or delayed; unknown ids are an error."""
        entry = self._entries.pop(task_id)
        if entry.ready:
            self._count(entry, -1)

    def advance(self, now: float) -> list[str]:
        """Let time pass: delayed tasks whose time has come get ready, degradation wears off.

        Returns:
            Ids that got ready, in the order in which their time came.
        """
        arrived = []
        while self._delayed and self._delayed[0][0] <= now:
            _, _, stamp, task_id = heapq.heappop(self._delayed)
            entry = self._live(task_id, stamp)
            if entry is not None:
                entry.ready = True
                self._count(entry, 1)
                self._rank(task_id, entry, now)
                arrived.append(task_id)
        while self._aging and self._aging[0][0] <= now:
            _, _, stamp, task_id = heapq.heappop(self._aging)
            entry = self._live(task_id, stamp)
            if entry is not None:
                self._rank(task_id, entry, now)
        return arrived

    def peek(self, count: int) -> list[str]:
        """The next `count` tasks to start, best first, without taking them."""
        return list(islice(self.in_order(), count))

    def in_order(self, shut: Shut | None = None, most: int | None = None) -> Iterator[str]:
        """Ready tasks, best first, without taking them. Each costs something only when it is asked for.

        The queue may not change while somebody reads.

        Args:
            shut: Groups that are passed over; more may be put in while somebody reads.
            most: So many of a group are looked at; None for all.
        """
        # In a heap nobody comes before its parent: the next one is always among the children of those seen, and the
        # heads of the lines. Stamps differ, so that comparing goes no further.
        open_ones = [
            (line.heap[0], 0, _Reading(group, line.heap, most))
            for group, line in list(self._lines.items())
            if self._drop_stale(group, line)
        ]
        heapq.heapify(open_ones)
        while open_ones:
            item, at, reading = heapq.heappop(open_ones)
            if reading.left == 0 or (shut is not None and reading.group in shut):
                continue
            heap = reading.heap
            for child in range(2 * at + 1, min(2 * at + 3, len(heap))):
                heapq.heappush(open_ones, (heap[child], child, reading))
            if self._live(item[3], item[2]) is not None:
                if reading.left is not None:
                    reading.left -= 1
                yield item[3]

    def _drop_stale(self, group: Group, line: _Line) -> bool:
        """Drop the stale items at the top, and all of them where they are the most: those below may never surface.

        Returns:
            Whether anything is left; a line without is forgotten.
        """
        while line.heap and self._live(line.heap[0][3], line.heap[0][2]) is None:
            heapq.heappop(line.heap)
        if len(line.heap) > 2 * line.ready + STALE_MOST:
            line.heap = [item for item in line.heap if self._live(item[3], item[2]) is not None]
            heapq.heapify(line.heap)
        if not line.heap:
            del self._lines[group]
        return bool(line.heap)

    def next_due(self) -> float | None:
        """When the next delayed task gets ready, seconds; None where none waits."""
        while self._delayed and self._live(self._delayed[0][3], self._delayed[0][2]) is None:
            heapq.heappop(self._delayed)
        return self._delayed[0][0] if self._delayed else None

    def effective_priority(self, task_id: str, now: float) -> int:
        """The priority that counts at `now`: the task's own plus what is left of its degradation."""
        return self._effective(self._entries[task_id], now)[0]

    def _insert(self, task_id: str, entry: _Entry) -> _Entry:
        if task_id in self._entries:
            raise ValueError(f"task {task_id} is in the queue already")
        self._stamp += 1
        entry.stamp = self._stamp
        self._entries[task_id] = entry
        return entry

    def _count(self, entry: _Entry, more: int) -> None:
        self._ready_count += more
        self._lines.setdefault(entry.group, _Line()).ready += more

    def _live(self, task_id: str, stamp: int) -> _Entry | None:
        entry = self._entries.get(task_id)
        return entry if entry is not None and entry.stamp == stamp else None

    def _effective(self, entry: _Entry, now: float) -> tuple[int, int]:
        worn = min(entry.degradation, int(max(0.0, now - entry.since) / self._aging_s))
        return entry.priority + entry.degradation - worn, worn

    def _rank(self, task_id: str, entry: _Entry, now: float) -> None:
        """(Re)place a ready task in the heap, and note when its degradation wears off further."""
        self._stamp += 1
        entry.stamp = self._stamp
        effective, worn = self._effective(entry, now)
        heapq.heappush(self._lines[entry.group].heap, (effective, entry.sequence, entry.stamp, task_id))
        if worn < entry.degradation:
            due = entry.since + (worn + 1) * self._aging_s
            # Rounding may put `due` at or before `now` with the step not yet worn off; look again a little later.
            heapq.heappush(self._aging, (max(due, now + 1e-3), entry.sequence, entry.stamp, task_id))
