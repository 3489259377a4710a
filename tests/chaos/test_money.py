"""Money from outside: what a server was paid, beside the report and the cap, over runs that are broken off."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import soundfile
from batch_program import own_ray, until

from tests.support.speech_server import KEY, Limits, SpeechServer, constant
from tests.support.speech_server.ledger import Entry
from trax_ray.media.decode import stream
from trax_ray.media.speech import SAMPLE_RATE_HZ
from trax_ray.testing.history import check

pytestmark = pytest.mark.timeout(600)

CLIPS = 24
CLIP_S = 4.0
WORKERS = 3
ANSWER_S = (1.0, 2.5)
"""How long an answer takes: long enough to be under way when something happens, and shorter than the grace period."""

CAP_USD = 0.0062
"""For fifteen clips or so."""

SMALL_USD = 1e-5
"""Figures are rounded, clip by clip."""

Record = Callable[..., None]


@pytest.fixture(scope="module")
def clips(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short recordings, each of another piece of a story."""
    folder = tmp_path_factory.mktemp("clips")
    with stream(samples / "stories" / "the_river.ogg") as blocks:
        audio = blocks.rest()
    length = int(CLIP_S * SAMPLE_RATE_HZ)
    for number in range(CLIPS):
        soundfile.write(folder / f"{number:02}.flac", audio[number * length : (number + 1) * length], SAMPLE_RATE_HZ)
    return folder


class Money:
    """Runs over one output folder, and the server that they ask."""

    def __init__(self, clips: Path, folder: Path, server: SpeechServer) -> None:
        self.out = folder / "out"
        self._folder = folder
        self._server = server
        self._command = [sys.executable, "-m", "trax_ray", "batch", str(clips), "-o", str(self.out), "--lean", "-q"]
        self._command += ["--base-url", server.url, "--model", "whisper-1", "-f", "txt", "--workers", str(WORKERS)]
        self._command += ["--max-cost", str(CAP_USD)]

    @contextmanager
    def running(self) -> Iterator[psutil.Popen]:
        """The command, with a Ray of its own; nothing is left of it."""
        until(lambda: self._server.ledger.in_flight == 0, what="the end of what an earlier run asked for")
        with own_ray(self._folder) as environ, (self._folder / "stderr").open("a") as stderr:
            environ = environ | {"OPENAI_API_KEY": KEY}
            process = psutil.Popen(self._command, stdout=subprocess.DEVNULL, stderr=stderr, env=environ)
            try:
                yield process
            finally:
                kill_tree(process)

    @property
    def requests(self) -> list[Entry]:
        """What the server was asked."""
        return self._server.ledger.of("transcriptions")

    def under_way(self, process: psutil.Popen, count: int = 1) -> bool:
        """Wait until so many requests are under way; False where the batch ended before that."""

        def seen() -> bool:
            return self._server.ledger.in_flight >= count or not process.is_running() or process.status() == "zombie"

        until(seen, what=f"{count} requests under way")
        return self._server.ledger.in_flight >= count

    def to_its_end(self) -> int:
        """Run it undisturbed; the exit code."""
        with self.running() as process:
            return int(process.wait(timeout=300))

    def expect_kept_to(self) -> str:
        """The server was paid no more than the report says, and that is no more than the cap."""
        paid = sum(each.usd for each in self.requests)
        said = json.loads((self.out / "report" / "run.json").read_text())["cost_usd"]
        assert paid <= said + SMALL_USD, "all that was paid is in the report"
        assert said <= CAP_USD + SMALL_USD, "and that keeps to the cap"
        assert not check(self.out, ended=False).problems
        assert len(list(self.out.glob("*.txt"))) < CLIPS, "the money sufficed for some"
        sums = f"{paid:.4f} $ in the server's ledger, {said:.4f} $ in the report, cap {CAP_USD} $"
        return f"{len(self.requests)} requests; {sums}"


def kill_tree(process: psutil.Popen) -> None:
    """End a process and all below it at once."""
    if not process.is_running():
        return
    for each in [process, *process.children(recursive=True)]:
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait(timeout=10)


@pytest.fixture
def money(clips: Path, tmp_path: Path) -> Iterator[Money]:
    with SpeechServer(constant("The river runs."), limits=Limits(delay_s=ANSWER_S)) as server:
        yield Money(clips, tmp_path, server)


def test_five_times_ctrl_c_and_the_same_command_again(money: Money, record: Record) -> None:
    stopped = 0
    for _ in range(5):
        with money.running() as process:
            if money.under_way(process):
                process.send_signal(signal.SIGINT)
                assert process.wait(timeout=60) == 130
                stopped += 1
    assert stopped >= 3
    assert all(each.completed for each in money.requests if each.paid), "no paid answer was thrown away"
    assert money.to_its_end() == 3
    heard = [each.audio for each in money.requests if each.paid]
    assert len(heard) == len(set(heard)), "nothing was paid twice"
    record(
        what="Ctrl-C with paid requests under way, again and again",
        runs=stopped + 1,
        seeds="",
        found=money.expect_kept_to(),
    )


def test_four_times_kill_9_of_all_of_it(money: Money, record: Record) -> None:
    killed = 0
    for _ in range(4):
        with money.running() as process:
            if money.under_way(process, WORKERS):
                kill_tree(process)
                killed += 1
    assert killed >= 2
    assert money.to_its_end() == 3
    record(
        what="kill -9 of everything with paid requests under way",
        runs=killed + 1,
        seeds="",
        found=money.expect_kept_to(),
    )


def test_a_killed_lane_and_ctrl_c(money: Money, record: Record) -> None:
    with money.running() as process:
        assert money.under_way(process, WORKERS)
        lanes = [each for each in process.children(recursive=True) if each.name().startswith("ray::Lane")]
        assert len(lanes) == 1
        before = len(money.requests)
        lanes[0].kill()
        until(lambda: len(money.requests) > before, what="a request that is made again alone")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    assert money.to_its_end() == 3
    record(what="kill -9 of a lane, then Ctrl-C", runs=2, seeds="", found=money.expect_kept_to())
