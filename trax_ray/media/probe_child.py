"""The process that looks at media files before a batch begins: headers only, one file after the other.

It reads lines of JSON (`path`, `marks`) and answers each with one: `audio_s`, `code`, `mark`. Whatever a hostile file
does to a decoder happens here, and whoever asked starts another one. It ends when its standard input does.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
from typing import Any

from trax_ray.codes import FailureCode
from trax_ray.errors import TraxRayError

__all__ = ["main"]

MARK_BYTES = 64 * 1024
"""What is read of the beginning, the middle and the end of a file to see whether two may be the same."""

_MEMORY_BYTES = 2 << 30


def main() -> None:
    """Answer until nobody asks any more."""
    told = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what libraries print isn't what we say
    _limit()
    for line in sys.stdin:
        asked = json.loads(line)
        told.write(json.dumps(_look_at(asked["path"], asked["marks"])) + "\n")
        told.flush()


def _limit() -> None:
    """Memory, and no core files."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = _MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(hard, _MEMORY_BYTES)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _look_at(path: str, marks: bool) -> dict[str, Any]:
    from trax_ray.media.source import probe

    try:
        info = probe(path)
        mark = _mark(path, info.size_bytes) if marks else ""
    except TraxRayError as error:
        return {"audio_s": None, "code": error.code or FailureCode.NOT_DECODABLE.value, "mark": ""}
    except (OSError, MemoryError):
        return {"audio_s": None, "code": FailureCode.UNREADABLE.value, "mark": ""}
    # What a header promises may be longer than what is there, and what is there is what gets transcribed.
    return {"audio_s": info.duration_s, "code": "", "mark": mark}


def _mark(path: str, size_bytes: int) -> str:
    """What is the same for the same content, of the beginning, the middle and the end of a file."""
    digest = hashlib.sha256(str(size_bytes).encode())
    with open(path, "rb") as file:  # noqa: PTH123 - keeps names that Path would change
        for at in (0, max(0, size_bytes // 2), max(0, size_bytes - MARK_BYTES)):
            file.seek(at)
            digest.update(file.read(MARK_BYTES))
    return digest.hexdigest()
