"""Text that any reader can take: names needn't be UTF-8, messages needn't be one line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

__all__ = ["clean", "clean_all", "iso_utc", "one_line"]

# What ends a line somewhere, moves a terminal's cursor or starts a column of errors.log.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


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
    """Cleaned text on one line: line ends, tabs and other control characters as `\\n`, `\\t`, `\\x1b`."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), clean(text))


def iso_utc(at: float | None) -> str | None:
    """Seconds since the epoch as `2026-01-31T23:59:59.125000Z`; None stays None."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
