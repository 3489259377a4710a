"""Text that any reader can take: names needn't be UTF-8, messages needn't be one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from trax_ray.codes import FailureCode, failure_code, warning_code
from trax_ray.core.task import Failure

__all__ = ["clean", "clean_all", "explained", "iso_utc", "one_line", "reason"]

# What ends a line somewhere, moves a terminal's cursor, starts a column of errors.log or turns the order of letters
# round, so that `gpj.exe` looks like `exe.jpg`.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")

_LEFT_TO_THE_REPORT = frozenset(
    {
        FailureCode.CHANGED,
        FailureCode.CONNECTION,
        FailureCode.DECODER_BUG,
        FailureCode.DOWNLOAD,
        FailureCode.ENGINE,
        FailureCode.ENGINE_FAILED,
        FailureCode.FILE_BUSY,
        FailureCode.IS_A_DIRECTORY,
        FailureCode.NAME_TOO_LONG,
        FailureCode.NOT_A_FILE,
        FailureCode.NOT_FOUND,
        FailureCode.NO_AUDIO_STREAM,
        FailureCode.NO_SAMPLES,
        FailureCode.PERMISSION_DENIED,
        FailureCode.QUARANTINED,
        FailureCode.RATE_LIMITED,
        FailureCode.REJECTED,
        FailureCode.SERVER_ERROR,
        FailureCode.STALLED,
        FailureCode.TIMEOUT,
        FailureCode.TOO_MANY_OPEN_FILES,
        FailureCode.UNREADABLE,
    }
)
"""Codes whose messages say what happened and no way out; those of the others say one themselves, or there is none."""


def reason(failure: Failure) -> str:
    """Why something failed, and the way out: once, whether the message says it or only its code."""
    code = failure_code(failure.code)
    return f"{failure.message}: {code.way_out}" if code in _LEFT_TO_THE_REPORT and code else failure.message


def explained(warnings: Iterable[str]) -> dict[str, str]:
    """What warnings mean and what to do about them, by code; without codes from outside the package."""
    known = (warning_code(code) for code in warnings)
    return {code.value: f"{code.meaning}: {code.way_out}" for code in known if code is not None}


def clean(text: str) -> str:
    """The same text where it is valid; else bytes that aren't UTF-8, and lone surrogates, as `\\xff` or `\\ud800`."""
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:  # surrogates that stand for no byte, as a JSON escape can give
            return text.encode("utf-8", "backslashreplace").decode()
    return text


def clean_all(value: Any) -> Any:
    """JSON types with all text in them cleaned."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean(str(key)): clean_all(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [clean_all(entry) for entry in value]
    return value


def one_line(text: str) -> str:
    """Cleaned text on one line: line ends, tabs and other control characters as `\\n`, `\\t`, `\\x1b`, `\\u202e`."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), clean(text))


def iso_utc(at: float | None) -> str | None:
    """Seconds since the epoch as `2026-01-31T23:59:59.125000Z`; None stays None."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
