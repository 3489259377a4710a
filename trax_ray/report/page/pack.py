"""Rows in chunks: JSON, compressed, as text that HTML can hold.

A browser takes eleven megabytes of such text in less than half a second, where the same content as a literal of
JavaScript keeps it busy for minutes. Nothing in base64 can end a script element.
"""

from __future__ import annotations

import base64
import gzip
import json
import tempfile
from collections.abc import Iterator
from typing import Any

from trax_ray.report.text import clean_all

__all__ = ["CHUNK_FILES", "Pack", "packed"]

CHUNK_FILES = 100
"""Inputs in a chunk: what has to be unpacked to show one of them."""

_IN_MEMORY_BYTES = 1024 * 1024
_LEVEL = 6


def packed(value: Any) -> bytes:
    """JSON types as base64 of gzip; the same value gives the same bytes."""
    try:
        data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half a character of a provider
        data = json.dumps(clean_all(value), ensure_ascii=False, separators=(",", ":")).encode()
    return base64.b64encode(gzip.compress(data, compresslevel=_LEVEL, mtime=0))


class Pack:
    """Chunks of one kind, in the order of adding; more than a few megabytes of them lie in a temporary file.

    Args:
        name: Of the kind: the script elements are called `NAME-0`, `NAME-1` and so on.
        most_bytes: What all of them may take; what comes after that is left out.
    """

    def __init__(self, name: str, most_bytes: int | None = None) -> None:
        self.name = name
        self.count = 0
        self.size_bytes = 0
        self.left_out = 0
        self._most_bytes = most_bytes
        self._rows: list[Any] = []
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 - closed by close

    def add(self, row: Any) -> None:
        """Append a row, of JSON types."""
        self._rows.append(row)
        if len(self._rows) >= CHUNK_FILES:
            self._write()

    def elements(self) -> Iterator[bytes]:
        """The script elements, piece by piece; nothing may be added after."""
        self._write()
        self._file.seek(0)
        while block := self._file.read(1024 * 1024):
            yield block

    def close(self) -> None:
        """Let go of the temporary file."""
        self._file.close()

    def _write(self) -> None:
        rows, self._rows = self._rows, []
        if not rows:
            return
        data = packed(rows)
        if self._most_bytes is not None and self.size_bytes + len(data) > self._most_bytes:
            self.left_out += sum(row is not None for row in rows)
            data = packed([None] * len(rows))
        self._file.write(b'<script type="text/plain" id="%s-%d">%s</script>\n' % (self.name.encode(), self.count, data))
        self.count += 1
        self.size_bytes += len(data)
