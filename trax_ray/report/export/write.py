"""Which export, and where to: one stream, or a file beside each transcript."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from trax_ray.errors import UsageError
from trax_ray.report.export.documents import document
from trax_ray.report.export.lines import csv_lines, json_lines, manifest_lines
from trax_ray.report.export.reading import Row, files_with_segments
from trax_ray.report.export.textgrids import textgrid
from trax_ray.store import files, writing
from trax_ray.store.explaining import explain
from trax_ray.store.layout import TABLES, Layout
from trax_ray.store.outputs import write_files

__all__ = ["FORMATS", "STREAMS", "Exported", "export_files", "export_stream"]

STREAMS = ("jsonl", "csv", "manifest")
"""Formats that are one stream."""

_PER_FILE = {"docx": ".docx", "textgrid": ".TextGrid"}

FORMATS = (*STREAMS, *_PER_FILE)
"""All formats."""


@dataclass
class Exported:
    """What came of an export.

    Args:
        count: Lines after the head, or files.
        places: Of the files, below the folder; empty for a stream.
        left_out: Names of inputs that have no file, where that is what is named.
    """

    count: int = 0
    places: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def export_stream(output_dir: str | Path, fmt: str, destination: Path | None, *, table: str = "files") -> Exported:
    """Write an export that is one stream.

    Args:
        output_dir: The batch's output folder, with a report.
        fmt: One of `STREAMS`.
        destination: The file, which is replaced in one step; None writes to standard output.
        table: Whose rows, for jsonl and csv.

    Raises:
        FileError: There is no report, or the file can't be written.
        UsageError: There is no such format or table.
    """
    layout = Layout.of(output_dir)
    if table not in TABLES:
        raise UsageError(f"--table: expected {', '.join(TABLES)}, got {table!r}")
    exported = Exported()
    if fmt == "manifest":
        lines = manifest_lines(layout, exported.left_out)
    elif fmt in STREAMS:
        lines = json_lines(layout, table) if fmt == "jsonl" else csv_lines(layout, table)
    else:
        raise UsageError(f"expected a format of {', '.join(STREAMS)}, got {fmt!r}")
    if destination is None:
        sys.stdout.flush()
        exported.count = _copy(lines, sys.stdout.buffer)
        sys.stdout.flush()
    else:
        files.ensure_folder(destination.parent)
        try:
            with writing.Draft(destination) as draft:
                with draft.stream() as stream:
                    exported.count = _copy(lines, stream)
                draft.commit()
        except OSError as error:
            raise explain(error, destination, "write") from error
    exported.count -= fmt == "csv"
    return exported


def _copy(lines: Iterator[str], stream: BinaryIO) -> int:
    count = 0
    for line in lines:
        stream.write(line.encode("utf-8", "backslashreplace"))
        count += 1
    stream.flush()
    return count


def export_files(output_dir: str | Path, fmt: str, *, enhanced: bool = False) -> Exported:
    """Write a file beside each transcript, under its name. What people have changed since is kept, as transcripts are.

    Args:
        output_dir: The batch's output folder, with a report.
        fmt: `docx` or `textgrid`.
        enhanced: Take the enhanced text where there is one.

    Raises:
        FileError: There is no report, or a file can't be written.
        SetupError: What the format needs isn't installed.
        UsageError: There is no such format.
    """
    if fmt not in _PER_FILE:
        raise UsageError(f"expected a format of {', '.join(_PER_FILE)}, got {fmt!r}")
    layout = Layout.of(output_dir)
    text_of = "enhanced_text" if enhanced else "text"
    exported = Exported()
    for row, segments in files_with_segments(layout):
        if row["text"] is None:
            continue
        stem = _stem(row)
        data = document(row, segments, text_of) if fmt == "docx" else textgrid(row, segments, text_of).encode()
        # A note of its own: that of the transcripts belongs to the batch, which may be running.
        exported.places += write_files(layout, f"export-{fmt}-{row['file_id']}", {f"{stem}{_PER_FILE[fmt]}": data})
        exported.count += 1
    return exported


def _stem(row: Row) -> str:
    """The transcript's own name without suffix, so that no two are the same."""
    path: str | None = row["transcript_path"]
    if not path:
        return str(row["file_id"])
    stem, dot, suffix = path.rpartition(".")
    return stem if dot and "/" not in suffix else path
