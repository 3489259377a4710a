"""As a program: so many batches one after another in one process, each with a Ray of its own.

    python many_batches.py FOLDER COUNT

`run` is the same for a notebook, whose kernel is such a process.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from trax_ray.core.progress import BatchProgress
from trax_ray.processor import BatchProcessor
from trax_ray.testing.factories import make_spec, make_task

TASKS = 6
INTERVAL_S = 0.2
"""Between two progress reports: the more often Ray is called from aside, the sooner two threads clash."""


async def run(folder: Path, number: int) -> None:
    """One batch, which has to succeed, and to know how much it is from the first progress on."""
    processor = BatchProcessor(make_spec(folder / str(number), progress_interval_s=INTERVAL_S), lean=True)
    processor.feed([make_task(f"b{number}t{each}", script=["commit"], sleep_s=0.2) for each in range(TASKS)])
    seen: list[BatchProgress] = []
    result = await processor.start(progress_callback=seen.append)
    assert (result.success_count, result.total_count) == (TASKS, TASKS), result
    assert {progress.total_tasks for progress in seen} == {TASKS}
    sys.stdout.write(f"batch {number} is through\n")


if __name__ == "__main__":
    for each in range(int(sys.argv[2])):
        asyncio.run(run(Path(sys.argv[1]), each))
