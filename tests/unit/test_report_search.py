"""Search over what was said: what is found, how queries are read, and when the index is made anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_report_support import Batch, metrics, worked

from trax_ray.cli.results import show_hits
from trax_ray.core.state.events import InputsClosed, TasksAdded
from trax_ray.errors import FileError, UsageError
from trax_ray.report.search import Found, as_query, search
from trax_ray.report.write import write_report

SAID = {
    "river.mp3": [
        ("Anna", "The river rose in the night."),
        ("Ben", "Nobody in the old mill"),
        ("Ben", "house had heard the rain."),
    ],
    "station.mp3": [(None, "Am Bahnhof wartete Frau Müller, Ms. O'Neill and the Miller's dog.")],
    "tokyo.mp3": [(None, "東京の天気は晴れです。")],
    "silent.mp3": [],
}


def segments(said: list[tuple[str | None, str]]) -> list[dict[str, Any]]:
    return [
        {"start_s": 3661.0 * number, "end_s": 3661.0 * number + 2, "text": text, "speaker": speaker}
        for number, (speaker, text) in enumerate(said)
    ]


def tell(batch: Batch, said: dict[str, list[tuple[str | None, str]]], at: float = 1) -> None:
    for name, spoken in said.items():
        task = batch.task(name)
        batch.add(TasksAdded((task,)), at)
        batch.start(at, task)
        text = " ".join(text for _, text in spoken)
        batch.end(at + 1, task, worked(metrics(name[:-4]), batch.transcript(name, text, segments(spoken))))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a batch with its report; not to be changed."""
    batch = Batch(tmp_path_factory.mktemp("told") / "out")
    batch.open(0)
    tell(batch, SAID)
    batch.add(InputsClosed(), 10)
    batch.close()
    write_report(batch.layout.output_dir, final=True)
    return batch.layout.output_dir


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[Batch]:
    batch = Batch(tmp_path / "out")
    batch.open(0)
    yield batch
    batch.close()


def places(found: Found) -> list[tuple[str, float | None]]:
    return [(hit.file_name, hit.start_s) for hit in found.hits]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("RIVER", [("river.mp3", 0.0)]),
        ("riv*", [("river.mp3", 0.0)]),
        ("muller", [("station.mp3", 0.0)]),
        ("o'neill", [("station.mp3", 0.0)]),
        ("ms. miller's", [("station.mp3", 0.0)]),
        ('"old mill house"', [("river.mp3", 3661.0)]),
        ('"mill old"', []),
        ("NEAR(river night, 3)", [("river.mp3", 0.0)]),
        ("NEAR(river night, 1)", []),
        ("river OR bahnhof", [("river.mp3", 0.0), ("station.mp3", 0.0)]),
        ("the NOT (river OR rain)", [("station.mp3", 0.0)]),
        ("天気", [("tokyo.mp3", 0.0)]),
        ("東京の天気", [("tokyo.mp3", 0.0)]),
        ("京東", []),
        ("river OR", None),
        ("NEAR(river", None),
        ('"river', None),
        ("river)", None),
        ("***", None),
        ("", None),
    ],
)
def test_what_is_found(told: Path, query: str, expected: list[tuple[str, float]] | None) -> None:
    if expected is None:
        with pytest.raises(UsageError):
            search(told, query)
        return
    assert places(search(told, query)) == expected


def test_a_place_is_told_once_with_what_stands_around_it(told: Path) -> None:
    found = search(told, "house")
    (hit,) = found.hits
    assert (hit.speaker, hit.start_s, hit.text) == ("Ben", 7322.0, "house had heard the rain.")
    assert hit.snippet[slice(*hit.marks[0])] == "house"
    assert (found.total, found.file_count) == (1, 1)


def test_the_snippet_is_cut_around_what_was_found(batch: Batch) -> None:
    tell(batch, {"long.mp3": [(None, "before " * 100 + "needle " + "after " * 100)]})
    write_report(batch.layout.output_dir, final=True)
    (hit,) = search(batch.layout.output_dir, "needle").hits
    assert hit.snippet.startswith("… before ")
    assert hit.snippet.endswith(" after …")
    assert hit.snippet[slice(*hit.marks[0])] == "needle"
    assert len(hit.snippet) < 250


def test_more_hits_than_are_shown(batch: Batch) -> None:
    tell(batch, {"a.mp3": [(None, f"again {number}") for number in range(10)], "b.mp3": [(None, "again")]})
    write_report(batch.layout.output_dir, final=True)
    found = search(batch.layout.output_dir, "again", limit=3)
    assert (len(found.hits), found.total, found.file_count) == (3, 11, 2)
    assert len(search(batch.layout.output_dir, "again", limit=None).hits) == 11


def test_the_index_is_kept_and_made_anew_with_the_report(batch: Batch) -> None:
    out = batch.layout.output_dir
    tell(batch, {"a.mp3": [(None, "first words")]})
    write_report(out, final=True)
    assert search(out, "first").total == 1
    index = out / "report" / "search.sqlite"
    made = index.stat().st_mtime_ns
    assert search(out, "words").total == 1
    assert index.stat().st_mtime_ns == made
    tell(batch, {"b.mp3": [(None, "more words")]}, at=20)
    write_report(out, final=True)
    assert search(out, "words").total == 2


@pytest.mark.parametrize("damage", ["rubbish", "empty", "folder"])
def test_a_damaged_index_is_no_obstacle(told: Path, tmp_path: Path, damage: str) -> None:
    out = tmp_path / "out"
    shutil.copytree(told, out)
    index = out / "report" / "search.sqlite"
    index.unlink(missing_ok=True)
    if damage == "folder":
        (index / "x").mkdir(parents=True)
    else:
        index.write_bytes(b"x" * 5000 if damage == "rubbish" else b"")
    assert search(out, "river").total == 1


def test_a_transcript_without_segments_is_found_too(batch: Batch) -> None:
    task = batch.task("a.mp3")
    batch.add(TasksAdded((task,)), 1)
    batch.start(2, task)
    batch.end(3, task, worked(metrics("a"), batch.transcript("a", "bare words", [])))
    write_report(batch.layout.output_dir, final=True)
    (hit,) = search(batch.layout.output_dir, "bare").hits
    assert (hit.start_s, hit.text) == (None, "bare words")


def test_there_is_no_report(batch: Batch, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"neither a report nor a batch in .*: give the output folder"):
        search(tmp_path / "elsewhere", "x")
    batch.add(TasksAdded((batch.task("a"),)), 1)
    with pytest.raises(FileError, match=r"`trax-ray report .*` builds it"):
        search(batch.layout.output_dir, "x")


def test_queries_hold_words_only() -> None:
    assert as_query("text:a ^b -c") == '"text:a" "^b" "-c"'
    assert as_query("'; DROP TABLE said; --").startswith("\"'")
    assert as_query("a (b OR c)") == '"a" AND ( "b" OR "c" )'
    assert as_query("NEAR(10 years, 5) x") == 'NEAR( "10" "years" , 5 ) "x"'


# On the command line


def test_lines_for_people(told: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show_hits(str(told), ["the"], limit=2, as_json=False) == 0
    assert capsys.readouterr().out.splitlines() == [
        "river.mp3",
        "   0:00:00  Anna: The river rose in the night. Nobody in the old mill",
        "   1:01:01  Ben: Nobody in the old mill house had heard the rain.",
        "4 places in 2 files; the first 2 are shown (--limit 0 shows all)",
    ]
    assert show_hits(str(told), ["nowhere"], limit=2, as_json=False) == 1
    assert capsys.readouterr().out == "nothing found\n"


def test_lines_for_programs(told: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show_hits(str(told), ["old", "mill"], limit=0, as_json=True) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["speaker"] == "Ben"


def test_what_was_said_moves_no_cursor(batch: Batch, capsys: pytest.CaptureFixture[str]) -> None:
    tell(batch, {"e\x1b[2J.mp3": [("S\x1b[1m", "red \x1b[31m words \u202e turned")]})
    write_report(batch.layout.output_dir, final=True)
    show_hits(str(batch.layout.output_dir), ["words"], limit=0, as_json=False)
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert "\u202e" not in told
    assert r"red \x1b[31m words \u202e turned" in told
