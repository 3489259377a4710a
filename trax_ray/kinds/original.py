"""What is enhanced: the transcript of a task that this one depends on, or a file that holds one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trax_ray.codes import FailureCode
from trax_ray.errors import FileError, MediaError, ProcessingError
from trax_ray.kinds.assignment import Assignment
from trax_ray.kinds.transcript import Transcript
from trax_ray.media.speech import Segment
from trax_ray.media.transcript_reader import read_transcript
from trax_ray.store.artifacts import ArtifactStore, hash_of, unchanged
from trax_ray.store.files import read_bytes
from trax_ray.store.layout import Layout

__all__ = ["Original", "original_of"]

MOST_BYTES = 64 * 2**20
"""The longest file of a transcript: an hour of speech with times of words is 5 MB of JSON."""


@dataclass(frozen=True, slots=True)
class Original:
    """A transcript as it is before.

    Args:
        content: What tells it from others: the key of its artifact, or the SHA-256 of its file.
        segments: In order of time.
        language: ISO 639-1 code; None where nobody knows.
        timed: Whether it has times.
        about: What its JSON file says besides text and segments.
        is_file: Whether it is a file that somebody named.
    """

    content: str
    segments: tuple[Segment, ...]
    language: str | None = None
    timed: bool = True
    about: Mapping[str, Any] = field(default_factory=dict)
    is_file: bool = False


def original_of(
    assignment: Assignment, store: ArtifactStore, layout: Layout, path: str, language: str | None
) -> Original:
    """The transcript that a task enhances.

    Args:
        assignment: Its attempt.
        store: The artifacts.
        layout: The output folder.
        path: Of its file; empty for what a task made that this one depends on.
        language: As somebody said it; None takes what is known.

    Raises:
        FileError: The file can't be read, or the transcript has vanished.
        MediaError: There is no transcript in the file; permanent.
        ProcessingError: It depends on no task that transcribes; permanent.
    """
    if path:
        file = Path(path)
        hashed = hash_of(file, layout.hashes)
        with unchanged(hashed, layout.hashes):
            if file.stat().st_size > MOST_BYTES:
                message = f"{path} is longer than {MOST_BYTES >> 20} MB, and no transcript"
                raise MediaError(message, code=FailureCode.NOT_A_TRANSCRIPT)
            written = read_transcript(read_bytes(file), file.suffix, file.name)
        known = language or written.language
        return Original(hashed.content, written.segments, known, written.timed, {"language": known}, is_file=True)
    keys = [made.artifact_key for made in assignment.needed.values() if made.kind == "transcribe"]
    if not keys:
        raise ProcessingError("there is no transcript to enhance: name one, or depend on a task that transcribes")
    payload = store.get(keys[-1])
    if payload is None:
        raise FileError("the transcript has vanished: run the same command again", failure_class="transient")
    transcript = Transcript.read(payload)
    return Original(keys[-1], transcript.segments, language or transcript.language, about=transcript.about())
