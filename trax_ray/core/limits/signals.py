"""What one request to a provider says about the provider, and what that means for its task."""

from __future__ import annotations

import email.utils
import math
from dataclasses import dataclass
from enum import Enum
from typing import TypeGuard

from trax_ray.codes import FailureCode

__all__ = ["Parks", "ProviderSignal", "SignalKind", "Verdict", "usable", "wait_asked_s"]

WAIT_MOST_S = 1e9
"""Longest Retry-After that is believed. What is longer than an hour parks the service, and nobody sits it out."""

LATE_S = 10.0
"""A request that was lost after this time was waited for; one that was lost before broke off."""


class SignalKind(str, Enum):
    """What an answer was."""

    OK = "ok"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    CONNECTION = "connection"
    REFUSED = "refused"
    REJECTED = "rejected"
    BAD_ANSWER = "bad_answer"


@dataclass(frozen=True, slots=True)
class ProviderSignal:
    """What one request to a provider says about the provider, JSON types only.

    Args:
        kind: `ok`; `rate_limited` (429); `overloaded` (5xx); `connection` (none, lost, or too late); `refused` (401,
            402, 403, insufficient quota: the key or the money); `rejected` (400, 422: this request);
            `bad_answer` (a 200 with something else in it).
        status: HTTP status; 0 for none.
        retry_after_s: Seconds that the provider asked to wait; None where it said nothing.
        limit_requests: Requests in a full allowance; None here and below where the header was missing.
        remaining_requests: What is left of it.
        reset_requests_s: Seconds until it is full again.
        limit_tokens: The same for tokens.
        remaining_tokens: The same for tokens.
        reset_tokens_s: The same for tokens.
        used_tokens: Tokens that this request was counted for; 0 when unknown.
        latency_s: Seconds from sending to the answer.
        cost_usd: What it cost; None where nothing is known to be charged.
        request_id: The provider's name for it, for a person who asks them.
        unreached: The connection was never made: nobody listens there, or nobody knows the host.
        pause_s: Seconds to leave between this request and the next, whatever the answer was, as politeness asks; None
            where it asks for none.
    """

    kind: SignalKind = SignalKind.OK
    status: int = 0
    retry_after_s: float | None = None
    limit_requests: int | None = None
    remaining_requests: int | None = None
    reset_requests_s: float | None = None
    limit_tokens: int | None = None
    remaining_tokens: int | None = None
    reset_tokens_s: float | None = None
    used_tokens: int = 0
    latency_s: float = 0.0
    cost_usd: float | None = None
    request_id: str = ""
    unreached: bool = False
    pause_s: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", SignalKind(self.kind))

    @property
    def turned_away(self) -> bool:
        """Whether the provider turned the request away as one too many: 429, 503 and 529, but no 500."""
        return self.kind is SignalKind.RATE_LIMITED or self.status in (503, 529)

    @property
    def failed(self) -> bool:
        """Whether the provider failed: a 5xx, or no answer."""
        return self.kind in (SignalKind.OVERLOADED, SignalKind.CONNECTION)

    @property
    def late(self) -> bool:
        """Whether it was waited for and then given up, by us or by a gateway (408, 504)."""
        return (self.kind is SignalKind.CONNECTION or self.status in (408, 504)) and self.latency_s >= LATE_S

    @property
    def away(self) -> bool:
        """Whether the answer says that there is no service at present, and nothing of the request."""
        return self.unreached or self.status in (502, 503, 504, 529)

    @property
    def wait_s(self) -> float:
        """Seconds that the provider asked to wait; 0.0 where it didn't."""
        return min(self.retry_after_s, WAIT_MOST_S) if usable(self.retry_after_s) else 0.0

    @property
    def words(self) -> str:
        """The answer for a person."""
        number = f" by the request {self.request_id}" if self.request_id else ""
        return f"{self.kind.value.replace('_', ' ')}{f', status {self.status}' if self.status else ''}{number}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer means for its own task.

    Args:
        costs_retry: Whether the retry is one of those that the task has. Where the answer says nothing of the task
            (a 429 with Retry-After, a probe, a refusal, nobody there, a queue that was too long) it isn't. Callers
            count the free ones, and charge them after `FREE_RETRIES`.
        retry_at: The earliest time of the retry, seconds; callers take the later of this and their own back-off.
        parks: Why the provider isn't asked any more until a person acts; None where it is.
        recovered: The provider answers again after an outage: what waits because of that needn't any longer.
    """

    costs_retry: bool
    retry_at: float
    parks: Parks | None = None
    recovered: bool = False


@dataclass(frozen=True, slots=True)
class Parks:
    """Why a provider isn't asked any more until a person acts, where no single answer says so.

    Args:
        code: Of the failure that it is.
        words: What happened, and the way out.
    """

    code: FailureCode
    words: str


def wait_asked_s(given: str | None, now: float) -> float | None:
    """What a Retry-After header asks to wait, in seconds or as a date.

    Args:
        given: Its value; None where there is none.
        now: Seconds since the epoch.

    Returns:
        Seconds, from 0 to `WAIT_MOST_S`; None where it says nothing that makes sense.
    """
    try:
        seconds = float(given or "")
    except ValueError:
        try:
            seconds = max(0.0, email.utils.parsedate_to_datetime(given or "").timestamp() - now)
        except (ValueError, TypeError, OverflowError):
            return None
    return seconds if usable(seconds) and seconds < WAIT_MOST_S else None


def usable(value: float | None) -> TypeGuard[float]:
    """Whether a header's figure is one: providers also send -1 and worse."""
    return value is not None and math.isfinite(value) and value >= 0
