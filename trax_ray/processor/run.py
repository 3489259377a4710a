"""One run on Ray: it connects, feeds the coordinator, tells how the batch stands, and leaves."""

from __future__ import annotations

import asyncio
import inspect
import logging
import signal
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from trax_ray.core.policy.prediction import Experience, Range
from trax_ray.core.progress import BatchProgress, Phase
from trax_ray.core.spec import BatchSpec
from trax_ray.core.standing import Expected
from trax_ray.core.state.waiting import EVERYTHING
from trax_ray.core.task import BatchTask, TaskType
from trax_ray.experience import forecast
from trax_ray.experience.kept import this_machine
from trax_ray.plan.models import find_keys, pin_model
from trax_ray.processor.folder import expect_usable
from trax_ray.processor.intake import Intake
from trax_ray.providers.registry import provider_of
from trax_ray.report.result import BatchResult
from trax_ray.watching import Take, Watcher, keep_looking

if TYPE_CHECKING:
    from trax_ray.cluster.driver import Driver

__all__ = ["Listener", "ProgressCallback", "Run"]

logger = logging.getLogger(__name__)

T = TypeVar("T")
ProgressCallback = Callable[[BatchProgress], Any]

PACK = 200
"""Tasks that travel to the coordinator in one call."""

FEED_PERIOD_S = 0.2
"""How often a full queue is asked for room."""

LAST_TASK_S = 0.5
"""A batch whose tasks have all ended goes on for so long after an `add_task`: another one may follow."""


class Run:
    """One run of a batch, from the connection to Ray to its end.

    Args:
        spec: Gives the batch's spec; the first recording that needs a model or a key may complete it meanwhile.
        intake: Where tasks come from.
        planning: Held by who plans tasks just now.
        watchers: What is watched; the batch stays open as long as they are looked at.
        take_watched: Takes what they find.
        fed: Whether no task comes but those that wait, and those that are watched.
        began_at: When the user started it, seconds of the monotonic clock.

    Attributes:
        progress: How it stood at the last look.
        dashboard_url: Ray's dashboard; empty before the connection, and without one.
    """

    def __init__(
        self,
        spec: Callable[[], BatchSpec],
        intake: Intake,
        planning: asyncio.Lock,
        *,
        watchers: Sequence[Watcher],
        take_watched: Take,
        fed: bool,
        began_at: float,
    ) -> None:
        self.progress = BatchProgress()
        self.dashboard_url = ""
        self._spec = spec
        self._intake = intake
        self._planning = planning
        self._watchers = watchers
        self._take_watched = take_watched
        self._fed = fed
        self._began_at = began_at
        self._open = False
        # What runs while somebody still puts files there says nothing of how long such a batch takes.
        self._calm = not watchers
        self._gpus = 0.0
        self._driver: Driver | None = None

    @property
    def driver(self) -> Driver | None:
        """What has the coordinator; None before the start is over, and after the end."""
        return self._driver

    async def to_its_end(
        self,
        listener: Listener,
        commands: deque[str],
        known: Experience,
        predicted: Range | None,
        *,
        address: str | None,
        lean: bool,
        started: Callable[[], None],
        on_result: Callable[[BatchResult], None] | None,
    ) -> BatchResult:
        """Connect, run and leave.

        Args:
            listener: Is told of the progress.
            commands: What was asked for before the start.
            known: What earlier attempts took.
            predicted: How long this is expected to take.
            address: `host:port` of a Ray cluster; None finds or starts one.
            lean: Start a local head without the dashboard.
            started: Called once the coordinator has the output folder.
            on_result: Called with the result before Ray is left.

        Raises:
            SetupError: Ray isn't to be had, or what tasks need.
            BusyError: Another batch runs in the output folder.
        """
        from trax_ray.cluster.driver import Driver

        given = self._intake.tasks()
        spec = self._spec()
        await asyncio.to_thread(expect_usable, spec)
        driver = Driver(
            spec,
            address=address,
            lean=lean,
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
            if spec.model:
                pin_model(spec.output_dir, spec.model)
            self._driver = driver
            while commands:
                driver.command(commands.popleft())
            result = await self._follow(driver, listener)
            took_s = time.monotonic() - self._began_at
            result = replace(result, took_s=took_s, predicted=predicted)
            if result.reason == "complete":
                await asyncio.to_thread(self._learn, driver, took_s)
            if on_result is not None:
                on_result(result)
            return result
        finally:
            self._driver = None
            await _to_its_end(driver.close)

    def _learn(self, driver: Driver, took_s: float) -> None:
        """Keep what the run took, for the predictions of others."""
        forecast.learn(driver.seen(), took_s, calm=self._calm)

    async def _follow(self, driver: Driver, listener: Listener) -> BatchResult:
        feeding = asyncio.create_task(self._feed(driver))
        ending = asyncio.create_task(_until_ended(driver))
        self._open = bool(self._watchers)
        looking = asyncio.create_task(keep_looking(self._watchers, self._take_watched)) if self._open else None
        try:
            while True:
                done, _ = await asyncio.wait(
                    {feeding, ending}, timeout=self._spec().progress_interval_s, return_when=asyncio.FIRST_COMPLETED
                )
                if feeding in done and ending not in done:
                    # Feeding only ever ends by an error. What was fed before is kept for the next run.
                    driver.command("stop")
                    await ending
                    await feeding
                self.progress = await asyncio.to_thread(driver.snapshot)
                self._calm = self._calm and self.progress.phase in (Phase.RUNNING, Phase.COMPLETE)
                await listener.tell(self.progress)
                if ending in done:
                    return await ending
                if looking is not None and self._waits_for_a_person(self.progress):
                    looking.cancel()
                    self._open = False
                    self._intake.wake()
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
        spec = self._spec()
        needed = {EVERYTHING}
        if spec.model:
            needed.add(provider_of(spec.model, base_url=spec.base_url).name)
        return bool(needed & set(progress.parked))

    async def _feed(self, driver: Driver) -> None:
        """Bring tasks to the coordinator as its queue has room; close the batch when no more are known."""
        room = await asyncio.to_thread(driver.add, [])
        closed = False
        while True:
            pack = [self._with_gpu(task) for task in self._intake.take(min(room, PACK))]
            if pack:
                room = await asyncio.to_thread(driver.add, pack)
                continue
            if room <= 0:
                await asyncio.sleep(FEED_PERIOD_S)
                room = await asyncio.to_thread(driver.add, [])
            elif not await self._intake.more(self._patience_s(closed=closed), self._planning) and not (
                closed or self._open
            ):
                closed = True
                driver.command("close")

    def _patience_s(self, *, closed: bool) -> float | None:
        """How long it is waited for another task until no more are expected, seconds; None for ever."""
        if closed or self._open:
            return None
        return 0.0 if self._fed else LAST_TASK_S

    def _with_gpu(self, task: BatchTask) -> BatchTask:
        """A task whose model can use a GPU asks for one; whether there is any is known once we are connected."""
        spec = self._spec()
        model = task.data.get("model") or spec.model
        if not self._gpus or task.task_type is not TaskType.TRANSCRIBE or not model:
            return task
        provider = provider_of(model, base_url=spec.base_url)
        return replace(task, resources=provider.resources(model, gpus=self._gpus)) if provider.gpu else task


class Listener:
    """Whoever is told of the progress. What fails there is said once, with its story, and the batch goes on."""

    def __init__(self, callback: ProgressCallback | None) -> None:
        self._callback = callback
        self._failed = False

    async def tell(self, progress: BatchProgress) -> None:
        """Call it, and wait for it where it is a coroutine."""
        if self._callback is None:
            return
        try:
            answer: Awaitable[None] | Any = self._callback(progress)
            if inspect.isawaitable(answer):
                await answer
        except Exception:  # it is somebody else's program, and may raise anything
            if not self._failed:
                logger.exception("the progress callback failed; the batch goes on, and further failures aren't shown")
            self._failed = True


def _keep_signals() -> None:
    """Take back the handlers that Python knows of, because connecting to Ray puts others below them."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        handler = signal.getsignal(number)
        if callable(handler):
            signal.signal(number, handler)


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
