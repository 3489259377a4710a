"""How English words are pronounced, and how near two pronunciations are.

Source:
    The pronouncing dictionary of Carnegie Mellon University, without stress; docs/make_pronunciations.py made the file.
"""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

__all__ = ["FILE", "PHONES", "is_word", "nearness"]

FILE = Path(__file__).with_name("pronunciations.txt.gz")
"""A line per word: the word, and its pronunciations, a character for each phone."""

_VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW"
_CONSONANTS = "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH"

PHONES = dict(
    zip(f"{_VOWELS} {_CONSONANTS}".split(), "abcdefghijklmnoBCDEFGHIJKLMNOPQRSTUVWXY", strict=True),
)
"""The phones of the dictionary and their characters; those of vowels in lower case."""

_KINDRED = (
    "P B",
    "T D",
    "K G",
    "F V",
    "S Z",
    "TH DH",
    "SH ZH CH JH",
    "P T K",
    "B D G",
    "M N NG",
    "L R W",
    "F TH S SH",
    "V DH Z",
    "DH D",
    "TH T",
    "V B",
    "V W",
    "Y JH",
)
"""Consonants that are easily taken for each other: voiced or not, made in the same way or at nearly the same place."""

_NEAR = frozenset(
    pair for group in _KINDRED for pair in itertools.permutations([PHONES[phone] for phone in group.split()], 2)
)

_FAINT = frozenset(PHONES[phone] for phone in ("HH", "AH"))
"""Sounds that are easily overheard, or heard where there is none."""

_MOST_READINGS = 9


@lru_cache(maxsize=1)
def _dictionary() -> str:
    return gzip.decompress(FILE.read_bytes()).decode("ascii")


@lru_cache(maxsize=4096)
def _pronounced(word: str) -> tuple[str, ...]:
    known = _dictionary()
    at = known.find(f"\n{word} ")
    if at < 0 and word.endswith("'s"):
        return tuple(each + PHONES["Z"] for each in _pronounced(word[:-2]))
    return () if at < 0 else tuple(known[at + len(word) + 2 : known.index("\n", at + 1)].split())


def is_word(word: str) -> bool:
    """Whether the dictionary has a word, in lower case."""
    return bool(_pronounced(word))


def nearness(first: Sequence[str], second: Sequence[str]) -> float | None:
    """How near the pronunciations of two passages are, from 0 to 1; of several the nearest.

    One phone for another costs 1, half where these are two vowels or kindred consonants; one more or less costs 1,
    half where it is faint. What that comes to is divided by the phones of the longer passage.

    Args:
        first: Words in lower case.
        second: Likewise.

    Returns:
        None where the dictionary lacks one of the words.
    """
    readings = [_readings(first), _readings(second)]
    if not all(readings):
        return None
    pairs = itertools.product(*readings)
    return max(1.0 - _distance(one, other) / max(len(one), len(other)) for one, other in pairs)


def _readings(words: Sequence[str]) -> list[str]:
    ways = [_pronounced(word) for word in words]
    if not ways or not all(ways):
        return []
    return ["".join(way) for way in itertools.islice(itertools.product(*ways), _MOST_READINGS)]


def _distance(first: str, second: str) -> float:
    """The cheapest way from one row of phones to the other."""
    row = list(itertools.accumulate((_faint(each) for each in second), initial=0.0))
    for one in first:
        before, row = row, [row[0] + _faint(one)]
        for at, other in enumerate(second):
            row.append(min(before[at] + _instead(one, other), before[at + 1] + _faint(one), row[-1] + _faint(other)))
    return row[-1]


def _faint(phone: str) -> float:
    return 0.5 if phone in _FAINT else 1.0


def _instead(one: str, other: str) -> float:
    if one == other:
        return 0.0
    return 0.5 if (one.islower() and other.islower()) or (one, other) in _NEAR else 1.0
