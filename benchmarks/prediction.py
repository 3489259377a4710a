"""Measure: how well the third run over the same kind of audio is predicted after two, and how far off mixed audio is.

    python benchmarks/prediction.py

Each run is `trax-ray batch` over other recordings of the same kind, cut from `samples/`; what they took is kept apart
from the user's. Before each the predicted range is read from `--dry-run --json`; after it the time that the summary
says is compared: from the first line, which predicts, to the summary. The last run takes long and short recordings
together.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "samples" / "stories" / "the_river.ogg"
CLIP_S, CLIPS = 20, 18
CLOSE = 0.20


def clips(folder: Path, run: int, lengths_s: list[int]) -> None:
    """Other stretches of the same recording, which nobody has transcribed yet."""
    folder.mkdir()
    for number, length_s in enumerate(lengths_s):
        start_s = (run * 1.7 + number * 5.3) % (120 - min(length_s, 100))
        command = ["ffmpeg", "-v", "error", "-stream_loop", "4", "-ss", str(start_s), "-t", str(length_s), "-i", SOURCE]
        subprocess.run([*command, "-ar", "16000", "-ac", "1", folder / f"{number}.wav"], check=True)


def run(folder: Path, out: Path, environ: dict[str, str]) -> tuple[dict[str, Any] | None, float]:
    """What was predicted for a run, and what it took."""
    command = [sys.executable, "-m", "trax_ray", "batch", str(folder), "--model", "tiny.en", "-o", str(out), "--lean"]
    told = subprocess.run([*command, "--dry-run", "--json"], env=environ, check=True, capture_output=True, text=True)
    began_at = time.monotonic()
    done = subprocess.run(command, env=environ, check=True, capture_output=True, text=True)
    said = re.search(r"^Predicted: .*, took (?:(\d+)m)?(\d+)s", done.stdout, re.MULTILINE)
    took_s = 60 * int(said[1] or 0) + int(said[2]) if said else time.monotonic() - began_at
    return json.loads(told.stdout)["finish"], took_s


def main() -> int:
    """Four runs; 0 where the third is as it was predicted."""
    work = Path(tempfile.mkdtemp(prefix="trax-ray-prediction-"))
    environ = {**os.environ, "XDG_DATA_HOME": str(work / "data"), "HOME": str(work), "TMPDIR": str(work)}
    same = [CLIP_S] * CLIPS
    mixed = [10] * 8 + [30] * 4 + [240]
    good = False
    try:
        for number, (what, lengths_s) in enumerate((("same", same),) * 3 + (("mixed", mixed),), 1):
            clips(work / f"in{number}", number, lengths_s)
            predicted, took_s = run(work / f"in{number}", work / f"out{number}", environ)
            if predicted is None:
                print(f"run {number} ({what}): nothing predicted, took {took_s:.1f} s")
                continue
            low, middle, high = (predicted[f"{name}_s"] for name in ("low", "middle", "high"))
            off, held = middle / took_s - 1, low <= took_s <= high
            print(
                f"run {number} ({what}): predicted {middle:.1f} s ({low:.1f} to {high:.1f}), took {took_s:.1f} s: "
                f"{'in' if held else 'NOT in'} the range, middle {100 * off:+.0f} %"
            )
            if number == 3:
                good = held and abs(off) <= CLOSE
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"the third run is {'' if good else 'NOT '}as predicted (in the range, middle within {100 * CLOSE:.0f} %)")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
