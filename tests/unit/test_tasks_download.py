"""DOWNLOAD, and what reads what it fetched, without Ray: the real yt-dlp and a server on loopback."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yt_dlp

from tests.support.media_server import Answer, MediaServer
from trax_ray import BatchSpec
from trax_ray.core.limits.signals import SignalKind
from trax_ray.core.spec import Limits
from trax_ray.core.task import BatchTask, FailureClass, Outcome, Result
from trax_ray.kinds.assignment import Assignment
from trax_ray.kinds.download import DOWNLOAD, DownloadData, _pause_s
from trax_ray.kinds.preprocess import PREPROCESS, PreprocessData
from trax_ray.kinds.run import make_attempt
from trax_ray.kinds.transcribe import TRANSCRIBE, TranscribeData
from trax_ray.web.child import _site_of
from trax_ray.web.job import Told

FILE_ID = "0123456789abcdef"


@pytest.fixture
def spec(tmp_path: Path) -> BatchSpec:
    return BatchSpec(output_dir=str(tmp_path / "out"), model="tiny.en", formats=("txt",), allow_private_network=True)


def download(web: MediaServer, path: str, output: str = "") -> BatchTask:
    return DOWNLOAD.task(DownloadData(f"{web.url}{path}", output=output), id="download", file_id=FILE_ID)


def attempt(spec: BatchSpec, task: BatchTask, *needed: tuple[BatchTask, Outcome], number: int = 1) -> Outcome:
    """The outcome of an attempt at a task, which is told what others made."""
    results = {each.id: Result(made.artifact_key, made.metrics, kind=each.kind) for each, made in needed}
    *_, outcome = make_attempt(Assignment(spec, task, attempt=number, needed=results))
    assert isinstance(outcome, Outcome)
    return outcome


def media(spec: BatchSpec) -> list[str]:
    folder = Path(spec.output_dir, ".trax", "media")
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_chain_hands_on_what_it_made(web: MediaServer, weather: bytes, spec: BatchSpec) -> None:
    web.answers["/weather.ogg"] = Answer(weather, "audio/ogg")
    first = download(web, "/weather.ogg")
    fetched = attempt(spec, first)
    assert fetched.signal is not None
    assert fetched.signal.kind is SignalKind.OK
    assert media(spec) == [f"{FILE_ID}/media.ogg"]
    second = PREPROCESS.task(PreprocessData(""), id="preprocess", file_id=FILE_ID, depends_on=("download",))
    converted = attempt(spec, second, (first, fetched))
    assert converted.failure is None
    assert converted.metrics["duration_s"] == pytest.approx(9.13, abs=0.01)
    third = TRANSCRIBE.task(TranscribeData("", output="weather"), id="transcribe", file_id=FILE_ID)
    made = attempt(spec, third, (first, fetched), (second, converted))
    assert made.failure is None
    assert "weather" in Path(spec.output_dir, "weather.txt").read_text()
    assert media(spec) == [], "they go with the transcript"

    # What is known isn't fetched again, and what lost its media fetches them where it needs them.
    asked = len(web.asked)
    assert attempt(spec, first).metrics["cached"] is True
    assert attempt(spec, third, (first, fetched), (second, converted)).metrics["cached"] is True
    assert len(web.asked) == asked
    other = replace(spec, vad="high")
    again = attempt(other, third, (first, fetched))
    assert (again.failure, again.metrics["cached"]) == (None, False)
    assert len(web.asked) > asked
    assert media(spec) == []


@pytest.mark.long
def test_what_is_at_the_url_now_is_not_taken_for_what_was_there(
    web: MediaServer, weather: bytes, spec: BatchSpec, samples: Path
) -> None:
    web.answers["/weather.ogg"] = Answer(weather, "audio/ogg")
    first = download(web, "/weather.ogg")
    fetched = attempt(spec, first)
    Path(spec.output_dir, fetched.metrics["media"]).unlink()
    web.answers["/weather.ogg"] = Answer((samples / "stories" / "the_letter.ogg").read_bytes(), "audio/ogg")
    task = TRANSCRIBE.task(TranscribeData("", output="weather"), id="transcribe", file_id=FILE_ID)
    outcome = attempt(spec, task, (first, fetched))
    assert outcome.failure is not None
    assert (outcome.failure.code, outcome.failure.failure_class) == ("changed", FailureClass.PERMANENT)
    assert not Path(spec.output_dir, "weather.txt").exists()


@pytest.mark.long
def test_media_that_are_wanted_are_kept_and_nothing_of_the_users_is_replaced(
    web: MediaServer, weather: bytes, spec: BatchSpec
) -> None:
    web.answers["/weather.ogg"] = Answer(weather, "audio/ogg")
    mine = Path(spec.output_dir, "media", "weather.ogg")
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    task = download(web, "/weather.ogg", "media/weather")
    outcome = attempt(spec, task)
    assert mine.read_bytes() == b"mine"
    assert outcome.metrics["outputs"] == ["media/weather.new.ogg"]
    assert outcome.metrics["kept_outputs"] == ["media/weather.ogg"]
    assert mine.with_name("weather.new.ogg").read_bytes() == weather
    asked = len(web.asked)
    assert attempt(spec, task).metrics["outputs"] == ["media/weather.new.ogg"]
    assert len(web.asked) == asked, "it is there"

    mine.with_name("weather.new.ogg").unlink()
    web.answers["/weather.ogg"] = Answer(weather[:-4_000], "audio/ogg")
    failure = attempt(spec, task).failure
    assert failure is not None
    assert (failure.code, failure.failure_class) == ("changed", FailureClass.PERMANENT)
    assert [path.name for path in mine.parent.iterdir()] == ["weather.ogg"]


def test_a_refusal_is_looked_at_once_more(web: MediaServer, spec: BatchSpec) -> None:
    web.answers["/talk.ogg"] = Answer(b"no", "text/plain", status=403)
    task = download(web, "/talk.ogg")
    outcome = attempt(spec, task)
    assert outcome.failure is not None
    assert (outcome.failure.code, outcome.failure.failure_class) == ("forbidden", FailureClass.TRANSIENT)
    assert outcome.signal is not None
    assert outcome.signal.kind is SignalKind.REJECTED, "it says nothing of other recordings of that host"
    assert outcome.signal.pause_s is None, "a host of files gets no pauses"


@pytest.mark.parametrize(
    ("url", "site"),
    [
        ("https://www.youtube.com/watch?v=aqz-KE-bpKQ", "Youtube"),
        ("https://vimeo.com/22439234", "Vimeo"),
        ("https://example.org/talks/one.mp3", ""),
        ("https://example.org/feed.xml", ""),
    ],
)
def test_a_site_is_known_by_its_address(url: str, site: str) -> None:
    with yt_dlp.YoutubeDL({"quiet": True}) as ydl:
        assert _site_of(ydl, url) == site


@pytest.mark.parametrize(("given", "least", "most"), [(None, 10.0, 20.0), (0.0, 0.0, 0.0), (3.0, 3.0, 3.0)])
def test_sites_get_pauses_unless_somebody_says_otherwise(given: float | None, least: float, most: float) -> None:
    spec = BatchSpec(output_dir="/out", limits=Limits(host_pause_s=given))
    drawn = [_pause_s(spec, Told(0, site="Youtube")) or 0.0 for _ in range(50)]
    assert least <= min(drawn) <= max(drawn) <= most
    assert (_pause_s(spec, Told(0)) or 0.0) == (given or 0.0)


def test_a_host_that_wants_fewer_requests_says_so_of_all(web: MediaServer, spec: BatchSpec) -> None:
    web.answers["/talk.ogg"] = Answer(b"", "text/plain", status=429, headers={"Retry-After": "9"})
    outcome = attempt(spec, download(web, "/talk.ogg"))
    assert outcome.signal is not None
    assert (outcome.signal.kind, outcome.signal.retry_after_s) == (SignalKind.RATE_LIMITED, 9.0)
    assert outcome.failure is not None
    assert outcome.failure.retry_after_s == 9.0


def test_what_fails_for_good_leaves_nothing(web: MediaServer, spec: BatchSpec) -> None:
    outcome = attempt(spec, download(web, "/gone.ogg"))
    assert outcome.failure is not None
    assert outcome.failure.code == "gone"
    assert not list(Path(spec.output_dir, ".trax", "media").iterdir())
