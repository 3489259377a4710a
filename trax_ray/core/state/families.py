"""What one task means for another: what it depends on, what depends on it, the children that it planned.

A task is blocked until all that it needs has succeeded. When one ends, its parent and its dependents learn of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from trax_ray.codes import FailureCode
from trax_ray.core.ids import is_same_work
from trax_ray.core.state.ledger import NOBODY, Cause, Ledger, TaskRecord
from trax_ray.core.state.waiting import Waiting
from trax_ray.core.task import BatchTask, FailureClass, Result, TaskState
from trax_ray.errors import IllegalTransition

__all__ = ["Families"]


class Families:
    """Who needs whom.

    Args:
        ledger: Where the tasks are; states change there.
        waiting: Where tasks go that have all that they need.

    Attributes:
        expanded: Ids of tasks that planned children and haven't started again since.
    """

    def __init__(self, ledger: Ledger, waiting: Waiting) -> None:
        self.expanded: dict[str, None] = {}
        self._ledger = ledger
        self._waiting = waiting
        self._dependents: dict[str, dict[str, None]] = {}

    # Tasks come, and come again

    def add(self, task: BatchTask) -> None:
        """A new task."""
        record = self._ledger.add(task)
        self._note_dependencies(task)
        self._settle(record)

    def revive(self, tasks: Iterable[BatchTask]) -> None:
        """Do again what has ended. First all of it is open, then it settles: one may need another that comes later."""
        for record in [self._reopen(task) for task in tasks]:
            self._settle(record)

    def expand(self, record: TaskRecord, children: tuple[BatchTask, ...]) -> None:
        """A running task planned children; it runs again when all of them have succeeded.

        Raises:
            IllegalTransition: There are none.
        """
        if not children:
            raise IllegalTransition(f"task {record.task.id} can't expand into nothing: {record.tell()}")
        # Known only when all are there: a child that fails while it is added must not judge its parent.
        record.children = ()
        self._ledger.move(record, Cause.EXPAND)
        self.expanded[record.task.id] = None
        for child in children:
            known = self._ledger.records.get(child.id)
            if known is None:
                self.add(child)
            elif known.state is TaskState.SUCCEEDED and is_same_work(known.task.fingerprint, child.fingerprint):
                continue
            elif known.state.terminal:
                self.revive([child])
        record.children = tuple(child.id for child in children)
        open_ones = (name for name in record.children if not self._ledger.records[name].state.terminal)
        record.waiting_for = frozenset(open_ones)
        self._check_parent(record)

    def start(self, record: TaskRecord) -> tuple[dict[str, Result], dict[str, Result]]:
        """A task starts: what its children made and what the tasks made that it depends on, by their ids, in order."""
        self.expanded.pop(record.task.id, None)
        return self._results(record.children), self._results(record.task.depends_on)

    def _results(self, names: Iterable[str]) -> dict[str, Result]:
        made = {name: self._ledger.records[name] for name in names}
        return {name: Result(each.artifact_key, each.metrics, each.task.kind) for name, each in made.items()}

    def failed(self) -> tuple[list[TaskRecord], list[TaskRecord]]:
        """What has failed and nobody else will do again.

        Returns:
            Tasks without a parent, and children whose parent goes on. Those of a parent that failed, or that will
            start anew, aren't among them: it plans them again.
        """
        records = self._ledger.records
        failed = [record for record in records.values() if record.state is TaskState.FAILED]
        children = []
        for record in failed:
            parent = records.get(record.task.parent)
            if parent is not None and parent.state is TaskState.BLOCKED and record.task.id in parent.children:
                children.append(record)
        return [record for record in failed if not record.task.parent], children

    def _reopen(self, task: BatchTask) -> TaskRecord:
        record = self._ledger.records[task.id]
        self._ledger.move(record, Cause.REVIVE)
        self._ledger.give(record)
        # A changed input is another matter.
        record.suspect = record.suspect and record.task.fingerprint == task.fingerprint
        self._ledger.replace_task(record, task)
        self._note_dependencies(task)
        record.spent = record.deaths = record.losses = record.degradation = record.turned_away = 0
        record.repeats = {}
        record.retry_wanted = False
        record.failure, record.artifact_key, record.metrics, record.children = None, "", {}, ()
        record.waiting_for = NOBODY
        self.expanded.pop(task.id, None)
        parent = self._ledger.records.get(task.parent)
        if parent is not None and task.id in parent.children:
            parent.waiting_for |= {task.id}
        return record

    def _note_dependencies(self, task: BatchTask) -> None:
        for name in task.depends_on:
            self._dependents.setdefault(name, {})[task.id] = None

    def _settle(self, record: TaskRecord) -> None:
        """A blocked task: queue it, keep it blocked, or end it, as the tasks stand that it depends on."""
        needed = [self._ledger.records[name] for name in record.task.depends_on]
        for other in needed:
            if other.state in (TaskState.FAILED, TaskState.CANCELLED):
                self._abandon(record, other)
                self._spread(record)
                return
        missing = frozenset(other.task.id for other in needed if other.state is not TaskState.SUCCEEDED)
        record.waiting_for = missing or NOBODY
        if not missing:
            self._waiting.make_ready(record)

    # Tasks end

    def end(self, record: TaskRecord, cause: Cause) -> None:
        """A task ends for good; its parent and its dependents learn of it, and theirs in turn."""
        self._ledger.move(record, cause)
        self._spread(record)

    def _spread(self, record: TaskRecord) -> None:
        ended = [record]
        for each in ended:  # grows meanwhile: a chain of dependents may be longer than Python's stack
            if each.task.parent:
                self._check_parent(self._ledger.records[each.task.parent])
            for name in self._dependents.get(each.task.id, ()):
                other = self._ledger.records[name]
                if other.state is not TaskState.BLOCKED or each.task.id not in other.waiting_for:
                    continue
                if each.state is not TaskState.SUCCEEDED:
                    self._abandon(other, each)
                    ended.append(other)
                    continue
                other.waiting_for -= {each.task.id}
                if not other.waiting_for:
                    self._waiting.make_ready(other)

    def _abandon(self, record: TaskRecord, ended: TaskRecord) -> None:
        """A blocked task can't run any more, because one that it needs failed or was cancelled."""
        if ended.state is TaskState.CANCELLED:
            self._ledger.move(record, Cause.CANCEL)
            return
        assert ended.failure is not None
        record.failure = ended.failure
        if ended.failure.code != FailureCode.DEPENDENCY_FAILED:
            message = f"{ended.task.task_type.value} failed before it: {ended.failure.message}"
            record.failure = replace(
                ended.failure, failure_class=FailureClass.PERMANENT, code=FailureCode.DEPENDENCY_FAILED, message=message
            )
        self._ledger.move(record, Cause.FAIL)

    def _check_parent(self, parent: TaskRecord) -> None:
        """An expanded task goes on when its children have all succeeded, and fails when all ended and one failed."""
        if parent.state is not TaskState.BLOCKED or not parent.children:
            return
        children = [self._ledger.records[name] for name in parent.children]
        if any(not child.state.terminal for child in children):
            return
        parent.waiting_for = NOBODY
        failed = [child for child in children if child.failure is not None and child.state is TaskState.FAILED]
        if not failed:
            self._waiting.make_ready(parent)
            return
        first = failed[0].failure
        assert first is not None
        # Of an only chunk the failure says it all: that a recording was cut into one is nobody's business.
        count = f"{len(failed)} of {len(children)} chunks failed: " if len(children) > 1 else ""
        message = f"{count}{first.message}"
        parent.failure = replace(first, message=message)
        self.end(parent, Cause.FAIL)
