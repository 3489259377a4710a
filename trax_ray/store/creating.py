"""Objects that are created once, replaced or deleted: what link(2) and rename(2) are on a disk.

A creation whose answer says "exists" may be our own, whose first answer was lost, or a conflict in which nothing was
written: stores answer 412 and 409, and the client says the same for both. So the object is read back: where it is ours
we have created it, where it is another's that one has, and where it is missing we try again.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from trax_ray.codes import FailureCode
from trax_ray.errors import FileError, NetworkError, StoreError
from trax_ray.store.objects import ObjectStat, client_of, explained, read_object, versioned
from trax_ray.store.uris import ObjectPath

if TYPE_CHECKING:
    from obstore import UpdateVersion

__all__ = [
    "PREFLIGHT",
    "create_object",
    "delete_object",
    "delete_objects",
    "expect_creation",
    "replace_if_unchanged",
    "replace_object",
]

_TRIES = 10
_MOST_LOST = 3
"""Answers that never come, each after the client's own repetitions."""

_DELETED_AT_ONCE = 1000
_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0

PREFLIGHT = "preflight-"
"""What the names of objects begin with that are made to see what a store does."""


def create_object(path: ObjectPath, data: bytes) -> bool:
    """Create an object with these bytes, unless there is one: the first writer wins.

    Args:
        path: Its path.
        data: All of it. Of an object with the same bytes nobody can tell whose it is: where that matters, let them
            hold something that only this writer has.

    Returns:
        True when this call created it, or it has these very bytes. False when another one is there, which stays.

    Raises:
        StoreError: The store refuses; config.
        NetworkError: The store is busy, or away: transient. It may have been created all the same.
    """
    from obstore.exceptions import AlreadyExistsError

    lost = 0
    for number in range(_TRIES):
        try:
            with explained(path, "write", passes=AlreadyExistsError):
                client_of(path).put(path.key, data, mode="create")
            return True
        except AlreadyExistsError:
            pass
        except NetworkError:
            lost += 1  # it may have been written, and the answer got lost
            if lost >= _MOST_LOST:
                raise
        there = _read_if_there(path)
        if there is not None:
            return there == data
        _pause(number)
    raise NetworkError(
        f"can't write {path} just now: the store answers again and again that it exists, and it doesn't",
        code=FailureCode.SERVER_ERROR,
    )


def replace_object(path: ObjectPath, data: bytes | Path) -> None:
    """Give an object these bytes, or those of a file, whatever it had before; raises as `create_object`."""
    for number in range(_MOST_LOST):
        try:
            with explained(path, "write"):
                client_of(path).put(path.key, data)
            return
        except NetworkError:  # a conflict among them, which the client doesn't repeat
            if number + 1 == _MOST_LOST:
                raise
        _pause(number)


def replace_if_unchanged(path: ObjectPath, data: bytes, stat: ObjectStat) -> bool:
    """Give an object these bytes where it is what it was; False where it isn't, or is gone.

    Args:
        path: Its path.
        data: All of it.
        stat: What it was.
    """
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    mode: UpdateVersion = {"e_tag": f'"{stat.etag}"'}
    if path.scheme == "gs":
        # Google puts a condition on the generation.
        now, generation = versioned(path)
        if now is None or now.state != stat.state or generation is None:
            return _read_if_there(path) == data
        mode["version"] = generation
    try:
        with explained(path, "write", passes=(AlreadyExistsError, PreconditionError, FileNotFoundError)):
            client_of(path).put(path.key, data, mode=mode)
    except (AlreadyExistsError, PreconditionError, FileNotFoundError):
        return _read_if_there(path) == data
    return True


def delete_object(path: ObjectPath) -> None:
    """Delete an object; nothing happens where there is none. Raises as `create_object`."""
    with explained(path, "write", passes=FileNotFoundError):
        try:
            client_of(path).delete(path.key)
        except FileNotFoundError:
            return


def delete_objects(folder: ObjectPath, paths: Iterable[ObjectPath]) -> None:
    """Delete objects of one bucket, a thousand a request where the store has one for that.

    Args:
        folder: What they lie in, for messages.
        paths: The objects; those that are gone already are passed over.

    Raises:
        As `create_object`.
    """
    keys = [path.key for path in paths]
    for at in range(0, len(keys), _DELETED_AT_ONCE):
        with explained(folder, "write", passes=FileNotFoundError):
            try:
                client_of(folder).delete(keys[at : at + _DELETED_AT_ONCE])
            except FileNotFoundError:
                continue


def expect_creation(folder: ObjectPath) -> None:
    """See that objects can be written in a folder, and that a store doesn't overwrite where it is asked to create.

    Two batches in one folder are kept apart by that alone.

    Raises:
        StoreError: `no_conditional_put`: it overwrites; or it refuses. Config.
        NetworkError: The store is busy, or away: transient.
    """
    path = folder / f"{PREFLIGHT}{secrets.token_hex(8)}"
    try:
        first, second = (create_object(path, f"{number} {secrets.token_hex(8)}\n".encode()) for number in (1, 2))
        kept = _read_if_there(path) or b""
        if not first or second or not kept.startswith(b"1 "):
            raise StoreError(
                f"the store of {folder} overwrites an object where it is asked to create one (no conditional PUT, "
                "If-None-Match): two batches would destroy each other's work there: give another --output-dir",
                code=FailureCode.NO_CONDITIONAL_PUT,
            )
    finally:
        delete_object(path)


def _pause(number: int) -> None:
    time.sleep(random.uniform(0.0, min(_LONGEST_PAUSE_S, _PAUSE_S * 2**number)))


def _read_if_there(path: ObjectPath) -> bytes | None:
    try:
        return read_object(path)[0]
    except FileError as error:
        if error.code != FailureCode.NOT_FOUND:
            raise
        return None
