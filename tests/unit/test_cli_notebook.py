"""Progress in a notebook: a cell's output that is drawn in place, whatever names hold."""

from __future__ import annotations

import sys
from typing import Any

import pytest

import trax_ray
from trax_ray.cli import notebook
from trax_ray.cli.board import board_of
from trax_ray.core.progress import BatchProgress, Phase

RUNNING = BatchProgress(
    total_tasks=4,
    completed_tasks=1,
    phase=Phase.RUNNING,
    workers=[{"name": "<script>alert(1)</script>.mp3", "step": "transcribe", "fraction": 0.5, "seconds": 3.0}],
    last_failures=[{"name": "a<b.wav", "step": "transcribe", "code": "not_decodable", "error": '"&'}],
)


def test_names_are_inert() -> None:
    html = notebook.as_html(board_of(RUNNING))
    assert "<script" not in html
    assert "a&lt;b.wav" in html
    assert html.count("<progress ") == 2
    assert 'value="0.250"' in html


def test_elsewhere_it_is_what_the_command_line_shows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    show = trax_ray.show_progress()
    show(RUNNING)
    assert capsys.readouterr().err.startswith("Progress: 1/4 (25.0% success)")


def test_in_a_kernel_one_output_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """IPython's own display, of a shell that isn't a kernel; the whole is run in tests/notebooks."""
    pytest.importorskip("IPython", reason="needs the extra `notebooks`")
    from IPython.core import display_functions

    told: list[dict[str, Any]] = []
    monkeypatch.setattr(display_functions, "publish_display_data", lambda **message: told.append(message))
    monkeypatch.setattr("IPython.core.interactiveshell.InteractiveShell.initialized", lambda: True)
    monkeypatch.setattr(notebook, "in_notebook", lambda: True)
    show = notebook.show_progress()
    show(RUNNING)
    show(BatchProgress(total_tasks=4, completed_tasks=4, phase=Phase.COMPLETE))
    assert [message.get("update", False) for message in told] == [False, True]
    assert len({message["transient"]["display_id"] for message in told}) == 1
    assert told[0]["data"]["text/plain"].startswith("Progress: 1/4")
    assert "complete" in told[1]["data"]["text/html"]


def test_a_process_without_ipython_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", None)
    assert not notebook.in_notebook()
