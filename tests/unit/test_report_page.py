"""The page of a report: what it holds, and that nothing in it can do anything. How it behaves is in tests/page."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from test_report_support import NO_SAMPLES, TIMEOUT, Batch, failed, metrics, tell_everything, worked

from trax_ray.core.policy.spots import Spot
from trax_ray.core.state.events import InputsClosed, Paused, Resumed, TasksAdded
from trax_ray.core.task import BatchTask
from trax_ray.report.fold import read_history
from trax_ray.report.page import write as page_write
from trax_ray.report.page.figures import Bars, Costs
from trax_ray.report.page.ranking import Ranking
from trax_ray.report.page.rows import COLUMNS, address_of
from trax_ray.report.page.times import Clock, run_view
from trax_ray.report.write import write_report
from trax_ray.store.layout import Layout

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>=cmd()\u202egpj\x1b[31m.mp3"


class Reader(HTMLParser):
    """The elements of a page, its text, and its scripts by id."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: dict[str, str] = {}
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = str(dict(attrs).get("id", "code")) if tag == "script" else tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script" and self._inside not in ("style", ""):
            self.scripts[self._inside] = self.scripts.get(self._inside, "") + data
        elif self._inside != "style":
            self.text += data

    def unpacked(self, name: str) -> list[Any]:
        """The rows of all chunks of one kind."""
        found: list[Any] = []
        number = 0
        while f"{name}-{number}" in self.scripts:
            found += json.loads(gzip.decompress(base64.b64decode(self.scripts[f"{name}-{number}"])))
            number += 1
        return found

    @property
    def files(self) -> list[dict[str, Any]]:
        return [dict(zip(COLUMNS, row, strict=True)) for row in self.unpacked("rows")]


def page_of(out: Path) -> Reader:
    return Reader(Layout(out).index_html.read_text("utf-8"))


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[Batch]:
    batch = Batch(tmp_path / "out")
    batch.open(0)
    yield batch
    batch.close()


def succeed(batch: Batch, *tasks: BatchTask, segments: list[dict[str, Any]] | None = None, **figures: Any) -> None:
    batch.add(TasksAdded(tasks), 1)
    for task in tasks:
        stem = str(task.data["name"]).rpartition(".")[0]
        text = " ".join(each["text"] for each in segments) if segments else "said"
        batch.start(2, task)
        batch.end(3, task, worked(metrics(stem, **figures), batch.transcript(stem, text, segments)))


def test_everything_in_its_order(tmp_path: Path) -> None:
    out = tmp_path / "out"
    tell_everything(out).close()
    write_report(out, final=True)
    page = page_of(out)
    headings = [attrs["id"] for tag, attrs in page.tags if tag == "h2"]
    order = ["attention", "files", "file", "run", "cost", "distributions", "provenance"]
    assert headings == [f"{name}-h" for name in order]
    assert [file["name"] for file in page.files][:4] == ["good.mp3", "long.mp3", "flaky.mp3", "broken.mp3"]
    assert len(page.unpacked("text")) == len(page.files) == 10
    assert "an audio stream of no length" in page.text
    assert "retry-failed" in page.text
    assert "Stopped before its end" in page.text


def test_the_same_journal_gives_the_same_page(tmp_path: Path) -> None:
    out = tmp_path / "out"
    tell_everything(out).close()
    write_report(out, final=True)
    before = Layout(out).index_html.read_bytes()
    Layout(out).index_html.unlink()
    write_report(out, final=True)
    assert Layout(out).index_html.read_bytes() == before


def test_nothing_but_its_own_script_may_run(batch: Batch) -> None:
    succeed(batch, batch.task("a.mp3"))
    write_report(batch.layout.output_dir, final=True)
    html = batch.layout.index_html.read_text("utf-8")
    page = Reader(html)
    policy = next(str(attrs["content"]) for tag, attrs in page.tags if attrs.get("http-equiv"))
    digest = base64.b64encode(hashlib.sha256(page.scripts["code"].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    (style,) = re.findall("<style>(.*?)</style>", html, re.DOTALL)
    assert f"style-src 'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'" in policy
    for tag, attrs in page.tags:
        assert not [name for name in attrs if name.startswith("on") or name == "style"], (tag, attrs)
        assert not str(attrs.get("href") or "#").startswith(("http", "//", "javascript")), (tag, attrs)
        assert "src" not in attrs


def test_hostile_names_and_words_do_nothing(batch: Batch) -> None:
    task = batch.task("x.mp3")
    task = BatchTask(task.id, task.task_type, {**task.data, "name": HOSTILE}, file_id=task.file_id)
    other = batch.task("y.mp3")
    other = BatchTask(other.id, other.task_type, {**other.data, "name": HOSTILE + "2"}, file_id=other.file_id)
    batch.add(TasksAdded((task, other)), InputsClosed(), 1)
    said = [{"start_s": 0.0, "end_s": 2.0, "text": HOSTILE, "speaker": HOSTILE, "confidence": 0.1}]
    batch.start(2, task, other)
    batch.end(3, task, worked(metrics("x", model=HOSTILE), batch.transcript("x", HOSTILE, said)))
    batch.end(4, other, failed(NO_SAMPLES))
    write_report(batch.layout.output_dir, final=True)
    html = batch.layout.index_html.read_text("utf-8")
    assert html.count("<script") == 4  # rows, spots, texts and the code
    assert "<img" not in html
    page = Reader(html)
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert page.files[0]["name"].endswith(r"\u202egpj\x1b[31m.mp3")
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert page.unpacked("spots")[0][3] == HOSTILE


def test_one_that_was_killed_says_so(batch: Batch) -> None:
    done, open_ = batch.task("a.mp3"), batch.task("b.mp3")
    succeed(batch, done)
    batch.add(TasksAdded((open_,)), 4)
    batch.start(5, open_)
    for final in (False, True):
        write_report(batch.layout.output_dir, final=final)
        page = page_of(batch.layout.output_dir)
        assert "Not finished when this page was written (2026-01-01 00:00:05 UTC)" in page.text
        assert "1 of 2 succeeded" in page.text
        assert "trax-ray resume" in page.text
        assert bool(page.unpacked("text")) is final


def test_a_page_of_a_batch_that_has_ended_keeps_its_transcripts(batch: Batch) -> None:
    batch.add(InputsClosed(), 0)
    succeed(batch, batch.task("a.mp3"))
    write_report(batch.layout.output_dir, final=True)
    before = batch.layout.index_html.read_bytes()
    write_report(batch.layout.output_dir, final=False)
    assert batch.layout.index_html.read_bytes() == before


def test_transcripts_beyond_the_limit_are_left_out(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_write, "MOST_TEXT_BYTES", 10)
    succeed(batch, batch.task("a.mp3"))
    write_report(batch.layout.output_dir, final=True)
    assert page_of(batch.layout.output_dir).unpacked("text") == [None]


def test_no_inputs_at_all(batch: Batch) -> None:
    batch.add(InputsClosed(), 1)
    write_report(batch.layout.output_dir, final=True)
    assert page_of(batch.layout.output_dir).files == []


# Where a recording is found


def test_addresses(tmp_path: Path) -> None:
    out = Path("/home/me/out")
    assert address_of("/home/me/in/a b#?%.mp3", out, Path("/")) == "../../in/a%20b%23%3F%25.mp3"
    assert address_of("talks/a.txt", out, out) == "../talks/a.txt"
    assert address_of("/home/me/in/b\udcff.wav", out, Path("/")) == "../../in/b%FF.wav"
    assert address_of("/data/a.mp3", out, Path("/")) == "file:///data/a.mp3"
    assert address_of("/home/me/\ud800.mp3", out, Path("/")) is None
    assert address_of(None, out, out) is None


# What is ranked


def test_the_worst_are_kept_and_of_equal_ones_the_first() -> None:
    ranking = Ranking(3)
    for number, words in enumerate((1.0, 5.0, 1.0, 7.0, 0.5)):
        ranking.add(number, Spot(str(number), 0.0, 1.0, "x", ("repetition",), words))
    assert [file for file, _ in ranking.worst_first()] == [3, 1, 0]
    assert ranking.seen == 5


def test_speech_without_words_is_a_spot(batch: Batch) -> None:
    task = batch.task("a.mp3")
    batch.add(TasksAdded((task,)), InputsClosed(), 1)
    key = batch.store.key("1" * 64, "transcribe", {}, "pocketsphinx", 1)
    batch.store.put(key, {"text": "said", "segments": [], "uncovered": [[1.0, 5.0]]})
    batch.start(2, task)
    batch.end(3, task, worked(metrics("a", warnings=["coverage"]), key))
    write_report(batch.layout.output_dir, final=True)
    page = page_of(batch.layout.output_dir)
    assert page.unpacked("spots") == [[0, 1000, 5000, "", ["coverage"], 10.0]]
    assert "Warnings: 1 kind" in page.text


# What is drawn


def test_bars() -> None:
    bars = Bars("x", (0, 10, 20))
    for value in (-5, 0, 9.9, 10, 25, None, float("nan")):
        bars.add(value)
    assert bars.labelled() == [("0–10", 3), ("10–20", 1), ("20+", 1)]  # noqa: RUF001


def test_costs_keep_the_dearest() -> None:
    costs = Costs()
    for number in range(250):
        costs.add("m", str(number), number / 100)
    costs.add("m", "free", None)
    assert [name for _, name in costs.settle()][:2] == ["249", "248"]
    assert costs.files["m"] == 250
    assert sum(costs.by_model.values()) == pytest.approx(311.25)


def test_the_nights_between_runs_are_left_out(batch: Batch) -> None:
    task = batch.task("a.mp3")
    batch.add(TasksAdded((task,)), 1)
    batch.start(10, task)
    batch.open(100_000)
    batch.add(Paused("one"), 100_010)
    batch.add(Resumed("two"), 100_020)
    clock = Clock(read_history(batch.layout.output_dir))
    start = 1767225600.0
    assert clock.total_s == 30
    assert clock.at(start + 5) == pytest.approx(5 / 30)
    assert clock.at(start + 50_000) == pytest.approx(10 / 30)
    assert clock.at(start + 100_010) == pytest.approx(20 / 30)


def test_the_run_tells_of_pauses_and_retries(batch: Batch) -> None:
    task = batch.task("a.mp3")
    batch.add(TasksAdded((task,)), InputsClosed(), 1)
    batch.start(2, task)
    batch.end(4, task, failed(TIMEOUT))
    batch.add(Paused("one"), 5)
    batch.add(Resumed("two"), 7)
    view = run_view(read_history(batch.layout.output_dir))
    told = [what for _, what in view.moments]
    assert told[0].startswith("run 1 begins")
    assert any("timeout, again in" in what for what in told)
    assert told[-2:] == ["paused", "resumed"]
    assert [heading for heading, _ in view.charts][:2] == ["Attempts under way", "What ran beside what"]
