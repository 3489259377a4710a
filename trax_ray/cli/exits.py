"""Exit codes of `trax-ray`, how an error is said, and what is left to do after one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trax_ray.errors import TraxRayError

__all__ = ["EXIT_DEFECT", "EXIT_FAILED", "EXIT_SETUP", "EXIT_STOPPED", "EXIT_USAGE", "say_error", "write_report_anyway"]

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


def write_report_anyway(output_dir: str) -> None:
    """Write the report of a batch that has come to a bad end, from its journal, which holds all that had happened."""
    from trax_ray.arrow import spare_pandas

    spare_pandas()
    from trax_ray.errors import TraxRayError
    from trax_ray.report.write import write_report
    from trax_ray.store.epochs import has_journal
    from trax_ray.store.layout import Layout

    try:
        if not has_journal(Layout.of(output_dir).journal):
            return
        write_report(output_dir, final=True)
    except TraxRayError as error:
        print(f"trax-ray: the report couldn't be written: {error.message}", file=sys.stderr, flush=True)
