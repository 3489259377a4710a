"""A recording that is being transcribed: what all ways to do it share.

Keys of artifacts, claims that keep two from doing the same work, converted audio, and the files that a user gets.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from trax_ray.codes import FailureCode, WarningCode
from trax_ray.core.policy.quality import accuracy_percent
from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import BatchTask
from trax_ray.errors import BusyError, FileError
from trax_ray.kinds.accuracy import count_errors, count_errors_normalized, read_reference
from trax_ray.kinds.asking import CLAIM_PERIOD_S
from trax_ray.kinds.assignment import Assignment, Progress
from trax_ray.kinds.conversion import convert, converted_audio, holds, known_conversion, private_audio
from trax_ray.kinds.enhancing import terms_of
from trax_ray.kinds.fetched import Downloaded, downloaded, fetch_again, forget_media, media_of
from trax_ray.kinds.form import Form
from trax_ray.kinds.reading import Reading, Stretch, read_stretch, read_through
from trax_ray.kinds.transcript import Figures, Source, Transcript
from trax_ray.kinds.written import write_outputs
from trax_ray.media.wanted import Wanted
from trax_ray.providers.registry import is_service, revision_of, takes_prompts
from trax_ray.store.artifacts import ArtifactStore, Hashed, hash_of, unchanged
from trax_ray.store.download_archive import add_to_archive
from trax_ray.store.layout import Layout
from trax_ray.store.lease import Lease
from trax_ray.store.ranged import StoredRecording
from trax_ray.store.uris import place_of

__all__ = [
    "FORMAT_VERSION",
    "Part",
    "Recording",
    "audio_of",
    "claim",
    "find_whole",
    "finished",
    "read_all",
    "read_part",
    "result_of",
]

FORMAT_VERSION = 1
"""Of transcripts and of what leads to them; a change of it makes new artifacts."""

TIMELINE = 2
"""Of what cuts count from: since 2 the zero of the container's times, and silence in its gaps up to a bound. Where that
is the same the cuts are too, and the parts between them keep their keys."""

AUDIO = "flac-16000"
"""What keys say of results that come from converted audio and not from the recording itself."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a recording, to be transcribed by itself.

    Args:
        file_path: Absolute path of the recording.
        start_s: Where the part begins, seconds.
        end_s: Where it ends.
        name: What people see of the recording.
        language: ISO 639-1 code; None takes the batch's.
        model: Speech model; None takes the batch's.
        prompt: Text that primes the model; None takes the batch's.
        size_bytes: The part's share of the recording's size, for the estimate of the time still to go.
        channel: Number of the channel that is one speaker's, from 0; None where speakers have no channels.
        estimate_usd: What a request for it costs, about; None where no price is known.
    """

    file_path: str
    start_s: float
    end_s: float
    name: str = ""
    language: str | None = None
    model: str | None = None
    prompt: str | None = None
    size_bytes: int = 0
    estimate_usd: float | None = None
    channel: int | None = None

    @property
    def span(self) -> Stretch:
        return float(self.start_s), float(self.end_s)


class Described(Protocol):
    """What the data of all tasks say that deal with a recording or a part of it."""

    @property
    def file_path(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def language(self) -> str | None: ...
    @property
    def model(self) -> str | None: ...
    @property
    def prompt(self) -> str | None: ...
    @property
    def channel(self) -> int | None: ...


@dataclass(frozen=True)
class Recording:
    """An assignment with what follows from it.

    Args:
        assignment: The attempt.
        layout: The output folder.
        store: Its artifacts.
        name: What people see of the recording.
        hashed: The recording's file as it was when the attempt began.
        fetched: What is known of it where it was fetched from the web; None for one that is a file of the user's.
        audio: What is decoded in its place, made from it where it is missing; None for the recording itself.
        language: ISO 639-1 code that was asked for; None lets the model detect it.
        model: The speech model.
        prompt: Text that primes it; None for none.
        channel: The one channel of it that is heard, from 0; None where it is heard as a whole.
    """

    assignment: Assignment
    layout: Layout
    store: ArtifactStore
    name: str
    hashed: Hashed
    fetched: Downloaded | None
    audio: Path | None
    language: str | None
    model: str
    prompt: str | None
    channel: int | None = None

    @classmethod
    def of(cls, assignment: Assignment, data: Described) -> Recording:
        """The recording of a task.

        Raises:
            FileError: It can't be read.
        """
        spec = assignment.spec
        layout = Layout.of(spec.output_dir)
        fetched = None if data.file_path else downloaded(assignment)
        hashed = hash_of(place_of(data.file_path), layout.hashes) if fetched is None else media_of(layout, fetched)
        return cls(
            assignment=assignment,
            layout=layout,
            store=ArtifactStore(layout.artifacts),
            name=data.name,
            hashed=hashed,
            fetched=fetched,
            audio=converted_audio(assignment, layout, hashed.content),
            language=data.language or spec.language,
            model=data.model or spec.model,
            prompt=_primed(data.prompt or spec.initial_prompt, spec, data.model or spec.model),
            channel=data.channel,
        )

    @property
    def form(self) -> Form:
        """What is heard of it."""
        return Form.of(self.assignment.spec)

    @property
    def wanted(self) -> Wanted:
        """What is listened to of what is decoded."""
        if self.audio is None:
            return self.form.wanted(self.channel)
        return Wanted(channel=self.channel)  # converted audio holds nothing else

    @property
    def task(self) -> BatchTask:
        return self.assignment.task

    @property
    def content(self) -> str:
        """SHA-256 of the recording, hexadecimal."""
        return self.hashed.content

    @property
    def source(self) -> Source:
        """This input, as what is made for it says."""
        return Source(self.task.file_id, self.name)

    def key(self, kind: str, **parameters: Any) -> str:
        """Key of an artifact of this recording: all that decides on it, the file's name apart."""
        if kind == "cuts":
            parameters["timeline"] = TIMELINE
        else:
            parameters |= {
                "language": self.language,
                "initial_prompt": self.prompt,
                "word_timestamps": self.assignment.spec.word_timestamps,
            }
            # Only where it isn't what it always was: results of earlier versions, some of them paid, keep their keys.
            parameters |= {} if self.assignment.spec.vad == "normal" else {"vad": self.assignment.spec.vad}
            revision = revision_of(self.model, self.assignment.spec.base_url)
            parameters |= {} if revision == 1 else {"revision": revision}
        parameters |= self.form.parameters
        parameters |= {} if self.channel is None else {"channel": self.channel}
        if self.audio is not None:
            parameters["audio"] = AUDIO
        model = "" if kind == "cuts" else self.model
        server = self.assignment.spec.base_url
        if model and server and is_service(model, server):
            model = f"{model} at {server}"  # a name says little where anybody may have given it
        return self.store.key(self.content, kind, parameters, model, FORMAT_VERSION)

    def part_key(self, span: Stretch) -> str:
        """Key of the transcript of a part."""
        return self.key("chunk", start_s=span[0], end_s=span[1])

    def unchanged(self) -> AbstractContextManager[None]:
        """See that what is decoded in a block is what was hashed: results are kept under the hash.

        Converted audio was looked at when it was made.

        Raises:
            FileError: `changed_while_read`: transient.
        """
        if self.audio is not None:
            return nullcontext()
        return unchanged(self.as_it_is_now(), self.layout.hashes)

    def as_it_is_now(self) -> Hashed:
        """The recording's file; one that was fetched may have been fetched again since the attempt began.

        Raises:
            FileError: `changed`: permanent, it isn't what was fetched.
        """
        if self.fetched is None:
            return self.hashed
        hashed = hash_of(self.hashed.path, self.layout.hashes)
        if hashed.content != self.hashed.content:
            raise FileError(
                f"{self.hashed.path} isn't what was fetched: delete it, and run the same command again",
                code=FailureCode.CHANGED,
            )
        return hashed

    def kept(self, key: str) -> Transcript | None:
        """The transcript of a key; None where there is none."""
        payload = self.store.get(key)
        return None if payload is None else Transcript.read(payload)

    def keep(self, key: str, transcript: Transcript) -> Transcript:
        """Commit a transcript; the one that is kept then, which may be another's that was faster."""
        return Transcript.read(self.store.put(key, transcript.payload())[1])


def _primed(prompt: str | None, spec: BatchSpec, model: str) -> str | None:
    """What primes a model: what somebody wrote, and the terms of the glossary, where it can be primed."""
    terms = terms_of(spec)
    if not terms or not takes_prompts(model, spec.base_url):
        return prompt
    return f"{prompt.rstrip()} {terms}" if prompt else terms


def claim(recording: Recording, what: str) -> Generator[Progress, None, Lease]:
    """Wait until nobody else works on the same content, so that copies of a recording are transcribed once."""
    return (yield from _lock(recording, recording.layout.claim(what)))


def _lock(recording: Recording, path: Path) -> Generator[Progress, None, Lease]:
    """Wait for a lock, with signs of life.

    Where the output folder has no locks two may do the same work; the artifact store keeps the first result.
    """
    lease = Lease(path)
    while True:
        try:
            lease.acquire(recording.task.id)
        except BusyError:
            time.sleep(CLAIM_PERIOD_S)
            yield Progress(0.0)
            continue
        except FileError as error:
            if error.code != FailureCode.NO_LOCKS:
                raise
        return lease


def find_whole(recording: Recording) -> tuple[str, Transcript | None]:
    """A transcript of the whole recording that is there already, and its key."""
    limit_s = recording.assignment.spec.chunk_size_s
    key = recording.key("transcript")
    transcript = recording.kept(key)
    # One that was made in one piece holds for any chunk size that it fits in.
    if transcript is not None and transcript.duration_s <= limit_s:
        return key, transcript
    key = recording.key("transcript", chunk_size_s=limit_s)
    return key, recording.kept(key)


def read_all(recording: Recording, limit_s: float) -> Generator[Progress, None, Reading]:
    """Read a recording from end to end: as `read_through`, of what is to be decoded in its place.

    Raises:
        FileError: `changed_while_read`: transient, it isn't any more what it was when it was hashed.
    """
    path, remarks = yield from audio_of(recording)
    with recording.unchanged():
        reading = yield from read_through(path, limit_s, recording.wanted)
    if recording.form.split and recording.channel is None:
        remarks = (*remarks, WarningCode.NOT_SPLIT.value)
    return replace(reading, warnings=tuple(dict.fromkeys([*remarks, *reading.warnings])))


def read_part(recording: Recording, span: Stretch) -> Generator[Progress, None, Reading]:
    """Read a part of a recording; as `read_all`."""
    path, _ = yield from audio_of(recording)
    with recording.unchanged():
        return read_stretch(path, span, recording.wanted)


def audio_of(recording: Recording) -> Generator[Progress, None, tuple[Path | StoredRecording, tuple[str, ...]]]:
    """What is to be decoded, and what the decoder had to say when that was made from the recording.

    Converted audio that is missing is made here: it goes when its transcript is there, and what then needs it
    again, because an artifact was lost, finds none.
    """
    if recording.fetched is not None and not recording.hashed.path.exists():
        lease = yield from _lock(recording, recording.layout.claim(f"-{recording.task.file_id}"))
        try:
            yield from fetch_again(recording.assignment, recording.layout, recording.store, recording.fetched)
        finally:
            lease.release()
    if recording.audio is None:
        return recording.hashed.path, ()
    made = known_conversion(recording.store, recording.content, recording.form)
    if made is not None and holds(recording.audio, recording.content, recording.form):
        return recording.audio, made.media_warnings
    # Not under its name, where somebody else's file may stand by now.
    private = private_audio(recording.layout, recording.task.file_id)
    # A file of its own: whoever holds a claim comes here, and the locks of claims may be the same one.
    lease = yield from _lock(recording, recording.layout.claim(f"-{recording.task.file_id}"))
    try:
        _, converted = yield from convert(
            recording.store, recording.as_it_is_now(), private, recording.layout.hashes, form=recording.form
        )
    finally:
        lease.release()
    return private, converted.media_warnings


def result_of(working: Generator[Progress, None, T]) -> T:
    """What a generator returns, where nobody listens to its signs of life."""
    while True:
        try:
            next(working)
        except StopIteration as end:
            found: T = end.value
            return found


def finished(recording: Recording, transcript: Transcript, *, output: str, reference: str, cached: bool) -> Figures:
    """Write what a transcript that is committed is for, and let go of what it needed.

    Args:
        recording: Whose it is.
        transcript: Of all of it.
        output: Path of its files below the output folder, without suffix; empty writes none.
        reference: Path of the reference transcript; empty where there is none.
        cached: Whether the transcript was there already.
    """
    figures = replace(transcript.figures(), cached=cached, content=recording.content)
    spoken = read_reference(reference) if reference else ""
    counted = count_errors(spoken, transcript.text)
    if counted is not None:
        alike = count_errors_normalized(spoken, transcript.text, transcript.language)
        figures = replace(
            figures,
            wer_errors=counted.errors,
            wer_words=counted.words,
            measured_accuracy=accuracy_percent(counted.errors, counted.words),
            measured_accuracy_normalized=None if alike is None else accuracy_percent(alike.errors, alike.words),
            accuracy_unit=counted.unit,
        )
    if transcript.source.file_id != recording.task.file_id:
        figures = replace(figures, duplicate_of=transcript.source.name)
    figures = replace(figures, outputs=())
    if output:
        written = write_outputs(recording.layout, recording.assignment.spec, recording.source, transcript, output)
        outputs, kept = written.outputs, written.kept
        warnings = tuple(sorted({*figures.warnings, *written.warnings}))
        figures = replace(figures, outputs=outputs, kept_outputs=kept, warnings=warnings)
    if recording.audio is not None:
        # What can't be deleted takes room, and that is no reason to fail.
        with suppress(OSError):
            private_audio(recording.layout, recording.task.file_id).unlink()
    if recording.fetched is not None:
        _archive(recording)
        forget_media(recording.layout, recording.task.file_id)
    return figures


def _archive(recording: Recording) -> None:
    """Note in the archive of downloads what was fetched: once its transcript is there, and nothing is left to do."""
    path, fetched = recording.assignment.spec.download_archive, recording.fetched
    if path and fetched is not None:
        add_to_archive(Path(path), fetched.archive)
