"""A recording is read once, to find out whether it is to be cut, and where."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trax_ray.kinds.assignment import Progress
from trax_ray.media.wanted import ANYTHING, Wanted

if TYPE_CHECKING:
    from trax_ray.media.decode import Audio
    from trax_ray.media.medium import Readable

__all__ = ["Reading", "Stretch", "read_through", "read_stretch"]

Stretch = tuple[float, float]
"""A part of a recording: start and end, seconds."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What reading a recording, or a part of one, brought.

    Args:
        duration_s: Its length, seconds.
        warnings: What the decoder had to say.
        audio: float32, shape (n_samples,), mono, [-1, 1], at 16,000 Hz; None where it is longer than was asked for.
        cuts: Where it is cut then, in order; empty where it isn't.
    """

    duration_s: float
    warnings: tuple[str, ...]
    audio: Audio | None = None
    cuts: tuple[Stretch, ...] = ()


def read_through(path: Readable, limit_s: float, wanted: Wanted = ANYTHING) -> Generator[Progress, None, Reading]:
    """Read a recording from end to end.

    Args:
        path: It, or what was made from it.
        limit_s: The longest part, seconds. No pause is looked for in what is no longer.
        wanted: What of it is listened to.
    """
    import numpy as np

    from trax_ray.media.chunking import ChunkPlanner
    from trax_ray.media.decode import stream

    planner: ChunkPlanner | None = None
    kept: list[Audio] = []
    with stream(path, wanted=wanted) as blocks:
        for block in blocks:
            kept.append(block)
            if blocks.duration_s > limit_s:
                planner = planner or ChunkPlanner(limit_s)
                for each in kept:
                    planner.feed(each)
                kept.clear()
            yield Progress(0.0)
        duration_s, warnings = blocks.duration_s, tuple(blocks.warnings)
    if planner is None:
        return Reading(duration_s, warnings, audio=np.concatenate(kept))
    return Reading(duration_s, warnings, cuts=tuple((span.start_s, span.end_s) for span in planner.finish()))


def read_stretch(path: Readable, stretch: Stretch, wanted: Wanted = ANYTHING) -> Reading:
    """Read a part of a recording."""
    from trax_ray.media.decode import stream

    with stream(path, start_s=stretch[0], end_s=stretch[1], wanted=wanted) as blocks:
        audio = blocks.rest()
        return Reading(blocks.duration_s, tuple(blocks.warnings), audio)
