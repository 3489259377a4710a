"""Exit codes of `trax-ray`."""

from __future__ import annotations

__all__ = ["EXIT_DEFECT", "EXIT_FAILED", "EXIT_SETUP", "EXIT_STOPPED", "EXIT_USAGE"]

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
