"""What scripts differ in: whether they part words by spaces, and how wide their characters are.

Chinese, Japanese, Thai, Lao, Khmer, Burmese and Tibetan write words without spaces between them. Korean doesn't.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

__all__ = ["breakable", "is_unspaced", "joined", "units", "width"]

_SCRIPTS = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u0f00-\u0fff"  # Tibetan
    "\u1000-\u109f"  # Burmese
    "\u1780-\u17ff"  # Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # Japanese
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese
)
_WIDE_PUNCTUATION = "\u3000-\u3004\u3008-\u303f\uff01-\uff65"
_UNSPACED = re.compile(f"[{_SCRIPTS}]")
_NO_SPACE_BESIDE = re.compile(f"[{_SCRIPTS}{_WIDE_PUNCTUATION}]")
_OPENS = frozenset("\u3008\u300a\u300c\u300e\u3010\u3014\u3016\uff08\uff3b\uff5b\u201c\u2018([{")
_CLOSES = frozenset(
    "\u3001\u3002\u3009\u300b\u300d\u300f\u3011\u3015\u3017\u30fb\u30fc\uff01\uff09\uff0c\uff0e\uff1a\uff1b\uff1f\uff3d"
    "\uff5d\u201d\u2019\u2026,.!?:;)]}%"
)


def is_unspaced(text: str) -> bool:
    """Whether most letters of a text are of scripts without spaces."""
    letters = sum(character.isalpha() for character in text)
    return 2 * len(_UNSPACED.findall(text)) > letters


def units(text: str) -> list[str]:
    """What a text is counted in: words, and characters where a script has no spaces; marks belong to what they mark."""
    if text.isascii():
        return text.split()
    found: list[str] = []
    for word in text.split():
        open_word = False
        for character in word:
            if found and unicodedata.category(character)[0] == "M" and character is not word[0]:
                found[-1] += character
            elif _UNSPACED.match(character):
                found.append(character)
                open_word = False
            elif open_word:
                found[-1] += character
            else:
                found.append(character)
                open_word = True
    return found


def joined(texts: Iterable[str]) -> str:
    """Texts that follow each other as one: with a space between them where their scripts have any."""
    whole = ""
    for text in texts:
        if whole and text:
            bare = _NO_SPACE_BESIDE.match(whole[-1]) and _NO_SPACE_BESIDE.match(text[0])
            whole += "" if bare else " "
        whole += text
    return whole


def breakable(text: str) -> list[str]:
    """The parts between which a line may end, each with the space behind it.

    After spaces, and between characters of scripts without them; not before what closes, nor after what opens.
    """
    parts: list[str] = []
    for character in text:
        if not parts or _may_part(parts[-1][-1], character):
            parts.append(character)
        else:
            parts[-1] += character
    return parts


def _may_part(before: str, after: str) -> bool:
    if after == " " or unicodedata.category(after)[0] == "M":
        return False
    if before == " ":
        return True
    if before in _OPENS or after in _CLOSES:
        return False
    return bool(_NO_SPACE_BESIDE.match(before) or _NO_SPACE_BESIDE.match(after))


def width(text: str) -> int:
    """Columns that a text takes: two for a wide character, none for a mark."""
    return sum(
        0 if unicodedata.category(each) in ("Mn", "Me") else 2 if unicodedata.east_asian_width(each) in "WF" else 1
        for each in text
    )
