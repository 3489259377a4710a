"""What `trax-ray batch` plans, says and keeps before anything runs: chains, room on the disk, its own command."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import time
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from trax_ray.cli import batch as command
from trax_ray.cli import notices, recorded
from trax_ray.cli.app import app
from trax_ray.core.progress import BatchProgress, Phase
from trax_ray.core.spec import BatchSpec, Limits, RetryPolicy
from trax_ray.core.state.events import CoordinatorStarted, TasksAdded, encode_event
from trax_ray.core.task import BatchTask, TaskType
from trax_ray.errors import BusyError, SetupError
from trax_ray.plan.plan import Plan
from trax_ray.report.result import BatchResult
from trax_ray.store.epochs import open_journal
from trax_ray.store.layout import Layout
from trax_ray.store.lease import Lease
from trax_ray.testing.factories import make_task

Usage = namedtuple("Usage", "total used free")


class Given:
    """What was fed to processors, which run nothing."""

    def __init__(self) -> None:
        self.specs: list[BatchSpec] = []
        self.tasks: list[BatchTask] = []
        self.folders: list[str] = []
        self.options: dict[str, Any] = {}
        self.result = BatchResult()

    @property
    def names(self) -> list[str]:
        return [str(task.data["name"]) for task in self.tasks]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Given:
    """Batches get as far as their processor; what it is given stands here."""
    seen = Given()

    class Processor:
        on_held: Callable[[], None]

        def __init__(self, spec: BatchSpec, **options: Any) -> None:
            seen.specs.append(spec)
            seen.options = options

        def take(self, plan: Plan) -> None:
            seen.tasks = list(plan.tasks)

        async def start(self, **_: Any) -> BatchResult:
            self.on_held()
            seen.folders.append(os.getcwd())
            return seen.result

    monkeypatch.setattr(command, "BatchProcessor", Processor)
    monkeypatch.setattr(command.summary, "show_result", lambda *_: None)
    return seen


def touch(root: Path, *names: str, size: int = 1) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))


def trax_ray(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    own = ["batch", *map(str, arguments), "--model", "pocketsphinx"]
    return CliRunner().invoke(app, own, input=stdin)


def fine(result: Result) -> Result:
    assert result.exit_code == 0, result.output
    return result


# Chains


def test_with_preprocess_a_recording_is_converted_then_transcribed(given: Given, folder: Path) -> None:
    touch(folder, "a.mp3", "sub/b.mp3")
    fine(trax_ray(".", "--preprocess", "-o", "out"))
    assert [(task.task_type.value, task.data["name"]) for task in given.tasks] == [
        ("preprocess", "a.mp3"),
        ("transcribe", "a.mp3"),
        ("preprocess", "sub/b.mp3"),
        ("transcribe", "sub/b.mp3"),
    ]
    first, second, *_ = given.tasks
    assert second.depends_on == (first.id,)
    assert "output" not in first.data, "the audio is private"
    assert given.specs[0].preprocess
    assert not given.specs[0].keep_audio


def test_steps_of_one_recording_follow_each_other_in_the_order_of_priorities(given: Given, folder: Path) -> None:
    touch(folder, "a.wav", "b.wav")
    (folder / "m.csv").write_text("file_name,priority\na.wav,7\nb.wav,2\n")
    fine(trax_ray("m.csv", "--preprocess"))
    assert given.names == ["b.wav", "b.wav", "a.wav", "a.wav"]


def test_kept_audio_mirrors_the_input_tree(given: Given, folder: Path) -> None:
    touch(folder, "t.mp3", "t.wav", "2026/t.mp3", "audio/t.mp3")
    fine(trax_ray(".", "--preprocess", "--keep-audio"))
    audio = {task.data["name"]: task.data["output"] for task in given.tasks if task.kind == "preprocess"}
    assert audio == {
        "t.mp3": "audio/t.mp3",
        "t.wav": "audio/t.wav",
        "2026/t.mp3": "audio/2026/t",
        "audio/t.mp3": "audio/audio/t",
    }
    assert given.specs[0].keep_audio


@pytest.mark.parametrize("written_now", [True, False])
def test_kept_audio_overwrites_none_that_was_asked_for_from_python_and_keeps_its_name(
    given: Given, folder: Path, written_now: bool
) -> None:
    touch(folder, "talk.mp3", "other.mp3")
    asked = make_task("preprocess-1", TaskType.PREPROCESS, output="audio/talk", name="talk.wav")

    def journalled(*tasks: BatchTask) -> None:
        journal = open_journal(Layout(folder / "trax_ray_output").journal, "a test", 0.0)
        journal.append([encode_event(CoordinatorStarted(journal.epoch, BatchSpec("/out").to_dict()), 1.0)])
        journal.append([encode_event(TasksAdded(tasks), 2.0)])
        journal.close()

    journalled(asked)
    fine(trax_ray("talk.mp3", "--preprocess", "--keep-audio"))
    first, second = given.tasks
    assert (first.data["output"], second.data["output"]) == ("audio/talk.flac", "talk")
    # As version 0.1 wrote it: both steps had the file's path.
    data = {name: value for name, value in first.data.items() if name != "output"} | {"audio": "audio/talk.flac.flac"}
    journalled(*((first, second) if written_now else (replace(first, data=data), second)))
    fine(trax_ray("talk.mp3", "other.mp3", "--preprocess", "--keep-audio"))
    kept = [task.data["output"] for task in given.tasks if task.kind == "preprocess"]
    assert kept == ["audio/talk.flac", "audio/other"]


# Hours


def test_times_reach_the_spec(given: Given, folder: Path) -> None:
    touch(folder, "a.mp3")
    before = time.time()
    options = ["--start-at", "2031-11-21 22:00", "--only-between", "22:00-06:00", "--task-timeout", "90"]
    fine(trax_ray("a.mp3", *options))
    (spec,) = given.specs
    assert spec.start_at == datetime(2031, 11, 21, 22).timestamp()
    assert (spec.only_between, spec.task_timeout_s) == ("22:00-06:00", 90.0)
    fine(trax_ray("a.mp3", "--start-at", "22:00"))
    assert before <= given.specs[1].start_at <= before + timedelta(hours=26).total_seconds()
    fine(trax_ray("a.mp3"))
    assert (given.specs[2].start_at, given.specs[2].only_between, given.specs[2].task_timeout_s) == (0.0, "", None)


# Room on the disk


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def set_free(count: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**13, 0, count))

    return set_free


def test_the_room_that_is_needed_is_said_before_the_start(
    given: Given, folder: Path, free: Callable[[int], None]
) -> None:
    touch(folder, "a.wav", size=320_000)
    free(3_400_000_000)
    done = fine(trax_ray("a.wav"))
    assert "disk: about 104 kB needed, 3.4 GB free\n" in done.stderr
    assert "WARNING" not in done.stderr
    dry = fine(trax_ray("a.wav", "--dry-run"))
    assert "disk: about 104 kB needed, 3.4 GB free\n" in dry.stdout
    assert "disk" not in fine(trax_ray("a.wav", "--quiet")).stderr


def test_too_little_room_is_a_warning_and_the_batch_starts(
    given: Given, folder: Path, free: Callable[[int], None]
) -> None:
    touch(folder, "a.wav", size=320_000)
    free(50_000)
    done = fine(trax_ray("a.wav"))
    assert "50 kB free: WARNING: that isn't enough: make room" in done.stderr
    assert given.names == ["a.wav"]


def test_what_has_its_transcripts_needs_no_room_and_converted_audio_does(
    given: Given, folder: Path, free: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(folder, "a.wav", "b.wav", size=3_200_000)
    touch(folder / "trax_ray_output", "a.txt")
    free(10**10)

    def needed(*options: str) -> str:
        lines = fine(trax_ray(".", "-f", "txt", "--dry-run", *options)).stdout.splitlines()
        return next(line for line in lines if line.startswith("disk"))

    assert needed() == "disk: about 92 kB needed, 10 GB free"
    assert needed("-o", "elsewhere") == "disk: about 118 kB needed, 10 GB free"
    assert needed("--preprocess") == "disk: about 1.8 MB needed, 10 GB free"
    assert needed("-o", "elsewhere", "--preprocess") == "disk: about 3.6 MB needed, 10 GB free"
    monkeypatch.setattr(shutil, "disk_usage", refuse)
    assert needed() == "disk: about 92 kB needed"


def refuse(_: object) -> None:
    raise PermissionError(13, "Permission denied")


# The recorded command


def kept(folder: Path, name: str = "trax_ray_output") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / name / ".trax" / "command.json").read_text("ascii"))
    return content


def test_a_command_is_kept_before_it_starts_and_nobody_else_may_read_it(given: Given, folder: Path) -> None:
    touch(folder, "a.mp3")
    fine(trax_ray("a.mp3", "--dry-run"))
    assert not (folder / "trax_ray_output").exists()
    fine(trax_ray("a.mp3", "--language", "en", "--quiet"))
    content = kept(folder)
    assert (content["working_folder"], content["stdin"]) == (str(folder), None)
    assert (content["options"]["inputs"], content["options"]["language"]) == (["a.mp3"], "en")
    path = folder / "trax_ray_output" / ".trax" / "command.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert not list(path.parent.glob(".tmp-*"))


def test_a_batch_is_continued_from_anywhere_and_wherever_its_output_has_gone(
    given: Given, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(folder, "a.mp3", "sub/b.mp3")
    fine(trax_ray("a.mp3", "sub", "--preprocess", "--priority", "3", "-f", "txt", "--max-retries", "1"))
    first, spec = given.tasks, given.specs[0]
    moved = tmp_path / "moved"
    shutil.move(folder / "trax_ray_output", moved)
    monkeypatch.chdir(tmp_path)
    assert command.continue_batch("moved") == 0
    assert given.tasks == first
    assert given.specs[1].to_dict() == spec.to_dict() | {"output_dir": str(moved), "name": "moved"}
    assert given.folders == [str(folder), str(folder)]
    assert os.getcwd() == str(tmp_path)
    assert not (folder / "trax_ray_output").exists()


def test_the_exit_code_is_the_batchs(given: Given, folder: Path) -> None:
    touch(folder, "a.mp3")
    fine(trax_ray("a.mp3"))
    given.result = BatchResult(reason="stopped")
    assert command.continue_batch("trax_ray_output") == 130


def test_standard_input_is_kept_and_given_again(given: Given, folder: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp3")
    touch(folder, "a.mp3", name)
    fine(trax_ray("-", "-a", "-", stdin=b"a.mp3\0caf\xe9.mp3\0"))
    assert given.names == ["a.mp3", name]
    given.tasks = []
    assert command.continue_batch("trax_ray_output") == 0
    assert given.names == ["a.mp3", name]
    assert command.continue_batch("trax_ray_output") == 0, "continued once more"


def test_a_list_from_a_pipe_is_kept_like_standard_input(given: Given, folder: Path) -> None:
    touch(folder, "a.mp3", "b.mp3")
    reader, writer = os.pipe()
    os.write(writer, b"b.mp3\n")
    os.close(writer)
    try:
        given.result = BatchResult(reason="stopped")
        done = trax_ray("a.mp3", "-a", f"/dev/fd/{reader}", "-o", folder / "out")
    finally:
        os.close(reader)
    assert given.names == ["a.mp3", "b.mp3"]
    assert f"this continues: trax-ray resume {folder}/out" in done.stderr
    given.tasks = []
    command.continue_batch("out")
    assert given.names == ["a.mp3", "b.mp3"]


def test_names_that_are_not_utf_8_survive(given: Given, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = folder / os.fsdecode(b"caf\xe9")
    odd.mkdir()
    touch(odd, os.fsdecode(b"\xff.mp3"))
    monkeypatch.chdir(odd)
    fine(trax_ray(os.fsdecode(b"\xff.mp3"), "-o", os.fsdecode(b"out\xfe")))
    first = given.tasks
    monkeypatch.chdir(folder)
    assert command.continue_batch(os.path.join(odd, os.fsdecode(b"out\xfe"))) == 0
    assert given.tasks == first
    assert given.folders == [str(odd), str(odd)]


def test_a_start_time_of_day_stays_the_one_that_was_meant(given: Given, folder: Path) -> None:
    touch(folder, "a.mp3")
    fine(trax_ray("a.mp3", "--start-at", "22:00"))
    content = kept(folder)
    assert datetime.fromisoformat(content["options"]["start_at"]).timestamp() == given.specs[0].start_at
    assert command.continue_batch("trax_ray_output") == 0
    assert given.specs[1].start_at == given.specs[0].start_at


def test_what_cannot_be_continued_says_the_way_out(given: Given, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"no command is recorded in .*nothing: give the `trax-ray batch` command"):
        command.continue_batch("nothing")
    layout = Layout(folder / "out")
    layout.private.mkdir(parents=True)
    path = layout.private / "command.json"
    whole = {"version": 1, "working_folder": str(folder), "stdin": None, "options": {}}
    for content in ("", "[]", '{"version": 2}', json.dumps(whole | {"stdin": "?"}), json.dumps(whole)):
        path.write_text(content)
        with pytest.raises(SetupError, match="give the `trax-ray batch` command again"):
            command.continue_batch("out")


def test_a_working_folder_that_is_gone_matters_only_to_relative_names(
    given: Given, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "kept/a.mp3")
    touch(folder, "b.mp3")
    out = tmp_path / "out"
    fine(trax_ray(tmp_path / "kept", "-o", out))
    monkeypatch.chdir(tmp_path)
    folder.rename(tmp_path / "renamed")
    assert command.continue_batch(str(out)) == 0
    assert given.names == ["a.mp3"]
    monkeypatch.chdir(tmp_path / "renamed")
    fine(trax_ray("b.mp3", "-o", out))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "renamed").rename(folder)
    with pytest.raises(SetupError, match=r"was started in .*renamed, and that can't be entered: No such file"):
        command.continue_batch(str(out))
    assert os.getcwd() == str(tmp_path)


def test_a_later_versions_options_are_left_out_and_an_earlier_ones_gaps_are_filled(given: Given, folder: Path) -> None:
    touch(folder, "a.mp3")
    fine(trax_ray("a.mp3"))
    command_file = recorded.read(Layout(folder / "trax_ray_output"))
    options = {**command_file.options, "flux": 1}
    del options["keep_audio"], options["start_at"]
    recorded.record(Layout(folder / "trax_ray_output"), recorded.Recorded(options, str(folder)))
    assert command.continue_batch("trax_ray_output") == 0


def test_a_command_that_version_0_1_recorded_is_continued(
    given: Given, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(folder, "a.mp3", "b.mp3", "r/a.txt")
    layout = Layout(folder / "out")
    layout.private.mkdir(parents=True)
    (layout.private / "command.json").write_text(RECORDED_BY_0_1.replace("/IN", str(folder)), "ascii")
    monkeypatch.chdir("/")
    assert command.continue_batch(str(folder / "out")) == 0
    assert given.names == ["a.mp3", "a.mp3", "b.mp3", "b.mp3"]
    assert given.tasks[1].data["reference"] == str(folder / "r" / "a.txt")
    assert given.tasks[0].priority == 4
    (spec,) = given.specs
    assert spec == BatchSpec(
        str(folder / "out"),
        model="whisper-1",
        base_url="http://127.0.0.1:28571/v1",
        language="en",
        chunk_size_s=20,
        formats=("txt", "srt", "json"),
        initial_prompt="Names: Ada.",
        word_timestamps=True,
        progress_interval_s=2.5,
        limits=Limits(max_workers=3, memory_limit_mb=1024, cpu_limit_percent=50),
        retry=RetryPolicy(max_retries=1),
        task_timeout_s=90.0,
        start_at=1953064800.0,
        preprocess=True,
        max_cost_usd=0.006,
        vad="high",
        reference_dir=str(folder / "r"),
        priority=4,
    )
    assert given.options == {"address": "127.0.0.1:6379", "lean": True}
    assert set(json.loads(RECORDED_BY_0_1)["options"]) <= set(kept(folder, "out")["options"]), "0.1 could go on, too"


RECORDED_BY_0_1 = """
{"version": 1, "working_folder": "/IN", "stdin": "YS5tcDMKYi5tcDMK", "options": {
 "inputs": ["a.mp3"], "lists": ["-"], "workers": 3, "progress_interval": 2.5, "memory_limit": 1024, "cpu_limit": 50,
 "model": "whisper-1", "base_url": "http://127.0.0.1:28571/v1", "language": "en", "chunk_size": 20,
 "output_dir": "elsewhere", "formats": ["txt,srt", "json"], "reference": "r", "max_retries": 1, "priority": 4,
 "initial_prompt": "Names: Ada.", "word_timestamps": true, "enhance": false, "address": "127.0.0.1:6379",
 "lean": true, "dry_run": false, "quiet": true, "task_timeout": 90.0, "start_at": "2031-11-21T22:00:00+00:00",
 "only_between": "", "preprocess": true, "keep_audio": false, "max_cost": 0.006, "vad": "high"}}
"""


def test_a_folder_where_another_batch_is_at_work_keeps_that_ones_command(given: Given, folder: Path) -> None:
    touch(folder, "a.mp3", "b.mp3")
    fine(trax_ray("a.mp3"))
    lease = Lease(Layout(folder / "trax_ray_output").lock)
    lease.acquire("another batch")
    try:
        done = trax_ray("b.mp3")
        with pytest.raises(BusyError):
            command.continue_batch("trax_ray_output")
    finally:
        lease.release()
    assert done.exit_code == 3
    assert "another batch" in done.stderr
    assert kept(folder)["options"]["inputs"] == ["a.mp3"]


def test_a_file_system_without_locks_is_no_obstacle_yet(
    given: Given, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    touch(folder, "a.mp3")
    monkeypatch.setattr("fcntl.flock", no_locks)
    fine(trax_ray("a.mp3"))
    assert given.names == ["a.mp3"]


@pytest.mark.parametrize(
    ("arguments", "stands_alone"),
    [
        (["/IN/a.mp3", "-o", "/IN/out"], True),
        (["/IN", "-o", "/IN/out", "--reference", "/IN/r", "--start-at", "2020-11-21 22:00", "-a", "/IN/list"], True),
        (["a.mp3", "-o", "/IN/out"], False),
        (["/IN/a.mp3", "-o", "out"], False),
        (["/IN/a.mp3", "-o", "/IN/out", "--reference", "r"], False),
        (["/IN/a.mp3", "-o", "/IN/out", "-a", "list"], False),
        (["-", "-o", "/IN/out"], False),
        (["/IN/a.mp3", "-o", "/IN/out", "--start-at", "22:00"], False),
    ],
)
def test_the_command_that_continues_does_so_from_anywhere(
    given: Given, folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], stands_alone: bool
) -> None:
    touch(folder, "a.mp3", "r/a.txt")
    (folder / "list").write_text("a.mp3\n")
    arguments = [argument.replace("/IN", str(folder)) for argument in arguments]
    given.result = BatchResult(reason="stopped")
    monkeypatch.setattr("sys.argv", ["trax-ray", "batch", *arguments])
    done = trax_ray(*arguments, stdin=b"a.mp3\n")
    assert done.exit_code == 130, done.output
    (line,) = [line for line in done.stderr.splitlines() if "this continues" in line]
    said = shlex.split(line.partition("this continues: ")[2])
    assert said == ["trax-ray", *(["batch", *arguments] if stands_alone else ["resume", str(folder / "out")])]
    command.continue_batch(str(folder / "out"))


class TestModelsThatEnd:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (
                ("--model", "whisper-1"),
                ["WARNING: whisper-1 is announced to end on 2027-02-26: --model gpt-transcribe comes after it"],
            ),
            (("--model", "gpt-transcribe"), []),
            (("--model", "pocketsphinx"), []),
            (("--model", "whisper-1", "--base-url", "http://127.0.0.1:1/v1"), []),
            (("--model", "whisper-1", "--quiet"), []),
        ],
    )
    def test_an_announced_end_is_told_in_one_line(
        self, given: Given, folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: list[str]
    ) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
        touch(folder, "a.wav", "b.wav")
        done = CliRunner().invoke(app, ["batch", ".", "-o", "out", *arguments])
        assert done.exit_code == 0, done.output
        assert [line for line in done.stderr.splitlines() if "announced to end" in line] == said
        if "--quiet" not in arguments:
            dry = CliRunner().invoke(app, ["batch", ".", "-o", "out", *arguments, "--dry-run"])
            assert [line for line in dry.stdout.splitlines() if "announced to end" in line] == said


def test_the_first_line_says_that_the_model_nobody_named_is_english_only(
    given: Given, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trax_ray.providers.choice.choose_model", lambda language: "tiny.en")
    touch(folder, "a.wav")
    for more, first in (
        ((), "model: tiny.en (English only; "),
        (("--model", "tiny.en"), "1 recording, model tiny.en"),
    ):
        done = CliRunner().invoke(app, ["batch", "a.wav", "-o", "out", *more])
        assert done.exit_code == 0, done.output
        assert done.stderr.startswith(first)
    assert CliRunner().invoke(app, ["batch", "a.wav", "-o", "out", "--quiet"]).stderr == ""


class TestWhyNothingStarts:
    def test_what_a_service_says_counts_where_nothing_runs(self) -> None:
        waits = BatchProgress(queued_tasks=3, services={"openai": "waits 50 s", "deepseek": "waits 9 s"})
        assert notices._why_nothing_starts(waits, "out") == "openai: waits 50 s; deepseek: waits 9 s"
        assert notices._why_nothing_starts(replace(waits, active_workers=1), "out") == ""
        assert notices._why_nothing_starts(replace(waits, queued_tasks=0), "out") == ""

    def test_it_is_said_once_whatever_is_left_of_the_wait(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        class Processor:
            def __init__(self, *_: Any, **__: Any) -> None:
                pass

            def take(self, plan: Plan) -> None:
                pass

            async def start(self, progress_callback: Callable[[BatchProgress], None]) -> BatchResult:
                for reason in ("waits 50 s", "waits 9 s", "", "waits 8 s"):
                    progress_callback(BatchProgress(queued_tasks=1, services={"openai": reason} if reason else {}))
                return BatchResult()

        monkeypatch.setattr(command, "BatchProcessor", Processor)
        monkeypatch.setattr(command.summary, "show_result", lambda *_: None)
        touch(folder, "a.mp3")
        said = fine(trax_ray("a.mp3")).stderr
        assert [line for line in said.splitlines() if "waits" in line] == ["openai: waits 50 s", "openai: waits 8 s"]


def test_of_two_batches_that_race_for_a_folder_the_losers_command_is_not_what_resume_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(folder, "a.mp3")
    layout = Layout(folder / "trax_ray_output")
    layout.private.mkdir(parents=True)
    for lock, name in ((layout.starting, "which is starting"), (layout.lock, "that runs")):
        winner = Lease(lock)
        # The loser has seen that nobody is there, and the winner comes before it has begun.
        monkeypatch.setattr(
            command.outlook, "announce", lambda *_, winner=winner, name=name, **__: winner.acquire(name)
        )
        done = trax_ray("a.mp3")
        assert done.exit_code == 3
        assert name in done.stderr
        with pytest.raises(SetupError, match="no command is recorded"):
            recorded.read(layout)
        winner.release()


def test_who_stops_a_batch_is_told_the_whole_command_that_continues(
    given: Given, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(folder, "a.mp3")
    given.result = BatchResult(reason="stopped", cancelled_count=1, total_count=1)
    own = ["batch", str(folder / "a.mp3"), "--model", "pocketsphinx", "-o", str(folder / "out")]
    own += ["--address", "127.0.0.1:6379"]
    monkeypatch.setattr("sys.argv", ["trax-ray", *own])
    done = CliRunner().invoke(app, own)
    assert done.exit_code == 130
    (continues,) = [line for line in done.stderr.splitlines() if "this continues: " in line]
    assert shlex.split(continues.partition("this continues: ")[2]) == ["trax-ray", *own]


class TestNotices:
    def test_which_limit_holds_is_said_once_and_why_nothing_starts_whenever_it_changes(self) -> None:
        told = notices.Notices("out")
        memory = "--memory-limit 2048 has room for 3 of 512 MB each; --memory-limit 4096 lets 7 run"
        running = BatchProgress(phase=Phase.RUNNING, slots=3, limits_reason=memory)
        assert told.of(running) == [f"at most 3 at once: {memory}"]
        assert told.of(running) == []
        assert notices.Notices("out", memory).of(running) == [], "it was said before the start"
        others = replace(running, slots=1, limits_reason="other programs take 50 % of node 1b96b549")
        assert told.of(others) == ["at most 1 at once: other programs take 50 % of node 1b96b549"]
        assert (
            told.of(running)
            == told.of(replace(others, limits_reason="other programs take 70 % of node 1b96b549"))
            == []
        )
        assert told.of(replace(running, phase=Phase.PAUSED)) == ["paused: trax-ray resume out goes on"]
        assert told.of(replace(running, phase=Phase.PAUSED)) == told.of(running) == []
        assert told.of(replace(running, phase=Phase.PAUSED)) == ["paused: trax-ray resume out goes on"]

    def test_that_a_batch_gives_way_is_said_each_time(self) -> None:
        told = notices.Notices("out")
        why = "gives way to the batch talks (--batch-priority 0)"
        running = BatchProgress(phase=Phase.RUNNING, slots=8)
        waits = replace(running, slots=0, limits_reason=why)
        for _ in range(2):
            assert told.of(waits) == [f"the batch {why}: nothing that takes a core starts"]
            assert told.of(waits) == []
            assert told.of(running) == []
        assert told.of(replace(waits, slots=2)) == [f"at most 2 at once: {why}"]


def test_a_batch_that_is_parked_as_a_whole_is_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    parked = {"*": "/mnt/talks isn't there any more", "openai": "the key is refused"}
    command.say_the_way_out(BatchResult(parked=parked, reason="parked"), "trax-ray batch x")
    assert capsys.readouterr().err.splitlines() == [
        "trax-ray: the batch is parked: /mnt/talks isn't there any more",
        "trax-ray: openai is parked: the key is refused",
        "trax-ray: this continues: trax-ray batch x",
    ]
