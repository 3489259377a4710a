"""Whether two passages sound alike: only then can a recogniser have taken one for the other.

Source:
    Pronunciations by the dictionary of Carnegie Mellon University; Metaphone (Philips 1990) for words that it lacks, by
    jellyfish; the Levenshtein distance, by rapidfuzz.
"""

from __future__ import annotations

import unicodedata

from trax_ray.enhance.pronouncing import is_word, nearness

__all__ = ["closeness", "sound_alike"]

ALIKE = 0.7
"""Passages that are this close sound alike.

Measured over the dictionary (benchmarks/enhancing.py): true of all words with the same pronunciation, of 91 % of those
(of four sounds and more) that differ in one sound, of fewer than 1 in 2,000 random pairs; of everyday words, which are
shorter, of 66 % and of 1 in 1,100.
"""

ALIKE_SHORT = 0.75
"""The same up to `SHORT` letters, as `in` and `on` have too little in which they could differ."""

SHORT = 3

ALIKE_UNKNOWN = 0.65
"""The same where the dictionary lacks a word, so that spelling and Metaphone alone decide."""

ALIKE_NO_WORD = 0.55
"""The same where what was heard is no word at all: then little is lost."""

ALIKE_ELSEWHERE = 0.7
"""The same for languages whose sound isn't known."""

ALIKE_STRICTLY = 0.75
"""The least where no single word is known to be doubtful, or where words grow together or come apart."""

_COARSE = str.maketrans(
    {"B": "P", "F": "P", "V": "P", "D": "T", "0": "T", "G": "K", "M": "N", "X": "S", "J": "S", "Z": "S", "R": "L"}
    | dict.fromkeys("WYHAEIOU", "")
)
"""Metaphone's letters as classes that are easily taken for each other: voiced or not, nasals, hissing ones, liquids."""


def closeness(first: str, second: str, language: str | None) -> float:
    """How near two passages are, from 0 (nothing in common) to 1 (they sound the same, as far as is known).

    For English the mean of two. One is the nearness of what is written: of spelling, of Metaphone, and of its classes
    of consonants alone, a third each. The other is the nearness of the pronunciations; where the dictionary lacks a
    word, there is only the first. For other languages that of the spelling, without accents.

    Args:
        first: Words, in lower case; spaces don't count, so `ice cream` and `icecream` are the same.
        second: Likewise.
        language: ISO 639-1 code; None where nobody knows.
    """
    a, b = _letters(first), _letters(second)
    if not a or not b:
        return 0.0
    spelling = _near(a, b)
    if not _is_english(language) or not (a + b).isascii():
        return spelling
    sounds = _sound(first), _sound(second)
    coarse = [sound.translate(_COARSE) for sound in sounds]
    written = (spelling + _near(*sounds) + (_near(*coarse) if any(coarse) else 1.0)) / 3
    spoken = nearness(first.split(), second.split())
    if spoken is None or spoken == 1.0:
        return written if spoken is None else spoken
    return (written + spoken) / 2


def sound_alike(first: str, second: str, language: str | None, *, strictly: bool = False) -> bool:
    """Whether one passage may be what was said where the other was heard.

    Args:
        first: What was heard, as `closeness` takes it.
        second: What may have been said.
        language: ISO 639-1 code; None where nobody knows.
        strictly: Whether only what is nearly the same does.
    """
    limit = _limit(first, second, language)
    return closeness(first, second, language) >= (max(ALIKE_STRICTLY, limit) if strictly else limit)


def _limit(heard: str, said: str, language: str | None) -> float:
    if not _is_english(language):
        return ALIKE_ELSEWHERE
    if max(len(_letters(heard)), len(_letters(said))) <= SHORT:
        return ALIKE_SHORT
    if not all(map(is_word, heard.split())):
        return ALIKE_NO_WORD
    return ALIKE if all(map(is_word, said.split())) else ALIKE_UNKNOWN


def _is_english(language: str | None) -> bool:
    return (language or "en").partition("-")[0].lower() == "en"


def _letters(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text)
    return "".join(character for character in plain if character.isalnum())


def _sound(text: str) -> str:
    import jellyfish

    return "".join(jellyfish.metaphone(_letters(word)) for word in text.split())


def _near(first: str, second: str) -> float:
    from rapidfuzz.distance import Levenshtein

    return float(Levenshtein.normalized_similarity(first, second)) if first or second else 0.0
