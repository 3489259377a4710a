"""The run as a timeline: how many attempts were under way, what each worker did, who asked for what."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from trax_ray.report.fold import Attempt, History
from trax_ray.report.page.drawing import Mark, steps, timeline
from trax_ray.report.text import one_line

__all__ = ["Clock", "RunView", "run_view"]

_STEPS = 180
_MOST_MARKS = 3_000
"""Attempts that are drawn one by one; more would be neither seen nor opened quickly."""

_MOST_LANES = 40
_MOST_MOMENTS = 200


class Clock:
    """Moments as shares of the time that was worked: the nights between two runs are left out.

    Args:
        history: The batch.
    """

    def __init__(self, history: History) -> None:
        self._runs = [(run.started_at, max(run.last_event_at, run.started_at)) for run in history.runs]
        self.total_s = sum(end - start for start, end in self._runs) or 1.0

    def at(self, moment: float) -> float:
        """The share, 0-1, of a moment in seconds since the epoch; of one between two runs that of the next begin."""
        passed = 0.0
        for start, end in self._runs:
            if moment <= end:
                return min(1.0, (passed + max(0.0, moment - start)) / self.total_s)
            passed += end - start
        return 1.0

    def ticks(self) -> list[tuple[float, str]]:
        """Where each run begins, the middle and the end; with dates where there are several days."""
        starts = [start for start, _ in self._runs]
        several = len({_utc(moment).date() for pair in self._runs for moment in pair}) > 1
        form = "%d %b %H:%M" if several else "%H:%M:%S"
        marks = [(self.at(start), _utc(start).strftime(form)) for start in starts[:6]]
        if self._runs:
            marks.append((1.0, _utc(self._runs[-1][1]).strftime(form)))
        kept: list[tuple[float, str]] = []
        for at, text in marks:
            if not kept or at - kept[-1][0] > 0.1:
                kept.append((at, text))
        return kept


@dataclass(frozen=True)
class RunView:
    """What the page says of the run.

    Args:
        charts: Headings, and charts as SVG.
        moments: When (UTC), and what happened: runs, pauses, limits, requests.
        moments_left_out: How many of these aren't among them.
        lanes: What the lanes of the timeline stand for; empty where there are none.
    """

    charts: list[tuple[str, str]]
    moments: list[tuple[str, str]]
    moments_left_out: int
    lanes: str


def run_view(history: History) -> RunView:
    """The run of a batch as charts and moments."""
    clock = Clock(history)
    ticks = clock.ticks()
    spans = [(attempt, *_span(attempt, clock, history)) for attempt in history.attempts]
    charts = []
    lanes = ""
    if spans:
        active = _active([(start, end) for _, start, end in spans])
        charts.append(("Attempts under way", steps(active, "Attempts under way over time", ticks)))
    if 0 < len(spans) <= _MOST_MARKS:
        drawn, left_out = _lanes(spans)
        charts.append(("What ran beside what", timeline(drawn, "Attempts, a lane for each that ran beside", ticks)))
        lanes = f"and {left_out:,} attempts beyond the lanes" if left_out else ""
    peaks = _peaks(spans)
    if any(peaks):
        charts.append(("Memory of a worker at its peak, MB", steps(peaks, "Peak memory over time", ticks, " MB")))
    moments = _moments(history)
    return RunView(charts, moments[-_MOST_MOMENTS:], max(0, len(moments) - _MOST_MOMENTS), lanes)


def _span(attempt: Attempt, clock: Clock, history: History) -> tuple[float, float]:
    start = clock.at(attempt.started_at)
    if attempt.ended_at is not None:
        return start, max(start, clock.at(attempt.ended_at))
    run = next((run for run in history.runs if run.epoch == attempt.epoch), None)
    return start, max(start, clock.at(run.last_event_at)) if run else start


def _active(spans: Sequence[tuple[float, float]]) -> list[float]:
    """How many were under way on average, in each step."""
    found = [0.0] * _STEPS
    for start, end in spans:
        first, last = int(start * _STEPS), min(_STEPS - 1, int(end * _STEPS))
        for number in range(min(first, _STEPS - 1), last + 1):
            low, high = number / _STEPS, (number + 1) / _STEPS
            found[number] += max(0.0, min(end, high) - max(start, low)) * _STEPS
    return found


def _peaks(spans: Sequence[tuple[Attempt, float, float]]) -> list[float]:
    found = [0.0] * _STEPS
    for attempt, start, end in spans:
        for number in range(min(int(start * _STEPS), _STEPS - 1), min(_STEPS - 1, int(end * _STEPS)) + 1):
            found[number] = max(found[number], attempt.memory_peak_mb)
    return found


def _lanes(spans: Sequence[tuple[Attempt, float, float]]) -> tuple[list[tuple[str, list[Mark]]], int]:
    """Attempts in as few lanes as there were side by side; how many found no room."""
    lanes: list[list[Mark]] = []
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    left_out = 0
    for attempt, start, end in sorted(spans, key=lambda span: span[1]):
        while busy and busy[0][0] <= start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            number = heapq.heappop(free)
        elif len(lanes) < _MOST_LANES:
            number = len(lanes)
            lanes.append([])
        else:
            left_out += 1
            continue
        lanes[number].append((start, end, f"run-{attempt.outcome}", _what(attempt)))
        heapq.heappush(busy, (end, number))
    return [(str(number + 1), marks) for number, marks in enumerate(lanes)], left_out


def _what(attempt: Attempt) -> str:
    where = f" on {one_line(attempt.node)}, process {attempt.pid}" if attempt.node else ""
    seconds = "" if attempt.ended_at is None else f" after {attempt.ended_at - attempt.started_at:.1f} s"
    code = f" ({attempt.failure.code})" if attempt.failure else ""
    return f"{attempt.task_id} attempt {attempt.attempt}: {attempt.outcome}{code}{seconds}{where}"


def _moments(history: History) -> list[tuple[str, str]]:
    found = [(run.started_at, f"run {run.epoch} begins{_holder(run.holder)}") for run in history.runs]
    found += [
        (at, f"{decision.slots} that take a core may run: {decision.reason}") for at, decision in history.decisions
    ]
    found += history.requests
    for attempt in history.attempts:
        if attempt.retried and attempt.failure is not None:
            text = f"{attempt.task_id}: {attempt.failure.code}, again in {attempt.delay_s:.1f} s"
            found.append((attempt.ended_at or attempt.started_at, text))
    for provider, failure in history.state.parked.items():
        found.append((history.state.now, f"{provider} is parked: {failure.message}"))
    found.sort(key=lambda pair: pair[0])
    return [(_utc(at).strftime("%Y-%m-%d %H:%M:%S"), one_line(text)) for at, text in found]


def _holder(holder: str) -> str:
    return f", held by {holder}" if holder else ""


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(at, timezone.utc)
