"""Numbers in, metrics and warnings out."""

from __future__ import annotations

import random
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trax_ray.core.policy.quality import (
    QualityTotals,
    accuracy_percent,
    assess,
    compression_ratio,
    repeats,
    uncovered,
    word_error_rate,
)

quick = settings(max_examples=100, deadline=None)

QUALITY_METRICS = {
    "avg_accuracy",
    "accuracy_source",
    "measured_accuracy",
    "estimated_accuracy",
    "avg_accuracy_improvement",
    "content_preservation_rate",
    "low_confidence_segments",
    "no_speech_count",
    "audio_s",
    "x_realtime",
    "error_rate",
    "recovered_count",
    "warnings",
    "by_task_type",
    "enhancement",
}
"""As DESIGN names them: users and the report rely on each."""

ASKED = {"succeeded": 0, "failed": 0, "elapsed_s": 0.0}

metrics = st.fixed_dictionaries(
    {},
    optional={
        "duration_s": st.none() | st.floats(0, 1e6),
        "processing_s": st.none() | st.floats(0, 1e6),
        "speech_s": st.none() | st.floats(0, 1e6),
        "estimated_accuracy": st.none() | st.floats(0, 100),
        "wer_errors": st.none() | st.integers(0, 100),
        "wer_words": st.none() | st.integers(0, 100),
        "low_confidence_segments": st.integers(0, 5),
        "no_speech": st.booleans(),
        "warnings": st.lists(st.sampled_from("abc"), max_size=4),
        "something_else": st.text(),
        "segments_preserved": st.integers(0, 9),
        "reference_words": st.none() | st.integers(0, 9),
        "errors_before": st.integers(0, 9),
        "edits": st.dictionaries(st.sampled_from("ab"), st.integers(0, 3)),
    },
)
entries = st.tuples(st.sampled_from(["transcribe", "enhance"]), metrics, st.booleans())


def test_word_error_rate_and_accuracy() -> None:
    assert word_error_rate(1, 4) == 0.25
    assert word_error_rate(6, 4) == 1.5
    assert word_error_rate(0, 0) is None
    assert word_error_rate(3, 0) is None
    assert accuracy_percent(1, 4) == 75.0
    assert accuracy_percent(0, 4) == 100.0
    assert accuracy_percent(6, 4) == 0.0
    assert accuracy_percent(3, 0) is None


def test_compression_ratio() -> None:
    assert compression_ratio("") == 0.0
    assert compression_ratio("one two three four " * 30) > 2.4
    letters = random.Random(1)
    assert compression_ratio("".join(letters.choices(string.ascii_letters, k=500))) < 1.5
    assert compression_ratio("\udce9 a name that isn't UTF-8") > 0


def test_a_good_transcript() -> None:
    judged = assess("the quick brown fox", [(2.0, 0.9), (6.0, 0.8), (1.0, None)], speech_s=8.0)
    assert judged == {
        "estimated_accuracy": pytest.approx(82.5),
        "low_confidence_segments": 0,
        "words": 4,
        "no_speech": False,
        "warnings": [],
    }


def test_confidence_is_weighed_by_duration_and_unknown_where_the_model_says_nothing() -> None:
    assert assess("a b c", [(1.0, None)], speech_s=2.0)["estimated_accuracy"] is None
    assert assess("a b c", [], speech_s=2.0)["estimated_accuracy"] is None
    assert assess("a b c", [(0.0, 0.2), (0.0, 0.4)], speech_s=2.0)["estimated_accuracy"] == pytest.approx(30.0)
    judged = assess("a b c", [(1.0, 0.49), (1.0, 0.5), (1.0, 0.1)], speech_s=2.0)
    assert judged["low_confidence_segments"] == 2
    assert judged["warnings"] == ["low_confidence"]


@pytest.mark.parametrize(
    ("text", "speech_s", "warnings"),
    [
        ("", 0.0, ["no_speech"]),
        ("you", 0.0, ["no_speech"]),
        ("", 3.0, ["empty_transcript"]),
        ("  \n ", 300.0, ["empty_transcript"]),
        ("two words", 4.999, []),
        ("two words", 5.0, ["sparse_transcript"]),
        ("just enough words", 6.0, []),
        ("thank you " * 11, 60.0, ["sparse_transcript"]),
        ("thank you " * 13, 40.0, ["repetition"]),
        ("thank you " * 13, 60.0, ["repetition", "sparse_transcript"]),
    ],
)
def test_warnings(text: str, speech_s: float, warnings: list[str]) -> None:
    judged = assess(text, [], speech_s=speech_s)
    assert judged["warnings"] == warnings
    assert judged["no_speech"] is (speech_s == 0.0)


def test_coverage_is_a_warning_where_there_is_speech() -> None:
    assert assess("a b c", [], speech_s=4.0, uncovered_s=2.0)["warnings"] == ["coverage"]
    assert assess("a b c", [], speech_s=4.0)["warnings"] == []
    assert assess("", [], speech_s=4.0, uncovered_s=4.0)["warnings"] == ["coverage", "empty_transcript"]


SAID = "one two three four five six seven eight nine ten"


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ([(0, 10, SAID), (12, 20, SAID)], []),
        ([(0.4, 9.6, SAID), (12.5, 19.5, SAID)], []),
        ([(0, 10, SAID)], [(12.0, 20.0)]),
        ([(0, 10, SAID), (12, 15, SAID)], [(15.5, 20.0)]),
        ([(0, 3, SAID), (6, 10, SAID), (12, 20, SAID)], [(3.5, 5.5)]),
        ([(0, 3, SAID), (5.4, 10, SAID), (12, 20, SAID)], []),
        ([(0, 20, "two words")], [(0.0, 10.0), (12.0, 20.0)]),
        ([(0, 20, SAID)], []),
        ([(0, 20, "今日はとても良い天気だった")], [(0.0, 10.0), (12.0, 20.0)]),
        ([(0, 20, "今日はとても良い天気なので公園まで散歩に行きましょうと彼は言ったそして出かけた")], []),
        ([], [(0.0, 10.0), (12.0, 20.0)]),
    ],
)
def test_speech_without_words(segments: list[tuple[float, float, str]], expected: list[tuple[float, float]]) -> None:
    assert uncovered([(0.0, 10.0), (12.0, 20.0)], segments) == expected


def test_short_pauses_do_not_part_what_is_uncovered_and_short_speech_is_none() -> None:
    assert uncovered([(0.0, 0.9), (1.2, 2.1)], []) == [(0.0, 2.1)]
    assert uncovered([(0.0, 0.9), (2.0, 2.9)], []) == []


def test_repetition_is_judged_stretch_by_stretch() -> None:
    """An hour of talk compresses well, and one loop in it doesn't show in the whole."""
    words = random.Random(3)
    vocabulary = ["".join(words.choices(string.ascii_lowercase, k=words.randint(2, 9))) for _ in range(300)]
    talk = " ".join(words.choices(vocabulary, weights=range(300, 0, -1), k=9000))
    assert compression_ratio(talk) > 2.4
    assert not repeats(talk)
    assert repeats(f"{talk} {'thank you very much ' * 30} {talk}")
    assert repeats("ありがとうございます" * 40)


def test_what_decoding_had_to_say_is_kept_each_once() -> None:
    judged = assess("", [], speech_s=0.0, media_warnings=["truncated", "clipping", "truncated"])
    assert judged["warnings"] == ["clipping", "no_speech", "truncated"]


# Totals


def test_the_keys_are_the_ones_that_users_were_promised() -> None:
    assert set(QualityTotals().metrics(**ASKED)) == QUALITY_METRICS


def test_of_nothing() -> None:
    found = QualityTotals().metrics(**ASKED)
    unknown = {name for name, value in found.items() if value is None}
    assert unknown == {
        "avg_accuracy",
        "accuracy_source",
        "measured_accuracy",
        "estimated_accuracy",
        "avg_accuracy_improvement",
        "content_preservation_rate",
        "enhancement",
    }
    assert {name: value for name, value in found.items() if value is not None} == {
        "low_confidence_segments": 0,
        "no_speech_count": 0,
        "audio_s": 0.0,
        "x_realtime": 0.0,
        "error_rate": 0.0,
        "recovered_count": 0,
        "warnings": {},
        "by_task_type": {},
    }


def test_totals_of_some_inputs() -> None:
    totals = QualityTotals()
    totals.add(
        "transcribe",
        {
            "duration_s": 100.0,
            "processing_s": 10.0,
            "speech_s": 30.0,
            "estimated_accuracy": 90.0,
            "low_confidence_segments": 2,
            "warnings": ["low_confidence", "truncated"],
        },
        recovered=True,
    )
    totals.add(
        "transcribe",
        {
            "duration_s": 20.5,
            "processing_s": 2.0,
            "speech_s": 10.0,
            "estimated_accuracy": 50.0,
            "warnings": ["low_confidence"],
        },
        recovered=False,
    )
    totals.add("transcribe", {"duration_s": 4.5, "no_speech": True, "warnings": ["no_speech"]}, recovered=False)
    totals.add("download", {"processing_s": 1.25}, recovered=False)
    found = totals.metrics(succeeded=4, failed=1, elapsed_s=12.5)
    assert found == {
        "avg_accuracy": 80.0,
        "accuracy_source": "estimated",
        "measured_accuracy": None,
        "estimated_accuracy": 80.0,
        "avg_accuracy_improvement": None,
        "content_preservation_rate": None,
        "low_confidence_segments": 2,
        "no_speech_count": 1,
        "audio_s": 125.0,
        "x_realtime": 10.0,
        "error_rate": 20.0,
        "recovered_count": 1,
        "warnings": {"low_confidence": 2, "no_speech": 1, "truncated": 1},
        "by_task_type": {
            "download": {"count": 1, "audio_s": 0.0, "processing_s": 1.25},
            "transcribe": {"count": 3, "audio_s": 125.0, "processing_s": 12.0},
        },
        "enhancement": None,
    }


def test_enhancement_in_numbers() -> None:
    """Three files with references, of which one got better and one worse, and one without."""
    totals = QualityTotals()
    worded = [(10, 4, 100), (2, 3, 50), (1, 1, 50), (0, 0, 0)]
    for before, after, words in worded:
        figures = {
            "segments": 10,
            "segments_preserved": 9,
            "windows": 2,
            "windows_kept": 1,
            "input_tokens": 1000,
            "cached_tokens": 600,
            "output_tokens": 100,
            "edits": {"punctuation": 5, "case": 2},
            "refused": {"number": 1},
        }
        more = {"errors_before": before, "errors_after": after, "reference_words": words} if words else {}
        totals.add("enhance", figures | more, recovered=False)
    found = totals.metrics(**ASKED)
    assert found["avg_accuracy_improvement"] == pytest.approx(2.5)
    assert found["content_preservation_rate"] == 90.0
    assert found["measured_accuracy"] is None, "of transcripts, as the recogniser made them"
    assert found["enhancement"] == {
        "files": 4,
        "files_improved": 1,
        "files_worsened": 1,
        "files_unchanged": 1,
        "accuracy_before": pytest.approx(93.5),
        "accuracy_after": pytest.approx(96.0),
        "windows": 8,
        "windows_kept": 4,
        "windows_asked_again": 0,
        "edits": {"case": 8, "punctuation": 20},
        "refused": {"number": 4},
        "input_tokens": 4000,
        "cached_tokens": 2400,
        "output_tokens": 400,
    }


def test_measured_is_pooled_over_words_and_comes_first_but_is_never_mixed_in() -> None:
    totals = QualityTotals()
    totals.add("transcribe", {"wer_errors": 1, "wer_words": 10, "speech_s": 1.0}, recovered=False)
    totals.add(
        "transcribe",
        {"wer_errors": 30, "wer_words": 90, "speech_s": 1.0, "estimated_accuracy": 40.0},
        recovered=False,
    )
    found = totals.metrics(**ASKED)
    assert (found["measured_accuracy"], found["estimated_accuracy"]) == (pytest.approx(69.0), 40.0)
    assert (found["avg_accuracy"], found["accuracy_source"]) == (found["measured_accuracy"], "measured")


@quick
@given(
    kept=st.lists(entries, max_size=6), passing=st.lists(entries, max_size=6), seed=st.randoms(use_true_random=False)
)
def test_adding_and_taking_away_in_any_order_is_exact(
    kept: list[tuple[str, dict[str, Any], bool]], passing: list[tuple[str, dict[str, Any], bool]], seed: random.Random
) -> None:
    straight = QualityTotals()
    for task_type, figures, recovered in kept:
        straight.add(task_type, figures, recovered=recovered)
    moves = [(entry, 1) for entry in kept + passing] + [(entry, -1) for entry in passing]
    seed.shuffle(moves)
    shuffled = QualityTotals()
    for (task_type, figures, recovered), sign in moves:
        shuffled.add(task_type, figures, recovered=recovered, sign=sign)
    asked: dict[str, Any] = {"succeeded": len(kept), "failed": 1, "elapsed_s": 7.0}
    assert shuffled.metrics(**asked) == straight.metrics(**asked)


@quick
@given(added=st.lists(entries, max_size=6))
def test_percentages_stay_percentages(added: list[tuple[str, dict[str, Any], bool]]) -> None:
    totals = QualityTotals()
    for task_type, figures, recovered in added:
        totals.add(task_type, figures, recovered=recovered)
    found = totals.metrics(succeeded=len(added), failed=2, elapsed_s=1.0)
    for name in ("avg_accuracy", "measured_accuracy", "estimated_accuracy", "error_rate"):
        assert found[name] is None or 0.0 <= found[name] <= 100.0
    assert sum(kind["count"] for kind in found["by_task_type"].values()) == len(added)
