"""What is said when a batch has ended: figures, failures with their way out, what to look at and hear, what next."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill, shorten
from typing import TYPE_CHECKING, Any

from trax_ray.cli.display import count
from trax_ray.cli.outlook import format_range
from trax_ray.codes import failure_code
from trax_ray.core.progress import format_duration, format_usd
from trax_ray.report.result import BatchResult
from trax_ray.report.text import one_line
from trax_ray.store.explaining import shown
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
FEWEST_OF_A_TRANSCRIPT = 20
MOST_OF_A_NAME = 48
FIGURE_WIDTH = 8
FIGURES_WIDTH = 3 * FIGURE_WIDTH + 5 * 2
"""Of the three columns with figures, and of what lies between the columns."""

MOST_CODES = 8
MOST_NAMES = 3


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
        _say(line)
    if rows:
        for line in _details(rows, result, wanted):
            _say(line)
    print(f"Transcripts: {shown(result.output_dir)}")
    layout = Layout.of(result.output_dir)
    if not result.report_error:
        print(f"Report: {shown(layout.index_html if exists(layout.index_html) else layout.report)}")
    for line in _next(result):
        print(line)


def _width() -> int:
    """Columns of the terminal; where there is none those that files and pipes get."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PLAIN_WIDTH


def _say(line: str) -> None:
    """Print a line; on a terminal it is broken between words, and goes on a little further in."""
    line = one_line(line)
    if not sys.stdout.isatty() or len(line) < _width():
        print(line)
        return
    indent = line[: len(line) - len(line.lstrip())]
    print(fill(line, _width() - 1, subsequent_indent=f"{indent}  ", break_on_hyphens=False, break_long_words=False))


# The table


def _show_table(rows: Sequence[dict[str, Any]], result: BatchResult) -> None:
    """All recordings where they are few; else those with something to know, failures first."""
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from trax_ray.report.summary import texts

    if len(rows) > WHOLE_TABLE:
        rows = [row for row in rows if row["status"] != "succeeded" or row["warnings"]]
    rows = sorted(rows, key=lambda row: row["status"] != "failed")
    if not rows:
        return
    some = rows[:MOST_ROWS]
    names, states = [one_line(row["file_name"]) for row in some], [one_line(_status(row)) for row in some]
    room = _room(max(map(cell_len, names)), max(map(cell_len, states)), _width() - FIGURES_WIDTH)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("file", width=room.name, overflow="fold")
    for name in ("audio", "took", "accuracy"):
        table.add_column(name, justify="right", width=FIGURE_WIDTH)
    table.add_column("status", width=room.status, overflow="fold")
    if room.transcript:
        table.add_column("transcript", width=room.transcript, overflow="ellipsis", no_wrap=True)
    spoken = texts(result.output_dir, {row["file_id"] for row in some}) if room.transcript else {}
    for row, name, state in zip(some, names, states, strict=True):
        cells: list[str | Text] = [
            Text(name),
            _seconds(row["duration_s"]),
            _seconds(row["processing_s"]),
            _accuracy(row),
            Text(state, style="red" if row["status"] == "failed" else ""),
        ]
        if room.transcript:
            cells.append(Text(shorten(one_line(spoken.get(row["file_id"], "")), room.transcript, placeholder=" ...")))
        table.add_row(*cells)
    Console(width=_width()).print(table)
    if len(rows) > MOST_ROWS:
        print(f"and {len(rows) - MOST_ROWS} more in files.parquet")


@dataclass(frozen=True, slots=True)
class _Room:
    """Widths of the table's columns of text; `transcript` is 0 where nothing is left for it."""

    name: int
    status: int
    transcript: int


def _room(name: int, status: int, given: int) -> _Room:
    """Names and states have what they want as far as there is room for both; transcripts have the rest.

    Args:
        name: Width of the longest name.
        status: Width of the longest state.
        given: What the three share.
    """
    status = max(len("status"), min(status, max(given // 2, given - name)))
    name = max(len("file"), min(name, given - status, MOST_OF_A_NAME))
    left = given - name - status
    return _Room(name, status, min(left, PREVIEW_CHARACTERS) if left >= FEWEST_OF_A_TRANSCRIPT else 0)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s" if value < 60 else format_duration(value)


def _accuracy(row: dict[str, Any]) -> str:
    if row["measured_accuracy"] is not None:
        return f"{row['measured_accuracy']:.1f}%"
    return f"~{row['estimated_accuracy']:.0f}%" if row["estimated_accuracy"] is not None else ""


def _status(row: dict[str, Any]) -> str:
    if row["status"] == "failed":
        return f"failed: {row['code'] or row['failure_class']}"
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
    """Failures by class and code, most first, with the way out, and what the first few said themselves."""
    failed: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["status"] == "failed":
            failed.setdefault((str(row["failure_class"]), str(row["code"] or "")), []).append(row)
    most_first = sorted(failed.items(), key=lambda entry: -len(entry[1]))
    for (failure_class, code), those in most_first[:MOST_CODES]:
        known = failure_code(code)
        way_out = f": {known.meaning}: {known.way_out}" if known is not None else ""
        yield f"Failed: {len(those)} x {code or 'unknown'} ({failure_class}){way_out}"
        yield from (f"  {row['file_name']}: {row['error'] or ''}" for row in those[:MOST_NAMES])
        if len(those) > MOST_NAMES:
            yield f"  and {len(those) - MOST_NAMES} more in errors.log"
    if len(most_first) > MOST_CODES:
        yield f"and {len(most_first) - MOST_CODES} more reasons in errors.log"


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
