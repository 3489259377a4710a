"""Captions that a publisher wrote, as the transcript: no speech model is asked, and nothing of it counts as ours."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from trax_ray.codes import FailureCode, WarningCode
from trax_ray.core.ids import digest
from trax_ray.core.writing import joined
from trax_ray.errors import FileError, MediaError, ProcessingError
from trax_ray.kinds.assignment import Assignment
from trax_ray.kinds.fetched import downloaded
from trax_ray.kinds.known import FoundCaptions, captions_of_site, site_says
from trax_ray.kinds.recording import Recording
from trax_ray.kinds.transcript import Transcript
from trax_ray.media.speech import Segment
from trax_ray.media.subtitle_reader import decoded, read_subtitles
from trax_ray.store.artifacts import ArtifactStore, Hashed, hash_of
from trax_ray.store.explaining import explain, shown
from trax_ray.store.layout import Layout
from trax_ray.store.uris import place_of

if TYPE_CHECKING:
    from trax_ray.kinds.transcribe import TranscribeData

__all__ = ["Captioned", "can_be_read", "captioned", "expect_captions", "segments_of"]

T = TypeVar("T")

FORMAT_VERSION = 1

MOST_BYTES = 8 << 20
MOST_S = 1e7
CHARACTERS_PER_S = 15.0
"""Of speech, where nobody says how long a text without times takes."""


@dataclass(frozen=True, slots=True)
class Captioned:
    """A transcript that captions are, its key, and whose it is."""

    key: str
    recording: Recording
    transcript: Transcript


def captioned(assignment: Assignment, data: TranscribeData) -> Captioned | None:
    """The transcript that captions are; None where a speech model is to be asked.

    Raises:
        ProcessingError: `no_captions`: permanent, nothing else than captions is wanted, and there are none.
        MediaError: `not_subtitles`: permanent, likewise, and what is there can't be read.
        FileError: They can't be read.
    """
    spec = assignment.spec
    if spec.captions == "never":
        return None
    began_s = time.monotonic()
    layout = Layout.of(spec.output_dir)
    store = ArtifactStore(layout.artifacts)
    found = _of_file(Path(data.captions)) if data.captions else captions_of_site(assignment, store)
    says = site_says(assignment)
    try:
        found = expect_captions(found, data.name)
        segments, timed = segments_of(found, says.duration_s if says else None)
    except ProcessingError:
        if spec.captions == "only":
            raise
        return None
    recording = _recording(assignment, data, layout, store)
    key = store.key(digest([found.text]), "captions", {"type": found.type}, "", FORMAT_VERSION)
    length_s = max(segment.end_s for segment in segments)
    transcript = Transcript(
        text=joined(segment.text for segment in segments),
        language=found.language.partition("-")[0].lower() or recording.language,
        model="",
        provider="",
        duration_s=round(max(length_s, says.duration_s or 0.0) if says else length_s, 3),
        speech_s=round(sum(segment.end_s - segment.start_s for segment in segments), 3),
        processing_s=round(time.monotonic() - began_s, 3),
        media_warnings=() if timed else (WarningCode.MADE_UP_SEGMENT_TIMES.value,),
        segments=segments,
        source=recording.source,
        captions=found.origin,
    )
    kept = recording.keep(key, transcript)
    return Captioned(key, recording, replace(kept, source=recording.source))


def _recording(assignment: Assignment, data: TranscribeData, layout: Layout, store: ArtifactStore) -> Recording:
    """The recording, whose media nobody looks at; those of the web weren't even fetched."""
    hashed = hash_of(place_of(data.file_path), layout.hashes) if data.file_path else Hashed(Path(), "", (0, 0, 0, 0))
    return Recording(
        assignment=assignment,
        layout=layout,
        store=store,
        name=data.name,
        hashed=hashed,
        fetched=downloaded(assignment),
        audio=None,
        language=data.language or assignment.spec.language,
        model="",
        prompt=None,
    )


def _of_file(path: Path) -> FoundCaptions:
    try:
        with path.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise explain(error, path, "read") from error
    if len(data) > MOST_BYTES:
        raise FileError(f"{shown(path)} is too long for captions: {MOST_BYTES >> 20} MB are read at most")
    return FoundCaptions(decoded(data), path.suffix.lstrip(".").lower(), origin="file")


def expect_captions(found: T | None, name: str) -> T:
    """The same, where there are any.

    Raises:
        ProcessingError: `no_captions`: permanent.
    """
    if found is None:
        code = FailureCode.NO_CAPTIONS
        raise ProcessingError(f"{name}: {code.meaning}: {code.way_out}", code=code)
    return found


def can_be_read(found: FoundCaptions) -> bool:
    """Whether anything is said in captions."""
    try:
        segments_of(found, None)
    except MediaError:
        return False
    return True


def segments_of(found: FoundCaptions, duration_s: float | None) -> tuple[tuple[Segment, ...], bool]:
    """What captions say.

    Args:
        found: The captions.
        duration_s: Length of the recording, seconds; None where nobody knows.

    Returns:
        Segments in order of time, at least one, and whether their times are the publisher's.

    Raises:
        MediaError: `not_subtitles`: permanent, nothing is said in them.
    """
    if found.type == "json":
        return _of_json(found.text), True
    if found.type in ("html", "txt"):
        segments = _of_html(found.text) if found.type == "html" else ()
        if segments:
            return segments, True
        return (_of_text(_plain(found.text) if found.type == "html" else found.text, duration_s),), False
    return read_subtitles(found.text.encode("utf-8", "replace"), "the captions"), True


def _nothing() -> MediaError:
    code = FailureCode.NOT_SUBTITLES
    return MediaError(f"the captions: {code.meaning}: {code.way_out}", code=code)


def _of_text(text: str, duration_s: float | None) -> Segment:
    said = " ".join(text.split())
    if not said:
        raise _nothing()
    return Segment(0.0, duration_s or round(len(said) / CHARACTERS_PER_S, 3), said)


def _of_json(text: str) -> tuple[Segment, ...]:
    """The podcast namespace's JSON: `segments` of `startTime`, `endTime`, `body` and `speaker`."""
    try:
        rows = json.loads(text)["segments"]
        segments = sorted(filter(None, map(_of_row, rows)), key=lambda segment: segment.start_s)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _nothing() from None
    if not segments:
        raise _nothing()
    return tuple(segments)


def _of_row(row: dict[str, Any]) -> Segment | None:
    said = " ".join(str(row.get("body") or "").split())
    start_s = float(row["startTime"])
    end_s = max(start_s, float(row.get("endTime") or start_s))
    if not 0.0 <= start_s <= end_s < MOST_S:  # a number that is none isn't either
        raise ValueError(f"expected times in seconds, got {start_s} to {end_s}")
    return Segment(start_s, end_s, said, speaker=str(row["speaker"]) if row.get("speaker") else None) if said else None


class _Parser(HTMLParser):
    """The text of a page, by its elements."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[tuple[str, str]] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("br", "img", "hr", "meta", "link", "input"):
            self._open.append(tag)
        self.parts.append(("", " "))

    def handle_endtag(self, tag: str) -> None:
        while tag in self._open and self._open.pop() != tag:
            pass
        self.parts.append(("", " "))

    def handle_data(self, data: str) -> None:
        if not {"script", "style", "head"}.intersection(self._open):
            inner = next((each for each in reversed(self._open) if each in ("cite", "time")), "text")
            self.parts.append((inner, data))


def _parts(text: str) -> Iterator[tuple[str, str]]:
    parser = _Parser()
    parser.feed(text)
    parser.close()
    yield from parser.parts


def _plain(text: str) -> str:
    return "".join(said for _, said in _parts(text))


def _of_html(text: str) -> tuple[Segment, ...]:
    """The podcast namespace's HTML: `<cite>` says who speaks, `<time>` from when on; none where no times are in it."""
    found: list[tuple[float, str, list[str]]] = []
    speaker, start_s = "", None
    for kind, said in _parts(text):
        if kind == "cite":
            speaker = " ".join(said.split()).rstrip(":") or speaker
        elif kind == "time":
            start_s = _clock(said)
        elif start_s is not None:
            if not found or found[-1][:2] != (start_s, speaker):
                found.append((start_s, speaker, []))
            found[-1][2].append(said)
    rows = [(at, who, " ".join("".join(words).split())) for at, who, words in found]
    rows = sorted((row for row in rows if row[2]), key=lambda row: row[0])
    ends = [row[0] for row in rows[1:]] + [rows[-1][0] + len(rows[-1][2]) / CHARACTERS_PER_S] if rows else []
    return tuple(
        Segment(at, max(at, round(end, 3)), said, speaker=who or None)
        for (at, who, said), end in zip(rows, ends, strict=True)
    )


def _clock(text: str) -> float | None:
    """Seconds of `1:02:03`; None where it is none."""
    parts = text.strip().split(":")
    if not 1 < len(parts) <= 3 or not all(part.isdigit() and len(part) < 5 for part in parts):
        return None
    seconds = 0
    for part in parts:
        seconds = seconds * 60 + int(part)
    return float(seconds)
