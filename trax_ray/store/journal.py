"""Append-only JSON lines in groups: a crash may lose the last group; any other damage is found.

A segment is one file that one writer fills. A group is a head line and one line per record:

    ["group", count, bytes, at, "crc", "head"]
    {...}
    {...}

`count` records follow in `bytes` bytes, whose CRC-32 is `crc`; the head begins at byte `at` of the segment;
`head` is the CRC-32 of the head line before it. Records are objects, so that no line of a body, whole or
part, can be taken for a head.

A group counts when all of it is there. The writer starts a group only when the one before is on the disk;
so a bad group with anything of a later one behind it was good once, and is damage rather than a torn write.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from trax_ray.codes import FailureCode
from trax_ray.errors import FileError, JournalError, TraxRayError
from trax_ray.store import files, system, writing
from trax_ray.store.explaining import explain, shown

__all__ = [
    "Group",
    "JournalWriter",
    "encode_group",
    "is_group",
    "iter_segment",
    "read_group",
    "read_groups",
]

_HEAD = re.compile(rb'\["group",(\d{1,19}),(\d{1,19}),(\d{1,19}),"([0-9a-f]{8})","([0-9a-f]{8})"\]\n')
_HEAD_MAX_BYTES = 128

_WAY_OUT = (
    "restore the file from a backup, or move its folder away and run the same command again: "
    "finished work is found by its artifacts and isn't done twice"
)


@dataclass(frozen=True, slots=True)
class Group:
    """A group that is whole: `count` records in `body`, ending before byte `end` of the segment."""

    count: int
    body: bytes
    end: int

    def records(self) -> list[dict[str, Any]]:
        """The records, in the order in which they were appended."""
        parsed: list[dict[str, Any]] = json.loads(b"[%b]" % self.body[:-1].replace(b"\n", b","))
        return parsed


def encode_group(records: Sequence[dict[str, Any]], at: int = 0) -> bytes:
    """A group as bytes.

    Args:
        records: One or more; JSON types only, with text keys. Tuples come back as lists. Text may hold the
            surrogates of file names that aren't UTF-8 (`surrogateescape`); they survive.
        at: Byte of the segment where the group will begin.

    Raises:
        ValueError: No record, or NaN or infinity in one: those aren't JSON.
        TypeError: A record that isn't a dict, or holds other types.
    """
    if not records:
        raise ValueError("a group needs at least one record")
    lines = []
    for record in records:
        if not isinstance(record, dict):
            raise TypeError(f"expected a dict as a record, got {type(record).__name__}")
        lines.append(json.dumps(record, separators=(",", ":"), allow_nan=False))
    body = "\n".join(lines).encode("ascii") + b"\n"
    return _encode_head(_Head(len(lines), len(body), at, zlib.crc32(body))) + body


def read_groups(data: bytes, name: str = "journal") -> tuple[list[list[dict[str, Any]]], int]:
    """The groups of a segment; an incomplete last one is left out.

    Args:
        data: All bytes of the segment, from its first.
        name: Names the segment in an error.

    Returns:
        The records of each group in order, and the number of bytes that these groups take.

    Raises:
        JournalError: A bad group with something of a later group behind it; permanent.
    """
    groups = list(_iter_groups(io.BytesIO(data), len(data), name))
    return [group.records() for group in groups], groups[-1].end if groups else 0


def is_group(data: bytes, at: int) -> bool:
    """Whether bytes are a group, all of it, that begins at byte `at` of its segment."""
    line, _, body = data.partition(b"\n")
    head = _parse_head(line + b"\n")
    return head is not None and head.at == at and len(body) == head.length and zlib.crc32(body) == head.crc


def read_group(data: bytes, at: int, name: str) -> Group:
    """The group that bytes are, all of them.

    Args:
        data: Its head and its body.
        at: Byte of the segment where it begins.
        name: Names it in an error.

    Raises:
        JournalError: They are no group, or one of another place; permanent.
    """
    line, _, body = data.partition(b"\n")
    head = _parse_head(line + b"\n")
    if head is None or not is_group(data, at):
        raise _damaged(name, at, "it isn't what was written")
    if body.count(b"\n") != head.count:
        raise _damaged(name, at, f"{head.count} records are announced, {body.count(bytes([10]))} are there")
    return Group(head.count, body, at + len(data))


def iter_segment(path: Path, limit: int | None = None) -> Iterator[Group]:
    """The groups of a segment file, one in memory at a time; a live writer may be appending to it.

    Args:
        path: The segment.
        limit: Bytes to read: a count that an earlier reader took down. None reads what is there when the
            first group is asked for, without an incomplete last group.

    Raises:
        JournalError: A bad group with something of a later group behind it, or good groups for fewer bytes
            than `limit`; permanent.
        FileError: The file can't be read.
    """
    try:
        with files.open_regular(path) as stream:
            # The size is taken once: were it to grow while we look behind a group that is being written,
            # its finished successor would make it look damaged.
            size = os.fstat(stream.fileno()).st_size
            end = 0
            for group in _iter_groups(stream, size if limit is None else min(size, limit), shown(path)):
                end = group.end
                yield group
    except OSError as error:
        raise explain(error, path, "read") from error
    if limit is not None and end != limit:
        raise JournalError(
            f"journal segment {shown(path)} has good groups up to byte {end} only, "
            f"but {limit} bytes of it were read once: {_WAY_OUT}"
        )


class JournalWriter:
    """Fills one segment; for one thread.

    The segment is created exclusively: no other process has written to it.

    Args:
        path: The segment to create, in a folder that exists.

    Raises:
        FileExistsError: The segment exists; another process was first.
        DiskFull: No space, no quota, read-only.
        FileError: Not permitted, or no such folder; permanent.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._size = 0
        self._failure: TraxRayError | None = None
        self._fd = -1
        try:
            # An empty file has no bytes that could be missing, so O_EXCL does without a temporary name.
            self._fd = system.current().open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)
            self._links = os.fstat(self._fd).st_nlink
            files.fsync_folder(path.parent)
        except FileExistsError:
            raise
        except OSError as error:
            self.close()
            raise explain(error, path, "write") from error

    @property
    def size(self) -> int:
        """Bytes of the segment that are on the disk."""
        return self._size

    @property
    def removed(self) -> bool:
        """Whether the segment was deleted while it is being written."""
        # A few file systems always say 0 links, so what counts is that there are fewer than in the beginning.
        return self._fd >= 0 and os.fstat(self._fd).st_nlink < self._links

    def append(self, records: Sequence[dict[str, Any]]) -> int:
        """Add one group: one write, one fsync. On return it is on the disk. Nothing happens without records.

        A write or fsync that fails ends the segment. It isn't retried, because an fsync after a failed
        one can report success for bytes that are lost, and because a second group behind a torn one would
        read as damage. The failed group may or may not be read by a successor: its events happened, and
        none of its commands were run.

        Args:
            records: See encode_group; nothing is written where they can't be encoded.

        Returns:
            Bytes of the segment that are on the disk now.

        Raises:
            DiskFull: No space, no quota, read-only. Also later appends.
            FileError: Any other failure to write, this time or before, or the segment is closed; permanent.
        """
        if self._failure is not None:
            kind = type(self._failure)
            raise kind(
                f"journal segment {shown(self.path)} takes no more groups after: {self._failure}",
                failure_class=self._failure.failure_class,
                code=self._failure.code,
            )
        if self._fd < 0:
            raise FileError(f"journal segment {shown(self.path)} is closed", code=FailureCode.CLOSED)
        if not records:
            return self._size
        data = encode_group(records, self._size)
        try:
            writing.write_all(self._fd, data)
            files.fsync(self._fd)
        except BaseException as error:
            # Also an interrupt between two writes leaves a torn group.
            cause = error if isinstance(error, OSError) else OSError(f"interrupted by {type(error).__name__}")
            self._failure = explain(cause, self.path, "write")
            self.close()
            if isinstance(error, OSError):
                raise self._failure from error
            raise
        self._size += len(data)
        return self._size

    def close(self) -> None:
        """Close the file. Whatever was appended is on the disk already. May be called twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                system.current().close(fd)


@dataclass(frozen=True, slots=True)
class _Head:
    count: int
    length: int
    at: int
    crc: int


def _encode_head(head: _Head) -> bytes:
    covered = b'["group",%d,%d,%d,"%08x"' % (head.count, head.length, head.at, head.crc)
    return covered + b',"%08x"]\n' % zlib.crc32(covered)


def _parse_head(line: bytes) -> _Head | None:
    """The head in a line, or None where the line isn't one, to the last bit."""
    match = _HEAD.fullmatch(line)
    if match is None:
        return None
    head = _Head(int(match[1]), int(match[2]), int(match[3]), int(match[4], 16))
    # Encoding again instead of comparing fields: there is one spelling of a head, and no other passes.
    return head if _encode_head(head) == line else None


def _iter_groups(stream: BinaryIO, size: int, name: str) -> Iterator[Group]:
    """The groups in the first `size` bytes. Stops at an incomplete last one; raises at any other."""
    at = 0
    while at < size:
        line = stream.readline(min(_HEAD_MAX_BYTES, size - at))
        head = _parse_head(line)
        if head is not None and head.at != at:
            raise _damaged(name, at, f"the group there was written at byte {head.at}")
        body = stream.read(min(head.length, size - at - len(line))) if head is not None else b""
        if head is None or len(body) != head.length or zlib.crc32(body) != head.crc:
            stream.seek(at + 1)
            _refuse_later_group(stream.read(size - at - 1), at, head, len(line), name)
            return
        found = body.count(b"\n")
        if found != head.count:
            raise _damaged(name, at, f"{head.count} records are announced, {found} are there")
        at += len(line) + len(body)
        yield Group(head.count, body, at)


def _refuse_later_group(rest: bytes, at: int, head: _Head | None, head_bytes: int, name: str) -> None:
    """Raise where something was written after the bad group at byte `at`; `rest` begins one byte later.

    The end of a group with a good head is known. With a bad head it isn't, so a later head has to be looked
    for byte by byte; otherwise damage to one early head would make all that follows look like a torn end.
    """
    if head is not None and 1 + len(rest) > head_bytes + head.length:
        raise _damaged(name, at, "its checksum is wrong, and more follows it")
    for match in _HEAD.finditer(rest):
        if _parse_head(match[0]) is not None:
            raise _damaged(name, at, f"another group begins at byte {at + 1 + match.start()}")


def _damaged(name: str, at: int, why: str) -> JournalError:
    return JournalError(f"journal segment {name} is damaged in the group at byte {at}: {why}: {_WAY_OUT}")
