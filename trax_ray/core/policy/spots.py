"""Which places of which recordings a person should hear first: segments in, a ranking out. Pure.

What counts is how much a person may mend there: the words that are probably wrong or missing. Of a segment that is its
words times the model's own doubt, of a repetition nearly all of its words, of speech without words what people say in
that time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trax_ray.codes import WarningCode
from trax_ray.core.writing import units

__all__ = ["WORDS_PER_S", "Spot", "doubtful_words", "rank_spots", "spots_of", "spread"]

WORDS_PER_S = 2.5
"""How fast people speak: about 150 words a minute."""

JOIN_S = 2.0
"""Spots of one recording that are no further apart are heard in one go, seconds."""

REPEATED = 0.9
"""Share of the words of a repetition that nobody said."""

PER_FILE = 3
"""Spots of one recording among the first that are shown: one bad recording doesn't hide the others."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A stretch of a recording that is worth hearing.

    Args:
        file_id: The recording's.
        start_s: Where it begins, seconds.
        end_s: Where it ends.
        text: What was recognised there; empty for speech without words.
        reasons: Codes of warnings, each once, in the order in which they come.
        words: How many words are probably wrong or missing: what spots are ranked by.
    """

    file_id: str
    start_s: float
    end_s: float
    text: str
    reasons: tuple[str, ...]
    words: float


def spots_of(
    file_id: str, segments: Iterable[Sequence[Any]], uncovered: Iterable[tuple[float, float]] = ()
) -> list[Spot]:
    """The spots of one recording, in the order of time; those close to each other are one.

    Args:
        file_id: The recording's.
        segments: Of each: start_s, end_s, text, confidence and warnings (codes joined by commas), as in the table.
        uncovered: Stretches of speech without words, (start, end) in seconds.
    """
    found = sorted(
        [*_doubted(file_id, segments), *_bare(file_id, uncovered)], key=lambda spot: (spot.start_s, spot.end_s)
    )
    joined: list[Spot] = []
    for spot in found:
        if joined and spot.start_s - joined[-1].end_s <= JOIN_S:
            joined[-1] = _together(joined[-1], spot)
        else:
            joined.append(spot)
    return joined


def rank_spots(spots: Iterable[Spot]) -> list[Spot]:
    """The same, those first at which most words are probably wrong or missing; ties as they came."""
    return sorted(spots, key=lambda spot: -spot.words)


def spread(ranked: Iterable[Spot], count: int, *, per_file: int = PER_FILE) -> list[Spot]:
    """The first `count` of a ranking, of one recording no more than `per_file` of them."""
    taken: list[Spot] = []
    of_file: Counter[str] = Counter()
    for spot in ranked:
        if len(taken) >= count:
            break
        if of_file[spot.file_id] < per_file:
            of_file[spot.file_id] += 1
            taken.append(spot)
    return taken


def doubtful_words(row: Mapping[str, Any]) -> float:
    """How many words of a recording are probably wrong or missing: what recordings are ranked by.

    Args:
        row: Of `files`: words, measured_accuracy, estimated_accuracy (percent), uncovered_s. What is null counts as
            nothing known, and adds nothing.

    Returns:
        Errors against the reference where there is one, else by the model's own doubt; and what people say in the
        seconds of speech that have no words.
    """
    words = float(row.get("words") or 0)
    accuracy = row.get("measured_accuracy")
    if accuracy is not None:
        return words * (100.0 - float(accuracy)) / 100.0
    estimated = row.get("estimated_accuracy")
    doubt = 0.0 if estimated is None else (100.0 - float(estimated)) / 100.0
    return words * doubt + WORDS_PER_S * float(row.get("uncovered_s") or 0.0)


def _doubted(file_id: str, segments: Iterable[Sequence[Any]]) -> Iterator[Spot]:
    """Segments with a warning of their own."""
    for start, end, said, confidence, warnings in segments:
        if not warnings:
            continue
        reasons = tuple(code for code in warnings.split(",") if code)
        text, start_s = said or "", start or 0.0
        share = 1.0 - float(confidence) if confidence is not None else 0.0
        if WarningCode.REPETITION.value in reasons:
            share = max(share, REPEATED)
        yield Spot(file_id, start_s, end or start_s, text, reasons, len(units(text)) * share)


def _bare(file_id: str, uncovered: Iterable[tuple[float, float]]) -> Iterator[Spot]:
    """Speech without words."""
    for start_s, end_s in uncovered:
        yield Spot(file_id, start_s, end_s, "", (WarningCode.COVERAGE.value,), WORDS_PER_S * (end_s - start_s))


def _together(first: Spot, second: Spot) -> Spot:
    return replace(
        first,
        end_s=max(first.end_s, second.end_s),
        text=" ".join(text for text in (first.text, second.text) if text),
        reasons=tuple(dict.fromkeys((*first.reasons, *second.reasons))),
        words=first.words + second.words,
    )
