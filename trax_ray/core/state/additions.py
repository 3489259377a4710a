"""What it means that tasks are given to a run: some are new, some to be done again, some known."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from itertools import groupby

from trax_ray.codes import FailureCode
from trax_ray.core.ids import is_same_work
from trax_ray.core.state.events import Event, Known, Revived, TasksAdded
from trax_ray.core.state.ledger import Ledger, TaskRecord
from trax_ray.core.task import BatchTask, TaskState
from trax_ray.errors import UsageError

__all__ = ["additions"]

_Kind = type[TasksAdded] | type[Revived] | type[Known]


def additions(ledger: Ledger, tasks: Iterable[BatchTask], missing: Collection[str] = ()) -> list[Event]:
    """The events of giving tasks to the present run.

    A task that succeeded or failed is done again only when its fingerprint differs; one that was cancelled, or
    given up because of another one, always; one that failed also where its file was missing and is there, or is
    elsewhere now. What succeeded stays so where its file isn't there any more: it was archived. One that is open in
    this run already isn't touched.

    Args:
        ledger: What the folder has.
        tasks: In the order in which they were given, which the events keep.
        missing: Ids of tasks that succeeded and whose results are missing.

    Raises:
        UsageError: A task depends on one that doesn't exist.
    """
    given: dict[str, tuple[_Kind, BatchTask]] = {}
    for task in tasks:
        unknown = [name for name in task.depends_on if name not in ledger.records and name not in given]
        if unknown:
            raise UsageError(f"task {task.id} depends on {unknown[0]}, which has not been added")
        if task.id in given:
            continue
        record = ledger.records.get(task.id)
        if record is None:
            given[task.id] = (TasksAdded, task)
        elif record.state.terminal and not _archived(record, task) and _is_to_do(record, task, missing):
            given[task.id] = (Revived, task)
        elif task.id not in ledger.run.members:
            given[task.id] = (Known, task)
    events: list[Event] = []
    for kind, group in groupby(given.values(), key=lambda entry: entry[0]):
        members = tuple(task for _, task in group)
        events.append(_known(ledger, members) if kind is Known else kind(members))
    return events


def _known(ledger: Ledger, tasks: tuple[BatchTask, ...]) -> Known:
    pairs = ((ledger.records[task.id].task, task) for task in tasks)
    news = (_with_news(known, given) for known, given in pairs if _is_news(known, given))
    return Known(tuple(task.id for task in tasks), tuple(news))


def _with_news(known: BatchTask, given: BatchTask) -> BatchTask:
    """The task as it was done, with where its recording is and what tells that from a later state of it."""
    told = {name: given.data[name] for name in ("file_path", "mtime_ns") if name in given.data}
    return replace(known, data={**known.data, **told}, fingerprint=given.fingerprint)


def _is_news(known: BatchTask, given: BatchTask) -> bool:
    """Whether the recording is elsewhere now, or a time is known that an earlier version didn't note."""
    if given.data.get("missing") or not is_same_work(known.fingerprint, given.fingerprint):
        return False
    moved = known.data.get("file_path") != given.data.get("file_path")
    return moved or ("-" in given.fingerprint and "-" not in known.fingerprint)


def _is_to_do(record: TaskRecord, task: BatchTask, missing: Collection[str]) -> bool:
    return _left_undone(record) or _came_back(record, task) or _outdated(record, task) or task.id in missing


def _archived(record: TaskRecord, task: BatchTask) -> bool:
    """Its file can't be looked at any more, and its result is made."""
    return record.state is TaskState.SUCCEEDED and bool(task.data.get("missing"))


def _came_back(record: TaskRecord, task: BatchTask) -> bool:
    """Its file wasn't there, and is; or it is elsewhere now."""
    path = task.data.get("file_path")
    gone = record.failure is not None and record.failure.code == FailureCode.NOT_FOUND
    moved = record.task.data.get("file_path") != path
    return record.state is TaskState.FAILED and bool(path) and not task.data.get("missing") and (gone or moved)


def _left_undone(record: TaskRecord) -> bool:
    """It ended without an attempt of its own (cancelled, given up for one that it depends on), or by request."""
    failure = record.failure
    given_up = failure is not None and failure.code == FailureCode.DEPENDENCY_FAILED
    return record.state is TaskState.CANCELLED or given_up or record.retry_wanted


def _outdated(record: TaskRecord, task: BatchTask) -> bool:
    return not is_same_work(record.task.fingerprint, task.fingerprint)
