"""Several nodes on one machine, and the loss of some. Not part of `make test`."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
import soundfile
from batch_program import Command, artifacts
from ray.cluster_utils import Cluster

import trax_ray.cluster  # noqa: F401 - Ray's settings, before Ray is used
from tests.support.store_servers import StoreServer, environment, moto
from trax_ray import create_batch_processor
from trax_ray.core.spec import Limits
from trax_ray.core.task import ResourceRequest, TaskType
from trax_ray.errors import SetupError
from trax_ray.heads.machine import make_token_private
from trax_ray.kinds.accuracy import count_errors
from trax_ray.media.decode import read
from trax_ray.processor import BatchProcessor
from trax_ray.report.fold import read_history
from trax_ray.store.objects import forget_clients
from trax_ray.testing.factories import make_spec, make_task
from trax_ray.testing.history import check
from trax_ray.testing.scripted import attempts_in, logged

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def cluster() -> Iterator[Any]:
    make_token_private()
    nodes = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "memory": 2 * 2**30, "include_dashboard": False}
    )
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


async def workers_of(nodes: dict[str, Any], batch: BatchProcessor) -> dict[str, set[int]]:
    """The worker processes that each node had while the batch ran to its end."""
    running = asyncio.create_task(batch.start())
    seen: dict[str, set[int]] = {name: set() for name in nodes}
    while not running.done():
        for name, node in nodes.items():
            seen[name].update(child.pid for child in raylet_of(node).children())
        await asyncio.sleep(0.1)
    result = await running
    assert result.success_count == result.total_count
    return seen


async def test_gpu_kinds_go_to_gpu_nodes_and_leave_their_cores_free(cluster: Any, tmp_path: Path) -> None:
    nodes = {
        "gpu": cluster.add_node(num_cpus=2, num_gpus=1, memory=4 * 2**30),
        "cpu": cluster.add_node(num_cpus=2, memory=2 * 2**30),
    }
    log = tmp_path / "log"
    limits = Limits(cpu_limit_percent=100, memory_limit_mb=4096)
    batch = BatchProcessor(make_spec(tmp_path / "out", model="tiny", limits=limits), address=cluster.address)
    kinds = {"gpu": TaskType.TRANSCRIBE, "cpu": TaskType.PREPROCESS}
    for name, kind in kinds.items():
        batch.feed([make_task(f"{name}{number}", kind, sleep_s=2.0, log=str(log)) for number in range(4)])
    seen = await workers_of(nodes, batch)
    pids = {name: {each.pid for each in logged(log) if each.task_id.startswith(name)} for name in kinds}
    assert pids["gpu"] <= seen["gpu"]
    assert not pids["cpu"] & seen["gpu"], "there was room for them elsewhere"


async def test_cpu_kinds_spread_over_the_nodes(cluster: Any, tmp_path: Path) -> None:
    nodes = {name: cluster.add_node(num_cpus=8, memory=4 * 2**30) for name in ("a", "b")}
    log = tmp_path / "log"
    limits = Limits(max_workers=6, memory_limit_mb=4096, cpu_limit_percent=100)
    batch = BatchProcessor(make_spec(tmp_path / "out", limits=limits), address=cluster.address)
    batch.feed([make_task(f"t{number}", sleep_s=3.0, log=str(log)) for number in range(6)])
    seen = await workers_of(nodes, batch)
    pids = {each.pid for each in logged(log)}
    assert min(len(pids & seen[name]) for name in nodes) >= 2, "Ray alone would have put all of them on one node"


async def test_what_fits_no_node_is_refused_before_anything_starts(cluster: Any, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=4, memory=2 * 2**30)
    for request, asked in (
        (ResourceRequest(1.0, 256, 1.0), "1 CPU, 256 MB and 1 GPU"),
        (ResourceRequest(8.0, 256), "8 CPUs and 256 MB"),
    ):
        batch = BatchProcessor(make_spec(tmp_path / "out"), address=cluster.address)
        batch.feed([make_task("t", log=str(tmp_path / "log"), resources=request)])
        with pytest.raises(SetupError, match=rf"asks for {asked}: its nodes have .*4 CPUs and 2048 MB"):
            await batch.start()
    assert attempts_in(tmp_path / "log") == []


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StoreServer]:
    """An object store with a recording, and its address in the environment."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
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


async def test_a_node_that_cant_write_to_the_store_is_named_before_anything_starts(
    store: StoreServer, cluster: Any, tmp_path: Path
) -> None:
    cluster.add_node(num_cpus=1, memory=2**30, env_vars={"AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
    batch = BatchProcessor(make_spec("s3://talks/out"), address=cluster.address)
    batch.feed([make_task("t", log=str(tmp_path / "log"))])
    with pytest.raises(SetupError, match=r"node .*: can't read s3://talks/out/.trax/.* just now"):
        await batch.start()
    assert attempts_in(tmp_path / "log") == []
    assert store.keys("talks", "out") == []


async def test_nodes_that_share_nothing_but_a_store_work_on_one_recording(
    store: StoreServer, cluster: Any, samples: Path, tmp_path: Path, record: Callable[..., None]
) -> None:
    cluster.add_node(num_cpus=1, memory=2 * 2**30, env_vars={"XDG_CACHE_HOME": str(tmp_path / "others-cache")})
    store.put("talks", "in/river.ogg", (samples / "stories" / "the_river.ogg").read_bytes())
    batch = create_batch_processor(
        output_dir="s3://talks/out",
        address=cluster.address,
        model="pocketsphinx",
        chunk_size=20,
        preprocess=True,
        memory_limit_mb=2048,
    )
    await batch.add("s3://talks/in")
    result = await batch.start()
    assert (result.success_count, result.failure_count) == (1, 0)
    text = store.get("talks", "out/river.txt").decode()
    counted = count_errors((samples / "stories" / "the_river.txt").read_text(), text)
    assert counted is not None
    assert counted.errors < counted.words / 2
    parts = sum(each.task.parent != "" for each in read_history("s3://talks/out").state.records.values())
    # Both had a part of it, and each converted it for itself.
    assert all(any((tmp_path / name).rglob("claims")) for name in ("cache", "others-cache"))
    record(
        what="two nodes that share a store alone, one recording in parts",
        runs=1,
        seeds="",
        found=f"all of {parts} parts transcribed, each node with its own converted audio",
    )


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


RECORDINGS = 300
CLIP_S = 2.0


@pytest.fixture
def clips(samples: Path, tmp_path: Path) -> Path:
    """So many short recordings, no two with the same content."""
    folder = tmp_path / "clips"
    folder.mkdir()
    audio = read(samples / "stories" / "the_river.ogg")
    size = int(CLIP_S * 16_000)
    step = (len(audio) - size) // RECORDINGS
    for number in range(RECORDINGS):
        soundfile.write(folder / f"{number:03}.wav", audio[number * step : number * step + size], 16_000)
    return folder


def raylet_of(node: Any) -> psutil.Process:
    """The process that runs a node's workers."""
    (found,) = (psutil.Process(each.process.pid) for each in node.all_processes["raylet"])
    return found


def transcripts(out: Path) -> int:
    """Recordings that are through so far."""
    return len(list(out.glob("*.txt")))


@pytest.mark.timeout(1500)
def test_300_recordings_survive_the_loss_of_three_of_four_nodes_and_a_new_one_is_used(
    cluster: Any, clips: Path, tmp_path: Path, record: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 of two nodes, then of the coordinator's; half way another one comes."""
    # The command has tokens or none as this process, in which Ray's nodes were started.
    monkeypatch.setenv("RAY_AUTH_MODE", os.environ.get("RAY_AUTH_MODE", "disabled"))
    nodes = [cluster.add_node(num_cpus=2, memory=2 * 2**30) for _ in range(3)]
    more = ["--address", cluster.address, "--workers", "8", "--cpu-limit", "100", "--memory-limit", "4096"]
    with Command(clips.parent, tmp_path, [str(clips)], more) as command:
        command.until(lambda: transcripts(command.out) >= 30, 400, what="the first recordings")
        for node in nodes[:2]:
            cluster.remove_node(node, allow_graceful=False)
        before = artifacts(command.out)
        command.until(lambda: transcripts(command.out) >= RECORDINGS // 3, 400, what="a third of them")
        new = cluster.add_node(num_cpus=2, memory=2 * 2**30)
        workers: set[int] = set()

        def half_are_through() -> bool:
            workers.update(child.pid for child in raylet_of(new).children())
            return transcripts(command.out) >= RECORDINGS // 2

        command.until(half_are_through, 400, what="half of them")
        # Where several nodes are on one machine the driver is on the head's. What the GCS does goes on.
        raylet_of(cluster.head_node).kill()
        command.process.wait(timeout=120)
        first = command.process.returncode
        assert first == 3, "the loss of the coordinator's node is said, with the command that continues"
        before |= artifacts(command.out)
        done = command.again()
        assert done.returncode == 0, done.stderr
    findings = check(command.out)
    assert not findings.problems
    history = read_history(command.out)
    roots = {task.task.id for task in history.state.records.values() if not task.task.parent}
    succeeded = Counter(each.task_id for each in history.attempts if each.outcome == "succeeded")
    assert {name: succeeded[name] for name in roots} == dict.fromkeys(roots, 1)
    assert len(roots) == transcripts(command.out) == RECORDINGS
    after = artifacts(command.out)
    assert {path: after[path] for path in before} == before, "a committed result was written again"
    on_new = sum(each.pid in workers for each in history.attempts)
    assert on_new > 0, "the new node is used"
    lost = Counter(each.failure.code for each in history.attempts if each.failure is not None)
    lost += Counter(each.outcome for each in history.attempts if each.outcome == "interrupted")
    codes = ", ".join(f"{count} {code}" for code, count in sorted(lost.items()))
    found = f"{RECORDINGS} of {RECORDINGS} succeeded, each once, {on_new} attempts on the new node; lost: {codes}"
    record(what="300 recordings, four nodes, three of which are killed", runs=1, seeds="", found=found)
