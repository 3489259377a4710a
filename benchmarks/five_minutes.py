"""The founding document's figure: a 5-minute recording in under 30 seconds?

Makes five minutes of the shipped speech, transcribes them with Whisper tiny.en through the command line on all cores,
in chunks of 30 seconds, and prints the seconds of the batch and of the whole command beside what one process takes
for the same audio without Ray.

    .venv/bin/python benchmarks/five_minutes.py
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import BatchTask, Outcome, TaskType
from trax_ray.kinds.assignment import Assignment
from trax_ray.kinds.transcribe import transcribe
from trax_ray.media.decode import read

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
LENGTH_S = 300
MODEL = "tiny.en"


def make_recording(path: Path) -> None:
    """Five minutes: the two-minute sample and the talks, again and again."""
    names = ("stories/the_river.ogg", "talks/meeting.mp3", "talks/weather.ogg", "stories/the_letter.ogg")
    audio = np.concatenate([read(SAMPLES / name) for name in names] * 3)[: LENGTH_S * 16_000]
    soundfile.write(path, audio, 16_000, format="FLAC")


def alone_s(recording: Path, out: Path) -> float:
    """Seconds that one process takes without Ray, the model loaded already."""
    spec = BatchSpec(str(out), model=MODEL)

    def run(path: Path) -> float:
        task = BatchTask(path.name, TaskType.TRANSCRIBE, {"file_path": str(path)})
        began = time.monotonic()
        *_, outcome = transcribe(Assignment(spec, task))
        assert isinstance(outcome, Outcome)
        assert outcome.failure is None
        return time.monotonic() - began

    run(SAMPLES / "stories" / "the_storm.mp3")
    return run(recording)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "five_minutes.flac"
        make_recording(recording)
        alone = alone_s(recording, Path(folder) / "alone")
        out = Path(folder) / "out"
        command = [sys.executable, "-m", "trax_ray", "batch", str(recording), "-o", str(out), "--lean", "--quiet"]
        began = time.monotonic()
        subprocess.run([*command, "--model", MODEL, "--chunk-size", "30", "--cpu-limit", "100"], check=True)
        whole = time.monotonic() - began
        run = json.loads((out / "report" / "run.json").read_text())
    print(f"machine: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    print(f"one process, no Ray, model loaded: {alone:.1f} s ({LENGTH_S / alone:.1f} x real time)")
    print(f"batch on all cores: {run['worked_s']:.1f} s ({alone / run['worked_s']:.2f} x one process)")
    print(f"the whole command, Ray's start included: {whole:.1f} s")
    print(f"under 30 s: batch {'yes' if run['worked_s'] < 30 else 'no'}, command {'yes' if whole < 30 else 'no'}")


if __name__ == "__main__":
    main()
