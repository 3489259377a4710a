"""The small process in front of a batch, which says how the batch ended where the batch itself no longer can.

Ray ends its driver from C++, by `exit` or `abort`, where it loses the head; others kill processes too. Nothing of
Python runs then: no word, and an exit code that means something else. So `trax-ray batch` is two processes: this one,
which only waits, and its child, which is the batch. The child says what continues it, and what it will exit with.

* A signal goes to the child once, whoever sends it to whom: the child has a session of its own, so that a terminal's
  Ctrl-C reaches this process alone.
* `kill -9` of this process ends the child.
* What is left of the child's processes is ended when it has ended. Where Linux is the system they become this process's
  own as soon as theirs is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from trax_ray.cli.exits import EXIT_SETUP, EXIT_STOPPED, write_report_anyway

__all__ = ["SIGNALS", "leave", "present", "run", "tell"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends a batch."""

INSIST = 3
"""As many signals end a child that doesn't answer to them."""

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LOOK_S = 1.0
ROUNDS = 20
ROUND_S = 0.05

_to_parent = -1


def run(command: Callable[[], object]) -> NoReturn:
    """Run a command in a child, and exit as it does. Nothing may have started a thread yet.

    Args:
        command: What the child runs; it exits, or returns.
    """
    own = os.getpid()
    _of_this_process(PR_SET_CHILD_SUBREAPER, 1)
    reading, writing = os.pipe()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    child = os.fork()
    if child:
        os.close(writing)
        _Parent(child, reading).wait(before)
    os.close(reading)
    os.setsid()
    _end_with(own)
    global _to_parent
    _to_parent = writing
    for number in _heeded():
        signal.signal(number, _stopped_before_it_began)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    code: Any = 0
    try:
        command()
    except SystemExit as end:
        code = end.code
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    tell(exit_code=code or 0)
    sys.exit(code)


def present() -> bool:
    """Whether this process has such a parent. Batches that Python starts have none."""
    return _to_parent >= 0


def tell(**said: Any) -> None:
    """Tell the parent something: `again`, the command that continues, `output_dir`, or `exit_code`, which is final.

    Nothing happens where there is no parent.
    """
    if present():
        with contextlib.suppress(OSError):
            os.write(_to_parent, json.dumps(said).encode("ascii") + b"\n")


def leave(exit_code: int) -> NoReturn:
    """End this process at once, as it is."""
    tell(exit_code=exit_code)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(exit_code)


def _stopped_before_it_began(number: int, frame: object) -> None:
    _say(f"stopped before anything had begun: this continues: {_own_command()}")
    leave(EXIT_STOPPED)


class _Parent:
    """What the parent knows.

    Args:
        child: The process that it waits for.
        reading: Where the child's words arrive.
    """

    def __init__(self, child: int, reading: int) -> None:
        self._child = child
        self._reading = reading
        self._signals = 0

    def wait(self, mask: Any) -> NoReturn:
        """Wait for the child, end what is left of it, say what it couldn't say, and exit."""
        for number in _heeded():
            signal.signal(number, self._pass_on)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        import psutil  # noqa: F401 - now, while there is nothing else to do: it will be needed

        status = self._status()
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        said = dict(self._words())
        _end_descendants()
        code = said.get("exit_code")
        if code is None:
            code = self._speak_for(status, said)
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)

    def _pass_on(self, number: int, frame: object) -> None:
        self._signals += 1
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child, signal.SIGKILL if self._signals >= INSIST else number)

    def _status(self) -> int:
        while True:
            with contextlib.suppress(ChildProcessError):
                ended, status = os.waitpid(-1, 0)  # others are those whose parent was the child
                if ended == self._child:
                    return status

    def _words(self) -> Iterator[tuple[str, Any]]:
        os.set_blocking(self._reading, False)
        written = b""
        with contextlib.suppress(BlockingIOError):
            while more := os.read(self._reading, 65536):
                written += more
        for line in written.splitlines():
            yield from json.loads(line).items()

    def _speak_for(self, status: int, said: dict[str, Any]) -> int:
        """The child was ended: what it would have said, and the exit code."""
        if os.WIFSIGNALED(status):
            how = f"by {signal.Signals(os.WTERMSIG(status)).name}"
        else:
            how = f"with {os.WEXITSTATUS(status)}"
        if not self._signals:
            _say(f"the batch's process was ended {how}, by Ray, which may have lost its head, or by somebody else")
        if "output_dir" in said:
            write_report_anyway(said["output_dir"])
        _say(f"this continues: {said.get('again') or _own_command()}")
        return EXIT_STOPPED if self._signals else EXIT_SETUP


def _say(text: str) -> None:
    print(f"trax-ray: {text}", file=sys.stderr, flush=True)


def _own_command() -> str:
    return shlex.join(["trax-ray", *sys.argv[1:]])


def _heeded() -> list[signal.Signals]:
    """Those of the signals that nobody has had ignored, as `nohup` does."""
    return [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]


def _end_descendants() -> None:
    """Kill what the child has left behind, all of which descends from this process by now."""
    import psutil

    own = psutil.Process()
    for _ in range(ROUNDS):
        left = own.children(recursive=True)
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        if not left:
            return
        time.sleep(ROUND_S)


def _of_this_process(what: int, value: int) -> bool:
    """Whether Linux took a setting of this process; other systems don't know it."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None) if sys.platform.startswith("linux") else None
    return prctl is not None and prctl(what, value, 0, 0, 0) == 0


def _end_with(parent: int) -> None:
    """Have this process killed when its parent ends; where the system can't, it looks itself, once a second."""
    if not _of_this_process(PR_SET_PDEATHSIG, signal.SIGKILL):
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os.kill(os.getpid(), signal.SIGKILL)
