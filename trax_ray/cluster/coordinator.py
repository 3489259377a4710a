"""The coordinator: an actor, one per batch, that owns the queue, the retry state and the journal.

One thread does all the work: it drains the inbox, folds outcomes into the machine, commits the journal, runs
the machine's commands and waits briefly for more. The actor's other methods only put messages into the inbox or
read the last snapshot, which is replaced and never changed.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import queue
import random
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trax_ray.cluster import failures, remote
from trax_ray.cluster.sampling import Measurement, Sampler, WorkerReport
from trax_ray.core.additions import additions
from trax_ray.core.admission import admit
from trax_ray.core.events import (
    AttemptEnded,
    Cancel,
    Command,
    CoordinatorStarted,
    Dispatch,
    Event,
    Expanded,
    Finish,
    InputsClosed,
    Paused,
    Resumed,
    Revived,
    Started,
    Stopped,
    TasksAdded,
    decode_event,
    decode_task,
    encode_event,
)
from trax_ray.core.machine import BatchState
from trax_ray.core.progress import BatchProgress, BatchResult, failures_of, fold
from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import BatchTask, Outcome, TaskState
from trax_ray.errors import TraxRayError
from trax_ray.store.artifacts import ArtifactStore
from trax_ray.store.epochs import OpenedJournal, open_journal
from trax_ray.store.files import write_atomically
from trax_ray.store.layout import Layout
from trax_ray.store.lease import Lease

__all__ = ["Coordinator", "Opened", "create"]

logger = logging.getLogger(__name__)

WAIT_S = 0.05
IDLE_WAIT_S = 0.5
SAMPLE_PERIOD_S = 1.0
NODES_PERIOD_S = 5.0
LOOK_AHEAD = 64
"""Ready tasks that admission looks at in one turn."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What `open` found: the epoch it took and how many tasks the journal knew."""

    epoch: int
    known_tasks: int
    ended_tasks: int


@dataclass(slots=True)
class _Running:
    """An attempt that Ray works on."""

    dispatch: Dispatch
    handle: Any
    heard_at: float
    fraction: float = 0.0
    worker: WorkerReport | None = None
    stalled: bool = False


@dataclass(frozen=True, slots=True)
class _Addition:
    """Tasks on their way in; the answer is how many more there is room for, or why they were refused."""

    tasks: list[BatchTask]
    answer: queue.SimpleQueue[int | TraxRayError] = field(default_factory=queue.SimpleQueue)


_COMMANDS: dict[str, Callable[[], Event]] = {
    "pause": Paused,
    "resume": Resumed,
    "stop": Stopped,
    "close": InputsClosed,
}


class Coordinator:
    """The body of the actor. Nothing happens in the constructor: `open` may fail, and says how."""

    def __init__(self) -> None:
        self._inbox: queue.SimpleQueue[str | _Addition] = queue.SimpleQueue()
        self._state = BatchState()
        self._running: dict[tuple[str, int], _Running] = {}
        self._snapshot = BatchProgress()
        self._result: BatchResult | None = None
        self._report: Any = None
        self._report_error = ""

    # What the driver calls, from other threads than the loop's

    def open(self, spec: dict[str, Any], run: str, driver_pid: int) -> Opened | TraxRayError:
        """Take the output folder: its lock, the next epoch, and what the journal says has happened.

        Args:
            spec: The batch, as `BatchSpec.to_dict` writes it.
            run: Names the driver's run; a coordinator that replaces a dead one continues it.
            driver_pid: The driver's process, on this node.

        Returns:
            What was found, or why the folder can't be had (an error is returned, not raised, so that it
            arrives as itself).
        """
        try:
            self._open(spec, run, driver_pid)
        except TraxRayError as error:
            return error
        records = self._state.records.values()
        return Opened(self._state.epoch, len(records), sum(record.state.terminal for record in records))

    def add(self, tasks: list[dict[str, Any]]) -> int | TraxRayError:
        """Add tasks, new or known; known ones are done again only where they changed.

        Returns:
            For how many more tasks the queue has room, or why these were refused.
        """
        addition = _Addition([decode_task(task) for task in tasks])
        self._inbox.put(addition)
        return addition.answer.get()

    def command(self, name: str) -> None:
        """`pause`, `resume`, `stop`, or `close` (no more inputs will come)."""
        if name not in _COMMANDS:
            raise ValueError(f"expected one of {', '.join(_COMMANDS)}, got {name}")
        self._inbox.put(name)

    def snapshot(self) -> BatchProgress:
        """How the batch stood at the end of the last turn."""
        return self._snapshot

    def run(self) -> BatchResult | TraxRayError:
        """Work until the batch has ended.

        Returns:
            The result, or the error that ended the coordinator: another one took over, the disk is full.
        """
        try:
            while self._result is None:
                self._turn()
            return self._result
        except TraxRayError as error:
            for running in self._running.values():
                self._cancel(running)
            return error
        finally:
            self._journal.close()
            self._lease.release()

    # The loop

    def _open(self, spec: dict[str, Any], run: str, driver_pid: int) -> None:
        self._spec = BatchSpec.from_dict(spec)
        self._spec_data = spec
        remote.configure_logging(self._spec.log_level)
        self._layout = Layout(Path(self._spec.output_dir))
        self._lease = Lease(self._layout.lock)
        holder = f"batch {self._spec.name}"
        self._lease.acquire(holder)
        self._journal: OpenedJournal = open_journal(self._layout.journal, holder, time.time())
        for record in self._journal.records:
            self._state.handle(*decode_event(record))
        # The wall clock may have been set back since: the batch's own time never is.
        self._clock_origin = max(time.time(), self._state.now) - time.monotonic()
        node_id = ray.get_runtime_context().get_node_id()
        self._sampler = Sampler(node_id, [driver_pid, os.getpid()])
        self._nodes: dict[str, dict[str, float]] = {}
        self._nodes_at = self._sampled_at = self._reported_at = self._status_at = -1e9
        self._memory_peak_mb = self._cpu_peak_percent = 0.0
        self._random = random.Random()
        self._look_at_nodes()
        largest = max((node.get("memory", 0.0) for node in self._nodes.values()), default=0.0)
        self._measure()
        self._commit([CoordinatorStarted(self._journal.epoch, spec, int(largest / 2**20), run)])
        self._reported_at = time.monotonic()
        self._publish()

    def _now(self) -> float:
        return self._clock_origin + time.monotonic()

    def _turn(self) -> None:
        """One round: what came in, what ended, what may start; then the journal, then the commands."""
        answers: list[tuple[_Addition, int | TraxRayError]] = []
        events = self._drain(answers)
        events += self._ended()
        if time.monotonic() - self._sampled_at >= SAMPLE_PERIOD_S:
            self._measure()
            self._end_stalled()
        self._commit(events)
        for addition, answer in answers:
            addition.answer.put(answer)
        self._publish()
        self._report_if_due()
        self._wait()

    def _commit(self, events: list[Event]) -> None:
        """Change the state, put the events into the journal in one group, then run the commands."""
        now = self._now()
        commands: list[Command] = []
        for event in events:
            commands += self._state.handle(event, now)
        started = self._startable(now)
        if started is not None:
            commands += self._state.handle(started, now)
            events = [*events, started]
        if events:
            self._journal.append([encode_event(event, now) for event in events])
        for command in commands:
            self._execute(command)

    def _drain(self, answers: list[tuple[_Addition, int | TraxRayError]]) -> list[Event]:
        """The messages in the inbox as events; `answers` takes what is to be said once they are committed."""
        events: list[Event] = []
        with suppress(queue.Empty):
            while True:
                message = self._inbox.get_nowait()
                if isinstance(message, str):
                    events.append(_COMMANDS[message]())
                    continue
                spoilt = self._spoilt(message.tasks)
                try:
                    given = additions(self._state.ledger, message.tasks, spoilt)
                except TraxRayError as error:
                    answers.append((message, error))
                    continue
                # One addition a turn: the next one may depend on what this one adds.
                events += given
                pending = sum(len(event.tasks) for event in given if isinstance(event, TasksAdded | Revived))
                answers.append((message, self._room(pending)))
                break
        return events

    def _room(self, pending: int = 0) -> int:
        return max(0, self._spec.limits.queue_size - self._state.ready_count - pending)

    def _spoilt(self, tasks: Iterable[BatchTask]) -> set[str]:
        """Ids of tasks that succeeded, but whose artifact or output files are gone."""
        artifacts = ArtifactStore(self._layout.artifacts)
        spoilt = set()
        for task in tasks:
            record = self._state.records.get(task.id)
            if record is None or record.state is not TaskState.SUCCEEDED:
                continue
            if "outputs" not in record.metrics:
                continue
            names = record.metrics["outputs"]
            there = all((self._layout.output_dir / name).exists() for name in names)
            if not there or not artifacts.has(record.artifact_key):
                spoilt.add(task.id)
        return spoilt

    def _startable(self, now: float) -> Started | None:
        """The attempts that limits and priorities let start now."""
        waiting = self._state.candidates(LOOK_AHEAD, now)
        if not waiting:
            return None
        count = admit(
            self._spec.limits,
            self._measured.sample,
            [running.dispatch.task.resources for running in self._running.values()],
            [task.resources for task in waiting],
        )
        if not count:
            return None
        return Started(tuple((task.id, self._state.next_attempt(task.id)) for task in waiting[:count]))

    def _execute(self, command: Command) -> None:
        if isinstance(command, Dispatch):
            logger.debug("attempt %d of %s starts", command.attempt, command.task.id)
            handle = remote.submit(command, self._spec_data)
            key = (command.task.id, command.attempt)
            self._running[key] = _Running(command, handle, heard_at=time.monotonic())
        elif isinstance(command, Cancel):
            running = self._running.pop((command.task_id, command.attempt), None)
            if running is not None:
                self._cancel(running)
        elif isinstance(command, Finish):
            logger.debug("the batch has ended: %s", command.reason)
            self._finish(command.reason)

    def _cancel(self, running: _Running) -> None:
        # By force, because a decoder or a model in C answers nothing softer. Results are committed whole or not.
        ray.cancel(running.handle, force=True)

    # Outcomes

    def _ended(self) -> list[Event]:
        """Outcomes that have arrived, as events."""
        if not self._running:
            return []
        by_handle = {id(running.handle): key for key, running in self._running.items()}
        handles = [running.handle for running in self._running.values()]
        ready, _ = ray.wait(handles, num_returns=len(handles), timeout=0, fetch_local=False)
        events: list[Event] = []
        for handle in ready:
            key = by_handle[id(handle)]
            outcome = self._read(self._running[key])
            if outcome is not None:
                events.append(self._end(self._running.pop(key), outcome))
        return events

    def _read(self, running: _Running) -> Outcome | None:
        """The next word of an attempt: its outcome, or None for a sign of life."""
        handle = running.handle
        try:
            packed = ray.get(next(handle) if isinstance(handle, ray.ObjectRefGenerator) else handle)
        except StopIteration:
            silent = RuntimeError("the attempt ended without an outcome")
            return Outcome(failure=failures.failure_of_ray(silent), ended_at=time.time())
        except ray.exceptions.RayError as error:
            stalled = failures.stalled(self._spec.stall_timeout_s)
            return Outcome(failure=stalled if running.stalled else failures.failure_of_ray(error), ended_at=time.time())
        outcome = remote.unpack(packed)
        if outcome is None:
            running.heard_at = time.monotonic()
            running.fraction = packed["fraction"]
            running.worker = WorkerReport(packed["node_id"], packed["pid"], packed["memory_mb"])
        return outcome

    def _end(self, running: _Running, outcome: Outcome) -> Event:
        dispatch = running.dispatch
        if outcome.children and outcome.failure is None:
            return Expanded(dispatch.task.id, dispatch.epoch, dispatch.attempt, outcome)
        jitter = self._random.random() if outcome.failure is not None else 0.0
        return AttemptEnded(dispatch.task.id, dispatch.epoch, dispatch.attempt, outcome, jitter)

    def _end_stalled(self) -> None:
        """End attempts that gave no sign of life for too long; their outcome follows."""
        for running in self._running.values():
            silent_s = time.monotonic() - running.heard_at
            if running.worker is not None and silent_s > self._spec.stall_timeout_s and not running.stalled:
                running.stalled = True
                self._cancel(running)

    # Looking around

    def _look_at_nodes(self) -> None:
        if time.monotonic() - self._nodes_at >= NODES_PERIOD_S:
            self._nodes_at = time.monotonic()
            self._nodes = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}

    def _measure(self) -> None:
        self._sampled_at = time.monotonic()
        self._look_at_nodes()
        reports = [running.worker for running in self._running.values() if running.worker is not None]
        self._measured: Measurement = self._sampler.measure(self._nodes, reports)
        self._memory_peak_mb = max(self._memory_peak_mb, self._measured.memory_mb)
        self._cpu_peak_percent = max(self._cpu_peak_percent, self._measured.cpu_percent)

    def _wait(self) -> None:
        """Until something may have happened, and not for long: the inbox is looked at on every turn."""
        if self._result is not None:
            return
        if not self._inbox.empty():
            return
        if self._running:
            handles = [running.handle for running in self._running.values()]
            ray.wait(handles, num_returns=1, timeout=WAIT_S, fetch_local=False)
            return
        due = self._state.next_due()
        wait_s = IDLE_WAIT_S if due is None else min(IDLE_WAIT_S, max(0.0, due - self._now()))
        with suppress(queue.Empty):
            self._inbox.put(self._inbox.get(timeout=max(wait_s, 0.001)))

    # What others see

    def _publish(self) -> None:
        self._snapshot = self._progress()
        now = time.monotonic()
        if now - self._status_at >= SAMPLE_PERIOD_S or self._state.finished:
            self._status_at = now
            self._write_status()

    def _progress(self) -> BatchProgress:
        fractions = {task_id: running.fraction for (task_id, _), running in self._running.items()}
        return replace(
            fold(self._state, self._now(), fractions),
            memory_usage_mb=self._measured.memory_mb,
            cpu_usage_percent=self._measured.cpu_percent,
            memory_peak_mb=self._memory_peak_mb,
            cpu_peak_percent=self._cpu_peak_percent,
        )

    def _write_status(self) -> None:
        progress = self._snapshot
        status = {
            "batch": self._spec.name,
            "phase": self._state.finished or ("paused" if progress.paused else "running"),
            "epoch": self._state.epoch,
            "pid": os.getpid(),
            "host": platform.node(),
            "updated_at": time.time(),
            "total": progress.total_tasks,
            "succeeded": progress.completed_tasks,
            "failed": progress.failed_tasks,
            "cancelled": progress.cancelled_tasks,
            "active": progress.active_workers,
            "memory_mb": round(progress.memory_usage_mb, 1),
            "cpu_percent": progress.cpu_usage_percent,
            "elapsed_s": round(progress.elapsed_s, 1),
            "estimated_remaining_s": progress.estimated_remaining_s,
            "parked": dict(progress.parked),
        }
        write_atomically(self._layout.status, json.dumps(status, indent=1).encode())

    def _report_if_due(self) -> None:
        """Rewrite the report's tables now and then, in a task of their own, one at a time."""
        if self._report is not None:
            ready, _ = ray.wait([self._report], timeout=0)
            if ready:
                self._take_report()
        elif time.monotonic() - self._reported_at >= self._spec.report_interval_s:
            self._report = remote.submit_report(self._spec.output_dir, final=False)

    def _take_report(self) -> None:
        """Wait for the report that is being written. It is made from the journal, so a failed one loses nothing."""
        self._reported_at = time.monotonic()
        report, self._report = self._report, None
        try:
            ray.get(report)
            self._report_error = ""
        except ray.exceptions.RayError as error:
            self._report_error = failures.failure_of_ray(error).message

    def _finish(self, reason: str) -> None:
        """The batch has ended: write the whole report, then say how it went."""
        if self._report is not None:
            self._take_report()
        self._report = remote.submit_report(self._spec.output_dir, final=True)
        self._take_report()
        self._measure()
        progress = self._progress()
        self._result = BatchResult(
            success_count=progress.completed_tasks,
            failure_count=progress.failed_tasks,
            cancelled_count=progress.cancelled_tasks,
            total_count=progress.total_tasks,
            processing_time=progress.elapsed_s,
            memory_peak_mb=progress.memory_peak_mb,
            cpu_peak_percent=progress.cpu_peak_percent,
            quality_metrics=progress.quality_metrics,
            failures=failures_of(self._state),
            reason=reason,
            parked=progress.parked,
            output_dir=self._spec.output_dir,
            report_error=self._report_error,
        )


def create(node_id: str) -> Any:
    """Make the coordinator's actor.

    Args:
        node_id: The driver's Ray node, where the lock and the output folder are.
    """
    # No restarts by Ray: a retriable actor is what its memory killer takes first. The driver makes a new one.
    return (
        ray.remote(Coordinator)
        .options(
            num_cpus=0,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=16,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
        )
        .remote()
    )
