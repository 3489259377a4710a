"""A recording as 16 kHz mono FLAC, and what can be heard of its quality."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from trax_ray.codes import WarningCode
from trax_ray.kinds.assignment import Assignment, Progress
from trax_ray.kinds.codec import from_json, to_json
from trax_ray.store.artifacts import ArtifactStore, Hashed, content_hash, unchanged
from trax_ray.store.files import ensure_folder, written_atomically
from trax_ray.store.layout import Layout

__all__ = [
    "FORMAT_VERSION",
    "KIND",
    "Converted",
    "convert",
    "converted_audio",
    "holds",
    "key_of",
    "known_conversion",
    "private_audio",
]

FORMAT_VERSION = 2

KIND = "preprocess"
"""Name of the kind of task that converts."""


@dataclass(frozen=True, slots=True)
class Converted:
    """What is known of a recording once it was converted.

    Args:
        duration_s: Its length, seconds.
        speech_s: Seconds of speech in it.
        processing_s: Seconds that converting took.
        warnings: Codes of warnings, sorted.
        media_warnings: The decoder's part of them.
        peak_dbfs: Highest level, dB below full scale; None here and below where it isn't to be told.
        loudness_dbfs: RMS of all of it.
        noise_floor_dbfs: Level of its quiet parts.
        snr_db: Level of its loud parts above that.
        clipped_share: Share of samples at full scale, 0-1.
        bandwidth_hz: Up to where there is sound.
        audio: The FLAC file, a path below the output folder; empty in artifacts.
        content: SHA-256 of the recording that it was made from, hexadecimal; empty in artifacts.
        outputs: Files that a user gets, paths below the output folder; None in artifacts.
        kept_outputs: Files of others that have the names of outputs, and were kept.
        cached: Whether the figures were there already; None in artifacts.
    """

    duration_s: float
    speech_s: float
    processing_s: float = 0.0
    warnings: tuple[str, ...] = ()
    media_warnings: tuple[str, ...] = ()
    peak_dbfs: float | None = None
    loudness_dbfs: float | None = None
    noise_floor_dbfs: float | None = None
    snr_db: float | None = None
    clipped_share: float | None = None
    bandwidth_hz: float | None = None
    audio: str = ""
    content: str = ""
    outputs: tuple[str, ...] | None = None
    kept_outputs: tuple[str, ...] = ()
    cached: bool | None = None


def private_audio(layout: Layout, file_id: str) -> Path:
    """The FLAC file of an input that nobody asked to keep: there from its conversion to its transcript."""
    return layout.private / "audio" / f"{file_id}.flac"


def converted_audio(assignment: Assignment, layout: Layout, content: str) -> Path | None:
    """The FLAC file that a task which this one depends on made of the same recording; None where none did.

    Args:
        assignment: The attempt.
        layout: The output folder.
        content: SHA-256 of the recording.
    """
    file_id = assignment.task.file_id
    for task_id, result in assignment.needed.items():
        if result.kind != KIND:
            continue
        made, outputs = str(result.figures.get("audio", "")), result.figures.get("outputs")
        if made and result.figures.get("content") == content:
            return layout.output_dir / made
        if not made and task_id == f"{KIND}-{file_id}":  # made by version 0.1, which agreed on the path beforehand
            return layout.output_dir / str(outputs[0]) if outputs else private_audio(layout, file_id)
    return None


def convert(
    store: ArtifactStore,
    source: Hashed,
    target: Path,
    memo: Path,
    *,
    needed: bool = True,
    before: Callable[[str], None] = lambda content: None,
) -> Generator[Progress, None, tuple[str, Converted]]:
    """Convert a recording to 16 kHz mono FLAC and analyse it, as far as that hasn't been done.

    Args:
        store: Where the figures are kept.
        source: The recording.
        target: The FLAC file; one that was made from other content is replaced.
        memo: Folder of remembered hashes.
        needed: Whether the file has to be there in the end, or the figures alone do.
        before: Called with the SHA-256 of the FLAC file's bytes before it gets its name.

    Yields:
        Progress.

    Returns:
        The key of what is known of it, and that.

    Raises:
        FileError: `changed_while_read`: transient; nothing is left then.
    """
    started = time.monotonic()
    key = key_of(store, source.content)
    known = store.get(key)
    if known is None or (needed and not holds(target, source.content)):
        ensure_folder(target.parent)
        found = yield from _convert(source, target, memo, before)
        found = replace(found, processing_s=round(time.monotonic() - started, 3))
        known = store.put(key, to_json(found))[1]
    return key, from_json(Converted, known)


def holds(target: Path, content: str) -> bool:
    """Whether a FLAC file was made from the recording with this content hash; False where it isn't there."""
    import soundfile

    try:
        with soundfile.SoundFile(os.fsencode(target)) as flac:
            return bool(flac.comment == _comment(content))
    except soundfile.LibsndfileError:
        return False


def _comment(content: str) -> str:
    return f"16 kHz mono of the recording with SHA-256 {content}"


def key_of(store: ArtifactStore, content: str) -> str:
    """Key of what is known of a recording once it was converted."""
    return store.key(content, "preprocess", {"sample_rate_hz": 16_000}, "", FORMAT_VERSION)


def known_conversion(store: ArtifactStore, content: str) -> Converted | None:
    """What is known of a recording that was converted; None where none was."""
    known = store.get(key_of(store, content))
    return None if known is None else from_json(Converted, known)


def _convert(
    source: Hashed, target: Path, memo: Path, before: Callable[[str], None]
) -> Generator[Progress, None, Converted]:
    import numpy as np
    import soundfile

    from trax_ray.media.analysis import Analyser
    from trax_ray.media.decode import stream
    from trax_ray.media.speech import SAMPLE_RATE_HZ
    from trax_ray.media.vad import SileroDetector, spans_of, total_s

    analyser, detector = Analyser(), SileroDetector()
    probabilities = []
    samples = 0
    with written_atomically(target) as temporary:
        with (
            unchanged(source, memo),
            stream(source.path) as blocks,
            temporary.open("r+b") as file,
            _Sink(file) as sink,
            soundfile.SoundFile(
                sink, "w", samplerate=SAMPLE_RATE_HZ, channels=1, format="FLAC", subtype="PCM_16"
            ) as flac,
        ):
            flac.comment = _comment(source.content)
            for block in blocks:
                flac.write(block)
                sink.check()
                analyser.feed(block)
                probabilities.append(detector.feed(block))
                samples += len(block)
                yield Progress(0.0)
            warnings = blocks.warnings
        before(content_hash(temporary))
    probabilities.append(detector.finish())
    speech_s = total_s(spans_of(np.concatenate(probabilities), samples))
    figures = analyser.figures()
    found = {*warnings, *figures.pop("warnings"), *(() if speech_s > 0 else (WarningCode.NO_SPEECH,))}
    return Converted(
        duration_s=round(samples / SAMPLE_RATE_HZ, 3),
        speech_s=round(speech_s, 3),
        warnings=tuple(sorted(found)),
        media_warnings=tuple(sorted(warnings)),
        **figures,
    )


class _Sink:
    """A file for libsndfile to write to, which says no more of an error than that there was one.

    The first OSError is kept, and raised when the block ends in place of what libsndfile made of it: so a full disk
    is one.

    Args:
        file: Open for writing, in binary.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._error: OSError | None = None

    def __enter__(self) -> _Sink:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, Exception):  # the end of a generator isn't one
            self.check()

    def check(self) -> None:
        """Raise the OSError that came, if any."""
        if self._error is not None:
            raise self._error

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self._error = self._error or error
            return 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)  # writes first what is buffered
        except OSError as error:
            self._error = self._error or error
            return -1

    def tell(self) -> int:
        return self._file.tell()
