"""Committed results: JSON by content key, each written once; and content hashes that are remembered."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import re
import secrets
import stat
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trax_ray.codes import FailureCode
from trax_ray.errors import FileError, TraxRayError
from trax_ray.store import files, system, writing
from trax_ray.store.creating import create_object, delete_object
from trax_ray.store.explaining import explain, shown
from trax_ray.store.objects import stats_of
from trax_ray.store.ranged import StoredRecording
from trax_ray.store.uris import ObjectPath, Place

__all__ = [
    "ArtifactStore",
    "Hashed",
    "changed_while_read",
    "content_hash",
    "hash_of",
    "unchanged",
]

_KEY = re.compile(r"[0-9a-f]{64}")
_BLOCK_BYTES = 1024 * 1024
_SETTLED_AFTER_S = 2.0
"""FAT keeps times to 2 s, the coarsest of the file systems in use."""

_PUT_ATTEMPTS = 3

_log = logging.getLogger(__name__)


class ArtifactStore:
    """Results by key. The first writer of a key wins, and what it wrote never changes.

    An artifact is one JSON object, `{"key": ..., "payload": {...}, "sha256": ...}`, in `ab/abcdef....json`;
    the SHA-256 covers all bytes before it. Nothing is touched until the first `put`.

    Args:
        folder: Where the artifacts lie; made when it is needed.
    """

    def __init__(self, folder: Place) -> None:
        self.folder = folder

    @staticmethod
    def key(content_hash: str, task_type: str, params: Mapping[str, Any], model: str, format_version: int) -> str:
        """The key of a result: the same whenever the same work is asked for, on any machine.

        Args:
            content_hash: SHA-256 of the input's bytes, or the key of the artifact that is worked on.
            task_type: The kind of task.
            params: Every parameter that the result depends on, and no other; JSON types with text keys.
                Their order doesn't matter, and 600 is the same as 600.0.
            model: Name and version of the model or service; empty where there is none.
            format_version: Version of the payload's layout.

        Returns:
            64 lower-case hexadecimal digits.

        Raises:
            TypeError: Another type in `params`, or a key that isn't text.
            ValueError: NaN or infinity in `params`.
        """
        parts = {
            "content": content_hash,
            "format": format_version,
            "model": model,
            "params": params,
            "task": task_type,
        }
        canonical = json.dumps(_canonical(parts), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode("ascii")).hexdigest()

    def path(self, key: str) -> Place:
        """Where the artifact of a key lies, or would lie.

        Raises:
            ValueError: Not a key.
        """
        if _KEY.fullmatch(key) is None:
            raise ValueError(f"expected an artifact key of 64 hexadecimal digits, got {key!r}")
        return self.folder / key[:2] / f"{key}.json"

    def has(self, key: str) -> bool:
        """Whether there is an artifact; one look-up, nothing is read. Only `get` proves that it is whole.

        Raises:
            FileError: The folder can't be read.
            ValueError: Not a key.
        """
        path = self.path(key)
        if isinstance(path, ObjectPath):
            return stats_of([path])[path] is not None
        try:
            return path.is_file()
        except OSError as error:
            raise explain(error, path, "read") from error

    def get(self, key: str, *, relied_on: bool = True) -> dict[str, Any] | None:
        """The payload of an artifact; None when there is none.

        A file that is cut short or altered counts as missing: a warning is logged, and it is set aside as
        `<key>.json.bad-…`. Not an error, because an artifact can always be made again from its input: doing
        one task twice is a smaller loss than stopping a batch of thousands until a person deletes a file.
        The bytes are kept for an investigation.

        Args:
            key: See `key`.
            relied_on: Whether what is returned must be on the disk, as after `put`, because it counts as work done: its
                writer may have died between giving it its name and bringing the name to the disk. False for a
                report.

        Raises:
            FileError: There is a file and it can't be read, or not be set aside, or not be brought to the disk.
            ValueError: Not a key.
        """
        path = self.path(key)
        data = _read_if_there(path)
        if data is None:
            return None
        payload = _decode(key, data)
        if payload is None:
            if not isinstance(path, ObjectPath):
                return self._set_aside(key, path)
            _forget_damaged(path, data)
            return None
        if relied_on and isinstance(path, Path):
            _keep_name(path)
        return payload

    def note(self, key: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Keep what can be made again in a moment: as `put`, but a power cut may lose or damage it.

        Returns:
            The payload as `get` will give it. It replaces what was there.

        Raises:
            As `put`.
        """
        path = self.path(key)
        data = _encode(key, payload)
        files.ensure_folder(path.parent, lasting=False)
        writing.write_atomically(path, data, lasting=False)
        noted: dict[str, Any] = json.loads(data)["payload"]
        return noted

    def put(self, key: str, payload: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        """Commit a result. When it returns, an artifact of this key is on the disk.

        Args:
            key: See `key`.
            payload: JSON types with text keys; tuples become lists.

        Returns:
            Whether this payload was the first, and the payload that is in the store: what `get` will give.
            A later writer's payload is dropped.

        Raises:
            DiskFull: No space, no quota, read-only.
            FileError: Not permitted; permanent.
            ValueError: Not a key, or NaN or infinity in the payload.
            TypeError: Other types in the payload.
        """
        path = self.path(key)
        data = _encode(key, payload)
        for _ in range(_PUT_ATTEMPTS):
            files.ensure_folder(path.parent)
            if writing.create_exclusively(path, data):
                return True, json.loads(data)["payload"]
            stored = self.get(key)
            if stored is not None:
                return False, stored
            # What was there was damaged and has been set aside; the name is free again.
        raise FileError(
            f"artifact {shown(path)} can neither be written nor read: delete it", code=FailureCode.NOT_WRITABLE
        )

    def _set_aside(self, key: str, path: Path) -> dict[str, Any] | None:
        """Move a damaged file out of the way. Returns a good payload if there was one after all."""
        aside = path.with_name(f"{path.name}.bad-{secrets.token_hex(4)}")
        try:
            system.current().replace(path, aside)
        except FileNotFoundError:
            return None  # another process was faster
        except OSError as error:
            raise explain(error, path, "write") from error
        # Between our reading and our renaming another process may have set the damaged file aside and put
        # a good one in its place. Then it is the good one that we hold now: give it back.
        data = files.read_bytes(aside)
        payload = _decode(key, data)
        if payload is not None:
            writing.create_exclusively(path, data)
            with contextlib.suppress(OSError):  # a leftover does no harm
                system.current().unlink(aside)
            return payload
        _log.warning(
            "artifact %s was damaged; it is kept as %s and the work is done again",
            shown(path),
            shown(aside.name),
        )
        return None


_Identity = tuple[int, int, int, int]
"""Size, time of the last change of the bytes and of the inode in ns, and inode: what tells one state of a file from
another. The third can't be set: it also tells a file that was changed in place and given its old time."""


@dataclass(frozen=True, slots=True)
class Hashed:
    """A file as it was when its bytes were hashed.

    Args:
        path: The file; of an object store, an object in the state in which it was looked at.
        content: SHA-256 of its bytes, hexadecimal; of an object, of what it is known by.
        identity: What it would be known by, had it not changed since.
    """

    path: Path | StoredRecording
    content: str
    identity: tuple[object, ...]


def content_hash(path: Place, memo: Path | None = None, *, now: float | None = None) -> str:
    """As `hash_of`, without what the file is known by."""
    return hash_of(path, memo, now=now).content


@contextlib.contextmanager
def unchanged(hashed: Hashed, memo: Path | None = None) -> Iterator[None]:
    """See that what is read in this block is what was hashed before: the file is looked at again at its end.

    Args:
        hashed: The file as it was before.
        memo: As of `hash_of`.

    Raises:
        FileError: `changed_while_read`: transient. It has changed, or was replaced, and what was read is nothing to
            rely on, nor what went wrong with it; else as `hash_of`.
    """
    try:
        yield
    except TraxRayError:
        _look_again(hashed, memo)
        raise
    _look_again(hashed, memo)


def _look_again(hashed: Hashed, memo: Path | None) -> None:
    path = hashed.path
    if isinstance(path, StoredRecording):
        return  # every answer with bytes says which state of the object they are of
    try:
        found = _identity(path.stat())
    except OSError as error:
        raise explain(error, path, "read") from error
    if found == hashed.identity:
        return
    # Some network file systems give a file another inode number now and then.
    if found[:-1] != hashed.identity[:-1] or content_hash(path, memo) != hashed.content:
        raise changed_while_read(path)


def hash_of(path: Place | StoredRecording, memo: Path | None = None, *, now: float | None = None) -> Hashed:
    """SHA-256 of a file's bytes, read in blocks of 1 MiB, and remembered.

    An object isn't read: its content is what its store knows it by. Where it is copied, it is another recording.

    A file's hash is remembered by (path, size, mtime and ctime in ns, inode), but only when the file was last written
    2 s or more before the hashing began: a younger file may be changed again without a change of its mtime.

    Args:
        path: A regular file, or a link to one; or an object.
        memo: Folder of what is remembered; made when it is needed. None remembers nothing.
        now: Seconds since the epoch when the hashing begins; None asks the clock.

    Returns:
        The hash, 64 lower-case hexadecimal digits, and what the file was known by when its reading began.

    Raises:
        FileError: `not_found`, `permission_denied`, `is_a_directory`, `not_a_file` (a pipe, a device):
            permanent. `changed_while_read`: transient, the file is being written.
        DiskFull: The hash can't be remembered.
        StoreError, NetworkError: As `trax_ray.store.objects.stat_of`.
    """
    if isinstance(path, StoredRecording):
        path = path.path
    if isinstance(path, ObjectPath):
        return _identified(StoredRecording.at(path))
    started_at = time.time() if now is None else now
    try:
        # O_NONBLOCK, because opening a pipe would wait for a writer; it means nothing for regular files.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            before = os.fstat(fd)
            _expect_regular(before, path)
            note = None if memo is None else _note_path(memo, path, before)
            known = None if note is None else _read_note(note)
            if known is not None:
                return Hashed(path, known, _identity(before))
            digest, size = _hash(fd)
            # Asked by the name, not the open file: it may have been written to, or replaced by another.
            if size != before.st_size or _identity(before) != _identity(path.stat()):
                raise changed_while_read(path)
        finally:
            os.close(fd)
    except OSError as error:
        raise explain(error, path, "read") from error
    if note is not None and started_at - before.st_mtime >= _SETTLED_AFTER_S:
        files.ensure_folder(note.parent, lasting=False)
        # Atomic, but not exclusive: there is one right hash, and a damaged note has to be replaced. Nor is it waited
        # for: a note that a power cut takes or damages costs one more reading of the file.
        writing.write_atomically(note, _note(digest), lasting=False)
    return Hashed(path, digest, _identity(before))


def _identified(recording: StoredRecording) -> Hashed:
    # With its URI: an ETag may be a counter of its bucket's, and alike in two.
    known_by = json.dumps([str(recording), *recording.stat.state]).encode()
    return Hashed(recording, hashlib.sha256(known_by).hexdigest(), recording.stat.state)


def changed_while_read(path: Path) -> FileError:
    """The error of a file that isn't any more what it was when it was hashed."""
    return FileError(
        f"{shown(path)} changed while it was read: is it still being copied? Try again later",
        failure_class="transient",
        code=FailureCode.CHANGED_WHILE_READ,
    )


def _canonical(value: Any) -> Any:
    """The value with one spelling for what is the same: mappings as dicts, 600.0 as 600, tuples as lists."""
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise TypeError(f"expected text as the name of a parameter, got {name!r}")
        return {name: _canonical(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(each) for each in value]
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    return value


def _encode(key: str, payload: dict[str, Any]) -> bytes:
    body = json.dumps(payload, separators=(",", ":"), allow_nan=False).encode("ascii")
    covered = b'{"key":"%b","payload":%b' % (key.encode("ascii"), body)
    return covered + _closing(covered)


def _closing(covered: bytes) -> bytes:
    return b',"sha256":"%b"}\n' % hashlib.sha256(covered).hexdigest().encode("ascii")


_CLOSING_BYTES = len(_closing(b""))


def _decode(key: str, data: bytes) -> dict[str, Any] | None:
    """The payload; None where a bit is wrong, or where it is the artifact of another key."""
    covered = data[:-_CLOSING_BYTES]
    if data[-_CLOSING_BYTES:] != _closing(covered):
        return None
    artifact = json.loads(data)
    if artifact["key"] != key:
        return None
    payload: dict[str, Any] = artifact["payload"]
    return payload


def _forget_damaged(path: ObjectPath, data: bytes) -> None:
    """As `_set_aside`, for an object. Should another process have put a good one in its place meanwhile, that is work
    which is done once more."""
    aside = path.parent / f"{path.name}.bad-{secrets.token_hex(4)}"
    create_object(aside, data)
    delete_object(path)
    _log.warning("artifact %s was damaged; it is kept as %s and the work is done again", path, aside.name)


def _read_if_there(path: Place) -> bytes | None:
    try:
        return files.read_regular(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise explain(error, shown(path), "read") from error


def _keep_name(path: Path) -> None:
    """Bring the name of another's file to the disk: its writer may have died before it could, and now we rely on it."""
    try:
        files.fsync_folder(path.parent)
    except OSError as error:
        raise explain(error, path, "write") from error


def _expect_regular(status: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise FileError(f"{shown(path)} is a folder, not a file", code=FailureCode.IS_A_DIRECTORY)
    if not stat.S_ISREG(status.st_mode):
        raise FileError(f"{shown(path)} is a pipe or a device, not a file", code=FailureCode.NOT_A_FILE)


def _identity(status: os.stat_result) -> _Identity:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _hash(fd: int) -> tuple[str, int]:
    """SHA-256 of the rest of an open file, and the number of bytes that were read."""
    digest = hashlib.sha256()
    size = 0
    while block := os.read(fd, _BLOCK_BYTES):
        digest.update(block)
        size += len(block)
    return digest.hexdigest(), size


def _note_path(memo: Path, path: Path, status: os.stat_result) -> Path:
    identity = b"%b\0%d\0%d\0%d\0%d" % (os.fsencode(Path(path).absolute()), *_identity(status))
    name = hashlib.sha256(identity).hexdigest()
    return memo / name[:2] / name


def _note(digest: str) -> bytes:
    # A note that lost a bit would be believed; hence the checksum.
    return f"{digest} {zlib.crc32(digest.encode('ascii')):08x}\n".encode("ascii")


def _read_note(path: Path) -> str | None:
    """The remembered hash; None when there is none or it is damaged: hashing again is always right."""
    try:
        data = files.read_regular(path)
    except OSError:
        return None
    digest = data[:64].decode("ascii", "replace")
    return digest if _KEY.fullmatch(digest) and data == _note(digest) else None
