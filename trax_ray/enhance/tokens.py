"""A text as the words that were said: what punctuation and casing can't change, and a change of words always does.

Stricter than the normal form that word error rates are counted in, which takes `3.5` for `35`, `we're` for `were` and
`Maße` for `Masse`. Only marks of a short list count as punctuation. Anything else that isn't a letter or a digit is a
word of its own (`%`, `$`, `+`, `<`, emoji), so none can appear or vanish.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from trax_ray.core.writing import is_unspaced

__all__ = ["FREE", "Token", "fold", "is_free", "is_letter", "tokens"]

FREE = frozenset(
    ".,;:!?\u2026\u00a1\u00bf"
    "'\"\u2018\u2019\u201c\u201d\u201e\u201a\u00ab\u00bb\u2039\u203a"
    "-\u2010\u2011\u2013\u2014()"
    "\u3001\u3002\uff0c\uff0e\uff01\uff1f\uff1b\uff1a\u300c\u300d\u300e\u300f\uff08\uff09\u3008\u3009\u300a\u300b\u3010\u3011\u30fb"
    "\u060c\u061b\u061f\u06d4"  # Arabic, Urdu
    "\u0964\u0965"  # Hindi and its neighbours
)
"""The marks that may come and go."""

APOSTROPHES = frozenset("'\u2019\u02bc\uff07")
_MINUS = frozenset("-\u2212\u2013")
_DOTTED_CAPITAL_I = "\u0130"
_TURKIC = frozenset({"tr", "az"})


@dataclass(frozen=True, slots=True)
class Token:
    """A word, a number, or a symbol of a text.

    Args:
        key: What it is compared by: lower case, NFC, one kind of apostrophe; a number with its marks and its sign.
        text: As it stands in the text.
        start: First character in the text.
        end: Behind the last one.
        starts_sentence: Whether it is the first word, or stands behind the end of a sentence or a quotation mark.
        dotted: Whether a full stop follows at once.
    """

    key: str
    text: str
    start: int
    end: int
    starts_sentence: bool = False
    dotted: bool = False

    @property
    def has_digit(self) -> bool:
        """Whether it is, or holds, a number in digits."""
        return any(character.isdecimal() for character in self.key)


def fold(text: str, language: str | None = None) -> str:
    """Lower case, NFC; the full-width forms of ASCII as ASCII. In Turkish `I` is the capital of the dotless i.

    Not `casefold`: it makes one word of the German `Maße` and `Masse`.
    """
    text = unicodedata.normalize("NFC", text)
    if any("\uff01" <= character <= "\uff5e" for character in text):
        text = "".join(chr(ord(each) - 0xFEE0) if "\uff01" <= each <= "\uff5e" else each for each in text)
    if (language or "").partition("-")[0] in _TURKIC:
        text = text.replace("I", "\u0131").replace(_DOTTED_CAPITAL_I, "i")
    return unicodedata.normalize("NFC", text.lower()).replace("\u03c2", "\u03c3")


def is_free(character: str) -> bool:
    """Whether a character may come and go: a space, or a mark of `FREE`."""
    return character in FREE or character.isspace()


def is_letter(character: str) -> bool:
    """Whether a character is a letter, a digit, or a mark on one."""
    return unicodedata.category(character)[0] in "LMN"


def tokens(text: str, language: str | None = None) -> list[Token]:
    """The words of a text, in order; characters each, of scripts without spaces.

    Args:
        text: Any.
        language: ISO 639-1 code, for its casing; None where nobody knows.
    """
    found: list[Token] = []
    at = 0
    fresh = True
    while at < len(text):
        character = text[at]
        if is_free(character) and not _is_sign(text, at):
            if character in '.!?\u2026:\u3002\uff01\uff1f\u061f\u0964"\u201c\u201e\u00ab\u00bf\u00a1(':
                fresh = True
            at += 1
            continue
        end = _end(text, at)
        bare = _canonical(fold(text[at:end], language))
        found.append(
            Token(
                key=bare,
                text=text[at:end],
                start=at,
                end=end,
                starts_sentence=fresh,
                dotted=text[end : end + 1] == ".",
            )
        )
        fresh = False
        at = end
    return found


def _is_sign(text: str, at: int) -> bool:
    """Whether a minus stands here: right before a digit, behind nothing, a space or an opening bracket."""
    if text[at] not in _MINUS or not text[at + 1 : at + 2].isdecimal():
        return False
    return at == 0 or text[at - 1].isspace() or text[at - 1] in "($\u20ac\u00a3"


def _canonical(key: str) -> str:
    for mark in APOSTROPHES:
        key = key.replace(mark, "'")
    return "-" + key[1:] if key[0] in _MINUS else key


def _end(text: str, at: int) -> int:
    """Behind the token that begins here."""
    if not is_letter(text[at]):
        if text[at] not in _MINUS:
            return at + 1
        at += 1
    unspaced = is_unspaced(text[at])
    end = at + 1
    while end < len(text):
        here, before = text[end], text[end - 1]
        if is_letter(here):
            mark = unicodedata.category(here)[0] == "M"
            if not mark and (unspaced or is_unspaced(here)):
                break
            end += 1
        elif not unspaced and end + 1 < len(text) and _joins(before, here, text[end + 1]):
            end += 1
        else:
            break
    return end


def _joins(before: str, mark: str, after: str) -> bool:
    """Whether a mark is inside a word or a number: `don't`, `3.5`, `4,500`, `5:30`."""
    if mark in APOSTROPHES:
        return is_letter(before) and is_letter(after)
    return mark in ".,:" and before.isdecimal() and after.isdecimal()
