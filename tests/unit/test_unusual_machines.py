"""Homes, temporary folders and files that are not what they should be: a clear error, the way out, and no hanging."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.unit.conftest import Journal
from trax_ray.cli.app import app
from trax_ray.errors import SetupError
from trax_ray.heads.machine import LONGEST_SOCKET, ray_folder, too_long_for_ray
from trax_ray.store import inbox
from trax_ray.store.layout import Layout


def trax_ray(*arguments: str | Path, **environ: str | None) -> subprocess.CompletedProcess[str]:
    """Run the command; None takes a variable away. It is to answer within seconds."""
    given = {**os.environ, **{name: value for name, value in environ.items() if value is not None}}
    for name in (name for name, value in environ.items() if value is None):
        given.pop(name, None)
    command = [sys.executable, "-m", "trax_ray", *map(str, arguments)]
    return subprocess.run(command, env=given, capture_output=True, encoding="cp1252", timeout=60, check=False)


def status(layout: Layout) -> Result:
    return CliRunner().invoke(app, ["status", str(layout.output_dir)])


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "a.wav"
    path.write_bytes(b"x")
    return path


class TestHome:
    def test_a_user_without_one_is_told_to_set_it(
        self, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As in a container whose user has a number that the system doesn't know."""

        def unknown(number: int) -> None:
            raise KeyError(number)

        monkeypatch.setattr("pwd.getpwuid", unknown)
        for name in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
            monkeypatch.delenv(name, raising=False)
        own = ["batch", str(recording), "--model", "pocketsphinx", "-o", str(tmp_path / "out")]
        assert CliRunner().invoke(app, [*own, "--dry-run"]).exit_code == 0
        for arguments in (own, ["doctor", "-o", str(tmp_path / "out")]):
            done = CliRunner().invoke(app, arguments)
            assert done.exit_code == 3, done.output
            assert "set HOME to a folder that the user may write to" in done.output

    def test_the_doctor_says_no_where_it_can_not_be_written_to(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        home = tmp_path / "file" / "home"
        done = trax_ray("doctor", "-o", tmp_path / "out", HOME=str(home))
        assert done.returncode == 3
        assert f"MISSING  home folder    {home} can't be written to" in done.stdout
        assert "set HOME to a folder of yours" in done.stdout


class TestTemporaryFolder:
    def test_the_doctor_and_the_batch_say_where_sockets_can_not_be(self, tmp_path: Path, recording: Path) -> None:
        long = tmp_path / ("x" * 90)
        long.mkdir()
        doctor = trax_ray("doctor", "-o", tmp_path / "out", TMPDIR=str(long), RAY_TMPDIR=None)
        assert doctor.returncode == 3
        batch = trax_ray(
            *("batch", recording, "--model", "pocketsphinx", "-o", tmp_path / "out"), TMPDIR=str(long), RAY_TMPDIR=None
        )
        assert batch.returncode == 3
        for text in (doctor.stdout, batch.stderr):
            assert "set RAY_TMPDIR to a folder whose name has at most " in text

    def test_the_longest_that_does(self, monkeypatch: pytest.MonkeyPatch) -> None:
        longest = LONGEST_SOCKET - len("/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")
        monkeypatch.setenv("RAY_TMPDIR", "/" + "x" * (longest - 1))
        assert too_long_for_ray(ray_folder()) == ""
        monkeypatch.setenv("RAY_TMPDIR", "/" + "x" * longest)
        assert f"at most {longest} bytes" in too_long_for_ray(ray_folder())


class TestFilesThatAreNone:
    """A pipe waits for a writer for ever, a device has no end."""

    def test_a_pipe_in_the_inbox_is_passed_over(self, layout: Layout, journal: Journal) -> None:
        journal()
        name = inbox.put(layout.inbox, "pause")
        os.mkfifo(layout.inbox / f"{0:020d}-{name[-8:]}")
        assert [request.name for request in inbox.waiting(layout.inbox)] == [name]
        assert status(layout).exit_code == 0

    @pytest.mark.parametrize("kind", ["pipe", "folder"])
    def test_one_in_the_journal_is_named(self, layout: Layout, journal: Journal, kind: str) -> None:
        journal()
        (segment,) = layout.journal.glob("*.jsonl")
        segment.unlink()
        os.mkfifo(segment) if kind == "pipe" else segment.mkdir()
        done = status(layout)
        assert done.exit_code == 3
        assert f"can't read {segment}: it is no regular file" in done.stderr

    def test_one_in_the_place_of_the_status_counts_as_none(self, layout: Layout, journal: Journal) -> None:
        journal()
        os.mkfifo(layout.status)
        assert status(layout).exit_code == 0


@pytest.mark.parametrize("content", [b"", b'{"model": ', b"[1]", b"\xff", b'"x"', b"null"])
def test_a_damaged_note_of_the_model_is_named_and_a_model_mends_it(
    content: bytes, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trax_ray.providers.choice.choose_model", lambda language: "pocketsphinx")
    pin = Layout(tmp_path / "out").model_pin
    pin.parent.mkdir(parents=True)
    pin.write_bytes(content)
    own = ["batch", str(recording), "-o", str(tmp_path / "out"), "--dry-run"]
    done = CliRunner().invoke(app, own)
    assert done.exit_code == 3
    assert f"{pin}, which remembers the model of the transcripts there, is damaged: give the --model" in done.stderr
    assert CliRunner().invoke(app, [*own, "--model", "pocketsphinx"]).exit_code == 0


@pytest.mark.long
@pytest.mark.parametrize("encoding", [{"PYTHONIOENCODING": "cp1252"}, {"PYTHONIOENCODING": "ascii"},
                                      {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])  # fmt: skip
def test_names_that_the_terminal_can_not_write_are_shown_with_escapes(
    encoding: dict[str, str], tmp_path: Path, layout: Layout, journal: Journal
) -> None:
    journal()
    named = layout.output_dir.rename(tmp_path / "na\u00efve \u4e2d")
    (tmp_path / "\u4e2d.wav").write_bytes(b"x")
    for arguments in (["status", named], ["batch", tmp_path, "--model", "pocketsphinx", "--dry-run", "-o", named]):
        done = trax_ray(*arguments, **encoding)
        assert done.returncode == 0, done.stderr
        assert r"\u4e2d" in done.stdout


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Ray says at its next starts, first ones first; when there is nothing left it starts."""
    from trax_ray.cluster import connect

    said: list[str] = []

    def start(*_: object, **__: object) -> SimpleNamespace:
        if said:
            raise Exception(said.pop(0))
        return SimpleNamespace(dashboard_url="", address_info={"gcs_address": "127.0.0.1:1", "node_id": "a"})

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(connect, "live_head", lambda: None)
    for name in ("unfit_heads", "reap_orphans", "make_token_private"):
        monkeypatch.setattr(connect, name, tuple)
    monkeypatch.setattr(connect, "_start_local_head", start)
    return said


LATE = "The current node timed out during startup."


def test_a_ray_whose_daemons_do_not_come_up_in_time_is_started_once_more(
    starts: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """On a busy machine; Ray raises a plain Exception then."""
    from trax_ray.cluster import connect

    starts += [LATE]
    assert connect._connect("a test", None, lean=True, memory_limit_mb=None).started_here
    assert "tried once more" in caplog.text


@pytest.mark.parametrize("said", [[LATE, LATE], ["no room for sockets"]])
def test_a_ray_that_does_not_start_is_no_defect(starts: list[str], said: list[str]) -> None:
    from trax_ray.cluster import connect

    starts += [*said]
    with pytest.raises(SetupError, match=rf"can't start Ray on this machine: {said[0]}: `trax-ray doctor`"):
        connect._connect("a test", None, lean=True, memory_limit_mb=None)
    assert not starts
