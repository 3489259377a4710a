"""Atomic and exclusive writes: whole or not there, one winner, nothing left behind, errors that say the way out."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import stat
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support.fault_layer import FaultySystem
from trax_ray.errors import DiskFull, FileError, ResourceError
from trax_ray.store import files, system, writing
from trax_ray.store.explaining import explain
from trax_ray.store.system import System, use

LONGEST_NAME = os.fsdecode(b"\xff" * 251 + b".srt")
"""255 bytes, and not UTF-8."""


def fail_with(number: int) -> Callable[..., Any]:
    def call(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return call


def use_way(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Take away the better ways to create exclusively, as file systems without them do."""
    if way in ("rename", "last resort"):
        monkeypatch.setattr(files.os, "link", fail_with(errno.EPERM))
    if way == "last resort":
        monkeypatch.setattr(system, "_renameat2", lambda: None)


@pytest.fixture(params=["link", "rename", "last resort"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    use_way(monkeypatch, request.param)
    return str(request.param)


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_writes_a_new_file_and_replaces_an_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    assert writing.write_atomically(path, b"one")
    assert writing.write_atomically(path, b"two")  # the same size: the bytes decide
    assert path.read_bytes() == b"two"
    assert names(tmp_path) == ["a.txt"]


def test_same_bytes_leave_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    writing.write_atomically(path, b"same")
    os.utime(path, ns=(5, 5))
    before = path.stat()
    assert not writing.write_atomically(path, b"same")
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (5, before.st_ino)


def test_a_pipe_is_replaced_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    assert writing.write_atomically(path, b"")
    assert stat.S_ISREG(path.stat().st_mode)


@pytest.mark.parametrize(("module", "broken"), [(files, "fsync"), (writing, "write_all")], ids=["fsync", "write_all"])
def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, broken: str
) -> None:
    path = tmp_path / "a.txt"
    writing.write_atomically(path, b"old")
    monkeypatch.setattr(module, broken, fail_with(errno.ENOSPC))
    with pytest.raises(DiskFull, match=r"a\.txt.*make room"):
        writing.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.txt"]


def test_a_failed_replace_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileError) as caught:
        writing.write_atomically(tmp_path / "folder", b"new")
    assert caught.value.code == "not_writable"
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("write", [writing.write_atomically, writing.create_exclusively])
def test_names_of_255_bytes_that_are_not_utf8(tmp_path: Path, write: Callable[[Path, bytes], bool]) -> None:
    assert len(os.fsencode(LONGEST_NAME)) == 255
    assert write(tmp_path / LONGEST_NAME, b"x")
    assert names(tmp_path) == [LONGEST_NAME]


@pytest.mark.parametrize("write", [writing.write_atomically, writing.create_exclusively])
def test_a_missing_folder_is_named(tmp_path: Path, write: Callable[[Path, bytes], bool]) -> None:
    with pytest.raises(FileError, match="no-such") as caught:
        write(tmp_path / "no-such" / "a.txt", b"x")
    assert (caught.value.code, caught.value.failure_class) == ("not_writable", "permanent")


def test_first_writer_wins(tmp_path: Path, way: str) -> None:
    path = tmp_path / "a"
    assert writing.create_exclusively(path, b"first")
    assert not writing.create_exclusively(path, b"second")
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["a"]


def test_one_who_comes_between_look_and_create_wins(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"theirs")
    monkeypatch.setattr(files.os.path, "lexists", lambda _: False)
    assert not writing.create_exclusively(path, b"ours")
    assert path.read_bytes() == b"theirs"
    assert names(tmp_path) == ["a"]


def test_linux_renames_without_replacing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if system._renameat2() is None:
        pytest.skip("no renameat2 in this libc")
    use_way(monkeypatch, "rename")
    monkeypatch.setattr(writing, "_write_new", _only_temporary(writing._write_new))
    assert writing.create_exclusively(tmp_path / "a", b"x")


def _only_temporary(write: Callable[[Path, bytes], None]) -> Callable[[Path, bytes], None]:
    def checked(path: Path, data: bytes) -> None:
        assert writing.is_leftover(path.name), "the last resort was used"
        write(path, data)

    return checked


def test_disk_full_leaves_the_name_free(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "fsync", fail_with(errno.EDQUOT))
    with pytest.raises(DiskFull, match="quota"):
        writing.create_exclusively(tmp_path / "a", b"x")
    assert names(tmp_path) == []


def test_an_error_that_does_not_mean_no_links_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.os, "link", fail_with(errno.EIO))
    with pytest.raises(FileError):
        writing.create_exclusively(tmp_path / "a", b"x")
    assert names(tmp_path) == []


def test_a_repeated_nfs_request_is_still_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def lost_reply(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(files.os, "link", lost_reply)
    assert writing.create_exclusively(tmp_path / "a", b"x")


def test_order_of_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []

    def note(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any) -> Any:
            steps.append(name)
            return call(*args)

        return noted

    for module, name in ((writing, "write_all"), (files, "fsync"), (files.os, "link"), (files, "fsync_folder")):
        monkeypatch.setattr(module, name, note(name, getattr(module, name)))
    writing.create_exclusively(tmp_path / "a", b"x")
    assert steps == ["write_all", "fsync", "link", "fsync_folder", "fsync"]
    steps.clear()
    writing.create_exclusively(tmp_path / "a", b"x")
    assert steps == ["fsync", "fsync_folder", "fsync"], "the loser must not lose in a power cut what it relies on"


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(files.os, "write", lambda fd, data: write(fd, bytes(data[:3])))
    writing.write_atomically(tmp_path / "a", b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"


@pytest.mark.parametrize("answer", [0, errno.ENOTSUP, errno.EIO])
def test_macos_asks_for_the_full_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int) -> None:
    plain: list[int] = []
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", fail_with(answer) if answer else lambda fd, command: 0)
    monkeypatch.setattr(files.os, "fsync", plain.append)
    if answer == errno.EIO:
        with pytest.raises(OSError, match="Input/output"):
            files.fsync(7)
    else:
        files.fsync(7)
    assert plain == ([7] if answer == errno.ENOTSUP else [])


def test_a_file_system_without_fsync_for_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "fsync", fail_with(errno.EINVAL))
    files.fsync_folder(tmp_path)
    monkeypatch.setattr(files, "fsync", fail_with(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        files.fsync_folder(tmp_path)


def test_ensure_folder_makes_all_and_refuses_files(tmp_path: Path) -> None:
    files.ensure_folder(tmp_path / "a" / "b" / "c")
    files.ensure_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(FileError) as caught:
        files.ensure_folder(tmp_path / "file" / "below")
    assert caught.value.code == "not_writable"


def kinds_of(disk: FaultySystem) -> list[str]:
    return [operation.kind for operation in disk.operations]


def test_a_folder_that_another_made_is_brought_to_the_disk_once(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with use(FaultySystem(tmp_path)) as disk:
        files.ensure_folder(folder)
        assert kinds_of(disk) == ["open", "fsync", "close"]
        assert disk.operations[0].path == tmp_path
        files.ensure_folder(folder)
        assert len(disk.operations) == 3
        files.ensure_folder(folder / "a")
        assert kinds_of(disk)[3:] == ["mkdir", "open", "fsync", "close"]


def test_a_folder_in_one_that_may_not_be_read_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with use(FaultySystem(tmp_path)) as disk:
        disk.fail(1, errno.EACCES)
        files.ensure_folder(folder)
    with use(FaultySystem(tmp_path)) as disk:
        disk.fail(2, errno.EACCES, kind="open")
        with pytest.raises(FileError):  # but what we made ourselves must get to the disk
            files.ensure_folder(tmp_path / "new")


def test_what_is_remembered_of_folders_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_settled", set())
    monkeypatch.setattr(files, "_MAX_SETTLED", 3)
    with use(FaultySystem(tmp_path)):
        for number in range(10):
            files.ensure_folder(tmp_path / str(number))
    assert len(files._settled) <= 3


def test_another_may_make_the_folder_at_the_same_moment(tmp_path: Path) -> None:
    class Slow(System):
        def mkdir(self, path: Any) -> None:
            super().mkdir(path)
            super().mkdir(path)

    with use(Slow()):
        files.ensure_folder(tmp_path / "a")
    assert (tmp_path / "a").is_dir()


def test_the_same_bytes_are_brought_to_the_disk_by_whoever_relies_on_them(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"same")
    with use(FaultySystem(tmp_path)) as disk:
        assert not writing.write_atomically(tmp_path / "a", b"same")
        assert kinds_of(disk) == ["open", "fsync", "close"]


@pytest.mark.parametrize("there", ["nothing", "the same", "other", "pipe"])
def test_a_draft_leaves_alone_what_has_the_same_bytes(tmp_path: Path, there: str) -> None:
    path = tmp_path / "a"
    if there == "pipe":
        os.mkfifo(path)
    elif there != "nothing":
        path.write_bytes(b"new" if there == "the same" else b"old")
    before = path.stat().st_ino if path.exists() else 0
    with writing.Draft(path) as draft:
        with draft.stream() as stream:
            stream.write(b"new")
        assert draft.commit(keep_same=True) is (there != "the same")
    assert draft.fd == -1
    assert path.read_bytes() == b"new"
    assert (path.stat().st_ino == before) is (there == "the same")
    assert names(tmp_path) == ["a"]


def test_a_draft_that_is_not_committed_leaves_nothing(tmp_path: Path) -> None:
    with writing.Draft(tmp_path / "a") as draft:
        writing.write_all(draft.fd, b"new")

    def interrupted() -> None:
        with writing.written_atomically(tmp_path / "a") as temporary:
            temporary.write_bytes(b"new")
            raise LookupError

    with pytest.raises(LookupError):
        interrupted()
    assert names(tmp_path) == []


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    files.bring_to_disk(tmp_path / "pipe")


def test_leftovers_go_by_age_and_name_only(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    old, young, foreign = below / ".tmp-0123456789abcdef", below / ".tmp-fedcba9876543210", below / ".tmp-notes"
    for path in (old, young, foreign):
        path.touch()
        os.utime(path, (1000, 1000))
    os.utime(young, (1990, 1990))
    assert writing.remove_leftovers(tmp_path, older_than_s=60, now=2000) == 1
    assert names(below) == sorted([young.name, foreign.name])
    assert writing.remove_leftovers(tmp_path / "none", older_than_s=60, now=2000) == 0


def test_a_crash_leaves_a_recognisable_file_only(tmp_path: Path) -> None:
    left = writing._write_temporary(tmp_path, b"x")  # and then the power went off
    assert writing.is_leftover(left.name)
    assert writing.remove_leftovers(tmp_path, older_than_s=0, now=left.stat().st_mtime + 1) == 1


@pytest.mark.parametrize(
    ("number", "doing", "kind", "failure_class", "code"),
    [
        (errno.ENOSPC, "write", DiskFull, "config", "disk_full"),
        (errno.EDQUOT, "write", DiskFull, "config", "disk_full"),
        (errno.EROFS, "write", DiskFull, "config", "disk_full"),
        (errno.EACCES, "write", FileError, "permanent", "not_writable"),
        (errno.EPERM, "write", FileError, "permanent", "not_writable"),
        (errno.ENOENT, "write", FileError, "permanent", "not_writable"),
        (errno.ENAMETOOLONG, "write", FileError, "permanent", "name_too_long"),
        (errno.ENOENT, "read", FileError, "permanent", "not_found"),
        (errno.EACCES, "read", FileError, "permanent", "permission_denied"),
        (errno.EISDIR, "read", FileError, "permanent", "is_a_directory"),
        (errno.EINVAL, "read", FileError, "permanent", "unreadable"),
        (errno.ESTALE, "read", FileError, "transient", "file_busy"),
        (errno.EMFILE, "read", ResourceError, "resource", "too_many_open_files"),
        (errno.ENOMEM, "write", ResourceError, "resource", "out_of_memory"),
    ],
)
def test_what_an_oserror_means(number: int, doing: Any, kind: type, failure_class: str, code: str) -> None:
    path = os.fsdecode(b"/data/t\xe9l\xc3\xa9.mp3")
    error = explain(OSError(number, os.strerror(number)), path, doing)
    assert type(error) is kind
    assert (error.failure_class, error.code) == (failure_class, code)
    assert "/data/t\\xe9lé.mp3" in error.message
    error.message.encode("utf-8")  # can be printed and put into JSON and Parquet


def _race(barrier: Barrier, folder: str, number: int, count: int, results: Any) -> None:
    wins = []
    for each in range(count):
        barrier.wait(timeout=60)
        if writing.create_exclusively(Path(folder, f"{each:03d}"), b"%d" % number * 1000):
            wins.append(each)
    results.put((number, wins))


def test_processes_race_for_names(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes, count = 3, 40
    barrier, results = context.Barrier(processes), context.SimpleQueue()
    workers = [
        context.Process(target=_race, args=(barrier, str(tmp_path), number, count, results))
        for number in range(processes)
    ]
    for worker in workers:
        worker.start()
    wins = dict(results.get() for _ in workers)
    for worker in workers:
        worker.join()
    assert sorted(name for each in wins.values() for name in each) == list(range(count)), "one winner for each name"
    for number, each in wins.items():
        for name in each:
            assert (tmp_path / f"{name:03d}").read_bytes() == b"%d" % number * 1000
    assert len(names(tmp_path)) == count


def test_a_path_with_dots_is_shown_as_what_it_is_unless_a_link_makes_it_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert files.absolute("../x") == tmp_path / "a" / "x"
    assert files.absolute("./x/") == tmp_path / "a" / "b" / "x"
    (tmp_path / "link").symlink_to(tmp_path / "a" / "b")
    through = files.absolute(tmp_path / "link" / ".." / "x")
    assert os.path.realpath(through) == str(tmp_path / "a" / "x"), "not what lies beside the link"
