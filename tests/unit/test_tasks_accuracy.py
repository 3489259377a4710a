"""Word errors: what is compared, and how they are counted."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trax_ray.errors import FileError
from trax_ray.kinds.accuracy import WordErrors, count_errors, normalise, read_reference

quick = settings(max_examples=100, deadline=None)

words = st.lists(st.sampled_from(["a", "b", "c", "der", "Straße", "caf\u00e9", "3"]), max_size=7)


@pytest.mark.parametrize(
    ("text", "compared"),
    [
        ("Hello, World!", "hello world"),
        ("  two \t spaces\nand a line ", "two spaces and a line"),
        ("don't can\u2019t", "dont cant"),
        ("well-known \u2013 or \u2014 not", "well known or not"),
        ("twenty\u2011five", "twenty five"),
        ("and/or snake_case", "and or snake case"),
        ("$5.50 + 10% = fine\u2026", "550 10 fine"),
        ("STRASSE Stra\u00dfe", "strasse strasse"),
        ("cafe\u0301 CAF\u00c9", "caf\u00e9 caf\u00e9"),
        ("\ufb01ne \uff21\uff22", "fine ab"),
        ("x\u00b2 \u2460", "x2 1"),
        ("\u00ab\u00bfQu\u00e9?\u00bb \u201cno\u201d", "qu\u00e9 no"),
        ("\u4f60\u597d\uff0c\u4e16\u754c\u3002", "\u4f60\u597d\u4e16\u754c"),
        ("\u0441\u043b\u043e\u0432\u041e", "\u0441\u043b\u043e\u0432\u043e"),
        ("?!... --", ""),
        ("", ""),
    ],
)
def test_text_as_it_is_compared(text: str, compared: str) -> None:
    assert normalise(text) == compared


@quick
@given(text=st.text())
def test_compared_text_is_words_with_single_spaces(text: str) -> None:
    compared = normalise(text)
    assert compared == " ".join(compared.split())
    assert not [each for each in compared if unicodedata.category(each)[0] in "PS"]


@quick
@given(text=st.text(alphabet=st.characters(codec="latin-1")))
def test_case_and_form_make_no_difference(text: str) -> None:
    assert normalise(unicodedata.normalize("NFD", text)) == normalise(text)
    assert normalise(text.swapcase()) == normalise(text)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "errors", "count"),
    [
        ("the quick brown fox", "The quick, brown fox.", 0, 4),
        ("the quick brown fox", "the quick red fox", 1, 4),
        ("the quick brown fox", "the brown fox", 1, 4),
        ("the quick brown fox", "the very quick brown fox", 1, 4),
        ("the quick brown fox", "a slow red hen and more", 6, 4),
        ("the quick brown fox", "", 4, 4),
        ("the quick brown fox", "?!", 4, 4),
        ("one", "two three four", 3, 1),
        ("a b c d", "b c d e", 2, 4),
    ],
)
def test_counting(reference: str, hypothesis: str, errors: int, count: int) -> None:
    assert count_errors(reference, hypothesis) == WordErrors(errors, count)


@pytest.mark.parametrize("reference", ["", "  \n", "...!", "\u2014"])
@pytest.mark.parametrize("hypothesis", ["", "something"])
def test_a_reference_without_words_measures_nothing(reference: str, hypothesis: str) -> None:
    assert count_errors(reference, hypothesis) is None


def edit_distance(one: list[str], other: list[str]) -> int:
    """Levenshtein's distance, the plain way."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, right in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (left != right))
    return row[-1]


@quick
@given(reference=words.filter(bool), hypothesis=words)
def test_counts_are_the_least_number_of_edits(reference: list[str], hypothesis: list[str]) -> None:
    counted = count_errors(" ".join(reference), " ".join(hypothesis))
    assert counted == WordErrors(edit_distance(reference, hypothesis), len(reference))


def test_references_with_and_without_a_byte_order_mark_and_with_broken_bytes(tmp_path: Path) -> None:
    path = tmp_path / "r.txt"
    for raw, text in (
        ("caf\u00e9".encode(), "caf\u00e9"),
        ("caf\u00e9".encode("utf-8-sig"), "caf\u00e9"),
        (b"caf\xe9 ok", "caf\ufffd ok"),
        (b"", ""),
    ):
        path.write_bytes(raw)
        assert read_reference(str(path)) == text
    with pytest.raises(FileError, match=r"gone\.txt"):
        read_reference(str(tmp_path / "gone.txt"))
