"""Output folders that version 0.1 left, brought back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEPT = Path(__file__).parent.parent / "data" / "folders_0_1"
# Where they were made: ids follow from paths.
ROOT = Path("/tmp/trax_ray_of_version_0_1")
MTIME_NS = 1_764_000_000_000_000_000
"""The time of each recording there; part of what tells one state of a file from another, as its inode is."""

COMMAND = """
import os, sys

real, below = os.stat, sys.argv.pop(1)

def stat(path, *more, **options):
    # The inode of a copy is another one; that of a recording that stayed where it was isn't.
    found = real(path, *more, **options)
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path).startswith(below):
        return found
    names = [name for name in dir(found) if name.startswith("st_")]
    fields = [*found]
    fields[1] = 0
    return os.stat_result(fields, {name: getattr(found, name) for name in names if name not in STANDARD})

STANDARD = {"st_mode", "st_ino", "st_dev", "st_nlink", "st_uid", "st_gid", "st_size"}
os.stat = stat
from trax_ray.cli.app import main
main()
"""


@dataclass(frozen=True)
class Folder:
    """One of them.

    Args:
        root: A folder with `in`, for recordings, and `out`.
        report: The rows of its report's tables as they were, and `run`.
    """

    root: Path
    report: Mapping[str, Any]

    @property
    def out(self) -> Path:
        return self.root / "out"

    def put(self, *recordings: Path) -> None:
        """Bring back recordings, as they were."""
        for recording in recordings:
            shutil.copy(recording, self.root / "in" / recording.name)
        self.settle()

    def settle(self) -> None:
        """Give all that is in `in` the time that it had."""
        for path in (self.root / "in").iterdir():
            os.utime(path, ns=(MTIME_NS, MTIME_NS))

    def continue_batch(self, *arguments: str, address: str, key: str = "") -> int:
        """Give the command again, on the Ray at this address; the exit code."""
        command = [sys.executable, "-c", COMMAND, str(self.root / "in"), "batch", *arguments, "-o", str(self.out)]
        environ = {**os.environ, **({"OPENAI_API_KEY": key} if key else {})}
        return subprocess.run([*command, "--address", address, "-q"], check=False, env=environ, timeout=120).returncode


@contextmanager
def restored(name: str) -> Iterator[Folder]:
    """The folder of that name in `tests/data/folders_0_1`, where it was, for a while.

    Raises:
        FileExistsError: Another test has it.
    """
    kept = json.loads((KEPT / f"{name}.json").read_text())
    root = ROOT / name
    (root / "in").mkdir(parents=True)
    try:
        for relative, text in kept["files"].items():
            path = root / "out" / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        yield Folder(root, kept["report"])
    finally:
        shutil.rmtree(root)
