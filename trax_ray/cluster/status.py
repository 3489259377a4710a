"""`status.json`: what a coordinator says about itself to whoever looks from outside."""

from __future__ import annotations

import json
import logging
import os
import platform
import time

from trax_ray.core.progress import BatchProgress
from trax_ray.core.state.machine import BatchState
from trax_ray.errors import TraxRayError
from trax_ray.store.files import write_atomically
from trax_ray.store.layout import Layout

__all__ = ["write_status"]

logger = logging.getLogger(__name__)


def write_status(
    layout: Layout, name: str, state: BatchState, progress: BatchProgress, waits_until: float | None
) -> None:
    """Rewrite it. Where that can't be done, as on a full disk, the batch goes on: the journal is what counts.

    Args:
        layout: The output folder.
        name: The batch's.
        state: How the batch stands.
        progress: The same in figures, with what was measured.
        waits_until: When the batch's hours begin, seconds since the epoch; None within them.
    """
    status = {
        "batch": name,
        "phase": _phase(state, waits_until),
        "epoch": state.epoch,
        "pid": os.getpid(),
        "host": platform.node(),
        "updated_at": time.time(),
        "total": progress.total_tasks,
        "succeeded": progress.completed_tasks,
        "failed": progress.failed_tasks,
        "cancelled": progress.cancelled_tasks,
        "queued": progress.queued_tasks,
        "active": progress.active_workers,
        "memory_mb": round(progress.memory_usage_mb, 1),
        "cpu_percent": progress.cpu_usage_percent,
        "elapsed_s": round(progress.elapsed_s, 1),
        "estimated_remaining_s": progress.estimated_remaining_s,
        "parked": dict(progress.parked),
        "services": dict(progress.services),
        "waits_until": waits_until,
        "draining": state.draining,
        "slots": state.scaled.slots if state.scaled else None,
        "limits_reason": state.scaled.reason if state.scaled else "",
    }
    try:
        write_atomically(layout.status, json.dumps(status, indent=1).encode())
    except TraxRayError as error:
        logger.warning("%s", error)


def _phase(state: BatchState, waits_until: float | None) -> str:
    if state.finished:
        return state.finished
    if state.draining:
        return "draining"
    if state.paused:
        return "paused"
    return "running" if waits_until is None else "waiting"
