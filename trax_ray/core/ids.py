"""Names that follow from what they name: the same again whenever the same work is planned again."""

from __future__ import annotations

import hashlib
import json
from typing import Any

__all__ = ["digest", "file_id_of", "fingerprint_of", "is_same_work"]


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


def fingerprint_of(value: Any, of: str = "", changed_ns: int = 0) -> str:
    """What tells a task from what it was before: it changes where the result may.

    The time at which the input's inode last changed is kept apart, because what earlier versions planned doesn't have
    it, and isn't to be done again for that.

    Args:
        value: All that matters for the result, JSON types.
        of: The fingerprint of the task that this one is a part of; its time is taken over.
        changed_ns: That time, nanoseconds since the epoch; 0 where it isn't known.
    """
    whole, _, changed = of.partition("-")
    name = digest([whole, *value] if of else value)
    changed = f"{changed_ns:x}" if changed_ns else changed
    return f"{name}-{changed}" if changed else name


def is_same_work(one: str, other: str) -> bool:
    """Whether two fingerprints are of the same work; a time that only one of them knows says nothing."""
    (name, _, changed), (other_name, _, other_changed) = one.partition("-"), other.partition("-")
    return name == other_name and (changed == other_changed or not changed or not other_changed)
