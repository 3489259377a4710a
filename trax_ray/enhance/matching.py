"""Where in a segment an edit belongs: the one place where its passage stands, or none."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import lru_cache

from trax_ray.core.writing import is_unspaced

__all__ = ["clusters", "places"]

_SAME = {
    "\u2018": "'",
    "\u2019": "'",
    "\u201a": "'",
    "\u2032": "'",
    "`": "'",
    "\u201c": '"',
    "\u201d": '"',
    "\u201e": '"',
    "\u2010": "-",
    "\u2011": "-",
    "\u2012": "-",
    "\u2013": "-",
    "\u2014": "-",
    "\u2212": "-",
    "\u2026": "...",
}


def places(text: str, passage: str) -> list[tuple[int, int]]:
    """The places at which a passage stands in a text, each as first character and the one behind the last.

    Only at the borders of words: `he` isn't in `then`. Where it stands nowhere as it is, quotation marks, dashes,
    runs of spaces, composed letters and, last, capitals are taken for the same: models write them in their own way.
    """
    if not passage.strip():
        return []
    for fold in (_as_is, _loose, _looser):
        haystack, starts = _folded(text, fold)
        needle, _ = _folded(passage, fold)
        needle = needle if fold is _as_is else needle.strip()
        found = []
        at = haystack.find(needle)
        while at >= 0:
            start, end = starts[at], starts[at + len(needle)]
            if not (_cuts(text, start) or _cuts(text, end)):
                found.append((start, end))
            at = haystack.find(needle, at + 1)
        if found:
            return found
    return []


def clusters(text: str) -> list[str]:
    """A text in letters, each with the marks that belong to it."""
    found: list[str] = []
    for character in text:
        if found and unicodedata.category(character) in ("Mn", "Me", "Mc"):
            found[-1] += character
        else:
            found.append(character)
    return found


def _as_is(cluster: str) -> str:
    return cluster


def _loose(cluster: str) -> str:
    if cluster.isspace():
        return " "
    return _SAME.get(cluster, unicodedata.normalize("NFC", cluster))


def _looser(cluster: str) -> str:
    return _loose(cluster).lower()


@lru_cache(maxsize=16)
def _folded(text: str, fold: Callable[[str], str]) -> tuple[str, list[int]]:
    """A text with each cluster folded, and per character of that where its cluster begins; one more for the end."""
    whole: list[str] = []
    starts: list[int] = []
    at = 0
    for cluster in clusters(text):
        put = fold(cluster)
        if not (put == " " and fold is not _as_is and whole and whole[-1] == " "):
            whole.extend(put)
            starts.extend([at] * len(put))
        at += len(cluster)
    return "".join(whole), [*starts, at]


def _cuts(text: str, at: int) -> bool:
    """Whether a place is inside a word, or between a letter and its mark."""
    if not 0 < at < len(text):
        return False
    before, after = text[at - 1], text[at]
    if unicodedata.category(after)[0] == "M":
        return True
    return before.isalnum() and after.isalnum() and not (is_unspaced(before) or is_unspaced(after))
