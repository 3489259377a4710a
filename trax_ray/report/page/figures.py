"""What the page adds up while the rows pass by: failures by reason, warnings, costs, distributions."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trax_ray.codes import failure_code, warning_code
from trax_ray.report.text import one_line

__all__ = ["Bars", "Costs", "FailureGroup", "Figures"]

_EXAMPLES = 5
_COSTLY = 10


@dataclass
class Bars:
    """A distribution: counts between fixed bounds.

    Args:
        title: What is counted, with its unit.
        bounds: Lower bounds of the bars, rising; what is below the first is counted there.
        unit: Behind a bound in its label.
    """

    title: str
    bounds: Sequence[float]
    unit: str = ""
    counts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.counts = [0] * len(self.bounds)

    def add(self, value: float | None) -> None:
        """Count a value; None and what is no finite number aren't counted."""
        if value is None or not math.isfinite(value):
            return
        self.counts[max(0, bisect_right(self.bounds, value) - 1)] += 1

    @property
    def total(self) -> int:
        """Values that were counted."""
        return sum(self.counts)

    def labelled(self) -> list[tuple[str, int]]:
        """A label and a count for each bar."""
        labels = []
        for number, bound in enumerate(self.bounds):
            last = number == len(self.bounds) - 1
            labels.append(f"{bound:g}+" if last else f"{bound:g}–{self.bounds[number + 1]:g}")  # noqa: RUF001
        return [(f"{label}{self.unit}", count) for label, count in zip(labels, self.counts, strict=True)]


@dataclass
class FailureGroup:
    """Inputs that failed for the same reason.

    Args:
        code: Of the failure.
        failure_class: Its class.
        meaning: What happened, for people; the first message where the code isn't known.
        way_out: What to do about it.
        count: How many there are.
        examples: Numbers and names of the first of them.
    """

    code: str
    failure_class: str
    meaning: str
    way_out: str
    count: int = 0
    examples: list[tuple[int, str]] = field(default_factory=list)


@dataclass
class Costs:
    """What services charged, US dollars."""

    by_model: dict[str, float] = field(default_factory=dict)
    files: Counter[str] = field(default_factory=Counter)
    dearest: list[tuple[float, str]] = field(default_factory=list)

    def add(self, model: str, name: str, cost_usd: float | None) -> None:
        """Count what an input cost; None is not known, or nothing."""
        if cost_usd is None:
            return
        self.by_model[model] = self.by_model.get(model, 0.0) + cost_usd
        self.files[model] += 1
        self.dearest.append((cost_usd, name))
        if len(self.dearest) > 10 * _COSTLY:
            self.settle()

    def settle(self) -> list[tuple[float, str]]:
        """The inputs that cost most, dearest first."""
        self.dearest = sorted(self.dearest, key=lambda pair: -pair[0])[:_COSTLY]
        return self.dearest


class Figures:
    """All of them; rows come in the order of adding."""

    def __init__(self) -> None:
        self.failures: dict[str, FailureGroup] = {}
        self.warnings: Counter[str] = Counter()
        self.costs = Costs()
        self.files = 0
        self.audio_s = 0.0
        self.length = Bars("Length of the recordings, minutes", (0, 1, 5, 10, 30, 60, 120))
        self.speed = Bars("Speed of a file, times real time", (0, 1, 2, 5, 10, 20, 50, 100))
        self.estimated = Bars("Estimated accuracy by file, percent", (0, 50, 60, 70, 80, 90, 95))
        self.measured = Bars("Measured accuracy by file, percent", (0, 50, 60, 70, 80, 90, 95))
        self.confidence = Bars("Confidence by segment, percent", (0, 25, 50, 60, 70, 80, 90))
        self.pace = Bars("Words a minute of speech, by file", (0, 60, 90, 120, 150, 180, 210))

    def add_file(self, row: Mapping[str, Any]) -> None:
        """Count an input, by its row of the table files."""
        number, self.files = self.files, self.files + 1
        self.warnings.update(code for code in (row.get("warnings") or "").split(",") if code)
        name = one_line(row["file_name"])
        self.costs.add(one_line(row.get("model") or "?"), name, row.get("cost_usd"))
        if row["status"] == "failed":
            self._add_failure(number, name, row)
        duration, took = row.get("duration"), row.get("processing_s")
        if duration is None or row["status"] != "succeeded":
            return
        self.audio_s += duration
        self.length.add(duration / 60)
        if took and not row.get("cached"):
            self.speed.add(duration / took)
        self.estimated.add(row.get("estimated_accuracy"))
        self.measured.add(row.get("measured_accuracy"))
        if row.get("speech_s") and row.get("words"):
            self.pace.add(row["words"] / row["speech_s"] * 60)

    def add_confidence(self, values: Iterable[float | None]) -> None:
        """Count segments, by their confidence, 0-1."""
        for value in values:
            if value is not None:
                self.confidence.add(100 * value)

    def _add_failure(self, number: int, name: str, row: Mapping[str, Any]) -> None:
        code = row.get("code") or "error"
        group = self.failures.get(code)
        if group is None:
            known = failure_code(code)
            meaning = known.meaning if known else one_line(row.get("error") or code)
            way_out = known.way_out if known else "see the message of each"
            group = FailureGroup(one_line(code), row.get("failure_class") or "", meaning, way_out)
            self.failures[code] = group
        group.count += 1
        if len(group.examples) < _EXAMPLES:
            group.examples.append((number, name))

    def failure_groups(self) -> list[FailureGroup]:
        """The largest first."""
        return sorted(self.failures.values(), key=lambda group: (-group.count, group.code))

    def warning_rows(self) -> list[tuple[str, int, str, str]]:
        """Code, inputs, meaning and way out; the most frequent first."""
        rows = []
        for code, count in sorted(self.warnings.items(), key=lambda pair: (-pair[1], pair[0])):
            known = warning_code(code)
            rows.append((one_line(code), count, known.meaning if known else "", known.way_out if known else ""))
        return rows

    def distributions(self) -> list[Bars]:
        """Those that hold anything."""
        bars = (self.measured, self.estimated, self.confidence, self.length, self.pace, self.speed)
        return [each for each in bars if each.total]
