"""What a person sees: progress on stderr, the summary on stdout."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING

from trax_ray.core.progress import BatchProgress, format_progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType
    from rich.live import Live

    from trax_ray.cli.board import Bar, Board

__all__ = [
    "LineDisplay",
    "LiveDisplay",
    "NoDisplay",
    "count",
    "drawn",
    "make_display",
    "say",
]

DUMB = ("", "dumb", "unknown")
"""Terminals that can't move their cursor."""


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
    """A board that is drawn in place, on a terminal; its last state stays.

    Args:
        doing: What it says before the first figures come.
    """

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._live: Live | None = None

    def __enter__(self) -> LiveDisplay:
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner

        # What doesn't fit is cut off below: a screen that scrolls can't be drawn in place.
        self._live = Live(
            Spinner("dots", self._doing), console=Console(stderr=True), refresh_per_second=4, vertical_overflow="crop"
        )
        self._live.start()
        return self

    def end(self) -> None:
        """Draw it for the last time; it stays."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def update(self, progress: BatchProgress) -> None:
        """Draw the newest figures."""
        if self._live is not None:
            from trax_ray.cli.board import board_of

            self._live.update(drawn(board_of(progress)))

    def note(self, text: str) -> None:
        """Print it above the board."""
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)


def drawn(board: Board) -> RenderableType:
    """A board for a terminal of any width: lines are cut, never broken."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    def line(text: str, style: str = "") -> Text:
        return Text(text, style=style, no_wrap=True, overflow="ellipsis")

    def bars(rows: Sequence[Bar], style: str) -> Table:
        grid = Table.grid(padding=(0, 1), expand=True)
        grid.add_column(ratio=3, no_wrap=True, overflow="ellipsis")
        grid.add_column(ratio=4, min_width=8)
        grid.add_column(ratio=3, no_wrap=True, overflow="ellipsis")
        for each in rows:
            bar = ProgressBar(total=1.0, completed=each.share, complete_style=style, finished_style=style)
            grid.add_row(line(each.label), bar, line(each.note))
        return grid

    parts: list[RenderableType] = [line(board.headline, "bold"), bars(board.bars, "green"), line(board.machine)]
    if board.workers:
        parts.append(bars(board.workers, "cyan"))
    if board.more_workers and board.workers:
        parts.append(line(f"and {board.more_workers} more running"))
    parts += [line(each.text, "red" if each.bad else "yellow") for each in board.lines]
    return Group(*parts)


def make_display(doing: str = "starting Ray") -> NoDisplay:
    """The live board where stderr is a terminal that can draw in place, else lines.

    Args:
        doing: What the board says before the first figures come.
    """
    return LiveDisplay(doing) if sys.stderr.isatty() and os.environ.get("TERM", "") not in DUMB else LineDisplay()


def count(number: int, one: str, more: str = "") -> str:
    """`1 recording`, `2 recordings`; `more` is the plural where it isn't `one` with an s."""
    return f"{number} {one if number == 1 else more or f'{one}s'}"


def say(text: str) -> None:
    """One line on stderr."""
    print(text, file=sys.stderr, flush=True)
