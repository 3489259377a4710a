"""Writes the tables of codes in troubleshooting.md anew, from `trax_ray.codes`: `python docs/make_tables.py`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from trax_ray.codes import FailureCode, WarningCode

PAGE = Path(__file__).with_name("troubleshooting.md")


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


def with_tables(page: str) -> str:
    """A page with the tables as they are now, each in the place of the one after its mark."""
    for name, text in TABLES.items():
        mark = f"<!-- {name}: made by docs/make_tables.py -->\n\n"
        page, count = re.subn(rf"({re.escape(mark)})(\|.*\n)*", lambda found, text=text: found[1] + text, page)
        if count != 1:
            raise SystemExit(f"expected one mark {mark.strip()} in {PAGE.name}, found {count}")
    return page


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
