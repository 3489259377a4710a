"""Enhancement in numbers: what it changed, what was refused, what it cost, and whether transcripts got better.

Sums are of whole numbers, so that adding and taking away in any order gives the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["EnhancedTotals", "change_of"]

_SUMMED = (
    "segments",
    "segments_preserved",
    "windows",
    "windows_kept",
    "windows_asked_again",
    "input_tokens",
    "cached_tokens",
    "output_tokens",
    "errors_before",
    "errors_after",
    "reference_words",
)
"""Figures of an enhancement's outcome that are added up."""

IMPROVED, WORSENED, UNCHANGED = "improved", "worsened", "unchanged"


def change_of(metrics: Mapping[str, Any]) -> str | None:
    """Whether a transcript got better by its reference: `improved`, `worsened` or `unchanged`; None without one."""
    if not metrics.get("reference_words"):
        return None
    gain = int(metrics.get("errors_before") or 0) - int(metrics.get("errors_after") or 0)
    return IMPROVED if gain > 0 else WORSENED if gain < 0 else UNCHANGED


@dataclass(slots=True)
class EnhancedTotals:
    """Sums over the inputs that were enhanced, from the metrics of their outcomes.

    Args:
        sums: Of the figures of each, by their names, and of `files`.
        files: Those with a reference, by `change_of`.
        edits: Edits that were made, by kind.
        refused: Edits and answers that were refused, by the gate that did.
    """

    sums: Counter[str] = field(default_factory=Counter)
    files: Counter[str] = field(default_factory=Counter)
    edits: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def add(self, metrics: Mapping[str, Any], *, sign: int = 1) -> None:
        """Count one input that was enhanced; `sign=-1` takes it away again."""
        self.sums["files"] += sign
        for name in _SUMMED:
            self.sums[name] += sign * int(metrics.get(name) or 0)
        change = change_of(metrics)
        if change is not None:
            self.files[change] += sign
        for counts, name in ((self.edits, "edits"), (self.refused, "refused")):
            for kind, count in (metrics.get(name) or {}).items():
                counts[kind] += sign * int(count)
        for counts in (self.sums, self.files, self.edits, self.refused):
            for key in [key for key, count in counts.items() if not count]:
                del counts[key]

    @property
    def improvement(self) -> float | None:
        """By how many percentage points the measured accuracy grew, pooled over words; None without references."""
        words = self.sums["reference_words"]
        if not words:
            return None
        return _accuracy(self.sums["errors_after"], words) - _accuracy(self.sums["errors_before"], words)

    @property
    def preservation_rate(self) -> float | None:
        """Percent of segments in which no gate had to refuse anything; None where nothing was enhanced."""
        segments = self.sums["segments"]
        return 100.0 * self.sums["segments_preserved"] / segments if segments else None

    def metrics(self) -> dict[str, Any] | None:
        """What `quality_metrics` say of it besides; None where nothing was enhanced."""
        if not self.sums["files"]:
            return None
        words = self.sums["reference_words"]
        return {
            "files": self.sums["files"],
            "files_improved": self.files[IMPROVED],
            "files_worsened": self.files[WORSENED],
            "files_unchanged": self.files[UNCHANGED],
            "accuracy_before": _accuracy(self.sums["errors_before"], words) if words else None,
            "accuracy_after": _accuracy(self.sums["errors_after"], words) if words else None,
            "windows": self.sums["windows"],
            "windows_kept": self.sums["windows_kept"],
            "windows_asked_again": self.sums["windows_asked_again"],
            "edits": dict(sorted(self.edits.items())),
            "refused": dict(sorted(self.refused.items())),
            "input_tokens": self.sums["input_tokens"],
            "cached_tokens": self.sums["cached_tokens"],
            "output_tokens": self.sums["output_tokens"],
        }


def _accuracy(errors: int, words: int) -> float:
    return max(0.0, 100.0 * (1.0 - errors / words))
