"""Batches on one cluster, each in a process of its own: who goes first, who gives way, and that nothing is lost."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import ray
from batch_program import Batch, until
from ray.cluster_utils import Cluster

import trax_ray.cluster  # noqa: F401 - Ray's settings, before Ray is used
from trax_ray.core.spec import Limits
from trax_ray.core.task import ResourceRequest
from trax_ray.heads.machine import make_token_private
from trax_ray.report.fold import Attempt
from trax_ray.testing.factories import make_task

pytestmark = pytest.mark.timeout(400)

CORES = 4
WHOLE = ResourceRequest(num_cpus=1.0, memory_mb=256)
GIVES_WAY_S = 60.0
"""What is promised."""


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Four cores on a node without a coordinator: what else this machine does closes none of them."""
    make_token_private()
    nodes = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "memory": 2 * 2**30, "include_dashboard": False}
    )
    nodes.add_node(num_cpus=CORES, memory=4 * 2**30)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture
def batch(cluster: Any, tmp_path: Path) -> Iterator[Callable[..., Batch]]:
    """Makes batches on it."""
    made: list[Batch] = []

    def make(name: str, count: int, *, workers: int = 16, priority: int = 10, **data: Any) -> Batch:
        folder = tmp_path / name
        folder.mkdir()
        limits = Limits(max_workers=workers, memory_limit_mb=8192, cpu_limit_percent=100)
        tasks = [make_task(f"{name}{number:02}", resources=WHOLE, **data) for number in range(count)]
        # With tokens or without them as in this process, in which Ray's nodes were started.
        environ = {"RAY_ADDRESS": cluster.address, "RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "disabled")}
        found = Batch(folder, tasks, environ=environ, limits=limits, batch_priority=priority, name=name)
        made.append(found.__enter__())
        return found

    yield make
    for each in made:
        each.__exit__()


def at_work(batch: Batch) -> int:
    """Attempts that began under the present coordinator and haven't ended."""
    return int(batch.status().get("active", 0))


def overlap(attempts: list[Attempt], begin: float, end: float) -> float:
    """Core-seconds of attempts in a stretch of time."""
    spans = [(each.started_at, each.ended_at or end) for each in attempts if each.started_at]
    return sum(max(0.0, min(until_at, end) - max(began_at, begin)) for began_at, until_at in spans)


def test_a_batch_of_higher_priority_has_all_within_a_minute_and_the_other_comes_back(
    batch: Callable[..., Batch], tmp_path: Path, record: Callable[..., None]
) -> None:
    gate = tmp_path / "gate"
    low = batch("low", 6, script=[[f"hold:{gate}", "commit"]])
    low.start()
    until(lambda: len(low.attempts()) == CORES, what="the batch of lower priority to fill the cluster")
    high = batch("high", CORES, priority=0, sleep_s=8.0, script=["commit"])
    high.start()
    until(high.status, what="its coordinator")
    began_at = time.time()
    until(lambda: "gives way to the batch high (--batch-priority 0)" in low.status().get("limits_reason", ""))
    assert high.wait() == 0, high.stderr
    waited_s = max(each.at for each in high.attempts()) - began_at
    assert waited_s < GIVES_WAY_S
    ended_at = time.time()
    until(lambda: at_work(low) == CORES, what="the other one to come back")
    back_s = time.time() - ended_at
    gate.touch()
    assert low.wait() == 0, low.stderr
    for each, count in ((high, CORES), (low, 6)):
        assert not each.findings().problems
        assert len(each.succeeded()) == count
    history = low.history()
    assert sum(each.outcome == "preempted" for each in history.attempts) == CORES
    assert {task.spent for task in history.state.records.values()} == {0}, "it costs no retry"
    found = f"all {CORES} cores after {waited_s:.0f} s, given back after {back_s:.0f} s; nothing lost, no retry spent"
    record(what="a batch of higher priority comes to a full cluster", runs=1, seeds="", found=found)


def test_equals_share_and_each_keeps_to_its_own_limits(
    batch: Callable[..., Batch], record: Callable[..., None]
) -> None:
    first = batch("first", 40, sleep_s=3.0, script=["commit"])
    first.start()
    until(lambda: len(first.attempts()) >= CORES, what="the first to fill the cluster")
    second = batch("second", 16, sleep_s=3.0, script=["commit"])
    second.start()
    assert second.wait() == 0, second.stderr
    third = batch("third", 3, workers=1, sleep_s=3.0, script=["commit"])
    third.start()
    assert third.wait() == 0, third.stderr
    assert first.wait() == 0, first.stderr
    histories = {each.out.parent.name: each.history() for each in (first, second, third)}
    for each in (first, second, third):
        assert not each.findings().problems
    # From when the second has its half to when its last attempts start.
    attempts = histories["second"].attempts
    starts = sorted(each.started_at for each in attempts)
    stretch = (starts[2], starts[-2])
    of_first, of_second = (overlap(histories[name].attempts, *stretch) for name in ("first", "second"))
    assert 0.75 < of_second / of_first < 1.35, (of_first, of_second)
    runs = sorted((each.started_at, each.ended_at or 0.0) for each in histories["third"].attempts)
    assert all(ended <= began for (_, ended), (began, _) in pairwise(runs)), "one worker"
    assert not any(each.outcome == "preempted" for found in histories.values() for each in found.attempts)
    found = (
        f"while both had work: {of_second / (of_first + of_second):.0%} of the core time for the one that came later"
    )
    record(what="three batches of the same priority on four cores", runs=1, seeds="", found=found)


def test_what_a_killed_batch_wanted_lapses(
    batch: Callable[..., Batch], tmp_path: Path, record: Callable[..., None]
) -> None:
    gate = tmp_path / "gate"
    high = batch("high", CORES, priority=0, script=[[f"hold:{gate}", "commit"]])
    high.start()
    until(lambda: len(high.attempts()) == CORES, what="the batch of higher priority to fill the cluster")
    low = batch("low", CORES, script=["commit"])
    low.start()
    until(lambda: "gives way" in low.status().get("limits_reason", ""), what="the other one to give way")
    assert low.attempts() == [], "not one, and none waits in Ray before those of the first"
    high.kill(high.victims("driver"))
    high.wait()
    killed_at = time.time()
    assert low.wait() == 0, low.stderr
    waited_s = time.time() - killed_at
    gate.touch()
    assert high.run() == 0, high.stderr
    for each in (low, high):
        assert not each.findings().problems
        assert len(each.succeeded()) == CORES
    found = f"the other one ended {waited_s:.0f} s later; the killed one went on"
    record(what="kill -9 of a batch to which another one gives way", runs=1, seeds="", found=found)
