"""Running a batch in a test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from trax_ray.core.progress import BatchProgress
from trax_ray.processor import BatchProcessor
from trax_ray.report.result import BatchResult

RIVER_WORDS = 108
"""Words in the recording `river`, about: its share of the whole."""


async def until(processor: BatchProcessor, condition: Callable[[BatchProgress], bool]) -> BatchProgress:
    """Wait until the batch stands as the test wants it."""
    while not condition(progress := processor.get_progress()):
        await asyncio.sleep(0.05)
    return progress


async def run(processor: BatchProcessor) -> BatchResult:
    """Run a batch to its end, for a minute at most."""
    return await asyncio.wait_for(processor.start(), timeout=60)
