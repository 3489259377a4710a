"""What may go from an output folder, what stays, and that nothing goes while a batch is at work."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from trax_ray.core.state.events import CoordinatorStarted, TasksAdded
from trax_ray.errors import BusyError, FileError
from trax_ray.store import cleaning
from trax_ray.store.artifacts import ArtifactStore
from trax_ray.store.batch_journal import BatchJournal, read_state
from trax_ray.store.cleaning import STAND_IN_AGE_S, Cleaned, clean, clean_everything, forget_stand_ins
from trax_ray.store.layout import Layout
from trax_ray.store.lease import Lease
from trax_ray.testing.factories import make_spec, make_task

LEFTOVER = ".tmp-0123456789abcdef"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An output folder in which a batch has been."""
    layout = Layout(tmp_path / "out")
    for run in ("a", "b"):
        book = BatchJournal.open(layout, "a test", 0.0)
        task = make_task(run)
        book.commit([CoordinatorStarted(book.epoch, make_spec(tmp_path).to_dict(), run=run), TasksAdded((task,))], 1.0)
        book.close()
    ArtifactStore(layout.artifacts).put("ab" * 32, {"text": "hello"})
    for path in (layout.transcript("talks/talk", "txt"), layout.table("files"), layout.model_pin):
        write(path)
    return layout


def write(path: Path, size: int = 10, age_s: float = 3600.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_where_there_is_nothing_to_take_away_everything_stays(layout: Layout) -> None:
    before = files(layout.output_dir)
    assert clean(layout, time.time()) == Cleaned()
    assert files(layout.output_dir) == before


def test_what_no_run_needs_goes_and_the_rest_stays(layout: Layout) -> None:
    before = files(layout.output_dir)
    gone = [
        write(layout.private / "journal" / LEFTOVER, 1),
        write(layout.output_dir / "talks" / LEFTOVER, 2),
        write(layout.report / LEFTOVER, 4),
        write(layout.artifacts / "ab" / f"{'ab' * 32}.json.bad-01234567", 8),
        write(layout.private / "audio" / "talks" / "talk.flac", 16),
        write(layout.private / "uploads" / "0123.ogg", 128),
        write(layout.hashes / "ab" / ("ab" * 32), 32),
        write(layout.claim("abcdef"), 64),
    ]
    young = write(layout.report / ".tmp-fedcba9876543210", age_s=5.0)
    lookalikes = {
        write(layout.output_dir / "talks" / ".tmp-notes"),
        write(layout.output_dir / "talk.json.bad-01234567"),
    }
    assert clean(layout, time.time()) == Cleaned(len(gone), 255)
    expected = before | {str(path.relative_to(layout.output_dir)) for path in (young, *lookalikes)}
    assert files(layout.output_dir) == expected
    assert not (layout.private / "audio").exists()
    assert not layout.hashes.exists()
    assert len(read_state(layout).records) == 2
    assert ArtifactStore(layout.artifacts).get("ab" * 32) == {"text": "hello"}


def test_everything_of_ours_goes_and_transcripts_and_report_stay(layout: Layout) -> None:
    kept = {"talks/talk.txt", "report/files.parquet"}
    count = len(files(layout.output_dir) - kept)
    cleaned = clean_everything(layout, time.time())
    assert files(layout.output_dir) == kept
    assert not layout.private.exists()
    assert cleaned.file_count == count - 1, "the lock isn't counted: cleaning may have made it"
    assert cleaned.size_bytes > 0
    assert not read_state(layout).records, "a later run begins anew"


def test_links_are_removed_and_not_followed(layout: Layout, tmp_path: Path) -> None:
    precious = write(tmp_path / "elsewhere" / "talk.flac")
    layout.hashes.mkdir()
    (layout.hashes / "folder").symlink_to(precious.parent)
    (layout.hashes / "file").symlink_to(precious)
    clean(layout, time.time())
    assert not layout.hashes.exists()
    clean_everything(layout, time.time())
    assert precious.exists()


@pytest.mark.parametrize("function", [clean, clean_everything])
def test_a_batch_that_is_at_work_is_left_alone(layout: Layout, function: object) -> None:
    write(layout.hashes / "ab" / "cd")
    before = files(layout.output_dir)
    lease = Lease(layout.lock)
    lease.acquire("batch talks")
    with pytest.raises(BusyError, match="batch talks"):
        function(layout, time.time())  # type: ignore[operator]
    lease.release()
    assert files(layout.output_dir) == before
    assert function(layout, time.time()).file_count  # type: ignore[operator]


@pytest.mark.parametrize("survivors", range(5))
def test_a_crash_in_the_middle_leaves_a_journal_that_can_be_read(
    layout: Layout, survivors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = 0
    unlink = cleaning.system.System.unlink

    def die(self: object, path: object) -> None:
        nonlocal removed
        if removed == survivors:
            raise KeyboardInterrupt
        removed += 1
        unlink(self, path)  # type: ignore[arg-type]

    monkeypatch.setattr(cleaning.system.System, "unlink", die)
    with pytest.raises(KeyboardInterrupt):
        clean_everything(layout, time.time())
    read_state(layout)


def test_what_can_not_be_removed_is_said(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(layout.hashes / "ab" / "cd")

    def refuse(self: object, path: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cleaning.system.System, "unlink", refuse)
    with pytest.raises(FileError, match=str(path)):
        clean(layout, time.time())
    lease = Lease(layout.lock)
    lease.acquire("the next one")
    lease.release()


def test_what_a_machine_has_of_batches_in_stores_goes_after_a_month(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    old, lasting, new = (Layout.of(f"s3://bucket/stand-in-{number}") for number in range(3))
    for each in (old, lasting):
        (each.work / "journal").mkdir(parents=True)
        (each.work / "journal" / "group").write_bytes(b"x")
        forget_stand_ins(each, time.time())
        os.utime(each.here, (0, 0))
    assert (old.here / "used-for").read_text() == "s3://bucket/stand-in-0\n"
    long_ago = time.time() - STAND_IN_AGE_S - 1
    os.utime(old.here / "used-for", (long_ago, long_ago))
    forget_stand_ins(new, time.time())
    assert [each.here.exists() for each in (old, lasting, new)] == [False, True, True]
    forget_stand_ins(Layout(tmp_path / "out"), time.time())
    assert not (tmp_path / "out").exists()
