"""The media on the disk, as the ledger knows them: what was fetched and is still needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trax_ray.core.policy.prefetch import USUAL_BYTES, Coming, Disk, is_prefetch
from trax_ray.core.task import TaskState

if TYPE_CHECKING:
    from trax_ray.core.state.ledger import TaskRecord

__all__ = ["Media"]


@dataclass(slots=True)
class _Fetched:
    """One download, the tasks that depend on it, and what its media hold now, bytes."""

    download: TaskRecord
    users: list[TaskRecord] = field(default_factory=list)
    held_bytes: int = 0

    def size_bytes(self) -> int:
        """Of media that lie on the disk and are needed; 0 for none."""
        needed = any(not user.state.terminal for user in self.users)
        if self.download.state is not TaskState.SUCCEEDED or not needed or not is_prefetch(self.download.task):
            return 0
        return int(self.download.metrics.get("size_bytes") or 0)

    @property
    def needless(self) -> bool:
        """Whether nobody will read them again. What was cancelled is continued by the next run."""
        states = [record.state for record in (self.download, *self.users)]
        ended = all(state in (TaskState.SUCCEEDED, TaskState.FAILED) for state in states)
        return ended and bool(self.users) and is_prefetch(self.download.task)


class Media:
    """Downloads and what becomes of their media, kept up to date move by move.

    Attributes:
        held_bytes: What media take that wait for what needs them.
    """

    def __init__(self) -> None:
        self.held_bytes = 0
        self._by_task: dict[str, list[_Fetched]] = {}
        self._by_file: dict[str, list[_Fetched]] = {}
        self._running: dict[str, TaskRecord] = {}
        self._fetched_bytes = self._fetched_count = 0
        self._let_go: dict[str, None] = {}

    def add(self, record: TaskRecord) -> None:
        """A new record, or one with another task. What depends on a download comes after it."""
        task = record.task
        mine = self._by_task.setdefault(task.id, [])
        if is_prefetch(task) and not any(fetched.download is record for fetched in mine):
            fetched = _Fetched(record)
            mine.append(fetched)
            self._by_file.setdefault(task.file_id, []).append(fetched)
        for name in task.depends_on:
            for fetched in self._by_task.get(name, ()):
                if fetched.download.task.id == name and not any(user is record for user in fetched.users):
                    fetched.users.append(record)
                    mine.append(fetched)
        if not mine:
            del self._by_task[task.id]  # most tasks have nothing to do with the web

    def moved(self, record: TaskRecord) -> None:
        """A record has changed its state."""
        for fetched in self._by_task.get(record.task.id, ()):
            if fetched.download is record:
                self._moved_download(record)
            size_bytes = fetched.size_bytes()
            self.held_bytes += size_bytes - fetched.held_bytes
            fetched.held_bytes = size_bytes
            if record.state is TaskState.FAILED and self.is_needless(fetched.download.task.file_id):
                self._let_go[fetched.download.task.file_id] = None

    def _moved_download(self, record: TaskRecord) -> None:
        if record.state is TaskState.RUNNING:
            self._running[record.task.id] = record
        else:
            self._running.pop(record.task.id, None)
        if record.state is TaskState.SUCCEEDED:
            self._fetched_count += 1
            self._fetched_bytes += int(record.metrics.get("size_bytes") or 0)

    def is_needless(self, file_id: str) -> bool:
        """Whether nobody reads an input's media any more; False where nothing is known of them."""
        found = self._by_file.get(file_id, ())
        return bool(found) and all(fetched.needless for fetched in found)

    def let_go(self) -> list[str]:
        """The inputs that have failed for good since this was asked last: whose media nobody takes away otherwise."""
        names, self._let_go = list(self._let_go), {}
        return names

    def disk(self, bound_bytes: int | None, coming: Mapping[str, Coming] | None = None) -> Disk:
        """The disk as it stands."""
        usual = self._fetched_bytes // self._fetched_count if self._fetched_count else 0
        running = tuple(record.task for record in self._running.values())
        return Disk(bound_bytes, self.held_bytes, usual or USUAL_BYTES, running, coming)

    def dump(self) -> dict[str, Any]:
        """The whole state as JSON types."""
        return {
            "held_bytes": self.held_bytes,
            "running": list(self._running),
            "fetched": [self._fetched_bytes, self._fetched_count],
        }
