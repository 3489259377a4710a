"""Characters that people don't see, or take for others, in what a model gives."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

__all__ = ["cleaned", "hides", "odd_letters", "scripts", "unusable"]

_WRITTEN = frozenset("\u00e6\u0153\u00f8\u00df\u00f0\u00fe\u0142\u0111\u0127\u014b\u0259")
"""Latin letters beyond a to z, with marks or without, that languages are written in."""

_TURKIC = {"\u0131": ("tr", "az")}


def cleaned(text: str, original: str) -> str:
    """A replacement without what is invisible: NFC, plain spaces, no direction marks, no soft hyphens, no line ends.

    What the original itself has stays allowed, as often as it is there: Persian needs its zero-width non-joiners.

    Args:
        text: What a model gives.
        original: What it should replace.
    """
    allowed = Counter(character for character in original if _is_odd(character))
    kept: list[str] = []
    for character in unicodedata.normalize("NFC", text):
        if not _is_odd(character):
            kept.append(character)
        elif allowed[character] > 0:
            allowed[character] -= 1
            kept.append(character)
        elif unicodedata.category(character) in ("Zs", "Zl", "Zp") or character in "\n\r\t\v\f":
            kept.append(" ")
    return re.sub(r" {2,}", " ", "".join(kept))


def hides(text: str, original: str) -> bool:
    """Whether a replacement holds invisible characters that the original hasn't; spaces of any kind are none."""
    return any(
        unicodedata.category(character)[0] not in "Z" and character not in "\n\r\t" and character not in original
        for character in text
        if _is_odd(character)
    )


def _is_odd(character: str) -> bool:
    """Invisible, or a space that isn't the plain one."""
    category = unicodedata.category(character)
    if category in ("Cf", "Cc", "Zl", "Zp") or (category == "Zs" and character != " "):
        return True
    return "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef" or character == "\u034f"


def unusable(text: str) -> bool:
    """Whether a text holds what is no character: halves of pairs, private ones, unassigned ones."""
    return any(unicodedata.category(character) in ("Cs", "Co", "Cn") or character == "\ufffd" for character in text)


def odd_letters(text: str, language: str | None) -> set[str]:
    """Latin letters that the language isn't written in, and that look like others: a dotless i, a g of phoneticians."""
    code = (language or "").partition("-")[0].lower()
    found = set()
    for character in text.lower():
        base = unicodedata.normalize("NFKD", character)[:1]
        if character.isascii() or base.isascii() or not character.isalpha() or character in _WRITTEN:
            continue
        if unicodedata.name(character, "?").startswith("LATIN") and code not in _TURKIC.get(character, ()):
            found.add(character)
    return found


def scripts(text: str) -> frozenset[str]:
    """The scripts of a text's letters, by the first word of their names: LATIN, CYRILLIC, GREEK, CJK, ..."""
    return frozenset(
        unicodedata.name(character, "?").partition(" ")[0]
        for character in text
        if character.isalpha() and character != "\u00aa"
    )
