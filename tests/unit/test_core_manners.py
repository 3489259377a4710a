"""How hosts of the web are asked, as the machine sees it: few at once, pauses where a site wants them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_core_services import Batch

from trax_ray.codes import FailureCode
from trax_ray.core.limits.signals import ProviderSignal, SignalKind
from trax_ray.core.spec import BatchSpec, Limits
from trax_ray.core.state.events import CoordinatorStarted
from trax_ray.core.task import BatchTask, Category, Failure, FailureClass, TaskState, TaskType
from trax_ray.testing.factories import make_task

FILE = ProviderSignal(status=200)
SITE = ProviderSignal(status=200, pause_s=15.0)


class Fetching(Batch):
    """A machine that fetches."""

    def begin(self, epoch: int = 1, run: str = "r", **fields: Any) -> None:
        spec = BatchSpec(output_dir="/out", limits=Limits(max_workers=8, **fields))
        self.do(CoordinatorStarted(epoch, spec.to_dict(), run=run))


def fetched(name: str, host: str = "one.example") -> BatchTask:
    return make_task(name, TaskType.DOWNLOAD, provider=f"download {host}", asks=True, url=f"https://{host}/{name}")


def names(dispatches: list[Any]) -> list[str]:
    return [dispatch.task.id for dispatch in dispatches]


def test_a_host_is_asked_for_two_recordings_at_once_and_others_beside_it() -> None:
    other = [fetched(f"b{number}", "two.example") for number in range(3)]
    batch = Fetching(*(fetched(f"a{number}") for number in range(5)), *other)
    first = batch.start()
    assert names(first) == ["a0", "a1", "b0", "b1"]
    batch.end(first[0], FILE)
    assert names(batch.start()) == ["a2"], "at once: a host of files gets no pauses"


def test_a_site_gets_one_at_a_time_with_a_pause_after_each() -> None:
    batch = Fetching(*(fetched(f"a{number}") for number in range(4)))
    first = batch.start()
    batch.end(first[0], SITE)
    batch.now += 5.0
    batch.end(first[1], SITE)
    assert batch.start() == []
    assert batch.state.services.next_at(batch.now) == batch.now + 15.0
    assert batch.state.services.why(batch.now) == {
        "download one.example": "politeness: the next request in 15 s (--host-pause)"
    }
    batch.now += 14.9
    assert batch.start() == []
    batch.now += 0.2
    (third,) = batch.start()
    batch.now += 60.0
    assert batch.start() == [], "one at a time"
    batch.end(third, SITE)
    batch.now += 15.0
    assert len(batch.start()) == 1


def test_a_failure_is_a_request_too() -> None:
    batch = Fetching(*(fetched(f"a{number}") for number in range(3)), host_requests=1)
    (first,) = batch.start()
    gone = Failure(FailureClass.PERMANENT, Category.NETWORK, FailureCode.GONE, "gone")
    batch.end(first, ProviderSignal(kind=SignalKind.REJECTED, pause_s=12.0), gone)
    batch.now += 11.0
    assert batch.start() == []
    batch.now += 1.5
    assert len(batch.start()) == 1


def test_who_asks_for_more_at_once_gets_them_from_sites_too() -> None:
    batch = Fetching(*(fetched(f"a{number}") for number in range(9)), host_requests=3)
    first = batch.start()
    assert len(first) == 3
    for dispatch in first:
        batch.end(dispatch, SITE)
    batch.now += 15.0
    assert len(batch.start()) == 3


def test_no_more_than_workers() -> None:
    batch = Fetching(*(fetched(f"a{number}") for number in range(20)), host_requests=50)
    assert len(batch.start()) == 8


def test_another_run_may_ask_for_another_number() -> None:
    batch = Fetching(*(fetched(f"a{number}") for number in range(9)))
    batch.end(batch.start()[0], SITE)
    batch.begin(2, host_requests=4)
    batch.now += 15.0
    first = batch.start()
    assert len(first) == 2, "and gets there as it does with any service: by what is answered"
    for dispatch in first:
        batch.end(dispatch, FILE)
    assert len(batch.start()) > 2


def test_retry_after_holds_for_the_host_and_costs_no_retry() -> None:
    batch = Fetching(*(fetched(f"a{number}") for number in range(4)), fetched("b0", "two.example"))
    first, *others = batch.start()
    failure = Failure(FailureClass.TRANSIENT, Category.NETWORK, FailureCode.RATE_LIMITED, "slower", retry_after_s=90.0)
    batch.end(first, ProviderSignal(kind=SignalKind.RATE_LIMITED, status=429, retry_after_s=90.0), failure)
    for dispatch in others:
        batch.end(dispatch, FILE)
    assert batch.start() == []
    batch.now += 89.0
    assert batch.start() == []
    batch.now += 1.5
    assert batch.start() != []
    assert batch.state.records["a0"].spent == 0


def test_a_check_for_robots_parks_its_host_and_burns_nothing() -> None:
    batch = Fetching(*(fetched(f"a{number}") for number in range(4)), fetched("b0", "two.example"))
    first, second, third = batch.start()
    failure = Failure(FailureClass.CONFIG, Category.NETWORK, FailureCode.BOT_CHECK, "the site asks for a person")
    batch.end(first, ProviderSignal(kind=SignalKind.REFUSED), failure)
    batch.end(second, FILE)
    batch.end(third, FILE)
    assert batch.state.parked.keys() == {"download one.example"}
    assert batch.start() == []
    assert batch.state.finished == "parked"
    assert {record.state for record in batch.state.records.values()} == {TaskState.QUEUED, TaskState.SUCCEEDED}


@pytest.mark.parametrize("before", [0, 2])
def test_a_refusal_is_asked_about_once_more_whatever_came_before(before: int) -> None:
    batch = Fetching(fetched("a"))
    lost = Failure(FailureClass.TRANSIENT, Category.NETWORK, FailureCode.CONNECTION, "lost")
    refused = Failure(FailureClass.TRANSIENT, Category.NETWORK, FailureCode.FORBIDDEN, "HTTP 403")
    record = batch.state.records["a"]
    for failure in (*[lost] * before, refused, refused):
        assert record.state is not TaskState.FAILED
        batch.now += 100.0
        (dispatch,) = batch.start()
        batch.end(dispatch, ProviderSignal(kind=SignalKind.REJECTED, status=403), failure)
    assert record.state is TaskState.FAILED
    assert record.failure is not None
    assert record.failure.failure_class is FailureClass.PERMANENT


@given(st.lists(st.tuples(st.floats(0, 40), st.floats(0.1, 30)), max_size=30))
def test_a_site_is_never_asked_before_its_pause_is_over(steps: list[tuple[float, float]]) -> None:
    batch = Fetching(*(fetched(f"a{number}") for number in range(40)), host_requests=1)
    free_at = 0.0
    for waits_s, pause_s in steps:
        batch.now += waits_s
        started = batch.start()
        assert len(started) <= 1
        assert not started or batch.now >= free_at
        assert started or batch.now <= free_at
        for dispatch in started:
            batch.end(dispatch, ProviderSignal(status=200, pause_s=pause_s))
            free_at = batch.now + pause_s
