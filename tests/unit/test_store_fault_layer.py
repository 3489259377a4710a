"""The fault layer itself: what it says it does it does, and a power cut reveals the fsync that is missing."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.support.fault_layer import FaultySystem, Killed, Operation
from trax_ray.store.system import current, use

NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL


@pytest.fixture
def disk(tmp_path: Path) -> FaultySystem:
    return FaultySystem(tmp_path)


def write(disk: FaultySystem, path: Path, data: bytes, *, sync: bool = True) -> None:
    fd = disk.open(path, NEW)
    disk.write(fd, data)
    if sync:
        disk.fsync(fd)
    disk.close(fd)


def sync_folder(disk: FaultySystem, path: Path) -> None:
    fd = disk.open(path, os.O_RDONLY)
    disk.fsync(fd)
    disk.close(fd)


def kinds(disk: FaultySystem) -> list[str]:
    return [operation.kind for operation in disk.operations]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def outcomes(tmp_path: Path, work: Callable[[FaultySystem, Path], None]) -> set[tuple[tuple[str, bytes], ...]]:
    """What forty power cuts leave after the same work."""
    found = set()
    for seed in range(40):
        folder = tmp_path / str(seed)
        folder.mkdir()
        (folder / "old").write_bytes(b"old")
        disk = FaultySystem(folder)
        work(disk, folder)
        disk.lose_power(Random(seed))
        found.add(tuple(sorted(content(folder).items())))
    return found


def test_it_counts_what_is_done(disk: FaultySystem, tmp_path: Path) -> None:
    write(disk, tmp_path / "a", b"one")
    disk.link(tmp_path / "a", tmp_path / "b")
    disk.replace(tmp_path / "a", tmp_path / "c")
    disk.unlink(tmp_path / "b")
    disk.mkdir(tmp_path / "d")
    disk.mkdir(tmp_path / "e")
    disk.rmdir(tmp_path / "e")
    assert kinds(disk) == ["open", "write", "fsync", "close", "link", "replace", "unlink", "mkdir", "mkdir", "rmdir"]
    assert disk.operations[5] == Operation(6, "replace", tmp_path / "c")
    assert {each.name for each in tmp_path.iterdir()} == {"c", "d"}


def test_the_operation_that_is_named_fails_once(disk: FaultySystem, tmp_path: Path) -> None:
    disk.fail(2, errno.ENOSPC, kind="mkdir")
    disk.mkdir(tmp_path / "a")
    with pytest.raises(OSError, match="No space left"):
        disk.mkdir(tmp_path / "b")
    disk.mkdir(tmp_path / "c")
    assert {each.name for each in tmp_path.iterdir()} == {"a", "c"}


def test_operations_fail_from_then_on_until_the_disk_is_well(disk: FaultySystem, tmp_path: Path) -> None:
    disk.fail(1, errno.EIO, below=tmp_path / "bad", for_good=True)
    disk.mkdir(tmp_path / "badly named")
    for _ in range(2):
        with pytest.raises(OSError, match="Input/output"):
            disk.mkdir(tmp_path / "bad")
    disk.heal()
    disk.mkdir(tmp_path / "bad")
    disk.fail(below=tmp_path / "bad")
    with pytest.raises(OSError, match="Input/output"):
        disk.mkdir(tmp_path / "bad" / "below")


def test_a_close_that_fails_has_closed(disk: FaultySystem, tmp_path: Path) -> None:
    fd = disk.open(tmp_path / "a", NEW)
    disk.fail()
    with pytest.raises(OSError, match="Input/output"):
        disk.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_writes_that_take_a_few_bytes(disk: FaultySystem, tmp_path: Path) -> None:
    disk.write_at_most(2)
    fd = disk.open(tmp_path / "a", NEW)
    assert disk.write(fd, b"abc") == 2
    disk.close(fd)
    assert (tmp_path / "a").read_bytes() == b"ab"


@pytest.mark.parametrize("after", [False, True])
def test_the_dead_do_nothing(disk: FaultySystem, tmp_path: Path, after: bool) -> None:
    disk.kill(2, after=after)
    disk.mkdir(tmp_path / "a")
    with pytest.raises(Killed):
        disk.mkdir(tmp_path / "b")
    assert (tmp_path / "b").exists() is after
    with pytest.raises(Killed):
        disk.mkdir(tmp_path / "c")
    assert not (tmp_path / "c").exists()
    assert disk.dead
    assert len(disk.operations) == 2


def test_the_locks_of_the_dead_are_free_and_their_files_no_longer_theirs(disk: FaultySystem, tmp_path: Path) -> None:
    fd = disk.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    disk.kill(1)
    with pytest.raises(Killed):
        disk.write(fd, b"x")
    with (tmp_path / "lock").open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.write(fd, b"late")  # an object of the dead one that goes around
    assert (tmp_path / "lock").read_bytes() == b""
    with pytest.raises(Killed):
        disk.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_second_fsync_after_a_failed_one_is_told(disk: FaultySystem, tmp_path: Path) -> None:
    fd = disk.open(tmp_path / "a", NEW)
    disk.fail(kind="fsync")
    with pytest.raises(OSError, match="Input/output"):
        disk.fsync(fd)
    assert not disk.retried_fsyncs
    disk.fsync(fd)
    assert [operation.number for operation in disk.retried_fsyncs] == [3]
    disk.close(fd)
    fd = disk.open(tmp_path / "b", NEW)  # the same number, and another file
    disk.fsync(fd)
    disk.close(fd)
    assert len(disk.retried_fsyncs) == 1


def test_bytes_of_a_failed_fsync_are_in_memory_only(disk: FaultySystem, tmp_path: Path) -> None:
    fd = disk.open(tmp_path / "a", NEW)
    disk.write(fd, b"safe")
    disk.fsync(fd)
    disk.write(fd, b" and lost")
    disk.fail(kind="fsync")
    with pytest.raises(OSError, match="Input/output"):
        disk.fsync(fd)
    disk.fsync(fd)  # it says that all is well
    assert (tmp_path / "a").read_bytes() == b"safe and lost"
    disk.forget_cached(fd)
    assert (tmp_path / "a").read_bytes() == b"safe"
    disk.close(fd)


def test_what_is_synced_stays_as_it_is(tmp_path: Path) -> None:
    def careful(disk: FaultySystem, folder: Path) -> None:
        disk.mkdir(folder / "d")
        sync_folder(disk, folder)
        write(disk, folder / "d" / "a", b"new")
        disk.replace(folder / "d" / "a", folder / "d" / "b")
        disk.link(folder / "d" / "b", folder / "d" / "c")
        sync_folder(disk, folder / "d")
        disk.unlink(folder / "old")
        sync_folder(disk, folder)

    assert outcomes(tmp_path, careful) == {(("d/b", b"new"), ("d/c", b"new"))}


def test_bytes_that_are_not_synced_are_lost_from_any_place_on_or_zeros(tmp_path: Path) -> None:
    def careless(disk: FaultySystem, folder: Path) -> None:
        fd = disk.open(folder / "old", os.O_WRONLY | os.O_APPEND)
        disk.write(fd, b"er")

    found = {content[0][1] for content in outcomes(tmp_path, careless)}
    assert found == {b"old", b"olde", b"older", b"old\0", b"old\0\0"}


def test_bytes_that_were_changed_in_place_are_old_new_or_short(tmp_path: Path) -> None:
    def careless(disk: FaultySystem, folder: Path) -> None:
        fd = disk.open(folder / "old", os.O_RDWR)
        disk.truncate(fd, 0)
        disk.write(fd, b"ab")

    assert {content[0][1] for content in outcomes(tmp_path, careless)} == {b"old", b"ab", b"a", b""}


def test_names_that_are_not_synced_may_be_gone_or_old(tmp_path: Path) -> None:
    def careless(disk: FaultySystem, folder: Path) -> None:
        write(disk, folder / "new", b"new")
        disk.replace(folder / "new", folder / "old")

    found = outcomes(tmp_path, careless)
    assert {dict(each)["old"] for each in found} == {b"old", b"new"}
    assert {"new" in dict(each) for each in found} == {False, True}


def test_a_folder_that_is_not_synced_takes_all_with_it(tmp_path: Path) -> None:
    def careless(disk: FaultySystem, folder: Path) -> None:
        disk.mkdir(folder / "d")
        write(disk, folder / "d" / "a", b"new")
        sync_folder(disk, folder / "d")

    assert outcomes(tmp_path, careless) == {(("old", b"old"),), (("d/a", b"new"), ("old", b"old"))}


def test_what_was_taken_away_may_come_back(tmp_path: Path) -> None:
    def careless(disk: FaultySystem, folder: Path) -> None:
        disk.unlink(folder / "old")

    assert outcomes(tmp_path, careless) == {(), (("old", b"old"),)}


def test_a_folder_that_was_taken_away_may_come_back_empty(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    found = set()
    for seed in range(20):
        disk = FaultySystem(tmp_path)
        disk.rmdir(folder)
        disk.lose_power(Random(seed))
        found.add(folder.exists())
        folder.mkdir(exist_ok=True)
    assert found == {True, False}


def test_a_new_process_begins_where_the_dead_one_stopped(disk: FaultySystem, tmp_path: Path) -> None:
    disk.kill(2)
    disk.mkdir(tmp_path / "a")
    with pytest.raises(Killed):
        disk.mkdir(tmp_path / "b")
    disk.restart()
    assert (tmp_path / "a").exists(), "it is the process that died, not the machine"
    disk.mkdir(tmp_path / "b")
    sync_folder(disk, tmp_path)
    disk.lose_power(Random(0))
    assert {each.name for each in tmp_path.iterdir()} == {"a", "b"}
    disk.restart()
    disk.mkdir(tmp_path / "c")


def test_what_went_around_the_door_is_not_synced(tmp_path: Path) -> None:
    def careless(disk: FaultySystem, folder: Path) -> None:
        (folder / "new").write_bytes(b"n")
        disk.replace(folder / "new", folder / "old")
        sync_folder(disk, folder)

    assert outcomes(tmp_path, careless) == {(("old", b""),), (("old", b"n"),), (("old", b"\0"),)}


def save(path: Path, data: bytes, *, sync_file: bool, sync_folder: bool) -> None:
    """Replace a file, with all that belongs to it or without a part of it."""
    system, temporary = current(), path.with_name("temporary")
    fd = system.open(temporary, NEW)
    system.write(fd, data)
    if sync_file:
        system.fsync(fd)
    system.close(fd)
    system.replace(temporary, path)
    if sync_folder:
        folder = system.open(path.parent, os.O_RDONLY)
        system.fsync(folder)
        system.close(folder)


@pytest.mark.parametrize(
    ("sync_file", "sync_folder", "right"), [(True, True, True), (False, True, False), (True, False, False)]
)
def test_a_power_cut_reveals_the_missing_fsync(tmp_path: Path, sync_file: bool, sync_folder: bool, right: bool) -> None:
    def work(disk: FaultySystem, folder: Path) -> None:
        with use(disk):
            save(folder / "old", b"new", sync_file=sync_file, sync_folder=sync_folder)

    kept = [dict(each).get("old") == b"new" for each in outcomes(tmp_path, work)]
    assert all(kept) is right
