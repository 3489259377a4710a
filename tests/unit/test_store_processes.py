"""Processes as they are noted: that nobody else is taken for one of them, whatever happens to the clock."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from trax_ray.store import processes


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    yield
    processes.machine.cache_clear()
    processes._boot.cache_clear()


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without /proc."""
    processes.machine.cache_clear()
    processes._boot.cache_clear()
    monkeypatch.setattr(processes, "BOOT_ID", tmp_path / "gone")
    monkeypatch.setattr(processes, "_stat", lambda pid: ("", ""))


def test_a_process_is_found_by_its_mark_and_no_other_is() -> None:
    pid = os.getpid()
    mark = processes.mark_of(pid)
    assert processes.find(pid, mark) == psutil.Process()
    for other in (f"1{mark}", mark.replace(" ", " 0"), "", processes.mark_of(os.getppid())):
        assert processes.find(pid, other) is None


def test_the_mark_of_a_process_that_is_gone_is_none() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    mark = processes.mark_of(process.pid)
    process.wait()
    assert mark
    assert processes.mark_of(process.pid) == ""
    assert processes.find(process.pid, mark) is None
    assert processes.find(2**40, mark) is None


def test_the_mark_does_not_follow_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    before = processes.mark_of(os.getpid())
    began_at = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: began_at(self) + 1.5)
    assert processes.mark_of(os.getpid()) == before


@pytest.mark.usefixtures("nowhere")
def test_where_the_kernel_tells_nothing_the_time_of_day_has_to_do() -> None:
    mark = processes.mark_of(os.getpid())
    assert float(mark) == pytest.approx(psutil.Process().create_time(), abs=0.01)
    assert processes.find(os.getpid(), mark) is not None
    assert processes.started_ticks(os.getpid()) is None
    assert processes.machine() == socket.gethostname()


def test_where_a_process_number_means_something() -> None:
    assert processes.machine() == processes.machine()
