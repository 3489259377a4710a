"""Options: how the batch runs: limits, hours, retries, Ray."""

from __future__ import annotations

import time

from trax_ray.core.policy.schedule import parse_start
from trax_ray.errors import UsageError
from trax_ray.plan.option import Option, a_priority, not_empty

__all__ = ["RUN"]


def _address(given: str, label: str) -> str:
    host, colon, port = not_empty(given, label).rpartition("://")[2].rpartition(":")
    if colon and host and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise UsageError(f"{label}: expected HOST:PORT with a port from 1 to 65535, got {given!r:.80}")
    return given


def _moment(given: str, label: str) -> float:
    return parse_start(given, time.time(), None)


RUN: tuple[Option, ...] = (
    Option(
        "max_workers",
        ("--workers",),
        int,
        "Tasks that run at the same time; a ceiling, not a promise.",
        "limits.max_workers",
    ),
    Option(
        "batch_priority",
        ("--batch-priority",),
        int,
        "Of the batch among those on the same cluster: lower goes first, 0 is the highest.",
        "batch_priority",
        read=a_priority,
    ),
    Option("queue_size", (), int, "Ready tasks held in memory.", "limits.queue_size"),
    Option(
        "memory_limit_mb",
        ("--memory-limit",),
        int,
        "MB per node for the batch's own processes.",
        "limits.memory_limit_mb",
    ),
    Option(
        "cpu_limit_percent",
        ("--cpu-limit",),
        float,
        "Percent of a node's cores that tasks may take, 1-100.",
        "limits.cpu_limit_percent",
    ),
    Option(
        "max_cost_usd",
        ("--max-cost",),
        float,
        "US dollars: no paid request starts that would exceed it; the batch can be continued.",
        "max_cost_usd",
        optional=True,
    ),
    Option("max_retries", ("--max-retries",), int, "Attempts after the first one.", "retry.max_retries"),
    Option(
        "task_timeout",
        ("--task-timeout",),
        float,
        "Longest time that one attempt may take, seconds.  [default: no limit]",
        "task_timeout_s",
        optional=True,
    ),
    Option(
        "grace",
        ("--grace",),
        float,
        "Seconds that running attempts are given to end after a signal.  [default: 2, with paid requests under way 10]",
        "grace_s",
        optional=True,
    ),
    Option(
        "start_at",
        ("--start-at",),
        str,
        "Start nothing before: '2026-11-21 22:00', or 22:00 for the next one.  [default: at once]",
        "start_at",
        optional=True,
        read=_moment,
        metavar="WHEN",
    ),
    Option(
        "only_between",
        ("--only-between",),
        str,
        "Hours of the day in which attempts may start, such as 22:00-06:00.  [default: all]",
        "only_between",
        optional=True,
        read=not_empty,
        metavar="HH:MM-HH:MM",
    ),
    Option(
        "progress_interval", ("--progress-interval",), float, "Seconds between progress reports.", "progress_interval_s"
    ),
    Option(
        "address",
        ("--address",),
        str,
        "HOST:PORT of a Ray cluster; without it RAY_ADDRESS, a local head, or a new one.",
        optional=True,
        read=_address,
    ),
    Option("lean", ("--lean",), bool, "Start a local Ray without its dashboard: less memory.", value=False),
    Option("", ("--dry-run",), bool, "Show what would be done, and do nothing.", value=False),
    Option("", ("--json",), bool, "With --dry-run: all that is known, for programs.", value=False),
    Option("", ("--quiet", "-q"), bool, "No progress; errors and the exit code only.", value=False),
    Option("", ("--verbose", "-v"), bool, "Debug messages on stderr, of workers too.", value=False),
    Option(
        "",
        ("--log-file",),
        str,
        "File for all log records, debug messages of all processes included, added to its end.",
        optional=True,
        metavar="FILE",
    ),
    Option("", ("--log-format",), str, "Of --log-file: text or json (an object a line).", value="text"),
)
"""How the batch runs: limits, hours, retries, Ray."""
