"""A recording's transcript in the making: what all ways to transcribe share.

Keys of artifacts, claims that keep two from doing the same work, converted audio, and from a transcript's payload its
figures and the files that a user gets.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trax_ray.codes import FailureCode
from trax_ray.core.policy.quality import accuracy_percent, assess, uncovered
from trax_ray.core.task import BatchTask
from trax_ray.errors import BusyError, FileError
from trax_ray.kinds.accuracy import count_errors, read_reference
from trax_ray.kinds.assignment import Assignment, Progress
from trax_ray.kinds.preprocess import convert, private_audio
from trax_ray.providers.registry import is_service, revision_of
from trax_ray.store.artifacts import ArtifactStore, content_hash
from trax_ray.store.files import ensure_folder, write_atomically
from trax_ray.store.layout import Layout
from trax_ray.store.lease import Lease

if TYPE_CHECKING:
    from trax_ray.media.speech import Segment, Span

__all__ = [
    "FORMAT_VERSION",
    "Job",
    "Payload",
    "assembled",
    "audio_of",
    "bare",
    "claim",
    "drop_audio",
    "figures_of",
    "find_whole",
    "finished",
    "kept_segment",
    "source_of",
]

FORMAT_VERSION = 1
"""Of the payloads below; a change of it, or of what leads to them, makes new artifacts."""

AUDIO = "flac-16000"
"""What keys say of results that come from converted audio and not from the recording itself."""

CLAIM_PERIOD_S = 0.25
"""How often one looks whether the other, who works on the same content, is through."""

Payload = dict[str, Any]


@dataclass(frozen=True)
class Job:
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
    def of(cls, assignment: Assignment) -> Job:
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
            # Only where it isn't what it always was: results of earlier versions, some of them paid, keep their keys.
            parameters |= {} if self.assignment.spec.vad == "normal" else {"vad": self.assignment.spec.vad}
            revision = revision_of(self.model, self.assignment.spec.base_url)
            parameters |= {} if revision == 1 else {"revision": revision}
        if self.audio is not None:
            parameters["audio"] = AUDIO
        model = "" if kind == "cuts" else self.model
        server = self.assignment.spec.base_url
        if model and server and is_service(model, server):
            model = f"{model} at {server}"  # a name says little where anybody may have given it
        return self.store.key(self.content, kind, parameters, model, FORMAT_VERSION)


def claim(job: Job, what: str) -> Generator[Progress, None, Lease]:
    """Wait until nobody else works on the same content, so that copies of a recording are transcribed once."""
    return (yield from lock(job, job.layout.claim(what)))


def lock(job: Job, path: Path) -> Generator[Progress, None, Lease]:
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
            if error.code != FailureCode.NO_LOCKS:
                raise
        return lease


def origin(job: Job, payload: Payload) -> dict[str, Any]:
    """Says of which other input this one is a copy, where its transcript was made from that one."""
    source = payload["source"]
    return {} if source["file_id"] == job.task.file_id else {"duplicate_of": source["name"]}


def find_whole(job: Job) -> tuple[str, Payload | None]:
    """A transcript of the whole recording that is there already, and its key."""
    limit_s = job.assignment.spec.chunk_size_s
    key = job.key("transcript")
    payload = job.store.get(key)
    # One that was made in one piece holds for any chunk size that it fits in.
    if payload is not None and payload["duration_s"] <= limit_s:
        return key, payload
    key = job.key("transcript", chunk_size_s=limit_s)
    return key, job.store.get(key)


def audio_of(job: Job) -> Generator[Progress, None, tuple[Path, tuple[str, ...]]]:
    """What is to be decoded, and what the decoder had to say when that was made from the recording.

    Converted audio that is missing is made here: it goes when its transcript is there, and what then needs it
    again, because an artifact was lost, finds none.
    """
    if job.audio is None:
        return job.path, ()
    # A file of its own: whoever holds a claim comes here, and the locks of claims may be the same one.
    lease = yield from lock(job, job.layout.claim(f"-{job.task.file_id}"))
    try:
        _, figures = yield from convert(job.store, job.content, job.path, job.audio)
    finally:
        lease.release()
    return job.audio, tuple(figures["media_warnings"])


def drop_audio(job: Job) -> None:
    """Delete the audio that was converted for this recording's transcript, which is there now."""
    if job.audio is not None:
        # What can't be deleted takes room, and that is no reason to fail.
        with suppress(OSError):
            private_audio(job.layout, job.task.file_id).unlink()


def source_of(job: Job) -> Payload:
    return {"file_id": job.task.file_id, "name": job.task.data.get("name", "")}


def kept_segment(segment: Segment, offset_s: float) -> Payload:
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
    for name in ("speaker", "language"):
        if getattr(segment, name) is not None:
            kept[name] = getattr(segment, name)
    if segment.words:
        kept["words"] = [
            [round(word.start_s + offset_s, 3), round(word.end_s + offset_s, 3), word.text, word.probability]
            for word in segment.words
        ]
    return kept


def restored_segment(kept: Payload) -> Segment:
    """The segment that `kept_segment` kept."""
    from trax_ray.media.speech import Segment, Word

    words = tuple(Word(*word) for word in kept.get("words", ()))
    return Segment(**{name: value for name, value in kept.items() if name != "words"}, words=words)


def bare(speech: Sequence[Span], offset_s: float, segments: Sequence[Payload]) -> list[list[float]]:
    """Where speech has no words: [start, end] in seconds of the recording, as a transcript keeps it.

    Args:
        speech: Where speech was found, counted from `offset_s`.
        offset_s: Seconds of the recording before that.
        segments: What was recognised, as it is kept.
    """
    spans = [(span.start_s + offset_s, span.end_s + offset_s) for span in speech]
    words = [(segment["start_s"], segment["end_s"], segment["text"]) for segment in segments]
    return [[round(start, 3), round(end, 3)] for start, end in uncovered(spans, words)]


def figures_of(payload: Payload) -> dict[str, Any]:
    """The figures of a transcript that travel in its outcome."""
    confidences = [
        (segment["end_s"] - segment["start_s"], segment.get("confidence")) for segment in payload["segments"]
    ]
    uncovered_s = round(sum(end - start for start, end in payload.get("uncovered", ())), 3)
    judged = assess(
        payload["text"],
        confidences,
        speech_s=payload["speech_s"],
        media_warnings=payload["media_warnings"],
        uncovered_s=uncovered_s,
    )
    taken = ("duration_s", "speech_s", "processing_s", "language", "model", "chunks")
    figures = {name: payload[name] for name in taken if name in payload}
    return figures | {"segments": len(payload["segments"]), "uncovered_s": uncovered_s} | judged


def measured(job: Job, payload: Payload) -> dict[str, Any]:
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


def write_outputs(job: Job, payload: Payload) -> list[str]:
    """Write the transcript in the formats that were asked for.

    Returns:
        Paths below the output folder. A file that has these bytes already isn't written again.
    """
    stem = job.task.data.get("output")
    if not stem:
        return []
    from trax_ray.media.subtitles import render

    segments = [restored_segment(segment) for segment in payload["segments"]]
    kept = ("language", "model", "provider", "duration_s", "speech_s", "media_warnings", "uncovered")
    meta = {name: payload[name] for name in kept if name in payload}
    names = []
    for suffix in job.assignment.spec.formats:
        path = job.layout.transcript(stem, suffix)
        ensure_folder(path.parent)
        write_atomically(path, render(suffix, segments, meta=meta).encode("utf-8", "backslashreplace"))
        names.append(str(path.relative_to(job.layout.output_dir)))
    return names


def assembled(job: Job, chunks: Sequence[Payload], warnings: Sequence[str], duration_s: float) -> Payload:
    """One transcript from those of its chunks.

    Args:
        job: The recording's.
        chunks: At least one, in order.
        warnings: Of reading the recording as a whole.
        duration_s: Of the recording.
    """
    segments = [segment for chunk in chunks for segment in chunk["segments"]]
    languages = [chunk["language"] for chunk in chunks if chunk["language"]]
    return {
        "text": " ".join(segment["text"] for segment in segments),
        "language": max(languages, key=languages.count) if languages else job.language,
        "model": chunks[0]["model"],
        "provider": chunks[0]["provider"],
        "duration_s": duration_s,
        "speech_s": round(sum(chunk["speech_s"] for chunk in chunks), 3),
        "processing_s": round(sum(chunk["processing_s"] for chunk in chunks), 3),
        "media_warnings": sorted({*warnings, *(name for chunk in chunks for name in chunk["media_warnings"])}),
        "uncovered": [stretch for chunk in chunks for stretch in chunk.get("uncovered", ())],
        "segments": segments,
        "chunks": len(chunks),
        "source": source_of(job),
    }


def finished(job: Job, payload: Payload, *, cached: bool) -> dict[str, Any]:
    """Write what a transcript that is committed is for, and let go of what it needed.

    Returns:
        The figures of its outcome.
    """
    metrics = figures_of(payload) | measured(job, payload) | origin(job, payload) | {"cached": cached}
    outputs = write_outputs(job, payload)
    drop_audio(job)
    return metrics | {"outputs": outputs}
