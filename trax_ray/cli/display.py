"""What a person sees: progress on stderr, the summary on stdout."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any

from trax_ray.core.progress import BatchProgress, format_duration, format_progress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress


__all__ = [
    "LineDisplay",
    "LiveDisplay",
    "NoDisplay",
    "count",
    "make_display",
    "say",
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
