"""Which spots and recordings are worth a look."""

from __future__ import annotations

from typing import Any

import pytest

from trax_ray.core.policy.spots import Spot, doubtful_words, rank_spots, spots_of, spread


def segment(
    start_s: float, end_s: float, text: str, warnings: str = "low_confidence", confidence: float = 0.4
) -> tuple[Any, ...]:
    return start_s, end_s, text, confidence, warnings


def test_segments_without_a_warning_are_no_spots() -> None:
    assert spots_of("a", [segment(0, 2, "all is well", warnings=""), segment(3, 4, "fine", warnings="")]) == []


def test_what_counts_is_how_many_words_are_probably_wrong() -> None:
    long, short = segment(0, 9, "one two three four five six"), segment(50, 51, "seven", confidence=0.1)
    ranked = rank_spots(spots_of("a", [short, long]))
    assert [(spot.text, round(spot.words, 2)) for spot in ranked] == [
        ("one two three four five six", 3.6),
        ("seven", 0.9),
    ]


def test_of_a_repetition_nearly_all_words_are_wrong() -> None:
    (spot,) = spots_of("a", [segment(0, 9, "so so so so so so so so so so", warnings="repetition", confidence=0.95)])
    assert spot.words == pytest.approx(9.0)


def test_speech_without_words_is_a_spot() -> None:
    (spot,) = spots_of("a", [], [(10.0, 14.0)])
    assert spot == Spot("a", 10.0, 14.0, "", ("coverage",), 10.0)


def test_what_lies_close_together_is_heard_in_one_go() -> None:
    rows = [segment(0, 2, "one two"), segment(3, 4, "three"), segment(20, 21, "four")]
    first, second = spots_of("a", rows, [(4.5, 6.5)])
    assert (first.start_s, first.end_s, first.text) == (0, 6.5, "one two three")
    assert first.reasons == ("low_confidence", "coverage")
    assert first.words == pytest.approx(1.2 + 0.6 + 5.0)
    assert second.text == "four"


def test_one_bad_recording_does_not_hide_the_others() -> None:
    spots = [Spot("bad", at, at + 1, "", ("coverage",), 100 - at) for at in range(9)]
    spots.append(Spot("other", 0, 1, "", ("coverage",), 1.0))
    assert [spot.file_id for spot in spread(rank_spots(spots), 10)] == ["bad", "bad", "bad", "other"]
    assert len(spread(rank_spots(spots), 2)) == 2


def test_recordings_are_ranked_by_their_errors_where_there_is_a_reference() -> None:
    row = {"words": 200, "estimated_accuracy": 80.0, "measured_accuracy": None, "uncovered_s": 4.0}
    assert doubtful_words(row) == pytest.approx(40 + 10)
    assert doubtful_words(row | {"measured_accuracy": 99.0}) == pytest.approx(2)
    assert doubtful_words({}) == 0.0
