"""A service that fails, and a process that dies with its requests: each file is right in the end, and paid for once."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import psutil
import pytest
import soundfile
from batch_program import own_ray, until

from tests.support.speech_server import KEY, Asked, Call, Fault, Limits, SpeechServer, faults
from tests.support.speech_server.hearing import Bands, bands_of, place
from trax_ray.errors import FileError
from trax_ray.media.decode import stream
from trax_ray.media.speech import SAMPLE_RATE_HZ
from trax_ray.media.vad import speech_spans
from trax_ray.providers.openai_models import PRICES
from trax_ray.report.fold import read_history
from trax_ray.testing.history import check

pytestmark = pytest.mark.timeout(600)

FILES = 500
SEED = 5
FAULTY = 0.3
MOST_BAD = 2
"""Bad answers for one file: after a third one it has failed for good, as it should."""

SURELY = 0.95
"""From this correlation on an upload is this recording; else it is the one that is most like it."""

IN_FLIGHT = 64
TASK_TIMEOUT_S = 15
"""How long a request may hang. On two busy cores a good one takes a second or two."""

HARMLESS = [faults.slow(0.5, 3.0), faults.missing_fields(), faults.segments_out_of_order()]
BAD_ANSWERS = [faults.html(), faults.garbage("broken"), faults.garbage("foo"), faults.truncated()]
LOST = [faults.lost_answer(), faults.cut("before"), faults.cut("body"), faults.hang(), faults.dripping(0.5)]
REFUSALS = [
    *(faults.rate_limited(), faults.rate_limited(retry_after_s=1), faults.rate_limited(retry_after_ms=300)),
    *(faults.server_error(500), faults.server_error(502), faults.server_error(503)),
]


class Collection:
    """Short recordings of real speech, each different, and what a server says of them: the number of each."""

    def __init__(self, folder: Path, speech: Path, count: int) -> None:
        with stream(speech) as blocks:
            recorded = blocks.rest()
        spans = [
            (int(span.start_s * SAMPLE_RATE_HZ), int(span.end_s * SAMPLE_RATE_HZ)) for span in speech_spans(recorded)
        ]
        audio = np.concatenate([recorded[start:end] for start, end in spans])  # pauses are all alike
        folder.mkdir()
        self.folder = folder
        self.count = count
        self._bands: list[Bands] = []
        self._numbers: dict[str, int] = {}
        chance = Random(SEED)
        for number in range(count):
            pieces = [self._piece(audio, chance) for _ in range(3)]
            samples = np.concatenate(pieces)
            soundfile.write(folder / f"{number:03}.flac", samples, SAMPLE_RATE_HZ)
            self._bands.append(bands_of([samples])[1])

    @staticmethod
    def _piece(audio: np.ndarray, chance: Random) -> np.ndarray:
        length = int(chance.uniform(0.9, 1.6) * SAMPLE_RATE_HZ)
        start = chance.randrange(len(audio) - length)
        return audio[start : start + length]

    @staticmethod
    def text(number: int) -> str:
        return f"This is recording number {number}."

    async def __call__(self, asked: Asked) -> str:
        if asked.audio not in self._numbers:
            self._numbers[asked.audio] = await asyncio.to_thread(self._find, asked)
        return self.text(self._numbers[asked.audio])

    def _find(self, asked: Asked) -> int:
        """The recording of which an upload is: silence at its ends may be gone, and it was encoded."""
        assert asked.bands is not None
        frames = len(asked.bands)
        best, likeness = -1, 0.0
        for number in sorted(range(self.count), key=lambda number: abs(len(self._bands[number]) - frames)):
            found, _ = place(asked.bands, self._bands[number])
            if found > likeness:
                best, likeness = number, found
            if likeness > SURELY:
                break
        assert likeness > 0.85, "nobody knows this upload"
        return best

    def expect_right(self, out: Path) -> None:
        """Every recording has its own transcript."""
        rows = pd.read_parquet(out / "report" / "files.parquet")
        assert dict(zip(rows["file_name"], rows["text"], strict=True)) == {
            f"{number:03}.flac": self.text(number) for number in range(self.count)
        }
        assert set(rows["status"]) == {"succeeded"}


def mixed(call: Call, asked: Counter[str], bad: Counter[str]) -> Fault | None:
    """A fault for about every third request. It follows from what is heard and how often it has come."""
    if call.endpoint != "transcriptions":
        return None
    audio = str(call.audio)
    asked[audio] += 1
    chance = Random(f"{SEED} {audio} {asked[audio]}")
    if chance.random() >= FAULTY:
        return None
    fault = chance.choice(chance.choice([HARMLESS, BAD_ANSWERS, LOST, REFUSALS]))
    if fault in BAD_ANSWERS:
        bad[audio] += 1
        if bad[audio] > MOST_BAD:
            return None
    return fault


@contextmanager
def started(collection: Collection, out: Path, server: SpeechServer, *more: object) -> Iterator[psutil.Popen]:
    """`trax-ray batch` against the server, with a Ray of its own."""
    own = [sys.executable, "-m", "trax_ray", "batch", str(collection.folder), "-o", str(out), "--lean", "--quiet"]
    own += ["--base-url", server.url, "--model", "whisper-1", "--workers", str(IN_FLIGHT), *map(str, more)]
    with own_ray(out.parent) as environ, (out.parent / "stderr").open("w") as stderr:
        process = psutil.Popen(own, stdout=subprocess.DEVNULL, stderr=stderr, env=environ | {"OPENAI_API_KEY": KEY})
        try:
            yield process
        finally:
            if process.is_running():
                for each in [process, *process.children(recursive=True)]:
                    each.kill()
                process.wait(timeout=10)


def ended(process: psutil.Popen, out: Path) -> None:
    """Wait until the command has done all of it."""
    code = process.wait(timeout=500)
    assert code == 0, (out.parent / "stderr").read_text()[-3000:]
    assert not check(out, ended=True).problems


def test_500_files_under_faults_are_right_and_paid_once(
    samples: Path, tmp_path: Path, record: Callable[..., None]
) -> None:
    collection, out = Collection(tmp_path / "in", samples / "stories" / "the_river.ogg", FILES), tmp_path / "out"
    asked: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    with SpeechServer(
        collection, faults=lambda call: mixed(call, asked, bad), limits=Limits(delay_s=(0.1, 0.5))
    ) as server:
        own = ("--max-cost", 100, "--max-retries", 8, "--task-timeout", TASK_TIMEOUT_S)
        with started(collection, out, server, *own) as process:
            ended(process, out)
        entries = server.ledger.of("transcriptions")
    collection.expect_right(out)

    harmless = {fault.name for fault in HARMLESS}
    ordered = [entry for entry in entries if entry.fault]
    wasted = [entry for entry in ordered if entry.paid and entry.fault not in harmless]
    paid = sum(entry.paid for entry in entries)
    assert 0.25 < len(ordered) / len(entries) < 0.35
    assert {entry.fault for entry in ordered} == {
        fault.name for fault in [*HARMLESS, *BAD_ANSWERS, *LOST, *REFUSALS]
    }, "each fault came"
    assert paid <= FILES + len(wasted) + 0.02 * FILES

    requests = [each for each in read_history(out).attempts if "/" in each.task_id]
    assert len(requests) == len(entries), "each request is an attempt of the journal"
    good = [entry for entry in entries if entry.completed and entry.fault in {None, *harmless}]
    assert len([each for each in requests if each.outcome == "succeeded"]) == len(good) == FILES

    # What broke off may have been worked on, so it counts as spent; the server knows what was.
    unpaid = [entry for entry in ordered if not entry.paid and entry.fault in {"hang", "cut before", "html"}]
    run = json.loads((out / "report" / "run.json").read_text())
    spent = sum(entry.usd for entry in entries)
    at_most = spent + sum(PRICES.cost_usd("whisper-1", None, entry.audio_s, 0.0) or 0.0 for entry in unpaid)
    assert run["cost_usd"] == pytest.approx(at_most, abs=0.0002 * len(unpaid))
    found = (
        f"{len(entries)} requests, {len(ordered)} of them with one of 18 faults; all {FILES} right; {paid} paid: "
        f"{paid - len(wasted)} needed, {len(wasted)} for answers that faults took; {run['cost_usd']:.3f} $ in the "
        f"report, {spent:.3f} $ in the server's ledger, the rest for requests of which nobody heard again"
    )
    record(what=f"{FILES} files, a service with 30 % faults", runs=1, seeds=str(SEED), found=found)


LET_THROUGH = 60


def answered(out: Path) -> int:
    """Requests that have succeeded, as the journal says."""
    try:
        attempts = read_history(out).attempts
    except FileError:  # nobody has begun
        return 0
    return sum("/" in each.task_id and each.outcome == "succeeded" for each in attempts)


class Gate:
    """Lets the first requests through and holds the others until it is opened."""

    def __init__(self, collection: Collection, through: int) -> None:
        self._collection = collection
        self._through = through
        self.opened = threading.Event()

    async def __call__(self, asked: Asked) -> str:
        while asked.number > self._through and not self.opened.is_set():
            await asyncio.sleep(0.02)
        return await self._collection(asked)


def test_a_lane_is_killed_with_64_requests_in_flight(
    samples: Path, tmp_path: Path, record: Callable[..., None]
) -> None:
    count = 160
    collection, out = Collection(tmp_path / "in", samples / "stories" / "the_river.ogg", count), tmp_path / "out"
    gate = Gate(collection, through=LET_THROUGH)  # until so many may be asked for at the same time
    with SpeechServer(gate) as server:
        with started(collection, out, server) as process:
            # What was answered has to have been committed, too, or its lane dies with it.
            until(lambda: answered(out) == LET_THROUGH, what="the answers that were let through")
            until(lambda: server.ledger.in_flight == IN_FLIGHT, what=f"{IN_FLIGHT} requests in flight")
            lanes = [each for each in process.children(recursive=True) if each.name().startswith("ray::Lane")]
            assert len(lanes) == 1
            killed_at = datetime.now(UTC)
            lanes[0].kill()
            lanes[0].wait()
            gone_at = datetime.now(UTC)
            gate.opened.set()
            ended(process, out)
        ledger = server.ledger
    collection.expect_right(out)
    again = ledger.paid_again()
    assert set(again.values()) <= {2}
    assert len(again) <= IN_FLIGHT
    under_way = [entry for entry in ledger.of("transcriptions") if entry.ended_at and entry.ended_at >= killed_at]
    assert set(again) <= {entry.audio for entry in under_way if entry.at <= gone_at}
    history = read_history(out)
    assert {each.state.value for each in history.state.records.values()} == {"succeeded"}
    assert all(each.spent == 0 for each in history.state.records.values()), "nobody is blamed"
    found = f"all {count} right; {len(again)} requests paid twice, all of them in flight then; no retry spent"
    record(what=f"kill -9 of a lane with {IN_FLIGHT} requests in flight", runs=1, seeds=str(SEED), found=found)
