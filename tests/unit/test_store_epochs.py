"""Epochs: one winner each, the older one is fenced, what was acknowledged is never lost."""

from __future__ import annotations

import multiprocessing
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trax_ray.errors import DiskFull, FencedError, JournalError
from trax_ray.store import epochs, files, journal, writing
from trax_ray.store.epochs import OpenedJournal, open_journal, openings, read_chain, segment_path
from trax_ray.store.journal import encode_group


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".trax" / "journal"


@pytest.fixture(autouse=True)
def _close_all(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    opened: list[journal.JournalWriter] = []
    start = journal.JournalWriter.__init__

    def noted(self: journal.JournalWriter, path: Path) -> None:
        opened.append(self)
        start(self, path)

    monkeypatch.setattr(journal.JournalWriter, "__init__", noted)
    yield
    for writer in opened:
        writer.close()


def take(folder: Path, holder: str = "me") -> OpenedJournal:
    return open_journal(folder, holder, now=1767225600.0)


def numbers(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"n": n} for n in range(start, start + count)]


def test_a_new_journal_is_empty(folder: Path) -> None:
    opened = take(folder, "batch 7")
    assert (opened.epoch, opened.opening.previous, list(opened.records)) == (1, 0, [])
    assert [path.name for path in folder.iterdir()] == ["000001.jsonl"]
    first = next(journal.iter_segment(folder / "000001.jsonl")).records()
    assert first == [
        {"format": 1, "epoch": 1, "previous": 0, "previous_bytes": 0, "holder": "batch 7", "at": 1767225600.0}
    ]


def test_the_next_one_reads_what_came_before(folder: Path) -> None:
    for start in (0, 10, 20):
        opened = take(folder)
        assert list(opened.records) == numbers(start)
        opened.append(numbers(4, start))
        opened.append(numbers(6, start + 4))
    last = take(folder)
    assert list(last.records) == list(last.records) == numbers(30), "may be read twice"
    assert list(read_chain(folder)) == numbers(30)
    assert [each.epoch for each in openings(folder)] == [1, 2, 3, 4]


def test_old_segments_are_never_touched(folder: Path) -> None:
    take(folder).append(numbers(3))
    before = segment_path(folder, 1).read_bytes()
    take(folder).append(numbers(3))
    assert segment_path(folder, 1).read_bytes() == before


def test_the_older_one_is_fenced(folder: Path) -> None:
    old = take(folder)
    old.append(numbers(2))
    new = take(folder)
    with pytest.raises(FencedError, match="epoch 2"):
        old.guard()
    with pytest.raises(FencedError, match="epoch 2"):
        old.append(numbers(1, 2))
    new.append(numbers(1, 2))
    new.guard()


def test_fenced_by_an_epoch_that_is_not_open_yet(folder: Path) -> None:
    old = take(folder)
    segment_path(folder, 2).touch()  # taken; its owner is still reading
    with pytest.raises(FencedError):
        old.append(numbers(1))


def test_later_bytes_of_a_zombie_are_ignored(folder: Path) -> None:
    zombie = take(folder)
    zombie.append([{"n": 0}])
    new = take(folder)
    zombie.writer.append([{"zombie": 1}])  # it hasn't looked yet
    new.append([{"n": 1}])
    zombie.writer.append([{"zombie": 2}])
    assert list(new.records) == [{"n": 0}]
    assert list(take(folder).records) == [{"n": 0}, {"n": 1}]
    assert list(read_chain(folder)) == [{"n": 0}, {"n": 1}]


def test_damage_in_bytes_of_a_zombie_does_not_matter(folder: Path) -> None:
    take(folder).append([{"n": 0}])
    take(folder).append([{"n": 1}])
    with segment_path(folder, 1).open("ab") as stream:
        stream.write(b"rubbish" + encode_group([{"zombie": 1}], 5))
    assert list(take(folder).records) == [{"n": 0}, {"n": 1}]


def test_a_torn_last_group_is_left_out_and_stays_out(folder: Path) -> None:
    take(folder).append([{"n": 0}])
    size = segment_path(folder, 1).stat().st_size
    group = encode_group([{"n": "torn"}], size)
    with segment_path(folder, 1).open("ab") as stream:
        stream.write(group[:-1])
    second = take(folder)
    assert list(second.records) == [{"n": 0}]
    assert second.opening.previous_bytes == size
    with segment_path(folder, 1).open("ab") as stream:
        stream.write(group[-1:])  # a zombie's write arrives after all
    second.append([{"n": 1}])
    assert list(take(folder).records) == [{"n": 0}, {"n": 1}]


def test_crash_at_any_byte_of_the_opening(folder: Path) -> None:
    take(folder).append([{"n": 0}])
    take(folder)
    opening = segment_path(folder, 2).read_bytes()
    for cut in range(len(opening)):
        segment_path(folder, 2).write_bytes(opening[:cut])
        assert list(read_chain(folder)) == [{"n": 0}]
    third = take(folder)
    assert (third.epoch, third.opening.previous, list(third.records)) == (3, 1, [{"n": 0}])
    third.append([{"n": 1}])
    segment_path(folder, 2).write_bytes(opening)  # a zombie: its opening arrives late
    assert list(take(folder).records) == [{"n": 0}, {"n": 1}]


def test_first_epoch_that_never_opened(folder: Path) -> None:
    files.ensure_folder(folder)
    segment_path(folder, 1).touch()
    opened = take(folder)
    assert (opened.epoch, opened.opening.previous, list(opened.records)) == (2, 0, [])


def test_thousands_of_records(folder: Path) -> None:
    opened = take(folder)
    for start in range(0, 20_000, 1000):
        opened.append(numbers(1000, start))
    assert list(take(folder).records) == numbers(20_000)


def test_seven_digits(folder: Path) -> None:
    files.ensure_folder(folder)
    segment_path(folder, 999_999).touch()
    assert take(folder).epoch == 1_000_000
    assert take(folder).epoch == 1_000_001


def test_other_files_are_no_segments(folder: Path) -> None:
    opened = take(folder)
    for name in (".tmp-0123456789abcdef", "000009.jsonl.bak", "9.jsonl", "notes"):
        (folder / name).touch()
    opened.guard()
    assert take(folder).epoch == 2


@pytest.mark.parametrize("recreated", [False, True])
def test_a_deleted_journal_stops_its_owner(folder: Path, recreated: bool) -> None:
    opened = take(folder)
    shutil.rmtree(folder)
    if recreated:
        assert take(folder).epoch == opened.epoch
    with pytest.raises(FencedError, match="removed"):
        opened.append(numbers(1))


def test_read_only_use_changes_nothing(folder: Path) -> None:
    assert list(read_chain(folder)) == []
    assert not folder.exists()
    opened = take(folder)
    opened.append(numbers(5))
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    chain = read_chain(folder)
    assert list(chain) == numbers(5)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    opened.append(numbers(5, 5))
    assert list(chain) == numbers(10), "a new loop reads what is there by then"


def test_damage_before_the_end_is_an_error(folder: Path) -> None:
    opened = take(folder)
    opened.append(numbers(5))
    opened.append(numbers(5, 5))
    path = segment_path(folder, 1)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(JournalError, match=r"000001\.jsonl is damaged"):
        take(folder)
    with pytest.raises(JournalError, match=r"000001\.jsonl is damaged"):
        list(read_chain(folder))


def test_bytes_that_a_successor_read_must_be_there(folder: Path) -> None:
    take(folder).append(numbers(5))
    take(folder).append(numbers(5, 5))
    path = segment_path(folder, 1)
    data = bytearray(path.read_bytes())
    data[-3] ^= 4  # its last group: alone it would pass for a torn one
    path.write_bytes(data)
    with pytest.raises(JournalError, match="were read once"):
        list(read_chain(folder))
    path.unlink()
    with pytest.raises(files.FileError):
        list(read_chain(folder))


def opening(**changes: Any) -> dict[str, Any]:
    return {"format": 1, "epoch": 1, "previous": 0, "previous_bytes": 0, "holder": "", "at": 0.0, **changes}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (opening(format=2), "format 2"),
        (opening(epoch=3), "epoch 3"),
        (opening(previous=1), "after 1"),
        ({"format": 1}, "lacks 'epoch'"),
    ],
)
def test_openings_that_must_not_be_skipped(folder: Path, record: dict[str, Any], message: str) -> None:
    files.ensure_folder(folder)
    segment_path(folder, 1).write_bytes(encode_group([record]))
    with pytest.raises(JournalError, match=message):
        take(folder)


def test_disk_full_while_opening(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take(folder).append(numbers(1))

    def full(fd: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writing, "write_all", full)
        with pytest.raises(DiskFull):
            take(folder)
    third = take(folder)
    assert (third.epoch, list(third.records)) == (3, numbers(1))


def test_the_epoch_is_taken_before_anything_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_take = epochs._take

    def late(folder: Path) -> tuple[int, journal.JournalWriter]:
        monkeypatch.setattr(epochs, "_take", real_take)
        take(folder).append([{"acknowledged": 1}])  # another one takes, writes and is told that all is well
        return real_take(folder)

    monkeypatch.setattr(epochs, "_take", late)
    opened = take(folder)
    assert (opened.epoch, list(opened.records)) == (2, [{"acknowledged": 1}])


def test_fenced_while_opening(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take(folder).append([{"n": 0}])
    monkeypatch.setattr(epochs, "_bring_to_disk", lambda _: segment_path(folder, 3).touch())
    with pytest.raises(FencedError, match="epoch 3"):
        take(folder)


def test_an_epoch_that_was_never_taken_is_not_ours(folder: Path) -> None:
    with pytest.raises(FencedError, match=r"000005\.jsonl was removed"):
        epochs.check(folder, 5)


def test_what_was_read_is_brought_to_the_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take(folder).append(numbers(1))
    synced: list[Path] = []
    bring = epochs._bring_to_disk
    monkeypatch.setattr(epochs, "_bring_to_disk", lambda path: synced.append(path) or bring(path))
    take(folder)
    assert synced == [segment_path(folder, 1)]


def contend(folder: Path, name: str, turns: int, acknowledged: list[tuple[int, str]]) -> None:
    """Take the journal again and again, write until fenced, and note what was acknowledged."""
    for turn in range(turns):
        try:
            opened = open_journal(folder, name, now=0.0)
        except FencedError:
            continue
        seen = [record["id"] for record in opened.records]
        assert len(seen) == len(set(seen))
        try:
            for each in range(5):
                record_id = f"{name}.{turn}.{each}"
                opened.append([{"id": record_id}])
                acknowledged.append((opened.epoch, record_id))
        except FencedError:
            pass
        finally:
            opened.close()


def assert_nothing_lost(folder: Path, acknowledged: list[tuple[int, str]]) -> None:
    found = [record["id"] for record in read_chain(folder)]
    assert len(found) == len(set(found)), "nothing twice"
    expected = [record_id for _, record_id in sorted(acknowledged, key=lambda pair: pair[0])]
    kept = set(expected)
    # Others may be found too: groups that were on the disk when their writer was fenced.
    assert [record_id for record_id in found if record_id in kept] == expected


def test_threads_that_contend_lose_nothing_acknowledged(folder: Path) -> None:
    acknowledged: list[tuple[int, str]] = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [
            threading.Thread(target=contend, args=(folder, f"t{number}", 60, acknowledged)) for number in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert acknowledged
    assert len(list(folder.iterdir())) == 180, "each turn took an epoch of its own"
    assert_nothing_lost(folder, acknowledged)


def _contend_in_process(folder: str, name: str, turns: int, results: Any) -> None:
    acknowledged: list[tuple[int, str]] = []
    contend(Path(folder), name, turns, acknowledged)
    results.put(acknowledged)


def test_processes_that_contend_lose_nothing_acknowledged(folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    workers = [
        context.Process(target=_contend_in_process, args=(str(folder), f"p{number}", 10, results))
        for number in range(3)
    ]
    for worker in workers:
        worker.start()
    acknowledged = [pair for _ in workers for pair in results.get()]
    for worker in workers:
        worker.join()
    assert acknowledged
    assert len(list(folder.iterdir())) == 30
    assert_nothing_lost(folder, acknowledged)
