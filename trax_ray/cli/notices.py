"""What is said beside a batch's progress."""

from __future__ import annotations

import re
import shlex
from datetime import datetime

from trax_ray.core.progress import BatchProgress, Phase

__all__ = ["Notices", "standing_of_idle"]


def standing_of_idle(progress: BatchProgress) -> str:
    """How a batch stands that waits for what may come; empty for any other."""
    if progress.phase is not Phase.RUNNING or progress.active_workers or progress.queued_tasks:
        return ""
    return f"{progress.completed_tasks} {progress.failed_tasks} {progress.cancelled_tasks} {progress.parked}"


class Notices:
    """What is said beside the progress: why nothing starts, and which limit holds."""

    def __init__(self, output_dir: str, limit: str = "") -> None:
        self._output_dir = output_dir
        self._reason = ""
        self._saves = False
        self._limits = {_form(limit)}  # the one that was said before the start

    def of(self, progress: BatchProgress) -> list[str]:
        """What is new. What is left of a wait isn't worth a line each time, nor is the load of others, which comes and
        goes: a limit is said once."""
        before, self._reason = self._reason, _why_nothing_starts(progress, self._output_dir)
        new = [self._reason] if self._reason and _form(self._reason) != _form(before) else []
        if progress.saves_until is not None and not self._saves:
            at = datetime.fromtimestamp(progress.saves_until).astimezone()
            new.append(f"enhancement waits for the provider's cheap hours, until {at:%Y-%m-%d %H:%M %Z}")
        self._saves = progress.saves_until is not None
        limit = _form(progress.limits_reason)
        if limit and limit not in self._limits and progress.slots != 0:
            self._limits.add(limit)
            new.append(f"at most {progress.slots} at once: {progress.limits_reason}")
        return new


def _form(text: str) -> str:
    """A text without its figures."""
    return re.sub(r"[0-9]+", "", text)


def _why_nothing_starts(progress: BatchProgress, output_dir: str) -> str:
    if progress.paused:
        return f"paused: {shlex.join(['trax-ray', 'resume', output_dir])} goes on"
    if progress.waits_until is not None:
        return f"nothing starts before {datetime.fromtimestamp(progress.waits_until).astimezone():%Y-%m-%d %H:%M %Z}"
    if progress.slots == 0:
        return f"the batch {progress.limits_reason}: nothing that takes a core starts"
    if progress.services and progress.queued_tasks and not progress.active_workers:
        return "; ".join(f"{provider}: {reason}" for provider, reason in progress.services.items())
    return ""
