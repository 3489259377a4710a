"""Output folders of version 0.1 are continued: nothing is done or paid for twice, and the report says the same."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from older_folders import Folder, restored

from tests.support.speech_server import KEY, SpeechServer, constant
from trax_ray.cluster.connect import Connection
from trax_ray.report.fold import read_history
from trax_ray.testing.history import check

PORT = 28571
"""Where the server was; its address is part of what names its models."""


def rows(out: Path, table: str) -> list[dict[str, Any]]:
    """A table's rows as they are kept."""
    frame = pd.read_parquet(out / "report" / f"{table}.parquet")
    binary = [name for name in frame if frame[name].dtype == object and frame[name].map(type).eq(bytes).any()]
    frame = frame.drop(columns=binary)
    for name in frame.select_dtypes(include="datetimetz"):
        frame[name] = [None if pd.isna(each) else each.value // 1000 for each in frame[name]]
    found: list[dict[str, Any]] = json.loads(frame.to_json(orient="records"))
    return found


def expect_same_report(folder: Folder) -> None:
    """Each row and column that was there has its value; there may be more columns."""
    for table in ("files", "tasks", "attempts", "segments"):
        for row, kept in zip(rows(folder.out, table), folder.report[table], strict=True):
            # What failed because another step did is looked at in each run, with what models ask for now, and fails.
            failed = "failed" in (row.get("status"), row.get("state"))
            same = [name for name in kept if not failed or name not in ("ended_at", "memory_mb")]
            assert {name: row[name] for name in same} == {name: kept[name] for name in same}, table


def test_a_finished_one_has_nothing_to_do(head: Connection, samples: Path) -> None:
    with restored("finished") as folder:
        folder.put(samples / "stories" / "the_letter.ogg", samples / "talks" / "weather.ogg")
        (folder.root / "in" / "broken.mp3").write_bytes(b"no audio" * 9)
        folder.settle()
        made = len(read_history(folder.out).attempts)
        assert (
            folder.continue_batch(
                str(folder.root / "in"), "--model", "tiny.en", "--preprocess", "-f", "txt,srt", address=head.address
            )
            == 1
        )
        assert len(read_history(folder.out).attempts) == made
        expect_same_report(folder)


@pytest.mark.long
def test_one_of_a_manifest_has_nothing_to_do(head: Connection, samples: Path) -> None:
    with restored("manifest") as folder:
        folder.put(samples / "stories" / "the_letter.ogg", samples / "talks" / "weather.ogg")
        table = folder.root / "in" / "talks.csv"
        table.write_text("file_name,priority,prompt,shelf\nweather.ogg,4,Weather.,A7\nthe_letter.ogg,0,,B2\n")
        folder.settle()
        made = len(read_history(folder.out).attempts)
        assert folder.continue_batch(str(table), "--model", "tiny.en", "-f", "txt,json", address=head.address) == 0
        assert len(read_history(folder.out).attempts) == made
        expect_same_report(folder)


@pytest.mark.long
def test_a_half_finished_one_does_the_chunks_that_are_missing(head: Connection, samples: Path) -> None:
    with restored("half_finished") as folder:
        folder.put(samples / "stories" / "the_river.ogg")
        before = Counter(each.task_id for each in read_history(folder.out).attempts if each.outcome == "succeeded")
        own = ("--model", "tiny.en", "--chunk-size", "20", "--workers", "1", "-f", "txt")
        assert folder.continue_batch(str(folder.root / "in"), *own, address=head.address) == 0
        history = check(folder.out, ended=True)
        assert not history.problems
        after = Counter(each.task_id for each in read_history(folder.out).attempts if each.outcome == "succeeded")
        assert 0 < len(before) < len(after)
        assert set(after.values()) == {1}, "no chunk was done twice"
        assert "river" in (folder.out / "the_river.txt").read_text()


@pytest.mark.long
def test_a_parked_one_pays_only_for_what_is_missing(head: Connection, samples: Path) -> None:
    with restored("parked") as folder:
        folder.put(samples / "stories" / "the_river.ogg")
        requests = [each for each in read_history(folder.out).state.records.values() if each.task.parent]
        paid = [each for each in requests if each.state.value == "succeeded"]
        assert 0 < len(paid) < len(requests)
        own = ("--model", "whisper-1", "--chunk-size", "20", "--workers", "1", "-f", "txt,json")
        with SpeechServer(constant("The river runs."), port=PORT) as server:
            base = ("--base-url", server.url, "--max-cost", "1")
            assert folder.continue_batch(str(folder.root / "in"), *own, *base, address=head.address, key=KEY) == 0
            sums = server.ledger.sums
        assert (sums.received, sums.paid) == (len(requests) - len(paid),) * 2
        run = json.loads((folder.out / "report" / "run.json").read_text())
        assert run["cost_usd"] == pytest.approx(folder.report["run"]["cost_usd"] + sums.usd, abs=1e-4)
        assert (folder.out / "the_river.txt").read_text().split() == ["The", "river", "runs."] * len(requests)
