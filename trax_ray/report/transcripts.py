"""Transcripts by artifact key: from the store, and for rewrites from the table that is there already.

While a batch runs its report is rewritten every minute. Artifacts never change, so a text that the last
files.parquet holds is taken from there, row group by row group, rather than from one file per recording.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trax_ray.errors import TraxRayError
from trax_ray.report.schemas import SCHEMA_VERSION
from trax_ray.store.artifacts import ArtifactStore

__all__ = ["EarlierTexts", "original_of", "read_payload", "text_of", "uncovered_of"]

_log = logging.getLogger(__name__)


def read_payload(store: ArtifactStore, key: str) -> Mapping[str, Any] | None:
    """The payload of a transcript's artifact; None where it is missing, damaged or unreadable, which is logged.

    A report must not end because one file of thousands can't be read.
    """
    try:
        payload = store.get(key, relied_on=False)
    except (TraxRayError, ValueError) as error:
        _log.warning("artifact %s can't be read: %s", key, error)
        return None
    return payload


def text_of(payload: Mapping[str, Any] | None) -> str | None:
    """The text of a transcript's payload; None where there is none."""
    text = None if payload is None else payload.get("text")
    return text if isinstance(text, str) else None


def uncovered_of(payload: Mapping[str, Any] | None) -> list[tuple[float, float]]:
    """Stretches of speech without words of a transcript's payload, start and end in seconds."""
    spans = (payload or {}).get("uncovered") or ()
    return [(float(start_s), float(end_s)) for start_s, end_s in spans]


def original_of(enhanced: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """What an enhanced transcript says of the one before it, as that one's payload: of a file nothing else is kept."""
    if enhanced is None:
        return None
    lines = enhanced.get("lines") or ()
    segments = [
        {"start_s": line.get("start_s"), "end_s": line.get("end_s"), "text": line.get("original")} for line in lines
    ]
    return {"text": enhanced.get("text_before"), "segments": segments}


class EarlierTexts:
    """The texts of an earlier files.parquet, by input. A table that can't be used is as good as none.

    Asked in the order of the table, each of its row groups is read once.

    Keep it open no longer than the report takes: the file may be replaced meanwhile, which does no harm.

    Args:
        path: Of the table; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._where: dict[str, tuple[str, int, int]] = {}
        self._group = -1
        self._texts: pa.ChunkedArray | None = None
        try:
            self._stream = path.open("rb")
        except OSError:
            return
        try:
            self._file = pq.ParquetFile(self._stream)
            if (self._file.schema_arrow.metadata or {}).get(b"schema_version") == str(SCHEMA_VERSION).encode():
                self._index()
        except (pa.ArrowException, OSError, KeyError):
            self._where.clear()

    def get(self, file_id: str, key: str) -> str | None:
        """The text of an input, if it came from the artifact of this key; else None."""
        known, group, row = self._where.get(file_id, ("", 0, 0))
        if known != key:
            return None
        if group != self._group or self._texts is None:
            try:
                self._texts = self._file.read_row_group(group, columns=["text"]).column("text")
            except (pa.ArrowException, OSError):
                self._where.clear()
                return None
            self._group = group
        text: str | None = self._texts[row].as_py()
        return text

    def close(self) -> None:
        """Let go of the file."""
        stream = getattr(self, "_stream", None)
        if stream is not None:
            stream.close()

    def _index(self) -> None:
        for group in range(self._file.num_row_groups):
            ids = self._file.read_row_group(group, columns=["file_id", "artifact_key"])
            pairs = zip(ids["file_id"].to_pylist(), ids["artifact_key"].to_pylist(), strict=True)
            self._where.update({file_id: (key, group, row) for row, (file_id, key) in enumerate(pairs) if key})
