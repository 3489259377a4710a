"""What goes into the machine and what comes out of it, and how events become JSON.

Events are facts, in the past tense: which attempts started, not how many could have; with which jitter, not
that some was drawn. So a journal replays to the same state even under a later version's scheduling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from enum import Enum
from typing import Any, get_args

from trax_ray.core.limits.signals import ProviderSignal
from trax_ray.core.task import BatchTask, Category, Failure, FailureClass, Outcome, ResourceRequest, Result, TaskType

__all__ = [
    "AttemptEnded",
    "Cancel",
    "Command",
    "CoordinatorStarted",
    "Dispatch",
    "Draining",
    "Event",
    "Expanded",
    "Finish",
    "InputsClosed",
    "Known",
    "LetGo",
    "Paused",
    "Preempted",
    "Resumed",
    "RetryFailed",
    "Revived",
    "Scaled",
    "Started",
    "Stopped",
    "TasksAdded",
    "decode_event",
    "decode_outcome",
    "decode_task",
    "encode",
    "encode_event",
]


@dataclass(frozen=True, slots=True)
class CoordinatorStarted:
    """A coordinator took over.

    In the same run, what ran under an earlier epoch was interrupted and is queued again. In another run all that
    was left open is cancelled: a run does what it is given, and being given revives.
    """

    epoch: int
    spec: Mapping[str, Any]
    largest_node_mb: int = 0
    run: str = ""


@dataclass(frozen=True, slots=True)
class TasksAdded:
    """New tasks, in the order in which they were given."""

    tasks: tuple[BatchTask, ...]


@dataclass(frozen=True, slots=True)
class Revived:
    """Tasks that had ended and are to be done again: changed, cancelled earlier, or retried by request."""

    tasks: tuple[BatchTask, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """Tasks that were given to this run and have nothing to do: they ended in an earlier one, unchanged since.

    Args:
        task_ids: Their ids.
        tasks: Those of them whose descriptions are new: the recording was moved, or more is known of it.
    """

    task_ids: tuple[str, ...]
    tasks: tuple[BatchTask, ...] = ()


@dataclass(frozen=True, slots=True)
class InputsClosed:
    """No more inputs will come: the batch ends when all tasks have."""


@dataclass(frozen=True, slots=True)
class Started:
    """Attempts that begin now: pairs of task id and attempt number."""

    starts: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """An attempt gave its outcome. `jitter` is a draw from [0, 1) for the delay of a retry."""

    task_id: str
    epoch: int
    attempt: int
    outcome: Outcome
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class Expanded:
    """An attempt planned children; its task runs again, to assemble, when all of them have succeeded."""

    task_id: str
    epoch: int
    attempt: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Preempted:
    """An attempt was ended to give back what it used. Its task waits for its turn as if it had not started."""

    task_id: str
    epoch: int
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Scaled:
    """How many attempts may run at the same time from now on, by what the nodes have to give, and why."""

    slots: int
    reason: str


@dataclass(frozen=True, slots=True)
class Paused:
    """Nothing starts until Resumed, whichever coordinator runs then; what runs goes on.

    Args:
        request: Here and below: the command from another terminal that this answers, by its file's name.
    """

    request: str = ""


@dataclass(frozen=True, slots=True)
class Resumed:
    """Tasks may start again, parked providers included."""

    request: str = ""


@dataclass(frozen=True, slots=True)
class RetryFailed:
    """What has failed for good is to be done again: at once in this run, else as soon as a run is given it."""

    request: str = ""


@dataclass(frozen=True, slots=True)
class Draining:
    """Nothing starts in this run any more, because of a signal; what runs has a while to end."""

    reason: str = "signal"


@dataclass(frozen=True, slots=True)
class Stopped:
    """All that has not ended is cancelled; the next run revives it. By request (`stop`) it also ends a pause."""

    reason: str = "stop"
    request: str = ""


Event = (
    CoordinatorStarted
    | TasksAdded
    | Revived
    | Known
    | InputsClosed
    | Started
    | AttemptEnded
    | Expanded
    | Preempted
    | Scaled
    | Paused
    | Resumed
    | RetryFailed
    | Draining
    | Stopped
)


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Start this attempt.

    Args:
        task: What to do.
        epoch: Of the coordinator.
        attempt: Its number, from 1.
        children: What the task's children made, by their ids, in order.
        needed: What the tasks made that it depends on, by their ids, in order.
    """

    task: BatchTask
    epoch: int
    attempt: int
    children: Mapping[str, Result] = field(default_factory=dict)
    needed: Mapping[str, Result] = field(default_factory=dict)

    @property
    def alone(self) -> bool:
        """In a process of its own: what it does to its process must harm nobody else."""
        return not self.task.shared


@dataclass(frozen=True, slots=True)
class Cancel:
    """End this attempt at once; its outcome no longer counts."""

    task_id: str
    epoch: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Finish:
    """The batch has ended: `complete`, `stopped`, or `parked` (what is left waits for a person)."""

    reason: str


@dataclass(frozen=True, slots=True)
class LetGo:
    """An input has failed for good: what was fetched for it is needed no more."""

    file_id: str


Command = Dispatch | Cancel | Finish | LetGo

_EVENTS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Event)}


def encode(value: Any) -> Any:
    """A dataclass of this package as JSON types; fields that have their default are left out."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): encode(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(entry) for entry in value]
    if hasattr(type(value), "__dataclass_fields__"):
        encoded = {}
        for entry in fields(value):
            content = getattr(value, entry.name)
            default = entry.default_factory() if entry.default_factory is not MISSING else entry.default
            if content != default:
                encoded[entry.name] = encode(content)
        if isinstance(value, BatchTask) and value.kind == value.task_type.value and not _is_part(encoded):
            del encoded["kind"]
        return encoded
    return value


_KINDS_OF_CHUNKS = {False: "chunk", True: "request"}
"""What version 0.1, whose journals name no kinds, did with a part of a recording, by whether it was shared."""


def _is_part(data: Mapping[str, Any]) -> bool:
    return bool(data.get("parent")) and data.get("chunk") is not None


def decode_task(data: Mapping[str, Any]) -> BatchTask:
    """The task that `encode` wrote."""
    values = dict(data)
    values["task_type"] = TaskType(values["task_type"])
    values["depends_on"] = tuple(values.get("depends_on", ()))
    if "resources" in values:
        values["resources"] = ResourceRequest(**values["resources"])
    if "kind" not in values and _is_part(values):
        values["kind"] = _KINDS_OF_CHUNKS[bool(values.get("shared"))]
    return BatchTask(**values)


def decode_outcome(data: Mapping[str, Any]) -> Outcome:
    """The outcome that `encode` wrote."""
    values = dict(data)
    if values.get("failure") is not None:
        failure = dict(values["failure"])
        failure["failure_class"] = FailureClass(failure["failure_class"])
        failure["category"] = Category(failure["category"])
        values["failure"] = Failure(**failure)
    values["children"] = tuple(decode_task(child) for child in values.get("children", ()))
    if values.get("signal") is not None:
        values["signal"] = ProviderSignal(**values["signal"])
    return Outcome(**values)


def encode_event(event: Event, at: float) -> dict[str, Any]:
    """One journal record: the event and when it happened, seconds since the epoch."""
    return {"event": type(event).__name__, "at": at, **encode(event)}


def decode_event(record: Mapping[str, Any]) -> tuple[Event, float]:
    """The event of a journal record, and when it happened.

    Raises:
        KeyError: The record is no event of this version.
    """
    values = dict(record)
    kind = _EVENTS[values.pop("event")]
    at = float(values.pop("at"))
    if kind in (TasksAdded, Revived):
        values["tasks"] = tuple(decode_task(task) for task in values["tasks"])
    elif kind is Known:
        values["task_ids"] = tuple(values["task_ids"])
        values["tasks"] = tuple(decode_task(task) for task in values.get("tasks", ()))
    elif kind is Started:
        values["starts"] = tuple((str(task_id), int(attempt)) for task_id, attempt in values["starts"])
    elif kind in (AttemptEnded, Expanded):
        values["outcome"] = decode_outcome(values.get("outcome", {}))
    return kind(**values), at
