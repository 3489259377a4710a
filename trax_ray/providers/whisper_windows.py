"""What Whisper hears at once, and what in it has no words yet: planning, pure.

Speech is cut into windows of up to 15 s that end in pauses. A window that was decoded is held against the speech in
it: what comes before, between and after its words is decoded again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trax_ray.core.writing import joined
from trax_ray.media.chunking import FRAME, quietest
from trax_ray.media.speech import SAMPLE_RATE_HZ, Span, Word

__all__ = ["LIMIT", "PAUSE", "Found", "Piece", "Window", "is_crammed", "is_loop", "unheard", "windows_of"]

Audio = npt.NDArray[np.float32]

LIMIT = 15 * SAMPLE_RATE_HZ
"""The longest window, samples. Measured with tiny.en on four sets of joined speech (1,295 to 2,768 words): windows of
15 s lose no more words than those of 20, 25 or 30 s and repeat less, and their encoding takes half the time of the
latter, since its cost grows with the square of the length."""

PAUSE = 2 * SAMPLE_RATE_HZ
"""Speech goes on in the same window over pauses up to this, samples; what is in them is heard too."""

REST = SAMPLE_RATE_HZ
"""Speech of this length, samples, that has no words is decoded again."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of audio that is decoded in one go; all figures are samples.

    Args:
        start: Where it begins.
        end: Where it ends, at most `LIMIT` later.
        parts: The speech in it, as (start, end).
        again: Whether it is a part of a window that was decoded before, and had no words there.
    """

    start: int
    end: int
    parts: tuple[tuple[int, int], ...]
    again: bool = False

    @property
    def speech_s(self) -> float:
        """Seconds of speech in it."""
        return sum(end - start for start, end in self.parts) / SAMPLE_RATE_HZ

    def within(self, start: int, end: int) -> Window | None:
        """The part of it between two samples that holds speech, as a window; None where that is none."""
        parts = [(max(low, start), min(high, end)) for low, high in self.parts]
        parts = [(low, high) for low, high in parts if high - low >= FRAME]
        return Window(parts[0][0], parts[-1][1], tuple(parts), again=True) if parts else None


@dataclass(frozen=True, slots=True)
class Piece:
    """Words that were found in a window, between two of its time stamps.

    Args:
        start: Sample of the recording at which they begin.
        end: Sample at which they end.
        text: As decoded, stripped.
        tokens: Their text tokens.
        words: Their times, seconds of the recording, where they were asked for.
    """

    start: int
    end: int
    text: str
    tokens: tuple[int, ...]
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """What a window held.

    Args:
        window: The window.
        pieces: In order of time.
        seek: Sample at which the decoder wants to go on; None where it said that it was through.
        avg_logprob: Mean log probability of the tokens.
        no_speech_prob: 0-1.
        language: In which it was decoded.
    """

    window: Window
    pieces: tuple[Piece, ...]
    seek: int | None
    avg_logprob: float
    no_speech_prob: float
    language: str

    @property
    def text(self) -> str:
        """All of its words."""
        return joined(piece.text for piece in self.pieces if piece.text)


def windows_of(audio: Audio, speech: Sequence[Span], *, pause: int = PAUSE) -> list[Window]:
    """Cut and merge spans of speech into windows that Whisper can take. Pure.

    Args:
        audio: float32, shape (n_samples,), mono, [-1, 1], at 16,000 Hz.
        speech: Spans in order, without overlap.
        pause: The longest pause inside a window, samples.

    Returns:
        Windows in order: neighbours are merged while they fit, a span that is too long is cut where it is
        quietest in the last third.
    """
    windows: list[Window] = []
    for start, end in _cut(audio, speech):
        last = windows[-1] if windows else None
        if last is not None and start - last.end <= pause and end - last.start <= LIMIT:
            windows[-1] = Window(last.start, end, (*last.parts, (start, end)))
        else:
            windows.append(Window(start, end, ((start, end),)))
    return windows


def _cut(audio: Audio, speech: Sequence[Span]) -> Iterator[tuple[int, int]]:
    for span in speech:
        start = max(0, round(span.start_s * SAMPLE_RATE_HZ))
        end = min(len(audio), round(span.end_s * SAMPLE_RATE_HZ))
        while end - start > LIMIT:
            cut = start + quietest(audio[start : start + LIMIT], LIMIT * 2 // 3, LIMIT)
            yield start, cut
            start = cut
        if end - start >= FRAME:
            yield start, end


def is_loop(found: Found) -> bool:
    """Whether the text is one that the decoder repeated, and not one that was said.

    What somebody says three times repeats itself as a loop does, and takes its time; a loop has more tokens than are
    said in the speech that it is made for.
    """
    tokens = [token for piece in found.pieces for token in piece.tokens]
    per_s = len(tokens) / max(found.window.speech_s, 0.5)
    runs = list(zip(*(tokens[at:] for at in range(_RUN)), strict=False))
    return per_s > _MOST_TOKENS_PER_S or (per_s > _MANY_TOKENS_PER_S and len(set(runs)) < len(runs))


def is_crammed(found: Found) -> bool:
    """Whether some words have no room: more of them than can be said until the next ones, or the window's end.

    A decoder that sees the end of the sound too early says the last sentence once more, in what is left.
    """
    starts = [*(piece.start for piece in found.pieces[1:]), found.window.end]
    rooms = ((start - piece.start) / SAMPLE_RATE_HZ for piece, start in zip(found.pieces, starts, strict=False))
    return any(
        len(piece.tokens) > _FEW_TOKENS + _MOST_TOKENS_PER_S * max(room_s, 0.0)
        for piece, room_s in zip(found.pieces, rooms, strict=True)
    )


def unheard(found: Found) -> list[Window]:
    """Hold a decoded window against the speech in it. Pure.

    Returns:
        Windows of what is to be decoded once more: speech before, between and after the pieces. They are shorter than
        this one, and what was decoded again already is only looked at after its last words, so this comes to an end.
    """
    window, pieces = found.window, found.pieces
    if not pieces:
        return []  # it was said to be silence, or the decoder has nothing to say about it
    rests: list[Window | None] = []
    if not window.again:
        edges = [window.start, *(edge for piece in pieces for edge in (piece.start, piece.end))]
        rests = [window.within(low, high) for low, high in zip(edges[::2], edges[1::2], strict=False)]
    last = max(piece.end for piece in pieces)
    if found.seek is not None:
        last = min(last, found.seek)
    if last - window.start >= _LEAST_STEP:
        rests.append(window.within(last, window.end))
    return [rest for rest in rests if rest is not None and rest.speech_s * SAMPLE_RATE_HZ >= REST]


_LEAST_STEP = 3 * SAMPLE_RATE_HZ // 10
"""A decoder that stops earlier than this (samples) would be asked for the same again."""

_FEW_TOKENS = 4
"""So few may be where a time stamp is off."""

_RUN = 6
"""So many tokens in a row that occur twice are a repetition."""

_MOST_TOKENS_PER_S = 14.0
_MANY_TOKENS_PER_S = 5.0
"""Tokens in a second of speech: more than can be said, and more than is said slowly. English has 1.3 tokens a word and
three words a second."""
