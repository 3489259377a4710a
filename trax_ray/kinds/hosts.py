"""What the kinds share that ask hosts of the web: how the talk with a host goes, and what its end says of that host."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import TypeVar

from trax_ray.codes import FailureClass, FailureCode
from trax_ray.core.limits.signals import ProviderSignal, SignalKind
from trax_ray.core.task import Failure, Outcome
from trax_ray.errors import NetworkError
from trax_ray.kinds.assignment import Progress
from trax_ray.kinds.fetched import forget_media, progress_of
from trax_ray.store.layout import Layout
from trax_ray.web.job import Told

__all__ = ["Talk"]

T = TypeVar("T")

_KINDS_OF_SIGNALS = {
    FailureCode.RATE_LIMITED: SignalKind.RATE_LIMITED,
    FailureCode.SERVER_ERROR: SignalKind.OVERLOADED,
    FailureCode.CONNECTION: SignalKind.CONNECTION,
    FailureCode.TIMEOUT: SignalKind.CONNECTION,
    FailureCode.BOT_CHECK: SignalKind.REFUSED,
}


@dataclass(slots=True)
class Talk:
    """The talk of one attempt with one host.

    Args:
        layout: The output folder.
        file_id: The input's; what came of it goes where it fails for good.
        pause: Says how many seconds the host is then left alone, by its last word; None where nothing asks for that.
        told: The host's last word; None while it wasn't asked.
    """

    layout: Layout
    file_id: str
    pause: Callable[[Told | None], float | None]
    told: Told | None = None

    def follow(self, working: Generator[Told, None, T]) -> Generator[Progress, None, T]:
        """Signs of life while something works, and what it gives."""
        while True:
            try:
                self.told = next(working)
            except StopIteration as end:
                given: T = end.value
                return given
            yield progress_of(self.told)

    def failed(self, error: NetworkError) -> Outcome:
        """The outcome of a talk that ended so. Most failures speak of one recording only, and not of the host."""
        failure = Failure.of(error)
        if failure.failure_class is FailureClass.PERMANENT:
            forget_media(self.layout, self.file_id)
        return Outcome(failure=failure, signal=replace(_signal_of(failure), pause_s=self.pause(self.told)))

    @property
    def signal(self) -> ProviderSignal | None:
        """What a talk that ended well says of the host; None where it wasn't asked."""
        if self.told is None:
            return None
        return ProviderSignal(kind=SignalKind.OK, status=200, pause_s=self.pause(self.told))


def _signal_of(failure: Failure) -> ProviderSignal:
    kinds = {code.value: kind for code, kind in _KINDS_OF_SIGNALS.items()}
    kind = kinds.get(failure.code, SignalKind.REJECTED)
    return ProviderSignal(kind=kind, retry_after_s=failure.retry_after_s)
