"""Whether two passages sound alike: only then can a recogniser have taken one for the other.

Source:
    Metaphone (Philips 1990) for the sound of English, by jellyfish; the Levenshtein distance for the spelling, by
    rapidfuzz. Other languages have the spelling alone, without accents, and a stricter limit.
"""

from __future__ import annotations

import unicodedata

__all__ = ["closeness", "sound_alike"]

ALIKE = 0.6
"""Passages of a higher closeness sound alike. See `benchmarks/enhancing.py` for what that lets through."""

ALIKE_ELSEWHERE = 0.7
"""The same for languages whose sound isn't known."""


def closeness(first: str, second: str, language: str | None) -> float:
    """How near two passages are, from 0 (nothing in common) to 1 (they sound the same, as far as is known).

    For English the mean of the nearness of sound and that of spelling; else that of spelling.

    Args:
        first: Words, in lower case; spaces don't count, so `ice cream` and `icecream` are the same.
        second: Likewise.
        language: ISO 639-1 code; None where nobody knows.
    """
    a, b = _letters(first), _letters(second)
    if not a or not b:
        return 0.0
    spelling = _near(a, b)
    if (language or "en").partition("-")[0].lower() != "en" or not (a + b).isascii():
        return spelling
    sound = _near(_sound(first), _sound(second))
    return (2 * sound + spelling) / 3


def sound_alike(first: str, second: str, language: str | None) -> bool:
    """Whether one passage may be what was said where the other was heard."""
    english = (language or "en").partition("-")[0].lower() == "en"
    return closeness(first, second, language) >= (ALIKE if english else ALIKE_ELSEWHERE)


def _letters(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text)
    return "".join(character for character in plain if character.isalnum())


def _sound(text: str) -> str:
    import jellyfish

    return "".join(jellyfish.metaphone(_letters(word)) for word in text.split())


def _near(first: str, second: str) -> float:
    from rapidfuzz.distance import Levenshtein

    return float(Levenshtein.normalized_similarity(first, second)) if first or second else 0.0
