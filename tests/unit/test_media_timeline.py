"""What jumps of the timestamps mean: silence, damage, or files that were joined."""

from __future__ import annotations

import pytest

from trax_ray.media.timeline import MAX_GAP_S, SILENCE_TO_SOUND, Timeline, lead_s


def heard(timeline: Timeline, *lengths_s: float) -> Timeline:
    for length_s in lengths_s:
        timeline.heard(length_s)
    return timeline


def test_jitter_means_nothing() -> None:
    timeline = heard(Timeline(0.1), 5.0)
    assert timeline.gap_s(5.05) == 0.0
    assert timeline.gap_s(4.95) == 0.0
    assert not timeline.jumped


@pytest.mark.parametrize("gap_s", [0.2, 5.0, 60.0])
def test_a_gap_becomes_silence_so_that_later_times_stay_right(gap_s: float) -> None:
    timeline = heard(Timeline(0.1), 5.0)
    assert timeline.gap_s(5.0 + gap_s) == pytest.approx(gap_s)
    assert timeline.at_s == pytest.approx(5.0 + gap_s)
    assert not timeline.jumped


@pytest.mark.parametrize("stamp_s", [66.0, 36_000.0, 3_600_000.0, -10.0, 1.0])
def test_a_jump_is_no_silence_and_counts_once(stamp_s: float) -> None:
    timeline = heard(Timeline(0.1), 5.0)
    assert timeline.gap_s(stamp_s) == 0.0
    assert timeline.at_s == 5.0
    assert timeline.jumped
    assert timeline.left_out_s == pytest.approx(max(0.0, stamp_s - 5.0))
    heard(timeline, 1.0)
    assert timeline.gap_s(stamp_s + 1.0) == 0.0
    assert timeline.gap_s(stamp_s + 4.0) == pytest.approx(3.0)


def test_as_much_silence_as_was_damaged() -> None:
    timeline = heard(Timeline(0.1), 5.0)
    assert timeline.gap_s(305.0, refused_s=299.0) == pytest.approx(300.0)


def test_silence_ends_where_the_file_does() -> None:
    assert heard(Timeline(0.1, last_s=10.0), 5.0).gap_s(9.0) == pytest.approx(4.0)
    assert heard(Timeline(0.1, last_s=10.0), 5.0).gap_s(11.0) == 0.0


def test_many_gaps_do_not_make_days_of_a_few_bytes() -> None:
    timeline = Timeline(0.1)
    stamp_s = 0.0
    for _ in range(5_000):
        timeline.gap_s(stamp_s)
        timeline.heard(0.02)
        stamp_s += 59.0
    assert timeline.at_s <= MAX_GAP_S + (SILENCE_TO_SOUND + 1) * 5_000 * 0.02


@pytest.mark.parametrize(
    ("first_s", "start_s", "from_zero", "expected_s"),
    [
        (5.0, 0.0, True, 5.0),  # a video whose sound begins late
        (5.0, 5.0, True, 5.0),  # sound alone: Matroska and MP4 count from 0
        (9.5, 1.5, False, 8.0),  # a transport stream counts from anywhere
        (9.5, 9.5, False, 0.0),
        (3_600.0, 3_600.0, True, 0.0),  # the time of day
        (3_605.0, 3_600.0, True, 5.0),
        (-0.02, -0.02, True, 0.0),
        (0.0, -2.0, True, 2.0),
        (1.0, None, True, 1.0),
        (1.0, None, False, 0.0),
        (900.0, 0.0, True, 900.0),
    ],
)
def test_how_late_audio_begins(first_s: float, start_s: float | None, from_zero: bool, expected_s: float) -> None:
    assert lead_s(first_s, start_s, from_zero=from_zero) == pytest.approx(expected_s)
