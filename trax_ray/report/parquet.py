"""Rows to Parquet, in pieces, and from there to a file in one atomic step.

All four tables go this way. A report of ten thousand hours of speech holds some hundred megabytes of text; so
rows are compressed group by group into a temporary file, and memory holds one group at a time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from trax_ray.codes import FailureCode
from trax_ray.errors import FileError
from trax_ray.report.schemas import schema
from trax_ray.report.text import clean_all
from trax_ray.store import writing
from trax_ray.store.epochs import has_journal
from trax_ray.store.explaining import explain, shown
from trax_ray.store.layout import Layout
from trax_ray.store.looking import opened
from trax_ray.store.uris import Place

__all__ = ["TableFile", "read_columns"]

GROUP_ROWS = 20_000
GROUP_CHARACTERS = 4 * 1024 * 1024
"""A row group ends with the first of these: bounded memory, and groups large enough to compress and to skip."""


class TableFile:
    """A table in the making: a context manager that takes rows, or many at once by column.

    The file gets its name when the block ends well: readers see the old table or the new one, never a part.
    After an exception the old one stays. A file that has the same bytes already is left alone.

    Args:
        path: Of the table, in a folder that exists.
        table: Which of the four tables.
        extra: Names of text columns that come after its own.
    """

    def __init__(self, path: Place, table: str, extra: Iterable[str] = ()) -> None:
        self.path = path
        self.count = 0
        self._schema = schema(table, extra)
        self._waiting: dict[str, list[Any]] = {name: [] for name in self._schema.names}
        self._rows = self._characters = 0
        self._draft: writing.Draft
        self._stream: BinaryIO
        self._writer: pq.ParquetWriter

    def __enter__(self) -> TableFile:
        try:
            self._draft = writing.Draft(self.path)
            self._stream = self._draft.stream()
            self._writer = pq.ParquetWriter(self._stream, self._schema, compression="zstd")
        except OSError as error:
            self._discard()
            raise explain(error, self.path, "write") from error
        return self

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row; columns that it lacks are null.

        Raises:
            DiskFull: No space, no quota.
            FileError: It can't be written.
        """
        for name, values in self._waiting.items():
            values.append(row.get(name))
        self._added(1, len(row.get("text") or ""))

    def add_columns(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Append rows, given by column, all of the same length; columns that are lacking are null. Raises as `add`."""
        count = len(next(iter(columns.values())))
        for name, values in self._waiting.items():
            values.extend(columns[name] if name in columns else [None] * count)
        self._added(count, sum(len(text or "") for text in columns.get("text", ())))

    def _added(self, rows: int, characters: int) -> None:
        self.count += rows
        self._rows += rows
        self._characters += characters
        if self._rows >= GROUP_ROWS or self._characters >= GROUP_CHARACTERS:
            try:
                self._write_group()
            except OSError as error:
                raise explain(error, self.path, "write") from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._commit()
        except OSError as failure:
            raise explain(failure, self.path, "write") from failure
        finally:
            self._discard()

    def _write_group(self) -> None:
        waiting, rows = self._waiting, self._rows
        self._waiting = {name: [] for name in self._schema.names}
        self._rows = self._characters = 0
        if not rows:
            return
        arrays = [_array(waiting.pop(column.name), column.type) for column in self._schema]
        batch = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        self._writer.write_batch(batch, row_group_size=rows)

    def _commit(self) -> None:
        self._write_group()
        self._writer.close()
        self._stream.close()
        self._draft.commit(keep_same=True)

    def _discard(self) -> None:
        """Let go of everything; what has been committed has another name by now."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._writer.close()
        with contextlib.suppress(OSError, AttributeError):
            self._stream.close()
        if hasattr(self, "_draft"):
            self._draft.discard()


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except UnicodeEncodeError:
        # Rare, so it isn't looked for in every cell: names that aren't UTF-8, half characters of a provider.
        return pa.array(clean_all(values), kind)


def read_columns(path: Place, columns: Iterable[str] | None = None) -> pa.Table:
    """Some or (None) all columns of a table of the report.

    Raises:
        FileError: It isn't there, or is no Parquet file; names `trax-ray report OUT` as the way out where that helps.
    """
    out = path.parent.parent
    way_out = f"`trax-ray report {shown(out)}` builds it from the journal"
    try:
        # Opened here: Arrow takes no names that aren't UTF-8.
        with opened(path) as stream:
            return pq.ParquetFile(stream).read(columns=None if columns is None else list(columns))
    except FileNotFoundError as error:
        if not has_journal(Layout.of(out).journal):
            raise FileError(
                f"there is neither a report nor a batch in {shown(out)}: give the output folder of a batch",
                code=FailureCode.NOT_FOUND,
            ) from error
        raise FileError(f"there is no table {shown(path)}: {way_out}", code=FailureCode.NOT_FOUND) from error
    except pa.ArrowInvalid as error:
        raise FileError(f"{shown(path)} is no Parquet file: {way_out}", code=FailureCode.UNREADABLE) from error
    except OSError as error:
        if error.errno is None:  # Arrow's own: the file is damaged
            raise FileError(f"{shown(path)} is damaged: {way_out}", code=FailureCode.UNREADABLE) from error
        raise explain(error, path, "read") from error
