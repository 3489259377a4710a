"""What the page says of an input, and of its segments. Names are told on one line, whatever they hold."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from trax_ray.core.task import TaskType
from trax_ray.report.tables import Entry
from trax_ray.report.text import one_line
from trax_ray.store.uris import ObjectPath, Place, is_object_uri

__all__ = ["COLUMNS", "address_of", "file_values", "sound_of", "transcript_values"]

COLUMNS = (
    "id",
    "name",
    "title",
    "status",
    "language",
    "model",
    "duration",
    "speech",
    "took",
    "estimated",
    "measured",
    "warnings",
    "words",
    "cost",
    "attempts",
    "retries",
    "code",
    "step",
    "error",
    "copy_of",
    "sound",
    "webpage",
    "transcript",
    "enhanced",
    "channel",
    "edits",
    "refused",
)
"""What `file_values` gives, in its order."""

_PLAYABLE = frozenset({".aac", ".flac", ".m4a", ".mp3", ".mp4", ".oga", ".ogg", ".opus", ".wav", ".webm"})
"""Suffixes that browsers play."""


def file_values(entry: Entry, row: Mapping[str, Any], output_dir: Place) -> list[Any]:
    """An input as a list in the order of `COLUMNS`.

    Args:
        entry: The input.
        row: Its row of the table files.
        output_dir: The output folder, in whose folder `report` the page lies.
    """
    folder = _on_a_disk(output_dir)
    return [
        row["file_id"],
        one_line(row["file_name"]),
        _line(row.get("title")),
        row["status"],
        row.get("language"),
        _line(row.get("model")),
        _rounded(row.get("duration"), 1),
        _rounded(row.get("speech_s"), 1),
        _rounded(row.get("processing_s"), 1),
        _rounded(row.get("estimated_accuracy"), 1),
        _rounded(row.get("measured_accuracy"), 1),
        (row.get("warnings") or "").split(",") if row.get("warnings") else [],
        row.get("words"),
        _rounded(row.get("cost_usd"), 5),
        row["attempts"],
        row["retries"],
        row.get("code"),
        row.get("failed_step"),
        _line(row.get("error")),
        _line(row.get("duplicate_of")),
        sound_of(entry, row, output_dir),
        _web_address(row.get("webpage") or row.get("url")),
        address_of(row.get("transcript_path"), folder, folder),
        address_of(row.get("enhanced_path"), folder, folder),
        _line(row.get("channel")),
        row.get("edits"),
        row.get("edits_refused"),
    ]


def transcript_values(
    segments: Mapping[str, Sequence[Any]], uncovered: Iterable[tuple[float, float]], text: str | None
) -> dict[str, Any] | None:
    """A transcript by columns, which takes less room than by segments; None where there is none.

    Args:
        segments: Columns of the table segments.
        uncovered: Stretches of speech without words, seconds.
        text: All of it, for one without segments.

    Returns:
        `s` and `e`, start and end in milliseconds; `t`, texts; and where there are any, `k`, speakers; `c`, confidence
        in percent; `w`, warnings by number of the segment; `x`, enhanced texts likewise; `u`, pairs of milliseconds.
    """
    texts = segments["text"]
    if not texts and not text:
        return None
    if not texts:
        return {"s": [0], "e": [0], "t": [text]}
    values: dict[str, Any] = {
        "s": [_ms(each) for each in segments["start_s"]],
        "e": [_ms(each) for each in segments["end_s"]],
        "t": texts,
    }
    if any(segments["speaker"]):
        values["k"] = [_line(each) for each in segments["speaker"]]
    if any(each is not None for each in segments["confidence"]):
        values["c"] = [None if each is None else round(100 * each) for each in segments["confidence"]]
    warned = {number: codes.split(",") for number, codes in enumerate(segments["warnings"]) if codes}
    if warned:
        values["w"] = warned
    other = {
        number: enhanced
        for number, (enhanced, said) in enumerate(zip(segments["enhanced_text"], texts, strict=True))
        if enhanced is not None and enhanced != said
    }
    if other:
        values["x"] = other
    bare = [[_ms(start), _ms(end)] for start, end in uncovered]
    if bare:
        values["u"] = bare
    return values


def _on_a_disk(folder: Place) -> Path:
    """A folder as a path, for addresses that are relative to it; of one in a store the bucket is the root."""
    return folder if isinstance(folder, Path) else Path("/", folder.bucket, folder.key)


def _stored_sound(path: str, output_dir: Place) -> str | None:
    """Where the page finds a recording, where that or the page is in a store: nowhere but in the same bucket."""
    if not is_object_uri(path) or not isinstance(output_dir, ObjectPath):
        return None
    recording = ObjectPath.of(path)
    if (recording.scheme, recording.bucket) != (output_dir.scheme, output_dir.bucket):
        return None
    return address_of(str(_on_a_disk(recording)), _on_a_disk(output_dir), Path("/"))


def sound_of(entry: Entry, row: Mapping[str, Any], output_dir: Place) -> str | None:
    """Where the page finds a recording: an address relative to its own where that may hold elsewhere too.

    What was kept of a recording of the web; else its file, unless no browser plays it and converted sound was kept. A
    page in a store finds what is in the same bucket.
    """
    if row.get("media_path") and isinstance(output_dir, Path):
        return address_of(row["media_path"], output_dir, output_dir)
    path = entry.given("file_path")
    if not isinstance(path, str) or not path:
        return None
    if is_object_uri(path) or not isinstance(output_dir, Path):
        return _stored_sound(path, output_dir)
    converted = entry.result(TaskType.PREPROCESS)
    if converted is not None and os.path.splitext(path)[1].lower() not in _PLAYABLE:  # noqa: PTH122 - bytes of any kind
        kept = next(iter(converted.metrics.get("outputs") or ()), None)
        if kept:
            return address_of(kept, output_dir, output_dir)
    return address_of(path, output_dir, Path("/"))


def address_of(path: str | None, output_dir: Path, folder: Path) -> str | None:
    """The address of a file, for a page in `output_dir/report`.

    Args:
        path: Relative to `folder`; may hold the surrogates of a name that isn't UTF-8.
        output_dir: The output folder.
        folder: Where a relative path begins.

    Returns:
        A relative address, so that the folder may be moved, or looked at through a server; one that begins with
        `file:` where the two have no folder in common.
    """
    if not path:
        return None
    # As text: a batch has a hundred thousand of them, and objects for paths take most of the time.
    whole, page = os.path.normpath(os.path.join(folder, path)), os.path.join(output_dir, "report")  # noqa: PTH118
    try:
        if len(os.path.commonpath([whole, page])) > 1:
            return quote(os.fsencode(os.path.relpath(whole, page)))
        return "file://" + quote(os.fsencode(whole))
    except (UnicodeEncodeError, ValueError):  # a surrogate that stands for no byte: no file has this name
        return None


def _web_address(url: str | None) -> str | None:
    """An address that a link may have; not one that would run something."""
    try:
        return url if url and urlsplit(url).scheme in ("http", "https") else None
    except ValueError:
        return None


def _line(text: str | None) -> str | None:
    return None if text is None else one_line(text)


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
