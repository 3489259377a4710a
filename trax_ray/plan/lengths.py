"""How long the recording of a task is: by its header where somebody looked, else by its size."""

from __future__ import annotations

from trax_ray.core.spec import BatchSpec
from trax_ray.core.survey import Lengths
from trax_ray.core.task import BatchTask, TaskType
from trax_ray.plan.disk import audio_s
from trax_ray.plan.tasks import CONVERSIONS_PER_TRANSCRIPTION
from trax_ray.providers.registry import is_service

__all__ = ["length_of", "lengths_of"]


def length_of(task: BatchTask) -> float | None:
    """Seconds; None where nobody knows, as of what is on the web."""
    known = task.data.get("audio_s")
    if known is not None:
        return float(known)
    size_bytes = int(task.data.get("size_bytes") or 0)
    if task.task_type is TaskType.PREPROCESS:
        size_bytes *= CONVERSIONS_PER_TRANSCRIPTION
    path = str(task.data.get("file_path") or "")
    return audio_s(path, size_bytes) if path and size_bytes else None


def lengths_of(spec: BatchSpec) -> Lengths:
    """What is known of a batch beside its tasks, for `trax_ray.core.survey`."""
    return Lengths(spec.model, float(spec.chunk_size_s), lambda model: is_service(model, spec.base_url), length_of)
