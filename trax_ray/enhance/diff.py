"""What enhancement changed, kept beside the result: as JSON types, and as text that people read."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from trax_ray.enhance.edits import Enhanced, Refused

__all__ = ["changes", "diff_text"]

_PIECE = re.compile(r"\s+|\w+|[^\w\s]")


def changes(segments: Iterable[Enhanced], refused: Sequence[Refused] = ()) -> list[dict[str, Any]]:
    """The segments whose text changed, or that keep their original against a model's wish.

    Args:
        segments: After their edits.
        refused: The edits that weren't made.

    Returns:
        JSON types, in order: `segment` (counted from 1), `start_s`, `end_s`, `before`, `after`, `held`, and `pieces`,
        which give both texts: `["=", same]`, `["-", only before]`, `["+", only after]`. Where edits were refused
        `refused` lists them: `gate`, `reason`, `from`, `to`.
    """
    by_segment: dict[int, list[Refused]] = {}
    for each in refused:
        by_segment.setdefault(each.edit.segment, []).append(each)
    found = []
    for segment in segments:
        mine = by_segment.get(segment.number, [])
        if segment.text == segment.original and segment.held and not mine:
            continue
        row: dict[str, Any] = {
            "segment": segment.number,
            "start_s": segment.start_s,
            "end_s": segment.end_s,
            "before": segment.original,
            "after": segment.text,
            "held": segment.held,
            "pieces": _pieces(segment.original, segment.text),
        }
        if mine:
            row["refused"] = [
                {"gate": each.gate, "reason": each.reason, "from": each.edit.before, "to": each.edit.after}
                for each in mine
            ]
        found.append(row)
    return found


def _pieces(before: str, after: str) -> list[list[str]]:
    old, new = _PIECE.findall(before), _PIECE.findall(after)
    pieces: list[list[str]] = []
    for tag, a, a_end, b, b_end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            pieces.append(["=", "".join(old[a:a_end])])
            continue
        if a < a_end:
            pieces.append(["-", "".join(old[a:a_end])])
        if b < b_end:
            pieces.append(["+", "".join(new[b:b_end])])
    return pieces


def diff_text(segments: Iterable[Enhanced], refused: Sequence[Refused] = ()) -> str:
    """What `changes` gives, for people: per segment its time, then one line with `[-old-]` and `{+new+}`.

    Refused edits follow with the gate that refused them; empty where nothing changed.
    """
    lines: list[str] = []
    for row in changes(segments, refused):
        lines.append(f"{_clock(row['start_s'])}  segment {row['segment']}")
        marks = {"=": "{}", "-": "[-{}-]", "+": "{{+{}+}}"}
        lines.append("  " + "".join(marks[kind].format(text) for kind, text in row["pieces"]))
        lines += [
            f"  refused ({each['gate']}): {_shown(each['from'])} -> {_shown(each['to'])}"
            for each in row.get("refused", ())
        ]
        lines.append("")
    return "\n".join(lines)


def _shown(text: str) -> str:
    """A text of a model on one line, with what is invisible made visible."""
    short = text if len(text) <= 120 else text[:119] + "\u2026"
    return '"' + "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in short) + '"'


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:d}:{minutes:02d}:{rest:02d}"
