"""The parts of a long recording as tasks: chunks for a model of this machine, requests to a service."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from trax_ray.core.ids import fingerprint_of
from trax_ray.core.task import BatchTask
from trax_ray.kinds.base import Kind
from trax_ray.kinds.reading import Stretch
from trax_ray.kinds.recording import Part

__all__ = ["plan_parts"]


def plan_parts(
    kind: Kind[Part],
    task: BatchTask,
    part: Part,
    cuts: Sequence[Stretch],
    *,
    prices_usd: Sequence[float | None] = (),
    voice: tuple[int, int] = (0, 1),
) -> tuple[BatchTask, ...]:
    """The tasks that transcribe the parts of a recording. What it depends on has been done, and they get it too.

    Args:
        kind: What is done with each.
        task: The recording's own task, which joins them.
        part: The whole recording as one part.
        cuts: Start and end of each part, seconds, in order, each beginning where the one before it ends.
        prices_usd: What each costs, about, as far as it is known; none where nothing is paid.
        voice: Which speaker these are of, from 0, and how many speakers have a channel of their own. Parts are numbered
            in turns, so that those that are begun together end together.

    Raises:
        ValueError: They overlap or leave gaps: something would be transcribed twice, or not at all.
    """
    if any(end_s != start_s for (_, end_s), (start_s, _) in pairwise(cuts)):
        raise ValueError(f"expected parts without gaps or overlaps, got {list(cuts)}")
    total_s = cuts[-1][1] - cuts[0][0] if cuts else 0.0
    children = []
    for at, (start_s, end_s) in enumerate(cuts):
        share = ((end_s - start_s) / total_s if total_s > 0 else 1.0) / voice[1]
        number = at * voice[1] + voice[0]
        data = Part(
            file_path=part.file_path,
            start_s=start_s,
            end_s=end_s,
            name=part.name,
            language=part.language,
            model=part.model,
            prompt=part.prompt,
            size_bytes=round(part.size_bytes * share),
            channel=part.channel,
            estimate_usd=prices_usd[at] if prices_usd else None,
        )
        identity = [start_s, end_s, *([] if part.channel is None else [part.channel])]
        children.append(
            kind.task(
                data,
                id=f"{task.id}/{number}",
                file_id=task.file_id,
                fingerprint=fingerprint_of(identity, of=task.fingerprint),
                priority=task.priority,
                max_retries=task.max_retries,
                depends_on=task.depends_on,
                parent=task.id,
                chunk=number,
                provider=task.provider,
                resources=task.resources,
            )
        )
    return tuple(children)
