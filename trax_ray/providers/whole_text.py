"""A service's text and its segments, brought together where the segments hold less: the text wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trax_ray.media.speech import Segment, Span

__all__ = ["with_all_of"]

CUE_LEAST_S = 0.1
"""A gap of less than this holds no segment of its own."""

TOLERANCE = 1.1
"""How many times the segments' letters a text may have that is only written otherwise, such as `20` for `twenty`."""


def with_all_of(
    text: str, segments: Sequence[Segment], speech: Sequence[Span], duration_s: float
) -> tuple[Segment, ...] | None:
    """The segments, with what only the text holds in the gaps where it was said.

    Args:
        text: All that was recognised, as the service says.
        segments: At least one, in order of time.
        speech: Where speech was found in what was sent.
        duration_s: Length of what was sent.

    Returns:
        The same segments where nothing is missing; None where something is, and nobody knows where.
    """
    text = _flat(text)
    places = _places(text, [_flat(each.text) for each in segments])
    if places is None:
        letters = sum(_letters(each.text) for each in segments)
        return None if _letters(text) > TOLERANCE * letters + 2 else tuple(segments)
    whole: list[Segment] = []
    at, free_from_s = 0, speech[0].start_s if speech else 0.0
    for segment, (begins, ends) in zip(segments, places, strict=True):
        _put(whole, text[at:begins], free_from_s, segment.start_s)
        if _letters(text[at:begins]) and not whole:
            segment = replace(segment, text=f"{text[at:begins].strip()} {segment.text}")
        whole.append(segment)
        at, free_from_s = ends, segment.end_s
    _put(whole, text[at:], free_from_s, speech[-1].end_s if speech else duration_s)
    return tuple(whole)


def _put(whole: list[Segment], missing: str, start_s: float, end_s: float) -> None:
    """Add what is missing as a segment of its own, or to the one before where there is no room."""
    if not _letters(missing):
        return
    if end_s - start_s >= CUE_LEAST_S:
        whole.append(Segment(start_s, end_s, missing.strip()))
    elif whole:
        whole[-1] = replace(whole[-1], text=f"{whole[-1].text} {missing.strip()}")


def _places(text: str, said: Sequence[str]) -> list[tuple[int, int]] | None:
    """Where in the text each segment is, in order; None where one isn't."""
    places, at = [], 0
    for each in said:
        begins = text.find(each, at)
        if begins < 0:
            return None
        at = begins + len(each)
        places.append((begins, at))
    return places


def _flat(text: str) -> str:
    return " ".join(text.split())


def _letters(text: str) -> int:
    return sum(character.isalnum() for character in text)
