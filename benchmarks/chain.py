"""Downloads and transcription, each alone and as a chain: how far the one goes on while the other does.

50 recordings of 5 MB come from a server on this machine at 500 kB/s each, and go to a speech server that does one
request at a time and takes two seconds for it. Three batches run one after the other: the downloads alone (`--task
download`), the transcription of the same files alone, and the chain of both from the same URLs. Compared is the time of
the batches, Ray's start apart: the chain against the slower of the two. If both overlapped altogether the ratio would
be 1, and if they followed each other it would be the sum.

    .venv/bin/python benchmarks/chain.py [--recordings 50] [--kilobytes-per-s 500] [--answer-s 2]
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tests.support.media_server import Answer, MediaServer
from tests.support.speech_server import KEY, Limits, SpeechServer, constant
from trax_ray import create_batch_processor
from trax_ray.media.decode import read

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
SIZE_BYTES = 5_000_000
RATE_HZ = 16_000
AT_ONCE = 8
MEMORY_MB = 4096
"""Room for as many downloads as are asked for, and for the transcriptions beside them."""


def recordings(count: int) -> list[bytes]:
    """Speech, so many times with another loudness: no two files are the same."""
    speech = read(SAMPLES / "stories" / "the_river.ogg")
    speech = np.resize(speech, SIZE_BYTES // 2)
    made = []
    for number in range(count):
        file = io.BytesIO()
        soundfile.write(file, speech * (1.0 - number / (2 * count)), RATE_HZ, format="WAV", subtype="PCM_16")
        made.append(file.getvalue())
    return made


async def ran(inputs: Sequence[str], out: Path, **options: Any) -> float:
    """The time of a batch, seconds."""
    batch = create_batch_processor(
        max_workers=16,
        output_dir=out,
        formats="txt",
        lean=True,
        memory_limit_mb=MEMORY_MB,
        allow_private_network=True,
        host_requests=AT_ONCE,
        **options,
    )
    await batch.add(inputs)
    result = await batch.start()
    if result.success_count != len(inputs):
        raise SystemExit(f"{result.failure_count} failed, {result.reason}: {result.failures[:3]}")
    return result.processing_time


async def measure(count: int, bytes_per_s: float, answer_s: float) -> None:
    files = recordings(count)
    answers = {
        f"/{number}.wav": Answer(data, "audio/x-wav", bytes_per_s=bytes_per_s) for number, data in enumerate(files)
    }
    speech = SpeechServer(
        constant("the river runs to the sea"), limits=Limits(delay_s=answer_s, one_by_one=True), key=KEY
    )
    os.environ["OPENAI_API_KEY"] = KEY
    with tempfile.TemporaryDirectory() as name, MediaServer(answers) as media, speech:
        folder = Path(name)
        urls = [f"{media.url}{path}" for path in answers]
        service = {"model": "whisper-1", "base_url": speech.url}
        downloads_s = await ran(urls, folder / "downloads", task="download")
        kept = [str(folder / "downloads" / "media" / f"{number}.wav") for number in range(count)]
        transcription_s = await ran(kept, folder / "transcription", **service)
        chain_s = await ran(urls, folder / "chain", **service)
    slower_s = max(downloads_s, transcription_s)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"downloads alone      {downloads_s:7.1f} s")
    print(f"transcription alone  {transcription_s:7.1f} s")
    print(f"the chain            {chain_s:7.1f} s, {chain_s / slower_s:.2f} of the slower one, goal 1.15")
    print(f"one after the other  {(downloads_s + transcription_s) / slower_s:.2f} of the slower one")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=50)
    parser.add_argument("--kilobytes-per-s", type=float, default=500.0)
    parser.add_argument("--answer-s", type=float, default=2.0)
    asked = parser.parse_args()
    asyncio.run(measure(asked.recordings, asked.kilobytes_per_s * 1000, asked.answer_s))


if __name__ == "__main__":
    main()
