"""The archive of downloads: a file of names of what was fetched, one a line, that yt-dlp reads and writes too."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from trax_ray.store.explaining import explain

__all__ = ["add_to_archive", "read_archive"]


def read_archive(path: Path) -> frozenset[str]:
    """The names in an archive; none where there is no file.

    Raises:
        FileError: It can't be read.
    """
    try:
        with path.open(encoding="utf-8", errors="surrogateescape") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH)
            return frozenset(line.strip() for line in stream if line.strip())
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise explain(error, path, "read") from error


def add_to_archive(path: Path, names: Sequence[str]) -> bool:
    """Add the first of a recording's names, under the lock that yt-dlp takes, where none of them is there yet.

    Returns:
        Whether it was added.

    Raises:
        DiskFull: No space, no quota, read-only.
        FileError: It can't be written.
    """
    if not names:
        return False
    try:
        with path.open("a+", encoding="utf-8", errors="surrogateescape") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            stream.seek(0)
            text = stream.read()
            if {line.strip() for line in text.splitlines()}.intersection(names):
                return False
            # A writer that was killed may have left half a line.
            stream.write(("" if not text or text.endswith("\n") else "\n") + f"{names[0]}\n")
            stream.flush()
            os.fsync(stream.fileno())
            return True
    except OSError as error:
        raise explain(error, path, "write") from error
