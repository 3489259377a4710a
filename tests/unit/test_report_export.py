"""Exports: each is read by a program that somebody else wrote."""

from __future__ import annotations

import io
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import docx
import duckdb
import pandas
import pytest
from praatio import textgrid as praat
from test_report_page import HOSTILE
from test_report_support import NO_SAMPLES, ODD, Batch, failed, metrics, worked

from trax_ray.cli.results import export
from trax_ray.core.spec import BatchSpec
from trax_ray.core.state.events import InputsClosed, TasksAdded
from trax_ray.core.task import BatchTask
from trax_ray.errors import FileError, UsageError
from trax_ray.plan.planner import make_plan
from trax_ray.report.export.documents import paragraphs_of
from trax_ray.report.export.lines import unarmed
from trax_ray.report.export.textgrids import textgrid
from trax_ray.report.export.write import export_files, export_stream
from trax_ray.report.write import write_report

SPOKEN = [
    {"start_s": 0.0, "end_s": 2.0, "text": "Who is there?", "speaker": "Anna"},
    {"start_s": 2.1, "end_s": 4.0, "text": 'It is "me",', "speaker": "Ben"},
    {"start_s": 3.5, "end_s": 6.0, "text": "Ben.", "speaker": "Ben"},
    {"start_s": 9.0, "end_s": 10.0, "text": "Come in.", "speaker": "Anna"},
]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The output folder of a batch with its report: a talk with speakers, hostile names, a failure, odd bytes."""
    recordings = tmp_path / "in"
    recordings.mkdir()
    batch = Batch(tmp_path / "out")
    batch.open(0)
    tasks = [batch.task(name) for name in ("talk.mp3", "evil.mp3", "broken.mp3", ODD)]
    talk, evil, broken, odd = tasks
    (recordings / "talk.mp3").write_bytes(b"x")
    talk = BatchTask(talk.id, talk.task_type, {**talk.data, "file_path": str(recordings / "talk.mp3")}, file_id="t")
    evil = BatchTask(evil.id, evil.task_type, {**evil.data, "name": f"={HOSTILE}"}, file_id=evil.file_id)
    batch.add(TasksAdded((talk, evil, broken, odd)), InputsClosed(), 1)
    batch.start(2, talk, evil, broken, odd)
    text = " ".join(str(each["text"]) for each in SPOKEN)
    batch.end(3, talk, worked(metrics("talk", duration_s=12.5), batch.transcript("talk", text, SPOKEN)))
    said = [{"start_s": 0.0, "end_s": 1.0, "text": f"=1+1 {HOSTILE}", "speaker": "@x\x00\ufffe"}]
    batch.end(4, evil, worked(metrics("evil"), batch.transcript("evil", f"=1+1 {HOSTILE}", said)))
    batch.end(5, broken, failed(NO_SAMPLES))
    batch.end(6, odd, worked(metrics("odd"), batch.transcript("odd", "odd", [])))
    batch.close()
    write_report(batch.layout.output_dir, final=True)
    return batch.layout.output_dir


def exported(out: Path, fmt: str, table: str = "files") -> bytes:
    path = out.parent / f"{table}.{fmt}"
    export_stream(out, fmt, path, table=table)
    return path.read_bytes()


# CSV


def test_csv_is_read_by_others(out: Path) -> None:
    data = exported(out, "csv")
    assert data.startswith(b"\xef\xbb\xbf")
    frame = pandas.read_csv(io.BytesIO(data))
    assert list(frame.columns[:2]) == ["file_id", "file_name"]
    assert list(frame["status"]) == ["succeeded", "succeeded", "failed", "succeeded"]
    assert frame["duration"][0] == 12.5
    path = out.parent / "files.csv"
    rows = duckdb.sql(f"SELECT file_name, duration, ended_at FROM read_csv('{path}') ORDER BY ended_at").fetchall()
    assert rows[0][:2] == ("talk.mp3", 12.5)
    assert rows[0][2].replace(tzinfo=timezone.utc) == datetime(2026, 1, 1, 0, 0, 3, tzinfo=timezone.utc)


def test_no_cell_is_a_formula_or_moves_a_cursor(out: Path) -> None:
    for table in ("files", "segments", "attempts", "tasks"):
        data = exported(out, "csv", table).decode("utf-8-sig")
        assert "\x1b" not in data
        assert "\u202e" not in data
        frame = pandas.read_csv(io.StringIO(data), dtype=str, keep_default_na=False)
        for cell in frame.to_numpy().ravel():
            assert not cell.startswith(("=", "+", "@", "\t", "\r")), cell
    assert frame.columns[0] == "task_id"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("=1", "'=1"),
        ("  +1", "'  +1"),
        ("\t=1", r"\t=1"),
        ("-1", "'-1"),
        ("@SUM", "'@SUM"),
        ("＝1", "'＝1"),  # noqa: RUF001 - meant
        ("a=1", "a=1"),
        ("", ""),
    ],
)
def test_unarmed(text: str, expected: str) -> None:
    assert unarmed(text) == expected


# JSON lines


def test_json_lines_hold_all_columns_and_segments(out: Path) -> None:
    rows = [json.loads(line) for line in exported(out, "jsonl").splitlines()]
    assert rows[0]["segments_list"][1] == rows[0]["segments_list"][1] | {"speaker": "Ben", "start_s": 2.1}
    assert rows[0]["ended_at"] == "2026-01-01T00:00:03.000000Z"
    assert [len(row["segments_list"]) for row in rows] == [4, 1, 0, 0]
    path = out.parent / "files.jsonl"
    assert duckdb.sql(f"SELECT count(*), max(duration) FROM read_json_auto('{path}')").fetchall() == [(4, 60.0)]
    assert len(pandas.read_json(io.BytesIO(exported(out, "jsonl", "segments")), lines=True)) == 5


# Manifests


def test_a_manifest_is_read_by_batch_again(out: Path, tmp_path: Path) -> None:
    path = tmp_path / "again.jsonl"
    written = export_stream(out, "manifest", path)
    assert written.left_out == [r"b\xffd.wav"]
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert set(rows[0]) == {"audio_filepath", "duration", "text", "file_name", "language", "lang"}
    path.write_text(json.dumps(rows[0]) + "\n")
    plan = make_plan([str(path)], BatchSpec(output_dir=str(tmp_path / "next"), model="pocketsphinx"))
    (task,) = plan.tasks
    assert task.data["file_path"] == str(tmp_path / "in" / "talk.mp3")
    assert task.data["language"] == "en"
    assert task.data["extra"]["text"].startswith("Who is there?")


# Word


def words_of(path: Path) -> list[str]:
    return [paragraph.text for paragraph in docx.Document(str(path)).paragraphs]


def test_documents_have_speakers_and_times(out: Path) -> None:
    export_files(out, "docx")
    assert words_of(out / "talk.docx") == [
        "talk.mp3",
        "0:00:12 · en · pocketsphinx",
        "0:00:00\tAnna: Who is there?",
        '0:00:02\tBen: It is "me", Ben.',
        "0:00:09\tAnna: Come in.",
    ]
    assert docx.Document(str(out / "talk.docx")).core_properties.title == "talk.mp3"
    assert r"\x1b[31m" in words_of(out / "evil.docx")[0]
    assert words_of(out / "odd.docx")[-1] == "odd"
    assert not (out / "broken.docx").exists()


def test_what_somebody_has_written_into_a_document_stays(out: Path) -> None:
    export_files(out, "docx")
    mine = docx.Document(str(out / "talk.docx"))
    mine.add_paragraph("a remark of mine")
    mine.save(str(out / "talk.docx"))
    written = export_files(out, "docx")
    assert words_of(out / "talk.docx")[-1] == "a remark of mine"
    assert written.places[0] == "talk.new.docx"
    assert written.places[1] == "evil.docx"


def test_paragraphs_end_once_a_minute_with_a_sentence() -> None:
    rows: list[dict[str, Any]] = [
        {"start_s": 10.0 * n, "end_s": 10.0 * n + 9.5, "speaker": None, "text": "on." if n % 4 == 0 else "and"}
        for n in range(20)
    ]
    starts = [paragraph.start_s for paragraph in paragraphs_of(rows)]
    assert starts == [0.0, 90.0, 170.0]


# TextGrid


def test_textgrids_are_read_by_praatio(out: Path) -> None:
    export_files(out, "textgrid")
    grid = praat.openTextgrid(str(out / "talk.TextGrid"), includeEmptyIntervals=False)
    assert grid.tierNames == ("Anna", "Ben")
    assert grid.maxTimestamp == 12.5
    assert [tuple(entry) for entry in grid.getTier("Ben").entries] == [
        (2.1, 4.0, 'It is "me",'),
        (4.0, 6.0, "Ben."),
    ]
    evil = praat.openTextgrid(str(out / "evil.TextGrid"), includeEmptyIntervals=False)
    assert r"\x1b[31m" in evil.tiers[0].entries[0].label
    assert praat.openTextgrid(str(out / "odd.TextGrid"), includeEmptyIntervals=True).tierNames == ("transcript",)


def test_a_textgrid_without_length() -> None:
    row = {"duration": None}
    assert "xmax = 0.001" in textgrid(row, [])


# The command


def test_what_contradicts_itself_is_refused(out: Path) -> None:
    for values in (
        {"fmt": "pdf"},
        {"fmt": "docx", "destination": "x"},
        {"fmt": "csv", "enhanced": True},
        {"fmt": "csv", "table": "nothing"},
        {"fmt": "manifest", "table": "segments"},
    ):
        given: dict[str, Any] = {"destination": None, "table": "files", "enhanced": False, **values}
        with pytest.raises(UsageError):
            export(str(out), given.pop("fmt"), given.pop("destination"), **given)


def test_without_a_report_there_is_nothing_to_export(tmp_path: Path) -> None:
    for fmt in ("csv", "docx"):
        with pytest.raises(FileError, match="neither a report nor a batch"):
            export(str(tmp_path), fmt, None, table="files", enhanced=False)
    with pytest.raises(UsageError, match="give --format, one of jsonl, csv, manifest, docx, textgrid"):
        export(str(tmp_path), None, None, table="files", enhanced=False)


def test_to_standard_output(out: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    export(str(out), "csv", None, table="files", enhanced=False)
    assert capfdbinary.readouterr().out.startswith("\ufefffile_id,".encode())
