"""The world of a simulated batch: its users, its machines, time, and who dies when."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from simulated_coordinator import Coordinator, Driver
from simulated_workers import DIED, LOST, NODE_LOST, STALL_S, Process, Worker, attempt_at

from tests.support.fault_layer import FaultySystem, Killed
from trax_ray.core.limits.signals import ProviderSignal, SignalKind
from trax_ray.core.spec import BatchSpec, Limits, RetryPolicy
from trax_ray.core.state.events import Dispatch
from trax_ray.core.task import BatchTask, Failure, Outcome, ResourceRequest, TaskState
from trax_ray.errors import TraxRayError
from trax_ray.plan.tasks import InputFile, plan_file
from trax_ray.store import files, inbox
from trax_ray.store.artifacts import ArtifactStore
from trax_ray.store.batch_journal import read_state
from trax_ray.store.layout import Layout
from trax_ray.store.system import System, use

VICTIMS = ("driver", "coordinator", "worker", "raylet", "gcs", "everything", "power")
"""Who dies. Everything: all processes at once; power: and the disk keeps only what was synced."""

MOMENTS = ("queued", "running", "artifact", "committed", "asked")
"""When: a task is queued; it runs; its artifact is there and the journal doesn't know; the journal knows; and when a
request from another terminal is in the journal, and the coordinator is about to obey."""

ORPHAN_S = 45.0
"""How long a worker goes on after its raylet was killed; measured."""

RUN_STEPS = 6000
"""By then a run must have come to an end."""

FATES = ("ok",) * 14 + ("transient", "transient", "config", "die", "stall", "stall late", "lost", "twice", "memory")
"""What befalls an attempt, one of these by chance."""


_ANSWERS = {
    "transient": ProviderSignal(SignalKind.RATE_LIMITED, 429, retry_after_s=3.0),
    "config": ProviderSignal(SignalKind.REFUSED, 401),
    "memory": ProviderSignal(SignalKind.OVERLOADED, 503),
}
"""What tasks that share a process hear from the service that they ask."""


class Draws(Random):
    """Chance whose course doesn't hang on how long things are, such as the name of the machine it runs on."""

    def randint(self, a: int, b: int) -> int:
        return a + int(self.random() * (b - a + 1))


@dataclass(slots=True)
class Doom:
    """A death to come.

    Args:
        victim: One of VICTIMS.
        moment: One of MOMENTS.
        skip: So many of these moments pass first.
        delay: And then so many points of those concerned.
    """

    victim: str
    moment: str
    skip: int
    delay: int
    armed: bool = False
    struck: bool = False
    target: Process | None = None


@dataclass(slots=True)
class Recording:
    """An input as its user has it."""

    name: str
    lines: list[str]
    priority: int
    service: bool
    max_retries: int
    needs: tuple[str, ...] = ()


class Recordings:
    """The folder of recordings, and the user who keeps it.

    Args:
        folder: An empty one.
        spec: What the batch is asked to do.
        random: Chance.
    """

    def __init__(self, folder: Path, spec: BatchSpec, random: Random) -> None:
        self.all: list[Recording] = []
        self._folder = folder
        self._spec = spec
        self._random = random
        self._words = 0
        self._mtime_ns = 10**18
        for _ in range(random.randint(1, 5)):
            self.add()

    def at(self, path: str) -> Path:
        """Where a recording really lies."""
        return self._folder / Path(path).name

    def plan(self) -> list[BatchTask]:
        """What the command gives to a run now."""
        return [self._planned(recording) for recording in self.all]

    def expected(self) -> dict[str, TaskState]:
        """How each recording has to end, by the id of its task."""
        verdicts: dict[str, TaskState] = {}
        ids = {recording.name: task.id for recording, task in zip(self.all, self.plan(), strict=True)}
        left = list(self.all)
        while left:
            recording = left.pop(0)
            needs = [ids[name] for name in recording.needs]
            if any(name not in verdicts for name in needs):
                left.append(recording)
                continue
            bad = not recording.lines or any(verdicts[name] is TaskState.FAILED for name in needs)
            verdicts[ids[recording.name]] = TaskState.FAILED if bad else TaskState.SUCCEEDED
        return verdicts

    def add(self) -> None:
        """Another recording: some are copies of others, some have nothing in them, some need another one first."""
        chance = self._random
        self._words += 1
        lines = self._new_lines(chance.choice([1, 1, 1, 2, 3]))
        if chance.random() < 0.1:
            lines = []
        elif self.all and chance.random() < 0.15:
            lines = chance.choice(self.all).lines
        others = [recording.name for recording in self.all]
        needs = (chance.choice(others),) if others and chance.random() < 0.25 else ()
        priority, service, max_retries = chance.choice([0, 0, 1, 5]), chance.random() < 0.3, chance.randint(1, 4)
        recording = Recording(f"talk{self._words}", lines, priority, service, max_retries, needs)
        self.all.append(recording)
        self._write(recording)

    def change(self) -> str:
        """Change something about them. Returns what."""
        what = self._random.choice(["add", "rename", "rewrite", "touch", "remove", "hurry"])
        recording = self._random.choice(self.all)
        self._words += 1
        if what == "add":
            self.add()
        elif what == "rename":
            self._rename(recording, f"talk{self._words}")
        elif what == "rewrite":
            recording.lines = self._new_lines(self._random.randint(1, 3))
            self._write(recording)
        elif what == "touch":
            self._touch(recording)
        elif what == "hurry":
            recording.priority = 0
        elif len(self.all) > 1:
            self.at(recording.name).unlink()
            self.all.remove(recording)
            self._rename_needs(recording.name, "")
        return what

    def _new_lines(self, count: int) -> list[str]:
        return [f"word{self._words}-{number}" for number in range(count)]

    def _write(self, recording: Recording) -> None:
        self.at(recording.name).write_text("".join(f"{line}\n" for line in recording.lines))
        self._touch(recording)

    def _touch(self, recording: Recording) -> None:
        self._mtime_ns += 10**9
        os.utime(self.at(recording.name), ns=(self._mtime_ns, self._mtime_ns))

    def _rename(self, recording: Recording, name: str) -> None:
        self.at(recording.name).rename(self.at(name))
        self._rename_needs(recording.name, name)
        recording.name = name

    def _rename_needs(self, old: str, new: str) -> None:
        for recording in self.all:
            needs = (new if name == old else name for name in recording.needs)
            recording.needs = tuple(name for name in needs if name)

    def _planned(self, recording: Recording) -> BatchTask:
        status = self.at(recording.name).stat()
        entry = replace(
            self._entry(recording.name),
            size_bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
            inode=status.st_ino,
            priority=recording.priority,
        )
        needs = [plan_file(self._entry(name), self._spec, "m", ResourceRequest()).id for name in recording.needs]
        task = plan_file(entry, self._spec, "m", ResourceRequest(), depends_on=needs)
        data = {**task.data, "service": True} if recording.service else task.data
        return replace(task, data=data, max_retries=recording.max_retries)

    def _entry(self, name: str) -> InputFile:
        # Not where it really lies: ids follow from the path, and are to be the same every time.
        return InputFile(f"/recordings/{name}", name, name)


class World:
    """Everything there is, and chance.

    Args:
        seed: What everything follows from.
        root: An empty folder.
        dooms: The deaths to come.
        locks: Whether the file system has locks; without, several coordinators can be at work at the same time.
        meddling: How often another process acts at a point of one, 0-1.
        rivals: Whether the command is given once more while it is at work.
        coordinator: The class of coordinators; a broken one must be found out.
    """

    def __init__(
        self,
        seed: str,
        root: Path,
        dooms: list[Doom],
        *,
        locks: bool = True,
        meddling: float = 0.0,
        rivals: bool = False,
        coordinator: type[Coordinator] = Coordinator,
    ) -> None:
        self.random = Draws(seed)
        self.out, folder = root / "out", root / "in"
        for each in (self.out, folder):
            each.mkdir()
        self.dooms = dooms
        self.locks = locks
        self.meddling = meddling
        self.rivals = rivals
        self.powered = any(doom.victim == "power" for doom in dooms)
        self.disk: System = self._new_disk()
        self.layout = Layout(self.out)
        self.monotonic = 0.0
        self.origin = 1_800_000_000.0
        self.calm = self.struck = False
        self.story: list[str] = []
        self.problems: list[str] = []
        self.drivers: list[Driver] = []
        self.coordinators: list[Coordinator] = []
        self.workers: list[Worker] = []
        self.executed: Counter[tuple[str, int, int]] = Counter()
        self.commits: dict[str, bytes] = {}
        self.requests: dict[str, str] = {}
        self.forgotten: set[str] = set()
        self.highest_opened = 0
        self.processes: list[Process] = []
        self.plans: list[tuple[int, str]] = []
        self._coordinator_class = coordinator
        self._depth = 0
        self._steps = 0
        self.spec = BatchSpec(
            output_dir=str(self.out),
            model="m",
            limits=Limits(max_workers=self.random.randint(1, 4), queue_size=self.random.choice([2, 100])),
            retry=RetryPolicy(base_s=1.0, cap_s=4.0, max_losses=3),
            grace_s=2.0,
            formats=("txt",),
        )
        self.recordings = Recordings(folder, self.spec, self.random)

    def _new_disk(self) -> System:
        return FaultySystem(self.out) if self.powered else System()

    def wall(self) -> float:
        """Seconds since the epoch; may be set back between two runs."""
        return self.origin + self.monotonic

    def tell(self, line: str) -> None:
        self.story.append(f"{self.monotonic:9.2f}  {line}")

    def problem(self, sentence: str) -> None:
        self.problems.append(sentence)
        self.tell(f"PROBLEM: {sentence}")

    # What users do

    def ask(self, command: str) -> None:
        """A request from another terminal."""
        user = Process(self, f"the user who wants {command}")
        self.tell(user.name)
        with contextlib.suppress(Killed), self.inside(user):
            self.requests[inbox.put(self.layout.inbox, command)] = command

    # Chance

    def moment(self, name: str, process: Process) -> None:
        """Something is so far that a death may be due."""
        for doom in self.dooms:
            if doom.armed or doom.moment != name:
                continue
            if doom.skip:
                doom.skip -= 1
                continue
            doom.armed = True
            doom.target = process
            self.tell(f"the {doom.victim} is going to die: {process.name} is at {name}")
            if doom.delay == 0 and self._concerns(doom, process):
                self.strike(doom, process)

    def at_point(self, process: Process) -> None:
        for doom in self.dooms:
            if doom.armed and not doom.struck and self._concerns(doom, process):
                doom.delay -= 1
                if doom.delay <= 0:
                    self.strike(doom, process)
        if self.meddling and self._depth < 3 and self.random.random() < self.meddling:
            self._step_one(advance=False)

    def _concerns(self, doom: Doom, process: Process) -> bool:
        """Whether a point of this process brings the death nearer."""
        if doom.victim == "coordinator":
            return any(process is coordinator.process for coordinator in self.coordinators)
        if doom.victim in ("worker", "raylet"):
            target = doom.target
            if target is not None and not target.dead and any(w.process is target and w.alive for w in self.workers):
                return process is target
            return any(worker.process is process for worker in self.workers)
        return True

    def strike(self, doom: Doom, process: Process) -> None:
        """The death itself; `process` is at work just now."""
        doom.struck = True
        self.tell(f"death of {doom.victim}, at work is {process.name}")
        if doom.victim == "worker":
            self.kill(process)
        elif doom.victim == "coordinator":
            self._kill_coordinator(process)
        elif doom.victim == "raylet":
            self._kill_node(process.node)
        elif doom.victim in ("driver", "gcs"):
            self._kill_drivers(slow=8.0 if doom.victim == "driver" else 20.0)
        else:
            self._kill_all(power=doom.victim == "power")

    def kill(self, process: Process) -> None:
        """kill -9. Those who wait for it hear of it."""
        if process.dead:
            return
        process.dead = True
        self._let_go(process)
        for worker in self.workers:
            if worker.process is process and not worker.over:
                self._end_attempt(worker)
                self._report(worker, DIED)

    def _let_go(self, process: Process) -> None:
        for fd in sorted(process.fds):
            with contextlib.suppress(Killed, OSError):
                self.disk.close(fd)
        process.fds.clear()

    def _end_attempt(self, worker: Worker) -> None:
        """What it holds is let go of; by the dead nothing of it reaches the disk."""
        worker.over = True
        if not worker.busy:
            worker.busy = True
            with contextlib.suppress(Killed), self.inside(worker.process):
                worker.attempt.close()

    def _report(self, worker: Worker, failure: Failure) -> None:
        if not worker.cut_off and worker.coordinator.alive:
            worker.cut_off = True
            worker.coordinator.mail.append((worker.dispatch, Outcome(failure=failure)))

    def _kill_coordinator(self, process: Process) -> None:
        """What it had started is ended with it, though not at once."""
        for coordinator in self.coordinators:
            if coordinator.process is process and not process.dead:
                self.kill(process)
                self._orphan(coordinator, 3.0)
                if not coordinator.busy:
                    with self.inside(process):
                        coordinator.bury()

    def _orphan(self, coordinator: Coordinator, most_s: float) -> None:
        for worker in self.workers:
            if worker.coordinator is coordinator and worker.alive:
                worker.cut_off = True
                worker.dies_at = min(worker.dies_at, self.monotonic + self.random.uniform(0.0, most_s))

    def _kill_node(self, node: int) -> None:
        for worker in self.workers:
            if worker.process.node == node and worker.alive:
                self._report(worker, NODE_LOST)
                worker.cut_off = True
                worker.dies_at = self.monotonic + self.random.choice([0.0, self.random.uniform(0.0, ORPHAN_S)])
                if worker.dies_at == self.monotonic:
                    self.kill(worker.process)
        if node == 0:
            for coordinator in self.coordinators:
                self._kill_coordinator(coordinator.process)

    def _kill_drivers(self, slow: float) -> None:
        """Its coordinator and their workers are ended by Ray, after a while in which they go on."""
        for driver in self.drivers:
            self.kill(driver.process)
        for coordinator in self.coordinators:
            if coordinator.alive:
                coordinator.dies_at = self.monotonic + self.random.uniform(0.0, slow)
                if not self.random.randint(0, 2):
                    self._orphan(coordinator, slow)

    def _kill_all(self, *, power: bool) -> None:
        for each in self.processes:
            each.dead = True
        if power:
            assert isinstance(self.disk, FaultySystem)
            self.disk.lose_power(self.random)
        for each in self.processes:
            self._let_go(each)
        self.processes.clear()
        for worker in self.workers:
            self._end_attempt(worker)
        for coordinator in self.coordinators:
            if not coordinator.busy:
                with self.inside(coordinator.process):
                    coordinator.bury()
        if power:
            self.disk = self._new_disk()
            gone = [key for key in self.commits if not ArtifactStore(self.layout.artifacts).path(key).exists()]
            for key in gone:
                del self.commits[key]

    # What is told by those at work

    def opened(self, epoch: int) -> None:
        self.tell(f"epoch {epoch} is open")
        self.highest_opened = max(self.highest_opened, epoch)

    def named(self, process: Process, path: Path) -> None:
        """A file got its name."""
        if self.layout.artifacts not in path.parents or path.suffix != ".json":
            return
        key = path.stem
        self.tell(f"{process.name} commits {key[:8]}")
        if key in self.commits:
            self.problem(f"artifact {key[:8]} was committed twice, the second time by {process.name}")
        self.commits[key] = path.read_bytes()
        self.moment("artifact", process)

    def dispatched(self, coordinator: Coordinator, dispatch: Dispatch) -> Worker:
        self.executed[dispatch.task.id, dispatch.epoch, dispatch.attempt] += 1
        fate = "ok" if self.calm else self.random.choice(FATES)
        process = self._lane(coordinator) if not dispatch.alone else self._new_process(dispatch)
        if not dispatch.alone and fate in ("stall", "stall late"):
            fate = "ok"  # calls on a lane have a deadline of their own
        attempt = attempt_at(self, process, dispatch, coordinator.layout, fate)
        worker = Worker(process, dispatch, coordinator, attempt, fate)
        self.workers.append(worker)
        self.tell(f"{coordinator.process.name} starts {process.name} ({fate})")
        return worker

    def _new_process(self, dispatch: Dispatch) -> Process:
        name = f"{dispatch.task.id[-6:]}#{dispatch.attempt}@{dispatch.epoch}"
        return Process(self, name, self.random.randint(0, 1))

    def _lane(self, coordinator: Coordinator) -> Process:
        if coordinator.lane is None or coordinator.lane.dead:
            coordinator.lane = Process(self, f"lane of {coordinator.process.name}", self.random.randint(0, 1))
        return coordinator.lane

    def cancel(self, worker: Worker) -> None:
        """By force where it has a process of its own."""
        worker.cut_off = True
        if worker.dispatch.alone:
            self.kill(worker.process)
        elif worker.alive:
            self._end_attempt(worker)

    def give_up(self, worker: Worker) -> None:
        """A worker that gave no sign of life; one of two can't be reached, and wakes up some time."""
        worker.cut_off = True
        if worker.fate == "stall late":
            worker.dies_at = self.monotonic + 10 * STALL_S
        else:
            self.kill(worker.process)

    # Time

    @contextlib.contextmanager
    def inside(self, process: Process) -> Iterator[None]:
        """What is done in the block is done by this process."""
        before = files._settled
        files._settled = process.settled
        self._depth += 1
        try:
            with use(process):
                yield
        finally:
            self._depth -= 1
            files._settled = before

    def within(self, coordinator: Coordinator, call: Callable[[], Any]) -> Any:
        """Let a coordinator do something; None where it dies of it."""
        coordinator.busy = True
        try:
            with self.inside(coordinator.process):
                return call()
        except Killed:
            coordinator.process.dead = True
        finally:
            coordinator.busy = False
        with self.inside(coordinator.process):
            coordinator.bury()
        return None

    def new_coordinator(self, run: str) -> Coordinator:
        coordinator = self._coordinator_class(self, run)
        self.coordinators.append(coordinator)
        return coordinator

    def step(self) -> None:
        """Something happens: a user acts, or one of those who have something to do does it."""
        self._steps += 1
        for at, what in self.plans:
            if at == self._steps:
                self._user_acts(what)
        self._step_one(advance=True)
        for coordinator in self.coordinators:
            if coordinator.alive and coordinator.dies_at <= self.monotonic:
                self._kill_coordinator(coordinator.process)
        for worker in self.workers:
            if worker.alive and worker.dies_at <= self.monotonic:
                self.kill(worker.process)
        self.workers = [worker for worker in self.workers if worker.alive]

    def _user_acts(self, what: str) -> None:
        driver = self.drivers[-1]
        if what in inbox.COMMANDS:
            self.ask(what)
        elif what == "again":
            self.tell("the user gives the command once more")
            self.drivers.append(Driver(self, self.recordings.plan()))
        elif driver.alive:
            self.tell(f"the user: {what}")
            driver.command(what.removeprefix("key "))

    def _step_one(self, *, advance: bool) -> None:
        actors: list[Driver | Coordinator | Worker] = [
            *(driver for driver in self.drivers if driver.alive and not driver.busy),
            *(each for each in self.coordinators if each.alive and not each.busy and each.book is not None),
            *(w for w in self.workers if w.alive and not w.busy and w.wake_at <= self.monotonic),
        ]
        did = False
        if actors:
            actor = self.random.choice(actors)
            if isinstance(actor, Driver):
                did = self._step_driver(actor)
            elif isinstance(actor, Coordinator):
                did = self._step_coordinator(actor)
            else:
                did = self._step_worker(actor)
        if advance:
            self.monotonic += 0.05 if did else 0.5

    def _step_driver(self, driver: Driver) -> bool:
        driver.busy = True
        try:
            return driver.step()
        except Killed:
            return True
        finally:
            driver.busy = False

    def _step_coordinator(self, coordinator: Coordinator) -> bool:
        try:
            did = self.within(coordinator, coordinator.turn)
        except TraxRayError as error:
            self.tell(f"{coordinator.process.name} ends: {error.code}")
            coordinator.result = error
            did = True
        if coordinator.result and not coordinator.process.dead:
            self.within(coordinator, coordinator.close)
        return bool(did)

    def _step_worker(self, worker: Worker) -> bool:
        worker.busy = True
        try:
            with self.inside(worker.process):
                said = next(worker.attempt)
        except Killed:
            worker.over = True
            return True
        finally:
            worker.busy = False
        worker.silent_since = None
        if isinstance(said, Outcome):
            worker.over = True
            self._deliver(worker, said)
        elif said >= STALL_S:
            worker.silent_since, worker.wake_at = self.monotonic, self.monotonic + said
        elif said:
            self.monotonic += said * 0.2
        return True

    def _deliver(self, worker: Worker, outcome: Outcome) -> None:
        if not worker.coordinator.alive:
            return
        mail = worker.coordinator.mail
        if worker.fate == "lost" and not worker.cut_off:
            outcome = Outcome(failure=LOST)
        elif not worker.dispatch.alone:
            outcome = replace(outcome, signal=_ANSWERS.get(worker.fate, ProviderSignal()))
        mail.append((worker.dispatch, outcome))
        if worker.fate == "twice":
            mail.insert(self.random.randint(0, len(mail)), (worker.dispatch, outcome))

    # Runs

    def run(self) -> str:
        """The command, from its start to its end or death. Returns how it ended."""
        driver = Driver(self, self.recordings.plan())
        self.drivers.append(driver)
        self.tell(f"{driver.process.name} with {len(driver.tasks)} recordings")
        if not self.calm:
            self._plan_actions()
        for number in range(RUN_STEPS):
            if driver.over:
                break
            if number % 500 == 499 and read_state(self.layout).paused:
                self.ask("resume")  # the request to pause was older than the run
            self.step()
        else:
            self.problem(f"{driver.process.name} doesn't come to an end")
        self.plans.clear()
        self.tell(f"{driver.process.name} has ended: {driver.over}")
        return driver.over

    def _plan_actions(self) -> None:
        if self.rivals:
            self.plans.append((self._steps + self.random.randint(5, 60), "again"))
        chance = self.random.random() * (0.3 if any(doom.moment == "asked" for doom in self.dooms) else 1.0)
        at = self._steps + self.random.randint(1, 60)
        if chance < 0.15:
            self.plans += [(at, "pause"), (at + self.random.randint(1, 60), "resume")]
        elif chance < 0.3:
            self.plans += [(at, self.random.choice(["stop", "retry-failed"]))]
        elif chance < 0.35:
            self.plans += [(at, "key pause"), (at + self.random.randint(1, 60), "key resume")]
        elif chance < 0.45:
            self.plans += [(at, self.random.choice(["key stop", "interrupt", "again"]))]

    def close_terminals(self) -> None:
        """The end of all commands that are still at work."""
        self._kill_drivers(slow=8.0)
        self.let_them_die()

    def let_them_die(self) -> None:
        """Wait until what the dead have left behind is gone."""
        while any(each.alive for each in (*self.coordinators, *self.workers)):
            for each in (*self.coordinators, *self.workers):
                each.dies_at = min(each.dies_at, self.monotonic + 60.0)
            self.step()
