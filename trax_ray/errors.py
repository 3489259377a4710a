"""The errors of trax_ray, under one root.

    TraxRayError                  every error that trax_ray raises on purpose
      NetworkError                category network     time-outs, lost connections, server errors
      FileError                   category file        missing, unreadable or unwritable files
        JournalError              a journal segment that can't be trusted (a bad group before the last)
        FencedError               a newer coordinator owns this output folder
        BusyError                 another batch holds this output folder
        StoreError                an object store that refuses: no such bucket, no access, another address
      ProcessingError             category processing  media that can't be decoded, answers that can't be used
        MediaError                no audio, no samples, not decodable
        IllegalTransition         an event that a task's state doesn't allow, with that task's story
        TaskCancelled             the attempt was cancelled; not a failure
      ResourceError               category resource    memory, disk, file handles, time limits
        QueueFull                 add_task before start, beyond queue_size
        DiskFull                  nothing more can be written; the batch stops and loses nothing
      UsageError                  a bad value or contradicting flags (exit code 2)
      SetupError                  something that trax_ray needs is missing (exit code 3); says the ways out

Every failure of a task has a `category` (network, file, processing, resource) and a `failure_class`
(transient, permanent, config, unknown, resource), and a code of `trax_ray.codes`. A class of errors has the values
that fit most of its cases; the place that raises an error may give others. Every error survives pickling, so it can
cross process borders.
"""

from __future__ import annotations

from typing import Any

from trax_ray.codes import FailureCode

__all__ = [
    "BusyError",
    "DiskFull",
    "FencedError",
    "FileError",
    "IllegalTransition",
    "JournalError",
    "MediaError",
    "NetworkError",
    "ProcessingError",
    "QueueFull",
    "ResourceError",
    "SetupError",
    "StoreError",
    "TaskCancelled",
    "TraxRayError",
    "UsageError",
]


class TraxRayError(Exception):
    """Root of all errors that trax_ray raises on purpose.

    Args:
        message: One sentence that names the thing and, where there is one, the way out.
        failure_class: Overrides the class's own: transient, permanent, config, unknown or resource.
        code: A short, stable word for programs, of `FailureCode`. Defaults to the class's own.
        retry_after_s: Seconds that the other side asked to wait; None where it said nothing.
    """

    category: str = "processing"
    failure_class: str = "permanent"
    code: str = FailureCode.ERROR

    def __init__(
        self,
        message: str,
        *,
        failure_class: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if failure_class is not None:
            self.failure_class = failure_class
        if code is not None:
            self.code = code
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[Any, ...]:
        keywords = {
            "failure_class": self.failure_class,
            "code": self.code,
            "retry_after_s": self.retry_after_s,
        }
        return _rebuild, (type(self), self.message, keywords)


def _rebuild(kind: type[TraxRayError], message: str, keywords: dict[str, Any]) -> TraxRayError:
    return kind(message, **keywords)


class NetworkError(TraxRayError):
    """A time-out, a lost connection or a server error."""

    category = "network"
    failure_class = "transient"
    code = FailureCode.NETWORK


class FileError(TraxRayError):
    """A file that is missing, unreadable or unwritable."""

    category = "file"
    code = FailureCode.FILE


class JournalError(FileError):
    """A journal segment that can't be trusted: a bad group with good ones after it."""

    code = FailureCode.JOURNAL_CORRUPT


class FencedError(FileError):
    """A coordinator with a higher epoch owns this output folder; this one must stop."""

    code = FailureCode.FENCED


class BusyError(FileError):
    """Another live batch holds this output folder, or uses this head of Ray."""

    code = FailureCode.BUSY


class StoreError(FileError):
    """An object store refuses, and will for all that is in the same place. A person has to see to it."""

    failure_class = "config"
    code = FailureCode.WRONG_STORE


class ProcessingError(TraxRayError):
    """Media that can't be decoded, or an answer that can't be used."""

    code = FailureCode.PROCESSING


class MediaError(ProcessingError):
    """No audio stream, no samples, or bytes that no decoder accepts."""

    code = FailureCode.NOT_DECODABLE


class IllegalTransition(ProcessingError):
    """An event that the task's present state doesn't allow. The message tells the task's story."""

    code = FailureCode.ILLEGAL_TRANSITION


class TaskCancelled(ProcessingError):
    """The attempt was cancelled. Not a failure: nothing is retried and nothing is counted."""

    code = FailureCode.CANCELLED


class ResourceError(TraxRayError):
    """Memory, disk, file handles or a time limit."""

    category = "resource"
    failure_class = "resource"
    code = FailureCode.RESOURCE


class QueueFull(ResourceError):
    """`add_task` before `start`, beyond `queue_size`."""

    failure_class = "permanent"
    code = FailureCode.QUEUE_FULL


class DiskFull(ResourceError):
    """Nothing more can be written. The batch stops, loses nothing, and continues when there is room."""

    failure_class = "config"
    code = FailureCode.DISK_FULL


class UsageError(TraxRayError):
    """A bad value or flags that contradict each other; the command line exits with 2."""

    code = FailureCode.USAGE


class SetupError(TraxRayError):
    """Something that trax_ray needs is missing; the command line exits with 3 and says the ways out."""

    failure_class = "config"
    code = FailureCode.SETUP
