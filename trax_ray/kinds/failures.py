"""What an exception means: its class and category, as plain data.

The one place where exceptions of libraries become failures; what our own errors mean they say themselves.
"""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

from trax_ray.codes import FailureCode
from trax_ray.core.task import BatchTask, Category, Failure, FailureClass
from trax_ray.errors import DiskFull, StoreError, TraxRayError
from trax_ray.store.explaining import explain, shown
from trax_ray.store.objects import is_denied_alone
from trax_ray.store.uris import ObjectPath, is_object_uri

__all__ = ["failure_of", "failure_of_task"]

MESSAGE_CHARACTERS = 600


def failure_of(error: BaseException) -> Failure:
    """The failure that an exception of an attempt means.

    Args:
        error: What was raised. Errors of trax_ray carry class and category; OSErrors go by their number; a
            MemoryError asks for more memory; anything else is a defect of ours or of a library: class unknown,
            so it is retried, and named as it is.
    """
    # Before Python 3.11 asyncio's time-out was another one.
    if isinstance(error, ConnectionError | TimeoutError | asyncio.TimeoutError) or (
        isinstance(error, OSError) and error.errno in _NETWORK
    ):
        return Failure(FailureClass.TRANSIENT, Category.NETWORK, FailureCode.CONNECTION, _sentence(error))
    if isinstance(error, OSError) and error.errno is not None:
        name = error.filename if isinstance(error.filename, str | bytes) else "a file"
        error = explain(error, os.fsdecode(name), "read")
    if isinstance(error, TraxRayError):
        return Failure.of(error, parks="*" if isinstance(error, DiskFull | StoreError) else "")
    if isinstance(error, MemoryError):
        return Failure(
            FailureClass.RESOURCE,
            Category.RESOURCE,
            FailureCode.OUT_OF_MEMORY,
            "the attempt ran out of memory in its process",
        )
    return Failure(FailureClass.UNKNOWN, Category.PROCESSING, FailureCode.UNEXPECTED, _sentence(error))


def failure_of_task(error: BaseException, task: BatchTask) -> Failure:
    """The failure that an exception of a task's attempt means, after a look at the recording that it is about.

    A recording that was there when the batch was planned isn't to blame where its folder has gone: a disk or a share
    was unmounted, and all that is on it would fail for good one after the other. So the batch is parked.
    """
    failure = failure_of(error)
    path, reference = task.data.get("file_path"), task.data.get("reference")
    in_reading = failure.category is Category.FILE or failure.code == FailureCode.NOT_DECODABLE
    if path and is_object_uri(path):
        return _of_object(failure, ObjectPath.of(path))
    if not in_reading or not path or task.data.get("missing"):
        return failure
    folder = Path(path).parent
    if _is_away(folder):
        message = f"{shown(folder)} isn't there any more, or is empty: was a disk or a share unmounted? Bring it back"
        return Failure(FailureClass.CONFIG, Category.FILE, FailureCode.FOLDER_AWAY, message, parks="*")
    if failure.code == FailureCode.NOT_FOUND and all(map(os.path.exists, filter(None, (path, reference)))):
        message = f"{failure.message}; it is there again"
        return Failure(FailureClass.TRANSIENT, Category.FILE, FailureCode.FILE_BUSY, message)
    return failure


def _of_object(failure: Failure, path: ObjectPath) -> Failure:
    """Of one object that may not be read among others that may be, the others aren't to suffer."""
    if failure.code == FailureCode.ACCESS_DENIED and is_denied_alone(path):
        message = f"{path} may not be read; others beside it may"
        return Failure(FailureClass.PERMANENT, Category.FILE, FailureCode.PERMISSION_DENIED, message)
    return failure


def _is_away(folder: Path) -> bool:
    """Whether a folder in which there was something is gone; what a share was mounted on is empty then."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except PermissionError:
        return False  # one may be allowed to read a file and not to list its folder
    except OSError:
        return True


_NETWORK = {errno.ENETUNREACH, errno.EHOSTUNREACH}


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split())
    name = type(error).__name__
    return (f"{name}: {text}" if text else name)[:MESSAGE_CHARACTERS]
