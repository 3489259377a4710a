"""Exit codes, contradictions and messages: a row each. What needs Ray stands in tests/ray/test_command_line.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trax_ray.cli.app import app
from trax_ray.core.spec import BatchSpec
from trax_ray.core.state.events import CoordinatorStarted, TasksAdded, encode_event
from trax_ray.providers import weights
from trax_ray.store.epochs import open_journal
from trax_ray.store.layout import Layout
from trax_ray.testing.factories import make_task

POCKETSPHINX = ("--model", "pocketsphinx")

# Arguments (IN is a folder with one recording, OUT a folder that isn't there yet), exit code, what the line names.
ROWS = [
    # A value that makes no sense: 2, and the flag is named.
    (("IN", *POCKETSPHINX, "--workers", "0"), 2, "--workers"),
    (("IN", *POCKETSPHINX, "--workers", "many"), 2, "--workers"),
    (("IN", *POCKETSPHINX, "--memory-limit", "0"), 2, "--memory-limit"),
    (("IN", *POCKETSPHINX, "--cpu-limit", "0"), 2, "--cpu-limit"),
    (("IN", *POCKETSPHINX, "--cpu-limit", "101"), 2, "--cpu-limit"),
    (("IN", *POCKETSPHINX, "--progress-interval", "0"), 2, "--progress-interval"),
    (("IN", *POCKETSPHINX, "--chunk-size", "1"), 2, "--chunk-size"),
    (("IN", *POCKETSPHINX, "--max-retries", "-1"), 2, "--max-retries"),
    (("IN", *POCKETSPHINX, "--priority", "-1"), 2, "--priority"),
    (("IN", *POCKETSPHINX, "-f", "doc"), 2, "doc"),
    (("IN", *POCKETSPHINX, "--task-timeout", "0"), 2, "--task-timeout"),
    (("IN", *POCKETSPHINX, "--start-at", "soon"), 2, "--start-at"),
    (("IN", *POCKETSPHINX, "--only-between", "night"), 2, "--only-between"),
    (("IN", *POCKETSPHINX, "--only-between", "08:00-08:00"), 2, "--only-between"),
    (("IN", *POCKETSPHINX, "--progress-interval", "inf"), 2, "--progress-interval"),
    (("IN", *POCKETSPHINX, "--max-cost", "nan"), 2, "--max-cost"),
    (("IN", *POCKETSPHINX, "--priority", "1.5"), 2, "--priority"),
    # What a variable leaves that isn't set: 2, and not what it would mean otherwise.
    (("IN", "--base-url", ""), 2, "base_url (--base-url): expected a value, got '': is a variable not set?"),
    (("IN", "--model", ""), 2, "--model"),
    (("IN", *POCKETSPHINX, "--language", ""), 2, "--language"),
    (("IN", *POCKETSPHINX, "-o", ""), 2, "--output-dir"),
    (("IN", *POCKETSPHINX, "--reference", ""), 2, "--reference"),
    (("IN", *POCKETSPHINX, "--address", ""), 2, "--address"),
    (("IN", "--model", "eloquent"), 2, "eloquent"),
    (("IN", *POCKETSPHINX, "--reference", "IN/nothing"), 2, "IN/nothing"),
    (("IN", *POCKETSPHINX, "--shout"), 2, "--shout"),
    # Contradictions: 2.
    (("IN", *POCKETSPHINX, "--language", "de"), 2, "pocketsphinx only knows en"),
    (("IN", *POCKETSPHINX, "--base-url", "http://127.0.0.1:1"), 2, "--base-url"),
    (("IN", "--base-url", "ftp://host"), 2, "expected an address such as http://host:8000/v1"),
    (("IN", "--base-url", "http://user:secret@host/v1"), 2, "put the secret into OPENAI_API_KEY"),
    (("IN", "--base-url", "http://127.0.0.1:1", "--max-cost", "-1"), 2, "--max-cost"),
    (
        ("IN", "--model", "gpt-transcribe", "--base-url", "http://127.0.0.1:1", "--word-timestamps"),
        2,
        "gives no word times: leave out --word-timestamps",
    ),
    (("IN", *POCKETSPHINX, "--quiet", "--verbose"), 2, "--quiet and --verbose"),
    (("IN", *POCKETSPHINX, "--language", "xx"), 2, "such as German, got 'xx'"),
    (("IN", "--model", "tiny", "--language", "Germn"), 2, "is german meant?"),
    (("IN", "--model", "tiny", "--language", "eo"), 2, "tiny doesn't know that language"),
    (("IN", "--model", "base", "--language", "yue"), 2, "base doesn't know that language"),
    (("IN", "--model", "tiny.en", "--language", "German", "--dry-run"), 2, "tiny.en only knows en, got --language de"),
    (("IN", "--model", "IN/english", "--language", "de", "--dry-run"), 2, "only knows en, got --language de"),
    (("IN", *POCKETSPHINX, "--initial-prompt", "Ada"), 2, "pocketsphinx can't be primed by a text"),
    (("IN", *POCKETSPHINX, "--keep-audio"), 2, "--preprocess"),
    (("IN", *POCKETSPHINX, "-o", "IN"), 2, "output folder"),
    (("IN", *POCKETSPHINX, "-o", "IN/out", "--reference", "IN/out/x"), 2, "reference"),
    # Nothing to do: 2, and it says why.
    ((), 2, "INPUT"),
    (("IN/gone.wav", *POCKETSPHINX), 2, "IN/gone.wav"),
    (("IN/empty", *POCKETSPHINX), 2, "IN/empty"),
    (("IN/papers", *POCKETSPHINX), 2, "no recordings"),
    # Set-up: 3, and it says the way out.
    (("IN",), 3, 'pip install "trax-ray[tiny]"'),
    (("IN", "--model", "whisper-1"), 3, "set OPENAI_API_KEY, or OPENAI_API_KEY_FILE"),
    (("IN", *POCKETSPHINX, "--enhance"), 3, "DEEPSEEK_API_KEY"),
    (("IN", *POCKETSPHINX, "--memory-limit", "255"), 3, "--memory-limit 256"),
    (("IN", *POCKETSPHINX, "-o", "IN/talk.wav"), 3, "talk.wav"),
    (("ftp://host/talk.mp3", *POCKETSPHINX), 3, "ftp://host/talk.mp3"),
    (("s3://bucket/talk.mp3", *POCKETSPHINX), 3, "AWS_ACCESS_KEY_ID"),
    # Fine.
    (("IN", *POCKETSPHINX, "--dry-run"), 0, ""),
    (("IN", "--model", "base", "--language", "German", "--dry-run"), 0, ""),
    (("IN", *POCKETSPHINX, "-f", "SRT", "--dry-run"), 0, ""),
    (("IN", "--model", "large-v3", "--language", "Cantonese", "--dry-run", "--memory-limit", "8192"), 0, ""),
    (("IN", *POCKETSPHINX, "--language", "en-GB", "--dry-run"), 0, ""),
    (("IN", *POCKETSPHINX, "--dry_run", "--chunk_size", "60", "--language", "EN"), 0, ""),
    (("IN", *POCKETSPHINX, "--dry-run", "--workers", "12"), 0, ""),
    (("IN", "--model", "whisper-1", "--base-url", "http://127.0.0.1:1/v1", "--dry-run"), 0, ""),
    (("IN", "--base-url", "http://127.0.0.1:1/v1", "--dry-run"), 0, ""),
    (("IN", *POCKETSPHINX, "--dry-run", "--start-at", "22:00", "--only-between", "22:00-06:00"), 0, ""),
    (("IN", *POCKETSPHINX, "--dry-run", "--preprocess", "--keep-audio", "--task-timeout", "1.5"), 0, ""),
]


@pytest.fixture
def inputs(tmp_path: Path, samples: Path) -> Path:
    folder = tmp_path / "in"
    (folder / "empty").mkdir(parents=True)
    (folder / "papers").mkdir()
    (folder / "papers" / "notes.pdf").write_text("no sound")
    (folder / "english").mkdir()  # what can be seen of a model before it is loaded
    (folder / "english" / "vocabulary.txt").write_text("a\n" * 51864)
    (folder / "talk.wav").write_bytes((samples / "first_test.wav").read_bytes())
    return folder


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No weights at hand and none to be had, whatever the machine has."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr(weights, "EMBEDDED", {})


@pytest.mark.parametrize(("arguments", "code", "named"), ROWS, ids=[" ".join(row[0]) or "nothing" for row in ROWS])
def test_the_table(arguments: tuple[str, ...], code: int, named: str, inputs: Path, tmp_path: Path) -> None:
    def there(text: str) -> str:
        return str(inputs) if text == "IN" else text.replace("IN/", f"{inputs}/", 1)

    given = [there(argument) for argument in arguments]
    if "-o" not in given:
        given += ["-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["batch", *given])
    assert done.exit_code == code, done.output
    assert there(named) in done.stderr if named else not done.stderr
    assert "Traceback" not in done.output
    if code and "Usage:" not in done.stderr:
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert done.stderr.startswith("trax-ray: ")
    if code != 3:
        assert not (tmp_path / "out").exists(), "a batch that didn't start leaves no traces"


def test_another_model_than_the_one_that_is_there(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin = Layout(tmp_path / "out").model_pin
    pin.parent.mkdir(parents=True)
    pin.write_text(json.dumps({"model": "pocketsphinx"}))
    monkeypatch.setenv("OPENAI_API_KEY", "not-a-key")
    done = CliRunner().invoke(app, ["batch", str(inputs), "-o", str(tmp_path / "out")])
    assert done.exit_code == 3
    assert "--model pocketsphinx to go on" in done.stderr
    assert "--model whisper-1 to do them again" in done.stderr
    assert "not-a-key" not in done.output


def test_the_version() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 0
    assert done.stdout.startswith("trax-ray ")


def test_a_defect_is_no_failed_input(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fall_over(*_: object) -> int:
        raise LookupError("nobody expected this")

    monkeypatch.setattr("trax_ray.cli.batch.run", fall_over)
    done = CliRunner().invoke(app, ["batch", str(inputs)])
    assert done.exit_code == 70
    assert "LookupError" in done.stderr


def test_the_report_is_rebuilt_without_ray(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(tmp_path / "nothing")])
    assert done.exit_code == 3
    assert "nothing" in done.stderr
    journal = open_journal(Layout(tmp_path / "out").journal, "a test", 0.0)
    journal.append([encode_event(CoordinatorStarted(1, BatchSpec("/out").to_dict()), 1.0)])
    journal.append([encode_event(TasksAdded((make_task("a", name="a.wav"),)), 2.0)])
    journal.close()
    done = CliRunner().invoke(app, ["report", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("1 inputs, 0 attempts: ")
    assert Layout(tmp_path / "out").table("files").is_file()


class TestWhereRecordingsGo:
    """Other programs take the server's address from the environment: no recording leaves the house because of that."""

    @pytest.mark.parametrize("address", ["http://127.0.0.1:1/v1", "", "nonsense:sk-0123456789abcdef"])
    def test_an_address_in_the_environment_is_neither_obeyed_nor_passed_over(
        self, address: str, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "not-a-key")
        monkeypatch.setenv("OPENAI_BASE_URL", address)
        own = ["batch", str(inputs), "-o", str(tmp_path / "out"), "--dry-run"]
        done = CliRunner().invoke(app, [*own, "--model", "whisper-1"])
        assert done.exit_code == 2
        assert "unset OPENAI_BASE_URL for them to go to openai" in done.stderr
        assert "sk-0123456789abcdef" not in done.output
        (tmp_path / "m.csv").write_text(f"file_name,model\n{inputs / 'talk.wav'},whisper-1\n")
        row = CliRunner().invoke(app, ["batch", str(tmp_path / "m.csv"), *own[2:], *POCKETSPHINX])
        assert row.exit_code == 2
        assert "m.csv, line 2: OPENAI_BASE_URL is set" in row.stderr
        for fine in (["--model", "whisper-1", "--base-url", "http://127.0.0.1:2/v1"], POCKETSPHINX):
            assert CliRunner().invoke(app, [*own, *fine]).exit_code == 0

    def test_openais_own_address_is_what_is_asked_anyway(
        self, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "not-a-key")
        monkeypatch.setenv("OPENAI_BASE_URL", "https://api.openai.com/v1/")
        monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
        own = ["batch", str(inputs), "-o", str(tmp_path / "out"), "--dry-run", "--model", "whisper-1"]
        done = CliRunner().invoke(app, own)
        assert done.exit_code == 0
        assert "OPENAI_ORG_ID is set and not sent: the key decides who pays" in done.stdout
        assert "not sent" not in CliRunner().invoke(app, [*own[:-2], *POCKETSPHINX]).stdout
