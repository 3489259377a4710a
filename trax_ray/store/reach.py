"""Whether a machine reads the inputs of a batch and writes to its output folder, tried out. No Ray here."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from trax_ray.errors import TraxRayError
from trax_ray.store import files, writing
from trax_ray.store.cleaning import forget_stand_ins
from trax_ray.store.creating import expect_creation
from trax_ray.store.explaining import explain, shown
from trax_ray.store.layout import Layout
from trax_ray.store.objects import read_range, stat_of
from trax_ray.store.uris import ObjectPath, is_object_uri, place_of

__all__ = ["out_of_reach", "samples", "sign"]

_MOST_TRIED = 3


def samples(paths: Iterable[str]) -> list[str]:
    """Inputs to try: one of each bucket, and a file, each of those that can be read from here.

    Args:
        paths: Paths and URIs of recordings. What can't be read from here either isn't the others' fault.
    """
    groups: dict[str, list[str]] = {}
    for path in paths:
        group = "/".join(path.split("/")[:3]) if is_object_uri(path) else ""
        tried = groups.setdefault(group, [])
        if len(tried) < _MOST_TRIED:
            tried.append(path)
    found = (next((path for path in tried if not _unreadable(path)), "") for tried in groups.values())
    return [path for path in found if path]


@contextmanager
def sign(layout: Layout) -> Iterator[tuple[str, str]]:
    """A file in the output folder, and what is in it: who reads that has the same folder before him."""
    token = secrets.token_hex(16)
    path = layout.private / _name()
    files.ensure_folder(path.parent)
    writing.write_atomically(path, token.encode(), lasting=False)
    try:
        yield str(path), token
    finally:
        with suppress(OSError, TraxRayError):
            files.remove(path)


def out_of_reach(inputs: Sequence[str], sign_path: str, token: str) -> str:
    """What this machine can't reach, in words; empty where it reaches all of it.

    Args:
        inputs: As of `samples`.
        sign_path: As of `sign`.
        token: As of `sign`.
    """
    for each in inputs:
        reason = _unreadable(each)
        if reason:
            return reason
    path = place_of(sign_path)
    folder = path.parent.parent
    try:
        if files.read_regular(path).decode("ascii", "replace") != token:
            return f"another output folder {shown(folder)} is there"
        if isinstance(path, ObjectPath):
            expect_creation(path.parent)
            forget_stand_ins(Layout(path.parent.parent), time.time())
            return ""
        own = path.with_name(_name())
        writing.write_atomically(own, token.encode(), lasting=False)
        files.remove(own)
    except FileNotFoundError:
        return f"the output folder {shown(folder)} isn't there, or is another one"
    except OSError as error:
        return explain(error, folder, "write").message
    except TraxRayError as error:
        return error.message
    return ""


def _name() -> str:
    """As of a temporary file, so that what a crash leaves goes with those."""
    return f".tmp-{secrets.token_hex(8)}"


def _unreadable(path: str) -> str:
    """Why a recording can't be read; empty where it can."""
    try:
        place = place_of(path)
        if isinstance(place, ObjectPath):
            if stat_of(place).size_bytes:
                read_range(place, 0, 1)
        else:
            with files.open_regular(place) as stream:
                os.read(stream.fileno(), 1)
    except OSError as error:
        return explain(error, path, "read").message
    except TraxRayError as error:
        return error.message
    return ""
