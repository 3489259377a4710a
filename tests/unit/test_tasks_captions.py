"""Captions as the transcript: beside a file, from a page, from a feed; with real readers and a server on loopback."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.in_process import Ended, run_batch
from tests.support.media_server import Answer, MediaServer
from trax_ray import BatchSpec
from trax_ray.errors import ProcessingError
from trax_ray.kinds.captions import segments_of
from trax_ray.kinds.known import FoundCaptions
from trax_ray.store.download_archive import add_to_archive, read_archive
from trax_ray.web.captions import offered
from trax_ray.web.job import Captions

SRT = "1\n00:00:01,000 --> 00:00:02,500\nWords of a person.\n\n2\n00:00:03,000 --> 00:00:05,000\nAnd more.\n"


@pytest.fixture
def spec(tmp_path: Path) -> BatchSpec:
    return BatchSpec(
        output_dir=str(tmp_path / "out"), model="tiny.en", formats=("txt", "json"), captions="only",
        allow_private_network=True,
    )  # fmt: skip


def transcribed(batch: Ended) -> dict[str, Any]:
    """Metrics by name, of what was transcribed."""
    records = [each for each in batch.state.records.values() if each.task.kind == "transcribe"]
    return {str(each.task.data["name"]): each.metrics for each in records}


def test_what_lies_beside_a_file_is_its_transcript(samples: Path, tmp_path: Path, spec: BatchSpec) -> None:
    folder = tmp_path / "talks"
    folder.mkdir()
    for name in ("a.ogg", "b.ogg", "c.ogg"):
        (folder / name).write_bytes((samples / "talks" / "weather.ogg").read_bytes())
    (folder / "a.srt").write_text(SRT)
    (folder / "b.ogg.vtt").write_text("no captions at all")
    (folder / "b.txt").write_text("A reference, which captions are not measured against.")
    batch = run_batch([folder], replace(spec, reference_dir=str(folder)))
    assert batch.codes() == {"b.ogg": "not_subtitles", "c.ogg": "no_captions"}
    out = Path(spec.output_dir)
    assert (out / "a.txt").read_text() == "Words of a person.\nAnd more.\n"
    made = json.loads((out / "a.json").read_text())
    assert (made["source"], made["captions_from"], made["model"]) == ("captions", "file", "")
    figures = transcribed(batch)["a.ogg"]
    assert (figures["source"], figures["segments"], figures["words"]) == ("captions", 2, 6)
    assert "measured_accuracy" not in figures
    quality = batch.state.ledger.run.quality.metrics(succeeded=1, failed=2, elapsed_s=1.0)
    assert (quality["audio_s"], quality["avg_accuracy"], quality["no_speech_count"]) == (0.0, None, 0)

    # What changes is taken anew, and what we wrote ourselves is no source of ours.
    (folder / "a.srt").write_text(SRT.replace("person", "machine"))
    assert len(run_batch([folder], spec).attempts) >= 1
    assert "machine" in (out / "a.txt").read_text()


def test_a_speech_model_where_there_are_none(samples: Path, tmp_path: Path, spec: BatchSpec) -> None:
    path = tmp_path / "a.ogg"
    path.write_bytes((samples / "talks" / "weather.ogg").read_bytes())
    batch = run_batch([path], replace(spec, captions="prefer"))
    assert batch.codes() == {}
    assert "source" not in transcribed(batch)["a.ogg"]
    assert "weather" in (Path(spec.output_dir) / "a.txt").read_text()


PAGE = """<html><title>Trains</title><video src="/a.ogg"><track kind="subtitles" srclang="en" src="/en.vtt">
<track kind="subtitles" srclang="de" src="/de.vtt"></video></html>"""


@pytest.mark.long
def test_what_a_page_offers_needs_no_media(web: MediaServer, weather: bytes, spec: BatchSpec, tmp_path: Path) -> None:
    web.answers |= {
        "/page": Answer(PAGE.encode(), "text/html"),
        "/a.ogg": Answer(weather, "audio/ogg"),
        "/de.vtt": Answer("WEBVTT\n\n00:01.000 --> 00:02.000\nGrüße\n".encode(), "text/vtt"),
    }
    archive = tmp_path / "archive.txt"
    spec = replace(spec, language="de", model="tiny", download_archive=str(archive), preprocess=True)
    batch = run_batch([f"{web.url}/page"], spec)
    assert batch.codes() == {}
    (figures,) = transcribed(batch).values()
    assert (figures["source"], figures["language"]) == ("captions", "de")
    assert web.bytes_sent("/a.ogg") == 0
    assert not list((Path(spec.output_dir) / ".trax" / "media").glob("*/*"))
    (line,) = archive.read_text().splitlines()
    assert line == "html5mediaembed page-1"


@pytest.mark.long
def test_only_captions_and_there_are_none(web: MediaServer, weather: bytes, spec: BatchSpec) -> None:
    web.answers |= {
        "/page": Answer(PAGE.encode(), "text/html"),
        "/de.vtt": Answer(b"nothing that can be read", "text/vtt"),
        "/a.ogg": Answer(weather, "audio/ogg"),
    }
    batch = run_batch([f"{web.url}/page", f"{web.url}/a.ogg"], replace(spec, language="de", model="tiny"))
    failed = [each for each in batch.state.records.values() if each.failure is not None and each.attempt]
    assert {each.task.kind: each.failure.code for each in failed if each.failure} == {
        "youtube": "no_captions",
        "download": "no_captions",
    }
    assert not list((Path(spec.output_dir) / ".trax" / "media").glob("*/*")), "nothing is fetched for them"


# What captions say


def said(text: str, kind: str, duration_s: float | None = None) -> tuple[list[tuple[Any, ...]], bool]:
    segments, timed = segments_of(FoundCaptions(text, kind), duration_s)
    return [(each.start_s, each.end_s, each.speaker, each.text) for each in segments], timed


def test_the_json_of_podcasts() -> None:
    rows = [
        {"speaker": "Ann", "startTime": 3, "endTime": 4.5, "body": " second "},
        {"startTime": 0.5, "endTime": 2, "body": "first"},
        {"startTime": 5, "endTime": 6, "body": " "},
    ]
    assert said(json.dumps({"version": "1.0.0", "segments": rows}), "json") == (
        [(0.5, 2.0, None, "first"), (3.0, 4.5, "Ann", "second")],
        True,
    )


def test_the_html_of_podcasts() -> None:
    text = """<html><head><style>p {}</style></head><body><cite>Ann &amp; Bo:</cite><time>0:01</time><p>Hello
    <b>all</b>.</p><cite>Cy:</cite><time>1:02:03</time><p>Hi.<br>There</p><script>no()</script></body></html>"""
    found, timed = said(text, "html")
    assert found == [(1.0, 3723.0, "Ann & Bo", "Hello all ."), (3723.0, 3723.6, "Cy", "Hi. There")] or timed


def test_texts_without_times() -> None:
    assert said("All\nthat was said.", "txt", 60.0) == ([(0.0, 60.0, None, "All that was said.")], False)
    assert said("<p>All</p><p>that</p>", "html", None)[0][0][3] == "All that"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("{", "json"),
        ("[]", "json"),
        ('{"segments": [{"body": "x"}]}', "json"),
        ('{"segments": [{"body": "x", "startTime": NaN}]}', "json"),
        ('{"segments": [{"body": "x", "startTime": 1e999}]}', "json"),
        ("[" * 100_000, "json"),
        ("<p> </p>", "html"),
        (" ", "txt"),
        ("WEBVTT", "vtt"),
    ],
)
def test_what_says_nothing(text: str, kind: str) -> None:
    with pytest.raises(ProcessingError) as caught:
        segments_of(FoundCaptions(text, kind), None)
    assert caught.value.code == "not_subtitles"


def test_captions_of_machines_and_of_streams_are_none() -> None:
    info = {
        "automatic_captions": {"en": [{"ext": "vtt", "url": "https://e.org/auto"}]},
        "subtitles": {
            "en": [{"ext": "json3", "url": "https://e.org/3"}, {"ext": "vtt", "url": "https://e.org/v"}],
            "fr": [{"ext": "vtt", "url": "https://e.org/m3u8", "protocol": "m3u8_native"}],
            "live_chat": [{"ext": "json", "url": "https://e.org/chat"}],
        },
    }
    assert offered(info) == (Captions("https://e.org/v", "vtt", "en"),)


# The archive of downloads


def test_an_archive_is_yt_dlps(tmp_path: Path) -> None:
    import yt_dlp

    path = tmp_path / "archive.txt"
    assert read_archive(path) == frozenset()
    path.write_text("youtube half")  # as a writer that was killed leaves it
    assert add_to_archive(path, ("youtube abc", "youtube old"))
    assert not add_to_archive(path, ("youtube new", "youtube abc"))
    assert not add_to_archive(path, ())
    assert path.read_text() == "youtube half\nyoutube abc\n"
    with yt_dlp.YoutubeDL({"quiet": True, "download_archive": str(path)}) as ydl:
        assert ydl.in_download_archive({"id": "abc", "extractor_key": "Youtube"})
        assert ydl.in_download_archive({"id": "new", "extractor_key": "Other", "_old_archive_ids": ["youtube abc"]})
        ydl.record_download_archive({"id": "def", "extractor_key": "Youtube"})
    assert read_archive(path) == {"youtube half", "youtube abc", "youtube def"}
