"""What an exception of yt-dlp means: a code, a class and a sentence. Used in the process that fetches."""

from __future__ import annotations

import errno
import re
import ssl
from collections.abc import Iterator
from time import time
from typing import Any
from urllib.parse import urlsplit

from trax_ray.codes import FailureClass, FailureCode
from trax_ray.core.limits.signals import wait_asked_s
from trax_ray.web.job import Job

__all__ = ["Live", "Nothing", "Several", "Unusable", "described"]

_Said = tuple[FailureCode, str]
"""A code and what happened."""


class Live(Exception):
    """A stream that goes on, or hasn't begun."""

    def __init__(self, title: str, status: str) -> None:
        when = "hasn't begun" if status == "is_upcoming" else "goes on, or has just ended"
        super().__init__(f"{title!r} is a live stream that {when}")


class Nothing(Exception):
    """A page without a recording."""


class Unusable(Exception):
    """What came, and is of no use."""

    def __init__(self, message: str, code: FailureCode) -> None:
        super().__init__(message)
        self.code = code


class Several(Exception):
    """A playlist, a channel, a feed, or a page with more than one recording."""

    def __init__(self, title: str) -> None:
        super().__init__(f"{title!r} holds more than one recording" if title else "it holds more than one recording")


_BY_STATUS = {
    401: (FailureCode.LOGIN_REQUIRED, "the server wants a login"),
    403: (FailureCode.FORBIDDEN, "the server refuses it"),
    404: (FailureCode.GONE, "it isn't there"),
    408: (FailureCode.TIMEOUT, "the server took too long"),
    410: (FailureCode.GONE, "it is there no more"),
    429: (FailureCode.RATE_LIMITED, "the server wants fewer requests"),
    451: (FailureCode.GEO_BLOCKED, "the law forbids it here"),
}

# Sites say in a sentence what has no status. The first that fits holds.
_BY_WORDS = (
    (r"\d+ more expected|did not get any data|incomplete", FailureCode.INCOMPLETE,
        "fewer bytes came than the server had said"),
    (r"timed out", FailureCode.TIMEOUT, "the server took too long"),
    (r"confirm you.?re not a bot|captcha|unusual traffic", FailureCode.BOT_CHECK, "the site asks for a person"),
    (r"DRM|encrypt|SAMPLE-AES", FailureCode.PROTECTED, "it is encrypted"),
    (r"no connection adapters|unable to handle request|unsupported url scheme|unknown url type",
        FailureCode.ADDRESS_REFUSED, "it leads to something else than http or https"),
    (r"ffmpeg|could not be run", FailureCode.PROTECTED, "it is a stream that only another program could fetch"),
    (r"private video|video is private|removed|no longer available|terminated|unavailable|does not exist|deleted",
        FailureCode.GONE, "it is private, or was removed"),
    (r"sign in|log ?in|members|premium|subscri|purchase|--cookies", FailureCode.LOGIN_REQUIRED,
        "it is for members only"),
    (r"not available (in|from) your (country|location)|geo", FailureCode.GEO_BLOCKED, "it isn't given to this country"),
    (r"live (event|stream).*(begin|start|offline)|premieres in|not currently live|is offline", FailureCode.LIVE_STREAM,
        "it is a live stream that hasn't begun"),
    (r"no video formats|requested format is not available|no media|unsupported url|no (video|audio)",
        FailureCode.NOTHING_TO_FETCH, "no recording is found there"),
)  # fmt: skip


def described(error: BaseException, job: Job, refused: tuple[str, ...]) -> dict[str, Any]:
    """An error as plain data.

    Args:
        error: What was raised.
        job: What was asked for.
        refused: Addresses that the guard has refused.

    Returns:
        `code`, `failure_class`, `message` and `retry_after_s`. The message names the host alone: what stands behind it
        may be a secret.
    """
    host = urlsplit(job.url).hostname or job.url
    if refused:
        code, what = FailureCode.ADDRESS_REFUSED, f"it leads to {refused[0]}, which isn't public"
    else:
        code, what = _meaning(error)
    retry_after_s = _retry_after_s(error) if code is FailureCode.RATE_LIMITED else None
    message = f"{host}: {what}: {code.way_out}"
    return {
        "code": code.value,
        "failure_class": (code.failure_class or FailureClass.TRANSIENT).value,
        "message": message,
        "retry_after_s": retry_after_s,
    }


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what caused it, as far as it is known; yt-dlp keeps that in places of its own."""
    seen: list[int] = []
    waiting: list[BaseException] = [error]
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.append(id(each))
        yield each
        information = getattr(each, "exc_info", None)
        held = information[1] if isinstance(information, tuple) and len(information) > 1 else None
        for cause in (held, getattr(each, "cause", None), getattr(each, "reason", None), each.__cause__):
            if isinstance(cause, BaseException):
                waiting.append(cause)


def _meaning(error: BaseException) -> _Said:
    causes = list(_causes(error))
    for each in causes:
        said = _of_one(each)
        if said is not None:
            return said
    words = " ".join(str(each) for each in causes)
    # What fails while the media come is a sentence of yt-dlp's, without the error itself.
    status = re.search(r"HTTP Error (\d{3})", words)
    if status is not None:
        return _of_status(int(status[1]))
    for pattern, code, what in _BY_WORDS:
        if re.search(pattern, words, re.IGNORECASE):
            return code, what
    if any(type(each).__name__ in ("TransportError", "SSLError") for each in causes):
        return FailureCode.CONNECTION, "the connection failed"
    return FailureCode.FETCH_FAILED, f"yt-dlp failed ({type(causes[-1]).__name__})"


def _of_one(error: BaseException) -> _Said | None:
    """What an exception says by its kind; None where only its words do."""
    if isinstance(error, Live):
        return FailureCode.LIVE_STREAM, str(error)
    if isinstance(error, Several):
        return FailureCode.SEVERAL_RECORDINGS, str(error)
    if isinstance(error, Nothing):
        return FailureCode.NOTHING_TO_FETCH, "no recording is found there"
    if isinstance(error, Unusable):
        return error.code, str(error)
    status = getattr(error, "status", None)
    if isinstance(status, int) and status >= 400:
        return _of_status(status)
    if isinstance(error, ssl.SSLCertVerificationError) or type(error).__name__ == "CertificateVerifyError":
        return FailureCode.BAD_CERTIFICATE, "its certificate can't be trusted"
    name = type(error).__name__
    if name in ("IncompleteRead", "ContentTooShortError"):
        return FailureCode.INCOMPLETE, "fewer bytes came than the server had said"
    if name == "GeoRestrictedError":
        return FailureCode.GEO_BLOCKED, "it isn't given to this country"
    if name == "UserNotLive":
        return FailureCode.LIVE_STREAM, "it is a live stream that hasn't begun"
    if name == "UnsupportedError":
        return FailureCode.NOTHING_TO_FETCH, "no recording is found there"
    if isinstance(error, TimeoutError):
        return FailureCode.TIMEOUT, "the server took too long"
    if isinstance(error, MemoryError):
        return FailureCode.OUT_OF_MEMORY, "what the server sent takes too much memory"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FailureCode.DISK_FULL, "the disk is full"
    if isinstance(error, ConnectionError):
        return FailureCode.CONNECTION, "the connection failed"
    return None


def _of_status(status: int) -> _Said:
    otherwise = (
        (FailureCode.SERVER_ERROR, "the server failed")
        if status >= 500
        else (FailureCode.GONE, "the server doesn't give it")
    )
    code, what = _BY_STATUS.get(status, otherwise)
    return code, f"HTTP {status}: {what}"


def _retry_after_s(error: BaseException) -> float | None:
    """Seconds that the server asks to wait; None where it doesn't say."""
    for each in _causes(error):
        headers = getattr(getattr(each, "response", None), "headers", None)
        value = headers.get("Retry-After") if headers is not None else None
        if value:
            return wait_asked_s(value, time())
    return None
