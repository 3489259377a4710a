"""Journal, epochs, artifacts and lease in object stores: what holds on a disk holds there, through faults too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.store_proxy import Faults, StoreProxy
from tests.support.store_servers import StoreServer
from trax_ray.errors import BusyError, FencedError, FileError, JournalError, NetworkError
from trax_ray.store import epochs
from trax_ray.store.artifacts import ArtifactStore
from trax_ray.store.creating import create_object, delete_object, replace_object
from trax_ray.store.epochs import OpenedJournal, open_journal, openings, read_chain
from trax_ray.store.heartbeat import BEAT_PERIOD_S
from trax_ray.store.layout import Layout
from trax_ray.store.lease import TAKE_OVER_S, Lease, holder_of
from trax_ray.store.looking import Presence
from trax_ray.store.objects import list_below, read_object
from trax_ray.store.uris import ObjectPath
from trax_ray.testing.clock import FakeClock


@pytest.fixture(scope="module", params=["moto", "seaweedfs"])
def server(request: pytest.FixtureRequest, stores: Callable[[str], StoreServer]) -> StoreServer:
    running = stores(request.param)
    running.create_bucket("batches")
    return running


@pytest.fixture
def folder(request: pytest.FixtureRequest, proxy: StoreProxy) -> ObjectPath:
    return ObjectPath("s3", "batches", f"{abs(hash(request.node.name)) % 10**12}/.trax/journal")


def take(folder: ObjectPath, holder: str = "me") -> OpenedJournal:
    return open_journal(folder, holder, now=1767225600.0)


def numbers(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"n": number} for number in range(start, start + count)]


def read(journal: Any) -> list[int]:
    return [record["n"] for record in journal]


# Epochs and groups


def test_the_next_one_reads_what_came_before(folder: ObjectPath) -> None:
    for start in (0, 10, 20):
        opened = take(folder)
        assert read(opened.records) == list(range(start))
        opened.append(numbers(5, start))
        opened.append(numbers(5, start + 5))
        opened.close()
    assert read(read_chain(folder)) == list(range(30))
    assert [each.epoch for each in openings(folder)] == [1, 2, 3]


def test_a_new_one_stops_the_old_one_whose_later_groups_are_never_read(folder: ObjectPath) -> None:
    old = take(folder, "old")
    old.append(numbers(3))
    new = take(folder, "new")
    assert read(new.records) == [0, 1, 2]
    with pytest.raises(FencedError, match="epoch 2 was taken"):
        old.append(numbers(3, 100))
    new.append(numbers(3, 3))
    assert read(read_chain(folder)) == [0, 1, 2, 3, 4, 5]
    assert read(take(folder).records) == [0, 1, 2, 3, 4, 5]


def test_of_many_that_take_the_journal_at_once_one_goes_on(folder: ObjectPath) -> None:
    take(folder).append(numbers(1))
    opened: list[OpenedJournal] = []
    fenced: list[FencedError] = []

    def go() -> None:
        try:
            journal = take(folder)
            opened.append(journal)
            journal.append([{"n": journal.epoch}])
        except FencedError as error:
            fenced.append(error)

    threads = [threading.Thread(target=go) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each.epoch for each in opened}) == len(opened)
    last = max(each.epoch for each in opened)
    assert read(read_chain(folder))[-1] == last


def test_one_group_is_two_requests(folder: ObjectPath, proxy: StoreProxy) -> None:
    opened = take(folder)
    proxy.seen.clear()
    opened.append(numbers(50))
    assert proxy.methods() == {"PUT": 1, "GET": 1}


@pytest.mark.parametrize("kind", ["409", "lost", "500", "503", "cut"])
def test_a_group_is_there_once_whatever_became_of_its_first_answer(
    folder: ObjectPath, proxy: StoreProxy, kind: str
) -> None:
    opened = take(folder)
    proxy.faults = Faults(next_up=[kind])
    opened.append(numbers(2))
    opened.append(numbers(2, 2))
    assert read(read_chain(folder)) == [0, 1, 2, 3]


@pytest.mark.long
def test_many_runs_through_faults_lose_and_double_nothing(folder: ObjectPath, proxy: StoreProxy) -> None:
    proxy.faults = Faults(rate=0.1, seed=5, slow_s=0.01)
    written = 0
    for _ in range(8):
        opened = take(folder)
        assert read(opened.records) == list(range(written))
        for _ in range(5):
            opened.append(numbers(3, written))
            written += 3
    assert read(read_chain(folder)) == list(range(written))
    assert sum(bool(each.fault) for each in proxy.seen) > 5


def test_a_group_whose_answer_never_came_ends_the_segment(
    folder: ObjectPath, proxy: StoreProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trax_ray.store.objects import forget_clients

    opened = take(folder)
    opened.append(numbers(1))
    monkeypatch.setattr("trax_ray.store.credentials._RETRIES", {"max_retries": 0})
    forget_clients()
    proxy.faults = Faults(rate=1.0, kinds=("lost",))
    with pytest.raises(NetworkError):
        opened.append(numbers(1, 1))
    proxy.faults = Faults()
    with pytest.raises(NetworkError, match="takes no more groups"):
        opened.append(numbers(1, 2))
    assert read(take(folder).records) == [0, 1]  # it was there after all: what happened, happened


def test_a_missing_group_and_a_changed_one_are_damage(folder: ObjectPath) -> None:
    opened = take(folder)
    for number in range(4):
        opened.append(numbers(1, number))
    groups = sorted(path for path, _ in list_below(folder / "000001"))
    data = read_object(groups[2])[0]
    replace_object(groups[2], data.replace(b'"n":1', b'"n":7'))
    with pytest.raises(JournalError, match="isn't what was written"):
        read(read_chain(folder))
    delete_object(groups[2])
    with pytest.raises(JournalError, match="is missing"):
        read(read_chain(folder))
    with pytest.raises(JournalError, match="is missing"):
        take(folder)


def test_a_marker_without_groups_did_nothing(folder: ObjectPath) -> None:
    take(folder).append(numbers(2))
    create_object(folder / "000002.jsonl", b"{}")
    assert read(read_chain(folder)) == [0, 1]
    assert take(folder).epoch == 3


def test_a_journal_that_was_deleted_stops_its_coordinator(folder: ObjectPath) -> None:
    opened = take(folder)
    delete_object(folder / "000001.jsonl")
    with pytest.raises(FencedError, match="was removed"):
        opened.append(numbers(1))


def test_a_segment_of_thousands_of_groups_is_read_some_at_a_time(folder: ObjectPath, proxy: StoreProxy) -> None:
    opened = take(folder)
    for number in range(70):
        opened.writer.append([{"n": number}])
    proxy.seen.clear()
    assert read(read_chain(folder)) == list(range(70))
    assert proxy.methods()["GET"] <= 2 * 71 + 5


def test_a_machine_asks_for_a_group_once_and_again_where_its_own_is_spoilt(
    folder: ObjectPath, proxy: StoreProxy
) -> None:
    opened = take(folder)
    for number in range(5):
        opened.append(numbers(1, number))
    assert read(read_chain(folder)) == list(range(5))
    proxy.seen.clear()
    assert read(read_chain(folder)) == list(range(5))
    assert [each.path for each in proxy.seen if "list-type" not in each.path] == []
    own = sorted(path for path in (Layout(folder.parent.parent).work / "journal").rglob("0*") if path.is_file())
    assert len(own) == 6
    own[2].write_bytes(own[2].read_bytes()[:-3])
    own[3].write_bytes(own[4].read_bytes())
    assert read(read_chain(folder)) == list(range(5))
    assert proxy.methods("/000001/0")["GET"] == 2


def test_a_folder_that_was_emptied_and_filled_anew_is_another_one(folder: ObjectPath) -> None:
    take(folder).append(numbers(3))
    assert read(read_chain(folder)) == [0, 1, 2]
    for path, _ in list(list_below(folder)):
        delete_object(path)
    take(folder).append(numbers(3, 5))
    assert read(read_chain(folder)) == [5, 6, 7]


# Artifacts


def store(folder: ObjectPath) -> ArtifactStore:
    return ArtifactStore(folder.parent / "artifacts")


KEY = "ab" * 32


def test_the_first_result_is_kept(folder: ObjectPath, proxy: StoreProxy) -> None:
    artifacts = store(folder)
    assert not artifacts.has(KEY)
    assert artifacts.get(KEY) is None
    proxy.seen.clear()
    assert artifacts.put(KEY, {"text": "one"}) == (True, {"text": "one"})
    assert proxy.methods() == {"PUT": 1}
    assert artifacts.put(KEY, {"text": "two"}) == (False, {"text": "one"})
    assert artifacts.has(KEY)
    assert artifacts.get(KEY) == {"text": "one"}


def test_a_damaged_result_is_set_aside_and_made_again(folder: ObjectPath) -> None:
    artifacts = store(folder)
    artifacts.put(KEY, {"text": "one"})
    path = artifacts.path(KEY)
    assert isinstance(path, ObjectPath)
    data = read_object(path)[0]
    replace_object(path, data.replace(b"one", b"uno"))
    assert artifacts.get(KEY) is None
    assert artifacts.put(KEY, {"text": "two"}) == (True, {"text": "two"})
    names = [each.name for each, _ in list_below(path.parent)]
    assert [name.partition("bad-")[0] for name in sorted(names)] == [f"{KEY}.json", f"{KEY}.json."]


@pytest.mark.parametrize("kind", ["409", "lost", "500", "cut"])
def test_a_result_is_kept_once_whatever_became_of_the_answer(folder: ObjectPath, proxy: StoreProxy, kind: str) -> None:
    proxy.faults = Faults(next_up=[kind])
    assert store(folder).put(KEY, {"text": "one"}) == (True, {"text": "one"})
    assert store(folder).put(KEY, {"text": "two"}) == (False, {"text": "one"})


def test_what_is_there_is_asked_for_one_by_one_or_as_a_whole(folder: ObjectPath, proxy: StoreProxy) -> None:
    paths = [folder / f"there/{number}" for number in range(100)]
    for path in paths[:99]:
        create_object(path, b"x")
    proxy.seen.clear()
    assert Presence(folder).missing([paths[0], paths[99]]) == {paths[99]}
    assert proxy.methods() == {"HEAD": 2, "GET": 1}  # and is its bucket there?
    proxy.seen.clear()
    presence = Presence(folder)
    assert presence.missing(paths) == {paths[99]}
    assert presence.missing(paths[:99]) == set()
    assert proxy.methods() == {"HEAD": 1, "GET": 2}
    create_object(paths[99], b"x")
    assert presence.missing(paths) == set()


# The lease


def test_who_holds_a_folder_shows_by_a_heartbeat_and_its_content(
    folder: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, clock = folder.parent / "lock", FakeClock(0.0)
    # As seen from another machine: nothing is known of the process.
    monkeypatch.setattr("trax_ray.store.lease._is_alive", lambda note: None)
    first = Lease(path, heartbeat=True, monotonic=clock, sleep=clock.advance)
    first.acquire("the first")
    holder = holder_of(path)
    assert holder is not None
    assert holder.holder == "the first"

    def beats(seconds: float) -> None:
        clock.advance(seconds)
        first.beat()

    second = Lease(path, heartbeat=True, monotonic=clock, sleep=lambda s: beats(BEAT_PERIOD_S))
    with pytest.raises(BusyError, match="the first"):
        second.acquire("the second")
    first.release()
    assert holder_of(path) is None
    second.acquire("the second")
    assert second.held


def test_a_holder_that_is_silent_is_followed_and_finds_out(folder: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    path, clock = folder.parent / "lock", FakeClock(0.0)
    monkeypatch.setattr("trax_ray.store.lease._is_alive", lambda note: None)
    first = Lease(path, heartbeat=True, monotonic=clock, sleep=clock.advance)
    first.acquire("the first")
    second = Lease(path, heartbeat=True, monotonic=clock, sleep=clock.advance)
    began = clock()
    second.acquire("the second")
    assert clock() - began >= TAKE_OVER_S
    with pytest.raises(FencedError, match="taken over"):
        first.beat()


def test_without_a_heartbeat_there_is_no_lock_in_a_store(folder: ObjectPath) -> None:
    with pytest.raises(FileError, match="no file locks"):
        Lease(folder / "claim").acquire("somebody")


def test_the_epoch_is_what_keeps_two_apart(folder: ObjectPath) -> None:
    assert epochs.segment_path(folder, 7) == folder / "000007.jsonl"
