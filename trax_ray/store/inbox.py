"""Commands from other terminals: small files that the coordinator journals and then deletes.

A command is one file in `OUT/.trax/inbox`, created atomically. Its name begins with the time,
so that commands are taken in the order in which they were given. The name is journalled with what it caused: a
coordinator that dies between journal and deletion leaves a file whose name its successor knows, and doesn't obey it
twice.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import secrets
import socket
import time
from dataclasses import dataclass

from trax_ray.errors import TraxRayError, UsageError
from trax_ray.store import files, writing
from trax_ray.store.explaining import explain
from trax_ray.store.uris import ObjectPath, Place

__all__ = ["COMMANDS", "Request", "put", "remove", "waiting"]

COMMANDS = ("pause", "resume", "stop", "retry-failed")

_NAME = re.compile(r"[0-9]{20}-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Request:
    """A command that waits to be taken up.

    Args:
        name: Of its file; unique, and later ones are greater.
        command: One of COMMANDS.
        by: Who gave it, for people: user, process and host.
    """

    name: str
    command: str
    by: str


def put(folder: Place, command: str) -> str:
    """Give a command to the batch that runs, or to its next run.

    Args:
        folder: `Layout.inbox`; made where it is missing.
        command: One of COMMANDS.

    Returns:
        The request's name; it has been taken up when it is no longer among `waiting`.

    Raises:
        UsageError: No such command.
        DiskFull: No space, no quota, read-only.
        FileError: Not permitted; permanent.
    """
    if command not in COMMANDS:
        raise UsageError(f"expected one of {', '.join(COMMANDS)}, got {command!r}")
    files.ensure_folder(folder)
    name = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
    content = {"command": command, "by": _who()}
    writing.create_exclusively(folder / name, json.dumps(content).encode("ascii"))
    return name


def waiting(folder: Place) -> list[Request]:
    """The requests that wait, in the order in which they were given; other files are passed over.

    Raises:
        FileError: The folder can't be read.
        StoreError, NetworkError: As `trax_ray.store.objects.stat_of`.
    """
    if isinstance(folder, ObjectPath):
        names = sorted(filter(_NAME.fullmatch, files.names_in(folder)))
        return [request for name in names if (request := _read(folder / name)) is not None]
    try:
        names = sorted(filter(_NAME.fullmatch, os.listdir(folder)))  # noqa: PTH208 - asked several times a second
    except FileNotFoundError:
        return []
    except OSError as error:
        raise explain(error, folder, "read") from error
    return [request for name in names if (request := _read(folder / name)) is not None]


def remove(folder: Place, name: str) -> None:
    """Delete a request, once it is journalled. One that stays, or comes back, is known by its name."""
    with contextlib.suppress(OSError, TraxRayError):
        files.remove(folder / name)


def _read(path: Place) -> Request | None:
    try:
        content = json.loads(files.read_regular(path))
        command, by = content["command"], str(content["by"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return Request(path.name, command, by) if command in COMMANDS else None


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in containers
        user = f"user {os.getuid()}"
    return f"{user}, process {os.getpid()} on {socket.gethostname()}"
