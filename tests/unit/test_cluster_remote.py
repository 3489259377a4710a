"""What a process says of itself, and what a node's load is."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence

import psutil
import pytest

from trax_ray.cluster import remote, sampling
from trax_ray.cluster.sampling import Sampler
from trax_ray.core.task import BatchTask, Outcome, ResourceRequest
from trax_ray.kinds.assignment import Assignment, Progress
from trax_ray.testing.factories import make_spec, make_task


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


COMPUTES = make_task()
FETCHES = make_task(resources=ResourceRequest(num_cpus=0.0), asks=True)


def play(
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    task: BatchTask = COMPUTES,
    told: Sequence[Progress] = (Progress(0.5),),
) -> list[dict[str, object]]:
    """What the coordinator hears of an attempt that tells of itself so, after so long each."""
    monkeypatch.setattr(remote, "assignment_of", lambda _: Assignment(make_spec("/out"), task))
    monkeypatch.setattr(remote, "make_attempt", lambda _: iter([*told, Outcome(artifact_key="k")]))
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


def test_one_that_waits_for_a_host_is_there_when_it_answers_and_lets_others_go_first_once_it_computes(
    nicer: list[int], careful_looks: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    play(monkeypatch, 3600.0, FETCHES)
    assert nicer == []
    play(monkeypatch, 3600.0, COMPUTES)
    assert nicer == [remote.NICENESS]


def test_that_the_work_of_one_that_needs_no_core_begins_is_told_at_once(
    careful_looks: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    loads, works = Progress(loading=True), Progress(0.5)
    *told, _ = play(monkeypatch, 3600.0, FETCHES, [loads, loads, works, works])
    assert [(each["loading"], each["fraction"]) for each in told] == [(True, 0.0), (False, 0.5)]
    *told, _ = play(monkeypatch, 0.0, FETCHES, [loads, works])
    assert [each["loading"] for each in told] == [True, True, False]
    *told, _ = play(monkeypatch, 3600.0, COMPUTES, [works])
    assert [each["loading"] for each in told] == [False], "it has a core for that"


@pytest.fixture
def busy() -> Iterator[psutil.Process]:
    """A process that computes."""
    process = psutil.Popen([sys.executable, "-c", "while True: pass"])
    yield process
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
        process.wait()


@pytest.fixture
def quiet() -> Iterator[psutil.Process]:
    """A process that does nothing: the driver of a batch that waits."""
    process = psutil.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def test_what_another_batch_takes_of_a_node_is_no_foreign_load(
    monkeypatch: pytest.MonkeyPatch, busy: psutil.Process, quiet: psutil.Process
) -> None:
    now = [100.0]
    monkeypatch.setattr(sampling.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(psutil, "cpu_percent", lambda _: 60.0)
    nodes = {"here": {"CPU": 2.0}, "there": {"CPU": 4.0}}
    told, untold = Sampler("here", [quiet.pid]), Sampler("here", [quiet.pid])

    def foreign() -> tuple[float, float]:
        found = [told.measure(nodes, [], [busy.pid]), untold.measure(nodes, [])]
        return tuple(each.sample.nodes[0].foreign_cpu_percent for each in found)  # type: ignore[return-value]

    def works(seconds: float) -> None:
        until = busy.cpu_times().user + seconds
        while busy.cpu_times().user < until:
            pass

    works(0.3)
    now[0] += 1.0
    first = foreign()
    assert first[0] == first[1], "what it has done before counts for nothing"
    works(0.3)
    now[0] += 1.0
    second = foreign()
    assert second[0] < second[1]
    busy.kill()
    busy.wait()
    now[0] += 1.0
    assert foreign()[0] < foreign()[1], "it is gone, and nobody minds"
