"""What is said when a batch has ended: figures, failures with their way out, what to look at and hear, what next."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from trax_ray.cli.display import count
from trax_ray.cli.outlook import format_range
from trax_ray.codes import failure_code
from trax_ray.core.progress import format_duration, format_usd
from trax_ray.report.result import BatchResult
from trax_ray.report.text import one_line
from trax_ray.store.files import shown
from trax_ray.store.layout import Layout
from trax_ray.store.looking import exists

if TYPE_CHECKING:
    from trax_ray.report.summary import KindTimes, Worst

__all__ = ["show_result"]

WHOLE_TABLE = 25
"""Up to so many recordings all of them are shown; of more only those that failed or have a warning."""

MOST_ROWS = 40
PLAIN_WIDTH = 140
PREVIEW_CHARACTERS = 44
MOST_CODES = 8


def show_result(result: BatchResult, file_ids: Sequence[str]) -> None:
    """The summary, on standard output.

    Args:
        result: The end of the batch.
        file_ids: The recordings that it was given.
    """
    from trax_ray.report.summary import summary_rows

    wanted = set(file_ids)
    rows = [] if result.report_error else summary_rows(result.output_dir)
    rows = [row for row in rows if row["file_id"] in wanted]
    _show_table(rows, result)
    for line in _totals(result):
        print(line)
    if rows:
        for line in _details(rows, result, wanted):
            print(one_line(line))
    print(f"Transcripts: {shown(result.output_dir)}")
    layout = Layout.of(result.output_dir)
    if not result.report_error:
        print(f"Report: {shown(layout.index_html if exists(layout.index_html) else layout.report)}")
    for line in _next(result):
        print(line)


def _console() -> Any:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)


# The table


def _show_table(rows: Sequence[dict[str, Any]], result: BatchResult) -> None:
    """All recordings where they are few; else those with something to know, failures first."""
    from rich.table import Table
    from rich.text import Text

    from trax_ray.report.summary import texts

    if len(rows) > WHOLE_TABLE:
        rows = [row for row in rows if row["status"] != "succeeded" or row["warnings"]]
    rows = sorted(rows, key=lambda row: row["status"] != "failed")
    if not rows:
        return
    table = Table(title=None, expand=False)
    for name, justify in (("file", "left"), ("audio", "right"), ("took", "right"), ("accuracy", "right")):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    table.add_column("status", overflow="fold")
    table.add_column("transcript", overflow="ellipsis", no_wrap=True)
    spoken = texts(result.output_dir, {row["file_id"] for row in rows[:MOST_ROWS]})
    for row in rows[:MOST_ROWS]:
        table.add_row(
            Text(one_line(row["file_name"])),
            _seconds(row["duration_s"]),
            _seconds(row["processing_s"]),
            _accuracy(row),
            Text(one_line(_status(row)), style="red" if row["status"] == "failed" else ""),
            Text(shorten(one_line(spoken.get(row["file_id"], "")), PREVIEW_CHARACTERS, placeholder=" ...")),
        )
    _console().print(table)
    if len(rows) > MOST_ROWS:
        print(f"and {len(rows) - MOST_ROWS} more in files.parquet")


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s" if value < 60 else format_duration(value)


def _accuracy(row: dict[str, Any]) -> str:
    if row["measured_accuracy"] is not None:
        return f"{row['measured_accuracy']:.1f}%"
    return f"~{row['estimated_accuracy']:.0f}%" if row["estimated_accuracy"] is not None else ""


def _status(row: dict[str, Any]) -> str:
    if row["status"] == "failed":
        return f"failed ({row['failure_class']}): {row['error'] or ''}"
    return f"{row['status']}, {row['warnings']}" if row["warnings"] else str(row["status"])


# The figures


def _totals(result: BatchResult) -> Iterator[str]:
    metrics = result.quality_metrics
    if not result.memory_peak_mb and result.total_count:
        yield "Nothing was left to do"
    words = [f"{result.success_count} of {result.total_count} succeeded"]
    if result.failure_count:
        words.append(f"{result.failure_count} failed")
    if result.cancelled_count:
        words.append(f"{result.cancelled_count} not done")
    yield ", ".join(words) + f" in {format_duration(result.processing_time)}"
    if result.predicted is not None and result.took_s:
        yield f"Predicted: {format_range(result.predicted)}, took {format_duration(result.took_s)} with its start"
    accuracy = metrics.get("avg_accuracy")
    if accuracy is not None:
        yield f"Accuracy ({metrics['accuracy_source']}): {accuracy:.1f}%"
    enhanced = metrics.get("enhancement")
    if enhanced:
        yield _enhanced(enhanced, metrics)
    if metrics.get("audio_s"):
        speed = f", {metrics['x_realtime']:.1f} x real time" if metrics["x_realtime"] else ""
        yield f"Audio: {format_duration(metrics['audio_s'])}{speed}"
    if result.cost_usd is not None:
        yield f"Cost: {format_usd(result.cost_usd)}"
    if metrics.get("warnings"):
        yield "Warnings: " + ", ".join(f"{name} {number}" for name, number in metrics["warnings"].items())
    if result.memory_peak_mb:
        yield f"Memory peak: {result.memory_peak_mb:.0f} MB, CPU peak: {result.cpu_peak_percent:.0f}%"


def _enhanced(enhanced: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """What enhancement came to: edits, what was refused, and accuracy before and after where there are references."""
    text = f"Enhanced: {count(enhanced['files'], 'file')}, {count(sum(enhanced['edits'].values()), 'edit')}"
    text += f", {sum(enhanced['refused'].values())} refused"
    rate = metrics.get("content_preservation_rate")
    if rate is not None:
        text += f", {rate:.1f}% of segments preserved"
    if enhanced["accuracy_before"] is not None:
        better, worse = enhanced["files_improved"], enhanced["files_worsened"]
        text += f"; accuracy {enhanced['accuracy_before']:.1f}% -> {enhanced['accuracy_after']:.1f}%"
        text += f" ({better} better, {worse} worse, {enhanced['files_unchanged']} the same)"
    return text


def _details(rows: Sequence[dict[str, Any]], result: BatchResult, wanted: set[str]) -> Iterator[str]:
    """Times by kind, failures, what is worth a look and what is worth hearing."""
    from trax_ray.report.summary import kind_times, worst

    for each in kind_times(result.output_dir, wanted):
        yield _times(each)
    yield from _failures(rows)
    found = worst(result.output_dir, rows)
    if found.files and len(rows) > 1:
        yield "Worth a look:"
        yield from (_file(each) for each in found.files)
    names = {row["file_id"]: row["file_name"] for row in rows}
    if found.spots:
        yield "Worth hearing:"
        yield from (_spot(found, number, names) for number in range(len(found.spots)))


def _times(each: KindTimes) -> str:
    return (
        f"{each.kind}: {count(each.count, 'attempt')}, half within {_seconds(each.p50_s)}, "
        f"95 % within {_seconds(each.p95_s)}"
    )


def _failures(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Failures by class and code, most first, with the way out."""
    counted = Counter((str(row["failure_class"]), str(row["code"] or "")) for row in rows if row["status"] == "failed")
    for (failure_class, code), number in counted.most_common(MOST_CODES):
        known = failure_code(code)
        way_out = f": {known.meaning}: {known.way_out}" if known is not None else ""
        yield f"Failed: {number} x {code or 'unknown'} ({failure_class}){way_out}"
    if len(counted) > MOST_CODES:
        yield f"and {len(counted) - MOST_CODES} more reasons in errors.log"


def _file(row: dict[str, Any]) -> str:
    accuracy = _accuracy(row)
    words = f"about {count(max(1, round(row['doubtful_words'])), 'word')} of {row['words'] or 0}"
    return f"  {row['file_name']}: {', '.join(filter(None, (words, accuracy, row['warnings'])))}"


def _spot(found: Worst, number: int, names: dict[str, str]) -> str:
    spot = found.spots[number]
    text = shorten(spot.text, PREVIEW_CHARACTERS, placeholder=" ...")
    said = f': "{text}"' if text else ""
    return (
        f"  {names.get(spot.file_id, spot.file_id)} {_clock(spot.start_s)}-{_clock(spot.end_s)}, "
        f"about {count(max(1, round(spot.words)), 'word')}, {', '.join(spot.reasons)}{said}"
    )


def _clock(seconds: float) -> str:
    """`3:07`, `1:02:30`."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


# What next


def _next(result: BatchResult) -> Iterator[str]:
    """The next command, where one helps; what continues is said on stderr."""
    if result.failure_count and result.reason == "complete":
        again = shlex.join(["trax-ray", "retry-failed", shown(result.output_dir)])
        yield f"Next: mend what failed, then `{again}` and the same command again"
