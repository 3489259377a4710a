"""The report of a batch that runs: rewritten now and then, in tasks of the batch's own job, and whole at its end."""

from __future__ import annotations

import time
from typing import Any

import ray

from trax_ray.cluster import failures, remote

__all__ = ["Reporting"]


class Reporting:
    """Has the report written, one task at a time. It is made from the journal, so a failed one loses nothing.

    Args:
        output_dir: The batch's output folder.
        period_s: How often, seconds; it counts from now.

    Attributes:
        error: Why the last one couldn't be written; empty where it could.
    """

    def __init__(self, output_dir: str, period_s: float) -> None:
        self.error = ""
        self._output_dir = output_dir
        self._period_s = period_s
        self._began_at = time.monotonic()
        self._task: Any = None
        self._loading: Any = None

    def write_if_due(self) -> None:
        """Begin the next one where it is time, and take the last one where it is there."""
        if self._task is not None:
            ready, _ = ray.wait([self._task], timeout=0)
            if ready:
                self._take()
        elif time.monotonic() - self._began_at >= self._period_s:
            self._task = remote.submit_report(self._output_dir, final=False)

    def hurry(self) -> None:
        """The end is near: have the process that writes the last one started, and loaded with what it needs, while what
        is in flight ends."""
        if self._task is None and self._loading is None:
            self._loading = remote.submit_load_report()

    def write_the_last(self) -> None:
        """Write the whole report, and wait for it."""
        if self._task is not None:
            self._take()
        if self._loading is not None:
            ray.wait([self._loading])
        self._task = remote.submit_report(self._output_dir, final=True)
        self._take()

    def _take(self) -> None:
        self._began_at = time.monotonic()
        task, self._task = self._task, None
        try:
            ray.get(task)
            self.error = ""
        except ray.exceptions.RayError as error:
            self.error = failures.failure_of_ray(error).message
