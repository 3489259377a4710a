"""A recording as 16 kHz FLAC, mono or a channel for each speaker, and what can be heard of its quality."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trax_ray.kinds.assignment import Assignment, Progress
from trax_ray.kinds.codec import from_json, to_json
from trax_ray.kinds.form import AS_IT_IS, Form
from trax_ray.store.artifacts import ArtifactStore, Hashed, changed_while_read, content_hash, unchanged
from trax_ray.store.files import ensure_folder
from trax_ray.store.layout import Layout
from trax_ray.store.writing import written_atomically

if TYPE_CHECKING:
    from trax_ray.kinds.flac import Written

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
        channels: How many channels the FLAC file has: more than one where each is a speaker.
        as_it_is: Whether the recording is what it would be converted to, so that it needn't be.
        lufs: Integrated loudness of each of them before it was brought to another one; empty where it wasn't.
        gain_db: What was added.
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
    channels: int = 1
    as_it_is: bool = False
    lufs: tuple[float | None, ...] = ()
    gain_db: tuple[float, ...] = ()
    outputs: tuple[str, ...] | None = None
    kept_outputs: tuple[str, ...] = ()
    cached: bool | None = None


def private_audio(layout: Layout, file_id: str) -> Path:
    """The FLAC file of an input that nobody asked to keep: there from its conversion to its transcript."""
    return layout.work / "audio" / f"{file_id}.flac"


def converted_audio(assignment: Assignment, layout: Layout, content: str) -> Path | None:
    """The FLAC file that a task which this one depends on made of the same recording; None where none did, or had to.

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
        if result.figures.get("as_it_is"):
            return None
        if made and result.figures.get("content") == content:
            return layout.here / made
        if not made and task_id == f"{KIND}-{file_id}":  # made by version 0.1, which agreed on the path beforehand
            return layout.here / str(outputs[0]) if outputs else private_audio(layout, file_id)
    return None


def convert(
    store: ArtifactStore,
    source: Hashed,
    target: Path,
    memo: Path,
    *,
    form: Form = AS_IT_IS,
    needed: bool = True,
    before: Callable[[str], None] = lambda content: None,
) -> Generator[Progress, None, tuple[str, Converted]]:
    """Convert a recording to 16 kHz mono FLAC and analyse it, as far as that hasn't been done.

    Args:
        store: Where the figures are kept.
        source: The recording.
        target: The FLAC file; one that was made from other content is replaced.
        memo: Folder of remembered hashes.
        form: What is heard of the recording.
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
    key = key_of(store, source.content, form)
    known = store.get(key)
    if known is None or (needed and not holds(target, source.content, form)):
        ensure_folder(target.parent)
        found = yield from _convert(source, target, memo, form, before, needed)
        found = replace(found, processing_s=round(time.monotonic() - started, 3))
        known = store.put(key, to_json(found))[1]
    return key, from_json(Converted, known)


def holds(target: Path, content: str, form: Form = AS_IT_IS) -> bool:
    """Whether a FLAC file was made from the recording with this content hash, in this form; False where it isn't
    there."""
    import soundfile

    try:
        with soundfile.SoundFile(os.fsencode(target)) as flac:
            if flac.comment == _comment(content, form):
                return True
    except soundfile.LibsndfileError:
        return False
    return form == AS_IT_IS and content_hash(target) == content  # a recording that needed no change


def _comment(content: str, form: Form) -> str:
    said = "".join(f", {name} {value}" for name, value in form.parameters.items())
    return f"16 kHz mono of the recording with SHA-256 {content}{said}"


def key_of(store: ArtifactStore, content: str, form: Form = AS_IT_IS) -> str:
    """Key of what is known of a recording once it was converted."""
    return store.key(content, "preprocess", {"sample_rate_hz": 16_000, **form.parameters}, "", FORMAT_VERSION)


def known_conversion(store: ArtifactStore, content: str, form: Form = AS_IT_IS) -> Converted | None:
    """What is known of a recording that was converted; None where none was."""
    known = store.get(key_of(store, content, form))
    return None if known is None else from_json(Converted, known)


def _convert(
    source: Hashed, target: Path, memo: Path, form: Form, before: Callable[[str], None], needed: bool
) -> Generator[Progress, None, Converted]:
    from trax_ray.kinds.flac import fits, write_flac

    path = source.path
    if form == AS_IT_IS and isinstance(path, Path) and fits(path, flac=needed):
        with unchanged(source, memo):
            found = yield from write_flac(path, form, None, "")
        if not found.warnings:  # else what is left of it is written down
            if needed:
                with written_atomically(target) as temporary:
                    shutil.copyfile(path, temporary)
                    before(_copied(temporary, path, source.content))
            return _converted(found, as_it_is=True)
    with written_atomically(target) as temporary:
        with unchanged(source, memo), temporary.open("r+b") as file:
            found = yield from write_flac(source.path, form, file, _comment(source.content, form))
        before(content_hash(temporary))
    return _converted(found)


def _copied(copy: Path, path: Path, wanted: str) -> str:
    """The hash of a copy.

    Raises:
        FileError: `changed_while_read`: transient, it isn't what was listened to.
    """
    content = content_hash(copy)
    if content != wanted:
        raise changed_while_read(path)
    return content


def _converted(found: Written, *, as_it_is: bool = False) -> Converted:
    warnings = tuple(sorted({*found.figures.pop("warnings"), *found.warnings}))
    return Converted(warnings=warnings, media_warnings=found.warnings, as_it_is=as_it_is, **found.figures)
