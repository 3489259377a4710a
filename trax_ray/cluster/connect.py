"""One way to a Ray cluster: the one we run in, a live one on this machine, else one of our own.

A local head of our own is started with the settings that were found necessary: no upload of the working folder
under uv, token authentication with a token that only its owner can read, the dashboard on loopback, and ten
seconds instead of sixty before a lost GCS ends the driver. Its processes are noted in a file, so that the next
run can end what is left of it after a `kill -9`.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray

from trax_ray import NOT_INSTALLED, __version__
from trax_ray.cluster.thread import in_ray
from trax_ray.core.spec import SECRET_VARIABLES
from trax_ray.errors import SetupError, TraxRayError
from trax_ray.gcs import ask, problem_of
from trax_ray.heads.machine import (
    LOOPBACK,
    LOOPBACK_SWITCH,
    make_token_private,
    object_store_bytes,
    see_that_ray_can_start,
)
from trax_ray.heads.notes import forget_head, note_head, own_head, reap_orphans
from trax_ray.heads.processes import descendants, kill_noted, noted
from trax_ray.heads.standing import answers, live_head, unfit_heads
from trax_ray.logs import FromWorkers

__all__ = ["Connection", "connect", "disconnect"]

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10.0
MODULES = "PYTHONPATH"

AGENTS_WAIT, AGENTS_WAIT_MS = "RAY_agent_register_timeout_ms", "120000"

TOO_LATE = "timed out during startup"
"""What Ray says where its daemons don't come up in time."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A connected driver.

    Args:
        address: Of the cluster's GCS, host:port.
        started_here: True for a head of our own, which ends with this process.
        dashboard_url: `http://host:port`; empty where there is no dashboard.
        node_id: The Ray node of this process.
        already: True where somebody in this process had connected before; then we don't disconnect.
    """

    address: str
    started_here: bool
    dashboard_url: str
    node_id: str
    already: bool = False


def connect(
    *,
    name: str,
    address: str | None = None,
    lean: bool = False,
    memory_limit_mb: int | None = None,
) -> Connection:
    """Connect this process to Ray; start a local head where there is none to connect to.

    Args:
        name: The batch's name, for the metadata of the job that the dashboard shows.
        address: `host:port` of a cluster; None looks for one (RAY_ADDRESS, a head that `ray start` started).
        lean: Start a local head without the dashboard.
        memory_limit_mb: Memory that tasks may reserve on a local head, MiB; None leaves it to Ray.

    Raises:
        SetupError: The cluster can't be reached, or no local head can be started.
    """
    return in_ray(_connect, name, address, lean, memory_limit_mb)


def _connect(name: str, address: str | None, lean: bool, memory_limit_mb: int | None) -> Connection:
    if ray.is_initialized():
        return Connection(
            address=ray.get_runtime_context().gcs_address,
            started_here=False,
            dashboard_url="",
            node_id=ray.get_runtime_context().get_node_id(),
            already=True,
        )
    address = address or os.environ.get("RAY_ADDRESS")
    if not address or address == "auto":
        address = live_head() or address
    if address:
        _see_that_it_is_ours_to_join(address)
    else:
        for other, problem in unfit_heads():
            logger.warning("%s was noted as a head of Ray, but %s: a Ray of our own is started", other, problem)
    common: dict[str, Any] = {
        "job_config": _JobConfig(metadata={"batch": name, "job_name": f"trax-ray {name}"}),
        "log_to_driver": _debugging(),
        "logging_level": logging.WARNING,
        "configure_logging": False,
    }
    _divert_printed_lines()
    try:
        with _quiet_ray(), _without_keys():
            if address:
                with _on_loopback() if _only_on_loopback(address) else contextlib.nullcontext():
                    context: Any = ray.init(address=address, **common)
            else:
                see_that_ray_can_start()
                reap_orphans()
                make_token_private()
                context = _started_in_time(common, lean=lean, memory_limit_mb=memory_limit_mb)
    except TraxRayError:
        raise
    except Exception as error:  # Ray raises plain ones too, as where its daemons don't come up in time
        reason = " ".join(str(error).split())[:300]
        raise SetupError(
            f"can't connect to Ray at {address}: {reason}: is the cluster up, and RAY_ADDRESS right?"
            if address
            else f"can't start Ray on this machine: {reason}: `trax-ray doctor` looks for the cause"
        ) from error
    return Connection(
        address=context.address_info["gcs_address"],
        started_here=not address,
        dashboard_url=f"http://{context.dashboard_url}" if context.dashboard_url else "",
        node_id=context.address_info["node_id"],
    )


def disconnect(connection: Connection) -> None:
    """Leave the cluster; a head of our own ends with it."""
    if connection.already:
        return
    if not connection.started_here:
        in_ray(ray.shutdown)
        return
    members = own_head()
    in_ray(_shut_down_at_once)
    kill_noted(members)
    forget_head()


def _shut_down_at_once() -> None:
    """Leave Ray and kill its daemons, which listen to nothing softer: the signals are blocked in them."""
    from ray._private import worker

    node: Any = getattr(worker, "_global_node", None)
    # The names are Ray's own affair; where they are gone it waits a second for each daemon.
    if hasattr(node, "kill_all_processes"):
        kill = node.kill_all_processes
        node.kill_all_processes = lambda *_, **__: kill(check_alive=False)
    ray.shutdown()


class _JobConfig(ray.job_config.JobConfig):
    """A job whose workers import what is installed, and nothing else.

    Ray puts the driver's working folder and that of its program in front of their path. Among downloads may be an
    `av.py`. Where this package isn't installed, they get the folder that it lies in.
    """

    @property
    def _py_driver_sys_path(self) -> list[str]:
        return [] if __version__ != NOT_INSTALLED else [str(Path(__file__).parents[2])]

    @_py_driver_sys_path.setter
    def _py_driver_sys_path(self, folders: list[str]) -> None:
        pass


def _debugging() -> bool:
    return logger.isEnabledFor(logging.DEBUG)


def _divert_printed_lines() -> None:
    """Put what Ray would print of other processes into the log: records as they were, and else at level DEBUG.

    It prints some lines to stdout whatever `log_to_driver` says, and stdout belongs to the summary. That a worker
    died is told with the task whose attempt it ended.
    """
    from ray._private import worker

    records = FromWorkers()

    def log(data: Mapping[str, Any], *_: Any, **__: Any) -> None:
        if data.get("pid") == "autoscaler":
            return  # a table every five seconds, of a cluster that doesn't scale
        who = " ".join(str(data[key]) for key in ("actor_name", "task_name", "pid") if data.get(key))
        for line in data.get("lines", ()):
            records.take(line, who)

    # The name is Ray's own affair; where it is gone, the lines are merely printed again.
    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = log


@contextlib.contextmanager
def _without_keys() -> Iterator[None]:
    """Nothing that Ray starts inherits a key, or the working folder by an empty name in PYTHONPATH."""
    hidden = {name: os.environ.pop(name) for name in SECRET_VARIABLES if name in os.environ}
    path = os.environ.get(MODULES)
    if path is not None:
        hidden[MODULES] = path
        os.environ[MODULES] = os.pathsep.join(filter(None, path.split(os.pathsep)))
    try:
        yield
    finally:
        os.environ.update(hidden)


@contextlib.contextmanager
def _quiet_ray() -> Iterator[None]:
    """Ray's notices at start-up are for people who start Ray; with debug logging they are shown."""
    ray_logger = logging.getLogger("ray")
    level = ray_logger.level
    if not _debugging():
        ray_logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray_logger.setLevel(level)


def _started_in_time(common: dict[str, Any], *, lean: bool, memory_limit_mb: int | None) -> Any:
    """A local head, at the second attempt where the first one took too long.

    Ray gives its daemons 30 s, which isn't always enough on a machine that is busy otherwise; nothing lengthens that.
    """
    try:
        return _start_local_head(common, lean=lean, memory_limit_mb=memory_limit_mb)
    except Exception as error:  # Ray raises a plain one
        if TOO_LATE not in str(error):
            raise
        logger.warning("Ray didn't start within its 30 seconds, as where a machine is very busy: it is tried once more")
    return _start_local_head(common, lean=lean, memory_limit_mb=memory_limit_mb)


def _start_local_head(common: dict[str, Any], *, lean: bool, memory_limit_mb: int | None) -> Any:
    total = psutil.virtual_memory().total
    before = set(descendants())
    note_head()
    # `local`, else Ray joins the head that `ray start` noted, which was seen to be dead.
    try:
        with _on_loopback(), _patient():
            context: Any = ray.init(
                address="local",
                _node_ip_address=LOOPBACK,
                include_dashboard=not lean,
                dashboard_host=LOOPBACK,
                object_store_memory=object_store_bytes(),
                _memory=min(memory_limit_mb * 2**20, int(total * 0.9)) if memory_limit_mb else None,
                **common,
            )
    except BaseException:
        # Half a head: Ray ends of it what it knows of, which the agents aren't.
        started = noted(process for process in descendants() if process not in before)
        members = own_head()
        _shut_down_at_once()
        kill_noted({*started, *members})
        forget_head()
        raise
    note_head([process for process in descendants() if process not in before], context.address_info["session_dir"])
    return context


def _patient() -> contextlib.AbstractContextManager[bool]:
    """Let the daemons of a head wait for its agents for two minutes: a busy machine takes longer than Ray's default,
    and a node whose agents are late ends."""
    return _unless_set(AGENTS_WAIT, AGENTS_WAIT_MS)


@contextlib.contextmanager
def _unless_set(name: str, value: str) -> Iterator[bool]:
    """Give what is started in the block a variable, unless the user has set it; whether it was given."""
    given = name not in os.environ
    if given:
        os.environ[name] = value
    try:
        yield given
    finally:
        if given:
            del os.environ[name]


def _only_on_loopback(address: str) -> bool:
    """Whether an address of this machine is one that other machines can't reach, as those of our heads."""
    host, _, port = address.rpartition(":")
    return host in (LOOPBACK, "localhost") and not answers(f"{ray.util.get_node_ip_address()}:{port}")


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """Let Ray take loopback for this machine's address: else it puts an outer one in its place, and listens there.

    Ray has a switch for that, which its processes read when they start. This process has read it already.
    """
    from ray._private import ray_constants

    with _unless_set(LOOPBACK_SWITCH, "0") as given:
        known = ray_constants.ENABLE_RAY_CLUSTER
        if given:
            ray_constants.ENABLE_RAY_CLUSTER = False
        try:
            yield
        finally:
            ray_constants.ENABLE_RAY_CLUSTER = known


def _see_that_it_is_ours_to_join(address: str) -> None:
    """Ray ends the whole process where nobody answers at an address, and takes long where what answers isn't Ray."""
    host, _, port = address.rpartition(":")
    if not port.isdigit() or "://" in address:
        return  # `auto` and the like: Ray says itself what is wrong with them
    problem = problem_of(ask(f"{host}:{port}", CONNECT_TIMEOUT_S))
    if problem:
        raise SetupError(
            f"can't join the Ray cluster at {address}: {problem}: is the cluster up, and --address or RAY_ADDRESS "
            "right? Without one, a local Ray is started"
        )
