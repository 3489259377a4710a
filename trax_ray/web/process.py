"""The process that fetches, seen from the attempt: started, asked, kept for the next job, and ended.

It has loaded yt-dlp, which takes most of a second, and makes a process of its own for each job by forking, so that a
job finds nothing that the one before it left. Whoever fetches one recording after the other in a process of theirs has
it loaded once.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, Queue
from typing import Any
from weakref import WeakSet

from trax_ray.codes import FailureCode
from trax_ray.errors import NetworkError
from trax_ray.web.job import Job

__all__ = ["Fetcher", "fetcher", "let_go"]

SILENCE_S = 120.0
"""How long nothing may come from the process that fetches. yt-dlp gives up on a silent host after 20 s."""

SIGN_OF_LIFE_S = 0.5
"""How often the attempt hears something while it waits."""

KEPT_S = 30.0
"""How long one is kept that nobody needs, seconds: it holds 50 MB."""

SETTLE_S = 2.0
"""How long a job may take to end that has said its last word, seconds, before its process isn't worth keeping."""

MOST_LINE_BYTES = 128 << 20
"""Of what it says at a time. The largest are a feed or captions of 8 MB, in which each byte may take six."""

_PART_BYTES = 1 << 16

_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from trax_ray.web.child import main; main()"

_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "SYSTEMROOT")
"""The environment of the process that fetches: no keys, no proxies, no settings of libraries."""


class Fetcher:
    """One process that fetches. It does one job at a time."""

    def __init__(self) -> None:
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _START, json.dumps([part for part in sys.path if part])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            bufsize=0,
            env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
            start_new_session=True,
        )
        self._said: Queue[bytes | None] = Queue()
        self._idle = True
        self._code: int | None = None
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        _all.add(self)

    def lines(self, job: Job) -> Iterator[dict[str, Any] | None]:
        """Have a job done.

        Args:
            job: Its folder has to be there.

        Yields:
            What it says; None where nothing came for a while.

        Raises:
            NetworkError: Nothing came for too long.
        """
        self._idle = False
        self._complaints.seek(0)
        self._complaints.truncate()
        self._tell(job.line())
        silent_s = 0.0
        while True:
            try:
                line = self._said.get(timeout=SIGN_OF_LIFE_S)
            except Empty:
                silent_s += SIGN_OF_LIFE_S
                if silent_s >= SILENCE_S:
                    raise NetworkError(
                        f"nothing came for {SILENCE_S:g} s, and the attempt was ended", code=FailureCode.TIMEOUT
                    ) from None
                yield None
                continue
            silent_s = 0.0
            if self._has_ended(line):
                return
            assert line is not None
            try:
                said = json.loads(line, parse_constant=lambda _: None)
            except ValueError:  # it was killed within the line, as the next one tells; or there is nothing on it
                continue
            yield said

    def last_words(self) -> tuple[int | None, str]:
        """How the last job's process ended, as `subprocess` tells it, and what it wrote to its standard error."""
        self._complaints.seek(0)
        return self._code, self._complaints.read().decode(errors="replace")

    def settle(self) -> bool:
        """Wait for the end of a job that has said its last word; whether another one can follow."""
        while not self._idle:
            try:
                self._has_ended(self._said.get(timeout=SETTLE_S))
            except Empty:
                return False
        return self._process.returncode is None

    def answers(self) -> bool:
        """Whether it still does jobs: it is given none, and says that none has ended."""
        self._idle = False
        self._tell("\n")
        return self.settle()

    def end(self) -> None:
        """End it, with all that it has started."""
        if self._process.returncode is None:  # else its number may be another's, and its output has come to its end
            self._kill()
            self._process.wait()
        self._listener.join(SETTLE_S)
        self._close()

    def forget(self) -> None:
        """Let go of it in a fork of the process that it belongs to, which ends it."""
        self._process.returncode = 0
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._close()

    def _kill(self) -> None:
        """Kill it and the job's process, of which it is the group's first."""
        with suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()

    def _close(self) -> None:
        assert self._process.stdin is not None
        for stream in (self._process.stdin, self._complaints):
            with suppress(OSError):
                stream.close()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        left = memoryview(line.encode())
        with suppress(OSError):  # it has ended, and that is heard next
            while left:
                left = left[self._process.stdin.write(left) or 0 :]

    def _has_ended(self, line: bytes | None) -> bool:
        if line is None:
            self._code, self._idle = self._process.wait(), True
        elif line.startswith(b'{"ended"'):
            self._code, self._idle = json.loads(line)["ended"], True
        return self._idle

    def _listen(self) -> None:
        """Take lines until the end, and close what they come by: nobody else may, for that would be under a reader."""
        assert self._process.stdout is not None
        rest = bytearray()
        with self._process.stdout as said:
            while part := os.read(said.fileno(), _PART_BYTES):
                *whole, last = part.split(b"\n")
                for line in whole:
                    self._said.put(bytes(rest + line))
                    rest.clear()
                rest += last
                if len(rest) > MOST_LINE_BYTES:
                    self._kill()
                    break
        self._said.put(None)


@contextmanager
def fetcher(*, keep: bool) -> Iterator[Fetcher]:
    """One for one job: the one that was kept, else a new one.

    Args:
        keep: Whether it is kept for the next one, if the job comes to its end.
    """
    found = _take() or Fetcher()
    kept = False
    try:
        yield found
        kept = keep and found.settle()
    finally:
        if kept:
            _keep(found)
        else:
            found.end()


_lock = threading.Lock()
_kept: list[tuple[Fetcher, threading.Timer]] = []
_all: WeakSet[Fetcher] = WeakSet()


def _take() -> Fetcher | None:
    with _lock:
        found, timer = _kept.pop() if _kept else (None, None)
    if timer is not None:
        timer.cancel()
    if found is None or found.answers():
        return found
    found.end()
    return None


def _keep(found: Fetcher) -> None:
    timer = threading.Timer(KEPT_S, _end_kept, [found])
    timer.daemon = True
    with _lock:
        others, _kept[:] = list(_kept), [(found, timer)]
    timer.start()
    _end(others)  # of another thread


def _end_kept(idle: Fetcher) -> None:
    with _lock:
        found = [each for each in _kept if each[0] is idle]
        _kept[:] = [each for each in _kept if each[0] is not idle]
    _end(found)


def let_go() -> None:
    """End the one that is kept, if one is."""
    with _lock:
        found, _kept[:] = list(_kept), []
    _end(found)


def _end(found: Iterable[tuple[Fetcher, threading.Timer]]) -> None:
    for each, timer in found:
        timer.cancel()
        each.end()


@atexit.register
def _end_all() -> None:
    """None outlives this process, and none is ended when threads stand still already."""
    for each in list(_all):
        each.end()


def _forget_all() -> None:
    """In a fork: those are the other's, and threads that held the lock aren't here."""
    global _lock
    _lock = threading.Lock()
    _kept.clear()
    for each in list(_all):
        each.forget()
    _all.clear()


os.register_at_fork(after_in_child=_forget_all)
