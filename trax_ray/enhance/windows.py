"""A transcript in windows: numbered segments, what the recogniser doubted in them, and the text around."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from trax_ray.core.writing import joined, units
from trax_ray.media.speech import Segment, Word

__all__ = [
    "CONTEXT_WORDS",
    "DOUBTED_SEGMENT",
    "DOUBTED_WORD",
    "TARGET_WORDS",
    "Doubt",
    "Window",
    "WindowSegment",
    "doubted",
    "plan_windows",
]

TARGET_WORDS = 400
"""Words of a window; a five-minute talk has about 750."""

CONTEXT_WORDS = 40
"""Words of its neighbours that a window shows on each side."""

DOUBTED_WORD = 0.6
"""Words of a lower probability are doubted.

Measured with tiny.en over real speech, clear and in noise: that finds 57 % of the wrong words, and
half of what it finds is wrong.
"""

DOUBTED_SEGMENT = 0.5
"""Segments of a lower confidence are doubted as a whole, where their words have no probabilities."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """A passage that the recogniser itself wasn't sure of.

    Args:
        start: First character in the segment's text.
        end: Behind the last one.
        word: Whether the doubt is of these very words; False where only the segment as a whole is known to be weak.
    """

    start: int
    end: int
    word: bool = True


@dataclass(frozen=True, slots=True)
class WindowSegment:
    """A segment as a window shows it.

    Args:
        number: Its place in the transcript, counted from 1.
        text: As recognised.
        start_s: Seconds from the recording's beginning.
        end_s: Likewise.
        doubted: Passages, in order, that don't overlap.
        language: ISO 639-1 code; None where nobody knows.
    """

    number: int
    text: str
    start_s: float
    end_s: float
    doubted: tuple[Doubt, ...] = ()
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """Segments that are enhanced together.

    Args:
        index: From 0.
        segments: In order, at least one.
        before: The end of what comes before them; empty at the transcript's beginning.
        after: The beginning of what comes after them; empty at its end.
    """

    index: int
    segments: tuple[WindowSegment, ...]
    before: str = ""
    after: str = ""


def plan_windows(
    segments: Sequence[Segment],
    *,
    target_words: int = TARGET_WORDS,
    context_words: int = CONTEXT_WORDS,
    language: str | None = None,
) -> tuple[Window, ...]:
    """The windows of a transcript, in order: each segment is in exactly one. The same for the same transcript.

    A window ends where its words are nearest to the target, and rather behind the end of a sentence.

    Args:
        segments: Of the transcript, in order.
        target_words: Words of a window (characters of scripts without spaces); a longer segment is a window alone.
        context_words: Words of context on each side.
        language: Of the transcript, for segments that don't tell their own.
    """
    if target_words < 1 or context_words < 0:
        raise ValueError("target_words is at least 1, context_words at least 0")
    sizes = [len(units(segment.text)) for segment in segments]
    groups: list[list[int]] = []
    words = 0
    for number, size in enumerate(sizes):
        if not groups or (words and words + size > target_words):
            groups.append([])
            words = 0
        groups[-1].append(number)
        words += size
    numbered = [
        WindowSegment(
            number=number + 1,
            text=segment.text,
            start_s=segment.start_s,
            end_s=segment.end_s,
            doubted=doubted(segment),
            language=segment.language or language,
        )
        for number, segment in enumerate(segments)
    ]
    return tuple(
        Window(
            index=index,
            segments=tuple(numbered[group[0] : group[-1] + 1]),
            before=_last_words(segments[: group[0]], context_words),
            after=_first_words(segments[group[-1] + 1 :], context_words),
        )
        for index, group in enumerate(groups)
    )


def _last_words(segments: Sequence[Segment], count: int) -> str:
    taken: list[str] = []
    words = 0
    for segment in reversed(segments):
        if words >= count:
            break
        taken.insert(0, segment.text)
        words += len(units(segment.text))
    return _cut(joined(taken), words - count, from_start=True)


def _first_words(segments: Sequence[Segment], count: int) -> str:
    taken: list[str] = []
    words = 0
    for segment in segments:
        if words >= count:
            break
        taken.append(segment.text)
        words += len(units(segment.text))
    return _cut(joined(taken), words - count, from_start=False)


def _cut(text: str, surplus: int, *, from_start: bool) -> str:
    """A text without that many of its first or last words."""
    if surplus <= 0:
        return text
    parts = units(text)
    return joined(parts[surplus:] if from_start else parts[:-surplus])


# What was doubted


def doubted(
    segment: Segment, *, word_below: float = DOUBTED_WORD, segment_below: float = DOUBTED_SEGMENT
) -> tuple[Doubt, ...]:
    """The passages of a segment's text that its recogniser wasn't sure of; neighbours are one passage.

    Args:
        segment: With the probabilities of its words, or with a confidence, or with neither: then nothing is doubted.
        word_below: Words of a lower probability are doubted.
        segment_below: A segment of a lower confidence is, where no word has a probability.
    """
    if any(word.probability is not None for word in segment.words):
        return _of_words(segment.text, segment.words, word_below)
    if segment.confidence is not None and segment.confidence < segment_below and segment.text:
        return (Doubt(0, len(segment.text), word=False),)
    return ()


_TOKEN = re.compile(r"\S+")


def _bare(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum()) or text.strip()


def _of_words(text: str, words: Sequence[Word], below: float) -> tuple[Doubt, ...]:
    places = [(match.start(), match.end()) for match in _TOKEN.finditer(text)]
    here = [_bare(text[start:end]) for start, end in places]
    heard = [_bare(word.text) for word in words]
    weak: list[tuple[int, int]] = []
    for a, b, size in difflib.SequenceMatcher(None, here, heard, autojunk=False).get_matching_blocks():
        for step in range(size):
            probability = words[b + step].probability
            if probability is not None and probability < below:
                weak.append(places[a + step])
    found: list[Doubt] = []
    for start, end in weak:
        if found and not text[found[-1].end : start].strip():
            found[-1] = Doubt(found[-1].start, end)
        else:
            found.append(Doubt(start, end))
    return tuple(found)
