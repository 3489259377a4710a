"""A server of aiohttp's in a thread of its own, for tests that aren't asynchronous."""

from __future__ import annotations

import asyncio
import threading
from typing import TypeVar

__all__ = ["InThread"]

S = TypeVar("S", bound="InThread")


class InThread:
    """Serves between `with` and its end. A subclass has `_serve`, which sets `_loop`, `_end` and what it is given."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._end: asyncio.Event | None = None

    async def _serve(self, ready: threading.Event) -> None:
        raise NotImplementedError

    def __enter__(self: S) -> S:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._end is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
