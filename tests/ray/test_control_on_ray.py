"""A batch in another process, looked at and steered from here; heads that stay, and what is left of others."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray._common.utils import get_default_ray_temp_dir, get_ray_address_file
from typer.testing import CliRunner

from trax_ray import BatchControl
from trax_ray.cli.app import app
from trax_ray.cluster.connect import Connection
from trax_ray.control import BatchStatus, Outcome, Phase
from trax_ray.core.progress import BatchProgress
from trax_ray.core.spec import Limits
from trax_ray.heads import machine, notes, standing
from trax_ray.processor import BatchProcessor
from trax_ray.report.fold import read_history
from trax_ray.testing.factories import make_task
from trax_ray.testing.scripted import attempts_in

Batch = Callable[..., subprocess.Popen[str]]
Start = Callable[..., BatchProcessor]

PROGRAM = """
import asyncio, json, sys
from trax_ray.core.spec import Limits
from trax_ray.processor import BatchProcessor
from trax_ray.testing.factories import make_spec, make_task

out, address, tasks = sys.argv[1:]
processor = BatchProcessor(make_spec(out, limits=Limits(max_workers=1)), address=address)
processor.feed([make_task(**fields) for fields in json.loads(tasks)])
result = asyncio.run(processor.start())
print(result.reason, result.success_count, result.failure_count, result.cancelled_count)
"""


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def start(head: Connection, out: Path) -> Iterator[Batch]:
    """Starts a batch of scripted tasks, one at a time, in another process."""
    started: list[subprocess.Popen[str]] = []

    def call(*tasks: dict[str, Any]) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM, str(out), head.address, json.dumps(tasks)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield call
    for process in started:
        process.kill()
        process.communicate()


def until(out: Path, condition: Callable[[BatchStatus], bool]) -> BatchStatus:
    """Wait until the batch stands as the test wants it."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if (out / ".trax" / "journal").exists():
            status = BatchControl(out).status()
            if condition(status):
                return status
        time.sleep(0.1)
    raise AssertionError(f"it never came to that: {BatchControl(out).status()}")


def ended(process: subprocess.Popen[str]) -> list[str]:
    """What the batch said at its end: reason and counts."""
    said, _ = process.communicate(timeout=60)
    return said.split()


def trax_ray(*arguments: str | Path) -> tuple[int, str]:
    """A command, in this process; none of them needs its connection to Ray."""
    done = CliRunner().invoke(app, list(map(str, arguments)))
    return done.exit_code, done.output


@pytest.mark.long
def test_pause_and_resume_from_another_terminal(start: Batch, out: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    batch = start(*({"task_id": f"t{number}", "sleep_s": 1.0, "log": str(log)} for number in range(4)))
    status = until(out, lambda status: status.active == 1)
    assert status.phase is Phase.RUNNING
    assert status.holder == "batch out"
    assert psutil.Process(status.pid).name().startswith("ray::Coordinator")
    assert status.slots is not None
    code, said = trax_ray("pause", out)
    assert (code, said.splitlines()[0].startswith("paused: nothing starts any more")) == (0, True), said
    status = until(out, lambda status: status.active == 0)
    assert (status.phase, status.queued) == (Phase.PAUSED, 4 - status.succeeded)
    made = len(attempts_in(log))
    time.sleep(1.5)
    assert len(attempts_in(log)) == made < 4
    assert trax_ray("resume", out) == (0, "resumed\n")
    assert ended(batch) == ["complete", "4", "0", "0"]
    status = BatchControl(out).status()
    assert (status.phase, status.at_work, status.succeeded) == (Phase.COMPLETE, False, 4)
    assert trax_ray("watch", out) == (0, "not running: complete\n")


async def test_totals_and_the_time_to_go_count_what_has_not_reached_the_queue_yet(batch: Start, out: Path) -> None:
    tasks = [make_task(f"t{number}", size_bytes=10, sleep_s=0.05) for number in range(300)]
    processor = batch(tasks, limits=Limits(max_workers=1, queue_size=20), progress_interval_s=0.1)
    told: list[BatchProgress] = []

    def tell(progress: BatchProgress) -> None:
        told.append(progress)
        if progress.completed_tasks >= 5:
            processor.stop()

    result = await asyncio.wait_for(processor.start(tell), 60)
    assert {progress.total_tasks for progress in told} == {300}
    assert told[0].queued_tasks >= 290
    for progress in told:
        if progress.completed_tasks and progress.phase is Phase.RUNNING:
            ended = progress.completed_tasks + 1  # and a part of the one that runs
            assert progress.estimated_remaining_s is not None
            assert progress.estimated_remaining_s >= progress.elapsed_s * (300 - ended) / ended
    assert len(read_history(out).state.records) < 100, "the others never reached the queue"
    assert result.total_count == result.success_count + result.cancelled_count == 300
    status = BatchControl(out).status()
    assert (status.phase, status.total) == (Phase.STOPPED, 300)
    assert (status.succeeded, status.cancelled) == (result.success_count, result.cancelled_count)


@pytest.mark.long
def test_stop_and_go_on(start: Batch, out: Path) -> None:
    tasks = [{"task_id": "t0"}, {"task_id": "t1", "script": ["hang", "ok"]}, {"task_id": "t2"}]
    batch = start(*tasks)
    until(out, lambda status: status.succeeded == 1 and status.active == 1)
    answer = BatchControl(out).stop()
    assert answer.outcome is Outcome.TAKEN_UP
    assert ended(batch) == ["stopped", "1", "0", "2"]
    status = BatchControl(out).status()
    assert (status.phase, status.at_work, status.cancelled) == (Phase.STOPPED, False, 2)
    assert trax_ray("stop", out) == (0, "no batch is running there (stopped): nothing to stop\n")
    assert ended(start(*tasks)) == ["complete", "3", "0", "0"]


@pytest.mark.long
def test_what_has_failed_is_done_again_in_the_same_run(start: Batch, out: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    batch = start({"task_id": "t0", "script": ["permanent", "ok"]}, {"task_id": "t1", "script": [f"hold:{gate}"]})
    status = until(out, lambda status: status.failed == 1 and status.active == 1)
    assert status.failures == {"permanent": 1}
    assert trax_ray("retry-failed", out) == (0, "1 input that had failed will be done again\n")
    gate.touch()
    assert ended(batch) == ["complete", "2", "0", "0"]


@pytest.mark.long
def test_what_has_failed_is_done_again_in_the_next_run(start: Batch, out: Path) -> None:
    tasks = [{"task_id": "t0", "script": ["permanent", "ok"]}]
    assert ended(start(*tasks)) == ["complete", "0", "1", "0"]
    assert ended(start(*tasks)) == ["complete", "0", "1", "0"], "it stays failed"
    answer = BatchControl(out).retry_failed()
    assert (answer.outcome, answer.inputs) == (Outcome.LEFT, 1)
    assert ended(start(*tasks)) == ["complete", "1", "0", "0"]
    assert BatchControl(out).status().requests == ()


@pytest.mark.long
def test_a_batch_begins_paused_where_that_was_asked_for(start: Batch, out: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    tasks = [{"task_id": "t0", "script": ["transient", "ok"], "log": str(log)}, {"task_id": "t1", "log": str(log)}]
    assert ended(start(tasks[0])) == ["complete", "1", "0", "0"]
    assert trax_ray("pause", out) == (0, "no batch is running there: the next run will begin paused\n")
    batch = start(*tasks)
    until(out, lambda status: status.at_work and status.phase is Phase.PAUSED and status.total == 2)
    time.sleep(1.0)
    assert len(attempts_in(log)) == 2, "nothing has started"
    watching = subprocess.Popen(
        [sys.executable, "-m", "trax_ray", "watch", str(out), "--interval", "0.2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watching.stderr is not None
    assert watching.stderr.readline().startswith("paused; `trax-ray resume ")
    assert BatchControl(out).resume().outcome is Outcome.TAKEN_UP
    assert ended(batch) == ["complete", "2", "0", "0"]
    said, progress = watching.communicate(timeout=30)
    assert said == "complete: 2 of 2 succeeded, 0 failed\n"
    assert progress.splitlines()[-1].startswith("Progress: 2/2 (100.0% success) | Active: 0")


@pytest.mark.long
def test_a_batch_that_was_killed(start: Batch, out: Path) -> None:
    tasks = [{"task_id": "t0"}, {"task_id": "t1", "script": ["hang", "ok"]}]
    batch = start(*tasks)
    status = until(out, lambda status: status.succeeded == 1 and status.active == 1)
    batch.kill()
    assert status.pid is not None
    psutil.Process(status.pid).kill()
    status = until(out, lambda status: not status.at_work)
    assert (status.phase, status.succeeded, status.active, status.total) == (Phase.INTERRUPTED, 1, 0, 2)
    assert ended(start(*tasks)) == ["complete", "2", "0", "0"]


@pytest.mark.long
def test_its_command_is_run_again(head: Connection, out: Path, tmp_path: Path, samples: Path) -> None:
    """As a person does it: one broken recording, mended in place with its old time."""
    talks = tmp_path / "talks"
    talks.mkdir()
    broken = talks / "talk.flac"
    whole = (samples / "quiet_room.flac").read_bytes()
    broken.write_bytes(b"x" * len(whole))
    before = broken.stat()
    own = [sys.executable, "-m", "trax_ray"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*own, *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=120)

    model = ("--model", "pocketsphinx", "--address", head.address)
    done = run("batch", "talks", "-o", str(out), *model)
    assert done.returncode == 1, done.stderr
    done = run("resume", str(out))
    assert done.returncode == 1, "it stays failed"
    broken.write_bytes(whole)
    os.utime(broken, ns=(before.st_atime_ns, before.st_mtime_ns))
    done = run("resume", str(out))
    assert done.returncode == 0, done.stderr
    assert len(read_history(out).attempts) == 2
    assert (out / "talk.txt").exists()


# Heads


@pytest.fixture
def own_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Ray's folder and our notes are the test's own; other heads of this machine aren't seen."""
    folder = Path(tempfile.mkdtemp(prefix="tr", dir="/tmp"))  # sockets have short paths
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    monkeypatch.setenv("HOME", str(folder))
    yield folder
    standing.down(force=True)
    notes.reap_orphans()
    shutil.rmtree(folder, ignore_errors=True)


def of_ray(folder: Path) -> list[psutil.Process]:
    """All processes that have to do with a folder of Ray, by what they have open or were told."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *(file.path for file in process.open_files())]
        except psutil.Error:
            continue
        if any(str(folder / "ray") in word for word in words):
            found.append(process)
    return found


@pytest.mark.long
def test_up_and_down(own_ray: Path, samples: Path, tmp_path: Path) -> None:
    code, said = trax_ray("up", "--lean")
    assert code == 0, said
    found = re.fullmatch(r"Ray is up at (127\.0\.0\.1:\d+); batches on this machine join it\n", said)
    assert found, said
    assert trax_ray("up") == (0, f"Ray is up already at {found[1]}\n")
    listening = [
        connection.laddr.ip
        for process in of_ray(own_ray)
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.rpartition(":")[2] for address in listening} == {"127.0.0.1"}, "nobody else can reach it"

    sessions = sorted((own_ray / "ray").glob("session_2*"))
    command = [sys.executable, "-m", "trax_ray", "batch", str(samples / "quiet_room.flac"), "-o", str(tmp_path / "out")]
    done = subprocess.run([*command, "--model", "pocketsphinx"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert sorted((own_ray / "ray").glob("session_2*")) == sessions, "it started no head of its own"

    code, said = trax_ray("down")
    assert (code, said.startswith(f"Ray at {found[1]} is down")) == (0, True), said
    assert of_ray(own_ray) == []
    assert trax_ray("down") == (0, "nothing of ours is running\n")


@pytest.mark.long
def test_what_a_killed_batch_left_is_ended(own_ray: Path, samples: Path, tmp_path: Path) -> None:
    """Its agents and workers too, which nothing ends where the raylet has died as well."""
    command = [sys.executable, "-m", "trax_ray", "batch", str(samples), "-o", str(tmp_path / "out"), "--lean"]
    batch = psutil.Popen([*command, "--model", "pocketsphinx"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 90
    while not (tmp_path / "out" / ".trax" / "status.json").exists() and time.monotonic() < end:
        time.sleep(0.1)
    for process in [batch, *batch.children(recursive=True)]:
        if process.pid == batch.pid or process.name() == "raylet":
            process.send_signal(signal.SIGKILL)
    batch.wait()
    left = {process.name() for process in of_ray(own_ray)}
    assert any(name.startswith("ray::") for name in left), left
    code, said = trax_ray("down")
    assert code == 0
    assert re.fullmatch(r"ended \d+ processes that dead batches had left behind\n", said), said
    assert of_ray(own_ray) == []


def test_where_ray_keeps_things_is_known_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ((None, None), ("TMPDIR", "/elsewhere"), ("RAY_TMPDIR", "/another")):
        if name is None:
            monkeypatch.delenv("TMPDIR", raising=False)
            monkeypatch.delenv("RAY_TMPDIR", raising=False)
        else:
            monkeypatch.setenv(name, value)
        assert str(machine.ray_folder()) == get_default_ray_temp_dir()
        assert str(standing.local_head_note()) == get_ray_address_file(None)
