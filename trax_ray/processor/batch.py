"""`BatchProcessor`: what is added to a batch, and what is asked of it while it runs."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trax_ray.core.policy.prediction import Experience, Range
from trax_ray.core.progress import BatchProgress
from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import BatchTask, ResourceRequest, TaskType
from trax_ray.errors import SetupError, UsageError
from trax_ray.experience import forecast
from trax_ray.heads.notes import reap_orphans
from trax_ray.plan.enhancing import with_text_model
from trax_ray.plan.inputs import Scan, read_stdin
from trax_ray.plan.options import option
from trax_ray.plan.plan import Plan
from trax_ray.plan.planner import Planner, with_model
from trax_ray.processor.folder import settled, starting
from trax_ray.processor.intake import Intake
from trax_ray.processor.run import Listener, ProgressCallback, Run
from trax_ray.report.result import BatchResult
from trax_ray.watching import Watch, Watcher

if TYPE_CHECKING:
    from trax_ray.cluster.driver import Driver

__all__ = ["BatchProcessor"]

logger = logging.getLogger(__name__)


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
        self.on_result: Callable[[BatchResult], None] | None = None
        self.on_held: Callable[[], None] | None = None
        self.predicted: Range | None = None
        self._address = address
        self._lean = lean
        self._intake = Intake(spec.limits.queue_size)
        self._fed = False
        self._watch = watch
        self._watchers: list[Watcher] = []
        self._watched: dict[str, None] = {}
        self._planner = Planner(spec.output_dir)
        self._planning = asyncio.Lock()
        self._run: Run | None = None
        self._commands: deque[str] = deque()
        self._last = BatchProgress()

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
            self._intake.put_inputs(task for task in plan.tasks if task.id not in self._planner.added)
            self._planner.take(plan)
        for warning in plan.warnings:
            logger.warning("%s", warning)
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
                if not self._intake.full:
                    # Nothing is waited for since it was planned: only what is taken uses up a name.
                    self._planner.take_call(call)
                    self._intake.put_call(call.steps)
                    return call.id
            await self._intake.room()

    def feed(self, tasks: Iterable[BatchTask], *, requests: Iterable[ResourceRequest] = ()) -> None:
        """Give tasks that are planned already, and no others; they are taken as the queue drains.

        Args:
            tasks: The tasks, those that run first first.
            requests: What attempts at any of them ask of a node, where the first ones don't say it all.
        """
        self._check_memory(requests)
        self._intake.put_inputs(tasks)
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
            self._intake.put_inputs(task for task in plan.tasks if task.data.get("file_path") or task.id not in added)
            self._planner.take(plan)
        self._watched |= dict.fromkeys(task.file_id for task in plan.tasks)

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
        if self._intake.running:
            raise UsageError("this batch is running already: wait for its end before you start it again")
        if not len(self._intake) and not self._fed and not self._watchers:
            return BatchResult(output_dir=self.spec.output_dir)
        self._intake.running = True
        began_at = time.monotonic()
        try:
            return await self._run_batch(Listener(progress_callback), began_at)
        finally:
            self._intake.running = False
            self._fed = False
            self._planner.begin_run()
            self._commands.clear()
            self._intake.wake()

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

    @property
    def dashboard_url(self) -> str:
        """Ray's dashboard in this run, or the last one; empty before the connection, and without one."""
        return self._run.dashboard_url if self._run is not None else ""

    def get_progress(self) -> BatchProgress:
        """How the batch stands."""
        if self._driver is not None:
            self._last = self._driver.snapshot()
        elif not self._intake.running and len(self._intake):
            count = len({task.file_id for task in self._intake.tasks()})
            return BatchProgress(total_tasks=count, queued_tasks=count)
        return self._last

    @property
    def _driver(self) -> Driver | None:
        return self._run.driver if self._run is not None else None

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

    async def _run_batch(self, listener: Listener, began_at: float) -> BatchResult:
        # What a killed driver left behind may hold the output folder for a while.
        await asyncio.to_thread(reap_orphans)
        with starting(self.spec) as started:
            if self.on_held is not None:
                self.on_held()
            given = self._intake.tasks()
            found = await asyncio.to_thread(settled, self.spec, self._planner, given) if not self._watchers else None
            if found is not None and len(given) == len(self._intake):
                self._intake.clear()
                self._last, result = found
                await listener.tell(self._last)
                return result
            return await self._run_on_ray(listener, began_at, started)

    async def _run_on_ray(self, listener: Listener, began_at: float, started: Callable[[], None]) -> BatchResult:
        # Workers log as this process does: what is asked for here is shown from there too.
        level = logging.getLevelName(logging.getLogger("trax_ray").getEffectiveLevel())
        self.spec = replace(self.spec, log_level=level)
        known, predicted = await asyncio.to_thread(self._foreseen)
        self._run = run = Run(
            lambda: self.spec,
            self._intake,
            self._planning,
            watchers=self._watchers,
            take_watched=self._take_watched,
            fed=self._fed,
            began_at=began_at,
        )
        try:
            return await run.to_its_end(
                listener,
                self._commands,
                known,
                predicted,
                address=self._address,
                lean=self._lean,
                started=started,
                on_result=self.on_result,
            )
        finally:
            self._last = run.progress

    def _foreseen(self) -> tuple[Experience, Range | None]:
        """What is known of how long things take, and how long the tasks that wait will."""
        here = not (self._address or os.environ.get("RAY_ADDRESS"))
        predicted, self.predicted = self.predicted, None
        if predicted is None:
            given = [task for task in self._intake.tasks() if not self._planner.past.has_ended(task)]
            predicted = forecast.finish(given, self.spec, here=here)
        return forecast.experience_of(here=here), predicted


def _names(given: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[str]:
    several = [given] if isinstance(given, str | os.PathLike) else given
    return [os.fsdecode(each) for each in several]
