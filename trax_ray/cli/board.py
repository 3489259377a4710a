"""What is shown of a batch that runs, as text and figures: the terminal and notebooks draw the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from trax_ray.core.progress import BatchProgress, Phase, format_duration, format_usd
from trax_ray.report.text import one_line

__all__ = ["Bar", "Board", "Line", "board_of"]

ENDED = (Phase.COMPLETE, Phase.STOPPED, Phase.PARKED)

MOST_WORKERS = 8


@dataclass(frozen=True, slots=True)
class Bar:
    """Something that fills up.

    Args:
        label: What.
        done: How much, of `total`.
        total: All of it; at least 1.
        note: What is said beside it.
    """

    label: str
    done: float
    total: float
    note: str

    @property
    def share(self) -> float:
        """0-1."""
        return min(1.0, self.done / self.total) if self.total > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text, and whether it tells of something bad."""

    text: str
    bad: bool = False


@dataclass(frozen=True, slots=True)
class Board:
    """All of it, from top to bottom.

    Args:
        headline: Where the batch stands, and when it will be done.
        bars: Files, then kinds of tasks where that says more.
        machine: Memory and load against their limits.
        workers: What runs now.
        lines: Services, providers that are parked, failures.
        more_workers: How many run besides.
    """

    headline: str
    bars: tuple[Bar, ...]
    machine: str
    workers: tuple[Bar, ...]
    lines: tuple[Line, ...]
    more_workers: int = 0


def board_of(progress: BatchProgress) -> Board:
    """What is shown of a progress. Names in it are fit for a terminal."""
    workers = tuple(
        Bar(one_line(f"{each['step']} {each['name']}"), float(each["fraction"]), 1.0, format_duration(each["seconds"]))
        for each in progress.workers[:MOST_WORKERS]
    )
    return Board(
        headline=" · ".join(_headline(progress)),
        bars=(_files(progress), *_kinds(progress)),
        machine=" · ".join(_machine(progress)),
        workers=workers,
        lines=tuple(_lines(progress)),
        more_workers=max(0, progress.active_workers - len(workers)),
    )


def _headline(progress: BatchProgress) -> Iterator[str]:
    phase = progress.phase.value
    if progress.waits_until is not None:
        phase += f" until {datetime.fromtimestamp(progress.waits_until).astimezone():%H:%M}"
    yield f"{phase} {format_duration(progress.elapsed_s)}"
    remaining = progress.estimated_remaining_s
    if progress.phase not in ENDED:
        yield _remaining(remaining, progress.remaining_low_s, progress.remaining_high_s)
    speed = progress.quality_metrics.get("x_realtime")
    if speed:
        yield f"{speed:.1f} x real time"
    if progress.cost_usd is not None or progress.max_cost_usd is not None:
        cap = "" if progress.max_cost_usd is None else f" of {format_usd(progress.max_cost_usd)}"
        yield f"{format_usd(progress.cost_usd or 0.0)}{cap}"


def _remaining(middle_s: float | None, low_s: float | None, high_s: float | None) -> str:
    if middle_s is None:
        return "ETA --"
    words = f"ETA {format_duration(middle_s)}"
    if low_s is None or high_s is None:
        return words
    return f"{words} ({format_duration(low_s)} to {format_duration(high_s)})"


def _files(progress: BatchProgress) -> Bar:
    ended = progress.completed_tasks + progress.failed_tasks + progress.cancelled_tasks
    failed = f", {progress.failed_tasks} failed" if progress.failed_tasks else ""
    total = progress.total_tasks
    return Bar("files", ended, max(1, total), f"{ended}/{total}{failed}")


def _kinds(progress: BatchProgress) -> Iterator[Bar]:
    """A bar per kind of task, unless all of it is one task a file."""
    kinds = progress.kinds
    if len(kinds) == 1 and next(iter(kinds.values())).get("total") == progress.total_tasks:
        return
    for kind, counts in kinds.items():
        running, failed = counts.get("running", 0), counts.get("failed", 0)
        more = [f"{running} running" if running else "", f"{failed} failed" if failed else ""]
        note = ", ".join(filter(None, (f"{counts['ended']}/{counts['total']}", *more)))
        yield Bar(kind, counts["ended"], max(1, counts["total"]), note)


def _machine(progress: BatchProgress) -> Iterator[str]:
    memory, cpu = progress.memory_limit_mb, progress.cpu_limit_percent
    yield f"memory {progress.memory_usage_mb:.0f}{f' of {memory:.0f}' if memory else ''} MB"
    yield f"CPU {progress.cpu_usage_percent:.0f} %{f' (limit {cpu:g} %)' if cpu else ''}"
    if progress.slots is not None:
        yield f"{progress.active_workers} active, room for {progress.slots} on cores"
    else:
        yield f"{progress.active_workers} active"
    if progress.queued_tasks:
        yield f"{progress.queued_tasks} waiting"


def _lines(progress: BatchProgress) -> Iterator[Line]:
    if progress.limits_reason:
        yield Line(one_line(progress.limits_reason))
    for provider, reason in progress.services.items():
        yield Line(one_line(f"{provider}: {reason}"))
    if progress.saves_until is not None:
        at = datetime.fromtimestamp(progress.saves_until).astimezone()
        yield Line(f"enhancement waits for the provider's cheap hours, until {at:%Y-%m-%d %H:%M %Z}")
    for provider, reason in progress.parked.items():
        who = "the batch" if provider == "*" else provider
        yield Line(one_line(f"{who} is parked: {reason}"), bad=True)
    for failure in progress.last_failures:
        why = f"{failure['code']}: {failure['error']}"
        yield Line(one_line(f"failed: {failure['name']} ({failure['step']}): {why}"), bad=True)
