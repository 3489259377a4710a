"""How far downloads run ahead of what needs them: the disk as a limit. Figures in, which tasks may start out.

Media lie on the disk from their download to the transcript. What is fetched, and what waits for its transcription,
stays within a bound: by the sizes that servers declare, or that have come, else by the usual size in this folder. A
recording that is larger than the bound is fetched while nothing else is there, and where nothing else could ever go on
one download may exceed it: slow, not stuck. What an interrupted download has left isn't counted until that goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from trax_ray.core.groups import Shut
from trax_ray.core.task import BatchTask, TaskType

__all__ = ["MEGABYTE", "Coming", "Disk", "bound_mb", "is_prefetch", "within"]

MEGABYTE = 10**6

SHARE_OF_FREE = 0.25
MOST_MB = 5_000

USUAL_BYTES = 50 * MEGABYTE
"""What a recording is reckoned with before any was fetched: an hour of a podcast."""


def bound_mb(free_bytes: int) -> int:
    """The bound where nobody says one: a quarter of the free disk, and 5 GB at the most."""
    return max(1, min(MOST_MB, int(free_bytes * SHARE_OF_FREE / MEGABYTE)))


def is_prefetch(task: BatchTask) -> bool:
    """Whether a task fetches media that go again. What a user gets isn't bounded: it is what was asked for."""
    return task.task_type is TaskType.DOWNLOAD and not task.data.get("output")


@dataclass(frozen=True, slots=True)
class Coming:
    """What is known of a download that runs, bytes; `total_bytes` is 0 where the server doesn't say."""

    came_bytes: int = 0
    total_bytes: int = 0

    def size_bytes(self, expected_bytes: int) -> int:
        """What it will take; servers that lie are believed until more has come."""
        return max(self.came_bytes, self.total_bytes or expected_bytes)


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk of a batch.

    Args:
        bound_bytes: What media may take; None sets no bound.
        held_bytes: What those take that wait for their transcription.
        usual_bytes: What is expected of a download of which nothing is known.
        running: Downloads that run.
        coming: What is known of them, by their tasks' ids.
    """

    bound_bytes: int | None
    held_bytes: int
    usual_bytes: int
    running: tuple[BatchTask, ...] = ()
    coming: Mapping[str, Coming] | None = None

    @property
    def left_bytes(self) -> float:
        """What more may be fetched."""
        if self.bound_bytes is None:
            return float("inf")
        coming = self.coming or {}
        sizes = (coming.get(task.id, Coming()).size_bytes(self.expected_bytes(task)) for task in self.running)
        return self.bound_bytes - self.held_bytes - sum(sizes)

    @property
    def empty(self) -> bool:
        """Whether nothing is there and nothing comes."""
        return not self.held_bytes and not self.running

    def expected_bytes(self, task: BatchTask) -> int:
        """What is expected of a download that hasn't begun: what is declared where it was found, or the usual."""
        return int(task.data.get("size_bytes") or 0) or self.usual_bytes

    def keeps_back(self, task: BatchTask) -> bool:
        """Whether a download has to wait, were it the next one."""
        return not self.empty and self.expected_bytes(task) > self.left_bytes


def within(tasks: Iterable[BatchTask], disk: Disk, may_exceed: Callable[[], bool], shut: Shut) -> Iterator[BatchTask]:
    """Those of the tasks, in their order, that the disk lets start; only downloads are kept back.

    Args:
        tasks: Those that may start as far as all else goes.
        disk: The disk.
        may_exceed: Asked once, where a download is kept back and nothing else may start: whether nothing else could
            ever go on without it.
        shut: Told where no more are to be fetched.
    """
    left, empty, others = disk.left_bytes, disk.empty, False
    kept_back: BatchTask | None = None
    for task in tasks:
        if not is_prefetch(task):
            others = True
            yield task
        elif kept_back is None and (empty or disk.expected_bytes(task) <= left):
            left, empty, others = left - disk.expected_bytes(task), False, True
            yield task
        else:  # no smaller one behind it is taken before it: it would wait for ever
            kept_back = kept_back or task
            shut.prefetch = True
    if kept_back is not None and not others and may_exceed():
        yield kept_back
