"""The report of a batch that runs: rewritten now and then, in tasks of the batch's own job, and whole at its end.

The last one of a batch that is stopped is written here. A process for it takes two seconds to start, which are all that
whoever stops it may have.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import ray

from trax_ray.cluster import failures, remote
from trax_ray.kinds.failures import failure_of

__all__ = ["Reporting"]

logger = logging.getLogger(__name__)

MOST_HERE = 10_000
"""Tasks of which the report is written in the coordinator's process. That of more takes longer than a process's start,
and memory that is better asked for."""


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
        self._hurries = False

    def write_if_due(self) -> None:
        """Begin the next one where it is time, and take the last one where it is there."""
        if self._task is not None:
            ready, _ = ray.wait([self._task], timeout=0)
            if ready:
                self._take()
        elif time.monotonic() - self._began_at >= self._period_s:
            self._task = remote.submit_report(self._output_dir, final=False)

    def hurry(self) -> None:
        """The end is near: load what writes the last one, while what is in flight ends."""
        self._hurries = True
        try:
            remote.load_report()
        except Exception as error:  # whoever writes it meets the same, and tells
            logger.debug("what writes the report can't be loaded", exc_info=error)

    def write_the_last(self, tasks: int) -> None:
        """Write the whole report, and wait for it.

        Args:
            tasks: How many the batch has.
        """
        if self._task is not None:
            self._take()
        if self._hurries and tasks <= MOST_HERE:
            self._write_here()
        else:
            self._task = remote.submit_report(self._output_dir, final=True)
            self._take()

    def _write_here(self) -> None:
        try:
            remote.load_report()(self._output_dir, final=True)
            self.error = ""
        except Exception as error:  # noqa: BLE001 - as in a task, whatever it is: the report is made from the journal
            self.error = failure_of(error).message

    def _take(self) -> None:
        self._began_at = time.monotonic()
        task, self._task = self._task, None
        try:
            ray.get(task)
            self.error = ""
        except ray.exceptions.RayError as error:
            self.error = failures.failure_of_ray(error).message
