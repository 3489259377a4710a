"""Looking at a batch and steering it, from any process that sees its output folder. Needs no Ray.

    control = BatchControl("out")
    print(control.status().phase)
    control.pause()

Commands are files in the batch's inbox. A batch that runs takes them up within a second; else they wait there
for the next run. What a batch says about itself (`status.json`) counts while it runs, and its journal
afterwards.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from trax_ray.codes import FailureCode
from trax_ray.core.progress import BatchStatus, Phase, decode_progress
from trax_ray.core.standing import Expected, failures_of, fold
from trax_ray.core.state.machine import BatchState
from trax_ray.core.task import TaskState
from trax_ray.errors import FileError
from trax_ray.store import inbox
from trax_ray.store.batch_journal import read_state
from trax_ray.store.explaining import shown
from trax_ray.store.files import read_regular
from trax_ray.store.heartbeat import Holder
from trax_ray.store.layout import Layout
from trax_ray.store.lease import holder_of
from trax_ray.store.uris import ObjectPath

__all__ = ["Answer", "BatchControl", "BatchStatus", "Outcome", "Phase", "no_batch"]

POLL_S = 0.1
TAKEN_UP_S = 5.0
NEWS_S = 2.0
"""How long to wait for a batch to say how it stands after a command; it does so every second."""

STORED_POLL_S = 1.0
STORED_TAKEN_UP_S = 20.0
STORED_NEWS_S = 10.0
"""In an object store each look costs requests, and a batch says how it stands every five seconds."""


class Outcome(str, Enum):
    """What came of a command: TAKEN_UP by the batch; it WAITS for a batch that runs and hasn't answered;
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
        timeout_s: Seconds that a command waits for a running batch to take it up; None waits five, and twenty where
            the output folder is in an object store.
    """

    def __init__(self, output_dir: str | os.PathLike[str], *, timeout_s: float | None = None) -> None:
        self._layout = Layout.of(output_dir)
        stored = self._layout.stored
        self._timeout_s = timeout_s if timeout_s is not None else STORED_TAKEN_UP_S if stored else TAKEN_UP_S
        self._poll_s = STORED_POLL_S if stored else POLL_S
        self._news_s = STORED_NEWS_S if stored else NEWS_S

    @property
    def news_period_s(self) -> float:
        """How often a batch says how it stands, about; who looks more often sees nothing new, and pays in a store."""
        return STORED_NEWS_S / 2 if self._layout.stored else NEWS_S / 2

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
        """Let nothing start any more; what runs is finished. A batch that doesn't run begins paused.

        Raises:
            FileError: As for `status`; or the request can't be written.
        """
        return self._give("pause")

    def resume(self) -> Answer:
        """Let attempts start again, those of parked providers too. It starts no batch that doesn't run.

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
            time.sleep(self._poll_s)
        return Answer(command, Outcome.TAKEN_UP, self._news(time.time()), inputs)

    def _waits(self, name: str) -> bool:
        return any(request.name == name for request in inbox.waiting(self._layout.inbox))

    def _news(self, since: float) -> BatchStatus:
        """How the batch stands after a command; the last that it said where it says nothing more."""
        end = time.monotonic() + self._news_s
        while True:
            status = self.status(failures=False)
            if not status.at_work or status.updated_at > since or time.monotonic() >= end:
                return status
            time.sleep(self._poll_s)

    def _leave(self, command: str, status: BatchStatus) -> Answer:
        """No batch runs: leave what makes sense for the next run."""
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
        """Delete a stop that wasn't taken up: it was meant for a run that has ended since."""
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
            said = json.loads(read_regular(self._layout.status))
        except (OSError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}

    def _from_said(self, said: Mapping[str, Any], holder: Holder) -> BatchStatus:
        return replace(
            decode_progress(BatchStatus, {**self._header(said), **said}),
            holder=holder.holder,
            pid=holder.pid,
            host=holder.host,
            since=holder.since,
            requests=self._requests(),
        )

    def _from_journal(self, said: Mapping[str, Any], holder: Holder | None, *, starting: bool = False) -> BatchStatus:
        state = read_state(self._layout)
        if state.run is None and holder is None:
            raise no_batch(self._layout)
        # Of a coordinator that is gone only this counts still, which the journal doesn't have.
        given = int(said.get("total", 0)) if said.get("epoch") == state.epoch else 0
        progress = fold(state, state.now, {}, expected=Expected(inputs=given))
        phase = Phase.STARTING if starting and holder else _phase_in_journal(state, at_work=holder is not None)
        # These are older than the journal's last event, or held only while a process ran.
        forgotten: dict[str, Any] = {"estimated_remaining_s": None, "slots": None, "limits_reason": "", "services": {}}
        return BatchStatus(
            **vars(progress) | self._header(said) | forgotten | {"phase": phase},
            holder=holder.holder if holder else "",
            pid=holder.pid if holder else None,
            host=holder.host if holder else "",
            since=holder.since if holder else None,
            epoch=state.epoch,
            updated_at=state.now,
            failures=_failure_classes(state),
            requests=self._requests(),
        )

    def _header(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """What the batch and its folder are called."""
        folder = self._layout.output_dir
        called = folder.name or (folder.bucket if isinstance(folder, ObjectPath) else "")
        return {"name": str(said.get("batch", called)), "output_dir": str(folder)}

    def _requests(self) -> tuple[str, ...]:
        return tuple(request.command for request in inbox.waiting(self._layout.inbox))


def no_batch(layout: Layout) -> FileError:
    """That a folder holds none, and what to do."""
    return FileError(
        f"there is no batch in {shown(layout.output_dir)}: "
        "give the output folder of one, or start one with `trax-ray batch INPUT -o OUT`",
        code=FailureCode.NOT_FOUND,
    )


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
