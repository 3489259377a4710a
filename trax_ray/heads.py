"""Local Ray heads of ours: which processes they consist of, and ending what is left of them. Needs no Ray.

Processes of a head whose driver was killed live on for a minute or more, some of them for ever, and hold memory and
ports. So whoever starts a head notes it in a file: the driver, the head's processes, and Ray's session folder.
Each process is noted with its mark (`trax_ray.store.processes`), because the system gives numbers of dead processes to
new ones. What has no mark that fits isn't touched.

A head that `trax-ray up` started belongs to no driver. It has a note of its own, and lives until `trax-ray down`.

Workers that started after the note was written, and agents whose raylet has died, are found by their session. Ray
overwrites their command lines, and the agents' environment too; what stays is that they have the session's log files
open. Others may read these files as well, so the name that Ray gives its own (`ray::...`) has to be there besides.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from trax_ray.core.spec import SECRET_VARIABLES
from trax_ray.errors import BusyError, SetupError
from trax_ray.gcs import Peer, ask, problem_of
from trax_ray.places import home, state_folder
from trax_ray.store import processes as known
from trax_ray.store.files import ensure_folder, read_regular, shown, write_atomically
from trax_ray.store.processes import mark_of

__all__ = [
    "LOOPBACK",
    "LOOPBACK_SWITCH",
    "Head",
    "answers",
    "descendants",
    "down",
    "end",
    "end_own_head",
    "family",
    "find",
    "forget_head",
    "kill_noted",
    "live_head",
    "lives",
    "local_head_note",
    "make_token_private",
    "note_head",
    "noted",
    "noted_heads",
    "notes_folder",
    "object_store_bytes",
    "orphans",
    "own_head",
    "ray_folder",
    "reap_orphans",
    "see_that_ray_can_start",
    "started_here",
    "unfit_heads",
    "too_full_for_ray",
    "too_long_for_ray",
    "up",
    "usable_cores",
]

logger = logging.getLogger(__name__)

OBJECT_STORE_BYTES = 256 * 2**20
"""Tasks return paths and figures, so the object store of a head of ours stays nearly empty."""

FREE_BYTES = 64 * 2**20
"""Room that a session needs for its logs, about."""

OTHER_FOLDER = "mend that, or set RAY_TMPDIR to another folder"

LOOPBACK = "127.0.0.1"

LOOPBACK_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Where this is 0 Ray listens on loopback alone if it is given that address; its default on macOS."""

KILL_ROUNDS = 3
KILL_WAIT_S = 5.0
KILL_LOOK_S = 0.01

UP_S = 60.0
RAY_START = (
    *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head"),
    *(f"--node-ip-address={LOOPBACK}", "--port=0", f"--dashboard-host={LOOPBACK}", "--disable-usage-stats"),
)

_PROGRAM = re.compile(r"/ray/(\w+/)*(raylet|gcs_server|\w+\.py)")
"""What Ray's own daemons run: `.../ray/core/src/ray/raylet/raylet`, `.../ray/dashboard/dashboard.py`."""


def ray_folder() -> Path:
    """Where Ray keeps its sessions on this machine: as Ray finds it, without importing it."""
    folder = os.environ.get("RAY_TMPDIR")
    if not folder and sys.platform.startswith("linux"):
        folder = os.environ.get("TMPDIR")
    if not folder:
        folder = "/tmp" if sys.platform.startswith(("linux", "darwin")) else tempfile.gettempdir()
    return Path(folder) / "ray"


LONGEST_SOCKET = 107 if sys.platform.startswith("linux") else 103
"""Bytes that the name of a socket may have."""

_SOCKET = "session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""The longest name that Ray gives to one, below its folder."""


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


def usable_cores() -> int:
    """Cores that this process, and a head that it starts, may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def object_store_bytes() -> int:
    """Size of the object store of a head of ours."""
    return int(min(OBJECT_STORE_BYTES, psutil.virtual_memory().total // 8))


def make_token_private() -> None:
    """Make the token file before Ray does, which would let others read it, or take their right to read it."""
    if os.environ.get("RAY_AUTH_MODE", "token") != "token" or os.environ.get("RAY_AUTH_TOKEN"):
        return
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or home() / ".ray" / "auth_token")
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        contextlib.suppress(FileExistsError),
        os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file,
    ):
        file.write(secrets.token_hex(32))
    path.chmod(0o600)


# Notes


def notes_folder() -> Path:
    """Folder of the notes on heads that batches started, one per driver."""
    return state_folder() / "heads"


def note_head(processes: Iterable[psutil.Process] = (), session_dir: str = "") -> None:
    """Note the head that this process is starting, or has started.

    Args:
        processes: Its processes, as far as they are there yet.
        session_dir: Ray's session folder; empty where it isn't known yet: a driver that is killed while Ray starts
            leaves processes too, and the session is then found by the driver's number, which ends its name.
    """
    pid = os.getpid()
    note = {
        "driver": [pid, mark_of(pid)],
        "host": socket.gethostname(),
        "processes": noted(processes),
        "session_dir": session_dir,
        "ray_folder": str(ray_folder()),
        # Of another process that had this number.
        "older_sessions": [path.name for path in ray_folder().glob(f"session_*_{pid}") if str(path) != session_dir],
    }
    path = _note_path(pid)
    ensure_folder(path.parent)
    write_atomically(path, json.dumps(note).encode("ascii"))


def forget_head() -> None:
    """This process's head has ended as it should."""
    _note_path(os.getpid()).unlink(missing_ok=True)


def noted(processes: Iterable[psutil.Process]) -> list[tuple[int, str]]:
    """Processes as they stand in a note: number and mark of each that lives."""
    found = []
    for process in processes:
        mark = mark_of(process.pid)
        if mark and process.is_running():
            found.append((process.pid, mark))
    return found


def _note_path(pid: int) -> Path:
    return notes_folder() / f"{pid}.json"


def started_here() -> bool:
    """Whether this process has started a head that lives."""
    return _note_path(os.getpid()).exists()


def own_head() -> list[tuple[int, str]]:
    """The processes of the head that this process has started, as `noted` gives them."""
    try:
        return noted(family(json.loads(read_regular(_note_path(os.getpid())))))
    except (OSError, ValueError, KeyError, TypeError):
        return []


def end_own_head() -> int:
    """End the head that this process has started, if any, as it is: for a process that has no time left.

    Returns:
        How many processes were ended.
    """
    if not started_here():
        return 0
    ended = 0
    # All of it descends from this process, and lives: there is nothing to look for, and no time either.
    for process in descendants():
        with contextlib.suppress(psutil.Error):
            process.kill()
            ended += 1
    return ended  # the note stays: should one have come in this moment, the next run ends it


# A head that stays


@dataclass(frozen=True, slots=True)
class Head:
    """A head that batches on this machine join.

    Args:
        address: Of its GCS, host:port.
        dashboard_url: `http://host:port`; empty where there is no dashboard, or nobody knows.
        ours: Whether `up` started it; other heads aren't ours to end.
        new: Whether this call of `up` did.
    """

    address: str
    dashboard_url: str = ""
    ours: bool = True
    new: bool = False


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
    with tempfile.TemporaryFile("w+") as output:  # a pipe would stay open as long as the head lives
        process = subprocess.Popen(
            [*RAY_START, f"--include-dashboard={not lean}", f"--object-store-memory={object_store_bytes()}"],
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
    return Head(address, dashboard_url, new=True)


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


# What is left of a head


def orphans() -> list[psutil.Process]:
    """Processes of heads whose driver is dead. Looking changes nothing."""
    return [process for _, note in _left_behind() if note for process in family(note)]


def reap_orphans() -> int:
    """End what is left of local heads whose driver is dead.

    Returns:
        How many processes were ended.
    """
    ended = 0
    for path, note in _left_behind():
        ended += end(note) if note else 0
        path.unlink(missing_ok=True)
    if ended:
        logger.info("ended %d processes that an earlier run left behind", ended)
    return ended


def _left_behind() -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """The notes of drivers of this machine that are dead; None for notes that can't be read."""
    for path in sorted(notes_folder().glob("*.json")):
        try:
            note = json.loads(read_regular(path))
            # The folder may be shared by machines, each of which has a process of that number.
            elsewhere = note.get("host", socket.gethostname()) != socket.gethostname()
            if elsewhere or find(*_entry(note["driver"])) is not None:
                continue
            note["processes"] = [_entry(process) for process in note["processes"]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            logger.debug("the note %s can't be read (%s)", path, error)
            note = None
        yield path, note


def _entry(noted: Sequence[Any]) -> tuple[int, str]:
    """A noted process. Version 0.1 noted times of day, by which nobody can be told dead."""
    pid, mark = noted
    if not isinstance(pid, int) or not isinstance(mark, str):
        raise TypeError(f"expected a number and a mark, got {noted}")
    return pid, mark


def family(note: Mapping[str, Any]) -> list[psutil.Process]:
    """The processes of a noted head that live: noted ones, others of its Ray session, and the children of both."""
    roots = [process for pid, mark in note["processes"] if (process := find(pid, mark)) is not None]
    sessions = _sessions(note)
    if sessions:
        roots += [process for process in psutil.process_iter() if _belongs(process, sessions)]
    own = psutil.Process()
    members = dict.fromkeys(member for root in roots for member in [*_children_of(root), root])
    return [member for member in members if member != own]


def end(note: Mapping[str, Any]) -> int:
    """End the processes of a noted head.

    Returns:
        How many were ended.
    """
    ended = 0
    for _ in range(KILL_ROUNDS):  # a raylet may start a worker while the first ones are being ended
        left = family(note)
        if not left:
            break
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
                ended += 1
        _wait_for_the_end(noted(left))
    return ended


def kill_noted(processes: Iterable[tuple[int, str]]) -> None:
    """Kill those processes that still live, as `noted` gives them, and wait for their end."""
    processes = list(processes)
    for entry in processes:
        process = find(*entry)
        if process is not None:
            with contextlib.suppress(psutil.Error):
                process.kill()
    _wait_for_the_end(processes)


def _wait_for_the_end(processes: Iterable[tuple[int, str]]) -> None:
    """Until none lives. Zombies don't: in containers nobody may ask for them."""
    until = time.monotonic() + KILL_WAIT_S
    while any(find(*process) for process in processes) and time.monotonic() < until:
        time.sleep(KILL_LOOK_S)


def find(pid: int, mark: str) -> psutil.Process | None:
    """The process with this number, if it is still the one that was noted, and isn't quite gone."""
    process = known.find(pid, mark)
    try:
        return None if process is None or _is_dead(process) else process
    except psutil.Error:
        return None


def lives(pid: int, mark: str) -> bool:
    """Whether a process that was noted may still do something; one that is being killed won't."""
    process = find(pid, mark)
    try:
        return process is not None and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _is_dead(process: psutil.Process) -> bool:
    """Whether a process is a zombie, which it stays until its parent asks for it; in containers nobody may.

    One that is killed looks like a zombie as soon as its first thread is gone. Until the last one is, its files are
    open and its locks are held.
    """
    return bool(process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1)


def descendants() -> list[psutil.Process]:
    """This process's children, and theirs."""
    return _children_of(psutil.Process())


def _children_of(process: psutil.Process) -> list[psutil.Process]:
    try:
        children: list[psutil.Process] = process.children(recursive=True)
    except psutil.Error:
        return []
    return children


def _sessions(note: Mapping[str, Any]) -> list[str]:
    """Ray's session folders of a noted head."""
    if note.get("session_dir"):
        return [note["session_dir"]]
    if not note.get("ray_folder"):
        return []
    older = note.get("older_sessions", ())
    found = Path(note["ray_folder"]).glob(f"session_*_{note['driver'][0]}")
    return [str(path) for path in found if path.name not in older]


def _belongs(process: psutil.Process, sessions: Iterable[str]) -> bool:
    """Whether a process is one of Ray's in one of these sessions; somebody who reads the logs is not."""
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        command = process.cmdline()
        if command and command[0].startswith(("ray::", "ray-dashboard-")):
            words = [file.path for file in process.open_files()]
        elif any(_PROGRAM.search(word) for word in command[:4]):
            words = command
        else:
            return False
    except psutil.Error:  # it ended meanwhile, or is another user's
        return False
    return any(f"{session}/" in f"{word}/" for session in sessions for word in words)
