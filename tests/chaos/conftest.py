"""What chaos tests share: a record of what was done to batches and what came of it.

Where TRAX_RAY_CHAOS_RECORD names a file, the table between its markers is rewritten at the end of the session:

    <!-- chaos:begin -->
    <!-- chaos:end -->
"""

from __future__ import annotations

import os
import platform
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import pytest

BEGIN, END = "<!-- chaos:begin -->", "<!-- chaos:end -->"

VARIABLE = "TRAX_RAY_CHAOS_RECORD"

Record = Callable[[str, int, str, str], None]


@dataclass(frozen=True)
class Row:
    """What one test did.

    Args:
        what: What was done to batches.
        runs: How often; 0 where it wasn't.
        seeds: What chance followed from.
        result: What came of it.
        seconds: How long the test took.
    """

    what: str
    runs: int = 0
    seeds: str = ""
    result: str = ""
    seconds: float = 0.0


_rows = pytest.StashKey[dict[str, list[Row]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_rows] = {}
    # Shells start what runs in the background with SIGINT ignored, and commands that the tests interrupt inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """To be called by a test when it is through: what was done, how often, with which seeds, and what was found."""
    rows = request.config.stash[_rows].setdefault(request.node.nodeid, [])

    def note(what: str, runs: int, seeds: str, found: str) -> None:
        rows.append(Row(what, runs, seeds, found))

    return note


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Add to a test's rows how long it took; one that was skipped or failed gets a row that says so."""
    report = yield
    rows = item.config.stash[_rows]
    if report.skipped:  # type: ignore[attr-defined]
        rows[item.nodeid] = [Row(spoken(item.name), result=f"skipped: {reason_of(report.longrepr)}")]
    elif report.failed:
        rows[item.nodeid] = [Row(spoken(item.name), result="**failed**", seconds=report.duration)]
    elif report.when == "call":
        rows[item.nodeid] = [replace(row, seconds=report.duration) for row in rows.get(item.nodeid, ())]
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = os.environ.get(VARIABLE)
    rows = [row for each in session.config.stash[_rows].values() for row in each]
    if path and rows:
        page = Path(path)
        page.write_text(rewritten(page.read_text(encoding="utf-8"), table(rows, heading())), encoding="utf-8")


def rewritten(page: str, content: str) -> str:
    """The page with `content` between its markers, and nothing else changed.

    Raises:
        ValueError: It hasn't got each marker once, in this order.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise ValueError(f"expected {BEGIN} and after it {END}, once each")
    return f"{before}{BEGIN}\n{content.strip()}\n{END}{after}"


def heading() -> str:
    """When and with what the tests ran."""
    today = datetime.now(tz=timezone.utc).date()
    return f"Run on {today} with Python {platform.python_version()} and Ray {version('ray')}."


def table(rows: list[Row], above: str) -> str:
    """The rows in order, as Markdown."""
    lines = [above, "", "| what | runs | seeds | result | seconds |", "|---|---:|---|---|---:|"]
    for row in sorted(rows, key=lambda row: (row.what, row.seeds)):
        runs = f"{row.runs:,}" if row.runs else ""
        cells = (row.what, runs, row.seeds, row.result, f"{row.seconds:.0f}")
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(lines)


def spoken(name: str) -> str:
    """A test's name as the sentence that it is: `test_it_ends[a-1]` is `it ends (a-1)`."""
    return re.sub(r"\[(.*)\]$", r" (\1)", name.removeprefix("test_").replace("_", " "))


def reason_of(longrepr: object) -> str:
    """Why a test was skipped."""
    reason = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return str(reason).removeprefix("Skipped: ")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
