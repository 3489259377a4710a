"""Daily hours and start times, on days of 23, 24 and 25 hours: never a negative or an endless wait."""

from __future__ import annotations

import math
import time as clock
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trax_ray.core.policy.schedule import Hours, parse_hours, parse_start, waits_until
from trax_ray.errors import UsageError

quick = settings(max_examples=200, deadline=None)

BERLIN = ZoneInfo("Europe/Berlin")
HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


def at(text: str, zone: ZoneInfo | timezone = BERLIN, fold: int = 0) -> float:
    """Seconds since the epoch at a time on the wall."""
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


def wait_s(now: float, hours: str) -> float:
    """How long attempts wait in Berlin."""
    until = waits_until(now, 0.0, parse_hours(hours), BERLIN)
    return 0.0 if until is None else until - now


# Hours


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("22:00-06:00", Hours(22 * 60, 6 * 60)),
        ("9:30-17:05", Hours(9 * 60 + 30, 17 * 60 + 5)),
        (" 00:00 - 23:59 ", Hours(0, 23 * 60 + 59)),
        ("18:00-24:00", Hours(18 * 60, 0)),
        ("18:00-00:00", Hours(18 * 60, 0)),
    ],
)
def test_hours_are_read(text: str, expected: Hours) -> None:
    assert parse_hours(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "night",
        "22-6",
        "22:00",
        "22:00-",
        "24:00-06:00",
        "22:60-06:00",
        "22:00-25:00",
        "22:00-24:01",
        "\uff122:00-06:00",
    ],
)
def test_hours_that_are_none_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"--only-between.* such as 22:00-06:00, got '"):
        parse_hours(text)


@pytest.mark.parametrize("text", ["08:00-08:00", "0:00-24:00", "00:00-0:00"])
def test_hours_with_equal_ends_could_mean_never_or_always_and_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="leave it out"):
        parse_hours(text)


# Waits


def test_without_hours_and_start_time_nothing_waits() -> None:
    assert waits_until(1e9, 0.0, None, BERLIN) is None
    assert waits_until(1e9, 1e9, None, BERLIN) is None
    assert waits_until(1e9, 1e9 + 5, None, BERLIN) == 1e9 + 5


@pytest.mark.parametrize(
    ("now", "hours", "until"),
    [
        ("2026-06-01 21:59:59.5", "22:00-06:00", "2026-06-01 22:00"),
        ("2026-06-01 22:00", "22:00-06:00", None),
        ("2026-06-02 05:59:59.9", "22:00-06:00", None),
        ("2026-06-02 06:00", "22:00-06:00", "2026-06-02 22:00"),
        ("2026-06-01 12:00", "09:00-17:00", None),
        ("2026-06-01 17:00", "09:00-17:00", "2026-06-02 09:00"),
        ("2026-06-01 03:00", "09:00-17:00", "2026-06-01 09:00"),
        ("2026-06-01 23:59", "18:00-24:00", None),
        ("2026-06-02 00:00", "18:00-24:00", "2026-06-02 18:00"),
        ("2026-12-31 23:30", "00:00-01:00", "2027-01-01 00:00"),
    ],
)
def test_attempts_wait_for_the_hours(now: str, hours: str, until: str | None) -> None:
    expected = None if until is None else at(until)
    assert waits_until(at(now), 0.0, parse_hours(hours), BERLIN) == expected


def test_a_start_time_outside_of_the_hours_waits_for_them_too() -> None:
    hours = parse_hours("22:00-06:00")
    now = at("2026-06-01 12:00")
    assert waits_until(now, at("2026-06-03 12:00"), hours, BERLIN) == at("2026-06-03 22:00")
    assert waits_until(now, at("2026-06-03 23:00"), hours, BERLIN) == at("2026-06-03 23:00")
    assert waits_until(now, at("2026-05-30 12:00"), hours, BERLIN) == at("2026-06-01 22:00")


def test_hours_that_are_skipped_open_when_they_are_and_last_as_long() -> None:
    """In Berlin 2026-03-29 goes from 02:00 to 03:00 at once."""
    assert wait_s(at("2026-03-29 01:30"), "02:15-02:45") == 0.5 * HOUR_S
    assert wait_s(at("2026-03-29 03:00"), "02:15-02:45") == 0.0
    assert wait_s(at("2026-03-29 03:29"), "02:15-02:45") == 0.0
    assert wait_s(at("2026-03-29 03:30"), "02:15-02:45") == at("2026-03-30 02:15") - at("2026-03-29 03:30")


def test_hours_that_are_skipped_in_part_are_shorter() -> None:
    assert wait_s(at("2026-03-29 01:00"), "02:30-05:00") == HOUR_S
    assert wait_s(at("2026-03-29 03:00"), "02:30-05:00") == 0.0
    assert wait_s(at("2026-03-29 03:00"), "01:30-02:30") == at("2026-03-30 01:30") - at("2026-03-29 03:00")
    assert wait_s(at("2026-03-29 06:00"), "22:00-06:00") == 16 * HOUR_S
    assert wait_s(at("2026-03-28 21:00"), "22:00-06:00") == HOUR_S


def test_times_that_come_twice_are_the_first_of_the_two() -> None:
    """In Berlin 2026-10-25 shows 02:00 to 03:00 twice."""
    assert wait_s(at("2026-10-25 01:00"), "02:30-02:45") == 1.5 * HOUR_S
    assert wait_s(at("2026-10-25 02:30"), "02:30-02:45") == 0.0
    second = at("2026-10-25 02:30", fold=1)
    assert wait_s(second, "02:30-02:45") == at("2026-10-26 02:30") - second
    assert wait_s(second, "22:00-02:30") == at("2026-10-25 22:00") - second
    assert wait_s(second, "02:30-04:00") == 0.0
    assert wait_s(at("2026-10-24 23:00"), "22:00-06:00") == 0.0
    assert wait_s(at("2026-10-24 07:00"), "06:00-05:00") == 0.0


ZONES = ["Europe/Berlin", "America/Havana", "Asia/Beirut", "Pacific/Apia", "Australia/Lord_Howe", "Africa/Casablanca"]
"""One hour, changes at midnight both ways, a day that was skipped, half an hour, several changes a year."""

minutes = st.integers(0, 1439)
moments = st.floats(at("2011-01-01", timezone.utc), at("2030-01-01", timezone.utc))


@st.composite
def some_hours(draw: st.DrawFn) -> Hours:
    start, end = draw(st.tuples(minutes, minutes).filter(lambda pair: pair[0] != pair[1]))
    return Hours(start, end)


@st.composite
def near_changes(draw: st.DrawFn) -> tuple[float, ZoneInfo]:
    """A moment, half of the time within a day of a change of clocks."""
    zone = ZoneInfo(draw(st.sampled_from(ZONES)))
    moment = draw(moments)
    if draw(st.booleans()):
        day = datetime.fromtimestamp(moment, zone)
        for _ in range(370):
            later = day + timedelta(days=1)
            if later.utcoffset() != day.utcoffset():
                break
            day = later
        moment = day.timestamp() + draw(st.floats(0, 1.2 * DAY_S))
    return moment, zone


@quick
@given(where=near_changes(), hours=some_hours(), ahead_s=st.floats(-DAY_S, 3 * DAY_S))
def test_no_wait_is_negative_or_endless_and_what_was_waited_for_is_open(
    where: tuple[float, ZoneInfo], hours: Hours, ahead_s: float
) -> None:
    now, zone = where
    until = waits_until(now, now + ahead_s, hours, zone)
    if until is None:
        return
    assert until > now
    assert until >= now + ahead_s
    assert until <= max(now, now + ahead_s) + 2 * DAY_S + 2 * HOUR_S
    assert waits_until(until, now + ahead_s, hours, zone) is None


@quick
@given(where=near_changes(), hours=some_hours())
def test_a_wait_ends_at_the_first_moment_that_is_open(where: tuple[float, ZoneInfo], hours: Hours) -> None:
    now, zone = where
    until = waits_until(now, 0.0, hours, zone)
    if until is None:
        return
    for share in (0.0, 0.3, 0.7, 0.99):
        assert waits_until(now + share * (until - now), 0.0, hours, zone) is not None
    wall = datetime.fromtimestamp(until, zone)
    before = datetime.fromtimestamp(until - 1, zone)
    skipped = wall.utcoffset() != before.utcoffset()
    assert skipped or wall.hour * 60 + wall.minute == hours.start_minute


@quick
@given(now=moments, hours=some_hours())
def test_where_clocks_never_change_the_hours_are_what_the_wall_shows(now: float, hours: Hours) -> None:
    wall = datetime.fromtimestamp(math.floor(now), timezone.utc)  # as it is, it may be rounded up to the next minute
    minute = wall.hour * 60 + wall.minute
    inside = (minute - hours.start_minute) % 1440 < (hours.end_minute - hours.start_minute) % 1440
    assert (waits_until(now, 0.0, hours, timezone.utc) is None) == inside


# Start times

NOW = at("2026-06-01 12:00")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-21 22:00", at("2026-11-21 22:00")),
        ("2026-11-21T22:00", at("2026-11-21 22:00")),
        ("2026-11-21 22:00:30", at("2026-11-21 22:00:30")),
        ("2026-11-21 7:05", at("2026-11-21 07:05")),
        ("2026-11-21", at("2026-11-21 00:00")),
        ("2026-11-21T22:00Z", at("2026-11-21 22:00", timezone.utc)),
        ("2026-11-21T22:00+01:00", at("2026-11-21 21:00", timezone.utc)),
        ("2026-11-21 22:00:00.25 -0530", at("2026-11-22 03:30", timezone.utc)),
        ("2020-01-01 00:00", at("2020-01-01 00:00")),
        ("22:00", at("2026-06-01 22:00")),
        ("12:00", NOW),
        (" 11:59 ", at("2026-06-02 11:59")),
        ("2026-03-29 02:30", at("2026-03-29 03:00")),
        ("2026-10-25 02:30", at("2026-10-25 02:30")),
    ],
)
def test_start_times_are_read(text: str, expected: float) -> None:
    assert parse_start(text, NOW, BERLIN) == expected


def test_the_next_time_on_days_on_which_clocks_change() -> None:
    assert parse_start("02:30", at("2026-03-28 12:00"), BERLIN) == at("2026-03-29 03:00")
    assert parse_start("02:30", at("2026-03-29 03:00:01"), BERLIN) == at("2026-03-30 02:30")
    assert parse_start("02:30", at("2026-10-25 02:45"), BERLIN) == at("2026-10-26 02:30")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "24:00",
        "7",
        "12:60",
        "2026-02-30",
        "2026-13-01 10:00",
        "2026-11-21 25:00",
        "2026-11-21T22:00+99:00",
        "9999-12-31 23:59",
        "1969-12-31",
        "2026-11-21 22:00 CET",
        "21.11.2026",
    ],
)
def test_start_times_that_are_none_are_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError, match=r"--start-at.* 22:00 \(the next one\), 2026-11-21 22:00 or .*, got '"):
        parse_start(text, NOW, BERLIN)


@quick
@given(where=near_changes(), minute=minutes)
def test_the_next_time_of_day_is_never_past_and_never_far(where: tuple[float, ZoneInfo], minute: int) -> None:
    now, zone = where
    moment = parse_start(f"{minute // 60:02}:{minute % 60:02}", now, zone)
    assert now <= moment <= now + 2 * DAY_S + 2 * HOUR_S


def test_without_a_zone_the_clocks_of_this_machine_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    clock.tzset()
    try:
        assert parse_start("22:00", NOW, None) == at("2026-06-01 22:00")
        assert parse_start("2026-03-29 02:30", NOW, None) == at("2026-03-29 03:00")
        hours = parse_hours("02:15-02:45")
        assert waits_until(at("2026-03-29 01:30"), 0.0, hours, None) == at("2026-03-29 03:00")
        assert waits_until(at("2026-10-25 02:20", fold=1), 0.0, hours, None) == at("2026-10-26 02:15")
    finally:
        monkeypatch.undo()
        clock.tzset()
