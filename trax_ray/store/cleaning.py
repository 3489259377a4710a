"""Removing what an output folder doesn't need."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trax_ray.store import files, system, writing
from trax_ray.store.creating import PREFLIGHT, delete_objects
from trax_ray.store.explaining import explain
from trax_ray.store.layout import Layout
from trax_ray.store.lease import Lease, expect_nobody
from trax_ray.store.objects import ObjectStat, list_below
from trax_ray.store.uris import ObjectPath, Place

__all__ = ["Cleaned", "clean", "clean_everything", "forget_stand_ins"]

LEFTOVER_AGE_S = 60.0
"""Temporary files that are younger may belong to a live writer: `trax-ray report`, a worker of a killed batch."""

STAND_IN_AGE_S = 30 * 86_400.0
"""What a machine has of a batch in an object store goes when no batch was there for so long."""

_USED = "used-for"

_DAMAGED = re.compile(r".+\.bad-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What was removed.

    Args:
        file_count: Files.
        size_bytes: What they held.
    """

    file_count: int = 0
    size_bytes: int = 0

    def __add__(self, other: Cleaned) -> Cleaned:
        return Cleaned(self.file_count + other.file_count, self.size_bytes + other.size_bytes)


def clean(layout: Layout, now: float) -> Cleaned:
    """Remove what no later run needs: leftovers of crashes, damaged artifacts, and what can be made again soon.

    Converted audio, what was prepared to be sent, remembered hashes and the locks of recordings go too. Journal,
    artifacts, transcripts and report stay.

    Args:
        layout: The output folder.
        now: Seconds since the epoch.

    Raises:
        BusyError: A batch holds the folder.
        DiskFull: The file system is read-only.
        FileError: The folder can't be read, or not be written; permanent.
    """
    with _held(layout):
        return _clean(layout, now)


def clean_everything(layout: Layout, now: float) -> Cleaned:
    """Remove all of `.trax`, the journal and the artifacts too: a later run begins anew.

    Transcripts and report stay.

    Args:
        layout: The output folder.
        now: Seconds since the epoch.

    Raises:
        BusyError: A batch holds the folder.
        DiskFull: The file system is read-only.
        FileError: The folder can't be read, or not be written; permanent.
    """
    with _held(layout):
        cleaned = _clean(layout, now)
        if isinstance(layout.private, ObjectPath):
            # The lock stays: it is held until this is through, and says then that it isn't any more.
            cleaned += _remove_objects(layout.private, lambda path, _: not _is_lock(path, layout))
            return cleaned + _remove_here(layout)
        # The journal first and its end first: what a crash leaves of it is still a journal.
        cleaned += _remove(layout.work / "journal", lambda path: True)
        cleaned += _remove(layout.work, lambda path: not _is_lock(path, layout))
        # The lock last: a process that finds it gone makes a new one, in a folder that is empty by then.
        _remove(layout.work, lambda path: True)
        _remove_folders(layout.work)
    return cleaned


def forget_stand_ins(layout: Layout, now: float) -> None:
    """Note that this machine works for an output folder in an object store, and let go of what it has of others that it
    hasn't worked for in a month. What can't be removed takes room, and that is no reason to fail.

    Args:
        layout: The output folder.
        now: Seconds since the epoch.
    """
    if not layout.stored:
        return
    files.ensure_folder(layout.here, lasting=False)
    note = layout.here / _USED
    note.unlink(missing_ok=True)  # its time is what counts
    writing.write_atomically(note, f"{layout.output_dir}\n".encode(), lasting=False)
    for other in layout.here.parent.iterdir():
        with contextlib.suppress(OSError):
            if now - max(path.stat().st_mtime for path in (other, other / _USED) if path.exists()) > STAND_IN_AGE_S:
                shutil.rmtree(other, ignore_errors=True)


def _remove_here(layout: Layout) -> Cleaned:
    """Remove what this machine has of a batch in an object store."""
    cleaned = _remove(layout.here, lambda path: True)
    _remove_folders(layout.here)
    return cleaned


def _clean(layout: Layout, now: float) -> Cleaned:
    if isinstance(layout.private, ObjectPath):
        cleaned = _remove_objects(
            layout.private, lambda path, stat: _is_rubbish(path.name) and now - stat.modified_s > LEFTOVER_AGE_S
        )
        cleaned += _remove(layout.work / "journal", lambda path: True)
    else:
        cleaned = _remove(
            layout.here,
            lambda path: writing.is_leftover(path.name) and now - path.lstat().st_mtime > LEFTOVER_AGE_S,
        )
        cleaned += _remove(layout.work / "artifacts", lambda path: _DAMAGED.fullmatch(path.name) is not None)
    for folder in (layout.work / "audio", layout.work / "uploads", layout.hashes, layout.work / "claims"):
        cleaned += _remove(folder, lambda path: True)
        _remove_folders(folder)
    return cleaned


@contextlib.contextmanager
def _held(layout: Layout) -> Iterator[None]:
    expect_nobody(layout.starting)
    lease = Lease(layout.lock, heartbeat=True)
    lease.acquire("trax-ray clean")
    try:
        yield
    finally:
        lease.release()


def _is_rubbish(name: str) -> bool:
    """Whether a private object is of no use to anybody: damaged, or left by trying whether a store can be used."""
    return writing.is_leftover(name) or _DAMAGED.fullmatch(name) is not None or name.startswith(PREFLIGHT)


def _is_lock(path: Place, layout: Layout) -> bool:
    """Whether a file says who holds the folder: the lock, or a heartbeat where there are no locks."""
    return path.parent == layout.private and path.name.startswith(layout.lock.name)


def _remove_objects(folder: ObjectPath, wanted: Callable[[ObjectPath, ObjectStat], bool]) -> Cleaned:
    """Remove objects below a folder. A crash may leave some of a journal, which is no journal then: once more helps."""
    found = {path: stat.size_bytes for path, stat in list_below(folder) if wanted(path, stat)}
    delete_objects(folder, found)
    return Cleaned(len(found), sum(found.values()))


def _remove(folder: Path, wanted: Callable[[Path], bool]) -> Cleaned:
    """Remove files below a folder, in a folder the last names first; links to folders aren't followed."""
    count = size = 0
    for root, folders, names in os.walk(folder):
        links = [name for name in folders if Path(root, name).is_symlink()]
        for path in (Path(root, name) for name in sorted([*names, *links], reverse=True)):
            try:
                if wanted(path):
                    size_bytes = path.lstat().st_size
                    system.current().unlink(path)
                    count, size = count + 1, size + size_bytes
            except FileNotFoundError:
                continue  # its owner removed it first
            except OSError as error:
                raise explain(error, path, "write") from error
    return Cleaned(count, size)


def _remove_folders(folder: Path) -> None:
    """Remove a folder and those below it as far as they are empty: a batch may just have begun there."""
    for root, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            Path(root).rmdir()
