"""Money and limits, services and machine together: what a process takes with it counts, wherever it is made again."""

from __future__ import annotations

from typing import Any

import pytest
from test_core_machine import POLICY, Batch, failure

from trax_ray.core.limits.signals import ProviderSignal, SignalKind
from trax_ray.core.policy.retry import UNANSWERED
from trax_ray.core.state.events import Dispatch, Draining, InputsClosed, Paused, Resumed, Stopped
from trax_ray.core.task import Category, Failure, FailureClass, Outcome, TaskType
from trax_ray.testing.factories import make_task

PRICE = 0.05
DIED = failure("unknown", "worker_died")


def capped(usd: float | None, workers: int = 32) -> Batch:
    """A batch that may spend so much."""
    return Batch(POLICY, max_cost_usd=usd, limits={"max_workers": workers})


def requests(count: int, **fields: Any) -> list[Any]:
    own = {"provider": "openai", "shared": True, "estimate_usd": PRICE, "kind": "request"}
    return [make_task(f"r{number:02}", **own | fields) for number in range(count)]


def spent(batch: Batch) -> float:
    return batch.state.services.spent_usd


def answered(batch: Batch, dispatch: Dispatch, signal: ProviderSignal, fails: Failure | None = None) -> None:
    batch.end(dispatch, Outcome(artifact_key="k", failure=fails, signal=signal))


def test_requests_lost_with_their_lane_count_as_paid_and_the_cap_holds_for_those_that_run_alone() -> None:
    """Cap 0.10 US dollars, two requests of 0.05 in flight: their lane dies, and nothing more may be asked."""
    batch = capped(0.10)
    batch.add(*requests(32))
    batch.do(InputsClosed())
    first = batch.start(32)
    assert len(first) == 2, "more would exceed the cap"
    for dispatch in first:
        batch.end(dispatch, DIED)
    assert spent(batch) == pytest.approx(0.10)
    assert batch.start(32) == []
    assert "0.1000 US dollars are spent" in batch.state.parked["openai"].message
    assert batch.state.finished == "parked"


def test_a_suspect_is_bound_to_the_money() -> None:
    batch = capped(0.20)
    batch.add(*requests(32))
    for dispatch in batch.start(32):
        batch.end(dispatch, DIED)
    assert spent(batch) == pytest.approx(0.20)
    batch.spec["max_cost_usd"] = 0.30
    batch.take_over()
    suspects = [dispatch for dispatch in batch.start(32) if dispatch.alone]
    assert len(suspects) == 2, "0.10 are left"
    for dispatch in suspects:
        answered(batch, dispatch, ProviderSignal(cost_usd=PRICE))
    assert spent(batch) == pytest.approx(0.30)
    assert batch.start(32) == []


def test_a_suspect_is_bound_to_rates_and_breaker() -> None:
    batch = capped(None, workers=4)
    batch.add(*requests(9))
    for dispatch in batch.start(9):
        batch.end(dispatch, DIED)
    suspects = batch.start(9)
    assert [dispatch.alone for dispatch in suspects] == [True] * 4, "as many at the same time as others"
    busy = ProviderSignal(SignalKind.RATE_LIMITED, 429, retry_after_s=60.0)
    answered(batch, suspects[0], busy, failure("transient", "rate_limited"))
    for dispatch in suspects[1:]:
        answered(batch, dispatch, busy, failure("transient", "rate_limited"))
    batch.clock.advance(30.0)
    assert batch.start(9) == [], "Retry-After holds for them too"
    batch.clock.advance(40.0)
    assert batch.start(9)


@pytest.mark.parametrize("code", sorted(UNANSWERED))
def test_an_attempt_of_which_nobody_heard_again_counts_as_paid(code: str) -> None:
    batch = capped(None)
    batch.add(*requests(1))
    batch.end(batch.start()[0], failure("unknown", code))
    assert spent(batch) == pytest.approx(PRICE)


@pytest.mark.parametrize("outcome", [Outcome(artifact_key="k"), Outcome(failure=failure("permanent", "not_found"))])
def test_what_asked_nobody_costs_nothing(outcome: Outcome) -> None:
    """The result was there already, or the recording wasn't."""
    batch = capped(0.05)
    batch.add(*requests(2))
    batch.end(batch.start()[0], outcome)
    assert spent(batch) == 0.0
    assert len(batch.start()) == 1, "and nothing is reserved for it any more"


def test_an_answer_costs_what_it_says_and_not_its_estimate() -> None:
    batch = capped(None)
    batch.add(*requests(1))
    answered(batch, batch.start()[0], ProviderSignal(cost_usd=0.01))
    assert spent(batch) == pytest.approx(0.01)


def test_what_is_preempted_stopped_or_lost_with_its_coordinator_counts_as_paid() -> None:
    batch = capped(None)
    batch.add(*requests(3))
    first, *_ = batch.start(3)
    batch.preempt(first)
    assert spent(batch) == pytest.approx(PRICE)
    batch.start(1)
    batch.take_over()
    assert spent(batch) == pytest.approx(4 * PRICE), "three in flight"
    batch.start(2)
    batch.do(Stopped())
    assert spent(batch) == pytest.approx(6 * PRICE)
    batch.take_over("another")
    assert spent(batch) == pytest.approx(6 * PRICE), "nothing was in flight any more"


def test_a_cap_holds_over_runs_that_are_broken_off() -> None:
    """Five times Ctrl-C in the middle of requests, and the same command again: 0.0022 US dollars stay 0.0022."""
    batch = capped(0.0022)
    batch.add(*requests(20, estimate_usd=0.0005))
    for run in range(5):
        batch.start(20)
        batch.do(Draining())
        batch.do(Stopped("signal"))
        batch.take_over(f"again{run}")
        batch.add(*requests(20, estimate_usd=0.0005))
    assert spent(batch) <= 0.0022
    assert batch.start(20) == []


def test_a_task_that_asks_in_a_process_of_its_own_is_bound_too() -> None:
    """As downloads and look-ups are to be."""
    batch = capped(0.10)
    batch.add(*requests(9, shared=False, asks=True, kind="youtube"))
    dispatches = batch.start(9)
    assert [dispatch.alone for dispatch in dispatches] == [True] * 2


def test_a_pause_gives_nothing_back() -> None:
    batch = capped(0.05)
    batch.add(*requests(2))
    (dispatch,) = batch.start(2)
    batch.do(Paused())
    batch.do(Resumed())
    assert batch.start(2) == []
    answered(batch, dispatch, ProviderSignal(cost_usd=0.0))
    assert len(batch.start(2)) == 1


def test_a_configuration_error_of_a_suspect_parks_its_provider() -> None:
    batch = capped(None)
    batch.add(*requests(2))
    for dispatch in batch.start(2):
        batch.end(dispatch, DIED)
    refused = Failure(FailureClass.CONFIG, Category.NETWORK, "key_refused", "the key is refused")
    answered(batch, batch.start(1)[0], ProviderSignal(SignalKind.REFUSED, 401), refused)
    assert "openai" in batch.state.parked
    assert batch.start(2) == []


def test_after_a_signal_a_batch_whose_money_runs_out_has_been_stopped_and_not_parked() -> None:
    """What continues it is the same command, and the exit code says that a person stopped it."""
    batch = capped(2 * PRICE)
    batch.add(*requests(5))
    batch.do(InputsClosed())
    first = batch.start(2)
    batch.do(Draining())
    for dispatch in first:
        answered(batch, dispatch, ProviderSignal(cost_usd=PRICE))
    assert batch.state.parked
    assert not batch.state.finished
    batch.do(Stopped("signal"))
    assert batch.state.finished == "stopped"


def test_the_cap_is_one_over_all_providers() -> None:
    """Cap 0.20 US dollars: speech takes 0.10 of it, and the text model may have the rest, whatever waits for it."""
    batch = capped(0.20)
    batch.add(
        *requests(2), *[make_task(f"w{n}", provider="deepseek", shared=True, estimate_usd=PRICE) for n in range(9)]
    )
    batch.do(InputsClosed())
    started = batch.start(32)
    assert len(started) == 4
    for dispatch in started:
        answered(batch, dispatch, ProviderSignal(cost_usd=PRICE))
    assert spent(batch) == pytest.approx(0.20)
    assert batch.start(32) == []
    assert "0.2000 US dollars are spent" in batch.state.parked["deepseek"].message
    assert batch.state.finished == "parked"


def test_no_provider_is_parked_while_money_may_come_back_from_another() -> None:
    """What a request in flight is reckoned with may be more than it then costs."""
    batch = capped(0.10)
    dear = {"shared": True, "estimate_usd": 0.08, "kind": "request"}
    batch.add(make_task("speech", provider="openai", **dear), make_task("text", provider="deepseek", **dear))
    batch.do(InputsClosed())
    (speech,) = batch.start(32)
    assert not batch.state.parked
    answered(batch, speech, ProviderSignal(cost_usd=0.01))
    assert [dispatch.task.id for dispatch in batch.start(32)] == ["text"]


def test_what_is_fetched_needs_no_money() -> None:
    batch = capped(PRICE)
    page = make_task("page", TaskType.DOWNLOAD, provider="download example.org", asks=True)
    batch.add(*requests(2), page)
    batch.do(InputsClosed())
    started = {dispatch.task.id: dispatch for dispatch in batch.start(32)}
    assert [*started] == ["r00", "page"]
    answered(batch, started["r00"], ProviderSignal(cost_usd=PRICE))
    answered(batch, started["page"], ProviderSignal(), failure("transient"))
    assert [*batch.state.parked] == ["openai"]
    batch.clock.advance(60.0)
    assert [dispatch.task.id for dispatch in batch.start(32)] == ["page"]
