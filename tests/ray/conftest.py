"""Batches of scripted attempts on one local Ray head."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trax_ray.cluster.connect import Connection
from trax_ray.core.task import BatchTask
from trax_ray.processor import BatchProcessor
from trax_ray.testing.factories import make_spec

Start = Callable[..., BatchProcessor]


@pytest.fixture
def batch(head: Connection, tmp_path: Path) -> Start:
    """Makes processors whose attempts follow scripts, over one output folder."""

    def make(tasks: list[BatchTask], **fields: Any) -> BatchProcessor:
        processor = BatchProcessor(make_spec(tmp_path / "out", **fields))
        processor.feed(tasks)
        return processor

    return make
