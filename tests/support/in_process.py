"""A batch in this process, without Ray: plan, journal, machine and attempts are the real ones, one at a time."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trax_ray.core.spec import BatchSpec
from trax_ray.core.state.additions import additions
from trax_ray.core.state.events import (
    AttemptEnded,
    CoordinatorStarted,
    Dispatch,
    Expanded,
    InputsClosed,
    Started,
)
from trax_ray.core.state.machine import BatchState
from trax_ray.core.task import BatchTask, Outcome, TaskState
from trax_ray.kinds.assignment import Assignment
from trax_ray.kinds.run import make_attempt
from trax_ray.plan.plan import Plan
from trax_ray.plan.planner import make_plan
from trax_ray.store.batch_journal import BatchJournal, missing_results
from trax_ray.store.layout import Layout

__all__ = ["Ended", "run_batch", "run_tasks"]


@dataclass
class Ended:
    """How a batch went.

    Args:
        state: As its journal has it.
        attempts: Ids of the tasks that an attempt was made at, in order.
        plan: What it was to do; None where it was given tasks.
    """

    state: BatchState
    attempts: list[str] = field(default_factory=list)
    plan: Plan | None = None

    @property
    def states(self) -> dict[str, str]:
        """The state of each task of this run that isn't a part, by the name that people see."""
        run = self.state.ledger.run.members
        records = [record for record in self.state.records.values() if record.task.id in run]
        return {str(record.task.data["name"]): record.state.value for record in records}

    def codes(self) -> dict[str, str]:
        """The failure codes likewise, of what failed."""
        failed = [record for record in self.state.records.values() if record.state is TaskState.FAILED]
        return {str(each.task.data["name"]): each.failure.code for each in failed if each.failure is not None}

    def outputs(self, name: str) -> list[str]:
        """The files that were written for what people see under this name."""
        (found,) = (each for each in self.state.records.values() if each.task.data["name"] == name)
        return list(found.metrics.get("outputs", ()))

    def warnings(self, name: str) -> list[str]:
        """The warnings likewise."""
        (found,) = (each for each in self.state.records.values() if each.task.data["name"] == name)
        return list(found.metrics.get("warnings", ()))


def run_batch(
    inputs: Sequence[str | Path],
    spec: BatchSpec,
    *,
    before: Callable[[Dispatch], object] = lambda dispatch: None,
    looks: Callable[[BatchState], object] = lambda state: None,
    begins_at: float = 1.0,
) -> Ended:
    """Plan and run a batch.

    Args:
        inputs: As of the command line.
        spec: The batch.
        before: Called before each attempt.
        looks: Called on every turn, before anything starts.
        begins_at: The time at which it begins, seconds since the epoch; it passes as tasks need it.
    """
    plan = make_plan([str(each) for each in inputs], spec)
    ended = run_tasks(plan.tasks, plan.spec, before=before, looks=looks, begins_at=begins_at)
    ended.plan = plan
    return ended


def run_tasks(
    tasks: Sequence[BatchTask],
    spec: BatchSpec,
    *,
    before: Callable[[Dispatch], object] = lambda dispatch: None,
    looks: Callable[[BatchState], object] = lambda state: None,
    begins_at: float = 1.0,
) -> Ended:
    """Run tasks; as `run_batch`."""
    layout = Layout.of(spec.output_dir)
    book = BatchJournal.open(layout, "a batch in process", begins_at)
    try:
        book.commit(
            [CoordinatorStarted(book.epoch, spec.to_dict(), 4096, uuid.uuid4().hex)], max(begins_at, book.state.now + 1)
        )
        ended = Ended(book.state)
        given = additions(book.state.ledger, tasks, missing_results(layout, book.state.records, tasks))
        book.commit([*given, InputsClosed()], book.state.now)
        while not book.state.finished:
            now = max(book.state.now, book.state.next_due() or 0.0)
            looks(book.state)
            starts = [(task.id, book.state.next_attempt(task.id)) for task in book.state.candidates(1, now)]
            if not starts:  # a host is left alone for a while, or cheap hours are awaited
                now = max(now + 1, book.state.saves_until() or 0.0)
            for dispatch in book.commit([Started(tuple(starts))], now):
                assert isinstance(dispatch, Dispatch)
                before(dispatch)
                ended.attempts.append(dispatch.task.id)
                outcome = _attempt(dispatch, spec)
                kind = Expanded if outcome.children and outcome.failure is None else AttemptEnded
                book.commit([kind(dispatch.task.id, dispatch.epoch, dispatch.attempt, outcome)], now + 1)
        return ended
    finally:
        book.close()


def _attempt(dispatch: Dispatch, spec: BatchSpec) -> Outcome:
    assignment = Assignment(spec, dispatch.task, dispatch.epoch, dispatch.attempt, dispatch.children, dispatch.needed)
    *_, outcome = make_attempt(assignment)
    assert isinstance(outcome, Outcome)
    return outcome
