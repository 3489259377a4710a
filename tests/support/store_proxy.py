"""Between a client and an object store, on loopback: counts the requests, and does what networks and stores do.

    with StoreProxy("http://127.0.0.1:9000", faults=Faults(rate=0.1, seed=7)) as proxy:
        os.environ["AWS_ENDPOINT_URL"] = proxy.url

The store itself is a real one. What is signed stays as it is: the store gets the host's name that the client signed.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp
import yarl
from aiohttp import web

from tests.support.in_thread import InThread

__all__ = ["Faults", "Seen", "StoreProxy"]

KINDS = ("500", "503", "409", "lost", "cut", "slow")
"""An error before anything is done; the store asks to slow down; a conflict, of writes; an error although it was done;
half of an answer; an answer that takes its time."""


@dataclass
class Faults:
    """What goes wrong.

    Args:
        rate: Share of requests, 0-1.
        kinds: Of `KINDS`, all alike often.
        seed: Of the dice.
        slow_s: How long a slow answer takes, seconds.
        next_up: Faults of the next requests, before the dice: of the first request the first one, `""` for none.
        writes: Fault of every write; empty leaves it to the others.
    """

    rate: float = 0.0
    kinds: Sequence[str] = KINDS
    seed: int = 1
    slow_s: float = 0.2
    next_up: list[str] = field(default_factory=list)
    writes: str = ""

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)

    def of(self, method: str) -> str:
        """What becomes of a request."""
        if self.writes and method == "PUT":
            return self.writes
        if self.next_up:
            return self.next_up.pop(0)
        if self._dice.random() >= self.rate:
            return ""
        kind = self._dice.choice(self.kinds)
        return "500" if kind == "409" and method != "PUT" else kind


@dataclass(frozen=True)
class Seen:
    """A request, and what became of it."""

    method: str
    path: str
    fault: str
    status: int
    bytes_sent: int = 0


class StoreProxy(InThread):
    """Serves in a thread.

    Args:
        upstream: The store's endpoint.
        faults: What goes wrong; may be replaced at any time.
    """

    def __init__(self, upstream: str, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.seen: list[Seen] = []
        self._upstream = upstream.rstrip("/")
        self._port = 0
        super().__init__()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def methods(self, part: str = "") -> Counter[str]:
        """How many requests there were by method; of those whose path holds `part`."""
        return Counter(each.method for each in self.seen if part in each.path)

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        application = web.Application(client_max_size=2**30)
        application.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, auto_decompress=False)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self._port = runner.addresses[0][1]
        async with aiohttp.ClientSession(auto_decompress=False) as self._session:
            ready.set()
            await self._end.wait()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        fault = self.faults.of(request.method)
        if fault in ("500", "503", "409"):
            code = {"500": "InternalError", "503": "SlowDown", "409": "ConditionalRequestConflict"}[fault]
            self.seen.append(Seen(request.method, request.path_qs, fault, int(fault)))
            return _error(int(fault), code)
        if fault == "slow":
            await asyncio.sleep(self.faults.slow_s)
        url = yarl.URL(self._upstream + request.raw_path, encoded=True)
        headers = {name: value for name, value in request.headers.items() if name.lower() != "transfer-encoding"}
        async with self._session.request(request.method, url, headers=headers, data=body) as answer:
            data = await answer.read()
        if fault == "lost":
            self.seen.append(Seen(request.method, request.path_qs, fault, 500))
            return _error(500, "InternalError")
        kept = data[: len(data) // 2] if fault == "cut" else data
        self.seen.append(Seen(request.method, request.path_qs, fault, answer.status, len(kept)))
        passed_on = {
            name: value
            for name, value in answer.headers.items()
            if name.lower() not in ("transfer-encoding", "connection", "content-length")
        }
        passed_on["Content-Length"] = answer.headers.get("Content-Length", str(len(data)))
        response = web.StreamResponse(status=answer.status, headers=passed_on)
        await response.prepare(request)
        if request.method != "HEAD":
            await response.write(kept)
        if fault == "cut" and request.transport is not None:
            request.transport.close()
        return response


def _error(status: int, code: str) -> web.Response:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected</Message></Error>"
    return web.Response(status=status, text=body, content_type="application/xml")
