"""The way of an input: from the command line to a task, from a task to an engine, from a manifest to the report."""

from __future__ import annotations

import json
import os
import re
import wave
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from test_report_support import Batch, metrics, worked
from typer.testing import CliRunner

from trax_ray.cli import batch as command
from trax_ray.cli.app import app
from trax_ray.core.progress import BatchProgress
from trax_ray.core.spec import BatchSpec
from trax_ray.core.state.events import TasksAdded, decode_task, encode
from trax_ray.core.task import BatchTask, Outcome, ResourceRequest
from trax_ray.kinds import chunk as chunking
from trax_ray.kinds.assignment import Assignment
from trax_ray.kinds.transcribe import transcribe
from trax_ray.media import vad
from trax_ray.media.speech import Segment, Span
from trax_ray.plan.plan import Plan
from trax_ray.plan.planner import make_plan
from trax_ray.plan.tasks import InputFile, plan_file
from trax_ray.report.result import BatchResult
from trax_ray.report.schemas import TABLES
from trax_ray.report.write import write_report
from trax_ray.testing.factories import make_parts

ENTRY = InputFile(path="/in/talk.mp3", name="talk.mp3", output="talk", size_bytes=1000)


def trax_ray(*arguments: str | Path, stdin: bytes | None = None, dry: bool = True) -> Result:
    own = ["batch", "-f", "txt", "--model", "pocketsphinx", *(["--dry-run"] if dry else []), *map(str, arguments)]
    return CliRunner().invoke(app, own, input=stdin)


def planned(result: Result) -> list[str]:
    """The names in a dry run."""
    assert result.exit_code == 0, result.output
    return [line.strip().partition(" -> ")[0] for line in result.stdout.splitlines() if " -> " in line]


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


# The command line


def test_every_kind_of_input(folder: Path) -> None:
    touch(folder, "a.mp3", "sub/b.mp3", "c.wav", "-d.wav", "e.wav", "f.wav", "g.wav", "h/i/j.wav")
    (folder / "m.csv").write_text("file_name\ne.wav\n")
    (folder / "list").write_text("f.wav\n")
    (folder / "n.jsonl").write_text('{"file_name": "g.wav"}')
    given = ["a.mp3", "sub", "c*", "m.csv", "-", "-a", "list", "--input-list", "n.jsonl", "--", "h/**/*.wav"]
    done = trax_ray(*given, stdin=b"-d.wav\n")
    assert planned(done) == ["a.mp3", "b.mp3", "c.wav", "e.wav", "-d.wav", "i/j.wav", "f.wav", "g.wav"]
    assert planned(trax_ray("--input_list", "list")) == ["f.wav"]
    assert planned(trax_ray("-a", "-", stdin=b"a.mp3\0")) == ["a.mp3"]
    assert planned(trax_ray("--", "-d.wav")) == ["-d.wav"]


@pytest.mark.parametrize(
    ("task", "would_be", "target"),
    [
        ("preprocess", "converted", "audio/a.flac"),
        ("download", "fetched", "media/a.*"),
    ],
)
def test_a_task_on_its_own_needs_no_model(folder: Path, task: str, would_be: str, target: str) -> None:
    touch(folder, "a.wav")
    given = "a.wav" if task == "preprocess" else "https://e.org/a.mp3"
    done = CliRunner().invoke(app, ["batch", given, "--task", task, "--dry-run"])
    assert done.exit_code == 0, done.output
    first, second, *_ = done.stdout.splitlines()
    assert first == f"1 recording would be {would_be}, into {folder / 'trax_ray_output'}"
    assert second.partition(" -> ")[2].partition("; ")[0] == target, second


def test_the_steps_before_a_task_come_by_themselves(tmp_path: Path) -> None:
    plan = make_plan(["https://e.org/a.mp3"], BatchSpec(str(tmp_path), task="preprocess"))
    assert [task.kind for task in plan.tasks] == ["download", "preprocess"]
    assert plan.wanted == plan.tasks[1:]
    assert plan.tasks[1].depends_on == (plan.tasks[0].id,)
    assert not plan.tasks[0].data.get("output"), "the media go when they are converted"


def test_a_dry_run_shows_what_a_manifest_says_and_writes_nothing(folder: Path) -> None:
    touch(folder, "a.wav", "b.wav", "notes.txt")
    (folder / "m.csv").write_text(
        "file_name,priority,language,model,prompt\na.wav,7,,tiny,Ada\nb.wav,2,en\ngone.wav,,EN\n"
    )
    done = trax_ray("m.csv", ".", "--priority", "5", "--language", "en")
    lines = done.stdout.splitlines()
    assert done.exit_code == 0, done.output
    out = folder / "trax_ray_output"
    assert lines[0].startswith(
        f"3 recordings would be transcribed with pocketsphinx, into {out}; "
        "2 other files ignored: 1 .csv, 1 .txt; 1 not there"
    )
    assert [line for line in lines[1:] if line.startswith("  ")] == [
        "  b.wav -> b.txt; priority 2; not_decodable",
        "  gone.wav -> gone.txt; language EN; priority 5",
        "  a.wav -> a.txt; model tiny; prompt Ada; priority 7; not_decodable",
    ]
    assert not out.exists()


def test_it_is_said_how_many_can_be_measured(folder: Path) -> None:
    touch(folder, "a.wav", "b.wav", "sub/c.wav")
    (folder / "refs").mkdir()
    (folder / "refs" / "a.txt").write_text("said")
    (folder / "refs" / "c.txt").write_text("the recording lies in sub, and this should too")
    assert "; 1 of them with a reference transcript; " in trax_ray(".", "--reference", "refs").stdout
    (folder / "refs" / "b.txt").write_text("said")
    assert "reference" not in trax_ray("a.wav", "b.wav", "--reference", "refs").stdout


def test_names_can_not_write_on_the_terminal(folder: Path) -> None:
    name = "new\nline \x1b[31m\r\x9b \u2028\udcff.wav"
    touch(folder, name)
    (folder / "m.jsonl").write_text(json.dumps({"file_name": name, "prompt": "\x1b]0;", "model": "tiny"}))
    done = trax_ray("m.jsonl")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[1].startswith(r"  new\nline \x1b[31m\r\x9b \u2028\xff.wav -> ")
    missing = trax_ray("gone\x1b[31m\n.wav")
    assert missing.exit_code == 2
    among = trax_ray("gone\x1b[31m\n.wav", "m.jsonl")
    lines = [line for line in among.stdout.splitlines() if not line.startswith("at once: ")]  # as the machine has it
    assert [line.partition(":")[0] for line in lines[3:]] == ["not to be read or decoded", "time", "disk"]
    for text in (done.stdout, missing.stderr, among.stdout):
        assert all(character == "\n" or character.isprintable() for character in text), text
    assert missing.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        ([], 2, "nothing to transcribe: "),
        ([""], 2, "an input is empty"),
        (["gone.wav"], 2, "nothing to transcribe: .*gone.wav: no such file"),
        (["gone*.wav"], 2, "nothing to transcribe: .*no such file"),
        (["gone.csv"], 2, "can't read .*gone.csv: No such file or directory"),
        (["empty.csv"], 2, "nothing to transcribe: no recordings in empty.csv"),
        (["-a", "empty.txt"], 2, "nothing to transcribe: no recordings in empty.txt"),
        (["-a", "gone.txt"], 2, "can't read .*gone.txt: No such file or directory"),
        (["missing.csv"], 2, "nothing to transcribe: .*nowhere.wav: no such file"),
        (["."], 2, "nothing to transcribe: no recordings in ."),
        (["model.csv"], 2, "model.csv, line 3: no provider has the model gpx: known are"),
        (["language.csv"], 2, "language.csv, line 2: pocketsphinx only knows en"),
        (["priority.csv"], 2, "priority.csv, line 2: expected a priority from 0"),
        (["any", "--priority", "-1"], 2, r"priority \(--priority\): expected a number from 0 .first. to"),
        (["any", "--priority", "9999999999"], 2, r"priority \(--priority\): expected a number from 0 .first. to"),
        (["ftp://host/a"], 3, "only http and https URLs are fetched"),
        (["s3://bucket/a"], 3, "no credentials for S3: set AWS_ACCESS_KEY_ID"),
        (["s3:///a"], 2, "'s3:///a': expected a bucket and a name"),
        (["any", "-o", "s3://bucket/out"], 3, "no credentials for S3: set AWS_ACCESS_KEY_ID"),
        (["any", "-o", "s3:///out"], 2, "output_dir .--output-dir.: 's3:///out': expected a bucket and a name"),
        (["any", "--reference", "s3://bucket/r"], 2, "reference .--reference.: expected a folder on a disk"),
        (["a", "--task", "download"], 2, "a is a file: task .--task. download fetches URLs"),
        (["--task", "preprocess"], 2, "nothing to preprocess: give an INPUT"),
        (["url.csv"], 3, "url.csv, line 2: only http and https URLs are fetched"),
    ],
)
def test_what_is_refused(folder: Path, given: list[str], code: int, message: str) -> None:
    touch(folder, "empty.d/x")
    for name, text in {
        "empty.csv": "file_name\n",
        "empty.txt": "\n",
        "missing.csv": "file_name\nnowhere.wav\n",
        "model.csv": "file_name,model\na,\nb,gpx\n",
        "language.csv": "file_name,language\na,de\n",
        "priority.csv": "file_name,priority\na,soon\n",
        "url.csv": "url\nftp://e.org/a\n",
        "a": "",
        "b": "",
    }.items():
        (folder / name).write_text(text)
    done = trax_ray(*given)
    assert done.exit_code == code, done.output
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert re.match(f"trax-ray: (.*/)?{message}", line), line


def test_the_batchs_own_model_is_not_a_rows_fault(folder: Path) -> None:
    touch(folder, "a.wav")
    (folder / "m.csv").write_text("file_name,speaker\na.wav,Ada\n")
    done = trax_ray("m.csv", "--language", "de")
    assert done.exit_code == 2
    assert done.stderr.startswith("trax-ray: pocketsphinx only knows en")


class Captured:
    """Stands where the processor does."""

    def __init__(self, spec: BatchSpec, **_: Any) -> None:
        self.tasks: list[BatchTask] = []
        self.requests: set[ResourceRequest] = set()
        Captured.last = self

    last: Captured

    def take(self, plan: Plan) -> None:
        self.tasks, self.requests = list(plan.tasks), set(plan.requests)

    async def start(self, progress_callback: Any) -> BatchResult:
        progress_callback(BatchProgress())
        return BatchResult()

    def stop(self) -> None:
        pass


def test_a_rows_model_decides_on_provider_and_resources(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "BatchProcessor", Captured)
    names = [f"{number:03}.wav" for number in range(260)]
    touch(folder, *names)
    rows = [f"{name},{('tiny', '', 'large-v3')[number % 3]},{number % 2}" for number, name in enumerate(names)]
    (folder / "m.csv").write_text("file_name,model,priority\n" + "\n".join(rows))
    done = trax_ray("m.csv", "-q", "-o", folder / "out", dry=False)
    assert done.exit_code == 0, done.output
    tasks = Captured.last.tasks
    assert {(task.data.get("model"), task.provider) for task in tasks} == {
        ("tiny", "faster-whisper"),
        (None, "pocketsphinx"),
        ("large-v3", "faster-whisper"),
    }
    memory = {task.data.get("model"): task.resources.memory_mb for task in tasks}
    assert memory["large-v3"] > memory["tiny"]
    assert {request.memory_mb for request in Captured.last.requests} == set(memory.values())
    order = [(task.priority, task.data.get("model")) for task in tasks]
    assert order == sorted(order, key=lambda pair: (pair[0], ["tiny", None, "large-v3"].index(pair[1])))
    same = [task.data["name"] for task in tasks if (task.priority, task.data.get("model")) == (0, "tiny")]
    assert same == sorted(same), "what is equal stays in its order"


# Planning


SPEC = BatchSpec("/out", model="pocketsphinx", language="en", initial_prompt="Names: Bo.")


def plan(entry: InputFile, spec: BatchSpec = SPEC) -> BatchTask:
    return plan_file(entry, spec, "any", ResourceRequest())


def test_a_task_carries_what_holds_for_its_recording() -> None:
    own = replace(ENTRY, model="tiny", prompt="Ada.", language="de", extra={"speaker": "Ada", "take": 7})
    data = plan(own).data
    assert (data["model"], data["prompt"], data["language"]) == ("tiny", "Ada.", "de")
    assert data["extra"] == {"speaker": "Ada", "take": 7}
    assert decode_task(json.loads(json.dumps(encode(plan(own))))) == plan(own)
    assert not {"model", "prompt", "extra"} & set(plan(ENTRY).data)


def test_fingerprints_follow_what_the_result_follows() -> None:
    assert plan(replace(ENTRY, extra={"a": 1}, priority=3)).fingerprint == plan(ENTRY).fingerprint
    assert plan(replace(ENTRY, model="pocketsphinx")).fingerprint == plan(ENTRY).fingerprint, "the batch's own"
    assert plan(replace(ENTRY, prompt="Names: Bo.")).fingerprint == plan(ENTRY).fingerprint
    changed = [{"model": "tiny"}, {"prompt": "Ada."}, {"language": "de"}, {"reference": "/r.txt"}]
    assert len({plan(replace(ENTRY, **fields)).fingerprint for fields in [{}, *changed]}) == 5
    assert len({plan(replace(ENTRY, **fields)).id for fields in changed}) == 1
    other = replace(SPEC, model="base", initial_prompt=None)
    own = replace(ENTRY, model="tiny", prompt="Ada.")
    assert plan(own, other).fingerprint == plan(own).fingerprint, "what the batch says doesn't matter then"


def test_chunks_take_what_they_need() -> None:
    own = replace(ENTRY, model="tiny", prompt="Ada.", language="de", extra={"speaker": "Ada"}, reference="/r.txt")
    (chunk,) = make_parts(plan(own), [(0.0, 10.0)])
    assert (chunk.data["model"], chunk.data["prompt"], chunk.data["language"]) == ("tiny", "Ada.", "de")
    assert not {"extra", "reference"} & set(chunk.data)


# Transcribing


class Echo:
    """An engine that says what it was asked for."""

    name = "echo"
    language: str | None = None

    def __init__(self, model: str) -> None:
        self.model = model

    def transcribe(self, audio: Any, speech: Any, options: Any) -> Iterator[Segment]:
        self.language = options.language
        yield Segment(0.0, 0.5, f"{self.model} {options.language} {options.initial_prompt}")


def test_an_attempt_obeys_its_row(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking, "_engine", lambda model, resources: Echo(model))
    monkeypatch.setattr(vad, "speech_spans", lambda audio, **named: [Span(0.0, 0.5)])
    _write_wav(folder / "a.wav")
    spec = BatchSpec(str(tmp_path / "out"), model="base", language="en", initial_prompt="Bo.", formats=("txt",))
    entry = replace(ENTRY, path=str(folder / "a.wav"))
    wanted = {
        "base en Bo.": entry,
        "tiny en Bo.": replace(entry, model="tiny"),
        "base de Bo.": replace(entry, language="de"),
        "base en Ada.": replace(entry, prompt="Ada."),
    }
    keys = {}
    for text, each in wanted.items():
        outcome = list(transcribe(Assignment(spec, plan(each, spec))))[-1]
        assert isinstance(outcome, Outcome)
        assert (tmp_path / "out" / "talk.txt").read_text().strip() == text
        keys[outcome.artifact_key] = text
        assert outcome.metrics["cached"] is False
    assert len(keys) == 4
    again = list(transcribe(Assignment(replace(spec, model="tiny"), plan(entry, spec))))[-1]
    assert isinstance(again, Outcome)
    assert keys[again.artifact_key] == "tiny en Bo.", "the same work has the same key, wherever it was asked for"


def _write_wav(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((np.sin(np.arange(16000) / 8) * 9000).astype("<i2").tobytes())


# What passes through


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Batch]:
    batch = Batch(tmp_path / "out")
    batch.open(0)
    yield batch
    batch.close()


def test_other_columns_pass_through_to_the_report(journal: Batch) -> None:
    tasks = (
        journal.task("a.wav", extra={"speaker": "Ada", "take": 7, "ok": True, "x": 0.5, "text": "mine"}),
        journal.task("b.wav", extra={"take": "seven", "room": "2"}),
        journal.task("c.wav"),
    )
    journal.add(TasksAdded(tasks), 1)
    journal.start(2, *tasks)
    for task in tasks:
        journal.end(3, task, worked(metrics("a"), journal.transcript(task.data["name"], "said")))
    for final in (False, True):
        write_report(journal.layout.output_dir, final=final)
        table = pq.read_table(journal.layout.table("files"))
        own = table.schema.names[len(TABLES["files"]) :]
        assert own == ["speaker", "take", "ok", "x", "input_text", "room"]
        assert {str(table.schema.field(name).type) for name in own} == {"string"}
        rows = table.to_pylist()
        assert [row["text"] for row in rows] == ["said"] * 3, "ours stays ours"
        assert [[row[name] for name in own] for row in rows] == [
            ["Ada", "7", "true", "0.5", "mine", None],
            [None, "seven", None, None, None, "2"],
            [None] * 6,
        ]


def test_colliding_columns_stay_apart(journal: Batch) -> None:
    task = journal.task("a.wav", extra={"text": "1", "Text": "2", "input_text": "3", "odd\udcff": "\udce9"})
    journal.add(TasksAdded((task,)), 1)
    write_report(journal.layout.output_dir, final=True)
    table = pq.read_table(journal.layout.table("files"))
    own = table.schema.names[len(TABLES["files"]) :]
    assert own == ["input_text", "input_input_Text", "input_input_input_text", "odd\\xff"]
    assert [table.column(name)[0].as_py() for name in own] == ["1", "2", "3", r"\xe9"]
    assert len({name.casefold() for name in table.schema.names}) == len(table.schema.names)


def test_paths_are_told_as_bytes(folder: Path, journal: Batch) -> None:
    entry = replace(ENTRY, path="/in/new\nline \udce9.wav", name="new\nline \udce9.wav")
    journal.add(TasksAdded((plan(entry),)), 1)
    write_report(journal.layout.output_dir, final=True)
    (row,) = pq.read_table(journal.layout.table("files")).to_pylist()
    assert row["path_bytes"] == b"/in/new\nline \xe9.wav" == os.fsencode(entry.path)
