"""Real transcripts of tiny.en, clear and in noise: who knows what was said makes them better, who guesses not worse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.oracles import enhanced, guesses, knows
from trax_ray.enhance.edits import Applied
from trax_ray.enhance.tokens import tokens
from trax_ray.enhance.windows import Window, plan_windows
from trax_ray.kinds.accuracy import count_errors
from trax_ray.media.speech import Segment, Word

RECORDED = Path(__file__).parent.parent / "data" / "enhance" / "tiny_en.json"
"""Transcripts by tiny.en with the probabilities of words; noise in dB below the speech."""

SEEDS = 8


@pytest.fixture(scope="module")
def recorded() -> list[tuple[Window, str]]:
    """Per recording all of its transcript in one window, and what was said."""
    rows = []
    for each in json.loads(RECORDED.read_text("utf-8")):
        segments = [
            Segment(start, end, text, confidence, words=tuple(Word(start, end, *word) for word in words))
            for start, end, text, confidence, words in each["segments"]
        ]
        if segments:
            [window] = plan_windows(segments, target_words=100_000, language="en")
            rows.append((window, each["reference"]))
    return rows


def errors(applied: Applied, reference: str) -> int:
    """Word errors of an enhanced transcript."""
    counted = count_errors(reference, " ".join(each.text for each in applied.segments))
    assert counted is not None
    return counted.errors


def test_who_knows_what_was_said_lowers_the_word_error_rate(recorded: list[tuple[Window, str]]) -> None:
    before = sum(errors(enhanced(window, []), reference) for window, reference in recorded)
    after = 0
    for window, reference in recorded:
        edits = [edit for edit, _ in knows(window, reference)]
        improved = errors(enhanced(window, edits), reference)
        assert improved <= errors(enhanced(window, []), reference)
        after += improved
    assert before > 100
    assert after < 0.9 * before


def test_who_guesses_does_not_raise_it(recorded: list[tuple[Window, str]]) -> None:
    """On average over seeds by less than one word in a thousand, though every second guess replaces a right word."""
    vocabulary = sorted({token.key for _, reference in recorded for token in tokens(reference, "en")})
    words = sum(len(tokens(reference, "en")) for _, reference in recorded)
    before = sum(errors(enhanced(window, []), reference) for window, reference in recorded)
    asked = made = after = 0
    for seed in range(SEEDS):
        for window, reference in recorded:
            edits = list(guesses(window, vocabulary, seed))
            applied = enhanced(window, edits)
            asked += len(edits)
            made += len(applied.accepted)
            after += errors(applied, reference)
    assert asked > 50 * SEEDS
    assert made < 0.02 * asked
    assert after / SEEDS - before < 0.001 * words
