"""The lock of an output folder: one holder, who is named, and free when its process is dead."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trax_ray.errors import BusyError, FileError
from trax_ray.store.lease import Lease

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
    first, second = Lease(path), Lease(path)
    first.acquire("batch one")
    first.acquire("batch one")
    assert first.held
    with pytest.raises(BusyError) as caught:
        second.acquire("batch two")
    message = caught.value.message
    for expected in ("batch one", str(os.getpid()), socket.gethostname(), str(path), "--output-dir"):
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


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"holder": 1}', b"\xff"])
def test_a_holder_that_has_not_said_its_name(path: Path, note: bytes) -> None:
    first = Lease(path)
    first.acquire("batch one")
    path.write_bytes(note)
    with pytest.raises(BusyError, match="hasn't said its name"):
        Lease(path).acquire("batch two")
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
