"""The driver's side of a batch: connect, make the coordinator, feed it, and make a new one where it dies.

Ray is called in one thread, which all share (`trax_ray.cluster.thread`): whoever waits here looks again and again.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray

from trax_ray.cluster import coordinator
from trax_ray.cluster.connect import Connection, connect, disconnect
from trax_ray.cluster.demand import scales
from trax_ray.cluster.reach import check_nodes
from trax_ray.cluster.remote import amount_of
from trax_ray.cluster.thread import in_ray, post_to_ray
from trax_ray.codes import FailureCode
from trax_ray.core.policy.fitting import why_none_fits
from trax_ray.core.policy.prediction import Observation
from trax_ray.core.progress import BatchProgress
from trax_ray.core.spec import BatchSpec
from trax_ray.core.standing import Expected
from trax_ray.core.state.events import encode
from trax_ray.core.task import BatchTask, ResourceRequest
from trax_ray.errors import BusyError, ResourceError, SetupError, TaskCancelled, TraxRayError
from trax_ray.providers.keys import Secret
from trax_ray.report.result import BatchResult

__all__ = ["Driver"]

logger = logging.getLogger(__name__)

MAX_COORDINATORS = 3
"""Coordinators that one run may use up; more than two deaths have a cause that another one won't cure."""

LOOK_S = 0.02
"""How long one look at an answer takes that isn't there yet; others wait for Ray's thread meanwhile."""

LOOK_PERIOD_S = 0.05
"""How often it is looked whether the batch has ended."""

SNAPSHOT_S = 5.0
"""How long to wait for the coordinator's word of how the batch stands."""

NODE_CHECK_S = 5.0
"""How often it looks whether the coordinator's node lives: an actor that waits for a dead node waits for ever."""

AGAIN_S = 0.5
OUT_OF_REACH_S = 10.0
"""How long a coordinator may be out of reach, or the one before it hold the folder, before that is an error."""

LEAVE_S = 15.0


class Driver:
    """One run of a batch. Its methods block; the Python API calls them from threads, several at the same time.

    Args:
        spec: The batch.
        address: `host:port` of a Ray cluster; None finds or starts one.
        lean: Start a local head without the dashboard.
        keys: Keys of services by variable.
        expected: What the run is given in all, as far as that is known; None where nothing is.
        machine: What observations call this machine.
        earlier: What the attempts of earlier runs took.
    """

    def __init__(
        self,
        spec: BatchSpec,
        *,
        address: str | None = None,
        lean: bool = False,
        keys: Mapping[str, Secret] | None = None,
        expected: Expected | None = None,
        machine: str = "",
        earlier: tuple[Observation, ...] = (),
    ) -> None:
        self.spec = spec
        self._keys = dict(keys or {})
        self._expected = expected or Expected()
        self._known = (machine, earlier)
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
        inputs = self._expected.inputs
        self._snapshot = BatchProgress(total_tasks=inputs, queued_tasks=inputs)
        # Held while the coordinator is exchanged: two threads may find it dead at the same time.
        self._exchange = threading.RLock()
        self._gate = threading.Condition()
        self._inside = 0
        self._leaving = False

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

    def check_nodes(self, tasks: Iterable[BatchTask]) -> None:
        """See that every node reads an input and writes to the output folder; see `trax_ray.cluster.reach`.

        Raises:
            SetupError: One can't; names it.
        """
        with self._in_ray():
            check_nodes(tasks, self.spec.output_dir)

    def gpus(self) -> float:
        """GPUs that the cluster has for tasks."""
        return float(in_ray(ray.cluster_resources).get("GPU", 0.0))

    def open(self) -> coordinator.Opened:
        """Make the coordinator and let it take the output folder.

        Raises:
            BusyError: Another batch holds the folder.
            JournalError: The journal is damaged.
            SetupError: The coordinator can't be started.
        """
        with self._in_ray(), self._exchange:
            return self._open()

    def add(self, tasks: list[BatchTask]) -> int:
        """Give the coordinator tasks; none is a way to ask for room.

        Returns:
            For how many more its queue has room.

        Raises:
            UsageError: A task depends on one that doesn't exist.
        """
        until = time.monotonic() + OUT_OF_REACH_S
        with self._in_ray():
            while True:
                with self._exchange:
                    actor = self._actor
                try:
                    answer = self._answer(actor, "add", [encode(task) for task in tasks])
                    break
                except ray.exceptions.RayActorError as error:
                    # The answer comes after the journal's fsync: what was answered before is known to the next one.
                    # One whose answer got lost may be asked again, too: it knows what it has.
                    if isinstance(error, ray.exceptions.ActorUnavailableError) and time.monotonic() < until:
                        time.sleep(AGAIN_S)
                    else:
                        self._replace(actor, error)
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
        self._send(self._actor, name)

    def snapshot(self) -> BatchProgress:
        """How the batch stands; the last known state where the coordinator is just being replaced."""
        try:
            with self._in_ray():
                self._snapshot = self._answer(self._actor, "snapshot", within_s=SNAPSHOT_S)
        except (ray.exceptions.RayError, TimeoutError, TraxRayError) as error:
            logger.debug("no snapshot: %s", error)
        return self._snapshot

    def seen(self) -> tuple[Observation, ...]:
        """What the attempts of this run took, as far as the present coordinator saw them; nothing where it is gone."""
        try:
            with self._in_ray():
                found: tuple[Observation, ...] = self._answer(self._actor, "seen", within_s=SNAPSHOT_S)
        except (ray.exceptions.RayError, TimeoutError, TraxRayError) as error:
            logger.debug("nothing is known of what the attempts took: %s", error)
            return ()
        return found

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
        with self._in_ray():
            with self._exchange:
                actor, running = self._actor, self._run
            until = time.monotonic() + timeout_s
            try:
                while not (found := in_ray(_look, running, 0.0)):
                    if self._leaving or time.monotonic() > until:
                        return None
                    time.sleep(LOOK_PERIOD_S)
                (result,) = found
            except ray.exceptions.RayActorError as error:
                self._replace(actor, error)
                return None
        if isinstance(result, TraxRayError):
            raise result
        ended: BatchResult = result
        return ended

    def close(self) -> None:
        """Leave the cluster. What was committed stays; what ran is interrupted."""
        with self._gate:
            self._leaving = True
            self._gate.wait_for(lambda: not self._inside, LEAVE_S)
        self._actor = self._run = None
        if self.connection is not None:
            disconnect(self.connection)
            self.connection = None

    @contextmanager
    def _in_ray(self) -> Iterator[None]:
        """A thread of ours has Ray called; `close` waits for it: a call after that would start another Ray."""
        with self._gate:
            if self._leaving:
                raise TaskCancelled("the run is being left")
            self._inside += 1
        try:
            yield
        finally:
            with self._gate:
                self._inside -= 1
                self._gate.notify_all()

    def _answer(self, actor: Any, method: str, *arguments: Any, within_s: float | None = None) -> Any:
        """Call a method of a coordinator and wait for its answer, as long as there may be one.

        Raises:
            RayError: There won't be one.
            SetupError: The coordinator's node is lost.
            TaskCancelled: The run is being left.
            TimeoutError: It didn't come within so many seconds.
        """
        looked_at = began_at = time.monotonic()
        reference = in_ray(lambda: getattr(actor, method).remote(*arguments))
        while not self._leaving:
            found = in_ray(_look, reference, LOOK_S)
            if found:
                return found[0]
            if within_s is not None and time.monotonic() - began_at > within_s:
                raise TimeoutError(f"no answer within {within_s:g} s")
            if time.monotonic() - looked_at > NODE_CHECK_S:
                looked_at = time.monotonic()
                self._check_node()
        raise TaskCancelled("the run is being left")

    def _open(self) -> coordinator.Opened:
        """Make a coordinator that has the folder; another one where it dies over that."""
        assert self.connection is not None
        while True:
            self._coordinators += 1
            actor = in_ray(coordinator.create, self.connection.node_id)
            try:
                opened = self._take_folder(actor)
                break
            except ray.exceptions.RayActorError as error:
                self._see_whether_another_helps(error)
                in_ray(ray.kill, actor)
            except ray.exceptions.RayError as error:
                raise SetupError(f"the coordinator couldn't be started: {_said(error)}") from error
        # Not before: until it has read the journal it knows nothing of the batch.
        self._actor = actor
        self._run = in_ray(lambda: actor.run.remote())
        logger.debug("batch %s: epoch %d on %s", self.spec.name, opened.epoch, platform.node())
        return opened

    def _take_folder(self, actor: Any) -> coordinator.Opened:
        until = time.monotonic() + OUT_OF_REACH_S
        keys = {variable: key.reveal() for variable, key in self._keys.items()}
        while True:
            opened = self._answer(
                actor, "open", self.spec.to_dict(), self._run_id, os.getpid(), keys, self._expected, *self._known
            )
            if isinstance(opened, coordinator.Opened):
                return opened
            # One before it, of this run, was ended a moment ago, and may not have noticed yet.
            if not isinstance(opened, BusyError) or self._coordinators == 1 or time.monotonic() > until:
                raise opened
            time.sleep(AGAIN_S)

    def _replace(self, lost: Any, error: Exception) -> None:
        """Another coordinator continues from the journal, unless another thread has seen to that."""
        with self._exchange:
            if self._actor is not lost:
                return
            self._see_whether_another_helps(error)
            logger.warning("the coordinator died (%s); another one continues", _said(error))
            # It may only be out of reach. Then it would go on, and keep the folder.
            in_ray(ray.kill, lost)
            self._open()
            # What was said last, in case that the lost one hadn't brought it to the journal.
            for name in (self._pausing, self._ending, "close" if self._closed else ""):
                if name:
                    self._send(self._actor, name)

    @staticmethod
    def _send(actor: Any, name: str) -> None:
        post_to_ray(lambda: actor.command.remote(name))

    def _see_whether_another_helps(self, error: Exception) -> None:
        self._check_node()
        if self._coordinators >= MAX_COORDINATORS:
            raise ResourceError(
                f"the batch's coordinator died {self._coordinators} times ({_said(error)}): "
                "the same command continues; look at memory and at Ray's logs first",
                failure_class="config",
                code=FailureCode.COORDINATOR_DIED,
            ) from error

    def _check_node(self) -> None:
        """The coordinator can only be where the driver is: there are the lock and the output folder."""
        assert self.connection is not None
        alive = {node["NodeID"] for node in in_ray(ray.nodes) if node["Alive"]}
        if self.connection.node_id not in alive:
            raise SetupError(
                "Ray on this machine has died under the batch: the same command continues", code=FailureCode.RAY_DIED
            )

    def _check_fits(self, request: ResourceRequest) -> None:
        """A request that fits no node would hang without a word."""
        nodes = [amount_of(node["Resources"]) for node in in_ray(ray.nodes) if node["Alive"]]
        why_not = why_none_fits(request, nodes)
        if not why_not:
            return
        if in_ray(scales):
            logger.warning("no node fits a task of this batch yet: the cluster is asked for one")
            return
        raise SetupError(why_not)


def _look(reference: Any, timeout_s: float) -> tuple[Any, ...]:
    """The answer behind a reference, where it has come; else nothing."""
    ready, _ = ray.wait([reference], timeout=timeout_s)
    return (ray.get(ready[0]),) if ready else ()


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: " + " ".join(str(error).split())[:300]
