"""Running a batch in a test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from typer.testing import CliRunner

from trax_ray.cli.app import app
from trax_ray.core.progress import BatchProgress
from trax_ray.processor import BatchProcessor
from trax_ray.report.result import BatchResult

RIVER_WORDS = 108
"""Words in the recording `river`, about: its share of the whole."""


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    stdout: str
    stderr: str


def command_line(*arguments: object) -> Said:
    """The command line in this process, which is connected to Ray already: saves the seconds of a process and a job."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return Said(done.exit_code, done.stdout, done.stderr)


async def until(processor: BatchProcessor, condition: Callable[[BatchProgress], bool]) -> BatchProgress:
    """Wait until the batch stands as the test wants it."""
    while not condition(progress := processor.get_progress()):
        await asyncio.sleep(0.05)
    return progress


async def run(processor: BatchProcessor) -> BatchResult:
    """Run a batch to its end, for a minute at most."""
    return await asyncio.wait_for(processor.start(), timeout=60)
