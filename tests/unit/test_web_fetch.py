"""Fetching with the real yt-dlp, from a server on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import av
import psutil
import pytest

from tests.support.media_server import Answer, Asked, MediaServer
from trax_ray.errors import NetworkError, UsageError
from trax_ray.web.fetch import fetch, fetch_captions, look
from trax_ray.web.job import MOST_NAMES, MOST_TEXT, Captions, Item, Job, Told
from trax_ray.web.process import let_go

TALK = "audio/ogg"


def job(web: MediaServer, path: str, folder: Path, **fields: Any) -> Job:
    return Job(f"{web.url}{path}", "fetch", str(folder), **{"allow_private_network": True, **fields})


def fetched(job: Job) -> Item:
    return told(fetch(job))


def told(working: Generator[Told, None, Item]) -> Item:
    """What comes of it."""
    while True:
        try:
            assert isinstance(next(working), Told)
        except StopIteration as end:
            item: Item = end.value
            return item


def failed(job: Job) -> NetworkError:
    with pytest.raises(NetworkError) as caught:
        fetched(job)
    return caught.value


def test_a_file(web: MediaServer, weather: bytes, tmp_path: Path) -> None:
    web.answers["/2024/talk one.ogg"] = Answer(weather, TALK)
    item = fetched(job(web, "/2024/talk%20one.ogg", tmp_path / "own"))
    assert (tmp_path / "own" / item.file).read_bytes() == weather
    assert item.title == "talk one"
    assert os.listdir(tmp_path / "own") == [item.file], "nothing else is left"


def test_what_came_before_the_connection_was_lost_is_not_fetched_again(
    web: MediaServer, weather: bytes, tmp_path: Path
) -> None:
    web.answers["/talk.ogg"] = Answer(weather, TALK, cut_after=10_000, cuts=2)
    wanted = job(web, "/talk.ogg", tmp_path)
    error = failed(wanted)  # yt-dlp has read a piece of the file to see what it is, and that was cut too
    assert (error.code, error.failure_class) == ("incomplete", "transient")
    item = fetched(wanted)
    assert (tmp_path / item.file).read_bytes() == weather
    assert max(asked.start for asked in web.asked) >= 1_000, "it went on where it had ended"


@pytest.mark.long
def test_a_killed_process_goes_on_where_it_was(web: MediaServer, weather: bytes, tmp_path: Path) -> None:
    data = weather * 20
    web.answers["/talk.ogg"] = Answer(data, TALK, bytes_per_s=200_000)
    wanted = job(web, "/talk.ogg", tmp_path)
    working = fetch(wanted)
    while next(working).bytes < 100_000:
        pass
    working.close()
    had = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert had >= 100_000
    web.answers["/talk.ogg"] = Answer(data, TALK)
    item = fetched(wanted)
    assert (tmp_path / item.file).read_bytes() == data
    assert max(asked.start for asked in web.asked) >= 100_000


@pytest.mark.long
def test_what_is_there_whole_is_not_fetched_again(web: MediaServer, weather: bytes, tmp_path: Path) -> None:
    web.answers["/talk.ogg"] = Answer(weather, TALK)
    fetched(job(web, "/talk.ogg", tmp_path))
    before = len([each for each in web.asked if each.method == "GET"])
    item = fetched(job(web, "/talk.ogg", tmp_path))
    assert (tmp_path / item.file).read_bytes() == weather
    assert len([each for each in web.asked if each.method == "GET"]) <= before + 1, "only what says what it is"


def test_fewer_bytes_than_the_server_had_said_are_no_recording(
    web: MediaServer, weather: bytes, tmp_path: Path
) -> None:
    web.answers["/talk.ogg"] = Answer(weather, TALK, said_length=len(weather) + 5_000, ranges=False)
    error = failed(job(web, "/talk.ogg", tmp_path))
    assert (error.code, error.failure_class) == ("incomplete", "transient")
    assert not list(tmp_path.glob("media.ogg"))


@pytest.mark.parametrize(
    ("status", "code", "failure_class"),
    [(404, "gone", "permanent"), (429, "rate_limited", "transient"), (503, "server_error", "transient")],
)
def test_what_a_status_means(web: MediaServer, tmp_path: Path, status: int, code: str, failure_class: str) -> None:
    web.answers["/talk.ogg"] = Answer(b"no", "text/plain", status=status, headers={"Retry-After": "7"})
    error = failed(job(web, "/talk.ogg?token=sesame", tmp_path))
    assert (error.code, error.failure_class) == (code, failure_class)
    assert error.retry_after_s == (7.0 if status == 429 else None)
    assert str(error).startswith(f"127.0.0.1: HTTP {status}: ")
    assert "sesame" not in str(error)


@pytest.mark.long
def test_a_page_that_shows_a_recording(web: MediaServer, weather: bytes, tmp_path: Path) -> None:
    page = b"<html><title>A talk</title><body><video src='talk.ogg'></video></body></html>"
    web.answers |= {"/page": Answer(page, "text/html"), "/talk.ogg": Answer(weather, TALK)}
    item = fetched(job(web, "/page", tmp_path))
    assert (tmp_path / item.file).read_bytes() == weather


@pytest.mark.long
def test_a_page_that_shows_none(web: MediaServer, tmp_path: Path) -> None:
    web.answers["/page"] = Answer(b"<html><title>Text</title><p>Only text.</html>", "text/html")
    error = failed(job(web, "/page", tmp_path))
    assert (error.code, error.failure_class) == ("nothing_to_fetch", "permanent")


def stream(samples: Path, folder: Path, **options: str) -> dict[str, Answer]:
    """A recording as FFmpeg cuts it for HLS."""
    folder.mkdir()
    with (
        av.open(str(samples / "stories" / "the_letter.ogg")) as source,
        av.open(str(folder / "list.m3u8"), "w", format="hls", options={"hls_time": "3", **options}) as target,
    ):
        track = target.add_stream("aac", rate=16_000, layout="mono")
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=16_000)
        for frame in source.decode(audio=0):
            for part in resampler.resample(frame):
                target.mux(track.encode(part))
        target.mux(track.encode(None))
    types = {".m3u8": "application/vnd.apple.mpegurl"}
    return {
        f"/hls/{path.name}": Answer(path.read_bytes(), types.get(path.suffix, "video/mp2t"))
        for path in folder.iterdir()
    }


def length_s(path: Path) -> float:
    with av.open(str(path)) as media:
        return sum(frame.samples / frame.sample_rate for frame in media.decode(audio=0))


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.long
def test_a_stream_of_segments(
    web: MediaServer, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encrypted: bool
) -> None:
    monkeypatch.chdir(tmp_path)  # FFmpeg leaves the key there
    options = {"hls_list_size": "0", "hls_playlist_type": "vod"}
    if encrypted:
        options |= {"hls_enc": "1", "hls_enc_key": "0123456789abcdef", "hls_enc_key_url": "key.bin"}
    web.answers |= stream(samples, tmp_path / "made", **options)
    if encrypted:
        web.answers["/hls/key.bin"] = Answer(b"0123456789abcdef")
    item = fetched(job(web, "/hls/list.m3u8", tmp_path / "own"))
    assert length_s(tmp_path / "own" / item.file) == pytest.approx(
        length_s(samples / "stories" / "the_letter.ogg"), abs=0.3
    )


@pytest.mark.long
def test_a_segment_that_is_lost_is_no_recording(web: MediaServer, samples: Path, tmp_path: Path) -> None:
    web.answers |= stream(samples, tmp_path / "made", hls_list_size="0", hls_playlist_type="vod")
    del web.answers["/hls/list2.ts"]
    error = failed(job(web, "/hls/list.m3u8", tmp_path / "own"))
    assert error.code == "gone"


def test_a_live_stream_is_refused(web: MediaServer, samples: Path, tmp_path: Path) -> None:
    web.answers |= stream(samples, tmp_path / "made", hls_list_size="3", hls_flags="omit_endlist")
    error = failed(job(web, "/hls/list.m3u8", tmp_path / "own"))
    assert (error.code, error.failure_class) == ("live_stream", "permanent")


@pytest.mark.long
def test_a_protected_stream_starts_no_other_program(web: MediaServer, samples: Path, tmp_path: Path) -> None:
    answers = stream(samples, tmp_path / "made", hls_list_size="0", hls_playlist_type="vod")
    text = answers["/hls/list.m3u8"].body.decode()
    text = text.replace("#EXTINF", '#EXT-X-KEY:METHOD=SAMPLE-AES,URI="key.bin"\n#EXTINF', 1)
    web.answers |= {**answers, "/hls/list.m3u8": Answer(text.encode(), "application/vnd.apple.mpegurl")}
    error = failed(job(web, "/hls/list.m3u8", tmp_path / "own"))
    assert (error.code, error.failure_class) == ("protected", "permanent")


def test_what_is_not_public_is_refused(web: MediaServer, weather: bytes, tmp_path: Path) -> None:
    web.answers["/talk.ogg"] = Answer(weather, TALK)
    error = failed(job(web, "/talk.ogg", tmp_path, allow_private_network=False))
    assert (error.code, error.failure_class) == ("address_refused", "permanent")
    assert "127.0.0.1 (loopback)" in str(error)
    assert "--allow-private-network" in str(error)
    assert web.asked == []


@pytest.mark.long
def test_nobody_listening_is_no_reason_to_give_up(tmp_path: Path) -> None:
    wanted = Job("http://127.0.0.1:9/talk.ogg", "fetch", str(tmp_path), allow_private_network=True)
    error = failed(wanted)
    assert (error.code, error.failure_class) == ("connection", "transient")


@pytest.mark.long
def test_no_proxy_is_asked(web: MediaServer, weather: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    let_go()  # one that was started before knows nothing of them
    web.answers["/talk.ogg"] = Answer(weather, TALK)
    assert fetched(job(web, "/talk.ogg", tmp_path)).file


def test_cookies_go_to_their_host_and_stay_as_they_are(web: MediaServer, weather: bytes, tmp_path: Path) -> None:
    seen: list[str] = []

    def answer(asked: Asked) -> Answer:
        seen.append(asked.headers.get("Cookie", ""))
        return Answer(weather, TALK, headers={"Set-Cookie": "other=1; Max-Age=3600"})

    web.answers["/talk.ogg"] = answer
    cookies = tmp_path / "cookies.txt"
    cookies.write_text(
        "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\tsesame\n"
        "example.org\tFALSE\t/\tFALSE\t0\tforeign\tsecret\n"
    )
    before = cookies.read_text()
    working = fetch(job(web, "/talk.ogg", tmp_path / "own"), str(cookies))
    for _ in working:
        kept = [path.read_bytes() for path in (tmp_path / "own").iterdir()]
        assert not any(b"sesame" in each for each in kept), "whoever is killed leaves none behind"
    assert any("session=sesame" in each for each in seen)
    assert not any("secret" in each for each in seen)
    assert cookies.read_text() == before
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["media.ogg"]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/a", "http://me:word@127.0.0.1/a"])
def test_only_the_web_is_asked(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError):
        fetched(Job(url, "fetch", str(tmp_path), allow_private_network=True))


@pytest.mark.long
def test_to_look_fetches_no_media(web: MediaServer, weather: bytes, tmp_path: Path) -> None:
    data = weather * 50
    web.answers["/talk.ogg"] = Answer(data, TALK)
    item = told(look(job(web, "/talk.ogg", tmp_path)))
    assert item.title == "talk"
    assert item.file == ""
    assert list(tmp_path.iterdir()) == []


def test_of_several_recordings_none_is_taken_for_all(web: MediaServer, weather: bytes, tmp_path: Path) -> None:
    items = "".join(f"<item><enclosure url='{web.url}/{name}.ogg' type='audio/ogg'/></item>" for name in "ab")
    feed = f"<?xml version='1.0'?><rss version='2.0'><channel><title>Talks</title>{items}</channel></rss>"
    web.answers |= {"/feed.xml": Answer(feed.encode(), "application/rss+xml"), "/a.ogg": Answer(weather, TALK)}
    error = failed(job(web, "/feed.xml", tmp_path))
    assert (error.code, error.failure_class) == ("several_recordings", "permanent")
    assert "'Talks' holds more than one recording: give it to `trax-ray batch` as an INPUT" in str(error)
    assert web.bytes_sent("/a.ogg") == 0


RUNS = """
import sys
from trax_ray.web.fetch import fetch
from trax_ray.web.job import Job
for told in fetch(Job(sys.argv[1], "fetch", sys.argv[2], allow_private_network=True)):
    print(told.bytes, flush=True)
"""


def test_the_process_has_no_keys_and_ends_with_the_one_that_started_it(
    web: MediaServer, weather: bytes, tmp_path: Path
) -> None:
    web.answers["/talk.ogg"] = Answer(weather * 50, TALK, bytes_per_s=50_000)
    own = [sys.executable, "-c", RUNS, f"{web.url}/talk.ogg", str(tmp_path)]
    environ = {**os.environ, "OPENAI_API_KEY": "sesame", "HTTP_PROXY": "http://127.0.0.1:9"}
    with subprocess.Popen(own, stdout=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stdout is not None
        while int(process.stdout.readline() or -1) == 0:
            pass
        loaded, working = psutil.Process(process.pid).children(recursive=True)
        assert not {"OPENAI_API_KEY", "HTTP_PROXY"} & set(loaded.environ())
        os.kill(process.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs([loaded, working], timeout=10)
    assert alive == []


def test_what_a_site_says_at_endless_length_is_cut() -> None:
    info = {
        "id": "a",
        "title": "t" * 10**6,
        "description": "\N{SNOWMAN}" * 10**6,
        "tags": ["tag"] * 10**5,
        "duration": 3.5,
    }
    said = Item.of({**info, "extractor_key": "Own", "_old_archive_ids": ["own b"] * 10**4}, (*info, "chapters"))
    assert (len(said.title), len(said.info["description"])) == (MOST_TEXT, MOST_TEXT)
    assert set(said.info) == {"id", "title", "description", "duration"}
    assert len(said.archive) == MOST_NAMES


def test_what_is_known_of_a_page_is_kept_within_reason(web: MediaServer, weather: bytes, tmp_path: Path) -> None:
    said = b"<meta property='og:description' content='%s'>" % (b"x" * 9_000_000)
    page = b"<html><title>Storms</title>" + said + b"<audio src='/a.ogg'></audio></html>"
    web.answers |= {"/storms": Answer(page, "text/html"), "/a.ogg": Answer(weather, TALK)}
    item = told(look(job(web, "/storms", tmp_path)))
    assert len(item.info["description"]) == MOST_TEXT
    assert item.whole == "", "of which it is a part: the site is asked again"


def test_captions_alone_are_asked_for_at_once(web: MediaServer, tmp_path: Path) -> None:
    captions = b"WEBVTT\n\n00:00.000 --> 00:02.000\nRain later.\n"
    web.answers["/talk.vtt"] = Answer(captions, "text/vtt", bytes_per_s=30.0)
    offered = Captions(f"{web.url}/talk.vtt", "text/vtt", "en")
    signs = list(fetch_captions(job(web, "/talk.ogg", tmp_path, languages=(), captions=(offered,))))
    assert not signs[-1].loading, "others wait for it to begin"
