"""Exit codes of `trax-ray`, and how an error is said."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trax_ray.errors import TraxRayError

__all__ = ["EXIT_DEFECT", "EXIT_FAILED", "EXIT_SETUP", "EXIT_STOPPED", "EXIT_USAGE", "say_error"]

EXIT_FAILED = 1
"""Some input failed for good."""

EXIT_USAGE = 2
"""A bad value, or nothing to do."""

EXIT_SETUP = 3
"""Something is missing: a key, a model, a cluster, room on the disk."""

EXIT_DEFECT = 70
"""A defect of ours."""

EXIT_STOPPED = 130
"""Stopped by a signal or a command."""


def say_error(error: TraxRayError) -> None:
    """One line on stderr."""
    from trax_ray.report.text import one_line

    # Messages hold names, and names may hold line ends and what moves a terminal's cursor.
    print(f"trax-ray: {one_line(error.message)}", file=sys.stderr, flush=True)
