"""Read transcripts, ours and others': text, SRT, WebVTT, and the JSON of several programs.

JSON of ours, of openai-whisper and of what writes like it (`segments` with `start`, `end`, `text`), of OpenAI's answers
(`verbose_json`, words beside the segments), of WhisperX (`score`) and of whisper.cpp (`transcription` with `offsets`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trax_ray.codes import FailureCode
from trax_ray.errors import MediaError
from trax_ray.media.speech import Segment, Word
from trax_ray.media.subtitle_reader import decoded, read_subtitles

__all__ = ["TRANSCRIPT_SUFFIXES", "Written", "read_transcript"]

TRANSCRIPT_SUFFIXES = (".json", ".vtt", ".srt", ".txt")
"""Suffixes of transcripts; of several of one recording the first one says most."""

PIECE_WORDS = 40
"""A longer paragraph without times is taken apart at the ends of its sentences."""

_SENTENCE = re.compile(r"(?<=[.!?…。！？])\s+")  # noqa: RUF001 - marks of other scripts are meant


@dataclass(frozen=True, slots=True)
class Written:
    """A transcript as it was read.

    Args:
        segments: In order; without times all of them lie at 0.
        language: ISO 639-1 code as it is written there; None where it isn't.
        timed: Whether it has times.
    """

    segments: tuple[Segment, ...]
    language: str | None = None
    timed: bool = True


def read_transcript(data: bytes, suffix: str, name: str = "") -> Written:
    """The transcript in a file.

    Args:
        data: All of it.
        suffix: Of `TRANSCRIPT_SUFFIXES`; another one is taken for text.
        name: What it is called in messages.

    Raises:
        MediaError: `not_a_transcript` or `not_subtitles`: permanent, there is none in it.
    """
    suffix = suffix.lower()
    if suffix in (".srt", ".vtt"):
        return Written(read_subtitles(data, name))
    if suffix == ".json":
        return _of_json(data, name)
    pieces = [piece for line in decoded(data).splitlines() for piece in _pieces(" ".join(line.split()))]
    if not pieces:
        raise _none(name)
    return Written(tuple(Segment(0.0, 0.0, piece) for piece in pieces), timed=False)


def _pieces(line: str) -> Iterable[str]:
    """A line as pieces that aren't too long, as far as its sentences allow."""
    piece: list[str] = []
    for sentence in _SENTENCE.split(line) if line else ():
        if piece and len(" ".join([*piece, sentence]).split()) > PIECE_WORDS:
            yield " ".join(piece)
            piece = []
        piece.append(sentence)
    if piece:
        yield " ".join(piece)


# JSON


def _of_json(data: bytes, name: str) -> Written:
    try:
        content = json.loads(decoded(data))
    except (ValueError, RecursionError):
        raise _none(name) from None
    if not isinstance(content, dict):
        raise _none(name)
    given = content.get("segments")
    rows = given if isinstance(given, list) else _of_whisper_cpp(content.get("transcription"))
    beside = _words(content.get("words"))
    segments = [each for row in rows if isinstance(row, dict) and (each := _segment(row, beside)) is not None]
    language = content.get("language") or _inner(content.get("result"), "language")
    code = language.strip().lower() if isinstance(language, str) and 0 < len(language.strip()) <= 3 else None
    if segments:
        return Written(tuple(sorted(segments, key=lambda each: each.start_s)), code)
    text = content.get("text")
    pieces = list(_pieces(" ".join(text.split()))) if isinstance(text, str) else []
    if not pieces:
        raise _none(name)
    return Written(tuple(Segment(0.0, 0.0, piece) for piece in pieces), code, timed=False)


def _of_whisper_cpp(rows: Any) -> list[dict[str, Any]]:
    """Rows as others have them: whisper.cpp counts milliseconds."""
    found = []
    for row in rows if isinstance(rows, list) else ():
        start, end = (_number(_inner(_inner(row, "offsets"), which)) for which in ("from", "to"))
        if start is not None and end is not None:
            found.append({"start": start / 1000, "end": end / 1000, "text": _inner(row, "text")})
    return found


def _inner(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


def _segment(row: Mapping[str, Any], beside: Sequence[Word]) -> Segment | None:
    """A segment; None where it has no text or no times."""
    text = " ".join(str(row.get("text") or "").split())
    start_s, end_s = _number(row.get("start")), _number(row.get("end"))
    if not text or start_s is None or end_s is None or start_s < 0:
        return None
    end_s = max(start_s, end_s)
    logprob = _number(row.get("avg_logprob"))
    confidence = _number(row.get("confidence"))
    if confidence is None and logprob is not None and logprob < 0:
        confidence = math.exp(logprob)
    speaker = row.get("speaker")
    words = _words(row.get("words")) or [word for word in beside if start_s <= (word.start_s + word.end_s) / 2 < end_s]
    return Segment(
        start_s=start_s,
        end_s=end_s,
        text=text,
        confidence=None if confidence is None else min(1.0, max(0.0, confidence)),
        avg_logprob=logprob,
        no_speech_prob=_number(row.get("no_speech_prob")),
        compression_ratio=_number(row.get("compression_ratio")),
        words=tuple(words),
        speaker=str(speaker) if isinstance(speaker, str) and speaker else None,
    )


def _words(rows: Any) -> list[Word]:
    """Words with times; they are an extra, and no reason to refuse a transcript."""
    words = []
    for row in rows if isinstance(rows, list) else ():
        text = _inner(row, "word")
        start_s, end_s = _number(_inner(row, "start")), _number(_inner(row, "end"))
        if (
            isinstance(text, str)
            and text.strip()
            and start_s is not None
            and end_s is not None
            and 0 <= start_s <= end_s
        ):
            sure = _number(_inner(row, "probability"))
            sure = _number(_inner(row, "score")) if sure is None else sure
            words.append(Word(start_s, end_s, text.strip(), None if sure is None else min(1.0, max(0.0, sure))))
    return words


def _number(value: Any) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None


def _none(name: str) -> MediaError:
    code = FailureCode.NOT_A_TRANSCRIPT
    return MediaError(f"{name or 'the file'}: {code.meaning}: {code.way_out}", code=code)
