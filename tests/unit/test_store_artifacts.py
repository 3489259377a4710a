"""Artifacts: keys that mean the work, one winner, damage that is seen; hashes that are remembered safely."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fault_layer import FaultySystem
from trax_ray.core.task import TaskType
from trax_ray.errors import DiskFull, FileError
from trax_ray.store import artifacts, files, writing
from trax_ray.store.artifacts import ArtifactStore, content_hash
from trax_ray.store.system import System, use

KEY = ArtifactStore.key("00" * 32, "transcribe", {}, "tiny", 1)
PAYLOAD = {"text": "Grüße", "segments": [{"start_s": 0.1, "tokens": [1, 2]}], "path": os.fsdecode(b"t\xe9l.mp3")}


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


@pytest.mark.parametrize("relied_on", [True, False])
def test_what_another_one_wrote_is_on_the_disk_once_it_is_relied_on(tmp_path: Path, relied_on: bool) -> None:
    """It died between giving the file its name and syncing the name; then we used it; then the power went."""
    kept = 0
    for seed in range(20):
        folder = tmp_path / str(seed)
        files._settled.clear()
        store = ArtifactStore(folder)
        store.put(KEY, PAYLOAD)
        path = store.path(KEY)
        data = path.read_bytes()
        path.unlink()
        with use(FaultySystem(folder)) as disk:
            disk.link(writing._write_temporary(path.parent, data), path)
            assert store.get(KEY, relied_on=relied_on) == PAYLOAD
            disk.lose_power(Random(seed))
        kept += store.get(KEY) == PAYLOAD
    assert kept == 20 if relied_on else kept < 20


def test_the_key_stays_the_same_for_ever() -> None:
    # Were it to change with a new version, all work would be done, and paid for, again.
    key = ArtifactStore.key("ab" * 32, "transcribe", {"language": None, "beam": 5, "t": [0.0, 0.2]}, "base", 1)
    assert key == "26f61e9b67146902ea6255f9bd2caff2ee5cd1a20a47abcfcae864eac1414051"


@pytest.mark.parametrize(
    "changes",
    [
        {"content_hash": "11" * 32},
        {"task_type": "enhance"},
        {"model": "base"},
        {"format_version": 2},
        {"params": {"chunk_size": 601, "language": "en"}},
        {"params": {"chunk_size": 600}},
        {"params": {"chunk_size": 600, "language": "en", "x": False}},
        {"params": {"chunk_size": "600", "language": "en"}},
    ],
)
def test_everything_that_matters_changes_the_key(changes: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {
        "content_hash": "00" * 32,
        "task_type": "transcribe",
        "params": {"chunk_size": 600, "language": "en"},
        "model": "tiny",
        "format_version": 1,
    }
    assert ArtifactStore.key(**arguments) != ArtifactStore.key(**{**arguments, **changes})


def test_what_does_not_matter_keeps_the_key() -> None:
    def key(params: Any, task_type: str = "transcribe") -> str:
        return ArtifactStore.key("00" * 32, task_type, params, "tiny", 1)

    expected = key({"a": 600, "b": {"x": 1, "y": [1, 2]}})
    assert key({"b": {"y": (1, 2.0), "x": 1}, "a": 600.0}) == expected
    assert key({"a": 600, "b": {"x": 1, "y": [1, 2]}}, TaskType.TRANSCRIBE) == expected
    assert key({"a": True}) != key({"a": 1})


@pytest.mark.parametrize(
    ("params", "error"),
    [({1: 2}, TypeError), ({"a": {1: 2}}, TypeError), ({"a": {1}}, TypeError), ({"a": float("nan")}, ValueError)],
)
def test_params_that_have_no_one_spelling_are_refused(params: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        ArtifactStore.key("00" * 32, "transcribe", params, "tiny", 1)


def test_text_enums_count_as_their_text() -> None:
    class Mode(str, Enum):
        FAST = "fast"

    assert ArtifactStore.key("", "t", {"m": Mode.FAST, Mode.FAST: 1}, "", 1) == ArtifactStore.key(
        "", "t", {"m": "fast", "fast": 1}, "", 1
    )


def test_put_and_get(store: ArtifactStore) -> None:
    assert not store.has(KEY)
    assert store.get(KEY) is None
    assert not store.folder.exists(), "reading makes nothing"
    assert store.put(KEY, PAYLOAD) == (True, PAYLOAD)
    assert store.has(KEY)
    assert store.get(KEY) == PAYLOAD
    path = store.folder / KEY[:2] / f"{KEY}.json"
    assert json.loads(path.read_bytes())["payload"] == PAYLOAD
    assert list(store.folder.rglob("*.*")) == [path]


def test_the_first_writer_wins(store: ArtifactStore) -> None:
    store.put(KEY, {"text": "first"})
    assert store.put(KEY, {"text": "second"}) == (False, {"text": "first"})
    assert store.get(KEY) == {"text": "first"}


def test_put_gives_what_get_will_give(store: ArtifactStore) -> None:
    assert store.put(KEY, {"pair": (1, 2)}) == (True, {"pair": [1, 2]})


@pytest.mark.parametrize("key", ["", "../../etc/passwd", KEY[:-1], KEY.upper(), KEY + "\n"])
def test_what_is_no_key_reaches_no_file(store: ArtifactStore, key: str) -> None:
    for call in (store.get, store.has, lambda key: store.put(key, {})):
        with pytest.raises(ValueError, match="artifact key"):
            call(key)


def test_nan_is_refused_before_anything_is_written(store: ArtifactStore) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.put(KEY, {"confidence": float("nan")})
    assert not store.has(KEY)


def test_every_cut_and_every_flipped_bit_counts_as_missing(
    store: ArtifactStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    store.put(KEY, {"text": "one two"})
    path = store.path(KEY)
    data = path.read_bytes()
    damages = [data[:cut] for cut in range(len(data))]
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 1 << position % 8
        damages.append(bytes(flipped))
    for damaged in damages:
        path.write_bytes(damaged)
        assert store.get(KEY) is None
        assert not path.exists()


def test_damage_is_kept_told_and_made_good(store: ArtifactStore, caplog: pytest.LogCaptureFixture) -> None:
    store.put(KEY, PAYLOAD)
    path = store.path(KEY)
    path.write_bytes(b"rubbish")
    assert store.put(KEY, {"text": "again"}) == (True, {"text": "again"})
    assert KEY in caplog.text
    assert "done again" in caplog.text
    (aside,) = path.parent.glob("*.bad-*")
    assert aside.read_bytes() == b"rubbish"
    assert store.get(KEY) == {"text": "again"}


def test_an_artifact_under_another_key_counts_as_missing(store: ArtifactStore) -> None:
    other = ArtifactStore.key("11" * 32, "transcribe", {}, "tiny", 1)
    store.put(KEY, PAYLOAD)
    files.ensure_folder(store.path(other).parent)
    store.path(KEY).rename(store.path(other))
    assert store.get(other) is None


def test_a_good_artifact_that_came_meanwhile_is_given_back(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store.put(KEY, {"text": "good"})
    with monkeypatch.context() as patch:
        # We read rubbish; before we set it aside another process did, and put a good artifact there.
        patch.setattr(artifacts, "_read_if_there", lambda _: b"rubbish")
        assert store.get(KEY) == {"text": "good"}
    assert store.get(KEY) == {"text": "good"}
    assert [path.name for path in store.path(KEY).parent.iterdir()] == [f"{KEY}.json"]
    assert not caplog.records


def test_unreadable_is_not_missing(store: ArtifactStore) -> None:
    store.path(KEY).mkdir(parents=True)
    with pytest.raises(FileError) as caught:
        store.get(KEY)
    assert caught.value.code == "is_a_directory"
    with pytest.raises(FileError):
        store.put(KEY, PAYLOAD)


def test_put_does_not_try_for_ever(store: ArtifactStore) -> None:
    files.ensure_folder(store.path(KEY).parent)
    store.path(KEY).symlink_to("nowhere")
    with pytest.raises(FileError, match="delete it"):
        store.put(KEY, PAYLOAD)


def test_disk_full(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "fsync", full)
        with pytest.raises(DiskFull):
            store.put(KEY, PAYLOAD)
    assert not store.has(KEY)


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.lists(st.floats(allow_nan=False))))
def test_key_depends_on_content_not_on_order(params: dict[str, Any]) -> None:
    try:
        key = ArtifactStore.key("", "t", params, "", 1)
    except (ValueError, UnicodeEncodeError):
        assert any(float("inf") in map(abs, each) for each in params.values() if isinstance(each, list))
        return
    assert ArtifactStore.key("", "t", dict(reversed(params.items())), "", 1) == key
    assert ArtifactStore.key("", "t", {**params, "\0new": 1}, "", 1) != key


# Content hashes


@pytest.fixture
def media(tmp_path: Path) -> Path:
    path = tmp_path / os.fsdecode(b"t\xe9l.mp3")
    path.write_bytes(os.urandom(3 * 1024 * 1024 + 7))
    os.utime(path, (1000, 1000))
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one for each file that is really hashed."""
    calls: list[int] = []
    hash_file: Callable[[int], tuple[str, int]] = artifacts._hash

    def noted(fd: int) -> tuple[str, int]:
        calls.append(fd)
        return hash_file(fd)

    monkeypatch.setattr(artifacts, "_hash", noted)
    return calls


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_hash_is_sha256_and_remembered(media: Path, tmp_path: Path, reads: list[int]) -> None:
    memo = tmp_path / "hashes"
    assert content_hash(media, memo) == sha(media)
    assert content_hash(media, memo) == sha(media)
    assert len(reads) == 1
    assert content_hash(media) == sha(media)
    assert len(reads) == 2, "without a folder nothing is remembered"


def test_relative_and_absolute_paths_are_one_file(
    media: Path, tmp_path: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content_hash(media, tmp_path / "hashes")
    assert content_hash(Path(media.name), tmp_path / "hashes") == sha(media)
    assert len(reads) == 1


@pytest.mark.parametrize("change", ["content", "size", "mtime", "inode", "path"])
def test_a_changed_file_is_hashed_again(media: Path, tmp_path: Path, reads: list[int], change: str) -> None:
    memo = tmp_path / "hashes"
    content_hash(media, memo)
    if change == "content":
        media.write_bytes(b"x" * media.stat().st_size)
    elif change == "size":
        media.write_bytes(b"x")
        os.utime(media, (1000, 1000))
    elif change == "mtime":
        os.utime(media, ns=(10**12, 10**12 + 1))
    elif change == "inode":
        other = tmp_path / "other"
        other.write_bytes(b"x" * media.stat().st_size)
        os.utime(other, (1000, 1000))
        other.replace(media)
    else:
        media = media.rename(tmp_path / "renamed.mp3")
    assert content_hash(media, memo) == sha(media)
    assert len(reads) == 2


@pytest.mark.parametrize(("now", "remembered"), [(1001.9, False), (1002.0, True), (900.0, False)])
def test_a_young_file_is_not_remembered(
    media: Path, tmp_path: Path, reads: list[int], now: float, remembered: bool
) -> None:
    for _ in range(2):
        content_hash(media, tmp_path / "hashes", now=now)
    assert len(reads) == (1 if remembered else 2)


@pytest.mark.parametrize("change", ["grows", "rewritten", "replaced", "deleted", "read in part"])
def test_a_file_that_changes_meanwhile(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    hash_file = artifacts._hash

    def disturbed(fd: int) -> tuple[str, int]:
        result = hash_file(fd)
        if change == "grows":
            with media.open("ab") as stream:
                stream.write(b"more")
            os.utime(media, (1000, 1000))
        elif change == "rewritten":
            media.write_bytes(b"x" * media.stat().st_size)
        elif change == "read in part":
            result = result[0], result[1] - 1
        elif change == "replaced":
            other = tmp_path / "other"
            other.write_bytes(b"x" * media.stat().st_size)
            os.utime(other, (1000, 1000))
            other.replace(media)
        else:
            media.unlink()
        return result

    monkeypatch.setattr(artifacts, "_hash", disturbed)
    with pytest.raises(FileError) as caught:
        content_hash(media, tmp_path / "hashes")
    expected = ("permanent", "not_found") if change == "deleted" else ("transient", "changed_while_read")
    assert (caught.value.failure_class, caught.value.code) == expected
    assert not (tmp_path / "hashes").exists()


def test_a_damaged_note_is_not_believed_and_made_good(media: Path, tmp_path: Path, reads: list[int]) -> None:
    memo = tmp_path / "hashes"
    content_hash(media, memo)
    (note,) = (path for path in memo.rglob("*") if path.is_file())
    good = note.read_bytes()
    other = b"1" if good[:1] == b"0" else b"0"
    for damaged in (b"", good[:40], other + good[1:], b"\xff" * len(good), good.upper()):
        note.write_bytes(damaged)
        assert content_hash(media, memo) == sha(media)
        assert note.read_bytes() == good
    assert len(reads) == 6


def test_what_cannot_be_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")

    def code(path: Path) -> str:
        with pytest.raises(FileError, match=path.name) as caught:
            content_hash(path, tmp_path / "hashes")
        assert caught.value.failure_class == "permanent"
        return caught.value.code

    assert code(tmp_path / "none.mp3") == "not_found"
    assert code(tmp_path) == "is_a_directory"
    assert code(tmp_path / "pipe") == "not_a_file"
    secret = tmp_path / "secret"
    secret.touch()

    def refuse(*_: Any) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(artifacts.os, "open", refuse)  # root may read everything, so chmod proves nothing
        assert code(secret) == "permission_denied"


# What can be made again


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An entry for each time that something was brought to the disk."""
    made: list[int] = []
    monkeypatch.setattr(System, "fsync", lambda self, fd: made.append(fd))
    return made


def test_what_can_be_made_again_is_not_waited_for(store: ArtifactStore, syncs: list[int]) -> None:
    noted = store.note(KEY, {"cuts": (1, 2)})
    assert noted == {"cuts": [1, 2]} == store.get(KEY, relied_on=False)
    store.note(KEY, {"cuts": [3]})
    assert store.get(KEY, relied_on=False) == {"cuts": [3]}
    assert syncs == []
    other = ArtifactStore.key("00" * 32, "transcribe", {}, "base", 1)
    store.put(other, PAYLOAD)
    assert len(syncs) >= 3, "the file, its folder, and that one's own name"


def test_a_folder_that_nobody_waited_for_is_brought_to_the_disk_by_who_needs_it(
    tmp_path: Path, syncs: list[int]
) -> None:
    folder = tmp_path / "a" / "b"
    files.ensure_folder(folder, lasting=False)
    assert folder.is_dir()
    assert syncs == []
    files.ensure_folder(folder)
    files.ensure_folder(folder)
    assert len(syncs) == 1


def test_what_a_power_cut_left_of_a_note_is_missing_and_made_again(store: ArtifactStore) -> None:
    store.note(KEY, PAYLOAD)
    store.path(KEY).write_bytes(bytes(store.path(KEY).stat().st_size))
    assert store.get(KEY, relied_on=False) is None
    store.note(KEY, PAYLOAD)
    assert store.get(KEY, relied_on=False) == PAYLOAD


def test_a_hash_is_remembered_without_waiting(media: Path, tmp_path: Path, syncs: list[int], reads: list[int]) -> None:
    for _ in range(2):
        assert content_hash(media, tmp_path / "memo") == sha(media)
    assert syncs == []
    assert len(reads) == 1
