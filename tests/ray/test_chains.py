"""`trax-ray batch --preprocess` on real audio and real Ray: two tasks for each recording, one row in the report."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
import soundfile
from batches import RIVER_WORDS, Said, command_line

from trax_ray.report.fold import read_history

pytestmark = pytest.mark.usefixtures("head")

RATE_HZ = 16_000


def trax_ray(*arguments: str | Path) -> Said:
    return command_line("batch", *arguments, "--model", "tiny.en", "--preprocess")


def table(out: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(out / "report" / f"{name}.parquet")


def private(out: Path) -> list[Path]:
    return list((out / ".trax" / "audio").glob("*"))


def attempts(out: Path) -> int:
    return len(read_history(out).attempts)


@pytest.mark.long
def test_recordings_are_converted_first_and_their_audio_goes_with_the_transcript(samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    talks = samples / "talks"
    done = trax_ray(talks, "-o", out, "--reference", talks, "--progress-interval", "1")
    assert done.code == 0, done.stderr
    assert "disk: about " in done.stderr
    last = [line for line in done.stderr.splitlines() if line.startswith("Progress")][-1]
    assert last.startswith("Progress: 4/4 (100.0% success)"), "inputs are counted, not steps"
    files = table(out, "files")
    assert len(files) == 4
    assert (files["status"] == "succeeded").all()
    assert (files["measured_accuracy"] > 85).all()
    tasks = table(out, "tasks").groupby("task_type")["state"].agg(list)
    assert dict(tasks) == {"preprocess": ["succeeded"] * 4, "transcribe": ["succeeded"] * 4}
    assert private(out) == []
    assert not (out / "audio").exists()
    assert "weather" in (out / "weather.txt").read_text()

    # What is lost of the output comes back from the artifacts; nothing is converted or transcribed again.
    text = (out / "weather.txt").read_text()
    (out / "weather.txt").unlink()
    before = attempts(out)
    assert trax_ray(talks, "-o", out, "--reference", talks).code == 0
    assert (out / "weather.txt").read_text() == text
    assert attempts(out) == before + 1
    assert private(out) == []


@pytest.mark.long
def test_a_long_recording_is_converted_once_for_all_of_its_chunks(river: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["-o", out, "--chunk-size", "15", "--keep-audio", "-f", "txt"]
    done = trax_ray(river, *options)
    assert done.code == 0, done.stderr
    (row,) = table(out, "files").to_dict("records")
    assert (row["status"], row["chunks"]) == ("succeeded", 3)
    assert len(row["text"].split()) == pytest.approx(RIVER_WORDS, rel=0.1)
    kept = out / "audio" / "river.flac"
    info = soundfile.info(kept)
    assert (info.samplerate, info.channels) == (RATE_HZ, 1)
    assert info.duration == pytest.approx(row["duration"], abs=0.01)
    assert private(out) == []

    # Kept audio that was deleted is made again, and not transcribed again.
    kept.unlink()
    before = attempts(out)
    assert trax_ray(river, *options).code == 0
    assert kept.is_file()
    assert attempts(out) == before + 1

    # Another model's transcript, or the same from lost artifacts, finds no audio and makes it.
    (out / "river.txt").unlink()
    shutil.rmtree(out / ".trax" / "artifacts")
    without = [option for option in options if option != "--keep-audio"]
    done = trax_ray(river, *without)
    assert done.code == 0, done.stderr
    assert (out / "river.txt").read_text().split() == row["text"].split()
    assert private(out) == []
    assert kept.is_file(), "it was asked for in its time"


def test_what_cannot_be_converted_fails_in_that_step(samples: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF and so on")
    out = tmp_path / "out"
    done = trax_ray(bad, samples / "first_test.wav", "-o", out)
    assert done.code == 1, done.stderr
    assert "1 of 2 succeeded, 1 failed" in done.stdout
    files = table(out, "files").set_index("file_name")
    assert dict(files["status"]) == {"bad.wav": "failed", "first_test.wav": "succeeded"}
    failed = files.loc["bad.wav"]
    assert (failed["failed_step"], failed["code"], failed["failure_class"]) == (
        "preprocess",
        "not_decodable",
        "permanent",
    )
    tasks = table(out, "tasks")
    assert sorted(tasks[tasks["state"] == "failed"]["task_type"]) == ["preprocess", "transcribe"]
    assert len(table(out, "attempts")) == 3
    assert private(out) == []
