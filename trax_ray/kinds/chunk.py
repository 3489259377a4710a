"""A chunk: a part of a long recording, transcribed by a model of this machine."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from trax_ray.core.task import Outcome, ResourceRequest, TaskType
from trax_ray.kinds.assignment import Assignment, Progress
from trax_ray.kinds.base import Kind
from trax_ray.kinds.codec import to_json
from trax_ray.kinds.reading import Stretch
from trax_ray.kinds.recording import Part, Recording, claim, read_part
from trax_ray.kinds.transcript import Transcript

if TYPE_CHECKING:
    from trax_ray.media.decode import Audio
    from trax_ray.providers.base import SpeechEngine

__all__ = ["CHUNK", "chunk_of", "recognise"]


def transcribe_chunk(assignment: Assignment) -> Iterator[Progress | Outcome]:
    """Make one attempt at a chunk.

    Yields:
        Progress, then one Outcome: its transcript's key and figures.

    Raises:
        As `trax_ray.kinds.transcribe.transcribe`.
    """
    started = time.monotonic()
    yield Progress(0.0)
    data = CHUNK.read(assignment.task)
    key, transcript = yield from chunk_of(Recording.of(assignment, data), data.span, started)
    yield Outcome(artifact_key=key, metrics=to_json(transcript.figures()))


CHUNK = Kind(name="chunk", task_type=TaskType.TRANSCRIBE, data=Part, runs=transcribe_chunk)


def chunk_of(recording: Recording, span: Stretch, started: float) -> Generator[Progress, None, tuple[str, Transcript]]:
    """The transcript of a chunk, and its key: the one that is there, else a new one.

    Args:
        recording: Whose chunk it is.
        span: Which part of it.
        started: When the attempt began, seconds of the monotonic clock.
    """
    key = recording.part_key(span)
    transcript = recording.kept(key)
    if transcript is None:
        lease = yield from claim(recording, key)
        try:
            transcript = recording.kept(key)
            if transcript is None:
                part = yield from read_part(recording, span)
                assert part.audio is not None
                transcript = yield from recognise(recording, part.audio, part.warnings, span[0], started)
                transcript = recording.keep(key, transcript)
        finally:
            lease.release()
    return key, transcript


@lru_cache(maxsize=1)
def _engine(model: str, resources: ResourceRequest) -> SpeechEngine:
    """The model, loaded once per process and kept for the next task."""
    from trax_ray.providers.registry import load_engine

    return load_engine(model, resources)


def recognise(
    recording: Recording, audio: Audio, warnings: Sequence[str], offset_s: float, started: float
) -> Generator[Progress, None, Transcript]:
    """Find the speech in audio and recognise it.

    Args:
        recording: Whose audio it is.
        audio: float32, shape (n_samples,), mono, [-1, 1], at 16,000 Hz.
        warnings: What decoding it had to say.
        offset_s: Where in the recording it begins, seconds.
        started: When the attempt began, seconds of the monotonic clock.

    Returns:
        The transcript; times are counted from the recording's beginning.
    """
    from trax_ray.media.vad import speech_spans, total_s
    from trax_ray.providers.base import SAMPLE_RATE_HZ, EngineOptions

    engine = _engine(recording.model, recording.task.resources)
    duration_s = len(audio) / SAMPLE_RATE_HZ
    yield Progress(0.05)
    speech = speech_spans(audio, sensitivity=recording.assignment.spec.vad)
    options = EngineOptions(recording.language, recording.prompt, recording.assignment.spec.word_timestamps)
    segments = []
    if speech:
        for segment in engine.transcribe(audio, speech, options):
            segments.append(segment)
            yield Progress(min(1.0, segment.end_s / duration_s))
    return Transcript.of(
        segments,
        speech,
        offset_s,
        language=(engine.language if speech else None) or recording.language,
        model=engine.model,
        provider=engine.name,
        duration_s=round(duration_s, 3),
        speech_s=round(total_s(speech), 3),
        processing_s=round(time.monotonic() - started, 3),
        media_warnings=tuple(warnings),
        source=recording.source,
    )
