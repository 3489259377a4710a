"""Which coordinator may write. Each takes the next epoch, and a newer one fences off an older one.

Epoch n is the segment `%06d.jsonl` of the journal folder. Creating it exclusively is taking the epoch; there
is nothing else to win or lose. Then the new coordinator reads what came before, and then it opens its segment
with a group of one record:

    {"format": 1, "epoch": 7, "previous": 6, "previous_bytes": 48213, "holder": "...", "at": 1767225600.0}

Why this is safe: an older coordinator appends, then looks for a higher epoch, then acts. If it finds none,
its append came before the creation of any higher segment, hence before the successor's reading, which comes
after that creation: the successor has it. If it finds one, it stops and has not acted. What it appends later
lies beyond `previous_bytes` and is never read. A segment without an opening group did nothing, and is skipped.

In an object store the same holds, where creating is a conditional PUT and looking is a list: see `object_journal`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trax_ray.errors import FencedError, JournalError
from trax_ray.store import files
from trax_ray.store.explaining import explain, shown
from trax_ray.store.journal import Group, JournalWriter, iter_segment
from trax_ray.store.object_journal import ObjectJournalWriter, iter_object_segment
from trax_ray.store.objects import list_below
from trax_ray.store.uris import ObjectPath, Place

__all__ = [
    "FORMAT",
    "Opening",
    "OpenedJournal",
    "Records",
    "Written",
    "check",
    "epochs_in",
    "groups_of",
    "has_journal",
    "open_journal",
    "openings",
    "read_chain",
    "segment_path",
    "written",
]

FORMAT = 1
"""Version of what the journal holds. Another version is refused, never guessed at."""

_SEGMENT = re.compile(r"([0-9]{6,})\.jsonl")


@dataclass(frozen=True, slots=True)
class Opening:
    """How a coordinator opened its segment.

    Args:
        epoch: Its own number, from 1.
        previous: Epoch of the segment that it read last; 0 when there was none.
        previous_bytes: Bytes of that segment that it read.
        holder: Who it is, for people.
        at: When it opened, seconds since the epoch.
    """

    epoch: int
    previous: int
    previous_bytes: int
    holder: str
    at: float


@dataclass(frozen=True, slots=True)
class Records(Iterable[dict[str, Any]]):
    """The records of a chain of segments, oldest first, without opening groups; read anew by each loop.

    Args:
        links: Path of each segment, and how many of its bytes count; None means all good groups that are
            there when it is read.
    """

    links: tuple[tuple[Place, int | None], ...]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """One record after the other; one group is in memory at a time.

        Raises:
            JournalError: A segment is damaged or missing.
        """
        for path, limit in self.links:
            for number, group in enumerate(groups_of(path, limit)):
                if number > 0:
                    yield from group.records()


@dataclass(frozen=True, slots=True)
class OpenedJournal:
    """A journal that this process may write to, until another one takes a higher epoch.

    Args:
        opening: The opening group of the own segment.
        records: What came before, in order.
        writer: Fills the own segment; `append` here also checks the epoch, so it is the one to call.
    """

    opening: Opening
    records: Records
    writer: JournalWriter | ObjectJournalWriter

    @property
    def epoch(self) -> int:
        """The epoch that was taken."""
        return self.opening.epoch

    def append(self, records: Sequence[dict[str, Any]]) -> int:
        """Commit one group, then make sure that no higher epoch exists. Commands may run after it returns.

        Returns:
            Bytes of the own segment that are on the disk.

        Raises:
            FencedError: There is a higher epoch; run nothing and stop.
            DiskFull: No space, no quota, read-only; the segment is finished.
            FileError: Any other failure to write; the segment is finished.
        """
        size = self.writer.append(records)
        self.guard()
        return size

    def guard(self) -> None:
        """Make sure that no higher epoch exists.

        Raises:
            FencedError: There is a higher epoch, or the own segment has been deleted.
        """
        if self.writer.removed:
            raise _removed(self.writer.path)
        check(self.writer.path.parent, self.epoch)

    def close(self) -> None:
        """Close the own segment."""
        self.writer.close()


def segment_path(folder: Place, epoch: int) -> Place:
    """Where the segment of an epoch lies in the journal folder."""
    return folder / f"{epoch:06d}.jsonl"


def open_journal(folder: Place, holder: str, now: float) -> OpenedJournal:
    """Take the next epoch, read how far the journal goes, and open a segment of one's own.

    This fences off the coordinator that held the journal before: take the lease first.

    Args:
        folder: The journal folder; made where it is missing.
        holder: Who takes it, for people: batch, process, machine.
        now: Seconds since the epoch.

    Returns:
        The open journal; its `records` are read when they are looped over.

    Raises:
        FencedError: Another one took a higher epoch in the meantime.
        JournalError: The last segment is damaged, or of another version. Nothing was written but an empty
            segment, which does no harm.
        DiskFull: No space, no quota, read-only.
        FileError: The folder can't be read or written; permanent.
    """
    files.ensure_folder(folder)
    epoch, writer = _take(folder)
    try:
        chain = _chain_on_disk(folder, below=epoch)
        links = _links(folder, chain)
        previous, previous_bytes = 0, 0
        if chain:
            previous, path = chain[-1].epoch, links[-1][0]
            for group in groups_of(path):
                previous_bytes = group.end
            links[-1] = (path, previous_bytes)
        opening = Opening(epoch, previous, previous_bytes, holder, now)
        writer.append([_encode(opening)])
        opened = OpenedJournal(opening, Records(tuple(links)), writer)
        opened.guard()
    except BaseException:
        writer.close()
        raise
    return opened


def check(folder: Place, epoch: int) -> None:
    """Make sure that no higher epoch was taken. To be asked after each fsync, before commands run.

    The folder is listed rather than the next name looked up: network file systems remember for seconds
    that a name wasn't there, and look again when a folder is opened.

    Raises:
        FencedError: A higher epoch exists (named), or this one's segment is gone.
    """
    taken = epochs_in(folder)
    if taken and taken[-1] > epoch:
        raise FencedError(
            f"epoch {taken[-1]} was taken in {shown(folder)}: the coordinator of epoch {epoch} must stop; "
            "its work goes on there"
        )
    if epoch not in taken:
        raise _removed(segment_path(folder, epoch))


def read_chain(folder: Place) -> Records:
    """The records of a journal, for reports and status: takes no epoch and writes nothing.

    A coordinator may be writing: groups that are complete when their segment is opened are read.

    Args:
        folder: The journal folder. Where it doesn't exist there are no records.

    Raises:
        JournalError: An opening group is damaged or of another version, or a segment is missing; the same
            for other groups, when the records are looped over.
        FileError: The folder can't be read.
    """
    return Records(tuple(_links(folder, _chain(folder))))


def openings(folder: Place) -> list[Opening]:
    """Who held this journal, oldest first; only those whose records count.

    Raises:
        JournalError: As read_chain.
    """
    return _chain(folder)


@dataclass(frozen=True, slots=True)
class Written:
    """A file or an object of a journal: its name below the folder, its size, and when it was changed last, in ns."""

    name: str
    size_bytes: int
    changed_ns: int


def written(folder: Place) -> list[Written]:
    """What a journal consists of, by name: as long as that stays it has not grown. Of objects, times are whole seconds.

    Raises:
        OSError: It can't be looked at.
        StoreError, NetworkError: As `trax_ray.store.objects.stat_of`.
    """
    if isinstance(folder, ObjectPath):
        found = ((path.below(folder), stat) for path, stat in list_below(folder))
        return sorted((Written(name, stat.size_bytes, stat.modified_s * 10**9) for name, stat in found), key=_name_of)
    stats = ((path.name, path.stat()) for path in folder.glob("*.jsonl"))
    return sorted((Written(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats), key=_name_of)


def _name_of(each: Written) -> str:
    return each.name


def has_journal(folder: Place) -> bool:
    """Whether a coordinator has ever begun there; raises as `written`."""
    return bool(epochs_in(folder))


def _take(folder: Place) -> tuple[int, JournalWriter | ObjectJournalWriter]:
    while True:
        taken = epochs_in(folder)
        epoch = taken[-1] + 1 if taken else 1
        try:
            return epoch, _new_segment(segment_path(folder, epoch))
        except FileExistsError:
            continue  # another one was faster: take the number after it


def epochs_in(folder: Place) -> list[int]:
    """Numbers of all segments, opened or not, lowest first; raises as `check`, but for the fence."""
    if isinstance(folder, ObjectPath):
        return sorted(int(match[1]) for match in map(_SEGMENT.fullmatch, files.names_in(folder)) if match)
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names are all we need, and this runs after every fsync
    except FileNotFoundError:
        return []
    except OSError as error:
        raise explain(error, folder, "read") from error
    return sorted(int(match[1]) for match in map(_SEGMENT.fullmatch, names) if match)


def _chain(folder: Place, below: int | None = None) -> list[Opening]:
    """The openings that replay follows, oldest first: from the highest that is valid, back by `previous`."""
    chain: list[Opening] = []
    for epoch in reversed(epochs_in(folder)):
        if below is not None and epoch >= below:
            continue
        opening = _read_opening(folder, epoch)
        if opening is not None:
            chain.append(opening)
            break
    while chain and chain[-1].previous:
        opening = _read_opening(folder, chain[-1].previous)
        if opening is None:
            raise JournalError(
                f"journal segment {shown(segment_path(folder, chain[-1].previous))} lacks its opening group, "
                f"but epoch {chain[-1].epoch} has read it: restore the file from a backup"
            )
        chain.append(opening)
    return chain[::-1]


def _chain_on_disk(folder: Place, below: int) -> list[Opening]:
    """The chain whose last segment is on the disk as far as it can be read.

    Its last group may be in memory only, if its writer is about to fsync, died before, or failed. We are going to
    state that we have read it; so it must not be gone after a power cut. Where that was the opening group, the
    segment did nothing after all.
    """
    while chain := _chain(folder, below):
        _bring_to_disk(segment_path(folder, chain[-1].epoch))
        if _read_opening(folder, chain[-1].epoch) == chain[-1]:
            break
    return chain


def _links(folder: Place, chain: list[Opening]) -> list[tuple[Place, int | None]]:
    """Each segment with the bytes that its successor read of it; the last has no successor."""
    limits: list[int | None] = [*(successor.previous_bytes for successor in chain[1:]), None]
    return [(segment_path(folder, opening.epoch), limit) for opening, limit in zip(chain, limits, strict=False)]


def _read_opening(folder: Place, epoch: int) -> Opening | None:
    """How a segment was opened; None when its writer never got that far."""
    path = segment_path(folder, epoch)
    first = next(groups_of(path), None)
    if first is None:
        return None
    record = first.records()[0]
    if record.get("format") != FORMAT:
        raise JournalError(
            f"journal segment {shown(path)} has format {record.get('format')!r}, this version knows {FORMAT}: "
            "use the version of trax_ray that wrote it, or another --output-dir"
        )
    try:
        opening = Opening(**{name: record[name] for name in Opening.__dataclass_fields__})
    except KeyError as error:
        raise JournalError(f"journal segment {shown(path)}: its opening group lacks {error}") from error
    if opening.epoch != epoch or not 0 <= opening.previous < epoch:
        # Also what keeps a chain from running in a circle.
        raise JournalError(
            f"journal segment {shown(path)} says that it is epoch {opening.epoch} after {opening.previous}: "
            "was it renamed or copied? Give it back its name"
        )
    return opening


def _encode(opening: Opening) -> dict[str, Any]:
    return {"format": FORMAT, **{name: getattr(opening, name) for name in Opening.__dataclass_fields__}}


def groups_of(path: Place, limit: int | None = None) -> Iterator[Group]:
    """The groups of a segment, wherever it is: see `iter_segment` and `iter_object_segment`."""
    return iter_object_segment(path, limit) if isinstance(path, ObjectPath) else iter_segment(path, limit)


def _new_segment(path: Place) -> JournalWriter | ObjectJournalWriter:
    return ObjectJournalWriter(path) if isinstance(path, ObjectPath) else JournalWriter(path)


def _bring_to_disk(path: Place) -> None:
    if isinstance(path, ObjectPath):
        return  # what a store shows it keeps
    try:
        files.bring_to_disk(path)
    except OSError as error:
        raise explain(error, path, "write") from error


def _removed(path: Place) -> FencedError:
    return FencedError(
        f"journal segment {shown(path)} was removed while its coordinator was running, which must stop: "
        "run the same command again"
    )
