"""Recordings of the web on real Ray: fetched by the real yt-dlp from a server on loopback, then transcribed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from batches import command_line, run

from tests.support.media_server import Answer, MediaServer
from trax_ray import TaskType, create_batch_processor

pytestmark = pytest.mark.usefixtures("head")


def rows(out: Path, table: str = "files") -> list[dict[str, Any]]:
    return [
        {str(name): value for name, value in row.items()}
        for row in pd.read_parquet(out / "report" / f"{table}.parquet").to_dict("records")
    ]


def test_urls_are_fetched_and_transcribed(samples: Path, tmp_path: Path) -> None:
    talk = (samples / "talks" / "weather.ogg").read_bytes()
    page = b"<html><title>Trains</title><video src='/storm.mp3'></video></html>"
    out = tmp_path / "out"
    with MediaServer(
        {
            "/talks/weather.ogg": Answer(talk, "audio/ogg"),
            "/storm": Answer(page, "text/html"),
            "/storm.mp3": Answer((samples / "stories" / "the_storm.mp3").read_bytes(), "audio/mpeg"),
        }
    ) as server:
        manifest = tmp_path / "talks.csv"
        manifest.write_text(f"url,shelf\n{server.url}/talks/weather.ogg,A7\n{server.url}/gone.mp3,B2\n")
        own = ("batch", manifest, f"{server.url}/storm", "--model", "tiny.en", "-o", out, "-f", "txt")
        done = command_line(*own, "--allow-private-network")
        assert done.code == 1, done.stderr
        found = {row["file_name"]: row for row in rows(out)}
        assert {name: row["status"] for name, row in found.items()} == {
            "weather.ogg": "succeeded",
            "gone.mp3": "failed",
            "127-0-0-1-storm": "succeeded",
        }
        gone = found["gone.mp3"]
        assert (gone["code"], gone["failure_class"], gone["failed_step"]) == ("gone", "permanent", "download")
        weather = found["weather.ogg"]
        assert weather["url"] == f"{server.url}/talks/weather.ogg"
        assert (weather["shelf"], weather["title"]) == ("A7", "weather")
        assert "weather" in (out / "weather.txt").read_text()
        assert (out / "127-0-0-1-storm.txt").is_file()
        assert list((out / ".trax" / "media").iterdir()) == [], "the media go when their transcript is there"

        asked = len(server.asked)
        (out / "weather.txt").unlink()
        command_line(*own, "--allow-private-network")
        assert "weather" in (out / "weather.txt").read_text()
        assert len(server.asked) == asked, "what is known is not fetched again"


async def test_each_step_may_be_called_for(samples: Path, tmp_path: Path) -> None:
    talk = (samples / "talks" / "weather.ogg").read_bytes()
    out = tmp_path / "out"
    with MediaServer({"/weather.ogg": Answer(talk, "audio/ogg")}) as server:
        batch = create_batch_processor(output_dir=out, model="tiny.en", allow_private_network=True)
        fetched = await batch.add_task(TaskType.DOWNLOAD, {"url": f"{server.url}/weather.ogg"})
        await batch.add_task(TaskType.TRANSCRIBE, {}, depends_on=(fetched,))
        result = await run(batch)
    assert (result.success_count, result.failure_count) == (2, 0), result.failures
    assert (out / "media" / "weather.ogg").read_bytes() == talk
    assert "weather" in (out / "weather.txt").read_text()
