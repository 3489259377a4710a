"""Enhancement on Ray: recordings, then their transcripts, by the command line; and from Python."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from batches import Said, command_line

from tests.support.chat import punctuating
from tests.support.speech_server import KEY, SpeechServer, constant, faults
from trax_ray import TaskType, create_batch_processor

pytestmark = pytest.mark.usefixtures("head")

SAID = "so the harbour was built in 1892 and nobody knows who paid"
READS = "So the harbour was built in 1892 and nobody knows who paid."
CANARY = "sk-canary-fedcba9876543210"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[SpeechServer]:
    """A server for both: speech, and chat."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ENHANCE_API_KEY", KEY)
    with SpeechServer(constant(SAID), chat=punctuating) as running:
        yield running


def trax_ray(server: SpeechServer, *arguments: object) -> Said:
    speech = ["--base-url", server.url, "--model", "whisper-1"]
    text = ["--enhance-base-url", server.url, "--enhance-model", "deepseek-flash"]
    return command_line("batch", *arguments, *speech, *text, "--max-cost", "5", "--progress-interval", "1")


def rows(out: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pd.read_parquet(out / "report" / "files.parquet").to_dict("records")
    return found


@pytest.mark.long
def test_recordings_are_enhanced_and_changing_that_alone_pays_for_no_transcription(
    server: SpeechServer, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "ENHANCE_API_KEY"):
        monkeypatch.setenv(name, CANARY)
    server.key = CANARY
    out = tmp_path / "out"
    done = trax_ray(server, samples / "talks", "-o", out, "--enhance")
    assert done.code == 0, done.stderr
    assert "enhanced (format, deepseek-flash)" in done.stderr
    found = rows(out)
    told = {(row["status"], row["text"], row["enhanced_by"]) for row in found}
    assert told == {("succeeded", SAID, "deepseek-flash")}
    assert (out / "weather.enhanced.txt").read_text() == f"{READS}\n"
    assert (out / "weather.txt").read_text() == f"{SAID}\n"
    segments = pd.read_parquet(out / "report" / "segments.parquet")
    assert segments["enhanced_text"].notna().all()
    assert (segments["enhanced_text"] != segments["text"]).all()
    run = json.loads((out / "report" / "run.json").read_text())
    assert run["quality_metrics"]["content_preservation_rate"] == 100.0
    paid = server.ledger.sums
    assert run["cost_usd"] == pytest.approx(paid.usd, rel=0.3), "by the hour, what the text model charges is double"
    kept = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert CANARY.encode() not in kept + (done.stdout + done.stderr).encode()

    asked = len(server.ledger.of("transcriptions"))
    done = trax_ray(server, samples / "talks", "-o", out, "--enhance=words")
    assert done.code == 0, done.stderr
    assert len(server.ledger.of("transcriptions")) == asked
    assert len(server.ledger.of("chat")) == 8


@pytest.mark.long
def test_a_failed_enhancement_keeps_the_transcript_and_says_so(
    server: SpeechServer, samples: Path, tmp_path: Path
) -> None:
    server.order(faults.starting(1, faults.status(422, "no such text"), endpoint="chat"))
    out = tmp_path / "out"
    done = trax_ray(server, samples / "first_test.wav", "-o", out, "--enhance")
    assert done.code == 1, done.stderr
    (row,) = rows(out)
    assert (row["status"], row["failed_step"], row["code"], row["text"]) == ("failed", "enhance", "rejected", SAID)
    assert "no such text" in row["error"]
    assert (out / "first_test.txt").exists()
    assert not (out / "first_test.enhanced.txt").exists()


@pytest.mark.long
async def test_from_python_a_file_alone_and_what_a_task_transcribes(
    server: SpeechServer, samples: Path, tmp_path: Path
) -> None:
    notes = tmp_path / "notes.srt"
    notes.write_text(f"1\n00:00:01,000 --> 00:00:04,000\n{SAID}\n\n")
    processor = create_batch_processor(
        output_dir=tmp_path / "out",
        model="whisper-1",
        base_url=server.url,
        enhance="words",
        enhance_model="deepseek-flash",
        enhance_base_url=server.url,
    )
    await processor.add_task(TaskType.ENHANCE, {"transcript_path": notes})
    spoken = await processor.add_task(TaskType.TRANSCRIBE, {"file_path": samples / "first_test.wav"})
    assert spoken.startswith("transcribe-")
    result = await asyncio.wait_for(processor.start(), timeout=60)
    assert (result.success_count, result.failure_count) == (2, 0), result.failures
    assert "00:00:01,000 --> 00:00:04,000\nSo the harbour" in (tmp_path / "out" / "notes.enhanced.srt").read_text()
    assert (tmp_path / "out" / "first_test.enhanced.txt").read_text() == f"{READS}\n"
