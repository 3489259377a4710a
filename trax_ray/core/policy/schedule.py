"""When attempts may start: a start time, and hours of the day.

Times of day are what a clock on the wall shows. Where clocks change, a time that the wall shows twice is the first
of the two, and one that it skips is the moment at which it skips it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo

from trax_ray.errors import UsageError

__all__ = ["NO_PEAK", "Hours", "PeakHours", "parse_hours", "parse_start", "waits_until"]

_TIME = r"(\d{1,2}):(\d{2})"
_HOURS = re.compile(rf"{_TIME}\s*-\s*{_TIME}", re.ASCII)
_TIME_OF_DAY = re.compile(_TIME, re.ASCII)
_MOMENT = re.compile(
    rf"(\d{{4}}-\d{{2}}-\d{{2}})(?:(?:\s+|T){_TIME}(?::(\d{{2}})(?:\.\d+)?)?\s*(Z|[+-]\d{{2}}:?\d{{2}})?)?",
    re.ASCII | re.IGNORECASE,
)

_MIDNIGHT_MINUTES = 24 * 60

_YEARS = range(1970, 3000)
"""Dates must leave room for the days after them; Python's end with the year 9999."""


@dataclass(frozen=True, slots=True)
class Hours:
    """Daily hours; those that end before they begin go over midnight.

    Args:
        start_minute: When they begin, minutes after midnight, 0-1439.
        end_minute: When they are over, minutes after midnight, 0-1439; another one than `start_minute`.
    """

    start_minute: int
    end_minute: int

    @property
    def length(self) -> timedelta:
        """From start to end, on days on which clocks don't change."""
        return timedelta(minutes=(self.end_minute - self.start_minute) % _MIDNIGHT_MINUTES)


@dataclass(frozen=True, slots=True)
class PeakHours:
    """Hours at which a provider charges more: the same on each day from Monday to Friday, by UTC.

    Args:
        hours: Those in which it does, 0-23.
    """

    hours: frozenset[int] = frozenset()

    def hold(self, at: float) -> bool:
        """Whether a time, seconds since the epoch, lies in them."""
        when = datetime.fromtimestamp(at, timezone.utc)
        return when.weekday() < 5 and when.hour in self.hours

    def end_after(self, at: float) -> float:
        """The first moment from a time on that doesn't lie in them, seconds since the epoch."""
        while self.hold(at):  # a day ends at the latest on Saturday
            at = (at // 3600 + 1) * 3600.0
        return at


NO_PEAK = PeakHours()
"""Of a provider that always charges the same."""


def parse_hours(text: str) -> Hours:
    """Daily hours from text.

    Args:
        text: `HH:MM-HH:MM`, such as `22:00-06:00`; the end may be `24:00`.

    Raises:
        UsageError: It is something else, or both times are the same.
    """
    found = _HOURS.fullmatch(text.strip())
    start = _minute(found[1], found[2]) if found else None
    end = _minute(found[3], found[4], midnight=True) if found else None
    if start is None or end is None:
        raise UsageError(
            f"only_between (--only-between): expected two times of day such as 22:00-06:00, got {text.strip()!r}"
        )
    if start == end % _MIDNIGHT_MINUTES:
        raise UsageError(
            "only_between (--only-between): expected two different times (leave it out to let attempts start at any "
            f"hour), got {text.strip()!r}"
        )
    return Hours(start, end % _MIDNIGHT_MINUTES)


def parse_start(text: str, now: float, zone: tzinfo | None) -> float:
    """A start time from text.

    Args:
        text: `2026-11-21 22:00` (also with seconds, a `T`, or a time zone such as `+01:00` or `Z`), `2026-11-21` for
            the beginning of a day, or `22:00` for the next 22:00.
        now: Seconds since the epoch.
        zone: Whose clocks show the time, where the text doesn't say it; None for those of this machine.

    Returns:
        Seconds since the epoch; may lie in the past.

    Raises:
        UsageError: It is something else.
    """
    given = text.strip()
    clock = _TIME_OF_DAY.fullmatch(given)
    minute = _minute(clock[1], clock[2]) if clock else None
    if minute is not None:
        return _next(minute, now, zone)
    moment = None if clock else _moment(given, zone)
    if moment is None:
        raise UsageError(
            "start_at (--start-at): expected a time such as 22:00 (the next one), 2026-11-21 22:00 or "
            f"2026-11-21T22:00+01:00, got {given!r}"
        )
    return moment


def waits_until(now: float, start_at: float, hours: Hours | None, zone: tzinfo | None) -> float | None:
    """When the next attempt may start.

    Hours open when the wall first shows their start and close when it next shows their end. Those that are skipped
    as a whole, when clocks go forward, open at that moment, for as long as they would have lasted.

    Args:
        now: Seconds since the epoch.
        start_at: Nothing starts before this, seconds since the epoch.
        hours: Daily hours in which attempts may start; None for all.
        zone: Whose clocks show the hours; None for those of this machine.

    Returns:
        None where attempts may start now; else when they may, seconds since the epoch, later than `now`.
    """
    earliest = max(now, start_at)
    if hours is not None:
        earliest = _within(hours, earliest, zone)
    return earliest if earliest > now else None


def _within(hours: Hours, earliest: float, zone: tzinfo | None) -> float:
    """The first moment from `earliest` on that lies in the hours."""
    # From the day before, whose hours may go over midnight. Every day has hours, so this ends.
    day = datetime.fromtimestamp(earliest, zone).date() - timedelta(days=1)
    while True:
        opens = _instant(day, hours.start_minute, zone)
        over_midnight = hours.end_minute < hours.start_minute
        closes = _instant(day + timedelta(days=over_midnight), hours.end_minute, zone)
        if closes <= opens:  # both were skipped
            closes = opens + hours.length.total_seconds()
        if closes > earliest:
            return max(opens, earliest)
        day += timedelta(days=1)


def _next(minute: int, now: float, zone: tzinfo | None) -> float:
    """When the wall next shows a time of day, `now` included."""
    day = datetime.fromtimestamp(now, zone).date()
    while (moment := _instant(day, minute, zone)) < now:
        day += timedelta(days=1)
    return moment


def _instant(day: date, minute: int, zone: tzinfo | None) -> float:
    """When the wall first shows a time of day on that day, or skips it; seconds since the epoch."""
    return _epoch(datetime.combine(day, time(minute // 60, minute % 60)), zone)


def _epoch(wall: datetime, zone: tzinfo | None) -> float:
    """When clocks first show `wall`, which has no zone of its own, or skip it; seconds since the epoch."""
    # A time that is skipped is read with the offset that held before (PEP 495), and so lies after the change.
    after = wall.replace(tzinfo=zone, fold=0).timestamp()
    if datetime.fromtimestamp(after, zone).replace(tzinfo=None, fold=0) == wall:
        return after
    before = wall.replace(tzinfo=zone, fold=1).timestamp()
    low, high = int(before), int(after) + 1
    while high - low > 1:  # clocks change at whole seconds
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).replace(tzinfo=None) < wall:
            low = middle
        else:
            high = middle
    return float(high)


def _moment(text: str, zone: tzinfo | None) -> float | None:
    found = _MOMENT.fullmatch(text)
    if found is None:
        return None
    day, hour, minute, second, offset = found.groups()
    if int(day[:4]) not in _YEARS:
        return None
    try:
        wall = datetime.fromisoformat(f"{day}T{int(hour or 0):02}:{minute or '00'}:{second or '00'}")
        if offset is None:
            return _epoch(wall, zone)
        # datetime.fromisoformat takes neither `Z` nor `+0100` before Python 3.11.
        sign, digits = offset[0], offset[1:].replace(":", "")
        suffix = "+00:00" if sign in "zZ" else f"{sign}{digits[:2]}:{digits[2:]}"
        return datetime.fromisoformat(f"{wall.isoformat()}{suffix}").timestamp()
    except (ValueError, OverflowError, OSError):  # no such day or hour, or none that this machine can count to
        return None


def _minute(hour: str, minute: str, *, midnight: bool = False) -> int | None:
    """Minutes after midnight; None for what no clock shows. `24:00` counts where `midnight` says so."""
    total = int(hour) * 60 + int(minute)
    return total if int(minute) < 60 and total < _MIDNIGHT_MINUTES + midnight else None
