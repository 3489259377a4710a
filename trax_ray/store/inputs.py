"""Which recordings there are: from what a person names to what a batch plans."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from trax_ray.core.plan import InputFile, file_id_of
from trax_ray.store.files import shown
from trax_ray.store.layout import plan_names

__all__ = ["MEDIA_SUFFIXES", "Found", "Scan", "describe", "find_reference", "scan"]

_NAMES = """
3g2 3gp aac ac3 aif aifc aiff amr ape au avi caf dsf flac flv gsm m2ts m4a m4b m4v mka mkv mov mp2 mp3 mp4 mpeg mpg
mts mxf oga ogg ogv opus ra rm rmvb spx tak tta ts vob wav wave webm wma wmv wv
"""
MEDIA_SUFFIXES = frozenset(f".{name}" for name in _NAMES.split())
"""Suffixes of what is taken from a folder. A file that is named itself is always taken."""


@dataclass(frozen=True, slots=True)
class Found:
    """A recording that was named or found.

    Args:
        path: Absolute path; bytes that aren't UTF-8 as surrogate escapes.
        relative: Path below the folder that was named; the bare name of a file that was named itself.
        missing: True where there is nothing at this path.
    """

    path: str
    relative: PurePath
    missing: bool = False


@dataclass(frozen=True, slots=True)
class Scan:
    """What the inputs came to.

    Args:
        found: Recordings in order, each once.
        ignored: Files in folders that aren't media.
        unreadable: Folders that can't be listed, with the reason.
    """

    found: tuple[Found, ...]
    ignored: int
    unreadable: Mapping[str, str]

    @property
    def present(self) -> int:
        """Recordings that are there."""
        return sum(not entry.missing for entry in self.found)


def scan(inputs: Iterable[str], output_dir: Path) -> Scan:
    """Find the recordings behind files and folders; folders are searched all the way down.

    Args:
        inputs: Paths as a person gave them.
        output_dir: Never searched, wherever it lies.
    """
    found: dict[str, Found] = {}
    unreadable: dict[str, str] = {}
    ignored = 0
    excluded = os.path.realpath(output_dir)
    for given in inputs:
        path = os.path.abspath(given)
        if not os.path.isdir(path):
            entry = Found(path, PurePath(os.path.basename(path)), missing=not os.path.lexists(path))
            found.setdefault(path, entry)
            continue
        for each in _walk(path, excluded, unreadable):
            if os.path.splitext(each)[1].lower() in MEDIA_SUFFIXES:
                found.setdefault(each, Found(each, PurePath(os.path.relpath(each, path))))
            else:
                ignored += 1
    return Scan(tuple(found.values()), ignored, unreadable)


def _walk(folder: str, excluded: str, unreadable: dict[str, str]) -> Iterator[str]:
    """Files below a folder, in a stable order; hidden ones and the output folder are left out."""

    def note(error: OSError) -> None:
        unreadable[shown(error.filename)] = error.strerror or str(error)

    for here, folders, names in os.walk(folder, onerror=note):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(os.path.join(here, name)) != excluded
        )
        for name in sorted(names):
            if not name.startswith("."):
                yield os.path.join(here, name)


def find_reference(folder: Path, relative: PurePath) -> Path | None:
    """The reference transcript of a recording: the same path below `folder`, with the suffix `.txt`.

    `talk.mp3` has `talk.mp3.txt` or `talk.txt`, the former first.
    """
    for name in (f"{relative.name}.txt", f"{relative.stem}.txt"):
        path = folder / relative.parent / name
        if path.is_file():
            return path
    return None


def describe(
    found: Sequence[Found], *, taken: Mapping[str, str], reference_dir: Path | None = None, priority: int = 0
) -> list[InputFile]:
    """What planning needs to know of each recording.

    Args:
        found: The recordings.
        taken: Names of outputs that were given in earlier runs, by file id.
        reference_dir: Folder of reference transcripts.
        priority: Of all of them.
    """
    names = plan_names([(file_id_of(entry.path), entry.relative) for entry in found], taken)
    return [_described(entry, names[file_id_of(entry.path)], reference_dir, priority) for entry in found]


def _described(entry: Found, output: str, reference_dir: Path | None, priority: int) -> InputFile:
    reference = find_reference(reference_dir, entry.relative) if reference_dir is not None else None
    try:
        status = os.stat(entry.path)
    except OSError:
        # The attempt will find out what is wrong, and the report will say it.
        identity = (0, 0, 0)
    else:
        identity = (status.st_size, status.st_mtime_ns, status.st_ino)
    return InputFile(
        path=entry.path,
        name=str(entry.relative),
        output=output,
        size_bytes=identity[0],
        mtime_ns=identity[1],
        inode=identity[2],
        reference=str(reference) if reference is not None else "",
        reference_mtime_ns=reference.stat().st_mtime_ns if reference is not None else 0,
        priority=priority,
    )
