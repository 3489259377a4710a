"""The door to the disk: what stands in it is what everybody goes through, and nobody goes around it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import trax_ray
from trax_ray.store import files, system
from trax_ray.store.artifacts import ArtifactStore, content_hash
from trax_ray.store.epochs import open_journal
from trax_ray.store.lease import Lease
from trax_ray.store.system import System, current, use

CHANGES = {
    "os": {"write", "fsync", "fdatasync", "ftruncate", "truncate", "link", "symlink", "rename", "replace", "unlink"}
    | {"remove", "mkdir", "makedirs", "rmdir", "utime", "chmod", "renames", "removedirs"},
    "any": {"write_bytes", "write_text", "touch", "rename", "replace", "unlink", "mkdir", "rmdir", "hardlink_to"}
    | {"symlink_to"},
}
"""Calls that change a disk: functions of `os`, and methods of paths."""


class Noted(System):
    """The real thing, with a list of who came through the door."""

    __slots__ = ("seen",)

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __getattribute__(self, name: str) -> object:
        if not name.startswith("_") and name != "seen":
            self.seen.append(name)
        return super().__getattribute__(name)


def test_another_system_is_in_place_for_a_block_and_no_longer() -> None:
    real = current()
    with use(System()) as one:
        assert current() is one
        with use(System()) as two:
            assert current() is two
        assert current() is one
    assert current() is real
    with pytest.raises(LookupError), use(System()):
        raise LookupError
    assert current() is real


def test_everything_in_store_goes_through_it(tmp_path: Path) -> None:
    source = tmp_path / "talk.mp3"
    source.write_bytes(b"talk")
    out = tmp_path / "out"
    with use(Noted()) as noted:
        ArtifactStore(out / "artifacts").put("0" * 64, {})
        assert noted.seen[-3:] == ["open", "fsync", "close"], "the folder comes last"
        assert {"mkdir", "write", "link", "unlink"} <= set(noted.seen)
        content_hash(source, out / "hashes", now=source.stat().st_mtime + 10)
        assert "replace" in noted.seen
        noted.seen.clear()
        opened = open_journal(out / "journal", "me", 0.0)
        opened.append([{"n": 1}])
        opened.close()
        assert noted.seen.count("write") == 2
        lease = Lease(out / "lock")
        lease.acquire("me")
        lease.release()
        assert "truncate" in noted.seen


GO_AROUND = {"system", "cleaning", "download_archive"}
"""The door itself, what takes old files away, and a file of the user's and yt-dlp's, which is added to: nothing is
committed there."""


def test_nobody_goes_around_it() -> None:
    found = []
    for path in sorted(Path(trax_ray.__file__).parent.glob("store/*.py")):
        if path.stem not in GO_AROUND:
            found += [f"{path.name}:{line} {call}" for line, call in changes(path)]
    assert not found


def changes(path: Path) -> list[tuple[int, str]]:
    """Line and text of each call in a file that changes a disk by itself."""
    found = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        on, name = ast.unparse(node.func.value), node.func.attr
        # Text has a `replace` too, always of two; paths' takes one.
        of_path = name in CHANGES["any"] and on != "dataclasses" and not (name == "replace" and len(node.args) != 1)
        if on != "system.current()" and (name in CHANGES["os"] if on == "os" else of_path):
            found.append((node.lineno, f"{on}.{name}"))
    return found


def test_going_around_it_would_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "wrong.py"
    path.write_text("os.link(a, b)\npath.unlink()\na.replace(b)\n'a'.replace('b', 'c')\nsystem.current().unlink(a)\n")
    assert changes(path) == [(1, "os.link"), (2, "path.unlink"), (3, "a.replace")]


def test_renaming_without_replacing(tmp_path: Path) -> None:
    if system._renameat2() is None:
        pytest.skip("no renameat2 in this libc")
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    with pytest.raises(FileExistsError):
        System().rename_exclusively(tmp_path / "a", tmp_path / "b")
    System().rename_exclusively(tmp_path / "a", tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == b"a"


def test_forgetting_what_memory_holds_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"a" * 10_000)
    with path.open("rb") as stream:
        files.fsync(stream.fileno())
        System().forget_cached(stream.fileno())
    assert path.read_bytes() == b"a" * 10_000
