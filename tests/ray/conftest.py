"""One local Ray head for all tests of this folder."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trax_ray.cluster.connect import Connection, connect, disconnect
from trax_ray.core.progress import BatchProgress, BatchResult
from trax_ray.core.task import BatchTask
from trax_ray.processor import BatchProcessor
from trax_ray.testing.factories import make_spec

Start = Callable[..., BatchProcessor]


@pytest.fixture(scope="session")
def head() -> Iterator[Connection]:
    """A connection to a local head with room for a few workers."""
    connection = connect(name="tests", memory_limit_mb=4096)
    yield connection
    disconnect(connection)


@pytest.fixture
def batch(head: Connection, tmp_path: Path) -> Start:
    """Makes processors whose attempts follow scripts, over one output folder."""

    def make(tasks: list[BatchTask], **fields: Any) -> BatchProcessor:
        processor = BatchProcessor(make_spec(tmp_path / "out", **fields))
        processor.feed(tasks)
        return processor

    return make


async def until(processor: BatchProcessor, condition: Callable[[BatchProgress], bool]) -> BatchProgress:
    """Wait until the batch stands as the test wants it."""
    while not condition(progress := processor.get_progress()):
        await asyncio.sleep(0.05)
    return progress


async def run(processor: BatchProcessor) -> BatchResult:
    """Run a batch to its end, for a minute at most."""
    return await asyncio.wait_for(processor.start(), timeout=60)
