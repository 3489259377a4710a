"""Memory, cores and folders."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import psutil

from trax_ray.cli.doctor.check import Check, Verdict
from trax_ray.core.policy.admission import capacity, idle_machine
from trax_ray.core.spec import DEFAULT_MEMORY_LIMIT_MB, Limits
from trax_ray.core.task import ResourceRequest
from trax_ray.errors import TraxRayError
from trax_ray.heads.machine import ray_folder, too_full_for_ray
from trax_ray.store.creating import expect_creation
from trax_ray.store.explaining import shown
from trax_ray.store.uris import ObjectPath

__all__ = ["check_cores", "check_folder", "check_memory", "examine_folder", "examine_store", "memory_mb"]

LOW_DISK_BYTES = 2**30
HIGH_LOAD_PER_CORE = 2.0


def check_memory(available_mb: int) -> Check:
    """Whether there is as much memory as a batch may take."""
    text = f"{available_mb} MB available"
    if available_mb < DEFAULT_MEMORY_LIMIT_MB:
        text += f", less than the default --memory-limit of {DEFAULT_MEMORY_LIMIT_MB} MB"
        return Check(Verdict.NOTE, "memory", text, "give a lower --memory-limit, and --lean")
    return Check(Verdict.OK, "memory", f"{text} (default --memory-limit: {DEFAULT_MEMORY_LIMIT_MB} MB)")


def check_cores(cores: int, load: float, models: Mapping[str, ResourceRequest]) -> Check:
    """How many local transcriptions a batch with default limits runs at once on this machine, and what holds it there.

    Args:
        cores: Cores that this process may use.
        load: Load average of the last minute.
        models: What an attempt asks of a node, by the model.
    """
    limits = Limits()
    idle = idle_machine(limits, cores)
    found = {model: capacity(limits, idle, request) for model, request in models.items()}
    text = f"{cores} cores" if cores != 1 else "one core"
    text += "".join(
        f"; {model}: {each.slots} at once" + (f" ({each.reason})" if each.reason else "")
        for model, each in found.items()
    )
    if load > HIGH_LOAD_PER_CORE * cores:
        text += f"; load average {load:.1f}, others are at work"
        return Check(Verdict.NOTE, "CPU", text, "Ray may not come up within its 30 s; try again later if so")
    return Check(Verdict.OK, "CPU", text)


def check_folder(topic: str, folder: Path, problem: str, free_bytes: int) -> Check:
    """Whether a folder can be written to, and has room.

    Args:
        topic: What is kept there.
        folder: Its path.
        problem: Why it can't be written to; empty where it can.
        free_bytes: Room on its file system.
    """
    others = {"output folder": "give another --output-dir", "home folder": "set HOME to a folder of yours"}
    other = others.get(topic, "set RAY_TMPDIR to another folder")
    if problem:
        return Check(Verdict.MISSING, topic, f"{shown(folder)} can't be written to: {problem}", other)
    text = f"{shown(folder)}, {free_bytes / 2**30:.1f} GB free"
    if free_bytes < LOW_DISK_BYTES:
        return Check(Verdict.NOTE, topic, text, f"make room, or {other}")
    return Check(Verdict.OK, topic, text)


def examine_folder(topic: str, folder: Path) -> Check:
    """Try the folder, or the one above it that exists: a batch makes what is missing."""
    existing = folder
    while not os.path.lexists(existing) and existing != existing.parent:
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"\0" * 4096)
        free_bytes = shutil.disk_usage(existing).free
        if folder == ray_folder() and (problem := too_full_for_ray(folder, free_bytes)):
            return Check(Verdict.MISSING, topic, problem)
        return check_folder(topic, folder, "", free_bytes)
    except OSError as error:
        return check_folder(topic, folder, f"{shown(existing)}: {error.strerror or error}", 0)


def examine_store(topic: str, folder: ObjectPath) -> Check:
    """Try whether a folder in an object store can be written to as a batch does."""
    try:
        expect_creation(folder / ".trax")
    except TraxRayError as error:
        return Check(Verdict.MISSING, topic, error.message)
    return Check(Verdict.OK, topic, f"{folder}, which creates without overwriting")


def memory_mb() -> int:
    """Memory that is available, MiB; no more than a container's limit."""
    limits: list[int] = [psutil.virtual_memory().available]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # no such limit, or the word `max`
            limits.append(int((Path("/sys/fs/cgroup") / name).read_text()))
    return min(limits) // 2**20
