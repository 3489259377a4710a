"""The command of a batch, kept in its output folder: so that it can be run again from anywhere, by anybody."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trax_ray.errors import SetupError
from trax_ray.store import files, writing
from trax_ray.store.explaining import explain, shown
from trax_ray.store.layout import Layout
from trax_ray.store.uris import Place

__all__ = ["Recorded", "read", "record"]

VERSION = 1

PRIVATE = 0o600
"""Names of recordings, addresses and prompts are nobody else's business."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A command as it was given.

    Args:
        options: Its options by name, JSON types; names that aren't UTF-8 with surrogate escapes.
        working_folder: The folder that relative names in it are relative to.
        stdin: What it read from standard input; None where it read nothing.
    """

    options: Mapping[str, Any]
    working_folder: str
    stdin: bytes | None = None


def _path(layout: Layout) -> Place:
    return layout.private / "command.json"


def record(layout: Layout, command: Recorded) -> None:
    """Keep a command in place of the one before, whole or not at all; nobody else may read it.

    Raises:
        DiskFull: No space, no quota, read-only.
        FileError: Not permitted, or the folder isn't there.
    """
    content = {
        "version": VERSION,
        "working_folder": command.working_folder,
        "stdin": None if command.stdin is None else base64.b64encode(command.stdin).decode("ascii"),
        "options": dict(command.options),
    }
    path = _path(layout)
    with writing.written_atomically(path) as temporary:
        temporary.chmod(PRIVATE)
        # ASCII, because surrogate escapes are no UTF-8: JSON's own escapes take them there and back.
        temporary.write_text(json.dumps(content, ensure_ascii=True, indent=1) + "\n", encoding="ascii")


def read(layout: Layout) -> Recorded:
    """The command that was kept.

    Raises:
        SetupError: There is none, or none that this version understands; says the way out.
        FileError: It can't be read.
    """
    path = _path(layout)
    where = shown(layout.output_dir)
    try:
        data = files.read_regular(path)
    except (FileNotFoundError, NotADirectoryError):
        raise SetupError(
            f"no command is recorded in {where}: give the `trax-ray batch` command again, with --output-dir {where}"
        ) from None
    except OSError as error:
        raise explain(error, path, "read") from error
    try:
        content = json.loads(data)
        if content["version"] != VERSION:
            raise ValueError(f"version {content['version']}")
        stdin = content["stdin"]
        return Recorded(
            options=dict(content["options"]),
            working_folder=str(content["working_folder"]),
            stdin=None if stdin is None else base64.b64decode(stdin, validate=True),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise SetupError(
            f"the command recorded in {shown(path)} can't be used ({type(error).__name__}: {error}): give the "
            f"`trax-ray batch` command again, with --output-dir {where}"
        ) from error
