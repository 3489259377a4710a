"""Enhancers that need no model: one that knows what was said, and one that guesses words at random."""

from __future__ import annotations

import difflib
import random
from collections.abc import Iterator, Sequence

from trax_ray.enhance.edits import Applied, Edit, apply
from trax_ray.enhance.matching import places
from trax_ray.enhance.tokens import Token, tokens
from trax_ray.enhance.windows import Window, WindowSegment

__all__ = ["answered", "enhanced", "guesses", "knows"]


def knows(window: Window, reference: str) -> Iterator[tuple[Edit, bool]]:
    """Edits that put what was said wherever it differs, words by words; and whether all of the passage was doubted.

    Args:
        window: All segments of a transcript.
        reference: What was said.
    """
    said = tokens(reference, "en")
    heard = [(segment, token) for segment in window.segments for token in tokens(segment.text, "en")]
    matcher = difflib.SequenceMatcher(
        None, [token.key for _, token in heard], [each.key for each in said], autojunk=False
    )
    for tag, a, a_end, b, b_end in matcher.get_opcodes():
        if tag != "replace" or len({segment.number for segment, _ in heard[a:a_end]}) != 1:
            continue
        segment = heard[a][0]
        old = [token for _, token in heard[a:a_end]]
        yield (
            _edit(segment, old, " ".join(token.text for token in said[b:b_end])),
            all(_doubted(segment, each) for each in old),
        )


def guesses(window: Window, vocabulary: Sequence[str], seed: int) -> Iterator[Edit]:
    """Edits that put a random word in the place of each word that was doubted."""
    rng = random.Random(seed)
    for segment in window.segments:
        for token in tokens(segment.text, "en"):
            if _doubted(segment, token):
                yield _edit(segment, [token], rng.choice(vocabulary))


def enhanced(window: Window, edits: Sequence[Edit]) -> Applied:
    """What comes of edits, each asked for alone: one that is refused spoils no other."""
    passing = [edit for edit in edits if apply(window, [edit], level="words").accepted]
    return apply(window, passing, level="words")


def answered(window: Window, edits: Sequence[Edit]) -> Applied:
    """What comes of edits as a batch makes them: all in one answer, and in a second one those that weren't refused."""
    first = apply(window, edits, level="words")
    if first.holds:
        return first
    refused = {each.edit for each in first.refused if each.harmful}
    second = apply(window, [edit for edit in edits if edit not in refused], level="words", unlike=first.unlike)
    return max(second, first, key=lambda each: sum(segment.held for segment in each.segments))


def _doubted(segment: WindowSegment, token: Token) -> bool:
    return any(doubt.start <= token.start and token.end <= doubt.end for doubt in segment.doubted)


def _edit(segment: WindowSegment, old: Sequence[Token], new: str) -> Edit:
    text = segment.text
    left, right = old[0].start, old[-1].end
    while len(places(text, text[left:right])) != 1:
        left, right = max(0, left - 1), min(len(text), right + 1)
    return Edit(segment.number, text[left:right], text[left : old[0].start] + new + text[old[-1].end : right])
