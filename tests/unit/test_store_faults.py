"""Every write of the store under every fault, at every step.

For each way to write (`CASES`): a good run is counted. Then, in a fresh folder each time, one step after the other
fails with EIO and with ENOSPC, or the process dies before or after it, or the power goes off there. What is left must
be the old state or the new one, never half; what was acknowledged must be there; the error must say what it is; and
the same thing done again, by a new process, must succeed, and be there after yet another power cut.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import pytest

from tests.support.fault_layer import FaultySystem, Killed
from trax_ray.core.state.events import CoordinatorStarted, TasksAdded
from trax_ray.errors import DiskFull, FileError, TraxRayError
from trax_ray.report.parquet import TableFile, read_columns
from trax_ray.store import artifacts, files, inbox, lease, writing
from trax_ray.store.artifacts import ArtifactStore, content_hash
from trax_ray.store.batch_journal import BatchJournal, read_state
from trax_ray.store.epochs import open_journal, read_chain
from trax_ray.store.explaining import explain
from trax_ray.store.heartbeat import BEAT_PERIOD_S
from trax_ray.store.inbox import waiting
from trax_ray.store.journal import JournalWriter, iter_segment
from trax_ray.store.layout import Layout
from trax_ray.store.lease import Lease, holder_of
from trax_ray.store.outputs import Outputs
from trax_ray.store.system import use
from trax_ray.testing.clock import FakeClock
from trax_ray.testing.factories import make_spec, make_task

OLD, NEW = b"old " * 10, b"new " * 12
KEY = ArtifactStore.key("00" * 32, "transcribe", {}, "tiny", 1)
TALK = b"talk" * 30
Told = list[Any]


@dataclass(frozen=True)
class Case:
    """A way to write.

    Args:
        name: For whoever reads the tests' names.
        run: Does it, as a fresh process would; appends to a list what it was told is on the disk.
        check: Raises where what is in a folder is half of something, or isn't what somebody was told is there.
        prepare: Makes the old state.
        piece: Bytes that a write takes at a time, so that there are steps in the middle of the bytes.
        unsupported: What the file system can't do.
    """

    name: str
    run: Callable[[Path, Told], None]
    check: Callable[[Path, Told], None]
    prepare: Callable[[Path], Any] = lambda root: None
    piece: int = 20
    unsupported: tuple[str, ...] = ()


# One file


def write_old(root: Path) -> None:
    (root / "a").write_bytes(OLD)


def write(root: Path, told: Told) -> None:
    writing.write_atomically(root / "a", NEW)
    told.append(NEW)


def write_by_name(root: Path, told: Told) -> None:
    with writing.written_atomically(root / "a") as temporary:
        temporary.write_bytes(NEW)  # as libraries do, around the door
    told.append(NEW)


def write_draft(root: Path, told: Told) -> None:
    try:
        with writing.Draft(root / "a") as draft:
            with draft.stream() as stream:
                stream.write(NEW)
            draft.commit(keep_same=True)
    except OSError as error:
        raise explain(error, root / "a", "write") from error
    told.append(NEW)


def create(root: Path, told: Told) -> None:
    writing.create_exclusively(root / "a", NEW)
    told.append(NEW)


def old_or_new(root: Path, told: Told) -> None:
    expected = [NEW] if told else [OLD, NEW]
    assert (root / "a").read_bytes() in expected


def none_or_new(root: Path, told: Told) -> None:
    if told or (root / "a").exists():
        assert (root / "a").read_bytes() == NEW


def write_table(root: Path, told: Told) -> None:
    with TableFile(root / "tasks.parquet", "tasks") as table:
        table.add({"task_id": "t", "file_id": "new"})
    told.append("new")


def write_old_table(root: Path) -> None:
    with TableFile(root / "tasks.parquet", "tasks") as table:
        table.add({"task_id": "t", "file_id": "old"})


def old_or_new_table(root: Path, told: Told) -> None:
    found = read_columns(root / "tasks.parquet", ["file_id"]).column("file_id").to_pylist()
    assert found in ([["new"]] if told else [["old"], ["new"]])


# Journals


def append(root: Path, told: Told) -> None:
    """A segment of one's own, and two groups."""
    number = len(list(root.glob("*.jsonl")))
    writer = JournalWriter(root / f"{number}.jsonl")
    try:
        for group in range(2):
            writer.append([{"n": number, "group": group, "each": each} for each in range(2)])
            told.append((number, group))
    finally:
        writer.close()


def prefixes(root: Path, told: Told) -> None:
    for number in range(len(list(root.glob("*.jsonl")))):
        found = [group.records() for group in iter_segment(root / f"{number}.jsonl")]
        whole = [[{"n": number, "group": group, "each": each} for each in range(2)] for group in range(2)]
        assert found == whole[: len(found)]
        assert len(found) >= sum(1 for segment, _ in told if segment == number)


def take(root: Path, told: Told) -> None:
    opened = open_journal(root / "out" / "journal", "me", 0.0)
    try:
        seen = [record["n"] for record in opened.records]
        for _ in range(2):
            opened.append([{"n": f"{opened.epoch}.{len(seen)}"}, {"n": f"{opened.epoch}.{len(seen)}b"}])
            told.append(f"{opened.epoch}.{len(seen)}b")
            seen.append("")
    finally:
        opened.close()


def chain(root: Path, told: Told) -> None:
    found = [record["n"] for record in read_chain(root / "out" / "journal")]
    assert found[1::2] == [f"{each}b" for each in found[::2]], "groups are whole"
    assert len(found) == len(set(found))
    kept = set(told)
    assert [each for each in found if each in kept] == told


def begin_batch(root: Path, told: Told) -> None:
    book = BatchJournal.open(Layout(root / "out"), "batch", 0.0)
    try:
        started = CoordinatorStarted(book.epoch, make_spec(root).to_dict(), run=str(book.epoch))
        book.commit([started, TasksAdded((make_task(f"{book.epoch}a"),))], 1.0)
        told.append(f"{book.epoch}a")
        more = [TasksAdded((make_task(f"{book.epoch}b"), make_task(f"{book.epoch}c")))]
        book.commit([], 2.0, then=lambda: more)
        told.append(f"{book.epoch}c")
    finally:
        book.close()


def batch(root: Path, told: Told) -> None:
    records = read_state(Layout(root / "out")).records
    assert set(told) <= set(records)
    for task_id in records:
        if task_id.endswith("c"):
            assert task_id[:-1] + "b" in records


# Results, hashes, commands, the lock


def put(root: Path, told: Told) -> None:
    told.append(ArtifactStore(root / "out" / "artifacts").put(KEY, {"text": "one two three"})[1])


def put_beside_damage(root: Path) -> None:
    store = ArtifactStore(root / "out" / "artifacts")
    store.put(KEY, {"text": "damaged"})
    store.path(KEY).write_bytes(store.path(KEY).read_bytes()[:-9])


def get(root: Path, told: Told) -> None:
    assert ArtifactStore(root / "out" / "artifacts").get(KEY) in (None, {"text": "one two three"})
    put(root, told)


def artifact(root: Path, told: Told) -> None:
    path = ArtifactStore(root / "out" / "artifacts").path(KEY)
    if told or path.exists():
        assert artifacts._decode(KEY, path.read_bytes()) == {"text": "one two three"}


def artifact_or_damage(root: Path, told: Told) -> None:
    path = ArtifactStore(root / "out" / "artifacts").path(KEY)
    if told or path.exists():
        found = artifacts._decode(KEY, path.read_bytes())
        assert found == {"text": "one two three"} or (found is None and not told)


# Files that a user gets


def export_beside_theirs(root: Path) -> None:
    Outputs(Layout(root), "f").write({"a.txt": OLD})
    (root / "b.txt").write_bytes(b"theirs")


def export(root: Path, told: Told) -> None:
    told.append(Outputs(Layout(root), "f").write({"a.txt": NEW, "b.txt": NEW}))


def ours_or_theirs(root: Path, told: Told) -> None:
    assert (root / "a.txt").read_bytes() in ([NEW] if told else [OLD, NEW])
    assert (root / "b.txt").read_bytes() == b"theirs"
    assert not list(root.glob("a.new*")), "what a run that died left is still known for ours"
    assert not list(root.glob("b.new-*"))
    if told or (root / "b.new.txt").exists():
        assert (root / "b.new.txt").read_bytes() == NEW
    assert told in ([], *([["a.txt", "b.new.txt"]] * count for count in (1, 2, 3)))


def save_talk(root: Path) -> None:
    (root / "talk.mp3").write_bytes(TALK)
    os.utime(root / "talk.mp3", (1000, 1000))


def hash_talk(root: Path, told: Told) -> None:
    told.append(content_hash(root / "talk.mp3", root / "out" / "hashes", now=2000.0))


def right_hash(root: Path, told: Told) -> None:
    right = hashlib.sha256(TALK).hexdigest()
    assert set(told) <= {right}
    for note in (root / "out" / "hashes").glob("*/*"):
        assert writing.is_leftover(note.name) or artifacts._read_note(note) == right


def hold(root: Path, told: Told) -> None:
    lock = Lease(root / "out" / "lock")
    lock.acquire("batch")
    told.append("held")
    lock.release()


def beat(root: Path, told: Told) -> None:
    """Where there are no locks: take it, count twice, let go."""
    clock = FakeClock()
    lock = Lease(root / "out" / "lock", heartbeat=True, monotonic=clock, sleep=clock.advance)
    with patch("fcntl.flock", side_effect=OSError(errno.ENOLCK, "No locks available")):
        lock.acquire("batch")
        told.append("held")
        for _ in range(2):
            clock.advance(BEAT_PERIOD_S)
            lock.beat()
        lock.release()


def named_or_free(root: Path, told: Told) -> None:
    with patch("fcntl.flock", side_effect=OSError(errno.ENOLCK, "No locks available")):
        found = holder_of(root / "out" / "lock")
    assert found is None or found.holder in ("batch", "")


def free(root: Path, told: Told) -> None:
    path = root / "out" / "lock"
    if path.exists():
        with path.open() as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def command(root: Path, told: Told) -> None:
    told.append(inbox.put(root / "out" / "inbox", "pause"))


def commands(root: Path, told: Told) -> None:
    folder = root / "out" / "inbox"
    assert set(told) <= {request.name for request in waiting(folder)}
    for path in folder.glob("*") if folder.exists() else ():
        assert writing.is_leftover(path.name) or json.loads(path.read_bytes())["command"] == "pause"


CASES = [
    Case("write_atomically", write, old_or_new, write_old),
    Case("write_atomically a new file", write, none_or_new),
    Case("written_atomically", write_by_name, old_or_new, write_old),
    Case("draft", write_draft, old_or_new, write_old),
    Case("table", write_table, old_or_new_table, write_old_table, piece=1500),
    Case("create by link", create, none_or_new),
    Case("create by rename", create, none_or_new, unsupported=("link",)),
    Case("append", append, prefixes, piece=60),
    Case("open_journal", take, chain, lambda root: take(root, []), piece=60),
    Case("open_journal anew", take, chain, piece=60),
    Case("batch", begin_batch, batch, piece=200),
    Case("put", put, artifact, piece=60),
    Case("put by the last resort", put, artifact_or_damage, piece=60, unsupported=("link", "rename_exclusively")),
    Case("get what is damaged", get, artifact_or_damage, put_beside_damage, piece=60),
    Case("content_hash", hash_talk, right_hash, save_talk, piece=30),
    Case("outputs", export, ours_or_theirs, export_beside_theirs, piece=60),
    Case("lease", hold, free),
    Case("heartbeat", beat, named_or_free, piece=100),
    Case("inbox", command, commands, piece=30),
]

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
by_pieces = pytest.mark.parametrize("pieces", [False, True], ids=["at once", "in pieces"])


@dataclass
class Trial:
    """A case in a folder of its own, and what it was told there."""

    case: Case
    root: Path
    disk: FaultySystem
    told: Told

    def run(self) -> None:
        """Do it, as a fresh process."""
        with use(self.disk):
            self.case.run(self.root, self.told)

    def check(self) -> None:
        """See that nothing is half, and that what was acknowledged is there. Only looks."""
        self.case.check(self.root, self.told)

    def again(self) -> None:
        """The same by a new process on a disk that is well; then a power cut."""
        self.disk.restart()
        files._settled.clear()
        lease._held.clear()
        self.without_support()
        before = len(self.told)
        self.run()
        assert len(self.told) > before
        self.check()
        self.disk.lose_power(Random(before))
        self.check()
        assert not self.disk.retried_fsyncs

    def without_support(self) -> None:
        """Let fail what this file system can't do."""
        for kind in self.case.unsupported:
            self.disk.fail(1, errno.EPERM if kind == "link" else errno.EINVAL, kind=kind, for_good=True)


@pytest.fixture
def trials(tmp_path: Path) -> Iterator[Callable[[Case, bool], Trial]]:
    numbers = itertools.count()

    def trial(case: Case, pieces: bool) -> Trial:
        root = tmp_path / str(next(numbers))
        root.mkdir()
        files._settled.clear()
        with use(FaultySystem(root)):
            case.prepare(root)
        trial = Trial(case, root, FaultySystem(root), [])
        trial.without_support()
        if pieces:
            trial.disk.write_at_most(case.piece)
        files._settled.clear()
        return trial

    yield trial
    files._settled.clear()


def steps(trials: Callable[[Case, bool], Trial], case: Case, pieces: bool) -> int:
    """How many operations a good run has."""
    good = trials(case, pieces)
    good.run()
    good.check()
    assert good.told
    assert not good.disk.retried_fsyncs
    return len(good.disk.operations)


def leftovers(root: Path) -> list[str]:
    return [path.name for path in root.rglob("*") if writing.is_leftover(path.name)]


@by_pieces
@every_case
def test_good_runs_are_there_after_a_power_cut(trials: Any, case: Case, pieces: bool) -> None:
    for seed in range(10):
        trial = trials(case, pieces)
        trial.run()
        trial.disk.lose_power(Random(seed))
        trial.check()
        trial.again()


@pytest.mark.parametrize(("error", "kind"), [(errno.EIO, FileError), (errno.ENOSPC, DiskFull)], ids=["EIO", "ENOSPC"])
@by_pieces
@every_case
def test_an_error_at_every_step(trials: Any, case: Case, pieces: bool, error: int, kind: type[TraxRayError]) -> None:
    for number in range(1, steps(trials, case, pieces) + 1):
        trial = trials(case, pieces)
        trial.disk.fail(number, error)
        with contextlib.suppress(kind):  # a temporary file that can't be taken away is nobody's concern
            trial.run()
        assert trial.disk.operations[number - 1 :]
        assert trial.disk.operations[number - 1].kind == "unlink" or not leftovers(trial.root)
        trial.check()
        trial.again()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@by_pieces
@every_case
def test_a_kill_at_every_step(trials: Any, case: Case, pieces: bool, after: bool) -> None:
    for number in range(1, steps(trials, case, pieces) + 1):
        trial = trials(case, pieces)
        trial.disk.kill(number, after=after)
        with pytest.raises(Killed):
            trial.run()
        trial.check()
        trial.again()


@by_pieces
@every_case
def test_a_power_cut_at_every_step(trials: Any, case: Case, pieces: bool) -> None:
    for number in range(1, steps(trials, case, pieces) + 1):
        for seed in range(2):
            trial = trials(case, pieces)
            trial.disk.kill(number, after=True)
            with pytest.raises(Killed):
                trial.run()
            trial.disk.lose_power(Random(seed))
            trial.check()
            trial.again()


@pytest.mark.parametrize("kind", ["write", "fsync"])
@pytest.mark.parametrize(("error", "raised"), [(errno.EIO, FileError), (errno.ENOSPC, DiskFull)])
def test_a_journal_takes_no_more_after_a_failure(
    tmp_path: Path, kind: str, error: int, raised: type[TraxRayError]
) -> None:
    disk = FaultySystem(tmp_path)
    path = tmp_path / "0.jsonl"
    with use(disk):
        writer = JournalWriter(path)
        writer.append([{"n": 1}])
        disk.write_at_most(10)
        disk.fail(3 if kind == "write" else 1, error, kind=kind)
        with pytest.raises(raised):
            writer.append([{"n": 2}])
        disk.heal()
        data, done = path.read_bytes(), len(disk.operations)
        with pytest.raises(raised, match="takes no more groups"):
            writer.append([{"n": 3}])
        assert len(disk.operations) == done
    assert path.read_bytes() == data
    assert next(group.records() for group in iter_segment(path)) == [{"n": 1}]


def test_what_only_memory_held_is_not_built_upon(tmp_path: Path) -> None:
    """The successor's fsync says "fine"; but the bytes that its predecessor's failed to save stay lost."""
    disk = FaultySystem(tmp_path)
    with use(disk):
        first = open_journal(tmp_path, "first", 0.0)
        first.append([{"n": 1}])
        disk.fail(kind="fsync")
        with pytest.raises(FileError):
            first.append([{"n": 2}])
        second = open_journal(tmp_path, "second", 0.0)
        assert list(second.records) == [{"n": 1}]
        second.append([{"n": 3}])
        second.close()
    for seed in range(5):
        disk.lose_power(Random(seed))
        assert list(read_chain(tmp_path)) == [{"n": 1}, {"n": 3}]
