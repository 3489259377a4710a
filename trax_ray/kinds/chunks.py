"""The chunks of a long recording as tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from trax_ray.core.ids import digest
from trax_ray.core.task import BatchTask

__all__ = ["plan_chunks"]


def plan_chunks(task: BatchTask, cuts: Sequence[tuple[float, float]]) -> tuple[BatchTask, ...]:
    """The tasks that transcribe the chunks of a long recording.

    Args:
        task: The recording's own task, which assembles them.
        cuts: Start and end of each chunk, seconds, in order, each beginning where the one before it ends.

    Raises:
        ValueError: They overlap or leave gaps: something would be transcribed twice, or not at all.
    """
    if any(end_s != start_s for (_, end_s), (start_s, _) in pairwise(cuts)):
        raise ValueError(f"expected chunks without gaps or overlaps, got {list(cuts)}")
    total_s = cuts[-1][1] - cuts[0][0] if cuts else 0.0
    children = []
    for number, (start_s, end_s) in enumerate(cuts):
        data = {key: value for key, value in task.data.items() if key not in ("reference", "extra")}
        data |= {"start_s": start_s, "end_s": end_s}
        if total_s > 0:
            data["size_bytes"] = round(float(task.data.get("size_bytes") or 0) * (end_s - start_s) / total_s)
        children.append(
            replace(
                task,
                id=f"{task.id}/{number}",
                data=data,
                depends_on=(),
                parent=task.id,
                chunk=number,
                fingerprint=digest([task.fingerprint, start_s, end_s]),
            )
        )
    return tuple(children)
