"""Real transcripts of tiny.en, clear and in noise: who knows what was said makes them better, who guesses not worse."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.support.oracles import answered, enhanced, guesses, knows
from trax_ray.enhance.edits import MOST_UNLIKE, Applied, Edit, apply
from trax_ray.enhance.tokens import Token, tokens
from trax_ray.enhance.windows import Doubt, Window, WindowSegment, plan_windows
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


Way = Callable[[Window, Sequence[Edit]], Applied]

WAYS = pytest.mark.parametrize("way", [enhanced, answered], ids=["each edit alone", "all in one answer"])


@WAYS
def test_who_knows_what_was_said_lowers_the_word_error_rate(way: Way, recorded: list[tuple[Window, str]]) -> None:
    before = sum(errors(way(window, []), reference) for window, reference in recorded)
    after = 0
    for window, reference in recorded:
        edits = [edit for edit, _ in knows(window, reference)]
        improved = errors(way(window, edits), reference)
        assert improved <= errors(way(window, []), reference)
        after += improved
    assert before > 100
    assert after < 0.85 * before


@WAYS
def test_who_guesses_does_not_raise_it(way: Way, recorded: list[tuple[Window, str]]) -> None:
    """On average over seeds, though every second guess replaces a right word: a few in a thousand are made.

    Each alone by not even two words in ten thousand, as no gate knows better than the sound; in one answer by none.
    """
    vocabulary = sorted({token.key for _, reference in recorded for token in tokens(reference, "en")})
    words = sum(len(tokens(reference, "en")) for _, reference in recorded)
    before = sum(errors(way(window, []), reference) for window, reference in recorded)
    asked = made = after = 0
    for seed in range(SEEDS):
        for window, reference in recorded:
            edits = list(guesses(window, vocabulary, seed))
            applied = way(window, edits)
            asked += len(edits)
            made += sum(edit.kind == "word" for edit in applied.accepted)
            after += errors(applied, reference)
    assert asked > 50 * SEEDS
    assert made < 0.005 * asked
    assert after / SEEDS - before <= (0.0002 * words if way is enhanced else 0)


def test_who_guesses_is_believed_in_nothing() -> None:
    """One word that sounds alike by chance among many that don't, and the same when it is asked for once more."""
    text = "and so we went by the old road to see the great house of the king"
    heard = [token for token in tokens(text, "en") if token.key in ("went", "old", "road", "see", "great", "house")]
    window = Window(0, tuple(_doubtful(number, text, heard) for number in range(1, 7)))
    unlike = [Edit(n, text[each.start : each.end], "music") for n, each in enumerate(heard, 1) if each.key != "see"]
    alike = Edit(4, "see the", "sea the")
    assert apply(window, [alike], level="words").edits_by_kind == {"word": 1}
    applied = apply(window, [alike, *unlike], level="words")
    assert applied.refused_by_gate == {"guessed": 1, "sound": len(unlike)}
    assert [each.text for each in applied.segments] == [text] * 6
    assert apply(window, [alike], level="words", unlike=applied.unlike).refused_by_gate == {"guessed": 1}
    assert apply(window, [alike, *unlike[:MOST_UNLIKE]], level="words").edits_by_kind == {"word": 1}
    form = Edit(4, "and so", "And so")
    assert apply(window, [form, *unlike], level="words").edits_by_kind == {"casing": 1}, "only words are a guess"


def _doubtful(number: int, text: str, heard: Sequence[Token]) -> WindowSegment:
    return WindowSegment(number, text, 0.0, 1.0, tuple(Doubt(each.start, each.end) for each in heard), "en")
