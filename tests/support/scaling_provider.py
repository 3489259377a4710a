"""Nodes for Ray's autoscaler that are processes of this machine: Ray's own provider of such, mended for its wheel.

Its defaults lie in a file that the wheel lacks, so it is used as one from outside; and it takes a node's memory for a
resource of the user's, which Ray refuses.
"""

from __future__ import annotations

from typing import Any

from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider

__all__ = ["Provider"]


class Provider(FakeMultiNodeProvider):
    """Starts a node with its cores, and the memory that Ray finds."""

    def _create_node_with_resources_and_labels(
        self, node_config: Any, tags: Any, count: int, resources: dict[str, float], labels: Any
    ) -> None:
        own = {name: value for name, value in resources.items() if name != "memory"}
        super()._create_node_with_resources_and_labels(node_config, tags, count, own, labels)
