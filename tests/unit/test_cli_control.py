"""The commands that look at a batch and steer it, as a person runs them: what they say and how they exit."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from trax_ray import control
from trax_ray.cli import control as cli_control
from trax_ray.cli import display
from trax_ray.cli.app import app
from trax_ray.core.state.events import Paused, Stopped
from trax_ray.errors import SetupError
from trax_ray.heads import notes, standing
from trax_ray.heads.standing import Head
from trax_ray.store import inbox
from trax_ray.store.layout import Layout
from trax_ray.store.lease import Lease

Journal = Callable[..., None]
AtWork = Callable[..., subprocess.Popen[str]]

ALL = ("status", "watch", "pause", "resume", "stop", "retry-failed", "clean")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control.BatchControl.__init__, "__kwdefaults__", {"timeout_s": 0.5})
    monkeypatch.setattr(cli_control, "GONE_S", 0.5)


def run(*arguments: str | Path) -> Result:
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert "Traceback" not in done.output
    return done


def said(done: Result) -> str:
    """The one line that a command that went well said on stdout."""
    assert done.exit_code == 0, done.output
    assert not done.stderr
    (line,) = done.stdout.splitlines()
    return line


def waiting(layout: Layout) -> list[str]:
    return [request.command for request in inbox.waiting(layout.inbox)]


@pytest.mark.parametrize("command", ALL)
def test_a_folder_without_a_batch(command: str, layout: Layout) -> None:
    done = run(command, layout.output_dir)
    assert done.exit_code == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"trax-ray: there is no batch in {layout.output_dir}")
    assert not layout.output_dir.exists(), "looking leaves no traces"


class TestStatus:
    def test_nobody_is_at_work(self, layout: Layout, journal: Journal) -> None:
        journal()
        done = run("status", layout.output_dir)
        assert done.exit_code == 0
        assert done.stdout.splitlines() == [
            f"out: interrupted, no batch is running; `trax-ray resume {layout.output_dir}` continues it",
            "inputs: 1 of 3 succeeded, 1 failed, 0 cancelled, 1 waiting",
            "time: 10s",
            "failures: permanent 1",
        ]

    def test_somebody_is_at_work(self, layout: Layout, journal: Journal, at_work: AtWork) -> None:
        journal()
        process = at_work(
            "ignores", total=10, succeeded=5, failed=1, active=3, queued=1, memory_mb=512.5, cpu_percent=75.0,
            elapsed_s=61.0, estimated_remaining_s=30.0, slots=4, limits_reason="memory", parked={"openai": "no\nkey"},
            services={"deepseek": "20 failures in a row; one request is tried in 30 s"},
        )  # fmt: skip
        inbox.put(layout.inbox, "pause")
        lines = run("status", layout.output_dir).stdout.splitlines()
        assert lines[0] == "talks: running"
        assert lines[1].startswith(f"held by: batch talks, process {process.pid} on ")
        assert "last heard" not in lines[1]
        assert lines[2:] == [
            "inputs: 5 of 10 succeeded, 1 failed, 0 cancelled, 1 waiting",
            "attempts: 3 running, room for 4 that take a core each (memory)",
            "service: deepseek: 20 failures in a row; one request is tried in 30 s",
            "machine: 512.5 MB of the batch's own, CPU 75.0%",
            "time: 1m01s, 30s to go",
            "failures: permanent 1",
            r"parked: openai: no\nkey",
            "not taken up yet: pause",
        ]

    def test_one_that_is_silent(self, layout: Layout, at_work: AtWork, monkeypatch: pytest.MonkeyPatch) -> None:
        at_work("silent", updated_at=0)
        real = time.time
        monkeypatch.setattr(cli_control.time, "time", lambda: real() + 300)
        assert "last heard of 5m0" in run("status", layout.output_dir).stdout

    @pytest.mark.parametrize("before", [False, True])
    def test_one_that_is_starting_is_not_silent_since_the_last_run(
        self, layout: Layout, journal: Journal, before: bool
    ) -> None:
        if before:
            journal()
        lease = Lease(layout.starting)
        lease.acquire("batch talks, which is starting")
        try:
            lines = run("status", layout.output_dir).stdout.splitlines()
        finally:
            lease.release()
        assert lines[0] == "out: starting"
        assert lines[1].startswith("held by: batch talks, which is starting, process ")
        assert "last heard" not in lines[1]
        assert not any(line.startswith("machine:") for line in lines)

    def test_more_may_run_than_take_a_core_each(self, layout: Layout, at_work: AtWork) -> None:
        """Requests to a service, and what takes a part of a core."""
        at_work("ignores", active=2, slots=1)
        assert "attempts: 2 running, room for 1 that take a core each" in run("status", layout.output_dir).stdout

    def test_what_waits_for_cheap_hours(self, layout: Layout, at_work: AtWork) -> None:
        at_work("ignores", saves_until=1.8e9)
        told = "enhancement: waits for the provider's cheap hours, until 2027-01-15 "
        assert any(line.startswith(told) for line in run("status", layout.output_dir).stdout.splitlines())

    @pytest.mark.parametrize(
        ("status", "headline"),
        [
            ({"phase": "paused"}, "paused; `trax-ray resume OUT` goes on"),
            ({"phase": "waiting", "waits_until": 1.8e9}, "waiting until 2027-01-15 "),
            ({"phase": "draining"}, "draining"),
            (
                {"phase": "parked"},
                "parked; once its cause is gone `trax-ray resume OUT` goes on, or the `trax-ray batch` command with "
                "other options",
            ),
        ],
    )
    def test_the_first_line_says_where_it_stands(
        self, layout: Layout, at_work: AtWork, status: dict[str, Any], headline: str
    ) -> None:
        at_work("ignores", **status)
        line = run("status", layout.output_dir).stdout.splitlines()[0]
        assert line.startswith(f"talks: {headline}".replace("OUT", str(layout.output_dir)))

    def test_json(self, layout: Layout, journal: Journal) -> None:
        journal(Paused())
        status = json.loads(run("status", layout.output_dir, "--json").stdout)
        assert (status["phase"], status["total"], status["pid"]) == ("paused", 3, None)
        assert (status["memory_mb"], status["cpu_percent"]) == (None, None), "nobody is at work, nothing is measured"


class TestWatch:
    def test_one_that_is_not_running(self, layout: Layout, journal: Journal) -> None:
        journal(Stopped())
        line = said(run("watch", layout.output_dir))
        assert line == f"not running: stopped; `trax-ray resume {layout.output_dir}` goes on"

    def test_to_its_end(self, layout: Layout, at_work: AtWork) -> None:
        at_work("completes", total=4, succeeded=4)
        done = run("watch", layout.output_dir, "--interval", "0.05")
        assert done.exit_code == 0
        lines = done.stderr.splitlines()
        assert len(lines) > 2
        assert all(line.startswith("Progress: 4/4 (100.0% success)") for line in lines[:-2])
        assert done.stdout == "complete: 4 of 4 succeeded, 0 failed\n"

    def test_what_happens_to_it_is_said(self, layout: Layout, journal: Journal, at_work: AtWork) -> None:
        """Also that nobody is at work any more, after a while: a coordinator that died is replaced."""
        journal()
        at_work("dies", phase="paused")
        done = run("watch", layout.output_dir, "--interval", "0.05")
        assert done.exit_code == 0
        assert done.stderr.startswith("paused; `trax-ray resume ")
        assert done.stderr.count("paused") == 1, "once"
        assert done.stdout.startswith("interrupted, no batch is running; ")

    def test_why_it_is_parked(self, layout: Layout, at_work: AtWork) -> None:
        at_work("ignores", phase="parked", total=2, parked={"openai": "no\nkey"})
        done = run("watch", layout.output_dir)
        headline, why = done.stdout.splitlines()
        assert headline.startswith("parked; once its cause is gone `trax-ray resume ")
        assert why == r"parked: openai: no\nkey"

    def test_it_may_be_interrupted(self, layout: Layout, at_work: AtWork, monkeypatch: pytest.MonkeyPatch) -> None:
        process = at_work("ignores")

        def interrupt(seconds: float) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(cli_control.time, "sleep", interrupt)
        done = run("watch", layout.output_dir)
        assert done.exit_code == 130
        assert done.stdout == "no longer watched; the batch goes on\n"
        assert process.poll() is None

    @pytest.mark.parametrize("interval", ["0", "-1", "nan"])
    def test_an_interval_that_makes_no_sense(self, layout: Layout, journal: Journal, interval: str) -> None:
        journal()
        done = run("watch", layout.output_dir, "--interval", interval)
        assert done.exit_code == 2
        assert "--interval" in done.stderr

    def test_on_a_terminal_there_is_a_bar(
        self, layout: Layout, at_work: AtWork, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shown = []
        monkeypatch.setattr(display.LiveDisplay, "update", lambda self, progress: shown.append(progress.total_tasks))
        at_work("completes", total=4)
        monkeypatch.setattr(display, "make_display", display.LiveDisplay)
        assert run("watch", layout.output_dir, "--interval", "0.05").exit_code == 0
        assert set(shown) == {4}


class TestOnABatchThatRuns:
    def test_pause_and_resume(self, layout: Layout, at_work: AtWork) -> None:
        at_work(active=2)
        line = said(run("pause", layout.output_dir))
        assert line == "paused: nothing starts any more; 2 attempts that are running will be finished"
        assert said(run("resume", layout.output_dir)) == "resumed"

    def test_stop(self, layout: Layout, journal: Journal, at_work: AtWork) -> None:
        journal()
        process = at_work()
        line = said(run("stop", layout.output_dir))
        assert line == f"stopped; what was finished is kept, and `trax-ray resume {layout.output_dir}` goes on"
        assert process.wait(10) == 0

    @pytest.mark.parametrize(("failed", "words"), [(1, "1 input that"), (3, "3 inputs that")])
    def test_retry_failed(self, layout: Layout, at_work: AtWork, failed: int, words: str) -> None:
        at_work(failed=failed)
        assert said(run("retry-failed", layout.output_dir)) == f"{words} had failed will be done again"

    @pytest.mark.parametrize("command", ["pause", "resume", "stop", "retry-failed"])
    def test_one_that_does_not_look(self, layout: Layout, at_work: AtWork, command: str) -> None:
        process = at_work("ignores")
        line = said(run(command, layout.output_dir))
        assert line.startswith(f"the batch (process {process.pid} on ")
        assert line.endswith(f"hasn't taken it up yet: the request to {command} stays in its inbox")
        assert waiting(layout) == [command]

    def test_it_is_not_cleaned(self, layout: Layout, at_work: AtWork) -> None:
        at_work("ignores")
        for arguments in ((), ("--everything",)):
            done = run("clean", layout.output_dir, *arguments)
            assert done.exit_code == 3
            assert "batch talks" in done.stderr


class TestOnABatchThatDoesNotRun:
    def test_pause(self, layout: Layout, journal: Journal) -> None:
        journal()
        assert said(run("pause", layout.output_dir)) == "no batch is running there: the next run will begin paused"
        assert "already" in said(run("pause", layout.output_dir))
        assert waiting(layout) == ["pause"]

    def test_stop(self, layout: Layout, journal: Journal) -> None:
        journal(Stopped())
        assert said(run("stop", layout.output_dir)) == "no batch is running there (stopped): nothing to stop"
        assert waiting(layout) == []

    def test_retry_failed(self, layout: Layout, journal: Journal) -> None:
        journal()
        line = said(run("retry-failed", layout.output_dir))
        assert line == (
            "no batch is running there: 1 input that had failed will be done again "
            f"by `trax-ray resume {layout.output_dir}`"
        )
        assert waiting(layout) == ["retry-failed"]

    def test_retry_failed_where_nothing_has_failed(self, layout: Layout, journal: Journal) -> None:
        journal(fail=False)
        assert "no input has failed" in said(run("retry-failed", layout.output_dir))
        assert waiting(layout) == []

    @pytest.mark.parametrize(("events", "left"), [((), []), ((Paused(),), ["resume"])])
    def test_resume_runs_its_command_again(
        self,
        layout: Layout,
        journal: Journal,
        monkeypatch: pytest.MonkeyPatch,
        events: tuple[Any, ...],
        left: list[str],
    ) -> None:
        journal(*events)
        given = []

        def continue_batch(output_dir: str) -> int:
            given.append((output_dir, waiting(layout)))
            return 1

        monkeypatch.setattr("trax_ray.cli.batch.continue_batch", continue_batch)
        assert run("resume", layout.output_dir).exit_code == 1
        assert given == [(str(layout.output_dir), left)], "a pause is taken back first"

    def test_resume_without_a_command(self, layout: Layout, journal: Journal) -> None:
        journal()
        done = run("resume", layout.output_dir)
        assert done.exit_code == 3
        assert "no command is recorded" in done.stderr
        assert "trax-ray batch" in done.stderr

    def test_clean(self, layout: Layout, journal: Journal) -> None:
        journal()
        (layout.private / "audio").mkdir()
        (layout.private / "audio" / "talk.flac").write_bytes(b"x" * 20_000)
        (layout.output_dir / "talk.txt").touch()
        assert said(run("clean", layout.output_dir)) == "removed 1 file (20 kB)"
        assert said(run("clean", layout.output_dir)) == "removed 0 files (0 kB)"
        assert run("status", layout.output_dir).exit_code == 0
        done = run("clean", layout.output_dir, "--everything")
        assert done.exit_code == 0
        assert done.stdout.splitlines()[1] == (
            "The journal is gone: transcripts and report stay, and a later run begins anew."
        )
        assert [path.name for path in layout.output_dir.iterdir()] == ["talk.txt"]
        assert run("clean", layout.output_dir, "--everything").exit_code == 3

    def test_a_damaged_journal_can_be_taken_away(self, layout: Layout, journal: Journal) -> None:
        journal()
        next(layout.journal.iterdir()).write_bytes(b"nonsense\n" * 10)
        assert run("clean", layout.output_dir, "--everything").exit_code == 0


class TestHeads:
    @pytest.fixture(autouse=True)
    def nothing_real(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(standing, "up", lambda lean: pytest.fail("a test must not start Ray"))
        monkeypatch.setattr(standing, "down", lambda force: (None, 0))
        monkeypatch.setattr(notes, "reap_orphans", lambda: 0)

    @pytest.mark.parametrize(
        ("head", "line"),
        [
            (Head("127.0.0.1:1", new=True), "Ray is up at 127.0.0.1:1; batches on this machine join it"),
            (
                Head("127.0.0.1:1", "http://127.0.0.1:8265", new=True),
                "Ray is up at 127.0.0.1:1; batches on this machine join it; dashboard: http://127.0.0.1:8265",
            ),
            (
                Head("127.0.0.1:1", "http://127.0.0.1:8266", new=True, notice="process 7 (x) has its usual port, 8265"),
                "Ray is up at 127.0.0.1:1; batches on this machine join it; dashboard: http://127.0.0.1:8266 "
                "(process 7 (x) has its usual port, 8265)",
            ),
            (Head("127.0.0.1:1"), "Ray is up already at 127.0.0.1:1"),
            (
                Head("10.0.0.1:1", ours=False),
                "`ray start` has started Ray at 10.0.0.1:1 already; batches on this machine join it",
            ),
        ],
    )
    def test_up(self, monkeypatch: pytest.MonkeyPatch, head: Head, line: str) -> None:
        monkeypatch.setattr(standing, "up", lambda lean: head)
        assert said(run("up")) == line

    def test_up_may_be_lean(self, monkeypatch: pytest.MonkeyPatch) -> None:
        given = []
        monkeypatch.setattr(standing, "up", lambda lean: given.append(lean) or Head("127.0.0.1:1", new=True))
        run("up", "--lean")
        run("up")
        assert given == [True, False]

    def test_up_where_ray_does_not_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(lean: bool) -> Head:
            raise SetupError("Ray doesn't start: no room")

        monkeypatch.setattr(standing, "up", fail)
        done = run("up")
        assert (done.exit_code, done.stderr) == (3, "trax-ray: Ray doesn't start: no room\n")

    @pytest.mark.parametrize(
        ("head", "ended", "left", "lines"),
        [
            (None, 0, 0, ["nothing of ours is running"]),
            (Head("127.0.0.1:1"), 7, 0, ["Ray at 127.0.0.1:1 is down (7 processes)"]),
            (None, 0, 1, ["ended 1 process that dead batches had left behind"]),
            (
                Head("127.0.0.1:1"),
                1,
                2,
                [
                    "Ray at 127.0.0.1:1 is down (1 process)",
                    "ended 2 processes that dead batches had left behind",
                ],
            ),
        ],
    )
    def test_down(
        self, monkeypatch: pytest.MonkeyPatch, head: Head | None, ended: int, left: int, lines: list[str]
    ) -> None:
        monkeypatch.setattr(standing, "down", lambda force: (head, ended))
        monkeypatch.setattr(notes, "reap_orphans", lambda: left)
        done = run("down")
        assert (done.exit_code, done.stdout.splitlines()) == (0, lines)
