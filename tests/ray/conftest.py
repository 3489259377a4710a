"""Batches of scripted attempts on one local Ray head."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile

from trax_ray.cluster.connect import Connection
from trax_ray.core.task import BatchTask
from trax_ray.media.decode import read
from trax_ray.processor import BatchProcessor
from trax_ray.testing.factories import make_spec

RIVER_S = 42.0

Start = Callable[..., BatchProcessor]


@pytest.fixture
def batch(head: Connection, tmp_path: Path) -> Start:
    """Makes processors whose attempts follow scripts, over one output folder."""

    def make(tasks: list[BatchTask], **fields: Any) -> BatchProcessor:
        processor = BatchProcessor(make_spec(tmp_path / "out", **fields))
        processor.feed(tasks)
        return processor

    return make


@pytest.fixture(scope="session")
def river(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of some chunks, `batches.RIVER_WORDS` words: the beginning of a longer one."""
    audio = read(samples / "stories" / "the_river.ogg", end_s=RIVER_S)
    path = tmp_path_factory.mktemp("recordings") / "river.wav"
    soundfile.write(path, audio, 16_000)
    return path
