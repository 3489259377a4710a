"""Tiny tasks through a batch, against the same number of raw Ray tasks that do nothing, with the same window.

What a batch costs beside the work itself: its coordinator's turns, its journal (one fsync for a turn), signs of life
and small results. Both ways ask for a quarter of a core a task, on one local Ray head, with so many under way at the
same time; both make some tasks first that don't count, while worker processes start. They take turns, because other
programs' load changes.

    .venv/bin/python benchmarks/tasks.py [--tasks 2000] [--window 8] [--rounds 2]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as parquet
import ray

from trax_ray.cluster.connect import connect, disconnect
from trax_ray.core.spec import BatchSpec, Limits
from trax_ray.core.task import BatchTask, Outcome, ResourceRequest, TaskType
from trax_ray.kinds.assignment import Assignment, Progress
from trax_ray.processor import BatchProcessor

CPUS = 0.25
MEMORY_MB = 256
UNCOUNTED = 200


def run(assignment: Assignment) -> Iterator[Progress | Outcome]:
    """What `BatchSpec.runner` names: an attempt that does nothing."""
    yield Outcome(artifact_key=assignment.task.id)


def by_raw_ray(count: int, window: int) -> float:
    """Milliseconds a task."""

    @ray.remote(num_cpus=CPUS, memory=MEMORY_MB * 2**20, max_retries=0)
    def nothing(number: int) -> int:
        return number

    began, ended = 0.0, 0
    under_way = [nothing.remote(number) for number in range(window)]
    started = len(under_way)
    while under_way:
        ready, under_way = ray.wait(under_way, num_returns=1)
        ray.get(ready)
        ended += 1
        if ended == UNCOUNTED:
            began = time.perf_counter()
        if started < count + UNCOUNTED:
            under_way.append(nothing.remote(started))
            started += 1
    return 1000 * (time.perf_counter() - began) / count


def by_a_batch(count: int, window: int) -> float:
    """Milliseconds a task, from the end of the last that doesn't count to the end of the last one."""
    with tempfile.TemporaryDirectory() as name:
        limits = Limits(max_workers=window, memory_limit_mb=window * MEMORY_MB + 2048, cpu_limit_percent=100)
        spec = BatchSpec(name, model="none", runner="benchmarks.tasks:run", limits=limits)
        request = ResourceRequest(CPUS, MEMORY_MB)
        numbers = range(count + UNCOUNTED)
        tasks = [BatchTask(f"{at}", TaskType.TRANSCRIBE, {}, file_id=f"{at}", resources=request) for at in numbers]
        processor = BatchProcessor(spec)
        processor.feed(tasks)
        result = asyncio.run(processor.start())
        assert result.success_count == len(tasks), result
        ends = parquet.read_table(Path(name, "report", "attempts.parquet"), columns=["ended_at"])["ended_at"]
        moments = sorted(moment.timestamp() for moment in ends.to_pylist())
    return 1000 * (moments[-1] - moments[UNCOUNTED - 1]) / count


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--window", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent)  # where the workers find this module
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"machine: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, load {load}")
    connection = connect(name="benchmark", memory_limit_mb=given.window * MEMORY_MB + 4096)
    try:
        found = [
            (by_raw_ray(given.tasks, given.window), by_a_batch(given.tasks, given.window)) for _ in range(given.rounds)
        ]
    finally:
        disconnect(connection)
    for raw, batch in found:
        print(f"raw Ray {raw:.2f} ms a task, batch {batch:.2f} ms a task")
    raw, batch = (statistics.median(each) for each in zip(*found, strict=True))
    print(f"{given.tasks} tasks, {given.window} at the same time: raw Ray {raw:.2f}, batch {batch:.2f} ms a task")
    print(f"batch / raw {batch / raw:.2f}")


if __name__ == "__main__":
    main()
