"""The process that fetches is kept from one job to the next, and nothing else is."""

from __future__ import annotations

import signal
import subprocess
import sys
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


RUNS = """
import json, os, sys, threading
from trax_ray.web.fetch import fetch
from trax_ray.web.job import Job
def job(path, folder):
    return Job(sys.argv[1] + path, "fetch", os.path.join(sys.argv[2], folder), allow_private_network=True)
def done(path, folder):
    for _ in fetch(job(path, folder)):
        pass
def begun(path, folder):
    working = fetch(job(path, folder))
    while next(working).loading:
        pass
    return working
"""


def program(web: MediaServer, folder: Path, text: str) -> subprocess.Popen[str]:
    own = [sys.executable, "-c", RUNS + text, web.url, str(folder)]
    pipe = subprocess.PIPE
    return subprocess.Popen(own, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_a_job_that_lets_no_other_thread_run_ends_with_who_wanted_it(web: MediaServer, tmp_path: Path) -> None:
    page = b"<html><title>Talk</title>" + b"<iframe " * 400_000  # yt-dlp looks for minutes for what these embed
    web.answers["/talk"] = Answer(page, "text/html")
    with program(web, tmp_path, "own = begun('/talk', 'a'); print('begun', flush=True); sys.stdin.read()") as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "begun\n"
        loaded, working = psutil.Process(running.pid).children(recursive=True)
        while working.cpu_times().user < 1.5:
            pass
        running.kill()
    _, alive = psutil.wait_procs([loaded, working], timeout=10)
    for each in alive:
        each.kill()
    assert alive == []


def test_a_program_may_fork_while_one_is_kept(web: MediaServer, weather: bytes, tmp_path: Path) -> None:
    web.answers["/a.ogg"] = Answer(weather, TALK)
    text = """
done("/a.ogg", "a")
if os.fork() == 0:
    done("/a.ogg", "b")
    sys.exit()
print(os.waitstatus_to_exitcode(os.wait()[1]))
done("/a.ogg", "c")
"""
    with program(web, tmp_path, text) as running:
        said, complaints = running.communicate(timeout=60)
    assert (running.returncode, said, complaints) == (0, "0\n", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_a_program_may_end_in_the_middle(slow: MediaServer, tmp_path: Path) -> None:
    with program(slow, tmp_path, "working = begun('/slow.ogg', 'a')") as running:
        _, complaints = running.communicate(timeout=60)
    assert (running.returncode, complaints) == (0, "")


def test_the_end_of_one_is_not_the_end_of_its_successor(
    web: MediaServer, weather: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.answers["/a.ogg"] = Answer(weather, TALK)
    fetched(web, "/a.ogg", tmp_path / "a")
    ((first, timer),) = trax_ray.web.process._kept
    second = trax_ray.web.process.Fetcher()
    trax_ray.web.process._keep(second)
    assert timer.finished.is_set(), "it has no time to wait for any more"
    trax_ray.web.process._end_kept(first)
    assert [each for each, _ in trax_ray.web.process._kept] == [second]


class Said:
    """What a process says that isn't ours."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
        monkeypatch.setattr(trax_ray.web.process, "_START", f"import os, sys, time; sys.stdin.readline(); {program}")

    def lines(self, folder: Path) -> list[Any]:
        with trax_ray.web.process.fetcher(keep=True) as process:
            found = list(process.lines(Job("http://127.0.0.1/a", "fetch", str(folder))))
            self.last = process.last_words()
        return found


def test_what_is_no_line_of_json_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torn = Said(monkeypatch, r"""os.write(1, b'{"a": 1}\n{"resul\n{"ended": -9}\n'); time.sleep(60)""")
    assert torn.lines(tmp_path) == [{"a": 1}]
    assert torn.last == (-9, "")
    let_go()
    last = Said(monkeypatch, r"""os.write(1, b'{"a": NaN}\n{"resul'); os._exit(7)""")
    assert last.lines(tmp_path) == [{"a": None}], "what is no number is nothing"
    assert last.last == (7, "")


def test_a_line_without_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(trax_ray.web.process, "MOST_LINE_BYTES", 1_000_000)
    endless = Said(monkeypatch, "[os.write(1, bytes(10_000)) for _ in iter(int, 1)]")
    assert [line for line in endless.lines(tmp_path) if line is not None] == []
    assert endless.last[0] == -signal.SIGKILL
