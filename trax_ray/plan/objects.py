"""Recordings in object stores: what a URI stands for, found with few requests."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePath

from trax_ray.errors import UsageError
from trax_ray.plan.folders import MAGIC
from trax_ray.store.objects import ObjectStat, list_below, list_folder, stats_of
from trax_ray.store.uris import ObjectPath, is_object_uri

__all__ = ["StoredFile", "exact", "files_below", "matches", "on_disk_or_stored", "stats_by_uri"]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An object that was found.

    Args:
        path: Where it is.
        relative: Its path below the folder that was named; its bare name where it was named itself.
        stat: What is known of it.
    """

    path: ObjectPath
    relative: str
    stat: ObjectStat


def exact(uri: str) -> StoredFile | None:
    """The object that has this very name; None where there is none."""
    path = ObjectPath.of(uri)
    if not path.key or uri.rstrip().endswith("/"):
        return None
    stat = stats_of([path])[path]
    return None if stat is None else StoredFile(path, path.name, stat)


def files_below(folder: ObjectPath, unreadable: dict[str, str], root: ObjectPath | None = None) -> list[StoredFile]:
    """All that lies below a folder, by name; hidden names are left out, as on a disk.

    Args:
        folder: What the names begin with.
        unreadable: Takes up the folders with names that can't be asked for, with the reason.
        root: What paths are relative to; None for the folder.
    """
    root = root or folder
    found = sorted(_all_below(folder, unreadable))
    return [StoredFile(path, path.below(root), stat) for path, stat in found if not _is_hidden(path.below(folder))]


def matches(pattern: str, unreadable: dict[str, str]) -> list[StoredFile]:
    """What a pattern matches: `*`, `?` and `[...]` in one part of a name, `**` for folders at any depth.

    What lies below a folder that matches is found too, as on a disk. Relative to the last folder before the first
    wildcard.
    """
    scheme_and_bucket, _, key = pattern.partition("://")[2].partition("/")
    parts = [part for part in key.split("/") if part]
    first = next((number for number, part in enumerate(parts) if MAGIC.search(part)), None)
    if first is None or MAGIC.search(scheme_and_bucket):
        raise UsageError(f"{pattern!r:.200}: the name of a bucket can't be a pattern")
    base = ObjectPath.of(f"{pattern.partition('://')[0]}://{'/'.join([scheme_and_bucket, *parts[:first]])}")
    wanted = parts[first:]
    return [each for each in files_below(base, unreadable) if _fits(each.relative.split("/"), wanted)]


def _fits(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether the parts of a name begin with what is wanted of them; what is below a folder that fits does too."""
    if not wanted:
        return True
    if wanted[0] == "**":
        return any(_fits(parts[skipped:], wanted[1:]) for skipped in range(len(parts)))
    return bool(parts) and fnmatchcase(parts[0], wanted[0]) and _fits(parts[1:], wanted[1:])


def stats_by_uri(uris: Sequence[str]) -> dict[str, ObjectStat | None]:
    """What is known of objects by their URIs; None for those that aren't there."""
    paths = {uri: ObjectPath.of(uri) for uri in uris}
    stats = stats_of(paths.values())
    return {uri: stats[path] for uri, path in paths.items()}


def on_disk_or_stored(base: str, name: str) -> str | None:
    """The URI of a name in a list; None where it is on a disk.

    Args:
        base: Folder of the list; a URI where the list is an object.
        name: As it stands there.
    """
    if is_object_uri(name):
        return str(ObjectPath.of(name))
    if is_object_uri(base) and not re.match(r"\s*[a-z][a-z0-9+.-]*://", name, re.IGNORECASE):
        return str(ObjectPath.of(f"{base.rstrip('/')}/{PurePath(name).as_posix()}"))
    return None


def _all_below(folder: ObjectPath, unreadable: dict[str, str]) -> Iterator[tuple[ObjectPath, ObjectStat]]:
    try:
        yield from list(list_below(folder))
    except UsageError as error:
        # One name that can't be asked for hides a thousand others; so folder by folder.
        try:
            folders, files = list_folder(folder)
        except UsageError:
            unreadable[str(folder)] = error.message
            return
        yield from files
        for each in folders:
            yield from _all_below(each, unreadable)


def _is_hidden(relative: str) -> bool:
    return any(part.startswith(".") for part in relative.split("/"))
