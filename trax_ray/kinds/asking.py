"""What all kinds share that ask services from a lane: connections, deadlines, and locks that hold nobody else up."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

from trax_ray.codes import FailureCode
from trax_ray.core.limits.pace import Pace
from trax_ray.core.limits.signals import ProviderSignal
from trax_ray.core.spec import BatchSpec
from trax_ray.errors import BusyError, FileError
from trax_ray.store.files import remove
from trax_ray.store.layout import Layout
from trax_ray.store.lease import Lease

__all__ = ["CLAIM_PERIOD_S", "Room", "claimed", "in_time", "latest_of", "room"]

CLAIM_PERIOD_S = 0.25
"""How often one looks whether the other, who works on the same content, is through."""

TIMEOUT_SHARE = 0.95
"""Share of what is left of `--task-timeout` that a request gets."""


class _Answer(Protocol):
    @property
    def signal(self) -> ProviderSignal: ...


class _Service(Protocol):
    async def close(self) -> None: ...


A = TypeVar("A", bound=_Answer)
S = TypeVar("S", bound=_Service)


def latest_of(spec: BatchSpec, began: float) -> float:
    """When a request ends in any case, seconds of the monotonic clock; infinite where the batch sets no limit.

    Earlier than the attempt's own end, which knows nothing of what a request costs.

    Args:
        spec: The batch.
        began: When the attempt began.
    """
    if spec.task_timeout_s is None:
        return math.inf
    now = time.monotonic()
    return now + (spec.task_timeout_s - (now - began)) * TIMEOUT_SHARE


async def in_time(request: Awaitable[A], pace: Pace, length_s: float, latest: float) -> A | float:
    """The answer, or after how many seconds it was given up.

    Args:
        request: What to wait for.
        pace: What the server takes, which others learn meanwhile.
        length_s: Length of what is sent, or what makes a request take longer than another.
        latest: When it ends in any case, seconds of the monotonic clock.
    """
    name, began = f"{next(_numbers)}", time.monotonic()
    pace.on_sent(name, length_s, began)
    asking = asyncio.ensure_future(request)
    try:
        while True:
            await asyncio.wait({asking}, timeout=max(0.0, min(pace.deadline(name), latest) - time.monotonic()))
            now = time.monotonic()
            if asking.done():
                reply = asking.result()
                if reply.signal.status == 200:
                    pace.on_answered(name, now)
                return reply
            if pace.deadline(name) <= now:
                return pace.on_given_up(name, now)
            if latest <= now:
                return now - began
    finally:
        pace.forget(name)
        if not asking.done():
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking


class Room:
    """What the calls in one event loop share: the services, whose connections are used again, and their pace."""

    def __init__(self) -> None:
        self._services: dict[Hashable, _Service] = {}
        self._paces: dict[tuple[str, str], Pace] = {}

    def service(self, what: Hashable, connect: Callable[[], S]) -> S:
        """The service of a model, a server and a key; with another of them it is another one.

        Args:
            what: All that tells one from another.
            connect: Makes it where there is none yet.
        """
        if what not in self._services:
            self._services[what] = connect()
        return cast(S, self._services[what])

    def pace(self, model: str, base_url: str) -> Pace:
        """What a server takes for a model, as far as this process has seen."""
        return self._paces.setdefault((model, base_url), Pace())

    async def close(self) -> None:
        """Let go of all connections."""
        while self._services:
            await self._services.popitem()[1].close()


_numbers = itertools.count()
_rooms: WeakKeyDictionary[asyncio.AbstractEventLoop, Room] = WeakKeyDictionary()


def room() -> Room:
    """The room of the event loop that runs."""
    return _rooms.setdefault(asyncio.get_running_loop(), Room())


@asynccontextmanager
async def claimed(layout: Layout, holder: str, what: str) -> AsyncIterator[None]:
    """Wait until nobody else asks for the same; as `claim`, without holding up the others in this process.

    One lock for each request, or those that share one by chance would wait for one another; its file goes with it.

    Args:
        layout: The output folder.
        holder: Who waits, for people.
        what: The key of what is asked for.
    """
    lease = Lease(layout.claim("calls") / what)
    while True:
        try:
            await _taken(lease, holder)
            break
        except BusyError:
            await asyncio.sleep(CLAIM_PERIOD_S)
        except FileError as error:
            if error.code != FailureCode.NO_LOCKS:
                raise
            break
    try:
        yield
    finally:
        # The thread gives it back also where this is cancelled again.
        await asyncio.shield(asyncio.to_thread(_give_back, lease))


async def _taken(lease: Lease, holder: str) -> None:
    """Take a lock in a thread. Where this is cancelled meanwhile the thread goes on, and what it took is given back."""
    taking: asyncio.Future[Any] = asyncio.ensure_future(asyncio.to_thread(lease.acquire, holder))
    try:
        await asyncio.shield(taking)
    except asyncio.CancelledError:
        taking.add_done_callback(lambda took: None if took.cancelled() or took.exception() else _give_back(lease))
        raise


def _give_back(lease: Lease) -> None:
    if lease.held:
        # While it is held: who opened the file before takes a new one where it is gone.
        with suppress(OSError):
            remove(lease.path)
        lease.release()
