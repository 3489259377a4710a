"""The server: takes requests, orders the work, sends the answers, and writes everything into the ledger."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import hashlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from random import Random
from types import TracebackType
from typing import Any, TypeVar

from aiohttp import web

from tests.support.speech_server import hearing
from tests.support.speech_server.answers import Refused
from tests.support.speech_server.delivery import deliver
from tests.support.speech_server.faults import Call, Effect, Fault, Plan, Sending, in_order
from tests.support.speech_server.ledger import Entry, Ledger, fingerprint_of_key
from tests.support.speech_server.limits import Gate, Limits
from tests.support.speech_server.models import SPEECH_MODELS
from tests.support.speech_server.scripts import Script, constant
from tests.support.speech_server.service import ChatScript, Request, Service, chat_script
from tests.support.speech_server.wire import Reply, parse_form, read_body

__all__ = ["KEY", "TEXT", "SpeechServer"]

KEY = "sk-speech-server-0123456789"
"""The key that a server accepts unless it is told another."""

TEXT = "The quick brown fox jumps over the lazy dog."
"""What is said in every upload, unless a script says something else."""

_T = TypeVar("_T")

_ENDPOINTS = {
    ("POST", "/audio/transcriptions"): "transcriptions",
    ("POST", "/chat/completions"): "chat",
    ("GET", "/models"): "models",
}


class SpeechServer:
    """OpenAI's audio endpoints and DeepSeek's chat endpoint on 127.0.0.1, in a thread.

        with SpeechServer(constant("hello")) as server:
            client = openai.OpenAI(base_url=server.url, api_key=server.key, max_retries=0)

    Args:
        script: What is said in uploads; see `scripts`.
        chat: What the chat model says: a function of the request, the same for all, or one after the other (the
            last one again and again). None repeats the last message, in JSON mode as `{"text": ...}`.
        faults: What goes wrong; see `faults`.
        limits: What is refused, and how long answers take.
        key: The key that is accepted; None accepts any, and none.
        decode: Listen to uploads. Without it durations come from headers, uploads that are no audio pass, and
            thousands of requests a second are possible.
        port: 0 for a free one.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        chat: ChatScript | Sequence[str] | str | None = None,
        faults: Plan | Sequence[Fault | None] | None = None,
        limits: Limits | None = None,
        key: str | None = KEY,
        decode: bool = True,
        port: int = 0,
    ) -> None:
        self._service = Service(script or constant(TEXT), chat_script(chat), key)
        self._plan = _plan(faults)
        self._gate = Gate(limits or Limits(), time.monotonic())
        self._chance = Random(self._gate.limits.seed)
        self._decode = decode
        self._port = port
        self._memory = hearing.Memory()
        self._ledger = Ledger()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._alone = asyncio.Lock()

    # What a test says and asks

    @property
    def url(self) -> str:
        """What to give as `base_url`, with `/v1`."""
        return f"{self.origin}/v1"

    @property
    def origin(self) -> str:
        """The address without `/v1`, as DeepSeek's; both work."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def key(self) -> str | None:
        """The key that is accepted. Another may be set at any time; one that was revoked is never accepted again."""
        return self._service.key

    @key.setter
    def key(self, key: str | None) -> None:
        self._service.key = key

    def order(self, faults: Plan | Sequence[Fault | None] | None) -> None:
        """Let other things go wrong from now on; None lets nothing."""
        self._plan = _plan(faults)

    def limit(self, limits: Limits) -> None:
        """Take other requests from now on."""

        def change() -> None:
            self._gate.change(limits, time.monotonic())
            self._chance = Random(limits.seed)

        self._inside(change)

    def end_model(self, model: str) -> None:
        """Let a model's day of shutdown come."""
        self._service.gone.add(model)

    @property
    def ledger(self) -> Ledger:
        """What was received, completed and paid so far: a copy that no longer changes."""
        return self._inside(self._ledger.snapshot)

    def clear_ledger(self) -> None:
        """Forget requests that are over."""
        self._inside(self._ledger.clear)

    # The thread

    def start(self) -> SpeechServer:
        """Serve, in a thread of its own.

        Raises:
            OSError: The port is taken.
        """
        started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name="speech-server", daemon=True)
        self._thread.start()
        started.result()
        return self

    def close(self) -> None:
        """End it, with all connections; safe to repeat. The ledger stays."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._service.close()

    def __enter__(self) -> SpeechServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, started: concurrent.futures.Future[None]) -> None:
        try:
            asyncio.run(self._main(started))
        except OSError as error:
            started.set_exception(error)

    async def _main(self, started: concurrent.futures.Future[None]) -> None:
        loop = asyncio.get_running_loop()
        server = web.Server(self._handle, access_log=None)
        listener = await loop.create_server(server, "127.0.0.1", self._port, backlog=1024)
        self._port = listener.sockets[0].getsockname()[1]
        self._loop = loop
        started.set_result(None)
        await self._stop.wait()
        self._loop = None
        listener.close()
        for connection in server.connections:
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.sleep(0)  # lets the transports close their sockets; the end of the loop ends what is in flight

    def _inside(self, act: Callable[[], _T]) -> _T:
        """Do something where no request is in the middle of a step, so that counts agree with what clients saw."""
        loop = self._loop
        if loop is None or threading.current_thread() is self._thread:
            return act()
        result: concurrent.futures.Future[_T] = concurrent.futures.Future()
        loop.call_soon_threadsafe(lambda: result.set_result(act()))
        return result.result()

    # One request

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        path = http.path.removeprefix("/v1")
        if path == "/_ledger":
            return web.json_response(self._ledger.as_json())
        lookup = path.startswith("/models/") and http.method == "GET"
        endpoint = "models" if lookup else _ENDPOINTS.get((http.method, path), "unknown")
        entry = self._ledger.open(endpoint, http.path, _now())
        try:
            return await self._deal(Request(http, endpoint), entry)
        except ConnectionError:
            return web.Response()  # goes nowhere: the client went away, or was cut off
        finally:
            self._ledger.close(entry, _now())

    async def _deal(self, request: Request, entry: Entry) -> web.StreamResponse:
        began = time.monotonic()
        entry.key = fingerprint_of_key(request.key)
        await self._read(request, entry)
        fault: Fault | None = None
        reply = self._gate.enter(time.monotonic())
        if reply is None:
            try:
                fault = self._plan(_call(entry))
                reply = await self._reply(request, entry, fault)
            finally:
                self._gate.leave((entry.usage or {}).get("total_tokens", 0), time.monotonic())
        self._label(reply, entry, time.monotonic() - began)
        lasts_s = 0.0
        if fault is not None and fault.sending is Sending.KEPT_ALIVE:
            lasts_s = self._seconds(fault.delay_s)
        return await deliver(request.http, entry, reply, fault, lasts_s, lambda: self._ledger.close(entry, _now()))

    async def _read(self, request: Request, entry: Entry) -> None:
        """Read the body and understand it, as far as it can be understood."""
        http = request.http
        if http.headers.get("expect", "").lower() == "100-continue":
            await http.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            body = request.body = await read_body(http, self._gate.limits.upload_bytes)
        finally:
            entry.received_bytes = http.content.total_bytes
        if body is not None and request.endpoint == "transcriptions":
            form = request.form = parse_form(http.headers.get("content-type", ""), body)
            if form is not None:
                entry.fields = {name: [*values] for name, values in form.fields.items()}
                entry.model = form.one("model")
            request.body = b""  # the form has it all; long uploads that wait are held once only
            if form is not None and form.file is not None:
                heard = request.heard = await self._hear(form.file.data, form.file.suffix)
                entry.file_name, entry.audio, entry.audio_s = form.file.file_name, heard.audio, heard.seconds
        elif body is not None and request.endpoint == "chat":
            request.chat = _object(body)
            entry.fields = {name: value for name, value in request.chat.items() if name != "messages"}
            entry.messages = request.chat.get("messages") or []
            entry.model = request.chat.get("model")

    async def _hear(self, data: bytes, suffix: str) -> hearing.Heard:
        digest = hashlib.sha256(data).hexdigest()
        known = self._memory.known(digest)
        if known is not None:
            return known
        if not self._decode:
            return self._memory.learn(digest, hearing.declared_s(data))
        result = await asyncio.get_running_loop().run_in_executor(None, hearing.attempt, data, suffix)
        return self._memory.learn(digest, result)

    async def _reply(self, request: Request, entry: Entry, fault: Fault | None) -> Reply:
        """Do what a fault says, and else the work."""
        if fault is not None:
            entry.fault = fault.name
            self._suffer(fault, request, entry)
            if fault.sending is not Sending.KEPT_ALIVE:
                await asyncio.sleep(self._seconds(fault.delay_s))
            if fault.reply is not None or not fault.works:
                found = fault.reply or Reply()
                return Reply(found.status, found.payload, found.content_type, dict(found.headers))
        limits = self._gate.limits
        try:
            reply = await self._service.answer(request, entry, limits.upload_bytes)
        except Refused as refused:
            return refused.reply
        async with self._alone if limits.one_by_one else contextlib.nullcontext():
            await asyncio.sleep(self._seconds(limits.delay_s))
        return reply if fault is None or fault.spoil is None else fault.spoil(reply)

    def _suffer(self, fault: Fault, request: Request, entry: Entry) -> None:
        """What stays after a fault."""
        if fault.effect is Effect.REVOKE_KEY:
            self._service.revoked.add(request.key)
        if fault.effect is Effect.END_MODEL and entry.model is not None:
            self._service.gone.add(entry.model)

    def _seconds(self, limits: float | tuple[float, float]) -> float:
        return self._chance.uniform(*limits) if isinstance(limits, tuple) else limits

    def _label(self, reply: Reply, entry: Entry, took_s: float) -> None:
        """Give an answer the headers of the service; a page of something in between has none."""
        if isinstance(reply.payload, dict):
            entry.code = (reply.payload.get("error") or {}).get("code")
        if reply.content_type.startswith("text/html"):
            return
        entry.request_id = f"req_{uuid.uuid4().hex}"
        model = SPEECH_MODELS.get(entry.model or "")
        tokens = entry.endpoint == "chat" or (model is not None and model.counts_tokens)
        reply.headers |= {
            "x-request-id": entry.request_id,
            "openai-processing-ms": f"{took_s * 1000:.0f}",
            "openai-version": "2020-10-01",
            **self._gate.headers(time.monotonic(), tokens=tokens),
        }


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _call(entry: Entry) -> Call:
    return Call(
        entry.endpoint,
        entry.number,
        entry.model,
        entry.audio,
        entry.audio_s,
        entry.fields,
        entry.key,
        entry.file_name,
    )


def _plan(faults: Plan | Sequence[Fault | None] | None) -> Plan:
    return faults if callable(faults) else in_order(faults or ())


def _object(body: bytes) -> dict[str, Any]:
    """The JSON object that a body is; empty where it is none."""
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
