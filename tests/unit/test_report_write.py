"""The report's files: what they hold, who can read them, and that they are there entirely or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import resource
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_report_support import (
    NO_KEY,
    NO_SAMPLES,
    ODD_PATH,
    START,
    TIMEOUT,
    Batch,
    failed,
    metrics,
    tell_everything,
    worked,
)

from trax_ray.core.state.events import InputsClosed, Preempted, Resumed, Scaled, TasksAdded
from trax_ray.core.task import BatchTask, Category, Failure, FailureClass, TaskType
from trax_ray.errors import DiskFull, FileError, UsageError
from trax_ray.report import parquet, write
from trax_ray.report.frames import read_table
from trax_ray.report.result import BatchResult
from trax_ray.report.schemas import SCHEMA_VERSION, TABLES, schema
from trax_ray.report.summary import summary_rows
from trax_ray.report.write import write_report
from trax_ray.store import files
from trax_ray.store.layout import Layout
from trax_ray.testing.factories import make_parts

UTC = timezone.utc
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)

PROMISED = {
    "files": "file_id file_name path_bytes url status failed_step failure_class category error text language duration "
    "processing_s attempts model measured_accuracy estimated_accuracy wer speech_s warnings cost_usd transcript_path "
    "enhanced_path",
    "tasks": "task_id file_id task_type chunk priority state attempts queued_at started_at ended_at num_cpus memory_mb "
    "artifact_key",
    "attempts": "task_id attempt node pid started_at ended_at outcome failure_class category error delay_s priority "
    "memory_peak_mb cost_usd",
    "segments": "file_id segment start_s end_s text speaker confidence avg_logprob no_speech_prob compression_ratio "
    "warnings enhanced_text",
}
"""DESIGN.md, "Output tree"."""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a batch with its final report; not to be changed."""
    out = tmp_path_factory.mktemp("told") / "OUT"
    batch = tell_everything(out)
    batch.close()
    write_report(str(out), final=True)
    return out


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[Batch]:
    batch = Batch(tmp_path / "out")
    batch.open(0)
    yield batch
    batch.close()


def rows(out: Path, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(Layout(out).table(table)).to_pylist()
    return found


def by_name(out: Path) -> dict[str, dict[str, Any]]:
    return {row["file_name"]: row for row in rows(out, "files")}


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


def one_success(batch: Batch, name: str = "a.mp3", **figures: Any) -> BatchTask:
    task = batch.task(name)
    batch.add(TasksAdded((task,)), 1)
    batch.start(2, task)
    batch.end(3, task, worked(metrics("a", **figures), batch.transcript(name, "said")))
    return task


# What the tables hold


@pytest.mark.parametrize("table", TABLES)
def test_columns_are_the_promised_ones_in_order(told: Path, table: str) -> None:
    written = pq.read_schema(Layout(told).table(table))
    promised = PROMISED[table].split()
    assert written.names[: len(promised)] == promised
    assert written.equals(schema(table))
    assert written.metadata[b"schema_version"] == str(SCHEMA_VERSION).encode()
    flat = (pa.string(), pa.int32(), pa.int64(), pa.float64(), pa.bool_(), pa.binary(), pa.timestamp("us", tz="UTC"))
    assert {field.type for field in written} <= set(flat)


def test_every_column_that_is_filled_is_in_the_schema(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, set[str]] = {}
    add, add_columns = parquet.TableFile.add, parquet.TableFile.add_columns

    def noted(self: parquet.TableFile, row: dict[str, Any]) -> None:
        seen.setdefault(self.path.stem, set()).update(row)
        add(self, row)

    def noted_columns(self: parquet.TableFile, columns: dict[str, list[Any]]) -> None:
        seen.setdefault(self.path.stem, set()).update(columns)
        add_columns(self, columns)

    monkeypatch.setattr(parquet.TableFile, "add", noted)
    monkeypatch.setattr(parquet.TableFile, "add_columns", noted_columns)
    write_report(told, final=True)
    assert set(seen) == set(TABLES)
    for table, names in seen.items():
        assert names <= set(TABLES[table]), table


def test_one_row_per_input_in_order(told: Path) -> None:
    assert [(row["file_name"], row["status"]) for row in rows(told, "files")] == [
        ("good.mp3", "succeeded"),
        ("long.mp3", "succeeded"),
        ("flaky.mp3", "succeeded"),
        ("broken.mp3", "failed"),
        ("silence.wav", "succeeded"),
        (r"b\xffd.wav", "succeeded"),
        ("late.mp3", "cancelled"),
        ("waiting.mp3", "cancelled"),
        ("talk.mp3", "failed"),
        ("x.wav", "failed"),
    ]


def test_a_row_of_a_measured_success(told: Path) -> None:
    row = by_name(told)["good.mp3"]
    assert row.pop("ended_at") == LONG_AGO + timedelta(seconds=14)
    assert len(row.pop("artifact_key")) == 64
    assert len(row.pop("file_id")) == 16
    assert {name: value for name, value in row.items() if value is not None} == {
        "file_name": "good.mp3",
        "path_bytes": b"/in/good.mp3",
        "status": "succeeded",
        "text": "one two three four",
        "language": "en",
        "duration": 60.0,
        "processing_s": 12.0,
        "attempts": 1,
        "model": "pocketsphinx",
        "measured_accuracy": 90.0,
        "estimated_accuracy": 80.0,
        "wer": 0.1,
        "speech_s": 50.0,
        "warnings": "low_confidence",
        "transcript_path": "good.txt",
        "priority": 2,
        "chunks": 0,
        "retries": 0,
        "words": 4,
        "segments": 3,
        "low_confidence_segments": 0,
        "wer_errors": 2,
        "wer_words": 20,
        "cached": False,
        "source": "model",
    }


def test_what_is_not_known_is_null(told: Path) -> None:
    row = by_name(told)["flaky.mp3"]
    assert [row[name] for name in ("measured_accuracy", "wer", "wer_words", "cost_usd", "error", "url")] == [None] * 6
    row = by_name(told)["waiting.mp3"]
    assert (row["text"], row["duration"], row["warnings"], row["attempts"]) == (None, None, "", 0)


def test_what_was_spent_counts_whatever_came_of_it(batch: Batch) -> None:
    """Attempts that failed may have been paid too; what a later run doesn't pay again was paid all the same."""
    talk, other = batch.task("talk.mp3"), batch.task("other.mp3")
    batch.add(TasksAdded((talk, other)), InputsClosed(), 1)
    batch.start(2, talk)
    batch.end(3, talk, dataclasses.replace(failed(TIMEOUT), metrics={"cost_usd": 0.25}))
    batch.start(10, talk)
    batch.end(11, talk, worked(metrics("talk", cost_usd=0.5), batch.transcript("talk", "spoken")))
    batch.start(12, other)
    batch.end(13, other, worked(metrics("other"), batch.transcript("other", "spoken")))
    batch.close()
    out = batch.layout.output_dir
    write_report(out, final=True)
    assert {name: row["cost_usd"] for name, row in by_name(out).items()} == {"talk.mp3": 0.75, "other.mp3": None}
    assert [row["cost_usd"] for row in rows(out, "attempts")] == [0.25, 0.5, None]
    assert json.loads(batch.layout.run_json.read_text())["cost_usd"] == 0.75


def test_chunks_are_counted_but_have_no_rows(told: Path) -> None:
    row = by_name(told)["long.mp3"]
    assert (row["chunks"], row["attempts"], row["retries"], row["duration"]) == (2, 4, 0, 900.0)
    assert row["cost_usd"] == 0.5, "what its chunks cost"
    tasks = [task for task in rows(told, "tasks") if task["file_id"] == row["file_id"]]
    assert [task["chunk"] for task in tasks] == [None, 0, 1]
    assert tasks[0]["task_id"] == tasks[1]["parent"] == tasks[2]["parent"]


def test_a_recovered_file(told: Path) -> None:
    row = by_name(told)["flaky.mp3"]
    assert (row["attempts"], row["retries"], row["error"], row["failure_class"]) == (2, 1, None, None)


def test_half_a_character_of_a_provider_stops_nothing(told: Path) -> None:
    assert by_name(told)["flaky.mp3"]["text"] == r"went well \ud83d now"


def test_a_failed_file(told: Path) -> None:
    row = by_name(told)["broken.mp3"]
    assert [row[name] for name in ("failed_step", "failure_class", "category", "code", "error", "text")] == [
        "transcribe",
        "permanent",
        "processing",
        "no_samples",
        f"{NO_SAMPLES.message}: leave the file out",
        None,
    ]


def test_no_speech_is_an_empty_text_not_a_missing_one(told: Path) -> None:
    row = by_name(told)["silence.wav"]
    assert (row["status"], row["text"], row["warnings"], row["estimated_accuracy"]) == (
        "succeeded",
        "",
        "no_speech",
        None,
    )


def test_a_name_that_is_not_utf8(told: Path) -> None:
    row = by_name(told)[r"b\xffd.wav"]
    assert row["path_bytes"] == b"/in/b\xffd.wav" == os.fsencode(ODD_PATH)
    assert row["transcript_path"] == r"b\xffd.txt"
    assert row["attempts"] == 2, "the first was interrupted"


def test_a_cancelled_file_has_no_failure(told: Path) -> None:
    row = by_name(told)["late.mp3"]
    assert (row["failed_step"], row["error"], row["failure_class"]) == (None, None, None), "though an attempt failed"


def test_a_failed_enhancement_keeps_the_transcript(told: Path) -> None:
    row = by_name(told)["talk.mp3"]
    assert (row["status"], row["failed_step"], row["code"]) == ("failed", "enhance", "no_samples")
    assert (row["text"], row["transcript_path"], row["enhanced_path"]) == ("spoken", "talk.txt", None)
    assert (row["file_id"], row["attempts"], row["cost_usd"]) == ("pipeline", 2, 0.25)


def test_an_input_that_needed_a_failed_one(told: Path) -> None:
    row = by_name(told)["x.wav"]
    assert (row["code"], row["failed_step"], row["attempts"]) == ("dependency_failed", "enhance", 0)
    assert row["error"] == f"enhance failed before it: {NO_SAMPLES.message}"


def test_a_pipeline_fails_at_its_first_failure(batch: Batch) -> None:
    spoken = BatchTask("p-1", TaskType.TRANSCRIBE, {"file_path": "talk.mp3"}, file_id="p")
    polished = BatchTask("p-2", TaskType.ENHANCE, file_id="p", depends_on=("p-1",))
    batch.add(TasksAdded((spoken, polished)), 1)
    batch.start(2, spoken)
    batch.end(3, spoken, failed(NO_SAMPLES))
    write_report(batch.layout.output_dir, final=False)
    (row,) = rows(batch.layout.output_dir, "files")
    assert (row["failed_step"], row["code"]) == ("transcribe", "no_samples")
    (line,) = batch.layout.errors_log.read_text().splitlines()
    assert line.split("\t")[1:3] == ["talk.mp3", "transcribe"]


def test_entries_of_a_playlist_belong_to_its_row(batch: Batch) -> None:
    playlist = BatchTask("y-1", TaskType.YOUTUBE, {"url": "https://e.org/list"})
    batch.add(TasksAdded((playlist,)), 1)
    talks = tuple(BatchTask(name, TaskType.TRANSCRIBE, {"url": name}, parent="y-1") for name in ("one", "two"))
    batch.start(2, playlist)
    batch.end(3, playlist, worked(children=talks))
    batch.start(4, talks[0])
    write_report(batch.layout.output_dir, final=False)
    (row,) = rows(batch.layout.output_dir, "files")
    assert (row["file_name"], row["status"], row["attempts"]) == ("https://e.org/list", "running", 2)
    for table in ("tasks", "attempts"):
        assert {each["file_id"] for each in rows(batch.layout.output_dir, table)} == {"y-1"}


def test_an_enhanced_file_has_both_transcripts(batch: Batch) -> None:
    spoken = BatchTask("p-1", TaskType.TRANSCRIBE, {"url": "https://e.org/x"}, file_id="p")
    polished = BatchTask("p-2", TaskType.ENHANCE, file_id="p", depends_on=("p-1",))
    batch.add(TasksAdded((spoken, polished)), 1)
    batch.start(2, spoken)
    batch.end(3, spoken, worked(metrics("talk", cost_usd=0.25), batch.transcript("talk", "spoken")))
    write_report(batch.layout.output_dir, final=False)
    (row,) = rows(batch.layout.output_dir, "files")
    assert (row["status"], row["text"], row["enhanced_path"], row["ended_at"]) == ("queued", "spoken", None, None)
    batch.start(4, polished)
    batch.end(5, polished, worked({"outputs": ["talk.enhanced.txt"], "cost_usd": 0.5, "warnings": ["shortened"]}))
    write_report(batch.layout.output_dir, final=False)
    (row,) = rows(batch.layout.output_dir, "files")
    assert (row["transcript_path"], row["enhanced_path"]) == ("talk.txt", "talk.enhanced.txt")
    assert (row["text"], row["duration"], row["cost_usd"], row["warnings"]) == ("spoken", 60.0, 0.75, "shortened")
    assert (row["url"], row["file_name"], row["path_bytes"]) == ("https://e.org/x", "https://e.org/x", None)
    assert (row["status"], row["ended_at"]) == ("succeeded", LONG_AGO + timedelta(seconds=5))


def test_open_inputs_say_where_they_are(batch: Batch) -> None:
    long, delayed, queued, parked = (batch.task(name) for name in ("long.mp3", "delayed.mp3", "q.mp3", "parked.mp3"))
    parked = dataclasses.replace(parked, provider="openai")
    needy = BatchTask("needy", TaskType.ENHANCE, depends_on=(queued.id,))
    batch.add(TasksAdded((long, delayed, queued, parked, needy)), 1)
    chunks = make_parts(long, [(0.0, 600.0), (600.0, 900.0)])
    batch.start(2, long, delayed, parked)
    batch.end(3, long, worked(children=chunks))
    batch.start(4, chunks[1])
    batch.end(4, delayed, failed(TIMEOUT))
    batch.end(4, parked, failed(NO_KEY))
    write_report(batch.layout.output_dir, final=False)
    found = by_name(batch.layout.output_dir)
    assert {name: row["status"] for name, row in found.items()} == {
        "long.mp3": "running",
        "delayed.mp3": "delayed",
        "q.mp3": "queued",
        "parked.mp3": "queued",
        "needy": "blocked",
    }
    assert {row["ended_at"] for row in found.values()} == {None}
    assert found["delayed.mp3"]["error"] is None, "it hasn't failed yet"
    task = next(task for task in rows(batch.layout.output_dir, "tasks") if task["task_id"] == delayed.id)
    assert task["queued_at"] == LONG_AGO + timedelta(seconds=9), "when its retry is due"
    run = json.loads(batch.layout.run_json.read_text())
    assert (run["parked"], run["status"], run["ended_at"]) == ({"openai": NO_KEY.message}, "running", None)


def test_a_file_whose_chunk_failed(batch: Batch) -> None:
    long = batch.task("long.mp3")
    batch.add(TasksAdded((long,)), InputsClosed(), 1)
    chunks = make_parts(long, [(0.0, 600.0), (600.0, 900.0)])
    batch.start(2, long)
    batch.end(3, long, worked(children=chunks))
    batch.start(4, *chunks)
    batch.end(5, chunks[0], worked({}))
    batch.end(6, chunks[1], failed(NO_SAMPLES))
    write_report(batch.layout.output_dir, final=True)
    (row,) = rows(batch.layout.output_dir, "files")
    assert (row["status"], row["failed_step"], row["code"]) == ("failed", "transcribe", "no_samples")
    first, second = batch.layout.errors_log.read_text().splitlines()
    assert first.split("\t")[1:3] == ["long.mp3", "transcribe chunk 1"]
    assert second.split("\t")[-2:] == [
        "failed for good",
        r"1 of 2 chunks failed: no samples\nin \tit \x1b[31m: leave the file out",
    ]


def test_attempts(told: Path) -> None:
    found = rows(told, "attempts")
    good = found[0]
    assert (good["started_at"], good["ended_at"]) == (
        LONG_AGO + timedelta(seconds=2.25),
        LONG_AGO + timedelta(seconds=13.5),
    )
    assert (good["node"], good["pid"], good["memory_peak_mb"], good["delay_s"]) == ("host-2", 77, 123.5, 0.0)
    flaky = next(row for row in found if row["code"] == "timeout")
    assert (flaky["outcome"], flaky["delay_s"], flaky["category"]) == ("failed", 5.0, "network")
    assert [row["outcome"] for row in found].count("interrupted") == 1
    names = {row["file_id"] for row in rows(told, "files")}
    assert {row["file_id"] for row in found} <= names, "each attempt finds its file"
    numbers = sorted((row["task_id"], row["attempt"]) for row in found)
    assert len(set(numbers)) == len(numbers) == sum(row["attempts"] for row in rows(told, "tasks"))


def test_preempted_and_lost_attempts_are_told_and_are_no_retries(batch: Batch) -> None:
    lost = Failure(FailureClass.UNKNOWN, Category.RESOURCE, "node_died", "the node was lost")
    task = batch.task("a.mp3")
    batch.add(TasksAdded((task,)), 1)
    batch.start(2, task)
    batch.add(Preempted(task.id, batch.state.epoch, 1, "memory"), 3)
    batch.start(4, task)
    batch.end(5, task, failed(lost))
    batch.start(10, task)
    batch.end(11, task, worked(metrics("a"), batch.transcript("a", "said")))
    assert write_report(batch.layout.output_dir, final=False)["retries"] == 0
    first, second, third = rows(batch.layout.output_dir, "attempts")
    assert (first["outcome"], first["ended_at"]) == ("preempted", LONG_AGO + timedelta(seconds=3))
    assert (first["error"], first["code"], first["delay_s"]) == (None, None, 0.0)
    assert (second["outcome"], second["code"], second["error"]) == ("failed", "node_died", "the node was lost")
    assert second["delay_s"] == 0.5
    assert third["outcome"] == "succeeded"
    (row,) = rows(batch.layout.output_dir, "files")
    assert (row["status"], row["attempts"], row["retries"]) == ("succeeded", 3, 0)
    run = json.loads(batch.layout.run_json.read_text())
    assert (run["attempts"], run["retries"], run["quality_metrics"]["recovered_count"]) == (3, 0, 0)
    (line,) = batch.layout.errors_log.read_text().splitlines()
    assert line.split("\t")[1:4] == ["a.mp3", "transcribe", "unknown"], "only failures are errors"


def test_tasks(told: Path) -> None:
    good = rows(told, "tasks")[0]
    assert (good["task_type"], good["state"], good["priority"], good["num_cpus"], good["memory_mb"]) == (
        "transcribe",
        "succeeded",
        2,
        1.0,
        512,
    )
    assert good["queued_at"] == LONG_AGO + timedelta(seconds=1)
    waiting = next(row for row in rows(told, "tasks") if row["state"] == "cancelled" and not row["attempts"])
    assert waiting["started_at"] is None


def test_segments_and_their_warnings(told: Path) -> None:
    good = by_name(told)["good.mp3"]["file_id"]
    found = [row for row in rows(told, "segments") if row["file_id"] == good]
    assert [(row["segment"], row["start_s"], row["end_s"], row["warnings"]) for row in found] == [
        (0, 0.0, 2.5, "low_confidence"),
        (1, 2.5, 4.0, "repetition"),
        (2, 4.0, 9.0, "repetition"),
    ]
    assert [row["confidence"] for row in found] == [0.4, 0.9, None]
    assert [row["compression_ratio"] for row in found] == [None, 2.5, None], "the model's own, or nothing"
    assert found[0]["avg_logprob"] == -0.9


def test_figures_that_are_none_are_null(batch: Batch) -> None:
    one_success(batch, words="many", estimated_accuracy=None, cost_usd=True)
    write_report(batch.layout.output_dir, final=False)
    (row,) = rows(batch.layout.output_dir, "files")
    assert (row["words"], row["estimated_accuracy"], row["cost_usd"]) == (None, None, None)


# errors.log and run.json


def test_errors_log_has_a_line_per_failed_attempt_or_input(told: Path) -> None:
    lines = Layout(told).errors_log.read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    assert [line.split("\t")[0] for line in lines] == sorted(line.split("\t")[0] for line in lines)
    assert lines[:2] == [
        "2026-01-01T00:00:31.000000Z\tflaky.mp3\ttranscribe\ttransient\tnetwork\ttimeout\t"
        "attempt 1 of 4, again in 5.0 s\t"
        "the server said nothing: check the network, then `trax-ray retry-failed`",
        "2026-01-01T00:00:52.000000Z\tbroken.mp3\ttranscribe\tpermanent\tprocessing\tno_samples\t"
        r"attempt 1 of 4, failed for good" + "\t" + r"no samples\nin \tit \x1b[31m: leave the file out",
    ]
    assert [(line.split("\t")[1], line.split("\t")[-2]) for line in lines[2:]] == [
        ("talk.mp3", "attempt 1 of 4, failed for good"),
        ("x.wav", "failed for good"),
        ("late.mp3", "attempt 1 of 4"),
    ]


def test_run_json(told: Path) -> None:
    run = json.loads(Layout(told).run_json.read_text(encoding="utf-8"))
    assert (run["schema_version"], run["name"], run["status"]) == (SCHEMA_VERSION, "talks", "stopped")
    assert (run["started_at"], run["ended_at"]) == ("2026-01-01T00:00:00.000000Z", "2026-01-01T00:16:50.000000Z")
    assert run["counts"] == {"total": 10, "succeeded": 5, "failed": 3, "cancelled": 2, "open": 0}
    assert (run["attempts"], run["retries"], run["worked_s"]) == (14, 1, 70.0)
    quality = run["quality_metrics"]
    assert (quality["measured_accuracy"], quality["no_speech_count"], quality["recovered_count"]) == (90.0, 1, 1)
    assert quality["x_realtime"] == pytest.approx(quality["audio_s"] / 70)
    assert set(run["warnings"]) == {"low_confidence", "no_speech"} == set(quality["warnings"])
    assert "segments.parquet" in run["warnings"]["low_confidence"]
    assert [epoch["epoch"] for epoch in run["epochs"]] == [1, 2]
    assert run["spec"]["retry"]["max_retries"] == 3
    assert all(run[name] for name in ("trax_ray_version", "python_version", "ray_version", "host"))


def test_run_json_tells_how_many_were_let_run_and_why(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    for at, (slots, reason) in enumerate([(4, ""), (1, "the batch uses 2100 of 2048 MB"), (3, "")]):
        batch.add(Scaled(slots, reason), at)
    write_report(batch.layout.output_dir, final=False)
    run = json.loads(batch.layout.run_json.read_text())
    assert run["scaling"] == [
        {"at": "2026-01-01T00:00:00.000000Z", "slots": 4, "reason": ""},
        {"at": "2026-01-01T00:00:01.000000Z", "slots": 1, "reason": "the batch uses 2100 of 2048 MB"},
        {"at": "2026-01-01T00:00:02.000000Z", "slots": 3, "reason": ""},
    ]
    assert run["scaling_count"] == 3
    monkeypatch.setattr(write, "MAX_DECISIONS", 2)
    write_report(batch.layout.output_dir, final=False)
    shorter = json.loads(batch.layout.run_json.read_text())
    assert (shorter["scaling"], shorter["scaling_count"]) == (run["scaling"][1:], 3), "the newest, and how many in all"


def test_run_json_of_a_batch_whose_slots_never_changed(told: Path) -> None:
    run = json.loads(Layout(told).run_json.read_text(encoding="utf-8"))
    assert (run["scaling"], run["scaling_count"]) == ([], 0)


def test_run_json_of_an_output_folder_that_is_not_utf8(tmp_path: Path) -> None:
    out = tmp_path / "o\udcfft"
    batch = Batch(out)
    batch.open(0)
    one_success(batch)
    batch.close()
    assert write_report(str(out), final=True)["report"].endswith(r"o\xfft/report")
    text = (out / "report" / "run.json").read_bytes().decode("utf-8")
    assert json.loads(text)["spec"]["output_dir"].endswith(r"o\xfft")
    assert read_table(str(out), "files")["text"].tolist() == ["said"]


# Who reads it


def test_pandas_keeps_types(told: Path) -> None:
    frame = read_table(str(told), "tasks")
    assert frame["chunk"].dtype == pandas.Int32Dtype(), "whole numbers, though some are missing"
    assert frame["chunk"].dropna().tolist() == [0, 1]
    assert str(frame["queued_at"].dtype) == "datetime64[us, UTC]"
    files_frame = BatchResult(output_dir=str(told)).to_pandas()
    assert files_frame["warnings"].str.contains("no_speech").sum() == 1
    assert files_frame.groupby("status").size().to_dict() == {"cancelled": 2, "failed": 3, "succeeded": 5}


def test_duckdb_reads_and_joins(told: Path) -> None:
    report = Layout(told).report
    with duckdb.connect() as db:
        found = db.execute(
            "SELECT f.file_name, count(*), sum(a.delay_s), epoch_us(max(a.ended_at)) "
            f"FROM '{report}/files.parquet' f JOIN '{report}/attempts.parquet' a USING (file_id) "
            "WHERE f.retries > 0 GROUP BY 1"
        ).fetchall()
        assert found == [("flaky.mp3", 2, 5.0, int(1e6 * (START + 50)))]
        kinds = dict(
            db.execute(f"SELECT column_name, column_type FROM (DESCRIBE FROM '{report}/tasks.parquet')").fetchall()
        )
        assert (kinds["started_at"], kinds["chunk"], kinds["num_cpus"]) == (
            "TIMESTAMP WITH TIME ZONE",
            "INTEGER",
            "DOUBLE",
        )
        wer = db.execute(f"SELECT sum(wer_errors) / sum(wer_words) FROM '{report}/files.parquet'").fetchone()
        assert wer == (0.1,)
        noted = dict(db.execute(f"SELECT key, value FROM parquet_kv_metadata('{report}/files.parquet')").fetchall())
        assert noted[b"schema_version"] == b"1"


def test_summary_rows(told: Path) -> None:
    found = {row["file_name"]: row for row in summary_rows(str(told))}
    assert len(found) == 10
    good, broken = found["good.mp3"], found["broken.mp3"]
    assert (good["status"], good["duration_s"], good["processing_s"]) == ("succeeded", 60.0, 12.0)
    assert (good["measured_accuracy"], good["estimated_accuracy"], good["warnings"]) == (90.0, 80.0, "low_confidence")
    assert (broken["failed_step"], broken["error"]) == ("transcribe", f"{NO_SAMPLES.message}: leave the file out")


def test_a_table_that_is_not_there(batch: Batch, tmp_path: Path) -> None:
    out, elsewhere = batch.layout.output_dir, tmp_path / "elsewhere"
    for read in (lambda out: read_table(str(out), "files"), lambda out: summary_rows(str(out))):
        with pytest.raises(FileError, match=rf"report/files\.parquet.*trax-ray report {out}") as caught:
            read(out)
        assert caught.value.code == "not_found"
        with pytest.raises(FileError, match=f"neither a report nor a batch in {elsewhere}") as caught:
            read(elsewhere)
        assert caught.value.code == "not_found"


def test_a_table_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a table of files, tasks, attempts, segments, got 'speakers'"):
        read_table(str(tmp_path), "speakers")


@pytest.mark.parametrize("damage", ["rubbish", "cut", "flipped"])
def test_a_damaged_table(batch: Batch, damage: str) -> None:
    one_success(batch)
    write_report(batch.layout.output_dir, final=True)
    path = batch.layout.table("files")
    data = path.read_bytes()
    middle = len(data) // 3
    path.write_bytes(
        {"rubbish": b"x" * 100, "cut": data[:-5], "flipped": data[:4] + bytes(middle) + data[middle:]}[damage]
    )
    with pytest.raises(FileError, match="trax-ray report"):
        read_table(str(batch.layout.output_dir), "files")
    write_report(batch.layout.output_dir, final=False)
    assert path.read_bytes() == data, "a rewrite heals it"


# How it is written


def test_rewriting_changes_nothing(told: Path) -> None:
    before = state_of(Layout(told).report)
    assert set(before) == {
        *(f"{table}.parquet" for table in TABLES),
        "run.json",
        "index.html",
        "errors.log",
    }
    for final in (True, False, True):
        write_report(told, final=final)
        assert state_of(Layout(told).report) == before


def test_the_answer(batch: Batch) -> None:
    one_success(batch)
    out = batch.layout.output_dir
    counts = {"files": 1, "tasks": 1, "attempts": 1, "retries": 0, "status": "running", "report": str(out / "report")}
    assert write_report(out, final=False) == counts | {"segments": None}
    assert not batch.layout.table("segments").exists()
    assert write_report(out, final=True) == counts | {"segments": 1}


def test_a_live_batch_is_reported_as_it_goes(batch: Batch) -> None:
    out = batch.layout.output_dir
    write_report(out, final=False)
    assert rows(out, "files") == []
    task = one_success(batch)
    write_report(out, final=False)
    assert [row["status"] for row in rows(out, "files")] == ["succeeded"]
    other = batch.task("b.mp3")
    batch.add(TasksAdded((other,)), InputsClosed(), 4)
    batch.start(5, other)
    write_report(out, final=False)
    assert [(row["file_name"], row["status"]) for row in rows(out, "files")] == [
        ("a.mp3", "succeeded"),
        ("b.mp3", "running"),
    ]
    batch.end(6, other, failed(NO_SAMPLES))
    write_report(out, final=True)
    assert [row["status"] for row in rows(out, "files")] == ["succeeded", "failed"]
    assert json.loads(batch.layout.run_json.read_text())["status"] == "complete"
    batch.add(Resumed(), 7)
    assert batch.state.records[task.id].attempt == 1, "the journal is still writable"


def test_a_torn_last_group_is_left_out(batch: Batch) -> None:
    one_success(batch)
    assert batch.journal is not None
    with batch.journal.writer.path.open("ab") as stream:
        stream.write(b'["group",1,50,')
    assert write_report(batch.layout.output_dir, final=True)["files"] == 1


def test_a_reader_keeps_the_table_that_it_opened(batch: Batch) -> None:
    out = batch.layout.output_dir
    one_success(batch)
    write_report(out, final=False)
    with batch.layout.table("files").open("rb") as old:
        one_success(batch, "b.mp3")
        write_report(out, final=False)
        assert pq.ParquetFile(old).read().num_rows == 1
    assert len(rows(out, "files")) == 2


def test_a_rewrite_takes_texts_from_the_last_table(batch: Batch) -> None:
    out = batch.layout.output_dir
    task = one_success(batch)
    write_report(out, final=False)
    batch.store.path(batch.state.records[task.id].artifact_key).unlink()
    write_report(out, final=False)
    assert [(row["text"], row["warnings"]) for row in rows(out, "files")] == [("said", "")]
    write_report(out, final=True)
    assert [(row["text"], row["warnings"]) for row in rows(out, "files")] == [(None, "artifact_missing")]


def test_a_text_of_another_artifact_is_not_taken(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_ROWS", 2)  # so that rows come from several groups
    out = batch.layout.output_dir
    for number in range(5):
        one_success(batch, f"{number}.mp3")
    write_report(out, final=False)
    assert pq.ParquetFile(batch.layout.table("files")).num_row_groups == 3
    done = rows(out, "files")
    forged = [row | {"text": f"old {row['file_name']}"} for row in done]
    forged[3]["artifact_key"] = "f" * 64
    with parquet.TableFile(batch.layout.table("files"), "files") as table:
        for row in forged:
            table.add(row | {"ended_at": None})
    write_report(out, final=False)
    assert [row["text"] for row in rows(out, "files")] == ["old 0.mp3", "old 1.mp3", "old 2.mp3", "said", "old 4.mp3"]


@pytest.mark.parametrize("damage", ["missing", "altered", "folder"])
def test_an_artifact_that_can_not_be_read_costs_one_text(batch: Batch, damage: str) -> None:
    tasks = [one_success(batch, name) for name in ("a.mp3", "b.mp3")]
    path = batch.store.path(batch.state.records[tasks[0].id].artifact_key)
    data = path.read_bytes()
    path.unlink()
    if damage == "altered":
        path.write_bytes(data.replace(b"said", b"SAID"))
    elif damage == "folder":
        path.mkdir()
    summary = write_report(batch.layout.output_dir, final=True)
    assert (summary["files"], summary["segments"]) == (2, 1)
    found = by_name(batch.layout.output_dir)
    assert [(found[name]["status"], found[name]["text"], found[name]["warnings"]) for name in ("a.mp3", "b.mp3")] == [
        ("succeeded", None, "artifact_missing"),
        ("succeeded", "said", ""),
    ]


def test_a_full_disk_leaves_the_old_report(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    out = batch.layout.output_dir
    one_success(batch)
    write_report(out, final=True)
    before = state_of(batch.layout.report)
    one_success(batch, "b.mp3")

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(files, "fsync", full)
        with pytest.raises(DiskFull, match=r"files\.parquet|segments\.parquet"):
            write_report(out, final=True)
    assert state_of(batch.layout.report) == before, "nothing changed, nothing left behind"
    assert write_report(out, final=True)["files"] == 2


def test_a_write_that_the_system_refuses(tmp_path: Path) -> None:
    path = tmp_path / "files.parquet"
    path.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    text = os.urandom(50_000).hex()
    table = parquet.TableFile(path, "files").__enter__()
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        table.add({"text": text})
        with pytest.raises(FileError, match=r"files\.parquet: File too large"):
            table.__exit__(None, None, None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"files.parquet": b"old"}


def test_an_exception_leaves_the_old_table(tmp_path: Path) -> None:
    path = tmp_path / "files.parquet"
    with parquet.TableFile(path, "files") as table:
        table.add({"file_id": "1"})
    data = path.read_bytes()
    with contextlib.suppress(ZeroDivisionError), parquet.TableFile(path, "files") as table:
        table.add({"file_id": "2"})
        raise ZeroDivisionError
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"files.parquet": data}


@pytest.mark.parametrize(("limit", "value"), [("GROUP_CHARACTERS", 100), ("GROUP_ROWS", 3)])
def test_memory_holds_one_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int) -> None:
    monkeypatch.setattr(parquet, limit, value)
    path = tmp_path / "files.parquet"
    with parquet.TableFile(path, "files") as table:
        for number in range(10):
            table.add({"file_id": str(number), "text": "x" * 40})
            assert table._rows < 3
    written = pq.ParquetFile(path)
    assert written.num_row_groups == 4
    assert written.read()["file_id"].to_pylist() == [str(number) for number in range(10)]
    assert written.metadata.row_group(0).column(0).compression == "ZSTD"
