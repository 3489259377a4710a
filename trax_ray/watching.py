"""Watching inputs: looking at folders, lists and feeds again and again, and telling what is new and whole.

What changes on this machine's disks is told by the system (`watchfiles`), which only brings the next look forward: what
is there is always found by looking, because disks of other machines tell nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import psutil

from trax_ray.core.policy.settling import Look, Settling
from trax_ray.core.spec import BatchSpec
from trax_ray.errors import TraxRayError, UsageError
from trax_ray.plan.inputs import STDIN, Found, Scan, scan
from trax_ray.plan.options import option
from trax_ray.store.explaining import shown
from trax_ray.web.addresses import is_url

__all__ = ["Watch", "Watcher", "keep_looking", "make_watch"]

logger = logging.getLogger(__name__)

LOOK_LEAST_S = 1.0
"""The least time between two looks, however much happens."""

LOOK_PERIOD_S = 5.0
"""How often it is looked where nobody tells of changes."""

TOLD_PERIOD_S = 60.0
"""How often it is looked where the system tells of them: it may forget some when there are many."""

SHARE = 0.05
"""Of the time, that looking may take: a folder of a hundred thousand files is looked at more rarely."""

_REMOTE = (
    "nfs",
    "cifs",
    "smb",
    "9p",
    "afs",
    "ceph",
    "lustre",
    "gpfs",
    "beegfs",
    "glusterfs",
    "virtiofs",
    "vbox",
    "fuse",
)
"""File systems, by the beginning of their names, that others may change without this machine's being told."""


@dataclass(frozen=True, slots=True)
class Watch:
    """How inputs are watched.

    Args:
        settle_s: How long a file has to stay as it is until it counts as whole, seconds.
        poll_s: How often playlists, channels and feeds are read again, seconds.
    """

    settle_s: float = 10.0
    poll_s: float = 1800.0


def make_watch(given: Mapping[str, Any]) -> Watch | None:
    """How inputs are to be watched; None where they aren't.

    Args:
        given: Values by the options' keywords; what isn't there, or is None, has its default.

    Raises:
        UsageError: A value makes no sense.
    """
    if not given.get("watch"):
        return None
    values = {
        f"{name}_s": option(name).checked(given[name]) for name in ("settle", "poll") if given.get(name) is not None
    }
    return Watch(**values)


@dataclass
class Watcher:
    """The recordings behind what a person named, as time passes.

    Args:
        watch: How they are watched.
        spec: The batch that they are for; its output folder is never looked into.
        inputs: What INPUT takes on the command line.
        lists: Files with one path per line, or manifests.
        read_stdin: Gives standard input; called once at most.
    """

    watch: Watch
    spec: BatchSpec
    inputs: Sequence[str]
    lists: Sequence[str] = ()
    read_stdin: Callable[[], bytes] = lambda: b""
    _settling: Settling = field(init=False)
    _stdin: bytes | None = field(default=None, init=False)
    _polled_at: float = field(default=float("-inf"), init=False)
    _urls: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self._settling = Settling(self.watch.settle_s)

    @property
    def output_dir(self) -> str:
        """The batch's output folder."""
        return self.spec.output_dir

    def check(self) -> None:
        """Refuse inputs that make no sense, before anything is begun.

        Raises:
            UsageError: As of `scan`; or there are none.
        """
        if not self.inputs and not self.lists:
            raise UsageError("nothing to watch: give an INPUT, such as a folder")
        scan(self.inputs, self.output_dir, lists=self.lists, read_stdin=self._standard_input)

    @property
    def waiting_count(self) -> int:
        """Files that were seen and may still change."""
        return self._settling.waiting_count

    @property
    def folders(self) -> list[str]:
        """The folders among the inputs that are there."""
        return [os.path.abspath(each) for each in self.inputs if each != STDIN and os.path.isdir(each)]  # noqa: PTH100, PTH112

    def look(self, now: float) -> Scan:
        """Look at all there is.

        Args:
            now: Seconds, of a clock that doesn't run backwards.

        Returns:
            Files that are whole now and weren't given as they are; URLs that are new, and all of them when it is time
            to read feeds again. What isn't there (yet) isn't among them.

        Raises:
            UsageError: As of `scan`.
        """
        found = scan(self.inputs, self.output_dir, lists=self.lists, read_stdin=self._standard_input)
        files = {each.path: each for each in found.found if not is_url(each.path)}
        whole = self._settling.take({path: look for path in files if (look := _look_at(path)) is not None}, now)
        urls = [each for each in found.found if is_url(each.path)]
        new = [each for each in urls if each.path not in self._urls]
        if now - self._polled_at >= self.watch.poll_s:
            new, self._polled_at = urls, now
        self._urls.update(each.path for each in urls)
        return replace(found, found=(*(replace(files[path], missing=False) for path in whole), *new))

    def put_back(self, found: Sequence[Found]) -> None:
        """What was given couldn't be planned: it is given once more."""
        for each in found:
            self._settling.put_back(each.path)
            self._urls.discard(each.path)

    def next_at(self) -> float:
        """When something may be new that nobody tells of, seconds."""
        due = self._settling.next_at()
        poll_at = self._polled_at + self.watch.poll_s if self._urls else float("inf")
        return min(poll_at, float("inf") if due is None else due)

    def _standard_input(self) -> bytes:
        if self._stdin is None:
            self._stdin = self.read_stdin()
        return self._stdin


def _look_at(path: str) -> Look | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - names that aren't UTF-8
    except OSError:
        return None
    return Look(status.st_size, status.st_mtime_ns, status.st_ino)


Take = Callable[[Watcher, Scan], Awaitable[None]]
"""Takes what is new."""


async def keep_looking(watchers: Sequence[Watcher], take: Take) -> None:
    """Look until this is cancelled.

    What can't be read or planned is said, and tried again: a list may be half-written, a folder away for a while.

    Args:
        watchers: What to look at; more may be added meanwhile.
        take: Called with what is new.
    """
    changed = asyncio.Event()
    telling: dict[str, asyncio.Task[None]] = {}
    said: dict[int, str] = {}
    try:
        while True:
            began = time.monotonic()
            for watcher in list(watchers):
                await _look_once(watcher, take, said)
            took_s = time.monotonic() - began
            for watcher in list(watchers):
                for folder in watcher.folders:
                    if folder not in telling:
                        telling[folder] = asyncio.create_task(_tell(folder, watcher.output_dir, changed))
            told = all(not task.done() for task in telling.values()) and not any(map(_is_remote, telling))
            period_s = TOLD_PERIOD_S if told and telling else LOOK_PERIOD_S
            now = time.monotonic()
            due_s = min((watcher.next_at() - now for watcher in watchers), default=period_s)
            least_s = max(LOOK_LEAST_S, took_s / SHARE)
            await asyncio.sleep(least_s)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(changed.wait(), max(0.0, min(period_s, due_s) - least_s))
            changed.clear()
    finally:
        for task in telling.values():
            task.cancel()
        await asyncio.gather(*telling.values(), return_exceptions=True)


async def _look_once(watcher: Watcher, take: Take, said: dict[int, str]) -> None:
    found: Scan | None = None
    try:
        found = await asyncio.to_thread(watcher.look, time.monotonic())
        if found.found:
            await take(watcher, found)
        said.pop(id(watcher), None)
    except (TraxRayError, OSError) as error:
        if found is not None:
            watcher.put_back(found.found)
        text = str(error)
        if said.get(id(watcher)) != text:  # once, and not with every look
            said[id(watcher)] = text
            logger.warning("%s: %s", ", ".join(map(shown, [*watcher.inputs, *watcher.lists])), text)


async def _tell(folder: str, output_dir: str, changed: asyncio.Event) -> None:
    """Tell of what changes below a folder, as far as the system does."""
    from watchfiles import awatch

    own = os.path.realpath(output_dir) + os.sep

    def matters(_: object, path: str) -> bool:
        return not os.path.realpath(path).startswith(own)

    try:
        async for _ in awatch(folder, watch_filter=matters, rust_timeout=500, ignore_permission_denied=True):
            changed.set()
    except (OSError, RuntimeError) as error:  # no more watches, or the folder is gone
        logger.debug("%s tells of no changes: %s", folder, error)


def _is_remote(folder: str) -> bool:
    """Whether a folder is on a disk that others change too."""
    real = os.path.realpath(folder)
    best, kind = "", ""
    for part in psutil.disk_partitions(all=True):
        below = real == part.mountpoint or real.startswith(part.mountpoint.rstrip(os.sep) + os.sep)
        if below and len(part.mountpoint) >= len(best):
            best, kind = part.mountpoint, part.fstype
    return kind.lower().startswith(_REMOTE)
