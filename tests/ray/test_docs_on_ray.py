"""README, docs and the founding document's samples, run on Ray."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from typer.testing import CliRunner

from trax_ray.cli.app import app
from trax_ray.cli.doctor import models
from trax_ray.cluster.connect import Connection
from trax_ray.providers import choice
from trax_ray.report.fold import read_history

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def here(tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the samples in it; a batch without a model takes pocketsphinx."""
    (tmp_path / "samples").symlink_to(samples)
    monkeypatch.chdir(tmp_path)
    for module in (choice, models):
        monkeypatch.setattr(module, "choose_model", lambda language=None: "pocketsphinx")
    return tmp_path


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def trax_ray(*arguments: str) -> tuple[int, str]:
    """The command line in this process, which is connected to Ray already."""
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.output


@pytest.mark.usefixtures("head")
def test_the_readmes_program_and_query(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = blocks("README.md", "python")
    exec(compile(program, "README.md", "exec"), {"__name__": "__main__"})
    said = capsys.readouterr().out
    assert re.search(r"^2 of 2 in \d+\.\d s$", said, re.MULTILINE), said
    assert "Progress: 2/2 (100.0% success)" in said
    assert (here / "out" / "first_test.txt").read_text().strip()
    (query,) = blocks("README.md", "sql")
    assert duckdb.sql(query).fetchall() == []
    assert duckdb.sql(query.replace("failed", "succeeded")).fetchall()[0][0] == "first_test.wav"


CONSTRUCTORS = """
from trax_ray import BatchProgress, BatchResult, BatchTask, TaskType, create_batch_processor

processor = create_batch_processor(
    max_workers=8, queue_size=1000, progress_interval=5.0, memory_limit_mb=2048, cpu_limit_percent=90
)
task = BatchTask(
    id="task_1_transcribe",
    task_type=TaskType.TRANSCRIBE,
    data={"file_path": "/path/to/audio.mp3"},
    priority=0,
    max_retries=3,
)
progress = BatchProgress(total_tasks=100)
print(f"Success Rate: {progress.success_rate:.1f}%")
print(f"Memory Usage: {progress.memory_usage_mb:.1f}MB")
print(f"CPU Usage: {progress.cpu_usage_percent:.1f}%")
result = BatchResult(
    success_count=95,
    failure_count=5,
    total_count=100,
    processing_time=120.5,
    memory_peak_mb=512.0,
    cpu_peak_percent=75.0,
    quality_metrics={"avg_accuracy": 95.5},
)
"""

PROGRAM = """
import asyncio
from trax_ray import create_batch_processor, TaskType

async def process_files():
    global result
    processor = create_batch_processor(max_workers=4)
    for file_path in audio_files:
        await processor.add_task(TaskType.TRANSCRIBE, {"file_path": str(file_path)}, priority=0)

    def progress_callback(progress):
        print(f"Progress: {progress.completed_tasks}/{progress.total_tasks}")
        print(f"Memory: {progress.memory_usage_mb:.1f}MB")

    result = await processor.start(progress_callback=progress_callback)
    print(f"Success: {result.success_count}/{result.total_count}")
    print(f"Processing time: {result.processing_time:.1f}s")

asyncio.run(process_files())
"""


@pytest.mark.usefixtures("head")
def test_the_founding_samples(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the import is changed; no model is named."""
    names: dict[str, Any] = {}
    exec(CONSTRUCTORS, names)
    assert "Success Rate: 0.0%\nMemory Usage: 0.0MB\nCPU Usage: 0.0%\n" in capsys.readouterr().out
    assert names["processor"].spec.limits.queue_size == 1000
    assert names["task"].max_retries == 3
    assert names["result"].quality_metrics["avg_accuracy"] == 95.5

    files = [here / "samples" / name for name in ("first_test.wav", "quiet_room.flac", "talks/weather.ogg")]
    names = {"audio_files": files}
    exec(PROGRAM, names)
    said = capsys.readouterr().out
    assert re.search(r"^Progress: 3/3\nMemory: \d+\.\dMB$", said, re.MULTILINE), said
    assert re.search(r"^Success: 3/3\nProcessing time: \d+\.\ds$", said, re.MULTILINE), said
    result = names["result"]
    assert result.failure_count == 0
    assert 0 < result.memory_peak_mb < 2048
    assert result.cpu_peak_percent > 0
    assert (here / "trax_ray_output" / "weather.txt").read_text().strip()


DEBUGGING = """
import asyncio
import logging

import trax_ray.providers.choice
from trax_ray import TaskType, create_batch_processor

trax_ray.providers.choice.choose_model = lambda language: "pocketsphinx"


async def main():
    processor = create_batch_processor()
    await processor.add_task(TaskType.TRANSCRIBE, {"file_path": "samples/quiet_room.flac"})
    await processor.start()


"""


@pytest.mark.long
def test_debug_mode_shows_what_workers_say(head: Connection, here: Path) -> None:
    """In a process of its own: what workers say is asked for when Ray is connected to."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    (lines,) = re.findall(r"^logging\.basicConfig.*$", page, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-c", f"{DEBUGGING}{lines}\nasyncio.run(main())\n"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "RAY_ADDRESS": head.address},
    )
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("DEBUG:trax_ray.kinds.run:")]
    assert any("attempt 1 of 'quiet_room.flac' begins" in line for line in told), done.stderr
    assert "raylet" not in done.stdout


@pytest.mark.long
@pytest.mark.usefixtures("head")
def test_the_commands_of_troubleshooting(here: Path, samples: Path) -> None:
    """All of them, in their order, on one folder; what is finished stays as it is."""
    (here / "talks").mkdir()
    for name in ("meeting.mp3", "weather.ogg"):
        shutil.copy(samples / "talks" / name, here / "talks")
    artifacts: list[Path] = []
    count = 0
    for line in "".join(blocks("docs/troubleshooting.md", "bash")).splitlines():
        if line.startswith("trax-ray "):
            code, output = trax_ray(*shlex.split(line)[1:])
            assert code == 0, f"{line}: {output}"
        else:
            subprocess.run(line, shell=True, check=True, cwd=here, capture_output=True)
        if (here / "out" / "meeting.txt").exists():
            now = sorted((here / "out" / ".trax" / "artifacts").rglob("*"))
            artifacts = artifacts or now
            assert now == artifacts, f"{line}: something was done again"
        count += 1
    assert count >= 10
    assert artifacts
    files = pd.read_parquet(here / "out" / "report" / "files.parquet")
    assert sorted(files["file_name"]) == ["meeting.mp3", "weather.ogg"]
    assert files["cached"].all(), "the journal was put away, the artifacts were found"


@pytest.mark.long
@pytest.mark.usefixtures("head")
def test_what_failed_for_good_is_tried_again_when_it_is_touched(here: Path, samples: Path) -> None:
    (here / "talks").mkdir()
    broken = here / "talks" / "meeting.mp3"
    broken.write_bytes(b"no sound")
    batch = ("batch", "talks", "--output-dir", "out", "--quiet")

    def attempts() -> int:
        return len(read_history(here / "out").attempts)

    assert trax_ray(*batch) == (1, "")
    assert attempts() == 1
    assert trax_ray(*batch)[0] == 1
    assert attempts() == 1, "it stays failed"
    os.utime(broken)
    assert trax_ray(*batch)[0] == 1
    assert attempts() == 2, "it counts as changed"
    shutil.copy(samples / "talks" / "meeting.mp3", broken)
    assert trax_ray(*batch)[0] == 0
    log = (here / "out" / "report" / "errors.log").read_text()
    assert log.splitlines()[0].split("\t")[1:6] == [
        "meeting.mp3",
        "transcribe",
        "permanent",
        "processing",
        "not_decodable",
    ]

    segment = min((here / "out" / ".trax" / "journal").iterdir())
    data = bytearray(segment.read_bytes())
    data[len(data) // 3] ^= 1
    segment.write_bytes(data)
    code, output = trax_ray(*batch)
    assert code == 3
    assert str(segment) in output.replace("\n", "")
    assert "run the same command again" in output


@pytest.mark.usefixtures("here")
def test_the_doctor_reaches_a_cluster_that_is_named(head: Connection) -> None:
    code, output = trax_ray("doctor", "--address", head.address, "-o", "out")
    assert code == 0, output
    assert f"OK       Ray cluster    --address is {head.address}, and it answers" in output
