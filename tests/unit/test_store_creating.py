"""What is created once in an object store: against servers that others wrote, and with faults between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from tests.support.store_proxy import Faults, StoreProxy
from tests.support.store_servers import StoreServer
from trax_ray.codes import FailureCode
from trax_ray.errors import NetworkError, StoreError
from trax_ray.store import creating
from trax_ray.store.creating import (
    create_object,
    delete_object,
    expect_creation,
    replace_if_unchanged,
    replace_object,
)
from trax_ray.store.objects import forget_clients, list_below, read_object
from trax_ray.store.uris import ObjectPath


@pytest.fixture(scope="module", params=["moto", "seaweedfs"])
def server(request: pytest.FixtureRequest, stores: Callable[[str], StoreServer]) -> StoreServer:
    running = stores(request.param)
    running.create_bucket("creating")
    return running


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> ObjectPath:
    return ObjectPath("s3", "creating", f"{abs(hash(request.node.name)) % 10**12}")


def test_the_first_writer_wins(proxy: StoreProxy, folder: ObjectPath) -> None:
    assert create_object(folder / "a", b"one")
    assert not create_object(folder / "a", b"two")
    assert read_object(folder / "a")[0] == b"one"
    delete_object(folder / "a")
    delete_object(folder / "a")
    assert create_object(folder / "a", b"two")


def test_of_many_writers_at_once_one_wins(proxy: StoreProxy, folder: ObjectPath) -> None:
    won: list[int] = []

    def write(number: int) -> None:
        if create_object(folder / "a", b"%d" % number):
            won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert read_object(folder / "a")[0] == b"%d" % won[0]


@pytest.mark.parametrize("kind", ["409", "lost", "500", "503", "cut", "slow"])
def test_a_creation_is_ours_whatever_became_of_its_first_answer(
    proxy: StoreProxy, folder: ObjectPath, kind: str
) -> None:
    proxy.faults = Faults(next_up=[kind], slow_s=0.01)
    assert create_object(folder / "a", b"mine")
    assert read_object(folder / "a")[0] == b"mine"
    assert not create_object(folder / "a", b"other")


@pytest.mark.parametrize("kind", ["409", "lost", "500", "503"])
def test_what_is_replaced_is_replaced_at_the_next_try(proxy: StoreProxy, folder: ObjectPath, kind: str) -> None:
    replace_object(folder / "a", b"before")
    proxy.faults = Faults(next_up=[kind])
    replace_object(folder / "a", b"after")
    assert read_object(folder / "a")[0] == b"after"
    proxy.faults = Faults(writes="409")
    with pytest.raises(NetworkError, match="just now: the store is in trouble"):
        replace_object(folder / "a", b"never")


@pytest.mark.parametrize("kind", ["409", "lost", "500"])
def test_anothers_object_stays_anothers_whatever_becomes_of_the_answer(
    proxy: StoreProxy, folder: ObjectPath, kind: str
) -> None:
    assert create_object(folder / "a", b"theirs")
    proxy.faults = Faults(next_up=[kind])
    assert not create_object(folder / "a", b"mine")
    assert read_object(folder / "a")[0] == b"theirs"


def test_a_conflict_that_never_ends_is_an_error_and_nobodys_success(
    proxy: StoreProxy, folder: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(creating, "_TRIES", 3)
    proxy.faults = Faults(writes="409")
    with pytest.raises(NetworkError, match="again and again"):
        create_object(folder / "a", b"mine")
    proxy.faults = Faults()
    assert list(list_below(folder)) == []


@pytest.mark.long
def test_a_hundred_creations_through_faults_are_each_done_once(proxy: StoreProxy, folder: ObjectPath) -> None:
    proxy.faults = Faults(rate=0.2, seed=11, slow_s=0.01)
    won: list[tuple[int, int]] = []

    def write(writer: int) -> None:
        for number in range(25):
            if create_object(folder / str(number), b"%d by %d" % (number, writer)):
                won.append((number, writer))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    proxy.faults = Faults()
    assert sorted(number for number, _ in won) == list(range(25))
    for number, writer in won:
        assert read_object(folder / str(number))[0] == b"%d by %d" % (number, writer)


def test_an_object_is_replaced_only_where_it_is_what_it_was(proxy: StoreProxy, folder: ObjectPath) -> None:
    replace_object(folder / "a", b"one")
    _, one = read_object(folder / "a")
    assert replace_if_unchanged(folder / "a", b"two", one)
    assert not replace_if_unchanged(folder / "a", b"three", one)
    assert read_object(folder / "a")[0] == b"two"
    delete_object(folder / "a")
    assert not replace_if_unchanged(folder / "a", b"four", one)


def test_a_store_that_creates_passes_the_preflight_and_keeps_nothing_of_it(
    proxy: StoreProxy, folder: ObjectPath
) -> None:
    expect_creation(folder)
    assert list(list_below(folder)) == []
    assert sum(proxy.methods().values()) <= 8


def test_a_bucket_that_isnt_there_is_found_by_the_preflight(
    proxy: StoreProxy, server: StoreServer, request: pytest.FixtureRequest
) -> None:
    if "seaweedfs" in request.node.name:
        pytest.skip("SeaweedFS makes the bucket")
    with pytest.raises(StoreError) as caught:
        expect_creation(ObjectPath("s3", "no-such-bucket", "x"))
    assert caught.value.code == FailureCode.NO_SUCH_BUCKET


@pytest.fixture
def overwriting(
    stores: Callable[[str], StoreServer], reach: Callable[[StoreServer], StoreProxy]
) -> Iterator[ObjectPath]:
    server = stores("rclone")
    server.create_bucket("plain")
    reach(server)
    yield ObjectPath("s3", "plain", "out")
    forget_clients()


def test_a_store_that_overwrites_is_refused(overwriting: ObjectPath) -> None:
    with pytest.raises(StoreError, match="overwrites") as caught:
        expect_creation(overwriting)
    assert (caught.value.code, caught.value.failure_class) == (FailureCode.NO_CONDITIONAL_PUT, "config")
