"""Tasks that wait for a provider's cheap hours: they stand in nobody's way, and go on when those begin."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from test_core_machine import POLICY, Batch

from trax_ray.core.policy.schedule import NO_PEAK, PeakHours
from trax_ray.core.standing import fold
from trax_ray.core.state.events import Dispatch, InputsClosed, Paused, Resumed
from trax_ray.core.task import BatchTask
from trax_ray.testing.factories import make_task

PEAK = (1, 2, 3)


def at(day: int, hour: int, minute: int = 0) -> float:
    """A moment of the week that begins with Monday, 2026-11-23, UTC."""
    return datetime(2026, 11, 23 + day, hour, minute, tzinfo=timezone.utc).timestamp()


def saving(count: int) -> list[BatchTask]:
    fields = {"provider": "deepseek", "shared": True, "data": {"off_peak": True}}
    return [make_task(f"w{number:03}", **fields) for number in range(count)]


def begun(now: float) -> Batch:
    """A batch whose present coordinator begins at that time."""
    batch = Batch(POLICY, enhance={"level": "format", "off_peak": True, "peak_hours": list(PEAK)})
    batch.clock.advance(now - batch.clock() - 1.0)
    batch.take_over()
    return batch


def ids(started: list[Dispatch]) -> list[str]:
    return [dispatch.task.id for dispatch in started]


@pytest.mark.parametrize(
    ("when", "ends"),
    [
        (at(0, 0, 59), None),
        (at(0, 1), at(0, 4)),
        (at(0, 3, 59), at(0, 4)),
        (at(0, 4), None),
        (at(5, 2), None),
        (at(4, 2, 30), at(4, 4)),
    ],
)
def test_hours_of_the_peak(when: float, ends: float | None) -> None:
    hours = PeakHours(frozenset(PEAK))
    assert hours.hold(when) is (ends is not None)
    assert hours.end_after(when) == (when if ends is None else ends)
    assert not NO_PEAK.hold(when)


def test_the_longest_peak_ends_with_the_week() -> None:
    assert PeakHours(frozenset(range(24))).end_after(at(0, 0)) == at(5, 0)


def test_what_saves_waits_until_the_peak_is_over_and_all_else_goes_on() -> None:
    batch = begun(at(0, 2))
    batch.add(*saving(300), make_task("speech"))
    batch.do(InputsClosed())
    assert ids(batch.start(8)) == ["speech"], "hundreds before it in the queue stand in nobody's way"
    assert fold(batch.state, batch.clock(), {}).saves_until == at(0, 4)
    batch.clock.advance(3600.0)
    assert batch.start(8) == []
    assert not batch.state.finished
    batch.clock.advance(3600.0)
    assert ids(batch.start(3)) == ["w000", "w001", "w002"]
    assert fold(batch.state, batch.clock(), {}).saves_until is None
    assert batch.replayed().dump() == batch.state.dump()


def test_what_waits_in_the_queue_when_the_peak_begins_is_held() -> None:
    batch = begun(at(0, 0, 30))
    batch.add(*saving(3))
    (first,) = batch.start(1)
    batch.clock.advance(3600.0)
    assert batch.start(3) == []
    batch.end(first)
    assert batch.state.saves_until() == at(0, 4)
    assert batch.replayed().dump() == batch.state.dump()


def test_what_was_paid_for_is_brought_to_its_end_at_the_peak() -> None:
    batch = begun(at(0, 0, 59))
    (whole,) = saving(1)
    batch.add(whole)
    (dispatch,) = batch.start(1)
    part = BatchTask(f"{whole.id}/0", whole.task_type, parent=whole.id, data={"off_peak": True}, shared=True)
    batch.expand(dispatch, [part])
    (window,) = batch.start(1)
    batch.clock.advance(3600.0)
    batch.end(window)
    assert ids(batch.start(1)) == [whole.id]


def test_a_cancelled_batch_and_a_pause_leave_nothing_behind() -> None:
    batch = begun(at(0, 2))
    batch.add(*saving(2))
    batch.do(Paused())
    batch.clock.advance(3 * 3600.0)
    assert batch.start(2) == []
    batch.do(Resumed())
    assert len(batch.start(2)) == 2


def test_without_the_option_nothing_waits() -> None:
    batch = Batch(POLICY)
    batch.clock.advance(at(0, 2) - batch.clock())
    batch.take_over()
    batch.add(*saving(2))
    assert len(batch.start(2)) == 2
