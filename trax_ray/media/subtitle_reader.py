"""Read subtitles of others: SRT and WebVTT, as programs and people write them, rather than as their rules say.

Code of our own rather than pysubs2, for the reason that the writer has: what that takes for an override tag, such as
`{...}`, it drops, WebVTT's escapes and voices it leaves in the text, and it stops at the first cue that is damaged.

What is no cue is passed over. Times may lack hours, have one to three digits after a comma or a point, and come in any
order. Text that nobody hears (notes, styles, positions) is left out; tags are, too.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from trax_ray.codes import FailureCode
from trax_ray.core.writing import joined
from trax_ray.errors import MediaError
from trax_ray.media.speech import Segment

__all__ = ["decoded", "read_subtitles"]

_TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,9}))?"
_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?=\s|$)")
_NUMBER = re.compile(r"\s*\d{1,9}\s*")
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?[ \t]+([^>]*)>", re.IGNORECASE)
_TAG = re.compile(r"</?[^<>]*>")
_STYLE = re.compile(r"</?(?:b|i|u|s)\s*>|</?(?:font|c|ruby|rt|v|lang|span)\b[^<>]*>|\{\\[^{}]*\}", re.IGNORECASE)
_UNHEARD = ("NOTE", "STYLE", "REGION")

_NEXT_S = 0.1
"""A cue that says the same as the one before it, and begins so soon after it, is the same one that goes on."""


def decoded(data: bytes) -> str:
    """The text of a file whose encoding nobody knows: by its byte order mark, else UTF-8, else Windows' western one."""
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def read_subtitles(data: bytes, name: str = "") -> tuple[Segment, ...]:
    """The cues of an SRT or WebVTT file.

    Args:
        data: All of it; which of the two it is shows in its first line.
        name: What it is called in messages.

    Returns:
        A segment for each cue, in order of time, seconds from its zero; where a cue has several voices one for each,
        which share its time. Voices of WebVTT are speakers. Cues without text are left out.

    Raises:
        MediaError: `not_subtitles`: permanent, there is no cue in it.
    """
    text = decoded(data).replace("\r\n", "\n").replace("\r", "\n")
    voices = text.lstrip().startswith("WEBVTT")
    segments = [segment for cue in _cues(text.split("\n"), voices) for segment in cue.segments(voices)]
    if not segments:
        code = FailureCode.NOT_SUBTITLES
        raise MediaError(f"{name or 'the file'}: {code.meaning}: {code.way_out}", code=code)
    return tuple(_without_repeats(sorted(segments, key=lambda segment: segment.start_s)))


@dataclass(slots=True)
class _Cue:
    start_s: float
    end_s: float
    lines: list[str] = field(default_factory=list)

    def segments(self, voices: bool) -> Iterator[Segment]:
        for speaker, text in _voices("\n".join(self.lines)) if voices else [("", "\n".join(self.lines))]:
            bare = html.unescape(_TAG.sub("", text)) if voices else _STYLE.sub("", text)
            said = joined(" ".join(line.split()) for line in bare.split("\n") if line.strip())
            if said:
                yield Segment(self.start_s, max(self.start_s, self.end_s), said, speaker=speaker or None)


def _cues(lines: list[str], vtt: bool) -> Iterator[_Cue]:
    """The cues of all lines. In SRT text may go on after an empty line, in WebVTT it doesn't."""
    cue: _Cue | None = None
    at_start = True
    unheard = False
    for number, line in enumerate(lines):
        times = _TIMES.match(line)
        if times is not None:
            if cue is not None:
                yield cue
            cue, unheard = _Cue(_seconds(*times.groups()[:4]), _seconds(*times.groups()[4:])), False
        elif not line.strip():
            if vtt and cue is not None:
                yield cue
                cue = None
            unheard = False
        elif vtt and at_start and cue is None and line.startswith(_UNHEARD):
            unheard = True
        elif cue is not None and not unheard and not _is_number_of_cue(lines, number):
            cue.lines.append(line)
        at_start = not line.strip()
    if cue is not None:
        yield cue


def _is_number_of_cue(lines: list[str], number: int) -> bool:
    """Whether a line is what stands above the times of the next cue, and nothing that is said."""
    following = lines[number + 1] if number + 1 < len(lines) else ""
    return _NUMBER.fullmatch(lines[number]) is not None and _TIMES.match(following) is not None


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str | None) -> float:
    whole = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
    return whole + round(float(f"0.{fraction or 0}"), 3)


def _voices(text: str) -> Iterator[tuple[str, str]]:
    """Who says what in a cue of WebVTT; what stands before the first voice is nobody's."""
    parts = _VOICE.split(text)
    yield "", parts[0]
    for speaker, said in zip(parts[1::2], parts[2::2], strict=True):
        yield html.unescape(" ".join(speaker.split())), said


def _without_repeats(segments: Iterable[Segment]) -> Iterator[Segment]:
    """Cues that are shown again while they go on, as some programs write them, as one each."""
    last: Segment | None = None
    for each in segments:
        if last is None:
            last = each
        elif (each.text, each.speaker) == (last.text, last.speaker) and each.start_s - last.end_s <= _NEXT_S:
            last = replace(last, end_s=max(last.end_s, each.end_s))
        else:
            yield last
            last = each
    if last is not None:
        yield last
