"""How many tasks may start now: limits and a measurement in, a number out.

Load that the batch itself makes never closes admission; load of others does, core by core. Memory is budgeted
per node by what the tasks declare or by what they were measured to use, whichever is more. Pressure never goes
below one running task: a batch under pressure is slow, not stuck.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trax_ray.core.spec import Limits
from trax_ray.core.task import ResourceRequest

__all__ = ["NodeSample", "ResourceSample", "admit", "cpu_slots"]


@dataclass(frozen=True, slots=True)
class NodeSample:
    """One node as it was measured.

    Args:
        node: Its id.
        cores: CPU cores that Ray may use there.
        foreign_cpu_percent: Load of other people's processes, percent of all cores, 0-100.
        overhead_mb: Memory of the batch's driver and coordinator there, MiB.
        workers_mb: Memory of the batch's task workers there, MiB.
        workers: How many task workers `workers_mb` counts.
        gpus: GPUs that Ray may use there.
    """

    node: str
    cores: float
    foreign_cpu_percent: float = 0.0
    overhead_mb: float = 0.0
    workers_mb: float = 0.0
    workers: int = 0
    gpus: float = 0.0


@dataclass(frozen=True, slots=True)
class ResourceSample:
    """All nodes at one time."""

    nodes: tuple[NodeSample, ...]


def cpu_slots(cores: float, cpu_limit_percent: float) -> int:
    """CPU-bound tasks that one idle node may run: max(1, round(cores x limit / 100))."""
    return max(1, round(cores * cpu_limit_percent / 100))


def _node_budget(node: NodeSample, limits: Limits) -> tuple[float, float]:
    """Cores and MiB that tasks may use on a node, all of the batch's own included."""
    spare = max(0.0, min(limits.cpu_limit_percent, 100.0 - node.foreign_cpu_percent))
    cores = cpu_slots(node.cores, limits.cpu_limit_percent)
    if spare < limits.cpu_limit_percent:
        cores = min(cores, round(node.cores * spare / 100))
    return float(cores), max(0.0, limits.memory_limit_mb - node.overhead_mb)


def admit(
    limits: Limits,
    sample: ResourceSample,
    running: Sequence[ResourceRequest],
    waiting: Sequence[ResourceRequest],
) -> int:
    """How many of the waiting tasks, from the first, may start now.

    Args:
        limits: The batch's ceilings.
        sample: The nodes as last measured.
        running: Requests of the tasks that run.
        waiting: Requests of the ready tasks, best first. None is passed over for a smaller one behind it:
            priority is strict.

    Returns:
        A count from 0 to `len(waiting)`; at least 1 when nothing runs and something waits.
    """
    budgets = [_node_budget(node, limits) for node in sample.nodes]
    cores = sum(budget[0] for budget in budgets)
    memory_mb = sum(budget[1] for budget in budgets)
    measured_mb = sum(node.workers_mb for node in sample.nodes)
    cores -= sum(request.num_cpus for request in running)
    memory_mb -= max(measured_mb, float(sum(request.memory_mb for request in running)))
    gpus = sum(node.gpus for node in sample.nodes) - sum(request.num_gpus for request in running)
    admitted = 0
    for request in waiting[: max(0, limits.max_workers - len(running))]:
        cores -= request.num_cpus
        memory_mb -= request.memory_mb
        gpus -= request.num_gpus
        fits = cores >= -1e-9 and memory_mb >= 0 and (gpus >= -1e-9 or not request.num_gpus)
        alone = not running and admitted == 0
        if not fits and not alone:
            break
        admitted += 1
    return admitted
