"""Word error counts against a reference transcript."""

from __future__ import annotations

import unicodedata
import warnings
from dataclasses import dataclass
from pathlib import Path

from trax_ray.core.writing import is_unspaced, units
from trax_ray.providers.languages import front_of
from trax_ray.store.files import read_bytes

__all__ = ["WordErrors", "count_errors", "count_errors_normalized", "normalise", "read_reference"]


@dataclass(frozen=True, slots=True)
class WordErrors:
    """Substitutions, deletions and insertions in all, and the number of words in the reference.

    Of scripts without spaces between words they are counted in characters; `unit` says which it is.
    """

    errors: int
    words: int
    unit: str = "words"


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

    Characters of scripts without spaces are counted each; else one wrong word of Chinese would be a wrong sentence.

    Source:
        jiwer's minimum edit distance over words.
    """
    return _count(normalise(reference), normalise(hypothesis))


def count_errors_normalized(reference: str, hypothesis: str, language: str | None) -> WordErrors | None:
    """As `count_errors`, where what sounds the same counts as the same: `50` and `fifty`, `Mr.` and `mister`.

    Args:
        reference: What was said.
        hypothesis: What was recognised.
        language: Its code; there are such rules for English alone, and None is what others give.

    Source:
        whisper-normalizer, which is the normalizer of OpenAI's Whisper.
    """
    if language is None or front_of(language) != "en":
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where it is compiled for the first time Python finds fault with its texts
        from whisper_normalizer.english import EnglishTextNormalizer

    normalizer = EnglishTextNormalizer()
    return _count(normalizer(reference), normalizer(hypothesis))


def _count(reference: str, hypothesis: str) -> WordErrors | None:
    expected, found = units(reference), units(hypothesis)
    if not expected:
        return None
    unit = "characters" if is_unspaced(reference) else "words"
    if not found:
        return WordErrors(len(expected), len(expected), unit)
    import jiwer

    alignment = jiwer.process_words(" ".join(expected), " ".join(found))
    return WordErrors(alignment.substitutions + alignment.deletions + alignment.insertions, len(expected), unit)


def read_reference(path: str) -> str:
    """A reference transcript: UTF-8, with or without a byte order mark; other bytes are replaced.

    Raises:
        FileError: It can't be read.
    """
    return read_bytes(Path(path)).decode("utf-8-sig", "replace")
