"""An output folder in which a batch has been, or is at work, without Ray."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.media_server import MediaServer
from tests.support.store_proxy import StoreProxy
from tests.support.store_servers import StoreServer, environment, moto, program, rclone, seaweedfs
from trax_ray.core.state.events import AttemptEnded, CoordinatorStarted, Event, Started, TasksAdded
from trax_ray.core.task import Category, Failure, FailureClass, Outcome
from trax_ray.store import creating, ranged
from trax_ray.store.batch_journal import BatchJournal
from trax_ray.store.layout import Layout
from trax_ray.store.objects import forget_clients
from trax_ray.testing.factories import make_spec, make_task

# No test asks a store that it hasn't started, nor the machine's own service for credentials.
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
for _name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
    os.environ.pop(_name, None)

Journal = Callable[..., None]
AtWork = Callable[..., subprocess.Popen[str]]

FAILED = Outcome(failure=Failure(FailureClass.PERMANENT, Category.FILE, "not_found", "gone"))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "out")


@pytest.fixture
def journal(layout: Layout) -> Journal:
    """Writes what coordinators of one run, or of several, would have written; three inputs, of which two end."""

    def write(*events: Event, run: str = "a", succeed: bool = True, fail: bool = True) -> None:
        book = BatchJournal.open(layout, "a test", 0.0)
        spec = make_spec(layout.output_dir, name="talks")
        book.commit([CoordinatorStarted(book.epoch, spec.to_dict(), 4096, run)], 100.0)
        if "t0" not in book.state.records:
            book.commit([TasksAdded(tuple(make_task(f"t{number}") for number in range(3)))], 101.0)
        for wanted, name, outcome in ((succeed, "t0", Outcome()), (fail, "t1", FAILED)):
            if wanted and not book.state.records[name].state.terminal:
                book.commit([Started(((name, 1),))], 102.0)
                book.commit([AttemptEnded(name, book.epoch, 1, outcome)], 110.0)
        book.commit([*events], 112.0)
        book.close()

    return write


AT_WORK = """
import json, os, platform, sys, time
from pathlib import Path
from trax_ray.store import inbox
from trax_ray.store.layout import Layout
from trax_ray.store.lease import Lease
from trax_ray.store.writing import write_atomically

layout, how, status = Layout(Path(sys.argv[1])), sys.argv[2], json.loads(sys.argv[3])
lease = Lease(layout.lock)
lease.acquire("batch talks")
own = {"batch": "talks", "phase": "running", "pid": os.getpid(), "host": platform.node()}
phases = {"pause": "paused", "resume": "running", "stop": "stopped", "retry-failed": "running"}
began = False
turn = 0
while True:
    turn += 1
    if turn == 10 and how == "completes":
        own["phase"] = "complete"
    if turn == 10 and how == "dies":
        os._exit(1)
    if how != "silent":
        write_atomically(layout.status, json.dumps(own | {"updated_at": time.time()} | status).encode())
    if not began:
        print("up", flush=True)
        began = True
    for request in inbox.waiting(layout.inbox) if how in ("obeys", "ends") else []:
        if how == "ends":
            os._exit(0)
        own["phase"] = phases[request.command]
        inbox.remove(layout.inbox, request.name)
        if request.command == "stop":
            os._exit(0)
    time.sleep(0.02)
"""


@pytest.fixture
def at_work(layout: Layout) -> Iterator[AtWork]:
    """Starts a process that holds the folder and says so as a coordinator does; it `obeys`, `ignores`, `ends`, ..."""
    started: list[subprocess.Popen[str]] = []

    def start(how: str = "obeys", **status: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", AT_WORK, str(layout.output_dir), how, json.dumps(status)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder for inputs."""
    path = tmp_path / "in"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


@pytest.fixture
def web() -> Iterator[MediaServer]:
    """A web server on loopback, with nothing on it yet."""
    with MediaServer() as serving:
        yield serving


@pytest.fixture(scope="session")
def weather(samples: Path) -> bytes:
    """A short recording, as a file's bytes."""
    return (samples / "talks" / "weather.ogg").read_bytes()


@pytest.fixture(scope="session")
def stores() -> Iterator[Callable[[str], StoreServer]]:
    """Starts object stores by name, each once."""
    with contextlib.ExitStack() as stack:
        running: dict[str, StoreServer] = {}

        def start(name: str) -> StoreServer:
            if name not in running:
                known = {"moto": (moto, "python"), "seaweedfs": (seaweedfs, "weed"), "rclone": (rclone, "rclone")}
                server, needed = known[name]
                if name != "moto" and program(needed) is None:
                    pytest.skip(f"{needed} isn't installed: make store-servers, and TRAX_RAY_LIVE=.live")
                running[name] = stack.enter_context(server())
            return running[name]

        yield start


@pytest.fixture
def reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[StoreServer], StoreProxy]]:
    """Puts a proxy before a store, and its address and keys into the environment, where nothing else is left."""
    with contextlib.ExitStack() as stack:

        def put_before(server: StoreServer) -> StoreProxy:
            for name in [
                name for name in os.environ if name.startswith("AWS_") and name != "AWS_EC2_METADATA_DISABLED"
            ]:
                monkeypatch.delenv(name)
            monkeypatch.setenv("HOME", str(tmp_path))
            proxy = stack.enter_context(StoreProxy(server.url))
            for name, value in environment(proxy.url).items():
                monkeypatch.setenv(name, value)
            monkeypatch.setattr(ranged, "_windows", ranged._Windows())
            forget_clients()
            return proxy

        yield put_before
    forget_clients()


@pytest.fixture
def proxy(
    server: StoreServer, reach: Callable[[StoreServer], StoreProxy], monkeypatch: pytest.MonkeyPatch
) -> StoreProxy:
    """A proxy before the store that the test's module calls `server`; what is tried again is tried at once."""
    monkeypatch.setattr(creating, "_PAUSE_S", 0.0)
    return reach(server)
