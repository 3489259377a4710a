"""Runs a batch on the cluster of test_scaling.py, counts its nodes meanwhile, and waits for them to go.

scaling_program.py OUT TASKS SECONDS [kill] [gpu]
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

COME_S, GO_S = 120.0, 150.0


def batch(
    address: str,
    out: str,
    count: int,
    sleep_s: float,
    succeeded: multiprocessing.Queue[int] | None = None,
    *,
    gpu: bool = False,
) -> None:
    """Run it to its end; with a last task that wants a GPU, where that is said."""
    from trax_ray.core.spec import Limits
    from trax_ray.core.task import ResourceRequest
    from trax_ray.processor import BatchProcessor
    from trax_ray.testing.factories import make_spec, make_task

    processor = BatchProcessor(make_spec(Path(out), limits=Limits(max_workers=4)), address=address)
    whole = ResourceRequest(num_cpus=1.0, memory_mb=256)
    processor.feed([make_task(f"t{number}", sleep_s=sleep_s, resources=whole) for number in range(count)])
    if gpu:
        processor.feed([make_task("on_gpu", resources=ResourceRequest(num_cpus=1.0, memory_mb=256, num_gpus=1.0))])
    result = asyncio.run(processor.start())
    if succeeded is not None:
        succeeded.put(result.success_count)


def nodes(resource: str = "CPU") -> int:
    """Nodes beside the head that have something."""
    import ray

    return sum(node["Alive"] and node["Resources"].get(resource, 0) > 0 for node in ray.nodes())


def main() -> None:
    """Count."""
    address, out, count, sleep_s, *more = sys.argv[1:]
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    kills, gpu = "kill" in more, "gpu" in more
    own = (address, out, int(count), float(sleep_s), answers)
    process = context.Process(target=batch, args=own, kwargs={"gpu": gpu})
    process.start()
    import ray

    import trax_ray.cluster  # noqa: F401 - Ray's settings, before Ray is used

    ray.init(address=address, logging_level="ERROR", log_to_driver=False)
    most, most_gpus, until = 0, 0, time.monotonic() + COME_S
    while process.is_alive():
        most, most_gpus = max(most, nodes()), max(most_gpus, nodes("GPU"))
        if kills and most:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
        if time.monotonic() > until and not most:
            process.kill()
            raise SystemExit("no node came")
        time.sleep(0.5)
    succeeded = 0 if kills else answers.get(timeout=10)
    until = time.monotonic() + GO_S
    while (left := nodes()) and time.monotonic() < until:
        time.sleep(1.0)
    sys.stdout.write(json.dumps({"succeeded": succeeded, "nodes": most, "gpus": most_gpus, "left": left}) + "\n")


if __name__ == "__main__":
    main()
