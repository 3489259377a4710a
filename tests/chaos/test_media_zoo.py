"""The zoo: every hostile or odd file does what `docs/media.md` says, alone, watched, and in a batch among others."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.in_process import run_batch
from tests.support.zoo.animals import SPECIMENS
from tests.support.zoo.bench import Bench, Missing
from tests.support.zoo.measure import LIMIT_S, MEMORY_MB, measured
from tests.support.zoo.table import read_table, shown_name
from trax_ray.core.spec import BatchSpec
from trax_ray.kinds import chunk as chunking

TABLE = read_table()


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files that can be made here, by their names in the table."""
    bench = Bench(tmp_path_factory.mktemp("zoo"), tmp_path_factory.mktemp("scratch"))
    made = {}
    for specimen in (each for group in SPECIMENS.values() for each in group):
        try:
            made[shown_name(specimen.name)] = specimen.put(bench)
        except Missing:
            continue
    return made


def test_the_table_has_every_specimen() -> None:
    names = [shown_name(each.name) for group in SPECIMENS.values() for each in group]
    assert len(names) == len(set(names)) >= 80
    assert set(names) == set(TABLE)


@pytest.mark.timeout(1200)
def test_each_file_does_what_the_page_says(
    zoo: dict[str, Path], tmp_path: Path, record: Callable[[str, int, str, str], None]
) -> None:
    if shutil.which("strace") is None:
        pytest.skip("the program strace isn't installed")
    log = tmp_path / "network.log"
    by_path = {path: name for name, path in zoo.items()}
    wrong = []
    for path, found in measured(list(zoo.values()), log):
        outcome, length_s, warnings = TABLE[by_path[path]]
        same_length = length_s is None or abs(found.length_s - length_s) < 0.25
        if (found.outcome, found.warnings) != (outcome, warnings) or not same_length:
            wrong.append((by_path[path], found))
        assert found.seconds < LIMIT_S, (by_path[path], found)
        assert found.peak_mb < MEMORY_MB, (by_path[path], found)
    assert not wrong
    calls = [line for line in log.read_text().splitlines() if "AF_INET" in line]
    assert not calls, "nothing asks the network"
    record("hostile and odd media", len(zoo), "", "each with its class and warnings, no network call")


class Deaf:
    """An engine that recognises nothing."""

    name = "deaf"
    model = "tiny.en"
    language: str | None = "en"

    def transcribe(self, audio: Any, speech: Any, options: Any) -> list[Any]:
        return []


@pytest.mark.timeout(1200)
def test_a_batch_of_them_all_ends(zoo: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking, "_engine", lambda model, resources: Deaf())
    some = [path for name, path in zoo.items() if name not in ("silent-20-min.flac", "sparse-3-gb.wav")]
    ended = run_batch(some, BatchSpec(str(tmp_path / "out"), model="tiny.en", formats=("txt",)))
    assert ended.plan is not None
    told = ended.codes()
    wanted = {entry.name: TABLE[shown_name(Path(entry.path).name)][0] for entry in ended.plan.recordings}
    wanted["socket.ogg"] = "unreadable"  # it is opened for its hash first
    assert {name: told.get(name, "heard") for name in wanted} == wanted
    written = [path for path in tmp_path.rglob("*") if path.is_file() and tmp_path / "out" not in path.parents]
    assert not written
