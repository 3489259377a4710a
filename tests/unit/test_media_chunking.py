"""Cutting long recordings: the pure decision by properties, the planner on a scripted detector."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trax_ray.media.chunking import FRAME, ChunkPlanner, CutRule, choose_cut, quietest
from trax_ray.media.vad import WINDOW

RATE = 16_000


class ScriptedDetector:
    """Speech except within the given stretches (seconds)."""

    def __init__(self, silences: list[tuple[float, float]]) -> None:
        self.silences = silences
        self.fed = 0
        self.given = 0

    def _one(self) -> float:
        middle = (self.given + 0.5) * WINDOW / RATE
        self.given += 1
        return 0.1 if any(a <= middle < b for a, b in self.silences) else 0.9

    def feed(self, block: np.ndarray) -> np.ndarray:
        self.fed += len(block)
        return np.array([self._one() for _ in range(self.fed // WINDOW - self.given)], np.float32)

    def finish(self) -> np.ndarray:
        return np.array([self._one()] if self.fed % WINDOW else [], np.float32)


def plan(audio: np.ndarray, chunk_size_s: float, silences: list[tuple[float, float]], block: int = RATE) -> list:
    planner = ChunkPlanner(chunk_size_s, detector=ScriptedDetector(silences))
    early = [span for at in range(0, len(audio), block) for span in planner.feed(audio[at : at + block])]
    spans = planner.finish()
    assert spans[: len(early)] == early
    assert planner.duration_s == len(audio) / RATE
    return spans


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(0, 90 * RATE),
    chunk_size_s=st.floats(1.0, 40.0),
    silences=st.lists(st.tuples(st.floats(0, 90), st.floats(0.05, 5)), max_size=12),
    block=st.integers(RATE // 3, 20 * RATE),
)
def test_chunks_cover_everything_once(
    samples: int, chunk_size_s: float, silences: list[tuple[float, float]], block: int
) -> None:
    spans = plan(np.zeros(samples, np.float32), chunk_size_s, [(a, a + n) for a, n in silences], block)
    cuts = [0, *(round(span.end_s * RATE) for span in spans)]
    assert [round(span.start_s * RATE) for span in spans] == cuts[:-1]
    assert cuts[-1] == samples
    lengths = np.diff(cuts)
    assert (lengths > 0).all()
    assert (lengths <= chunk_size_s * RATE).all()
    if len(spans) > 1:
        assert lengths.min() >= min(10.0, chunk_size_s / 4) * RATE - 1


@settings(max_examples=40, deadline=None)
@given(
    samples=st.integers(RATE, 60 * RATE),
    chunk_size_s=st.floats(4.0, 30.0),
    blocks=st.tuples(st.integers(3_000, 200_000), st.integers(3_000, 200_000)),
    seed=st.integers(0, 1_000),
)
def test_blocks_do_not_matter(samples: int, chunk_size_s: float, blocks: tuple[int, int], seed: int) -> None:
    audio = np.random.default_rng(seed).standard_normal(samples, dtype=np.float32)
    silences = [(5.0, 5.4), (17.0, 18.0)]
    assert plan(audio, chunk_size_s, silences, blocks[0]) == plan(audio, chunk_size_s, silences, blocks[1])


@settings(max_examples=200, deadline=None)
@given(
    start=st.integers(0, 10**9),
    rest=st.integers(0, 10**8),
    chunk_size_s=st.floats(1.0, 3600.0),
    ended=st.booleans(),
)
def test_the_window_keeps_the_rule(start: int, rest: int, chunk_size_s: float, ended: bool) -> None:
    rule = CutRule.of(chunk_size_s)
    window = rule.window(start, start + rest, ended=ended)
    if window is None:
        assert rest <= rule.limit or (not ended and rest < rule.limit + rule.tail)
        return
    low, high = window
    assert start < low <= high <= start + rule.limit
    assert high - low <= rule.search
    assert start + rest - high >= rule.tail
    assert low - start >= rule.tail


@settings(max_examples=200, deadline=None)
@given(data=st.data(), low=st.integers(0, 40_000), width=st.integers(0, 40_000))
def test_a_cut_lies_in_its_window(data: st.DataObject, low: int, width: int) -> None:
    speech = data.draw(st.lists(st.sampled_from([0.0, 1.0]), max_size=160))
    levels = data.draw(st.lists(st.floats(0, 1, width=32), max_size=260))
    cut = choose_cut(low, low + width, np.array(speech, np.float32), np.array(levels, np.float32))
    assert low <= cut <= low + width


class TestWhere:
    def test_the_middle_of_the_longest_silence(self) -> None:
        audio = np.ones(100 * RATE, np.float32)
        spans = plan(audio, 60.0, [(20.0, 30.0), (46.0, 46.5), (50.0, 52.0), (57.0, 57.8)])
        assert spans[0].end_s == pytest.approx(51.0, abs=0.04)

    def test_short_pauses_are_no_silence(self) -> None:
        audio = np.ones(100 * RATE, np.float32)
        audio[55 * RATE : 55 * RATE + 320] = 0.1
        spans = plan(audio, 60.0, [(50.0, 50.1)])
        assert spans[0].end_s == pytest.approx(55.01, abs=0.02)

    def test_only_the_last_quarter_and_half_minute_count(self) -> None:
        audio = np.ones(1500 * RATE // 100 * 100, np.float32)
        spans = plan(audio, 600.0, [(100.0, 140.0), (560.0, 568.0), (580.0, 581.0)], block=60 * RATE)
        assert spans[0].end_s == pytest.approx(580.5, abs=0.04)

    def test_no_short_tail(self) -> None:
        spans = plan(np.ones(62 * RATE, np.float32), 60.0, [(58.0, 59.9)])
        assert len(spans) == 2
        assert spans[1].end_s - spans[1].start_s >= 10.0

    def test_what_fits_is_not_cut(self) -> None:
        assert len(plan(np.ones(60 * RATE, np.float32), 60.0, [(50.0, 55.0)])) == 1

    def test_nothing_gives_no_chunks(self) -> None:
        assert plan(np.zeros(0, np.float32), 60.0, []) == []

    @pytest.mark.parametrize("size", [0.0, -1.0, 0.5, float("nan")])
    def test_bad_sizes(self, size: float) -> None:
        with pytest.raises(ValueError, match="at least 1 s"):
            CutRule.of(size)


def test_quietest() -> None:
    audio = np.ones(RATE, np.float32)
    audio[8_000 : 8_000 + 2 * FRAME] = 0.01
    assert 8_000 <= quietest(audio, 4_000, 12_000) <= 8_000 + 2 * FRAME
    assert 0 <= quietest(audio, 0, 4_000) <= 4_000


def test_the_planner_keeps_figures_not_audio() -> None:
    planner = ChunkPlanner(30.0, detector=ScriptedDetector([(25.0, 26.0)]))
    for _ in range(20):
        planner.feed(np.ones(60 * RATE, np.float32))
    held = planner._levels.nbytes + planner._speech.nbytes + planner._rest.nbytes
    assert held < 50_000
    assert len(planner.finish()) >= 40
