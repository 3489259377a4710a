"""Commands from other terminals: whole or not there, in order, and nothing else is taken for one."""

from __future__ import annotations

import getpass
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from trax_ray.errors import FileError, UsageError
from trax_ray.store import inbox
from trax_ray.store.inbox import COMMANDS, Request, put, remove, waiting


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".trax" / "inbox"


def put_raw(folder: Path, name: str, content: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_waits_until_it_is_taken(folder: Path, command: str) -> None:
    assert waiting(folder) == []
    assert not folder.exists(), "looking makes nothing"
    name = put(folder, command)
    by = f"{getpass.getuser()}, process {os.getpid()} on {socket.gethostname()}"
    assert waiting(folder) == waiting(folder) == [Request(name, command, by)]
    remove(folder, name)
    assert waiting(folder) == []
    remove(folder, name)
    remove(folder / "none", name)


def test_commands_are_taken_in_the_order_in_which_they_were_given(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    for at in (5, 10**18, 2 * 10**18):
        monkeypatch.setattr(inbox.time, "time_ns", lambda at=at: at)
        given.append(put(folder, "pause"))
    assert [request.name for request in waiting(folder)] == given == sorted(given)


def test_two_commands_of_the_same_moment_are_two(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox.time, "time_ns", lambda: 10**18)
    names = {put(folder, "pause"), put(folder, "resume")}
    assert {request.name for request in waiting(folder)} == names
    assert len(names) == 2


@pytest.mark.parametrize("command", ["", "Pause", "retry_failed", "rm -rf"])
def test_what_is_no_command_is_refused(folder: Path, command: str) -> None:
    with pytest.raises(UsageError, match="expected one of pause, resume, stop, retry-failed"):
        put(folder, command)
    assert not folder.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"command": "pause"',
        b"[]",
        b'"pause"',
        b"\xff",
        b'{"command": "explode", "by": "me"}',
        b'{"command": ["pause"], "by": "me"}',
        b'{"command": "pause"}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_request_is_passed_over(folder: Path, content: bytes) -> None:
    put_raw(folder, f"{1:020d}-{0:08x}", content)
    name = put(folder, "stop")
    assert [request.name for request in waiting(folder)] == [name]


@pytest.mark.parametrize("name", [".tmp-0123456789abcdef", "notes", f"{1:019d}-{0:08x}", f"{1:020d}-{0:08x}.json"])
def test_files_of_other_names_are_none(folder: Path, name: str) -> None:
    put_raw(folder, name, json.dumps({"command": "stop", "by": "me"}).encode())
    assert waiting(folder) == []


def test_a_folder_that_stands_where_a_request_would(folder: Path) -> None:
    (folder / f"{1:020d}-{0:08x}").mkdir(parents=True)
    assert waiting(folder) == []


def test_an_inbox_that_cannot_be_read_is_an_error(folder: Path) -> None:
    folder.parent.mkdir()
    folder.write_bytes(b"")
    with pytest.raises(FileError):
        waiting(folder)
    with pytest.raises(FileError):
        put(folder, "pause")


def test_a_user_without_a_name_has_a_number(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless(*_: Any) -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr(inbox.getpass, "getuser", nameless)
    monkeypatch.setattr(inbox.os, "getuid", lambda: 4711)
    put(folder, "pause")
    (request,) = waiting(folder)
    assert request.by.startswith("user 4711, process")
