"""The plain data of speech in a recording, below both media and providers; standard library only."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SAMPLE_RATE_HZ", "Segment", "Span", "Word"]

SAMPLE_RATE_HZ = 16_000
"""The one sample rate of decoded audio: what Silero VAD, Whisper and pocketsphinx all expect."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of audio that holds speech: `start_s` to `end_s`, seconds from the first sample."""

    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Word:
    """One recognised word: seconds from the first sample, probability 0-1 (None when the engine has none)."""

    start_s: float
    end_s: float
    text: str
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """One recognised stretch of speech.

    Args:
        start_s: Seconds from the first sample that the engine was given.
        end_s: Likewise; never before `start_s`.
        text: As recognised, stripped, never empty.
        confidence: 0-1; None when the engine has none.
        avg_logprob: Mean token log probability (Whisper); None elsewhere.
        no_speech_prob: 0-1 (Whisper); None elsewhere.
        compression_ratio: Characters to zlib bytes (Whisper); None elsewhere.
        words: Word times in order, where they were asked for.
        speaker: Who speaks, as the engine calls them; None when it doesn't tell speakers apart.
        language: ISO 639-1 code of this segment; None where the engine doesn't tell.
    """

    start_s: float
    end_s: float
    text: str
    confidence: float | None = None
    avg_logprob: float | None = None
    no_speech_prob: float | None = None
    compression_ratio: float | None = None
    words: tuple[Word, ...] = ()
    speaker: str | None = None
    language: str | None = None
