"""YOUTUBE, without Ray: the real yt-dlp and a server on loopback."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.support.media_server import Answer, MediaServer
from trax_ray import BatchSpec
from trax_ray.core.limits.signals import SignalKind
from trax_ray.core.task import BatchTask, FailureClass, Outcome, Result
from trax_ray.kinds.assignment import Assignment
from trax_ray.kinds.download import DOWNLOAD, DownloadData
from trax_ray.kinds.run import make_attempt
from trax_ray.kinds.youtube import YOUTUBE, YoutubeData
from trax_ray.web.job import Entry

FILE_ID = "0123456789abcdef"


@pytest.fixture
def spec(tmp_path: Path) -> BatchSpec:
    return BatchSpec(output_dir=str(tmp_path / "out"), model="tiny.en", formats=("txt",), allow_private_network=True)


def asked(web: MediaServer, path: str, **fields: Any) -> BatchTask:
    return YOUTUBE.task(YoutubeData(f"{web.url}{path}", output="metadata/talk", **fields), id="look", file_id=FILE_ID)


def attempt(spec: BatchSpec, task: BatchTask, *needed: tuple[BatchTask, Outcome]) -> Outcome:
    results = {each.id: Result(made.artifact_key, made.metrics, kind=each.kind) for each, made in needed}
    *_, outcome = make_attempt(Assignment(spec, task, needed=results))
    assert isinstance(outcome, Outcome)
    return outcome


PAGE = """<html><title>Trains</title><script type="application/ld+json">{{"@context": "http://schema.org",
"@type": "VideoObject", "name": "Trains at night", "uploadDate": "2026-05-01", "description": "All of them.",
"duration": "PT9S", "keywords": "trains,night", "interactionCount": "1234", "contentUrl": "{0}/a.ogg"}}</script></html>
"""


@pytest.mark.long
def test_what_a_page_says_and_no_second_question(web: MediaServer, weather: bytes, spec: BatchSpec) -> None:
    web.answers |= {
        "/trains": Answer(PAGE.format(web.url).encode(), "text/html"),
        "/a.ogg": Answer(weather, "audio/ogg"),
    }
    task = asked(web, "/trains")
    made = attempt(spec, task)
    assert made.failure is None
    assert made.signal is not None
    assert made.signal.kind is SignalKind.OK
    figures = made.metrics
    assert (figures["title"], figures["uploaded_on"], figures["duration_s"]) == ("Trains at night", "20260501", 9.0)
    assert figures["webpage"] == f"{web.url}/trains"
    written = json.loads(Path(spec.output_dir, "metadata", "talk.json").read_text())
    assert (written["url"], written["description"]) == (f"{web.url}/trains", "All of them.")
    info = Path(spec.output_dir, ".trax", "media", FILE_ID, "info.json")
    assert stat.S_IMODE(info.stat().st_mode) == 0o600

    pages = sum(each.path == "/trains" for each in web.asked)
    fetched = attempt(spec, DOWNLOAD.task(DownloadData(task.data["url"]), id="download", file_id=FILE_ID), (task, made))
    assert fetched.failure is None
    assert Path(spec.output_dir, fetched.metrics["media"]).read_bytes() == weather
    assert sum(each.path == "/trains" for each in web.asked) == pages, "what was said once isn't asked again"

    before = len(web.asked)
    assert attempt(spec, task).metrics["cached"] is True
    assert len(web.asked) == before


@pytest.mark.long
def test_what_was_said_too_long_ago_is_asked_again(web: MediaServer, weather: bytes, spec: BatchSpec) -> None:
    web.answers |= {"/page": Answer(b"<html><title>A</title><video src='/a.ogg'></video></html>", "text/html")}
    web.answers["/a.ogg"] = Answer(weather, "audio/ogg")
    task = asked(web, "/page")
    made = attempt(spec, task)
    del web.answers["/a.ogg"]
    web.answers |= {"/page": Answer(b"<html><title>A</title><video src='/b.ogg'></video></html>", "text/html")}
    web.answers["/b.ogg"] = Answer(weather, "audio/ogg")
    fetched = attempt(spec, DOWNLOAD.task(DownloadData(task.data["url"]), id="download", file_id=FILE_ID), (task, made))
    assert fetched.failure is None
    assert web.bytes_sent("/b.ogg") >= len(weather)


def test_what_a_feed_says_is_asked_of_nobody(web: MediaServer, spec: BatchSpec) -> None:
    entry = Entry(f"{web.url}/1.ogg", id="1", title="One", series="Talks", uploaded_on="20260501", media=True)
    made = attempt(spec, asked(web, "/1.ogg", entry=entry))
    assert (made.failure, web.asked) == (None, [])
    assert (made.metrics["title"], made.metrics["channel"]) == ("One", "Talks")


@pytest.mark.long
@pytest.mark.parametrize(
    ("path", "listing", "code"),
    [
        ("/gone", False, "gone"),
        ("/gone", True, "gone"),
        ("/damaged", True, "bad_feed"),
        ("/feed", True, "several_recordings"),
    ],
)
def test_why_it_can_not_be_had(web: MediaServer, spec: BatchSpec, path: str, listing: bool, code: str) -> None:
    web.answers |= {"/damaged": Answer(b"<rss><channel>", "application/rss+xml")}
    web.answers["/feed"] = Answer(b"<rss><channel><item/></channel></rss>", "application/rss+xml")
    failure = attempt(spec, asked(web, path, listing=listing)).failure
    assert failure is not None
    assert (failure.code, failure.failure_class) == (code, FailureClass.PERMANENT)
    assert not list(Path(spec.output_dir, ".trax", "media").iterdir())
