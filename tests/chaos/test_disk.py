"""A disk that is full stops the batch and loses nothing."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from batch_program import Batch, artifacts, outputs, until

from trax_ray.core.task import TaskState
from trax_ray.testing.factories import make_task

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs root, to mount a small disk"),
]

SMALL, LARGE = "1m", "64m"

COUNT = 40
ARTIFACT_BYTES = 24_000
"""So that the artifacts and outputs of about half of the tasks fit, beside the journal."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"can't mount a small disk: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_stops_the_batch_and_the_same_command_completes_it(
    tmp_path: Path, disk: Path, record: Callable[..., None]
) -> None:
    """Artifacts fill it, as far as they fit."""
    tasks = [make_task(f"t{number:02}", script=["commit"], bytes=ARTIFACT_BYTES) for number in range(COUNT)]
    with Batch(tmp_path, tasks, out=disk / "out") as batch:
        code = batch.run()
        said = stopped(batch, code)
        finished, before = batch.succeeded(), artifacts(batch.out)
        assert 0 < len(finished) < COUNT
        subprocess.run(["mount", "-o", f"remount,size={LARGE}", disk], check=True)
        completed(batch, finished, before)
    found = f"exit code 3 after {len(finished)} of {COUNT} tasks, none failed ({said}); with more room the rest"
    record(what="artifacts fill a disk of 1 MB", runs=1, seeds="", found=found)


def test_a_disk_that_is_full_to_the_last_byte_takes_nothing_with_it(
    tmp_path: Path, disk: Path, record: Callable[..., None]
) -> None:
    """Somebody else fills it while attempts run: neither artifacts nor journal nor report can be written."""
    gate = tmp_path / "gate"
    tasks = [make_task(f"t{number:02}", script=["commit"]) for number in range(4)]
    tasks += [
        make_task(f"t{number:02}", script=[[f"hold:{gate}", "commit"]], bytes=ARTIFACT_BYTES, priority=1)
        for number in range(4, 10)
    ]
    with Batch(tmp_path, tasks, out=disk / "out") as batch:
        batch.start()
        until(lambda: len(batch.succeeded()) == 4 and len(batch.attempts()) > 5, what="the tasks of which some wait")
        finished, before = batch.succeeded(), artifacts(batch.out)
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"x" * 4096):
                pass
        gate.touch()
        said = stopped(batch, batch.wait())
        filler.unlink()
        completed(batch, finished, before)
    found = f"exit code 3, none failed ({said}); with more room the rest"
    record(what="somebody else fills the disk to the last byte", runs=1, seeds="", found=found)


def stopped(batch: Batch, code: int) -> str:
    """The batch ended as it should on a full disk; what it said of that."""
    assert code == 3, batch.stderr
    assert "No space left" in batch.stderr
    assert "this continues" in batch.stderr or "the same command" in batch.stderr
    assert not batch.findings(ended=False).problems
    assert not [each for each in batch.history().state.records.values() if each.state is TaskState.FAILED]
    line = next(line for line in batch.stderr.splitlines() if "No space left" in line)
    return re.sub(r"/\S*/", "", line.partition("trax-ray: ")[2])[:160]


def completed(batch: Batch, finished: set[str], before: dict[str, tuple[int, bytes]]) -> None:
    """The same command does the rest, and nothing of what was finished."""
    assert batch.run() == 0, batch.stderr
    assert not batch.findings().problems
    records = batch.history().state.records
    successes = Counter(each.task_id for each in batch.history().attempts if each.outcome == "succeeded")
    assert successes == dict.fromkeys(records, 1)
    assert {path: artifacts(batch.out)[path] for path in before} == before
    assert len(artifacts(batch.out)) == len(outputs(batch.out)) == len(records)
    assert all(each.spent == 0 for each in records.values()), "a retry was spent on it"
    assert not [each.task_id for each in batch.attempts() if each.epoch > 1 and each.task_id in finished]
