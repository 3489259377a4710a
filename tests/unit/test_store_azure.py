"""Azure's blobs, against Microsoft's own server: another protocol, and the same rules."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.in_process import run_batch
from tests.support.store_servers import azurite, azurite_program
from trax_ray.codes import FailureCode
from trax_ray.core.spec import BatchSpec
from trax_ray.errors import FencedError, FileError, StoreError
from trax_ray.media.decode import read
from trax_ray.plan.inputs import scan
from trax_ray.report.frames import read_table
from trax_ray.report.write import write_report
from trax_ray.store.cleaning import clean_everything
from trax_ray.store.creating import create_object, delete_object, expect_creation, replace_if_unchanged
from trax_ray.store.epochs import open_journal, read_chain
from trax_ray.store.files import read_bytes
from trax_ray.store.layout import Layout
from trax_ray.store.objects import forget_clients, list_below, stat_of
from trax_ray.store.ranged import StoredRecording
from trax_ray.store.uris import ObjectPath
from trax_ray.testing.history import check

SAMPLE = Path(__file__).parents[2] / "samples" / "talks" / "meeting.mp3"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    if azurite_program() is None:
        pytest.skip("azurite isn't installed: make store-servers, and TRAX_RAY_LIVE=.live")
    with azurite("talks") as server:
        yield server.url


@pytest.fixture
def talks(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectPath]:
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
    monkeypatch.setenv("AZURITE_BLOB_STORAGE_URL", url)
    forget_clients()
    yield ObjectPath("az", "talks")
    forget_clients()


def test_a_recording_is_found_and_read_as_from_a_disk(talks: ObjectPath, tmp_path: Path) -> None:
    create_object(talks / "in/meeting.mp3", SAMPLE.read_bytes())
    (found,) = scan(["az://talks/in"], tmp_path / "out").found
    assert (found.path, str(found.relative)) == ("az://talks/in/meeting.mp3", "meeting.mp3")
    assert found.stat == stat_of(talks / "in/meeting.mp3")
    assert (read(StoredRecording.at(talks / "in/meeting.mp3")) == read(SAMPLE)).all()


def test_the_first_writer_wins_and_a_change_needs_what_was_there(talks: ObjectPath) -> None:
    assert create_object(talks / "a", b"one")
    assert not create_object(talks / "a", b"two")
    before = stat_of(talks / "a")
    assert replace_if_unchanged(talks / "a", b"two", before)
    assert not replace_if_unchanged(talks / "a", b"three", before)
    expect_creation(talks / "preflight")
    assert list(list_below(talks / "preflight")) == []


def test_a_newer_epoch_stops_the_older_one(talks: ObjectPath) -> None:
    folder = talks / "out/.trax/journal"
    old = open_journal(folder, "old", 1.0)
    old.append([{"n": 1}])
    new = open_journal(folder, "new", 2.0)
    assert list(new.records) == [{"n": 1}]
    with pytest.raises(FencedError):
        old.append([{"n": 2}])
    new.append([{"n": 3}])
    assert list(read_chain(folder)) == [{"n": 1}, {"n": 3}]


def test_refusals_are_those_of_other_stores(talks: ObjectPath) -> None:
    with pytest.raises(FileError) as missing:
        stat_of(talks / "nothing.mp3")
    assert missing.value.code == FailureCode.NOT_FOUND
    with pytest.raises(StoreError) as away:
        stat_of(ObjectPath("az", "nowhere", "a.mp3"))
    assert away.value.code == FailureCode.NO_SUCH_BUCKET


def test_a_batch_writes_to_it_and_goes_on_there(
    talks: ObjectPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    spec = BatchSpec("az://talks/batch", model="pocketsphinx")
    ended = run_batch([SAMPLE.with_name("weather.ogg")], spec)
    assert list(ended.states.values()) == ["succeeded"]
    write_report(spec.output_dir, final=True)
    assert b"weather" in read_bytes(talks / "batch/weather.txt").lower()
    create_object(talks / "batch/weather.new.txt", b"mine")
    delete_object(talks / "batch/weather.vtt")
    assert run_batch([SAMPLE.with_name("weather.ogg")], spec).outputs("weather.ogg")
    assert check(spec.output_dir).problems == ()
    assert list(read_table(spec.output_dir, "files")["status"]) == ["succeeded"]
    clean_everything(Layout.of(spec.output_dir), 0.0)
    assert [path.name.partition("0")[0] for path, _ in list_below(talks / "batch/.trax")] == ["lock."]
