"""Attempts that follow a script: a `BatchSpec.runner` for tests on real Ray, without audio or models.

`data["script"]` has one step per attempt; the last one is used for all later attempts:

    ok          succeed
    commit      put an artifact into the batch's store, write what is stored as an output file, succeed
    transient, permanent, config, unknown, resource   fail with that class
    die         end the worker process, as a crash or the OOM killer would
    segfault    end it as a decoder does that reads where nothing is
    hang        give one sign of life, then none
    hog         take 100 MB of memory every 0.2 s, up to `data["most_mb"]` (4096), and keep them
    hold:PATH   wait until there is a file PATH, then succeed
    signal:PATH make the file PATH, with the process's number in it, then succeed
    expand:N    plan N children, whose script is `data["child_script"]`; succeed when they have
    raise       raise an exception that is nobody's

A step may be a list of these, done in order; the last that commits, fails or expands says how the attempt ends. So
`["commit", "signal:a", "hold:b"]` stands between artifact and journal until there is a file b, and makes a file a
when it has got there.

`data["sleep_s"]` is how long an attempt takes before its step, `data["load_s"]` how long it says before that that its
process is being loaded, `data["log"]` a file that gets a line per attempt, `data["bytes"]` the size of an artifact's
text.

`call` is the same as a `BatchSpec.caller`, for tasks that share a process.
"""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trax_ray.core.limits.signals import ProviderSignal
from trax_ray.core.task import BatchTask, Category, Failure, FailureClass, Outcome
from trax_ray.kinds.assignment import Assignment, Progress
from trax_ray.store.artifacts import ArtifactStore
from trax_ray.store.layout import Layout
from trax_ray.store.writing import write_atomically

__all__ = ["SCRIPTED", "SCRIPTED_CALL", "Logged", "artifact_key", "attempts_in", "call", "logged", "run"]

SCRIPTED = "trax_ray.testing.scripted:run"
"""What to give as `BatchSpec.runner`."""

SCRIPTED_CALL = "trax_ray.testing.scripted:call"
"""What to give as `BatchSpec.caller`."""

HANG_S = 3600.0
TICK_S = 0.02

HOG_STEP_BYTES = 100 * 10**6
HOG_PERIOD_S = 0.2
HOG_MOST_MB = 4096
_PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Logged:
    """An attempt that began: whose, which, in which process, and when (seconds since the epoch)."""

    task_id: str
    epoch: int
    attempt: int
    pid: int
    at: float


def run(assignment: Assignment) -> Iterator[Progress | Outcome]:
    """Make the attempt that the script has for this number."""
    loaded = time.monotonic() + float(assignment.task.data.get("load_s", 0.0))
    for word in _play(assignment):
        while time.monotonic() < loaded:
            time.sleep(TICK_S)
            yield Progress(loading=True)
        if isinstance(word, Outcome):
            yield word
        else:
            time.sleep(word)
            yield Progress(0.5)


async def call(assignment: Assignment) -> Outcome:
    """As `run`, beside others in one process. What succeeds was a good answer of its provider."""
    outcome = Outcome()
    for word in _play(assignment):
        if isinstance(word, Outcome):
            outcome = word
        else:
            await asyncio.sleep(word)
    return outcome if outcome.failure else replace(outcome, signal=ProviderSignal())


def logged(log: Path) -> list[Logged]:
    """The attempts that began, in order."""
    if not log.exists():
        return []
    lines = [line.split(" ") for line in log.read_text().splitlines()]
    return [
        Logged(task_id, int(epoch), int(attempt), int(pid), float(at)) for task_id, epoch, attempt, pid, at in lines
    ]


def attempts_in(log: Path) -> list[tuple[str, int, int]]:
    """The attempts that began, in order: task id, epoch, attempt."""
    return [(each.task_id, each.epoch, each.attempt) for each in logged(log)]


def artifact_key(task: BatchTask, model: str) -> str:
    """The key of what `commit` puts into the store: the same in every attempt at the task."""
    content = hashlib.sha256(f"{task.id} {task.fingerprint}".encode()).hexdigest()
    return ArtifactStore.key(content, task.task_type.value, {}, model, 1)


def _play(assignment: Assignment) -> Iterator[float | Outcome]:
    """The attempt, in the words of neither caller: seconds to wait for, and in the end its outcome."""
    task = assignment.task
    script = task.data.get("script", ["ok"])
    step = script[min(assignment.attempt, len(script)) - 1]
    log = task.data.get("log")
    if log:
        line = f"{task.id} {assignment.epoch} {assignment.attempt} {os.getpid()} {time.time()!r}\n"
        _append(Path(log), line)
    yield 0.0
    end = time.monotonic() + float(task.data.get("sleep_s", 0.0))
    while (left := end - time.monotonic()) > 0:
        yield min(TICK_S, left)
    outcome = _success(assignment)
    for action in [step] if isinstance(step, str) else step:
        for word in _act(action, assignment):
            if isinstance(word, Outcome):
                outcome = word
            else:
                yield word
    yield outcome


def _act(action: str, assignment: Assignment) -> Iterator[float | Outcome]:
    """Do one thing of a step. It says how long it waits, and what it makes of the outcome, where it does."""
    task = assignment.task
    name, _, argument = action.partition(":")
    if action in {kind.value for kind in FailureClass}:
        yield Outcome(failure=_failure(action, task))
    elif name == "commit":
        yield _commit(assignment)
    elif name == "die":
        os._exit(1)
    elif name == "segfault":
        ctypes.string_at(0)
    elif name == "hang":
        yield HANG_S
    elif name == "hog":
        yield from _hog(int(task.data.get("most_mb", HOG_MOST_MB)))
    elif name == "hold":
        while not os.path.exists(argument):  # noqa: PTH110 - fifty times a second, of many tasks in one process
            yield TICK_S
    elif name == "signal":
        write_atomically(Path(argument), str(os.getpid()).encode())
    elif name == "raise":
        raise LookupError("nobody expected this")
    elif name == "expand" and not assignment.children:
        yield Outcome(children=_children(task, int(argument)))
    elif name not in ("ok", "expand"):
        raise ValueError(f"no step of a script: {action!r}")


def _success(assignment: Assignment) -> Outcome:
    task = assignment.task
    return Outcome(artifact_key=f"key-{task.id}", metrics=_metrics(assignment))


def _metrics(assignment: Assignment) -> dict[str, Any]:
    return dict(assignment.task.data.get("metrics", {})) | {"children": len(assignment.children)}


def _commit(assignment: Assignment) -> Outcome:
    """What a task of a real kind does: the artifact first, then output files from what is stored."""
    task, spec = assignment.task, assignment.spec
    layout = Layout.of(spec.output_dir)
    key = artifact_key(task, spec.model)
    # Each attempt would write something else: whose bytes are stored is seen from them.
    by = f"{task.id} {assignment.epoch} {assignment.attempt} {os.getpid()}"
    text = by.ljust(int(task.data.get("bytes", 0)), ".")
    _, payload = ArtifactStore(layout.artifacts).put(key, {"text": text})
    name = f"{task.id.replace('/', '-')}.txt"
    write_atomically(layout.output_dir / name, payload["text"].encode())
    return Outcome(artifact_key=key, metrics=_metrics(assignment) | {"outputs": [name]})


def _hog(most_mb: int) -> Iterator[float]:
    taken: list[bytearray] = []
    while True:
        if len(taken) * HOG_STEP_BYTES < most_mb * 2**20:
            block = bytearray(HOG_STEP_BYTES)
            # Pages that nobody has written to take no memory.
            block[::_PAGE_BYTES] = b"\1" * len(range(0, HOG_STEP_BYTES, _PAGE_BYTES))
            taken.append(block)
        yield HOG_PERIOD_S


def _append(path: Path, line: str) -> None:
    with path.open("a") as file:  # one short write in append mode: lines of several processes don't mix
        file.write(line)


def _children(task: BatchTask, count: int) -> tuple[BatchTask, ...]:
    script = task.data.get("child_script", ["ok"])
    return tuple(
        BatchTask(
            id=f"{task.id}/{number}",
            task_type=task.task_type,
            data={"script": script, "log": task.data.get("log")},
            priority=task.priority,
            max_retries=task.max_retries,
            file_id=task.file_id,
            parent=task.id,
            chunk=number,
            provider=task.provider,
            resources=task.resources,
        )
        for number in range(count)
    )


def _failure(step: str, task: BatchTask) -> Failure:
    kind = FailureClass(step)
    category = Category.RESOURCE if kind is FailureClass.RESOURCE else Category.NETWORK
    code = "out_of_memory" if kind is FailureClass.RESOURCE else f"scripted_{step}"
    return Failure(kind, category, code, f"the script of {task.id} says {step}", task.data.get("retry_after_s"))
