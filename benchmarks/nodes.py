"""A batch on several nodes: how much of them it uses, and what its coordinator pays for a task.

Nodes are raylets of their own on this machine (`ray.cluster_utils.Cluster`), and tasks sleep, so that cores are no
limit: what is measured is whether the coordinator keeps all slots busy. It runs on a node that has none.

1. Tasks a second on 1, 2 and 4 nodes of 8 slots, with tasks of 2 s: efficiency is tasks a second on n nodes over n
   times those on one. Counted from when all slots have been filled twice to when the queue is empty.
2. Processor time of the coordinator for a task, on as many nodes as are asked for, with one slot each, and tasks of
   half a second. From it follows how many tasks a second one coordinator can start, on however many nodes.
3. The same with 512 calls in flight, which eight lanes carry.

    .venv/bin/python benchmarks/nodes.py [--nodes 1 2 4] [--many 24] [--calls 512]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as parquet

import trax_ray.cluster  # noqa: F401 - Ray's settings, before Ray is used
from trax_ray.core.spec import BatchSpec, Limits
from trax_ray.core.task import BatchTask, ResourceRequest, TaskType
from trax_ray.heads.machine import make_token_private
from trax_ray.processor import BatchProcessor
from trax_ray.testing.scripted import SCRIPTED, SCRIPTED_CALL

SLOTS, SLEEP_S, ROUNDS = 8, 2.0, 10
SHORT_S, SHORT_ROUNDS = 0.5, 30
CALLS_ROUNDS = 10
MEMORY_MB = 256
LOOK_S = 0.1


@dataclass(frozen=True)
class Measured:
    """What a run came to.

    Args:
        tasks_per_s: While all slots could be busy.
        cpu_ms: Processor time of the coordinator for a task, ms.
        load: Of the coordinator's core at that.
    """

    tasks_per_s: float
    cpu_ms: float
    load: float


@contextlib.contextmanager
def cluster(nodes: int, slots: int) -> Iterator[str]:
    """Nodes with so many slots each, beside a head that has none; gives their address."""
    import ray
    from ray.cluster_utils import Cluster

    make_token_private()
    small: dict[str, Any] = {"object_store_memory": 80 * 2**20}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
    try:
        for _ in range(nodes):
            made.add_node(num_cpus=slots, memory=slots * MEMORY_MB * 2**20, wait=False, **small)
        made.wait_for_nodes(timeout=600)
        yield str(made.address)
    finally:
        ray.shutdown()
        made.shutdown()


class Watch(threading.Thread):
    """Looks at a running batch from outside: how many of its tasks have ended, and what its coordinator has used."""

    def __init__(self, out: Path) -> None:
        super().__init__(daemon=True)
        self._status = out / ".trax" / "status.json"
        self._over = threading.Event()
        self.seen: list[tuple[float, int, float]] = []

    def run(self) -> None:
        while not self._over.wait(LOOK_S):
            with contextlib.suppress(OSError, ValueError, KeyError, psutil.Error):
                status = json.loads(self._status.read_text())
                times = psutil.Process(status["pid"]).cpu_times()
                self.seen.append((time.time(), int(status["succeeded"]), times.user + times.system))

    def end(self) -> None:
        self._over.set()
        self.join()

    def cpu_of(self, begin: float, end: float) -> tuple[float, float]:
        """Processor seconds of the coordinator between two moments, and the seconds that were really looked at."""
        within = [(at, cpu_s) for at, _, cpu_s in self.seen if begin <= at <= end]
        if len(within) < 2:
            raise SystemExit("too short to measure: give more tasks")
        return within[-1][1] - within[0][1], within[-1][0] - within[0][0]


def measure(address: str, slots: int, sleep_s: float, rounds: int, *, shared: bool = False) -> Measured:
    """Run a batch of tasks that sleep, as many rounds of them as are said."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        limits = Limits(max_workers=slots, memory_limit_mb=10**6, cpu_limit_percent=100, queue_size=10_000)
        spec = BatchSpec(name, model="none", runner=SCRIPTED, caller=SCRIPTED_CALL, limits=limits)
        request = ResourceRequest(1.0, MEMORY_MB)
        tasks = [
            BatchTask(
                f"{at}",
                TaskType.TRANSCRIBE,
                {"sleep_s": sleep_s, "script": ["ok"]},
                resources=request,
                shared=shared,
                provider="scripted",
            )
            for at in range(slots * rounds)
        ]
        processor = BatchProcessor(spec, address=address)
        processor.feed(tasks)
        watch = Watch(out)
        watch.start()
        result = asyncio.run(processor.start())
        watch.end()
        assert result.success_count == len(tasks), result
        columns = ["started_at", "ended_at"]
        attempts = parquet.read_table(out / "report" / "attempts.parquet", columns=columns).to_pydict()
    ends = sorted(moment.timestamp() for moment in attempts["ended_at"])
    starts = sorted(moment.timestamp() for moment in attempts["started_at"])
    begin, end = ends[2 * slots - 1], starts[-1]
    count = sum(begin < each <= end for each in ends)
    cpu_s, looked_s = watch.cpu_of(begin, end)
    rate = count / (end - begin)
    return Measured(rate, 1000 * cpu_s / looked_s / rate, cpu_s / looked_s)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--many", type=int, nargs="*", default=[4, 24])
    parser.add_argument("--calls", type=int, nargs="*", default=[64, 512])
    given = parser.parse_args()
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"machine: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, load {load}")
    first: float | None = None
    for nodes in given.nodes:
        with cluster(nodes, SLOTS) as address:
            found = measure(address, nodes * SLOTS, SLEEP_S, ROUNDS)
        first = first or found.tasks_per_s / nodes
        ideal = nodes * SLOTS / SLEEP_S
        print(
            f"{nodes} nodes of {SLOTS} slots, tasks of {SLEEP_S:g} s: {found.tasks_per_s:.2f} tasks/s of {ideal:.0f} "
            f"that there could be, efficiency {found.tasks_per_s / nodes / first:.3f}; coordinator {found.cpu_ms:.1f} "
            "ms a task",
            flush=True,
        )
    for nodes in given.many:
        with cluster(nodes, 1) as address:
            found = measure(address, nodes, SHORT_S, SHORT_ROUNDS)
        print(
            f"{nodes} nodes of one slot, tasks of {SHORT_S:g} s: {found.tasks_per_s:.1f} tasks/s, coordinator "
            f"{found.cpu_ms:.2f} ms a task, {found.load:.0%} of a core: at most {1000 / found.cpu_ms:.0f} tasks/s",
            flush=True,
        )
    for calls in given.calls:
        with cluster(1, 1) as address:
            found = measure(address, calls, SLEEP_S, CALLS_ROUNDS, shared=True)
        print(
            f"{calls} calls of {SLEEP_S:g} s in flight: {found.tasks_per_s:.1f} calls/s, coordinator "
            f"{found.cpu_ms:.2f} ms a call: at most {1000 / found.cpu_ms:.0f} calls/s",
            flush=True,
        )


if __name__ == "__main__":
    main()
