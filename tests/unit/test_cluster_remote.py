"""What a process says of itself."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest

from trax_ray.cluster import remote
from trax_ray.core.task import Outcome
from trax_ray.kinds.assignment import Progress


@pytest.fixture(autouse=True)
def nicer(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """By how much this process would have become nicer, each time."""
    steps: list[int] = []
    monkeypatch.setattr(remote.os, "nice", steps.append)
    remote.be_nice.cache_clear()
    yield steps
    remote.be_nice.cache_clear()


@pytest.fixture
def careful_looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[None]]:
    """An entry for each time that somebody reads what takes milliseconds; a process that nobody asked before."""

    class Context:
        def get_node_id(self) -> str:
            return "node"

    looks: list[None] = []
    careful = psutil.Process.memory_full_info
    monkeypatch.setattr(psutil.Process, "memory_full_info", lambda self: looks.append(None) or careful(self))
    monkeypatch.setattr(remote.ray, "get_runtime_context", Context)
    remote._this_process.cache_clear()
    yield looks
    remote._this_process.cache_clear()


def play(monkeypatch: pytest.MonkeyPatch, seconds: float) -> list[dict[str, object]]:
    """What the coordinator hears of an attempt that tells of itself once, after so long."""
    monkeypatch.setattr(remote, "assignment_of", lambda packed: packed)
    monkeypatch.setattr(remote, "make_attempt", lambda _: iter([Progress(0.5), Outcome(artifact_key="k")]))
    monkeypatch.setattr(remote, "PROGRESS_PERIOD_S", seconds)
    return list(remote._stream({}, {}))


def test_a_task_that_is_soon_through_never_reads_what_its_process_shares(
    careful_looks: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = play(monkeypatch, 3600.0)
    assert careful_looks == []
    assert first["memory_mb"] == pytest.approx(psutil.Process().memory_info().rss / 2**20, rel=0.2)
    assert "outcome" in last


def test_one_that_goes_on_does(careful_looks: list[None], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, _ = play(monkeypatch, 0.0)
    assert len(careful_looks) == 1
    assert {name: first[name] for name in ("pid", "mark", "node_id")} == {
        name: second[name] for name in ("pid", "mark", "node_id")
    }
    assert second["fraction"] == 0.5


def test_a_process_that_computes_lets_others_go_first_and_is_told_once(
    nicer: list[int], careful_looks: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        play(monkeypatch, 3600.0)
    assert nicer == [remote.NICENESS]
    remote.be_nice.cache_clear()
    play(monkeypatch, 3600.0)
    assert nicer == [remote.NICENESS] * 2
