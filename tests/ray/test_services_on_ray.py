"""Batches against a service on a real socket: what they cost, what stops them, and where the key isn't."""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from batches import Said, command_line

from tests.support.speech_server import KEY, Limits, SpeechServer, constant, faults
from trax_ray.report.fold import Attempt, read_history

TEXT = "The train leaves at nine. Bring your coat."
NEW_KEY = "sk-speech-server-another-0123"
CANARY = "sk-canary-0123456789abcdefXYZ"


@pytest.fixture
def service() -> Iterator[SpeechServer]:
    with SpeechServer(constant(TEXT), limits=Limits(delay_s=(0.05, 0.15))) as server:
        yield server


def trax_ray(server: SpeechServer, *arguments: object) -> Said:
    return command_line("batch", *arguments, "--base-url", server.url, "--progress-interval", "0.5")


def files(out: Path) -> dict[str, dict[str, Any]]:
    rows = pd.read_parquet(out / "report" / "files.parquet").to_dict("records")
    return {str(row["file_name"]): {str(name): value for name, value in row.items()} for row in rows}


def answered(out: Path) -> list[Attempt]:
    """The requests whose answers are kept."""
    return [each for each in read_history(out).attempts if "/" in each.task_id and each.outcome == "succeeded"]


@pytest.mark.usefixtures("head")
def test_a_server_that_leaves_out_what_it_may(service: SpeechServer, samples: Path, tmp_path: Path) -> None:
    service.key = None
    service.order(lambda call: faults.missing_fields() if call.number % 2 else None)
    out = tmp_path / "out"
    done = trax_ray(service, samples / "talks", "-o", out)
    assert done.code == 0, done.stderr
    rows = files(out)
    assert len(rows) == 4
    assert {row["status"] for row in rows.values()} == {"succeeded"}
    assert {row["text"] for row in rows.values()} == {TEXT}
    assert {row["model"] for row in rows.values()} == {"whisper-1"}, "where none is named"
    assert all(pd.isna(row["cost_usd"]) for row in rows.values()), "what it costs nobody knows"
    assert "Cost:" not in done.stdout
    assert service.ledger.sums.paid == 4
    assert service.ledger.paid_again() == {}


@pytest.mark.long
@pytest.mark.usefixtures("head")
def test_a_key_that_is_revoked_parks_the_service_and_a_new_one_goes_on(
    service: SpeechServer, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.order(faults.at({8: faults.key_revoked()}))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    out = tmp_path / "out"
    command = (samples / "talks", samples / "stories" / "the_river.ogg", "-o", out, "--chunk-size", 10)
    stopped = trax_ray(service, *command)
    assert stopped.code == 3, stopped.stderr
    assert "openai is parked: HTTP 401" in stopped.stderr
    assert "this continues: " in stopped.stderr
    assert KEY not in stopped.stdout + stopped.stderr
    assert {row["status"] for row in files(out).values()} <= {"succeeded", "queued", "blocked", "delayed"}
    assert (out / "report" / "errors.log").read_text().count("key_refused") >= 1
    paid = service.ledger.sums.paid
    assert 0 < paid < 18, "those in flight when the key went may be refused, too"
    assert len(answered(out)) == paid, "what was paid is kept"

    service.key = NEW_KEY
    monkeypatch.setenv("OPENAI_API_KEY", NEW_KEY)
    done = trax_ray(service, *command)
    assert done.code == 0, done.stderr
    assert {row["status"] for row in files(out).values()} == {"succeeded"}
    assert service.ledger.paid_again() == {}
    assert len(answered(out)) == service.ledger.sums.paid > paid


@pytest.mark.long
@pytest.mark.usefixtures("head")
def test_so_much_may_be_spent_and_no_more(
    service: SpeechServer, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit says that the server charges: what OpenAI would."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    out, cap = tmp_path / "out", 0.004
    command = (samples / "stories" / "the_river.ogg", "-o", out, "--chunk-size", 10, "--model", "whisper-1")
    stopped = trax_ray(service, *command, "--max-cost", cap)
    assert stopped.code == 3, stopped.stderr
    assert "openai is parked" in stopped.stderr
    assert "give a larger --max-cost to go on" in stopped.stderr
    spent = service.ledger.sums.usd
    assert 0.5 * cap < spent <= cap, "a request is 0.001 at the most, and none is begun that might be too much"
    run = json.loads((out / "report" / "run.json").read_text())
    assert run["status"] == "parked"
    assert run["cost_usd"] == pytest.approx(spent)

    again = trax_ray(service, *command, "--max-cost", cap)
    assert again.code == 3, again.stderr
    assert service.ledger.sums.usd == spent, "what was spent counts in the next run too"

    done = trax_ray(service, *command, "--max-cost", 1)
    assert done.code == 0, done.stderr
    assert service.ledger.paid_again() == {}
    total = service.ledger.sums.usd
    assert files(out)["the_river.ogg"]["cost_usd"] == pytest.approx(total)
    assert json.loads((out / "report" / "run.json").read_text())["cost_usd"] == pytest.approx(total)
    assert f"Cost: ${total:.4f}" in done.stdout


# The key


@dataclass
class Running:
    """A batch that runs in a process of its own, with a Ray of its own."""

    driver: psutil.Process
    family: list[psutil.Process]

    def named(self, name: str) -> psutil.Process:
        for process in self.family:
            with suppress(psutil.Error):  # workers come and go
                if process.name() == name:
                    return process
        raise LookupError(f"no process of the batch is called {name}")


def writable_memory(process: psutil.Process) -> Iterator[bytes]:
    """What a process has in its memory, shared memory aside, in overlapping pieces.

    Raises:
        PermissionError: This system doesn't let one look.
    """
    ranges = []
    for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines():
        span, permissions, *rest = line.split(maxsplit=5)
        if "w" in permissions and not (len(rest) > 3 and rest[3].startswith("/dev/shm")):
            ranges.append([int(end, 16) for end in span.split("-")])
    with Path(f"/proc/{process.pid}/mem").open("rb", buffering=0) as memory:
        for start, end in ranges:
            with suppress(OSError, ValueError):  # pages that are no memory
                for at in range(start, end, 1 << 22):
                    memory.seek(at)
                    yield memory.read(min(end - at, (1 << 22) + 100))


def memories(running: Running, *names: str) -> dict[str, int]:
    """How often the key is in the memory of processes, by their name; empty where one may not look."""
    try:
        return {name: sum(CANARY.encode() in piece for piece in writable_memory(running.named(name))) for name in names}
    except PermissionError:
        return {}


@contextmanager
def started(command: list[object], environ: dict[str, str], folder: Path) -> Iterator[psutil.Popen]:
    """A process that is ended with the test; what it says goes into files, for a pipe would hold it up when full."""
    with (folder / "stdout").open("w") as stdout, (folder / "stderr").open("w") as stderr:
        process = psutil.Popen(list(map(str, command)), stdout=stdout, stderr=stderr, env=environ)
    try:
        yield process
    finally:
        with suppress(psutil.Error):
            for each in [process, *process.children(recursive=True)]:
                each.kill()
        process.wait(timeout=10)


def wait_for(condition: Callable[[], bool], driver: psutil.Popen) -> None:
    """Wait until something is so, while the driver lives."""
    end = time.monotonic() + 90
    while not condition():
        assert driver.poll() is None, "it ended"
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.05)


def asked_of_ray(running: Running, path: str) -> str:
    """What the dashboard's interface says."""
    token = (Path.home() / ".ray" / "auth_token").read_text()
    for process in running.family:
        with suppress(psutil.Error, IndexError):
            if "dashboard" not in " ".join(process.cmdline()):
                continue
            for line in process.net_connections("tcp"):
                if line.status != psutil.CONN_LISTEN:
                    continue
                url = f"http://127.0.0.1:{line.laddr.port}{path}"
                request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
                with suppress(OSError, ValueError), urllib.request.urlopen(request, timeout=20) as answer:
                    text: str = answer.read().decode()
                    json.loads(text)
                    return text
    raise AssertionError(f"nobody answers {path}")


def session_of(running: Running) -> Path:
    """The folder of Ray's logs."""
    words = running.named("raylet").cmdline()
    (folder,) = {word.partition("=")[2] for word in words if word.startswith("--session_dir=")}
    return Path(folder)


def holding(folder: Path, secret: str) -> list[str]:
    """The files in whose name or content something is."""
    found = []
    for path in folder.rglob("*"):
        if secret in path.name or (path.is_file() and secret.encode() in path.read_bytes()):
            found.append(str(path))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.long
def test_the_key_is_nowhere_but_where_requests_are_made(samples: Path, tmp_path: Path) -> None:
    """With debug messages of ours and of OpenAI's library, and a server that repeats the key in its errors."""
    out = tmp_path / "out"
    echoes = faults.at(
        {
            1: faults.status(500, f"crashed while Bearer {CANARY} was asking"),
            2: faults.status(400, f"can't read what {CANARY} has sent"),
        }
    )
    environ = {**os.environ, "OPENAI_API_KEY": CANARY, "OPENAI_LOG": "debug", "XDG_STATE_HOME": str(tmp_path / "state")}
    own = [sys.executable, "-m", "trax_ray", "batch", samples / "talks", "-o", out, "--verbose"]
    # Slow answers, so that some are under way while Ray and the processes are looked at.
    with (
        SpeechServer(constant(TEXT), key=CANARY, limits=Limits(delay_s=(3.0, 4.0)), faults=echoes) as server,
        started([*own, "--base-url", server.url], environ, tmp_path) as driver,
    ):
        wait_for(lambda: server.ledger.sums.received >= 4 and server.ledger.in_flight > 0, driver)
        running = Running(driver, driver.children(recursive=True))
        told = {path: asked_of_ray(running, path) for path in TOLD}
        environments = {}
        for process in running.family:
            with suppress(OSError, psutil.Error):
                environments[process.name()] = Path(f"/proc/{process.pid}/environ").read_bytes()
        remembered = memories(running, "gcs_server", "raylet", "ray::Lane")
        session = session_of(running)
        code = driver.wait(timeout=120)
        stdout, stderr = (tmp_path / "stdout").read_text(), (tmp_path / "stderr").read_text()
        assert code == 1, stderr

        lanes = [row for row in json.loads(told[TOLD[1]])["data"]["result"]["result"] if row["class_name"] == "Lane"]
        assert lanes, "Ray tells of what asks"
        assert [path for path, text in told.items() if CANARY in text] == []
        assert {"gcs_server", "raylet", "ray::Lane"} <= set(environments)
        assert [name for name, text in environments.items() if CANARY.encode() in text] == []
        assert CANARY not in stdout
        assert CANARY not in stderr
        assert holding(out, CANARY) == []
        assert holding(session, CANARY) == []
        assert holding(tmp_path / "state", CANARY) == []
        for table in ("files", "tasks", "attempts", "segments"):
            assert CANARY not in pd.read_parquet(out / "report" / f"{table}.parquet").to_csv()

        (refused,) = [row for row in files(out).values() if row["status"] == "failed"]
        assert refused["error"] == (
            "HTTP 400: can't read what *** has sent: convert the file, or take another `--model`"
        )
        assert server.ledger.sums.paid == 3
        assert list(Path(session, "logs").glob("*")), "there are logs, in which it isn't"
    if not remembered:
        pytest.skip("all but the memory of Ray's processes was looked at: this system doesn't let one read it")
    assert remembered.pop("ray::Lane") > 0, "it is found where it is"
    assert remembered == {"gcs_server": 0, "raylet": 0}


TOLD = (
    "/api/jobs/",
    "/api/v0/actors?detail=1",
    "/api/v0/tasks?detail=1",
    "/api/v0/workers?detail=1",
    "/nodes?view=summary",
)
