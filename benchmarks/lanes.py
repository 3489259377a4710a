"""Calls to a service through a batch, against a bare asyncio script that makes the same calls.

1,000 calls that take 0.5 to 1.5 s each, 64 at the same time and then 256, to a server on this machine that answers
with a constant. Everything that is sent is prepared beforehand, so that only calls are measured: by the server's
ledger, from the start of the first that counts to the end of the last. A batch begins with few calls at a time and
doubles them with each round of answers, whatever the service; so both ways make some calls more, which come first and
don't count. The bare script makes them with OpenAI's library and keeps nothing; a batch also journals each call and
commits its result.

    .venv/bin/python benchmarks/lanes.py [--calls 1000] [--in-flight 64 256]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openai
import psutil
import soundfile

from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import BatchTask, TaskType
from trax_ray.kinds.assignment import Assignment
from trax_ray.kinds.codec import to_json
from trax_ray.kinds.recording import Recording
from trax_ray.kinds.transcribe import TRANSCRIBE
from trax_ray.kinds.uploads import Prepared, Uploads
from trax_ray.media.encode import opus
from trax_ray.media.speech import Span
from trax_ray.testing.speech_server import Entry, Limits, SpeechServer, constant

MODEL = "whisper-1"
DELAY_S = (0.5, 1.5)
LIMITS = Limits(delay_s=DELAY_S)
REQUEST_S = 30
FILES = 10
SAMPLE_PERIOD_S = 2.0


@dataclass(frozen=True)
class Measured:
    """What one way to make the calls came to.

    Args:
        calls_per_s: Of the calls that count.
        from_the_first: Calls per second with those that opened the way for these.
        in_flight: The most at the same time.
        pss_mb: Memory of all processes, Ray's too, at its highest.
        processes: How many that were.
        cpu_s: What they used of the processors.
        lanes: Processes that made calls.
    """

    calls_per_s: float
    from_the_first: float
    in_flight: int
    pss_mb: float
    processes: int
    cpu_s: float
    lanes: int = 1


def noise(seconds: int, seed: int) -> np.ndarray:
    """Something to encode."""
    return (0.1 * np.random.default_rng(seed).standard_normal(seconds * 16_000)).astype(np.float32)


def prepare(folder: Path, out: Path, url: str, requests: int) -> list[Path]:
    """Recordings whose requests lie there already, so many for each; that they are noise nobody finds out."""
    upload = opus(noise(REQUEST_S, 0))
    spec = BatchSpec(str(out), model=MODEL, base_url=url, chunk_size_s=REQUEST_S)
    recordings = []
    for number in range(FILES):
        path = folder / f"{number}.wav"
        soundfile.write(path, noise(1, number + 1), 16_000)
        recordings.append(path)
        task = BatchTask(path.name, TaskType.TRANSCRIBE, {"file_path": str(path)})
        job = Recording.of(Assignment(spec, task), TRANSCRIBE.read(task))
        uploads = Uploads(job)
        spans = [(float(at * REQUEST_S), float((at + 1) * REQUEST_S)) for at in range(requests)]
        cuts = job.key("cuts", chunk_size_s=uploads.limit_s, requests=True)
        job.store.put(cuts, {"cuts": spans, "warnings": []})
        prepared = Prepared(REQUEST_S, REQUEST_S, 0.0, REQUEST_S, speech=(Span(0.0, REQUEST_S),))
        for span in spans:
            uploads.keep(span, upload)
            job.store.put(job.key("prepared", start_s=span[0], end_s=span[1]), to_json(prepared))
    return recordings


def memory_of(process: psutil.Process) -> tuple[float, int, float, int]:
    """PSS in MB of a process and its children, how many they are, seconds of processor time, and how many are lanes."""
    pss, count, cpu_s, lanes = 0.0, 0, 0.0, 0
    for each in [process, *process.children(recursive=True)]:
        with suppress(psutil.Error):
            pss += each.memory_full_info().pss / 2**20
            times = each.cpu_times()
            cpu_s += times.user + times.system
            count += 1
            lanes += each.name().startswith("ray::Lane")
    return pss, count, cpu_s, lanes


def watch(command: list[str], server: SpeechServer, warm_up: int) -> Measured:
    """Run a program that makes calls, and look at it from outside."""
    server.clear_ledger()
    server.limit(LIMITS)  # the same delays, in the same order, for both ways
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    seen = (0.0, 0, 0.0, 0)
    looked_at = 0.0
    while process.poll() is None:
        time.sleep(0.05)
        if time.monotonic() - looked_at > SAMPLE_PERIOD_S:
            looked_at = time.monotonic()
            found = memory_of(process)
            seen = (max(seen[0], found[0]), max(seen[1], found[1]), max(seen[2], found[2]), max(seen[3], found[3]))
    if process.returncode:
        raise SystemExit(f"{command[:4]} ended with {process.returncode}: {process.stderr.read().decode()[-2000:]}")
    process.stderr.close()
    made = server.ledger.entries
    assert all(entry.completed for entry in made)
    return Measured(rate(made[warm_up:]), rate(made), server.ledger.max_in_flight, *seen[:3], max(1, seen[3]))


def rate(entries: list[Entry]) -> float:
    """Calls per second, from the start of the first to the end of the last."""
    ends = [entry.ended_at for entry in entries if entry.ended_at is not None]
    return len(entries) / (max(ends) - min(entry.at for entry in entries)).total_seconds()


def bare(url: str, upload: Path, calls: int, in_flight: int) -> None:
    """The script to compare with."""
    data = upload.read_bytes()

    async def call(client: openai.AsyncOpenAI, places: asyncio.Semaphore) -> None:
        async with places:
            await client.audio.transcriptions.create(
                file=("audio.ogg", data, "audio/ogg"), model=MODEL, response_format="verbose_json"
            )

    async def run() -> None:
        places = asyncio.Semaphore(in_flight)
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            await asyncio.gather(*(call(client, places) for _ in range(calls)))

    asyncio.run(run())


def compare(calls: int, in_flight: int) -> tuple[Measured, Measured]:
    """Both ways: the bare script and the batch."""
    warm_up = 3 * in_flight  # as many as there are until so many run at the same time, and some more
    requests = -(-(calls + warm_up) // FILES)
    text = "A constant answer, whatever was said. It is as long as two sentences are."
    with (
        tempfile.TemporaryDirectory() as name,
        SpeechServer(constant(text), key=None, decode=False) as server,
    ):
        folder, out = Path(name), Path(name) / "out"
        recordings = prepare(folder, out, server.url, requests)
        upload = folder / "upload.ogg"
        upload.write_bytes(opus(noise(REQUEST_S, 0)))
        total = FILES * requests
        own = [sys.executable, __file__, "--bare", server.url, str(upload), str(total), str(in_flight)]
        alone = watch(own, server, total - calls)
        own = [sys.executable, "-m", "trax_ray", "batch", *map(str, recordings), "-o", str(out), "--lean", "--quiet"]
        own += ["--model", MODEL, "--base-url", server.url, "--chunk-size", str(REQUEST_S)]
        own += ["--workers", str(in_flight), "--memory-limit", "8192"]
        batch = watch(own, server, total - calls)
        run = json.loads((out / "report" / "run.json").read_text())
        assert run["counts"]["succeeded"] == FILES, run["counts"]
    return alone, batch


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--bare", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.bare:
        url, upload, calls, in_flight = given.bare
        bare(url, Path(upload), int(calls), int(in_flight))
        return
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"machine: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, load {load}")
    print(f"{given.calls} calls of {DELAY_S[0]} to {DELAY_S[1]} s, for {REQUEST_S} s of audio each")
    for in_flight in given.in_flight:
        alone, batch = compare(given.calls, in_flight)
        print(f"{in_flight} at the same time (at best {in_flight / (sum(DELAY_S) / 2):.0f} calls/s):")
        for name, each in (("bare asyncio", alone), ("batch", batch)):
            print(
                f"  {name:13} {each.calls_per_s:6.1f} calls/s, {each.in_flight} in flight; {each.pss_mb:.0f} MB PSS in "
                f"{each.processes} processes, {each.cpu_s:.0f} s of processors"
            )
        print(
            f"  batch / bare  {batch.calls_per_s / alone.calls_per_s:6.2f} with {batch.lanes} lanes; "
            f"{batch.from_the_first:.1f} calls/s from the batch's very first call on"
        )


if __name__ == "__main__":
    main()
