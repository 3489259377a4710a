"""What an exception means: its class and category, as plain data.

The one place where exceptions of libraries become failures; what our own errors mean they say themselves.
"""

from __future__ import annotations

import asyncio
import errno
import os

from trax_ray.codes import FailureCode
from trax_ray.core.task import Category, Failure, FailureClass
from trax_ray.errors import DiskFull, TraxRayError
from trax_ray.store.files import explain

__all__ = ["failure_of"]

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
        return Failure.of(error, parks="*" if isinstance(error, DiskFull) else "")
    if isinstance(error, MemoryError):
        return Failure(
            FailureClass.RESOURCE,
            Category.RESOURCE,
            FailureCode.OUT_OF_MEMORY,
            "the attempt ran out of memory in its process",
        )
    return Failure(FailureClass.UNKNOWN, Category.PROCESSING, FailureCode.UNEXPECTED, _sentence(error))


_NETWORK = {errno.ENETUNREACH, errno.EHOSTUNREACH}


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split())
    name = type(error).__name__
    return (f"{name}: {text}" if text else name)[:MESSAGE_CHARACTERS]
