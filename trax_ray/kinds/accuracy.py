"""Word error counts against a reference transcript."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path

from trax_ray.store.files import read_bytes

__all__ = ["WordErrors", "count_errors", "normalise", "read_reference"]


@dataclass(frozen=True, slots=True)
class WordErrors:
    """Substitutions, deletions and insertions in all, and the number of words in the reference."""

    errors: int
    words: int


def normalise(text: str) -> str:
    """Text as it is compared: NFKC, casefold, no punctuation, single spaces.

    Dashes part words; all other punctuation and symbols vanish, so `don't` and `dont` are the same.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = []
    for character in folded:
        category = unicodedata.category(character)
        if category == "Pd" or character in "_/":
            kept.append(" ")
        elif category[0] not in "PS":
            kept.append(character)
    return " ".join("".join(kept).split())


def count_errors(reference: str, hypothesis: str) -> WordErrors | None:
    """Count word errors after `normalise`; None where the reference has no words.

    Source:
        jiwer's minimum edit distance over words.
    """
    expected = normalise(reference)
    if not expected:
        return None
    words = len(expected.split())
    found = normalise(hypothesis)
    if not found:
        return WordErrors(words, words)
    import jiwer

    alignment = jiwer.process_words(expected, found)
    return WordErrors(alignment.substitutions + alignment.deletions + alignment.insertions, words)


def read_reference(path: str) -> str:
    """A reference transcript: UTF-8, with or without a byte order mark; other bytes are replaced.

    Raises:
        FileError: It can't be read.
    """
    return read_bytes(Path(path)).decode("utf-8-sig", "replace")
