"""What Whisper's decoder gives, as segments and words in the recording's time. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from trax_ray.core.policy.quality import compression_ratio
from trax_ray.providers.base import SAMPLE_RATE_HZ, Segment, Word
from trax_ray.providers.whisper_windows import Found, Piece, Window

__all__ = ["segment_of", "split_at_stamps", "words_of"]

_STAMP = SAMPLE_RATE_HZ // 50
"""Samples of a step between two time stamps, 20 ms."""


def words_of(timed: Sequence[dict[str, Any]], offset_s: float) -> Iterator[Word]:
    """Words with their times, as faster-whisper lays them out.

    Args:
        timed: Each with `word`, `start`, `end` (seconds) and `probability`.
        offset_s: Where in the recording these times begin.
    """
    for word in timed:
        text = str(word["word"]).strip()
        if text:
            chance = _finite(word["probability"])
            start_s, end_s = float(word["start"]) + offset_s, float(word["end"]) + offset_s
            yield Word(start_s, end_s, text, None if chance is None else min(max(chance, 0.0), 1.0))


def split_at_stamps(tokens: list[int], begin: int, length: int) -> tuple[list[tuple[int, int, list[int]]], int | None]:
    """Part a window's tokens at its time stamps, as Whisper does.

    A pair of equal stamps parts two segments. Tokens that end in a single stamp say that nothing follows; those that
    end in a pair say where to go on, and so does what follows the last pair: that segment is unfinished.

    Args:
        tokens: Of one window.
        begin: The first token that is a time stamp: 0.00 s.
        length: Of the window, samples.

    Returns:
        (start, end, tokens) of each segment, in samples from the window's beginning; and the sample at which the
        decoder wants to go on, None where it is through.

    Source:
        `transcribe.py` of openai/whisper.
    """
    stamped = [token >= begin for token in tokens]
    through = len(tokens) >= 2 and stamped[-1] and not stamped[-2]
    pairs = [at for at in range(1, len(tokens)) if stamped[at] and stamped[at - 1]]
    if not pairs:
        stamps = [token for token in tokens if token > begin]
        end = min(length, (stamps[-1] - begin) * _STAMP) if stamps else length
        return [(0, end, tokens)], None
    edges = [0, *pairs, *([len(tokens)] if through else [])]
    parts = [tokens[low:high] for low, high in pairwise(edges)]
    placed = [((part[0] - begin) * _STAMP, (part[-1] - begin) * _STAMP, part) for part in parts]
    return placed, None if through else placed[-1][1]


def segment_of(piece: Piece, found: Found, floor_s: float) -> Segment:
    """A piece as a segment, in the recording's time and not before the last one's end."""
    low, high = _placed(piece, found.window)
    start_s = max(low / SAMPLE_RATE_HZ, floor_s)
    end_s = max(high / SAMPLE_RATE_HZ, start_s)
    words = _ordered(piece.words, start_s, end_s)
    logprob = _finite(found.avg_logprob)
    confidence = None if logprob is None else math.exp(min(logprob, 0.0))
    known = [word.probability for word in words if word.probability is not None]
    if known:
        confidence = sum(known) / len(known)
    silence = _finite(found.no_speech_prob)
    return Segment(
        start_s=start_s,
        end_s=end_s,
        text=piece.text,
        confidence=confidence,
        avg_logprob=logprob,
        no_speech_prob=None if silence is None else min(max(silence, 0.0), 1.0),
        compression_ratio=compression_ratio(piece.text),
        words=words,
        language=found.language,
    )


def _placed(piece: Piece, window: Window) -> tuple[int, int]:
    """A piece's edges, moved into the speech that it touches; as they are where it touches none."""
    touched = [(low, high) for low, high in window.parts if piece.start < high and piece.end > low]
    if not touched:
        return piece.start, piece.end
    return max(piece.start, touched[0][0]), min(piece.end, touched[-1][1])


def _ordered(words: Sequence[Word], start_s: float, end_s: float) -> tuple[Word, ...]:
    """Words within their segment, each not before the one before it."""
    placed = []
    for word in words:
        begins = min(max(word.start_s, start_s), end_s)
        start_s = min(max(word.end_s, begins), end_s)
        placed.append(replace(word, start_s=begins, end_s=start_s))
    return tuple(placed)


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
