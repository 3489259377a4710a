"""What each answer of a provider means for the requests that may go to it next.

One `ProviderLimits` per provider is fed every answer (`ProviderSignal`) and says how many requests may start: by a
window of concurrency, what the provider asks for in its headers, a breaker, and money. It changes only through its
`on_` methods, `configure` and `resume`, all with the time as an argument; questions change nothing, so that a journal
replays to the same state whatever was asked in between.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from trax_ray.core.limits.breaker import RETRIES_LEAST, Breaker, Retries
from trax_ray.core.limits.meter import Meter, Told
from trax_ray.core.limits.signals import ProviderSignal, SignalKind, Verdict, usable
from trax_ray.core.limits.window import INITIAL_WINDOW, Window

__all__ = ["FREE_RETRIES", "ProviderLimits"]

FREE_RETRIES = 100
"""Free retries of a task, for answers that say nothing of it; those beyond cost retries of its own."""

SHORT_S, PARKS_ABOVE_S = 10.0, 120.0
"""Of Retry-After: up to the first it may be noise; above the second the provider is parked."""

_NANO = 1_000_000_000


class ProviderLimits:
    """What one provider's answers mean for the requests that may go to it next.

    Times are seconds of a clock that is given with every call; an earlier time counts as the latest one.

    Args:
        max_workers: The most requests in flight at the same time, 1 or more.
        max_cost_usd: What may be spent; None sets no cap.
        first_window: Requests at the same time that are tried at first.

    Attributes:
        spent_usd: What the answers so far have cost, as far as they tell, and lost ones by their estimates.
    """

    def __init__(
        self, max_workers: int, *, max_cost_usd: float | None = None, first_window: int = INITIAL_WINDOW
    ) -> None:
        self._now = -math.inf
        self._max_cost: int | None = None
        self._spent = self._reserved = 0
        self._running: dict[str, tuple[int, int]] = {}  # resumes before it, estimate
        self._held_until = -math.inf
        self._held_for = ""
        self._parked = False
        self._breaker = Breaker()
        self._requests, self._tokens = Meter(), Meter(cost=0.0)
        self._window = Window(max(1, max_workers))
        self._retries = Retries(max(RETRIES_LEAST, max_workers), max(RETRIES_LEAST, max_workers))
        self.configure(max_workers=max_workers, max_cost_usd=max_cost_usd)
        self._window.size = min(first_window, self._window.most)

    # What happens

    def configure(self, *, max_workers: int, max_cost_usd: float | None) -> None:
        """Take other ceilings, as of a later run; what was learned stays."""
        self._max_cost = None if max_cost_usd is None else round(max_cost_usd * _NANO)
        self._window.most = max(1, max_workers)
        self._window.size = min(self._window.size, self._window.most)
        self._retries.most = max(RETRIES_LEAST, float(max_workers))
        self._retries.tokens = min(self._retries.tokens, self._retries.most)

    def on_started(self, task_id: str, now: float, *, retry: bool = False, estimate_usd: float | None = None) -> None:
        """An attempt starts.

        Args:
            task_id: Whose; a task has at most one attempt in flight.
            now: When.
            retry: Whether it isn't the task's first.
            estimate_usd: What it will cost, about; None where no price is known.
        """
        now = self._at(now)
        self._release(task_id)
        estimate = round(estimate_usd * _NANO) if usable(estimate_usd) else 0
        self._running[task_id] = self._breaker.resumes, estimate
        self._reserved += estimate
        self._window.on_started(len(self._running), now)
        self._requests.on_started(now)
        self._tokens.on_started(now)
        self._breaker.on_started(task_id)
        if not retry:
            self._retries.earn()

    def on_unasked(self, task_id: str, now: float) -> None:
        """An attempt ended that asked the provider nothing: its result was there, or its recording wasn't."""
        self._at(now)
        self._release(task_id)

    def on_lost(self, task_id: str, now: float) -> None:
        """Nobody hears of an attempt again: it was cancelled or preempted, or its process died.

        A service charges for work and not for delivery, so the estimate counts as spent.
        """
        self._at(now)
        self._spent += self._release(task_id)

    def _release(self, task_id: str) -> int:
        """An attempt isn't under way any more; what was reserved for it."""
        _, estimate = self._running.pop(task_id, (0, 0))
        self._reserved -= estimate
        if self._breaker.probe == task_id:
            self._breaker.probe = ""
        return estimate

    def on_all_lost(self, now: float) -> None:
        """No attempt is in flight any more, as after the death of the coordinator."""
        for task_id in list(self._running):
            self.on_lost(task_id, now)

    def on_signal(self, task_id: str, signal: ProviderSignal, now: float) -> Verdict:
        """An attempt came back with an answer, or with none.

        Args:
            task_id: Whose; the answer counts also where the attempt isn't known to be in flight.
            signal: The answer.
            now: When.
        """
        now = self._at(now)
        resumes, _ = self._running.get(task_id, (self._breaker.resumes, 0))
        probed = task_id == self._breaker.probe
        closes = self._breaker.on_signal(task_id, signal, resumes, now)
        self._release(task_id)
        if usable(signal.cost_usd):
            self._spent += round(signal.cost_usd * _NANO)
        self._read_headers(signal, now)
        if closes:
            self._window.restart()
        if self._resize(signal, now):
            self._hold(signal, resumes, now)
        if signal.kind is SignalKind.OK:
            self._retries.earn()
        return self._judge(signal, probed, now)

    def resume(self, now: float) -> None:
        """A person resumes: a provider that was parked is tried with one request. Others don't change."""
        now = self._at(now)
        if self._parked or self._breaker.reason:
            self._breaker.half_open(now)
            self._held_until, self._held_for, self._parked = now, "", False

    # What the caller asks

    def allowed(self, running: int, now: float) -> int:
        """How many more requests may start now, money aside from the next one's (`may_start`).

        Args:
            running: Attempts in flight at this provider.
            now: The time.
        """
        now = max(now, self._now)
        if now < max(self._held_until, self._window.free_at) or self.cost_capped:
            return 0
        room = self._breaker.may_start(now) if self._breaker.reason else self._window.size - running
        return max(0, min(room, self._requests.may_start(now), self._tokens.may_start(now))) if room > 0 else 0

    def may_start(self, estimate_usd: float | None) -> bool:
        """Whether the money suffices for one more request, those in flight counted by their estimates."""
        if self._max_cost is None:
            return True
        estimate = round(estimate_usd * _NANO) if usable(estimate_usd) else 0
        total = self._spent + self._reserved
        return total < self._max_cost and total + estimate <= self._max_cost

    def next_at(self, now: float) -> float | None:
        """When requests may start again by time alone, seconds.

        Returns:
            None where time isn't what they wait for: they may start now, or wait for an answer or a person.
        """
        now = max(now, self._now)
        if self._breaker.reason and (self._breaker.opens_at is None or self._breaker.probe):
            return None
        if self.cost_capped:
            return None
        times = [self._held_until, self._window.free_at, self._breaker.opens_at or -math.inf]
        times += [meter.next_at(now) or -math.inf for meter in (self._requests, self._tokens)]
        latest = max(times)
        return latest if latest > now else None

    @property
    def parked_until(self) -> float | None:
        """Until when the provider asked not to be asked, where that is long; None where it didn't."""
        return self._held_until if self._parked and self._held_until > self._now else None

    @property
    def refused(self) -> str:
        """Why the provider refuses this user until a person acts; empty where it doesn't."""
        return self._breaker.reason if self._breaker.refused else ""

    @property
    def cost_capped(self) -> bool:
        """Whether the money is used up, or will be by what is in flight."""
        return not self.may_start(None)

    @property
    def spent_usd(self) -> float:
        """What the answers have cost so far, and lost ones by their estimates."""
        return self._spent / _NANO

    @property
    def in_flight_usd(self) -> float:
        """What the requests in flight will cost, by their estimates."""
        return self._reserved / _NANO

    @property
    def window(self) -> int:
        """How many requests may be in flight at the same time."""
        return self._window.size

    def why(self, now: float) -> str:
        """Why not more requests start, in words for a person; empty where nothing is in the way."""
        now = max(now, self._now)
        if self._breaker.reason:
            wait = self._breaker.opens_at
            if wait is not None and wait > now:
                return f"{self._breaker.reason}; one request is tried in {wait - now:.0f} s"
            return self._breaker.reason + ("; one request is being tried" if self._breaker.probe else "")
        if self.cost_capped and self._max_cost is not None:
            in_flight = f" and {self.in_flight_usd:.2f} in flight" if self._reserved else ""
            return f"cost cap: {self.spent_usd:.2f} USD spent{in_flight} of {self._max_cost / _NANO:.2f}"
        if now < self._held_until:
            state = "parked" if self._parked else "waits"
            return f"{state} {self._held_until - now:.0f} s, as the provider asked ({self._held_for})"
        for meter, name in ((self._requests, "requests"), (self._tokens, "tokens")):
            if meter.next_at(now) is not None:
                return f"rate limit: {name} are spread until the allowance of {meter.limit:.0f} is full again"
        if self._window.gap_s:
            return f"rate limit: one request every {self._window.gap_s:.1f} s, as the provider takes no more"
        if self.window < self._window.most and (self._window.trial or not self._window.slow_start):
            return f"rate limit: at most {self.window} at the same time, as the provider takes no more"
        return ""

    def dump(self) -> dict[str, Any]:
        """The whole state as JSON types: equal dumps are equal states."""
        parts = {
            "window": asdict(self._window),
            "requests": _dumped(self._requests),
            "tokens": _dumped(self._tokens),
            "breaker": asdict(self._breaker),
            "retries": asdict(self._retries),
            "hold": [self._held_until, self._held_for, self._parked],
            "money_nano_usd": [self._spent, self._reserved, self._max_cost],
            "running": {task_id: list(entry) for task_id, entry in self._running.items()},
            "now": self._now,
        }
        return {name: _finite(part) for name, part in parts.items()}

    # The parts

    def _at(self, now: float) -> float:
        self._now = max(self._now, now)
        return self._now

    def _read_headers(self, signal: ProviderSignal, now: float) -> None:
        if signal.used_tokens > 0:
            self._tokens.cost += (signal.used_tokens - self._tokens.cost) * (0.125 if self._tokens.cost else 1.0)
        latency_s = signal.latency_s if usable(signal.latency_s) else 0.0
        told = Told(signal.limit_requests, signal.remaining_requests, signal.reset_requests_s, latency_s)
        self._requests.on_headers(told, len(self._running), now)
        told = Told(signal.limit_tokens, signal.remaining_tokens, signal.reset_tokens_s, latency_s)
        self._tokens.on_headers(told, len(self._running), now)

    def _hold(self, signal: ProviderSignal, resumes: int, now: float) -> None:
        """Heed Retry-After. The answer to a request from before the last resume doesn't park again."""
        wait_s = signal.wait_s
        if not wait_s or now + wait_s <= self._held_until:
            return
        parks = wait_s > PARKS_ABOVE_S
        if parks and resumes < self._breaker.resumes:
            return
        self._held_until, self._held_for, self._parked = now + wait_s, signal.words, parks

    def _resize(self, signal: ProviderSignal, now: float) -> bool:
        """Let the window learn; False where what the answer asks for concerns its own task only."""
        if self._breaker.reason or signal.kind is SignalKind.REFUSED:
            return True
        in_flight, wait_s, concerns_all = len(self._running), signal.wait_s, True
        if signal.kind is SignalKind.OK:
            self._window.on_success()
        elif signal.turned_away and (signal.remaining_requests == 0 or signal.remaining_tokens == 0):
            pass  # the allowance per minute is used up, and the meter knows
        elif signal.turned_away:
            concerns_all = self._window.on_turned_away(in_flight, wait_s, now) or wait_s > SHORT_S
        elif signal.failed:
            self._window.on_failure()
        self._window.on_answered(now)
        return concerns_all

    def _judge(self, signal: ProviderSignal, probed: bool, now: float) -> Verdict:
        if signal.kind in (SignalKind.OK, SignalKind.REJECTED, SignalKind.REFUSED):
            return Verdict(costs_retry=signal.kind is not SignalKind.REFUSED, retry_at=now)
        asked = signal.kind is SignalKind.RATE_LIMITED and usable(signal.retry_after_s)
        retry_at = max(self._retries.take(now), self._held_until, now + signal.wait_s)
        return Verdict(costs_retry=not asked and not probed, retry_at=retry_at)


def _dumped(meter: Meter) -> dict[str, Any]:
    return {
        name: list(meter.starts) if name == "starts" else getattr(meter, name) for name in Meter.__dataclass_fields__
    }


def _finite(value: Any) -> Any:
    """The same with None for infinities, which JSON doesn't have."""
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
