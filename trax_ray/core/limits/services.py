"""The services of a batch: for each provider what its answers mean for the requests that may go to it next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from trax_ray.codes import FailureCode
from trax_ray.core.groups import Shut
from trax_ray.core.limits.manners import HOST_REQUESTS
from trax_ray.core.limits.purse import Purse
from trax_ray.core.limits.ratelimit import ProviderLimits
from trax_ray.core.limits.signals import ProviderSignal, Verdict
from trax_ray.core.spec import BatchSpec, Limits
from trax_ray.core.task import BatchTask, Category, Failure, FailureClass, TaskType

__all__ = ["Services"]

FIRST_WINDOW = 32
"""Requests in flight that a provider gets at first, within `--workers`: a person who gives more than the default of 8
means it, and being turned away costs nothing. Starting at 8, a thousand requests took an eighth longer."""


class Services:
    """All providers that are asked over a network, by whatever process: what counts is whether a task asks one."""

    def __init__(self) -> None:
        self._limits: dict[str, ProviderLimits] = {}
        self._under_way: dict[str, str] = {}
        self._count: Counter[str] = Counter()
        self._hosts: set[str] = set()
        self._ceilings = Limits(max_workers=1)
        self._max_cost_usd: float | None = None
        self._purse = Purse()
        self._dearest_usd = 0.0
        self._unasked, self._unasked_host = self._new(), self._new(host=True)

    def begin(self, spec: BatchSpec, now: float) -> None:
        """A coordinator takes over: what was in flight is lost, and providers that refused get a probe."""
        self._ceilings, self._max_cost_usd = spec.limits, spec.max_cost_usd
        self._purse.limit(spec.max_cost_usd)
        self._unasked, self._unasked_host = self._new(), self._new(host=True)
        self._under_way.clear()
        self._count.clear()
        for provider, limits in self._limits.items():
            limits.begin(now)
            is_host = provider in self._hosts
            limits.configure(
                max_workers=self._most(host=is_host), max_cost_usd=self._max_cost_usd, together=self._together
            )

    def resume(self, now: float) -> None:
        """A person resumes: providers that refused are tried with one request."""
        for limits in self._limits.values():
            limits.resume(now)

    def expect(self, tasks: Iterable[BatchTask]) -> None:
        """Tasks were added that will ask a provider."""
        self._dearest_usd = max([self._dearest_usd, *(_estimate(task) or 0.0 for task in tasks)])

    def on_started(self, task: BatchTask, now: float, *, retry: bool) -> None:
        """A task's attempt starts."""
        if task.asks_provider:
            self._under_way[task.id] = task.provider
            self._count[task.provider] += 1
            self._of_task(task).on_started(task.id, now, retry=retry, estimate_usd=_estimate(task))

    def on_ended(self, task: BatchTask, signal: ProviderSignal | None, now: float) -> Verdict | None:
        """A task's attempt ended: what the provider's answer means for the task; None where it wasn't asked."""
        provider = self._ended(task)
        if provider is None:
            return None
        if signal is not None:
            return self._of_task(task).on_signal(task.id, signal, now)
        self._of_task(task).on_unasked(task.id, now)
        return None

    def on_lost(self, task: BatchTask, now: float) -> None:
        """Nobody hears of a task's attempt again: what it may have asked for counts as paid."""
        provider = self._ended(task)
        if provider is not None:
            self._of_task(task).on_lost(task.id, now)

    def _ended(self, task: BatchTask) -> str | None:
        provider = self._under_way.pop(task.id, None)
        if provider is not None:
            self._count[provider] -= 1
        return provider

    def startable(self, tasks: Iterable[BatchTask], now: float, shut: Shut) -> Iterator[BatchTask]:
        """Those of the tasks, in their order, that their providers let start now. Tasks that ask none always may.

        Args:
            tasks: Those that wait.
            now: When, seconds since the epoch.
            shut: Takes the providers that let no more start.
        """
        room: dict[str, int] = {}
        planned_usd = 0.0
        for task in tasks:
            if task.asks_provider:
                # A question changes nothing: a provider is only known from its first request on.
                unasked = self._unasked_host if _is_fetched(task) else self._unasked
                limits, provider = self._limits.get(task.provider) or unasked, task.provider
                if provider not in room:
                    room[provider] = limits.allowed(self._count[provider], now)
                if room[provider] <= 0:
                    shut.providers.add(provider)
                    continue
                estimate = _estimate(task) or 0.0
                if not limits.may_start(planned_usd + estimate):
                    continue
                room[provider] -= 1
                planned_usd += estimate
            yield task

    @property
    def has_cap(self) -> bool:
        """Whether there is a limit to what may be spent."""
        return self._max_cost_usd is not None

    @property
    def money_suffices(self) -> bool:
        """Whether any task that ever came could start, as far as money goes: then `capped` needn't be asked."""
        return self._purse.allows(self._dearest_usd)

    def capped(self, waiting: Iterable[BatchTask], shut: Shut) -> dict[str, Failure]:
        """The providers for no task of which that waits the money suffices, while nothing in flight may leave some.

        Args:
            waiting: The ready tasks, or the first of each provider.
            shut: Takes the providers of which no more need be looked at.
        """
        short: dict[str, bool] = {}
        for task in waiting if not self._purse.reserved else ():
            provider = task.provider if task.asks_provider else ""
            if not provider or _is_fetched(task) or self._count[provider]:
                shut.providers.add(provider)
                continue
            short[provider] = not self._purse.allows(_estimate(task))
            if not short[provider]:
                shut.providers.add(provider)
        return {provider: self._cost_cap() for provider, is_short in short.items() if is_short}

    def _cost_cap(self) -> Failure:
        message = (
            f"{self.spent_usd:.4f} US dollars are spent of the {self._max_cost_usd:g} that the batch may, and the next "
            "request would exceed that: give a larger --max-cost to go on"
        )
        return Failure(FailureClass.CONFIG, Category.RESOURCE, FailureCode.COST_CAP, message)

    @property
    def spent_usd(self) -> float:
        """What all answers so far have cost, as far as they tell, and lost ones by their estimates; US dollars."""
        return sum(limits.spent_usd for limits in self._limits.values())

    def next_at(self, now: float) -> float | None:
        """When the next provider lets requests start again by time alone; None where time isn't what they wait for."""
        times = [at for limits in self._limits.values() if (at := limits.next_at(now)) is not None]
        return min(times, default=None)

    def why(self, now: float) -> dict[str, str]:
        """Why no more requests start, by provider; without the providers where nothing is in the way."""
        reasons = {provider: limits.why(now) for provider, limits in self._limits.items()}
        return {provider: reason for provider, reason in reasons.items() if reason}

    def loads(self) -> dict[str, tuple[int, int]]:
        """How many requests are in flight and how many may be, by provider."""
        return {provider: limits.load for provider, limits in self._limits.items()}

    def dump(self) -> dict[str, Any]:
        """The whole state as JSON types."""
        return {
            "under_way": dict(self._under_way),
            "limits": {name: each.dump() for name, each in self._limits.items()},
            "hosts": sorted(self._hosts),
        }

    def _of_task(self, task: BatchTask) -> ProviderLimits:
        provider = task.provider
        if provider not in self._limits:
            if _is_fetched(task):
                self._hosts.add(provider)
            self._limits[provider] = self._new(host=provider in self._hosts)
        return self._limits[provider]

    def _new(self, *, host: bool = False) -> ProviderLimits:
        return ProviderLimits(
            self._most(host=host),
            max_cost_usd=self._max_cost_usd,
            first_window=FIRST_WINDOW,
            together=self._together,
            purse=None if host else self._purse,  # what hosts give costs nothing
        )

    def _most(self, *, host: bool) -> int:
        """The most requests that a provider gets at the same time."""
        most = self._ceilings.max_workers
        return min(most, self._ceilings.host_requests or HOST_REQUESTS) if host else most

    @property
    def _together(self) -> bool:
        """Whether somebody said how many requests a host gets, for those too that get pauses between them."""
        return self._ceilings.host_requests is not None


def _is_fetched(task: BatchTask) -> bool:
    """Whether it asks a host of the web, with which nobody has an agreement, and not a service."""
    return task.task_type in (TaskType.DOWNLOAD, TaskType.YOUTUBE)


def _estimate(task: BatchTask) -> float | None:
    """What a request will cost, US dollars; None where no price is known."""
    estimate = task.data.get("estimate_usd")
    return float(estimate) if estimate is not None else None
