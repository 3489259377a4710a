"""`trax-ray batch` and what ends its processes: signals to all of them, a lost Ray, `kill -9` of one of the two."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import psutil
import pytest
from batch_program import Command, own_ray, until

from tests.conftest import ROOT
from tests.support.gcs import serving

pytestmark = pytest.mark.timeout(900)

SEED = 9
MOMENTS = 10
START_S = (0.3, 15.0)
WORK_S = (0.0, 3.0)
"""Between which times the moments are: every other one after the command's start, the others after it is at work."""

GONE_S = 5.0
LOST_S = 40.0
"""Ray gives a lost head some time to come back before it ends the driver."""


def test_sigterm_to_the_whole_group_at_ten_moments_is_a_stop_as_any_other(
    samples: Path, tmp_path: Path, record: Callable[..., None]
) -> None:
    chance = random.Random(SEED)
    took: list[float] = []
    for number in range(MOMENTS):
        folder = tmp_path / str(number)
        folder.mkdir()
        with Command(samples, folder) as command:
            if number % 2:
                command.until_at_work()
            until_s = time.monotonic() + chance.uniform(*(WORK_S if number % 2 else START_S))
            while time.monotonic() < until_s:
                command.look()
                time.sleep(0.1)
            gone_s = command.signalled(signal.SIGTERM, group=True)
            _, stderr = command.process.communicate(timeout=10)
            assert command.process.returncode == 130, stderr
            assert "this continues: trax-ray " in stderr
            assert number % 2 == 0 or (command.out / "report" / "run.json").exists()
            took.append(gone_s)
    assert median(took) < GONE_S, took  # a machine that others use too is late now and then
    found = (
        f"exit code 130 each time, the report written; after {median(took):.1f} s, {max(took):.1f} at most, all gone"
    )
    record(what="SIGTERM to the process group", runs=MOMENTS, seeds=str(SEED), found=found)


@pytest.mark.parametrize("victim", ["gcs_server", "raylet", "driver"])
def test_where_ray_or_the_driver_is_killed_it_says_what_continues(
    samples: Path, tmp_path: Path, record: Callable[..., None], victim: str
) -> None:
    with Command(samples, tmp_path) as command:
        command.until_at_work()
        command.look()
        driver = command.driver()
        found = [driver] if victim == "driver" else [each for each in driver.children() if each.name() == victim]
        found[0].kill()
        until(lambda: (command.look(), not command.left())[1], LOST_S, what="the end of all processes")
        _, stderr = command.process.communicate(timeout=10)
        assert command.process.returncode == 3, stderr
        assert "this continues: trax-ray batch " in stderr
        assert (command.out / "report" / "run.json").exists()
        done = command.again()
        assert done.returncode == 0, done.stderr
    record(what=f"kill -9 of the {victim} under the command line", runs=1, seeds="", found="exit code 3, continued")


def test_kill_9_of_the_command_ends_the_batch(samples: Path, tmp_path: Path, record: Callable[..., None]) -> None:
    with Command(samples, tmp_path) as command:
        command.until_at_work()
        command.look()
        driver = command.driver()
        os.kill(command.process.pid, signal.SIGKILL)
        until(lambda: not driver.is_running() or driver.status() == psutil.STATUS_ZOMBIE, 5, what="the driver's end")
        command.process.communicate(timeout=10)
        done = command.again()
        assert done.returncode == 0, done.stderr
        assert not command.left()
    record(what="kill -9 of the command", runs=1, seeds="", found="the batch ends with it; the same command continues")


def test_neither_python_files_among_recordings_nor_a_stale_note_of_a_head_disturb_it(
    samples: Path, tmp_path: Path, record: Callable[..., None]
) -> None:
    """Ray puts the driver's working folder in front of its workers' path, and joins whatever its note names."""
    talks, executed = tmp_path / "talks", tmp_path / "executed"
    talks.mkdir()
    shutil.copy(samples / "first_test.wav", talks)
    for name in ("av", "numpy", "psutil", "pyarrow", "pocketsphinx", "soundfile", "setproctitle", "typer"):
        (talks / f"{name}.py").write_text(
            f"open({str(executed)!r}, 'a').write(__name__)\nraise ImportError('planted')\n"
        )
    own = [sys.executable, "-m", "trax_ray", "batch", ".", "-o", str(tmp_path / "out"), "--lean"]
    with own_ray(tmp_path) as environ, serving(b"-ERR unknown command\r\n") as address:
        note = Path(environ["RAY_TMPDIR"], "ray", "ray_current_cluster")
        note.parent.mkdir()
        note.write_text(address)
        environ["PYTHONPATH"] = f":{ROOT}"
        done = subprocess.run(
            [*own, "--model", "pocketsphinx"], capture_output=True, text=True, cwd=talks, env=environ, timeout=300
        )
    assert done.returncode == 0, done.stderr
    assert not executed.exists()
    assert f"{address} was noted as a head of Ray, but what answers there isn't Ray" in done.stderr
    found = "nothing of it executed; the note is passed over, and said"
    record(what="Python files beside recordings, a stale note of a head", runs=1, seeds="", found=found)
