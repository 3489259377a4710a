"""Captions that lie beside a recording."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from trax_ray.core.spec import BatchSpec
from trax_ray.plan.tasks import InputFile
from trax_ray.store.uris import is_object_uri

__all__ = ["with_captions"]


def with_captions(entry: InputFile, spec: BatchSpec) -> InputFile:
    """A recording with the captions that lie beside it, where the batch takes such.

    `talk.mp3` has `talk.srt`, `talk.vtt`, `talk.mp3.srt` or `talk.mp3.vtt`; with a language `talk.de.srt` comes before
    them. What lies in the output folder may be what we wrote.
    """
    if spec.captions == "never" or not entry.file or is_object_uri(entry.file):
        return entry
    recording = Path(entry.file)
    language = entry.language or spec.language
    names = [f"{recording.stem}.{language}"] if language else []
    ours = None if is_object_uri(spec.output_dir) else Path(spec.output_dir).resolve()
    for name in (*names, recording.stem, recording.name):
        for suffix in (".srt", ".vtt"):
            path = recording.with_name(name + suffix)
            try:
                status = path.stat()
            except OSError:
                continue  # also where such a name is too long
            if path.is_file() and (ours is None or not path.resolve().is_relative_to(ours)):
                return replace(entry, captions=str(path), captions_mtime_ns=status.st_mtime_ns)
    return entry
