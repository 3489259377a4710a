"""Measures the batch's own processes and its nodes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import psutil

from trax_ray.cluster.remote import process_memory_mb
from trax_ray.core.policy.admission import NodeSample, ResourceSample

__all__ = ["Measurement", "Sampler", "WorkerReport"]


SMOOTHING = 0.3
"""Weight of the newest look at other people's load: a spike of a second closes nothing."""


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a task worker last said of itself: its node, its process, its memory (MiB), and its mark."""

    node_id: str
    pid: int
    memory_mb: float
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One look at everything.

    Args:
        sample: The nodes, for admission.
        memory_mb: Memory of the batch's own processes on all nodes, MiB.
        cpu_percent: Load of the coordinator's node, percent of all its cores.
        workers: Memory by node id and process id of each worker, MiB.
    """

    sample: ResourceSample
    memory_mb: float
    cpu_percent: float
    workers: Mapping[tuple[str, int], float] = field(default_factory=dict)


class Sampler:
    """Looks at the coordinator's node itself, at the others through what their workers say.

    Args:
        node_id: The coordinator's node.
        own_pids: The driver, first, and the coordinator.
    """

    def __init__(self, node_id: str, own_pids: Iterable[int]) -> None:
        self._node_id = node_id
        self._own = [process for pid in own_pids if (process := _process(pid)) is not None]
        self._workers: dict[int, psutil.Process] = {}
        self._beside: dict[int, psutil.Process] = {}
        self._foreign = 0.0
        self._looked_at = time.monotonic()
        self._cpu_s = self._cpu_seconds()
        psutil.cpu_percent(None)

    def measure(
        self,
        nodes: Mapping[str, Mapping[str, float]],
        reports: Iterable[WorkerReport],
        beside: Iterable[int] = (),
    ) -> Measurement:
        """Look once.

        Args:
            nodes: Per node id the resources that Ray has there (`CPU`, `GPU`).
            reports: The last word of every worker that runs a task.
            beside: Processes of other batches on this node: what they take is shared out, and isn't foreign.
        """
        self._meet(beside)
        workers: dict[tuple[str, int], float] = {}
        for report in reports:
            if report.node_id != self._node_id:
                # Several attempts may share a process; it counts once.
                workers[report.node_id, report.pid] = report.memory_mb
            elif report.pid not in self._workers and (process := _process(report.pid)) is not None:
                self._workers[report.pid] = process
        overhead = sum(filter(None, (_memory_mb(process) for process in self._own)))
        workers |= {(self._node_id, pid): memory_mb for pid, memory_mb in self._local_workers().items()}
        load, foreign = self._load()
        samples = []
        for node_id, resources in nodes.items():
            here = node_id == self._node_id
            used = [memory_mb for (where, _), memory_mb in workers.items() if where == node_id]
            samples.append(
                NodeSample(
                    node=node_id,
                    cores=resources.get("CPU", 0.0),
                    foreign_cpu_percent=foreign if here else 0.0,
                    overhead_mb=overhead if here else 0.0,
                    workers_mb=sum(used),
                    workers=len(used),
                    gpus=resources.get("GPU", 0.0),
                )
            )
        return Measurement(ResourceSample(tuple(samples)), overhead + sum(workers.values()), load, workers)

    def _meet(self, beside: Iterable[int]) -> None:
        """Reckon with the processes of other batches from now on; what they have done before counts for nothing."""
        known, self._beside = self._beside, {}
        for pid in beside:
            process = known.get(pid) or _process(pid)
            if process is not None:
                self._beside[pid] = process
                if pid not in known:
                    with contextlib.suppress(psutil.Error):
                        self._cpu_s[pid] = _cpu_s(process)

    def _local_workers(self) -> dict[int, float]:
        """Memory of each task worker on this node that lives, MiB by process id; the dead are forgotten."""
        memory = {pid: _memory_mb(process) for pid, process in self._workers.items()}
        self._workers = {pid: process for pid, process in self._workers.items() if memory[pid] is not None}
        return {pid: value for pid, value in memory.items() if value is not None}

    def _load(self) -> tuple[float, float]:
        """Load of this node, and the part of it that isn't the batch's or its Ray's, percent of all cores."""
        load = psutil.cpu_percent(None)
        now = time.monotonic()
        spent = self._cpu_seconds()
        # A process that is new since the last look has done all its work since then.
        own_s = sum(seconds - self._cpu_s.get(pid, 0.0) for pid, seconds in spent.items())
        own = 100.0 * own_s / max(now - self._looked_at, 1e-3) / (psutil.cpu_count() or 1)
        self._cpu_s, self._looked_at = spent, now
        self._foreign += SMOOTHING * (max(0.0, load - own) - self._foreign)
        return load, self._foreign

    def _cpu_seconds(self) -> dict[int, float]:
        """CPU seconds so far of every process of the batch, of others, and of the Ray head that its driver started."""
        processes = {process.pid: process for process in self._own} | self._workers | self._beside
        for process in self._own[:1]:
            with contextlib.suppress(psutil.Error):
                processes |= {child.pid: child for child in process.children(recursive=True)}
        seconds = {}
        for pid, process in processes.items():
            with contextlib.suppress(psutil.Error):
                seconds[pid] = _cpu_s(process)
        return seconds


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _memory_mb(process: psutil.Process) -> float | None:
    """The process's memory, MiB; None when it is gone."""
    try:
        return process_memory_mb(process)
    except psutil.Error:
        return None
