"""One stream of lines: JSON lines, CSV for spreadsheets, and a manifest that `trax-ray batch` and NeMo read."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pyarrow.parquet as pq

from trax_ray.report.export.reading import Row, files_with_segments, table_rows
from trax_ray.report.parquet import read_columns
from trax_ray.report.text import one_line
from trax_ray.store.layout import Layout
from trax_ray.store.looking import opened

__all__ = ["csv_lines", "json_lines", "manifest_lines", "unarmed"]

_ARMED = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # noqa: RUF001 - spreadsheets take the wide ones too
"""What a cell begins with that a spreadsheet takes for a formula. Source: OWASP, CSV Injection."""


def json_lines(layout: Layout, table: str) -> Iterator[str]:
    """The rows of a table as JSON, a line each; those of files have their segments in `segments_list`.

    Times are ISO 8601, bytes are base64.
    """
    if table != "files":
        for row in table_rows(layout, table):
            yield _json(row)
        return
    for row, segments in files_with_segments(layout):
        own = [{name: value for name, value in each.items() if name != "file_id"} for each in segments]
        yield _json({**row, "segments_list": own})


def csv_lines(layout: Layout, table: str) -> Iterator[str]:
    """The rows of a table as CSV with commas, with a byte order mark: else spreadsheets spoil umlauts.

    No cell is a formula, and none moves a terminal's cursor: see `unarmed`. `path_bytes` is left out.
    """
    path = layout.table(table)
    read_columns(path, ())
    with opened(path) as stream:
        names = [name for name in pq.read_schema(stream).names if name != "path_bytes"]
    yield "\ufeff" + _csv_line([unarmed(name) for name in names])
    for row in table_rows(layout, table, names):
        yield _csv_line([_cell(row[name]) for name in names])


def manifest_lines(layout: Layout, left_out: list[str]) -> Iterator[str]:
    """Recordings with their transcripts, a JSON object a line: `file_name` and `language` for `trax-ray batch`,
    `audio_filepath`, `duration` (seconds), `text` and `lang` for NeMo and what reads its manifests.

    Args:
        layout: The output folder.
        left_out: Gets the names of inputs that succeeded and have no file that a manifest could name.
    """
    columns = ["file_name", "path_bytes", "media_path", "status", "text", "duration", "language"]
    for row in table_rows(layout, "files", columns):
        if row["status"] != "succeeded" or row["text"] is None:
            continue
        path = _path_of(row, layout)
        if path is None:
            left_out.append(row["file_name"])
            continue
        about = {"audio_filepath": path, "duration": row["duration"], "text": row["text"], "file_name": path}
        yield _json(about | ({"language": row["language"], "lang": row["language"]} if row["language"] else {}))


def unarmed(text: str) -> str:
    """A text that is text in a spreadsheet: on one line, and after an apostrophe where it would be a formula."""
    text = one_line(text)
    return f"'{text}" if text.lstrip().startswith(_ARMED) else text


def _path_of(row: Row, layout: Layout) -> str | None:
    if row["media_path"]:
        return str(layout.output_dir / row["media_path"])
    try:
        return bytes(row["path_bytes"]).decode() if row["path_bytes"] else None
    except UnicodeDecodeError:  # JSON has no name for it
        return None


def _cell(value: Any) -> Any:
    if isinstance(value, datetime):
        return _iso(value)
    if isinstance(value, bool):
        return str(value).lower()
    return unarmed(value) if isinstance(value, str) else value


def _csv_line(cells: list[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def _json(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False, default=_plain) + "\n"


def _plain(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else _iso(value)


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")
