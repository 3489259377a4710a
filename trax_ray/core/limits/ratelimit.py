"""What each answer of a provider means for the requests that may go to it next.

One `ProviderLimits` per provider is fed every answer (`ProviderSignal`) and says how many requests may start: by a
window of concurrency, what the provider asks for in its headers, a breaker, and money. It changes only through its
`on_` methods, `configure` and `resume`, all with the time as an argument; questions change nothing, so that a journal
replays to the same state whatever was asked in between.
"""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from datetime import datetime, timezone
from typing import Any, NamedTuple

from trax_ray.codes import FailureCode
from trax_ray.core.limits.breaker import RETRIES_LEAST, Breaker, Outage, Retries
from trax_ray.core.limits.manners import Manners
from trax_ray.core.limits.meter import Meter, Told
from trax_ray.core.limits.purse import NANO, Purse, nano_of
from trax_ray.core.limits.signals import Parks, ProviderSignal, SignalKind, Verdict, usable
from trax_ray.core.limits.window import INITIAL_WINDOW, Window

__all__ = ["FREE_RETRIES", "ProviderLimits"]

FREE_RETRIES = 100
"""Free retries of a task, for answers that say nothing of it; those beyond cost retries of its own."""

SHORT_S, LONG_S = 10.0, 120.0
"""Of Retry-After: up to the first it may be noise; above the second a person may resume before it is over."""

WAITS_MOST_S = 3600.0
"""The longest wait that a batch sits out. Beyond it a person is asked, and told until when."""

DISBELIEVED_S = 1.0
"""By how much the reset of an allowance may lie after Retry-After of the same answer, and still be believed."""


class _Running(NamedTuple):
    """What is remembered of an attempt in flight.

    Args:
        resumes: Resumes before it started.
        estimate: What it will cost, in billionths of a US dollar.
        successes: Requests that had been answered when it started.
        in_flight: Requests that were in flight then, itself included.
    """

    resumes: int
    estimate: int
    successes: int
    in_flight: int


class ProviderLimits:
    """What one provider's answers mean for the requests that may go to it next.

    Times are seconds of a clock that is given with every call; an earlier time counts as the latest one.

    Args:
        max_workers: The most requests in flight at the same time, 1 or more.
        max_cost_usd: What may be spent; None sets no cap.
        first_window: Requests at the same time that are tried at first.
        together: Whether several may be in flight at a host that gets pauses, see `Manners`.
        purse: The money that it shares with other providers; None for one of its own.

    Attributes:
        spent_usd: What the answers so far have cost, as far as they tell, and lost ones by their estimates.
    """

    def __init__(
        self,
        max_workers: int,
        *,
        max_cost_usd: float | None = None,
        first_window: int = INITIAL_WINDOW,
        together: bool = False,
        purse: Purse | None = None,
    ) -> None:
        self._now = -math.inf
        self._purse = purse or Purse()
        self._spent = self._reserved = 0
        self._running: dict[str, _Running] = {}
        self._successes = 0
        self._size_before = 0
        self._held_until = -math.inf
        self._held_for = ""
        self._may_resume = False
        self._breaker, self._outage, self._manners = Breaker(), Outage(), Manners()
        self._requests, self._tokens = Meter(), Meter(cost=0.0)
        self._window = Window(max(1, max_workers))
        self._retries = Retries(max(RETRIES_LEAST, max_workers), max(RETRIES_LEAST, max_workers))
        self.configure(max_workers=max_workers, max_cost_usd=max_cost_usd, together=together)
        self._window.size = min(first_window, self._window.most)

    @property
    def load(self) -> tuple[int, int]:
        """How many requests are in flight, and how many may be."""
        return len(self._running), int(self._window.size)

    # What happens

    def configure(self, *, max_workers: int, max_cost_usd: float | None, together: bool = False) -> None:
        """Take other ceilings, as of a later run; what was learned stays."""
        self._manners.together = together
        self._manners.one_by_one = self._manners.one_by_one and not together
        self._purse.limit(max_cost_usd)
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
        estimate = nano_of(estimate_usd)
        in_flight = len(self._running) + 1
        self._running[task_id] = _Running(self._breaker.resumes, estimate, self._successes, in_flight)
        self._reserve(estimate)
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
        self._spend(self._release(task_id))

    def _release(self, task_id: str) -> int:
        """An attempt isn't under way any more; what was reserved for it."""
        running = self._running.pop(task_id, None)
        if self._breaker.probe == task_id:
            self._breaker.probe = ""
        if running is None:
            return 0
        self._reserve(-running.estimate)
        return running.estimate

    def _reserve(self, amount: int) -> None:
        self._reserved += amount
        self._purse.reserved += amount

    def _spend(self, amount: int) -> None:
        self._spent += amount
        self._purse.spent += amount

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
        unknown = _Running(self._breaker.resumes, 0, self._successes, 0)
        running = self._running.get(task_id, unknown)
        in_flight = max(running.in_flight, len(self._running))
        says_nothing = self._says_nothing(task_id, signal, running, in_flight)
        if not self._outage.in_a_row:
            self._size_before = self._window.size
        recovered = self._outage.on_signal(signal, now)
        closes = self._breaker.on_signal(task_id, signal, running.resumes, self._outage, now)
        self._release(task_id)
        self._manners.on_signal(signal, now)
        self._spend(nano_of(signal.cost_usd))
        self._read_headers(signal, now)
        if recovered:
            self._window.recover(self._size_before)
            self._retries.fill()
        elif closes:
            self._window.restart()
        if signal.late:
            self._window.on_late(self._successes - running.successes, in_flight)
        if self._resize(signal, now):
            self._hold(signal, running.resumes, now)
        if signal.kind is SignalKind.OK:
            self._successes += 1
            self._retries.earn()
        verdict = self._judge(signal, says_nothing, now)
        return replace(verdict, recovered=recovered, parks=self._parks(signal, running, now))

    def begin(self, now: float) -> None:
        """A run begins, or another coordinator of it: what was in flight is lost, what was away is tried again."""
        self.on_all_lost(now)
        self._outage.begin()
        self.resume(now)

    def resume(self, now: float) -> None:
        """A person resumes: a provider that was parked is tried with one request. Others don't change."""
        now = self._at(now)
        if self._may_resume or self._breaker.reason:
            self._breaker.half_open(now)
            self._held_until, self._held_for, self._may_resume = now, "", False
            for meter in self._meters:
                if (meter.next_at(now) or now) > now + LONG_S:
                    meter.forget()  # the request that is tried will tell

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
        room = self._manners.room(room, running, now)
        return max(0, min(room, self._requests.may_start(now), self._tokens.may_start(now))) if room > 0 else 0

    def may_start(self, estimate_usd: float | None) -> bool:
        """Whether the money suffices for one more request, those in flight counted by their estimates."""
        return self._purse.allows(estimate_usd)

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
        times = [self._held_until, self._window.free_at, self._manners.free_at, self._breaker.opens_at or -math.inf]
        times += [meter.next_at(now) or -math.inf for meter in self._meters]
        latest = max(times)
        return latest if latest > now else None

    @property
    def parked_until(self) -> float | None:
        """Until when the provider asked not to be asked, where that is long; None where it didn't."""
        return self._held_until if self._may_resume and self._held_until > self._now else None

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
        return self._spent / NANO

    @property
    def in_flight_usd(self) -> float:
        """What the requests in flight will cost, by their estimates."""
        return self._reserved / NANO

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
        purse = self._purse
        if purse.most is not None and self.cost_capped:
            in_flight = f" and {purse.reserved / NANO:.2f} in flight" if purse.reserved else ""
            return f"cost cap: {purse.spent / NANO:.2f} USD spent{in_flight} of {purse.most / NANO:.2f}"
        if now < self._held_until:
            state = "parked" if self._may_resume else "waits"
            return f"{state} {self._held_until - now:.0f} s, as the provider asked ({self._held_for})"
        polite = self._manners.why(now)
        if polite:
            return polite
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
            "outage": [asdict(self._outage), self._size_before, self._successes],
            "retries": asdict(self._retries),
            "hold": [self._held_until, self._held_for, self._may_resume],
            "manners": asdict(self._manners),
            "money_nano_usd": [self._spent, self._reserved, self._purse.most],
            "running": {task_id: list(entry) for task_id, entry in self._running.items()},
            "now": self._now,
        }
        return {name: _finite(part) for name, part in parts.items()}

    # The parts

    @property
    def _meters(self) -> tuple[Meter, Meter]:
        return self._requests, self._tokens

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
        if signal.turned_away and usable(signal.retry_after_s):
            # It says itself when to come again; a reset that is much later tells when the allowance is full.
            for meter in self._meters:
                if (meter.next_at(now) or now) > now + signal.wait_s + DISBELIEVED_S:
                    meter.disbelieve()

    def _hold(self, signal: ProviderSignal, resumes: int, now: float) -> None:
        """Heed Retry-After. The answer to a request from before the last resume doesn't park again."""
        wait_s = signal.wait_s
        if not wait_s or now + wait_s <= self._held_until:
            return
        is_long = wait_s > LONG_S
        if is_long and resumes < self._breaker.resumes:
            return
        self._held_until, self._held_for, self._may_resume = now + wait_s, signal.words, is_long

    def _resize(self, signal: ProviderSignal, now: float) -> bool:
        """Let the window learn; False where what the answer asks for concerns its own task only."""
        if self._breaker.reason or signal.kind is SignalKind.REFUSED:
            return True
        in_flight, wait_s, concerns_all = len(self._running), signal.wait_s, True
        if signal.kind is SignalKind.OK:
            self._window.on_success()
        elif signal.turned_away and any(meter.used_up for meter in self._meters):
            pass  # the allowance per minute is used up, and the meter knows
        elif signal.turned_away:
            concerns_all = self._window.on_turned_away(in_flight, wait_s, now) or wait_s > SHORT_S
        elif signal.failed:
            self._window.on_failure()
        self._window.on_answered(now)
        return concerns_all

    def _says_nothing(self, task_id: str, signal: ProviderSignal, running: _Running, in_flight: int) -> bool:
        """Whether an answer, or that there was none, says nothing of the task that asked."""
        if task_id == self._breaker.probe:
            return True
        if signal.kind is SignalKind.RATE_LIMITED:
            return usable(signal.retry_after_s)
        meanwhile = self._successes - running.successes
        if signal.late and meanwhile + 1 < in_flight:
            return True  # it waited behind the others
        if signal.kind is SignalKind.CONNECTION and not self._outage.answered:
            return True
        return signal.away and not meanwhile

    def _judge(self, signal: ProviderSignal, says_nothing: bool, now: float) -> Verdict:
        if signal.kind in (SignalKind.OK, SignalKind.REJECTED, SignalKind.REFUSED):
            return Verdict(costs_retry=signal.kind is not SignalKind.REFUSED, retry_at=now)
        retry_at = max(self._retries.take(now), self._held_until, now + signal.wait_s)
        return Verdict(costs_retry=not says_nothing, retry_at=retry_at)

    def _parks(self, signal: ProviderSignal, running: _Running, now: float) -> Parks | None:
        """Why a person has to act, where it is no single answer that says so. Then nothing starts until one resumes."""
        parks: Parks | None = None
        if running.resumes < self._breaker.resumes or signal.kind is SignalKind.REFUSED:
            return None
        waits_until = max(self._held_until, *(meter.next_at(now) or now for meter in self._meters))
        if signal.failed and self._outage.is_unreachable(now):
            parks = Parks(FailureCode.UNREACHABLE, f"no answer to {self._outage.broken_off} requests in a row")
        elif signal.failed and self._outage.is_too_long(now):
            minutes = self._outage.lasts_s(now) / 60
            parks = Parks(FailureCode.UNREACHABLE, f"nothing but failures for {minutes:.0f} minutes")
        elif waits_until > now + WAITS_MOST_S:
            at = datetime.fromtimestamp(waits_until, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
            parks = Parks(FailureCode.ASKED_TO_WAIT, f"it asks to wait until {at}: run the same command again then")
        if parks is not None:
            self._breaker.park(parks.words)
        return parks


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
