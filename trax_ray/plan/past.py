"""What earlier runs left in an output folder: its journal, read once for all who plan and start a batch there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trax_ray.codes import FailureCode
from trax_ray.core.ids import file_id_of, is_same_work
from trax_ray.core.state.ledger import TaskRecord
from trax_ray.core.state.machine import BatchState
from trax_ray.core.task import BatchTask, TaskState, TaskType
from trax_ray.errors import TraxRayError, UsageError
from trax_ray.store.artifacts import content_hash
from trax_ray.store.batch_journal import read_state
from trax_ray.store.epochs import written
from trax_ray.store.explaining import explain, shown
from trax_ray.store.files import names_in, read_regular
from trax_ray.store.layout import TABLES, Layout

__all__ = ["Past", "PastInput", "outputs_of", "read_past"]

_Mark = tuple[tuple[str, int], ...]


SAME_TIME_NS = 2_000_000_000
"""Times that differ by no more are one: FAT keeps them to 2 s."""


@dataclass(frozen=True, slots=True)
class PastInput:
    """A recording that an earlier run was given.

    Args:
        file_id: Its id.
        path: Where it was: a path, or a URL.
        name: Its path below the folder that was named.
        size_bytes: Its size.
        mtime_ns: Time of its last change; 0 in journals that don't know.
        content: SHA-256 of its bytes; empty where it wasn't transcribed, or the journal doesn't know.
        transcribed: Whether its transcript is made.
        measured: Whether its accuracy was measured against a reference transcript.
        ended: Fingerprint of the work that has come to its end, well or for good; empty where it hasn't.
    """

    file_id: str
    path: str
    name: str
    size_bytes: int
    mtime_ns: int = 0
    content: str = ""
    transcribed: bool = False
    measured: bool = False
    ended: str = ""

    @classmethod
    def of(cls, record: TaskRecord) -> PastInput:
        """The recording of the task that transcribes it."""
        data = record.task.data
        return cls(
            file_id=record.task.file_id,
            path=str(data.get("file_path") or data.get("url") or ""),
            name=str(data.get("name", "")),
            size_bytes=int(data.get("size_bytes") or 0),
            mtime_ns=int(data.get("mtime_ns") or 0),
            content=str(record.metrics.get("content") or ""),
            transcribed=record.state is TaskState.SUCCEEDED,
            measured=bool(record.metrics.get("wer_words")),
            ended=record.task.fingerprint if _has_ended(record) else "",
        )

    def is_now(self, path: str) -> bool:
        """Whether this recording, which isn't where it was, is the one at `path`: by time, else by content."""
        try:
            status = os.stat(path)  # noqa: PTH116 - Path changes some names
        except OSError:
            return False
        if status.st_size != self.size_bytes:
            return False
        if self.mtime_ns and abs(status.st_mtime_ns - self.mtime_ns) <= SAME_TIME_NS:
            return True
        try:
            return bool(self.content) and content_hash(Path(path)) == self.content
        except TraxRayError:
            return False  # its attempt will say what is wrong


def _has_ended(record: TaskRecord) -> bool:
    failed = record.state is TaskState.FAILED and not record.retry_wanted
    given_up = record.failure is not None and record.failure.code == FailureCode.DEPENDENCY_FAILED
    return record.state is TaskState.SUCCEEDED or (failed and not given_up)


@dataclass(slots=True)
class Past:
    """The journal of an output folder, as it was when it was read.

    Args:
        outputs: The names of outputs that earlier runs gave, by file id; of converted audio that is kept, and of what
            sites say, by task id.
        inputs: The recordings that earlier runs were given, by file id.
        mark: What tells whether the journal has grown since: its segments and their sizes.
    """

    outputs: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, PastInput] = field(default_factory=dict)
    mark: _Mark = ()
    _state: BatchState | None = None
    _by_path: dict[str, str] = field(init=False, repr=False)
    _by_name: dict[str, list[PastInput]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._by_path = {each.path: each.file_id for each in self.inputs.values()}
        self._by_name = {}
        for each in self.inputs.values():
            self._by_name.setdefault(each.name, []).append(each)

    def is_transcribed(self, file_id: str) -> bool:
        """Whether the transcript of an input is made."""
        return file_id in self.inputs and self.inputs[file_id].transcribed

    def is_measured(self, file_id: str) -> bool:
        """Whether the accuracy of an input's transcript was measured against a reference transcript."""
        return file_id in self.inputs and self.inputs[file_id].measured

    def has_ended(self, task: BatchTask) -> bool:
        """Whether the transcription of an input came to its end in an earlier run, as the same work."""
        known = self.inputs.get(task.file_id)
        return known is not None and bool(known.ended) and is_same_work(known.ended, task.fingerprint)

    def id_of(self, path: str, key: str) -> str:
        """The id of a recording of the web.

        Args:
            path: Its URL, which may have changed.
            key: What it is known by; empty where that is its URL.
        """
        own = file_id_of(key or path)
        return own if own in self.inputs else self._by_path.get(path, own)

    def ids(self, found: Iterable[tuple[str, str]]) -> dict[str, str]:
        """The ids of recordings: what a recording was before it was moved, it still is.

        A folder may be mounted elsewhere. A recording under an unknown path is an earlier one where that had the same
        name below the folder that was named and the same content, and isn't at its own path any more.

        Args:
            found: Path of each, and its path below the folder that was named.
        """
        ids: dict[str, str] = {}
        unknown = []
        for path, name in found:
            own = file_id_of(path)
            if own in self.inputs and self.inputs[own].path == path:
                ids[path] = own
            elif path in self._by_path:
                ids[path] = self._by_path[path]
            else:
                unknown.append((path, name))
        taken = set(ids.values())
        for path, name in unknown:
            earlier = (each for each in self._by_name.get(name, ()) if each.file_id not in taken)
            moved = (each for each in earlier if not os.path.lexists(each.path) and each.is_now(path))
            own = file_id_of(path)
            # What once was here is elsewhere now, and keeps its id.
            own = file_id_of(path, -1) if own in taken or own in self.inputs else own
            ids[path] = next((each.file_id for each in moved), own)
            taken.add(ids[path])
        return ids

    def take_state(self, layout: Layout) -> BatchState:
        """The state that the journal leads to, for the caller to go on with; read anew only where it has grown.

        Raises:
            JournalError: The journal is damaged, or of another version.
            FileError: It can't be read.
        """
        state, self._state = self._state, None
        if state is None or self.mark != _mark(layout):
            return read_state(layout)
        return state


def read_past(output_dir: str) -> Past:
    """Read an output folder's journal; nothing where there is none.

    Raises:
        JournalError: The journal is damaged, or of another version.
        UsageError: There is none, and a report that somebody else wrote.
        FileError: It can't be read.
    """
    layout = Layout.of(output_dir)
    mark = _mark(layout)  # before the reading: what comes after it is news
    if not mark:
        _expect_no_other_report(layout)
        return Past()
    state = read_state(layout)
    records = state.records.values()
    transcribing = (each for each in records if each.task.task_type is TaskType.TRANSCRIBE and not each.task.parent)
    inputs = {each.file_id: each for each in map(PastInput.of, transcribing)}
    return Past(outputs_of(record.task for record in records), inputs, mark, state)


def _expect_no_other_report(layout: Layout) -> None:
    """See that a folder in which no batch has been holds no report that somebody else wrote.

    Raises:
        UsageError: It does, and the batch would replace it.
    """
    try:
        ours = "schema_version" in json.loads(read_regular(layout.run_json))
    except (OSError, ValueError, TypeError):
        ours = False
    tables = [layout.table(name) for name in TABLES]
    wanted = [*tables, layout.run_json, layout.errors_log]
    names = set(names_in(layout.report)) if layout.stored else ()
    taken = [path for path in wanted if (os.path.lexists(path) if isinstance(path, Path) else path.name in names)]
    if taken and not ours:
        raise UsageError(
            f"{shown(taken[0])} isn't a report of trax_ray, and would be overwritten: give another --output-dir"
        )


def _mark(layout: Layout) -> _Mark:
    try:
        return tuple((each.name, each.size_bytes) for each in written(layout.journal))
    except OSError as error:
        raise explain(error, layout.journal, "read") from error


def outputs_of(tasks: Iterable[BatchTask]) -> dict[str, str]:
    """The names of the outputs of tasks, as of `Past.outputs`."""
    names: dict[str, str] = {}
    for task in tasks:
        if task.parent:
            continue
        converts = task.task_type is TaskType.PREPROCESS
        beside = converts or task.task_type is TaskType.YOUTUBE
        if task.data.get("output"):
            names[task.id if beside else task.file_id] = task.data["output"]
        audio = str(task.data.get("audio", ""))  # version 0.1's
        if converts and audio.startswith("audio/"):
            names[task.id] = audio.removesuffix(".flac")
    return names
