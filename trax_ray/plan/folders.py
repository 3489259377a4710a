"""Folders and patterns on a disk: the files that they stand for, in a stable order."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from trax_ray.store.explaining import shown

__all__ = ["MAGIC", "expand", "walk"]

MAGIC = re.compile(r"[*?[]")
"""What makes a name a pattern."""


def walk(folder: str, excluded: str, unreadable: dict[str, str]) -> Iterator[str]:
    """Files below a folder, in a stable order; hidden ones and the output folder are left out."""
    for here, _, names in _walk_folders(folder, excluded, unreadable):
        for name in sorted(names):
            if not name.startswith("."):
                yield os.path.join(here, name)


def _walk_folders(folder: str, excluded: str, unreadable: dict[str, str]) -> Iterator[tuple[str, list[str], list[str]]]:
    def note(error: OSError) -> None:
        unreadable[shown(error.filename)] = error.strerror or str(error)

    for here, folders, names in os.walk(folder, onerror=note):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(os.path.join(here, name)) != excluded
        )
        yield here, folders, names


def expand(pattern: str, excluded: str, unreadable: dict[str, str]) -> tuple[str, list[str]]:
    """What a pattern matches; hidden names only where it says so, the output folder never.

    Returns:
        The last folder before the first wildcard, and the absolute paths in a stable order.
    """
    parts = [part for part in pattern.split(os.sep) if part not in ("", os.curdir)]
    first = next(number for number, part in enumerate(parts) if MAGIC.search(part))
    base = os.path.abspath(os.path.join(os.sep if os.path.isabs(pattern) else os.getcwd(), *parts[:first]))
    rest = parts[first:]
    while rest and rest[-1] == "**":
        rest.pop()  # a folder stands for all that is below it anyway
    paths = [base] if os.path.isdir(base) else []
    for part in rest:
        steps = (each for path in paths for each in _step(path, part, excluded, unreadable))
        paths = list(dict.fromkeys(steps))
    return base, [os.path.abspath(path) for path in paths]


def _step(folder: str, part: str, excluded: str, unreadable: dict[str, str]) -> Iterator[str]:
    """What one part of a pattern matches in a folder."""
    if part == "**":
        # Links to folders aren't followed here, so that circles end.
        for here, _, _ in _walk_folders(folder, excluded, unreadable):
            yield here
        return
    if not MAGIC.search(part):
        names = [part] if os.path.lexists(os.path.join(folder, part)) else []
    else:
        names = sorted(name for name in _listed(folder, unreadable) if fnmatchcase(name, part))
    for name in names:
        path = os.path.join(folder, name)
        if (part.startswith(".") or not name.startswith(".")) and os.path.realpath(path) != excluded:
            yield path


def _listed(folder: str, unreadable: dict[str, str]) -> list[str]:
    try:
        return os.listdir(folder)
    except NotADirectoryError:
        return []
    except OSError as error:
        unreadable[shown(folder)] = error.strerror or str(error)
        return []
