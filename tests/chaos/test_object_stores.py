"""Batches whose inputs and outputs are in an object store, behind a network that fails, under `kill -9`."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from batch_program import Command, until

from tests.support.store_proxy import Faults, StoreProxy
from tests.support.store_servers import StoreServer, environment, moto, program, seaweedfs
from trax_ray.kinds.accuracy import count_errors
from trax_ray.report.fold import read_history
from trax_ray.report.frames import read_table
from trax_ray.store.files import read_bytes
from trax_ray.store.layout import Layout
from trax_ray.store.objects import forget_clients, list_below
from trax_ray.store.uris import ObjectPath
from trax_ray.testing.history import check

pytestmark = pytest.mark.timeout(600)

FAILING = 0.1
BUCKET = "talks"
OUT = ObjectPath("s3", BUCKET, "out")

SERVERS = ["moto", "seaweedfs"]

RECORDING_REQUESTS = 60
"""Most for each recording, or part of one: its bytes, looks, its artifacts, five transcripts, its groups in the journal
and what is repeated of all that."""

RUN_REQUESTS = 150
"""Most for each start: lists, what came before, the report."""

SECOND_REQUESTS = 2
"""Most for each second that a batch runs: status, inbox and heartbeat, every five seconds each."""


@contextmanager
def store(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[StoreServer, StoreProxy]]:
    """A server, and a proxy before it which the environment names."""
    if name == "seaweedfs" and program("weed") is None:
        pytest.skip("weed isn't installed: make store-servers, and TRAX_RAY_LIVE=.live")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with moto() if name == "moto" else seaweedfs() as server, StoreProxy(server.url) as proxy:
        server.create_bucket(BUCKET)
        for variable, value in environment(proxy.url).items():
            monkeypatch.setenv(variable, value)
        forget_clients()
        yield server, proxy
    forget_clients()


def recordings_of(samples: Path) -> list[Path]:
    return sorted(path for path in (samples / "stories").iterdir() if path.suffix != ".txt")


def process_of(command: Command, title: str) -> psutil.Process | None:
    """A process of a run by the title that Ray gives it."""
    command.look()
    for process in command.left():
        with suppress(psutil.Error):
            if process.cmdline()[0].startswith(title):
                return process
    return None


def artifacts() -> dict[ObjectPath, tuple[int, str | int]]:
    """Committed results, and what the store knows them by."""
    folder = Layout.of(OUT).artifacts
    assert isinstance(folder, ObjectPath)
    return {path: stat.state for path, stat in list_below(folder)}


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("victim", ["driver", "coordinator", "worker", "everything"])
def test_all_is_transcribed_where_one_in_ten_requests_fails_and_something_is_killed(
    samples: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record: Callable[..., None],
    name: str,
    victim: str,
) -> None:
    recordings = recordings_of(samples)
    with store(name, tmp_path, monkeypatch) as (server, proxy):
        for path in recordings:
            server.put(BUCKET, f"in/stories/{path.name}", path.read_bytes())
        proxy.faults = Faults(rate=FAILING, seed=1)
        folder = tmp_path / "stored"
        folder.mkdir()
        began = time.monotonic()
        with Command(ObjectPath("s3", BUCKET, "in"), folder, out=OUT) as command:
            command.until_at_work()
            before = artifacts()
            if victim in ("driver", "everything"):
                command.look()
                for process in [command.driver()] if victim == "driver" else command.left():
                    process.kill()
                until(lambda: (command.look(), not command.left())[1], 60.0, what="the end of all processes")
                command.process.communicate(timeout=10)
                runs, done = 2, command.again()
                code, said = done.returncode, done.stderr
            else:
                title = {"coordinator": "ray::Coordinator", "worker": "ray::transcribe"}[victim]
                until(lambda: process_of(command, title) or command.process.poll() is not None, what=title).kill()
                runs, (_, said) = 1, command.process.communicate(timeout=300)
                code = command.process.returncode
        took_s = time.monotonic() - began
        assert code == 0, said
        requests, failed = len(proxy.seen), sum(bool(each.fault) for each in proxy.seen)
        proxy.faults = Faults()
        now = artifacts()
        assert {path: now.get(path) for path in before} == before, "a committed result was lost or written again"
        assert check(str(OUT)).problems == ()
        history = read_history(str(OUT))
        succeeded = Counter(each.task_id for each in history.attempts if each.outcome == "succeeded")
        assert set(succeeded.values()) == {1}
        for path in recordings:
            text = read_bytes(OUT / f"{path.stem}.txt").decode()
            counted = count_errors(path.with_suffix(".txt").read_text(), text)
            assert counted is not None
            assert counted.errors < counted.words / 2, path  # pocketsphinx is rough; what is missing would show
        assert set(read_table(str(OUT), "files")["status"]) == {"succeeded"}
        secrets = [path for path, _ in list_below(OUT) if b"AWS4-HMAC" in read_bytes(path)]
        assert secrets == []
    parts = len(history.state.records)
    assert failed
    assert requests <= runs * RUN_REQUESTS + RECORDING_REQUESTS * parts + SECOND_REQUESTS * took_s
    record(
        what=f"inputs and outputs in {name} behind a failing network; kill -9 of {victim}",
        runs=1,
        seeds="1",
        found=f"all transcribed, no result lost or made twice; {requests} requests for {parts} tasks, {failed} failed",
    )


KILLS = 8
TASKS = 150

PROGRAM = """
from tests.support.in_process import run_tasks
from trax_ray.testing.factories import make_spec, make_task

print("up", flush=True)
run_tasks([make_task(f"t{number}", script=["commit"]) for number in range(TASKS)], make_spec("OUT"))
"""


@pytest.mark.parametrize("name", SERVERS)
def test_a_coordinator_that_is_killed_at_any_moment_gets_through_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: Callable[..., None], name: str
) -> None:
    """Without Ray: the process that holds lease, epoch and journal does the work too, and goes again and again."""
    chance = random.Random(7)
    program_ = PROGRAM.replace("TASKS", str(TASKS)).replace("OUT", str(OUT))
    command = [sys.executable, "-c", program_]
    kept: dict[ObjectPath, tuple[int, str | int]] = {}
    deaths = 0
    with store(name, tmp_path, monkeypatch) as (_, proxy):
        proxy.faults = Faults(rate=FAILING, seed=2, slow_s=0.05)
        while True:
            running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            assert running.stdout is not None
            assert running.stdout.readline() == "up\n"
            if deaths < KILLS:
                with suppress(subprocess.TimeoutExpired):
                    running.wait(chance.uniform(0.3, 3.0))
                running.kill()
                deaths += 1
            _, said = running.communicate(timeout=300)
            now = artifacts()
            assert {path: now.get(path) for path in kept} == kept, "a committed result was lost or written again"
            kept = now
            if running.returncode != -signal.SIGKILL:
                break
        assert running.returncode == 0, said
        failed = sum(bool(each.fault) for each in proxy.seen)
        requests = len(proxy.seen)
        proxy.faults = Faults()
        findings = check(str(OUT))
        assert findings.problems == ()
        assert len(kept) == TASKS, findings
    record(
        what=f"kill -9 of a coordinator whose batch is in {name} behind a failing network",
        runs=deaths,
        seeds="2, 7",
        found=f"{TASKS} tasks succeeded, each once; {requests} requests, {failed} failed",
    )
