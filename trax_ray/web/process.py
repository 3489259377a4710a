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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty, Queue
from typing import Any

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
            env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
            start_new_session=True,
        )
        self._said: Queue[bytes | None] = Queue()
        self._idle = True
        self._code: int | None = None
        threading.Thread(target=self._listen, daemon=True).start()

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
            yield json.loads(line)

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
            with suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._complaints):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended, and that is heard next
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()

    def _has_ended(self, line: bytes | None) -> bool:
        if line is None:
            self._code, self._idle = self._process.wait(), True
        elif line.startswith(b'{"ended"'):
            self._code, self._idle = json.loads(line)["ended"], True
        return self._idle

    def _listen(self) -> None:
        assert self._process.stdout is not None
        # A pipe that is closed under a thread that reads is an error of either kind.
        with suppress(OSError, ValueError):
            for line in self._process.stdout:
                self._said.put(line)
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
    timer = threading.Timer(KEPT_S, let_go)
    timer.daemon = True
    with _lock:
        others = [each for each, _ in _kept]
        _kept[:] = [(found, timer)]
    timer.start()
    for other in others:  # of another thread
        other.end()


@atexit.register
def let_go() -> None:
    """End the one that is kept, if one is."""
    with _lock:
        found, _kept[:] = [each for each, _ in _kept], []
    for each in found:
        each.end()
