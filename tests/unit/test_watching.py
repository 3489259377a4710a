"""Watching real folders and lists, with times that only the test moves."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from trax_ray.core.spec import BatchSpec
from trax_ray.errors import UsageError
from trax_ray.plan.inputs import Scan
from trax_ray.plan.planner import Planner
from trax_ray.watching import Watch, Watcher, keep_looking


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def watcher(tmp_path: Path, inputs: Sequence[Path | str], lists: Sequence[Path] = (), **times: float) -> Watcher:
    spec = BatchSpec(output_dir=str(tmp_path / "out"), model="pocketsphinx")
    return Watcher(Watch(**{"settle_s": 10.0, **times}), spec, tuple(map(str, inputs)), tuple(map(str, lists)))


def names(found: Scan) -> list[str]:
    return [str(each.relative) for each in found.found]


def test_a_file_joins_when_it_is_whole_and_keeps_its_place_in_the_tree(tmp_path: Path, inbox: Path) -> None:
    watching = watcher(tmp_path, [inbox])
    (inbox / "talks").mkdir()
    talk = inbox / "talks" / "one.mp3"
    talk.write_bytes(b"half")
    (inbox / "notes.txt").write_text("no recording")
    assert names(watching.look(0.0)) == []
    talk.write_bytes(b"half and half")
    assert names(watching.look(9.0)) == []
    assert watching.waiting_count == 1
    assert watching.next_at() == 19.0
    assert names(watching.look(19.0)) == ["talks/one.mp3"]
    assert names(watching.look(99.0)) == []


def test_what_is_moved_away_half_written_never_joins(tmp_path: Path, inbox: Path) -> None:
    watching = watcher(tmp_path, [inbox])
    (inbox / "one.mp3").write_bytes(b"half")
    watching.look(0.0)
    (inbox / "one.mp3").rename(tmp_path / "one.mp3")
    assert names(watching.look(10.0)) == []
    (tmp_path / "one.mp3").rename(inbox / "two.mp3")
    assert names(watching.look(11.0)) == []
    assert names(watching.look(21.0)) == ["two.mp3"]


def test_a_folder_and_a_file_may_come_later(tmp_path: Path, inbox: Path) -> None:
    watching = watcher(tmp_path, [tmp_path / "later", inbox / "named.wav"])
    watching.check()
    assert names(watching.look(0.0)) == []
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "a.wav").write_bytes(b"a")
    (inbox / "named.wav").write_bytes(b"b")
    watching.look(1.0)
    assert names(watching.look(11.0)) == ["a.wav", "named.wav"]


def test_the_output_folder_is_not_looked_into(tmp_path: Path) -> None:
    watching = watcher(tmp_path, [tmp_path])
    (tmp_path / "out" / "media").mkdir(parents=True)
    (tmp_path / "out" / "media" / "a.wav").write_bytes(b"a")
    watching.look(0.0)
    assert names(watching.look(10.0)) == []


def test_lists_are_read_again_and_what_is_not_there_yet_is_waited_for(tmp_path: Path, inbox: Path) -> None:
    (inbox / "a.wav").write_bytes(b"a")
    (inbox / "b.wav").write_bytes(b"b")
    listed = tmp_path / "list.txt"
    listed.write_text("inbox/a.wav\ninbox/b.w")  # the rest of it isn't written yet
    watching = watcher(tmp_path, [], [listed])
    watching.look(0.0)
    assert names(watching.look(10.0)) == ["inbox/a.wav"]
    listed.write_text("inbox/a.wav\ninbox/b.wav\n")
    watching.look(11.0)
    assert names(watching.look(21.0)) == ["inbox/b.wav"]


def test_urls_join_at_once_and_are_read_again_now_and_then(tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("https://example.org/feed.xml\n")
    watching = watcher(tmp_path, [], [listed], poll_s=1800.0)
    assert [each.path for each in watching.look(0.0).found] == ["https://example.org/feed.xml"]
    assert watching.next_at() == 1800.0
    listed.write_text("https://example.org/feed.xml\nhttps://example.org/one.mp3\n")
    assert [each.path for each in watching.look(100.0).found] == ["https://example.org/one.mp3"]
    assert watching.look(1799.0).found == ()
    assert len(watching.look(1801.0).found) == 2


def test_what_makes_no_sense_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to watch"):
        watcher(tmp_path, []).check()
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="is the output folder"):
        watcher(tmp_path, [tmp_path / "out"]).check()


def test_a_changed_file_is_planned_as_the_same_recording_with_other_content(tmp_path: Path, inbox: Path) -> None:
    watching, planner = watcher(tmp_path, [inbox]), Planner(str(tmp_path / "out"))

    def planned(now: float) -> Any:
        found = watching.look(now)
        plan = planner.inputs(watching.spec, watching.inputs, found=found)
        planner.take(plan)
        return plan.tasks

    (inbox / "one.mp3").write_bytes(b"one")
    assert planned(0.0) == ()
    (first,) = planned(10.0)
    (inbox / "one.mp3").write_bytes(b"another one")
    assert planned(20.0) == ()
    (second,) = planned(30.0)
    assert (second.id, second.data["output"]) == (first.id, first.data["output"])
    assert second.fingerprint != first.fingerprint


class Taker:
    """Takes what is new."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.came = asyncio.Event()
        self.fails = 0

    async def __call__(self, watching: Watcher, found: Scan) -> None:
        if self.fails:
            self.fails -= 1
            raise UsageError("a row makes no sense")
        self.taken += names(found)
        self.came.set()


@pytest.mark.long
async def test_what_the_system_tells_of_is_looked_at_soon(
    tmp_path: Path, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trax_ray.watching.LOOK_PERIOD_S", 3600.0)
    monkeypatch.setattr("trax_ray.watching.TOLD_PERIOD_S", 3600.0)
    monkeypatch.setattr("trax_ray.watching.LOOK_LEAST_S", 0.05)
    take, watching = Taker(), watcher(tmp_path, [inbox], settle_s=0.2)
    looking = asyncio.create_task(keep_looking([watching], take))
    try:
        while not take.taken:  # until the system watches, what comes isn't told of: more of it comes
            (inbox / f"{os.urandom(4).hex()}.wav").write_bytes(b"a")
            await asyncio.sleep(0.3)
        (inbox / "last.wav").write_bytes(b"a")
        while "last.wav" not in take.taken:
            take.came.clear()
            await asyncio.wait_for(take.came.wait(), 60)
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    assert sorted(take.taken) == sorted(path.name for path in inbox.iterdir())


async def test_what_can_not_be_taken_is_said_once_and_tried_again(
    tmp_path: Path, inbox: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("trax_ray.watching.LOOK_PERIOD_S", 0.05)
    monkeypatch.setattr("trax_ray.watching.TOLD_PERIOD_S", 0.05)
    monkeypatch.setattr("trax_ray.watching.LOOK_LEAST_S", 0.01)
    (inbox / "a.wav").write_bytes(b"a")
    take, watching = Taker(), watcher(tmp_path, [inbox], settle_s=0.0)
    take.fails = 3
    looking = asyncio.create_task(keep_looking([watching], take))
    try:
        await asyncio.wait_for(take.came.wait(), 60)
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    assert take.taken == ["a.wav"]
    assert caplog.text.count("a row makes no sense") == 1
