"""kill -9 of each kind of process at each point of an attempt, on real Ray: nothing is lost, nothing is done twice."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from batch_program import Batch, artifacts, outputs, until

from trax_ray.core.spec import Limits
from trax_ray.store import inbox
from trax_ray.testing.factories import make_task

pytestmark = pytest.mark.timeout(300)

KILLS = [
    ("driver", "queued"),
    ("driver", "running"),
    ("driver", "between"),
    ("coordinator", "queued"),
    ("coordinator", "between"),
    ("coordinator", "after"),
    ("worker", "running"),
    ("worker", "between"),
    ("worker", "after"),
    ("raylet", "queued"),
    ("raylet", "between"),
    ("gcs", "running"),
    ("gcs", "after"),
    ("everything", "queued"),
    ("everything", "running"),
    ("everything", "after"),
]
"""Whom it hits, and where its task stands then: 16 of the 24 pairs, each victim and each place several times."""

QUEUE_SIZE = 3

SURVIVED = {"coordinator", "worker"}
"""Those whose death the same command survives; after any other it is given once more."""

PLACES = {
    "queued": "queued",
    "running": "running",
    "between": "between artifact and journal",
    "after": "after its commit",
}

DRIVER_GONE_S = 40.0
"""GCS and raylet take their driver along: ten seconds until Ray gives up, and room for two busy cores."""


def batch_at(tmp_path: Path, place: str) -> Batch:
    """A batch of seven tasks, two at a time. `target` comes to a certain place, and `beside` keeps it from ending.

    Its queue is short, so that tasks are still being given to it when something is killed.
    """
    gate, here = tmp_path / "gate", tmp_path / "here"
    script = {
        "queued": "commit",
        "running": [f"hold:{gate}", "commit"],
        "between": ["commit", f"signal:{here}", f"hold:{gate}"],
        "after": "commit",
    }[place]
    tasks = [make_task("first", script=["commit"], priority=0), make_task("target", script=[script], priority=1)]
    tasks += [make_task("beside", script=[[f"hold:{gate}", "commit"]], priority=2)]
    tasks += [make_task(f"rest{number}", script=["commit"], priority=3) for number in range(4)]
    return Batch(tmp_path, tasks, limits=Limits(max_workers=2, queue_size=QUEUE_SIZE))


def reached(batch: Batch, place: str) -> bool:
    """Whether the target stands where the test wants it."""
    if place == "queued":
        # Not `queued` of the status: that counts what is still to be given, too.
        return len(batch.given()) == QUEUE_SIZE
    if place == "running":
        return "first" in batch.succeeded() and batch.began("target") is not None
    if place == "between":
        return "first" in batch.succeeded() and (batch.folder / "here").exists()
    return {"first", "target"} <= batch.succeeded() and batch.began("beside") is not None


@pytest.mark.parametrize(("victim", "place"), KILLS)
def test_kill_9_loses_nothing_and_repeats_nothing(
    tmp_path: Path, record: Callable[..., None], victim: str, place: str
) -> None:
    with batch_at(tmp_path, place) as batch:
        if place == "queued":
            inbox.put(batch.layout.inbox, "pause")
        batch.start()
        until(lambda: reached(batch, place), what=f"the target to be {place}")
        batch.look()
        victims = batch.victims(victim, "target")
        assert victims
        batch.kill(victims)
        killed_at = time.monotonic()
        if victim not in SURVIVED:
            batch.wait(DRIVER_GONE_S)
        gone_s = time.monotonic() - killed_at
        before, finished = artifacts(batch.out), batch.succeeded()
        epoch = batch.history().state.epoch
        (tmp_path / "gate").touch()
        if place == "queued":
            inbox.put(batch.layout.inbox, "resume")
        left = batch.left()
        code = batch.wait() if victim in SURVIVED else batch.run()

        assert code == 0, batch.stderr
        assert not batch.findings().problems
        history = batch.history()
        succeeded = Counter(each.task_id for each in history.attempts if each.outcome == "succeeded")
        assert succeeded == dict.fromkeys(history.state.records, 1)
        assert len(succeeded) == len(outputs(batch.out)) == len(artifacts(batch.out)) == 7
        assert {path: artifacts(batch.out)[path] for path in before} == before, "a committed result was written again"
        redone = [each for each in batch.attempts() if each.epoch > epoch and each.task_id in finished]
        assert not redone, "what was finished was begun again"
        assert not batch.left(), "processes of the run outlive it"
    found = f"{len(finished)} of 7 tasks finished before, none of them again"
    if victim not in SURVIVED:
        found += f"; the driver gone after {gone_s:.1f} s, {len(left)} processes left, which the next run ended"
    record(what=f"kill -9 of {victim}, the task {PLACES[place]}", runs=1, seeds="", found=found)
