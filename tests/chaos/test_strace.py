"""A real process on a real disk whose system calls fail, or that is killed inside of them: strace puts the faults in.

The unit tests stop every step of the store inside of Python; this shows that the steps are the ones the kernel sees.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from trax_ray.store.artifacts import ArtifactStore
from trax_ray.store.epochs import read_chain
from trax_ray.store.writing import is_leftover

pytestmark = pytest.mark.timeout(600)

PROGRAM = """
import sys
from pathlib import Path
from trax_ray.errors import DiskFull, TraxRayError
from trax_ray.store.artifacts import ArtifactStore
from trax_ray.store.epochs import open_journal

out, told, status, appending = Path(sys.argv[1]), [], 0, False
try:
    opened = open_journal(out / "journal", "strace", 0.0)
    store = ArtifactStore(out / "artifacts")
    for number in range(2):
        key = f"{number:064x}"
        store.put(key, {"number": number})
        told.append(key)
        appending = True
        opened.append([{"key": key}, {"end": key}])
        appending = False
        told.append(number)
except TraxRayError as error:
    status = 4 if isinstance(error, DiskFull) else 5
    if appending:
        try:
            opened.append([{"key": "after a failure"}])
            status = 6
        except TraxRayError:
            pass
print(*told)
sys.exit(status)
"""

_CALL = re.compile(r"(?P<name>fsync|write|openat|close|link|rename)\((?P<fd>\d+)?.*?\) *= (?P<result>-?\d+)")


def needs(name: str, reason: str) -> str:
    """The path of a program; skips, and says why, where it isn't there or may not do its work."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name} here, and so it isn't shown that {reason}: apt-get install {name}")
    done = subprocess.run([path, "-f", "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1:]
        pytest.skip(f"{name} may not trace here ({why}), and so it isn't shown that {reason}")
    return path


@pytest.fixture(scope="module")
def strace() -> str:
    return needs("strace", "the store survives system calls that fail")


@dataclass(frozen=True)
class Run:
    """What a traced run came to.

    Args:
        status: Its exit code; negative where a signal ended it.
        told: What it said is on the disk: keys of artifacts, numbers of groups.
        calls: Name, descriptor (None without) and result (negative for errors) of each system call, in order.
    """

    status: int
    told: list[str]
    calls: list[tuple[str, int | None, int]]

    def numbers(self, name: str) -> list[int]:
        """Which calls of a name, counted from 1, went to files of the store."""
        found = [fd for called, fd, _ in self.calls if called == name]
        return [number for number, fd in enumerate(found, start=1) if fd is None or fd > 2]


def trace(strace: str, out: Path, fault: str = "") -> Run:
    """Run the program with a fault in it."""
    log = out.with_suffix(".log")
    command = [strace, "-f", "-qq", "-o", str(log), "-e", "trace=fsync,write,openat,close,link,rename"]
    command += ["-e", f"inject={fault}"] if fault else []
    done = subprocess.run(
        [*command, sys.executable, "-c", PROGRAM, str(out)], capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stderr
    calls = [
        (call["name"], int(call["fd"]) if call["fd"] else None, int(call["result"]))
        for call in _CALL.finditer(log.read_text())
    ]
    return Run(done.returncode, done.stdout.split(), calls)


def retried(run: Run) -> Iterator[int]:
    """Descriptors that were synced again after a failed fsync."""
    failed = set()
    for name, fd, result in run.calls:
        if name == "close" or (name == "openat" and result in failed):
            failed.discard(result if name == "openat" else fd)
        elif name == "fsync":
            if fd in failed:
                yield fd or 0
            if result < 0:
                failed.add(fd)


def check(out: Path, told: list[str]) -> None:
    """What is there is whole, and what was acknowledged is there."""
    store = ArtifactStore(out / "artifacts")
    for number in range(2):
        key = f"{number:064x}"
        payload = store.get(key)
        assert payload == {"number": number} or (payload is None and key not in told)
    assert not list(out.rglob("*.bad-*"))
    records = [json.dumps(record) for record in read_chain(out / "journal")]
    whole = [json.dumps({name: f"{number:064x}"}) for number in range(2) for name in ("key", "end")]
    assert records == whole[: len(records)]
    assert len(records) % 2 == 0
    assert len(records) // 2 >= sum(1 for each in told if len(each) == 1)


@pytest.fixture(scope="module")
def good(strace: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run without a fault: how many calls there are."""
    out = tmp_path_factory.mktemp("good") / "out"
    run = trace(strace, out)
    assert run.status == 0
    assert len(run.told) == 4
    check(out, run.told)
    assert len(run.numbers("fsync")) >= 10
    assert len(run.numbers("write")) >= 5
    return run


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("name", ["fsync", "write", "link"])
def test_a_system_call_fails(
    strace: str, good: Run, tmp_path: Path, record: Callable[..., None], name: str, error: str
) -> None:
    numbers = good.numbers(name)
    for number in numbers:
        out = tmp_path / str(number)
        run = trace(strace, out, f"{name}:error={error}:when={number}")
        assert run.status == (4 if error == "ENOSPC" else 5), f"{name} {number}"
        assert not list(retried(run)), f"{name} {number}"
        check(out, run.told)
        assert not [path for path in out.rglob("*") if is_leftover(path.name)]
        again = trace(strace, out)
        assert again.status == 0
        check_again(out)
    found = "what was told is there, nothing half, no leftovers, no fsync tried again; the same once more completes it"
    record(what=f"strace: {name} gives {error}, each of them once", runs=len(numbers), seeds="", found=found)


@pytest.mark.parametrize("name", ["fsync", "write", "link"])
def test_killed_inside_of_a_system_call(
    strace: str, good: Run, tmp_path: Path, record: Callable[..., None], name: str
) -> None:
    numbers = good.numbers(name)
    for number in numbers:
        out = tmp_path / str(number)
        run = trace(strace, out, f"{name}:signal=KILL:when={number}")
        assert run.status not in (0, 4, 5)
        check(out, run.told)
        assert trace(strace, out).status == 0
        check_again(out)
    found = "what was told is there, nothing half; the same once more completes it"
    record(what=f"strace: killed in {name}, in each of them once", runs=len(numbers), seeds="", found=found)


def check_again(out: Path) -> None:
    """After the same run once more: all of it is there, behind what the first one left."""
    store = ArtifactStore(out / "artifacts")
    assert [store.get(f"{number:064x}") for number in range(2)] == [{"number": 0}, {"number": 1}]
    assert [record.get("end") for record in read_chain(out / "journal")][-4:] == [None, f"{0:064x}", None, f"{1:064x}"]
