"""The kinds of task as Ray remote functions, and the one that writes the report.

There is one body for all kinds, around the same plain function, under a name for each kind, which the dashboard shows:
a streaming generator that gives at most one sign of life a second, then the outcome. (The other body is a lane's, in
`trax_ray.cluster.lane`.) Ray never retries anything (`max_retries=0`), because the coordinator does.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache
from typing import Any

import psutil
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trax_ray.arrow import spare_pandas
from trax_ray.core.policy.sharing import Amount
from trax_ray.core.spec import BatchSpec
from trax_ray.core.state.events import Dispatch, decode_outcome, decode_task, encode
from trax_ray.core.task import Outcome, ResourceRequest, Result
from trax_ray.kinds.assignment import Assignment
from trax_ray.kinds.run import make_attempt
from trax_ray.logs import say_what_it_is_about, set_up_worker
from trax_ray.providers.credentials import hand_over
from trax_ray.store.processes import find, mark_of

__all__ = [
    "alive",
    "amount_of",
    "assignment_of",
    "configure_logging",
    "kill_process",
    "load_report",
    "pack",
    "process_memory_mb",
    "submit",
    "submit_report",
    "unpack",
]

PROGRESS_PERIOD_S = 1.0

NICENESS = 5
"""Of the processes that compute; the coordinator, which says what they do next, and lanes, which wait, have 0. So the
slots that others' load leaves open (`core.policy.admission`) cost those others little."""

REPORT_MEMORY_MB = 512


def pack(dispatch: Dispatch, spec: Mapping[str, Any]) -> dict[str, Any]:
    """A dispatch as JSON types: nothing of ours has to be unpickled before it can be read."""
    return {
        "spec": dict(spec),
        "task": encode(dispatch.task),
        "epoch": dispatch.epoch,
        "attempt": dispatch.attempt,
        "children": {name: encode(result) for name, result in dispatch.children.items()},
        "needed": {name: encode(result) for name, result in dispatch.needed.items()},
    }


def unpack(packed: Mapping[str, Any]) -> Outcome | None:
    """The outcome in what a remote function gave; None for a sign of life."""
    return decode_outcome(packed["outcome"]) if "outcome" in packed else None


@lru_cache(maxsize=1)
def configure_logging(level: str) -> None:
    """Let this process log to stderr, from where Ray brings it to a driver that asked for it."""
    set_up_worker(level)


def assignment_of(packed: Mapping[str, Any]) -> Assignment:
    """The assignment that `pack` packed."""
    spec = BatchSpec.from_dict(packed["spec"])
    configure_logging(spec.log_level)
    task = decode_task(packed["task"])
    say_what_it_is_about(batch=spec.name, task=task.id, attempt=packed["attempt"])
    return Assignment(
        spec=spec,
        task=task,
        epoch=packed["epoch"],
        attempt=packed["attempt"],
        children={name: Result(**result) for name, result in packed["children"].items()},
        needed={name: Result(**result) for name, result in packed["needed"].items()},
    )


@lru_cache(maxsize=1)
def _this_process() -> tuple[psutil.Process, dict[str, Any]]:
    process = psutil.Process()
    node_id = ray.get_runtime_context().get_node_id()
    return process, {"pid": process.pid, "mark": mark_of(process.pid), "node_id": node_id}


def alive(
    fraction: float, coming: tuple[int, int] = (0, 0), *, loading: bool = False, at_once: bool = False
) -> dict[str, Any]:
    """A sign of life: who works where, how far it is, and what its process takes.

    Args:
        fraction: Share of the work that is done, 0-1.
        coming: Bytes that have come of what is fetched, and of how many.
        loading: Whether the work hasn't begun yet.
        at_once: Take the process's resident memory for its own, which is more than that by what it shares with
            others: finding out the share takes milliseconds, and many tasks don't last longer.
    """
    process, who = _this_process()
    memory_mb = process.memory_info().rss / 2**20 if at_once else process_memory_mb(process)
    came = coming if any(coming) else None
    return {"fraction": fraction, "coming": came, "loading": loading, **who, "memory_mb": memory_mb}


def process_memory_mb(process: psutil.Process) -> float:
    """Memory that is the process's own share, MiB: PSS where the system has it, else USS."""
    info = process.memory_full_info()
    return float(getattr(info, "pss", info.uss)) / 2**20


@lru_cache(maxsize=1)
def be_nice() -> None:
    """Let other people's programs go first, once and for all in this process. Computing is what waits best."""
    os.nice(NICENESS)


def _stream(packed: dict[str, Any], keys: dict[str, str]) -> Iterator[dict[str, Any]]:
    assignment = assignment_of(packed)
    if not assignment.task.asks_provider:  # who waits for a host computes little, and is to be there when it answers
        be_nice()
    hand_over(keys)
    loading = not assignment.task.resources.num_cpus
    yield alive(0.0, loading=loading, at_once=True)
    said_at = time.monotonic()
    for item in make_attempt(assignment):
        if isinstance(item, Outcome):
            yield {"outcome": encode(item)}
        elif time.monotonic() - said_at >= PROGRESS_PERIOD_S or (loading and not item.loading):
            said_at, at_once, loading = time.monotonic(), loading, item.loading
            yield alive(item.fraction, (item.came_bytes, item.total_bytes), loading=loading, at_once=at_once)


@cache
def _function(kind: str) -> Any:
    """The remote function of a kind: the same body for all, under the kind's name."""

    def attempt(packed: dict[str, Any], keys: dict[str, str]) -> Iterator[dict[str, Any]]:
        yield from _stream(packed, keys)

    attempt.__name__ = attempt.__qualname__ = kind
    # max_calls=0 keeps a worker, and the model in it, for the next task, on GPUs too.
    return ray.remote(max_retries=0, max_calls=0, num_returns="streaming")(attempt)


def _resources(request: ResourceRequest) -> dict[str, Any]:
    options: dict[str, Any] = {"num_cpus": request.num_cpus, "memory": request.memory_mb * 2**20}
    if request.num_gpus:
        options["num_gpus"] = request.num_gpus
    return options


def amount_of(resources: Mapping[str, float]) -> Amount:
    """What a node has for attempts.

    Args:
        resources: As `ray.nodes` tells them.
    """
    memory_mb = resources.get("memory", 0.0) / 2**20
    return Amount(resources.get("CPU", 0.0), memory_mb, resources.get("GPU", 0.0))


def submit(dispatch: Dispatch, packed: Mapping[str, Any], keys: Mapping[str, str], *, spread: bool = False) -> Any:
    """Start an attempt in a process of its own.

    Args:
        dispatch: The attempt.
        packed: The same, from `pack`.
        keys: Keys of services that it may need, by variable; empty for attempts that ask none.
        spread: To another node than the one before it, where there are several.

    Returns:
        A generator of references.
    """
    options = _resources(dispatch.task.resources)
    if spread:
        options["scheduling_strategy"] = "SPREAD"
    return _function(dispatch.task.kind).options(**options).remote(packed, dict(keys))


@ray.remote(max_retries=0, num_cpus=0)
def kill(pid: int, mark: str) -> None:
    """End a process of this node that answers nothing softer."""
    process = find(pid, mark)
    if process is not None:
        with contextlib.suppress(psutil.Error):
            process.kill()


def kill_process(node_id: str, pid: int, mark: str) -> None:
    """End a worker process, wherever it is.

    Args:
        node_id: Of its node.
        pid: Its number there.
        mark: What it has besides, and no other process with that number.
    """
    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    kill.options(scheduling_strategy=there).remote(pid, mark)


@ray.remote(max_retries=0, num_cpus=0)
def report(output_dir: str, final: bool) -> dict[str, Any]:
    """Write the report's tables from the journal and the artifacts."""
    return load_report()(output_dir, final=final)


def load_report() -> Callable[..., dict[str, Any]]:
    """Load what writes the report into this process, and return that."""
    spare_pandas()
    from trax_ray.report.write import write_report

    return write_report


def submit_report(output_dir: str, *, final: bool) -> Any:
    """Start writing the report, as a task of the batch's own job; returns a reference to its summary."""
    return report.options(memory=REPORT_MEMORY_MB * 2**20).remote(output_dir, final)
