"""The board on which the batches of a cluster say what they have and want: Ray's store of keys and values.

It lies in Ray's GCS, which is there where the cluster is: no actor of ours can be lost, and no node is kept for it. A
batch writes its own entry every few seconds and reads the others. What is made of them is decided in
`trax_ray.core.policy.sharing`; where the board can't be read the batch works as if it were alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

from ray.experimental import internal_kv

from trax_ray.core.policy.sharing import (
    Amount,
    Heard,
    Held,
    Member,
    Patience,
    Share,
    encode_member,
    requests_of,
    share_of,
    to_give_way,
)
from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import BatchTask

__all__ = ["Neighbours", "erase", "read", "write"]

logger = logging.getLogger(__name__)

NAMESPACE, PREFIX = "trax_ray", "batch "

PERIOD_S = 2.0


class Neighbours:
    """The other batches of the cluster, as one batch sees them.

    Args:
        spec: The batch.
        node_id: The Ray node of its coordinator.
        own_pids: Its driver and its coordinator, on that node.
    """

    def __init__(self, spec: BatchSpec, node_id: str, own_pids: Iterable[int]) -> None:
        self._own = Member(spec.output_dir, spec.name, spec.batch_priority, node=node_id)
        self._own_pids = tuple(own_pids)
        self._others: list[Member] = []
        self._heard = Heard()
        self._patience = Patience()
        self._beat = 0
        self._met_at = float("-inf")
        self._left = False
        self.share: Share | None = None

    @property
    def is_time(self) -> bool:
        """Whether the board should be looked at again."""
        return not self._left and time.monotonic() - self._met_at >= PERIOD_S

    @property
    def pids(self) -> frozenset[int]:
        """Processes of other batches on the coordinator's node."""
        return frozenset(
            pid for other in self._others for node, pids in other.pids if node == self._own.node for pid in pids
        )

    def meet(
        self, wants: Iterable[BatchTask], has: Iterable[BatchTask], workers: Iterable[tuple[str, int]], room: Amount
    ) -> None:
        """Say how the batch stands, and work out its share anew.

        Args:
            wants: The tasks that would run if it were alone, those that run first.
            has: Those that are at work.
            workers: Node and number of each of its worker processes.
            room: What the cluster has, as far as the batch's limits let it use it.
        """
        now = time.monotonic()
        at_work = requests_of(has)
        since_s = now - self._met_at if self._beat else 0.0
        self._met_at = now
        self._beat += 1
        self._own = replace(
            self._own,
            wants=requests_of(wants),
            has=at_work,
            served_s=self._own.served_s + Amount.of(at_work).cpus * since_s,
        )
        try:
            self._others = self._heard.living(read(but=self._own.batch), now)
            self._own = replace(self._own, pids=self._pids_of(workers))
            write(self._own.batch, encode_member(self._own, self._beat))
            for batch in self._heard.forgotten(now):
                erase(batch)
        except Exception as error:  # noqa: BLE001 - it isn't part of Ray's promises, and nothing depends on it
            logger.debug("the board of the cluster's batches can't be read: %s", error)
            self._others = []
        self.share = share_of(self._own, self._others, room)

    def to_give_way(self, running: Iterable[BatchTask], attempts: Iterable[Held]) -> list[Held]:
        """The attempts to put back because a batch of higher priority has waited long enough for them.

        Args:
            running: All tasks that run.
            attempts: Those of them that may be put back.
        """
        held = Amount.of(requests_of(running))
        if not self._patience.is_over(self.share, held, time.monotonic()):
            return []
        assert self.share is not None
        return to_give_way(self.share, held, attempts)

    def leave(self) -> None:
        """The batch wants nothing more. One that is killed doesn't say so, and what it has said lapses."""
        self._left = True
        try:
            erase(self._own.batch)
        except Exception as error:  # noqa: BLE001 - as above
            logger.debug("the board of the cluster's batches can't be written to: %s", error)

    def _pids_of(self, workers: Iterable[tuple[str, int]]) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """The batch's own processes on nodes where the load is measured: no foreign ones for those who measure it."""
        nodes: dict[str, list[int]] = {other.node: [] for other in self._others}
        nodes[self._own.node] = list(self._own_pids)
        for node, pid in workers:
            if node in nodes and pid not in nodes[node]:
                nodes[node].append(pid)
        return tuple((node, tuple(pids)) for node, pids in nodes.items() if pids)


def write(batch: str, content: bytes) -> None:
    """Put a batch's entry in the place of the one before it."""
    internal_kv._internal_kv_put(PREFIX + batch, content, overwrite=True, namespace=NAMESPACE)


def read(*, but: str = "") -> Mapping[str, bytes]:
    """The entries of all batches, by their batch.

    Args:
        but: One that isn't looked for.
    """
    keys = [key.decode(errors="replace") for key in internal_kv._internal_kv_list(PREFIX, namespace=NAMESPACE)]
    batches = [key.removeprefix(PREFIX) for key in keys]
    found = {
        batch: internal_kv._internal_kv_get(PREFIX + batch, namespace=NAMESPACE) for batch in batches if batch != but
    }
    return {batch: content for batch, content in found.items() if content is not None}


def erase(batch: str) -> None:
    """Take a batch's entry away; nothing happens where there is none."""
    internal_kv._internal_kv_del(PREFIX + batch, namespace=NAMESPACE)
