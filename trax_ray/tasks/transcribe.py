"""TRANSCRIBE: from a recording to a committed transcript and the files made from it.

A recording of up to one chunk is done in one attempt. A longer one is read once to find where to cut it; its
chunks become tasks of their own, and when they have all succeeded the recording's task runs again and assembles
them. Everything that took work is an artifact: the content hash, the cuts, each chunk, the whole.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trax_ray.core.plan import plan_chunks
from trax_ray.core.quality import accuracy_percent, assess
from trax_ray.core.task import BatchTask, Outcome, ResourceRequest
from trax_ray.errors import BusyError, FileError
from trax_ray.store.artifacts import ArtifactStore, content_hash
from trax_ray.store.files import ensure_folder, write_atomically
from trax_ray.store.layout import Layout
from trax_ray.store.lease import Lease
from trax_ray.tasks.accuracy import count_errors, read_reference
from trax_ray.tasks.assignment import Assignment, Progress
from trax_ray.tasks.preprocess import convert, private_audio

if TYPE_CHECKING:
    from trax_ray.media.decode import Audio
    from trax_ray.providers.base import Segment, SpeechEngine

__all__ = ["FORMAT_VERSION", "transcribe"]

FORMAT_VERSION = 1
"""Of the payloads below; a change of it, or of what leads to them, makes new artifacts."""

AUDIO = "flac-16000"
"""What keys say of results that come from converted audio and not from the recording itself."""

CLAIM_PERIOD_S = 0.25
"""How often one looks whether the other, who works on the same content, is through."""

Payload = dict[str, Any]


@dataclass(frozen=True)
class _Job:
    """An assignment with what follows from it."""

    assignment: Assignment
    layout: Layout
    store: ArtifactStore
    path: Path
    audio: Path | None
    content: str
    language: str | None
    model: str
    prompt: str | None

    @classmethod
    def of(cls, assignment: Assignment) -> _Job:
        spec, data = assignment.spec, assignment.task.data
        layout = Layout(Path(spec.output_dir))
        path = Path(data["file_path"])
        return cls(
            assignment=assignment,
            layout=layout,
            store=ArtifactStore(layout.artifacts),
            path=path,
            audio=layout.output_dir / data["audio"] if data.get("audio") else None,
            content=content_hash(path, layout.hashes),
            language=data.get("language") or spec.language,
            model=data.get("model") or spec.model,
            prompt=data.get("prompt") or spec.initial_prompt,
        )

    @property
    def task(self) -> BatchTask:
        return self.assignment.task

    def key(self, kind: str, **parameters: Any) -> str:
        """Key of an artifact of this recording: all that decides on it, the file's name apart."""
        if kind != "cuts":
            parameters |= {
                "language": self.language,
                "initial_prompt": self.prompt,
                "word_timestamps": self.assignment.spec.word_timestamps,
            }
        if self.audio is not None:
            parameters["audio"] = AUDIO
        model = "" if kind == "cuts" else self.model
        return self.store.key(self.content, kind, parameters, model, FORMAT_VERSION)


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
    job = _Job.of(assignment)
    if job.task.chunk is not None:
        yield from _transcribe_chunk(job, started)
    else:
        yield from _transcribe_whole(job, assignment, started)


def _transcribe_chunk(job: _Job, started: float) -> Iterator[Progress | Outcome]:
    span = float(job.task.data["start_s"]), float(job.task.data["end_s"])
    key, payload = yield from _chunk(job, span, started)
    yield Outcome(artifact_key=key, metrics=_figures(payload))


def _chunk(job: _Job, span: tuple[float, float], started: float) -> Generator[Progress, None, tuple[str, Payload]]:
    """The artifact of one chunk: the one that is there, else a new one."""
    start_s, end_s = span
    key = job.key("chunk", start_s=start_s, end_s=end_s)
    payload = job.store.get(key)
    if payload is None:
        claim = yield from _claim(job, key)
        try:
            payload = job.store.get(key)
            if payload is None:
                path, _ = yield from _audio(job)
                audio, warnings = _decode(path, start_s, end_s)
                payload = yield from _recognise(job, audio, warnings, start_s, started)
                payload = job.store.put(key, payload)[1]
        finally:
            claim.release()
    return key, payload


def _transcribe_whole(job: _Job, assignment: Assignment, started: float) -> Iterator[Progress | Outcome]:
    key, payload = _find_whole(job)
    cached = payload is not None
    if payload is None and assignment.children:
        key = job.key("transcript", chunk_size_s=assignment.spec.chunk_size_s)
        payload = yield from _assemble(job, started)
        payload = job.store.put(key, payload)[1]
    elif payload is None:
        claim = yield from _claim(job, job.content)
        try:
            key, payload = _find_whole(job)
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
            claim.release()
    metrics = _figures(payload) | _measured(job, payload) | _origin(job, payload) | {"cached": cached}
    outputs = _write_outputs(job, payload)
    _drop_audio(job)
    yield Outcome(artifact_key=key, metrics=metrics | {"outputs": outputs})


def _claim(job: _Job, what: str) -> Generator[Progress, None, Lease]:
    """Wait until nobody else works on the same content, so that copies of a recording are transcribed once."""
    return (yield from _lock(job, job.layout.claim(what)))


def _lock(job: _Job, path: Path) -> Generator[Progress, None, Lease]:
    """Wait for a lock, with signs of life.

    Where the output folder has no locks two may do the same work; the artifact store keeps the first result.
    """
    lease = Lease(path)
    while True:
        try:
            lease.acquire(job.task.id)
        except BusyError:
            time.sleep(CLAIM_PERIOD_S)
            yield Progress(0.0)
            continue
        except FileError as error:
            if error.code != "no_locks":
                raise
        return lease


def _origin(job: _Job, payload: Payload) -> dict[str, Any]:
    """Says of which other input this one is a copy, where its transcript was made from that one."""
    source = payload["source"]
    return {} if source["file_id"] == job.task.file_id else {"duplicate_of": source["name"]}


def _find_whole(job: _Job) -> tuple[str, Payload | None]:
    """A transcript of the whole recording that is there already, and its key."""
    limit_s = job.assignment.spec.chunk_size_s
    key = job.key("transcript")
    payload = job.store.get(key)
    # One that was made in one piece holds for any chunk size that it fits in.
    if payload is not None and payload["duration_s"] <= limit_s:
        return key, payload
    key = job.key("transcript", chunk_size_s=limit_s)
    return key, job.store.get(key)


def _audio(job: _Job) -> Generator[Progress, None, tuple[Path, tuple[str, ...]]]:
    """What is to be decoded, and what the decoder had to say when that was made from the recording.

    Converted audio that is missing is made here: it goes when its transcript is there, and what then needs it
    again, because an artifact was lost, finds none.
    """
    if job.audio is None:
        return job.path, ()
    # A file of its own: whoever holds a claim comes here, and the locks of claims may be the same one.
    lease = yield from _lock(job, job.layout.claim(f"-{job.task.file_id}"))
    try:
        _, figures = yield from convert(job.store, job.content, job.path, job.audio)
    finally:
        lease.release()
    return job.audio, tuple(figures["media_warnings"])


def _drop_audio(job: _Job) -> None:
    """Delete the audio that was converted for this recording's transcript, which is there now."""
    if job.audio is not None:
        # What can't be deleted takes room, and that is no reason to fail.
        with suppress(OSError):
            private_audio(job.layout, job.task.file_id).unlink()


def _decode(path: Path, start_s: float, end_s: float) -> tuple[Audio, tuple[str, ...]]:
    """One chunk's samples, and what the decoder has to say of them."""
    from trax_ray.media.decode import stream

    with stream(path, start_s=start_s, end_s=end_s) as blocks:
        return blocks.rest(), blocks.warnings


def _read(job: _Job) -> Generator[Progress, None, tuple[Audio | None, tuple[str, ...], list[tuple[float, float]]]]:
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
    path, remarks = yield from _audio(job)
    planner = ChunkPlanner(limit_s)
    parts: list[Audio] = []
    with stream(path) as blocks:
        for block in blocks:
            planner.feed(block)
            if blocks.duration_s <= limit_s:
                parts.append(block)
            else:
                parts.clear()
            yield Progress(0.0)
        spans = planner.finish()
        warnings, duration_s = (*remarks, *blocks.warnings), blocks.duration_s
    if duration_s <= limit_s:
        return np.concatenate(parts), warnings, []
    cuts = [(span.start_s, span.end_s) for span in spans]
    job.store.put(key, {"cuts": cuts, "warnings": list(warnings), "duration_s": duration_s})
    return None, warnings, cuts


@lru_cache(maxsize=1)
def _engine(model: str, resources: ResourceRequest) -> SpeechEngine:
    """The model, loaded once per process and kept for the next task."""
    from trax_ray.providers.registry import load_engine

    return load_engine(model, resources)


def _recognise(
    job: _Job, audio: Audio, warnings: Sequence[str], offset_s: float, started: float
) -> Generator[Progress, None, Payload]:
    """Find the speech in `audio` and recognise it; times are counted from the recording's beginning."""
    from trax_ray.media.vad import speech_spans, total_s
    from trax_ray.providers.base import SAMPLE_RATE_HZ, EngineOptions

    engine = _engine(job.model, job.task.resources)
    duration_s = len(audio) / SAMPLE_RATE_HZ
    yield Progress(0.05)
    speech = speech_spans(audio)
    options = EngineOptions(job.language, job.prompt, job.assignment.spec.word_timestamps)
    segments = []
    if speech:
        for segment in engine.transcribe(audio, speech, options):
            segments.append(_segment(segment, offset_s))
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
        "segments": segments,
        "source": _source(job),
    }


def _source(job: _Job) -> Payload:
    return {"file_id": job.task.file_id, "name": job.task.data.get("name", "")}


def _segment(segment: Segment, offset_s: float) -> Payload:
    """A segment as it is kept; unknown figures are left out."""
    kept: Payload = {
        "start_s": round(segment.start_s + offset_s, 3),
        "end_s": round(segment.end_s + offset_s, 3),
        "text": segment.text,
    }
    for name in ("confidence", "avg_logprob", "no_speech_prob", "compression_ratio"):
        value = getattr(segment, name)
        if value is not None:
            kept[name] = round(float(value), 6)
    if segment.words:
        kept["words"] = [
            [round(word.start_s + offset_s, 3), round(word.end_s + offset_s, 3), word.text, word.probability]
            for word in segment.words
        ]
    return kept


def _restored(kept: Payload) -> Segment:
    """The segment that `_segment` kept."""
    from trax_ray.media.speech import Segment, Word

    words = tuple(Word(*word) for word in kept.get("words", ()))
    return Segment(**{name: value for name, value in kept.items() if name != "words"}, words=words)


def _assemble(job: _Job, started: float) -> Generator[Progress, None, Payload]:
    """One transcript from those of the chunks, in order. A chunk whose artifact is gone is made here."""
    _, warnings, cuts = yield from _read(job)
    chunks = []
    for span in cuts:
        chunks.append((yield from _chunk(job, span, started))[1])
    segments = [segment for chunk in chunks for segment in chunk["segments"]]
    languages = [chunk["language"] for chunk in chunks if chunk["language"]]
    return {
        "text": " ".join(segment["text"] for segment in segments),
        "language": max(languages, key=languages.count) if languages else job.language,
        "model": chunks[0]["model"],
        "provider": chunks[0]["provider"],
        "duration_s": cuts[-1][1],
        "speech_s": round(sum(chunk["speech_s"] for chunk in chunks), 3),
        "processing_s": round(sum(chunk["processing_s"] for chunk in chunks), 3),
        "media_warnings": sorted({*warnings, *(name for chunk in chunks for name in chunk["media_warnings"])}),
        "segments": segments,
        "chunks": len(chunks),
        "source": _source(job),
    }


def _figures(payload: Payload) -> dict[str, Any]:
    """The figures of a transcript that travel in its outcome."""
    confidences = [
        (segment["end_s"] - segment["start_s"], segment.get("confidence")) for segment in payload["segments"]
    ]
    judged = assess(
        payload["text"], confidences, speech_s=payload["speech_s"], media_warnings=payload["media_warnings"]
    )
    taken = ("duration_s", "speech_s", "processing_s", "language", "model", "chunks")
    figures = {name: payload[name] for name in taken if name in payload}
    return figures | {"segments": len(payload["segments"])} | judged


def _measured(job: _Job, payload: Payload) -> dict[str, Any]:
    """Accuracy against the reference transcript, where there is one."""
    reference = job.task.data.get("reference")
    counted = count_errors(read_reference(reference), payload["text"]) if reference else None
    if counted is None:
        return {}
    return {
        "wer_errors": counted.errors,
        "wer_words": counted.words,
        "measured_accuracy": accuracy_percent(counted.errors, counted.words),
    }


def _write_outputs(job: _Job, payload: Payload) -> list[str]:
    """Write the transcript in the formats that were asked for.

    Returns:
        Paths below the output folder. A file that has these bytes already isn't written again.
    """
    stem = job.task.data.get("output")
    if not stem:
        return []
    from trax_ray.media.subtitles import render

    segments = [_restored(segment) for segment in payload["segments"]]
    kept = ("language", "model", "provider", "duration_s", "speech_s", "media_warnings")
    meta = {name: payload[name] for name in kept}
    names = []
    for suffix in job.assignment.spec.formats:
        path = job.layout.transcript(stem, suffix)
        ensure_folder(path.parent)
        write_atomically(path, render(suffix, segments, meta=meta).encode("utf-8", "backslashreplace"))
        names.append(str(path.relative_to(job.layout.output_dir)))
    return names
