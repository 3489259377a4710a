"""PREPROCESS: memory of a long recording beside a short one, and speed beside ffmpeg under GNU parallel, in one run.

    .venv/bin/python benchmarks/preprocess.py [--files 60] [--long 3.0] [--rounds 3] [--only memory|speed]

Memory: the peak of a fresh process that converts ten minutes, and of one that converts three hours, as the worker does:
decoded, listened to (level, noise, clipping, bandwidth, speech) and written as FLAC. Speed: so many files of one to
three minutes, by `make_attempt` in as many processes as there are cores, against `parallel -jN ffmpeg ... -ar 16000 -ac
1 x.flac`, which looks at nothing; and against itself without looking, which says where the time goes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SPEECH = ROOT / "samples" / "stories" / "the_river.ogg"


def made(folder: Path, name: str, seconds: float) -> Path:
    """A recording of so many seconds: the sample again and again."""
    path = folder / name
    command = ["ffmpeg", "-v", "error", "-stream_loop", "-1", "-i", SPEECH, "-t", f"{seconds:.1f}", "-ar", "44100"]
    subprocess.run([*map(str, command), "-ac", "2", "-b:a", "96k", str(path)], check=True)
    return path


def convert(path: str, out: str) -> dict[str, float]:
    """One attempt at converting a recording: its figures."""
    from trax_ray.core.spec import BatchSpec
    from trax_ray.core.task import Outcome
    from trax_ray.kinds.assignment import Assignment
    from trax_ray.kinds.preprocess import PREPROCESS, PreprocessData
    from trax_ray.kinds.run import make_attempt

    name = Path(path).stem
    task = PREPROCESS.task(PreprocessData(path, name=name, output=f"audio/{name}"), id=name, file_id=name)
    *_, outcome = make_attempt(Assignment(BatchSpec(out), task))
    assert isinstance(outcome, Outcome)
    assert outcome.failure is None, outcome.failure
    return {"duration_s": float(outcome.metrics["duration_s"]), "memory_peak_mb": outcome.memory_peak_mb}


def peak_mb(path: Path) -> float:
    """The most memory that a fresh process needs to convert a recording, MiB."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, __file__, "--one", str(path), out]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(told)["memory_peak_mb"])


def memory(folder: Path, hours: float) -> None:
    short, long = made(folder, "short.mp3", 600.0), made(folder, "long.mp3", hours * 3600.0)
    peaks = {}
    for path, name in ((short, "10 minutes"), (long, f"{hours:g} hours")):
        began_s = time.monotonic()
        peaks[path] = peak_mb(path)
        print(f"memory, {name}: {peaks[path]:.0f} MiB, {time.monotonic() - began_s:.1f} s", flush=True)
    print(f"memory, ratio: {peaks[long] / peaks[short]:.3f}")


def _warm(_: int) -> None:
    """What the first task of a worker waits for, and the others don't."""
    from trax_ray.kinds import flac, preprocess  # noqa: F401
    from trax_ray.media.vad import SileroDetector

    SileroDetector()
    time.sleep(0.2)


def _run(pool: multiprocessing.pool.Pool, paths: Sequence[Path]) -> float:
    with tempfile.TemporaryDirectory() as out:
        began_s = time.monotonic()
        pool.starmap(convert, [(str(path), out) for path in paths], chunksize=1)
        return time.monotonic() - began_s


def _decode(path: str) -> None:
    """Decoded and written, and not listened to."""
    import soundfile

    from trax_ray.media import decode

    with (
        decode.stream(path) as blocks,
        tempfile.NamedTemporaryFile(suffix=".flac") as file,
        soundfile.SoundFile(file, "w", samplerate=16_000, channels=1, format="FLAC", subtype="PCM_16") as flac,
    ):
        for block in blocks:
            flac.write(block)


def _parallel(paths: Sequence[Path], processes: int) -> float:
    with tempfile.TemporaryDirectory() as out:
        command = ["parallel", "--will-cite", f"-j{processes}"]
        command += ["ffmpeg", "-v", "error", "-nostdin", "-threads", "1", "-i", "{}"]
        command += ["-map", "0:a:0", "-ar", "16000", "-ac", "1", f"{out}/{{/.}}.flac", ":::", *map(str, paths)]
        began_s = time.monotonic()
        subprocess.run(command, check=True)
        return time.monotonic() - began_s


def speed(folder: Path, count: int, rounds: int) -> None:
    if shutil.which("parallel") is None:
        sys.exit("GNU parallel isn't installed")
    choose = random.Random(1)
    paths = [made(folder, f"talk-{number}.mp3", choose.uniform(60.0, 180.0)) for number in range(count)]
    processes = os.cpu_count() or 1
    ratios, bare = [], []
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(_warm, range(2 * processes), chunksize=1)
        for number in range(rounds):
            ours = _run(pool, paths)
            theirs = _parallel(paths, processes)
            began_s = time.monotonic()
            pool.map(_decode, [str(path) for path in paths], chunksize=1)
            unheard = time.monotonic() - began_s
            ratios.append(theirs / ours)
            bare.append(theirs / unheard)
            print(
                f"speed, round {number + 1}: ours {ours:.1f} s, not listened to {unheard:.1f} s, "
                f"ffmpeg and parallel {theirs:.1f} s: {ratios[-1]:.2f}, {bare[-1]:.2f}",
                flush=True,
            )
    print(
        f"speed, median of ratios: {sorted(ratios)[rounds // 2]:.2f}; not listened to {sorted(bare)[rounds // 2]:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=60)
    parser.add_argument("--long", type=float, default=3.0, help="hours")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["memory", "speed"])
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        found = convert(*given.one)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
        print(json.dumps(found | {"memory_peak_mb": peak}))
        return
    with tempfile.TemporaryDirectory() as folder:
        if given.only != "speed":
            memory(Path(folder), given.long)
        if given.only != "memory":
            speed(Path(folder), given.files, given.rounds)


if __name__ == "__main__":
    main()
