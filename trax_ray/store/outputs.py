"""The files that a user gets. What somebody else wrote, or changed since we wrote it, is never replaced.

For each input the private folder remembers the hashes of what was written under which name. A file that isn't there, or
has one of these hashes, is written; any other one is kept, and the new one goes beside it, under another name.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from trax_ray.codes import FailureCode
from trax_ray.errors import FileError
from trax_ray.store import files, writing
from trax_ray.store.explaining import shown
from trax_ray.store.layout import Layout
from trax_ray.store.stored_outputs import StoredOutputs
from trax_ray.store.uris import ObjectPath

__all__ = ["Outputs", "beside", "stored_outputs", "write_files"]

MOST_BESIDE = 99
"""Names that are tried for one file."""

_BLOCK_BYTES = 1024 * 1024


def write_files(layout: Layout, file_id: str, wanted: Mapping[str, bytes]) -> list[str]:
    """Give files of the user's their bytes, wherever the output folder is. One that has them isn't written again.

    Args:
        layout: The output folder.
        file_id: The id of the input that they are made for.
        wanted: All of each, by the path below the output folder that it gets where nobody else's file stands there.

    Returns:
        Their paths.

    Raises:
        DiskFull: No space, no quota, read-only.
        FileError: Not permitted, or a file stands in the way of a folder; permanent.
        StoreError, NetworkError: An object store refuses, or is away.
    """
    stored = stored_outputs(layout, file_id)
    if stored is not None:
        return stored.write(wanted, {name: beside(name) for name in wanted})
    return Outputs(layout, file_id).write(wanted)


def stored_outputs(layout: Layout, file_id: str) -> StoredOutputs | None:
    """What an input's tasks write into an output folder in an object store; None for one on a disk."""
    folder, note = layout.output_dir, layout.private / "outputs" / f"{file_id}.json"
    if isinstance(folder, ObjectPath) and isinstance(note, ObjectPath):
        return StoredOutputs(folder, note)
    return None


class Outputs:
    """What an input's tasks write into an output folder on a disk. Paths are below that folder.

    Args:
        layout: The output folder.
        file_id: The input's id.
    """

    def __init__(self, layout: Layout, file_id: str) -> None:
        self._folder = layout.here
        self._note = layout.work / "outputs" / f"{file_id}.json"
        self._written = _read(self._note)

    def write(self, wanted: Mapping[str, bytes]) -> list[str]:
        """Give files their bytes. One that has them already isn't written again.

        Args:
            wanted: All of each, by the path that it gets where nobody else's file stands there.

        Returns:
            Their paths.

        Raises:
            DiskFull: No space, no quota, read-only.
            FileError: Not permitted, or a file stands in the way of a folder; permanent.
        """
        found = {name: self._place_of(name, data) for name, data in wanted.items()}
        # In one note for all of them: it is brought to the disk.
        self.remember({found[name]: data for name, data in wanted.items()})
        return [self._write(name, found[name], data) for name, data in wanted.items()]

    def _place_of(self, wanted: str, data: bytes) -> str:
        return self.place(wanted, lambda path: _has_bytes(path, data))

    def _write(self, wanted: str, name: str, data: bytes) -> str:
        for _ in range(MOST_BESIDE):
            path = self._folder / name
            files.ensure_folder(path.parent)
            if os.path.lexists(path):
                writing.write_atomically(path, data)
                return name
            if writing.create_exclusively(path, data):
                return name
            name = self._place_of(wanted, data)  # somebody was faster
            self.remember({name: data})
        raise self._no_place(wanted)

    def place(self, wanted: str, holds: Callable[[Path], bool]) -> str:
        """Where a file may be written: at its own path, else beside it.

        Args:
            wanted: Its path.
            holds: Whether a file is what is to be written, so that nothing has to be.
        """
        for name in _names(wanted):
            path = self._folder / name
            if not os.path.lexists(path) or self._is_ours(name, path) or holds(path):
                return name
        raise self._no_place(wanted)

    def remember(self, about_to_be: Mapping[str, bytes | str]) -> None:
        """Files are about to be written; to be called before they have their names.

        The hash of our file that is there is remembered beside the new one: whoever dies between the two leaves it.

        Args:
            about_to_be: The bytes of each, or their SHA-256, hexadecimal, by its path. One that holds them already is
                left out: it may be somebody else's.
        """
        changed = False
        for name, what in about_to_be.items():
            content = what if isinstance(what, str) else hashlib.sha256(what).hexdigest()
            there, known = _hash_if_regular(self._folder / name), self._written.get(name, [])
            if there != content:
                self._written[name] = [*(each for each in known if each == there), content]
                changed = True
        if changed:
            files.ensure_folder(self._note.parent)
            writing.write_atomically(self._note, json.dumps(self._written, separators=(",", ":")).encode())

    def _is_ours(self, name: str, path: Path) -> bool:
        known = self._written.get(name)
        return known is not None and _hash_if_regular(path) in known

    def _no_place(self, wanted: str) -> FileError:
        path = shown(self._folder / wanted)
        return FileError(
            f"can't write {path}: what stands there, and beside it, isn't ours: move it, or give another --output-dir",
            code=FailureCode.NOT_WRITABLE,
        )


def _hash_if_regular(path: Path) -> str | None:
    """SHA-256 of a file's bytes; None where it can't be read, or is no file but a link, a folder or a pipe."""
    digest = hashlib.sha256()
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()


def _has_bytes(path: Path, data: bytes) -> bool:
    try:
        status = path.lstat()
        return stat.S_ISREG(status.st_mode) and status.st_size == len(data) and path.read_bytes() == data
    except OSError:
        return False


def _names(wanted: str) -> Iterator[str]:
    """`talk.txt`, `talk.new.txt`, `talk.new-2.txt` and so on."""
    yield wanted
    yield from beside(wanted)


def beside(wanted: str) -> Iterator[str]:
    """The names that are tried for a file after its own."""
    stem, dot, suffix = wanted.rpartition(".")
    for number in range(1, MOST_BESIDE):
        more = ".new" if number == 1 else f".new-{number}"
        yield f"{stem}{more}{dot}{suffix}"


def _read(note: Path) -> dict[str, list[str]]:
    """What was written, by path; nothing where that isn't known, or damaged: then no file is ours."""
    try:
        found = json.loads(files.read_regular(note))
    except (OSError, ValueError):
        return {}
    return {str(name): [str(each) for each in hashes] for name, hashes in found.items()}
