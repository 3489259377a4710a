"""Which places of a batch are most worth hearing.

Readers of transcripts in which every doubted word is marked say that checking all of them takes as long as listening to
everything. So places are ranked by one figure: about how many words are wrong or missing there.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trax_ray.codes import WarningCode
from trax_ray.core.writing import units

__all__ = ["MOST_SPOTS", "Ranking", "Spot", "spots_of"]

MOST_SPOTS = 300
"""Places that a ranking holds: more than a person hears."""

_WORDS_PER_S = 2.5
"""How fast people speak."""

_REPEATED = 0.8
"""Share of the words that are wrong where the same is said again and again."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in a recording.

    Args:
        score: About how many words are wrong or missing there.
        file: Number of the input, from 0, in the order of adding.
        start_s: Where it begins, seconds.
        end_s: Where it ends.
        text: What was recognised; empty where nothing was.
        reason: Code of the warning: `coverage`, `low_confidence` or `repetition`.
        confidence: Of the segment, 0-1; None where it isn't known.
    """

    score: float
    file: int
    start_s: float
    end_s: float
    text: str
    reason: str
    confidence: float | None = None


def spots_of(
    file: int, segments: Iterable[Mapping[str, Any]], uncovered: Iterable[tuple[float, float]]
) -> Iterator[Spot]:
    """The places of one transcript that are worth hearing, in no order.

    Args:
        file: Number of the input.
        segments: Rows of the table segments.
        uncovered: Stretches of speech without words, seconds.
    """
    for start, end in uncovered:
        yield Spot((end - start) * _WORDS_PER_S, file, start, end, "", WarningCode.COVERAGE.value)
    for row in segments:
        if not row["warnings"] or row["start_s"] is None:
            continue
        confidence, text = row["confidence"], row["text"]
        words = len(units(text))
        start, end = row["start_s"], row["end_s"] if row["end_s"] is not None else row["start_s"]
        if WarningCode.REPETITION in row["warnings"].split(","):
            yield Spot(words * _REPEATED, file, start, end, text, WarningCode.REPETITION.value, confidence)
        elif confidence is not None:
            score = words * (1.0 - confidence)
            yield Spot(score, file, start, end, text, WarningCode.LOW_CONFIDENCE.value, confidence)


class Ranking:
    """The worst places of all that were seen."""

    def __init__(self, most: int = MOST_SPOTS) -> None:
        self.seen = 0
        self._most = most
        self._heap: list[tuple[float, int, float, int, Spot]] = []

    def add(self, spot: Spot) -> None:
        """See a place. Of equal ones the earlier one is worse: it is heard first."""
        self.seen += 1
        entry = (spot.score, -spot.file, -spot.start_s, -self.seen, spot)
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def worst_first(self) -> list[Spot]:
        """As many as the ranking holds."""
        return [entry[-1] for entry in sorted(self._heap, reverse=True)]
