"""Progress for `BatchProcessor.start`: drawn in place in a notebook, as on the command line elsewhere.

result = await processor.start(progress_callback=trax_ray.show_progress())
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from html import escape
from typing import Any

from trax_ray.cli.board import ENDED, Bar, Board, board_of
from trax_ray.cli.display import NoDisplay, make_display
from trax_ray.core.progress import BatchProgress, format_progress

__all__ = ["NotebookDisplay", "show_progress"]


def show_progress() -> Callable[[BatchProgress], None]:
    """Show the progress of one batch: in a notebook in place, on a terminal as a board, elsewhere as lines.

    Returns:
        A `progress_callback` for one call of `BatchProcessor.start`.
    """
    screen = NotebookDisplay() if in_notebook() else make_display()
    opened = False

    def show(progress: BatchProgress) -> None:
        nonlocal opened
        if not opened:
            screen.__enter__()
            opened = True
        screen.update(progress)
        if progress.phase in ENDED:
            screen.end()

    return show


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook. One that isn't has no IPython loaded."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in getattr(shell, "config", {})


class NotebookDisplay(NoDisplay):
    """The board as HTML in a cell's output, drawn in place. It needs no widgets; its last state stays with the cell."""

    def __init__(self) -> None:
        self._handle: Any = None

    def update(self, progress: BatchProgress) -> None:
        """Draw the newest figures."""
        from IPython.display import display

        shown = {"text/html": as_html(board_of(progress)), "text/plain": format_progress(progress)}
        if self._handle is None:
            self._handle = display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)


def as_html(board: Board) -> str:
    """A board as HTML without scripts; all that comes from names and messages is escaped."""
    rows = "".join(_rows(board.bars)) + "".join(_rows(board.workers))
    more = f"<div>and {board.more_workers} more running</div>" if board.more_workers and board.workers else ""
    lines = "".join(
        f'<div style="{"color:#b00020" if each.bad else "opacity:.75"}">{escape(each.text)}</div>'
        for each in board.lines
    )
    return (
        f"<div><b>{escape(board.headline)}</b><table>{rows}</table>"
        f"<div>{escape(board.machine)}</div>{more}{lines}</div>"
    )


def _rows(bars: tuple[Bar, ...]) -> Iterator[str]:
    for each in bars:
        bar = f'<progress max="1" value="{each.share:.3f}" aria-label="{escape(each.label)}"></progress>'
        yield (
            f'<tr><td style="text-align:left">{escape(each.label)}</td><td>{bar}</td>'
            f'<td style="text-align:left">{escape(each.note)}</td></tr>'
        )
