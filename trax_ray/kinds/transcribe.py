"""TRANSCRIBE: from a recording to a committed transcript and the files made from it.

A recording that a model of this machine can take in one attempt is done in one. A longer one is read once to find where
to cut it; its parts become tasks of their own, and when they have all succeeded the recording's task runs again and
joins them. A service is asked by tasks of their own whatever the length. Everything that took work or was paid for is
an artifact before it counts: the content hash, the cuts, each part, the whole.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from trax_ray.core.ids import fingerprint_of
from trax_ray.core.task import BatchTask, Outcome, TaskType
from trax_ray.errors import FileError
from trax_ray.kinds.assignment import Assignment, Progress
from trax_ray.kinds.base import Kind
from trax_ray.kinds.captions import captioned
from trax_ray.kinds.chunk import CHUNK, chunk_of, recognise
from trax_ray.kinds.codec import to_json
from trax_ray.kinds.parts import plan_parts
from trax_ray.kinds.reading import Reading, Stretch
from trax_ray.kinds.recording import Part, Recording, claim, find_whole, finished, read_all
from trax_ray.kinds.request import REQUEST
from trax_ray.kinds.transcript import Transcript
from trax_ray.kinds.uploads import Uploads
from trax_ray.kinds.voices import voices
from trax_ray.media.wanted import speaker_of
from trax_ray.providers.registry import is_service

__all__ = ["TRANSCRIBE", "TranscribeData", "transcribe"]


@dataclass(frozen=True, slots=True)
class TranscribeData:
    """What a TRANSCRIBE task is given.

    Args:
        file_path: Absolute path of the recording; empty for what a task that this one depends on fetches.
        name: What people see.
        output: Path of its transcripts below the output folder, without suffix; empty writes no files.
        size_bytes: Its size, for the estimate of the time still to go.
        mtime_ns: Time of its last change, nanoseconds since the epoch: it is known by it where it was moved.
        language: ISO 639-1 code; None takes the batch's.
        reference: Path of its reference transcript; empty where there is none.
        model: Speech model; None takes the batch's.
        prompt: Text that primes the model; None takes the batch's.
        extra: What a manifest says besides; the report passes it on.
        missing: It couldn't be looked at when it was planned: it isn't there, or its disk isn't.
        url: Where it is fetched from; empty for a file.
        audio_s: How long its header says that it is, seconds; None where nobody looked, or it doesn't say.
        captions: Path of captions that lie beside it; empty where there are none, or none are taken.
    """

    file_path: str
    name: str = ""
    output: str = ""
    size_bytes: int = 0
    mtime_ns: int = 0
    language: str | None = None
    reference: str = ""
    model: str | None = None
    prompt: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    missing: bool = False
    url: str = ""
    audio_s: float | None = None
    captions: str = ""

    @property
    def channel(self) -> None:
        """All of its channels are meant."""
        return

    @property
    def whole(self) -> Part:
        """The whole recording as one part, of which nobody knows yet how long it is."""
        return Part(
            file_path=self.file_path,
            start_s=0.0,
            end_s=0.0,
            name=self.name,
            language=self.language,
            model=self.model,
            prompt=self.prompt,
            size_bytes=self.size_bytes,
        )


def transcribe(assignment: Assignment) -> Iterator[Progress | Outcome]:
    """Make one attempt at a recording: transcribe it, plan its parts, or join what they brought.

    Yields:
        Progress, then one Outcome: the transcript's key and `Figures`, or the parts to be done first.

    Raises:
        FileError: The recording or its reference can't be read, or a transcript can't be written; permanent.
        MediaError: There is nothing to decode; permanent.
        ProcessingError: The model can't do what was asked.
    """
    started = time.monotonic()
    yield Progress(0.0)
    data = TRANSCRIBE.read(assignment.task)
    taken = captioned(assignment, data)
    if taken is not None:
        figures = finished(taken.recording, taken.transcript, output=data.output, reference="", cached=False)
        yield Outcome(artifact_key=taken.key, metrics=to_json(figures))
        return
    recording = Recording.of(assignment, data)
    key, transcript = find_whole(recording)
    cached = transcript is not None
    if transcript is None:
        made = yield from _made(recording, data, started)
        if not isinstance(made, _Made):
            yield Outcome(children=made, metrics={"chunks": len(made)})
            return
        key, transcript, cached = made.key, made.transcript, made.cached
    figures = finished(recording, transcript, output=data.output, reference=data.reference, cached=cached)
    yield Outcome(artifact_key=key, metrics=to_json(figures))


TRANSCRIBE = Kind(
    name="transcribe",
    task_type=TaskType.TRANSCRIBE,
    data=TranscribeData,
    runs=transcribe,
    needs="file_path",
    prepares_calls=lambda task, spec: is_service(task.data.get("model") or spec.model or "", spec.base_url),
)


@dataclass(frozen=True, slots=True)
class _Made:
    """A transcript of a whole recording, its key, and whether another one's was there meanwhile."""

    key: str
    transcript: Transcript
    cached: bool = False


_Way = Generator[Progress, None, "_Made | tuple[BatchTask, ...]"]


def _made(recording: Recording, data: TranscribeData, started: float) -> _Way:
    """The transcript of a recording; where each speaker has a channel, made of theirs."""
    way = _by_service if is_service(recording.model, recording.assignment.spec.base_url) else _by_model
    speaking = yield from voices(recording)
    if len(speaking) == 1:
        return (yield from way(recording, data, started, (0, 1)))
    children: list[BatchTask] = []
    made: list[_Made] = []
    for number, voice in enumerate(speaking):
        each = yield from way(voice, data, started, (number, len(speaking)))
        if isinstance(each, _Made):
            made.append(each)
        else:
            children += each
    if children:
        return tuple(children)
    whole = all(each.key == voice.key("transcript") for each, voice in zip(made, speaking, strict=True))
    key = recording.key("transcript", **({} if whole else {"chunk_size_s": recording.assignment.spec.chunk_size_s}))
    names = [speaker_of(number, len(speaking)) for number in range(len(speaking))]
    together = Transcript.of_speakers(dict(zip(names, (each.transcript for each in made), strict=True)))
    return _Made(key, recording.keep(key, together), cached=all(each.cached for each in made))


# By a service


def _by_service(recording: Recording, data: TranscribeData, started: float, turn: tuple[int, int]) -> _Way:
    key, transcript = find_whole(recording) if recording.channel is not None else ("", None)
    if transcript is not None:
        return _Made(key, transcript, cached=True)
    uploads = Uploads(recording)
    lease = yield from claim(recording, recording.content)
    try:
        cuts, warnings, heard = yield from uploads.cuts()
        wanted = []
        for span in (each for each in cuts if recording.kept(recording.part_key(each)) is None):
            yield Progress(span[0] / cuts[-1][1])
            if (yield from uploads.prepare(span, heard)):
                wanted.append(span)
    finally:
        lease.release()
    if wanted:
        return _requests(uploads, data, cuts, wanted, turn)
    parts = [_committed(recording, span) for span in cuts]
    key = recording.key("transcript", chunk_size_s=recording.assignment.spec.chunk_size_s)
    transcript = recording.keep(key, _joined(recording, parts, warnings, cuts[-1][1]))
    uploads.forget(cuts)
    return _Made(key, transcript)


def _requests(
    uploads: Uploads, data: TranscribeData, cuts: list[Stretch], wanted: list[Stretch], turn: tuple[int, int]
) -> tuple[BatchTask, ...]:
    """The tasks of the requests. Those that are planned once more, because their results are gone, are other ones."""
    recording = uploads.recording
    again = {"again": recording.assignment.attempt} if recording.assignment.children else {}
    prices = [uploads.price_usd(span) for span in cuts]
    whole = replace(data.whole, channel=recording.channel)
    planned = plan_parts(REQUEST, recording.task, whole, cuts, prices_usd=prices, voice=turn)
    return tuple(
        replace(child, fingerprint=fingerprint_of([again], of=child.fingerprint)) if again else child
        for child, span in zip(planned, cuts, strict=True)
        if span in wanted
    )


def _committed(recording: Recording, span: Stretch) -> Transcript:
    part = recording.kept(recording.part_key(span))
    if part is None:
        raise FileError("the result of a request has vanished: run the same command again", failure_class="transient")
    return part


# By a model of this machine


def _by_model(recording: Recording, data: TranscribeData, started: float, turn: tuple[int, int]) -> _Way:
    limit_s = recording.assignment.spec.chunk_size_s
    if recording.channel is not None:
        key, transcript = find_whole(recording)
        if transcript is not None:
            return _Made(key, transcript, cached=True)
    if recording.assignment.children:
        reading = yield from _read(recording)
        parts = []
        for span in reading.cuts:  # a chunk whose artifact is gone is made here
            parts.append((yield from chunk_of(recording, span, started))[1])
        key = recording.key("transcript", chunk_size_s=limit_s)
        return _Made(key, recording.keep(key, _joined(recording, parts, reading.warnings, reading.cuts[-1][1])))
    lease = yield from claim(recording, recording.content)
    try:
        key, transcript = find_whole(recording)
        if transcript is not None:
            return _Made(key, transcript, cached=True)
        reading = yield from _read(recording)
        if reading.audio is None:
            whole = replace(data.whole, channel=recording.channel)
            return plan_parts(CHUNK, recording.task, whole, reading.cuts, voice=turn)
        key = recording.key("transcript")
        transcript = yield from recognise(recording, reading.audio, reading.warnings, 0.0, started)
        return _Made(key, recording.keep(key, transcript))
    finally:
        lease.release()


def _read(recording: Recording) -> Generator[Progress, None, Reading]:
    """Read a recording, where it isn't known yet how it is cut; its warnings are those of all that was read for it."""
    limit_s = recording.assignment.spec.chunk_size_s
    key = recording.key("cuts", chunk_size_s=limit_s)
    known = recording.store.get(key)
    if known is not None:
        cuts = tuple((start, end) for start, end in known["cuts"])
        return Reading(cuts[-1][1], tuple(known["warnings"]), cuts=cuts)
    reading = yield from read_all(recording, limit_s)
    if reading.cuts:
        kept = {"cuts": reading.cuts, "warnings": list(reading.warnings), "duration_s": reading.duration_s}
        recording.store.put(key, kept)
    return reading


def _joined(recording: Recording, parts: list[Transcript], warnings: tuple[str, ...], duration_s: float) -> Transcript:
    return Transcript.join(
        parts,
        language=recording.language,
        duration_s=duration_s,
        warnings=warnings,
        source=recording.source,
    )
