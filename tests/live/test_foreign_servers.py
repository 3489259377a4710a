"""The samples through servers that nobody here wrote: right transcripts, and requests and money as counted between.

`make live-servers` installs them; what isn't installed is skipped.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from tests.live.servers import USD_A_MINUTE, Line, asked_of, free_port, hub_cache, node, program, running, weights
from tests.ray.batches import command_line

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("head")]

SPOKEN = 13
"""Samples with speech in them, one request each; the fourteenth is a quiet room."""

SAID = "The train leaves at nine. Bring your coat."


@dataclass(frozen=True)
class Ran:
    """What came of a batch."""

    out: Path

    @property
    def run(self) -> dict[str, object]:
        read: dict[str, object] = json.loads((self.out / "report" / "run.json").read_text())
        return read

    @property
    def files(self) -> pd.DataFrame:
        return pd.read_parquet(self.out / "report" / "files.parquet")

    @property
    def requests(self) -> pd.DataFrame:
        """The attempts that asked the service."""
        attempts = pd.read_parquet(self.out / "report" / "attempts.parquet")
        return attempts[attempts["task_id"].str.contains("/")]


def batch(samples: Path, folder: Path, line: Line, model: str, *more: str) -> Ran:
    """The command as a person gives it."""
    where = ["--base-url", line.url, "--model", model, "--output-dir", folder / "out"]
    said = command_line("batch", samples, "--reference", samples, *where, *more)
    assert said.code == 0, said.stdout + said.stderr
    return Ran(folder / "out")


def expect_right(ran: Ran, line: Line) -> None:
    """All are done, most words are right, and each request was made and counted once."""
    assert list(ran.files["status"]) == ["succeeded"] * (SPOKEN + 1)
    assert ran.run["quality_metrics"]["measured_accuracy"] > 95  # type: ignore[index]
    assert line.statuses == [200] * SPOKEN
    assert len(ran.requests) == SPOKEN


def test_open_asr_server(samples: Path, tmp_path: Path) -> None:
    serve = program("open-asr-server", "bin", "open-asr-server")
    port = free_port()
    cache = hub_cache(tmp_path / "hf" / "hub")
    environment = {"HF_HOME": str(cache.parent), "HF_HUB_OFFLINE": "1"}
    with (
        running([serve, "serve", "-p", str(port)], port, tmp_path / "log", environment) as url,
        Line(url).open() as line,
    ):
        ran = batch(samples, tmp_path, line, "openai/whisper-tiny.en")
    expect_right(ran, line)
    assert ran.run["cost_usd"] is None, "what a server of one's own charges isn't known"


def test_faster_whisper_server_and_what_it_would_cost(samples: Path, tmp_path: Path) -> None:
    """It does one request at a time, whatever it is sent."""
    serve = program("faster-whisper-server", "bin", "faster-whisper-server")
    port = free_port()
    command = [serve, str(weights()), "--host", "127.0.0.1", "--port", str(port)]
    with (
        running(command, port, tmp_path / "log", {"HF_HUB_OFFLINE": "1"}) as url,
        Line(url).open() as line,
    ):
        ran = batch(samples, tmp_path, line, "whisper-1", "--max-cost", "1")
    expect_right(ran, line)
    begun_seconds_usd = SPOKEN * USD_A_MINUTE / 60
    assert ran.run["cost_usd"] == pytest.approx(line.usd, abs=begun_seconds_usd)


def test_aimock_with_faults_of_its_own(samples: Path, tmp_path: Path) -> None:
    """It drops, mangles, limits and cuts a third of the requests; what it has segments for is less than its text."""
    serve = program("aimock", "node_modules", "@copilotkit", "aimock", "dist", "cli.js")
    first = SAID.split(". ", 1)[0]
    segment = {"id": 0, "start": 0.0, "end": 1.5, "text": f" {first}.", "avg_logprob": -0.2, "no_speech_prob": 0.01}
    said = {"text": SAID, "language": "english", "duration": 3.0, "segments": [segment]}
    fixtures = tmp_path / "fixtures.json"
    fixtures.write_text(
        json.dumps({"fixtures": [{"match": {"endpoint": "transcription"}, "response": {"transcription": said}}]})
    )
    port = free_port()
    command = [node(), serve, "-p", str(port), "-f", str(fixtures), "--strict"]
    for fault in ("drop", "malformed", "ratelimit", "disconnect"):
        command += [f"--chaos-{fault}", "0.08"]
    with running(command, port, tmp_path / "log") as url, Line(url).open() as line:
        ran = batch(samples, tmp_path, line, "whisper-1", "--max-retries", "6")
        journal = asked_of(f"{url}/__aimock/journal")
    files = ran.files
    assert list(files["status"]) == ["succeeded"] * (SPOKEN + 1)
    assert sorted(set(files["text"])) == ["", SAID]
    told = files[files["text"] == SAID]["warnings"]
    assert all("text_beyond_segments" in warnings for warnings in told)
    assert len(journal) == len(line.statuses) == len(ran.requests)
    limited = line.statuses.count(429)  # which costs no retry
    assert ran.run["retries"] == len(line.statuses) - SPOKEN - limited
