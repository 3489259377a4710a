"""What a person sees: progress on stderr, the summary on stdout."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from types import TracebackType
from typing import TYPE_CHECKING, Any

from trax_ray.core.progress import BatchProgress, format_duration, format_progress
from trax_ray.report.result import BatchResult
from trax_ray.store.files import shown
from trax_ray.store.layout import Layout

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress


__all__ = [
    "LineDisplay",
    "LiveDisplay",
    "NoDisplay",
    "count",
    "make_display",
    "say",
    "show_result",
]

MAX_ROWS = 40
PLAIN_WIDTH = 140
PREVIEW_CHARACTERS = 44


class NoDisplay:
    """Shows nothing."""

    def __enter__(self) -> NoDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Show no more, and leave room for what is printed now. May be called twice."""

    def update(self, progress: BatchProgress) -> None:
        """Take the newest figures."""

    def note(self, text: str) -> None:
        """Say something beside the progress."""


class LineDisplay(NoDisplay):
    """The founding progress line, one per report, where nobody watches a terminal."""

    def update(self, progress: BatchProgress) -> None:
        """Print the line."""
        say(format_progress(progress))

    def note(self, text: str) -> None:
        """Print it."""
        say(text)


class LiveDisplay(NoDisplay):
    """One bar that moves, on a terminal; its last state stays.

    Args:
        doing: What it says before the first figures come.
    """

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._bar: RichProgress | None = None
        self._task: Any = None

    def __enter__(self) -> LiveDisplay:
        from rich.console import Console
        from rich.progress import BarColumn, SpinnerColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            SpinnerColumn(),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.description}"),
            console=Console(stderr=True),
            expand=True,
        )
        self._bar.start()
        self._task = self._bar.add_task(self._doing, total=1)
        return self

    def end(self) -> None:
        """Stop the bar; its last state stays."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.stop()

    def update(self, progress: BatchProgress) -> None:
        """Move the bar."""
        if self._bar is None:
            return
        ended = progress.completed_tasks + progress.failed_tasks
        remaining = progress.estimated_remaining_s
        words = [
            f"active {progress.active_workers}",
            f"failed {progress.failed_tasks}",
            f"{progress.memory_usage_mb:.0f} MB",
            f"CPU {progress.cpu_usage_percent:.0f}%",
            f"ETA {'--' if remaining is None else format_duration(remaining)}",
        ]
        if progress.paused:
            words.insert(0, "paused")
        self._bar.update(self._task, total=max(1, progress.total_tasks), completed=ended, description=" · ".join(words))

    def note(self, text: str) -> None:
        """Print it above the bar."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)


def make_display(doing: str = "starting Ray") -> NoDisplay:
    """The live bar where stderr is a terminal, else lines.

    Args:
        doing: What the bar says before the first figures come.
    """
    return LiveDisplay(doing) if sys.stderr.isatty() else LineDisplay()


def count(number: int, one: str, more: str = "") -> str:
    """`1 recording`, `2 recordings`; `more` is the plural where it isn't `one` with an s."""
    return f"{number} {one if number == 1 else more or f'{one}s'}"


def say(text: str) -> None:
    """One line on stderr."""
    print(text, file=sys.stderr, flush=True)


def show_result(result: BatchResult, file_ids: Sequence[str]) -> None:
    """The summary: a table of files, the figures of the batch, and where everything is."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from trax_ray.report.summary import summary_rows, texts
    from trax_ray.report.text import one_line

    wanted = set(file_ids)
    rows = [] if result.report_error else summary_rows(result.output_dir)
    rows = [row for row in rows if row["file_id"] in wanted]
    # Failures first, and no more rows than one wants to read; the table on disk has them all.
    rows.sort(key=lambda row: row["status"] != "failed")
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    table = Table(title=None, expand=False)
    for name, justify in (("file", "left"), ("audio", "right"), ("took", "right"), ("accuracy", "right")):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    table.add_column("status", overflow="fold")
    table.add_column("transcript")
    shown_ids = {row["file_id"] for row in rows[:MAX_ROWS]}
    spoken = texts(result.output_dir, shown_ids) if shown_ids else {}
    for row in rows[:MAX_ROWS]:
        table.add_row(
            Text(one_line(row["file_name"])),
            _seconds(row["duration_s"]),
            _seconds(row["processing_s"]),
            _accuracy(row),
            Text(one_line(_status(row))),
            Text(shorten(one_line(spoken.get(row["file_id"], "")), PREVIEW_CHARACTERS, placeholder=" ...")),
        )
    if rows:
        console.print(table)
    if len(rows) > MAX_ROWS:
        print(f"and {len(rows) - MAX_ROWS} more in files.parquet")
    _print_totals(result)


def _print_totals(result: BatchResult) -> None:
    metrics = result.quality_metrics
    if not result.memory_peak_mb and result.total_count:
        print("Nothing was left to do")
    words = [f"{result.success_count} of {result.total_count} succeeded"]
    if result.failure_count:
        words.append(f"{result.failure_count} failed")
    if result.cancelled_count:
        words.append(f"{result.cancelled_count} not done")
    print(", ".join(words) + f" in {format_duration(result.processing_time)}")
    accuracy = metrics.get("avg_accuracy")
    if accuracy is not None:
        print(f"Accuracy ({metrics['accuracy_source']}): {accuracy:.1f}%")
    if metrics.get("audio_s"):
        speed = f", {metrics['x_realtime']:.1f} x real time" if metrics["x_realtime"] else ""
        print(f"Audio: {format_duration(metrics['audio_s'])}{speed}")
    if result.cost_usd is not None:
        print(f"Cost: ${result.cost_usd:.2f}" if result.cost_usd >= 1 else f"Cost: ${result.cost_usd:.4f}")
    if metrics.get("warnings"):
        print("Warnings: " + ", ".join(f"{name} {count}" for name, count in metrics["warnings"].items()))
    if result.memory_peak_mb:
        print(f"Memory peak: {result.memory_peak_mb:.0f} MB, CPU peak: {result.cpu_peak_percent:.0f}%")
    print(f"Transcripts: {shown(result.output_dir)}")
    if not result.report_error:
        print(f"Report: {shown(Layout(Path(result.output_dir)).report)}")


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
