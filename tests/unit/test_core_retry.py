"""Whether, when and with what a failed attempt is made again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trax_ray.codes import FailureCode
from trax_ray.core.policy.retry import LOST, RetryDecision, backoff_s, decide
from trax_ray.core.spec import RetryPolicy
from trax_ray.core.task import MEMORY_STEP_MB, Category, Failure, FailureClass, ResourceRequest

quick = settings(max_examples=100, deadline=None)

policies = st.builds(
    lambda base, more, step, factor, losses: RetryPolicy(
        base_s=base, cap_s=base + more, priority_step=step, memory_factor=factor, max_losses=losses
    ),
    st.floats(0, 100),
    st.floats(0, 1000),
    st.integers(0, 3),
    st.integers(2, 4),
    st.integers(0, 9),
)
jitters = st.floats(0, 1, exclude_max=True)
retried = st.sampled_from([FailureClass.TRANSIENT, FailureClass.UNKNOWN, FailureClass.RESOURCE])


def failure(kind: FailureClass | str = "transient", code: str = "some", retry_after_s: float | None = None) -> Failure:
    return Failure(FailureClass(kind), Category.NETWORK, code, "it failed", retry_after_s)


def decided(what: Failure, policy: RetryPolicy | None = None, **changes: Any) -> RetryDecision | None:
    arguments = {
        "spent": 0,
        "max_retries": 3,
        "deaths": 0,
        "losses": 0,
        "repeats": 0,
        "memory_mb": 512,
        "largest_node_mb": 0,
        "jitter": 0.5,
    }
    return decide(what, policy or RetryPolicy(), **(arguments | changes))


def test_delays_double_up_to_the_cap() -> None:
    policy = RetryPolicy(base_s=1.0, cap_s=60.0)
    upper = [backoff_s(policy, spent, 1.0) for spent in range(9)]
    assert upper == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert backoff_s(policy, 3, 0.25) == 2.0
    assert backoff_s(policy, 3, 0.0) == 0.0
    assert backoff_s(policy, 100_000, 1.0) == 60.0


@quick
@given(policy=policies, spent=st.integers(0, 10_000), jitter=jitters)
def test_delays_are_bounded_and_proportional_to_the_jitter(policy: RetryPolicy, spent: int, jitter: float) -> None:
    delay = backoff_s(policy, spent, jitter)
    most = backoff_s(policy, spent, 1.0)
    assert 0 <= delay <= most <= policy.cap_s
    assert delay == jitter * most
    assert most <= backoff_s(policy, spent + 1, 1.0)


@quick
@given(policy=policies, asked=st.none() | st.floats(0, 1e6), jitter=jitters, spent=st.integers(0, 2))
def test_retry_after_is_obeyed_even_beyond_the_cap(
    policy: RetryPolicy, asked: float | None, jitter: float, spent: int
) -> None:
    decision = decided(failure(retry_after_s=asked), policy, jitter=jitter, spent=spent)
    assert decision is not None
    assert decision.delay_s == max(asked or 0.0, backoff_s(policy, spent, jitter))
    assert (decision.degradation, decision.spends) == (policy.priority_step, True)
    assert decision.memory_mb is None


@quick
@given(policy=policies, kind=st.sampled_from(FailureClass), spent=st.integers(0, 9), most=st.integers(0, 9))
def test_permanent_ones_never_and_others_as_often_as_allowed(
    policy: RetryPolicy, kind: FailureClass, spent: int, most: int
) -> None:
    decision = decided(failure(kind), policy, spent=spent, max_retries=most)
    assert (decision is None) == (kind is FailureClass.PERMANENT or spent >= most)


@pytest.mark.parametrize(("deaths", "allowed", "again"), [(1, 2, True), (2, 2, False), (3, 2, False), (1, 1, False)])
def test_deaths_quarantine(deaths: int, allowed: int, again: bool) -> None:
    policy = RetryPolicy(max_deaths=allowed)
    died = failure("unknown", "worker_died")
    assert (decided(died, policy, deaths=deaths, max_retries=99) is not None) is again
    assert decided(failure("unknown", "some"), policy, deaths=deaths, max_retries=99) is not None


def test_the_codes_of_attempts_that_were_lost_through_no_fault_of_their_task() -> None:
    assert {"node_died", "owner_died", "result_lost"} == LOST
    assert decided(failure("unknown", "worker_died"), losses=1, spent=3) is None


@quick
@given(
    policy=policies,
    code=st.sampled_from(sorted(LOST)),
    kind=st.sampled_from(FailureClass),
    losses=st.integers(1, 12),
    spent=st.integers(0, 4),
    jitter=jitters,
)
def test_losses_cost_nothing_but_a_delay_until_there_are_too_many(
    policy: RetryPolicy, code: str, kind: FailureClass, losses: int, spent: int, jitter: float
) -> None:
    decision = decided(failure(kind, code), policy, losses=losses, spent=spent, jitter=jitter)
    if losses <= policy.max_losses:
        delay_s = backoff_s(policy, losses - 1, jitter)
        assert decision == RetryDecision(delay_s, degradation=0, memory_mb=None, spends=False)
    elif kind is FailureClass.PERMANENT or spent >= 3:
        assert decision is None
    else:
        delay_s = backoff_s(policy, spent, jitter)
        assert decision == RetryDecision(delay_s, degradation=policy.priority_step, memory_mb=None, spends=True)


def test_the_first_losses_are_waited_for_as_the_first_retries_are() -> None:
    policy = RetryPolicy(base_s=1.0, cap_s=4.0, max_losses=4)
    lost = failure("unknown", "node_died", retry_after_s=100.0)
    found = [decided(lost, policy, losses=losses, max_retries=0, jitter=0.5) for losses in range(1, 6)]
    assert [decision and decision.delay_s for decision in found] == [0.5, 1.0, 2.0, 2.0, None]


def test_more_memory_up_to_the_largest_node() -> None:
    starved = failure("resource", "out_of_memory")

    def asks(memory_mb: int, largest_node_mb: int) -> int | None:
        decision = decided(starved, memory_mb=memory_mb, largest_node_mb=largest_node_mb)
        return None if decision is None else decision.memory_mb

    assert asks(512, 4096) == 1024
    assert asks(512, 0) == 1024, "the largest node is unknown"
    assert asks(3072, 4096) == 4096
    assert asks(3072, 4095) == 3840, "a whole number of steps of 256 MiB"
    assert asks(4096, 4096) is None
    assert asks(3840, 4095) is None
    assert asks(512, 100) is None


def test_other_scarce_things_are_tried_again_with_the_same_memory() -> None:
    assert decided(failure("resource", "too_many_open_files"), memory_mb=512, largest_node_mb=512) == RetryDecision(
        0.5, 1, None
    )
    assert decided(failure("transient", "out_of_memory")) == RetryDecision(0.5, 1, None)


@quick
@given(
    policy=policies,
    memory_mb=st.integers(1, 64).map(lambda steps: steps * MEMORY_STEP_MB),
    largest_node_mb=st.integers(1, 50_000),
)
def test_memory_grows_and_always_fits_some_node(policy: RetryPolicy, memory_mb: int, largest_node_mb: int) -> None:
    decision = decided(
        failure("resource", "out_of_memory"), policy, memory_mb=memory_mb, largest_node_mb=largest_node_mb
    )
    if decision is None:
        assert memory_mb + MEMORY_STEP_MB > largest_node_mb, "a node could have given more"
    else:
        assert decision.memory_mb is not None
        assert memory_mb < decision.memory_mb <= memory_mb * policy.memory_factor
        assert ResourceRequest(memory_mb=decision.memory_mb).memory_mb <= largest_node_mb


@pytest.mark.parametrize(("max_retries", "retries"), [(0, 0), (1, 1), (3, 2), (9, 2)])
@pytest.mark.parametrize("code", [FailureCode.BAD_ANSWER, FailureCode.ANSWER_TOO_LARGE])
def test_a_bad_answer_is_asked_for_again_twice_at_the_most(code: FailureCode, max_retries: int, retries: int) -> None:
    what = failure(code=code)
    made = [decided(what, spent=n, repeats=n + 1, max_retries=max_retries) is not None for n in range(max_retries + 1)]
    assert sum(made) == retries
    assert made == [True] * retries + [False] * (max_retries + 1 - retries)
    assert decided(failure(), spent=2, repeats=3) is not None, "of other codes nobody counts that"


@pytest.mark.parametrize("code", [FailureCode.FORMAT_REFUSED, FailureCode.NO_WORDS])
def test_to_learn_how_a_server_wants_to_be_asked_or_that_it_hears_nothing_costs_no_retry(code: FailureCode) -> None:
    policy = RetryPolicy(max_losses=4)
    assert decided(failure(code=code), policy, max_retries=0, repeats=4) == RetryDecision(
        delay_s=0.5, degradation=0, spends=False
    )
    assert decided(failure(code=code), policy, max_retries=0, repeats=5) is None
    spent = decided(failure(code=code), policy, max_retries=1, repeats=5)
    assert spent is not None
    assert spent.spends
