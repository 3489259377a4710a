"""Answers of OpenAI's protocol as segments: nothing in them is believed.

A 200 may hold HTML, `null`, another object, times that run backwards or beyond the audio, or nothing at all; servers of
the same protocol leave out what they like. What can't be right is refused here, so that it isn't a transcript.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trax_ray.codes import FailureCode, WarningCode
from trax_ray.errors import ProcessingError
from trax_ray.media.speech import Segment, Span, Word
from trax_ray.providers.languages import code_of
from trax_ray.providers.whole_text import with_all_of

__all__ = ["Answer", "read_answer"]

TOLERANCE_S = 1.0
"""How far a time may lie beyond the audio: encoders pad, and Whisper rounds."""

EMPTY_SPEECH_S = 2.0
"""Speech of this length can't be without words. Less may be a cough that was taken for speech."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server recognised.

    Args:
        segments: In order of time, counted from the upload's beginning.
        language: ISO 639-1 where the server names one that is known; None where it names none.
        usage: The server's account of what it charges for; empty where it gives none.
        made_up: What the server left out and was filled in: `segment_times`.
        warnings: Codes of what else there is to know: `text_beyond_segments`.
    """

    segments: tuple[Segment, ...]
    language: str | None
    usage: Mapping[str, Any]
    made_up: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def read_answer(body: bytes, *, duration_s: float, speech: Sequence[Span]) -> Answer:
    """Make segments of an answer.

    Args:
        body: All bytes of it.
        duration_s: Of the audio that was sent.
        speech: Where in it speech was found; times of a text without times come from here.

    Raises:
        ProcessingError: It can't be used, code `bad_answer`, or it is empty, `no_words`; class transient.
    """
    content = _parse(body)
    text = content.get("text")
    if text is not None and not isinstance(text, str):
        raise _bad(f"the text is {type(text).__name__}")
    given = content.get("segments")
    if text is None and not isinstance(given, list):
        raise _bad("there is no text in it")
    text = (text or "").strip()
    segments, made_up = _segments(content, text, duration_s, speech)
    warnings: tuple[str, ...] = ()
    if segments and text and not made_up:
        whole = with_all_of(text, segments, speech, duration_s)
        if whole is None:
            whole, made_up = _one_segment(content, text, duration_s, speech), ("segment_times",)
        warnings = (WarningCode.TEXT_BEYOND_SEGMENTS.value,) if whole != segments else ()
        segments = whole
    spoken_s = sum(span.end_s - span.start_s for span in speech)
    if not segments and spoken_s >= EMPTY_SPEECH_S:
        raise _bad(f"it is empty, and there are {spoken_s:.1f} s of speech", FailureCode.NO_WORDS)
    usage = content.get("usage")
    return Answer(
        segments=segments,
        language=_language(content),
        usage=usage if isinstance(usage, dict) else {},
        made_up=made_up,
        warnings=warnings,
    )


def _language(content: Mapping[str, Any]) -> str | None:
    """The language that was heard; of several, the first."""
    several = content.get("languages")
    first = several[0] if isinstance(several, list) and several else None
    named = first.get("code") if isinstance(first, dict) else first
    return code_of(content.get("language")) or code_of(named)


def _parse(body: bytes) -> Mapping[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        looks = "HTML" if body.lstrip()[:1] == b"<" else "no JSON"
        raise _bad(f"it is {looks}") from None
    if not isinstance(content, dict):
        raise _bad(f"expected an object, got {type(content).__name__}")
    return content


def _segments(
    content: Mapping[str, Any], text: str, duration_s: float, speech: Sequence[Span]
) -> tuple[tuple[Segment, ...], tuple[str, ...]]:
    given = content.get("segments")
    words = _words(content.get("words"), duration_s)
    if isinstance(given, list) and given:
        segments = [segment for each in given if (segment := _segment(each, duration_s, words)) is not None]
        if segments or not text:
            return tuple(
                sorted(_without_placeholders(segments), key=lambda segment: (segment.start_s, segment.end_s))
            ), ()
    if not text:
        return (), ()
    return _one_segment(content, text, duration_s, speech), ("segment_times",)


def _without_placeholders(segments: Sequence[Segment]) -> Sequence[Segment]:
    """A log probability of 0.0 everywhere is what servers write that know none: certainty would be a miracle."""
    if any(segment.avg_logprob is not None and segment.avg_logprob < 0 for segment in segments):
        return segments
    return [replace(segment, avg_logprob=None, confidence=None) for segment in segments]


def _one_segment(
    content: Mapping[str, Any], text: str, duration_s: float, speech: Sequence[Span]
) -> tuple[Segment, ...]:
    # One segment for what was asked in one request: its times are those of the speech that was sent.
    start_s = speech[0].start_s if speech else 0.0
    end_s = speech[-1].end_s if speech else duration_s
    confidence = _mean_probability(content.get("logprobs"))
    words = _words(content.get("words"), duration_s)
    return (Segment(start_s, end_s, text, confidence=confidence, words=tuple(words)),)


def _segment(given: Any, duration_s: float, words: Sequence[Word]) -> Segment | None:
    """A segment; None where it has no text."""
    if not isinstance(given, dict):
        raise _bad("a segment isn't an object")
    text = given.get("text")
    if not isinstance(text, str):
        raise _bad("a segment has no text")
    start_s, end_s = _number(given.get("start")), _number(given.get("end"))
    if start_s is None or end_s is None:
        raise _bad("a segment has no times")
    if not text.strip():
        return None
    start_s, end_s = _within(min(start_s, end_s), max(start_s, end_s), duration_s)
    logprob, silence = _number(given.get("avg_logprob")), _number(given.get("no_speech_prob"))
    speaker = given.get("speaker")
    return Segment(
        start_s=start_s,
        end_s=end_s,
        text=text.strip(),
        confidence=math.exp(min(0.0, logprob)) if logprob is not None else None,
        avg_logprob=logprob,
        no_speech_prob=silence,
        compression_ratio=_number(given.get("compression_ratio")),
        words=tuple(word for word in words if start_s <= (word.start_s + word.end_s) / 2 < end_s),
        speaker=str(speaker) if speaker not in (None, "") else None,
    )


def _words(given: Any, duration_s: float) -> list[Word]:
    """Words with times that make sense; words are an extra, and no reason to refuse a transcript."""
    words = []
    for each in given if isinstance(given, list) else ():
        if not isinstance(each, dict) or not isinstance(each.get("word"), str):
            continue
        start_s, end_s = _number(each.get("start")), _number(each.get("end"))
        if start_s is not None and end_s is not None and 0 <= start_s <= end_s <= duration_s + TOLERANCE_S:
            words.append(Word(start_s, min(end_s, duration_s), each["word"].strip()))
    return words


WINDOW_S = 30.0
"""What Whisper hears at a time: it fills up what is shorter, and its last time stamp may lie in that silence. Seen of
faster-whisper behind a server: a segment to 15.92 s of 13.29 s."""


def _within(start_s: float, end_s: float, duration_s: float) -> tuple[float, float]:
    out_of_it = start_s > duration_s + TOLERANCE_S or end_s > duration_s + WINDOW_S
    if start_s < -TOLERANCE_S or out_of_it:
        raise _bad(f"a segment runs from {start_s:.2f} to {end_s:.2f} s, and {duration_s:.2f} s were sent")
    start_s = min(max(0.0, start_s), duration_s)
    return start_s, min(max(start_s, end_s), duration_s)


def _mean_probability(given: Any) -> float | None:
    """The geometric mean of the tokens' probabilities; None where there are none."""
    values = (
        [_number(each.get("logprob")) for each in given if isinstance(each, dict)] if isinstance(given, list) else []
    )
    known = [value for value in values if value is not None]
    return math.exp(min(0.0, sum(known) / len(known))) if known else None


def _number(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def _bad(why: str, code: FailureCode = FailureCode.BAD_ANSWER) -> ProcessingError:
    return ProcessingError(why, failure_class="transient", code=code)
