"""How a batch stands: `BatchProgress` as it says itself, `BatchStatus` as it is seen from outside.

A figure is one field of `BatchProgress`. From there it is in the coordinator's snapshot, in `status.json`, in what a
progress callback gets, and in `trax-ray status --json`; what people are shown of it is said where it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from operator import attrgetter
from typing import Any, TypeVar

__all__ = [
    "MOST_WORKERS",
    "BatchProgress",
    "BatchStatus",
    "Phase",
    "decode_progress",
    "encode_progress",
    "format_duration",
    "format_progress",
    "format_usd",
    "percent",
]


MOST_WORKERS = 16
"""Of so many attempts it is said what they do."""


class Phase(str, Enum):
    """Where a batch stands.

    STARTING (Ray is being started), RUNNING, PAUSED (nothing starts, also in the next run), DRAINING (a signal came or
    its hours are over: what runs is finished), WAITING (for its start time or its hours), PARKED (what is left waits
    for a person), COMPLETE, STOPPED, INTERRUPTED (no process holds it, and the journal has no end: it was killed).
    """

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    DRAINING = "draining"
    WAITING = "waiting"
    PARKED = "parked"
    COMPLETE = "complete"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"


def percent(part: int, whole: int) -> float:
    """100 x part / whole; 0.0 of nothing."""
    return 100.0 * part / whole if whole else 0.0


@dataclass(frozen=True)
class BatchProgress:
    """Counts of inputs (or `add_task` calls), never of chunks or steps.

    Args:
        total_tasks: Inputs that the run is given, those included that haven't reached its queue yet.
        completed_tasks: Those that succeeded.
        failed_tasks: Those that failed for good.
        cancelled_tasks: Those that were cancelled.
        active_workers: Attempts that run now.
        memory_usage_mb: Memory of the batch's own processes, MiB (PSS; USS on macOS).
        cpu_usage_percent: Load of the coordinator's node, percent of all its cores.
        memory_peak_mb: Highest `memory_usage_mb` so far.
        cpu_peak_percent: Highest `cpu_usage_percent` so far.
        elapsed_s: Seconds since this run began.
        estimated_remaining_s: Seconds still to go; None when unknown.
        quality_metrics: As in the report.
        queued_tasks: Inputs that wait, for their turn, for a retry or for another task.
        parked: Providers that wait for a person, with the reason.
        waits_until: When the batch's hours begin, seconds since the epoch; None within them.
        services: Services that get no more requests at present, with the reason.
        phase: Where it stands.
        slots: How many attempts of one core each the machine lets run now; None when unknown.
        limits_reason: Why no more.
        remaining_low_s: Probably no less is still to go; None where too little is known for a range.
        remaining_high_s: Probably no more.
        cost_usd: What services have charged for the output folder so far; None where nothing is known.
        max_cost_usd: What they may; None without a limit.
        memory_limit_mb: MiB per node for the batch's own processes; None where no process runs it.
        cpu_limit_percent: Percent of a node's cores that tasks may take; None likewise.
        kinds: Tasks of this run by kind, chunks and steps too: `total`, `ended`, `failed` and `running` of each.
        workers: What runs now, no more than `MOST_WORKERS`: `name` of the recording, `step`, `fraction` that is done
            (0-1) and `seconds` so far.
        last_failures: Tasks that failed for good, newest first, a few: `name`, `step`, `code`, `error`.
        saves_until: When what waits for a provider's cheap hours may start, seconds since the epoch; None where nothing
            does.
    """

    total_tasks: int = field(default=0, metadata={"key": "total"})
    completed_tasks: int = field(default=0, metadata={"key": "succeeded"})
    failed_tasks: int = field(default=0, metadata={"key": "failed"})
    cancelled_tasks: int = field(default=0, metadata={"key": "cancelled"})
    active_workers: int = field(default=0, metadata={"key": "active"})
    memory_usage_mb: float = field(default=0.0, metadata={"key": "memory_mb"})
    cpu_usage_percent: float = field(default=0.0, metadata={"key": "cpu_percent"})
    memory_peak_mb: float = 0.0
    cpu_peak_percent: float = 0.0
    elapsed_s: float = 0.0
    estimated_remaining_s: float | None = None
    quality_metrics: Mapping[str, Any] = field(default_factory=dict)
    queued_tasks: int = field(default=0, metadata={"key": "queued"})
    parked: Mapping[str, str] = field(default_factory=dict)
    waits_until: float | None = None
    services: Mapping[str, str] = field(default_factory=dict)
    phase: Phase = Phase.STARTING
    slots: int | None = None
    limits_reason: str = ""
    remaining_low_s: float | None = None
    remaining_high_s: float | None = None
    cost_usd: float | None = None
    max_cost_usd: float | None = None
    memory_limit_mb: float | None = None
    cpu_limit_percent: float | None = None
    kinds: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    workers: Sequence[Mapping[str, Any]] = ()
    last_failures: Sequence[Mapping[str, str]] = ()
    saves_until: float | None = None

    @property
    def paused(self) -> bool:
        """True while nothing may start because a person asked for a pause."""
        return self.phase is Phase.PAUSED

    @property
    def success_rate(self) -> float:
        """100 x completed / total; 0.0 of nothing."""
        return percent(self.completed_tasks, self.total_tasks)

    @property
    def failure_rate(self) -> float:
        """100 x failed / total; 0.0 of nothing."""
        return percent(self.failed_tasks, self.total_tasks)

    def __str__(self) -> str:
        return format_progress(self)


@dataclass(frozen=True, kw_only=True)
class BatchStatus(BatchProgress):
    """How a batch stands, seen from outside: its progress in its present or last run, and which process runs it.

    Times are seconds since the epoch. Memory and load are 0.0 where no process runs it.

    Args:
        name: The batch's.
        output_dir: Its output folder.
        holder: What holds the folder, for people; empty where nothing does.
        pid: The process that holds it; None where none does, 0 where it hasn't said its name yet.
        host: Its machine; empty where no process holds it.
        since: When it began; None where no process holds it.
        epoch: Number of the coordinator that wrote last.
        updated_at: How old these figures are; 0.0 when unknown.
        failures: Inputs that failed for good, by failure class; empty where it wasn't asked for.
        requests: Commands that no batch has taken up yet, oldest first.
    """

    name: str
    output_dir: str
    holder: str = ""
    pid: int | None = None
    host: str = ""
    since: float | None = None
    epoch: int = 0
    updated_at: float = 0.0
    failures: Mapping[str, int] = field(default_factory=dict)
    requests: tuple[str, ...] = ()

    # The names that these figures have had here from the first version on, which are those of the JSON.
    total = property(attrgetter("total_tasks"))
    succeeded = property(attrgetter("completed_tasks"))
    failed = property(attrgetter("failed_tasks"))
    cancelled = property(attrgetter("cancelled_tasks"))
    active = property(attrgetter("active_workers"))
    queued = property(attrgetter("queued_tasks"))

    @property
    def memory_mb(self) -> float | None:
        """Memory of the batch's own processes, MiB; None where it wasn't measured."""
        return self.memory_usage_mb or None

    @property
    def cpu_percent(self) -> float | None:
        """Load of the coordinator's node, percent of all its cores; None where it wasn't measured."""
        return None if self.memory_mb is None else self.cpu_usage_percent

    @property
    def at_work(self) -> bool:
        """Whether a process runs the batch now."""
        return self.pid is not None

    @property
    def progress(self) -> BatchProgress:
        """The same: a status is what a batch reports to its own callback, and more."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """The status as JSON types."""
        return encode_progress(self) | {"memory_mb": self.memory_mb, "cpu_percent": self.cpu_percent}


Progress = TypeVar("Progress", bound=BatchProgress)


def encode_progress(progress: BatchProgress) -> dict[str, Any]:
    """A progress or a status as JSON types: every field, under the key of its metadata where it has one."""
    return {each.metadata.get("key", each.name): _plain(getattr(progress, each.name)) for each in fields(progress)}


def decode_progress(kind: type[Progress], said: Mapping[str, Any]) -> Progress:
    """What `encode_progress` wrote, by this version, an earlier or a later one.

    What isn't there has its default, and what isn't known here is left out. A phase that isn't known here is one in
    which a batch runs.
    """
    given = {each.name: said.get(each.metadata.get("key", each.name)) for each in fields(kind)}
    phase = given["phase"]
    given["phase"] = Phase(phase) if phase in {each.value for each in Phase} else Phase.RUNNING
    return kind(**{name: value for name, value in given.items() if value is not None})


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple):
        return list(value)
    return round(value, 3) if isinstance(value, float) else value


def format_duration(seconds: float) -> str:
    """`42s`, `3m10s`, `2h05m`, `3d04h`: two units at most, rounded to the smaller one."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    minutes = round(whole / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60}h{minutes % 60:02d}m"
    hours = round(whole / 3600)
    return f"{hours // 24}d{hours % 24:02d}h"


def format_usd(usd: float) -> str:
    """`$12.34`, and small sums with four decimals."""
    return f"${usd:.2f}" if usd >= 1 else f"${usd:.4f}"


def format_progress(progress: BatchProgress) -> str:
    """The founding progress line, and the ETA."""
    remaining = progress.estimated_remaining_s
    return (
        f"Progress: {progress.completed_tasks}/{progress.total_tasks} ({progress.success_rate:.1f}% success)"
        f" | Active: {progress.active_workers} | Failed: {progress.failed_tasks}"
        f" | Memory: {progress.memory_usage_mb:.1f}MB | CPU: {progress.cpu_usage_percent:.1f}%"
        f" | ETA: {'--' if remaining is None else format_duration(remaining)}"
    )
