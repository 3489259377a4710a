"""What enhancement changed, kept beside the result: as JSON types, and as text that people read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trax_ray.enhance.edits import Enhanced

__all__ = ["changes", "diff_text"]


def changes(segments: Iterable[Enhanced]) -> list[dict[str, Any]]:
    """The segments whose text changed or was kept against a model's wish, JSON types.

    Returns:
        Dictionaries with `segment`, `start_s`, `end_s`, `before`, `after` and `held`.
    """
    return [
        {
            "segment": each.number,
            "start_s": each.start_s,
            "end_s": each.end_s,
            "before": each.original,
            "after": each.text,
            "held": each.held,
        }
        for each in segments
        if each.text != each.original or not each.held
    ]


def diff_text(segments: Iterable[Enhanced]) -> str:
    """The same for people: per changed segment its time, the old line after `-`, the new one after `+`."""
    return "".join(f"- {each['before']}\n+ {each['after']}\n" for each in changes(segments))
