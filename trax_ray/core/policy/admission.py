"""How many tasks may start now: limits and a measurement in, a number out.

Load that the batch itself makes never closes admission. Load of other programs closes one core after another, each
when it takes most of that core for some seconds. Memory is budgeted per node, by the larger of what the tasks declare
and what they are measured to use. One task always may run: a batch under pressure is slow, not stuck. Where the batch
is far over its memory limit, an attempt is ended: the one that uses far more than it asked for, else the youngest,
which goes back to the queue.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from trax_ray.core.groups import Shut
from trax_ray.core.spec import Limits
from trax_ray.core.task import MEMORY_STEP_MB, BatchTask, ResourceRequest

__all__ = [
    "Allowance",
    "Capacity",
    "Governor",
    "Memory",
    "NodeSample",
    "ResourceSample",
    "Use",
    "admit",
    "capacity",
    "cpu_slots",
    "idle_machine",
    "to_give_back",
]

OPEN_AGAIN = 0.9
FAR_OVER = 1.2
CPU_MARGIN_PERCENT = 5.0
IDLE_PERCENT = 1.0
"""Load that every machine has, percent of all cores: at or below it all cores of a node open again."""

MISSING_CORES = 0.75
"""A slot stays open where no more than this share of its core is missing."""

CLOSES_AFTER_S = 3.0
"""How long a core must be missing before its slot closes, seconds."""

SETTLE_S = 3.0
"""The least time between two attempts that are ended for their memory, seconds: memory comes back slowly."""

OVERHEAD_MB = 300.0
"""About what a batch's driver and coordinator take, MiB: what is reckoned with before it can be measured."""

GREEDY = 1.25
"""An attempt that uses this many times the memory that it asked for is to blame for the pressure."""


@dataclass(frozen=True, slots=True)
class NodeSample:
    """One node as it was measured.

    Args:
        node: Its id.
        cores: CPU cores that Ray may use there.
        foreign_cpu_percent: Load of programs that aren't the batch's, percent of all cores, 0-100.
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
    """CPU-bound tasks that one idle node may run: max(1, round(cores x limit / 100)); none where it has no cores."""
    if not cores:
        return 0
    return max(1, round(cores * cpu_limit_percent / 100))


def _open_cores(node: NodeSample, limits: Limits, foreign_percent: float) -> float:
    """Cores that tasks may use beside `foreign_percent` load of other programs.

    Load within what `cpu_limit_percent` leaves free, or within the noise, takes no core.

    A task gets its core where most of one is free: 1.44 free cores are two slots, each of which runs at 72 %. One slot
    would leave a third of what is free unused.
    """
    most = cpu_slots(node.cores, limits.cpu_limit_percent)
    free = max(100.0 - limits.cpu_limit_percent, IDLE_PERCENT + CPU_MARGIN_PERCENT)
    if foreign_percent <= free:
        return float(most)
    return float(min(most, math.floor(node.cores * max(0.0, 100.0 - foreign_percent) / 100 + MISSING_CORES + 1e-9)))


@dataclass(frozen=True, slots=True)
class _Cores:
    """Cores of a node that tasks may use.

    Args:
        open: How many.
        short_since: Since when other programs leave fewer cores than `open`, seconds; None where they don't.
        left: The most cores that they left free since then.
    """

    open: float
    short_since: float | None = None
    left: float = 0.0

    def after(self, node: NodeSample, limits: Limits, now: float) -> _Cores:
        """The cores after a measurement: they close after `CLOSES_AFTER_S`, and open again with `CPU_MARGIN_PERCENT` to
        spare."""
        left = _open_cores(node, limits, node.foreign_cpu_percent)
        if left >= self.open:
            return _Cores(max(self.open, _open_cores(node, limits, node.foreign_cpu_percent + CPU_MARGIN_PERCENT)))
        if self.short_since is None:
            return _Cores(self.open, now, left)
        most_left = max(left, self.left)
        if now - self.short_since < CLOSES_AFTER_S:
            return _Cores(self.open, self.short_since, most_left)
        return _Cores(most_left, now, left) if left < most_left else _Cores(most_left)


class Memory(str, Enum):
    """What the batch's memory allows."""

    OPEN = "open"
    CLOSED = "closed"
    SHED = "shed"


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the nodes have to give.

    Args:
        cores: Cores for tasks, all nodes together.
        memory_mb: Memory for task workers, all nodes together, MiB.
        workers_mb: What task workers use of it.
        gpus: GPUs, all nodes together.
        memory: Whether more may start (`open`), nothing (`closed`), or something must be given back (`shed`).
        over: The nodes that are far over their limit.
        reason: Why it is less than the limits allow; empty where it isn't.
        nodes: How many nodes these are.
        all_cores: Cores that they have, those included that the CPU limit keeps from tasks.
        yields: What has no core or GPU left doesn't start, be it the only one: another batch goes first.
    """

    cores: float
    memory_mb: float
    workers_mb: float = 0.0
    gpus: float = 0.0
    memory: Memory = Memory.OPEN
    over: tuple[str, ...] = ()
    reason: str = ""
    nodes: int = 1
    all_cores: float = 0.0
    yields: bool = False


class Governor:
    """Turns measurements into what may run, with hysteresis: what closes at a figure opens again well below it.

    Memory closes at the limit and opens at 90 % of it; at 120 % an attempt is ended, at most one every 3 s. A core
    closes when the load of other programs has taken it for 3 s, and opens when that load is 5 percentage points below
    where it would be free.

    Args:
        limits: The batch's ceilings.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._cores: dict[str, _Cores] = {}
        self._closed: set[str] = set()
        self._shed_at = float("-inf")

    def observe(self, sample: ResourceSample, now: float) -> Allowance:
        """Take a measurement.

        Args:
            sample: All nodes as they are now.
            now: Seconds, of any clock that doesn't run backwards.
        """
        limit_mb = self._limits.memory_limit_mb
        self._cores = {node.node: self._cores_of(node, now) for node in sample.nodes}
        used = {node.node: node.overhead_mb + node.workers_mb for node in sample.nodes}
        self._closed = {
            name for name, mb in used.items() if mb >= limit_mb * (OPEN_AGAIN if name in self._closed else 1.0)
        }
        far_over = tuple(name for name, mb in used.items() if mb >= limit_mb * FAR_OVER)
        shed = bool(far_over) and now - self._shed_at >= SETTLE_S
        if shed:
            self._shed_at = now
        memory = Memory.SHED if shed else Memory.CLOSED if self._closed else Memory.OPEN
        return Allowance(
            cores=sum(cores.open for cores in self._cores.values()),
            memory_mb=sum(max(0.0, limit_mb - node.overhead_mb) for node in sample.nodes if node.cores),
            workers_mb=sum(node.workers_mb for node in sample.nodes),
            gpus=sum(node.gpus for node in sample.nodes),
            memory=memory,
            over=far_over,
            reason=self._reason(sample, used),
            nodes=max(1, len(sample.nodes)),
            all_cores=sum(node.cores for node in sample.nodes),
        )

    def _cores_of(self, node: NodeSample, now: float) -> _Cores:
        before = self._cores.get(node.node)
        if before is None:
            return _Cores(_open_cores(node, self._limits, node.foreign_cpu_percent))
        return before.after(node, self._limits, now)

    def _reason(self, sample: ResourceSample, used: Mapping[str, float]) -> str:
        reasons = [
            f"the batch uses {used[name]:.0f} of {self._limits.memory_limit_mb} MB on node {name[:8]}"
            for name in sorted(self._closed)
        ]
        reasons += [
            f"other programs take {node.foreign_cpu_percent:.0f} % of node {node.node[:8]}"
            for node in sample.nodes
            if self._cores[node.node].open < cpu_slots(node.cores, self._limits.cpu_limit_percent)
        ]
        return "; ".join(reasons)


def idle_machine(limits: Limits, cores: float) -> Allowance:
    """What one node gives on which nothing runs yet, the batch's own driver and coordinator apart."""
    return Governor(limits).observe(ResourceSample((NodeSample("", cores, overhead_mb=OVERHEAD_MB),)), 0.0)


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many attempts may run at the same time.

    Args:
        slots: 1 to `max_workers`; 0 while the batch gives way to another one.
        reason: What allows no more, and what would; empty where as many may run as were asked for.
    """

    slots: int
    reason: str = ""


def capacity(limits: Limits, allowance: Allowance, request: ResourceRequest | None = None) -> Capacity:
    """How many attempts of one kind may run at the same time, and which limit it is that holds.

    Args:
        limits: The batch's ceilings.
        allowance: What the nodes have to give.
        request: What such an attempt asks of a node; None for one core, and memory that doesn't count.
    """
    if allowance.memory is not Memory.OPEN:
        return Capacity(1, allowance.reason)
    num_cpus = request.num_cpus if request is not None else 1.0
    least = 0 if allowance.yields else 1
    by_cores = (
        max(least, min(limits.max_workers, int(allowance.cores / num_cpus + 1e-9))) if num_cpus else limits.max_workers
    )
    by_memory = by_cores if request is None else max(1, int(allowance.memory_mb // request.memory_mb))
    if request is not None and by_memory < by_cores:
        return Capacity(by_memory, _memory_holds(limits, allowance, request, by_memory, by_cores))
    if by_cores < limits.max_workers:
        return Capacity(by_cores, allowance.reason or _cores_hold(limits, allowance))
    return Capacity(by_cores)


def _memory_holds(limits: Limits, allowance: Allowance, request: ResourceRequest, slots: int, wanted: int) -> str:
    missing_mb = math.ceil((wanted * request.memory_mb - allowance.memory_mb) / allowance.nodes)
    enough_mb = math.ceil((limits.memory_limit_mb + missing_mb) / MEMORY_STEP_MB) * MEMORY_STEP_MB
    beside = "" if allowance.nodes == 1 else f" on each of {allowance.nodes} nodes"
    return (
        f"--memory-limit {limits.memory_limit_mb}{beside} has room for {slots} of {request.memory_mb} MB each; "
        f"--memory-limit {enough_mb} lets {wanted} run"
    )


def _cores_hold(limits: Limits, allowance: Allowance) -> str:
    text = f"--cpu-limit {limits.cpu_limit_percent:g} leaves {allowance.cores:g} of {allowance.all_cores:g} cores"
    if allowance.cores >= allowance.all_cores:
        text = f"there are {allowance.cores:g} cores" if allowance.cores != 1 else "there is one core"
        return f"{text}; more of them, or a cluster, let more run"
    return f"{text}; a higher one, more cores, or a cluster let more run"


def admit(
    limits: Limits,
    allowance: Allowance,
    running: Sequence[BatchTask],
    waiting: Iterable[BatchTask],
    shut: Shut | None = None,
    starting: int | None = None,
) -> list[BatchTask]:
    """The waiting tasks, from the first, that may start now.

    Tasks that share a process count as workers only: the cores and memory of their process are measured. Those that
    need no core, such as downloads, aren't held up by one that waits for a core: nothing that it waits for is taken
    from it, and the next recording comes while this one is transcribed. A process that starts computes, though,
    whatever it does later: of such tasks no more start at a time than there are cores. Eight at once would all be late,
    where one by one the first download is well under way before the last one begins.

    Args:
        limits: The batch's ceilings.
        allowance: What the nodes have to give, as last measured.
        running: The tasks that run.
        waiting: The ready tasks, best first. Beyond that none is passed over for a smaller one behind it: priority is
            strict. It is read up to the first task that doesn't fit.
        shut: Told where no core is left, or as many processes start as may. Then it is read on for those that need
            no core, or start none, and whoever gives `waiting` should pass over the others; None reads no further.
        starting: Of the tasks that run and need no core, how many wait for their process to start; None lets any number
            start.

    Returns:
        At least one when nothing runs and something waits, unless another batch goes first.
    """
    alone = [task.resources for task in running if not task.shared]
    cores = allowance.cores - sum(request.num_cpus for request in alone)
    memory_mb = allowance.memory_mb - max(allowance.workers_mb, float(sum(request.memory_mb for request in alone)))
    gpus = allowance.gpus - sum(request.num_gpus for request in alone)
    admitted: list[BatchTask] = []
    one_waits = False
    starts = limits.max_workers if starting is None else max(1, int(allowance.cores)) - starting
    places = limits.max_workers - len(running)
    if places <= 0:
        return []
    for task in waiting:
        if one_waits and (task.shared or task.resources.num_cpus):
            continue
        starts_coreless = not task.shared and not task.resources.num_cpus
        if starts_coreless and starts <= 0 and shut is not None:
            shut.starts = True
            # Its turn comes in a moment.
            memory_mb -= task.resources.memory_mb
            places -= 1
            if len(admitted) >= places:
                break
            continue
        fits = allowance.memory is Memory.OPEN
        fits_beside_memory = True
        if not task.shared:
            request = task.resources
            cores -= request.num_cpus
            memory_mb -= request.memory_mb
            gpus -= request.num_gpus
            lacks_core = bool(request.num_cpus) and cores < -1e-9
            lacks_gpu = bool(request.num_gpus) and gpus < -1e-9
            fits_beside_memory = not (lacks_core or lacks_gpu)
            if not fits_beside_memory:
                # Whatever ends and leaves it that leaves its memory too: no more is kept for it than that has less.
                held = [*alone, *(each.resources for each in admitted if not each.shared)]
                ending = [
                    each.memory_mb for each in held if (lacks_core and each.num_cpus) or (lacks_gpu and each.num_gpus)
                ]
                memory_mb += min(request.memory_mb, min(ending, default=0))
            fits = fits and memory_mb >= 0
        first = not running and not admitted and (fits_beside_memory or not allowance.yields)
        if fits and not fits_beside_memory and not first and shut is not None:
            one_waits = shut.cores = True
        elif (fits and fits_beside_memory) or first:
            admitted.append(task)
            starts -= starts_coreless
            if len(admitted) >= places:
                break
        else:
            break
    return admitted


@dataclass(frozen=True, slots=True)
class Use:
    """What a running attempt was seen to use.

    Args:
        task_id: Whose.
        node: Where it runs.
        started_at: When it started, seconds; the youngest is the greatest.
        memory_mb: Memory of its process, MiB; 0.0 when unknown.
        requested_mb: What it had asked for, MiB.
    """

    task_id: str
    node: str
    started_at: float
    memory_mb: float
    requested_mb: int


def to_give_back(allowance: Allowance, uses: Sequence[Use]) -> tuple[Use, bool] | None:
    """The attempt to end where the batch's memory is far over its limit.

    Returns:
        What it uses, and whether it is to blame: it uses far more than it asked for. Else it is the youngest one,
            whose work costs least to do again; never the only one. None where nothing is to be ended.
    """
    if allowance.memory is not Memory.SHED:
        return None
    there = [use for use in uses if use.node in allowance.over]
    greedy = [use for use in there if use.memory_mb > use.requested_mb * GREEDY]
    if greedy:
        return max(greedy, key=lambda use: use.memory_mb - use.requested_mb), True
    if len(uses) < 2 or not there:
        return None
    return max(there, key=lambda use: use.started_at), False
