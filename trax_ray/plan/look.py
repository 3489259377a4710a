"""A look at the recordings of a plan before it runs: how long they are, which are copies, which can't be heard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from trax_ray.codes import FailureCode
from trax_ray.core.task import BatchTask, TaskType
from trax_ray.media.probing import Probed, Wanted, probe_all
from trax_ray.plan.lengths import length_of
from trax_ray.plan.plan import Plan
from trax_ray.plan.steps import longest_first
from trax_ray.store.uris import is_object_uri

__all__ = ["DRY_RUN_S", "RUN_S", "Look", "look_at", "to_do", "with_lengths"]

RUN_S = 10.0
"""How long the look before a run may take, seconds: what isn't looked at by then counts by its size."""

DRY_RUN_S = 120.0
"""How long it may take where it is what was asked for."""


@dataclass(frozen=True)
class Look:
    """What a look at the recordings that are to be done came to, by their paths.

    Args:
        found: What their headers say.
        copies: Of those that look like others: the first one that looks the same. Size, beginning, middle and end are
            compared; whether they are, their hashes tell when they are done.
    """

    found: Mapping[str, Probed] = field(default_factory=dict)
    copies: Mapping[str, str] = field(default_factory=dict)

    @property
    def silent(self) -> tuple[str, ...]:
        """Those without an audio track."""
        return tuple(path for path, each in self.found.items() if each.code == FailureCode.NO_AUDIO_STREAM)

    @property
    def broken(self) -> Mapping[str, str]:
        """Those that can't be decoded or read, with the code of the failure."""
        silent = set(self.silent)
        return {path: each.code for path, each in self.found.items() if each.code and path not in silent}


def to_do(plan: Plan) -> tuple[BatchTask, ...]:
    """The tasks that the plan's recordings still need: not of those that earlier runs brought to their end."""
    ended = {
        task.file_id for task in plan.wanted if task.task_type is TaskType.TRANSCRIBE and plan.past.has_ended(task)
    }
    return tuple(task for task in plan.tasks if task.file_id not in ended)


def look_at(plan: Plan, *, within_s: float, processes: int, tell: Callable[[int, int], None] | None = None) -> Look:
    """Look at the headers of all files that are to be done.

    Args:
        plan: The plan.
        within_s: Seconds that it may take.
        processes: How many files at a time.
        tell: Called with how many were looked at so far and how many there are, from any thread.
    """
    wanted = (task for task in to_do(plan) if task.task_type.value == plan.spec.task and not task.data.get("missing"))
    paths = ((str(task.data.get("file_path") or ""), task) for task in wanted)
    # What lies in an object store would have to be fetched first: it counts by its size.
    files = {path: Wanted(path, _size(task)) for path, task in paths if path and not is_object_uri(path)}
    count = len(files)
    found = probe_all(
        list(files.values()),
        within_s=within_s,
        processes=processes,
        tell=None if tell is None else lambda looked_at: tell(looked_at, count),
    )
    # In the order of the plan, so that it is always the same one that counts as the original.
    ordered = {path: found[path] for path in files if path in found}
    return Look(ordered, _copies(ordered))


def _size(task: BatchTask) -> int:
    """A file's size; a conversion weighs less than its file, and what isn't empty may not look so."""
    return int(task.data.get("size_bytes") or 0) or (1 if task.task_type is TaskType.PREPROCESS else 0)


def _copies(found: Mapping[str, Probed]) -> dict[str, str]:
    first: dict[str, str] = {}
    copies: dict[str, str] = {}
    for path, each in found.items():
        if each.mark and first.setdefault(each.mark, path) != path:
            copies[path] = first[each.mark]
    return copies


def with_lengths(plan: Plan, look: Look) -> Plan:
    """The plan with what was found in its tasks, the longest first by it."""
    lengths = {path: each.audio_s for path, each in look.found.items() if each.audio_s is not None}
    if not lengths:
        return plan
    recordings: dict[str, list[BatchTask]] = {}
    for task in plan.tasks:
        recordings.setdefault(task.file_id, []).append(_told(task, lengths))
    return replace(plan, tasks=tuple(longest_first(recordings.values(), plan.spec, length_of)))


def _told(task: BatchTask, lengths: Mapping[str, float]) -> BatchTask:
    length_s = lengths.get(str(task.data.get("file_path") or ""))
    if length_s is None or task.task_type is TaskType.DOWNLOAD:
        return task
    return replace(task, data={**task.data, "audio_s": round(length_s, 3)})


def of_unknown_length(tasks: Iterable[BatchTask]) -> list[BatchTask]:
    """Those whose length is known by their size at most."""
    return [task for task in tasks if task.data.get("audio_s") is None]
