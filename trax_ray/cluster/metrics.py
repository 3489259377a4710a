"""The numbers of `core.gauges`, told to Ray's metrics, which Prometheus reads from each node.

The coordinator alone tells them: what every worker told would be a series for each process that ever was.
"""

from __future__ import annotations

from collections import Counter

from ray.util.metrics import Gauge

from trax_ray.core import gauges
from trax_ray.core.progress import BatchProgress
from trax_ray.core.state.machine import BatchState
from trax_ray.core.task import Outcome

__all__ = ["PERIOD_S", "Metrics"]

PERIOD_S = 5.0
"""Ray's nodes hand on what they were told every ten seconds."""


class Metrics:
    """The metrics of one batch.

    Args:
        batch: Its name, a tag of each.
        memory_limit_mb: Of its spec.
    """

    def __init__(self, batch: str, memory_limit_mb: int) -> None:
        self._memory_limit_mb = memory_limit_mb
        self._attempts: Counter[tuple[str, str]] = Counter()
        self._gauges = {
            each.name: Gauge(each.name, description=each.help, tag_keys=("batch", *each.tags)) for each in gauges.GAUGES
        }
        for gauge in self._gauges.values():
            gauge.set_default_tags({"batch": batch})

    def count(self, kind: str, outcome: Outcome) -> None:
        """An attempt has ended."""
        failure = outcome.failure
        self._attempts[kind, "succeeded" if failure is None else failure.failure_class.value] += 1

    def tell(self, state: BatchState, progress: BatchProgress) -> None:
        """Tell Ray how the batch stands."""
        found = gauges.values(state, progress, self._attempts, memory_limit_mb=self._memory_limit_mb)
        for name, tags, value in found:
            self._gauges[name].set(value, tags=dict(tags))
