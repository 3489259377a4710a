"""Names that break programs: all transcribed, each with outputs of its own, nothing overwritten."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from trax_ray.cluster.connect import Connection
from trax_ray.plan.past import read_past

CONTENTS = ("first_test.wav", "quiet_room.flac", "stories/the_storm.mp3", "talks/weather.ogg")
"""Short recordings with four texts, one of them empty. Whoever wrote over another's output is found out by it."""

TREE = (
    "with space.wav",
    " .wav",
    "quo\"te's.wav",
    "new\nline.wav",
    "tab\tand\rreturn.wav",
    "\x1b[31mred\x07.wav",
    "caf\udce9 \udcff.wav",
    "\udcff\udcfe/\udc80.wav",
    "x" * 251 + ".wav",
    "\u00fc" * 125 + "x.wav",
    "y" * 255 + "/" + "y" * 251 + ".wav",
    "\u00e9.wav",
    "e\u0301.wav",
    "\U0001f3a7.wav",
    "\u202egnp.wav",
    "a/t.mp3",
    "b/t.wav",
    "t.mp3",
    "t.wav",
    "T.mp3",
    "t.enhanced.wav",
    "t.txt.wav",
    "t.json/t.wav",
    "report/files.wav",
    ".wav.wav",
    "...wav",
    "$(touch pwned).wav",
    "`id`; rm *.wav",
    "*.wav",
    "[t].wav",
    "#t.wav",
    "~.wav",
    "%s %2F {0}.wav",
    "C:\\t.wav",
    "http:t.wav",
    "con.wav",
)
DASHES = ("-dash.wav", "--help.wav", "--", "-")
LISTED = ("#listed\n1.wav", " listed\udce9 ", "listed.csv", "sub/t.mp3")


def copy(samples: Path, source: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(samples / source, target)


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes there")
def test_names_that_break_programs(head: Connection, samples: Path, tmp_path: Path) -> None:
    made: dict[str, str] = {}
    for folder, names in (("tree", TREE), ("dashes", DASHES), ("listed", LISTED)):
        for number, name in enumerate(names):
            content = CONTENTS[(number + len(folder)) % len(CONTENTS)]
            path = f"{tmp_path}/{folder}/{name}"
            copy(samples, content, Path(path))
            made[path] = content
    nul_list = tmp_path / "listed" / "list"
    nul_list.write_bytes(b"".join(os.fsencode(name) + b"\0" for name in LISTED))
    before = {path: Path(path).stat().st_mtime_ns for path in made}

    out = tmp_path / "out"
    # Hidden files are left out of folders, and `-` is standard input.
    given = ["../tree", "../tree/.wav.wav", "../tree/...wav", "-dash.wav", "--help.wav", "--", "./-"]
    own = [sys.executable, "-m", "trax_ray", "batch", "-f", "txt", "-f", "json", "--model", "pocketsphinx"]
    own += ["-o", str(out), "--address", head.address, "-a", str(nul_list), "--", *given]
    done = subprocess.run(own, cwd=tmp_path / "dashes", capture_output=True, timeout=180)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert b"\x1b[31m" not in done.stdout + done.stderr, "names are shown, not obeyed"

    files = pd.read_parquet(out / "report" / "files.parquet")
    assert (files["status"] == "succeeded").all()
    assert sorted(files["path_bytes"]) == sorted(map(os.fsencode, made))
    outputs = read_past(str(out)).outputs
    assert len(outputs) == len(set(outputs.values())) == len(made)
    texts: dict[str, set[str]] = {content: set() for content in CONTENTS}
    for row in files.itertuples():
        content = made[os.fsdecode(row.path_bytes)]
        texts[content].add(row.text)
        stem = f"{out}/{outputs[row.file_id]}"
        assert Path(f"{stem}.txt").read_text().split() == row.text.split()
        spoken = json.loads(Path(f"{stem}.json").read_text())
        assert spoken["text"] == row.text
    assert all(len(found) == 1 for found in texts.values()), texts
    assert len(set.union(*texts.values())) == len(CONTENTS), "the recordings can be told apart"

    written = [path for path in out.rglob("*") if path.is_file() and not {".trax", "report"} & {*path.parts}]
    assert len(written) == 2 * len(made)
    assert {path: Path(path).stat().st_mtime_ns for path in made} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dashes", "listed", "out", "tree"]
