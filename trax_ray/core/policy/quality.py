"""Quality in numbers: confidence, coverage, repetition, word error rate. Numbers in, metrics and warnings out.

Accuracies are percentages, 0-100, and None when unknown. `measured_accuracy` exists only against a reference
transcript; `estimated_accuracy` comes from the model's own confidence and is never mixed with it.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trax_ray.codes import WarningCode
from trax_ray.core.policy.enhanced import EnhancedTotals
from trax_ray.core.writing import units

__all__ = [
    "LOW_CONFIDENCE",
    "QualityTotals",
    "accuracy_percent",
    "assess",
    "audio_us",
    "compression_ratio",
    "repeats",
    "uncovered",
    "word_error_rate",
]

TRANSCRIBE, ENHANCE = "transcribe", "enhance"

LOW_CONFIDENCE = 0.5
"""A segment with a mean word probability below this is worth a second look (-0.7 average log probability)."""

REPETITION_RATIO = 2.4
"""Text with a higher compression ratio than this repeats itself (openai/whisper, `compression_ratio_threshold`)."""

REPETITION_MIN_CHARACTERS = 120
"""Shorter texts can't be judged: zlib's own overhead outweighs them."""

REPETITION_WORDS = 120
"""Words in the stretch that the ratio is taken of: what Whisper says at once. A whole talk of an hour has a ratio above
2.7 without repetition; of 472 stretches of up to 120 words from genuine talks none was above 2.30."""

_REPETITION_STEP = 40
_LETTERS_A_WORD = 4
"""Where a script has no spaces."""

UNCOVERED_S = 1.5
"""Speech of this length in a row that no segment covers has missing words, seconds."""

_TOLERANCE_S = 0.5
"""How far the times of a segment may be off."""

_THIN_S = 4.0
_THIN_WORDS_PER_S = 0.5
"""A segment over at least `_THIN_S` seconds of speech with fewer words a second covers none of it: people speak 2 to
3."""

SPARSE_WORDS_PER_S = 0.5
"""Fewer words per second of detected speech than this means that speech was missed; people speak 2 to 3."""

SPARSE_MIN_SPEECH_S = 5.0


def word_error_rate(errors: int, words: int) -> float | None:
    """Errors per reference word, pooled; may pass 1. None without reference words."""
    return errors / words if words else None


def accuracy_percent(errors: int, words: int) -> float | None:
    """max(0, 100 x (1 - WER)); None without reference words."""
    rate = word_error_rate(errors, words)
    return None if rate is None else max(0.0, 100.0 * (1.0 - rate))


def compression_ratio(text: str) -> float:
    """UTF-8 bytes over zlib bytes; about 1 to 2 for speech, much more for repetition. 0.0 for no text."""
    encoded = text.encode("utf-8", "replace")
    return len(encoded) / len(zlib.compress(encoded)) if encoded else 0.0


def repeats(text: str) -> bool:
    """Whether some stretch of a text, up to `REPETITION_WORDS` long, says the same again and again."""
    words = text.split()
    if len(text) > 5 * _LETTERS_A_WORD * max(len(words), 1):
        letters = "".join(words)
        words = [letters[at : at + _LETTERS_A_WORD] for at in range(0, len(letters), _LETTERS_A_WORD)]
    last = max(1, len(words) - REPETITION_WORDS + _REPETITION_STEP)
    stretches = (" ".join(words[at : at + REPETITION_WORDS]) for at in range(0, last, _REPETITION_STEP))
    return any(
        len(stretch) >= REPETITION_MIN_CHARACTERS and compression_ratio(stretch) > REPETITION_RATIO
        for stretch in stretches
    )


def uncovered(
    speech: Iterable[tuple[float, float]], segments: Iterable[tuple[float, float, str]]
) -> list[tuple[float, float]]:
    """Speech without words. Pure.

    Args:
        speech: Where speech was found, (start, end) in seconds, in order, without overlap.
        segments: What was recognised, (start, end, text), in order.

    Returns:
        (start, end) of each stretch of speech of `UNCOVERED_S` or more that no segment covers, in order. Pauses of
        up to `_TOLERANCE_S` don't part a stretch. A segment with hardly a word for its length covers nothing.
    """
    spans = list(speech)
    covered = [
        (start - _TOLERANCE_S, end + _TOLERANCE_S)
        for start, end, text in segments
        if not _is_thin(start, end, text, spans)
    ]
    bare: list[list[float]] = []
    for low, high in spans:
        for start, end in _without(low, high, covered):
            if bare and start - bare[-1][1] <= _TOLERANCE_S:
                bare[-1][1] = end
                bare[-1][2] += end - start
            else:
                bare.append([start, end, end - start])
    return [(start, end) for start, end, speech_s in bare if speech_s >= UNCOVERED_S]


def _is_thin(start: float, end: float, text: str, speech: Iterable[tuple[float, float]]) -> bool:
    speech_s = sum(max(0.0, min(high, end) - max(low, start)) for low, high in speech)
    words = max(len(text.split()), len(text) // _LETTERS_A_WORD)
    return speech_s >= _THIN_S and words < _THIN_WORDS_PER_S * speech_s


def _without(low: float, high: float, covered: Iterable[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """What is left of a stretch without those that are covered."""
    for start, end in covered:
        if end <= low or start >= high:
            continue
        if start > low:
            yield low, start
        low = max(low, end)
    if high > low:
        yield low, high


def assess(
    text: str,
    confidences: Sequence[tuple[float, float | None]],
    *,
    speech_s: float,
    media_warnings: Iterable[str] = (),
    uncovered_s: float = 0.0,
) -> dict[str, Any]:
    """Judge one transcript.

    Args:
        text: All of it.
        confidences: Per segment its duration in seconds and its confidence 0-1 (None when unknown).
        speech_s: Seconds of detected speech; 0 means that there was none.
        media_warnings: Codes of decoding, such as `truncated`.
        uncovered_s: Seconds of speech without words, as `uncovered` finds them.

    Returns:
        `estimated_accuracy` (percent or None), `low_confidence_segments`, `words`, `no_speech` and the
        sorted list `warnings`.
    """
    known = [(max(seconds, 1e-3), value) for seconds, value in confidences if value is not None]
    seconds = sum(weight for weight, _ in known)
    estimated = 100.0 * sum(weight * value for weight, value in known) / seconds if known else None
    low = sum(1 for _, value in known if value < LOW_CONFIDENCE)
    words = len(units(text))
    warnings = set(media_warnings)
    if speech_s <= 0:
        warnings.add(WarningCode.NO_SPEECH)
    elif not words:
        warnings.add(WarningCode.EMPTY_TRANSCRIPT)
    elif speech_s >= SPARSE_MIN_SPEECH_S and words / speech_s < SPARSE_WORDS_PER_S:
        warnings.add(WarningCode.SPARSE_TRANSCRIPT)
    if speech_s > 0 and uncovered_s > 0:
        warnings.add(WarningCode.COVERAGE)
    if repeats(text):
        warnings.add(WarningCode.REPETITION)
    if low:
        warnings.add(WarningCode.LOW_CONFIDENCE)
    return {
        "estimated_accuracy": estimated,
        "low_confidence_segments": low,
        "words": words,
        "no_speech": speech_s <= 0,
        "warnings": sorted(warnings),
    }


CAPTIONS = "captions"
"""What metrics say is the source of a transcript that a publisher wrote."""


def audio_us(task_type: str, metrics: Mapping[str, Any]) -> int:
    """Microseconds of audio that an outcome transcribed; 0 of other tasks, so that a recording counts once."""
    heard = task_type == TRANSCRIBE and metrics.get("source") != CAPTIONS
    return round(1e6 * float(metrics.get("duration_s") or 0.0)) if heard else 0


@dataclass(slots=True)
class QualityTotals:
    """Sums over the inputs that succeeded, from the metrics of their outcomes.

    Sums of integers in microseconds and millionths, so that adding and taking away in any order gives the
    same to the bit.
    """

    audio_us: int = 0
    processing_us: int = 0
    estimated_millionths: int = 0
    estimated_us: int = 0
    wer_errors: int = 0
    wer_words: int = 0
    low_confidence_segments: int = 0
    no_speech_count: int = 0
    recovered_count: int = 0
    warnings: Counter[str] = field(default_factory=Counter)
    by_task_type: dict[str, dict[str, int]] = field(default_factory=dict)
    enhanced: EnhancedTotals = field(default_factory=EnhancedTotals)

    def add(self, task_type: str, metrics: Mapping[str, Any], *, recovered: bool, sign: int = 1) -> None:
        """Count one input that succeeded; `sign=-1` takes it away again."""
        transcribed = task_type == TRANSCRIBE
        captions = metrics.get("source") == CAPTIONS
        heard_us = 0 if captions else round(1e6 * float(metrics.get("duration_s") or 0.0))
        processing_us = round(1e6 * float(metrics.get("processing_s") or 0.0))
        self.audio_us += sign * audio_us(task_type, metrics)
        self.processing_us += sign * processing_us
        if metrics.get("estimated_accuracy") is not None:
            speech_us = round(1e6 * float(metrics.get("speech_s") or 0.0))
            self.estimated_millionths += sign * round(float(metrics["estimated_accuracy"]) * speech_us)
            self.estimated_us += sign * speech_us
        self.wer_errors += sign * int(metrics.get("wer_errors") or 0)
        self.wer_words += sign * int(metrics.get("wer_words") or 0)
        self.low_confidence_segments += sign * int(metrics.get("low_confidence_segments") or 0)
        self.no_speech_count += sign * (transcribed and bool(metrics.get("no_speech")))
        self.recovered_count += sign * recovered
        for warning in metrics.get("warnings") or ():
            self.warnings[warning] += sign
            if not self.warnings[warning]:
                del self.warnings[warning]
        if task_type == ENHANCE and "segments_preserved" in metrics:
            self.enhanced.add(metrics, sign=sign)
        kind = self.by_task_type.setdefault(task_type, {"count": 0, "audio_us": 0, "processing_us": 0})
        kind["count"] += sign
        kind["audio_us"] += sign * heard_us
        kind["processing_us"] += sign * processing_us

    def metrics(self, *, succeeded: int, failed: int, elapsed_s: float, audio_us_before: int = 0) -> dict[str, Any]:
        """The `quality_metrics` that users see.

        Args:
            succeeded: Inputs that succeeded.
            failed: Inputs that failed for good.
            elapsed_s: Seconds that the work took, for `x_realtime`.
            audio_us_before: Audio that was done before these seconds began, microseconds.
        """
        measured = accuracy_percent(self.wer_errors, self.wer_words)
        estimated = self.estimated_millionths / self.estimated_us if self.estimated_us else None
        audio_s = self.audio_us / 1e6
        ended = succeeded + failed
        return {
            "avg_accuracy": estimated if measured is None else measured,
            "accuracy_source": "measured" if measured is not None else "estimated" if estimated is not None else None,
            "measured_accuracy": measured,
            "estimated_accuracy": estimated,
            "avg_accuracy_improvement": self.enhanced.improvement,
            "content_preservation_rate": self.enhanced.preservation_rate,
            "low_confidence_segments": self.low_confidence_segments,
            "no_speech_count": self.no_speech_count,
            "audio_s": audio_s,
            "x_realtime": (self.audio_us - audio_us_before) / 1e6 / elapsed_s if elapsed_s > 0 else 0.0,
            "error_rate": 100.0 * failed / ended if ended else 0.0,
            "recovered_count": self.recovered_count,
            "warnings": dict(sorted(self.warnings.items())),
            "by_task_type": {
                name: {
                    "count": kind["count"],
                    "audio_s": kind["audio_us"] / 1e6,
                    "processing_s": kind["processing_us"] / 1e6,
                }
                for name, kind in sorted(self.by_task_type.items())
                if kind["count"]
            },
            "enhancement": self.enhanced.metrics(),
        }
