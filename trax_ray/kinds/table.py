"""The kinds of task: one line each. A new one is its file and its line here; see `docs/adding-a-task-kind.md`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trax_ray.kinds.base import Kind
from trax_ray.kinds.chunk import CHUNK
from trax_ray.kinds.preprocess import PREPROCESS
from trax_ray.kinds.request import REQUEST
from trax_ray.kinds.transcribe import TRANSCRIBE

__all__ = ["KINDS"]

_ALL: tuple[Kind[Any], ...] = (
    TRANSCRIBE,
    CHUNK,
    REQUEST,
    PREPROCESS,
)

KINDS: Mapping[str, Kind[Any]] = {kind.name: kind for kind in _ALL}
"""By name."""
