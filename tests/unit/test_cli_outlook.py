"""What is said before a batch runs, of real files: audio, copies, what can't be heard, costs, time."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from trax_ray.cli.app import app
from trax_ray.core.policy.prediction import START, Observation
from trax_ray.core.spec import BatchSpec
from trax_ray.core.state.events import AttemptEnded, CoordinatorStarted, Started, TasksAdded
from trax_ray.core.task import Outcome
from trax_ray.experience import kept as experience
from trax_ray.plan.look import look_at, with_lengths
from trax_ray.plan.planner import make_plan
from trax_ray.store.batch_journal import BatchJournal
from trax_ray.store.layout import Layout

PAGE = Path(__file__).resolve().parents[2] / "docs" / "plan.md"


@pytest.fixture
def folder(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    shutil.copytree(samples / "talks", tmp_path / "in")
    shutil.copy(samples / "talks" / "meeting.mp3", tmp_path / "in" / "copy.mp3")
    shutil.copy(samples / "stories" / "the_river.ogg", tmp_path / "in" / "z.ogg")
    (tmp_path / "in" / "bad.wav").write_text("no audio")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def dry(*arguments: str, model: str = "pocketsphinx") -> Result:
    done = CliRunner().invoke(app, ["batch", "in", "--model", model, "--dry-run", *arguments])
    assert done.exit_code == 0, done.output
    return done


def as_json(*arguments: str, model: str = "pocketsphinx") -> dict[str, Any]:
    told: dict[str, Any] = json.loads(dry("--json", *arguments, model=model).stdout)
    return told


def test_a_dry_run_says_how_much_audio_there_is_and_what_cannot_be_heard(folder: Path) -> None:
    lines = dry("-f", "txt").stdout.splitlines()
    assert "audio: 3m04s to do in 6 recordings" in lines
    assert "a copy of another, by its beginning, middle and end: meeting.mp3" in lines
    assert "not to be read or decoded: bad.wav" in lines
    assert lines[1].startswith("  z.ogg -> "), "the longest comes first"
    assert any(line.startswith("time: not known before some of it is done") for line in lines)


def test_the_same_for_programs(folder: Path) -> None:
    told = as_json()
    assert told["inputs"] == {
        "found": 7,
        "to_do": 6,
        "done_before": 0,
        "missing": 0,
        "archived": 0,
        "ignored": 4,
        "copies": 1,
        "without_sound": 0,
        "broken": 1,
        "unreadable_folders": 0,
    }
    assert told["tasks"] == {"transcribe": 6}
    assert told["finish"] is None
    assert (told["cost"], told["audio"]["guessed"]) == ([], 0)
    bad = next(each for each in told["recordings"] if each["name"] == "bad.wav")
    assert bad["problem"] == "not_decodable"
    assert not (folder / "trax_ray_output").exists()


def keys(value: Any, path: str = "") -> Iterator[str]:
    if path == "tasks":
        yield path
    elif isinstance(value, dict):
        if path == "finish":
            yield path
        for name, each in value.items():
            yield from keys(each, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield from keys(value[0], f"{path}[]")
    else:
        yield path


def test_the_page_has_every_key_and_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-abcdefghijklm")
    remember("cut", "whisper-1")
    remember("request", "whisper-1")
    told = as_json("--max-cost", "0.01", model="whisper-1")
    documented = re.findall(r"^\| `([\w.\[\]]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(documented) == sorted(keys(told))


def test_json_without_a_dry_run_is_refused(folder: Path) -> None:
    done = CliRunner().invoke(app, ["batch", "in", "--model", "pocketsphinx", "--json"])
    assert done.exit_code == 2
    assert "--dry-run" in done.stderr


def test_costs_follow_from_the_lengths_and_the_prices(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-abcdefghijklm")
    told = as_json("--chunk-size", "60", model="whisper-1")
    # 124.4 s are three requests; the copy costs nothing; each is charged by whole seconds.
    assert told["tasks"] == {"transcribe": 6, "request": 7}
    assert told["cost"][0]["usd"] == pytest.approx(0.006 * 171 / 60, rel=0.03)
    capped = dry("--max-cost", "0.01", model="whisper-1").stdout
    assert re.search(
        r"cost: openai whisper-1: about \$0\.01\d\d \(prices of [\d-]+\), --max-cost 0\.01: WARNING", capped
    )


def remember(kind: str, model: str, *, audio_s: float = 60.0, seconds: float = 6.0, count: int = 1) -> None:
    machine = experience.this_machine()
    experience.remember([Observation(kind, model, machine, audio_s, seconds, 0.0, 1.0, "r") for _ in range(count)])


def test_the_time_follows_from_what_earlier_runs_took(folder: Path) -> None:
    remember("transcribe", "pocketsphinx", count=3)
    remember(START, "", audio_s=0.0, seconds=10.0)
    told = as_json("--workers", "1")
    # 171 s of audio without the copy, a tenth of that, and the start.
    assert told["finish"]["middle_s"] == pytest.approx(27.1, abs=0.5)
    assert told["finish"]["low_s"] < 27.1 < told["finish"]["high_s"]
    assert "time: about 27s (" in dry("--workers", "1").stdout


def test_another_machine_says_nothing_of_this_one(folder: Path) -> None:
    experience.remember([Observation("transcribe", "pocketsphinx", "another", 60.0, 6.0, 0.0, 1.0, "r")])
    assert as_json()["finish"] is None


def test_what_earlier_runs_did_is_not_to_do_and_not_looked_at(folder: Path) -> None:
    out = str(folder / "trax_ray_output")
    spec = BatchSpec(out, model="pocketsphinx")
    plan = make_plan(["in"], spec)
    book = BatchJournal.open(Layout(Path(out)), "a test", 0.0)
    river = next(task for task in plan.tasks if task.data["name"] == "z.ogg")
    book.commit([CoordinatorStarted(book.epoch, spec.to_dict(), 4096, "a"), TasksAdded(plan.tasks)], 1.0)
    book.commit([Started(((river.id, 1),)), AttemptEnded(river.id, book.epoch, 1, Outcome(), 0.0)], 2.0)
    book.close()
    told = as_json()
    assert (told["inputs"]["done_before"], told["inputs"]["to_do"]) == (1, 5)
    assert told["audio"]["seconds"] == pytest.approx(59.3, abs=0.5)
    assert as_json("--chunk-size", "60")["inputs"]["done_before"] == 0, "that is other work"
    assert "done before: 1 recording" in dry().stdout


def test_what_lies_in_an_object_store_counts_by_its_size(folder: Path) -> None:
    plan = make_plan(["in"], BatchSpec(str(folder / "out"), model="pocketsphinx"))
    away = [replace(task, data={**task.data, "file_path": f"s3://bucket/{task.data['name']}"}) for task in plan.tasks]
    look = look_at(replace(plan, tasks=tuple(away)), within_s=60, processes=1)
    assert (look.found, look.broken, look.copies) == ({}, {}, {})


def test_what_was_found_is_kept_for_the_run_and_changes_no_fingerprint(folder: Path) -> None:
    plan = make_plan(["in"], BatchSpec(str(folder / "out"), model="pocketsphinx", preprocess=True))
    seen = with_lengths(plan, look_at(plan, within_s=60, processes=1))
    lengths = {task.data["name"]: task.data.get("audio_s") for task in seen.tasks}
    assert lengths["z.ogg"] == pytest.approx(124.4, abs=0.1)
    assert lengths["bad.wav"] is None
    assert {task.id: task.fingerprint for task in seen.tasks} == {task.id: task.fingerprint for task in plan.tasks}
    first, second = seen.tasks[:2]
    assert (first.kind, second.kind, second.depends_on) == ("preprocess", "transcribe", (first.id,))
