"""Whether a failed attempt is retried, when, and with how much memory."""

from __future__ import annotations

from dataclasses import dataclass

from trax_ray.codes import FailureCode
from trax_ray.core.spec import RetryPolicy
from trax_ray.core.task import MEMORY_STEP_MB, Failure, FailureClass, Outcome

__all__ = ["REPEATED", "TRIED_ONCE_MORE", "UNANSWERED", "RetryDecision", "backoff_s", "decide", "is_unanswered"]

LOST = frozenset({FailureCode.NODE_DIED, FailureCode.OWNER_DIED, FailureCode.RESULT_LOST})
"""Failure codes of attempts that were lost and whose task isn't to blame."""

UNANSWERED = LOST | {
    FailureCode.WORKER_DIED,
    FailureCode.STALLED,
    FailureCode.TIMED_OUT,
    FailureCode.CANCELLED,
    FailureCode.OUT_OF_MEMORY,
    FailureCode.RAY,
}
"""Failure codes of attempts whose answer is lost: what they asked of a provider may have been answered, and charged."""

MOST_BAD_ANSWERS = 2
"""Retries of a task for bad answers: each was probably paid, and after three bad answers a fourth is likely."""

PAID_FOR_NOTHING = frozenset({FailureCode.BAD_ANSWER, FailureCode.ANSWER_TOO_LARGE})
"""Failure codes of answers that can't be used."""

FOUND_OUT = frozenset({FailureCode.FORMAT_REFUSED, FailureCode.NO_WORDS})
"""Failure codes of answers from which the next attempt knows what to do otherwise."""

TRIED_ONCE_MORE = frozenset({FailureCode.FORBIDDEN})
"""Failure codes that one more attempt may cure, which reads a page again whose addresses had run out, and no further
one."""

REPEATED = PAID_FOR_NOTHING | FOUND_OUT | TRIED_ONCE_MORE
"""Failure codes for which a task's record counts how often it had them."""


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """What happens to the task next.

    Args:
        delay_s: Seconds to wait before it is ready.
        degradation: What is added to its priority number.
        memory_mb: The memory that the next attempt asks for, MiB; None leaves it.
        spends: Whether it is one of the retries that the task has.
    """

    delay_s: float
    degradation: int
    memory_mb: int | None = None
    spends: bool = True


def is_unanswered(outcome: Outcome) -> bool:
    """Whether nobody heard again of what an attempt may have asked a provider."""
    return outcome.failure is not None and outcome.signal is None and outcome.failure.code in UNANSWERED


def backoff_s(policy: RetryPolicy, spent: int, jitter: float) -> float:
    """Full jitter on an exponential: `jitter * min(cap_s, base_s * 2 ** spent)`.

    Args:
        policy: Base and cap, seconds.
        spent: Retries made so far, from 0.
        jitter: A draw from [0, 1).

    Returns:
        Seconds, in [0, cap_s].

    Source:
        M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 ("full jitter").
    """
    exponential = policy.base_s * 2.0 ** min(spent, 64)
    return jitter * min(policy.cap_s, exponential)


def decide(
    failure: Failure,
    policy: RetryPolicy,
    *,
    spent: int,
    max_retries: int,
    deaths: int,
    losses: int,
    repeats: int,
    memory_mb: int,
    largest_node_mb: int,
    jitter: float,
) -> RetryDecision | None:
    """Decide on one failed attempt. Failures of class config never get here: they park the provider.

    The next attempt waits `max(retry_after_s, jitter * min(cap_s, base_s * 2 ** spent))` seconds (see `backoff_s`),
    with its priority number `priority_step` higher. An attempt that was lost with its node costs no retry, `max_losses`
    times; nor does one from which the next knows what to do otherwise (another format, an empty answer). Answers that
    can't be used are retried at most `MOST_BAD_ANSWERS` times, refusals of a page once.

    Args:
        failure: Why the attempt failed.
        policy: The batch's policy.
        spent: Retries that the task has used.
        max_retries: Retries that it may use.
        deaths: Processes of its own that died under the task, this time included.
        losses: Attempts that were lost with their node, this time included.
        repeats: Attempts that failed with this code, this one included; 0 where the code isn't one of `REPEATED`.
        memory_mb: What the attempt had asked for, MiB.
        largest_node_mb: The most that any node could give, MiB; 0 when unknown.
        jitter: A draw from [0, 1).

    Returns:
        The decision, or None where the failure is for good.
    """
    if failure.code in LOST and losses <= policy.max_losses:
        return RetryDecision(delay_s=backoff_s(policy, losses - 1, jitter), degradation=0, spends=False)
    if failure.code in FOUND_OUT and repeats <= policy.max_losses:
        return RetryDecision(delay_s=backoff_s(policy, 0, jitter), degradation=0, spends=False)
    if failure.code in PAID_FOR_NOTHING and repeats > MOST_BAD_ANSWERS:
        return None
    if failure.code in TRIED_ONCE_MORE and repeats > 1:
        return None
    if failure.failure_class is FailureClass.PERMANENT or spent >= max_retries:
        return None
    if failure.code == FailureCode.WORKER_DIED and deaths >= policy.max_deaths:
        return None
    memory: int | None = None
    if failure.failure_class is FailureClass.RESOURCE and failure.code == FailureCode.OUT_OF_MEMORY:
        wanted = memory_mb * policy.memory_factor
        # Down to a whole step: a request is rounded up, and one that fits no node would wait for ever.
        most = largest_node_mb // MEMORY_STEP_MB * MEMORY_STEP_MB
        memory = min(wanted, most) if largest_node_mb else wanted
        if memory <= memory_mb:
            return None
    delay_s = max(failure.retry_after_s or 0.0, backoff_s(policy, spent, jitter))
    return RetryDecision(delay_s=delay_s, degradation=policy.priority_step, memory_mb=memory)
