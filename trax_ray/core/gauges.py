"""What monitoring sees of a batch: numbers by name and tags, from closed sets, so that no series grows with the batch.

Tags are never names of recordings, hosts of the web, or texts of errors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from trax_ray.core.progress import BatchProgress, Phase
from trax_ray.core.state.machine import BatchState
from trax_ray.core.task import TaskState, TaskType

__all__ = ["BANDS", "GAUGES", "Gauge", "band_of", "provider_tag", "values"]

BANDS = ("highest", "high", "normal", "low")

Tags = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Gauge:
    """One of the numbers.

    Args:
        name: Without the `ray_` that Ray puts before it.
        help: What it is, with its unit.
        tags: Names of its tags, that of the batch apart, which all have.
    """

    name: str
    help: str
    tags: tuple[str, ...] = ()


GAUGES: tuple[Gauge, ...] = (
    Gauge("trax_ray_queue_depth", "Tasks that wait for their turn or for a retry, by priority.", ("band",)),
    Gauge("trax_ray_tasks", "Tasks of the batch by kind and state.", ("kind", "state")),
    Gauge("trax_ray_inputs", "Inputs of this run by how they stand.", ("state",)),
    Gauge("trax_ray_attempts", "Attempts that ended under this coordinator, by kind and class.", ("kind", "outcome")),
    Gauge("trax_ray_audio_seconds", "Seconds of audio transcribed in this run."),
    Gauge("trax_ray_cost_usd", "US dollars that services charged, or may have, in all runs."),
    Gauge("trax_ray_provider_in_flight", "Requests in flight, by provider.", ("provider",)),
    Gauge("trax_ray_provider_limit", "Requests that a provider gets at the same time, at most.", ("provider",)),
    Gauge("trax_ray_provider_state", "1 for the state that a provider is in.", ("provider", "state")),
    Gauge("trax_ray_phase", "1 for the phase that the batch is in.", ("phase",)),
    Gauge("trax_ray_slots", "Attempts of one core each that the limits let run now."),
    Gauge("trax_ray_active", "Attempts that run now."),
    Gauge("trax_ray_memory_mb", "MiB that the batch's own processes take on all nodes."),
    Gauge("trax_ray_memory_limit_mb", "MiB per node that they may take."),
    Gauge("trax_ray_cpu_percent", "Load of the coordinator's node, percent of all its cores."),
)


def band_of(priority: int) -> str:
    """The band of a priority number: 0 highest, 1-5 high, 6-10 normal, 11 and above low."""
    return BANDS[0] if priority <= 0 else BANDS[1] if priority <= 5 else BANDS[2] if priority <= 10 else BANDS[3]


def provider_tag(provider: str) -> str:
    """A provider as a tag. Hosts of the web count as one: a list may name thousands."""
    return provider.split(" ", 1)[0]


def values(
    state: BatchState, progress: BatchProgress, attempts: Mapping[tuple[str, str], int], *, memory_limit_mb: int
) -> Iterator[tuple[str, Tags, float]]:
    """All numbers of a batch as it stands: name, tags in the gauge's order, value.

    Args:
        state: The batch.
        progress: The same as people see it.
        attempts: How many attempts have ended, by kind and outcome: `succeeded`, or the failure's class.
        memory_limit_mb: Of its spec.
    """
    tasks: Counter[tuple[str, str]] = Counter()
    bands: Counter[str] = Counter(dict.fromkeys(BANDS, 0))
    for record in state.records.values():
        tasks[record.task.task_type.value, record.state.value] += 1
        if record.state in (TaskState.QUEUED, TaskState.DELAYED):
            bands[band_of(record.task.priority + record.degradation)] += 1
    for band in BANDS:
        yield "trax_ray_queue_depth", (("band", band),), bands[band]
    for kind in TaskType:
        for each in TaskState:
            if any(name == kind.value for name, _ in tasks):
                yield "trax_ray_tasks", (("kind", kind.value), ("state", each.value)), tasks[kind.value, each.value]
    for name, count in (
        ("succeeded", progress.completed_tasks),
        ("failed", progress.failed_tasks),
        ("cancelled", progress.cancelled_tasks),
        ("waiting", progress.queued_tasks),
    ):
        yield "trax_ray_inputs", (("state", name),), count
    for (kind_name, outcome), count in attempts.items():
        yield "trax_ray_attempts", (("kind", kind_name), ("outcome", outcome)), count
    yield "trax_ray_audio_seconds", (), float(progress.quality_metrics.get("audio_s") or 0.0)
    yield "trax_ray_cost_usd", (), state.services.spent_usd
    yield from _of_providers(state, progress)
    for phase in Phase:
        yield "trax_ray_phase", (("phase", phase.value),), float(progress.phase is phase)
    yield "trax_ray_slots", (), float(progress.slots or 0)
    yield "trax_ray_active", (), progress.active_workers
    yield "trax_ray_memory_mb", (), progress.memory_usage_mb
    yield "trax_ray_memory_limit_mb", (), memory_limit_mb
    yield "trax_ray_cpu_percent", (), progress.cpu_usage_percent


def _of_providers(state: BatchState, progress: BatchProgress) -> Iterator[tuple[str, Tags, float]]:
    in_flight: Counter[str] = Counter()
    limits: Counter[str] = Counter()
    states: dict[str, str] = {}
    for provider, (now, most) in state.services.loads().items():
        tag = provider_tag(provider)
        in_flight[tag] += now
        limits[tag] += most
        parked, limited = provider in progress.parked, provider in progress.services
        states[tag] = _worst(states.get(tag, "open"), "parked" if parked else "limited" if limited else "open")
    for tag in limits:
        yield "trax_ray_provider_in_flight", (("provider", tag),), in_flight[tag]
        yield "trax_ray_provider_limit", (("provider", tag),), limits[tag]
        for each in PROVIDER_STATES:
            yield "trax_ray_provider_state", (("provider", tag), ("state", each)), float(states[tag] == each)


PROVIDER_STATES = ("open", "limited", "parked")


def _worst(one: str, other: str) -> str:
    return max(one, other, key=PROVIDER_STATES.index)
