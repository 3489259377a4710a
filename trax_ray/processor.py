"""The Python API: the `BatchProcessor` that `create_batch_processor` makes.

    processor = create_batch_processor(max_workers=4, model="tiny.en")
    await processor.add("talks/")
    await processor.add_task(TaskType.TRANSCRIBE, {"file_path": "talk.mp3"})
    result = await processor.start(progress_callback=print)

The command line drives the same class. Ray is loaded when a batch with tasks starts, not before.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import signal
import threading
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from trax_ray.codes import FailureCode
from trax_ray.core.policy.prediction import Experience, Range
from trax_ray.core.progress import BatchProgress, Phase
from trax_ray.core.spec import BatchSpec
from trax_ray.core.standing import Expected, fold
from trax_ray.core.state.additions import additions
from trax_ray.core.state.events import CoordinatorStarted, InputsClosed, Known
from trax_ray.core.state.waiting import EVERYTHING
from trax_ray.core.task import BatchTask, ResourceRequest, TaskType
from trax_ray.errors import FileError, QueueFull, SetupError, UsageError
from trax_ray.experience import forecast
from trax_ray.experience.kept import this_machine
from trax_ray.heads.notes import reap_orphans
from trax_ray.plan.enhancing import with_text_model
from trax_ray.plan.inputs import Scan, read_stdin
from trax_ray.plan.models import find_keys, pin_model
from trax_ray.plan.options import option
from trax_ray.plan.plan import Plan, Planner, with_model
from trax_ray.providers.registry import provider_of
from trax_ray.report.result import BatchResult, result_of
from trax_ray.store.batch_journal import missing_results
from trax_ray.store.inbox import waiting
from trax_ray.store.layout import Layout
from trax_ray.store.lease import Lease, expect_nobody
from trax_ray.watching import Watch, Watcher, keep_looking

if TYPE_CHECKING:
    from trax_ray.cluster.driver import Driver

__all__ = ["BatchProcessor"]

logger = logging.getLogger(__name__)

T = TypeVar("T")
ProgressCallback = Callable[[BatchProgress], Any]

PACK = 200
"""Tasks that travel to the coordinator in one call."""

FEED_PERIOD_S = 0.2
"""How often a full queue is asked for room."""

LAST_TASK_S = 0.5
"""A batch whose tasks have all ended goes on for so long after an `add_task`: another one may follow."""


class _Acknowledged(Awaitable[None]):
    """What `pause`, `resume` and `stop` give: they have acted already, and may be awaited all the same."""

    def __await__(self) -> Generator[Any, None, None]:
        yield from ()


class BatchProcessor:
    """One batch: tasks in, transcripts and a result out.

    Args:
        spec: What to do.
        address: `host:port` of a Ray cluster; None finds or starts one.
        lean: Start a local Ray head without the dashboard.
        watch: How inputs are watched; None doesn't: the batch ends when all that was added has ended.

    Attributes:
        on_result: Called with the result as soon as it is known, before Ray is left, which takes a second or two.
        predicted: How long the next run is expected to take; None has it found out.
        on_held: Called once the output folder is this batch's and nobody else's, before anything is done there.
    """

    def __init__(
        self, spec: BatchSpec, *, address: str | None = None, lean: bool = False, watch: Watch | None = None
    ) -> None:
        self.spec = spec
        self.dashboard_url = ""
        self.on_result: Callable[[BatchResult], None] | None = None
        self.on_held: Callable[[], None] | None = None
        self.predicted: Range | None = None
        self._address = address
        self._lean = lean
        self._waiting: deque[BatchTask] = deque()
        self._planned: deque[BatchTask] = deque()
        self._gpus = 0.0
        self._fed = False
        self._watch = watch
        self._watchers: list[Watcher] = []
        self._watched: dict[str, None] = {}
        self._open = False
        self._changed = asyncio.Event()
        self._planner = Planner(spec.output_dir)
        self._planning = asyncio.Lock()
        self._driver: Driver | None = None
        self._running = False
        self._commands: deque[str] = deque()
        self._last = BatchProgress()
        self._began_at = 0.0
        self._calm = True

    async def add(
        self,
        inputs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        lists: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
        reference: str | os.PathLike[str] | None = None,
        priority: int | None = None,
    ) -> list[str]:
        """Add recordings: all that INPUT takes on the command line. They are taken as the queue drains.

        A recording that was added before is the same one, and isn't done twice.

        Args:
            inputs: Recordings, folders, patterns such as `talks/**/*.mp3`, manifests (.csv, .jsonl, .parquet), or `-`
                for a list of paths on standard input; one or several.
            lists: Files with one path per line, or manifests; one or several.
            reference: Folder of reference transcripts; None takes the batch's.
            priority: Lower runs first; None takes the batch's. A manifest's row comes before both.

        Returns:
            The ids of the tasks that transcribe them, or make what else the batch's `task` says, in the order in which
            the recordings were named or found. None where inputs are watched: recordings join as they come.

        Raises:
            UsageError: Nothing to transcribe, or an input, a manifest or a value that makes no sense.
            SetupError: A model, a key or a package is missing; or a URL.
            JournalError: The journal in the output folder is damaged.
        """
        changed: dict[str, Any] = {}
        if reference is not None:
            changed["reference_dir"] = option("reference").checked(reference)
        if priority is not None:
            changed["priority"] = option("priority").checked(priority)
        if self._watch is not None:
            await asyncio.to_thread(self.watch, _names(inputs), _names(lists), spec=replace(self.spec, **changed))
            return []
        async with self._planning:
            spec = replace(self.spec, **changed)
            plan = await asyncio.to_thread(self._planner.inputs, spec, _names(inputs), lists=_names(lists))
            self._check_memory(plan.requests)
            self.spec = replace(self.spec, model=plan.spec.model, enhance=plan.spec.enhance)
            self._planned += [task for task in plan.tasks if task.id not in self._planner.added]
            self._planner.take(plan)
        for warning in plan.warnings:
            logger.warning("%s", warning)
        self._changed.set()
        ids = {task.file_id: task.id for task in plan.wanted}
        return [ids[entry.file_id] for entry in plan.recordings]

    async def add_task(
        self,
        task_type: TaskType,
        data: Mapping[str, Any],
        priority: int = 0,
        depends_on: Sequence[str] = (),
    ) -> str:
        """Add a task. On a full queue this waits while the batch runs.

        Args:
            task_type: The kind.
            data: transcribe and preprocess `file_path`; enhance `transcript_path`; youtube and download `url`.
            priority: Lower runs first: 0 highest, 1-5 high, 6-10 normal, 11 and above low.
            depends_on: Ids of tasks that must succeed first.

        Returns:
            The task's id: the same for the same call in the next run over the same output folder.

        Raises:
            UsageError: `data` lacks its key, the priority makes no sense, or a dependency is unknown.
            QueueFull: The batch hasn't started and `queue_size` tasks are waiting.
        """
        task_type = TaskType(task_type)
        priority = option("priority").checked(priority)
        while True:
            async with self._planning:
                self._planner.check(task_type, data, tuple(depends_on))
                if task_type is TaskType.TRANSCRIBE:
                    self.spec = with_text_model(with_model(self.spec))
                if task_type is TaskType.ENHANCE:
                    self.spec = with_text_model(self.spec, wanted=True)
                call = self._planner.call(self.spec, task_type, data, priority, tuple(depends_on))
                self._check_memory([task.resources for task in call.steps])
                if len(self._waiting) < self.spec.limits.queue_size:
                    # Nothing is waited for since it was planned: only what is taken uses up a name.
                    self._planner.take_call(call)
                    self._waiting += call.steps
                    self._changed.set()
                    return call.id
            await self._expect_room()

    async def _expect_room(self) -> None:
        """Wait until the queue isn't full any more.

        Raises:
            QueueFull: The batch isn't running.
        """
        if not self._running:
            await asyncio.sleep(0)  # a start() that was scheduled just now gets its turn
        room = self.spec.limits.queue_size
        while len(self._waiting) >= room:
            if not self._running:
                raise QueueFull(
                    f"{len(self._waiting)} tasks are waiting and the queue holds {room}: "
                    "start the batch first and add while it runs, or give a larger queue_size"
                )
            self._changed.clear()
            await self._changed.wait()

    def feed(self, tasks: Iterable[BatchTask], *, requests: Iterable[ResourceRequest] = ()) -> None:
        """Give tasks that are planned already, and no others; they are taken as the queue drains.

        Args:
            tasks: The tasks, those that run first first.
            requests: What attempts at any of them ask of a node, where the first ones don't say it all.
        """
        self._check_memory(requests)
        self._planned += tasks
        self._fed = True

    def watch(
        self,
        inputs: Sequence[str],
        lists: Sequence[str] = (),
        *,
        spec: BatchSpec | None = None,
        read_stdin: Callable[[], bytes] = read_stdin,
    ) -> Watcher:
        """Watch inputs from now on: what is whole joins the batch as long as it runs.

        Args:
            inputs: As of `add`.
            lists: As of `add`.
            spec: What holds for them; None takes the batch's.
            read_stdin: Gives standard input, where `-` is among them.

        Raises:
            UsageError: An input that makes no sense, or the batch watches none.
            SetupError: As of `add`.
        """
        if self._watch is None:
            raise UsageError("this batch watches nothing: give watch=True")
        if self.spec.task == TaskType.TRANSCRIBE.value:
            self.spec = with_model(self.spec)
        spec = replace(spec or self.spec, model=self.spec.model)
        watcher = Watcher(self._watch, spec, tuple(inputs), tuple(lists), read_stdin)
        watcher.check()
        self._watchers.append(watcher)
        return watcher

    @property
    def watched(self) -> tuple[str, ...]:
        """Ids of the inputs that have joined a batch that watches, in the order in which they did."""
        return tuple(self._watched)

    async def _take_watched(self, watcher: Watcher, found: Scan) -> None:
        """What is new at what is watched joins the batch."""
        async with self._planning:
            plan = await asyncio.to_thread(
                self._planner.inputs, watcher.spec, watcher.inputs, lists=watcher.lists, found=found
            )
            self._check_memory(plan.requests)
            # A file that was added before has changed since, or may have; a list that is read again is mostly the same.
            added = self._planner.added
            self._planned += [task for task in plan.tasks if task.data.get("file_path") or task.id not in added]
            self._planner.take(plan)
        self._watched |= dict.fromkeys(task.file_id for task in plan.tasks)
        self._changed.set()

    def take(self, plan: Plan) -> None:
        """Give a plan for this output folder, and nothing else; its tasks are taken as the queue drains."""
        self.feed(plan.tasks, requests=plan.requests)
        self._planner.take(plan)

    async def start(self, progress_callback: ProgressCallback | None = None) -> BatchResult:
        """Run the batch to its end.

        Args:
            progress_callback: Called with a BatchProgress every `progress_interval` seconds and once at the
                end; may be a coroutine function.

        Returns:
            The result; zeros where there are no tasks.

        Raises:
            UsageError: The batch is running already.
            SetupError: Ray or the model isn't to be had.
            BusyError: Another batch runs in the output folder.
        """
        if self._running:
            raise UsageError("this batch is running already: wait for its end before you start it again")
        if not self._waiting and not self._planned and not self._fed and not self._watchers:
            return BatchResult(output_dir=self.spec.output_dir)
        self._running = True
        self._began_at, self._calm = time.monotonic(), self._watch is None
        try:
            return await self._run_batch(progress_callback)
        finally:
            self._running = False
            self._fed = False
            self._planner.begin_run()
            self._commands.clear()
            self._changed.set()

    def pause(self) -> Awaitable[None]:
        """Let nothing start any more; what runs is completed. Acts at once; may be awaited."""
        return self._command("pause")

    def resume(self) -> Awaitable[None]:
        """Let tasks start again. Acts at once; may be awaited."""
        return self._command("resume")

    def stop(self) -> Awaitable[None]:
        """Cancel what runs and what waits; `start` then returns. Acts at once; may be awaited."""
        return self._command("stop")

    def interrupt(self) -> Awaitable[None]:
        """Stop as a signal does: nothing starts any more, and what runs has a while to end. A pause outlasts it."""
        return self._command("interrupt")

    @property
    def at_work(self) -> bool:
        """Whether it is past its start: a coordinator has its tasks, or is about to get them."""
        return self._driver is not None

    def get_progress(self) -> BatchProgress:
        """How the batch stands."""
        if self._driver is not None:
            self._last = self._driver.snapshot()
        elif not self._running and (self._waiting or self._planned):
            count = len({task.file_id for task in [*self._waiting, *self._planned]})
            return BatchProgress(total_tasks=count, queued_tasks=count)
        return self._last

    def _check_memory(self, requests: Iterable[ResourceRequest]) -> None:
        """A request above the limit would never be admitted but alone, and then break the limit."""
        limit_mb = self.spec.limits.memory_limit_mb
        wanted_mb = max((request.memory_mb for request in requests), default=0)
        if wanted_mb > limit_mb:
            raise SetupError(
                f"the model {self.spec.model} needs {wanted_mb} MB for a task, the memory limit is {limit_mb} MB: "
                f"give --memory-limit {wanted_mb} (memory_limit_mb) or a smaller model"
            )

    # Running

    def _command(self, name: str) -> Awaitable[None]:
        if self._driver is not None:
            self._driver.command(name)
        else:
            self._commands.append(name)
        return _Acknowledged()

    async def _run_batch(self, progress_callback: ProgressCallback | None) -> BatchResult:
        # What a killed driver left behind may hold the output folder for a while.
        await asyncio.to_thread(reap_orphans)
        listener = _Listener(progress_callback)
        with _starting(self.spec) as started:
            if self.on_held is not None:
                self.on_held()
            given = [*self._waiting, *self._planned]
            settled = None if self._watchers else await asyncio.to_thread(self._settled, given)
            if settled is not None and len(given) == len(self._waiting) + len(self._planned):
                self._waiting.clear()
                self._planned.clear()
                await listener.tell(self._last)
                return settled
            return await self._run_on_ray(listener, started)

    async def _run_on_ray(self, listener: _Listener, started: Callable[[], None]) -> BatchResult:
        from trax_ray.cluster.driver import Driver

        # Workers log as this process does: what is asked for here is shown from there too.
        level = logging.getLevelName(logging.getLogger("trax_ray").getEffectiveLevel())
        self.spec = replace(self.spec, log_level=level)
        given = [*self._waiting, *self._planned]
        here = not (self._address or os.environ.get("RAY_ADDRESS"))
        known, predicted = await asyncio.to_thread(self._foreseen, given, here)
        driver = Driver(
            self.spec,
            address=self._address,
            lean=self._lean,
            keys=find_keys(),
            expected=Expected.of(given),
            machine=this_machine(),
            earlier=known.earlier,
        )
        try:
            requests = {task.resources for task in given}
            connection = await _to_its_end(driver.connect, requests)
            _keep_signals()
            self.dashboard_url = connection.dashboard_url
            self._gpus = await asyncio.to_thread(driver.gpus)
            await _to_its_end(driver.check_nodes, given)
            await _to_its_end(driver.open)
            started()
            if self.spec.model:
                pin_model(self.spec.output_dir, self.spec.model)
            self._driver = driver
            while self._commands:
                driver.command(self._commands.popleft())
            result = await self._to_the_end(driver, listener)
            took_s = time.monotonic() - self._began_at
            result = replace(result, took_s=took_s, predicted=predicted)
            if result.reason == "complete":
                await asyncio.to_thread(self._learn, driver, took_s)
            if self.on_result is not None:
                self.on_result(result)
            return result
        finally:
            self._driver = None
            await _to_its_end(driver.close)

    def _foreseen(self, given: Sequence[BatchTask], here: bool) -> tuple[Experience, Range | None]:
        """What is known of how long things take, and how long these tasks will."""
        predicted, self.predicted = self.predicted, None
        if predicted is None:
            given = [task for task in given if not self._planner.past.has_ended(task)]
            predicted = forecast.finish(given, self.spec, here=here)
        return forecast.experience_of(here=here), predicted

    def _learn(self, driver: Driver, took_s: float) -> None:
        """Keep what the run took, for the predictions of others."""
        forecast.learn(driver.seen(), took_s, calm=self._calm)

    def _settled(self, given: Sequence[BatchTask]) -> BatchResult | None:
        """The result, where all that was given had ended in earlier runs; then there is nothing to start Ray for.

        Args:
            given: The tasks; more may come meanwhile.

        Raises:
            JournalError: The journal there is damaged.
        """
        layout = Layout(Path(self.spec.output_dir))
        if not layout.journal.exists():
            return None
        state = self._planner.past.take_state(layout)
        if any(request.command == "retry-failed" for request in waiting(layout.inbox)):
            return None
        state.handle(CoordinatorStarted(state.epoch, self.spec.to_dict(), run=uuid.uuid4().hex), state.now)
        events = additions(state.ledger, given, missing_results(layout, state.records, given))
        if not all(isinstance(event, Known) and not event.tasks for event in events):
            return None
        for event in [*events, InputsClosed()]:
            state.handle(event, state.now)
        self._last = fold(state, state.now, {})
        if not _report_is_newest(layout):
            from trax_ray.report.write import write_report

            write_report(self.spec.output_dir, final=True)
        return result_of(state, self._last, self.spec.output_dir)

    async def _to_the_end(self, driver: Driver, listener: _Listener) -> BatchResult:
        feeding = asyncio.create_task(self._feed_driver(driver))
        ending = asyncio.create_task(_until_ended(driver))
        self._open = bool(self._watchers)
        looking = asyncio.create_task(keep_looking(self._watchers, self._take_watched)) if self._open else None
        try:
            while True:
                done, _ = await asyncio.wait(
                    {feeding, ending}, timeout=self.spec.progress_interval_s, return_when=asyncio.FIRST_COMPLETED
                )
                if feeding in done and ending not in done:
                    # Feeding only ever ends by an error. What was fed before is kept for the next run.
                    driver.command("stop")
                    await ending
                    await feeding
                self._last = await asyncio.to_thread(driver.snapshot)
                self._calm = self._calm and self._last.phase in (Phase.RUNNING, Phase.COMPLETE)
                await listener.tell(self._last)
                if ending in done:
                    return await ending
                if looking is not None and self._waits_for_a_person(self._last):
                    looking.cancel()
                    self._open = False
                    self._changed.set()
                elif looking is not None and looking.done() and self._open:
                    driver.command("stop")
                    await ending
                    await looking
        finally:
            running: list[asyncio.Task[Any]] = [task for task in (feeding, ending, looking) if task is not None]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _waits_for_a_person(self, progress: BatchProgress) -> bool:
        """Whether a batch that watches is to end: nothing that may come could be done before somebody acts."""
        if progress.active_workers or not progress.parked:
            return False
        needed = {EVERYTHING}
        if self.spec.model:
            needed.add(provider_of(self.spec.model, base_url=self.spec.base_url).name)
        return bool(needed & set(progress.parked))

    async def _feed_driver(self, driver: Driver) -> None:
        """Bring tasks to the coordinator as its queue has room; close the batch when no more are known."""
        room = await asyncio.to_thread(driver.add, [])
        closed = False
        while True:
            pack = self._take(min(room, PACK))
            if pack:
                self._changed.set()
                room = await asyncio.to_thread(driver.add, pack)
                continue
            if room <= 0:
                await asyncio.sleep(FEED_PERIOD_S)
                room = await asyncio.to_thread(driver.add, [])
            elif not await self._more_tasks(self._patience_s(closed=closed)) and not (closed or self._open):
                closed = True
                driver.command("close")

    def _patience_s(self, *, closed: bool) -> float | None:
        """How long it is waited for another task until no more are expected, seconds; None for ever."""
        if closed or self._open:
            return None
        return 0.0 if self._fed else LAST_TASK_S

    async def _more_tasks(self, timeout_s: float | None) -> bool:
        """Wait for a task that isn't brought to the coordinator yet; False where none comes in time."""
        self._changed.clear()
        if self._waiting or self._planned:
            return True
        try:
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        except asyncio.TimeoutError:
            async with self._planning:  # who plans just now, over a large folder maybe, is about to add something
                pass
        return bool(self._waiting or self._planned)

    def _take(self, count: int) -> list[BatchTask]:
        # Inputs first: calls may depend on them, and they never depend on calls.
        taken = [self._planned.popleft() for _ in range(min(count, len(self._planned)))]
        taken += [self._waiting.popleft() for _ in range(min(count - len(taken), len(self._waiting)))]
        return [self._with_gpu(task) for task in taken] if self._gpus else taken

    def _with_gpu(self, task: BatchTask) -> BatchTask:
        """A task whose model can use a GPU asks for one; whether there is any is known once we are connected."""
        model = task.data.get("model") or self.spec.model
        if task.task_type is not TaskType.TRANSCRIBE or not model:
            return task
        provider = provider_of(model, base_url=self.spec.base_url)
        return replace(task, resources=provider.resources(model, gpus=self._gpus)) if provider.gpu else task


@contextmanager
def _starting(spec: BatchSpec) -> Iterator[Callable[[], None]]:
    """Show who holds the output folder until the coordinator does; what it gives is called then.

    Raises:
        BusyError: Another driver is starting there, or another batch runs there.
    """
    layout = Layout(Path(spec.output_dir))
    lease = Lease(layout.starting)
    try:
        lease.acquire(f"batch {spec.name}, which is starting")
    except FileError as error:
        if error.code != FailureCode.NO_LOCKS:  # there the coordinator's heartbeat has to do
            raise
    try:
        # Coordinators begin while their driver holds the one, so from here on nobody else's does.
        expect_nobody(layout.lock)
        yield lease.release
    finally:
        lease.release()


def _keep_signals() -> None:
    """Take back the handlers that Python knows of, because connecting to Ray puts others below them."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        handler = signal.getsignal(number)
        if callable(handler):
            signal.signal(number, handler)


def _report_is_newest(layout: Layout) -> bool:
    """Whether the report was written after the journal's last word; a batch may die between the two."""
    try:
        written_ns = layout.run_json.stat().st_mtime_ns
    except OSError:
        return False
    return all(segment.stat().st_mtime_ns <= written_ns for segment in layout.journal.glob("*.jsonl"))


async def _to_its_end(function: Callable[..., T], *arguments: Any) -> T:
    """Call something that blocks, in a thread; whoever is cancelled meanwhile waits for it all the same.

    Half a connection to Ray can't be closed.
    """
    call = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait([call])
        raise


async def _until_ended(driver: Driver) -> BatchResult:
    while True:
        result = await asyncio.to_thread(driver.wait, 1.0)
        if result is not None:
            return result


class _Listener:
    """Whoever is told of the progress. What fails there is said once, with its story, and the batch goes on."""

    def __init__(self, callback: ProgressCallback | None) -> None:
        self._callback = callback
        self._failed = False

    async def tell(self, progress: BatchProgress) -> None:
        if self._callback is None:
            return
        try:
            answer = self._callback(progress)
            if inspect.isawaitable(answer):
                await answer
        except Exception:  # it is somebody else's program, and may raise anything
            if not self._failed:
                logger.exception("the progress callback failed; the batch goes on, and further failures aren't shown")
            self._failed = True


def _names(given: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[str]:
    several = [given] if isinstance(given, str | os.PathLike) else given
    return [os.fsdecode(each) for each in several]
