"""The driver's side of a batch: connect, make the coordinator, feed it, and make a new one where it dies."""

from __future__ import annotations

import logging
import os
import platform
import uuid
from collections.abc import Iterable
from typing import Any

import ray

from trax_ray.cluster import coordinator
from trax_ray.cluster.connect import Connection, connect, disconnect
from trax_ray.core.events import encode
from trax_ray.core.progress import BatchProgress, BatchResult
from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import BatchTask, ResourceRequest
from trax_ray.errors import ResourceError, SetupError, TraxRayError

__all__ = ["Driver"]

logger = logging.getLogger(__name__)

MAX_COORDINATORS = 3
"""Coordinators that one run may use up; more than two deaths have a cause that another one won't cure."""


class Driver:
    """One run of a batch. Its methods block; the Python API calls them from threads.

    Args:
        spec: The batch.
        address: `host:port` of a Ray cluster; None finds or starts one.
        lean: Start a local head without the dashboard.
    """

    def __init__(self, spec: BatchSpec, *, address: str | None = None, lean: bool = False) -> None:
        self.spec = spec
        self.connection: Connection | None = None
        self._address = address
        self._lean = lean
        self._actor: Any = None
        self._run: Any = None
        self._closed = False
        self._pausing = ""
        self._ending = ""
        self._coordinators = 0
        self._run_id = uuid.uuid4().hex
        self._snapshot = BatchProgress()

    def connect(self, requests: Iterable[ResourceRequest]) -> Connection:
        """Connect to Ray, and see that what the tasks ask for fits on some node.

        Raises:
            SetupError: No cluster, or no node that could ever run a task.
        """
        self.connection = connect(
            name=self.spec.name,
            address=self._address,
            lean=self._lean,
            memory_limit_mb=self.spec.limits.memory_limit_mb,
        )
        for request in requests:
            self._check_fits(request)
        return self.connection

    def gpus(self) -> float:
        """GPUs that the cluster has for tasks."""
        return float(ray.cluster_resources().get("GPU", 0.0))

    def open(self) -> coordinator.Opened:
        """Make the coordinator and let it take the output folder.

        Raises:
            BusyError: Another batch is at work there.
            JournalError: The journal is damaged.
            SetupError: The coordinator can't be started.
        """
        assert self.connection is not None
        self._coordinators += 1
        self._actor = coordinator.create(self.connection.node_id)
        try:
            opened = ray.get(self._actor.open.remote(self.spec.to_dict(), self._run_id, os.getpid()))
        except ray.exceptions.RayError as error:
            raise SetupError(f"the coordinator couldn't be started: {' '.join(str(error).split())[:300]}") from error
        if not isinstance(opened, coordinator.Opened):
            raise opened
        self._run = self._actor.run.remote()
        logger.debug("batch %s: epoch %d on %s", self.spec.name, opened.epoch, platform.node())
        return opened

    def add(self, tasks: list[BatchTask]) -> int:
        """Give the coordinator tasks; none is a way to ask for room.

        Returns:
            For how many more its queue has room.

        Raises:
            UsageError: A task depends on one that doesn't exist.
        """
        while True:
            try:
                answer = ray.get(self._actor.add.remote([encode(task) for task in tasks]))
                break
            except ray.exceptions.RayActorError as error:
                # The answer comes after the journal's fsync: what was answered before is known to the next one.
                self._replace(error)
        if isinstance(answer, TraxRayError):
            raise answer
        return int(answer)

    def command(self, name: str) -> None:
        """`pause`, `resume`, `stop`, `interrupt` or `close`; takes effect within a turn of the coordinator."""
        self._closed = self._closed or name == "close"
        if name in ("pause", "resume"):
            self._pausing = name
        if name in ("stop", "interrupt"):
            self._ending = name
        self._actor.command.remote(name)

    def snapshot(self) -> BatchProgress:
        """How the batch stands; the last known state where the coordinator is just being replaced."""
        try:
            self._snapshot = ray.get(self._actor.snapshot.remote(), timeout=5.0)
        except (ray.exceptions.RayError, TimeoutError) as error:
            logger.debug("no snapshot: %s", error)
        return self._snapshot

    def wait(self, timeout_s: float) -> BatchResult | None:
        """Wait for the end of the batch; replace the coordinator where it has died.

        Args:
            timeout_s: Seconds to wait at most.

        Returns:
            The result, or None while the batch goes on.

        Raises:
            TraxRayError: The coordinator ended with an error of its own: fenced off, or the disk is full.
            ResourceError: Coordinators die one after another.
        """
        try:
            ready, _ = ray.wait([self._run], timeout=timeout_s)
            if not ready:
                return None
            result = ray.get(ready[0])
        except ray.exceptions.RayActorError as error:
            self._replace(error)
            return None
        if isinstance(result, TraxRayError):
            raise result
        ended: BatchResult = result
        return ended

    def close(self) -> None:
        """Leave the cluster. What was committed stays; what ran is interrupted."""
        self._actor = self._run = None
        if self.connection is not None:
            disconnect(self.connection)
            self.connection = None

    def _replace(self, error: Exception) -> None:
        """Another coordinator continues from the journal."""
        if self._coordinators >= MAX_COORDINATORS:
            raise ResourceError(
                f"the batch's coordinator died {self._coordinators} times ({type(error).__name__}): "
                "the same command continues; look at memory and at Ray's logs first",
                failure_class="config",
                code="coordinator_died",
            ) from error
        logger.warning("the coordinator died (%s); another one continues", type(error).__name__)
        self.open()
        # What was said last, in case that the dead one hadn't brought it to the journal.
        for name in (self._pausing, self._ending, "close" if self._closed else ""):
            if name:
                self._actor.command.remote(name)

    def _check_fits(self, request: ResourceRequest) -> None:
        """A request that fits no node would hang without a word."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        for node in nodes:
            enough_memory = node.get("memory", 0.0) >= request.memory_mb * 2**20
            if node.get("CPU", 0.0) >= request.num_cpus and enough_memory and node.get("GPU", 0) >= request.num_gpus:
                return
        most = max((int(node.get("memory", 0.0) / 2**20) for node in nodes), default=0)
        raise SetupError(
            f"no node of the cluster can run a task that asks for {request.num_cpus:g} CPUs, {request.memory_mb} MB "
            f"and {request.num_gpus:g} GPUs (the largest has {most} MB free for tasks): "
            "give it more memory, or take a smaller model"
        )
