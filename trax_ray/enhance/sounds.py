"""Whether two passages sound alike: only then can a recogniser have taken one for the other.

Source:
    Metaphone (Philips 1990) for the sound of English, by jellyfish; the Levenshtein distance, by rapidfuzz.
"""

from __future__ import annotations

import unicodedata

__all__ = ["closeness", "sound_alike"]

ALIKE = 0.55
"""Passages that are this close sound alike.

Measured over CMU's pronouncing dictionary: true of 96 % of the words with the same pronunciation, of 94 % of those (of
four sounds and more) that differ in one sound, of 0.5 % of random pairs.
"""

ALIKE_ELSEWHERE = 0.7
"""The same for short words, and for languages whose sound isn't known."""

SHORT = 4
"""Up to that many letters the stricter limit holds, as `in` and `on` have too little in which they could differ."""

ALIKE_STRICTLY = 0.75
"""The same where no single word is known to be doubtful."""

_COARSE = str.maketrans(
    {"B": "P", "F": "P", "V": "P", "D": "T", "0": "T", "G": "K", "M": "N", "X": "S", "J": "S", "Z": "S", "R": "L"}
    | dict.fromkeys("WYHAEIOU", "")
)
"""Metaphone's letters as classes that are easily taken for each other: voiced or not, nasals, hissing ones, liquids."""


def closeness(first: str, second: str, language: str | None) -> float:
    """How near two passages are, from 0 (nothing in common) to 1 (they sound the same, as far as is known).

    For English the mean of three: nearness of the spelling, of the sound, and of the classes of consonants alone. For
    other languages that of the spelling, without accents.

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
    return (spelling + _near(*sounds) + (_near(*coarse) if any(coarse) else 1.0)) / 3


def sound_alike(first: str, second: str, language: str | None, *, strictly: bool = False) -> bool:
    """Whether one passage may be what was said where the other was heard.

    Args:
        first: As `closeness` takes them.
        second: Likewise.
        language: Likewise.
        strictly: Whether only what is nearly the same does.
    """
    limit = ALIKE if _is_english(language) else ALIKE_ELSEWHERE
    if max(len(_letters(first)), len(_letters(second))) <= SHORT:
        limit = ALIKE_ELSEWHERE
    return closeness(first, second, language) >= (ALIKE_STRICTLY if strictly else limit)


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
