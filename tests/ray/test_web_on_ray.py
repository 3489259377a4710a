"""Recordings of the web on real Ray: fetched by the real yt-dlp from a server on loopback, then transcribed."""

from __future__ import annotations

import json
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
        {str(name): None if value is pd.NaT or value != value else value for name, value in row.items()}
        for row in pd.read_parquet(out / "report" / f"{table}.parquet").to_dict("records")
    ]


@pytest.mark.long
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


FEED = """<?xml version="1.0"?><rss version="2.0" xmlns:podcast="https://podcastindex.org/namespace/1.0"><channel>
<title>Talks</title>
<item><title>Weather</title><guid>1</guid><pubDate>Tue, 05 May 2026 10:00:00 GMT</pubDate>
 <enclosure url="/weather.ogg" type="audio/ogg"/></item>
<item><title>Said</title><guid>2</guid><enclosure url="/said.ogg" type="audio/ogg"/>
 <podcast:transcript url="/said.vtt" type="text/vtt"/></item>
<item><title>Gone</title><guid>3</guid><enclosure url="/gone.ogg" type="audio/ogg"/></item>
<item><title>Weather again</title><guid>4</guid><enclosure url="/weather.ogg" type="audio/ogg"/></item>
</channel></rss>"""


@pytest.mark.long
def test_a_feed_is_taken_apart(samples: Path, tmp_path: Path) -> None:
    out, archive = tmp_path / "out", tmp_path / "archive.txt"
    with MediaServer(
        {
            "/feed": Answer(FEED.encode(), "application/rss+xml"),
            "/weather.ogg": Answer((samples / "talks" / "weather.ogg").read_bytes(), "audio/ogg"),
            "/said.vtt": Answer(b"WEBVTT\n\n00:01.000 --> 00:02.000\n<v Ann>Words</v>\n", "text/vtt"),
        }
    ) as server:
        own = ("batch", f"{server.url}/feed", f"{server.url}/dead", "--model", "tiny.en", "-o", out, "-f", "json")
        more = ("--captions", "prefer", "--download-archive", archive, "--allow-private-network")
        done = command_line(*own, *more)
        assert done.code == 1, done.stderr
        assert "1 named more than once" in done.stderr
        assert server.bytes_sent("/said.ogg") == 0
    found = {row["file_name"]: row for row in rows(out)}
    assert {name: (row["status"], row["code"], row["failed_step"]) for name, row in found.items()} == {
        "Talks/Weather": ("succeeded", None, None),
        "Talks/Said": ("succeeded", None, None),
        "Talks/Gone": ("failed", "gone", "download"),
        "127-0-0-1-dead": ("failed", "gone", "youtube"),
    }
    weather, said = found["Talks/Weather"], found["Talks/Said"]
    assert (weather["title"], weather["channel"], weather["uploaded_on"]) == ("Weather", "Talks", "20260505")
    assert (weather["source"], said["source"], said["text"], said["model"]) == ("model", "captions", "Words", None)
    assert (out / said["metadata_path"]).is_file()
    # GUIDs are addresses, where a feed doesn't say otherwise.
    assert sorted(archive.read_text().split()) == sorted(["rss", "rss", f"{server.url}/1", f"{server.url}/2"])


async def test_each_step_may_be_called_for(samples: Path, tmp_path: Path) -> None:
    talk = (samples / "talks" / "weather.ogg").read_bytes()
    out = tmp_path / "out"
    with MediaServer({"/weather.ogg": Answer(talk, "audio/ogg")}) as server:
        batch = create_batch_processor(output_dir=out, model="tiny.en", allow_private_network=True)
        fetched = await batch.add_task(TaskType.DOWNLOAD, {"url": f"{server.url}/weather.ogg"})
        await batch.add_task(TaskType.TRANSCRIBE, {}, depends_on=(fetched,))
        await batch.add_task(TaskType.YOUTUBE, {"url": f"{server.url}/weather.ogg"})
        result = await run(batch)
    assert (result.success_count, result.failure_count) == (3, 0), result.failures
    assert json.loads((out / "metadata" / "weather.json").read_text())["title"] == "weather"
    assert (out / "media" / "weather.ogg").read_bytes() == talk
    assert "weather" in (out / "weather.txt").read_text()
