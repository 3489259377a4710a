"""Which recordings there are: from what a person names to what a batch plans."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from trax_ray.core.ids import file_id_of
from trax_ray.errors import SetupError, UsageError
from trax_ray.plan.folders import MAGIC, expand, walk
from trax_ray.plan.manifest import Row, is_manifest, read_bytes_of, read_list, read_manifest
from trax_ray.plan.objects import StoredFile, exact, files_below, matches, on_disk_or_stored, stats_by_uri
from trax_ray.plan.tasks import InputFile, is_fetched
from trax_ray.store.explaining import shown
from trax_ray.store.layout import plan_names
from trax_ray.store.objects import ObjectStat
from trax_ray.store.uris import ObjectPath, is_object_uri
from trax_ray.web.addresses import checked_url, is_url, name_of_url
from trax_ray.web.job import Entry

__all__ = [
    "MEDIA_SUFFIXES",
    "STDIN",
    "Found",
    "Scan",
    "describe",
    "find_reference",
    "read_stdin",
    "scan",
]

_NAMES = """
3g2 3ga 3gp 3gpp 3gpp2 aa3 aac ac3 adts aif aifc aiff amr ape asf au avi awb bwf caf divx dsf dss dts dtshd eac3 ec3
f4a f4v flac flv gsm k3g latm loas m1a m2a m2t m2ts m4a m4b m4p m4r m4v mk3d mka mkv mov mp1 mp2 mp3 mp4 mpa mpc mpeg
mpg mpga mts mxf nist nut oga ogg ogv ogx oma opus qcp qt ra rf64 rm rmvb shn snd sph spx tak thd tod trp truehd ts
tta vob voc w64 wav wave weba webm wma wmv wtv wv
"""
MEDIA_SUFFIXES = frozenset(f".{name}" for name in _NAMES.split())
"""Suffixes of what is taken from a folder, and by a pattern. A file that is named itself is always taken."""

STDIN = "-"

_WEB = re.compile(r"\s*https?:", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Found:
    """A recording that was named or found.

    Args:
        path: Absolute path, bytes that aren't UTF-8 as surrogate escapes; or a URL, or a URI in an object store.
        relative: Path below the folder that was named (for lists and manifests: the folder they lie in; for
            patterns: the last folder before the first wildcard); else the bare name.
        missing: True where there is nothing at this path.
        row: What a manifest says about it, its reference as an absolute path; None where none names it.
        stat: What its object store knows of it; None for files, and for what isn't there.
        key: What it is known by where that isn't its path, such as its name at a site; empty for its path.
        entry: What its list or feed says of it; None for files.
        listing: It is a list that can't be read, and no recording.
    """

    path: str
    relative: PurePath
    missing: bool = False
    row: Row | None = None
    stat: ObjectStat | None = None
    key: str = ""
    entry: Entry | None = None
    listing: bool = False


@dataclass(frozen=True, slots=True)
class Scan:
    """What the inputs came to.

    Args:
        found: Recordings in order, each once.
        ignored: Files in folders, and files that patterns match, that aren't media.
        unreadable: Folders that can't be listed, with the reason.
        ignored_suffixes: How many of those that are ignored have which suffix, in lower case; most first.
    """

    found: tuple[Found, ...]
    ignored: int
    unreadable: Mapping[str, str]
    ignored_suffixes: Mapping[str, int] = field(default_factory=dict)

    @property
    def present(self) -> int:
        """Recordings that are there."""
        return sum(not entry.missing for entry in self.found)


def read_stdin() -> bytes:
    """All of standard input."""
    return sys.stdin.buffer.read()


def scan(
    inputs: Iterable[str],
    output_dir: str | os.PathLike[str],
    *,
    lists: Iterable[str] = (),
    read_stdin: Callable[[], bytes] = read_stdin,
    suffixes: Collection[str] = MEDIA_SUFFIXES,
) -> Scan:
    """Find the recordings behind what a person names; folders are searched all the way down.

    Links to folders are followed where they are named, not where they are found. One path is one recording,
    however often it is named; two links to the same bytes are two.

    Args:
        inputs: Files, folders, manifests (by suffix), URIs of the same in object stores (where what names begin with
            is a folder), `-` for a list on standard input, and patterns: what holds
            `*`, `?` or `[` and isn't there itself is matched as a shell would, with `**` for folders at any depth. Of
            what it matches folders and media files are taken, and manifests where it has a suffix (`lists/*.csv`).
        output_dir: Never searched, wherever it lies.
        lists: Files with one path per line, or manifests; paths in them are relative to the folder they lie in
            (to the working folder for standard input and pipes), and are no patterns.
        read_stdin: Gives standard input; called once at most.
        suffixes: Of what is taken from folders, and by patterns; in lower case.

    Raises:
        UsageError: An empty name, a list or manifest that can't be used, two manifest rows that contradict each
            other, or the output folder itself.
        SetupError: A URL of something else than the web.
        StoreError, NetworkError: An object store can't be asked.
    """
    where = os.fspath(output_dir)
    excluded = str(ObjectPath.of(where)) if is_object_uri(where) else os.path.realpath(where)
    gathering = _Gathering(excluded, read_stdin, suffixes)
    for given in inputs:
        gathering.take(given)
    for given in lists:
        gathering.take_list(given)
    gathering.look_up()
    ignored = gathering.ignored
    return Scan(tuple(gathering.found.values()), ignored.total(), gathering.unreadable, dict(ignored.most_common()))


@dataclass(slots=True)
class _Gathering:
    """A scan in the making."""

    excluded: str
    read_stdin: Callable[[], bytes]
    suffixes: Collection[str]
    found: dict[str, Found] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)
    stdin_read: bool = False

    def take(self, given: str) -> None:
        """One input of the command line."""
        if not given:
            raise UsageError("an input is empty: is a variable of your shell not set? (. is the working folder)")
        path = os.path.abspath(given)
        if given == STDIN:
            self.take_list(given)
        elif is_object_uri(given):
            self._take_stored(given)
        elif os.path.lexists(path):
            self._take_path(path)
        elif is_url(given):
            self._note_url(given)
        elif MAGIC.search(given):
            base, matches = expand(given, self.excluded, self.unreadable)
            wants_manifests = os.path.splitext(given)[1] not in ("", ".*")
            for match in matches:
                self._take_match(match, base, wants_manifests)
            if not matches:
                self._note(path, None)
        elif is_manifest(path):
            self._take_rows(read_manifest(path), os.path.dirname(path))
        else:
            self._note(path, None)

    def take_list(self, given: str) -> None:
        """A list, or a manifest that was named as one."""
        if given == STDIN:
            if not self.stdin_read:
                self.stdin_read = True
                self._take_rows(read_list(self.read_stdin(), "standard input"), os.getcwd())
        elif is_object_uri(given):
            rows = read_manifest(given) if is_manifest(given) else read_list(read_bytes_of(given), given)
            self._take_rows(rows, str(ObjectPath.of(given).parent))
        elif is_manifest(given):
            path = os.path.abspath(given)
            self._take_rows(read_manifest(path), os.path.dirname(path))
        else:
            path = os.path.abspath(given)
            self._take_rows(read_list(read_bytes_of(path), shown(given)), _folder_of_list(path))

    def _take_stored(self, given: str) -> None:
        """What a URI stands for: an object, a manifest, a folder, or a pattern."""
        one = exact(given)
        if one is not None:
            self._take_object(one, named=True)
        elif MAGIC.search(given):
            wants_manifests = os.path.splitext(given)[1] not in ("", ".*")
            for each in matches(given, self.unreadable):
                self._take_object(each, named=wants_manifests and is_manifest(str(each.path)))
        else:
            folder = ObjectPath.of(given)
            self._expect_input(folder)
            found = files_below(folder, self.unreadable)
            for each in found:
                self._take_object(each, named=False)
            if not found and str(folder) not in self.unreadable:
                self._add(Found(str(folder), PurePath(folder.name or folder.bucket), missing=True))

    def _take_object(self, found: StoredFile, *, named: bool) -> None:
        path = str(found.path)
        if path == self.excluded or path.startswith(f"{self.excluded}/"):
            return
        suffix = found.path.suffix.lower()
        if named and is_manifest(path):
            self._take_rows(read_manifest(path), str(found.path.parent))
        elif named or suffix in MEDIA_SUFFIXES:
            self._add(Found(path, PurePath(found.relative), stat=found.stat))
        else:
            self.ignored[suffix] += 1

    def _expect_input(self, folder: ObjectPath) -> None:
        if str(folder) == self.excluded:
            raise UsageError(f"{folder} is the output folder: give another --output-dir")

    def look_up(self) -> None:
        """Ask the stores for the objects that lists and manifests name."""
        unknown = [path for path, each in self.found.items() if is_object_uri(path) and each.stat is None]
        for path, known in stats_by_uri([path for path in unknown if not self.found[path].missing]).items():
            self.found[path] = replace(self.found[path], stat=known, missing=known is None)

    def _take_path(self, path: str, root: str | None = None) -> None:
        """What is there: a folder, a manifest or a recording."""
        if os.path.isdir(path):
            self._take_folder(path, root)
        elif is_manifest(path):
            self._take_rows(read_manifest(path), os.path.dirname(path))
        else:
            self._note(path, root)

    def _take_match(self, path: str, base: str, wants_manifests: bool) -> None:
        """What a pattern matches: as from a folder media only, for nobody knows all that lies there."""
        if os.path.isdir(path) or (wants_manifests and is_manifest(path)):
            self._take_path(path, base)
        else:
            self._take_if_media(path, base)

    def _take_if_media(self, path: str, root: str) -> None:
        suffix = os.path.splitext(path)[1].lower()
        if suffix in self.suffixes:
            self._note(path, root)
        else:
            self.ignored[suffix] += 1

    def _take_folder(self, path: str, root: str | None) -> None:
        if os.path.realpath(path) == self.excluded:
            raise UsageError(f"{shown(path)} is the output folder: give another --output-dir")
        for each in walk(path, self.excluded, self.unreadable):
            self._take_if_media(each, root or path)

    def _take_rows(self, rows: Sequence[Row], base: str) -> None:
        """The rows of a list or a manifest that lies in `base`."""
        for row in rows:
            stored = on_disk_or_stored(base, row.file_name or row.url)
            if stored is not None:
                self._take_stored_row(stored, row, base)
                continue
            path = os.path.abspath(os.path.join(base, row.file_name or row.url))
            if row.url or (is_url(row.file_name) and not os.path.lexists(path)):
                self._note_url(row.url or row.file_name, self._with_reference(row, base))
            elif not row.settings:
                self._take_listed(path, base)
            elif os.path.isdir(path):
                raise UsageError(f"{row.where}: {shown(path)} is a folder: a row with values names one recording")
            else:
                self._note(path, base, self._with_reference(row, base))

    def _take_stored_row(self, uri: str, row: Row, base: str) -> None:
        path = ObjectPath.of(uri)
        folder = ObjectPath.of(base) if is_object_uri(base) else None
        below = folder is not None and path.is_below(folder)
        relative = path.below(folder) if below and folder is not None else path.name
        row_of = self._with_reference(row, base) if row.settings else None
        self._add(Found(str(path), PurePath(relative or path.bucket), row=row_of))

    def _take_listed(self, path: str, base: str) -> None:
        if os.path.isdir(path):
            self._take_folder(path, base if _is_below(path, base) else None)
        else:
            self._note(path, base)

    def _with_reference(self, row: Row, base: str) -> Row:
        if not row.reference:
            return row
        if on_disk_or_stored(base, row.reference) is not None:
            raise UsageError(
                f"{row.where}: reference transcripts in object stores aren't read: copy it, and give its path"
            )
        path = os.path.abspath(os.path.join(base, row.reference))
        if not os.path.isfile(path):
            raise UsageError(
                f"{row.where}: there is no reference transcript {shown(path)}: "
                "correct the path, which is relative to the manifest's folder, or leave it empty"
            )
        if _is_below(os.path.realpath(path), self.excluded):
            raise UsageError(
                f"{row.where}: the reference {shown(path)} lies in the output folder: "
                "transcripts that we wrote can't be references"
            )
        return replace(row, reference=path)

    def _note(self, path: str, root: str | None, row: Row | None = None) -> None:
        below = root is not None and _is_below(path, root)
        relative = os.path.relpath(path, root) if below else os.path.basename(path)
        self._add(Found(path, PurePath(relative), missing=not os.path.lexists(path), row=row))

    def _note_url(self, given: str, row: Row | None = None) -> None:
        where = f"{row.where}: " if row is not None else ""
        if not _WEB.match(given):
            raise SetupError(f"{where}only http and https URLs are fetched: download {shown(given)} and give the file")
        try:
            url = checked_url(given)
        except UsageError as error:
            raise UsageError(f"{where}{error.message}", code=error.code) from error
        row = row if row is not None and row.settings else None
        self._add(Found(url, PurePath(name_of_url(url, MEDIA_SUFFIXES)), row=row))

    def _add(self, found: Found) -> None:
        """Take a recording, once however often it is named."""
        known, row = self.found.get(found.path), found.row
        if known is None:
            self.found[found.path] = found
        elif row is not None and known.row is None:
            self.found[found.path] = replace(known, row=row)
        elif row is not None and known.row is not None and row.settings != known.row.settings:
            raise UsageError(
                f"{row.where}: {shown(found.path)} has other values in {known.row.where}: keep one of the two"
            )


def _folder_of_list(path: str) -> str:
    """What its paths are relative to: the working folder for pipes, such as a shell's `<(find ...)`."""
    return os.path.dirname(path) if stat.S_ISREG(os.stat(path).st_mode) else os.getcwd()


def _is_below(path: str, folder: str) -> bool:
    return path != folder and os.path.commonpath([path, folder]) == folder


def find_reference(folder: Path, relative: PurePath) -> Path | None:
    """The reference transcript of a recording: the same path below `folder`, with the suffix `.txt`.

    `talk.mp3` has `talk.mp3.txt` or `talk.txt`, the former first.
    """
    for name in (f"{relative.name}.txt", f"{relative.stem}.txt"):
        path = folder / relative.parent / name
        # Not Path.is_file: it raises where the name with its suffix is longer than a file system takes.
        if os.path.isfile(path):
            return path
    return None


def describe(
    found: Sequence[Found],
    *,
    taken: Mapping[str, str],
    ids: Mapping[str, str] | None = None,
    reference_dir: Path | None = None,
    priority: int = 0,
    stored: bool = False,
) -> list[InputFile]:
    """What planning needs to know of each recording.

    Args:
        found: The recordings.
        taken: Names of outputs that were given in earlier runs, by file id.
        ids: File ids by path; those of others follow from their paths.
        reference_dir: Folder of reference transcripts, for recordings whose manifest row names none.
        priority: Of all whose manifest row says nothing else.
        stored: Whether their outputs go to an object store.
    """
    known = [(ids or {}).get(entry.path) or file_id_of(entry.path) for entry in found]
    relative = [(file_id, entry.relative) for file_id, entry in zip(known, found, strict=True)]
    names = plan_names(relative, taken, stored=stored)
    return [
        _described(entry, file_id, names[file_id], reference_dir, priority)
        for file_id, entry in zip(known, found, strict=True)
    ]


def _described(entry: Found, file_id: str, output: str, reference_dir: Path | None, priority: int) -> InputFile:
    row = entry.row or Row("", "")
    reference = Path(row.reference) if row.reference else None
    if reference is None and reference_dir is not None:
        reference = find_reference(reference_dir, entry.relative)
    missing = False
    url = is_fetched(entry.path)
    if entry.stat is not None:
        identity = (entry.stat.size_bytes, entry.stat.modified_s * 1_000_000_000, entry.stat.number, 0)
    elif is_object_uri(entry.path):
        missing, identity = True, (0, 0, 0, 0)
    else:
        try:
            status = None if url else os.stat(entry.path)
        except OSError:
            # The attempt will find out what is wrong, and the report will say it.
            missing, identity = True, (0, 0, 0, 0)
        else:
            identity = _identity(status)
    return InputFile(
        path=entry.path,
        name=str(entry.relative).removesuffix(".url") if url else str(entry.relative),
        output=output,
        size_bytes=identity[0],
        mtime_ns=identity[1],
        inode=identity[2],
        changed_ns=identity[3],
        reference=str(reference) if reference is not None else "",
        reference_mtime_ns=reference.stat().st_mtime_ns if reference is not None else 0,
        priority=priority if row.priority is None else row.priority,
        language=row.language,
        model=row.model,
        prompt=row.prompt,
        missing=missing,
        extra=row.extra,
        file_id=file_id,
        entry=entry.entry,
        listing=entry.listing,
    )


def _identity(status: os.stat_result | None) -> tuple[int, int, int, int]:
    """What tells one state of a file from another; what is at a URL only shows when it is fetched."""
    return (0, 0, 0, 0) if status is None else (status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns)
