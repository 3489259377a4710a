"""Several nodes on one machine, and the loss of one. Not part of `make test`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

import trax_ray.cluster  # noqa: F401 - Ray's settings, before Ray is used
from tests.support.store_servers import StoreServer, environment, moto
from trax_ray.core.spec import Limits
from trax_ray.errors import SetupError
from trax_ray.heads.machine import make_token_private
from trax_ray.processor import BatchProcessor
from trax_ray.report.fold import read_history
from trax_ray.store.objects import forget_clients
from trax_ray.testing.factories import make_spec, make_task
from trax_ray.testing.scripted import attempts_in

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def cluster() -> Iterator[Any]:
    make_token_private()
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "memory": 2 * 2**30})
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def processor(cluster: Any, out: Path, count: int, log: Path, sleep_s: float = 1.0) -> BatchProcessor:
    limits = Limits(max_workers=16, memory_limit_mb=2048)
    batch = BatchProcessor(make_spec(out, limits=limits), address=cluster.address)
    batch.feed([make_task(f"t{number}", sleep_s=sleep_s, log=str(log)) for number in range(count)])
    return batch


async def test_a_batch_uses_all_nodes(cluster: Any, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=2, memory=2 * 2**30)
    batch = processor(cluster, tmp_path / "out", 18, tmp_path / "log")
    active: list[int] = []
    result = await batch.start(lambda progress: active.append(progress.active_workers))
    assert result.success_count == result.total_count == 18
    # Half a core each: two on the head, four on the other node, by 90 % of 1 and of 2 cores.
    assert 4 <= max(active) <= 6


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreServer]:
    """An object store with a recording, and its address in the environment."""
    with moto() as server:
        for name, value in environment(server.url).items():
            monkeypatch.setenv(name, value)
        forget_clients()
        server.create_bucket("talks")
        server.put("talks", "a.mp3", b"x")
        yield server
    forget_clients()


async def test_a_node_that_cant_reach_the_inputs_is_named_before_anything_starts(
    store: StoreServer, cluster: Any, tmp_path: Path
) -> None:
    # The store first: nodes have the environment that they are started in.
    cluster.add_node(num_cpus=1, memory=2**30, env_vars={"AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
    batch = BatchProcessor(make_spec(tmp_path / "out"), address=cluster.address)
    batch.feed([make_task("t", file_path="s3://talks/a.mp3", log=str(tmp_path / "log"))])
    with pytest.raises(SetupError, match=r"node .*: can't read s3://talks/a.mp3 just now"):
        await batch.start()
    assert attempts_in(tmp_path / "log") == []


async def test_a_lost_node_costs_no_task(cluster: Any, tmp_path: Path, record: Callable[..., None]) -> None:
    node = cluster.add_node(num_cpus=2, memory=2 * 2**30)
    log = tmp_path / "log"
    # Long enough that the workers of the lost node have given up before they are through.
    batch = processor(cluster, tmp_path / "out", 8, log, sleep_s=30.0)
    running = asyncio.create_task(batch.start())
    while len(attempts_in(log)) < 4:
        await asyncio.sleep(0.1)
    cluster.remove_node(node, allow_graceful=False)
    result = await running
    assert (result.success_count, result.failure_count, result.total_count) == (8, 0, 8)
    history = read_history(tmp_path / "out")
    failures = Counter(attempt.failure.code for attempt in history.attempts if attempt.failure is not None)
    assert failures, "no attempt was lost: the test removed its node too late"
    assert set(failures) <= {"node_died", "worker_died", "ray", "result_lost", "owner_died"}
    lost = ", ".join(f"{count} {code}" for code, count in sorted(failures.items()))
    record(what="a node of two is lost with its attempts", runs=1, seeds="", found=f"8 of 8 succeeded; lost: {lost}")
