"""A batch's state with the journal that it follows from: no command runs before its event is on the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trax_ray.core.state.events import Command, Event, decode_event, encode_event
from trax_ray.core.state.ledger import TaskRecord
from trax_ray.core.state.machine import BatchState
from trax_ray.core.task import BatchTask, TaskState
from trax_ray.errors import JournalError
from trax_ray.store.artifacts import ArtifactStore
from trax_ray.store.epochs import OpenedJournal, open_journal, read_chain
from trax_ray.store.explaining import shown
from trax_ray.store.layout import Layout
from trax_ray.store.lease import Lease
from trax_ray.store.looking import Presence
from trax_ray.store.uris import Place

__all__ = ["BatchJournal", "events_of", "missing_results", "read_state"]


@dataclass(slots=True)
class BatchJournal:
    """The one writer of a batch's state. Made by `open`; for one thread.

    Args:
        journal: The own segment, and what came before.
        lease: Says which batch holds the folder.
        state: What the journal says has happened. Changed by `commit` alone.
    """

    journal: OpenedJournal
    lease: Lease
    state: BatchState = field(default_factory=BatchState)

    @classmethod
    def open(cls, layout: Layout, holder: str, now: float) -> BatchJournal:
        """Take an output folder: its lock, the next epoch, and what its journal says has happened.

        Args:
            layout: The folder.
            holder: Who takes it, for people.
            now: Seconds since the epoch.

        Raises:
            BusyError: Another batch holds the folder.
            FencedError: Another coordinator took a higher epoch in the meantime.
            JournalError: The journal is damaged, or of another version.
            DiskFull: No space, no quota, read-only.
            FileError: The folder can't be read or written.
        """
        lease = Lease(layout.lock, heartbeat=True)
        lease.acquire(holder)
        try:
            opened = cls(open_journal(layout.journal, holder, now), lease)
        except BaseException:
            lease.release()
            raise
        try:
            for event, at in events_of(layout, opened.journal.records):
                opened.state.handle(event, at)
        except BaseException:
            opened.close()
            raise
        return opened

    @property
    def epoch(self) -> int:
        """The epoch that was taken."""
        return self.journal.epoch

    def commit(self, events: Sequence[Event], now: float, then: Callable[[], Sequence[Event]] = tuple) -> list[Command]:
        """Change the state, and put the events into the journal in one group.

        Args:
            events: What happened.
            now: When, seconds since the epoch.
            then: Gives what follows from the state after `events`, such as the attempts that may start; it goes
                into the same group.

        Returns:
            The commands to run now. Where this raises, none may run.

        Raises:
            FencedError: Another coordinator took a higher epoch.
            IllegalTransition: An event doesn't fit the state.
            DiskFull: No space, no quota, read-only; the journal takes no more.
            FileError: Any other failure to write; the journal takes no more.
        """
        commands: list[Command] = []
        for event in events:
            commands += self.state.handle(event, now)
        following = list(then())
        for event in following:
            commands += self.state.handle(event, now)
        if events or following:
            self.journal.append([encode_event(event, now) for event in [*events, *following]])
        return commands

    def close(self) -> None:
        """Close the journal and let go of the folder. May be called twice."""
        self.journal.close()
        self.lease.release()


def read_state(layout: Layout) -> BatchState:
    """The state that a batch's journal leads to. Takes no lock and no epoch, so a batch may be running there.

    Raises:
        JournalError: The journal is damaged, or of another version.
        FileError: It can't be read.
    """
    state = BatchState()
    for event, at in events_of(layout, read_chain(layout.journal)):
        state.handle(event, at)
    return state


def events_of(layout: Layout, records: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Event, float]]:
    """The events of a journal's records, in order, and when each happened, seconds since the epoch.

    Raises:
        JournalError: One isn't of this version.
    """
    for record in records:
        try:
            decoded = decode_event(record)
        except (KeyError, TypeError, ValueError) as error:
            raise JournalError(
                f"the journal in {shown(layout.journal)} holds a record that this version of trax_ray can't read "
                f"({type(error).__name__}: {error}): use the version that wrote it, or another --output-dir"
            ) from error
        yield decoded


def missing_results(
    layout: Layout,
    records: Mapping[str, TaskRecord],
    tasks: Iterable[BatchTask],
    presence: Presence | None = None,
) -> set[str]:
    """Ids of tasks that succeeded, but whose artifact or output files are missing.

    Args:
        layout: The output folder.
        records: What its journal knows, by task id.
        tasks: Which ones to look at.
        presence: What is known to be there, for those who ask again and again; None knows nothing yet.
    """
    artifacts = ArtifactStore(layout.artifacts)
    needed: dict[str, list[Place]] = {}
    for task in tasks:
        record = records.get(task.id)
        if record is None or record.state is not TaskState.SUCCEEDED or "outputs" not in record.metrics:
            continue
        outputs = [layout.output_dir / name for name in record.metrics["outputs"]]
        needed[task.id] = [*outputs, artifacts.path(record.artifact_key)]
    gone = (presence or Presence(layout.output_dir)).missing(path for paths in needed.values() for path in paths)
    return {task_id for task_id, paths in needed.items() if not gone.isdisjoint(paths)}
