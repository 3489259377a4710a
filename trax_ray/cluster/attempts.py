"""The attempts that Ray works on for a coordinator: started, heard of, ended."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import ray

from trax_ray.cluster import failures, remote
from trax_ray.cluster.lane import Lanes
from trax_ray.cluster.sampling import WorkerReport
from trax_ray.codes import FailureCode
from trax_ray.core.policy.admission import Use
from trax_ray.core.policy.prefetch import Coming
from trax_ray.core.policy.sharing import Held
from trax_ray.core.progress import MOST_WORKERS
from trax_ray.core.spec import BatchSpec
from trax_ray.core.state.events import Dispatch
from trax_ray.core.task import BatchTask, Failure, Outcome
from trax_ray.heads.processes import lives
from trax_ray.kinds.failures import failure_of
from trax_ray.kinds.run import prepares_calls, timed_out

__all__ = ["Attempts", "Running"]

WATCHDOG_MARGIN_S = 5.0
"""How long past its deadline an attempt has to end itself before it is ended."""

KILL_AFTER_S = 10.0
"""How long a process may go on after its attempt was given up: by force where it answers to nothing else."""


SETTLED_S = 0.5
"""How old an attempt is, unless it has been heard of, before it is cancelled. Ray may give one that it is just about to
start up as cancelled and run it all the same; when its answer comes it aborts the coordinator's process ("Tried to
complete task that was not pending")."""


LOADING_S = 60.0
"""How long the others wait for one that needs no core to begin; it may wait for a node, or say nothing."""


LANE_IDLE_S = 60.0
"""A lane that has carried nothing for so long ends; another one takes about two seconds to start."""


@dataclass(slots=True)
class Running:
    """An attempt that Ray works on. Times are of the monotonic clock, seconds.

    Args:
        dispatch: What was asked for.
        handle: Ray's reference to its outcome, or generator of references.
        began_at: When it was handed to Ray.
        heard_at: When it last gave a sign of life.
        at_work_at: When it gave its first one; None while it waits for its process. Attempts on a lane give none, and
            count as running at once.
        worker: What it last said of its process.
        fraction: Share of its work that is done, 0-1.
        coming: What has come of what it fetches; None where it fetches nothing.
        loading: Whether its work hasn't begun yet, though its process may have.
    """

    dispatch: Dispatch
    handle: Any
    began_at: float
    heard_at: float
    at_work_at: float | None = None
    worker: WorkerReport | None = None
    fraction: float = 0.0
    coming: Coming | None = None
    loading: bool = True

    @property
    def key(self) -> tuple[str, int]:
        """Task id and attempt."""
        return self.dispatch.task.id, self.dispatch.attempt


@dataclass(frozen=True, slots=True)
class _GivenUp:
    """A process whose attempt was given up, and when it is ended by force."""

    worker: WorkerReport
    kill_at: float


class Attempts:
    """What runs.

    Args:
        spec: The batch.
        keys: Keys of services by variable.
    """

    def __init__(self, spec: BatchSpec, keys: Mapping[str, str]) -> None:
        self._spec = spec
        self._keys = keys
        self._spec_data = spec.to_dict()
        self._running: dict[tuple[str, int], Running] = {}
        self._lanes = Lanes(keys)
        self._given_up: list[_GivenUp] = []
        self._to_cancel: list[Running] = []
        self._node_id = ray.get_runtime_context().get_node_id()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, dispatch: Dispatch, *, spread: bool = False) -> None:
        """Hand an attempt to Ray.

        Args:
            dispatch: The attempt.
            spread: Whether those in a process of their own are spread over the nodes; lanes always are.
        """
        now = time.monotonic()
        packed = remote.pack(dispatch, self._spec_data)
        if dispatch.alone:
            handle = remote.submit(dispatch, packed, self._keys_for(dispatch.task), spread=spread)
            running = Running(dispatch, handle, now, now)
        else:
            running = Running(dispatch, self._lanes.submit(dispatch.task.kind, packed), now, now, at_work_at=now)
        self._running[running.key] = running

    def _keys_for(self, task: BatchTask) -> Mapping[str, str]:
        """The keys for an attempt in a process of its own; those that ask nobody get none."""
        return self._keys if task.asks_provider else {}

    def cancel(self, task_id: str, attempt: int) -> None:
        """End an attempt; nobody waits for its outcome any more. Unknown ones are passed over."""
        running = self._running.pop((task_id, attempt), None)
        if running is not None:
            self._cancel(running)

    def close(self) -> None:
        """End all of them."""
        for running in self._running.values():
            self._cancel(running)
        self._running.clear()
        self._cancel_settled()  # the others end with the coordinator
        self._lanes.close()

    def tasks(self) -> list[BatchTask]:
        """The tasks that run."""
        return [running.dispatch.task for running in self._running.values()]

    def at_work(self) -> list[BatchTask]:
        """Those of them whose processes have begun; the others wait in Ray for a node's room."""
        return [running.dispatch.task for running in self._running.values() if running.at_work_at is not None]

    @property
    def starting(self) -> int:
        """How many that need no core haven't begun with their work, those apart that take too long over it."""
        since = time.monotonic() - LOADING_S
        loading = [each for each in self._running.values() if each.dispatch.alone and each.loading]
        return sum(not each.dispatch.task.resources.num_cpus for each in loading if each.began_at > since)

    def movable(self) -> list[Held]:
        """Those that may go back to the queue: of those on a lane, or of one that asks a provider, somebody is paid."""
        return [
            Held(running.dispatch.task.id, running.dispatch.task.resources, running.began_at)
            for running in self._running.values()
            if running.dispatch.alone and not running.dispatch.task.asks_provider
        ]

    def fractions(self) -> dict[str, float]:
        """How much of each task's attempt is done, 0-1."""
        return {running.dispatch.task.id: running.fraction for running in self._running.values()}

    def coming(self) -> dict[str, Coming]:
        """What is known of the downloads among them, by their tasks' ids."""
        found = ((running.dispatch.task.id, running.coming) for running in self._running.values())
        return {task_id: coming for task_id, coming in found if coming is not None}

    def doing(self) -> tuple[dict[str, Any], ...]:
        """What runs now, the oldest first, no more than `MOST_WORKERS`: as `BatchProgress.workers`."""
        now = time.monotonic()
        return tuple(
            {
                "name": _name_of(running.dispatch.task),
                "step": running.dispatch.task.kind,
                "fraction": round(running.fraction, 3),
                "seconds": round(now - running.began_at, 1),
            }
            for running in islice(self._running.values(), MOST_WORKERS)
        )

    def reports(self) -> list[WorkerReport]:
        """What each process last said of itself."""
        said = [running.worker for running in self._running.values() if running.worker is not None]
        return said + [_report(about) for about in self._lanes.about()]

    def uses(self, memory_mb: Mapping[tuple[str, int], float]) -> list[Use]:
        """What the attempts that have a process of their own use.

        Args:
            memory_mb: Memory by node id and process id, MiB.
        """
        return [
            Use(
                running.dispatch.task.id,
                running.worker.node_id,
                running.began_at,
                memory_mb.get((running.worker.node_id, running.worker.pid), running.worker.memory_mb),
                running.dispatch.task.resources.memory_mb,
            )
            for running in self._running.values()
            if running.worker is not None
        ]

    def of(self, task_id: str) -> Running:
        """The attempt of a task that runs."""
        return next(running for running in self._running.values() if running.dispatch.task.id == task_id)

    def wait(self, timeout_s: float) -> None:
        """Until one of them has something to say, and no longer than `timeout_s`."""
        handles = [running.handle for running in self._running.values()]
        ray.wait(handles, num_returns=1, timeout=timeout_s, fetch_local=False)

    def ended(self, alive: set[str]) -> Iterator[tuple[Dispatch, Outcome]]:
        """The outcomes that have arrived.

        Args:
            alive: Ids of the nodes that live.
        """
        if not self._running:
            return
        by_handle = {id(running.handle): running for running in self._running.values()}
        handles = [running.handle for running in self._running.values()]
        ready, _ = ray.wait(handles, num_returns=len(handles), timeout=0, fetch_local=False)
        for handle in ready:
            running = by_handle[id(handle)]
            outcome = self._read(running, alive)
            if outcome is not None:
                del self._running[running.key]
                yield running.dispatch, outcome

    def overdue(self) -> Iterator[tuple[Dispatch, Outcome]]:
        """Attempts that gave no sign of life, or took longer than they may: ended, without waiting for their word.

        A process that was stopped, or hangs in a system call, wouldn't give one. Should it wake up, its result is
        another attempt's by then, and is dropped.
        """
        self._cancel_settled()
        now = time.monotonic()
        for running in list(self._running.values()):
            failure = self._overdue(running, now)
            if failure is None:
                continue
            if running.dispatch.alone:
                yield self.end(running, failure)
            else:
                # On a lane that is alive it would have ended itself in time.
                self._lanes.end_carrier(running.handle)
        self._lanes.end_silent(self._spec.stall_timeout_s)
        self._lanes.let_go(LANE_IDLE_S)
        due = [each.worker for each in self._given_up if each.kill_at <= now]
        self._given_up = [each for each in self._given_up if each.kill_at > now]
        # One that was through just before it was given up may be running something else by now.
        busy = {(worker.node_id, worker.pid) for worker in self.reports()} if due else set()
        for worker in due:
            if (worker.node_id, worker.pid) not in busy:
                remote.kill_process(worker.node_id, worker.pid, worker.mark)

    def end(self, running: Running, failure: Failure) -> tuple[Dispatch, Outcome]:
        """End an attempt for a reason, without waiting for its word."""
        del self._running[running.key]
        self._cancel(running)
        if running.worker is not None:
            self._given_up.append(_GivenUp(running.worker, time.monotonic() + KILL_AFTER_S))
        return running.dispatch, Outcome(failure=failure, ended_at=time.time())

    def _cancel_settled(self) -> None:
        waiting, self._to_cancel = self._to_cancel, []
        for running in waiting:
            self._cancel(running)

    def _cancel(self, running: Running) -> None:
        if running.dispatch.alone and running.worker is None and time.monotonic() - running.began_at < SETTLED_S:
            self._to_cancel.append(running)
        elif running.dispatch.alone:
            # By force: a decoder or a model in C answers nothing softer. Results are committed whole or not at all.
            ray.cancel(running.handle, force=True)
        else:
            self._lanes.cancel(running.handle)

    def _overdue(self, running: Running, now: float) -> Failure | None:
        if running.at_work_at is None:
            return None
        limit_s = self._spec.task_timeout_s
        if limit_s is not None and now - running.at_work_at > limit_s + WATCHDOG_MARGIN_S:
            return failure_of(timed_out(limit_s))
        # Calls on a lane give no signs of life; their lane does.
        if running.worker is not None and now - running.heard_at > self._spec.stall_timeout_s:
            return failures.stalled(self._spec.stall_timeout_s)
        return None

    def _read(self, running: Running, alive: set[str]) -> Outcome | None:
        """The next word of an attempt: its outcome, or None for a sign of life."""
        handle = running.handle
        try:
            packed = ray.get(next(handle) if isinstance(handle, ray.ObjectRefGenerator) else handle)
        except StopIteration:
            silent = RuntimeError("the attempt ended without an outcome")
            return Outcome(failure=failures.failure_of_ray(silent), ended_at=time.time())
        except ray.exceptions.RayError as error:
            return Outcome(failure=self._failure(running, error, alive), ended_at=time.time())
        outcome = remote.unpack(packed)
        if outcome is None:
            running.heard_at = time.monotonic()
            running.at_work_at = running.at_work_at or running.heard_at
            running.fraction = packed["fraction"]
            running.coming = Coming(*packed["coming"]) if packed["coming"] else None
            if running.loading and not packed["loading"]:
                self._has_begun(running)
            running.worker = _report(packed)
        elif not running.dispatch.alone:
            self._lanes.ended(handle, died=False)
        return outcome

    def _has_begun(self, running: Running) -> None:
        running.loading = False
        if not running.dispatch.children and prepares_calls(running.dispatch.task, self._spec):
            self._lanes.expect()

    def _failure(self, running: Running, error: ray.exceptions.RayError, alive: set[str]) -> Failure:
        failure = failures.failure_of_ray(error)
        if not running.dispatch.alone:
            self._lanes.ended(running.handle, died=failure.code == FailureCode.WORKER_DIED)
        elif failure.code == FailureCode.WORKER_DIED and running.worker is not None:
            if running.worker.node_id not in alive:
                return failures.lost_with_node(failure)
            if self._lives(running.worker):
                return failures.answer_lost()
        return failure

    def _lives(self, worker: WorkerReport) -> bool:
        """Whether a process is seen to live. Ray also says that a worker died where only its answer got lost."""
        return worker.node_id == self._node_id and lives(worker.pid, worker.mark)


def _name_of(task: BatchTask) -> str:
    """What people see of a task: its recording, and which part of it."""
    name = str(task.data.get("name") or task.data.get("file_path") or task.data.get("url") or task.id)
    return name if task.chunk is None else f"{name} part {task.chunk + 1}"


def _report(packed: Mapping[str, Any]) -> WorkerReport:
    return WorkerReport(packed["node_id"], packed["pid"], packed["memory_mb"], packed["mark"])
