"""Before a batch starts on several nodes, or reads from an object store: each node tries it out, or is named."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trax_ray.cluster.thread import in_ray
from trax_ray.core.task import BatchTask
from trax_ray.errors import SetupError
from trax_ray.store.layout import Layout
from trax_ray.store.reach import out_of_reach, samples, sign
from trax_ray.store.uris import is_object_uri

__all__ = ["check_nodes"]

logger = logging.getLogger(__name__)

PATIENCE_S = 120.0
"""How long a node may take to answer: one that is just starting starts a process first."""

LOOK_PERIOD_S = 0.05


@ray.remote(max_retries=0, num_cpus=0)
def reach(inputs: list[str], sign_path: str, token: str) -> str:
    """What this node can't reach, in words."""
    return out_of_reach(inputs, sign_path, token)


def check_nodes(tasks: Iterable[BatchTask], output_dir: str) -> None:
    """See that every node that may run tasks reads an input and writes to the output folder.

    On one node that reads from its own disk, and writes there, there is nothing to see: the driver has looked at the
    inputs there.

    Raises:
        SetupError: One can't; names it, and says what.
    """
    nodes = [node for node in in_ray(ray.nodes) if node["Alive"] and node["Resources"].get("CPU", 0.0) > 0]
    paths = [path for path in (str(task.data.get("file_path") or "") for task in tasks) if path]
    if len(nodes) < 2 and not any(map(is_object_uri, [output_dir, *paths])):
        return
    inputs = samples(paths)
    with sign(Layout.of(output_dir)) as (sign_path, token):
        waiting = {in_ray(_ask, node["NodeID"], inputs, sign_path, token): node for node in nodes}
        until = time.monotonic() + PATIENCE_S
        while waiting and time.monotonic() < until:
            for reference, said in in_ray(_answers, list(waiting)):
                _expect_reach(waiting.pop(reference), said)
            time.sleep(LOOK_PERIOD_S)
    for node in waiting.values():
        logger.warning("%s hasn't said within %.0f s whether it reaches inputs and outputs", _name(node), PATIENCE_S)


def _ask(node_id: str, inputs: list[str], sign_path: str, token: str) -> Any:
    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return reach.options(scheduling_strategy=there).remote(inputs, sign_path, token)


def _answers(references: Sequence[Any]) -> list[tuple[Any, str | Exception]]:
    """What has been answered, without waiting for more."""
    ready, _ = ray.wait(list(references), num_returns=len(references), timeout=0)
    return [(reference, _answer(reference)) for reference in ready]


def _answer(reference: Any) -> str | Exception:
    try:
        return str(ray.get(reference))
    except ray.exceptions.RayError as error:
        return error


def _expect_reach(node: dict[str, Any], said: str | Exception) -> None:
    if isinstance(said, Exception):
        # It may just have died: then it runs no tasks.
        logger.warning("%s couldn't be asked what it reaches: %s", _name(node), type(said).__name__)
    elif said:
        raise SetupError(
            f"{_name(node)}: {said}: every node needs the inputs and the output folder (a shared disk), and the "
            "credentials of an object store in its own environment"
        )


def _name(node: dict[str, Any]) -> str:
    return f"node {node.get('NodeManagerHostname') or node['NodeManagerAddress']} ({node['NodeID'][:8]})"
