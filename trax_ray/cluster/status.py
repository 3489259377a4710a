"""`status.json`: what a coordinator says about itself to other processes."""

from __future__ import annotations

import json
import logging
import os
import platform
import time

from trax_ray.core.progress import BatchProgress, Phase, encode_progress
from trax_ray.errors import TraxRayError
from trax_ray.store.layout import Layout
from trax_ray.store.writing import write_atomically

__all__ = ["write_status"]

logger = logging.getLogger(__name__)


def write_status(layout: Layout, name: str, epoch: int, progress: BatchProgress) -> None:
    """Rewrite it. Where that can't be done, as on a full disk, the batch goes on: the journal is what counts.

    Args:
        layout: The output folder.
        name: The batch's.
        epoch: The coordinator's.
        progress: How the batch stands.
    """
    status = {
        "batch": name,
        "epoch": epoch,
        "pid": os.getpid(),
        "host": platform.node(),
        "updated_at": time.time(),
        "draining": progress.phase is Phase.DRAINING,
        **encode_progress(progress),
    }
    try:
        write_atomically(layout.status, json.dumps(status, indent=1).encode())
    except TraxRayError as error:
        logger.warning("%s", error)
