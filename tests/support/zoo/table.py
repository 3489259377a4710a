"""The table of the zoo in `docs/media.md`: written from what is measured, and read by the test."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from tests.support.zoo.animals import SPECIMENS
from tests.support.zoo.measure import Measured

__all__ = ["DOCS", "read_table", "row", "shown_name", "write_table"]

DOCS = Path(__file__).parents[3] / "docs" / "media.md"

BEGIN, END = "<!-- zoo:begin -->", "<!-- zoo:end -->"


def shown_name(name: str) -> str:
    """A file's name in the table: one line, printable, no longer than needed."""
    text = "".join(char if char.isprintable() and char not in "|`" else ascii(char)[1:-1] for char in name)
    text = text.replace("|", "\\|")
    return text if len(text) <= 40 else f"{text[:12]}... ({len(os.fsencode(name))} bytes)"


def row(name: str, what: str, found: Measured, ffmpeg_s: float | None) -> str:
    """A row of the table."""
    ours = f"{found.length_s:.1f} s" if found.outcome == "heard" else f"`{found.outcome}`"
    theirs = "nothing" if ffmpeg_s is None else f"{ffmpeg_s:.1f} s"
    return f"| `{name}` | {what} | {ours} | {', '.join(f'`{each}`' for each in found.warnings)} | {theirs} |"


def write_table(found: Mapping[str, tuple[Measured, float | None]]) -> None:
    """Put what was measured between the marks of the page."""
    lines = []
    for title, group in SPECIMENS.items():
        lines += [
            "",
            f"### {title}",
            "",
            "| file | what it is | heard | warnings | ffmpeg hears |",
            "|---|---|---|---|---|",
        ]
        lines += [row(shown_name(each.name), each.what, *found[each.name]) for each in group if each.name in found]
    text = DOCS.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCS.write_text(before + BEGIN + "\n" + "\n".join(lines).strip() + "\n\n" + END + after, "utf-8")


def read_table() -> dict[str, tuple[str, float | None, tuple[str, ...]]]:
    """By shown name: the outcome, how many seconds are heard (None where nothing is), and the warnings."""
    text = DOCS.read_text("utf-8")
    rows = {}
    for line in text.partition(BEGIN)[2].partition(END)[0].splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) != 5 or not cells[0].startswith("`"):
            continue
        heard = re.fullmatch(r"([\d.]+) s", cells[2])
        outcome = "heard" if heard else cells[2].strip("`")
        warnings = tuple(re.findall(r"`(\w+)`", cells[3]))
        rows[cells[0].strip("`")] = outcome, float(heard.group(1)) if heard else None, warnings
    return rows
