"""A batch with all its processes and machines in one process, without Ray: what dies, dies at any step that is chosen.

Real: the journal and its epochs, the lock, the machine, additions, the queue, artifacts, remembered hashes, the inbox,
and every disk operation, in a real folder. Played: driver, coordinator, workers, nodes, users, time. The coordinator
takes its turns in the order of `trax_ray.cluster.coordinator`: what came in, what ended, what may start; then the
journal; then the commands. Everything follows from the seed, so that what has failed once fails again:

    python tests/chaos/simulation.py coordinator artifact 17

Each simulated process has a door to the disk of its own (`Process`, put in place by `store.system.use`). It has points
before and after every operation, and between others, where it may die or where others may act meanwhile. The dead do
nothing more: their next operation raises Killed, their files are closed, their locks are free.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from simulated_coordinator import Coordinator
from simulated_workers import transcript_of
from simulated_world import MOMENTS, VICTIMS, Doom, Draws, World

from trax_ray.core.ids import digest, is_same_work
from trax_ray.core.state.events import Revived, Started, decode_event
from trax_ray.core.state.machine import BatchState
from trax_ray.core.task import TaskState
from trax_ray.errors import FencedError
from trax_ray.store import artifacts, inbox, lease
from trax_ray.store.artifacts import ArtifactStore
from trax_ray.store.batch_journal import read_state
from trax_ray.store.epochs import read_chain
from trax_ray.store.lease import Lease
from trax_ray.testing.history import Findings, check

CALM_RUNS = 12
"""By then the same command must have done all that can be done."""

RIVALS: dict[str, Any] = {"locks": False, "meddling": 0.15, "rivals": True}
"""For `simulate`: several coordinators at a time, in a folder whose lock doesn't exclude them."""


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a simulation.

    Args:
        problems: What should not have happened; none in a good one.
        struck: Whether the death that was asked for came.
        findings: Of the history.
        story: What happened, a line each.
        commits: Artifacts that were committed.
        runs: How often the command was given.
        fenced: Coordinators that stopped because another one had taken a higher epoch.
    """

    problems: tuple[str, ...]
    struck: bool
    findings: Findings
    story: tuple[str, ...]
    commits: int
    runs: int
    fenced: int


@contextlib.contextmanager
def _repeatable(world: World) -> Iterator[None]:
    """Names that follow from the seed, so that a simulation is the same on every machine."""
    numbers = iter(range(10**9))
    with (
        patch.object(secrets, "token_hex", lambda count: f"{next(numbers):0{2 * count}x}"),
        patch.object(time, "time_ns", lambda: int(world.wall()) * 10**9 + next(numbers)),
        patch.object(inbox, "_who", lambda: "a user"),
        patch.object(os, "getpid", lambda: 4711),
        patch.object(socket, "gethostname", lambda: "a machine"),
        patch.object(artifacts, "_note_path", _note_path),
        patch.object(lease, "_is_dying", lambda holder: False),  # the dead are gone at once
        patch.dict(Lease.__init__.__kwdefaults__, clock=world.wall),
    ):
        yield


def _note_path(memo: Path, path: Path, status: os.stat_result) -> Path:
    """Where a hash is remembered: the real thing, without folder and inode, which are never the same again."""
    name = digest([path.name, status.st_size, status.st_mtime_ns])
    return memo / name[:2] / name


def simulate(
    victim: str,
    moment: str,
    seed: int,
    *,
    locks: bool | None = None,
    meddling: float | None = None,
    rivals: bool = False,
    coordinator: type[Coordinator] = Coordinator,
    folder: Path | None = None,
) -> Report:
    """Let a batch be hit by a death, go on with the same command to the end, and look at what came of it.

    Args:
        victim: One of VICTIMS.
        moment: One of MOMENTS.
        seed: All else follows from it.
        locks: Whether the file system has locks; None leaves it to chance.
        meddling: How often others act between two steps of one; None leaves it to chance.
        rivals: See World.
        coordinator: See World.
        folder: Where to work; None takes memory where the machine has a file system there.
    """
    name = f"{victim} {moment} {seed}"
    chance = Draws(name)
    dooms = [Doom(victim, moment, chance.choice([0, 0, 1, 2]), chance.choice([0, chance.randint(1, 40)]))]
    if chance.random() < 0.3:
        others = [each for each in VICTIMS if each != "power"] if victim != "power" else VICTIMS
        dooms.append(Doom(chance.choice(others), chance.choice(MOMENTS), chance.randint(0, 9), chance.randint(0, 40)))
    with_locks, how_much = chance.random() < 0.75, chance.choice([0.0, 0.02, 0.1])
    root = Path(tempfile.mkdtemp(prefix="trax-ray-", dir=folder or _memory()))
    try:
        world = World(
            name,
            root,
            dooms,
            locks=with_locks if locks is None else locks,
            meddling=how_much if meddling is None else meddling,
            rivals=rivals,
            coordinator=coordinator,
        )
        findings = Findings(())
        with _repeatable(world):
            try:
                _live(world)
                findings = _judge(world)
            except Exception as error:  # noqa: BLE001 - whatever goes wrong is a finding
                world.problem(f"{type(error).__name__}: {error}")
                world.story += traceback.format_exc().splitlines()
        return Report(
            problems=tuple(world.problems),
            struck=world.struck,
            findings=findings,
            story=tuple(world.story),
            commits=len(world.commits),
            runs=len(world.drivers),
            fenced=sum(isinstance(coordinator.result, FencedError) for coordinator in world.coordinators),
        )
    finally:
        shutil.rmtree(root)


def _memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _live(world: World) -> None:
    for _ in range(4):
        _unpause(world)
        world.run()
        if all(doom.struck for doom in world.dooms):
            break
        _between(world)
    _between(world)
    world.calm = True
    world.struck = world.dooms[0].struck
    world.dooms.clear()  # what hasn't come by now doesn't come
    world.close_terminals()
    for _ in range(CALM_RUNS):
        _unpause(world)
        if world.run() == "complete" and _all_done(world):
            break
        world.let_them_die()
        world.ask("retry-failed")
    else:
        world.problem(f"{CALM_RUNS} runs without a death haven't brought the batch to its end")
    world.let_them_die()


def _between(world: World) -> None:
    """From one run to the next: time passes, and what there is to be done may change."""
    if world.random.random() < 0.3:
        world.origin -= world.random.uniform(0.0, 5.0)
    if world.random.random() < 0.4:
        # Workers that outlive their run and a change of their input are a matter of their own.
        world.let_them_die()
        for _ in range(world.random.randint(1, 3)):
            world.tell(f"the user: {world.recordings.change()} a recording")
    for _ in range(world.random.randint(0, 20)):
        world.step()


def _unpause(world: World) -> None:
    if world.layout.journal.exists() and read_state(world.layout).paused:
        world.ask("resume")


def _all_done(world: World) -> bool:
    records = read_state(world.layout).records
    return all(name in records and records[name].state is state for name, state in world.recordings.expected().items())


def _judge(world: World) -> Findings:
    """Look at everything that must hold in the end."""
    attempts = sum(world.executed.values())
    if world.run() != "complete" or sum(world.executed.values()) != attempts:
        world.problem("the same command, given once more, has started something")
    findings = check(world.out)
    for problem in findings.problems:
        world.problem(problem)
    _judge_ends(world)
    _judge_attempts(world)
    _judge_artifacts(world)
    _judge_requests(world)
    return findings


def _judge_ends(world: World) -> None:
    records = read_state(world.layout).records
    expected = world.recordings.expected()
    for task_id, state in expected.items():
        if task_id not in records or records[task_id].state is not state:
            found = records[task_id].tell() if task_id in records else "nothing"
            world.problem(f"{task_id} should be {state.value}: {found}")
    for recording, task in zip(world.recordings.all, world.recordings.plan(), strict=True):
        if expected[task.id] is TaskState.SUCCEEDED:
            path = world.layout.transcript(recording.name, "txt")
            text = path.read_text() if path.exists() else "nothing"
            if text != transcript_of(recording.lines):
                world.problem(f"the transcript of {recording.name} is {text!r}")


def _judge_attempts(world: World) -> None:
    """What was done is in the journal, once; and nothing that had succeeded was given up without a reason."""
    state = BatchState()
    started: set[tuple[str, int, int]] = set()
    for record in read_chain(world.layout.journal):
        event, at = decode_event(record)
        if isinstance(event, Started):
            started |= {(task_id, state.epoch, attempt) for task_id, attempt in event.starts}
        elif isinstance(event, Revived):
            for task in event.tasks:
                known = state.records[task.id]
                if known.state is TaskState.SUCCEEDED and is_same_work(known.task.fingerprint, task.fingerprint):
                    world.problem(f"{task.id} had succeeded and hasn't changed, but was to be done again")
        state.handle(event, at)
    for key, count in world.executed.items():
        if key not in started:
            world.problem(f"attempt {key[2]} of {key[0]} was made under epoch {key[1]}, and the journal doesn't know")
        if count > 1:
            world.problem(f"attempt {key[2]} of {key[0]} was made {count} times under epoch {key[1]}")


def _judge_artifacts(world: World) -> None:
    store = ArtifactStore(world.layout.artifacts)
    for key, data in world.commits.items():
        path = store.path(key)
        if not path.exists() or path.read_bytes() != data:
            world.problem(f"artifact {key[:8]} isn't what was committed")


def _judge_requests(world: World) -> None:
    answered = read_state(world.layout).requests
    waiting = {request.name for request in inbox.waiting(world.layout.inbox)}
    for name, command in world.requests.items():
        if name not in answered and name not in waiting and name not in world.forgotten:
            world.problem(f"the request {command} ({name}) was neither answered nor is it waiting")


@dataclass(frozen=True, slots=True)
class Sums:
    """What came of some simulations.

    Args:
        runs: How many.
        struck: Those in which the death that was asked for came.
        attempts: Attempts at tasks.
        commits: Results that were committed.
        fenced: Coordinators that were overtaken.
        problem: The first problem, with the command that shows it again; empty where there was none.
    """

    runs: int = 0
    struck: int = 0
    attempts: int = 0
    commits: int = 0
    fenced: int = 0
    problem: str = ""

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.runs + other.runs,
            self.struck + other.struck,
            self.attempts + other.attempts,
            self.commits + other.commits,
            self.fenced + other.fenced,
            self.problem or other.problem,
        )


def sweep(victim: str, moment: str, seeds: Iterable[int], *options: str) -> Sums:
    """Simulate with each of some seeds, up to the first problem.

    Args:
        victim: One of VICTIMS.
        moment: One of MOMENTS.
        seeds: Which.
        options: `rivals`, or none.
    """
    sums = Sums()
    for seed in seeds:
        report = simulate(victim, moment, seed, **(RIVALS if "rivals" in options else {}))
        again = f"to see it again: {repeat(victim, moment, seed, *options)}"
        problem = "\n".join(["", *report.problems[:9], again]) if report.problems else ""
        sums += Sums(1, report.struck, report.findings.attempts, report.commits, report.fenced, problem)
        if problem:
            break
    return sums


def repeat(victim: str, moment: str, seed: int, *options: str) -> str:
    """The command that shows one simulation again."""
    return " ".join(["python", "tests/chaos/simulation.py", victim, moment, str(seed), *options])


def main(arguments: list[str]) -> int:
    """Show one simulation, step by step."""
    victim, moment, seed, *options = arguments
    report = simulate(victim, moment, int(seed), **(RIVALS if "rivals" in options else {}))
    sys.stdout.write("\n".join([*report.story, str(report.findings), *report.problems, ""]))
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
