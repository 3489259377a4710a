"""The summary of a batch: what it says of few recordings and of many, and what is worth a look, from real tables."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from trax_ray.cli.summary import _enhanced, _room, show_result
from trax_ray.core.policy.prediction import Range
from trax_ray.core.policy.quality import QualityTotals
from trax_ray.report.parquet import TableFile
from trax_ray.report.result import BatchResult
from trax_ray.report.summary import kind_times, summary_rows, worst
from trax_ray.store.artifacts import ArtifactStore
from trax_ray.store.layout import Layout

BEGAN = datetime(2026, 11, 1, tzinfo=timezone.utc)

Write = Callable[..., Layout]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the tables of a report: rows of files and segments, and an attempt of each file."""

    def make(files: list[dict[str, Any]], segments: list[dict[str, Any]] = []) -> Layout:  # noqa: B006
        layout = Layout(tmp_path / "out")
        layout.report.mkdir(parents=True)
        tasks = [
            {"task_id": f"t-{row['file_id']}", "file_id": row["file_id"], "task_type": "transcribe"} for row in files
        ]
        attempts = [
            {
                "task_id": task["task_id"],
                "file_id": task["file_id"],
                "outcome": "succeeded",
                "started_at": BEGAN,
                "ended_at": BEGAN + timedelta(seconds=number + 1),
            }
            for number, task in enumerate(tasks)
        ]
        for name, rows in (("files", files), ("tasks", tasks), ("attempts", attempts), ("segments", segments)):
            with TableFile(layout.table(name), name) as table:
                for row in rows:
                    table.add(row)
        return layout

    return make


def file(number: int, **more: Any) -> dict[str, Any]:
    return {"file_id": f"f{number}", "file_name": f"talk {number}.mp3", "status": "succeeded", "warnings": "", **more}


def failed(number: int) -> dict[str, Any]:
    why = {"failure_class": "permanent", "code": "not_decodable", "error": "no audio"}
    return file(number, status="failed", **why)


def said(layout: Layout, capsys: pytest.CaptureFixture[str], **fields: Any) -> str:
    names = [row["file_id"] for row in summary_rows(layout.output_dir)]
    show_result(BatchResult(total_count=len(names), output_dir=str(layout.output_dir), **fields), names)
    return capsys.readouterr().out


def test_up_to_25_recordings_are_all_shown(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(write([file(number, text=f"word {number}") for number in range(25)]), capsys, success_count=25)
    assert all(f"talk {number}.mp3" in text for number in range(25))
    assert "transcribe: 25 attempts, half within 13.0 s, 95 % within 24.0 s" in text


def test_of_more_those_that_failed_or_have_a_warning(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [file(number) for number in range(60)]
    rows[7] = file(7, warnings="no_speech")
    rows[8] = failed(8)
    text = said(write(rows), capsys, success_count=59, failure_count=1)
    table = text.split("59 of 60 succeeded")[0]
    assert [number for number in range(60) if f"talk {number}.mp3" in table] == [7, 8]
    assert table.index("talk 8.mp3") < table.index("talk 7.mp3"), "failures first"
    assert "failed: not_decodable" in table
    assert "no audio" not in table, "there is no room for sentences"
    assert "Failed: 1 x not_decodable (permanent): " in text
    assert "\n  talk 8.mp3: no audio\n" in text
    assert "Next: mend what failed, then `trax-ray retry-failed" in text


def test_a_table_of_nothing_is_left_out(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(write([file(number) for number in range(60)]), capsys, success_count=60)
    assert "accuracy" not in text
    assert "Next" not in text


def test_failures_of_one_kind_are_told_in_their_own_words_three_times(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(write([failed(number) for number in range(30)]), capsys, failure_count=30)
    assert "Failed: 30 x not_decodable (permanent): " in text
    assert "\n  talk 2.mp3: no audio\n  and 27 more in errors.log\n" in text


@pytest.mark.parametrize(
    ("name", "status", "given", "expected"),
    [
        (18, 25, 106, (18, 25, 44)),  # 140 columns: a pipe
        (18, 25, 66, (18, 25, 23)),
        (18, 25, 46, (18, 25, 0)),  # 80 columns
        (300, 25, 106, (48, 25, 33)),
        (300, 60, 46, (23, 23, 0)),
        (4, 6, 20, (4, 6, 0)),
    ],
)
def test_names_and_states_have_what_they_want_and_transcripts_the_rest(
    name: int, status: int, given: int, expected: tuple[int, int, int]
) -> None:
    room = _room(name, status, given)
    assert (room.name, room.status, room.transcript) == expected


def test_one_of_two_copies_is_enough(write: Write) -> None:
    doubted = {"warnings": "low_confidence", "words": 10, "estimated_accuracy": 40.0}
    spot = {"start_s": 0.0, "end_s": 1.0, "text": "ten of clubs", "confidence": 0.3, "warnings": "low_confidence"}
    layout = write(
        [file(1, **doubted), file(2, **doubted, duplicate_of="talk 1.mp3")],
        [{"file_id": "f1", **spot}, {"file_id": "f2", **spot}],
    )
    found = worst(layout.output_dir, summary_rows(layout.output_dir))
    assert [row["file_id"] for row in found.files] == [each.file_id for each in found.spots] == ["f1"]


def test_predicted_against_actual(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    layout = write([file(1)])
    text = said(layout, capsys, predicted=Range(90.0, 100.0, 130.0), took_s=110.0, cost_usd=0.0123)
    assert "Predicted: 1m40s (1m30s to 2m10s), took 1m50s with its start" in text
    assert "Cost: $0.0123" in text


def test_what_is_worth_a_look_and_worth_hearing(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        file(1, warnings="low_confidence", words=100, estimated_accuracy=80.0),
        file(2, warnings="coverage", words=10, estimated_accuracy=90.0, uncovered_s=20.0),
        file(3, words=100, measured_accuracy=50.0),
        file(4, words=100, estimated_accuracy=50.0),
    ]
    doubted = {"start_s": 61.0, "end_s": 65.0, "confidence": 0.3, "warnings": "low_confidence"}
    segments = [
        {"file_id": "f1", "text": "one two three four \x1b[31mfive", **doubted},
        {"file_id": "f4", "text": "no warning", "start_s": 0.0, "end_s": 1.0, "warnings": ""},
    ]
    layout = write(rows, segments)
    found = worst(layout.output_dir, summary_rows(layout.output_dir))
    assert [(row["file_id"], row["doubtful_words"]) for row in found.files] == [
        ("f2", pytest.approx(51)),
        ("f3", pytest.approx(50)),
        ("f1", pytest.approx(20)),
    ]
    text = said(layout, capsys, success_count=4)
    assert "Worth hearing:\n" in text
    assert '  talk 1.mp3 1:01-1:05, about 4 words, low_confidence: "one two three four' in text
    assert "\x1b" not in text
    assert "talk 4.mp3:" not in text


def test_speech_without_words_is_worth_hearing(write: Write) -> None:
    key = "ab" * 32
    layout = write([file(1, warnings="coverage", words=3, uncovered_s=20.0, artifact_key=key)])
    ArtifactStore(layout.artifacts).put(key, {"uncovered": [[3.0, 23.0]]})
    (spot,) = worst(layout.output_dir, summary_rows(layout.output_dir)).spots
    assert (spot.start_s, spot.end_s, spot.reasons) == (3.0, 23.0, ("coverage",))


def test_times_are_those_of_the_inputs_that_were_asked_for(write: Write) -> None:
    layout = write([file(number) for number in range(4)])
    (times,) = kind_times(layout.output_dir, {"f0", "f2"})
    assert (times.kind, times.count, times.p50_s, times.p95_s) == ("transcribe", 2, 1.0, 3.0)


def test_what_enhancement_came_to() -> None:
    totals = QualityTotals()
    figures = {"segments": 10, "segments_preserved": 9, "edits": {"casing": 3}, "refused": {"number": 1}}
    totals.add("enhance", figures | {"errors_before": 5, "errors_after": 3, "reference_words": 100}, recovered=False)
    metrics = totals.metrics(succeeded=1, failed=0, elapsed_s=1.0)
    assert _enhanced(metrics["enhancement"], metrics) == (
        "Enhanced: 1 file, 3 edits, 1 refused, 90.0% of segments preserved; accuracy 95.0% -> 97.0% "
        "(1 better, 0 worse, 0 the same)"
    )
