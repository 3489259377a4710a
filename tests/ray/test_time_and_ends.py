"""Time limits, hours, signals, and a batch with nothing left to do; on real Ray."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import ray
from batches import run, until

from tests.ray.conftest import Start
from trax_ray.cluster import remote
from trax_ray.cluster.lane import LANE_WIDTH, Lanes
from trax_ray.core.spec import Limits, RetryPolicy
from trax_ray.core.state.events import CoordinatorStarted, Dispatch
from trax_ray.core.task import ResourceRequest
from trax_ray.errors import BusyError
from trax_ray.processor import BatchProcessor
from trax_ray.report.fold import read_history
from trax_ray.store.batch_journal import BatchJournal, read_state
from trax_ray.store.layout import Layout
from trax_ray.store.lease import Lease
from trax_ray.testing.factories import make_spec, make_task
from trax_ray.testing.scripted import attempts_in


async def test_an_attempt_that_takes_too_long_ends_itself_and_is_made_again(batch: Start, tmp_path: Path) -> None:
    slow = make_task("slow", sleep_s=30.0, max_retries=1)
    result = await run(batch([slow, make_task("quick")], task_timeout_s=1.0))
    assert (result.success_count, result.failure_count) == (1, 1)
    (failure,) = result.failures
    assert (failure["code"], failure["failure_class"], failure["attempts"]) == ("timed_out", "transient", 2)
    assert "--task-timeout" in failure["error"]


async def test_nothing_starts_before_its_time_also_where_a_clock_was_ahead_once(batch: Start, tmp_path: Path) -> None:
    log = tmp_path / "log"
    processor = batch([make_task("t", log=str(log))], start_at=time.time() + 3.0)
    book = BatchJournal.open(Layout(Path(processor.spec.output_dir)), "a batch on a day in 2100", time.time())
    book.commit([CoordinatorStarted(book.epoch, processor.spec.to_dict(), run="then")], 4e9)
    book.close()
    running = asyncio.create_task(run(processor))
    progress = await until(processor, lambda progress: progress.waits_until is not None)
    assert progress.waits_until == processor.spec.start_at
    assert not attempts_in(log)
    assert (await running).success_count == 1
    assert time.time() >= processor.spec.start_at


async def test_outside_of_its_hours_a_batch_waits_and_can_be_stopped(batch: Start) -> None:
    now = datetime.now()
    hours = f"{now + timedelta(hours=2):%H:%M}-{now + timedelta(hours=3):%H:%M}"
    processor = batch([make_task("t")], only_between=hours)
    running = asyncio.create_task(run(processor))
    progress = await until(processor, lambda progress: progress.waits_until is not None)
    assert progress.waits_until is not None
    assert 3600 < progress.waits_until - time.time() <= 7200
    await processor.stop()
    assert (await running).cancelled_count == 1


@pytest.mark.long
async def test_after_a_signal_what_runs_has_a_while_to_end_and_nothing_starts(batch: Start, tmp_path: Path) -> None:
    log = tmp_path / "log"
    quick = [make_task(f"quick{number}", sleep_s=4.0, log=str(log)) for number in range(2)]
    waiting = [make_task(f"waiting{number}", log=str(log)) for number in range(4)]
    processor = batch([*quick, *waiting], grace_s=20.0, limits=Limits(max_workers=2))
    running = asyncio.create_task(run(processor))
    while len(attempts_in(log)) < 2:
        await asyncio.sleep(0.05)
    processor.interrupt()
    result = await running
    assert result.reason == "stopped"
    assert (result.success_count, result.cancelled_count) == (2, 4)
    assert len(attempts_in(log)) == 2


@pytest.mark.long
async def test_after_the_grace_period_what_runs_is_cancelled_and_the_next_run_does_it(
    batch: Start, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    tasks = [make_task("long", sleep_s=5.0, log=str(log))]
    processor = batch(tasks, grace_s=0.5)
    running = asyncio.create_task(run(processor))
    while not attempts_in(log):
        await asyncio.sleep(0.05)
    began = time.monotonic()
    processor.interrupt()
    result = await running
    assert (result.reason, result.cancelled_count) == ("stopped", 1)
    assert time.monotonic() - began < 5.0
    assert (await run(batch(tasks))).success_count == 1


async def test_a_pause_outlasts_a_signal(batch: Start, tmp_path: Path) -> None:
    tasks = [make_task("t")]
    first = batch(tasks)
    first.pause()
    running = asyncio.create_task(run(first))
    await until(first, lambda progress: progress.paused)
    first.interrupt()
    assert (await running).reason == "stopped"
    second = batch(tasks)
    running = asyncio.create_task(run(second))
    await until(second, lambda progress: progress.paused and progress.total_tasks == 1)
    second.resume()
    assert (await running).success_count == 1


async def test_with_nothing_left_to_do_neither_ray_nor_the_journal_is_touched(batch: Start, tmp_path: Path) -> None:
    tasks = [make_task("good"), make_task("bad", script=["permanent"])]
    first = await run(batch(tasks))
    segments = sorted(path.name for path in (tmp_path / "out" / ".trax" / "journal").iterdir())
    seen: list[int] = []
    again = batch(tasks)
    second = await again.start(lambda progress: seen.append(progress.completed_tasks))
    assert (second.success_count, second.failure_count, second.reason) == (1, 1, "complete")
    assert second.failures == first.failures
    assert seen == [1]
    assert again.dashboard_url == ""
    assert sorted(path.name for path in (tmp_path / "out" / ".trax" / "journal").iterdir()) == segments


async def test_a_report_that_a_death_left_behind_is_made_good(batch: Start, tmp_path: Path) -> None:
    await run(batch([make_task("t")]))
    (tmp_path / "out" / "report" / "run.json").unlink()
    await run(batch([make_task("t")]))
    assert (tmp_path / "out" / "report" / "run.json").exists()


async def test_whoever_holds_the_folder_is_named_before_ray_is_started(tmp_path: Path) -> None:
    out = tmp_path / "out"
    lease = Lease(Layout(out).lock)
    lease.acquire("batch of somebody else")
    Layout(out).journal.mkdir()
    processor = BatchProcessor(make_spec(out))
    processor.feed([make_task("t")])
    began = time.monotonic()
    with pytest.raises(BusyError, match="batch of somebody else"):
        await processor.start()
    assert time.monotonic() - began < 5.0
    lease.release()


async def test_attempts_that_share_a_process_run_side_by_side(batch: Start, tmp_path: Path) -> None:
    tasks = [make_task(f"t{number}", shared=True, sleep_s=1.0) for number in range(40)]
    script = ["transient", "ok"]
    result = await run(batch([*tasks, make_task("again", shared=True, script=script)], limits=Limits(max_workers=100)))
    assert result.success_count == 41
    history = read_history(tmp_path / "out")
    assert len({attempt.pid for attempt in history.attempts}) == 1, "64 attempts have room in one process"
    began = sorted(attempt.started_at for attempt in history.attempts)
    assert began[30] - began[0] < 1.0, "as many as a service is asked at first run at the same time"
    assert len([attempt for attempt in history.attempts if attempt.task_id == "again"]) == 2


@pytest.mark.usefixtures("head")
def test_shared_processes_leave_all_cores_to_the_tasks_that_need_one(tmp_path: Path) -> None:
    """However many there are: what they wait for may be what these tasks do."""
    gate, spec = tmp_path / "gate", make_spec(tmp_path / "out").to_dict()
    calls = [make_task(f"t{number}", script=[f"hold:{gate}"], shared=True) for number in range(2 * LANE_WIDTH + 1)]
    lanes = Lanes()
    carried = [lanes.submit(call.kind, remote.pack(Dispatch(call, 1, 1), spec)) for call in calls]
    whole = ResourceRequest(num_cpus=1.0, memory_mb=256)
    seen = [Path(f"{gate}-{core}") for core in range(int(ray.cluster_resources()["CPU"]))]
    attempts = [
        Dispatch(make_task(path.name, script=[[f"signal:{path}", f"hold:{gate}"]], resources=whole), 1, 1, {})
        for path in seen
    ]
    working = [remote.submit(attempt, remote.pack(attempt, spec), {}) for attempt in attempts]
    end = time.monotonic() + 60
    while not all(path.exists() for path in seen):
        assert time.monotonic() < end, "they wait for a core"
        time.sleep(0.1)
    gate.touch()
    outcomes = [remote.unpack(ray.get(list(said)[-1])) for said in working]
    outcomes += [remote.unpack(ray.get(each)) for each in carried]
    lanes.close()
    assert all(outcome is not None and outcome.failure is None for outcome in outcomes)


async def test_how_many_may_run_is_in_the_journal(batch: Start, tmp_path: Path) -> None:
    await run(batch([make_task("t")], limits=Limits(max_workers=1), retry=RetryPolicy()))
    state = read_state(Layout(tmp_path / "out"))
    assert state.scaled is not None
    assert state.scaled.slots == 1
