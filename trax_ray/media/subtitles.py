"""Write transcripts as txt, srt, vtt, tsv and json, the way the openai-whisper program writes them.

SRT and VTT come from code of our own rather than pysubs2, which is made for editing subtitles: it turns `\\N` in a
transcript into a line break and `{...}` into an override tag that it then drops, so that spoken text could vanish,
and its VTT writer doesn't escape `&`, `<` and `-->`. What both formats need is thirty lines.

Segments longer than a cue are split between words: by the engine's word times where it gave them, otherwise in
proportion to the letters.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trax_ray.core.spec import OUTPUT_FORMATS
from trax_ray.core.writing import breakable, joined
from trax_ray.media.shape import DEFAULT, PHRASE_ENDS, SENTENCE_ENDS, Shape, wrapped
from trax_ray.media.speech import Segment, Word

__all__ = ["MIN_CUE_MS", "fast_cues", "render", "to_cues"]

MIN_CUE_MS = 100
"""No cue is shorter: nobody sees it, and players drop cues without a duration."""


_READABLE_MS = 1_000
"""Cues that begin together share their time: the first stays for this long, or for half of it."""


def render(
    fmt: str, segments: Iterable[Segment], *, meta: Mapping[str, Any] | None = None, shape: Shape = DEFAULT
) -> str:
    """Write a transcript in one of the formats.

    Speakers, where segments name them, stand in front of each line in txt and cue in srt (`left: yes`), in a voice tag
    in vtt and in a field in json; tsv has no place for them.

    Args:
        fmt: `txt` (a line per segment), `srt`, `vtt`, `tsv` (start and end in milliseconds, text) or `json`
            (`text`, `segments`, `language` like openai-whisper, and all of `meta`).
        segments: In order of time. Those without text are left out.
        meta: For json: `language` (None when unknown), and what else to record, JSON types only, such as
            `model`, `duration` (seconds) and `warnings`. It can't replace `text` and `segments`.
        shape: What the cues of srt and vtt keep to.

    Returns:
        The file's content, lines ended by a line feed; valid also without segments.

    Raises:
        ValueError: An unknown format, or a time that is no number.
    """
    if fmt not in OUTPUT_FORMATS:
        raise ValueError(f"unknown transcript format {fmt!r}: expected one of {', '.join(OUTPUT_FORMATS)}")
    kept = [segment for segment in segments if _plain(segment.text)]
    for segment in kept:
        if not (math.isfinite(segment.start_s) and math.isfinite(segment.end_s)):
            raise ValueError(f"expected times in seconds, got {segment.start_s} to {segment.end_s}")
    if fmt == "txt":
        return "".join(f"{_front(segment.speaker)}{_plain(segment.text)}\n" for segment in kept)
    if fmt == "tsv":
        rows = (f"{_ms(s.start_s)}\t{max(_ms(s.start_s), _ms(s.end_s))}\t{_plain(s.text)}\n" for s in kept)
        return "start\tend\ttext\n" + "".join(rows)
    if fmt == "json":
        return _json(kept, meta or {})
    cues = _spoken_cues(kept, shape)
    if fmt == "srt":
        blocks = (
            f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n"
            f"{wrapped(_front(cue.speaker) + cue.text, shape).replace('-->', '->')}\n\n"
            for number, cue in enumerate(cues, start=1)
        )
        return "".join(blocks)
    blocks = (
        f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n"
        f"{_tag(cue.speaker)}{_escaped(wrapped(cue.text, shape))}\n\n"
        for cue in cues
    )
    return "WEBVTT\n\n" + "".join(blocks)


@dataclass(frozen=True, slots=True)
class _Cue:
    """Start and end in ms, text in one line, and who speaks; empty where nobody tells."""

    start: int
    end: int
    text: str
    speaker: str = ""


def _front(speaker: str | None) -> str:
    """What stands in front of what a speaker says."""
    name = _plain(speaker or "")
    return f"{name}: " if name else ""


def _tag(speaker: str) -> str:
    """The same in WebVTT. Source: W3C, WebVTT, "cue voice span"."""
    name = _escaped(speaker)
    return f"<v {name}>" if name else ""


def to_cues(segments: Iterable[Segment], shape: Shape = DEFAULT) -> list[tuple[int, int, str]]:
    """Cut segments into cues that can be read.

    Args:
        segments: In order of time.
        shape: What cues keep to.

    Returns:
        (start in ms, end in ms, text in one line) in order; every cue has text and lasts at least `MIN_CUE_MS`, and
        none begins before the one before it ends. A cue holds at most `shape.lines` lines, unless a single word is
        longer, and lasts at most `shape.cue_s`. Where segments overlap a cue ends when the next one begins. Where the
        shape has a speed, one that is too short to be read stays longer, up to the next.
    """
    return [(cue.start, cue.end, cue.text) for cue in _spoken_cues(segments, shape)]


def fast_cues(segments: Iterable[Segment], shape: Shape) -> list[tuple[float, float]]:
    """Start and end, seconds, of cues that stay for less time than reading them takes at the shape's speed."""
    cues = _spoken_cues(segments, shape)
    return [(cue.start / 1000, cue.end / 1000) for cue in cues if cue.end - cue.start < _reading_ms(cue, shape)]


def _spoken_cues(segments: Iterable[Segment], shape: Shape) -> list[_Cue]:
    cues = _spaced(
        [
            _Cue(_ms(words[0].start_s), _ms(words[-1].end_s), _text(words), _plain(segment.speaker or ""))
            for segment in segments
            if _plain(segment.text)
            for words in _parts(_words_of(segment), _front(segment.speaker), shape)
        ],
        shape,
    )
    return list(_unhurried(cues, shape))


def _reading_ms(cue: _Cue, shape: Shape) -> int:
    return _ms(shape.reading_s(_front(cue.speaker) + cue.text))


def _unhurried(cues: Sequence[_Cue], shape: Shape) -> Iterator[_Cue]:
    """The same, those that are too short to be read as long as the next one lets them be."""
    for number, cue in enumerate(cues):
        latest = cue.start + _ms(shape.cue_s)
        if number + 1 < len(cues):
            latest = min(latest, cues[number + 1].start)
        yield replace(cue, end=max(cue.end, min(cue.start + _reading_ms(cue, shape), latest)))


def _spaced(cues: Iterable[_Cue], shape: Shape) -> list[_Cue]:
    """Cues in order of their starts, each long enough, none over another."""
    spaced: list[_Cue] = []
    for cue in sorted(cues, key=lambda cue: cue.start):
        start = cue.start
        if spaced:
            before = spaced[-1]
            shared = (min(before.end, cue.end) - before.start) // 2 if start < before.end else 0
            start = max(start, before.start + max(MIN_CUE_MS, min(shared, _READABLE_MS)))
            spaced[-1] = replace(before, end=min(before.end, start))
        end = max(start + MIN_CUE_MS, min(cue.end, start + _ms(shape.cue_s)))
        spaced.append(replace(cue, start=start, end=end))
    return spaced


def _parts(words: list[Word], front: str, shape: Shape) -> Iterator[list[Word]]:
    """Halve a list of words until every part fits into a cue, rather where a sentence, a phrase or a pause ends.

    Args:
        words: At least one.
        front: What stands in front of each part.
        shape: What cues keep to.
    """
    text = _text(words)
    long_s = words[-1].end_s - words[0].start_s
    crowded = wrapped(front + text, shape).count("\n") >= shape.lines
    if len(words) == 1 or not (crowded or long_s > shape.cue_s):
        yield words
        return
    best, best_cost = 1, math.inf
    said = 0
    for at in range(1, len(words)):
        before, after = words[at - 1], words[at]
        said += len(before.text)
        balance = said / len(text) if crowded else (before.end_s - words[0].start_s) / long_s
        cost = abs(balance - 0.5) - min(0.3, max(0.0, after.start_s - before.end_s) / 2)
        ending = before.text.rstrip()[-1:]
        cost -= 0.2 if ending in SENTENCE_ENDS else 0.1 if ending in PHRASE_ENDS else 0.0
        if cost < best_cost:
            best, best_cost = at, cost
    yield from _parts(words[:best], front, shape)
    yield from _parts(words[best:], front, shape)


def _text(words: list[Word]) -> str:
    """Words carry the space that follows them."""
    return "".join(word.text for word in words).strip()


def _plain(text: str) -> str:
    """One line that UTF-8 can hold: white space and control characters of any kind become single spaces."""
    text = "".join(" " if unicodedata.category(char) == "Cc" else char for char in text)
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())


def _words_of(segment: Segment) -> list[Word]:
    """A segment's words with times that rise and lie within it: the engine's, or shares by length.

    An engine's words are taken only if they are all of the text; otherwise some would get lost.
    """
    start_s, end_s = max(0.0, segment.start_s), max(0.0, segment.start_s, segment.end_s)
    text = _plain(segment.text)
    said = [word for word in segment.words if _plain(word.text)]
    if "".join(_plain(word.text) for word in said).replace(" ", "") == text.replace(" ", ""):
        words, last = [], start_s
        for word, piece in zip(said, _cut_like(text, said), strict=True):
            begin = min(max(word.start_s, last), end_s)
            last = min(max(word.end_s, begin), end_s)
            words.append(Word(begin, last, piece))
        return words
    words, done = [], 0
    for piece in _pieces(text):
        begin = start_s + (end_s - start_s) * done / len(text)
        done += len(piece)
        words.append(Word(begin, start_s + (end_s - start_s) * done / len(text), piece))
    return words


def _cut_like(text: str, said: Sequence[Word]) -> list[str]:
    """The text cut where its words are, each piece with the space that follows it."""
    pieces, at = [], 0
    for word in said:
        left = len(_plain(word.text).replace(" ", ""))
        begin = at
        while at < len(text) and (left or text[at] == " "):
            left -= text[at] != " "
            at += 1
        pieces.append(text[begin:at])
    return pieces


def _pieces(text: str) -> list[str]:
    """Where a text may be broken: as `breakable` says, and anywhere in another run that is longer than a line."""
    pieces = []
    for part in breakable(text):
        step = DEFAULT.columns // 2 if len(part.rstrip()) > DEFAULT.columns else len(part)
        pieces += [part[at : at + step] for at in range(0, len(part), step)]
    return pieces


def _json(segments: Sequence[Segment], meta: Mapping[str, Any]) -> str:
    rows = []
    for index, segment in enumerate(segments):
        row: dict[str, Any] = {
            "id": index,
            "start": _number(segment.start_s),
            "end": _number(segment.end_s),
            "text": _plain(segment.text),
            "confidence": _number(segment.confidence),
            "avg_logprob": _number(segment.avg_logprob),
            "compression_ratio": _number(segment.compression_ratio),
            "no_speech_prob": _number(segment.no_speech_prob),
        }
        if segment.speaker is not None:
            row["speaker"] = _plain(segment.speaker)
        if segment.language is not None:
            row["language"] = segment.language
        if segment.words:
            row["words"] = [
                {
                    "word": _plain(word.text),
                    "start": _number(word.start_s),
                    "end": _number(word.end_s),
                    "probability": _number(word.probability),
                }
                for word in segment.words
            ]
        rows.append(row)
    text = joined(row["text"] for row in rows)
    content = {"text": text, "segments": rows, "language": None}
    content |= {key: value for key, value in meta.items() if key not in ("text", "segments")}
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def _number(value: float | None) -> float | None:
    """Rounded to what a transcript needs; JSON knows no NaN."""
    return round(float(value), 4) if value is not None and math.isfinite(value) else None


def _ms(time_s: float) -> int:
    return max(0, round(time_s * 1000))


def _clock(time_ms: int, mark: str) -> str:
    """`00:01:02,003` for SRT; for VTT hours only where there are any, as openai-whisper writes them."""
    seconds, thousandths = divmod(time_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    front = f"{hours:02d}:" if hours or mark == "," else ""
    return f"{front}{minutes:02d}:{seconds:02d}{mark}{thousandths:03d}"


def _escaped(text: str) -> str:
    """WebVTT's escapes, in the order that keeps `&` of the others."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
