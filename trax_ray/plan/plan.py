"""What a batch is going to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import BatchTask, ResourceRequest, TaskType
from trax_ray.plan.disk import Room, room_for
from trax_ray.plan.past import Past
from trax_ray.plan.tasks import InputFile
from trax_ray.store.explaining import shown
from trax_ray.store.uris import is_object_uri

__all__ = ["Call", "Plan", "ignored_files"]


@dataclass(frozen=True)
class Plan:
    """What a batch is going to do.

    Args:
        spec: The batch, with its model.
        tasks: In the order in which they are to run.
        recordings: What is transcribed, in the order in which it was named or found.
        missing: Paths that were named and where nothing is; among others they are failed rows.
        archived: Those of them whose transcripts earlier runs made: they stay, and nothing fails.
        ignored: Files in folders, and files that patterns match, that aren't media.
        ignored_suffixes: How many of them have which suffix, most first.
        unreadable: Folders that can't be listed, with the reason.
        web_notes: What is left out of playlists, pages and feeds, and why.
        notice: What one should know of the model, where it wasn't named; may be empty.
        warnings: What one should know of models whose days are numbered, and of variables that aren't obeyed.
        past: The output folder's journal, as it was read for this.
    """

    spec: BatchSpec
    tasks: tuple[BatchTask, ...]
    recordings: tuple[InputFile, ...]
    missing: tuple[str, ...] = ()
    archived: tuple[str, ...] = ()
    ignored: int = 0
    ignored_suffixes: Mapping[str, int] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    web_notes: tuple[str, ...] = ()
    notice: str = ""
    warnings: tuple[str, ...] = ()
    past: Past = field(default_factory=Past, repr=False, compare=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """What one should know of the inputs before the start; names in it as they are."""
        notes = ["converted to 16 kHz mono FLAC first"] if self.spec.preprocess and self.transcribes else []
        measured = sum(bool(each.reference) for each in self.recordings)
        if self.spec.reference_dir and measured < len(self.recordings):
            notes.append(f"{measured} of them with a reference transcript")
        unmeasured = sum(self.past.is_measured(each.file_id) for each in self.recordings if not each.reference)
        if unmeasured:
            notes.append(
                f"{unmeasured} measured against a reference transcript before, and without one now: "
                "their accuracy will be an estimate"
            )
        if self.ignored:
            notes.append(ignored_files(self.ignored, self.ignored_suffixes))
        if self.archived:
            count, name = len(self.archived), shown(self.archived[0])
            notes.append(f"{count} not there any more, whose transcripts stay, such as {name}")
        notes += self.web_notes
        missing = [path for path in self.missing if path not in set(self.archived)]
        if missing:
            notes.append(f"{len(missing)} not there, such as {shown(missing[0])}")
        return (*notes, *(f"can't read {path}: {reason}" for path, reason in self.unreadable.items()))

    @property
    def transcribes(self) -> bool:
        """Whether transcripts are what is made."""
        return self.spec.task == TaskType.TRANSCRIBE.value

    @property
    def wanted(self) -> tuple[BatchTask, ...]:
        """Of the tasks, the one of each recording that makes what was asked for."""
        return tuple(task for task in self.tasks if task.task_type.value == self.spec.task)

    @cached_property
    def requests(self) -> frozenset[ResourceRequest]:
        """What attempts at the tasks ask of a node."""
        return frozenset(task.resources for task in self.tasks)

    @cached_property
    def room(self) -> Room:
        """Room on the disk: about how much the batch will take, and how much there is. Looked up when asked for."""
        # On a disk it is looked at what is there.
        ended = self.past.has_ended if is_object_uri(self.spec.output_dir) else lambda task: False
        return room_for((task for task in self.tasks if not ended(task)), self.spec)


@dataclass(frozen=True, slots=True)
class Call:
    """What becomes of one call of `BatchProcessor.add_task`.

    Args:
        key: What makes another one the same call.
        steps: Its tasks, in the order in which they run.
    """

    key: str
    steps: tuple[BatchTask, ...]

    @property
    def id(self) -> str:
        """Of the task that was called for; what enhances its transcript comes after it."""
        first = (task for task in reversed(self.steps) if task.task_type is not TaskType.ENHANCE)
        return next(first, self.steps[-1]).id


MOST_SUFFIXES = 6
"""Suffixes of ignored files that are named."""


def ignored_files(count: int, suffixes: Mapping[str, int]) -> str:
    """How many files are ignored, and of which kinds, so that one sees what is left out."""
    named = [f"{each} {shown(suffix) or 'without suffix'}" for suffix, each in [*suffixes.items()][:MOST_SUFFIXES]]
    more = ["..."] if len(suffixes) > MOST_SUFFIXES else []
    return f"{count} other {'file' if count == 1 else 'files'} ignored: {', '.join([*named, *more])}"
