"""What is around a batch: the cluster's nodes and their load, the other batches, and what it may take beside them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable

import ray

from trax_ray.cluster import remote
from trax_ray.cluster.attempts import Attempts
from trax_ray.cluster.demand import Asking, scales
from trax_ray.cluster.neighbours import Neighbours
from trax_ray.cluster.sampling import Measurement, Sampler
from trax_ray.core.groups import Shut
from trax_ray.core.policy import admission
from trax_ray.core.policy.admission import Allowance
from trax_ray.core.policy.fitting import spreads
from trax_ray.core.policy.sharing import Amount, Held, narrowed
from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import BatchTask

__all__ = ["Surroundings"]

SAMPLE_PERIOD_S = 1.0
NODES_PERIOD_S = 5.0


class Surroundings:
    """Looked at once a second by the coordinator, whose attempts are among what is there.

    Args:
        spec: The batch.
        attempts: Those in flight.
        own_pids: The batch's driver, first, and its coordinator, on this node.
        run: The driver's run; with the batch's name, what a cluster that scales knows it by.

    Attributes:
        nodes: Resources of the nodes that live, by node id.
        measured: Load and memory, as measured last.
        allowance: What the batch may take now: what the nodes have to give, and its share of that beside other batches.
        spreads: Whether attempts are spread over the nodes.
        memory_peak_mb: The most memory that the batch's processes had, MiB.
        cpu_peak_percent: The highest load of the coordinator's node, percent of all its cores.
    """

    def __init__(self, spec: BatchSpec, attempts: Attempts, own_pids: list[int], run: str) -> None:
        self._limits = spec.limits
        self._attempts = attempts
        node_id = ray.get_runtime_context().get_node_id()
        self._sampler = Sampler(node_id, own_pids)
        self._neighbours = Neighbours(spec, node_id, own_pids)
        self._governor = admission.Governor(spec.limits)
        self._asking = Asking(f"{spec.name} {run}") if scales() else None
        self._nodes_at = -1e9
        self.nodes: dict[str, dict[str, float]] = {}
        self.spreads = False
        self.memory_peak_mb = self.cpu_peak_percent = 0.0
        self.measure()

    @property
    def is_time(self) -> bool:
        """Whether they should be looked at again."""
        return time.monotonic() - self._measured_at >= SAMPLE_PERIOD_S

    @property
    def largest_mb(self) -> float:
        """The most memory that an attempt can have, MiB; of a cluster that scales, what will come isn't known."""
        if self._asking is not None:
            return float("inf")
        return max((node.get("memory", 0.0) for node in self.nodes.values()), default=0.0) / 2**20

    def measure(self) -> None:
        """Look at the nodes, and work out what there is to give."""
        self._measured_at = now = time.monotonic()
        if now - self._nodes_at >= NODES_PERIOD_S:
            self._nodes_at = now
            self.nodes = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
            self.spreads = spreads([remote.amount_of(node) for node in self.nodes.values()])
        reports, beside = self._attempts.reports(), self._neighbours.pids
        self.measured: Measurement = self._sampler.measure(self.nodes, reports, beside)
        self._whole: Allowance = self._governor.observe(self.measured.sample, now)
        self.allowance = narrowed(self._whole, self._neighbours.share)
        self.memory_peak_mb = max(self.memory_peak_mb, self.measured.memory_mb)
        self.cpu_peak_percent = max(self.cpu_peak_percent, self.measured.cpu_percent)

    def meet(self, waiting: Iterable[BatchTask], shut: Shut) -> None:
        """Tell the other batches what this one has and would have if it were alone, and hear them, where it is time.

        Args:
            waiting: What could start, those first that run first.
            shut: What `waiting` leaves out from then on.
        """
        if not self._neighbours.is_time:
            return
        running = self._attempts.tasks()
        wanted = admission.admit(self._limits, self._whole, running, waiting, shut)
        memory_mb = sum(remote.amount_of(node).memory_mb for node in self.nodes.values())
        room = Amount(self._whole.cores, memory_mb or float("inf"), self._whole.gpus)
        self._neighbours.meet([*running, *wanted], self._attempts.at_work(), self.measured.workers, room)
        self.allowance = narrowed(self._whole, self._neighbours.share)

    def to_give_way(self) -> list[Held]:
        """The attempts to put back because a batch of higher priority has waited long enough for their room."""
        return self._neighbours.to_give_way(self._attempts.tasks(), self._attempts.movable())

    def ask_for_nodes(self, waiting: Iterable[BatchTask], *, at_once: bool = False) -> None:
        """Tell a cluster that scales what runs, and what would run if there were more of it.

        Args:
            waiting: What could start.
            at_once: Not only when it is time.
        """
        if self._asking is None:
            return
        running = self._attempts.tasks()
        more = itertools.islice(waiting, max(0, self._limits.max_workers - len(running)))
        self._asking.ask([*running, *more], at_once=at_once)

    def leave(self) -> None:
        """The batch wants nothing more of other batches' room."""
        self._neighbours.leave()
