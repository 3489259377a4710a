"""Commands from other terminals and signals, at any moment: the batch stays consistent, and ends when it should."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from batch_program import Batch, Command, artifacts, until

from trax_ray.core.spec import Limits
from trax_ray.core.task import BatchTask, TaskState
from trax_ray.store import inbox
from trax_ray.testing.factories import make_task

pytestmark = pytest.mark.timeout(600)

SEEDS = (1, 2)
COMMANDS = 20
"""Of each of the two processes that give them."""

GONE_S = 5.0
"""From a signal until no process of the run is left."""

AT_ONCE_S = 3.0

TRIES = 3
"""A machine that does other things besides is slow now and then; what always takes longer is found."""


def tasks_by(seed: int) -> Iterator[BatchTask]:
    """200 tasks of several fates, priorities and places; those that fail for good do so once."""
    chance = random.Random(seed)
    fates = {"fine": ["commit"], "flaky": ["transient", "commit"], "failed": ["permanent", "commit"]}
    for number in range(200):
        fate = chance.choices(list(fates), (8, 1, 1))[0]
        yield make_task(
            f"{fate}{number:03}",
            script=fates[fate],
            sleep_s=chance.uniform(0.0, 0.6),
            priority=chance.randrange(3),
            shared=chance.random() < 0.2,
        )


def test_200_tasks_under_commands_of_chance_and_restarts_are_consistent(
    tmp_path: Path, record: Callable[..., None]
) -> None:
    """Two other processes pause, resume, stop and retry; the same command again after each end, until all is done."""
    with Batch(tmp_path, tasks_by(SEEDS[0]), limits=Limits(queue_size=30)) as batch:
        batch.start()
        until(lambda: batch.attempts(), what="the first attempt")
        controllers = [batch.control(seed, COMMANDS) for seed in SEEDS]
        codes: list[int] = []
        while any(controller.poll() is None for controller in controllers):
            if batch.ended:
                codes.append(batch.wait())
                batch.start()
            time.sleep(0.1)
        while not codes or codes[-1] != 0:
            # Nobody gives commands any more: what they left paused or failed goes on.
            inbox.put(batch.layout.inbox, "resume")
            inbox.put(batch.layout.inbox, "retry-failed")
            codes.append(batch.wait())
            assert len(codes) < 40, codes
            if codes[-1] != 0:
                batch.start()
        assert set(codes) <= {0, 1, 130}
        assert [controller.wait() for controller in controllers] == [0, 0]
        findings = batch.findings()
        assert not findings.problems
        history = batch.history()
        assert {each.state for each in history.state.records.values()} == {TaskState.SUCCEEDED}
        succeeded = Counter(each.task_id for each in history.attempts if each.outcome == "succeeded")
        assert succeeded == dict.fromkeys(history.state.records, 1)
        assert len(succeeded) == len(artifacts(batch.out)) == 200
        answered = len(history.state.requests)
    found = (
        f"{answered} requests answered, {len(codes)} runs, {codes.count(130)} of them stopped; {findings.attempts} "
        f"attempts, {findings.interrupted} interrupted; all 200 succeeded once, nothing started while paused"
    )
    record(what="200 tasks under random commands and restarts", runs=len(codes), seeds=str(SEEDS), found=found)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_in_time_and_the_same_one_continues(
    samples: Path, tmp_path: Path, record: Callable[..., None], number: signal.Signals
) -> None:
    gone_s: list[float] = []
    while len(gone_s) < TRIES and min(gone_s, default=GONE_S) >= GONE_S:
        with Command(samples, tmp_path / str(len(gone_s))) as command:
            command.until_at_work()
            gone_s.append(command.signalled(number))
            _, stderr = command.process.communicate(timeout=10)
            assert command.process.returncode == 130, stderr
            assert "this continues: " in stderr
            assert (command.out / "report" / "files.parquet").exists()
            assert (command.out / "report" / "run.json").exists()
            transcripts = {path: path.stat().st_ino for path in command.out.glob("**/*.txt")}
            assert transcripts
            done = command.again()
            assert done.returncode == 0, done.stderr
            assert {path: path.stat().st_ino for path in transcripts} == transcripts
    assert min(gone_s) < GONE_S, f"the last process was gone so many seconds after the signal: {gone_s}"
    found = f"exit code 130; after {min(gone_s):.1f} s no process left; the same command completes it"
    record(what=f"{number.name} to the command line", runs=len(gone_s), seeds="", found=found)


def test_a_second_interrupt_ends_it_at_once(samples: Path, tmp_path: Path, record: Callable[..., None]) -> None:
    gone_s: list[float] = []
    while len(gone_s) < TRIES and min(gone_s, default=AT_ONCE_S) >= AT_ONCE_S:
        with Command(samples, tmp_path / str(len(gone_s))) as command:
            command.until_at_work()
            command.look()
            command.process.send_signal(signal.SIGINT)
            time.sleep(0.3)
            gone_s.append(command.signalled(signal.SIGINT))
            _, stderr = command.process.communicate(timeout=10)
            assert command.process.returncode == 130, stderr
            assert "this continues: " in stderr
            done = command.again()
            assert done.returncode == 0, done.stderr
    assert min(gone_s) < AT_ONCE_S, f"the last process was gone so many seconds after the second signal: {gone_s}"
    found = f"exit code 130; {min(gone_s):.2f} s after the second no process left; the same command completes it"
    record(what="SIGINT twice to the command line", runs=len(gone_s), seeds="", found=found)
