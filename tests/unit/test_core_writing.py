"""Scripts with and without spaces between words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trax_ray.core.policy.quality import accuracy_percent, assess
from trax_ray.core.writing import breakable, is_unspaced, joined, units, width
from trax_ray.kinds.accuracy import count_errors, count_errors_normalized
from trax_ray.media.shape import DEFAULT, wrapped
from trax_ray.media.speech import Segment
from trax_ray.media.subtitles import to_cues

CHINESE = "\u6211\u4eec\u6b63\u5728\u6d4b\u8bd5\u4e2d\u6587\u8bed\u97f3\u8bc6\u522b\u7684\u6548\u679c"  # 16 characters
JAPANESE = "\u3053\u308c\u306f\u65e5\u672c\u8a9e\u306e\u30c6\u30b9\u30c8\u3067\u3059"
THAI = "\u0e19\u0e35\u0e48\u0e04\u0e37\u0e2d\u0e01\u0e32\u0e23\u0e17\u0e14\u0e2a\u0e2d\u0e1a"
KOREAN = "\uc774\uac83\uc740 \ud55c\uad6d\uc5b4 \uc2dc\ud5d8\uc785\ub2c8\ub2e4"


@pytest.mark.parametrize("sentence", [CHINESE, JAPANESE, THAI])
class TestWithoutSpaces:
    def test_one_wrong_character_of_sixty_is_an_error_of_a_sixtieth(self, sentence: str) -> None:
        reference = (sentence * 8)[:60]
        wrong = reference[:30] + ("x" if reference[30] != "x" else "y") + reference[31:]
        counted = count_errors(reference, wrong)
        assert counted is not None
        assert counted.unit == "characters"
        assert counted.errors in (1, 2), "a mark belongs to what it marks"
        accuracy = accuracy_percent(counted.errors, counted.words)
        assert accuracy is not None
        assert accuracy > 94

    def test_segments_are_joined_without_spaces(self, sentence: str) -> None:
        assert joined([sentence, sentence]) == sentence * 2
        assert joined([sentence + "\u3002", sentence]) == sentence + "\u3002" + sentence
        assert joined([sentence, "Ray", sentence]) == f"{sentence} Ray {sentence}"

    def test_lines_hold_at_most_twenty_wide_characters(self, sentence: str) -> None:
        lines = wrapped(sentence * 5).split("\n")
        assert len(lines) > 1
        assert "".join(lines) == sentence * 5
        assert all(width(line) <= 40 for line in lines)
        cues = to_cues([Segment(0.0, 20.0, sentence * 9)])
        assert "".join(text for _, _, text in cues) == sentence * 9
        assert all(len(wrapped(text).split("\n")) <= DEFAULT.lines for _, _, text in cues)

    def test_what_was_said_is_not_sparse(self, sentence: str) -> None:
        assert assess(sentence * 4, [], speech_s=16.0)["warnings"] == []
        assert assess(sentence[:3], [], speech_s=16.0)["warnings"] == ["sparse_transcript"]


def test_scripts_with_spaces_are_counted_in_words() -> None:
    for text in ("This is English.", KOREAN, "\u042d\u0442\u043e \u0440\u0443\u0441\u0441\u043a\u0438\u0439"):
        assert not is_unspaced(text)
        assert units(text) == text.split()
        counted = count_errors(text, text)
        assert counted is not None
        assert (counted.unit, counted.words) == ("words", len(text.split()))
    assert units(f"GPU {CHINESE[:3]}x2") == ["GPU", *CHINESE[:3], "x2"]


def test_a_line_does_not_begin_with_what_closes() -> None:
    parts = breakable("\u300c\u4e2d\u6587\u300d\u3002\u4e2d\u6587, and more.")
    assert parts == ["\u300c\u4e2d", "\u6587\u300d\u3002", "\u4e2d", "\u6587, ", "and ", "more."]


@given(st.text(alphabet=st.sampled_from(f"ab .,{CHINESE[:4]}{THAI}"), max_size=80))
def test_nothing_gets_lost(text: str) -> None:
    assert "".join(breakable(text)) == text
    assert "".join(units(text)) == "".join(text.split())
    line = " ".join(text.split())
    assert wrapped(line).replace("\n", "").replace(" ", "") == line.replace(" ", "")


def test_what_sounds_the_same_counts_as_the_same_in_the_second_figure_alone() -> None:
    said = "Mister Smith has fifty colours."
    found = "Mr. Smith has 50 colors"
    first, second = count_errors(said, found), count_errors_normalized(said, found, "en")
    assert first is not None
    assert second is not None
    assert (first.errors, first.words, second.errors) == (3, 5, 0)
    assert count_errors_normalized(said, found, "de") is count_errors_normalized(said, found, None) is None
    assert count_errors_normalized("", found, "en") is None
