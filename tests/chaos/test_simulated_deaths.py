"""Every death at every moment, thousands of times, in one process: nothing is lost, repeated, or mixed up.

TRAX_RAY_CHAOS_SEEDS says how many batches each pair of them gets. What fails prints the command that shows it again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import simulated_coordinator
from simulated_coordinator import Coordinator
from simulation import MOMENTS, RIVALS, VICTIMS, Sums, simulate, sweep

from trax_ray.core.state.additions import additions
from trax_ray.core.state.events import AttemptEnded, Event, Revived
from trax_ray.core.state.ledger import Ledger
from trax_ray.core.state.machine import BatchState
from trax_ray.core.task import BatchTask, TaskState
from trax_ray.store import artifacts, epochs, files, inbox, writing
from trax_ray.store.artifacts import ArtifactStore
from trax_ray.store.epochs import OpenedJournal

SEEDS = int(os.environ.get("TRAX_RAY_CHAOS_SEEDS", "300"))

FOUND_BY = 300
"""By this seed a broken variant must have been found."""

pytestmark = pytest.mark.timeout(300 + SEEDS)

SPOKEN = {
    "driver": "the driver dies",
    "coordinator": "the coordinator dies",
    "worker": "a worker dies",
    "raylet": "a node's raylet dies, and its workers, some of them late",
    "gcs": "the GCS dies, and the run with it",
    "everything": "everything dies at once",
    "power": "the power goes, and what wasn't synced",
}


PACK = 20
"""Seeds that a process simulates in one go."""


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """A process for each core. The simulation itself has one thread only."""
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as processes:
        yield processes


def swept(pool: ProcessPoolExecutor, victim: str, moments: Iterable[str], *options: str) -> dict[str, Sums]:
    """What came of SEEDS simulations for each of the moments."""
    packs = [range(start, min(start + PACK, SEEDS)) for start in range(0, SEEDS, PACK)]
    running = {moment: [pool.submit(sweep, victim, moment, pack, *options) for pack in packs] for moment in moments}
    found: dict[str, Sums] = {}
    for moment, futures in running.items():
        found[moment] = sum((each.result() for each in futures), Sums())
        if found[moment].problem:
            for each in chain.from_iterable(running.values()):
                each.cancel()
            pytest.fail(found[moment].problem)
    return found


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_death_loses_nothing_and_repeats_nothing(
    pool: ProcessPoolExecutor, victim: str, record: Callable[[str, int, str, str], None]
) -> None:
    found = swept(pool, victim, MOMENTS)
    assert all(sums.struck > SEEDS * 0.6 for sums in found.values()), f"it hardly ever came to that: {found}"
    total = sum(found.values(), Sums())
    counts = f"{total.struck:,} deaths, {total.attempts:,} attempts, {total.commits:,} results"
    record(
        f"simulated: {SPOKEN[victim]}",
        total.runs,
        f"0-{SEEDS - 1} x {len(MOMENTS)} moments",
        f"0 inputs lost, 0 results committed twice, 0 finished ones started again ({counts})",
    )


def test_of_several_coordinators_one_acts(
    pool: ProcessPoolExecutor, record: Callable[[str, int, str, str], None]
) -> None:
    """The lock doesn't exclude, and they get in each other's way at any step."""
    victims = ("driver", "coordinator", "gcs")
    total = sum((swept(pool, victim, ["running"], "rivals")["running"] for victim in victims), Sums())
    assert total.fenced > total.runs / 2
    record(
        "simulated: several coordinators at once, where locks don't exclude",
        total.runs,
        f"0-{SEEDS - 1} x {len(victims)} deaths",
        f"{total.fenced:,} were overtaken, and none of them acted afterwards",
    )


def test_the_same_seed_is_the_same_batch() -> None:
    for seed in range(5):
        assert simulate("power", "artifact", seed) == simulate("power", "artifact", seed)


# Broken variants: what must not pass, doesn't


def expect_found(wanted: str, victim: str, moment: str, **options: Any) -> None:
    """Some batch has a problem that matches `wanted`."""
    for seed in range(FOUND_BY):
        report = simulate(victim, moment, seed, **options)
        if any(re.search(wanted, problem) for problem in report.problems):
            return
    pytest.fail(f"{FOUND_BY} batches, and nobody noticed: {wanted}")


class ActsFirst(Coordinator):
    """Runs commands before their events are in the journal; `queued` is the moment in between."""

    def _commit(self, events: list[Event]) -> None:
        assert self.book is not None
        held: list[Any] = []
        with patch.object(OpenedJournal, "append", lambda journal, records: held.append(records)):
            commands = self.book.commit(events, self.now(), self._following)
        for command in commands:
            self._execute(command)
        if commands:
            self.world.moment("queued", self.process)
            self.process.point()
        for records in held:
            self.book.journal.append(records)


class ForgetsRequests(Coordinator):
    """Takes requests away before what they caused is in the journal."""

    def _waiting_requests(self) -> list[inbox.Request]:
        requests = super()._waiting_requests()
        for request in requests:
            inbox.remove(self.layout.inbox, request.name)
        return requests


class DoesNotPause(Coordinator):
    """Starts tasks while it is paused."""

    def _following(self) -> list[Event]:
        paused, self.state.paused = self.state.paused, False
        following = super()._following()
        self.state.paused = paused
        return following


class Forgets(Coordinator):
    """Forgets what was interrupted."""

    def _commit(self, events: list[Event]) -> None:
        super()._commit(events)
        for record in self.state.records.values():
            if record.state is TaskState.QUEUED and record.attempt and record.epoch < self.state.epoch:
                self.state._waiting._queue.remove(record.task.id)
                record.state = TaskState.RUNNING


def test_commands_before_the_journal_are_noticed() -> None:
    expect_found("the journal doesn't know", "coordinator", "queued", coordinator=ActsFirst)


def test_a_coordinator_that_looks_for_no_others_is_noticed() -> None:
    with patch.object(epochs, "check", lambda folder, epoch: None):
        expect_found("went on after a higher one", "driver", "running", **RIVALS)
        expect_found("acts although epoch", "driver", "running", **RIVALS)
        expect_found("the journal doesn't know", "driver", "running", **RIVALS)


def test_artifacts_that_are_overwritten_are_noticed() -> None:
    def put(self: ArtifactStore, key: str, payload: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        files.ensure_folder(self.path(key).parent)
        writing.write_atomically(self.path(key), artifacts._encode(key, payload))
        return True, payload

    with patch.object(ArtifactStore, "put", put):
        expect_found("was committed twice", "driver", "artifact", locks=False)


def test_outcomes_of_other_attempts_that_count_are_noticed() -> None:
    def current(self: BatchState, event: AttemptEnded) -> Any:
        record = self.records[event.task_id]
        return record if record.state is TaskState.RUNNING else None

    with patch.object(BatchState, "_current", current):
        expect_found("which it needs, had succeeded|hasn't ended; what ended was", "worker", "running")


def test_requests_that_are_forgotten_are_noticed() -> None:
    wanted = "was neither answered nor is it waiting"
    expect_found(wanted, "coordinator", "asked", coordinator=ForgetsRequests, meddling=0.0)


def test_a_pause_that_is_none_is_noticed() -> None:
    expect_found("while the batch was paused", "worker", "asked", coordinator=DoesNotPause)


def test_interrupted_work_that_is_forgotten_is_noticed() -> None:
    expect_found("doesn't come to an end", "coordinator", "running", coordinator=Forgets)


def test_a_journal_that_is_not_synced_is_noticed() -> None:
    with patch.object(files, "fsync", lambda fd: None):
        expect_found("the journal doesn't know", "power", "running")


def test_finished_work_that_is_given_again_is_noticed() -> None:
    def again(ledger: Ledger, tasks: list[BatchTask], missing: Collection[str] = ()) -> list[Event]:
        ended = [task for task in tasks if task.id in ledger.records and ledger.records[task.id].state.terminal]
        rest = additions(ledger, [task for task in tasks if task not in ended], missing)
        return [Revived(tuple(ended)), *rest] if ended else rest

    with patch.object(simulated_coordinator, "additions", again):
        expect_found("had succeeded and hasn't changed, but was to be done again", "everything", "committed")


def test_a_transcript_of_another_recording_is_noticed() -> None:
    written = writing.write_atomically

    def mixed_up(path: Path, data: bytes, **more: Any) -> bool:
        return written(path, b"said something else" if path.name == "talk2.txt" else data, **more)

    with patch.object(writing, "write_atomically", mixed_up):
        expect_found("the transcript of talk2 is", "worker", "running")
