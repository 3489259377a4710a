"""PREPROCESS: a recording as 16 kHz mono FLAC, and what can be heard of its quality."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from trax_ray.codes import WarningCode
from trax_ray.core.task import Outcome
from trax_ray.kinds.assignment import Assignment, Progress
from trax_ray.store.artifacts import ArtifactStore, content_hash
from trax_ray.store.files import ensure_folder, written_atomically
from trax_ray.store.layout import Layout

__all__ = ["FORMAT_VERSION", "convert", "holds", "preprocess", "private_audio"]

FORMAT_VERSION = 2

Figures = dict[str, Any]


def private_audio(layout: Layout, file_id: str) -> Path:
    """The FLAC file of an input that nobody asked to keep: there from its conversion to its transcript."""
    return layout.private / "audio" / f"{file_id}.flac"


def preprocess(assignment: Assignment) -> Iterator[Progress | Outcome]:
    """Convert and analyse one recording.

    Args:
        assignment: Its task's `data`: `file_path`, and where the FLAC file goes: `output`, a path below the output
            folder without suffix, or in a chain `audio`, one with suffix. A private one isn't made again where the
            figures are known: who needs it makes it, and often nobody does.

    Yields:
        Progress, then one Outcome whose metrics hold the figures of `media.analysis`, `duration_s`, `speech_s`,
        `warnings` and `outputs`. In a chain `warnings` leaves out what the transcription says too.

    Raises:
        FileError: The recording can't be read, or the file can't be written; permanent.
        MediaError: There is nothing to decode; permanent.
    """
    yield Progress(0.0)
    task = assignment.task
    layout = Layout(Path(assignment.spec.output_dir))
    store = ArtifactStore(layout.artifacts)
    source = Path(task.data["file_path"])
    chained = "audio" in task.data
    target = layout.output_dir / (task.data["audio"] if chained else f"{task.data['output']}.flac")
    private = chained and target == private_audio(layout, task.file_id)
    content = content_hash(source, layout.hashes)
    cached = store.has(_key(store, content))
    key, figures = yield from convert(store, content, source, target, needed=not private)
    said_later = {*figures.pop("media_warnings"), WarningCode.NO_SPEECH}
    if chained:
        figures["warnings"] = [name for name in figures["warnings"] if name not in said_later]
    outputs = [] if private else [str(target.relative_to(layout.output_dir))]
    yield Outcome(artifact_key=key, metrics=figures | {"outputs": outputs, "cached": cached})


def convert(
    store: ArtifactStore, content: str, source: Path, target: Path, *, needed: bool = True
) -> Generator[Progress, None, tuple[str, Figures]]:
    """Convert a recording to 16 kHz mono FLAC and analyse it, as far as that hasn't been done.

    Args:
        store: Where the figures are kept.
        content: Content hash of `source`.
        source: The recording.
        target: The FLAC file; one that was made from other content is replaced.
        needed: Whether the file has to be there in the end, or the figures alone do.

    Yields:
        Progress.

    Returns:
        The figures' key and the figures, `media_warnings` (the decoder's part of `warnings`) among them.
    """
    started = time.monotonic()
    key = _key(store, content)
    figures = store.get(key)
    if figures is None or (needed and not holds(target, content)):
        ensure_folder(target.parent)
        found = yield from _convert(source, target, content)
        figures = store.put(key, found | {"processing_s": round(time.monotonic() - started, 3)})[1]
    return key, figures


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


def _key(store: ArtifactStore, content: str) -> str:
    return store.key(content, "preprocess", {"sample_rate_hz": 16_000}, "", FORMAT_VERSION)


def _convert(source: Path, target: Path, content: str) -> Generator[Progress, None, Figures]:
    import numpy as np
    import soundfile

    from trax_ray.media.analysis import Analyser
    from trax_ray.media.decode import stream
    from trax_ray.media.speech import SAMPLE_RATE_HZ
    from trax_ray.media.vad import SileroDetector, spans_of, total_s

    analyser, detector = Analyser(), SileroDetector()
    probabilities = []
    samples = 0
    with (
        stream(source) as blocks,
        written_atomically(target) as temporary,
        temporary.open("r+b") as file,
        _Sink(file) as sink,
        soundfile.SoundFile(sink, "w", samplerate=SAMPLE_RATE_HZ, channels=1, format="FLAC", subtype="PCM_16") as flac,
    ):
        flac.comment = _comment(content)
        for block in blocks:
            flac.write(block)
            sink.check()
            analyser.feed(block)
            probabilities.append(detector.feed(block))
            samples += len(block)
            yield Progress(0.0)
        warnings = blocks.warnings
    probabilities.append(detector.finish())
    speech_s = total_s(spans_of(np.concatenate(probabilities), samples))
    figures = analyser.figures()
    found = {*warnings, *figures.pop("warnings"), *(() if speech_s > 0 else (WarningCode.NO_SPEECH,))}
    return {
        "duration_s": round(samples / SAMPLE_RATE_HZ, 3),
        "speech_s": round(speech_s, 3),
        **figures,
        "warnings": sorted(found),
        "media_warnings": sorted(warnings),
    }


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
