"""Things are killed, again and again, and nothing is lost or done twice. Minutes; not part of `make test`."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from trax_ray.report.fold import read_history

pytestmark = pytest.mark.timeout(900)

KILLS = 5


def command(samples: Path, out: Path) -> list[str]:
    own = [sys.executable, "-m", "trax_ray", "batch", str(samples), "-o", str(out)]
    return [*own, "--model", "pocketsphinx", "--lean", "--quiet", "--chunk-size", "30"]


def artifacts(out: Path) -> dict[str, int]:
    """Committed results: inode by path."""
    return {
        str(path.relative_to(out)): path.stat().st_ino
        for path in (out / ".trax" / "artifacts").rglob("*.json")
        if not path.name.startswith(".tmp-")
    }


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_any_moment_until_it_gets_through(
    samples: Path, tmp_path: Path, seed: int, record: Callable[..., None]
) -> None:
    out = tmp_path / "out"
    chance = random.Random(seed)
    kept: dict[str, int] = {}
    for _ in range(KILLS):
        driver = psutil.Popen(command(samples, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(8.0, 16.0))
        family = [driver, *driver.children(recursive=True)]
        for process in family:
            process.kill()
        psutil.wait_procs(family, timeout=20)
        now = artifacts(out)
        assert {path: now.get(path) for path in kept} == kept, "a committed result was lost or written again"
        kept = now
    done = subprocess.run(command(samples, out), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    now = artifacts(out)
    assert {path: now.get(path) for path in kept} == kept
    history = read_history(out)
    succeeded = Counter(attempt.task_id for attempt in history.attempts if attempt.outcome == "succeeded")
    assert set(succeeded.values()) == {1}
    assert len([name for name in history.state.records if "/" not in name]) == 14
    found = f"{len(succeeded)} tasks succeeded, each once; no result lost or written again"
    record(what="kill -9 of everything at random moments, real recognition", runs=KILLS, seeds=str(seed), found=found)
