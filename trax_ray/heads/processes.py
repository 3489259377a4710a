"""The processes of a local Ray head: which they are, and ending them. Needs no Ray.

Each process is noted with its mark (`trax_ray.store.processes`), because the system gives numbers of dead processes to
new ones. What has no mark that fits isn't touched.

Workers that started after a note was written, and agents whose raylet has died, are found by their session. Ray
overwrites their command lines, and the agents' environment too; what stays is that they have the session's log files
open. Others may read these files as well, so the name that Ray gives its own (`ray::...`) has to be there besides.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil

from trax_ray.store import processes as known
from trax_ray.store.processes import mark_of

__all__ = ["descendants", "end", "family", "find", "kill_noted", "lives", "noted"]

KILL_ROUNDS = 3


KILL_WAIT_S = 5.0


KILL_LOOK_S = 0.01


_PROGRAM = re.compile(r"/ray/(\w+/)*(raylet|gcs_server|\w+\.py)")
"""What Ray's own daemons run: `.../ray/core/src/ray/raylet/raylet`, `.../ray/dashboard/dashboard.py`."""


def noted(processes: Iterable[psutil.Process]) -> list[tuple[int, str]]:
    """Processes as they stand in a note: number and mark of each that lives."""
    found = []
    for process in processes:
        mark = mark_of(process.pid)
        if mark and process.is_running():
            found.append((process.pid, mark))
    return found


def find(pid: int, mark: str) -> psutil.Process | None:
    """The process with this number, if it is still the one that was noted, and isn't quite gone."""
    process = known.find(pid, mark)
    try:
        return None if process is None or _is_dead(process) else process
    except psutil.Error:
        return None


def lives(pid: int, mark: str) -> bool:
    """Whether a process that was noted may still do something; one that is being killed won't."""
    process = find(pid, mark)
    try:
        return process is not None and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _is_dead(process: psutil.Process) -> bool:
    """Whether a process is a zombie, which it stays until its parent asks for it; in containers nobody may.

    One that is killed looks like a zombie as soon as its first thread is gone. Until the last one is, its files are
    open and its locks are held.
    """
    return bool(process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1)


def descendants() -> list[psutil.Process]:
    """This process's children, and theirs."""
    return _children_of(psutil.Process())


def _children_of(process: psutil.Process) -> list[psutil.Process]:
    try:
        children: list[psutil.Process] = process.children(recursive=True)
    except psutil.Error:
        return []
    return children


def family(note: Mapping[str, Any]) -> list[psutil.Process]:
    """The processes of a noted head that live: noted ones, others of its Ray session, and the children of both."""
    roots = [process for pid, mark in note["processes"] if (process := find(pid, mark)) is not None]
    sessions = _sessions(note)
    if sessions:
        roots += [process for process in psutil.process_iter() if _belongs(process, sessions)]
    own = psutil.Process()
    members = dict.fromkeys(member for root in roots for member in [*_children_of(root), root])
    return [member for member in members if member != own]


def _sessions(note: Mapping[str, Any]) -> list[str]:
    """Ray's session folders of a noted head."""
    if note.get("session_dir"):
        return [note["session_dir"]]
    if not note.get("ray_folder"):
        return []
    older = note.get("older_sessions", ())
    found = Path(note["ray_folder"]).glob(f"session_*_{note['driver'][0]}")
    return [str(path) for path in found if path.name not in older]


def _belongs(process: psutil.Process, sessions: Iterable[str]) -> bool:
    """Whether a process is one of Ray's in one of these sessions; somebody who reads the logs is not."""
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        command = process.cmdline()
        if command and command[0].startswith(("ray::", "ray-dashboard-")):
            words = [file.path for file in process.open_files()]
        elif any(_PROGRAM.search(word) for word in command[:4]):
            words = command
        else:
            return False
    except psutil.Error:  # it ended meanwhile, or is another user's
        return False
    return any(f"{session}/" in f"{word}/" for session in sessions for word in words)


def end(note: Mapping[str, Any]) -> int:
    """End the processes of a noted head.

    Returns:
        How many were ended.
    """
    ended = 0
    for _ in range(KILL_ROUNDS):  # a raylet may start a worker while the first ones are being ended
        left = family(note)
        if not left:
            break
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
                ended += 1
        _wait_for_the_end(noted(left))
    return ended


def kill_noted(processes: Iterable[tuple[int, str]]) -> None:
    """Kill those processes that still live, as `noted` gives them, and wait for their end."""
    processes = list(processes)
    for entry in processes:
        process = find(*entry)
        if process is not None:
            with contextlib.suppress(psutil.Error):
                process.kill()
    _wait_for_the_end(processes)


def _wait_for_the_end(processes: Iterable[tuple[int, str]]) -> None:
    """Until none lives. Zombies don't: in containers nobody may ask for them."""
    until = time.monotonic() + KILL_WAIT_S
    while any(find(*process) for process in processes) and time.monotonic() < until:
        time.sleep(KILL_LOOK_S)
