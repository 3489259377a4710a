"""What a local Ray head needs of this machine, and what it may take of it: files, sockets, memory. Needs no Ray."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import psutil

from trax_ray.errors import SetupError
from trax_ray.places import home
from trax_ray.store.explaining import shown

__all__ = [
    "DASHBOARD_PORT",
    "LONGEST_SOCKET",
    "LOOPBACK",
    "LOOPBACK_SWITCH",
    "dashboard_port",
    "listener_at",
    "make_token_private",
    "object_store_bytes",
    "ray_folder",
    "see_that_ray_can_start",
    "token_file",
    "too_full_for_ray",
    "too_long_for_ray",
    "usable_cores",
]

OBJECT_STORE_BYTES = 256 * 2**20
"""Tasks return paths and figures, so the object store of a head of ours stays nearly empty."""


FREE_BYTES = 64 * 2**20
"""Room that a session needs for its logs, about."""


OTHER_FOLDER = "mend that, or set RAY_TMPDIR to another folder"


LOOPBACK = "127.0.0.1"


DASHBOARD_PORT = 8265
"""Where Ray's dashboard is looked for."""


PORTS = 50
"""Of so many, from the usual one on, a head that stays takes the first that is free, as Ray does for others."""


LOOPBACK_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Where this is 0 Ray listens on loopback alone if it is given that address; its default on macOS."""


LONGEST_SOCKET = 107 if sys.platform.startswith("linux") else 103
"""Bytes that the name of a socket may have."""


_SOCKET = "session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""The longest name that Ray gives to one, below its folder."""


def ray_folder() -> Path:
    """Where Ray keeps its sessions on this machine: as Ray finds it, without importing it."""
    folder = os.environ.get("RAY_TMPDIR")
    if not folder and sys.platform.startswith("linux"):
        folder = os.environ.get("TMPDIR")
    if not folder:
        folder = "/tmp" if sys.platform.startswith(("linux", "darwin")) else tempfile.gettempdir()
    return Path(folder) / "ray"


def see_that_ray_can_start() -> None:
    """Ray takes half a minute over a folder that doesn't do, and doesn't say what is wrong with it.

    Raises:
        SetupError: Its folder has no room, can't be written to, or has too long a name.
    """
    folder = ray_folder()
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    problem = too_long_for_ray(folder) or too_full_for_ray(folder, shutil.disk_usage(existing).free)
    if not problem and not os.access(existing, os.W_OK | os.X_OK):
        problem = f"Ray's files would lie in {shown(folder)}, and {shown(existing)} can't be written to: {OTHER_FOLDER}"
    if problem:
        raise SetupError(problem)


def too_long_for_ray(folder: Path) -> str:
    """Why Ray's sockets can't lie in a folder, and the way out; empty where they can."""
    longest = LONGEST_SOCKET - len(_SOCKET) - 1
    if len(os.fsencode(folder)) <= longest:
        return ""
    return (
        f"Ray's files would lie in {folder}, and the system takes no names of sockets that are that long: "
        f"set RAY_TMPDIR to a folder whose name has at most {longest - len('/ray')} bytes, such as /tmp"
    )


def too_full_for_ray(folder: Path, free_bytes: int) -> str:
    """Why Ray's files have no room in a folder, and the way out; empty where they have.

    Args:
        folder: The folder.
        free_bytes: Room on its file system.
    """
    if free_bytes >= FREE_BYTES:
        return ""
    return (
        f"Ray's files would lie in {shown(folder)}, where {free_bytes / 2**20:.0f} MB are free and {FREE_BYTES >> 20} "
        f"needed: {OTHER_FOLDER}"
    )


def dashboard_port() -> int:
    """The first free port of this machine for a dashboard; the usual one where it is.

    `ray start` takes the usual one or none: where another program has it, it doesn't start.

    Raises:
        SetupError: All are taken.
    """
    last = DASHBOARD_PORT + PORTS - 1
    for port in range(DASHBOARD_PORT, last + 1):
        with socket.socket() as found:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that was left a moment ago is free
            with contextlib.suppress(OSError):
                found.bind((LOOPBACK, port))
                return port
    raise SetupError(
        f"Ray doesn't start: all ports from {DASHBOARD_PORT} to {last}, of which its dashboard needs one, are taken on "
        f"this machine; {listener_at(DASHBOARD_PORT)} has the first one: end what holds one of them"
    )


def listener_at(port: int) -> str:
    """Who listens at a port of this machine, for people, as far as the system lets one see."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return "another program"


def usable_cores() -> int:
    """Cores that this process, and a head that it starts, may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def object_store_bytes() -> int:
    """Size of the object store of a head of ours."""
    return int(min(OBJECT_STORE_BYTES, psutil.virtual_memory().total // 8))


def token_file() -> Path:
    """Where the token is that Ray sends to clusters and wants from others."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or home() / ".ray" / "auth_token")


def make_token_private() -> None:
    """Make the token file before Ray does, which would let others read it, or take their right to read it."""
    if os.environ.get("RAY_AUTH_MODE", "token") != "token" or os.environ.get("RAY_AUTH_TOKEN"):
        return
    path = token_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        contextlib.suppress(FileExistsError),
        os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file,
    ):
        file.write(secrets.token_hex(32))
    path.chmod(0o600)
