"""Short ways to tasks and specs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trax_ray.core.spec import BatchSpec, Limits, RetryPolicy
from trax_ray.core.task import BatchTask, ResourceRequest, TaskType
from trax_ray.kinds.chunk import CHUNK
from trax_ray.kinds.codec import from_json
from trax_ray.kinds.parts import plan_parts
from trax_ray.kinds.request import REQUEST
from trax_ray.kinds.transcribe import TranscribeData
from trax_ray.testing.scripted import SCRIPTED

__all__ = ["make_parts", "make_spec", "make_task"]

SMALL = ResourceRequest(num_cpus=0.5, memory_mb=256)


def make_task(task_id: str = "t", task_type: TaskType = TaskType.TRANSCRIBE, **fields: Any) -> BatchTask:
    """A task; keywords that are no fields of a task go into its data.

    Args:
        task_id: Its id.
        task_type: Its kind.
        fields: Fields of BatchTask, or entries of `data` such as `script`.
    """
    own = {name: fields.pop(name) for name in list(fields) if name in BatchTask.__dataclass_fields__}
    own.setdefault("resources", SMALL)
    own.setdefault("provider", "scripted")
    return BatchTask(id=task_id, task_type=task_type, data=own.pop("data", {}) | fields, **own)


def make_parts(task: BatchTask, cuts: Sequence[tuple[float, float]], *, shared: bool = False) -> tuple[BatchTask, ...]:
    """The parts of a TRANSCRIBE task's recording.

    Args:
        task: The recording's.
        cuts: Start and end of each part, seconds.
        shared: Whether they are requests to a service, else chunks for a model of this machine.
    """
    data = from_json(TranscribeData, {"file_path": "", **task.data})
    return plan_parts(REQUEST if shared else CHUNK, task, data.whole, cuts)


def make_spec(output_dir: Path | str, *, limits: Limits | None = None, **fields: Any) -> BatchSpec:
    """A spec whose attempts follow their tasks' scripts and whose retries come fast."""
    fields.setdefault("model", "scripted")
    fields.setdefault("runner", SCRIPTED)
    fields.setdefault("caller", "trax_ray.testing.scripted:call")
    fields.setdefault("retry", RetryPolicy(base_s=0.01, cap_s=0.05))
    fields.setdefault("progress_interval_s", 0.2)
    return BatchSpec(output_dir=str(output_dir), limits=limits or Limits(), **fields)
