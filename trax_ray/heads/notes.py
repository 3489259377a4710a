"""Notes on the local Ray heads that drivers start, and ending what is left of heads whose driver is dead. Needs no Ray.

Processes of a head whose driver was killed live on for a minute or more, some of them for ever, and hold memory and
ports. So whoever starts a head notes it in a file: the driver, the head's processes, and Ray's session folder.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from trax_ray.heads.machine import ray_folder
from trax_ray.heads.processes import descendants, end, family, find, noted
from trax_ray.places import state_folder
from trax_ray.store.files import ensure_folder, read_regular
from trax_ray.store.processes import mark_of
from trax_ray.store.writing import write_atomically

__all__ = [
    "end_own_head",
    "forget_head",
    "note_head",
    "notes_folder",
    "orphans",
    "own_head",
    "reap_orphans",
    "started_here",
]

logger = logging.getLogger(__name__)


def notes_folder() -> Path:
    """Folder of the notes on heads that batches started, one per driver."""
    return state_folder() / "heads"


def note_head(processes: Iterable[psutil.Process] = (), session_dir: str = "") -> None:
    """Note the head that this process is starting, or has started.

    Args:
        processes: Its processes, as far as they are there yet.
        session_dir: Ray's session folder; empty where it isn't known yet: a driver that is killed while Ray starts
            leaves processes too, and the session is then found by the driver's number, which ends its name.
    """
    pid = os.getpid()
    note = {
        "driver": [pid, mark_of(pid)],
        "host": socket.gethostname(),
        "processes": noted(processes),
        "session_dir": session_dir,
        "ray_folder": str(ray_folder()),
        # Of another process that had this number.
        "older_sessions": [path.name for path in ray_folder().glob(f"session_*_{pid}") if str(path) != session_dir],
    }
    path = _note_path(pid)
    ensure_folder(path.parent)
    write_atomically(path, json.dumps(note).encode("ascii"))


def forget_head() -> None:
    """This process's head has ended as it should."""
    _note_path(os.getpid()).unlink(missing_ok=True)


def _note_path(pid: int) -> Path:
    return notes_folder() / f"{pid}.json"


def started_here() -> bool:
    """Whether this process has started a head that lives."""
    return _note_path(os.getpid()).exists()


def own_head() -> list[tuple[int, str]]:
    """The processes of the head that this process has started, as `noted` gives them."""
    try:
        return noted(family(json.loads(read_regular(_note_path(os.getpid())))))
    except (OSError, ValueError, KeyError, TypeError):
        return []


def end_own_head() -> int:
    """End the head that this process has started, if any, as it is: for a process that has no time left.

    Returns:
        How many processes were ended.
    """
    if not started_here():
        return 0
    ended = 0
    # All of it descends from this process, and lives: there is nothing to look for, and no time either.
    for process in descendants():
        with contextlib.suppress(psutil.Error):
            process.kill()
            ended += 1
    return ended  # the note stays: should one have come in this moment, the next run ends it


def orphans() -> list[psutil.Process]:
    """Processes of heads whose driver is dead. Looking changes nothing."""
    return [process for _, note in _left_behind() if note for process in family(note)]


def reap_orphans() -> int:
    """End what is left of local heads whose driver is dead.

    Returns:
        How many processes were ended.
    """
    ended = 0
    for path, note in _left_behind():
        ended += end(note) if note else 0
        path.unlink(missing_ok=True)
    if ended:
        logger.info("ended %d processes that an earlier run left behind", ended)
    return ended


def _left_behind() -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """The notes of drivers of this machine that are dead; None for notes that can't be read."""
    for path in sorted(notes_folder().glob("*.json")):
        try:
            note = json.loads(read_regular(path))
            # The folder may be shared by machines, each of which has a process of that number.
            elsewhere = note.get("host", socket.gethostname()) != socket.gethostname()
            if elsewhere or find(*_entry(note["driver"])) is not None:
                continue
            note["processes"] = [_entry(process) for process in note["processes"]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            logger.debug("the note %s can't be read (%s)", path, error)
            note = None
        yield path, note


def _entry(noted: Sequence[Any]) -> tuple[int, str]:
    """A noted process. Version 0.1 noted times of day, by which nobody can be told dead."""
    pid, mark = noted
    if not isinstance(pid, int) or not isinstance(mark, str):
        raise TypeError(f"expected a number and a mark, got {noted}")
    return pid, mark
