"""Processes as they are noted in files: by number, and by a mark that no other process with that number has.

The mark is when the process was started, counted by the kernel since this boot, and which boot that was. A time of day
wouldn't do: the system computes it from its clock and that count, so it changes for processes that live when the clock
is set. Where there is no `/proc` the mark is the time of day at which the process was started; on macOS the kernel
keeps that as it was.
"""

from __future__ import annotations

import socket
from functools import lru_cache
from pathlib import Path

import psutil

__all__ = ["find", "machine", "mark_of", "started_ticks"]

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def started_ticks(pid: int) -> str | None:
    """When a process was started, as the kernel counts; empty for a zombie, None where unknown."""
    state, started = _stat(pid)
    return "" if state in ("Z", "X") else started or None


@lru_cache(maxsize=1)
def machine() -> str:
    """Where a process number means the same process: this boot of this machine, and this container on it."""
    try:
        return f"{_boot()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


@lru_cache(maxsize=1)
def _boot() -> str:
    return BOOT_ID.read_text(encoding="ascii").strip()


def mark_of(pid: int) -> str:
    """The mark of a process, zombies included; empty where there is no such process."""
    if BOOT_ID.exists():
        _, started = _stat(pid)
        return f"{started} {_boot()}" if started else ""
    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return ""


def _stat(pid: int) -> tuple[str, str]:
    """State of a process, and when it was started; both empty where there is none, or no `/proc`."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return "", ""
    # The name, in brackets, may hold spaces and brackets: what follows the last one are state and numbers.
    # Source: proc_pid_stat(5); the start time is field 22.
    fields = stat.rpartition(b")")[2].split()
    return fields[0].decode("ascii"), fields[19].decode("ascii")


def find(pid: int, mark: str) -> psutil.Process | None:
    """The process with this number, if it is still the one that had this mark."""
    try:
        process = psutil.Process(pid)
    except (psutil.Error, ValueError, OverflowError):
        return None
    return process if mark and mark_of(pid) == mark else None
