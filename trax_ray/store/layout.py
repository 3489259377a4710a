"""Where everything lies in the output folder, and how transcripts are named."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath
from typing import NamedTuple

from trax_ray.core.ids import digest
from trax_ray.core.spec import OUTPUT_FORMATS
from trax_ray.places import cache_folder
from trax_ray.store.files import absolute
from trax_ray.store.uris import ObjectPath, Place, place_of

__all__ = ["TABLES", "Layout", "fold", "plan_names"]

MAX_NAME_BYTES = 255
"""What a name may have on the file systems in use: ext4, XFS, Btrfs, APFS, NFS."""

TABLES = ("files", "tasks", "attempts", "segments")
"""Tables of the report."""

_ENHANCED = ".enhanced"
_LONGEST_SUFFIX_BYTES = len(_ENHANCED) + 1 + max(map(len, OUTPUT_FORMATS))
_RESERVED = ("report", ".trax")
_SUFFIXES = tuple(f".{each}" for each in OUTPUT_FORMATS)
_HASH_DIGITS = 8
# A slash, NUL, and surrogates that don't stand for a byte: no file system takes them.
_IMPOSSIBLE = re.compile("[\x00/\ud800-\udc7f\udd00-\udfff]")
_NOT_IN_STORES = re.compile("[\x00-\x1f\x7f/\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Layout:
    """The places in an output folder, on a disk or in an object store.

    Args:
        output_dir: The folder; made absolute, because workers have other working folders.
    """

    output_dir: Place

    def __post_init__(self) -> None:
        if not isinstance(self.output_dir, ObjectPath):
            object.__setattr__(self, "output_dir", absolute(self.output_dir))

    @classmethod
    def of(cls, folder: str | os.PathLike[str] | ObjectPath) -> Layout:
        """The layout of a folder as people name it: a path, or a URI such as `s3://bucket/folder`.

        Raises:
            UsageError: A URI without a bucket, or with a name that can't be asked for.
        """
        return cls(folder if isinstance(folder, ObjectPath) else place_of(os.fspath(folder)))

    @property
    def stored(self) -> bool:
        """Whether it is in an object store."""
        return isinstance(self.output_dir, ObjectPath)

    @property
    def here(self) -> Path:
        """Where files are that must be on a disk of this machine, under the paths that they have below the output
        folder: that folder itself; for one in an object store a folder in the user's cache, another on each machine."""
        return self.output_dir if isinstance(self.output_dir, Path) else _stand_in(self.output_dir)

    @property
    def work(self) -> Path:
        """What is private and can be made again: it needn't be where the output folder is."""
        return self.here / ".trax"

    @property
    def private(self) -> Place:
        """What belongs to trax_ray alone."""
        return self.output_dir / ".trax"

    @property
    def journal(self) -> Place:
        """Folder of the journal's segments."""
        return self.private / "journal"

    @property
    def artifacts(self) -> Place:
        """Folder of committed results."""
        return self.private / "artifacts"

    @property
    def hashes(self) -> Path:
        """Folder of remembered content hashes."""
        return self.work / "hashes"

    def claim(self, content: str) -> Path:
        """The lock of the attempt that transcribes a recording.

        Args:
            content: Its content hash. A few thousand locks serve all recordings: two that share one by chance
                only wait for one another.
        """
        return self.work / "claims" / content[:3]

    @property
    def inbox(self) -> Place:
        """Folder of commands from other terminals."""
        return self.private / "inbox"

    @property
    def status(self) -> Place:
        """What the coordinator says about itself, rewritten while it runs."""
        return self.private / "status.json"

    @property
    def lock(self) -> Place:
        """The lock of the batch that holds this folder."""
        return self.private / "lock"

    @property
    def starting(self) -> Place:
        """The lock of a driver until its coordinator has `lock`: Ray takes seconds to start."""
        return self.private / "lock-starting"

    @property
    def model_pin(self) -> Place:
        """The engine that this folder's transcripts come from."""
        return self.private / "model.json"

    @property
    def report(self) -> Place:
        """Folder of the report."""
        return self.output_dir / "report"

    def table(self, name: str) -> Place:
        """A table of the report, of `TABLES`."""
        return self.report / f"{name}.parquet"

    @property
    def run_json(self) -> Place:
        """Figures of the whole batch."""
        return self.report / "run.json"

    @property
    def index_html(self) -> Place:
        """The report as one page."""
        return self.report / "index.html"

    @property
    def errors_log(self) -> Place:
        """Every failure, one line each."""
        return self.report / "errors.log"

    def transcript(self, stem: str, suffix: str) -> Place:
        """A transcript file.

        Args:
            stem: From `plan_names`.
            suffix: One of OUTPUT_FORMATS.
        """
        return self.output_dir / self.name_of(stem, suffix)

    @staticmethod
    def name_of(stem: str, suffix: str) -> str:
        """The path of a transcript below the output folder."""
        return f"{stem}.{suffix}"

    def enhanced(self, stem: str, suffix: str = "txt") -> Place:
        """An enhanced transcript: beside the plain one, whose file stays."""
        return self.output_dir / f"{stem}{_ENHANCED}.{suffix}"


@lru_cache(maxsize=64)
def _stand_in(folder: ObjectPath) -> Path:
    return cache_folder() / "outputs" / digest([str(folder)])


class _Input(NamedTuple):
    id: str
    folders: tuple[str, ...]
    name: str


def fold(text: str) -> str:
    """The same text for all names that some file system takes for one: case and Unicode form folded."""
    # Decomposed first: folding the case of marks that aren't in canonical order gives another text
    # (canonical caseless matching, The Unicode Standard, definition D145).
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def plan_names(
    files: Sequence[tuple[str, PurePath]], taken: Mapping[str, str] | None = None, *, stored: bool = False
) -> dict[str, str]:
    """Where each input's transcripts go: the input tree mirrored, with whisper's names.

    `talks/a.mp3` gives `talks/a` (and so `talks/a.srt`). Inputs that would share a name take their full one,
    `a.mp3`; where that isn't enough (`A.mp3` beside `a.mp3`) a short hash of their id is added. No two inputs
    get names that any file system takes for one, enhanced transcripts included. What is planned depends on
    the inputs, not on their order, and names that were given once stay.

    A name is shortened, with a hash, where its files' names would exceed 255 bytes. Top folders `report` and
    `.trax`, and folders that are called like a transcript (`talk.srt`), get a `_`. Roots and `..` are left
    out: nothing is ever written outside of the output folder.

    Args:
        files: Id of each input, and its path below the folder that was given; ids are unique. Paths may hold
            the surrogates of names that aren't UTF-8.
        taken: Names that were given in earlier runs, by id; also of inputs that aren't in `files`.
        stored: Whether they are names in an object store, which takes no control characters, and UTF-8 alone.

    Returns:
        Name by id, for all of `files`: relative to the output folder, with slashes, without suffix.

    Raises:
        ValueError: Two inputs have the same id.
    """
    given = dict(taken or {})
    inputs = {
        each_id: _split(each_id, relative, _NOT_IN_STORES if stored else _IMPOSSIBLE) for each_id, relative in files
    }
    if len(inputs) != len(files):
        raise ValueError(f"expected unique ids, got {len(files)} inputs with {len(inputs)} ids")
    fixed = {claim for name in given.values() for claim in _claims(name)}
    levels = {each_id: 0 for each_id in inputs if each_id not in given}
    names = {each_id: _name(inputs[each_id], 0) for each_id in levels}
    owners: defaultdict[str, set[str]] = defaultdict(set)
    _register(owners, names, names)
    suspects = set(owners)
    while suspects:
        bumped = _to_bump({claim: owners[claim] for claim in suspects}, fixed, levels)
        suspects = set()
        for each_id in bumped:
            for claim in _claims(names[each_id]):
                owners[claim].discard(each_id)
                suspects.add(claim)  # two or more with longer names may be left behind
            levels[each_id] += 1
            names[each_id] = _name(inputs[each_id], levels[each_id])
        _register(owners, names, bumped)
        suspects.update(claim for each_id in bumped for claim in _claims(names[each_id]))
    return {each_id: given[each_id] if each_id in given else names[each_id] for each_id in inputs}


def _register(owners: defaultdict[str, set[str]], names: Mapping[str, str], ids: Iterable[str]) -> None:
    for each_id in ids:
        for claim in _claims(names[each_id]):
            owners[claim].add(each_id)


def _to_bump(owners: Mapping[str, set[str]], fixed: set[str], levels: Mapping[str, int]) -> set[str]:
    """Ids that must take a longer name: of those that share one, the ones whose name is shortest yet.

    All of these at once, not all but the first: so the order of the inputs can't matter.
    """
    bumped: set[str] = set()
    for claim, ids in owners.items():
        if len(ids) > 1 or (ids and claim in fixed):
            lowest = min(levels[each_id] for each_id in ids)
            bumped.update(each_id for each_id in ids if levels[each_id] == lowest)
    return bumped


def _claims(name: str) -> tuple[str, str]:
    """What no other input may have: `talk` also claims `talk.enhanced`, which it may need for its second file."""
    return fold(name), fold(name + _ENHANCED)


def _split(each_id: str, relative: PurePath, impossible: re.Pattern[str]) -> _Input:
    parts = [_possible(part, impossible) for part in relative.parts if part not in (relative.anchor, "..", "")]
    if not parts:
        parts = ["input"]
    return _Input(each_id, tuple(_folder(part, number == 0) for number, part in enumerate(parts[:-1])), parts[-1])


def _possible(part: str, impossible: re.Pattern[str]) -> str:
    part = impossible.sub("_", part)
    # Two escaped bytes that make one character are that character; else two texts were one name on disk.
    return part.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def _folder(part: str, top: bool) -> str:
    folded = fold(part)
    # talk.mp3 beside a folder talk.srt: one of the two would stand in the other's way.
    if (top and folded in _RESERVED) or folded.endswith(_SUFFIXES):
        part += "_"
    return _fit(part, part, MAX_NAME_BYTES)


def _name(each: _Input, level: int) -> str:
    """Level 0 is whisper's name, 1 the full one, 2 and up the full one with a hash of the id, ever longer."""
    room = MAX_NAME_BYTES - _LONGEST_SUFFIX_BYTES
    if level < 2:
        # As whisper does it; pathlib takes another view of names that end in a dot from one Python to the next.
        stem = os.path.splitext(each.name)[0] if level == 0 else each.name  # noqa: PTH122
        stem = _fit(stem, each.name, room)
    else:
        # The level goes into the hash: should one be taken, the next is another, not only a longer one.
        tail = "-" + _digest(f"{level} {each.id}")[: min(64, _HASH_DIGITS * (level - 1))]
        stem = _cut(each.name, room - len(tail)) + tail
    return "/".join((*each.folders, stem))


def _fit(part: str, whole: str, room: int) -> str:
    """The part, shortened where it needs more bytes than there is room; a hash of the whole keeps it apart."""
    if len(part.encode("utf-8", "surrogateescape")) <= room:
        return part
    tail = "-" + _digest(whole)[:_HASH_DIGITS]
    return _cut(part, room - len(tail)) + tail


def _cut(text: str, room: int) -> str:
    """The longest beginning that needs no more bytes than there is room, in whole characters."""
    used = 0
    for number, character in enumerate(text):
        used += len(character.encode("utf-8", "surrogateescape"))
        if used > room:
            return text[:number]
    return text


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
