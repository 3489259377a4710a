"""A web server for tests, on loopback: files with ranges, pages, playlists, redirects, and what goes wrong with them.

    with MediaServer({"/talk.ogg": Answer(data)}) as server:
        fetch(f"{server.url}/talk.ogg")
    assert server.bytes_sent("/talk.ogg") == len(data)

The ledger has every request and how many bytes of each body were sent. What nginx does with files and ranges this one
does too; beyond that it cuts, throttles, lies about lengths and sends elsewhere, as it is told to.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.in_thread import InThread

__all__ = ["Answer", "Asked", "MediaServer"]


@dataclass(frozen=True)
class Answer:
    """What is at a path.

    Args:
        body: All of it.
        content_type: What the header says.
        status: Of the answer; a redirect needs a `Location` among the headers.
        headers: More of them.
        ranges: Whether a part may be asked for.
        cut_after: Bytes of each body after which the connection is lost; None sends all.
        cuts: How many answers are cut; later ones are whole.
        said_length: What the header says of the length; None says the truth.
        bytes_per_s: How fast it comes; None as fast as it goes.
    """

    body: bytes = b""
    content_type: str = "application/octet-stream"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    ranges: bool = True
    cut_after: int | None = None
    cuts: int = 1
    said_length: int | None = None
    bytes_per_s: float | None = None


@dataclass
class Asked:
    """A request: `sent` is how many bytes of the answer's body were given to the socket."""

    method: str
    path: str
    start: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    sent: int = 0


Answers = Mapping[str, "Answer | Callable[[Asked], Answer]"]


class MediaServer(InThread):
    """Serves in a thread.

    Args:
        answers: By path; what isn't there is a 404. A function may look at the request, and at `asked`.
        port: 0 for any.
        host: Address on which it listens.
    """

    def __init__(self, answers: Answers | None = None, *, port: int = 0, host: str = "127.0.0.1") -> None:
        self.answers: dict[str, Answer | Callable[[Asked], Answer]] = dict(answers or {})
        self.asked: list[Asked] = []
        self._port, self._host = port, host
        super().__init__()

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}"

    def bytes_sent(self, path: str) -> int:
        """Of all bodies of answers at that path."""
        return sum(asked.sent for asked in self.asked if asked.path == path)

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, self._host, self._port)
        await site.start()
        self._port = runner.addresses[0][1]
        ready.set()
        await self._end.wait()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(request.method, request.path_qs, headers=dict(request.headers))
        self.asked.append(asked)
        found: Any = self.answers.get(request.path_qs) or self.answers.get(request.path)
        answer = found(asked) if callable(found) else found
        if answer is None:
            return web.Response(status=404, text="not here")
        start = _start_of(request.headers.get("Range", "")) if answer.ranges else None
        asked.start = start or 0
        whole = len(answer.body)
        if start is not None and start >= whole > 0:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{whole}"})
        body = answer.body[asked.start :]
        status = 206 if start is not None and answer.status == 200 else answer.status
        response = web.StreamResponse(status=status, headers={"Content-Type": answer.content_type, **answer.headers})
        if answer.ranges:
            response.headers["Accept-Ranges"] = "bytes"
        if status == 206:
            response.headers["Content-Range"] = f"bytes {asked.start}-{whole - 1}/{whole}"
        cut = self._cut(answer, asked, len(body))
        response.content_length = len(body) if answer.said_length is None else answer.said_length - asked.start
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        with suppress(ConnectionResetError):  # whoever asked has seen enough, or was killed
            await self._send(response, asked, body[:cut], answer.bytes_per_s)
        if len(body[:cut]) != response.content_length:
            assert request.transport is not None
            request.transport.close()
        return response

    def _cut(self, answer: Answer, asked: Asked, length: int) -> int:
        if answer.cut_after is None or asked.method == "HEAD":
            return length
        before = sum(other.path == asked.path and other.method == "GET" for other in self.asked[:-1])
        return min(length, answer.cut_after) if before < answer.cuts else length

    @staticmethod
    async def _send(response: web.StreamResponse, asked: Asked, body: bytes, bytes_per_s: float | None) -> None:
        step = len(body) or 1 if bytes_per_s is None else max(1, int(bytes_per_s / 10))
        began_s = time.monotonic()
        for at in range(0, len(body), min(step, 65_536)):
            piece = body[at : at + min(step, 65_536)]
            await response.write(piece)
            asked.sent += len(piece)
            if bytes_per_s is not None:
                # By what was due since the beginning, as nginx has it: on a busy machine each sleep is too long.
                await asyncio.sleep(max(0.0, began_s + (at + len(piece)) / bytes_per_s - time.monotonic()))


def _start_of(header: str) -> int | None:
    """The first byte that a Range header asks for; None where it asks for all."""
    match = re.fullmatch(r"bytes=(\d+)-\d*", header)
    return int(match[1]) if match else None
