"""Make the zoo in a folder, measure it, and write the table of `docs/media.md`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.support.zoo.animals import SPECIMENS
from tests.support.zoo.bench import Bench, Missing
from tests.support.zoo.measure import Measured, heard_by_ffmpeg, measured
from tests.support.zoo.table import DOCS, row, write_table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.zoo", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--docs", action="store_true", help=f"write {DOCS}")
    parser.add_argument("--only", default="", help="names that contain this")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    paths: dict[str, Path] = {}
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(given.folder, Path(scratch))
        for specimen in (each for group in SPECIMENS.values() for each in group if given.only in each.name):
            try:
                paths[specimen.name] = specimen.put(bench)
            except Missing as error:
                sys.exit(f"{specimen.name}: the program {error} isn't installed")
    by_path = {path: name for name, path in paths.items()}
    found: dict[str, tuple[Measured, float | None]] = {}
    for path, each in measured(list(paths.values())):
        found[by_path[path]] = each, heard_by_ffmpeg(path)
        shown = os.fsencode(path.name).decode("utf-8", "backslashreplace")
        line = f"{row(shown, '', *found[by_path[path]])}  {each.seconds} s {each.peak_mb} MB {each.message}\n"
        sys.stdout.write(line.encode("utf-8", "backslashreplace").decode())
        sys.stdout.flush()
    if given.docs:
        write_table(found)


main()
