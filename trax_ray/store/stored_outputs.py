"""The files that a user gets, in an object store: as `trax_ray.store.outputs`, with few requests.

Each file costs a look and a creation, all of an input's together a look at its note and a writing of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from trax_ray.codes import FailureCode
from trax_ray.errors import FileError
from trax_ray.store.creating import create_object, replace_if_unchanged, replace_object
from trax_ray.store.objects import ObjectStat, read_object
from trax_ray.store.ranged import StoredRecording
from trax_ray.store.uris import ObjectPath

__all__ = ["StoredOutputs"]

_AT_ONCE = 8

_LARGE_BYTES = 64 * 2**20
_BLOCK_BYTES = 4 * 2**20

_There = tuple[bytes, ObjectStat] | None
"""What stands under a name; None for nothing."""


class StoredOutputs:
    """What an input's tasks write into an output folder in a store. Names are below that folder.

    Args:
        folder: The output folder.
        note: Where it is remembered what was written: hashes by name, as in a folder on a disk.
    """

    def __init__(self, folder: ObjectPath, note: ObjectPath) -> None:
        self._folder = folder
        self._note = note
        self._there: dict[str, _There] = {}
        self._written: dict[str, list[str]] = {}

    def write(self, wanted: Mapping[str, bytes], names_beside: Mapping[str, Iterator[str]]) -> list[str]:
        """Give files their bytes. One that has them already isn't written again.

        Args:
            wanted: All of each, by the name that it gets where nobody else's file stands there.
            names_beside: The names that are tried for each after its own.

        Returns:
            Their names.

        Raises:
            FileError: What stands there isn't ours, and beside it neither; permanent.
            StoreError, NetworkError: As `create_object`.
        """
        self._written = _read(self._note)
        self._look(wanted)
        found = {name: self._place_of(name, data, names_beside[name]) for name, data in wanted.items()}
        self._remember({found[name]: data for name, data in wanted.items()})
        for name, data in wanted.items():
            while not self._put(found[name], data):
                # Somebody was faster.
                self._look([found[name]])
                if not self._may_write(found[name], data):
                    found[name] = self._place_of(name, data, names_beside[name], tried=True)
                self._remember({found[name]: data})
        return [found[name] for name in wanted]

    def find_made(self, wanted: str, content: str, beside: Iterator[str]) -> str:
        """The name under which a file with this SHA-256 stands already; empty where none does. Those that stand there
        are read."""
        for name in chain([wanted], beside):
            there = _hash_of_object(self._folder / name)
            if there == content:
                return name
            if there is None:
                break
        return ""

    def put_made(self, wanted: str, made: Path, content: str, beside: Iterator[str]) -> str:
        """Give a file the bytes of one that was made on this machine, which may be large; as `write`.

        Between the look and the writing of a file above `_LARGE_BYTES` another's may come, and is replaced then: such
        files are sent in parts, without a condition.

        Args:
            wanted: As of `write`.
            made: The file.
            content: SHA-256 of its bytes, hexadecimal.
            beside: As of `write`.
        """
        self._written = _read(self._note)
        for name in chain([wanted], beside):
            there = _hash_of_object(self._folder / name)
            if there == content:
                return name
            known = self._written.get(name, [])
            if there is not None and there not in known:
                continue
            self._written[name] = [*(each for each in known if each == there), content]
            replace_object(self._note, json.dumps(self._written, separators=(",", ":")).encode())
            path = self._folder / name
            if there is not None or made.stat().st_size > _LARGE_BYTES:
                replace_object(path, made)
            elif not create_object(path, made.read_bytes()):
                continue
            return name
        raise self._no_place(wanted)

    def _put(self, name: str, data: bytes) -> bool:
        """Whether a file has these bytes now; not where another one came meanwhile."""
        there = self._there[name]
        if there is None:
            return create_object(self._folder / name, data)
        return there[0] == data or replace_if_unchanged(self._folder / name, data, there[1])

    def _place_of(self, wanted: str, data: bytes, beside: Iterator[str], *, tried: bool = False) -> str:
        if not tried and self._may_write(wanted, data):
            return wanted
        for name in beside:
            if name not in self._there:
                self._look([name])
            if self._may_write(name, data):
                return name
        raise self._no_place(wanted)

    def _no_place(self, wanted: str) -> FileError:
        return FileError(
            f"can't write {self._folder / wanted}: what stands there, and beside it, isn't ours: move it, or give "
            "another --output-dir",
            code=FailureCode.NOT_WRITABLE,
        )

    def _may_write(self, name: str, data: bytes) -> bool:
        """Whether a name is free, or stands for what we wrote, or for these very bytes."""
        there = self._there[name]
        return there is None or there[0] == data or _hash(there[0]) in self._written.get(name, ())

    def _look(self, names: Iterable[str]) -> None:
        wanted = list(names)
        with ThreadPoolExecutor(max_workers=max(1, min(_AT_ONCE, len(wanted)))) as pool:
            found = pool.map(lambda name: _read_if_there(self._folder / name), wanted)
            self._there |= dict(zip(wanted, found, strict=True))

    def _remember(self, about_to_be: Mapping[str, bytes]) -> None:
        """Files are about to be written; as `Outputs.remember`."""
        changed = False
        for name, data in about_to_be.items():
            there, known = self._there[name], self._written.get(name, [])
            if there is not None and there[0] == data:
                continue
            before = "" if there is None else _hash(there[0])
            self._written[name] = [*(each for each in known if each == before), _hash(data)]
            changed = True
        if changed:
            replace_object(self._note, json.dumps(self._written, separators=(",", ":")).encode())


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _hash_of_object(path: ObjectPath) -> str | None:
    """SHA-256 of an object's bytes, which are read a part at a time; None where there is none."""
    found = hashlib.sha256()
    try:
        with StoredRecording.at(path).open() as stream:
            while block := stream.read(_BLOCK_BYTES):
                found.update(block)
    except FileError as error:
        if error.code != FailureCode.NOT_FOUND:
            raise
        return None
    return found.hexdigest()


def _read_if_there(path: ObjectPath) -> _There:
    try:
        return read_object(path)
    except FileError as error:
        if error.code != FailureCode.NOT_FOUND:
            raise
        return None


def _read(note: ObjectPath) -> dict[str, list[str]]:
    """What was written, by name; nothing where that isn't known, or damaged: then no file is ours."""
    there = _read_if_there(note)
    try:
        found = json.loads(there[0]) if there is not None else {}
        return {str(name): [str(each) for each in hashes] for name, hashes in found.items()}
    except (ValueError, AttributeError, TypeError):
        return {}
