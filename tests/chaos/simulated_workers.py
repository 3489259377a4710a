"""The played workers of a simulated batch, and the door that each of its processes has to the disk."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tests.support.fault_layer import Killed
from trax_ray.core.state.events import (
    Dispatch,
)
from trax_ray.core.task import Category, Failure, FailureClass, Outcome
from trax_ray.errors import BusyError, TraxRayError
from trax_ray.store import files, writing
from trax_ray.store.artifacts import ArtifactStore, content_hash
from trax_ray.store.layout import Layout
from trax_ray.store.lease import Lease
from trax_ray.store.system import AnyPath, System
from trax_ray.testing.factories import make_parts

if TYPE_CHECKING:
    from simulated_coordinator import Coordinator
    from simulated_world import World

T = TypeVar("T")

STALL_S = 30.0
"""Without a sign of life for so long, an attempt is given up."""

TRANSIENT = Failure(FailureClass.TRANSIENT, Category.NETWORK, "timeout", "it took too long")
NO_KEY = Failure(FailureClass.CONFIG, Category.NETWORK, "authentication", "the key is refused")
EMPTY = Failure(FailureClass.PERMANENT, Category.FILE, "no_samples", "there is nothing in it")
STALLED = Failure(FailureClass.TRANSIENT, Category.RESOURCE, "stalled", "no sign of life")
DIED = Failure(FailureClass.UNKNOWN, Category.PROCESSING, "worker_died", "its process died")
NODE_LOST = Failure(FailureClass.UNKNOWN, Category.RESOURCE, "node_died", "its node was lost")
LOST = Failure(FailureClass.UNKNOWN, Category.RESOURCE, "result_lost", "its result was lost")
OUT_OF_MEMORY = Failure(FailureClass.RESOURCE, Category.RESOURCE, "out_of_memory", "it took too much")


def transcript_of(lines: Sequence[str]) -> str:
    """What the only right transcript of a recording is. A recording is lines of text, each of them a chunk."""
    return " / ".join(f"said {line}" for line in lines)


@dataclass(frozen=True, slots=True)
class LooseLayout(Layout):
    """A folder whose lock doesn't exclude others, as on some network file systems."""

    number: int = 0

    @property
    def lock(self) -> Path:
        return self.private / f"lock-{self.number}"


class Process(System):
    """A process's door to the disk.

    Args:
        world: Where it lives.
        name: For the story.
        node: The node that it runs on.
    """

    __slots__ = ("dead", "fds", "name", "node", "settled", "world")

    def __init__(self, world: World, name: str, node: int = 0) -> None:
        self.world = world
        self.name = name
        self.node = node
        self.dead = False
        self.fds: set[int] = set()
        self.settled: set[Path] = set()
        world.processes.append(self)

    def point(self) -> None:
        """A place where it may die, and where others may act."""
        if not self.dead:
            self.world.at_point(self)
        if self.dead:
            raise Killed

    def open(self, path: AnyPath, flags: int, mode: int = 0o666) -> int:
        self.point()
        fd = self.world.disk.open(path, flags, mode)
        self.fds.add(fd)
        self.point()
        return fd

    def close(self, fd: int) -> None:
        self.point()
        self.fds.discard(fd)
        self.world.disk.close(fd)
        self.point()

    def write(self, fd: int, data: bytes | memoryview) -> int:
        if len(data) > 1 and self.world.random.random() < 0.1:
            data = data[: self.world.random.randint(1, len(data) - 1)]
        return self._do(self.world.disk.write, fd, data)

    def truncate(self, fd: int, length: int) -> None:
        self._do(self.world.disk.truncate, fd, length)

    def fsync(self, fd: int) -> None:
        self._do(self.world.disk.fsync, fd)

    def forget_cached(self, fd: int) -> None:
        self._do(self.world.disk.forget_cached, fd)

    def mkdir(self, path: AnyPath) -> None:
        self._do(self.world.disk.mkdir, path)

    def link(self, source: AnyPath, target: AnyPath) -> None:
        self._name(self.world.disk.link, source, target)

    def replace(self, source: AnyPath, target: AnyPath) -> None:
        self._name(self.world.disk.replace, source, target)

    def rename_exclusively(self, source: AnyPath, target: AnyPath) -> None:
        self._name(self.world.disk.rename_exclusively, source, target)

    def unlink(self, path: AnyPath) -> None:
        self._do(self.world.disk.unlink, path)

    def _do(self, call: Callable[..., T], *arguments: Any) -> T:
        self.point()
        result = call(*arguments)
        self.point()
        return result

    def _name(self, call: Callable[[AnyPath, AnyPath], None], source: AnyPath, target: AnyPath) -> None:
        self.point()
        call(source, target)
        self.world.named(self, Path(target))
        self.point()


@dataclass(eq=False, slots=True)
class Worker:
    """An attempt at work, in a process of its own or in one with others.

    Args:
        process: Where.
        dispatch: What it was asked for.
        coordinator: By whom.
        attempt: What it does, step by step.
        fate: What befalls it.
        wake_at: It sleeps until then, by the world's monotonic clock.
        silent_since: Since when it has given no sign of life; None where it does.
        dies_at: When it is gone at the latest.
        cut_off: Whether nobody hears it any more.
    """

    process: Process
    dispatch: Dispatch
    coordinator: Coordinator
    attempt: Generator[Outcome | float, None, None]
    fate: str
    wake_at: float = 0.0
    silent_since: float | None = None
    dies_at: float = float("inf")
    cut_off: bool = False
    over: bool = False
    busy: bool = False

    @property
    def alive(self) -> bool:
        return not (self.over or self.process.dead)


def attempt_at(
    world: World, process: Process, dispatch: Dispatch, layout: Layout, fate: str
) -> Generator[Any, None, None]:
    """What a worker does, as `tasks.transcribe`, on lines of text. Yields seconds to wait, then the outcome."""
    task = dispatch.task
    work = Work(world, process, dispatch, layout, ArtifactStore(layout.artifacts), fate)
    yield 0.0
    world.moment("running", process)
    process.point()
    if fate in ("transient", "config", "memory"):
        yield Outcome(failure={"transient": TRANSIENT, "config": NO_KEY, "memory": OUT_OF_MEMORY}[fate])
        return
    try:
        path = world.recordings.at(task.data["file_path"])
        content = content_hash(path, layout.hashes, now=world.wall())
        lines = path.read_text().splitlines()
    except TraxRayError as error:
        yield Outcome(failure=Failure.of(error))
        return
    if task.chunk is not None:
        key, _ = yield from work.make(content, "chunk", task.chunk, lines[task.chunk : task.chunk + 1])
        yield Outcome(artifact_key=key)
    elif not lines:
        yield Outcome(failure=EMPTY)
    elif work.in_chunks(lines) and not dispatch.children and work.known(content) is None:
        cuts = [(float(number), float(number + 1)) for number in range(len(lines))]
        # Requests to a service are tasks of their own, and share a process.
        children = make_parts(task, cuts, shared="service" in task.data)
        yield Outcome(children=children, metrics={"chunks": len(cuts)})
    else:
        yield from _whole(work, content, lines)


def _whole(work: Work, content: str, lines: list[str]) -> Iterator[Any]:
    if work.in_chunks(lines):
        for number, line in enumerate(lines):
            yield from work.make(content, "chunk", number, [line])
    key, payload = yield from work.make(content, "transcript", 0, lines)
    path = work.layout.transcript(work.dispatch.task.data["output"], "txt")
    files.ensure_folder(path.parent)
    writing.write_atomically(path, payload["text"].encode())
    yield 0.0
    yield Outcome(artifact_key=key, metrics={"outputs": [str(path.relative_to(work.layout.output_dir))]})


@dataclass(slots=True)
class Work:
    """What an attempt works with."""

    world: World
    process: Process
    dispatch: Dispatch
    layout: Layout
    store: ArtifactStore
    fate: str

    def in_chunks(self, lines: list[str]) -> bool:
        return len(lines) > 1 or "service" in self.dispatch.task.data

    def known(self, content: str) -> dict[str, Any] | None:
        return self.store.get(self.store.key(content, "transcript", {"part": 0}, "m", 1))

    def make(self, content: str, kind: str, part: int, lines: list[str]) -> Iterator[Any]:
        """The artifact: the one that is there, else a new one. Returns its key and what is in it."""
        key = self.store.key(content, kind, {"part": part}, "m", 1)
        payload = self.store.get(key)
        if payload is None:
            claim = yield from self._claim(key)
            try:
                payload = self.store.get(key)
                if payload is None:
                    yield from self._labour()
                    # Who made it is part of it, so that one that took another's place would show.
                    by = [self.dispatch.task.id, self.dispatch.epoch, self.dispatch.attempt]
                    payload = self.store.put(key, {"text": transcript_of(lines), "by": by})[1]
            finally:
                if claim is not None:
                    claim.release()
        return key, payload

    def _claim(self, key: str) -> Iterator[Any]:
        if not self.world.locks:
            return None
        lease = Lease(self.layout.claim(key))
        while True:
            try:
                lease.acquire(self.dispatch.task.id)
            except BusyError:
                yield 1.0
            else:
                return lease

    def _labour(self) -> Iterator[Any]:
        for _ in range(self.world.random.randint(0, 3)):
            yield 0.0
            self.process.point()
        if self.fate == "die":
            self.world.kill(self.process)
            raise Killed
        if self.fate.startswith("stall"):
            self.fate = "ok"
            yield STALL_S * self.world.random.uniform(1.1, 3.0)
