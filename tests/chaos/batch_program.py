"""Batches of scripted attempts, each in a process of its own with a Ray of its own, so that all of it can be killed.

As a program it is both sides of such a test:

    python batch_program.py run DESCRIPTION         run the batch that a JSON file describes, as `trax-ray batch` does:
                                                    the same signals, words and exit codes. The same line continues it.
    python batch_program.py control OUT SEED COUNT  give a batch so many commands by chance, one after the other

`Batch` is its handle in tests. `Command` is one on `trax-ray batch` itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil
import typer

from trax_ray.cli import batch as command_line
from trax_ray.cli.app import reporting_errors
from trax_ray.core.spec import BatchSpec
from trax_ray.core.state.events import decode_task, encode
from trax_ray.core.task import BatchTask
from trax_ray.errors import TraxRayError
from trax_ray.heads import processes
from trax_ray.processor import BatchProcessor
from trax_ray.report.fold import Attempt, History, read_history
from trax_ray.store import inbox
from trax_ray.store.layout import Layout
from trax_ray.store.objects import list_below
from trax_ray.store.processes import mark_of
from trax_ray.store.uris import Place
from trax_ray.testing.factories import make_spec
from trax_ray.testing.history import Findings, check
from trax_ray.testing.scripted import Logged, logged

T = TypeVar("T")

START_S = 120.0
"""Seconds until a batch on two busy cores has surely started."""

COMMANDS = ("pause", "resume", "resume", "retry-failed")
"""What a control process gives, as often as it stands here; `stop` once in so many commands."""

STOP_EVERY = 16

TAKEN_S = 20.0
"""How long a command may wait for somebody to take it: as long as a batch needs to start again."""


def until(condition: Callable[[], T], timeout_s: float = START_S, *, what: str = "") -> T:
    """Wait for something to be true, and give it back.

    Args:
        condition: Asked twenty times a second.
        timeout_s: How long that may take, seconds.
        what: What is waited for, for whoever reads of its not coming.
    """
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout_s:g} s in vain for {what or condition}")
        time.sleep(0.05)
    return found


def artifacts(out: Path) -> dict[str, tuple[int, bytes]]:
    """Committed results: inode and bytes by path."""
    return {
        str(path.relative_to(out)): (path.stat().st_ino, path.read_bytes())
        for path in Layout(out).artifacts.rglob("*.json")
        if not path.name.startswith(".tmp-")
    }


def outputs(out: Path) -> dict[str, bytes]:
    """Output files of scripted attempts: bytes by name."""
    return {path.name: path.read_bytes() for path in out.glob("*.txt")}


@contextlib.contextmanager
def own_ray(folder: Path) -> Iterator[dict[str, str]]:
    """An environment in which a batch finds no Ray but its own, and notes on it are in `folder`.

    Ray's own folder has a short name, because there are limits to the paths of sockets.
    """
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as sessions:
        yield {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "RAY_TMPDIR": sessions}


class Batch:
    """A batch that is run by other processes, and what they leave. As a context it ends what is left of them.

    Args:
        folder: Where everything about it lies.
        tasks: Scripted ones; each logs its attempts.
        out: Its output folder; `folder/out` where it isn't given.
        environ: What its processes find in their environment besides.
        under: What its command is run by, such as `nsenter` and its options.
        spec: Fields of its BatchSpec.
    """

    def __init__(
        self,
        folder: Path,
        tasks: Iterable[BatchTask],
        *,
        out: Path | None = None,
        environ: Mapping[str, str] | None = None,
        under: Sequence[str] = (),
        **spec: Any,
    ) -> None:
        self.folder = folder
        self.out = out or folder / "out"
        self.layout = Layout(self.out)
        self.log = folder / "log"
        self.driver: subprocess.Popen[bytes] | None = None
        self.under = tuple(under)
        self._more = dict(environ or {})
        self._environ: dict[str, str] = {}
        self._stack = contextlib.ExitStack()
        self._runs = 0
        self._seen: dict[tuple[int, str], psutil.Process] = {}
        described = [encode(task) for task in tasks]
        for each in described:
            each.setdefault("data", {}).setdefault("log", str(self.log))
        self._description = folder / "batch.json"
        self._description.write_text(json.dumps({"spec": make_spec(self.out, **spec).to_dict(), "tasks": described}))

    def __enter__(self) -> Batch:
        self._environ = {**self._stack.enter_context(own_ray(self.folder)), **self._more}
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            self.look()
            self.kill(self.left())
            if self.driver is not None:
                self.driver.wait(timeout=10)

    # Running it

    def start(self) -> None:
        """Start the command, the same each time; its process is the driver."""
        self._runs += 1
        with self._said("out").open("w") as out, self._said("err").open("w") as err:
            own = [*self.under, sys.executable, __file__, "run", str(self._description)]
            self.driver = subprocess.Popen(own, stdout=out, stderr=err, env=self._environ, start_new_session=True)

    def wait(self, timeout_s: float = 120.0) -> int:
        """Wait for the driver's end; its exit code, negative for a signal."""
        assert self.driver is not None
        try:
            return self.driver.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"the batch hasn't ended after {timeout_s:g} s: {self.stderr}") from None

    @property
    def ended(self) -> bool:
        """Whether the driver has."""
        return self.driver is not None and self.driver.poll() is not None

    def run(self, timeout_s: float = 120.0) -> int:
        """Run it to its end; its exit code."""
        self.start()
        return self.wait(timeout_s)

    @property
    def stderr(self) -> str:
        """What the last run said."""
        return self._said("err").read_text()

    def control(self, seed: int, count: int) -> subprocess.Popen[bytes]:
        """Start a process that gives the batch commands."""
        return subprocess.Popen([sys.executable, __file__, "control", str(self.out), str(seed), str(count)])

    def _said(self, stream: str) -> Path:
        return self.folder / f"run-{self._runs}.{stream}"

    # Looking at it

    def attempts(self) -> list[Logged]:
        """The attempts that began, in order."""
        return logged(self.log)

    def began(self, task_id: str) -> Logged | None:
        """The newest attempt at a task; None where there was none."""
        return next((each for each in reversed(self.attempts()) if each.task_id == task_id), None)

    def history(self) -> History:
        """What the journal tells."""
        return read_history(self.out)

    def _told(self) -> list[Attempt]:
        """The attempts that are in the journal so far; none where it is just being begun."""
        with contextlib.suppress(TraxRayError):
            return self.history().attempts
        return []

    def given(self) -> set[str]:
        """The tasks that the coordinator has been given so far."""
        with contextlib.suppress(TraxRayError):
            return set(self.history().state.records)
        return set()

    def succeeded(self) -> set[str]:
        """The tasks whose success is in the journal."""
        return {each.task_id for each in self._told() if each.outcome == "succeeded"}

    def status(self) -> dict[str, Any]:
        """`status.json`; nothing where there is none yet."""
        try:
            found: dict[str, Any] = json.loads(self.layout.status.read_text())
        except (OSError, ValueError):
            return {}
        return found

    def findings(self, *, ended: bool = True) -> Findings:
        """What is wrong in the output folder.

        Args:
            ended: Whether the batch is through; nobody is at work there in any case.
        """
        return check(self.out, ended=ended)

    # Its processes

    def look(self) -> None:
        """Remember every process of the run that is there now."""
        found: list[psutil.Process] = []
        if self.driver is not None and self.driver.poll() is None:
            driver = psutil.Process(self.driver.pid)
            found += [driver, *driver.children(recursive=True)]
        for note in (self.folder / "state" / "trax_ray" / "heads").glob("*.json"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                found += processes.family(json.loads(note.read_text()))
        for process in found:
            with contextlib.suppress(psutil.Error):
                self._seen.setdefault((process.pid, mark_of(process.pid)), process)

    def left(self) -> list[psutil.Process]:
        """Of the processes that were seen, those that live."""
        return [process for known in self._seen if (process := processes.find(*known)) is not None]

    def victims(self, role: str, task_id: str = "") -> list[psutil.Process]:
        """The processes of a role: `driver`, `coordinator`, `worker` (a task's), `raylet`, `gcs` or `everything`."""
        assert self.driver is not None
        driver = psutil.Process(self.driver.pid)
        if role == "driver":
            return [driver]
        if role == "coordinator":
            return [psutil.Process(self.status()["pid"])]
        if role == "worker":
            began = self.began(task_id)
            assert began is not None
            return [psutil.Process(began.pid)]
        if role == "everything":
            self.look()
            return self.left()
        name = {"raylet": "raylet", "gcs": "gcs_server"}[role]
        return [process for process in driver.children() if process.name() == name]

    def kill(self, victims: Iterable[psutil.Process]) -> None:
        """kill -9; only processes of this batch are ever given."""
        own = {process: mark_of(process.pid) for process in victims}
        for process in own:
            with contextlib.suppress(psutil.Error):
                process.kill()
        # Not psutil's own waiting: it would take the driver's exit code from us.
        until(
            lambda: not any(processes.find(each.pid, at) for each, at in own.items()),
            10,
            what="the end of what was killed",
        )


class Command:
    """`trax-ray batch` over some of the samples, one of them long, and the processes of its run.

    Args:
        samples: Where they are, on a disk or in an object store.
        folder: Where everything about it lies.
        inputs: What it is given instead; None for the samples.
        more: Options besides.
        out: Its output folder; `folder/out` where it isn't given.
    """

    def __init__(
        self,
        samples: Place,
        folder: Path,
        inputs: Sequence[str] | None = None,
        more: Sequence[str] = (),
        out: Place | None = None,
    ) -> None:
        self.out: Place = folder / "out" if out is None else out
        given = [str(samples / "stories")] if inputs is None else list(inputs)
        own = [sys.executable, "-m", "trax_ray", "batch", *given, "-o", str(self.out), "--lean"]
        self._command = [*own, "--model", "pocketsphinx", "--chunk-size", "30", "--progress-interval", "1", *more]
        self._stack = contextlib.ExitStack()
        self._environ = self._stack.enter_context(own_ray(folder))
        self.start()

    def start(self) -> None:
        """Give the command; once more where it has ended."""
        self._seen: dict[tuple[int, str], None] = {}
        self.process = subprocess.Popen(
            self._command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environ,
            start_new_session=True,
        )

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            self.look()
            for process in self.left():
                process.kill()
            self.process.communicate(timeout=10)

    def look(self) -> None:
        """Remember every process of the run that is there now."""
        if self.process.poll() is None:
            driver = psutil.Process(self.process.pid)
            for each in [driver, *driver.children(recursive=True)]:
                self._seen[each.pid, mark_of(each.pid)] = None

    def left(self) -> list[psutil.Process]:
        """Of the processes that were seen, those that live."""
        return [process for known in self._seen if (process := processes.find(*known)) is not None]

    def until_at_work(self) -> None:
        """Wait until a recording is through and others are being worked on."""
        until(self._has_written, what="the first transcript")

    def _has_written(self) -> bool:
        if isinstance(self.out, Path):
            return any(self.out.glob("**/*.txt"))
        return any(path.suffix == ".txt" for path, _ in list_below(self.out))

    def driver(self) -> psutil.Process:
        """The process that is connected to Ray: the command's child."""
        # Others become its children when their parents have ended.
        return min(psutil.Process(self.process.pid).children(), key=lambda child: child.pid)

    def signalled(self, number: signal.Signals, *, group: bool = False) -> float:
        """Send a signal and wait until no process of the run is left; how long that took, seconds.

        Args:
            number: The signal.
            group: Whether the whole process group gets it, as from `timeout` and Slurm.
        """
        self.look()
        began = time.monotonic()
        if group:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)
        until(lambda: (self.look(), not self.left())[1], 60, what="the end of all processes")
        return time.monotonic() - began

    def until(self, condition: Callable[[], T], timeout_s: float = START_S, *, what: str = "") -> T:
        """As `until`, as long as the command runs: what it says is in the error where it has ended."""

        def looked() -> T:
            found = condition()
            if not found and self.process.poll() is not None:
                raise RuntimeError(
                    f"exit code {self.process.returncode} before {what}: {self.process.communicate()[1]}"
                )
            return found

        return until(looked, timeout_s, what=what)

    def killed(self) -> None:
        """kill -9 of all processes of the run."""
        self.look()
        for process in self.left():
            process.kill()
        until(lambda: (self.look(), not self.left())[1], 60, what="the end of all processes")
        self.process.communicate(timeout=10)

    def again(self) -> subprocess.CompletedProcess[str]:
        """The same command to its end."""
        return subprocess.run(self._command, capture_output=True, text=True, timeout=300, env=self._environ)


# The program


def run(description: Path) -> int:
    """Run the batch of a description; the exit code of `trax-ray batch`."""
    described = json.loads(description.read_text())
    spec = BatchSpec.from_dict(described["spec"])
    processor = BatchProcessor(spec, lean=True)
    tasks = [decode_task(task) for task in described["tasks"]]
    processor.feed(tasks, requests={task.resources for task in tasks})
    again = shlex.join(sys.argv)
    try:
        with reporting_errors():
            result = asyncio.run(command_line.drive(processor, output_dir=spec.output_dir, again=again, quiet=True))
            command_line.say_the_way_out(result, again)
            return command_line.exit_code(result)
    except typer.Exit as end:
        return end.exit_code


def control(out: Path, seed: int, count: int) -> None:
    """Give commands by chance, the next one when somebody has taken the one before, and after a pause of chance."""
    chance = random.Random(seed)
    folder = Layout(out).inbox
    for _ in range(count):
        with contextlib.suppress(TimeoutError):  # the batch may have ended
            until(lambda: not inbox.waiting(folder), TAKEN_S)
        time.sleep(chance.uniform(0.05, 0.8))
        inbox.put(folder, "stop" if chance.randrange(STOP_EVERY) == 0 else chance.choice(COMMANDS))


if __name__ == "__main__":
    if sys.argv[1] == "run":
        sys.exit(run(Path(sys.argv[2])))
    control(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
