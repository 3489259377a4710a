"""Names that follow from what they name: the same again whenever the same work is planned again."""

from __future__ import annotations

import hashlib
import json
from typing import Any

__all__ = ["digest", "file_id_of"]


def digest(value: Any) -> str:
    """16 hexadecimal digits (64 bits) that stand for a JSON value."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def file_id_of(path: str, repeat: int = 0) -> str:
    """The id of an input.

    Args:
        path: Absolute path of the recording.
        repeat: How often it was added before, for callers that add one recording several times.
    """
    return digest(["file", path, repeat] if repeat else ["file", path])
