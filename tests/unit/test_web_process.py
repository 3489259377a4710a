"""The process that fetches is kept from one job to the next, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import trax_ray.web.process
from tests.support.media_server import Answer, Asked, MediaServer
from trax_ray.errors import NetworkError
from trax_ray.web.fetch import fetch
from trax_ray.web.job import Job
from trax_ray.web.process import let_go

TALK = "audio/ogg"


@pytest.fixture(autouse=True)
def none_is_kept() -> Iterator[None]:
    let_go()
    yield
    let_go()


def ours() -> set[psutil.Process]:
    """Processes that this one has started, and those that they have."""
    return set(psutil.Process().children(recursive=True))


def fetched(web: MediaServer, path: str, folder: Path, cookies: str = "") -> None:
    for _ in fetch(Job(f"{web.url}{path}", "fetch", str(folder), allow_private_network=True), cookies):
        pass


@pytest.fixture
def slow(web: MediaServer, weather: bytes) -> MediaServer:
    web.answers["/slow.ogg"] = Answer(weather * 50, TALK, bytes_per_s=50_000)
    return web


def begun(web: MediaServer, folder: Path) -> Any:
    working = fetch(Job(f"{web.url}/slow.ogg", "fetch", str(folder), allow_private_network=True))
    while next(working).bytes == 0:
        pass
    return working


def test_one_job_follows_the_other_in_the_process_that_is_loaded(
    web: MediaServer, weather: bytes, tmp_path: Path
) -> None:
    before = ours()
    web.answers |= {"/a.ogg": Answer(weather, TALK), "/b.ogg": Answer(weather, TALK)}
    fetched(web, "/a.ogg", tmp_path / "a")
    kept = ours() - before
    assert len(kept) == 1, "the job's own is gone"
    fetched(web, "/b.ogg", tmp_path / "b")
    assert ours() - before == kept
    with pytest.raises(NetworkError, match="404"):
        fetched(web, "/missing.ogg", tmp_path / "c")
    assert ours() - before == kept, "what a host says is no fault of the process"
    assert [path.name for path in sorted(tmp_path.glob("*/*"))] == ["media.ogg", "media.ogg"]
    let_go()
    assert ours() == before


def test_what_one_job_was_given_is_unknown_to_the_next(web: MediaServer, weather: bytes, tmp_path: Path) -> None:
    seen: list[str] = []

    def answer(asked: Asked) -> Answer:
        seen.append(asked.headers.get("Cookie", ""))
        return Answer(weather, TALK, headers={"Set-Cookie": "given=1; Max-Age=3600"})

    web.answers |= {"/a.ogg": answer, "/b.ogg": answer}
    cookies = tmp_path / "cookies.txt"
    cookies.write_text("# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\tsesame\n")
    fetched(web, "/a.ogg", tmp_path / "a", str(cookies))
    assert any("session=sesame" in each for each in seen)
    seen.clear()
    fetched(web, "/b.ogg", tmp_path / "b")
    assert seen[0] == ""
    assert not any("sesame" in each for each in seen)


def test_who_stops_in_the_middle_leaves_no_process_behind(slow: MediaServer, tmp_path: Path) -> None:
    before = ours()
    working = begun(slow, tmp_path)
    assert len(ours() - before) == 2
    working.close()
    assert ours() == before


def test_one_that_died_while_nobody_needed_it_is_replaced(web: MediaServer, weather: bytes, tmp_path: Path) -> None:
    before = ours()
    web.answers["/a.ogg"] = Answer(weather, TALK)
    fetched(web, "/a.ogg", tmp_path / "a")
    (kept,) = ours() - before
    kept.kill()
    fetched(web, "/a.ogg", tmp_path / "b")
    assert (tmp_path / "b" / "media.ogg").read_bytes() == weather
    assert ours() - before not in (set(), {kept})


@pytest.mark.parametrize("loaded", [False, True], ids=["the job's", "the loaded one"])
def test_a_process_that_is_killed_is_told_as_such(slow: MediaServer, tmp_path: Path, loaded: bool) -> None:
    before = ours()
    working = begun(slow, tmp_path)
    (first,) = set(psutil.Process().children()) - before
    (first if loaded else first.children()[0]).kill()
    if loaded:
        working.close()
    else:
        with pytest.raises(NetworkError, match="ended with exit code -9") as caught:
            list(working)
        assert (caught.value.code, caught.value.failure_class) == ("fetch_failed", "transient")
        let_go()
    assert ours() == before


def test_it_is_kept_for_a_while_only(
    web: MediaServer, weather: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ours()
    monkeypatch.setattr(trax_ray.web.process, "KEPT_S", 0.0)
    web.answers["/a.ogg"] = Answer(weather, TALK)
    fetched(web, "/a.ogg", tmp_path / "a")
    _, alive = psutil.wait_procs(list(ours() - before), timeout=10)
    assert alive == []
