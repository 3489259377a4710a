"""The coordinator on real Ray, with scripted attempts."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
from batches import run, until

from trax_ray.core.spec import Limits
from trax_ray.core.task import ResourceRequest, TaskState, TaskType
from trax_ray.errors import BusyError, FencedError, UsageError
from trax_ray.processor import BatchProcessor
from trax_ray.report.fold import read_history
from trax_ray.store.epochs import open_journal
from trax_ray.store.layout import Layout
from trax_ray.testing.factories import make_task
from trax_ray.testing.scripted import attempts_in, logged

Start = Callable[..., BatchProcessor]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "attempts"


def counted(log: Path) -> Counter[str]:
    return Counter(task_id for task_id, _, _ in attempts_in(log))


@pytest.mark.long
async def test_every_failure_class_goes_its_way(batch: Start, log: Path) -> None:
    tasks = [
        make_task("fine", log=str(log)),
        make_task("flaky", script=["transient", "ok"], log=str(log)),
        make_task("hopeless", script=["transient"], max_retries=2, log=str(log)),
        make_task("broken", script=["permanent"], log=str(log)),
        make_task("strange", script=["raise"], max_retries=1, log=str(log)),
        make_task("dies-once", script=["die", "ok"], log=str(log)),
        make_task("killer", script=["die"], max_retries=9, log=str(log)),
        make_task("hungry", script=["resource", "ok"], log=str(log)),
        make_task("plain", TaskType.YOUTUBE, script=["transient", "ok"], log=str(log)),
    ]
    result = await run(batch(tasks))
    assert (result.success_count, result.failure_count, result.total_count) == (5, 4, 9)
    assert result.quality_metrics["recovered_count"] == 4
    failures = {failure["file_id"]: failure for failure in result.failures}
    assert {name: failure["failure_class"] for name, failure in failures.items()} == {
        "hopeless": "transient",
        "broken": "permanent",
        "strange": "unknown",
        "killer": "permanent",
    }
    assert failures["killer"]["code"] == "quarantined"
    assert "LookupError" in failures["strange"]["error"]
    assert all(failure["category"] for failure in result.failures)
    assert counted(log) == {
        "fine": 1, "flaky": 2, "hopeless": 3, "broken": 1, "strange": 2, "dies-once": 2, "killer": 2, "hungry": 2,
        "plain": 2,
    }  # fmt: skip


async def test_priorities_decide_and_ties_go_to_the_oldest(batch: Start, log: Path) -> None:
    tasks = [make_task(f"{name}", priority=number, log=str(log)) for name, number in
             [("low", 11), ("a", 5), ("b", 5), ("high", 0), ("c", 5)]]  # fmt: skip
    await run(batch(tasks, limits=Limits(max_workers=1)))
    assert [task_id for task_id, _, _ in attempts_in(log)] == ["high", "a", "b", "c", "low"]


async def test_what_needs_no_core_is_loaded_by_as_many_processes_at_a_time_as_there_are_cores(
    batch: Start, log: Path
) -> None:
    free = ResourceRequest(num_cpus=0.0, memory_mb=256)
    cores = int(ray.cluster_resources()["CPU"])
    tasks = [make_task(f"{number}", resources=free, load_s=0.5, sleep_s=2.0, log=str(log)) for number in range(4)]
    await run(batch(tasks, limits=Limits(max_workers=6, memory_limit_mb=9000, cpu_limit_percent=100)))
    began = [each.at for each in logged(log)]
    assert all(later - earlier >= 0.5 for earlier, later in zip(began, began[cores:], strict=False))
    assert began[-1] - began[0] < 4 * 2.0, "they work beside one another"


async def test_chunks_run_before_their_recording_is_assembled(batch: Start, log: Path) -> None:
    tasks = [
        make_task("whole", script=["expand:3"], log=str(log)),
        make_task("spoilt", script=["expand:2"], child_script=["permanent"], log=str(log)),
    ]
    result = await run(batch(tasks))
    assert (result.success_count, result.failure_count, result.total_count) == (1, 1, 2)
    order = [task_id for task_id, _, _ in attempts_in(log)]
    whole = [task_id for task_id in order if task_id.startswith("whole")]
    assert whole[0] == whole[-1] == "whole"
    assert sorted(whole[1:-1]) == ["whole/0", "whole/1", "whole/2"]
    assert result.failures[0]["error"].startswith("2 of 2 chunks failed")


async def test_dependents_wait_and_fail_with_what_they_need(batch: Start, log: Path) -> None:
    tasks = [
        make_task("first", sleep_s=0.3, log=str(log)),
        make_task("second", depends_on=("first",), log=str(log)),
        make_task("broken", script=["permanent"], log=str(log)),
        make_task("orphan", depends_on=("broken",), log=str(log)),
    ]
    result = await run(batch(tasks))
    order = [task_id for task_id, _, _ in attempts_in(log)]
    assert order.index("first") < order.index("second")
    assert "orphan" not in order
    assert {failure["file_id"]: failure["code"] for failure in result.failures}["orphan"] == "dependency_failed"


async def test_pause_lets_nothing_start_and_resume_goes_on(batch: Start, log: Path) -> None:
    tasks = [make_task(f"t{number}", sleep_s=0.2, log=str(log)) for number in range(6)]
    processor = batch(tasks, limits=Limits(max_workers=1))
    running = asyncio.create_task(run(processor))
    await until(processor, lambda progress: progress.completed_tasks >= 1)
    await processor.pause()
    paused = await until(processor, lambda progress: progress.paused and progress.active_workers == 0)
    before = len(attempts_in(log))
    await asyncio.sleep(0.6)
    assert len(attempts_in(log)) == before
    assert processor.get_progress().completed_tasks == paused.completed_tasks < 6
    processor.resume()
    result = await running
    assert result.success_count == 6


async def test_stop_cancels_and_the_next_run_continues(batch: Start, log: Path) -> None:
    tasks = [make_task(f"t{number}", sleep_s=0.1, log=str(log)) for number in range(4)]
    tasks += [make_task("long", sleep_s=60.0, log=str(log))]
    processor = batch(tasks)
    running = asyncio.create_task(run(processor))
    await until(processor, lambda progress: progress.completed_tasks == 4 and counted(log)["long"] == 1)
    processor.stop()
    result = await running
    assert (result.reason, result.success_count, result.cancelled_count) == ("stopped", 4, 1)
    again = [*tasks[:4], make_task("long", log=str(log))]
    result = await run(batch(again))
    assert (result.reason, result.success_count, result.cancelled_count) == ("complete", 5, 0)
    assert counted(log) == {"t0": 1, "t1": 1, "t2": 1, "t3": 1, "long": 2}


async def test_a_dead_coordinator_is_replaced_and_nothing_is_lost(batch: Start, log: Path, tmp_path: Path) -> None:
    tasks = [make_task(f"t{number}", sleep_s=0.15, log=str(log)) for number in range(12)]
    processor = batch(tasks, limits=Limits(max_workers=2))
    running = asyncio.create_task(run(processor))
    await until(processor, lambda progress: progress.completed_tasks >= 3)
    assert processor._driver is not None
    ray.kill(processor._driver._actor)
    result = await running
    assert result.success_count == result.total_count == 12
    journal = read_history(tmp_path / "out")
    assert journal.state.epoch == 2
    succeeded = [attempt for attempt in journal.attempts if attempt.outcome == "succeeded"]
    assert sorted(attempt.task_id for attempt in succeeded) == sorted(task.id for task in tasks)


async def test_a_silent_attempt_is_ended_and_made_again(batch: Start, log: Path) -> None:
    tasks = [make_task("mute", script=["hang", "ok"], log=str(log))]
    result = await run(batch(tasks, stall_timeout_s=1.0))
    assert result.success_count == 1
    assert counted(log) == {"mute": 2}


async def test_a_config_failure_parks_and_burns_no_attempts(batch: Start, log: Path) -> None:
    tasks = [make_task(f"t{number}", script=["config"], log=str(log)) for number in range(5)]
    result = await run(batch(tasks, limits=Limits(max_workers=1)))
    assert result.reason == "parked"
    assert (result.success_count, result.failure_count) == (0, 0)
    assert list(result.parked) == ["scripted"]
    assert len(attempts_in(log)) == 1
    mended = [make_task(f"t{number}", script=["config", "ok"], log=str(log)) for number in range(5)]
    result = await run(batch(mended))
    assert result.reason == "parked", "an unchanged task keeps its script, and so its failure"


async def test_two_batches_cannot_share_a_folder(batch: Start, log: Path) -> None:
    first = batch([make_task("long", sleep_s=30.0, log=str(log))])
    running = asyncio.create_task(run(first))
    await until(first, lambda progress: progress.active_workers == 1)
    with pytest.raises(BusyError, match="out"):
        await run(batch([make_task("other", log=str(log))]))
    first.stop()
    await running


async def test_a_coordinator_that_was_overtaken_stops(batch: Start, log: Path, tmp_path: Path) -> None:
    tasks = [make_task(f"t{number}", sleep_s=0.2, log=str(log)) for number in range(20)]
    processor = batch(tasks, limits=Limits(max_workers=1))
    running = asyncio.create_task(run(processor))
    await until(processor, lambda progress: progress.completed_tasks >= 1)
    open_journal(Layout(tmp_path / "out").journal, "the test", 0.0).close()
    with pytest.raises(FencedError):
        await running


async def test_changed_tasks_are_done_again_and_others_are_not(batch: Start, log: Path) -> None:
    tasks = [make_task(name, fingerprint="1", log=str(log)) for name in ("same", "changed")]
    await run(batch(tasks))
    tasks[1] = make_task("changed", fingerprint="2", log=str(log))
    result = await run(batch(tasks))
    assert result.success_count == result.total_count == 2
    assert counted(log) == {"same": 1, "changed": 2}


async def test_the_journal_tells_the_same_story(batch: Start, tmp_path: Path) -> None:
    tasks = [make_task("a"), make_task("b", script=["transient", "ok"]), make_task("c", script=["permanent"])]
    await run(batch(tasks))
    state = read_history(tmp_path / "out").state
    assert {name: record.state for name, record in state.records.items()} == {
        "a": TaskState.SUCCEEDED,
        "b": TaskState.SUCCEEDED,
        "c": TaskState.FAILED,
    }
    status = json.loads(Layout(tmp_path / "out").status.read_text())
    assert (status["phase"], status["total"], status["failed"]) == ("complete", 3, 1)


async def test_an_unknown_dependency_is_refused_and_the_batch_stops(batch: Start) -> None:
    processor = batch([make_task("a"), make_task("b", depends_on=("nobody",))])
    with pytest.raises(UsageError, match="nobody"):
        await run(processor)
