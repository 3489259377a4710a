"""The board of a running batch, at the widths and on the terminals that people have."""

from __future__ import annotations

import io
import sys
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from trax_ray.cli import display
from trax_ray.cli.board import board_of
from trax_ray.core.progress import BatchProgress, Phase

PROGRESS = BatchProgress(
    total_tasks=120,
    completed_tasks=45,
    failed_tasks=2,
    active_workers=10,
    memory_usage_mb=790.3,
    cpu_usage_percent=87.2,
    elapsed_s=134.0,
    estimated_remaining_s=190.0,
    remaining_low_s=160.0,
    remaining_high_s=245.0,
    quality_metrics={"x_realtime": 14.24},
    queued_tasks=63,
    phase=Phase.RUNNING,
    slots=2,
    limits_reason="other programs take 63 % of node 2040f53d",
    cost_usd=0.1234,
    max_cost_usd=5.0,
    memory_limit_mb=2048.0,
    cpu_limit_percent=90.0,
    kinds={
        "transcribe": {"total": 120, "ended": 47, "failed": 2, "running": 1},
        "request": {"total": 300, "ended": 100, "failed": 0, "running": 8},
    },
    workers=[
        {"name": "talks/" + "long " * 30 + ".mp3", "step": "transcribe", "fraction": 0.45, "seconds": 12.3},
        {"name": "会议记录.mp3", "step": "request", "fraction": 0.0, "seconds": 1.0},
    ],
    services={"openai": "limited: the next request in 12 s"},
    saves_until=1.8e9,
    parked={"deepseek": "the key is refused"},
    last_failures=[{"name": "x\x1b[31m.wav", "step": "transcribe", "code": "not_decodable", "error": "no\naudio"}],
)


def shown(progress: BatchProgress, width: int, *, colour: bool = True) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, no_color=not colour, color_system="standard")
    console.print(display.drawn(board_of(progress)))
    return file.getvalue()


def plain(text: str) -> list[str]:
    return [Text.from_ansi(line).plain for line in text.splitlines()]


@pytest.mark.parametrize("width", [40, 80, 120, 200])
@pytest.mark.parametrize("colour", [True, False])
def test_no_line_is_broken_or_too_long_at_any_width(width: int, colour: bool) -> None:
    lines = plain(shown(PROGRESS, width, colour=colour))
    assert len(lines) == 13
    assert all(cell_len(line) <= width for line in lines)
    assert lines[0].startswith("running 2m14s · ETA 3m10s")


def test_it_says_what_one_wants_to_know() -> None:
    text = "\n".join(plain(shown(PROGRESS, 200)))
    for words in (
        "ETA 3m10s (2m40s to 4m05s) · 14.2 x real time · $0.1234 of $5.00",
        "47/120, 2 failed",
        "100/300, 8 running",
        "memory 790 of 2048 MB · CPU 87 % (limit 90 %) · 10 active, room for 2 on cores · 63 waiting",
        "and 8 more running",
        "openai: limited: the next request in 12 s",
        "enhancement waits for the provider's cheap hours, until 2027-01-15 ",
        "deepseek is parked: the key is refused",
        r"failed: x\x1b[31m.wav (transcribe): not_decodable: no\naudio",
    ):
        assert words in text, words
    assert "\x1b" not in text


def test_without_colour_a_bar_shows_how_full_it_is() -> None:
    text = shown(PROGRESS, 80, colour=False)
    bar = next(line for line in text.splitlines() if line.startswith("files"))
    assert 0 < bar.count("━") < 20


def test_one_task_a_file_needs_no_bar_of_its_own_and_what_ended_has_no_eta() -> None:
    kinds = {"transcribe": {"total": 120, "ended": 120, "failed": 0, "running": 0}}
    ended = replace(PROGRESS, kinds=kinds, phase=Phase.COMPLETE, completed_tasks=120, failed_tasks=0)
    board = board_of(ended)
    assert [bar.label for bar in board.bars] == ["files"]
    assert "ETA" not in board.headline
    assert board_of(BatchProgress()).bars[0].share == 0.0


@pytest.mark.parametrize(("terminal", "term", "kind"), [
    (True, "xterm-256color", display.LiveDisplay),
    (True, "dumb", display.LineDisplay),
    (False, "xterm-256color", display.LineDisplay),
])  # fmt: skip
def test_lines_where_nothing_can_be_drawn_in_place(
    terminal: bool, term: str, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    assert type(display.make_display()) is kind
