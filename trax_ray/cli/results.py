"""`trax-ray search` and `trax-ray export`: what a batch has brought, found and handed on. Neither loads Ray."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from trax_ray.cli.display import count
from trax_ray.cli.exits import EXIT_FAILED
from trax_ray.errors import UsageError
from trax_ray.report.export.write import FORMATS, STREAMS, export_files, export_stream
from trax_ray.report.search import Hit, search
from trax_ray.report.text import one_line
from trax_ray.store.explaining import shown

__all__ = ["export", "show_hits"]

_NAMED = 5


def show_hits(output_dir: str, words: Sequence[str], *, limit: int, as_json: bool) -> int:
    """Print where something was said.

    Returns:
        The exit code: 0, or 1 where nothing was found.

    Raises:
        UsageError: The words make no sense.
        FileError: There is no report in the folder.
    """
    if limit < 0:
        raise UsageError(f"--limit: expected 0 (all) or more, got {limit}")
    found = search(output_dir, " ".join(words), limit=limit or None)
    if as_json:
        for hit in found.hits:
            print(json.dumps(hit.to_dict(), ensure_ascii=False))
        return 0 if found.total else EXIT_FAILED
    bold = sys.stdout.isatty()
    name = None
    for hit in found.hits:
        if hit.file_name != name:
            name = hit.file_name
            print(one_line(name))
        print(_line(hit, bold=bold))
    if not found.total:
        print("nothing found")
        return EXIT_FAILED
    rest = "" if len(found.hits) == found.total else f"; the first {len(found.hits)} are shown (--limit 0 shows all)"
    print(f"{count(found.total, 'place')} in {count(found.file_count, 'file')}{rest}")
    return 0


def _line(hit: Hit, *, bold: bool) -> str:
    time = "" if hit.start_s is None else _clock(hit.start_s)
    said, at = "", 0
    for start, end in hit.marks if bold else ():
        said += f"{one_line(hit.snippet[at:start])}\x1b[1m{one_line(hit.snippet[start:end])}\x1b[0m"
        at = end
    said += one_line(hit.snippet[at:])
    speaker = f"{one_line(hit.speaker)}: " if hit.speaker else ""
    return f"  {time:>8}  {speaker}{said}"


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def export(output_dir: str, fmt: str | None, destination: str | None, *, table: str, enhanced: bool) -> None:
    """Write an export, and say what it was where it isn't standard output.

    Raises:
        UsageError: A value makes no sense, or two contradict each other.
        FileError: There is no report in the folder.
        SetupError: What the format needs isn't installed.
    """
    if fmt is None:
        raise UsageError(f"nothing says as what: give --format, one of {', '.join(FORMATS)}")
    fmt = fmt.strip().lower()
    if fmt not in FORMATS:
        raise UsageError(f"--format: expected {', '.join(FORMATS)}, got {fmt!r}")
    if fmt not in STREAMS:
        if destination is not None or table != "files":
            raise UsageError(f"--output and --table say nothing for {fmt}: its files lie beside the transcripts")
        written = export_files(output_dir, fmt, enhanced=enhanced)
        print(f"{count(written.count, 'file')} beside the transcripts in {one_line(shown(output_dir))}")
        return
    if enhanced or (fmt == "manifest" and table != "files"):
        raise UsageError(f"{'--enhanced' if enhanced else '--table'} says nothing for {fmt}")
    path = None if destination in (None, "-") else Path(str(destination)).absolute()
    written = export_stream(output_dir, fmt, path, table=table)
    if path is not None:
        print(f"{count(written.count, 'line')}: {shlex.quote(one_line(shown(path)))}")
    if written.left_out:
        names = ", ".join(one_line(name) for name in written.left_out[:_NAMED])
        more = " and others" if len(written.left_out) > _NAMED else ""
        print(
            f"trax-ray: {count(len(written.left_out), 'recording')} left out, whose files a manifest can't name or "
            f"that weren't kept (--keep-media keeps them): {names}{more}",
            file=sys.stderr,
        )
