"""Inputs with their segments, from the tables of a report, a part at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trax_ray.report.parquet import read_columns
from trax_ray.store.explaining import explain
from trax_ray.store.layout import Layout
from trax_ray.store.looking import exists, opened

__all__ = ["Row", "files_with_segments", "table_rows"]

Row = dict[str, Any]

_GROUP = 2_000


def table_rows(layout: Layout, table: str, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """The rows of a table of the report, in its order.

    Raises:
        FileError: It isn't there, or is damaged; `trax-ray report OUT` builds it.
    """
    path = layout.table(table)
    read_columns(path, ())  # says the way out where it is none
    try:
        with opened(path) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(_GROUP, columns=columns):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise explain(error if isinstance(error, OSError) else OSError(str(error)), path, "read") from error


def files_with_segments(layout: Layout) -> Iterator[tuple[Row, list[Row]]]:
    """Each input with its segments; none for those that have no transcript, or one without segments.

    Raises:
        FileError: There is no report.
    """
    known = {row["file_id"] for row in table_rows(layout, "files", ["file_id"])}
    groups: Iterator[tuple[str, Iterator[Row]]] = iter(())
    if exists(layout.table("segments")):
        groups = groupby(table_rows(layout, "segments"), key=lambda row: str(row["file_id"]))
    # Both tables have the order of adding; segments are as old as the last final report.
    waiting = _next(groups, known)
    for row in table_rows(layout, "files"):
        if waiting is not None and waiting[0] == row["file_id"]:
            yield row, waiting[1]
            waiting = _next(groups, known)
        else:
            yield row, []


def _next(groups: Iterator[tuple[str, Iterator[Row]]], known: set[str]) -> tuple[str, list[Row]] | None:
    for file_id, rows in groups:
        if file_id in known:
            return file_id, list(rows)
    return None
