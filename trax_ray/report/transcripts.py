"""Transcripts by artifact key: from the store, and for rewrites from the table that is there already.

While a batch runs its report is rewritten every minute. Artifacts never change, so a text that the last
files.parquet holds is taken from there, row group by row group, rather than from one file per recording.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from trax_ray.errors import TraxRayError
from trax_ray.report.schemas import SCHEMA_VERSION
from trax_ray.store.artifacts import ArtifactStore
from trax_ray.store.looking import opened
from trax_ray.store.uris import ObjectPath, Place

__all__ = ["EarlierTexts", "ahead", "original_of", "read_payload", "text_of", "uncovered_of"]

_log = logging.getLogger(__name__)

_AT_ONCE = 16
"""Artifacts that are read from a store at the same time; twice as many are in memory."""

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


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


def ahead(store: ArtifactStore, ask: Callable[[Asked], Answer], asked: Iterable[Asked]) -> Iterator[Answer]:
    """What is asked of artifacts, in order. Of a store, whose answers take their time, many are asked for at once.

    Args:
        store: The artifacts.
        ask: Asks; several at the same time.
        asked: What for.
    """
    if not isinstance(store.folder, ObjectPath):
        yield from map(ask, asked)
        return
    waiting: deque[Future[Answer]] = deque()
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        for each in asked:
            waiting.append(pool.submit(ask, each))
            if len(waiting) >= 2 * _AT_ONCE:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


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

    def __init__(self, path: Place) -> None:
        self._where: dict[str, tuple[str, int, int]] = {}
        self._group = -1
        self._texts: pa.ChunkedArray | None = None
        try:
            self._stream = opened(path)
        except (OSError, TraxRayError):
            return
        try:
            self._file = pq.ParquetFile(self._stream)
            if (self._file.schema_arrow.metadata or {}).get(b"schema_version") == str(SCHEMA_VERSION).encode():
                self._index()
        except (pa.ArrowException, OSError, KeyError, TraxRayError):
            self._where.clear()

    def get(self, file_id: str, key: str) -> str | None:
        """The text of an input, if it came from the artifact of this key; else None."""
        known, group, row = self._where.get(file_id, ("", 0, 0))
        if known != key:
            return None
        if group != self._group or self._texts is None:
            try:
                self._texts = self._file.read_row_group(group, columns=["text"]).column("text")
            except (pa.ArrowException, OSError, TraxRayError):
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
