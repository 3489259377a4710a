"""TRANSCRIBE: from a recording to a committed transcript and the files made from it.

A recording of up to one chunk is done in one attempt. A longer one is read once to find where to cut it; its
chunks become tasks of their own, and when they have all succeeded the recording's task runs again and assembles
them. Everything that took work is an artifact: the content hash, the cuts, each chunk, the whole.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from trax_ray.core.task import Outcome, ResourceRequest
from trax_ray.kinds.assignment import Assignment, Progress
from trax_ray.kinds.chunks import plan_chunks
from trax_ray.kinds.recording import (
    Job,
    Payload,
    assembled,
    audio_of,
    bare,
    claim,
    figures_of,
    find_whole,
    finished,
    kept_segment,
    source_of,
)
from trax_ray.kinds.request import call_alone, transcribe_by_service
from trax_ray.providers.registry import is_service

if TYPE_CHECKING:
    from trax_ray.media.decode import Audio
    from trax_ray.providers.base import SpeechEngine

__all__ = ["transcribe"]


def transcribe(assignment: Assignment) -> Iterator[Progress | Outcome]:
    """Make one attempt at a recording, a chunk of one, or the assembly of its chunks.

    Args:
        assignment: Its task's `data`: `file_path`; optionally `output` (path below the output folder without
            suffix; none writes no files), `language`, `model` and `prompt` (none: the batch's), `reference` (path),
            `start_s` and `end_s` (of a chunk), `audio` (path below the output folder: what is decoded in place of
            the recording, made from it where it is missing).

    Yields:
        Progress, then one Outcome: the artifact and its figures, or the chunks to be done first.

    Raises:
        FileError: The recording or its reference can't be read, or a transcript can't be written; permanent.
        MediaError: There is nothing to decode; permanent.
        ProcessingError: The model can't do what was asked.
    """
    started = time.monotonic()
    yield Progress(0.0)
    job = Job.of(assignment)
    if is_service(job.model, assignment.spec.base_url):
        if job.task.chunk is None:
            yield from transcribe_by_service(job, started)
        else:  # a request whose process died under it and others, and which has this one for itself
            yield asyncio.run(call_alone(assignment))
    elif job.task.chunk is not None:
        yield from _transcribe_chunk(job, started)
    else:
        yield from _transcribe_whole(job, assignment, started)


def _transcribe_chunk(job: Job, started: float) -> Iterator[Progress | Outcome]:
    span = float(job.task.data["start_s"]), float(job.task.data["end_s"])
    key, payload = yield from _chunk(job, span, started)
    yield Outcome(artifact_key=key, metrics=figures_of(payload))


def _chunk(job: Job, span: tuple[float, float], started: float) -> Generator[Progress, None, tuple[str, Payload]]:
    """The artifact of one chunk: the one that is there, else a new one."""
    start_s, end_s = span
    key = job.key("chunk", start_s=start_s, end_s=end_s)
    payload = job.store.get(key)
    if payload is None:
        lease = yield from claim(job, key)
        try:
            payload = job.store.get(key)
            if payload is None:
                path, _ = yield from audio_of(job)
                audio, warnings = _decode(path, start_s, end_s)
                payload = yield from _recognise(job, audio, warnings, start_s, started)
                payload = job.store.put(key, payload)[1]
        finally:
            lease.release()
    return key, payload


def _transcribe_whole(job: Job, assignment: Assignment, started: float) -> Iterator[Progress | Outcome]:
    key, payload = find_whole(job)
    cached = payload is not None
    if payload is None and assignment.children:
        key = job.key("transcript", chunk_size_s=assignment.spec.chunk_size_s)
        payload = yield from _assemble(job, started)
        payload = job.store.put(key, payload)[1]
    elif payload is None:
        lease = yield from claim(job, job.content)
        try:
            key, payload = find_whole(job)
            cached = payload is not None
            if payload is None:
                samples, warnings, cuts = yield from _read(job)
                if samples is None:
                    yield Outcome(children=plan_chunks(job.task, cuts), metrics={"chunks": len(cuts)})
                    return
                key = job.key("transcript")
                payload = yield from _recognise(job, samples, warnings, 0.0, started)
                payload = job.store.put(key, payload)[1]
        finally:
            lease.release()
    yield Outcome(artifact_key=key, metrics=finished(job, payload, cached=cached))


def _decode(path: Path, start_s: float, end_s: float) -> tuple[Audio, tuple[str, ...]]:
    """One chunk's samples, and what the decoder has to say of them."""
    from trax_ray.media.decode import stream

    with stream(path, start_s=start_s, end_s=end_s) as blocks:
        return blocks.rest(), blocks.warnings


def _read(job: Job) -> Generator[Progress, None, tuple[Audio | None, tuple[str, ...], list[tuple[float, float]]]]:
    """Read a recording once, from end to end.

    Returns:
        Its samples where it is no longer than a chunk, else None and where to cut it; and the decoder's warnings.
    """
    import numpy as np

    from trax_ray.media.chunking import ChunkPlanner
    from trax_ray.media.decode import stream

    limit_s = job.assignment.spec.chunk_size_s
    key = job.key("cuts", chunk_size_s=limit_s)
    known = job.store.get(key)
    if known is not None:
        return None, tuple(known["warnings"]), [(start, end) for start, end in known["cuts"]]
    path, remarks = yield from audio_of(job)
    planner = ChunkPlanner(limit_s)
    parts: list[Audio] = []
    with stream(path) as blocks:
        for block in blocks:
            parts.append(block)
            if blocks.duration_s > limit_s:  # until then there may be nothing to cut, and then nothing to look at
                for part in parts:
                    planner.feed(part)
                parts.clear()
            yield Progress(0.0)
        warnings, duration_s = (*remarks, *blocks.warnings), blocks.duration_s
    if duration_s <= limit_s:
        return np.concatenate(parts), warnings, []
    for part in parts:
        planner.feed(part)
    cuts = [(span.start_s, span.end_s) for span in planner.finish()]
    job.store.put(key, {"cuts": cuts, "warnings": list(warnings), "duration_s": duration_s})
    return None, warnings, cuts


@lru_cache(maxsize=1)
def _engine(model: str, resources: ResourceRequest) -> SpeechEngine:
    """The model, loaded once per process and kept for the next task."""
    from trax_ray.providers.registry import load_engine

    return load_engine(model, resources)


def _recognise(
    job: Job, audio: Audio, warnings: Sequence[str], offset_s: float, started: float
) -> Generator[Progress, None, Payload]:
    """Find the speech in `audio` and recognise it; times are counted from the recording's beginning."""
    from trax_ray.media.vad import speech_spans, total_s
    from trax_ray.providers.base import SAMPLE_RATE_HZ, EngineOptions

    engine = _engine(job.model, job.task.resources)
    duration_s = len(audio) / SAMPLE_RATE_HZ
    yield Progress(0.05)
    speech = speech_spans(audio, sensitivity=job.assignment.spec.vad)
    options = EngineOptions(job.language, job.prompt, job.assignment.spec.word_timestamps)
    segments = []
    if speech:
        for segment in engine.transcribe(audio, speech, options):
            segments.append(kept_segment(segment, offset_s))
            yield Progress(min(1.0, segment.end_s / duration_s))
    return {
        "text": " ".join(segment["text"] for segment in segments),
        "language": (engine.language if speech else None) or job.language,
        "model": engine.model,
        "provider": engine.name,
        "duration_s": round(duration_s, 3),
        "speech_s": round(total_s(speech), 3),
        "processing_s": round(time.monotonic() - started, 3),
        "media_warnings": list(warnings),
        "uncovered": bare(speech, offset_s, segments),
        "segments": segments,
        "source": source_of(job),
    }


def _assemble(job: Job, started: float) -> Generator[Progress, None, Payload]:
    """One transcript from those of the chunks, in order. A chunk whose artifact is gone is made here."""
    _, warnings, cuts = yield from _read(job)
    chunks = []
    for span in cuts:
        chunks.append((yield from _chunk(job, span, started))[1])
    return assembled(job, chunks, warnings, cuts[-1][1])
