"""Which processes belong to a head of ours, and that nobody else's are ended."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.gcs import answer, serving
from trax_ray.errors import BusyError, SetupError
from trax_ray.heads import machine, notes, processes, standing
from trax_ray.store.processes import mark_of

Start = Callable[..., psutil.Process]
SLEEP = "print('up', flush=True)\nimport time; time.sleep(60)"
DEAD = [os.getpid(), "1 of another boot"]
"""A process that had our number long ago."""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Notes and Ray's folder are the test's own."""
    monkeypatch.setattr(notes, "state_folder", lambda: tmp_path / "state" / "trax_ray")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    return tmp_path / "state" / "trax_ray"


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes that do something and then sleep, under any command line."""
    started: list[subprocess.Popen[str]] = []

    def call(code: str = "", *, called: str = sys.executable, arguments: Sequence[str] = ()) -> psutil.Process:
        process = subprocess.Popen(
            [called, *(arguments or ("-c", f"{code}\n{SLEEP}"))],
            executable=sys.executable,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        return psutil.Process(process.pid)

    yield call
    for process in started:
        process.kill()
        process.communicate()


def note(folder: Path, name: str, **fields: Any) -> Path:
    """A note as an earlier driver left it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"driver": DEAD, "host": socket.gethostname(), "processes": []} | fields))
    return path


def entry(process: psutil.Process) -> tuple[int, str]:
    return process.pid, mark_of(process.pid)


def lives(process: psutil.Process) -> bool:
    return processes.find(*entry(process)) is not None if process.is_running() else False


def test_nothing_is_left_where_nothing_was_started() -> None:
    assert notes.orphans() == []
    assert notes.reap_orphans() == 0


def test_what_a_dead_driver_noted_is_ended_with_its_children(start: Start) -> None:
    child = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    parent, bystander = start(child), start()
    children = parent.children()
    path = note(notes.notes_folder(), "1", processes=[entry(parent)])
    assert {*notes.orphans()} == {parent, *children}
    assert path.exists(), "looking changes nothing"
    assert notes.reap_orphans() == 2
    assert not lives(parent)
    assert not any(map(lives, children))
    assert lives(bystander)
    assert not path.exists()


def test_a_driver_that_lives_keeps_its_head(start: Start) -> None:
    process = start()
    own = psutil.Process()
    path = note(notes.notes_folder(), "1", driver=entry(own), processes=[entry(process)])
    assert notes.orphans() == []
    assert notes.reap_orphans() == 0
    assert lives(process)
    assert path.exists()


def test_a_number_that_was_given_to_another_process_means_nothing(start: Start) -> None:
    process = start()
    note(notes.notes_folder(), "1", processes=[(process.pid, f"1{mark_of(process.pid)}")])
    assert notes.reap_orphans() == 0
    assert lives(process)


def test_a_step_of_the_clock_ends_nobody(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system computes times of day at which processes began from its clock, so they step with it."""
    process = start()
    path = note(notes.notes_folder(), "1", driver=entry(process), processes=[entry(process)])
    began_at = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: began_at(self) + 60.0)
    assert notes.orphans() == []
    assert notes.reap_orphans() == 0
    assert lives(process)
    assert path.exists()


def test_a_note_of_an_older_version_ends_nobody(start: Start) -> None:
    process = start()
    note(notes.notes_folder(), "1", driver=[process.pid, 1000.0], processes=[[process.pid, process.create_time()]])
    assert notes.reap_orphans() == 0
    assert lives(process)


def test_a_driver_that_is_a_zombie_is_dead(start: Start) -> None:
    process = start()
    driver = subprocess.Popen([sys.executable, "-c", ""])
    noted = entry(psutil.Process(driver.pid))
    while psutil.Process(driver.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    note(notes.notes_folder(), "1", driver=noted, processes=[entry(process)])
    assert notes.reap_orphans() == 1
    driver.wait()


def test_notes_of_other_machines_are_theirs(start: Start) -> None:
    process = start()
    path = note(notes.notes_folder(), "1", host="elsewhere", processes=[entry(process)])
    assert notes.reap_orphans() == 0
    assert path.exists()


@pytest.mark.parametrize("content", ["{", "[]", "1", '{"driver": 3}', '{"driver": [1, "2"], "processes": [[1]]}'])
def test_notes_that_can_not_be_read_are_dropped(content: str) -> None:
    path = note(notes.notes_folder(), "1")
    path.write_text(content)
    assert notes.orphans() == []
    assert path.exists()
    assert notes.reap_orphans() == 0
    assert not path.exists()


class TestSessions:
    """Processes that no note names, found by the session that they belong to."""

    @pytest.fixture
    def session(self, tmp_path: Path) -> Path:
        folder = tmp_path / "ray" / "session_2026-01-01_12-00-00_000000_77"
        (folder / "logs").mkdir(parents=True)
        (folder / "logs" / "worker.out").touch()
        return folder

    @pytest.fixture
    def program(self, tmp_path: Path) -> str:
        """A program where Ray would have one."""
        path = tmp_path / "lib" / "ray" / "dashboard" / "dashboard.py"
        path.parent.mkdir(parents=True)
        path.write_text(SLEEP)
        return str(path)

    def daemon(self, start: Start, program: str, session: Path) -> psutil.Process:
        return start(arguments=(program, f"--log-dir={session}/logs"))

    def worker(self, start: Start, session: Path) -> psutil.Process:
        """Named as Ray names its own, with its log open."""
        return start(f"log = open('{session}/logs/worker.out')", called="ray::IDLE")

    def test_daemons_by_their_command_line(self, start: Start, session: Path, program: str) -> None:
        daemon = self.daemon(start, program, session)
        note(notes.notes_folder(), "1", session_dir=str(session))
        assert notes.orphans() == [daemon]
        assert notes.reap_orphans() == 1
        assert not lives(daemon)

    def test_workers_by_their_open_logs(self, start: Start, session: Path) -> None:
        worker = self.worker(start, session)
        note(notes.notes_folder(), "1", session_dir=str(session))
        assert notes.orphans() == [worker]
        assert notes.reap_orphans() == 1

    def test_the_session_of_another_head_stays(self, start: Start, session: Path, program: str) -> None:
        others = [self.daemon(start, program, session), self.worker(start, session)]
        note(notes.notes_folder(), "1", session_dir=f"{session}8")
        note(notes.notes_folder(), "2", session_dir="")
        assert notes.reap_orphans() == 0
        assert all(map(lives, others))

    def test_whoever_reads_the_logs_stays(self, start: Start, session: Path) -> None:
        reader = start(f"log = open('{session}/logs/worker.out')")
        named = start(f"# {session}/logs/worker.out")
        note(notes.notes_folder(), "1", session_dir=str(session))
        assert notes.reap_orphans() == 0
        assert lives(reader)
        assert lives(named)

    def test_a_driver_that_was_killed_while_ray_started(self, start: Start, tmp_path: Path, session: Path) -> None:
        worker = self.worker(start, session)
        ray = str(tmp_path / "ray")
        note(notes.notes_folder(), "1", driver=[77, "1 x"], session_dir="", ray_folder=ray)
        assert notes.orphans() == [worker]
        note(
            notes.notes_folder(), "1", driver=[77, "1 x"], session_dir="", ray_folder=ray, older_sessions=[session.name]
        )
        assert notes.orphans() == [], "that session is older than the driver: another process had its number"
        note(notes.notes_folder(), "1", driver=[7, "1 x"], session_dir="", ray_folder=ray)
        assert notes.orphans() == []


def test_a_head_is_noted_and_forgotten(start: Start) -> None:
    notes.note_head()
    (path,) = notes.notes_folder().iterdir()
    assert json.loads(path.read_text())["processes"] == []
    process = start()
    notes.note_head([process], "/tmp/ray/session_x")
    found = json.loads(path.read_text())
    assert found["driver"] == [os.getpid(), mark_of(os.getpid())]
    assert found["processes"] == [[*entry(process)]]
    assert found["session_dir"] == "/tmp/ray/session_x"
    assert process in processes.descendants()
    notes.forget_head()
    notes.forget_head()
    assert not path.exists()


def test_where_ray_keeps_its_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same places as Ray's own, which a test on Ray compares."""
    assert standing.local_head_note() == tmp_path / "ray" / "ray_current_cluster"
    monkeypatch.delenv("RAY_TMPDIR")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    assert machine.ray_folder() == Path("/elsewhere/ray")
    monkeypatch.delenv("TMPDIR")
    assert machine.ray_folder() == Path("/tmp/ray")
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert machine.ray_folder() == Path("/tmp/ray")


def test_a_folder_in_which_ray_could_not_start_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    machine.see_that_ray_can_start()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("long" * 20)))
    with pytest.raises(SetupError, match=r"that long: set RAY_TMPDIR"):
        machine.see_that_ray_can_start()
    with pytest.raises(SetupError, match="that long"):
        standing.up()
    assert not machine.too_full_for_ray(Path("/tmp/ray"), 2**30)
    assert "where 3 MB are free and 64 needed" in machine.too_full_for_ray(Path("/tmp/ray"), 3 * 2**20)


def test_a_head_that_answers(tmp_path: Path) -> None:
    assert standing.live_head() is None
    standing.local_head_note().parent.mkdir()
    for nobody in ("127.0.0.1:1", "", "no port", "127.0.0.1:99999999"):
        standing.local_head_note().write_text(nobody)
        assert standing.live_head() is None
    with serving(answer()) as address:
        standing.local_head_note().write_text(f"{address}\n")
        assert standing.live_head() == address
        assert standing.unfit_heads() == []


def test_a_noted_port_that_is_somebody_elses_by_now_is_no_head() -> None:
    standing.local_head_note().parent.mkdir()
    for said, why in ((b"-ERR unknown command\r\n", "isn't Ray"), (answer("2.9.3"), "it is Ray 2.9.3 on Python")):
        with serving(said) as address:
            standing.local_head_note().write_text(address)
            assert standing.live_head() is None
            ((noted, problem),) = standing.unfit_heads()
            assert noted == address
            assert why in problem


def test_the_token_is_nobody_elses_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    machine.make_token_private()
    assert not path.exists()
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    machine.make_token_private()
    token = path.read_text()
    assert len(token) == 64
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    machine.make_token_private()
    assert (path.read_text(), path.stat().st_mode & 0o777) == (token, 0o600)


RAY_START = """
import os, pathlib, subprocess, sys
folder = pathlib.Path(os.environ["RAY_TMPDIR"], "ray")
session = folder / f"session_2026-01-01_12-00-00_000000_{os.getpid()}"
(session / "logs").mkdir(parents=True)
if "fails" in sys.argv[1]:
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stdout=subprocess.DEVNULL)
    (folder / "left").write_text(str(left.pid))
    print("Port 6379 is in use\\n")
    raise SystemExit(1)
daemon = (
    "import time; from tests.support.gcs import answer, serving;"
    "server = serving(answer()); print(server.__enter__().split(':')[1], flush=True); time.sleep(60)"
)
process = subprocess.Popen([sys.executable, "-c", daemon], stdout=subprocess.PIPE, text=True)
address = f"127.0.0.1:{process.stdout.readline().strip()}"
(folder / "ray_current_cluster").write_text(address)
print("arguments", sys.argv[1:], os.environ.get("RAY_ADDRESS"), os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"])
port = next(word for word in sys.argv if word.startswith("--dashboard-port=")).split("=")[1]
print(f"RAY_API_SERVER_ADDRESS='http://127.0.0.1:{port}' ray job submit")
"""
"""What `ray start` does, as far as it matters here: a daemon, a session folder, a note of the address."""


def a_port() -> int:
    """One that is free, and some after it: they may be anybody's where other tests run beside."""
    with socket.socket() as found:
        found.bind((machine.LOOPBACK, 0))
        return min(int(found.getsockname()[1]), 65535 - machine.PORTS)


def test_another_heads_agent_is_no_obstacle() -> None:
    """Without its agent a head takes no jobs, and where the agent's usual port is taken Ray goes on without it."""
    assert "--dashboard-agent-listen-port=0" in standing.RAY_START


class TestAHeadThatStays:
    @pytest.fixture(autouse=True)
    def fake(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
        def how(word: str) -> None:
            monkeypatch.setattr(standing, "RAY_START", (sys.executable, "-c", RAY_START, word))

        how("works")
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setenv("RAY_ADDRESS", "elsewhere:1")
        monkeypatch.setattr(machine, "LONGEST_SOCKET", 1000)  # there are no sockets in it
        monkeypatch.setattr(machine, "DASHBOARD_PORT", a_port())
        monkeypatch.setattr(standing, "DASHBOARD_PORT", machine.DASHBOARD_PORT)
        yield how
        standing.down(force=True)

    def test_it_comes_once_and_goes_once(self, tmp_path: Path) -> None:
        head = standing.up(lean=True)
        assert (head.ours, head.new, head.dashboard_url) == (True, True, f"http://127.0.0.1:{machine.DASHBOARD_PORT}")
        assert head.notice == ""
        assert standing.answers(head.address)
        assert standing.live_head() == head.address, "batches find it"
        assert not standing.local_head_note().exists(), "and other programs of Ray, which couldn't join it, don't"
        assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
        again = standing.up()
        assert (again.address, again.new) == (head.address, False)
        assert notes.orphans() == [], "it has no driver, and is no orphan"
        assert notes.reap_orphans() == 0
        gone, ended = standing.down()
        assert gone is not None
        assert (gone.address, ended) == (head.address, 1)
        assert not standing.answers(head.address)
        assert standing.live_head() is None
        assert standing.down() == (None, 0)

    def test_where_the_dashboards_port_is_taken_it_has_the_next_one_and_says_who_has_its_own(self) -> None:
        with socket.create_server((machine.LOOPBACK, machine.DASHBOARD_PORT)):
            head = standing.up()
        port = int(head.dashboard_url.rpartition(":")[2])
        assert machine.DASHBOARD_PORT < port < machine.DASHBOARD_PORT + machine.PORTS
        name = psutil.Process().name()
        assert head.notice == f"process {os.getpid()} ({name}) has its usual port, {machine.DASHBOARD_PORT}"

    def test_without_a_dashboard_it_wants_a_free_port_all_the_same(self) -> None:
        with socket.create_server((machine.LOOPBACK, machine.DASHBOARD_PORT)):
            head = standing.up(lean=True)
        assert head.new
        assert head.notice == "", "there is nothing to find at it"

    def test_where_no_port_is_left_it_says_who_has_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machine, "PORTS", 1)
        with (
            socket.create_server((machine.LOOPBACK, machine.DASHBOARD_PORT)),
            pytest.raises(SetupError, match=rf"are taken on this machine; process {os.getpid()} \("),
        ):
            standing.up()

    def test_one_that_somebody_works_on_stays(self, start: Start) -> None:
        head = standing.up()
        host, _, port = head.address.rpartition(":")
        driver = start(f"import socket; connection = socket.create_connection(({host!r}, {port}))")
        with pytest.raises(BusyError, match=rf"process {driver.pid} \(python.*\) is connected .*--force"):
            standing.down()
        assert standing.answers(head.address)
        assert lives(driver)
        assert standing.down(force=True)[1] == 1
        assert lives(driver), "it isn't ours"

    def test_one_that_somebody_works_on_over_a_socket_of_both_kinds_stays(self, start: Start) -> None:
        """As gRPC's, whose peers are `::ffff:127.0.0.1`."""
        head = standing.up()
        port = head.address.rpartition(":")[2]
        driver = start(
            "import socket; connection = socket.socket(socket.AF_INET6);"
            f"connection.connect(('::ffff:127.0.0.1', {port}))"
        )
        with pytest.raises(BusyError, match=rf"process {driver.pid} "):
            standing.down()
        assert standing.answers(head.address)
        assert standing.down(force=True)[1] == 1
        assert lives(driver), "it isn't ours"

    def test_one_of_another_version_is_not_doubled(self) -> None:
        head = standing.up()
        with serving(answer("2.9.3")) as address:
            path = standing._standing_path()
            path.write_text(path.read_text().replace(head.address, address))
            with pytest.raises(SetupError, match=r"it is Ray 2\.9\.3 .*`trax-ray down` ends it"):
                standing.up()

    def test_one_that_died_is_cleared_away_and_another_one_comes(self) -> None:
        dead = standing.up()
        note = json.loads(standing._standing_path().read_text())
        for pid, _ in note["processes"]:
            psutil.Process(pid).kill()
        while standing.answers(dead.address):
            time.sleep(0.01)
        assert standing.live_head() is None
        assert standing.noted_heads() == [dead.address]
        assert standing.up().new

    def test_a_head_of_somebody_else_is_neither_doubled_nor_ended(self) -> None:
        standing.local_head_note().parent.mkdir()
        with serving(answer()) as address:
            standing.local_head_note().write_text(address)
            head = standing.up()
            assert (head.address, head.ours, head.new) == (address, False, False)
            assert standing.down() == (None, 0)
            assert standing.live_head() == address

    def test_where_ray_does_not_start_it_says_so_and_leaves_nothing(
        self, fake: Callable[..., None], tmp_path: Path
    ) -> None:
        fake("fails")
        with pytest.raises(SetupError, match="Port 6379 is in use"):
            standing.up()
        assert not standing._standing_path().exists()
        left = int((tmp_path / "ray" / "left").read_text())
        assert not psutil.pid_exists(left) or psutil.Process(left).status() == psutil.STATUS_ZOMBIE

    def test_a_note_that_can_not_be_read_is_none(self) -> None:
        standing._standing_path().parent.mkdir(parents=True)
        standing._standing_path().write_text("{")
        assert standing.down() == (None, 0)
        assert standing.up().new
