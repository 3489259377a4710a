"""Whoever comes late changes nothing: attempts that were given up, coordinators that were overtaken, lost answers."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from batch_program import Batch, artifacts, outputs, until

from trax_ray.cluster.attempts import KILL_AFTER_S
from trax_ray.core.spec import Limits
from trax_ray.core.task import ResourceRequest, TaskState
from trax_ray.heads import processes
from trax_ray.store.epochs import open_journal, read_chain
from trax_ray.store.processes import mark_of
from trax_ray.testing.factories import make_task

pytestmark = pytest.mark.timeout(400)

LATE = 2
"""Attempts that are stopped at the same time. Two cores have room for them and for the second attempts."""

SMALL = ResourceRequest(num_cpus=0.25, memory_mb=256)

STALL_S = 3.0


@pytest.mark.parametrize("committed", [False, True])
def test_an_attempt_that_was_stopped_and_wakes_up_late_changes_nothing(
    tmp_path: Path, record: Callable[..., None], committed: bool
) -> None:
    """SIGSTOP in the middle, SIGCONT when another attempt has finished the task, before the process is ended."""
    gate = tmp_path / "gate"
    first = ["commit", f"hold:{gate}"] if committed else [f"hold:{gate}", "commit"]
    names = [f"late{number}" for number in range(LATE)]
    scripts = {name: [[*first, f"signal:{tmp_path / name}"], "commit"] for name in names}
    scripts["beside"] = [[f"hold:{tmp_path / 'end'}", "commit"]]
    # The second attempts find processes that are there already: they have to be through before the first are ended.
    scripts |= {f"warm{number}": [[f"hold:{tmp_path / 'warm'}", "commit"]] for number in range(LATE)}
    environ = {"RAY_idle_worker_killing_time_threshold_ms": "60000"}
    tasks = [make_task(name, script=script, resources=SMALL) for name, script in scripts.items()]
    limits = Limits(max_workers=len(tasks))
    with Batch(tmp_path, tasks, environ=environ, limits=limits, stall_timeout_s=STALL_S) as batch:
        batch.start()
        until(lambda: len(batch.attempts()) == len(tasks), what="all first attempts")
        (tmp_path / "warm").touch()
        # Both are a matter of milliseconds: the coordinator hears of the processes, and they commit.
        time.sleep(1.0)
        until(lambda: len(outputs(batch.out)) == (2 * LATE if committed else LATE), what="the first outputs")
        stopped = {name: psutil.Process(batch.began(name).pid) for name in names}
        created = {process: mark_of(process.pid) for process in stopped.values()}
        for process in created:
            process.suspend()
        gate.touch()
        until(lambda: set(names) <= batch.succeeded(), what="the second attempts")
        finished_at = time.monotonic()
        before = artifacts(batch.out), outputs(batch.out)
        inodes = {name: (batch.out / f"{name}.txt").stat().st_ino for name in names}
        woken = [process for process in created if processes.find(process.pid, created[process])]
        assert woken, "they were all ended before the second attempts had finished"
        for process in woken:
            process.resume()
        until(
            lambda: not any(processes.find(process.pid, created[process]) for process in woken),
            KILL_AFTER_S + 10,
            what="the end of the late ones",
        )
        gone_s = time.monotonic() - finished_at
        assert (artifacts(batch.out), outputs(batch.out)) == before
        assert {name: (batch.out / f"{name}.txt").stat().st_ino for name in names} == inodes
        (tmp_path / "end").touch()
        code = batch.wait()
        assert code == 0, batch.stderr
        findings = batch.findings()
        assert not findings.problems
        history = batch.history()
        succeeded = Counter(each.task_id for each in history.attempts if each.outcome == "succeeded")
        assert succeeded == dict.fromkeys(scripts, 1)
        codes = {each.failure.code for each in history.attempts if each.failure is not None}
        assert codes == {"stalled"}
        for name in names:
            by = int((batch.out / f"{name}.txt").read_text().split()[-1])
            assert (by == stopped[name].pid) == committed, "the first one that commits is kept"
    wrote = sum((tmp_path / name).exists() for name in names)
    found = (
        f"{len(woken)} of {LATE} woken up before they were ended, {wrote} of them went on to the end of their attempt; "
        f"all gone {gone_s:.1f} s later; artifacts and output files unchanged"
    )
    where = "after" if committed else "before"
    record(
        what=f"SIGSTOP of workers {where} their commit, SIGCONT after the second attempt",
        runs=LATE,
        seeds="",
        found=found,
    )


def test_a_shared_process_that_hangs_is_ended_and_what_it_carried_runs_alone(
    tmp_path: Path, record: Callable[..., None]
) -> None:
    """SIGSTOP of a lane: its attempts can't say anything, nor see that their time is over."""
    gate = tmp_path / "gate"
    tasks = [make_task(f"t{number}", script=[[f"hold:{gate}", "commit"]], shared=True) for number in range(10)]
    with Batch(tmp_path, tasks, limits=Limits(max_workers=10), stall_timeout_s=STALL_S) as batch:
        batch.start()
        until(lambda: len(batch.attempts()) == 10, what="all of them in the lane")
        (pid,) = {each.pid for each in batch.attempts()}
        time.sleep(1.0)  # it says who it is
        lane = psutil.Process(pid)
        known = lane.pid, mark_of(lane.pid)
        lane.suspend()
        stopped_at = time.monotonic()
        gate.touch()
        until(lambda: processes.find(*known) is None, what="the end of the lane")
        ended_s = time.monotonic() - stopped_at
        assert batch.wait() == 0, batch.stderr
        assert not batch.findings().problems
        records = batch.history().state.records.values()
        assert {(each.state, each.deaths, each.spent) for each in records} == {(TaskState.SUCCEEDED, 0, 0)}
        assert len(artifacts(batch.out)) == 10
    found = f"ended after {ended_s:.1f} s; all 10 tasks that were on it succeeded alone, none of them blamed"
    record(what="SIGSTOP of a process that tasks share", runs=1, seeds="", found=found)


def test_a_coordinator_that_was_overtaken_starts_nothing_any_more(tmp_path: Path, record: Callable[..., None]) -> None:
    """Somebody takes the next epoch, past the lock, while attempts run and more are queued."""
    tasks = [make_task(f"t{number:02}", script=["commit"], sleep_s=0.2) for number in range(30)]
    with Batch(tmp_path, tasks, limits=Limits(max_workers=2)) as batch:
        batch.start()
        until(lambda: len(batch.succeeded()) >= 4, what="four tasks")
        taken = open_journal(batch.layout.journal, "the test", time.time())
        taken_at = time.time()
        before = artifacts(batch.out)
        # What the one before had committed when it was overtaken; only that may it have begun.
        dispatched = {
            (task_id, attempt)
            for event in read_chain(batch.layout.journal)
            if event["event"] == "Started"
            for task_id, attempt in event["starts"]
        }
        taken.close()
        code = batch.wait()
        ended_s = time.time() - taken_at
        assert code == 3
        assert "epoch 2 was taken" in batch.stderr
        begun = batch.attempts()
        assert {(each.task_id, each.attempt) for each in begun} <= dispatched
        after = artifacts(batch.out)
        assert {path: after[path] for path in before} == before
        assert len(after) <= len(dispatched)

        assert batch.run() == 0, batch.stderr
        assert not batch.findings().problems
        assert {path: artifacts(batch.out)[path] for path in after} == after
        assert len(artifacts(batch.out)) == len(tasks)
        late = sum(each.at > taken_at for each in begun)
    found = f"it ended {ended_s:.1f} s later with exit code 3; {late} attempts begun meanwhile, all journalled before"
    record(what="the next epoch taken under a running coordinator", runs=1, seeds="", found=found)


def test_every_task_is_committed_once_though_answers_get_lost(tmp_path: Path, record: Callable[..., None]) -> None:
    """10 % of the replies to PushTask are lost, of attempts and of calls to the coordinator alike."""
    lost = {"num_failures": -1, "req_failure_prob": 0, "resp_failure_prob": 10, "in_flight_failure_prob": 0}
    environ = {"RAY_testing_rpc_failure": json.dumps({"CoreWorkerService.grpc_client.PushTask": lost})}
    tasks = [make_task(f"t{number:03}", script=["commit"]) for number in range(300)]
    with Batch(tmp_path, tasks, environ=environ) as batch:
        codes = [batch.run(200)]
        assert "RpcFailureManager" in batch.stderr, "Ray didn't take the order to lose answers"
        while codes[-1] == 3 and len(codes) < 6:  # a report whose answer was lost, or a third coordinator
            assert "continues" in batch.stderr
            codes.append(batch.run(200))
        assert codes[-1] == 0, batch.stderr
        assert not batch.findings().problems
        history = batch.history()
        begun = Counter(each.task_id for each in batch.attempts())
        assert Counter(each.task_id for each in history.attempts if each.outcome == "succeeded") == dict.fromkeys(
            begun, 1
        )
        assert len(begun) == len(artifacts(batch.out)) == len(outputs(batch.out)) == 300
    failures = Counter(each.failure.code for each in history.attempts if each.failure is not None)
    lost_words = ", ".join(f"{count} {code}" for code, count in sorted(failures.items())) or "none"
    found = (
        f"300 committed, each once; attempts lost: {lost_words}; {len(history.runs)} coordinators; exit codes {codes}"
    )
    record(what="10 % of PushTask's replies lost, 300 tasks", runs=len(codes), seeds="Ray's own", found=found)
