"""Inputs to tasks: what has to be done for one recording, and for a chunk of it.

Ids follow from the input's path and fingerprints from all that matters for the result, so that planning the
same batch again gives the same tasks, and planning a changed one says which of them have to be done again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trax_ray.core.ids import digest, file_id_of, fingerprint_of
from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import BatchTask, ResourceRequest, TaskType
from trax_ray.kinds.download import DOWNLOAD, DownloadData
from trax_ray.kinds.enhancing import terms_of
from trax_ray.kinds.fetched import host_of
from trax_ray.kinds.form import Form
from trax_ray.kinds.preprocess import PREPROCESS, PreprocessData
from trax_ray.kinds.table import KINDS
from trax_ray.kinds.transcribe import TRANSCRIBE, TranscribeData
from trax_ray.kinds.youtube import YOUTUBE, YoutubeData
from trax_ray.store.uris import is_object_uri
from trax_ray.web.addresses import is_url
from trax_ray.web.job import Entry

__all__ = [
    "MAX_PRIORITY",
    "InputFile",
    "Scalar",
    "is_fetched",
    "plan_call",
    "plan_conversion",
    "plan_download",
    "plan_file",
    "plan_look",
    "provider_of_download",
]

Scalar = str | int | float | bool
"""A JSON scalar; what is null is left out."""

MAX_PRIORITY = 1_000_000
"""The lowest priority that an input may have; the report's columns hold 32 bits, and retries add to it."""


CONVERSIONS_PER_TRANSCRIPTION = 32
"""By so much a conversion weighs less than a transcription in the estimate of the time still to go, which goes by size.
Measured with pocketsphinx on 2 minutes of the samples: 0.35 s and 13.4 s."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """One recording to transcribe.

    Args:
        path: Absolute path, bytes that aren't UTF-8 as surrogate escapes; or a URL, or a URI in an object store.
        file_id: Its id; follows from the path where it wasn't moved.
        name: What people see: the path below the input folder.
        output: Path of its transcripts below the output folder, without suffix.
        size_bytes: File size; 0 when the file isn't there.
        mtime_ns: Time of the last change, nanoseconds since the epoch.
        inode: Number of the file in its file system; of an object, a number that goes with its ETag.
        changed_ns: Time of the last change of its inode, which can't be set; nanoseconds since the epoch.
        reference: Path of its reference transcript, empty where there is none.
        reference_mtime_ns: Time of the reference's last change.
        language: ISO 639-1 code; None takes the batch's.
        priority: Lower runs first.
        model: Speech model; None takes the batch's.
        prompt: Text that primes the model; None takes the batch's.
        missing: Whether it couldn't be looked at.
        extra: What a manifest says besides, by its column names; the report passes it on, nothing else reads it.
        entry: What its list or feed says of it; None for files.
        listing: It is a list that can't be read, and no recording.
        captions: Path of captions beside it that are to be its transcript; empty for none.
        captions_mtime_ns: Time of their last change.
    """

    path: str
    name: str
    output: str
    size_bytes: int = 0
    mtime_ns: int = 0
    inode: int = 0
    changed_ns: int = 0
    reference: str = ""
    reference_mtime_ns: int = 0
    language: str | None = None
    priority: int = 0
    model: str | None = None
    prompt: str | None = None
    missing: bool = False
    extra: Mapping[str, Scalar] = field(default_factory=dict, hash=False)
    file_id: str = ""
    entry: Entry | None = None
    listing: bool = False
    captions: str = ""
    captions_mtime_ns: int = 0

    def __post_init__(self) -> None:
        if not self.file_id:
            object.__setattr__(self, "file_id", file_id_of(self.path))

    @property
    def url(self) -> str:
        """Where it is on the web; empty for a file."""
        return self.path if is_fetched(self.path) else ""

    @property
    def file(self) -> str:
        """Its path, or its URI in an object store; empty for what is on the web."""
        return "" if is_fetched(self.path) else self.path


def is_fetched(path: str) -> bool:
    """Whether a recording has to be fetched first: one on the web does, an object in a store is read where it is."""
    return is_url(path) and not is_object_uri(path)


def _parameters(
    spec: BatchSpec, language: str | None, model: str | None = None, prompt: str | None = None
) -> dict[str, Any]:
    """What decides on a transcript and the files made from it, the recording apart."""
    parameters = {
        "model": model or spec.model,
        "language": language,
        "chunk_size_s": spec.chunk_size_s,
        "formats": sorted(spec.formats),
        "initial_prompt": prompt or spec.initial_prompt,
        "word_timestamps": spec.word_timestamps,
        **({"base_url": spec.base_url} if spec.base_url else {}),
        **({} if spec.vad == "normal" else {"vad": spec.vad}),
        **Form.of(spec).parameters,
        **_subtitles(spec),
        **({"terms": terms} if (terms := terms_of(spec)) else {}),
    }
    # Only where it is set, so that batches of earlier versions aren't done again.
    parameters |= {} if spec.captions == "never" else {"captions": spec.captions}
    return parameters | ({"preprocess": True} if spec.preprocess else {})


def _subtitles(spec: BatchSpec) -> dict[str, Any]:
    """What decides on the shape of subtitles, as far as somebody asked for one."""
    names = ("max_line_width", "max_line_count", "max_words_per_line")
    asked = {name: getattr(spec, name) for name in names if getattr(spec, name) is not None}
    return asked | ({} if spec.subtitle_style == "none" else {"subtitle_style": spec.subtitle_style})


def _form(spec: BatchSpec) -> list[Any]:
    """What decides on converted audio, as far as it isn't what it always was."""
    parameters = Form.of(spec).parameters
    return [parameters] if parameters else []


def _file_id(entry: InputFile, repeat: int) -> str:
    return file_id_of(entry.path, repeat) if repeat else entry.file_id


def plan_file(
    entry: InputFile,
    spec: BatchSpec,
    provider: str,
    resources: ResourceRequest,
    *,
    depends_on: Sequence[str] = (),
    repeat: int = 0,
) -> BatchTask:
    """The task that transcribes one recording.

    Args:
        entry: The recording.
        spec: The batch.
        provider: Name of the speech provider that has the recording's model, else the batch's.
        resources: What an attempt with that model asks of a node.
        depends_on: Ids of tasks that must succeed first.
        repeat: How often the same recording was added before.
    """
    language = entry.language or spec.language
    identity: list[Any] = [entry.size_bytes, entry.mtime_ns, entry.inode, entry.reference, entry.reference_mtime_ns]
    identity += [entry.captions, entry.captions_mtime_ns] if entry.captions or entry.captions_mtime_ns else []
    file_id = _file_id(entry, repeat)
    return TRANSCRIBE.task(
        TranscribeData(
            file_path=entry.file,
            url=entry.url,
            name=entry.name,
            output=entry.output,
            size_bytes=entry.size_bytes,
            mtime_ns=entry.mtime_ns,
            language=language,
            reference=entry.reference,
            model=entry.model,
            prompt=entry.prompt,
            extra=dict(entry.extra or {}),
            missing=entry.missing,
            captions=entry.captions,
        ),
        id=f"{TRANSCRIBE.name}-{file_id}",
        file_id=file_id,
        fingerprint=fingerprint_of(
            [identity, entry.output, _parameters(spec, language, entry.model, entry.prompt)],
            changed_ns=entry.changed_ns,
        ),
        priority=entry.priority,
        max_retries=spec.retry.max_retries,
        depends_on=depends_on,
        provider=provider,
        resources=resources,
    )


def plan_conversion(
    entry: InputFile, spec: BatchSpec, audio: str, *, depends_on: Sequence[str] = (), repeat: int = 0
) -> BatchTask:
    """The task that converts one recording.

    Where it is a step before another one both belong to one input, so that it is counted once. A batch that keeps
    converted audio converts again what an earlier one, which didn't, has converted already; nothing else but the
    recording itself matters for that step.

    Args:
        entry: The recording.
        spec: The batch.
        audio: Path of converted audio that is kept, below the output folder and without suffix; empty where it isn't.
        depends_on: Ids of tasks that must succeed first.
        repeat: How often the same recording was added before.
    """
    file_id = _file_id(entry, repeat)
    return PREPROCESS.task(
        PreprocessData(
            file_path=entry.file,
            name=entry.name,
            output=audio,
            size_bytes=entry.size_bytes // CONVERSIONS_PER_TRANSCRIPTION,
            missing=entry.missing,
        ),
        id=f"{PREPROCESS.name}-{file_id}",
        file_id=file_id,
        fingerprint=fingerprint_of(
            [PREPROCESS.name, entry.size_bytes, entry.mtime_ns, entry.inode, bool(audio), *_form(spec)],
            changed_ns=entry.changed_ns,
        ),
        priority=entry.priority,
        max_retries=spec.retry.max_retries,
        depends_on=depends_on,
    )


def plan_download(
    entry: InputFile, spec: BatchSpec, media: str, *, depends_on: Sequence[str] = (), repeat: int = 0
) -> BatchTask:
    """The task that fetches one recording.

    Args:
        entry: The recording.
        spec: The batch.
        media: Path of media that are kept, below the output folder and without suffix; empty where they aren't.
        depends_on: Ids of tasks that must succeed first.
        repeat: How often the same recording was added before.
    """
    file_id = _file_id(entry, repeat)
    return DOWNLOAD.task(
        DownloadData(url=entry.url, name=entry.name, output=media, archive=_archive_names(entry)),
        id=f"{DOWNLOAD.name}-{file_id}",
        file_id=file_id,
        fingerprint=digest([DOWNLOAD.name, media, *_captions(spec)]),
        priority=entry.priority,
        max_retries=spec.retry.max_retries,
        depends_on=depends_on,
        provider=provider_of_download(entry.url),
    )


def _archive_names(entry: InputFile) -> tuple[str, ...]:
    """The names of a feed's recording in an archive of downloads; others are known when their site was asked."""
    return entry.entry.archive if entry.entry is not None and entry.entry.media and entry.entry.key else ()


def _captions(spec: BatchSpec) -> list[str]:
    """What they change in a fingerprint: nothing where they aren't taken."""
    return [] if spec.captions == "never" else [spec.captions]


def plan_look(
    entry: InputFile, spec: BatchSpec, output: str, *, depends_on: Sequence[str] = (), repeat: int = 0
) -> BatchTask:
    """The task that asks a site of one recording.

    Args:
        entry: The recording.
        spec: The batch.
        output: Path of what it says, below the output folder and without suffix.
        depends_on: Ids of tasks that must succeed first.
        repeat: How often the same recording was added before.
    """
    file_id = _file_id(entry, repeat)
    return YOUTUBE.task(
        YoutubeData(
            url=entry.url,
            name=entry.name,
            output=output,
            entry=entry.entry,
            listing=entry.listing,
            language=entry.language,
        ),
        id=f"{YOUTUBE.name}-{file_id}",
        file_id=file_id,
        fingerprint=digest([YOUTUBE.name, output, *_captions(spec)]),
        priority=entry.priority,
        max_retries=spec.retry.max_retries,
        depends_on=depends_on,
        provider=provider_of_download(entry.url),
    )


def provider_of_download(url: str) -> str:
    """Who is asked for it: what limits of requests, a breaker and a site's refusals go by."""
    return f"{DOWNLOAD.name} {host_of(url)}"


def plan_call(
    task_type: TaskType,
    data: Mapping[str, Any],
    *,
    priority: int,
    depends_on: Sequence[str],
    repeat: int,
    spec: BatchSpec,
    provider: str,
    resources: ResourceRequest,
    identity: Any = None,
    changed_ns: int = 0,
) -> BatchTask:
    """The task of one `add_task` call of a kind that doesn't transcribe.

    Args:
        task_type: The kind.
        data: As the caller gave it.
        priority: Lower runs first.
        depends_on: Ids of tasks that must succeed first.
        repeat: How many calls with the same kind and data came before, so that each call is a task of its own.
        spec: The batch.
        provider: Who does the work.
        resources: What an attempt asks of a node.
        identity: What else tells one state of the input from another, such as size and time of a file.
        changed_ns: Time of the last change of the input's inode; 0 where it isn't known.
    """
    call_id = digest([task_type.value, dict(data), repeat])
    kind = KINDS.get(task_type.value)
    return BatchTask(
        id=f"{task_type.value}-{call_id}",
        task_type=task_type,
        data=dict(data),
        priority=priority,
        max_retries=spec.retry.max_retries,
        depends_on=tuple(depends_on),
        provider=provider,
        resources=resources,
        fingerprint=fingerprint_of(
            [identity, _parameters(spec, data.get("language") or spec.language)], changed_ns=changed_ns
        ),
        shared=kind is not None and kind.shared,
        asks=kind is not None and kind.asks,
    )
