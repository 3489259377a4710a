"""TextGrid: Praat's format for what stands where in a recording. A tier for each speaker, in order of appearance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trax_ray.report.export.reading import Row
from trax_ray.report.text import one_line

__all__ = ["textgrid"]

_TIER = "transcript"


def textgrid(row: Row, segments: Sequence[Row], text_of: str = "text") -> str:
    """A transcript as a TextGrid in the long format, UTF-8; silence between segments is empty intervals.

    Args:
        row: Of files.
        segments: Its segments.
        text_of: The column that the texts come from; `text` where that is null.
    """
    said = sorted((each for each in segments if each["start_s"] is not None), key=lambda each: each["start_s"])
    tiers: dict[str, list[Row]] = {}
    for each in said:
        tiers.setdefault(one_line(each["speaker"] or _TIER), []).append(each)
    length = max([row["duration"] or 0.0, *(each["end_s"] or each["start_s"] for each in said)]) or 0.001
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {length:.6g}" if length < 1 else f"xmax = {length:.3f}",
        "tiers? <exists>",
        f"size = {len(tiers) or 1}",
        "item []:",
    ]
    for number, (name, rows) in enumerate((tiers or {_TIER: []}).items(), start=1):
        intervals = list(_intervals(rows, length, text_of))
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f"        name = {_quoted(name)}",
            "        xmin = 0",
            f"        xmax = {length:.3f}",
            f"        intervals: size = {len(intervals)}",
        ]
        for at, (start, end, text) in enumerate(intervals, start=1):
            lines += [
                f"        intervals [{at}]:",
                f"            xmin = {start:.3f}",
                f"            xmax = {end:.3f}",
                f"            text = {_quoted(text)}",
            ]
    return "\n".join(lines) + "\n"


def _intervals(rows: Iterable[Row], length: float, text_of: str) -> Iterable[tuple[float, float, str]]:
    """Intervals without gap or overlap from 0 to the end: the second of two that overlap begins later."""
    at = 0.0
    for row in rows:
        start = round(max(at, row["start_s"]), 3)
        end = round(min(length, row["end_s"] if row["end_s"] is not None else start), 3)
        if end <= start:
            continue
        if start > at:
            yield at, start, ""
        yield start, end, one_line(row.get(text_of) or row["text"] or "")
        at = end
    if at < round(length, 3):
        yield at, length, ""


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
