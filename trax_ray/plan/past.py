"""What earlier runs left in an output folder: its journal, read once for all who plan and start a batch there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trax_ray.core.state.machine import BatchState
from trax_ray.core.task import BatchTask, TaskState, TaskType
from trax_ray.errors import UsageError
from trax_ray.store.batch_journal import read_state
from trax_ray.store.files import explain, shown
from trax_ray.store.layout import TABLES, Layout

__all__ = ["Past", "outputs_of", "read_past"]

_Mark = tuple[tuple[str, int], ...]


@dataclass(slots=True)
class Past:
    """The journal of an output folder, as it was when it was read.

    Args:
        outputs: The names of outputs that earlier runs gave, by file id; of converted audio that is kept, by task id.
        transcribed: Ids of the inputs whose transcripts are made.
        mark: What tells whether the journal has grown since: its segments and their sizes.
    """

    outputs: Mapping[str, str] = field(default_factory=dict)
    transcribed: frozenset[str] = frozenset()
    mark: _Mark = ()
    _state: BatchState | None = None

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
    layout = Layout(Path(output_dir))
    mark = _mark(layout)  # before the reading: what comes after it is news
    if not mark:
        _expect_no_other_report(layout)
        return Past()
    state = read_state(layout)
    records = state.records.values()
    transcribed = frozenset(
        record.task.file_id
        for record in records
        if record.state is TaskState.SUCCEEDED
        and record.task.task_type is TaskType.TRANSCRIBE
        and not record.task.parent
    )
    return Past(outputs_of(record.task for record in records), transcribed, mark, state)


def _expect_no_other_report(layout: Layout) -> None:
    """See that a folder in which no batch has been holds no report that somebody else wrote.

    Raises:
        UsageError: It does, and the batch would replace it.
    """
    try:
        ours = "schema_version" in json.loads(layout.run_json.read_bytes())
    except (OSError, ValueError, TypeError):
        ours = False
    tables = [layout.table(name) for name in TABLES]
    taken = [path for path in (*tables, layout.run_json, layout.errors_log) if os.path.lexists(path)]
    if taken and not ours:
        raise UsageError(
            f"{shown(taken[0])} isn't a report of trax_ray, and would be overwritten: give another --output-dir"
        )


def _mark(layout: Layout) -> _Mark:
    try:
        return tuple(sorted((path.name, path.stat().st_size) for path in layout.journal.glob("*.jsonl")))
    except OSError as error:
        raise explain(error, layout.journal, "read") from error


def outputs_of(tasks: Iterable[BatchTask]) -> dict[str, str]:
    """The names of the outputs of tasks, as of `Past.outputs`."""
    names: dict[str, str] = {}
    for task in tasks:
        if task.parent:
            continue
        converts = task.task_type is TaskType.PREPROCESS
        if task.data.get("output"):
            names[task.id if converts else task.file_id] = task.data["output"]
        audio = str(task.data.get("audio", ""))  # version 0.1's
        if converts and audio.startswith("audio/"):
            names[task.id] = audio.removesuffix(".flac")
    return names
