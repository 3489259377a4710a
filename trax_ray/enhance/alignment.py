"""Where two texts of a segment differ, word by word."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trax_ray.enhance.numbers import is_number, same_value
from trax_ray.enhance.tokens import Token

__all__ = ["Change", "changes"]


@dataclass(frozen=True, slots=True)
class Change:
    """Words that differ: those of the original, and those that should replace them."""

    old: tuple[Token, ...]
    new: tuple[Token, ...]
    old_at: int
    new_at: int


def changes(old: Sequence[Token], new: Sequence[Token], language: str | None) -> Iterator[Change]:
    """The stretches in which the words differ; those that belong to one number as one."""
    blocks = _blocks([each.key for each in old], [each.key for each in new])
    at = 0
    while at < len(blocks):
        a, a_end, b, b_end = blocks[at]
        best = at
        if not same_value(old[a:a_end], new[b:b_end], language):
            # Between `one hundred and fifty and six` and `150 and 6` the wrong `and` may be aligned.
            for further in range(at + 1, min(at + 6, len(blocks))):
                between = old[blocks[further - 1][1] : blocks[further][0]]
                if len(between) > 2 or not all(is_number(each.key, language) or len(each.key) <= 3 for each in between):
                    break
                if same_value(old[a : blocks[further][1]], new[b : blocks[further][3]], language):
                    best = further
        a_end, b_end = blocks[best][1], blocks[best][3]
        if same_value(old[a:a_end], new[b:b_end], language):
            # `five` and `5` aren't the same in `twenty five` and `twenty 5`.
            while a and b and is_number(old[a - 1].key, language):
                a, b = a - 1, b - 1
            while a_end < len(old) and b_end < len(new):
                if is_number(old[a_end].key, language):
                    a_end, b_end = a_end + 1, b_end + 1
                    continue
                # Nor are `a hundred` and `five` in `a hundred and five`.
                if old[a_end].key not in _AND or not _is_number_at(old, a_end + 1, language):
                    break
                if best + 1 < len(blocks) and blocks[best + 1][0] == a_end + 1:
                    best += 1
                    a_end, b_end = blocks[best][1], blocks[best][3]
                else:
                    a_end, b_end = a_end + 2, min(b_end + 2, len(new))
        yield Change(tuple(old[a:a_end]), tuple(new[b:b_end]), a, b)
        at = best + 1


_AND = frozenset({"and", "und", "et", "y", "e", "en"})


def _is_number_at(words: Sequence[Token], at: int, language: str | None) -> bool:
    return at < len(words) and is_number(words[at].key, language)


def _blocks(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int, int, int]]:
    """Where two rows of words differ: from and to in the one, from and to in the other."""
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    tail = 0
    while tail < min(len(old), len(new)) - start and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    middle = old[start : len(old) - tail], new[start : len(new) - tail]
    if not any(middle):
        return []
    codes = difflib.SequenceMatcher(None, *middle, autojunk=False).get_opcodes()
    return [(a + start, a_end + start, b + start, b_end + start) for tag, a, a_end, b, b_end in codes if tag != "equal"]
