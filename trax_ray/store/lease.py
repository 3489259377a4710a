"""Which process holds an output folder. This only informs: two batches are kept apart by the epoch (`epochs`).

On a local disk it is an exclusive `flock` on a file: free the moment the process that holds it is dead. The file
itself is never deleted, because a lock on a deleted file excludes nobody. Its content is for people.

Where the file system has no locks, and in an object store, it is a heartbeat, where the caller wants one. Holder n has
the file `lock.00000n`, created exclusively, and counts in it every `BEAT_PERIOD_S`; the highest number is the holder's.
Another process watches that file: when its content changes the holder is alive; when it doesn't for `TAKE_OVER_S`, by
the watcher's own clock, the next number may be taken. Times of files say nothing: network file systems remember them.
A holder on the same machine whose process is dead isn't waited for.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trax_ray.codes import FailureCode
from trax_ray.errors import BusyError, FencedError, FileError, TraxRayError
from trax_ray.store import files, system, writing
from trax_ray.store.explaining import explain, shown
from trax_ray.store.heartbeat import (
    Heart,
    Holder,
    beat_path,
    content_of,
    holder_in,
    is_released,
    noted,
    numbers_of,
)
from trax_ray.store.processes import machine, started_ticks
from trax_ray.store.uris import ObjectPath, Place

__all__ = ["TAKE_OVER_S", "Lease", "expect_nobody", "holder_of"]

TAKE_OVER_S = 60.0
"""How long a count must stand still, by the watcher's clock, before another process may take over, seconds."""

_LOOK_PERIOD_S = 1.0
_MAX_NOTE_BYTES = 4096
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}

_TRY_PERIOD_S = 0.01

_LOOKED_AT_S = 1.0
"""How long to wait for a lock that others only look at, by `holder_of`: each look lasts some microseconds."""

_DYING_S = 5.0
"""How long a holder that was killed may need to be gone: its lock goes with the last of its threads, seconds."""


class Lease:
    """The lock of an output folder, or of something in it.

    Args:
        path: The lock file; made where it is missing, its folder too.
        heartbeat: Whether to show by a heartbeat who holds, where the file system has no locks. Then `beat` must be
            called about every second, and `acquire` may take up to about `TAKE_OVER_S`.
        clock: Seconds since the epoch.
        monotonic: Seconds that only run forward.
        sleep: Waits for the seconds that it is given.
    """

    def __init__(
        self,
        path: Place,
        *,
        heartbeat: bool = False,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.path = path
        self._heartbeat = heartbeat
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._fd = -1
        self._heart: Heart | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd >= 0 or self._heart is not None

    def acquire(self, holder: str) -> None:
        """Take the lock, or raise with the holder. Nothing happens where this object holds it already.

        Args:
            holder: Who takes it, for people who find it taken: the batch's name, or a command.

        Raises:
            BusyError: Another process, or another Lease in this one, holds it; says who, since when, and the ways
                out.
            DiskFull: No space, no quota, read-only.
            FileError: The file can't be opened, or (`no_locks`) the file system has no locks and no heartbeat was
                asked for; permanent.
        """
        if self.held:
            return
        files.ensure_folder(self.path.parent)
        note = {"holder": holder, "pid": os.getpid(), "host": socket.gethostname(), "since": self._clock()}
        try:
            if isinstance(self.path, ObjectPath):
                raise _NoLocks
            self._fd = self._locked(self.path, note)
        except _NoLocks as error:
            if not self._heartbeat:
                raise FileError(
                    f"there are no file locks where {shown(self.path)} lies: put --output-dir on a local disk",
                    code=FailureCode.NO_LOCKS,
                ) from error
            self._heart = self._take_over(note)
        _held.add(self)

    def beat(self) -> None:
        """Show that the holder is alive. To be called about every second; does nothing where nothing is due.

        A beat that can't be written is retried at the next call. Another process may take over meanwhile, which the
        journal then finds.

        Raises:
            FencedError: Another process has taken over, after no beat of this one for `TAKE_OVER_S`.
        """
        if self._heart is not None and not self._heart.beat(self._monotonic()):
            raise FencedError(
                f"{shown(self.path)} was taken over by another batch after {TAKE_OVER_S:.0f} s without a sign of "
                "life from this one (was the machine asleep, or cut off?): its work goes on there"
            )

    def release(self) -> None:
        """Give the lock back. Nothing happens where it isn't held."""
        fd, self._fd = self._fd, -1
        heart, self._heart = self._heart, None
        _held.discard(self)
        if fd >= 0:
            with contextlib.suppress(OSError):  # the name is for people; the lock goes with the descriptor
                system.current().truncate(fd, 0)
            with contextlib.suppress(OSError):
                system.current().close(fd)
        if heart is not None:
            with contextlib.suppress(OSError, TraxRayError):  # then it looks like one that died
                heart.stop()

    # With locks

    def _locked(self, path: Path, note: Mapping[str, Any]) -> int:
        """The open and locked file, with the note in it."""
        fd = -1
        try:
            while fd < 0:
                fd = self._lock(path)
            system.current().truncate(fd, 0)
            writing.write_all(fd, json.dumps(note).encode("ascii"))
        except OSError as error:
            if fd >= 0:
                with contextlib.suppress(OSError):
                    system.current().close(fd)
            raise explain(error, path, "write") from error
        return fd

    def _lock(self, path: Path) -> int:
        """The open and locked file; -1 when it was deleted at that moment, and has to be opened anew."""
        fd = system.current().open(path, os.O_RDWR | os.O_CREAT)
        try:
            tries = 0
            while not _flock(fd, fcntl.LOCK_EX):
                # One who looks has it as well for a moment, and lets others look; one who holds it doesn't.
                looked_at = _flock(fd, fcntl.LOCK_SH)
                if looked_at:
                    fcntl.flock(fd, fcntl.LOCK_UN)
                holder = holder_in(noted(os.pread(fd, _MAX_NOTE_BYTES, 0)))
                patience_s = _LOOKED_AT_S if looked_at else _DYING_S if _is_dying(holder) else 0.0
                if tries * _TRY_PERIOD_S >= patience_s:
                    raise self._busy(holder)
                tries += 1
                self._sleep(_TRY_PERIOD_S)
            if path.exists() and os.path.samestat(os.fstat(fd), path.stat()):
                locked, fd = fd, -1
                return locked
        finally:
            if fd >= 0:
                system.current().close(fd)
        return -1

    def _busy(self, holder: Holder) -> BusyError:
        return BusyError(
            f"{shown(self.path)} is held by another batch ({holder}): "
            "wait for it, stop it, or give another --output-dir"
        )

    # Without

    def _take_over(self, note: dict[str, Any]) -> Heart:
        """Become the next holder, when there is none, or none that is alive."""
        started = started_ticks(os.getpid())
        note |= {"machine": machine(), "started": started, "token": secrets.token_hex(8)}
        while True:
            numbers = numbers_of(self.path)
            latest = numbers[-1] if numbers else 0
            if latest:
                self._wait_for(beat_path(self.path, latest))
            heart = Heart(self.path, latest + 1, note, self._monotonic())
            # A number may also be free because its holder had a successor, who took its file away.
            if writing.create_exclusively(heart.file, heart.content()) and heart.is_highest():
                break
            # Other processes were faster: the last of them is the one to watch now.
        for number in numbers:
            with contextlib.suppress(OSError, TraxRayError):  # they count for nothing any more
                files.remove(beat_path(self.path, number))
        return heart

    def _wait_for(self, file: Place) -> None:
        """Return when the holder that counts in a file is gone; raise when it is alive."""
        first = content_of(file)
        if first is None or is_released(first):
            return
        note = noted(first)
        alive = _is_alive(note)
        if alive:
            raise self._busy(holder_in(note))
        begun = self._monotonic()
        while alive is None and self._monotonic() - begun < TAKE_OVER_S:
            self._sleep(_LOOK_PERIOD_S)
            now = content_of(file)
            if now is None or is_released(now):
                return
            if now != first:
                raise self._busy(holder_in(noted(now)))


def holder_of(path: Place) -> Holder | None:
    """Who holds a lock, found without taking it; cheap, and may be called often.

    Args:
        path: As for Lease.

    Returns:
        None where nobody holds it. Where the file system has no locks, a holder on another machine is returned until
        another process takes over, also where it is dead: from here that can't be seen at once.

    Raises:
        FileError: It can't be read.
    """
    if isinstance(path, ObjectPath):
        return _beating(path)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise explain(error, path, "read") from error
    try:
        # Shared, so that others can look too; who wants to hold it knows the difference (see `_lock`).
        return None if _flock(fd, fcntl.LOCK_SH) else holder_in(noted(os.pread(fd, _MAX_NOTE_BYTES, 0)))
    except _NoLocks:
        return _beating(path)
    except OSError as error:
        raise explain(error, path, "read") from error
    finally:
        os.close(fd)


def expect_nobody(path: Place) -> None:
    """Raise where a lock is held, before anything is begun there.

    Where there are no locks, as in object stores, nothing is checked: that takes `TAKE_OVER_S`, and is left to the
    process that takes the lock with a heartbeat next.

    Raises:
        BusyError: It is held.
        FileError: It can't be read or written.
    """
    if isinstance(path, ObjectPath) or not path.exists():
        return
    lease = Lease(path)
    try:
        lease.acquire("a batch that is about to start")
    except FileError as error:
        if error.code != FailureCode.NO_LOCKS:
            raise
    lease.release()


class _NoLocks(Exception):
    """The file system has no locks."""


def _flock(fd: int, how: int) -> bool:
    """Whether the lock could be had at once."""
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno == errno.EWOULDBLOCK:
            return False
        if error.errno in _NO_LOCKS:
            raise _NoLocks from error
        raise
    return True


def _is_dying(holder: Holder) -> bool:
    """Whether the process that took a lock on this machine was killed, and is about to disappear."""
    if holder.pid <= 0 or holder.host != socket.gethostname():
        return False
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return started_ticks(holder.pid) == ""


def _beating(path: Place) -> Holder | None:
    """Who holds a lock by heartbeat."""
    numbers = numbers_of(path)
    content = content_of(beat_path(path, numbers[-1])) if numbers else None
    if content is None or is_released(content) or _is_alive(noted(content)) is False:
        return None
    return holder_in(noted(content))


def _is_alive(note: Mapping[str, Any]) -> bool | None:
    """Whether a holder's process is alive; None where that can't be known from here."""
    pid = note.get("pid")
    if not isinstance(pid, int) or pid <= 0 or note.get("machine") != machine():
        return None
    if pid == os.getpid() and note.get("started") == started_ticks(pid):
        return any(lease._heart is not None and lease._heart.note["token"] == note.get("token") for lease in _held)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's, but there
    started = started_ticks(pid)
    if started is None or note.get("started") is None:
        return None  # it may be another one with the same number
    return bool(started == note["started"])


_held: set[Lease] = set()


def _let_go_after_fork() -> None:
    # A child made by fork shares the lock, and would hold it beyond its parent's death. Closing the child's
    # descriptor doesn't unlock the parent's.
    for lease in _held:
        if lease._fd >= 0:
            os.close(lease._fd)
        lease._fd = -1
        lease._heart = None
    _held.clear()


os.register_at_fork(after_in_child=_let_go_after_fork)
