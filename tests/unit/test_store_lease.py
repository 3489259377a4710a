"""The lock of an output folder: one holder, who is named, and free when its process is dead; also without locks."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from trax_ray.errors import BusyError, FencedError, FileError
from trax_ray.heads.processes import find, lives
from trax_ray.store import lease as lease_module
from trax_ray.store.heartbeat import BEAT_PERIOD_S, Holder
from trax_ray.store.lease import TAKE_OVER_S, Lease, holder_of
from trax_ray.store.processes import mark_of
from trax_ray.testing.clock import FakeClock

HOLD = """
import os, sys
from pathlib import Path
from trax_ray.store.lease import Lease
lease = Lease(Path(sys.argv[1]))
lease.acquire("batch one")
if "fork" not in sys.argv or os.fork() == 0:  # the child says it, once it has been through all that fork does
    print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".trax" / "lock"


def start_holder(path: Path, *arguments: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def test_one_holder_at_a_time(path: Path) -> None:
    first, second = Lease(path, clock=FakeClock(1767225600.5)), Lease(path)
    first.acquire("batch one")
    first.acquire("batch one")
    assert first.held
    with pytest.raises(BusyError) as caught:
        second.acquire("batch two")
    message = caught.value.message
    for expected in (
        "batch one",
        str(os.getpid()),
        socket.gethostname(),
        str(path),
        "--output-dir",
        "since 2026-01-01 00:00:00 UTC",
    ):
        assert expected in message
    assert not second.held
    first.release()
    first.release()
    second.acquire("batch two")
    with pytest.raises(BusyError, match="batch two"):
        first.acquire("batch one")
    second.release()


@pytest.mark.parametrize("arguments", [(), ("fork",)])
def test_free_the_moment_its_process_dies(path: Path, arguments: tuple[str, ...]) -> None:
    process = start_holder(path, *arguments)
    lease = Lease(path)
    with process:
        with pytest.raises(BusyError, match=f"batch one, process {process.pid} on"):
            lease.acquire("batch two")
        process.send_signal(signal.SIGKILL)
        process.wait()
        lease.acquire("batch two")  # also while a forked child of the dead one lives
        assert lease.held
    lease.release()


LOSE_MAIN_THREAD = """
import ctypes, os, sys, threading
from pathlib import Path
from trax_ray.store.lease import Lease
Lease(Path(sys.argv[1])).acquire("batch one")
threading.Thread(target=sys.stdin.read).start()
print("held", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""
"""What a killed process with many threads looks like on a busy machine: a zombie that has its locks for a while."""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems don't show a process whose first thread has ended")
def test_a_holder_that_is_just_dying_is_waited_for(path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", LOSE_MAIN_THREAD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        holder = psutil.Process(process.pid)
        while holder.status() != psutil.STATUS_ZOMBIE:
            os.sched_yield()
        assert find(process.pid, mark_of(holder.pid)), "it isn't gone before its last thread is"
        assert not lives(process.pid, mark_of(holder.pid)), "but it won't do anything any more"
        waits = [lambda: None, process.kill, process.wait]
        lease = Lease(path, sleep=lambda _: waits.pop(0)() if waits else None)
        lease.acquire("batch two")
        assert lease.held
    lease.release()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems don't show a process whose first thread has ended")
def test_a_holder_that_is_dying_and_does_not_die_is_told_of(path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", LOSE_MAIN_THREAD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            os.sched_yield()
        clock = FakeClock(0.0)
        with pytest.raises(BusyError, match=str(process.pid)):
            Lease(path, sleep=clock.advance).acquire("batch two")
        assert clock() == pytest.approx(5.0, abs=0.1)
        process.kill()


NO_TIME = b'{"holder": "b", "pid": 1, "host": "h", "since": 1e300}'


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"holder": 1}', b"\xff", NO_TIME])
def test_a_holder_that_has_not_said_its_name(path: Path, note: bytes) -> None:
    first = Lease(path)
    first.acquire("batch one")
    path.write_bytes(note)
    with pytest.raises(BusyError, match="hasn't said its name"):
        Lease(path).acquire("batch two")
    assert holder_of(path) == Holder("", 0, "", 0.0)
    first.release()


@pytest.mark.parametrize("recreated", [False, True])
def test_a_lock_on_a_deleted_file_does_not_count(path: Path, monkeypatch: pytest.MonkeyPatch, recreated: bool) -> None:
    flock, locked = fcntl.flock, []

    def deleted_meanwhile(fd: int, operation: int) -> None:
        flock(fd, operation)
        locked.append(fd)
        if len(locked) == 1:
            path.unlink()
            if recreated:
                path.touch()

    lease = Lease(path)
    monkeypatch.setattr(fcntl, "flock", deleted_meanwhile)
    lease.acquire("batch one")
    assert len(locked) == 2
    with pytest.raises(BusyError):
        Lease(path).acquire("batch two")
    lease.release()


def test_a_file_system_without_locks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(FileError, match="local disk") as caught:
        Lease(path).acquire("batch one")
    assert caught.value.code == "no_locks"


def test_a_folder_in_the_way(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(FileError) as caught:
        Lease(path).acquire("batch one")
    assert caught.value.code == "not_writable"


# Who holds it


def test_the_holder_is_named_without_being_disturbed(path: Path) -> None:
    assert holder_of(path) is None
    assert not path.parent.exists(), "looking makes nothing"
    lease = Lease(path, clock=FakeClock(7.0))
    lease.acquire("batch one")
    expected = Holder("batch one", os.getpid(), socket.gethostname(), 7.0)
    assert [holder_of(path), holder_of(path)] == [expected, expected]
    lease.release()
    assert holder_of(path) is None
    lease.acquire("batch one")
    lease.release()


def test_the_dead_hold_nothing(path: Path) -> None:
    process = start_holder(path)
    with process:
        found = holder_of(path)
        assert found is not None
        assert (found.holder, found.pid) == ("batch one", process.pid)
        process.kill()
        process.wait()
    assert path.read_bytes(), "what it said about itself is still there"
    assert holder_of(path) is None


def test_a_lock_that_cannot_be_looked_at(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(FileError) as caught:
        holder_of(path)
    assert caught.value.code == "permission_denied"


def test_one_who_looks_is_not_taken_for_a_holder(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    waits: list[float] = []
    with path.open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                fcntl.flock(looking, fcntl.LOCK_UN)

        lease = Lease(path, sleep=sleep)
        lease.acquire("batch one")
        assert lease.held
        assert len(waits) == 3
        lease.release()
        fcntl.flock(looking, fcntl.LOCK_SH)
        with pytest.raises(BusyError):  # one who never stops looking, as a debugger could make it
            Lease(path, sleep=waits.append).acquire("batch one")
    assert sum(waits) < 2


def test_looking_all_the_time_keeps_nobody_out(path: Path) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def look() -> None:
        try:
            while not stop.is_set():
                holder_of(path)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(200):
            lease = Lease(path)
            lease.acquire("batch one")
            found = holder_of(path)
            assert found is not None
            assert found.holder == "batch one"
            lease.release()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures


# Where there are no locks


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every holder is on another machine: nothing is known of its process."""
    machines = iter(range(100))
    monkeypatch.setattr(lease_module, "machine", lambda: str(next(machines)))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(0.0)


def beating(path: Path, clock: FakeClock, sleep: Callable[[float], object] | None = None) -> Lease:
    return Lease(path, heartbeat=True, clock=clock, monotonic=clock, sleep=sleep or clock.advance)


def beats(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir() if each != path)


@pytest.mark.usefixtures("no_locks")
def test_a_heartbeat_where_there_are_no_locks(path: Path, clock: FakeClock) -> None:
    first = beating(path, clock)
    first.acquire("batch one")
    first.acquire("batch one")
    assert first.held
    assert holder_of(path) == Holder("batch one", os.getpid(), socket.gethostname(), 0.0)
    with pytest.raises(BusyError, match=f"batch one, process {os.getpid()} on .* since 1970-01-01 00:00:00 UTC"):
        beating(path, clock).acquire("batch two")
    assert clock.now == 0.0, "its process is alive on this machine: nothing to wait for"
    first.release()
    first.release()
    assert holder_of(path) is None
    second = beating(path, clock)
    second.acquire("batch two")
    assert clock.now == 0.0
    assert beats(path) == ["lock.000002"], "numbers grow, and what is over is taken away"
    second.release()


@pytest.mark.usefixtures("no_locks", "elsewhere")
def test_a_holder_that_counts_is_alive(path: Path, clock: FakeClock) -> None:
    first = beating(path, clock)
    first.acquire("batch one")

    def sleep(seconds: float) -> None:
        clock.advance(seconds)
        first.beat()

    for _ in range(3):
        begun = clock.now
        with pytest.raises(BusyError, match="batch one"):
            beating(path, clock, sleep).acquire("batch two")
        assert 0 < clock.now - begun <= 10.0
    first.release()


@pytest.mark.usefixtures("no_locks", "elsewhere")
def test_a_holder_that_stands_still_is_succeeded_and_told(path: Path, clock: FakeClock) -> None:
    first, second = beating(path, clock), beating(path, clock)
    first.acquire("batch one")
    clock.advance(3600.0)  # how long it stood still before somebody looked says nothing
    second.acquire("batch two")
    assert clock.now - 3600.0 == TAKE_OVER_S
    found = holder_of(path)
    assert found is not None
    assert found.holder == "batch two"
    with pytest.raises(FencedError, match="taken over"):
        first.beat()
    first.release()
    assert holder_of(path) == found, "the first one lets go of what is its own"
    second.beat()
    second.release()


@pytest.mark.usefixtures("no_locks", "elsewhere")
def test_one_that_lets_go_while_it_is_watched(path: Path, clock: FakeClock) -> None:
    first = beating(path, clock)
    first.acquire("batch one")

    def sleep(seconds: float) -> None:
        clock.advance(seconds)
        if clock.now >= 4.0:
            first.release()

    second = beating(path, clock, sleep)
    second.acquire("batch two")
    assert clock.now == 4.0
    second.release()


@pytest.mark.usefixtures("no_locks", "elsewhere")
def test_of_two_who_watch_one_succeeds(path: Path, clock: FakeClock) -> None:
    beating(path, clock).acquire("batch one")
    third = beating(path, clock)

    def sleep(seconds: float) -> None:
        clock.advance(seconds)
        if clock.now == TAKE_OVER_S and not third.held:
            third.acquire("batch three")
        third.beat()

    second = beating(path, clock, sleep)
    with pytest.raises(BusyError, match="batch three"):
        second.acquire("batch two")
    assert len(beats(path)) == 1
    third.release()


@pytest.mark.usefixtures("no_locks")
def test_a_number_that_is_free_because_of_higher_ones_is_not_taken(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers, calls = lease_module.numbers_of, []

    def late(lock: Path) -> list[int]:
        calls.append(lock)
        return [] if len(calls) == 1 else numbers(lock)  # the first look was long ago

    path.parent.mkdir()
    path.with_name("lock.000002").write_bytes(b"{}")
    monkeypatch.setattr(lease_module, "numbers_of", late)
    lease = beating(path, clock)
    lease.acquire("batch one")
    assert beats(path) == ["lock.000003"]
    lease.release()


@pytest.mark.usefixtures("no_locks")
def test_beating_does_something_when_it_is_due_and_only_then(path: Path, clock: FakeClock) -> None:
    lease = beating(path, clock)
    lease.beat()
    lease.acquire("batch one")
    file = path.with_name("lock.000001")
    contents = []
    for _ in range(20):
        lease.beat()
        contents.append(file.read_bytes())
        clock.advance(1.0)
    assert len(set(contents)) == 1 + 19 // BEAT_PERIOD_S
    assert len({len(content) for content in contents}) == 1, "written over in place"
    lease.release()
    lease.beat()


@pytest.mark.usefixtures("no_locks")
def test_a_beat_that_cannot_be_written_is_tried_again(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = beating(path, clock)
    lease.acquire("batch one")
    before = path.with_name("lock.000001").read_bytes()
    clock.advance(BEAT_PERIOD_S)

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        lease.beat()
    assert path.with_name("lock.000001").read_bytes() == before
    lease.beat()
    assert path.with_name("lock.000001").read_bytes() != before
    lease.release()


def test_with_locks_there_is_no_heartbeat(path: Path, clock: FakeClock) -> None:
    lease = beating(path, clock)
    lease.acquire("batch one")
    clock.advance(100.0)
    lease.beat()
    assert beats(path) == []
    lease.release()


HOLD_WITHOUT_LOCKS = """
import errno, fcntl, sys
from pathlib import Path
from trax_ray.store.lease import Lease
def refuse(*_):
    raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = refuse
Lease(Path(sys.argv[1]), heartbeat=True).acquire("batch one")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds by heartbeat."""
    arguments = [sys.executable, "-c", HOLD_WITHOUT_LOCKS, str(path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="when a process began is asked of /proc")
@pytest.mark.usefixtures("no_locks")
def test_a_dead_holder_on_this_machine_is_succeeded_at_once(
    path: Path, clock: FakeClock, other: subprocess.Popen[bytes]
) -> None:
    lease = beating(path, clock)
    with pytest.raises(BusyError, match=f"process {other.pid} on"):
        lease.acquire("batch two")
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # dead, and not buried
    assert holder_of(path) is None
    lease.acquire("batch two")
    assert clock.now == 0.0
    lease.release()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="when a process began is asked of /proc")
@pytest.mark.usefixtures("no_locks")
def test_another_process_with_the_same_number_is_not_taken_for_the_holder(
    path: Path, clock: FakeClock, other: subprocess.Popen[bytes]
) -> None:
    file = path.with_name("lock.000001")
    started = lease_module.started_ticks(other.pid)
    assert started
    file.write_bytes(file.read_bytes().replace(started.encode(), b"1" * len(started)))
    lease = beating(path, clock)
    lease.acquire("batch two")
    assert clock.now == 0.0
    lease.release()


@pytest.mark.usefixtures("no_locks")
def test_where_it_is_not_known_when_processes_began_they_are_watched(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, other: subprocess.Popen[bytes]
) -> None:
    monkeypatch.setattr(lease_module, "started_ticks", lambda pid: None)
    lease = beating(path, clock)
    lease.acquire("batch two")
    assert clock.now == TAKE_OVER_S
    lease.release()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": "x"}', b'{"pid": -1}'])
@pytest.mark.usefixtures("no_locks")
def test_a_holder_that_nothing_is_known_of_is_watched(path: Path, clock: FakeClock, content: bytes) -> None:
    path.parent.mkdir()
    path.touch()
    path.with_name("lock.000007").write_bytes(content)
    assert holder_of(path) == Holder("", 0, "", 0.0)
    lease = beating(path, clock)
    lease.acquire("batch two")
    assert clock.now == TAKE_OVER_S
    lease.release()


@pytest.mark.usefixtures("no_locks")
def test_a_child_made_by_fork_holds_nothing(path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = beating(path, clock)
    lease.acquire("batch one")
    before = path.with_name("lock.000001").read_bytes()
    monkeypatch.setattr(lease_module, "_held", {lease})
    lease_module._let_go_after_fork()
    assert not lease.held
    assert not lease_module._held
    lease.release()
    assert path.with_name("lock.000001").read_bytes() == before, "it is still its parent's"


def test_nothing_is_kept_of_a_lease_that_was_released(path: Path) -> None:
    lease = Lease(path)
    lease.acquire("batch one")
    assert lease in lease_module._held
    lease.release()
    assert lease not in lease_module._held


@pytest.mark.usefixtures("no_locks")
def test_a_lease_of_this_process_that_nobody_has_any_more_is_free(path: Path, clock: FakeClock) -> None:
    lost = beating(path, clock)
    lost.acquire("batch one")
    lease_module._held.discard(lost)  # as in a child made by fork, or after an error between two steps
    lease = beating(path, clock)
    lease.acquire("batch two")
    assert clock.now == 0.0
    lease.release()
