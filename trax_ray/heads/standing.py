"""The head that `trax-ray up` starts: it belongs to no driver, has a note of its own, and lives until `trax-ray down`.

Needs no Ray.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from trax_ray.core.spec import SECRET_VARIABLES
from trax_ray.errors import BusyError, SetupError
from trax_ray.gcs import Peer, ask, problem_of
from trax_ray.heads.machine import (
    DASHBOARD_PORT,
    LOOPBACK,
    LOOPBACK_SWITCH,
    dashboard_port,
    listener_at,
    make_token_private,
    object_store_bytes,
    ray_folder,
    see_that_ray_can_start,
)
from trax_ray.heads.notes import notes_folder
from trax_ray.heads.processes import end, family, noted
from trax_ray.store.files import ensure_folder, read_regular
from trax_ray.store.writing import write_atomically

__all__ = [
    "RAY_START",
    "Head",
    "answers",
    "down",
    "live_head",
    "local_head_note",
    "noted_heads",
    "standing_dashboard",
    "unfit_heads",
    "up",
]

UP_S = 60.0


RAY_START = (
    *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head"),
    *(f"--node-ip-address={LOOPBACK}", "--port=0", f"--dashboard-host={LOOPBACK}", "--disable-usage-stats"),
    # Any that is free: where another head's agent has the usual port Ray starts without one, and takes no jobs.
    "--dashboard-agent-listen-port=0",
)


def local_head_note() -> Path:
    """Where `ray start` writes the address of the head that it started; heads inside a driver don't."""
    return ray_folder() / "ray_current_cluster"


def live_head() -> str | None:
    """Address of a head on this machine that a batch can join, and that `trax-ray up` or `ray start` started."""
    return next((address for address in noted_heads() if ask(address).joinable), None)


def unfit_heads() -> list[tuple[str, str]]:
    """Noted addresses at which something answers that a batch can't join, and why not. Ports go to others in time."""
    found = [(address, ask(address)) for address in noted_heads()]
    return [(address, problem_of(each)) for address, each in found if each.peer is not Peer.NOBODY and problem_of(each)]


def noted_heads() -> list[str]:
    """Addresses of the heads that `trax-ray up` and `ray start` started last on this machine, dead or alive."""
    note = _standing_note()
    return [address for address in (note["address"] if note else "", _noted_by_ray()) if address]


def standing_dashboard() -> str:
    """`http://host:port` of the dashboard of the head that `up` started last; empty without."""
    note = _standing_note()
    return str(note["dashboard_url"]) if note else ""


def _noted_by_ray() -> str:
    try:
        return read_regular(local_head_note()).decode().strip()
    except (OSError, ValueError):
        return ""


def answers(address: str, timeout_s: float = 1.0) -> bool:
    """Whether something takes connections at `host:port`."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s):
            return True
    except (OSError, ValueError, OverflowError):
        return False


@dataclass(frozen=True, slots=True)
class Head:
    """A head that batches on this machine join.

    Args:
        address: Of its GCS, host:port.
        dashboard_url: `http://host:port`; empty where there is no dashboard, or nobody knows.
        ours: Whether `up` started it; other heads aren't ours to end.
        new: Whether this call of `up` did.
        notice: What people should know of its start; empty where it is as usual.
    """

    address: str
    dashboard_url: str = ""
    ours: bool = True
    new: bool = False
    notice: str = ""


def up(*, lean: bool = False) -> Head:
    """Start a head that batches on this machine join, unless there is one.

    Ray's processes inherit this process's environment: what `trax_ray.cluster` sets there has to be there.

    Args:
        lean: Start it without the dashboard.

    Raises:
        SetupError: Ray doesn't start.
    """
    with _one_at_a_time():
        note = _standing_note()
        found = ask(note["address"]) if note else None
        if note and found and found.joinable:
            return Head(note["address"], note["dashboard_url"])
        if note and found and found.peer is Peer.RAY:
            raise SetupError(f"Ray is up at {note['address']}, but {problem_of(found)}: `trax-ray down` ends it")
        if note:
            _take_down(note)
        address = live_head()
        return Head(address, ours=False) if address else _start(lean)


def down(*, force: bool = False) -> tuple[Head | None, int]:
    """End the head that `up` started, if there is one.

    Args:
        force: Also where somebody works on it.

    Returns:
        The head that is no more, and how many processes were ended.

    Raises:
        BusyError: Somebody works on it.
    """
    with _one_at_a_time():
        note = _standing_note()
        if note is None:
            return None, 0
        drivers = [] if force else _drivers(note)
        if drivers:
            raise BusyError(
                f"{drivers[0]} is connected to Ray at {note['address']}: wait for it or stop it first, "
                "or give --force; what a batch has finished is kept either way"
            )
        return Head(note["address"], note["dashboard_url"]), _take_down(note)


def _drivers(note: Mapping[str, Any]) -> list[str]:
    """Who is connected to a head and doesn't belong to it, for people; as far as the system lets one see."""
    host, _, port = note["address"].rpartition(":")
    own = {process.pid for process in family(note)}
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error, OSError):
            process = psutil.Process(pid)
            if pid not in own and any(
                connection.status == psutil.CONN_ESTABLISHED and _peer(connection.raddr) == (host, int(port))
                for connection in process.net_connections("tcp")
            ):
                found.append(f"process {pid} ({Path(process.cmdline()[0]).name})")
    return found


def _peer(address: Any) -> tuple[str, int] | None:
    """Host and port of the other end. Sockets of both kinds, as gRPC's, say `::ffff:127.0.0.1` of IPv4."""
    return (address.ip.removeprefix("::ffff:"), address.port) if address else None


def _start(lean: bool) -> Head:
    see_that_ray_can_start()
    make_token_private()
    unwanted = {"RAY_ADDRESS", *SECRET_VARIABLES}
    environ = {name: value for name, value in os.environ.items() if name not in unwanted}
    environ.setdefault(LOOPBACK_SWITCH, "0")
    port = dashboard_port()  # Ray wants one without the dashboard too
    usual = lean or port == DASHBOARD_PORT
    notice = "" if usual else f"{listener_at(DASHBOARD_PORT)} has its usual port, {DASHBOARD_PORT}"
    switches = (f"--include-dashboard={not lean}", f"--dashboard-port={port}")
    with tempfile.TemporaryFile("w+") as output:  # a pipe would stay open as long as the head lives
        process = subprocess.Popen(
            [*RAY_START, *switches, f"--object-store-memory={object_store_bytes()}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environ,
            start_new_session=True,  # the terminal may be closed
            cwd=notes_folder().parent,  # Python would import from wherever this is
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(UP_S)
        output.seek(0)
        said = output.read()
    # Ray names a session after the process that starts it.
    sessions = sorted(ray_folder().glob(f"session_*_{process.pid}"))
    address = _noted_by_ray()
    dashboard_url = next(iter(re.findall(rf"http://{re.escape(LOOPBACK)}:\d+", said)), "")
    note: dict[str, Any] = {
        "address": address,
        "dashboard_url": dashboard_url,
        "session_dir": str(sessions[-1]) if sessions else "",
        "processes": noted(_of_terminal_session(process.pid)),
    }
    note["processes"] = noted(family(note))
    # Other programs of Ray would take the head for theirs by this note, and can't: they don't look on loopback.
    local_head_note().unlink(missing_ok=True)
    if process.returncode != 0 or not answers(address):
        end(note)
        lines = [line for line in said.splitlines() if line.strip()] or ["it says nothing"]
        raise SetupError(f"Ray doesn't start: {lines[-1].strip()[:300]}: `trax-ray doctor` looks for the cause")
    ensure_folder(_standing_path().parent)
    write_atomically(_standing_path(), json.dumps(note).encode("ascii"))
    return Head(address, dashboard_url, new=True, notice=notice)


def _of_terminal_session(leader: int) -> list[psutil.Process]:
    """Processes that descend from the one that began a session of its own, as the system means the word."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError):
            if os.getsid(process.pid) == leader:
                found.append(process)
    return found


def _take_down(note: Mapping[str, Any]) -> int:
    ended = end(note)
    _standing_path().unlink(missing_ok=True)
    return ended


def _standing_path() -> Path:
    # The folder may be shared by machines.
    return notes_folder().parent / f"up-{socket.gethostname()}.json"


def _standing_note() -> dict[str, Any] | None:
    """What `up` noted; None where there is nothing, or nothing that can be read."""
    try:
        note = json.loads(read_regular(_standing_path()))
        return {name: note[name] for name in ("address", "dashboard_url", "session_dir", "processes")}
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Two heads that start at the same moment would leave one that nobody knows."""
    ensure_folder(notes_folder().parent)
    with (notes_folder().parent / "up.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
