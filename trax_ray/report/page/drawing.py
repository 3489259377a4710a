"""Charts as SVG. Colours are those of the page's style, by class; figures stand in text beside every chart too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["Mark", "bars", "steps", "timeline"]

_WIDTH = 720
_LEFT = 8

Mark = tuple[float, float, str, str]
"""A bar of a timeline: from and to, 0-1, its class, and what it is."""


def bars(labelled: Sequence[tuple[str, int]], title: str) -> str:
    """A distribution: bars that lie, a label before and a count behind each."""
    highest = max((count for _, count in labelled), default=0) or 1
    row, label, room = 22, 78, 226
    lines = [
        f'<svg class="bars" viewBox="0 0 360 {row * len(labelled)}" role="img" aria-label="{escape(title)}">',
    ]
    for number, (name, count) in enumerate(labelled):
        y, wide = row * number, room * count / highest
        lines.append(
            f'<text x="{label - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>'
            f'<rect class="bar" x="{label}" y="{y + 4}" width="{wide:.1f}" height="{row - 8}" rx="2"/>'
            f'<text x="{label + wide + 6:.1f}" y="{y + 15}">{count:,}</text>'
        )
    return "".join([*lines, "</svg>"])


def steps(values: Sequence[float], title: str, ticks: Iterable[tuple[float, str]], unit: str = "") -> str:
    """A figure over time, as an area of steps.

    Args:
        values: In equal steps of time.
        title: What it is.
        ticks: Where (0-1) something is said below.
        unit: Of the values.
    """
    height, top = 56, 14
    highest = max(values, default=0.0) or 1.0
    wide = (_WIDTH - 2 * _LEFT) / max(1, len(values))
    points = [f"M{_LEFT},{top + height}"]
    for number, value in enumerate(values):
        y = top + height * (1 - value / highest)
        points.append(f"L{_LEFT + number * wide:.1f},{y:.1f}L{_LEFT + (number + 1) * wide:.1f},{y:.1f}")
    points.append(f"L{_WIDTH - _LEFT},{top + height}Z")
    return "".join(
        [
            f'<svg class="chart" viewBox="0 0 {_WIDTH} {height + top + 20}" role="img" aria-label="{escape(title)}">',
            f'<path class="area" d="{"".join(points)}"/>',
            f'<text x="{_LEFT}" y="10">{highest:,.4g}{escape(unit)}</text>',
            _ticks(ticks, top, top + height),
            "</svg>",
        ]
    )


def timeline(lanes: Sequence[tuple[str, Sequence[Mark]]], title: str, ticks: Iterable[tuple[float, str]]) -> str:
    """What each of several did, one below the other.

    Args:
        lanes: A name, and its marks.
        title: What it is.
        ticks: Where (0-1) something is said below.
    """
    row = 20
    room = _WIDTH - 2 * _LEFT
    height = row * len(lanes)
    lines = [f'<svg class="chart" viewBox="0 0 {_WIDTH} {height + 22}" role="img" aria-label="{escape(title)}">']
    for number, (name, marks) in enumerate(lanes):
        y = row * number
        lines.append(f'<rect class="lane" x="{_LEFT}" y="{y + 2}" width="{room}" height="{row - 4}"/>')
        for start, end, kind, what in marks:
            wide = max(1.0, (end - start) * room)
            lines.append(
                f'<rect class="{escape(kind)}" x="{_LEFT + start * room:.1f}" y="{y + 3}" width="{wide:.1f}" '
                f'height="{row - 6}"><title>{escape(what)}</title></rect>'
            )
        lines.append(f'<text class="over" x="{_LEFT + 4}" y="{y + 14}">{escape(name)}</text>')
    return "".join([*lines, _ticks(ticks, 0, height), "</svg>"])


def _ticks(ticks: Iterable[tuple[float, str]], top: float, bottom: float) -> str:
    lines = []
    for at, text in ticks:
        x = _LEFT + at * (_WIDTH - 2 * _LEFT)
        anchor = "start" if at < 0.05 else "end" if at > 0.95 else "middle"
        lines.append(
            f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'
            f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="{anchor}">{escape(text)}</text>'
        )
    return "".join(lines)
