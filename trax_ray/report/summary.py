"""What a summary in the terminal shows, without pandas."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from trax_ray.report.parquet import read_columns
from trax_ray.store.layout import Layout

__all__ = ["summary_rows", "texts"]

_COLUMNS = {
    "file_id": "file_id",
    "file_name": "file_name",
    "status": "status",
    "duration": "duration_s",
    "processing_s": "processing_s",
    "measured_accuracy": "measured_accuracy",
    "estimated_accuracy": "estimated_accuracy",
    "warnings": "warnings",
    "failed_step": "failed_step",
    "failure_class": "failure_class",
    "code": "code",
    "error": "error",
    "attempts": "attempts",
    "retries": "retries",
    "transcript_path": "transcript_path",
}


def summary_rows(output_dir: str | Path) -> list[dict[str, Any]]:
    """The inputs of a batch as its report has them, in the order of adding.

    Args:
        output_dir: The batch's output folder.

    Returns:
        Per input: file_id, file_name, status, duration_s, processing_s, measured_accuracy and estimated_accuracy
        (percent), warnings (codes joined by commas), failed_step, failure_class, code and error (None unless
        it failed), attempts, retries, transcript_path. What is unknown is None. Names may hold control
        characters: `text.one_line` makes them fit for a terminal.

    Raises:
        FileError: There is no report; permanent, `trax-ray report OUT` builds it.
    """
    rows = read_columns(Layout(Path(output_dir)).table("files"), _COLUMNS).to_pylist()
    return [{ours: row[theirs] for theirs, ours in _COLUMNS.items()} for row in rows]


def texts(output_dir: str | Path, file_ids: Collection[str]) -> dict[str, str]:
    """The transcripts of a few inputs as the report has them, by file id.

    Raises:
        FileError: There is no report; permanent.
    """
    rows = read_columns(Layout(Path(output_dir)).table("files"), ("file_id", "text")).to_pylist()
    return {row["file_id"]: row["text"] or "" for row in rows if row["file_id"] in file_ids}
