"""Prediction: rates from observations, ranges from rates, and what tasks ask for."""

from __future__ import annotations

import random

import numpy as np
import pytest

from trax_ray.core.policy.prediction import (
    Ahead,
    Experience,
    Observation,
    Range,
    blend,
    length_steps,
    predict,
    quantile,
    start_of,
)


def seen(kind: str, audio_s: float, seconds: float, *, memory_mb: float = 0.0, model: str = "base") -> Observation:
    return Observation(kind, model, "here", audio_s, seconds, memory_mb)


def ahead(*lengths_s: float | None, chunk_s: float = 600, service: bool = False) -> Ahead:
    made = Ahead(chunk_s, lambda model: service)
    for length_s in lengths_s:
        made.add_recording("base", length_s)
    return made


def test_quantiles_are_numpys() -> None:
    source = random.Random(7)
    for size in (1, 2, 3, 10, 57):
        values = [(source.uniform(0, 9), source.uniform(0.1, 5)) for _ in range(size)]
        rates, weights = np.array([value for value, _ in values]), np.array([weight for _, weight in values])
        for share in (0.1, 0.5, 0.9):
            expected = np.quantile(rates, share, weights=weights, method="inverted_cdf")
            assert quantile(values, share) == pytest.approx(float(expected))


def test_a_hundred_clips_do_not_say_how_long_a_lecture_takes() -> None:
    clips = [seen("transcribe", 5, 2) for _ in range(100)]
    experience = Experience((*clips, *(seen("transcribe", 550, 20) for _ in range(2))))
    rate = experience.rate("transcribe", "base")
    assert rate is not None
    assert rate.middle == pytest.approx(60 * 20 / 550)
    assert rate.high == pytest.approx(24)


def test_nothing_is_said_before_there_is_data() -> None:
    assert predict(ahead(60), Experience(), slots=2, workers=8) is None
    other = Experience((seen("transcribe", 60, 3, model="tiny"),))
    assert predict(ahead(60), other, slots=2, workers=8) is None
    known = Experience((seen("transcribe", 60, 3),))
    assert predict(ahead(60, None), known, slots=2, workers=8) is None
    assert predict(ahead(60), known, slots=2, workers=8) is not None


def test_work_is_shared_by_the_slots_and_no_shorter_than_its_longest_task() -> None:
    known = Experience((seen("transcribe", 60, 6),))
    four = predict(ahead(60, 60, 60, 60), known, slots=2, workers=8)
    assert four is not None
    assert four.middle_s == pytest.approx(12)
    assert four.low_s < 12 < four.high_s
    one = predict(ahead(60), known, slots=8, workers=8)
    assert one is not None
    assert one.middle_s == pytest.approx(6)
    uneven = predict(ahead(500, 10, 10), known, slots=3, workers=8)
    assert uneven is not None
    assert uneven.middle_s == pytest.approx(50)


def test_long_recordings_are_chunks_and_services_get_requests() -> None:
    long = ahead(1500)
    assert long.counts == {"cut": 1, "chunk": 3}
    assert ahead(1500, service=True).counts == {"cut": 1, "request": 3}
    assert ahead(1500, service=True).audio_s == 1500
    # One kind stands for the other until it is known itself.
    known = Experience((seen("transcribe", 60, 6),))
    assert predict(long, known, slots=3, workers=1).middle_s == pytest.approx(50)  # type: ignore[union-attr]
    service = Experience((seen("request", 60, 2), seen("cut", 60, 0.5)))
    found = predict(ahead(60, 60, 60, 60, service=True), service, slots=1, workers=2)
    assert found is not None
    assert found.middle_s == pytest.approx(4)


def test_many_tasks_vary_less_than_one() -> None:
    known = Experience(tuple(seen("transcribe", 60, seconds) for seconds in (2, 4, 6, 8, 10)))
    one, many = (predict(ahead(*[60.0] * count), known, slots=1, workers=1) for count in (1, 100))
    assert one is not None
    assert many is not None
    assert (one.high_s - one.low_s) / one.middle_s > 1.3
    assert (many.high_s - many.low_s) / many.middle_s < 0.5


def test_this_run_counts_for_more_than_earlier_ones() -> None:
    earlier = tuple(seen("transcribe", 60, 3) for _ in range(50))
    one = Experience(earlier, (seen("transcribe", 60, 9),))
    assert one.rate("transcribe", "base").middle == 3  # type: ignore[union-attr]
    three = Experience(earlier, tuple(seen("transcribe", 60, 9) for _ in range(3)))
    assert three.rate("transcribe", "base").middle == 9  # type: ignore[union-attr]


def test_the_speed_so_far_counts_by_what_is_done() -> None:
    predicted = Range(80, 100, 120)
    assert blend(predicted, None, 0.5) == predicted
    assert blend(None, 50, 0.5) is None
    halfway = blend(predicted, 200, 0.5)
    assert halfway is not None
    assert (halfway.low_s, halfway.middle_s, halfway.high_s) == pytest.approx((120, 150, 180))


def test_memory_is_raised_by_what_was_seen_and_never_lowered() -> None:
    big = Experience(tuple(seen("chunk", 60, 1, memory_mb=1100) for _ in range(5)))
    assert big.memory_mb("chunk", "base", 1024, 4096) == 1280
    assert big.memory_mb("chunk", "base", 1024, 1200) == 1024, "never above the limit, where nothing would start"
    assert big.memory_mb("chunk", "base", 2048, 4096) == 2048
    assert big.memory_mb("chunk", "tiny", 512, 4096) == 512
    few = Experience(big.earlier[:4])
    assert few.memory_mb("chunk", "base", 1024, 4096) == 1024


def test_what_a_run_takes_besides_its_work_is_the_time_in_which_nothing_runs() -> None:
    def ran(began: float, ended: float) -> Observation:
        return Observation("transcribe", "base", "here", 60.0, ended - began, 0.0, ended)

    found = start_of([ran(20, 30), ran(10, 25), ran(40, 50)], 60.0, machine="here", run="r", at=60.0)
    assert found is not None
    assert (found.kind, found.seconds) == ("start", 30.0)
    assert start_of([], 60.0, machine="here", run="r", at=60.0) is None


def test_lengths_go_by_doublings() -> None:
    assert length_steps(600) == length_steps(1000) > length_steps(300)
    assert length_steps(0) == 0
