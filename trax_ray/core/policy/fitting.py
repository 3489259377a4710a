"""Whether a cluster has a node that could ever run an attempt, and where. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from trax_ray.core.policy.sharing import Amount
from trax_ray.core.task import ResourceRequest

__all__ = ["spreads", "why_none_fits"]

MOST_SHAPES = 4
"""Of so many kinds of node it is said what they have."""


def why_none_fits(request: ResourceRequest, nodes: Sequence[Amount]) -> str:
    """Why no node could run an attempt, were it idle, and what would; empty where one could.

    Args:
        request: What the attempt asks for.
        nodes: What each node has for attempts.
    """
    wanted = Amount.of([request])
    if any(wanted.fits(node) for node in nodes):
        return ""
    asked = _shape(wanted)
    # Those without cores run no tasks, and are no example of what does.
    shapes = Counter(map(_shape, [node for node in nodes if node.cpus] or nodes))
    told = [f"{shape}{f' ({count} of them)' if count > 1 else ''}" for shape, count in shapes.most_common(MOST_SHAPES)]
    more = f"; and {len(shapes) - MOST_SHAPES} other kinds" if len(shapes) > MOST_SHAPES else ""
    return (
        f"no node of the cluster can run a task that asks for {asked}: its nodes have {'; '.join(told) or 'nothing'}"
        f"{more}: take a model that asks for less, or give the cluster a node with {asked} for tasks"
    )


def spreads(nodes: Sequence[Amount]) -> bool:
    """Whether attempts are spread over the nodes, each to the one after the last one's.

    Else Ray fills one node after the other by half, those with GPUs last, so that cores beside a GPU stay free for what
    needs it.
    """
    return sum(node.cpus > 0 for node in nodes) > 1 and not any(node.gpus for node in nodes)


def _shape(amount: Amount) -> str:
    gpus = f" and {_count(amount.gpus, 'GPU')}" if amount.gpus else ""
    comma = "," if gpus else " and"
    return f"{_count(amount.cpus, 'CPU')}{comma} {amount.memory_mb:.0f} MB{gpus}"


def _count(number: float, name: str) -> str:
    return f"{number:g} {name}{'' if number == 1 else 's'}"
