"""Writes the tables of troubleshooting.md and report.md anew, from the program itself: `python docs/make_tables.py`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from trax_ray.codes import FailureCode, WarningCode
from trax_ray.report.schemas import COLUMNS, Column

PAGE = Path(__file__).with_name("troubleshooting.md")
REPORT = Path(__file__).with_name("report.md")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return (
        "".join(f"| {' | '.join(cells)} |\n" for cells in lines).replace("| --- |", "|---|").replace(" --- |", "---|")
    )


TABLES = {
    "failure codes": table(
        ("code", "class", "meaning", "way out"),
        (
            (f"`{code}`", code.failure_class.value if code.failure_class else "by case", code.meaning, code.way_out)
            for code in FailureCode
        ),
    ),
    "warning codes": table(
        ("code", "meaning", "way out"), ((f"`{code}`", code.meaning, code.way_out) for code in WarningCode)
    ),
}
"""Each by the name that its mark in the page has."""


def column_table(columns: Mapping[str, Column]) -> str:
    """The columns of a table of the report."""
    return table(
        ("column", "type", "meaning"), ((f"`{name}`", str(each.type), each.meaning) for name, each in columns.items())
    )


COLUMN_TABLES = {name: column_table(columns) for name, columns in COLUMNS.items()}
"""Those of report.md likewise."""


def with_tables(page: str, tables: Mapping[str, str] = TABLES) -> str:
    """A page with the tables as they are now, each in the place of the one after its mark."""
    for name, text in tables.items():
        mark = f"<!-- {name}: made by docs/make_tables.py -->"
        rows = rf"({re.escape(mark)}\n)\n?(\|.*\n)*"
        page, count = re.subn(rows, lambda found, text=text: f"{found[1]}\n{text}", page)
        if count != 1:
            raise SystemExit(f"expected one mark {mark}, found {count}")
    return page


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
    REPORT.write_text(with_tables(REPORT.read_text("utf-8"), COLUMN_TABLES), "utf-8")
