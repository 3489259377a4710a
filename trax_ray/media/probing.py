"""How long many recordings are, and which of them can't be heard: headers, looked at in processes of their own.

A file may be made to crash a decoder, or to keep it busy for ever. Here that costs one process, which is replaced, and
the file is among those that can't be decoded.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from trax_ray.codes import FailureCode

__all__ = ["FILE_S", "Probed", "Wanted", "probe_all"]

FILE_S = 10.0
"""How long one file may take, seconds."""

FILES_PER_PROCESS = 40
"""So many files are worth another process: starting one costs as much as looking at them."""


_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); import trax_ray.media.probe_child as c; c.main()"
"""With the modules that this process has, and none of the working folder's: among recordings may lie an `av.py`."""

_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "TMPDIR", "HOME")
"""No keys among them."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to look at: its path, as bytes that aren't UTF-8 give surrogate escapes, and its size."""

    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Probed:
    """What a look at a file's header came to.

    Args:
        audio_s: How long it is, seconds; None where that isn't known.
        code: Of the failure that its attempt would end with; empty where it can be heard.
        mark: The same for files of the same content; empty where no other has its size.
    """

    audio_s: float | None = None
    code: str = ""
    mark: str = ""


def probe_all(
    files: Sequence[Wanted],
    *,
    within_s: float,
    processes: int,
    file_s: float = FILE_S,
    tell: Callable[[int], None] | None = None,
) -> dict[str, Probed]:
    """Look at files, several at a time.

    Args:
        files: Which.
        within_s: Seconds that all of it may take; what wasn't looked at by then isn't in the answer.
        processes: How many at a time, at most.
        file_s: Seconds that one file may take; one that takes longer counts as not decodable.
        tell: Called with the number of files that were looked at so far, from any thread.

    Returns:
        What was found, by path.
    """
    sizes = Counter(each.size_bytes for each in files)
    looking = _Looking(iter(files), sizes, time.monotonic() + within_s, file_s, tell)
    # A file that holds nothing needs no decoder to say so.
    for each in files:
        if each.size_bytes == 0:
            looking.note(each.path, Probed(code=FailureCode.NOT_DECODABLE.value))
    count = sum(each.size_bytes > 0 for each in files)
    wanted = min(processes, -(-count // FILES_PER_PROCESS))
    threads = [threading.Thread(target=looking.work, daemon=True) for _ in range(wanted)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return looking.found


class _Looking:
    """The work that several threads share, each with a process."""

    def __init__(
        self,
        files: Iterator[Wanted],
        sizes: Counter[int],
        until: float,
        file_s: float,
        tell: Callable[[int], None] | None,
    ) -> None:
        self.found: dict[str, Probed] = {}
        self._files = files
        self._sizes = sizes
        self._until = until
        self._file_s = file_s
        self._tell = tell
        self._lock = threading.Lock()

    def note(self, path: str, probed: Probed) -> None:
        with self._lock:
            self.found[path] = probed
            count = len(self.found)
        if self._tell is not None:
            self._tell(count)

    def work(self) -> None:
        child: _Child | None = None
        try:
            while (wanted := self._next()) is not None:
                child = child or _Child()
                answer = child.ask(wanted.path, self._sizes[wanted.size_bytes] > 1, self._seconds_left())
                if answer is not None:
                    self.note(wanted.path, Probed(answer["audio_s"], answer["code"], answer["mark"]))
                    continue
                child.end()
                child = None
                if time.monotonic() < self._until:
                    self.note(wanted.path, Probed(code=FailureCode.NOT_DECODABLE.value))
        finally:
            if child is not None:
                child.end()

    def _next(self) -> Wanted | None:
        with self._lock:
            if time.monotonic() >= self._until:
                return None
            return next((each for each in self._files if each.path not in self.found), None)

    def _seconds_left(self) -> float:
        return max(0.0, min(self._file_s, self._until - time.monotonic()))


class _Child:
    """A process that looks at files."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _START, json.dumps([part for part in sys.path if part])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
        )
        self._waiting = selectors.DefaultSelector()
        assert self._process.stdout is not None
        self._waiting.register(self._process.stdout, selectors.EVENT_READ)

    def ask(self, path: str, marks: bool, within_s: float) -> dict[str, Any] | None:
        """What it says of a file; None where it dies over it, or takes too long."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps({"path": path, "marks": marks}).encode() + b"\n")
            stdin.flush()
        except BrokenPipeError:
            return None
        if not self._waiting.select(within_s):
            return None
        line = stdout.readline()
        return json.loads(line) if line.endswith(b"\n") else None

    def end(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()
        self._waiting.close()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                stream.close()  # type: ignore[union-attr]
