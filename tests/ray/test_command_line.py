"""`trax-ray batch` as a person runs it: real audio, real Ray, another process."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from batches import command_line

from trax_ray.cluster.connect import Connection
from trax_ray.report.fold import read_history

PROGRESS = re.compile(
    r"^Progress: \d+/\d+ \(\d+\.\d% success\) \| Active: \d+ \| Failed: \d+ \| Memory: \d+\.\dMB \| CPU: \d+\.\d%"
    r" \| ETA: (--|\d+s|\d+m\d\ds|\d+h\d\dm)$"
)


def command(*arguments: str | Path, address: str = "", model: str = "tiny.en") -> list[str]:
    own = [sys.executable, "-m", "trax_ray", "batch", *map(str, arguments), "--model", model]
    return [*own, "--address", address] if address else own


def trax_ray(*arguments: str | Path, **options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments, **options), capture_output=True, text=True, timeout=180)


def listed_jobs(head: Connection) -> list[str]:
    """The batches that the dashboard lists."""
    token = (Path.home() / ".ray" / "auth_token").read_text()
    request = urllib.request.Request(f"{head.dashboard_url}/api/jobs/", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        jobs = json.load(answer)
    return [job["metadata"].get("batch") for job in jobs]


def written(folder: Path) -> dict[str, tuple[int, int]]:
    """Transcripts and artifacts: inode and time of the last change, by path."""
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and "report" not in path.parts and (".trax" not in path.parts or "artifacts" in path.parts)
    }


def test_the_samples_are_transcribed_and_measured(head: Connection, samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "my-batch"
    own = (samples, "--reference", samples, "-o", out, "--progress-interval", "1")
    done = trax_ray(*own, address=head.address, model="tiny.en")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("Progress")]
    assert lines, done.stderr
    assert all(PROGRESS.match(line) for line in lines), lines
    assert lines[-1].startswith("Progress: 14/14 (100.0% success) | Active: 0 | Failed: 0")
    assert "raylet" not in done.stdout

    files = pd.read_parquet(out / "report" / "files.parquet")
    spoken = files[files["file_name"] != "quiet_room.flac"]
    assert (files["status"] == "succeeded").all()
    assert len(spoken) == 13
    assert (spoken["measured_accuracy"] > 50).all()
    silent = files[files["file_name"] == "quiet_room.flac"].iloc[0]
    assert silent["text"] == ""
    assert silent["warnings"] == "no_speech"
    assert pd.isna(silent["measured_accuracy"])
    run = json.loads((out / "report" / "run.json").read_text())
    assert run["quality_metrics"]["accuracy_source"] == "measured"
    assert run["quality_metrics"]["measured_accuracy"] > 90
    pooled = duckdb.sql(f"SELECT sum(wer_errors), sum(wer_words) FROM '{out}/report/files.parquet'").fetchall()[0]
    assert 100 * (1 - pooled[0] / pooled[1]) == pytest.approx(run["quality_metrics"]["measured_accuracy"])
    for name in ("files", "tasks", "attempts", "segments"):
        assert duckdb.sql(f"SELECT count(*) FROM '{out}/report/{name}.parquet'").fetchall()[0][0] >= 14

    recordings = [path for path in samples.rglob("*") if path.suffix in (".wav", ".mp3", ".flac", ".ogg", ".m4a")]
    for path in recordings:
        stem = out / path.relative_to(samples).with_suffix("")
        for suffix in ("txt", "srt", "vtt", "tsv", "json"):
            assert Path(f"{stem}.{suffix}").is_file(), f"{stem}.{suffix}"
        assert path.name in done.stdout

    assert "my-batch" in listed_jobs(head)
    assert (Path.home() / ".ray" / "auth_token").stat().st_mode & 0o077 == 0

    before = written(out)
    again = command_line("batch", *own, "--model", "tiny.en")
    assert again.code == 0, again.stderr
    assert written(out) == before
    assert len(read_history(out).attempts) == len(recordings)


@pytest.mark.speech
@pytest.mark.usefixtures("head")
def test_broken_files_fail_alone_and_silence_invents_nothing(speech: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = command_line("batch", speech, "-o", out, "--model", "tiny.en")
    assert done.code == 1, done.stderr
    files = pd.read_parquet(out / "report" / "files.parquet").set_index("file_name")
    failed = files[files["status"] == "failed"]
    assert sorted(failed.index) == ["broken/bad.wav", "broken/null.wav"]
    assert set(failed["failure_class"]) == {"permanent"}
    assert set(failed["category"]) == {"processing"}
    assert (failed["attempts"] == 1).all()
    for name, reason in failed["error"].items():
        assert Path(name).name in reason
        assert "Error" not in reason, "a reason is a sentence, not an exception"
    assert (files.drop(failed.index)["status"] == "succeeded").all()
    silent = files.loc["silence/no-speech.wav"]
    assert (silent["text"], silent["warnings"]) == ("", "no_speech")
    assert (out / "silence" / "no-speech.txt").read_text() == ""
    assert (files.drop([*failed.index, "silence/no-speech.wav"])["text"] != "").all()
    log = (out / "report" / "errors.log").read_text().splitlines()
    assert len(log) == 2
    assert all("permanent" in line for line in log)


@pytest.mark.usefixtures("head")
def test_what_cannot_be_transcribed_is_a_failed_row_among_others(samples: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("a lone file that is named is taken, whatever it is")
    gone = tmp_path / "gone.wav"
    out = tmp_path / "out"
    own = ("-o", out, "--model", "tiny.en")
    done = command_line("batch", notes, gone, samples / "quiet_room.flac", *own)
    assert done.code == 1, done.stderr
    files = pd.read_parquet(out / "report" / "files.parquet").set_index("file_name")
    assert dict(files["status"]) == {"notes.txt": "failed", "gone.wav": "failed", "quiet_room.flac": "succeeded"}
    assert dict(files["category"].dropna()) == {"notes.txt": "processing", "gone.wav": "file"}
    assert set(files["failure_class"].dropna()) == {"permanent"}
    assert "2 failed" in done.stdout
    # What failed stays failed, and another batch over the same folder isn't blamed for it.
    assert command_line("batch", gone, samples / "quiet_room.flac", *own).code == 1
    assert command_line("batch", samples / "quiet_room.flac", *own).code == 0
    rebuilt = command_line("report", out)
    assert rebuilt.stdout.startswith("3 inputs, ")


def test_a_cluster_that_is_not_there(samples: Path, tmp_path: Path) -> None:
    done = trax_ray(samples / "quiet_room.flac", "-o", tmp_path / "out", address="127.0.0.1:9")
    assert done.returncode == 3
    assert "127.0.0.1:9" in done.stderr.splitlines()[-1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_folder_that_cannot_be_written(tmp_path: Path, samples: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    done = trax_ray(samples / "first_test.wav", "-o", locked / "out")
    assert done.returncode == 3
    assert "locked" in done.stderr


@pytest.mark.long
@pytest.mark.usefixtures("head")
def test_a_changed_recording_is_transcribed_again(samples: Path, tmp_path: Path) -> None:
    talk = tmp_path / "in" / "talk.wav"
    talk.parent.mkdir()
    shutil.copy(samples / "first_test.wav", talk)
    out = tmp_path / "out"
    own = ("batch", talk, "-o", out, "-f", "txt", "--model", "tiny.en")
    assert command_line(*own).code == 0
    first = (out / "talk.txt").read_text()
    assert not (out / "talk.srt").exists()
    shutil.copy(samples / "stories" / "the_storm.mp3", talk)
    assert command_line(*own).code == 0
    assert (out / "talk.txt").read_text() != first
    (out / "talk.txt").unlink()
    assert command_line(*own).code == 0
    assert (out / "talk.txt").read_text() != first
