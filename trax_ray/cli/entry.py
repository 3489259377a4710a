"""What `trax-ray` and `python -m trax_ray` run first, before anything that takes time is imported.

Here the process gets into a state in which the rest can rely on things: nothing is imported from the working folder,
standard streams may break, and a batch has a parent that outlives it (`trax_ray.cli.parent`).
"""

from __future__ import annotations

import os
import sys

from trax_ray.cli import parent, streams
from trax_ray.cli.exits import EXIT_SETUP

__all__ = ["forget_working_folder", "main"]

WITH_PARENT = ("batch", "resume")
"""Commands that run batches."""


def main() -> None:
    """Entry point of the command."""
    forget_working_folder()
    streams.make_courteous()
    try:
        os.getcwd()  # noqa: PTH109 - nothing else is needed of it
    except OSError as error:
        print(f"trax-ray: the working folder is gone ({error.strerror}): change to one that exists", file=sys.stderr)
        sys.exit(EXIT_SETUP)
    if sys.argv[1:2] and sys.argv[1] in WITH_PARENT:
        parent.run(_command)
    _command()


def forget_working_folder() -> None:
    """Take the working folder off the path of modules.

    `python -m` puts it there, and so does an empty name in PYTHONPATH, which an unset variable leaves. Among downloads
    may be an `av.py`. The folder that this package was imported from stays, at the path's end.
    """
    own = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120
    try:
        working_folder = os.path.realpath(os.curdir)
    except OSError:
        working_folder = os.curdir
    kept = [each for each in sys.path if each and os.path.realpath(each) != working_folder]
    if len(kept) < len(sys.path) and os.path.realpath(own) == working_folder:
        kept.append(own)
    sys.path[:] = kept


def _command() -> None:
    from trax_ray.cli.app import main as command

    command()
