"""kill -9 while windows of a long transcript are enhanced: those that were answered are asked, and paid, once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from batch_program import own_ray, until

from tests.support.chat import punctuating, segments_of, slow
from tests.support.speech_server import KEY, SpeechServer

pytestmark = pytest.mark.timeout(600)

SEGMENTS = 400
WORKERS = 3

Record = Callable[..., None]


def test_only_windows_in_flight_are_paid_again(tmp_path: Path, record: Record) -> None:
    path, out = tmp_path / "talk.json", tmp_path / "out"
    lines = [" ".join(f"word{(number * 7 + place) % 97}" for place in range(12)) for number in range(SEGMENTS)]
    segments = [{"start": 5.0 * number, "end": 5.0 * number + 4, "text": line} for number, line in enumerate(lines)]
    path.write_text(json.dumps({"language": "en", "segments": segments}))
    with SpeechServer(chat=slow(punctuating, 400.0, 1.0)) as server:
        command = [sys.executable, "-m", "trax_ray", "batch", str(path), "--task", "enhance", "-o", str(out), "-q"]
        command += ["--enhance-base-url", server.url, "--enhance-model", "deepseek-flash", "--lean"]
        command += ["--workers", str(WORKERS)]
        killed = 0
        for wanted in (3, 7):
            with own_ray(tmp_path) as environ:
                process = psutil.Popen(command, env=environ | {"ENHANCE_API_KEY": KEY})
                until(lambda n=wanted: sum(e.completed for e in server.ledger.of("chat")) >= n, what="some answers")
                for each in [process, *process.children(recursive=True)]:
                    each.kill()
                process.wait(timeout=10)
                killed += 1
        with own_ray(tmp_path) as environ:
            done = subprocess.run(command, env=environ | {"ENHANCE_API_KEY": KEY}, timeout=300, check=False)
        assert done.returncode == 0
        entries = server.ledger.of("chat")
    asked = Counter(min(segments_of({"messages": entry.messages})) for entry in entries if entry.paid)
    again = sum(count - 1 for count in asked.values())
    assert again <= killed * WORKERS, "no more than what was in flight"
    said = (out / "talk.enhanced.txt").read_text().replace(".", " ").casefold().split()
    assert said == " ".join(lines).split()
    record(what="kill -9 while windows are enhanced", runs=killed + 1, seeds="", found=f"{again} of {len(asked)} again")
