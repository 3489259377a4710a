"""Options: what is transcribed, and what is known of it."""

from __future__ import annotations

import os
import re

from trax_ray.core.spec import TASKS
from trax_ray.errors import UsageError
from trax_ray.plan.option import Option, a_priority, folder, not_empty, refused
from trax_ray.store.explaining import shown

__all__ = ["INPUTS"]

MOST_SETTLE_S = 86_400.0
LEAST_POLL_S, MOST_POLL_S = 10.0, 7 * 86_400.0


def _reference(given: str, label: str) -> str:
    path = folder(given, label)
    if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises for names that are too long
        raise UsageError(f"{label}: {shown(given)} is no folder")
    return path


def _task(given: str, label: str) -> str:
    return not_empty(given, label).strip().lower()


def _settle(given: float, label: str) -> float:
    if not 0 <= given <= MOST_SETTLE_S:
        raise refused(label, f"0 to {MOST_SETTLE_S:g} seconds", given)
    return given


_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _poll(given: str, label: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", not_empty(given, label).strip().lower(), re.ASCII)
    time_s = float(match[1]) * _UNITS_S[match[2]] if match else 0.0
    if not LEAST_POLL_S <= time_s <= MOST_POLL_S:
        raise refused(label, "a time from 10s to 7d, such as 90s, 30m or 6h", given)
    return time_s


INPUTS: tuple[Option, ...] = (
    Option(
        "",
        ("INPUT",),
        list,
        "Recordings, folders, quoted patterns such as 'talks/**/*.mp3', manifests (.csv, .jsonl or .parquet with a "
        "column file_name; language, priority, model, prompt and reference hold for their row), or - for a list of "
        "paths on standard input. Names that begin with a dash come after --.",
        optional=True,
        metavar="INPUT",
        key="inputs",
    ),
    Option(
        "",
        ("--input-list", "-a"),
        list,
        "File with one path per line (or NUL between them), or a manifest; - is standard input; may be repeated. "
        "Paths are relative to the list's folder.",
        optional=True,
        key="lists",
    ),
    Option(
        "watch",
        ("--watch",),
        bool,
        "Keep the batch open: recordings that come later join it, and lists and feeds are read again. "
        "`trax-ray stop OUT` or Ctrl-C ends it.",
        value=False,
    ),
    Option(
        "settle",
        ("--settle",),
        float,
        "With --watch: seconds for which a file has to stay as it is until it counts as whole.  [default: 10]",
        optional=True,
        read=_settle,
    ),
    Option(
        "poll",
        ("--poll",),
        str,
        "With --watch: how often feeds, playlists and channels are read again, such as 90s, 30m or 6h.  [default: 30m]",
        optional=True,
        read=_poll,
        metavar="TIME",
    ),
    Option(
        "task",
        ("--task",),
        str,
        f"What is made of each input: {' or '.join([', '.join(TASKS[:-1]), TASKS[-1]])}; the steps before it come by "
        "themselves.",
        "task",
        read=_task,
    ),
    Option(
        "reference",
        ("--reference",),
        str,
        "Folder of reference transcripts (NAME.txt) to measure accuracy against.",
        "reference_dir",
        optional=True,
        read=_reference,
    ),
    Option(
        "priority",
        ("--priority",),
        int,
        "0 highest, 1-5 high, 6-10 normal, 11 and above low.",
        "priority",
        read=a_priority,
    ),
)
"""What is transcribed, and what is known of it."""
