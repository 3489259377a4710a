"""The form of a new text, whatever its words: marks, spaces, capitals, letters that look like others."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from trax_ray.core.writing import is_unspaced
from trax_ray.enhance.numbers import is_number
from trax_ray.enhance.pronouncing import is_word
from trax_ray.enhance.tokens import APOSTROPHES, FREE, Token
from trax_ray.enhance.vocabulary import is_common

__all__ = ["refusing_form"]

_ENDS = frozenset(".!?\u3002\uff01\uff1f\u061f\u0964")
_JOINTS = APOSTROPHES | frozenset("'\u2018-\u2010\u2011\u2013\u2014\u2026\u30fb")
"""Marks that may stand between two words without a space."""

_ALWAYS_GREAT = frozenset({"i", "i'm", "i've", "i'll", "i'd", "sie", "ihr"})


def refusing_form(
    before: str, after: str, old: Sequence[Token], new: Sequence[Token], *, has_terms: bool
) -> str | None:
    """The gate that refuses a text for its form; None where all hold.

    Args:
        before: The original.
        after: The new text.
        old: Words of the original.
        new: Words of the new text.
        has_terms: Whether a glossary knows words that are written in their own way.
    """
    if _has_too_many_marks(before, after, old, new):
        return "punctuation"
    if _inner_spaces(after) > _inner_spaces(before) or _grown_together(after, new) > _grown_together(before, old):
        return "spacing"
    if _full_width(after) > _full_width(before):
        return "lookalikes"
    if _is_shouted(old, new, has_terms=has_terms) or _is_headline(old, new):
        return "casing"
    return None


# Marks and spaces


def _has_too_many_marks(before: str, after: str, old: Sequence[Token], new: Sequence[Token]) -> bool:
    """More in a row or in all than a text needs, or the end of a sentence behind every other word."""
    if _longest_run(after) > max(4, _longest_run(before)) or _marks(after) > 2 * _marks(before) + len(new) + 4:
        return True
    return _sentence_ends(after, new) > max(4, len(new) // 2, _sentence_ends(before, old))


def _marks(text: str) -> int:
    return sum(character in FREE and character not in APOSTROPHES for character in text)


def _longest_run(text: str) -> int:
    longest = run = 0
    for character in text:
        run = run + 1 if character in FREE else 0
        longest = max(longest, run)
    return longest


def _sentence_ends(text: str, words: Sequence[Token]) -> int:
    """How many words end a sentence; letters that are read one by one (`a.m.`) don't."""
    return sum(text[word.end : word.end + 1] in _ENDS for word in words if len(word.key) > 1 and word.end < len(text))


def _inner_spaces(text: str) -> int:
    """Spaces between characters of a script that has none."""
    return sum(
        text[at].isspace() and is_unspaced(text[at - 1]) and is_unspaced(text[at + 1]) for at in range(1, len(text) - 1)
    )


def _grown_together(text: str, words: Sequence[Token]) -> int:
    """How many neighbours have a mark between them and no space, as in `one.two`; `a.m.` has none."""
    found = 0
    for first, second in itertools.pairwise(words):
        between = text[first.end : second.start]
        letters = len(first.key) < 2 or len(second.key) < 2
        unspaced = is_unspaced(text[first.end - 1]) or is_unspaced(text[second.start])
        if between and not letters and not unspaced and not any(map(str.isspace, between)):
            found += not set(between) <= _JOINTS and between != "..."
    return found


# Letters and capitals


def _full_width(text: str) -> int:
    return sum("\uff10" <= character <= "\uff5a" and character.isalnum() for character in text)


def _is_shouted(old: Sequence[Token], new: Sequence[Token], *, has_terms: bool) -> bool:
    """Whether words are put in capitals that aren't written so: long ones, little ones, and letters within words."""
    there = {word.text for word in old}
    fresh = [(at, word) for at, word in enumerate(new) if word.text not in there]
    for at, word in fresh:
        of_day = word.key == "am" and at > 0 and is_number(new[at - 1].key, "en")
        named = at > 0 and new[at - 1].key in ("the", "a", "an")  # `the us` is no `us`
        if is_common(word.key) and len(word.key) > 1 and word.text.isupper() and not (of_day or named):
            return True
        inner = len(re.findall(r"[^\W\d_A-Z](?=[A-Z])", word.text))
        if inner and not has_terms and inner > (0 if is_common(word.key) else 1 if is_word(word.key) else 2):
            return True
    return not has_terms and _long_capitals(new) > 1 >= _long_capitals(old)


def _long_capitals(words: Sequence[Token]) -> int:
    return sum(len(word.text) > 4 and word.text.isupper() for word in words)


def _is_headline(old: Sequence[Token], new: Sequence[Token]) -> bool:
    """Whether little words within sentences get capitals, three and more, and more than a third of them."""
    there = {word.text for word in old}
    little = [
        word for word in new if is_common(word.key) and not word.starts_sentence and word.key not in _ALWAYS_GREAT
    ]
    great = [word for word in little if word.text.istitle() and word.text not in there]
    return len(great) >= 3 and 3 * len(great) > len(little)
