"""What a speech server says: scripts that turn an upload into a transcript.

constant        the same for all, at once
Recordings      the words of registered recordings, found by what is heard, for parts of them too
Pocketsphinx    real recognition, offline, in English, in a process of its own

Anything else that takes an `Asked` and gives a `Transcript` or a string, also as a coroutine, is a script too.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import tempfile
from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tests.support.speech_server.hearing import FRAMES_PER_S, Bands, listen, place
from tests.support.speech_server.wire import Upload
from trax_ray.media.speech import Segment, Word

__all__ = ["Asked", "Pocketsphinx", "Recordings", "Script", "Transcript", "constant", "segments_of"]

FOUND = 0.85
"""From this correlation on, an upload is taken for a part of a registered recording. See `hearing` for measurements."""

_LONGEST_SEGMENT_S = 12.0
_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What a script is given.

    Args:
        model: As asked for.
        fields: All fields of the form, lists of strings by name.
        upload: The file.
        seconds: Its duration.
        bands: What was heard; None where the server doesn't decode.
        audio: The ledger's name for what was heard.
        number: Of the request; see `Entry.number`.
    """

    model: str
    fields: Mapping[str, Sequence[str]]
    upload: Upload
    seconds: float
    bands: Bands | None
    audio: str
    number: int


@dataclass(frozen=True, slots=True)
class Transcript:
    """What is said in an upload.

    Args:
        segments: In order of time, seconds from the upload's first sample; their words where times are known.
        language: ISO 639-1.
        speakers: One for each segment, such as `A`; empty for a single speaker.
        recording: The registered recording in which it was found.
        start_s: Where in that recording the upload begins, seconds.
    """

    segments: tuple[Segment, ...] = ()
    language: str = "en"
    speakers: tuple[str, ...] = ()
    recording: str | None = None
    start_s: float | None = None

    @property
    def text(self) -> str:
        """All segments in one line."""
        return " ".join(segment.text for segment in self.segments)

    @property
    def words(self) -> tuple[Word, ...]:
        """All words that have times."""
        return tuple(word for segment in self.segments for word in segment.words)

    @classmethod
    def spoken(cls, text: str, seconds: float, *, language: str = "en") -> Transcript:
        """A text that is spoken evenly over some seconds."""
        return cls(segments_of(_spread(text, [(0.0, seconds)])), language)


Script: TypeAlias = Callable[[Asked], "Transcript | str | Awaitable[Transcript | str]"]


def constant(text: str, *, language: str = "en") -> Script:
    """A script that says the same about everything."""
    return lambda asked: Transcript.spoken(text, asked.seconds, language=language)


@dataclass(frozen=True, slots=True)
class _Recording:
    name: str
    bands: Bands
    words: tuple[Word, ...]
    speakers: tuple[str, ...]
    language: str


class Recordings:
    """Says what registered recordings say.

    An upload is looked for in all of them; it may be a part of one, encoded in another way, softer or with silence
    around it. The answer holds the words whose middle lies in the part, so that parts without gap and overlap give
    each word once. An upload without any sound is found nowhere.

    Args:
        otherwise: Script for what isn't found; without it, the answer is an empty transcript.
    """

    def __init__(self, otherwise: Script | None = None) -> None:
        self._recordings: list[_Recording] = []
        self._otherwise = otherwise

    @classmethod
    def of_folder(cls, folder: Path, otherwise: Script | None = None) -> Recordings:
        """Register every file of a folder that has its text beside it, such as `talk.mp3` and `talk.txt`."""
        found = cls(otherwise)
        for text in sorted(folder.rglob("*.txt")):
            for path in sorted(text.parent.glob(f"{text.stem}.*")):
                if path != text:
                    found.add(path, text.read_text(encoding="utf-8"), name=path.relative_to(folder).as_posix())
        return found

    def add(
        self,
        path: Path,
        text: str = "",
        *,
        words: Sequence[Word] = (),
        speakers: Sequence[str] = (),
        name: str | None = None,
        language: str = "en",
    ) -> None:
        """Register a recording.

        Args:
            path: Its file.
            text: What is said in it. Words get times in proportion to their letters, where there is sound.
            words: What is said in it, with times in seconds from its first sample; instead of `text`.
            speakers: Who says each word of `words`; empty for a single speaker.
            name: What the ledger calls it; the file's name where it is None.
            language: ISO 639-1.

        Raises:
            TraxRayError: The file can't be decoded.
            ValueError: Not as many speakers as words.
        """
        if speakers and len(speakers) != len(words):
            raise ValueError(f"expected a speaker for each of {len(words)} words, got {len(speakers)}")
        _, bands = listen(path.read_bytes(), path.suffix[1:])
        timed = tuple(words) or tuple(_spread(text, _loud(bands)))
        self._recordings.append(_Recording(name or path.name, bands, timed, tuple(speakers), language))

    async def __call__(self, asked: Asked) -> Transcript | str:
        found = await asyncio.get_running_loop().run_in_executor(None, self.find, asked)
        if found is not None or self._otherwise is None:
            return found or Transcript()
        said = self._otherwise(asked)
        return said if isinstance(said, (Transcript, str)) else await said

    def find(self, asked: Asked) -> Transcript | None:
        """What is said in an upload; None where it is in no recording.

        Raises:
            ValueError: The server doesn't decode.
        """
        if asked.bands is None:
            raise ValueError("recordings are found by what is heard, and this server was told not to decode")
        best, found, start = FOUND, None, 0
        for recording in self._recordings:
            score, first = place(asked.bands, recording.bands) if len(asked.bands) else (0.0, 0)
            if score >= best:
                best, found, start = score, recording, first
        return None if found is None else _part(found, start / FRAMES_PER_S, asked.seconds)


def _part(recording: _Recording, start_s: float, seconds: float) -> Transcript:
    """What is said in a recording from `start_s` on."""
    who = recording.speakers or ("A",) * len(recording.words)
    inside = [
        (_moved(word, start_s, seconds), speaker)
        for word, speaker in zip(recording.words, who, strict=True)
        if start_s <= (word.start_s + word.end_s) / 2 < start_s + seconds
    ]
    segments: list[Segment] = []
    speakers: list[str] = []
    while inside:
        count = next((n for n, (_, speaker) in enumerate(inside) if speaker != inside[0][1]), len(inside))
        said = segments_of([word for word, _ in inside[:count]])
        segments += said
        speakers += [inside[0][1]] * len(said)
        del inside[:count]
    return Transcript(tuple(segments), recording.language, tuple(speakers), recording.name, start_s)


def _moved(word: Word, start_s: float, seconds: float) -> Word:
    return replace(word, start_s=max(0.0, word.start_s - start_s), end_s=min(seconds, word.end_s - start_s))


def segments_of(words: Sequence[Word]) -> tuple[Segment, ...]:
    """Join words to segments that end with a sentence, at a pause of a second, or after twelve seconds."""
    segments: list[Segment] = []
    group: list[Word] = []
    for index, word in enumerate(words):
        group.append(word)
        after = words[index + 1] if index + 1 < len(words) else None
        ends = after is None or re.search(r"[.?!…]['\")]*$", word.text) or after.start_s - word.end_s >= _PAUSE_S
        if ends or (after is not None and after.end_s - group[0].start_s > _LONGEST_SEGMENT_S):
            known = [each.probability for each in group if each.probability is not None]
            confidence = sum(known) / len(known) if known else None
            text = " ".join(each.text for each in group)
            segments.append(Segment(group[0].start_s, group[-1].end_s, text, confidence, words=tuple(group)))
            group = []
    return tuple(segments)


def _loud(bands: Bands) -> list[tuple[float, float]]:
    """The stretches with sound, seconds: above a tenth of the loudest, over pauses of less than a fifth of a second."""
    level = bands.mean(axis=1)
    loud = level > 0.15 * float(level.max(initial=0.0))
    edges = np.flatnonzero(np.diff(np.concatenate([[False], loud, [False]]).astype(np.int8)))
    spans: list[tuple[float, float]] = []
    for start, end in zip(edges[::2] / FRAMES_PER_S, edges[1::2] / FRAMES_PER_S, strict=True):
        if spans and start - spans[-1][1] < 0.2:
            spans[-1] = (spans[-1][0], float(end))
        else:
            spans.append((float(start), float(end)))
    return spans


def _spread(text: str, spans: Sequence[tuple[float, float]]) -> list[Word]:
    """Give words times in proportion to their letters, over some stretches of time."""
    texts = text.split()
    letters = sum(len(word) + 1 for word in texts)
    sound_s = sum(end - start for start, end in spans)
    if not letters or not spans:
        return []
    starts = [*accumulate((end - start for start, end in spans), initial=0.0)]

    def clock(share: float, *, ends: bool) -> float:
        passed = share * sound_s
        before = bisect_left(starts, passed) if ends else bisect_right(starts, passed)
        index = min(max(before - 1, 0), len(spans) - 1)
        return spans[index][0] + passed - starts[index]

    words = []
    done = 0
    for word in texts:
        start_s = clock(done / letters, ends=False)
        done += len(word) + 1
        words.append(Word(start_s, max(start_s, clock(done / letters, ends=True)), word))
    return words


class Pocketsphinx:
    """Recognises English with pocketsphinx, in a process of its own: it holds Python's lock while it works.

    The process starts with the first request (a second or two) and ends with `close`.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pocketsphinx")
        self._process: subprocess.Popen[str] | None = None

    async def __call__(self, asked: Asked) -> Transcript:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._recognise, asked.upload)

    def close(self) -> None:
        """End the process; safe to repeat."""
        self._thread.shutdown()
        if self._process is not None:
            self._process.communicate()
            self._process = None

    def _recognise(self, upload: Upload) -> Transcript:
        if self._process is None:
            command = [sys.executable, "-m", "tests.support.speech_server.recogniser"]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory(prefix="speech_server_") as folder:
            path = Path(folder) / f"upload.{upload.suffix or 'bin'}"
            path.write_bytes(upload.data)
            self._process.stdin.write(json.dumps(str(path)) + "\n")
            self._process.stdin.flush()
            found: list[dict[str, Any]] = json.loads(self._process.stdout.readline())
        return Transcript(tuple(_segment(each) for each in found))


def _segment(found: dict[str, Any]) -> Segment:
    return Segment(**{**found, "words": tuple(Word(**word) for word in found["words"])})
