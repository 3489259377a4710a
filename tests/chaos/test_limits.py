"""What one task does to its process and to the memory harms nobody beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from batch_program import Batch, artifacts, outputs, until

from trax_ray.codes import FailureCode
from trax_ray.core.limits.services import FIRST_WINDOW
from trax_ray.core.spec import Limits
from trax_ray.core.task import ResourceRequest, TaskState
from trax_ray.testing.factories import make_task

pytestmark = pytest.mark.timeout(300)

LIMIT_MB = 1024

LANE = 64
"""Tasks that share a process: as many as one carries."""

BEFORE = 2 * FIRST_WINDOW
"""Good answers after which a provider is asked so much at the same time."""


def test_a_hog_is_ended_and_asks_for_more_and_nobody_else_suffers(tmp_path: Path, record: Callable[..., None]) -> None:
    small = ResourceRequest(num_cpus=0.25, memory_mb=256)
    tasks = [make_task("hog", script=["hog"], most_mb=3000, resources=small)]
    # They come after it, also when it is tried again.
    tasks += [
        make_task(f"t{number:02}", script=["commit"], sleep_s=0.3, resources=small, priority=9) for number in range(40)
    ]
    with Batch(tmp_path, tasks, limits=Limits(memory_limit_mb=LIMIT_MB)) as batch:
        batch.start()
        until(batch.status, what="the coordinator")
        coordinator, *_ = batch.victims("coordinator")
        code = batch.wait(200)
        assert code == 1, batch.stderr
        assert not batch.findings().problems
        history = batch.history()
        assert [run.epoch for run in history.runs] == [1], f"the coordinator, {coordinator}, lives to the end"
        hog = history.state.records["hog"]
        assert (hog.state, hog.failure.failure_class.value) == (TaskState.FAILED, "resource")
        assert hog.task.resources.memory_mb == LIMIT_MB, "it has asked for all that the batch may use"
        of_hog = [each for each in history.attempts if each.task_id == "hog"]
        assert [each.failure.code for each in of_hog if each.failure] == ["out_of_memory"] * 3
        others = [each for each in history.attempts if each.task_id != "hog"]
        ended = Counter(each.outcome for each in others)
        assert set(ended) <= {"succeeded", "preempted"}
        assert ended["succeeded"] == len(outputs(batch.out)) == 40
    used = ", ".join(each.failure.message.partition(" of memory")[0].rpartition("used ")[2] for each in of_hog)
    found = f"3 attempts, ended at {used}, then failed (resource); 40 others succeeded, {ended['preempted']} made way"
    record(what=f"a task that takes memory without end, limit {LIMIT_MB} MB", runs=1, seeds="", found=found)


def test_a_decoder_that_crashes_is_quarantined_after_two_deaths(tmp_path: Path, record: Callable[..., None]) -> None:
    tasks = [make_task("crash", script=["segfault"], max_retries=9)]
    tasks += [make_task(f"t{number}", script=["commit"], sleep_s=0.1) for number in range(12)]
    with Batch(tmp_path, tasks) as batch:
        assert batch.run() == 1, batch.stderr
        assert not batch.findings().problems
        records = batch.history().state.records
        assert records["crash"].failure.code == "quarantined"
        assert len([each for each in batch.attempts() if each.task_id == "crash"]) == 2
        others = [each for name, each in records.items() if name != "crash"]
        assert {(each.state, each.deaths, each.spent) for each in others} == {(TaskState.SUCCEEDED, 0, 0)}
    found = "quarantined after 2 deaths; 12 others succeeded at their first attempt"
    record(what="a segmentation fault in a process of its own", runs=1, seeds="", found=found)


def test_one_that_crashes_among_many_in_a_process_is_the_only_one_blamed(
    tmp_path: Path, record: Callable[..., None]
) -> None:
    """All 64 are in the lane when it dies of one of them; some were there before, so that a provider takes as many."""
    crash, gate = tmp_path / "crash", tmp_path / "gate"
    before = [make_task(f"b{number:02}", script=["commit"], shared=True, priority=0) for number in range(BEFORE)]
    tasks = [*before, make_task("crash", script=[[f"hold:{crash}", "segfault"]], shared=True, priority=1)]
    tasks += [
        make_task(f"t{number:02}", script=[[f"hold:{gate}", "commit"]], shared=True, priority=1)
        for number in range(LANE - 1)
    ]
    with Batch(tmp_path, tasks, limits=Limits(max_workers=LANE)) as batch:
        batch.start()
        until(lambda: len(batch.attempts()) == BEFORE + LANE, what="all of them in the lane")
        assert len({each.pid for each in batch.attempts()}) == 1
        crash.touch()
        until(lambda: len(batch.attempts()) > BEFORE + LANE, what="the first one that runs alone")
        gate.touch()
        code = batch.wait(200)
        assert code == 1, batch.stderr
        assert not batch.findings().problems
        history = batch.history()
        records = history.state.records
        assert records["crash"].failure.code == "quarantined"
        others = [each for name, each in records.items() if name != "crash"]
        assert {(each.state, each.deaths, each.spent) for each in others} == {(TaskState.SUCCEEDED, 0, 0)}
        assert len(others) == len(artifacts(batch.out)) == len(outputs(batch.out)) == BEFORE + LANE - 1
        died = Counter(
            each.task_id for each in history.attempts if each.failure and each.failure.code == FailureCode.WORKER_DIED
        )
        assert died.pop("crash") == 2, "once among others, once alone; the second time alone quarantined it"
        assert died == {task.id: 1 for task in tasks[BEFORE + 1 :]}
    found = f"{LANE - 1} succeeded, none of them blamed and no retry spent; 1 quarantined after 2 deaths alone"
    record(what=f"a segmentation fault among {LANE} tasks that share a process", runs=1, seeds="", found=found)
