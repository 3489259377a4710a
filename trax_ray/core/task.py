"""What a task is, and what an attempt at it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from trax_ray.codes import Category, FailureClass
from trax_ray.core.limits.signals import ProviderSignal
from trax_ray.core.spec import DEFAULT_MAX_RETRIES
from trax_ray.errors import TraxRayError, UsageError

__all__ = [
    "BatchTask",
    "Category",
    "Failure",
    "FailureClass",
    "Outcome",
    "ResourceRequest",
    "Result",
    "TaskState",
    "TaskType",
]

MEMORY_STEP_MB = 256
"""Ray handles many distinct memory requests four times slower than one shared value, so they are rounded."""


class TaskType(str, Enum):
    """The five kinds of task."""

    TRANSCRIBE = "transcribe"
    ENHANCE = "enhance"
    YOUTUBE = "youtube"
    DOWNLOAD = "download"
    PREPROCESS = "preprocess"


class TaskState(str, Enum):
    """Where a task is. A task is in exactly one state; the last three are terminal."""

    BLOCKED = "blocked"
    QUEUED = "queued"
    DELAYED = "delayed"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """True for succeeded, failed and cancelled."""
        return self in (TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED)


@dataclass(frozen=True, slots=True)
class ResourceRequest:
    """What one attempt asks of a node.

    Args:
        num_cpus: CPU cores, may be a fraction. A reservation, not a limit.
        memory_mb: MiB, rounded up to a multiple of 256.
        num_gpus: GPUs, may be a fraction.
    """

    num_cpus: float = 1.0
    memory_mb: int = 512
    num_gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.num_cpus < 0 or self.memory_mb <= 0 or self.num_gpus < 0:
            raise UsageError(f"a resource request can't be negative or without memory: {self}")
        steps = -(-self.memory_mb // MEMORY_STEP_MB)
        object.__setattr__(self, "memory_mb", steps * MEMORY_STEP_MB)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed: plain data that survives any process border.

    Args:
        failure_class: What it means for the next attempt.
        category: What it is about.
        code: A short, stable word: one of `FailureCode`, or one from outside the package or of another version.
        message: One sentence for a person.
        retry_after_s: Seconds that the other side asked to wait; None where it said nothing.
        parks: For the class config: the provider to park; empty means the task's own, `*` means all.
    """

    failure_class: FailureClass
    category: Category
    code: str
    message: str
    retry_after_s: float | None = None
    parks: str = ""

    @classmethod
    def of(cls, error: TraxRayError, *, parks: str = "") -> Failure:
        """The failure that one of our own errors describes."""
        return cls(
            failure_class=FailureClass(error.failure_class),
            category=Category(error.category),
            code=error.code,
            message=error.message,
            retry_after_s=error.retry_after_s,
            parks=parks,
        )


@dataclass(frozen=True, slots=True)
class BatchTask:
    """One unit of work and its kind.

    Args:
        id: Unique in its batch, and the same whenever the same work is planned again.
        task_type: The kind.
        data: What to work on, JSON types only: transcribe and preprocess `file_path`; enhance
            `transcript_path`; youtube and download `url`.
        priority: Lower runs first: 0 highest, 1-5 high, 6-10 normal, 11 and above low.
        max_retries: Attempts after the first one; 3 means four attempts.
        depends_on: Ids of tasks that must succeed first.
        file_id: The input that this task belongs to; inputs, not tasks, are counted. Defaults to `id`.
        parent: The task that planned this one at run time, such as the whole file of a chunk.
        chunk: Number of the chunk from 0; None for a whole input.
        provider: The service or model that does the work; what a failure of class config parks.
        resources: What an attempt in a process of its own asks of a node.
        shared: Its attempts wait more than they compute, so that many of them run in one process.
        asks: Whether its attempts ask a provider, and so are bound to its rates, its breaker and the batch's money,
            wherever they run; None means where they are shared.
        kind: Name of what does the work, of the table `trax_ray.kinds.KINDS`; defaults to the task type's.
        fingerprint: Changes when the input or a parameter that matters changes; a task that ended is
            done again only when it differs.
    """

    id: str
    task_type: TaskType
    data: Mapping[str, Any] = field(default_factory=dict)
    priority: int = 0
    max_retries: int = DEFAULT_MAX_RETRIES
    depends_on: tuple[str, ...] = ()
    file_id: str = ""
    parent: str = ""
    chunk: int | None = None
    provider: str = ""
    resources: ResourceRequest = ResourceRequest()
    shared: bool = False
    fingerprint: str = ""
    asks: bool | None = None
    kind: str = ""

    def __post_init__(self) -> None:
        if not self.id:
            raise UsageError("a task needs an id")
        if self.priority < 0:
            raise UsageError(f"expected a priority of 0 or more, got {self.priority} (task {self.id})")
        if self.max_retries < 0:
            raise UsageError(f"expected max_retries of 0 or more, got {self.max_retries} (task {self.id})")
        object.__setattr__(self, "task_type", TaskType(self.task_type))
        object.__setattr__(self, "depends_on", tuple(self.depends_on))
        if self.asks is self.shared:
            object.__setattr__(self, "asks", None)  # it says nothing, and journals hold it for every task
        if not self.kind:
            object.__setattr__(self, "kind", self.task_type.value)
        if not self.file_id:
            object.__setattr__(self, "file_id", self.id)

    @property
    def asks_provider(self) -> bool:
        """Whether an attempt asks a provider."""
        return self.shared if self.asks is None else self.asks

    def alone(self) -> BatchTask:
        """The same task, for attempts in a process of their own."""
        return replace(self, shared=False, asks=self.asks_provider) if self.shared else self

    def with_memory(self, memory_mb: int) -> BatchTask:
        """The same task with another memory request."""
        return replace(self, resources=replace(self.resources, memory_mb=memory_mb))


@dataclass(frozen=True, slots=True)
class Result:
    """What a task made, for those that depend on it and for the one that planned it.

    Args:
        artifact_key: Key of the committed result, empty where there is none.
        figures: The metrics of its outcome, JSON types; `outputs` are paths below the output folder.
        kind: Name of the kind of task that made it.
    """

    artifact_key: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt gives back: paths, keys and figures, never transcripts or audio.

    Args:
        failure: None where the attempt succeeded or expanded.
        artifact_key: Key of the committed result, empty where there is none.
        metrics: Small JSON figures of the result: durations in seconds, counts, warnings, paths.
        children: Tasks that this one planned; it runs again, to assemble, when all have succeeded.
        node: Where it ran, a node's name.
        pid: The process that ran it; 0 when unknown.
        started_at: Seconds since the epoch, by the worker's clock; 0.0 when it never started.
        ended_at: Seconds since the epoch, by the worker's clock.
        memory_peak_mb: Peak resident memory of the process, MiB.
        signal: What the answer of a provider means for the requests after it; None where none was asked.
    """

    failure: Failure | None = None
    artifact_key: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    children: tuple[BatchTask, ...] = ()
    node: str = ""
    pid: int = 0
    started_at: float = 0.0
    ended_at: float = 0.0
    memory_peak_mb: float = 0.0
    signal: ProviderSignal | None = None
