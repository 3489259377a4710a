"""Whether a batch kept what trax_ray promises, read from the journal of its output folder.

    findings = check("out")
    assert not findings.problems

or `python -m trax_ray.testing.history OUT`. It keeps its own books on the records as they stand in the journal and asks
neither the machine nor the report about them: a checker that replays the machine can't find the machine's faults.

It knows less than the machine does, and where the journal leaves something open it gives the batch the benefit of the
doubt. An attempt that failed may be made again or not, for example; but a task whose attempts only failed for a time
must have used up its retries before its input counts as failed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias

from trax_ray.codes import FailureCode
from trax_ray.errors import TraxRayError
from trax_ray.store.artifacts import ArtifactStore
from trax_ray.store.epochs import epochs_in, groups_of, openings, read_chain, segment_path
from trax_ray.store.layout import Layout
from trax_ray.store.uris import Place

__all__ = ["Findings", "check"]

Record: TypeAlias = Mapping[str, Any]

_DEFAULT_RETRIES = 3
"""What a task has where its record doesn't say: fields with their default are left out of the journal."""

_BLAMELESS = frozenset({FailureCode.NODE_DIED, FailureCode.OWNER_DIED, FailureCode.RESULT_LOST})
"""Codes of attempts that were lost through no fault of their task; they cost none of its retries."""

_OWN_RULES = frozenset({FailureCode.WORKER_DIED, FailureCode.OUT_OF_MEMORY})
"""Codes of failures that may be for good before the retries are used up."""

_EVERYTHING = "*"


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found.

    Args:
        problems: Each promise that was broken, as a sentence that names the task, the epoch or the request; none in a
            good history.
        inputs: Inputs that the folder has.
        tasks: Tasks, chunks among them.
        attempts: Attempts that were started.
        successes: Attempts whose success counted; the planning of chunks is none.
        interrupted: Attempts whose coordinator ended before they did.
        dropped: Outcomes of attempts that weren't the current ones any more, and so didn't count.
        revivals: Tasks that had ended and were to be done again.
        epochs: Coordinators that ran.
    """

    problems: tuple[str, ...]
    inputs: int = 0
    tasks: int = 0
    attempts: int = 0
    successes: int = 0
    interrupted: int = 0
    dropped: int = 0
    revivals: int = 0
    epochs: int = 0

    def __str__(self) -> str:
        """The problems, a line each, and the counts in a last one."""
        counts = (
            f"{self.inputs} inputs, {self.tasks} tasks; {self.attempts} attempts: {self.successes} succeeded, "
            f"{self.interrupted} interrupted, {self.dropped} outcomes dropped; {self.revivals} tasks done again; "
            f"{self.epochs} coordinators; {len(self.problems) or 'no'} problems"
        )
        return "\n".join((*self.problems, counts))


def check(output_dir: str | Path, *, ended: bool = True, artifacts: bool = True) -> Findings:
    """Check the history of a batch. Reads only; but a damaged artifact is set aside, as by whoever finds one.

    Args:
        output_dir: The batch's output folder. Nobody is at work there, else what was just begun looks left undone.
        ended: Whether the batch is through, so that every input must be.
        artifacts: Whether results are artifacts, which must be there and whole; scripted attempts make none.

    Returns:
        What was found. A journal that can't be read is a problem as well.
    """
    layout = Layout.of(output_dir)
    books = _Books()
    try:
        _read(layout, books)
        if artifacts:
            books.check_artifacts(ArtifactStore(layout.artifacts))
    except TraxRayError as error:
        books.problem(f"the history can't be read to its end: {error}")
    else:
        if ended:
            books.check_ends()
    return books.findings()


class _State(str, Enum):
    """Where a task is, as far as the journal says it by itself."""

    OPEN = "open"
    RUNNING = "running"
    FAILED = "failed"  # its last attempt did; whether for good shows later
    SUCCEEDED = "succeeded"
    CANCELLED = "cancelled"


@dataclass(slots=True)
class _Task:
    """The books of one task.

    `tries` are attempts since it was last new, `spent` those that must have cost a retry; `waits` has what must
    succeed before it may start; the chunks among it needn't where it is `freed`, because it may have been given up and
    then was to be done again. `stray` tells of the last outcome that didn't count.
    """

    id: str
    file_id: str
    parent: str
    provider: str
    depends_on: tuple[str, ...]
    retries: int
    fingerprint: str
    state: _State = _State.OPEN
    epoch: int = 0
    attempt: int = 0
    tries: int = 0
    spent: int = 0
    successes: int = 0
    for_good: bool = False
    failure: Record = field(default_factory=dict)
    waits: set[str] = field(default_factory=set)
    children: tuple[str, ...] = ()
    freed: bool = False
    artifact: str = ""
    stray: str = ""

    @classmethod
    def of(cls, record: Record) -> _Task:
        return cls(
            id=record["id"],
            file_id=record.get("file_id") or record["id"],
            parent=record.get("parent", ""),
            provider=record.get("provider", ""),
            depends_on=tuple(record.get("depends_on", ())),
            retries=record.get("max_retries", _DEFAULT_RETRIES),
            fingerprint=record.get("fingerprint", ""),
        )

    @property
    def ended(self) -> bool:
        return self.state in (_State.SUCCEEDED, _State.FAILED, _State.CANCELLED)

    def renew(self, task: _Task) -> None:
        """It is to be done again, as `task` says now. The numbers of attempts go on."""
        self.provider, self.depends_on, self.retries = task.provider, task.depends_on, task.retries
        self.fingerprint, self.state, self.for_good = task.fingerprint, _State.OPEN, False
        self.tries = self.spent = self.successes = 0
        self.failure, self.children, self.artifact = {}, (), ""


class _Books:
    """All that is noted while the records go by, one after the other."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.tasks: dict[str, _Task] = {}
        self.epochs: list[int] = []
        self.attempts = self.successes = self.interrupted = self.dropped = self.revivals = 0
        self._waiters: dict[str, set[str]] = {}
        self._started: set[tuple[str, int, int]] = set()
        self._requests: set[str] = set()
        self._parked: dict[str, bool] = {}
        """Providers that wait for a person; False where recordings whose chunks are done may still be assembled."""
        self._members: set[str] = set()
        self._run: str | None = None
        self._paused = self._draining = self._closed = False
        self._over = ""
        """Why the present run has ended; a coordinator that replaces another one goes on with the same run."""
        self._handlers: dict[str, Callable[[Record], None]] = {
            "CoordinatorStarted": self._coordinator_started,
            "TasksAdded": self._tasks_added,
            "Revived": self._revived,
            "Known": self._known,
            "InputsClosed": self._inputs_closed,
            "Started": self._starts,
            "AttemptEnded": self._attempt_ended,
            "Expanded": self._expanded,
            "Preempted": self._preempted,
            "Scaled": lambda record: None,
            "Paused": self._pause,
            "Resumed": self._resume,
            "RetryFailed": self._retry_failed,
            "Draining": self._drain,
            "Stopped": self._stop,
        }

    def problem(self, sentence: str) -> None:
        self.problems.append(sentence)

    def findings(self) -> Findings:
        return Findings(
            problems=tuple(self.problems),
            inputs=len({task.file_id for task in self.tasks.values()}),
            tasks=len(self.tasks),
            attempts=self.attempts,
            successes=self.successes,
            interrupted=self.interrupted,
            dropped=self.dropped,
            revivals=self.revivals,
            epochs=len(self.epochs),
        )

    # Segments and records

    def begin_segment(self, epoch: int) -> None:
        if self.epochs and epoch <= self.epochs[-1]:
            self.problem(f"epoch {epoch} came after epoch {self.epochs[-1]}")
        self.epochs.append(epoch)

    @property
    def epoch(self) -> int:
        return self.epochs[-1]

    def handle(self, record: Record) -> None:
        name = record.get("event")
        handler = self._handlers.get(str(name))
        if handler is None:
            self.problem(f"epoch {self.epoch} has a record of an unknown kind, {name!r}")
            return
        request = record.get("request")
        if request:
            if request in self._requests:
                self.problem(f"request {request} was answered a second time ({name}, under epoch {self.epoch})")
                return
            self._requests.add(request)
        try:
            handler(record)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.problem(f"epoch {self.epoch} has a {name} that lacks what it must have ({error!r})")

    def _find(self, task_id: str, what: str) -> _Task | None:
        task = self.tasks.get(task_id)
        if task is None:
            self.problem(f"task {task_id}: {what}, but it has never been added")
        return task

    # Coordinators and runs

    def _coordinator_started(self, record: Record) -> None:
        if record["epoch"] != self.epoch:
            self.problem(f"the segment of epoch {self.epoch} has a coordinator of epoch {record['epoch']}")
        run = record.get("run", "")
        another = self._run is not None and run != self._run
        for task in self.tasks.values():
            if task.state is _State.RUNNING:
                self.interrupted += 1
                task.state = _State.OPEN
        if another:
            self._cancel_all()
        if another or self._run is None:
            self._run, self._draining, self._over = run, False, ""
            self._members.clear()
        if self._over.startswith("complete"):
            self._over = ""  # nobody had been told, and whoever asks again may add to it
        self._closed = False
        self._parked.clear()

    def _inputs_closed(self, record: Record) -> None:
        self._closed = True

    def _pause(self, record: Record) -> None:
        self._paused = True

    def _resume(self, record: Record) -> None:
        self._paused = False
        self._parked.clear()

    def _drain(self, record: Record) -> None:
        self._draining = True

    def _stop(self, record: Record) -> None:
        reason = record.get("reason", "stop")
        if reason == "stop":
            self._paused = False
        self._over = f"stopped by {reason}"
        self._cancel_all()

    def _cancel_all(self) -> None:
        """What is open is cancelled, but for what had been given up: that counts as failed, and may go on as such."""
        given_up = self._given_up()
        for task in self.tasks.values():
            if not task.ended:
                task.state = _State.FAILED if task.id in given_up else _State.CANCELLED
            elif task.state is _State.FAILED and not task.for_good:
                task.failure = {}  # if it wasn't for good, this ended it

    def _note_completion(self) -> None:
        """Before something is added: the run may be over already, because all that it had has ended."""
        if self._closed and not self._over and all(self._surely_ended(task) for task in self.tasks.values()):
            self._over = "complete, all that it had being done"

    @staticmethod
    def _surely_ended(task: _Task) -> bool:
        return task.state in (_State.SUCCEEDED, _State.CANCELLED) or (task.state is _State.FAILED and task.for_good)

    # What is to be done

    def _tasks_added(self, record: Record) -> None:
        self._note_completion()
        for each in record["tasks"]:
            self._add(_Task.of(each))

    def _add(self, task: _Task) -> None:
        if task.id in self.tasks:
            self.problem(f"task {task.id} was added a second time, under epoch {self.epoch}")
            return
        self.tasks[task.id] = task
        self._members.add(task.id)
        self._settle(task)

    def _settle(self, task: _Task) -> None:
        """Note what a task that is open again has to wait for."""
        for name in task.depends_on:
            if name not in self.tasks:
                self.problem(f"task {task.id} depends on {name}, which has never been added")
        self._wait_for(task, task.depends_on)

    def _wait_for(self, task: _Task, names: Iterable[str]) -> None:
        task.waits = {name for name in names if name in self.tasks and not self._has_succeeded(name)}
        for name in task.waits:
            self._waiters.setdefault(name, set()).add(task.id)

    def _has_succeeded(self, task_id: str) -> bool:
        return self.tasks[task_id].state is _State.SUCCEEDED

    def _revived(self, record: Record) -> None:
        self._note_completion()
        given_up = self._given_up()
        again = []
        for each in record["tasks"]:
            task = self._find(each["id"], "it was to be done again")
            if task is None:
                continue
            if not task.ended and task.id not in given_up:
                self.problem(f"task {task.id} was to be done again under epoch {self.epoch} before it had ended")
            self._renew(task, _Task.of(each))
            again.append(task)
        for task in again:
            self._settle(task)

    def _renew(self, task: _Task, said: _Task) -> None:
        self.revivals += 1
        self._members.add(task.id)
        task.renew(said)

    def _known(self, record: Record) -> None:
        for task_id in record["task_ids"]:
            if self._find(task_id, "a run was given it as known") is not None:
                self._members.add(task_id)
        for described in map(_Task.of, record.get("tasks", ())):
            known = self._find(described.id, "a run was given it as known, with news")
            if known is not None:
                known.fingerprint = described.fingerprint

    def _retry_failed(self, record: Record) -> None:
        """What failed is open again; where the journal doesn't say whether it was for good, it may go on either way."""
        self._note_completion()
        if self._over:
            return
        given_up = self._given_up()
        failed = [task for task in self.tasks.values() if task.state is _State.FAILED or task.id in given_up]
        again = [task for task in failed if self._goes_on(task)]
        for task in again:
            task.spent, task.freed = 0, True
            if task.for_good:
                failure = task.failure
                self._renew(task, task)
                task.failure = failure
        for task in again:
            if task.state is _State.OPEN and not task.children:
                self._settle(task)

    def _goes_on(self, task: _Task) -> bool:
        """Whether a task that failed belongs to what the run still has to do."""
        if not task.parent:
            return task.id in self._members
        parent = self.tasks.get(task.parent)
        return parent is not None and parent.state is _State.OPEN and task.id in parent.children

    # Attempts

    def _starts(self, record: Record) -> None:
        for task_id, attempt in record["starts"]:
            self.attempts += 1
            task = self._find(task_id, f"its attempt {attempt} was started")
            if task is None:
                continue
            for why in self._against(task, attempt):
                self.problem(f"task {task_id}: its attempt {attempt} was started under epoch {self.epoch} {why}")
            task.state, task.epoch, task.attempt, task.stray = _State.RUNNING, self.epoch, attempt, ""
            task.tries += 1
            if task.freed:
                task.freed = False
                task.waits.difference_update(task.children)
            self._started.add((task_id, self.epoch, attempt))

    def _against(self, task: _Task, attempt: int) -> Iterator[str]:
        """Why an attempt should not have been started."""
        if attempt != task.attempt + 1:
            yield f"after attempt {task.attempt}"
        if self._paused:
            yield "while the batch was paused"
        if self._draining:
            yield "after a signal, when nothing was to start any more"
        if self._over:
            yield f"after the end of its run ({self._over})"
        if task.state is _State.RUNNING:
            yield f"while its attempt {task.attempt} was running"
        elif task.state is _State.SUCCEEDED:
            yield "although it had succeeded and was not to be done again"
        elif task.state is _State.CANCELLED:
            yield "although it was cancelled and was not to be done again"
        elif task.state is _State.FAILED and task.for_good:
            yield "although it had failed for good and was not to be done again"
        if task.spent > task.retries:
            yield f"although its {task.retries} retries were used up"
        needed = task.waits.difference(task.children if task.freed else ())
        if needed:
            yield f"before {min(needed)}, which it needs, had succeeded"
        if _EVERYTHING in self._parked or self._parked.get(task.provider, False):
            yield f"while {task.provider or 'everything'} was parked"
        elif task.provider in self._parked and not task.children:
            yield f"while {task.provider} was parked"

    def _current(self, record: Record) -> _Task | None:
        """The task that an outcome counts for; None where it comes from another attempt than the current one."""
        task_id, epoch, attempt = record["task_id"], record["epoch"], record["attempt"]
        task = self._find(task_id, f"its attempt {attempt} ended")
        if task is None:
            return None
        if (task_id, epoch, attempt) not in self._started:
            self.problem(f"task {task_id}: attempt {attempt} of epoch {epoch} ended, which was never started")
        if task.state is _State.RUNNING and (task.epoch, task.attempt) == (epoch, attempt):
            return task
        self.dropped += 1
        if task.state is _State.RUNNING:
            task.stray = f"; what ended was attempt {attempt} of epoch {epoch}"
        return None

    def _attempt_ended(self, record: Record) -> None:
        task, outcome = self._current(record), record["outcome"]
        if task is None:
            return
        failure = outcome.get("failure")
        if failure is None:
            self._succeed(task, outcome)
        else:
            self._fail(task, failure, answered=outcome.get("signal") is not None)

    def _succeed(self, task: _Task, outcome: Record) -> None:
        self.successes += 1
        task.successes += 1
        if task.successes > 1:
            self.problem(f"task {task.id} succeeded {task.successes} times (attempt {task.attempt}) for one result")
        task.state, task.artifact, task.failure = _State.SUCCEEDED, outcome.get("artifact_key", ""), {}
        if not task.artifact:
            self.problem(f"task {task.id}: its attempt {task.attempt} succeeded without the key of an artifact")
        for name in self._waiters.pop(task.id, ()):
            self.tasks[name].waits.discard(task.id)

    def _fail(self, task: _Task, failure: Record, *, answered: bool) -> None:
        """An attempt failed; `answered` says that a service said so itself."""
        task.failure = failure
        kind, code = failure["failure_class"], failure.get("code", "")
        if kind == "config":
            task.state = _State.OPEN
            provider = failure.get("parks") or task.provider or _EVERYTHING
            if not answered or provider not in self._parked:
                self._parked[provider] = not answered
            return
        task.state = _State.FAILED
        # A service that asks its callers to wait doesn't cost them retries; which of its answers do is its own affair.
        task.spent += kind == "transient" and code not in _BLAMELESS and not answered
        task.for_good = kind == "permanent" or task.spent > task.retries

    def _expanded(self, record: Record) -> None:
        task, children = self._current(record), record["outcome"].get("children", ())
        if task is None:
            return
        if not children:
            self.problem(f"task {task.id}: its attempt {task.attempt} planned chunks and named none")
        task.state, task.failure, task.children = _State.OPEN, {}, tuple(child["id"] for child in children)
        again = []
        for child in map(_Task.of, children):
            known = self.tasks.get(child.id)
            if known is None:
                self._add(child)
            elif known.ended and not (
                known.state is _State.SUCCEEDED and _is_same(known.fingerprint, child.fingerprint)
            ):
                self._renew(known, child)
                again.append(known)
        for each in again:
            self._settle(each)
        self._wait_for(task, task.children)

    def _preempted(self, record: Record) -> None:
        task = self._current(record)
        if task is not None:
            task.state = _State.OPEN

    # The end

    def check_artifacts(self, store: ArtifactStore) -> None:
        """Every result that stands is there, and whole."""
        known: dict[str, str] = {}
        for task in self.tasks.values():
            if task.state is not _State.SUCCEEDED or not task.artifact:
                continue
            if task.artifact not in known:
                known[task.artifact] = _fault(store, task.artifact)
            if known[task.artifact]:
                self.problem(f"task {task.id} succeeded, but its artifact {task.artifact} {known[task.artifact]}")

    def check_ends(self) -> None:
        """Every task has ended, and so has every input."""
        given_up = self._given_up()
        for task in self.tasks.values():
            why = ""
            if task.state is _State.RUNNING:
                why = f"is left open: attempt {task.attempt} of epoch {task.epoch} hasn't ended{task.stray}"
            elif (
                task.state is _State.OPEN and task.id not in given_up and not self._went_with_its_parent(task, given_up)
            ):
                needed = f", waiting for {min(task.waits)}" if task.waits else ""
                why = f"is left open after attempt {task.attempt}{needed}"
            elif task.state is _State.FAILED and self._gave_up_early(task):
                kind, code = task.failure["failure_class"], task.failure.get("code", "")
                why = (
                    f"was given up after {task.tries} of {task.retries + 1} attempts, its failure being {kind} ({code})"
                )
            if why:
                self.problem(f"input {task.file_id}: task {task.id} {why}")

    def _went_with_its_parent(self, task: _Task, given_up: set[str]) -> bool:
        """Whether it is a chunk that had failed, of a recording that wasn't gone on with."""
        parent = self.tasks.get(task.parent)
        return bool(task.failure) and parent is not None and (parent.ended or parent.id in given_up)

    @staticmethod
    def _gave_up_early(task: _Task) -> bool:
        own_rules = task.failure.get("code", "") in _OWN_RULES
        return bool(task.failure) and not task.for_good and not own_rules and task.tries <= task.retries

    def _given_up(self) -> set[str]:
        """Open tasks that can't be done, because one that they need failed or was cancelled; parents of chunks too."""
        dependents: dict[str, list[str]] = {}
        for task in self.tasks.values():
            for name in task.waits:
                dependents.setdefault(name, []).append(task.id)
        given_up: set[str] = set()
        ended = [task.id for task in self.tasks.values() if task.state in (_State.FAILED, _State.CANCELLED)]
        for name in ended:  # grows meanwhile
            for each in dependents.get(name, ()):
                task = self.tasks[each]
                if task.state is _State.OPEN and each not in given_up and self._may_give_up(task, name, given_up):
                    given_up.add(each)
                    ended.append(each)
        return given_up

    def _may_give_up(self, task: _Task, needed: str, given_up: set[str]) -> bool:
        """A chunk that failed is waited out by its parent: the other chunks are of use the next time."""
        if needed not in task.children:
            return True
        return all(self.tasks[name].ended or name in given_up for name in task.children if name in self.tasks)


def _read(layout: Layout, books: _Books) -> None:
    """Take the books through the segments that count, and look at what lies beyond them."""
    chain = openings(layout.journal)
    if not chain:
        books.problem(f"there is no batch in {layout.output_dir}")
    counted: dict[int, int | None] = {}
    for opening, (path, limit) in zip(chain, read_chain(layout.journal).links, strict=True):
        books.begin_segment(opening.epoch)
        counted[opening.epoch] = limit
        first = True
        for number, group in enumerate(groups_of(path, limit)):
            for record in group.records() if number else ():
                if first and record.get("event") != "CoordinatorStarted":
                    books.problem(f"the segment of epoch {opening.epoch} begins without its coordinator")
                elif not first and record.get("event") == "CoordinatorStarted":
                    books.problem(f"the segment of epoch {opening.epoch} has another coordinator in it")
                books.handle(record)
                first = False
    _check_fence(layout.journal, counted, books)


def _check_fence(folder: Place, counted: Mapping[int, int | None], books: _Books) -> None:
    """A coordinator may have been writing one group when a higher epoch was taken. Then it looked, and stopped."""
    last = max(counted, default=0)
    for epoch in epochs_in(folder):
        path = segment_path(folder, epoch)
        limit = counted.get(epoch, 0)
        if limit is None:
            continue
        beyond = [group for group in groups_of(path) if group.end > limit]
        if len(beyond) > 1:
            events = [record.get("event", "its opening") for group in beyond[1:] for record in group.records()]
            named = ", ".join(sorted({task_id for group in beyond[1:] for task_id in _named(group.records())}))
            books.problem(
                f"epoch {epoch} went on after a higher one, up to {last}, was taken: {', '.join(map(str, events))}"
                + (f" (task {named})" if named else "")
            )


def _named(records: Iterable[Record]) -> Iterator[str]:
    """Ids of the tasks that records start or end."""
    for record in records:
        if "task_id" in record:
            yield record["task_id"]
        for task_id, _ in record.get("starts", ()):
            yield task_id


def _fault(store: ArtifactStore, key: str) -> str:
    """What is wrong with an artifact; empty where nothing is."""
    try:
        there = store.has(key)
        whole = store.get(key, relied_on=False) is not None
    except ValueError:
        return "is no key at all"
    return "" if whole else "is damaged" if there else "is not there"


def _is_same(one: str, other: str) -> bool:
    """Whether two fingerprints are of the same work; what is behind a dash counts where both have it."""
    parts = one.split("-"), other.split("-")
    return all(first == second for first, second in zip(*parts, strict=False))


def main(arguments: list[str]) -> int:
    """Check an output folder, and print what was found.

    Returns:
        0 where nothing was; 1 where something was; 2 without one folder to look at.
    """
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m trax_ray.testing.history OUT\n")
        return 2
    findings = check(arguments[0])
    sys.stdout.write(f"{findings}\n")
    return 1 if findings.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
