"""What earlier runs took: kept, bounded, and never trusted blindly."""

from __future__ import annotations

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trax_ray.core.policy.prediction import Observation
from trax_ray.experience import kept as experience


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))


def seen(at: float, *, kind: str = "transcribe", machine: str = "here") -> Observation:
    return Observation(kind, "base", machine, 60.0, 3.0, 512.0, at, "run")


def test_what_a_run_took_is_there_for_the_next_one() -> None:
    assert experience.recall() == ()
    experience.remember([seen(1.0), seen(2.0, machine="there")])
    experience.remember([seen(3.0)])
    assert [each.at for each in experience.recall()] == [1.0, 2.0, 3.0]
    assert experience.recall("here") == (seen(1.0), seen(3.0))


def test_it_stays_small_and_keeps_the_newest() -> None:
    experience.remember([seen(float(at)) for at in range(experience.MOST_OF_ONE + 50)])
    experience.remember([seen(1e6, kind=f"k{number}") for number in range(experience.MOST)])
    found = experience.recall()
    assert len(found) == experience.MOST
    assert experience.path().stat().st_size < 200_000
    assert [each for each in found if each.kind == "transcribe"] == []
    experience.path().unlink()
    experience.remember([seen(float(at)) for at in range(experience.MOST_OF_ONE + 50)])
    assert [each.at for each in experience.recall()] == [float(at) for at in range(50, experience.MOST_OF_ONE + 50)]


@pytest.mark.parametrize("what", ["damaged", "foreign", "empty", "folder", "other columns", "huge figures"])
def test_what_is_not_ours_is_passed_over_with_a_remark(what: str, caplog: pytest.LogCaptureFixture) -> None:
    file = experience.path()
    file.parent.mkdir(parents=True)
    if what == "damaged":
        experience.remember([seen(1.0)])
        file.write_bytes(file.read_bytes()[:-20])
    elif what == "foreign":
        pq.write_table(pa.table({"kind": ["x"]}), file)
    elif what == "empty":
        file.touch()
    elif what == "folder":
        file.mkdir()
    elif what == "other columns":
        pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({"trax_ray_experience": "1"}), file)
    else:
        experience.remember([Observation("transcribe", "base", "here", 60.0, 1e300, 0.0, 1.0, "r")])
    with caplog.at_level(logging.WARNING):
        assert experience.recall() == ()
    if what != "huge figures":
        assert "isn't used for predictions" in caplog.text
    experience.remember([seen(5.0)])
    assert experience.recall() == (() if what == "folder" else (seen(5.0),))


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    experience.remember([seen(1.0)])
    assert experience.recall() == ()


def test_this_machine_has_a_name_that_stays() -> None:
    assert experience.this_machine() == experience.this_machine()
    assert "cores" in experience.this_machine()
