"""What a summary in the terminal shows, without pandas."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import compute

from trax_ray.core.policy.prediction import quantile
from trax_ray.core.policy.spots import Spot, doubtful_words, rank_spots, spots_of, spread
from trax_ray.report.parquet import read_columns
from trax_ray.report.transcripts import read_payload, uncovered_of
from trax_ray.store.artifacts import ArtifactStore
from trax_ray.store.layout import Layout
from trax_ray.store.looking import exists

__all__ = ["KindTimes", "Worst", "kind_times", "summary_rows", "texts", "worst"]

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
    "words": "words",
    "uncovered_s": "uncovered_s",
    "artifact_key": "artifact_key",
    "duplicate_of": "duplicate_of",
}


def summary_rows(output_dir: str | Path) -> list[dict[str, Any]]:
    """The inputs of a batch as its report has them, in the order of adding.

    Args:
        output_dir: The batch's output folder.

    Returns:
        Per input: file_id, file_name, status, duration_s, processing_s, measured_accuracy and estimated_accuracy
        (percent), warnings (codes joined by commas), failed_step, failure_class, code and error (None unless
        it failed), attempts, retries, transcript_path, words, uncovered_s, artifact_key, duplicate_of (a name). What
        is unknown is None. Names may hold control characters: `text.one_line` makes them fit for a terminal.

    Raises:
        FileError: There is no report; permanent, `trax-ray report OUT` builds it.
    """
    rows = read_columns(Layout.of(output_dir).table("files"), _COLUMNS).to_pylist()
    return [{ours: row[theirs] for theirs, ours in _COLUMNS.items()} for row in rows]


def texts(output_dir: str | Path, file_ids: Collection[str]) -> dict[str, str]:
    """The transcripts of a few inputs as the report has them, by file id.

    Raises:
        FileError: There is no report; permanent.
    """
    rows = read_columns(Layout.of(output_dir).table("files"), ("file_id", "text")).to_pylist()
    return {row["file_id"]: row["text"] or "" for row in rows if row["file_id"] in file_ids}


@dataclass(frozen=True, slots=True)
class KindTimes:
    """How long attempts of one kind took that came to their end.

    Args:
        kind: The task type; with ` part` for parts of recordings.
        count: How many.
        p50_s: Half of them took no longer, seconds.
        p95_s: 95 % of them took no longer.
    """

    kind: str
    count: int
    p50_s: float
    p95_s: float


def kind_times(output_dir: str | Path, file_ids: Collection[str]) -> list[KindTimes]:
    """How long attempts took, by kind, of some inputs; most attempts first.

    Raises:
        FileError: There is no report; permanent.
    """
    layout = Layout.of(output_dir)
    tasks = read_columns(layout.table("tasks"), ("task_id", "task_type", "chunk", "file_id")).to_pylist()
    kinds = {
        row["task_id"]: row["task_type"] if row["chunk"] is None else f"{row['task_type']} part"
        for row in tasks
        if row["file_id"] in file_ids
    }
    took: dict[str, list[tuple[float, float]]] = {}
    columns = ("task_id", "outcome", "started_at", "ended_at")
    for row in read_columns(layout.table("attempts"), columns).to_pylist():
        ended = row["outcome"] in ("succeeded", "expanded") and row["started_at"] and row["ended_at"]
        if ended and row["task_id"] in kinds:
            seconds = (row["ended_at"] - row["started_at"]).total_seconds()
            took.setdefault(kinds[row["task_id"]], []).append((max(0.0, seconds), 1.0))
    found = [KindTimes(kind, len(each), quantile(each, 0.5), quantile(each, 0.95)) for kind, each in took.items()]
    return sorted(found, key=lambda each: -each.count)


@dataclass(frozen=True, slots=True)
class Worst:
    """What is worth a look: rows of inputs, with `doubtful_words`, and spots; those first that are worth it most."""

    files: tuple[dict[str, Any], ...]
    spots: tuple[Spot, ...]


MOST_WORST = 10
LOOKED_AT = 50
"""Inputs whose transcripts are looked into for speech without words, those first that have most of it."""


def worst(output_dir: str | Path, rows: Sequence[Mapping[str, Any]]) -> Worst:
    """The ten inputs and the ten spots most worth a look.

    Args:
        output_dir: The batch's output folder.
        rows: Of `summary_rows`. An input is worth a look where it has a warning, or by a reference is less than 90 %
            right.

    Raises:
        FileError: There is no report; permanent.
    """
    layout = Layout.of(output_dir)
    doubted = [{**row, "doubtful_words": doubtful_words(row)} for row in rows if _is_doubtful(row)]
    doubted.sort(key=lambda row: -row["doubtful_words"])
    spots = rank_spots(_spots(layout, rows))
    return Worst(
        tuple(row for row in doubted[:MOST_WORST] if row["doubtful_words"] > 0), tuple(spread(spots, MOST_WORST))
    )


def _is_doubtful(row: Mapping[str, Any]) -> bool:
    measured = row["measured_accuracy"]
    own = row["status"] == "succeeded" and not row["duplicate_of"]  # one of two copies is enough
    return own and bool(row["warnings"] or (measured is not None and measured < GOOD))


GOOD = 90.0
"""Percent of words: below this a transcript is worth a look."""


def _spots(layout: Layout, rows: Sequence[Mapping[str, Any]]) -> Iterator[Spot]:
    """The spots of inputs: segments with warnings, and where speech without words is most, that too."""
    wanted = {row["file_id"] for row in rows if _is_doubtful(row) and row["warnings"]}
    if not wanted or not exists(layout.table("segments")):
        return
    bare = [row for row in rows if row["uncovered_s"] and not row["duplicate_of"]]
    bare = sorted(bare, key=lambda row: -row["uncovered_s"])[:LOOKED_AT]
    store = ArtifactStore(layout.artifacts)
    uncovered = {row["file_id"]: uncovered_of(read_payload(store, row["artifact_key"] or "")) for row in bare}
    columns = ("file_id", "start_s", "end_s", "text", "confidence", "warnings")
    by_file: dict[str, list[tuple[Any, ...]]] = {name: [] for name in uncovered}
    segments = read_columns(layout.table("segments"), columns)
    for row in segments.filter(compute.not_equal(segments["warnings"], "")).to_pylist():
        if row["file_id"] in wanted:
            by_file.setdefault(row["file_id"], []).append(tuple(row[name] for name in columns[1:]))
    for file_id, doubted in by_file.items():
        yield from spots_of(file_id, doubted, uncovered.get(file_id, ()))
