"""What is counted of an enhanced transcript; figures of windows add up to those of a file, and of a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from trax_ray.enhance.edits import Applied

__all__ = ["Tally"]


@dataclass(frozen=True, slots=True)
class Tally:
    """Figures of one window, or of many.

    Args:
        segments: How many.
        held: Those whose gates held: no edit was refused for what it says, and the answer could be used.
        changed: Segments whose text changed.
        edits_by_kind: Edits that were made.
        refused_by_gate: Edits that weren't.
        windows_kept: Windows of which no answer could be used.
    """

    segments: int = 0
    held: int = 0
    changed: int = 0
    edits_by_kind: dict[str, int] = field(default_factory=dict)
    refused_by_gate: dict[str, int] = field(default_factory=dict)
    windows_kept: int = 0

    @classmethod
    def of(cls, applied: Applied) -> Tally:
        """The figures of a window."""
        return cls(
            segments=len(applied.segments),
            held=sum(each.held for each in applied.segments),
            changed=sum(each.text != each.original for each in applied.segments),
            edits_by_kind=applied.edits_by_kind,
            refused_by_gate=applied.refused_by_gate,
        )

    @classmethod
    def total(cls, tallies: Iterable[Tally]) -> Tally:
        """The figures of all of them together."""
        tallies = list(tallies)
        return cls(
            segments=sum(each.segments for each in tallies),
            held=sum(each.held for each in tallies),
            changed=sum(each.changed for each in tallies),
            edits_by_kind=_added(each.edits_by_kind for each in tallies),
            refused_by_gate=_added(each.refused_by_gate for each in tallies),
            windows_kept=sum(each.windows_kept for each in tallies),
        )

    @property
    def content_preservation_rate(self) -> float | None:
        """Percent of the segments whose gates held; None of nothing."""
        return 100.0 * self.held / self.segments if self.segments else None


def _added(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    whole: Counter[str] = Counter()
    for each in counts:
        whole.update(each)
    return dict(sorted(whole.items()))
