"""Separate hosts, each with a raylet, an address and processes of its own, that share one folder: cables are pulled.

Skipped where there can be no such hosts: see `tests/support/hosts.py`.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_program import Batch, artifacts, outputs, until

from tests.support.hosts import Host, Hosts, hosts, why_not
from trax_ray.core.spec import Limits
from trax_ray.core.task import ResourceRequest
from trax_ray.testing.factories import make_task

WHY_NOT = why_not()

pytestmark = [pytest.mark.timeout(500), pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "they are there")]

CUT_S = 30.0
CPUS = 4
PORT = 6379

QUICK = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "4",
}
"""With these a host that isn't heard of is given up within some twelve seconds, and comes back into a world that has
done without it. With Ray's own it may be waited for until it is there again."""


PATIENT = {"RAY_raylet_start_wait_time_s": "200", "RAY_agent_register_timeout_ms": "120000"}
"""Ray gives its own agents fifteen seconds to start; several hosts on two busy cores need more."""


class Cluster:
    """A head that runs no tasks, and hosts that do.

    Args:
        made: Makes hosts.
        folder: What all share.
        settings: Of Ray, for all of them.
    """

    def __init__(self, made: Hosts, folder: Path, settings: dict[str, str]) -> None:
        self._made = made
        token = folder / "token"
        token.touch(0o600)
        token.write_text(secrets.token_hex(32))
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), **PATIENT, **settings}
        self.head = made.add()
        self.address = f"{self.head.address}:{PORT}"
        self.start(self.head, "--head", f"--port={PORT}", "--num-cpus=0", "--include-dashboard=false")

    def start(self, host: Host, *options: str) -> None:
        """Start Ray on a host."""
        own = [f"--node-ip-address={host.address}", f"--memory={4 * 2**30}", f"--object-store-memory={96 * 2**20}"]
        command = [str(Path(sys.executable).parent / "ray"), "start", "--disable-usage-stats", *own, *options]
        host.run(command, self.environ)

    def add(self) -> Host:
        """Another host that runs tasks."""
        host = self._made.add()
        self.start(host, f"--address={self.address}", f"--num-cpus={CPUS}")
        return host

    def batch(self, folder: Path, count: int, *, on: Host, **data: Any) -> Batch:
        """A batch whose driver and coordinator are on a host."""
        request = ResourceRequest(1.0, 256)
        tasks = [make_task(f"t{number:03}", resources=request, script=["commit"], **data) for number in range(count)]
        environ = {**self.environ, **on.environ, "RAY_ADDRESS": self.address}
        limits = Limits(max_workers=64, memory_limit_mb=8192, cpu_limit_percent=100)
        return Batch(folder, tasks, environ=environ, under=on.enter, limits=limits)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Makes one."""
    with hosts() as made:
        yield lambda settings=None: Cluster(made, tmp_path, settings or {})


def see_that_nothing_is_lost_or_done_twice(batch: Batch, count: int, before: dict[str, tuple[int, bytes]]) -> str:
    """What is promised; in words what happened to attempts.

    Args:
        batch: It has ended.
        count: Its tasks.
        before: What was committed while the cable was out.
    """
    assert not batch.findings().problems
    history = batch.history()
    succeeded = Counter(each.task_id for each in history.attempts if each.outcome == "succeeded")
    assert succeeded == {f"t{number:03}": 1 for number in range(count)}
    after = artifacts(batch.out)
    assert len(outputs(batch.out)) == len(after) == count
    assert {path: after[path] for path in before} == before, "a committed result was written again"
    assert {task.spent for task in history.state.records.values()} == {0}, "a lost host costs no retry"
    lost = Counter(each.failure.code for each in history.attempts if each.failure is not None)
    lost += Counter(each.outcome for each in history.attempts if each.outcome == "interrupted")
    begun = len(batch.attempts())
    codes = ", ".join(f"{number} {code}" for code, number in sorted(lost.items())) or "none"
    return f"{count} of {count} succeeded, each once, of {begun} attempts that began; lost: {codes}"


@pytest.mark.parametrize(("settings", "patience"), [({}, "Ray's own patience"), (QUICK, "given up in twelve seconds")])
def test_a_host_that_is_cut_off_for_30_s_loses_nothing_and_commits_nothing_twice(
    cluster: Callable[..., Cluster],
    tmp_path: Path,
    record: Callable[..., None],
    settings: dict[str, str],
    patience: str,
) -> None:
    ray = cluster(settings)
    near, far = ray.add(), ray.add()
    with ray.batch(tmp_path, 60, on=ray.head, sleep_s=6.0) as batch:
        batch.start()
        until(lambda: len(batch.attempts()) >= 2 * CPUS + 2, what="both hosts to be at work")
        far.cut()
        cut_at = time.monotonic()
        # Its processes go on, and write what they have made into the folder that all share.
        until(lambda: time.monotonic() - cut_at > CUT_S / 2, what="half of it")
        before = artifacts(batch.out)
        until(lambda: time.monotonic() - cut_at > CUT_S, what="the end of it")
        far.join()
        assert batch.wait(300) == 0, batch.stderr
        found = see_that_nothing_is_lost_or_done_twice(batch, 60, before)
    assert near.process.poll() is None
    record(what=f"the cable of one of two hosts is out for 30 s ({patience})", runs=1, seeds="", found=found)


def test_the_host_of_the_coordinator_is_cut_off_for_30_s_and_the_same_command_continues(
    cluster: Callable[..., Cluster], tmp_path: Path, record: Callable[..., None]
) -> None:
    ray = cluster(QUICK)
    ray.add()
    far = ray.add()
    with ray.batch(tmp_path, 60, on=far, sleep_s=4.0) as batch:
        batch.start()
        until(lambda: len(batch.attempts()) >= 2 * CPUS + 2, what="both hosts to be at work")
        far.cut()
        cut_at = time.monotonic()
        until(lambda: time.monotonic() - cut_at > CUT_S, what="the end of it")
        far.join()
        code = batch.wait(200)
        said = batch.stderr.strip().splitlines()[-1:]
        before = artifacts(batch.out)
        if code:
            # Its raylet was given up, and has ended: the command goes on from another host.
            batch.under = ray.head.enter
            assert batch.run(300) == 0, batch.stderr
        found = see_that_nothing_is_lost_or_done_twice(batch, 60, before)
    found += f"; the first run ended with {code}: {' '.join(said)[:120]}" if code else "; in one run"
    record(what="the cable of the coordinator's host is out for 30 s", runs=1, seeds="", found=found)


def test_a_host_is_switched_off_and_another_one_comes(
    cluster: Callable[..., Cluster], tmp_path: Path, record: Callable[..., None]
) -> None:
    ray = cluster(QUICK)
    ray.add()
    far = ray.add()
    with ray.batch(tmp_path, 60, on=ray.head, sleep_s=4.0) as batch:
        batch.start()
        until(lambda: len(batch.attempts()) >= 2 * CPUS + 2, what="both hosts to be at work")
        before = artifacts(batch.out)
        far.kill()
        new = ray.add()
        assert batch.wait(300) == 0, batch.stderr
        found = see_that_nothing_is_lost_or_done_twice(batch, 60, before)
        on_new = sum(each.node == new.name for each in batch.history().attempts)
    assert on_new > 0, "the new host is used"
    record(what="one of two hosts is switched off", runs=1, seeds="", found=f"{found}; {on_new} on the host that came")
