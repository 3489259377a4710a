"""The kinds of task: one line each. A new one is its file and its line here; see `docs/adding-a-task-kind.md`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trax_ray.core.task import ResourceRequest, TaskType
from trax_ray.kinds.base import Kind
from trax_ray.kinds.chunk import CHUNK
from trax_ray.kinds.download import DOWNLOAD
from trax_ray.kinds.enhance import ENHANCE
from trax_ray.kinds.preprocess import PREPROCESS
from trax_ray.kinds.request import REQUEST
from trax_ray.kinds.transcribe import TRANSCRIBE
from trax_ray.kinds.window import WINDOW
from trax_ray.kinds.youtube import YOUTUBE

__all__ = ["KINDS", "asked_of_a_node", "needed_field"]

_ALL: tuple[Kind[Any], ...] = (
    TRANSCRIBE,
    CHUNK,
    REQUEST,
    PREPROCESS,
    DOWNLOAD,
    YOUTUBE,
    ENHANCE,
    WINDOW,
)

KINDS: Mapping[str, Kind[Any]] = {kind.name: kind for kind in _ALL}
"""By name."""


def needed_field(task_type: TaskType) -> str:
    """The field of a call's data without which it makes no sense."""
    return KINDS[task_type.value].needs


def asked_of_a_node(task_type: TaskType) -> ResourceRequest:
    """What an attempt asks of a node, where nothing else says so."""
    return KINDS[task_type.value].resources
