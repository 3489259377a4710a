"""What batches wait for, told to a cluster that scales, so that nodes come before the queue drains.

The queue never enters Ray, so Ray's autoscaler would see the attempts that run, and no reason for another node. It is
told by `request_resources`, which holds for the whole cluster until somebody says something else: also when the one
who asked has been killed, and then it keeps nodes that cost money. So one actor of the cluster asks for all batches
that live. A batch says every few seconds what it wants; what isn't said again lapses, and with the last one the actor
takes everything back and ends.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import ray

from trax_ray.core.task import BatchTask

__all__ = ["Asking", "Demand", "bundles_of", "scales"]

logger = logging.getLogger(__name__)

NAME, NAMESPACE = "trax_ray-demand", "trax_ray"

ASK_PERIOD_S = 5.0
LAPSES_AFTER_S = 30.0
LOOK_S = 1.0

Bundle = dict[str, float]


def scales() -> bool:
    """Whether this cluster starts nodes by itself: its autoscaler knows those that it drives by an id of their own."""
    try:
        from ray.autoscaler.v2.sdk import get_cluster_status

        status = get_cluster_status(ray.get_runtime_context().gcs_address)
        return any(node.instance_id for node in (*status.active_nodes, *status.idle_nodes))
    except Exception as error:  # noqa: BLE001 - it isn't part of Ray's promises; without it nothing is asked for
        logger.debug("whether the cluster scales isn't known: %s", error)
        return False


def bundles_of(tasks: Iterable[BatchTask]) -> list[Bundle]:
    """What tasks ask of nodes, as `request_resources` takes it; those that share a process reserve nothing."""
    bundles = []
    for task in tasks:
        request = task.resources
        bundle = {"CPU": request.num_cpus, "memory": request.memory_mb * 2**20, "GPU": request.num_gpus}
        if not task.shared and request.num_cpus:
            bundles.append({name: float(value) for name, value in bundle.items() if value})
    return bundles


class Demand:
    """The body of the actor: one for all batches of a cluster."""

    def __init__(self) -> None:
        self._asked: dict[str, tuple[float, list[Bundle]]] = {}
        self._lock = threading.Lock()
        self._told: list[Bundle] = []
        threading.Thread(target=self._watch, daemon=True).start()

    def ask(self, batch: str, bundles: list[Bundle]) -> None:
        """What a batch wants nodes for, all of it, running attempts included; nothing takes it back.

        Args:
            batch: Tells one from another.
            bundles: As of `bundles_of`.
        """
        with self._lock:
            self._asked[batch] = (time.monotonic(), bundles)

    def _watch(self) -> None:
        began = time.monotonic()
        while True:
            time.sleep(LOOK_S)
            now = time.monotonic()
            with self._lock:
                self._asked = {name: each for name, each in self._asked.items() if now - each[0] < LAPSES_AFTER_S}
                wanted = [bundle for _, bundles in self._asked.values() for bundle in bundles]
                over = not self._asked and now - began > LAPSES_AFTER_S
            if wanted != self._told:
                _tell(wanted)
                self._told = wanted
            if over:
                ray.kill(ray.get_runtime_context().current_actor)
                return


def _tell(bundles: list[Bundle]) -> None:
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=bundles)


class Asking:
    """One batch's side of it.

    Args:
        batch: Tells it from others.
    """

    def __init__(self, batch: str) -> None:
        self._batch = batch
        self._actor: Any = None
        self._asked_at = float("-inf")
        self._last: list[Bundle] = []

    def ask(self, tasks: Iterable[BatchTask], *, at_once: bool = False) -> None:
        """Say what is wanted, where it is time to.

        Args:
            tasks: What runs and what could run beside it.
            at_once: Whether it is the last word.
        """
        now = time.monotonic()
        if not at_once and now - self._asked_at < ASK_PERIOD_S:
            return
        self._asked_at = now
        bundles = bundles_of(tasks)
        if not bundles and not self._last and self._actor is None:
            return
        self._last = bundles
        try:
            if self._actor is None:
                self._actor = _the_actor()
            self._actor.ask.remote(self._batch, bundles)
        except (ray.exceptions.RayError, ValueError):  # it has just ended: the next time it is another one
            self._actor = None


def _the_actor() -> Any:
    remote_class: Any = ray.remote(Demand)
    options: Mapping[str, Any] = {
        "name": NAME,
        "namespace": NAMESPACE,
        "get_if_exists": True,
        "lifetime": "detached",
        "num_cpus": 0,
        "max_restarts": 0,
        "max_concurrency": 4,
    }
    return remote_class.options(**options).remote()
