"""Are words lost? Local Whisper here, beside plain faster-whisper and its batched pipeline, in one run.

Joins recorded speech with pauses between, in several ways, and has each way transcribe it in two processes with one
thread each, models loaded beforehand. Prints word errors, deletions among them, and speed as a multiple of real time.

    .venv/bin/python benchmarks/words.py [--model tiny.en] [--speech DIR] [--rows 10,20,clips,sonnet,60]

The speech is that of TRAX_RAY_SPEECH_DIR (its `english` folder), or of any folder with recordings and a `.txt` beside
each. What is joined at random depends on nothing but the folder's files.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import numpy.typing as npt

from trax_ray.core.policy.quality import uncovered
from trax_ray.core.task import ResourceRequest
from trax_ray.kinds.accuracy import normalise
from trax_ray.media.chunking import ChunkPlanner
from trax_ray.media.decode import read
from trax_ray.media.vad import speech_spans
from trax_ray.providers import faster_whisper_engine as faster_whisper
from trax_ray.providers.base import EngineOptions, Span

Audio = npt.NDArray[np.float32]
Recording = tuple[Audio, str]

ROOT = Path(__file__).resolve().parent.parent
RATE = 16_000
PROCESSES = 2
CHUNK_S = 600.0
SUFFIXES = (".wav", ".mp3", ".flac", ".opus", ".ogg", ".m4a")

_state: dict[str, Any] = {}


def clips_of(folder: Path) -> list[Recording]:
    """Recordings that have a reference beside them."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)
    return [(read(path), path.with_suffix(".txt").read_text()) for path in paths if path.with_suffix(".txt").is_file()]


def joined(clips: list[Recording], seconds: float, seed: int, pauses_s: tuple[float, float]) -> Recording:
    """Clips in random order, all of them before one comes again, with silence between; not longer than asked."""
    chance = random.Random(seed)
    parts: list[Audio] = []
    texts: list[str] = []
    deck: list[Recording] = []
    while True:
        if not deck:
            deck = chance.sample(clips, len(clips))
        audio, text = deck.pop()
        if parts and sum(map(len, parts)) + len(audio) > seconds * RATE:
            break
        parts += [audio, np.zeros(int(RATE * chance.uniform(*pauses_s)), np.float32)]
        texts.append(text)
    return np.concatenate(parts), " ".join(texts)


def rows_of(clips: list[Recording], folder: Path) -> Iterator[tuple[str, str, list[Recording]]]:
    """Name, description and recordings of each row."""
    yield "10", "2 x 10 minutes, joined", [joined(clips, 600, seed, (0.1, 1.5)) for seed in (1, 2)]
    yield "20", "20 minutes, pauses of 0 to 0.4 s", [joined(clips, 1200, 3, (0.0, 0.4))]
    lengths = random.Random(4)
    short = [joined(clips, lengths.uniform(1, 45), 100 + at, (0.1, 0.8)) for at in range(20)]
    yield "clips", "20 recordings of 5 to 60 s", short
    sonnet = next(iter(folder.rglob("sonnet-1.mp3")), None)
    if sonnet is not None:
        yield "sonnet", "sonnet-1.mp3", [(read(sonnet), sonnet.with_suffix(".txt").read_text())]
    yield "60", "60 minutes, joined", [joined(clips, 3600, 5, (0.1, 1.5))]


def ours(audio: Audio) -> tuple[str, float]:
    """As a batch does it: cut into chunks, speech found, recognised. Also the seconds that `coverage` warns of."""
    spans_s = [Span(0.0, len(audio) / RATE)]
    if len(audio) > CHUNK_S * RATE:
        planner = ChunkPlanner(CHUNK_S)
        planner.feed(audio)
        spans_s = planner.finish()
    texts, bare_s = [], 0.0
    for span in spans_s:
        chunk = audio[round(span.start_s * RATE) : round(span.end_s * RATE)]
        speech = speech_spans(chunk)
        segments = list(_state["engine"].transcribe(chunk, speech, EngineOptions()))
        texts += [segment.text for segment in segments]
        spans = [(each.start_s, each.end_s) for each in speech]
        found = uncovered(spans, [(each.start_s, each.end_s, each.text) for each in segments])
        bare_s += sum(end - start for start, end in found)
    return " ".join(texts), bare_s


def plain(audio: Audio) -> tuple[str, float]:
    """faster-whisper as its README has it, with its speech detection."""
    segments, _ = _state["whisper"].transcribe(audio, vad_filter=True, language=_state["language"])
    return " ".join(segment.text for segment in segments), 0.0


def batched(audio: Audio) -> tuple[str, float]:
    """faster-whisper's batched pipeline, at the batch size that suits a CPU."""
    from faster_whisper import BatchedInferencePipeline

    segments, _ = BatchedInferencePipeline(_state["whisper"]).transcribe(
        audio, batch_size=2, language=_state["language"]
    )
    return " ".join(segment.text for segment in segments), 0.0


def begin(model: str) -> None:
    """Load the model, in each process."""
    _state["engine"] = engine = faster_whisper.load(model, ResourceRequest())
    _state["whisper"] = engine._whisper
    _state["language"] = "en"


def warm(_: int) -> int:
    """Have a process ready and its libraries loaded."""
    silence = np.random.default_rng(0).standard_normal(RATE * 2).astype(np.float32) * 1e-3
    for way in (ours, plain, batched):
        way(silence)
    time.sleep(1.0)
    return os.getpid()


def compare(pool: Any, recordings: list[Recording], way: Callable[[Audio], tuple[str, float]]) -> dict[str, float]:
    """Transcribe in two processes; a single long recording is cut in two for both, at a pause."""
    halves = [audio for audio, _ in recordings]
    if len(halves) == 1:
        planner = ChunkPlanner(len(halves[0]) / RATE / 2 + 15)
        planner.feed(halves[0])
        cuts = [0, *(round(span.end_s * RATE) for span in planner.finish())]
        halves = [halves[0][low:high] for low, high in pairwise(cuts)]
    began = time.monotonic()
    answers = pool.map(way, halves, chunksize=1)
    seconds = time.monotonic() - began
    counted = jiwer.process_words(
        normalise(" ".join(text for _, text in recordings)), normalise(" ".join(text for text, _ in answers))
    )
    words = counted.hits + counted.substitutions + counted.deletions
    wrong = counted.substitutions + counted.deletions + counted.insertions
    return {
        "words": words,
        "wer": 100 * wrong / words,
        "deleted": counted.deletions,
        "inserted": counted.insertions,
        "bare_s": sum(bare_s for _, bare_s in answers),
        "speed": sum(map(len, halves)) / RATE / seconds,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument(
        "--speech", default=os.environ.get("TRAX_RAY_SPEECH_DIR", str(ROOT.parent / "shared" / "speech")) + "/english"
    )
    parser.add_argument("--rows", default="10,20,clips,sonnet,60")
    asked = parser.parse_args()
    folder = Path(asked.speech)
    clips = clips_of(folder)
    if not clips:
        raise SystemExit(f"no recordings with a .txt beside them in {folder}: name a folder with --speech")
    ways = {"trax_ray": ours, "faster-whisper": plain, "its batched pipeline": batched}
    print(f"model {asked.model}, {PROCESSES} processes with one thread each")
    print("| audio | way | word error rate | deleted | inserted | of words | coverage warns of | x real time |")
    print("|---|---|---|---|---|---|---|---|")
    with multiprocessing.get_context("spawn").Pool(PROCESSES, begin, (asked.model,)) as pool:
        while len(set(pool.map(warm, range(PROCESSES), chunksize=1))) < PROCESSES:
            pass
        for name, title, recordings in rows_of(clips, folder):
            if name not in asked.rows.split(","):
                continue
            for label, way in ways.items():
                found = compare(pool, recordings, way)
                bare = f"{found['bare_s']:.0f} s" if way is ours else ""
                print(
                    f"| {title} | {label} | {found['wer']:.1f} % | {found['deleted']:.0f} | {found['inserted']:.0f} "
                    f"| {found['words']:.0f} | {bare} | {found['speed']:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
