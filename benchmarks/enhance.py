"""Enhancement by a chat server that answers as fast as a model does: five minutes of speech, and two hours.

The server writes 60 tokens a second and takes 0.7 s to the first; it punctuates each segment. Two hours are some fifty
windows, of which so many are asked at the same time as `--workers` says: against the time of all of them is held what
the slowest window took, times the rounds.

    .venv/bin/python benchmarks/enhance.py [--workers 16] [--tokens-per-s 60]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import tempfile
import time
from pathlib import Path

from tests.support.chat import punctuating, segments_of, slow
from tests.support.speech_server import KEY, Entry, SpeechServer
from trax_ray import TaskType, create_batch_processor

WORDS_A_MINUTE = 150
FIRST_TOKEN_S = 0.7
VOCABULARY = (
    *("harbour", "river", "morning", "people", "nobody", "always", "water", "built", "stone", "bridge", "walked"),
    *("seven", "years", "between", "small", "houses", "before", "after", "winter", "summer", "market", "letters"),
    *("across", "never", "under", "garden", "window", "paper", "silver", "family", "quiet"),
)


def transcript(minutes: int, path: Path) -> list[str]:
    """Write a transcript of so many minutes, a segment for each line of some twelve words; its words."""
    chance = random.Random(minutes)
    segments, words = [], []
    at = 0.0
    while at < minutes * 60:
        line = chance.choices(VOCABULARY, k=chance.randint(8, 16))
        words += line
        length = len(line) * 60 / WORDS_A_MINUTE
        segments.append({"start": round(at, 2), "end": round(at + length - 0.2, 2), "text": " ".join(line)})
        at += length
    path.write_text(json.dumps({"language": "en", "segments": segments}))
    return words


async def enhanced(path: Path, out: Path, server: SpeechServer, workers: int) -> float:
    """Seconds from the first request to the last answer; Ray's start is measured elsewhere."""
    processor = create_batch_processor(
        output_dir=out,
        max_workers=workers,
        enhance=True,
        enhance_model="deepseek-flash",
        enhance_base_url=server.url,
        lean=True,
    )
    await processor.add_task(TaskType.ENHANCE, {"transcript_path": path})
    began = time.monotonic()
    result = await processor.start()
    assert result.success_count == 1, result.failures
    print(f"  the batch as a whole, with Ray's start: {time.monotonic() - began:.1f} s")
    entries = server.ledger.of("chat")
    ended = max(entry.ended_at for entry in entries if entry.ended_at is not None)
    return (ended - min(entry.at for entry in entries)).total_seconds()


def took_s(entry: Entry) -> float:
    """Seconds that a request took."""
    assert entry.ended_at is not None
    return (entry.ended_at - entry.at).total_seconds()


def measure(minutes: int, folder: Path, workers: int, rate: float) -> None:
    """Enhance so many minutes, and say what it took."""
    path, out = folder / f"{minutes}.json", folder / f"out-{minutes}"
    words = transcript(minutes, path)
    with SpeechServer(chat=slow(punctuating, rate, FIRST_TOKEN_S)) as server:
        print(f"{minutes} minutes, {len(words)} words:")
        wall_s = asyncio.run(enhanced(path, out, server, workers))
        entries = server.ledger.of("chat")
    rounds = math.ceil(len(entries) / workers)
    slowest_s = max(map(took_s, entries))
    said = (out / f"{minutes}.enhanced.txt").read_text().replace(".", " ").casefold().split()
    shown = [number for entry in entries for number in segments_of({"messages": entry.messages})]
    print(f"  {len(entries)} windows, {rounds} rounds of {workers}, slowest window {slowest_s:.1f} s")
    print(f"  windows: {wall_s:.1f} s, {wall_s / (slowest_s * rounds):.2f} x the slowest window times rounds")
    print(f"  words lost or doubled at the joins: {'none' if said == words else 'SOME'}")
    print(f"  segments shown once each: {len(shown) == len(set(shown))}")
    tokens = [entry.usage or {} for entry in entries]
    print(
        f"  tokens: {sum(each['prompt_tokens'] for each in tokens)} in, of them "
        f"{sum(each['prompt_cache_hit_tokens'] for each in tokens)} cached, "
        f"{sum(each['completion_tokens'] for each in tokens)} out"
    )
    print(f"  one prefix: {len({entry.messages[0]['content'] for entry in entries}) == 1}")
    written = [file for file in out.rglob("*") if file.is_file() and KEY.encode() in file.read_bytes()]
    print(f"  the key stands in: {written or 'none of the files'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--tokens-per-s", type=float, default=60.0)
    given = parser.parse_args()
    os.environ["ENHANCE_API_KEY"] = KEY
    with tempfile.TemporaryDirectory(prefix="enhance-") as folder:
        for minutes in (5, 120):
            measure(minutes, Path(folder), given.workers, given.tokens_per_s)


if __name__ == "__main__":
    main()
