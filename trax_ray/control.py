"""Looking at a batch and steering it, from any process that sees its output folder. Needs no Ray.

    control = BatchControl("out")
    print(control.status().phase)
    control.pause()

Commands are files in the batch's inbox. A batch that is at work takes them up within a second; else they wait there
for the next run. What a batch says about itself (`status.json`) counts while it is at work, and its journal
afterwards.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from trax_ray.codes import FailureCode
from trax_ray.core.progress import BatchProgress, failures_of, fold
from trax_ray.core.state.machine import BatchState
from trax_ray.core.task import TaskState
from trax_ray.errors import FileError
from trax_ray.store import inbox
from trax_ray.store.batch_journal import read_state
from trax_ray.store.files import shown
from trax_ray.store.layout import Layout
from trax_ray.store.lease import Holder, holder_of

__all__ = ["Answer", "BatchControl", "BatchStatus", "Outcome", "Phase", "no_batch"]

POLL_S = 0.1
TAKEN_UP_S = 5.0
NEWS_S = 2.0
"""How long to wait for a batch to say how it stands after a command; it does so every second."""


class Phase(str, Enum):
    """Where a batch stands.

    STARTING (Ray is being started), RUNNING, PAUSED (nothing starts, also in the next run), DRAINING (a signal came or
    its hours are over: what runs is finished), WAITING (for its start time or its hours), PARKED (what is left waits
    for a person), COMPLETE, STOPPED, INTERRUPTED (nobody is at work, and the journal has no end: it was killed).
    """

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    DRAINING = "draining"
    WAITING = "waiting"
    PARKED = "parked"
    COMPLETE = "complete"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class BatchStatus:
    """How a batch stands. Counts are those of its present run, or of its last one. Times are seconds since the epoch.

    Args:
        name: The batch's.
        output_dir: Its output folder.
        phase: Where it stands.
        holder: Who is at work in the folder, for people; empty where nobody is.
        pid: The process that is at work; None where nobody is, 0 where it hasn't said its name yet.
        host: Its machine; empty where nobody is at work.
        since: When it began; None where nobody is at work.
        epoch: Number of the coordinator that wrote last.
        updated_at: How old these figures are; 0.0 when unknown.
        total: Inputs that the run was given.
        succeeded: Those that succeeded.
        failed: Those that failed for good.
        cancelled: Those that were cancelled.
        active: Attempts that run now.
        queued: Inputs that wait.
        memory_mb: Memory of the batch's own processes, MiB; None where nobody is at work.
        cpu_percent: Load of the coordinator's node, percent of all its cores; None where nobody is at work.
        elapsed_s: Seconds that the run has taken.
        estimated_remaining_s: Seconds still to go; None when unknown.
        parked: Providers that wait for a person, with the reason.
        waits_until: When its hours begin; None within them.
        slots: How many attempts the machine lets run now; None when unknown.
        limits_reason: Why no more.
        services: Services that get no more requests at present, with the reason.
        failures: Inputs that failed for good, by failure class; empty where it wasn't asked for.
        requests: Commands that nobody has taken up yet, oldest first.
    """

    name: str
    output_dir: str
    phase: Phase
    holder: str = ""
    pid: int | None = None
    host: str = ""
    since: float | None = None
    epoch: int = 0
    updated_at: float = 0.0
    total: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    active: int = 0
    queued: int = 0
    memory_mb: float | None = None
    cpu_percent: float | None = None
    elapsed_s: float = 0.0
    estimated_remaining_s: float | None = None
    parked: Mapping[str, str] = field(default_factory=dict)
    waits_until: float | None = None
    slots: int | None = None
    limits_reason: str = ""
    services: Mapping[str, str] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    requests: tuple[str, ...] = ()

    @property
    def at_work(self) -> bool:
        """Whether somebody works on the batch now."""
        return self.pid is not None

    @property
    def progress(self) -> BatchProgress:
        """The same figures as a batch reports them to its own callback."""
        return BatchProgress(
            total_tasks=self.total,
            completed_tasks=self.succeeded,
            failed_tasks=self.failed,
            cancelled_tasks=self.cancelled,
            active_workers=self.active,
            memory_usage_mb=self.memory_mb or 0.0,
            cpu_usage_percent=self.cpu_percent or 0.0,
            elapsed_s=self.elapsed_s,
            estimated_remaining_s=self.estimated_remaining_s,
            queued_tasks=self.queued,
            paused=self.phase is Phase.PAUSED,
            parked=self.parked,
            services=self.services,
            waits_until=self.waits_until,
        )

    def to_dict(self) -> dict[str, Any]:
        """The status as JSON types."""
        return asdict(self) | {"phase": self.phase.value, "requests": list(self.requests)}


class Outcome(str, Enum):
    """What came of a command: TAKEN_UP by the batch; it WAITS for a batch that is at work and hasn't answered;
    LEFT for the next run; or there was NOTHING to do."""

    TAKEN_UP = "taken up"
    WAITS = "waits"
    LEFT = "left"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Answer:
    """What came of a command.

    Args:
        command: Which one.
        outcome: What came of it.
        status: How the batch stands now.
        inputs: Inputs that are to be done again; 0 for other commands than `retry-failed`.
    """

    command: str
    outcome: Outcome
    status: BatchStatus
    inputs: int = 0


class BatchControl:
    """A batch seen from outside.

    Args:
        output_dir: Its output folder.
        timeout_s: Seconds that a command waits until a batch that is at work takes it up.
    """

    def __init__(self, output_dir: str | os.PathLike[str], *, timeout_s: float = TAKEN_UP_S) -> None:
        self._layout = Layout(Path(output_dir))
        self._timeout_s = timeout_s

    def status(self, *, failures: bool = True) -> BatchStatus:
        """How the batch stands.

        Args:
            failures: Whether to say why inputs have failed; for that the journal is read, which takes a second or
                two where there are ten thousand inputs.

        Raises:
            FileError: There is no batch in the folder (`not_found`), or its files can't be read.
            JournalError: The journal is damaged, or of another version.
        """
        holder = holder_of(self._layout.lock)
        said = self._said()
        if holder is None:
            return self._from_journal(said, holder_of(self._layout.starting), starting=True)
        if (said.get("pid"), said.get("host")) != (holder.pid, holder.host):
            return self._from_journal(said, holder)  # it has just begun; an earlier one said this
        status = self._from_said(said, holder)
        if failures and status.failed:
            status = replace(status, failures=_failure_classes(read_state(self._layout)))
        return status

    def pause(self) -> Answer:
        """Let nothing start any more; what runs is finished. A batch that isn't at work will begin paused.

        Raises:
            FileError: As for `status`; or the request can't be written.
        """
        return self._give("pause")

    def resume(self) -> Answer:
        """Let attempts start again, those of parked providers too. It starts no batch that isn't at work.

        Raises:
            FileError: As for `status`; or the request can't be written.
        """
        return self._give("resume")

    def stop(self) -> Answer:
        """End the batch; what was finished is kept, and the next run goes on from there.

        Raises:
            FileError: As for `status`; or the request can't be written.
        """
        return self._give("stop")

    def retry_failed(self) -> Answer:
        """Have the inputs that failed for good done again: at once, or by the next run that is given them.

        Raises:
            FileError: As for `status`; or the request can't be written.
        """
        return self._give("retry-failed")

    # Commands

    def _give(self, command: str) -> Answer:
        status = self.status(failures=False)
        if not status.at_work:
            return self._leave(command, status)
        inputs = status.failed if command == "retry-failed" else 0
        name = inbox.put(self._layout.inbox, command)
        end = time.monotonic() + self._timeout_s
        while self._waits(name):
            late = time.monotonic() >= end
            if late or holder_of(self._layout.lock) is None:
                status = self.status(failures=False)
                # A coordinator that died is replaced in a moment: only one that has ended will never look.
                if not status.at_work and (late or status.phase is not Phase.INTERRUPTED):
                    inbox.remove(self._layout.inbox, name)
                    return self._leave(command, self.status(failures=False))
                if late:
                    return Answer(command, Outcome.WAITS, status, inputs)
            time.sleep(POLL_S)
        return Answer(command, Outcome.TAKEN_UP, self._news(time.time()), inputs)

    def _waits(self, name: str) -> bool:
        return any(request.name == name for request in inbox.waiting(self._layout.inbox))

    def _news(self, since: float) -> BatchStatus:
        """How the batch stands after a command; the last that it said where it says nothing more."""
        end = time.monotonic() + NEWS_S
        while True:
            status = self.status(failures=False)
            if not status.at_work or status.updated_at > since or time.monotonic() >= end:
                return status
            time.sleep(POLL_S)

    def _leave(self, command: str, status: BatchStatus) -> Answer:
        """Nobody is at work: leave what makes sense for the next run."""
        if command == "stop":
            self._forget_stops()
            return Answer(command, Outcome.NOTHING, status)
        asked = [each for each in status.requests if each in ("pause", "resume")]
        paused = asked[-1] == "pause" if asked else status.phase is Phase.PAUSED
        inputs = self._failed_ever() if command == "retry-failed" else 0
        wanted = {"pause": not paused, "resume": paused, "retry-failed": inputs > 0}[command]
        if wanted and (command != "retry-failed" or command not in status.requests):
            inbox.put(self._layout.inbox, command)
        return Answer(command, Outcome.LEFT if wanted else Outcome.NOTHING, status, inputs)

    def _forget_stops(self) -> None:
        """A stop that nobody took up was meant for a run that has ended since."""
        for request in inbox.waiting(self._layout.inbox):
            if request.command == "stop":
                inbox.remove(self._layout.inbox, request.name)

    def _failed_ever(self) -> int:
        """Inputs of the whole folder that have failed for good."""
        return read_state(self._layout).ledger.total.verdicts[TaskState.FAILED]

    # Status

    def _said(self) -> dict[str, Any]:
        """What the last coordinator said about itself; empty where nothing can be made of it."""
        try:
            said = json.loads(self._layout.status.read_bytes())
        except (OSError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}

    def _from_said(self, said: Mapping[str, Any], holder: Holder) -> BatchStatus:
        active, waits_until = int(said.get("active", 0)), said.get("waits_until")
        phase = _phase_of(str(said.get("phase", "")))
        if phase is Phase.WAITING and active:
            phase = Phase.DRAINING
        return BatchStatus(
            name=str(said.get("batch", self._layout.output_dir.name)),
            output_dir=str(self._layout.output_dir),
            phase=phase,
            holder=holder.holder,
            pid=holder.pid,
            host=holder.host,
            since=holder.since,
            epoch=int(said.get("epoch", 0)),
            updated_at=float(said.get("updated_at", 0.0)),
            total=int(said.get("total", 0)),
            succeeded=int(said.get("succeeded", 0)),
            failed=int(said.get("failed", 0)),
            cancelled=int(said.get("cancelled", 0)),
            active=active,
            queued=int(said.get("queued", 0)),
            memory_mb=said.get("memory_mb"),
            cpu_percent=said.get("cpu_percent"),
            elapsed_s=float(said.get("elapsed_s", 0.0)),
            estimated_remaining_s=said.get("estimated_remaining_s"),
            parked=dict(said.get("parked", {})),
            waits_until=waits_until,
            slots=said.get("slots"),
            limits_reason=str(said.get("limits_reason", "")),
            services=dict(said.get("services", {})),
            requests=self._requests(),
        )

    def _from_journal(self, said: Mapping[str, Any], holder: Holder | None, *, starting: bool = False) -> BatchStatus:
        state = read_state(self._layout)
        if state.run is None and holder is None:
            raise no_batch(self._layout)
        progress = fold(state, state.now, {})
        return BatchStatus(
            name=str(said.get("batch", self._layout.output_dir.name)),
            output_dir=str(self._layout.output_dir),
            phase=Phase.STARTING if starting and holder else _phase_in_journal(state, at_work=holder is not None),
            holder=holder.holder if holder else "",
            pid=holder.pid if holder else None,
            host=holder.host if holder else "",
            since=holder.since if holder else None,
            epoch=state.epoch,
            updated_at=state.now,
            total=progress.total_tasks,
            succeeded=progress.completed_tasks,
            failed=progress.failed_tasks,
            cancelled=progress.cancelled_tasks,
            queued=progress.queued_tasks,
            elapsed_s=progress.elapsed_s,
            parked=dict(progress.parked),
            failures=_failure_classes(state),
            requests=self._requests(),
        )

    def _requests(self) -> tuple[str, ...]:
        return tuple(request.command for request in inbox.waiting(self._layout.inbox))


def no_batch(layout: Layout) -> FileError:
    """That a folder holds none, and what to do."""
    return FileError(
        f"there is no batch in {shown(layout.output_dir)}: "
        "give the output folder of one, or start one with `trax-ray batch INPUT -o OUT`",
        code=FailureCode.NOT_FOUND,
    )


def _phase_of(word: str) -> Phase:
    """The phase of a word in `status.json`; a later version may have others, and runs."""
    return Phase(word) if word in {phase.value for phase in Phase} else Phase.RUNNING


def _phase_in_journal(state: BatchState, *, at_work: bool) -> Phase:
    """Where a batch stands that says nothing about itself."""
    if state.paused and (at_work or state.finished in ("", "stopped")):
        return Phase.PAUSED
    if at_work:
        return Phase.RUNNING
    return Phase(state.finished) if state.finished else Phase.INTERRUPTED


def _failure_classes(state: BatchState) -> dict[str, int]:
    """Inputs of the last run that failed for good, by failure class."""
    return dict(sorted(Counter(failure["failure_class"] for failure in failures_of(state)).items()))
