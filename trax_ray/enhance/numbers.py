"""Numbers by value: `twenty five` and `25` are the same, `3.5` and `35` aren't.

Source:
    text2num reads the number words of seven languages. Around it: marks between digits by the habit of the language,
    `million` behind digits, currency and percent signs, and the ways to say years, times and digits one by one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from functools import lru_cache

from trax_ray.enhance.tokens import Token

__all__ = ["in_digits", "is_number", "same_value"]

LANGUAGES = frozenset({"en", "de", "fr", "es", "it", "pt", "nl"})
"""Whose number words are read; of others only the same digits are the same."""

_DECIMAL_COMMA = frozenset({"de", "fr", "es", "it", "pt", "nl"})
_POINTS = {
    "en": "point",
    "de": "komma",
    "fr": "virgule",
    "es": "coma",
    "it": "virgola",
    "pt": "v\u00edrgula",
    "nl": "komma",
}
_MINUS = {"en": "minus", "de": "minus", "fr": "moins", "es": "menos", "it": "meno", "pt": "menos", "nl": "min"}
_SCALES = {
    "hundred": 100,
    "hundert": 100,
    "thousand": 1000,
    "tausend": 1000,
    "mille": 1000,
    "mil": 1000,
    "duizend": 1000,
    "million": 10**6,
    "millions": 10**6,
    "millionen": 10**6,
    "mill\u00f3n": 10**6,
    "millones": 10**6,
    "milioni": 10**6,
    "milione": 10**6,
    "milh\u00e3o": 10**6,
    "milh\u00f5es": 10**6,
    "miljoen": 10**6,
    "milliard": 10**9,
    "milliards": 10**9,
    "milliarde": 10**9,
    "milliarden": 10**9,
    "miljard": 10**9,
}
_BILLION = {"en": 10**9, "de": 10**12, "fr": 10**12, "es": 10**12}
_SIGNS = {
    "percent": "%",
    "prozent": "%",
    "procent": "%",
    "dollar": "$",
    "dollars": "$",
    "d\u00f3lares": "$",
    "euro": "\u20ac",
    "euros": "\u20ac",
    "pound": "\u00a3",
    "pounds": "\u00a3",
    "pfund": "\u00a3",
    "and": "&",
    "und": "&",
    "et": "&",
    "y": "&",
}
_TWO_WORD_SIGNS = {("per", "cent"): "%", ("pour", "cent"): "%", ("por", "ciento"): "%", ("por", "cento"): "%"}
_CURRENCIES = "$\u20ac\u00a3"
_BEFORE_ONE_WORDS = "no any some every each the this that which another either neither last next only"
_BEFORE_ONE = frozenset(_BEFORE_ONE_WORDS.split())
_BEHIND_ONE = frozenset({"of", "another", "day", "thing", "who", "that"})
_ALSO_WORDS = {
    "en": ("second", "seconds"),
    "de": ("ein", "eine", "einen", "einem", "einer", "eines"),
    "fr": ("un", "une", "neuf", "second", "seconde"),
    "es": ("un", "una", "uno", "segundo"),
    "it": ("un", "uno", "una", "secondo"),
    "pt": ("um", "uma", "segundo"),
    "nl": ("een",),
}
"""Words that say a number only sometimes, by language."""

_ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th|er|re|e|\u00e8me|eme|\.?[\u00ba\u00aa]|\.)")
_DECADES = {
    "twenties": "20s",
    "thirties": "30s",
    "forties": "40s",
    "fifties": "50s",
    "sixties": "60s",
    "seventies": "70s",
    "eighties": "80s",
    "nineties": "90s",
}


def same_value(old: Sequence[Token], new: Sequence[Token], language: str | None) -> bool:
    """Whether two passages say the same number, one of them at least in digits or signs.

    Two that are both in words are the same only where the words are; that is for others to see.

    Args:
        old: Words of the original.
        new: Words that should replace them.
        language: ISO 639-1 code; None where nobody knows.
    """
    code = (language or "").partition("-")[0].lower()
    if not old or not new or not any(token.has_digit or token.key in "%$\u20ac\u00a3&" for token in (*old, *new)):
        return False
    first, second = _values(old, code), _values(new, code)
    if first & second:
        return True
    # What was written in digits wasn't read out: `3 5` isn't `35`.
    read_out = [not any(token.has_digit for token in side) for side in (old, new)]
    return any((read_out[0] and _spoken_as(a, b)) or (read_out[1] and _spoken_as(b, a)) for a in first for b in second)


def in_digits(old: Sequence[Token], new: Sequence[Token], before: str, after: str, language: str | None) -> bool:
    """Whether what says the same by value may be written in digits or signs here.

    A sign wants its number. Pounds may be of weight, and get no sign. `one` of `no one`, a lone `second`, articles and
    other words that say a number only sometimes stay words.

    Args:
        old: Words of the original.
        new: Words that should replace them.
        before: The word before them; empty where there is none.
        after: The word behind them.
        language: ISO 639-1 code; None where nobody knows.
    """
    keys, put = [token.key for token in old], [token.key for token in new]
    code = (language or "").partition("-")[0].lower()
    if "\u00a3" in put and "\u00a3" not in keys:
        return False
    if any(key in _CURRENCIES or key == "%" for key in put) and not any(token.has_digit for token in new):
        return False
    if len(keys) != 1 or not new or not any(token.has_digit for token in new):
        return True
    if keys[0] == "one" and code == "en":
        return before not in _BEFORE_ONE and after not in _BEHIND_ONE
    return keys[0] not in _ALSO_WORDS.get(code, ())


def is_number(key: str, language: str | None) -> bool:
    """Whether a word says a number, or a part of one."""
    code = (language or "").partition("-")[0].lower()
    if any(character.isdecimal() for character in key) or key in _SCALES or key in _DECADES:
        return True
    return code in LANGUAGES and any(character.isdecimal() for character in _digits(key, code))


# One passage, as a row of values


def _values(passage: Sequence[Token], code: str) -> set[tuple[str, ...]]:
    """The ways to read a passage: words as they are, numbers as digits, signs behind their number."""
    readings = {_reading(passage, code, ordinals=False)}
    if code == "de" and any(token.dotted for token in passage):
        readings.add(_reading(passage, code, ordinals=True))
    return readings


def _reading(passage: Sequence[Token], code: str, *, ordinals: bool) -> tuple[str, ...]:
    row: list[str] = []
    words: list[str] = []

    def spoken() -> None:
        row.extend(_said(words, code))
        words.clear()

    currency = ""
    for token in passage:
        key = token.key
        if key in _CURRENCIES:
            spoken()
            currency = key
        elif token.has_digit:
            spoken()
            value = _plain(key, code)
            row.append(value + "#" if ordinals and token.dotted and value.isdecimal() else value)
        elif row and not words and _scaled(row[-1], key, code):
            row[-1] = _scaled(row[-1], key, code) or ""
        else:
            if currency:
                spoken()
                row.append(currency)
                currency = ""
            words.append(key)
    spoken()
    return tuple(_with_cents(_with_signs([*row, currency] if currency else row, code)))


def _plain(key: str, code: str) -> str:
    """Digits without the marks that part thousands, with a point before decimals; `5th` as `5#`."""
    ordinal = _ORDINAL.fullmatch(key)
    if ordinal:
        return ordinal.group(1) + "#"
    thousands, point = (".", ",") if code in _DECIMAL_COMMA else (",", ".")
    match = re.fullmatch(rf"(-?)(\d{{1,3}}(?:{re.escape(thousands)}\d{{3}})+|\d+)(?:{re.escape(point)}(\d+))?", key)
    if match is None:
        return key
    whole = match.group(2).replace(thousands, "")
    return f"{match.group(1)}{whole}" + (f".{match.group(3)}" if match.group(3) else "")


def _scaled(value: str, key: str, code: str) -> str | None:
    """`2.5` and `million` as `2500000`; None where the word is no such word, or what stands before it no number."""
    scale = _BILLION.get(code) if key in ("billion", "billionen", "billones", "billions") else _SCALES.get(key)
    if scale is None:
        return None
    try:
        return format((Decimal(value) * scale).normalize(), "f")
    except InvalidOperation:
        return None


def _said(words: list[str], code: str) -> list[str]:
    """A run of words, with the numbers in it as digits."""
    if not words or code not in LANGUAGES:
        return list(words)
    run = list(words)
    if code == "en":
        run = [
            "one" if word == "a" and run[at + 1 : at + 2] and run[at + 1] in _SCALES else word
            for at, word in enumerate(run)
        ]
        run = ["zero" if word in ("oh", "o") and len(run) > 1 else _DECADES.get(word, word) for word in run]
    if _POINTS[code] in run:
        # text2num takes the `million` of `six point two million` for a number of its own.
        point = run.index(_POINTS[code])
        at = next((at for at in range(point, len(run)) if _scaled("1", run[at], code)), None)
        if at is not None:
            row = _said(run[:at], code)
            scaled = _scaled(row[-1], run[at], code)
            return [*(row[:-1] if scaled else row), scaled or run[at], *_said(run[at + 1 :], code)]
    row = [_plain(word, code) for word in _digits(" ".join(run), code).split()]
    for at in range(len(row) - 1, 0, -1):
        if row[at - 1] == _MINUS[code] and row[at][:1].isdecimal():
            row[at - 1 : at + 1] = ["-" + row[at]]
    return row


@lru_cache(maxsize=4096)
def _digits(text: str, code: str) -> str:
    from text_to_num import alpha2digit

    return str(alpha2digit(text, code, 0))


def _with_cents(row: list[str]) -> list[str]:
    """`5 $ & 50 cents` as `5.50 $`."""
    text = " ".join(row)
    return re.sub(r"\b(\d+) ([$\u20ac]) (?:& )?([1-9]\d) (?:cents?|centimes|c\u00e9ntimos)$", r"\1.\3 \2", text).split()


def _with_signs(row: list[str], code: str) -> list[str]:
    found: list[str] = []
    at = 0
    while at < len(row):
        if tuple(row[at : at + 2]) in _TWO_WORD_SIGNS:
            found.append(_TWO_WORD_SIGNS[tuple(row[at : at + 2])])  # type: ignore[index]
            at += 2
            continue
        # `100` and not `cent`: text2num has read the French word by now.
        if code == "fr" and row[at] == "pour" and row[at + 1 : at + 2] == ["100"]:
            found.append("%")
            at += 2
            continue
        if code == "es" and row[at] == "por" and row[at + 1 : at + 2] == ["100"]:
            found.append("%")
            at += 2
            continue
        if found and row[at] in ("a", "p") and row[at + 1 : at + 2] == ["m"] and found[-1][-1:].isdecimal():
            found.append(row[at] + "m")
            at += 2
            continue
        found.append(_SIGNS.get(row[at], row[at]))
        at += 1
    return found


# Ways to say what is written in one piece


def _spoken_as(said: tuple[str, ...], written: tuple[str, ...]) -> bool:
    """Whether a row of small numbers is how digits are read out: `nineteen eighty four`, `five thirty`."""
    tail = 0
    while tail < min(len(said), len(written)) - 1 and said[-1 - tail] == written[-1 - tail]:
        tail += 1
    groups, whole = said[: len(said) - tail], written[: len(written) - tail]
    if len(groups) < 2 or not all(re.fullmatch(r"\d+s?", group) for group in groups):
        return False
    put = "".join(groups)
    if all(re.fullmatch(r"\d", group) for group in groups):
        return put == "".join(whole)
    if len(whole) != 1 or not _in_pairs(groups):
        return False
    return put == re.sub(r"(?<=\d):(?=\d\d$)", "", whole[0])


def _in_pairs(groups: tuple[str, ...]) -> bool:
    """One or two digits, then pairs of digits: `19 84`, `1 50`, `20 0 5`."""
    first, *rest = groups
    pairs = re.fullmatch(r"(?:\d\ds?|0 \d)(?: (?:\d\d|0 \d))?", " ".join(rest))
    return len(first) <= 2 and first != "0" and pairs is not None
