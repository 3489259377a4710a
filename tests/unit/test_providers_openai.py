"""OpenAI's protocol against a real socket: what is asked, what is made of every answer, and what goes nowhere."""

from __future__ import annotations

import asyncio
import math
import shutil
import socket
import ssl
import subprocess
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.speech_server import (
    KEY,
    Call,
    Fault,
    Limits,
    SpeechServer,
    Transcript,
    constant,
    faults,
    fingerprint_of_key,
)
from tests.support.speech_server.scripts import segments_of
from tests.support.speech_server.wire import JSON
from tests.support.speech_server.wire import Reply as Raw
from trax_ray.core.limits.signals import SignalKind
from trax_ray.core.task import Category, FailureClass
from trax_ray.media.encode import WAV_BYTES_PER_S, opus
from trax_ray.media.speech import Span, Word
from trax_ray.providers.base import EngineOptions, Reply, SpeechService
from trax_ray.providers.keys import Secret
from trax_ray.providers.openai import OpenAISpeech, connect
from trax_ray.providers.openai_models import SHUTDOWNS
from trax_ray.providers.openai_refusals import said_in

TEXT = "The train leaves at nine. Bring your coat."
URL = "https://elsewhere.example/v1"
SAID = [*zip(TEXT.split(), range(8), strict=True)]

Start = Callable[..., SpeechServer]


@dataclass(frozen=True)
class Upload:
    """Something to send."""

    data: bytes
    duration_s: float
    speech: tuple[Span, ...]


def upload_of(seconds: float) -> Upload:
    chance = np.random.default_rng(3)
    audio = (0.2 * chance.standard_normal(int(seconds * 16_000))).astype(np.float32).clip(-1, 1)
    return Upload(opus(audio), seconds, (Span(0.25, seconds - 0.25),))


SHORT = upload_of(4.0)


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts servers that end with the test."""
    servers: list[SpeechServer] = []

    def begin(script: Any = None, **options: Any) -> SpeechServer:
        servers.append(SpeechServer(script or constant(TEXT), **options).start())
        return servers[-1]

    yield begin
    for server in servers:
        server.close()


def ask_each(
    server: SpeechServer | str,
    times: int,
    model: str = "whisper-1",
    *,
    upload: Upload = SHORT,
    key: str | None = KEY,
    priced: bool = True,
    timeout_s: float = 20.0,
    **options: Any,
) -> list[Reply]:
    """The answers to some requests, one after the other, by one service."""
    url = server if isinstance(server, str) else server.url

    async def talk() -> list[Reply]:
        service = connect(model, key=Secret(key) if key else None, base_url=url, priced=priced)
        try:
            return [await asyncio.wait_for(say(service), timeout_s) for _ in range(times)]
        finally:
            await service.close()

    async def say(service: OpenAISpeech) -> Reply:
        return await service.transcribe(
            upload.data, duration_s=upload.duration_s, speech=upload.speech, options=EngineOptions(**options)
        )

    return asyncio.run(talk())


def ask(server: SpeechServer | str, model: str = "whisper-1", **more: Any) -> Reply:
    return ask_each(server, 1, model, **more)[0]


def code_of(reply: Reply) -> str:
    assert reply.failure is not None
    return reply.failure.code


# What each model is asked for, and what it gives


def test_it_is_a_service() -> None:
    service = connect("whisper-1", key=None, base_url="", priced=True)
    assert isinstance(service, SpeechService)
    assert (service.name, service.model) == ("openai", "whisper-1")


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        ("whisper-1", {"response_format": ["verbose_json"], "language": ["en"], "prompt": ["Ray, Trax"]}),
        (
            "gpt-4o-transcribe",
            {"response_format": ["json"], "language": ["en"], "prompt": ["Ray, Trax"], "include[]": ["logprobs"]},
        ),
        (
            "gpt-4o-mini-transcribe-2025-12-15",
            {"response_format": ["json"], "language": ["en"], "prompt": ["Ray, Trax"], "include[]": ["logprobs"]},
        ),
        ("gpt-4o-transcribe-diarize", {"response_format": ["diarized_json"], "language": ["en"]}),
        ("gpt-transcribe", {"response_format": ["json"], "languages[]": ["en"], "keywords[]": ["Ray", "Trax"]}),
    ],
)
def test_what_each_model_is_asked(start: Start, model: str, fields: dict[str, list[str]]) -> None:
    server = start()
    reply = ask(server, model, language="en", initial_prompt="Ray, Trax")
    assert reply.failure is None
    (entry,) = server.ledger.entries
    assert entry.fields == {"model": [model], **fields}
    assert (entry.file_name, entry.path, entry.status) == ("audio.ogg", "/v1/audio/transcriptions", 200)
    assert entry.audio_s == pytest.approx(4.0, abs=0.1)


def test_nothing_is_sent_that_was_not_asked_for(start: Start) -> None:
    server = start()
    ask(server)
    assert server.ledger.entries[0].fields == {"model": ["whisper-1"], "response_format": ["verbose_json"]}


def test_word_times_are_asked_of_the_model_that_has_them(start: Start) -> None:
    server = start()
    reply = ask(server, word_timestamps=True)
    assert server.ledger.entries[0].fields["timestamp_granularities[]"] == ["word", "segment"]
    words = [word.text for segment in reply.segments for word in segment.words]
    assert words == ["The", "train", "leaves", "at", "nine", "Bring", "your", "coat"]
    assert all(segment.start_s <= word.start_s <= segment.end_s for segment in reply.segments for word in segment.words)


@pytest.mark.parametrize(("seconds", "chunking"), [(20.0, None), (31.0, ["auto"])])
def test_above_thirty_seconds_the_server_cuts_where_speakers_are_told_apart(
    start: Start, seconds: float, chunking: list[str] | None
) -> None:
    server = start(decode=False)
    reply = ask(server, "gpt-4o-transcribe-diarize", upload=upload_of(seconds))
    assert reply.failure is None
    assert server.ledger.entries[0].fields.get("chunking_strategy") == chunking


def test_whisper_gives_segments_with_confidence(start: Start) -> None:
    reply = ask(start(), "whisper-1")
    assert [segment.text for segment in reply.segments] == ["The train leaves at nine.", "Bring your coat."]
    assert [segment.confidence for segment in reply.segments] == [pytest.approx(0.8)] * 2
    assert all(segment.no_speech_prob == 0.01 and segment.compression_ratio for segment in reply.segments)
    assert (reply.language, reply.made_up) == ("en", ())


def test_text_without_times_gets_those_of_the_speech_and_says_so(start: Start) -> None:
    reply = ask(start(), "gpt-transcribe")
    (segment,) = reply.segments
    assert (segment.text, segment.start_s, segment.end_s) == (TEXT, 0.25, 3.75)
    assert (segment.confidence, reply.made_up, reply.language) == (None, ("segment_times",), "en")


def test_token_probabilities_are_confidence(start: Start) -> None:
    reply = ask(start(), "gpt-4o-transcribe")
    (segment,) = reply.segments
    assert segment.confidence == pytest.approx(0.9)
    assert reply.made_up == ("segment_times",)


def test_speakers_are_kept(start: Start) -> None:
    words = [Word(0.4 * at, 0.4 * at + 0.3, text) for text, at in SAID]
    said = Transcript(segments_of(words), speakers=("A", "B"))
    reply = ask(start(lambda _: said), "gpt-4o-transcribe-diarize")
    assert [(segment.speaker, segment.text) for segment in reply.segments] == [
        ("A", "The train leaves at nine."),
        ("B", "Bring your coat."),
    ]


# Money, and what travels for the limits


@pytest.mark.parametrize(
    ("model", "usd"),
    [
        ("whisper-1", 4 / 60 * 0.006),
        ("gpt-transcribe", 4 / 60 * 0.0045),
        ("gpt-4o-transcribe", (40 * 6 + 13 * 10) / 1e6),
        ("gpt-4o-mini-transcribe-2025-12-15", (40 * 3 + 13 * 5) / 1e6),
    ],
)
def test_what_an_answer_costs(start: Start, model: str, usd: float) -> None:
    assert ask(start(), model).signal.cost_usd == pytest.approx(usd)


def test_where_nobody_said_that_the_server_charges_it_has_no_price(start: Start) -> None:
    server = start(faults=[None, faults.html(), faults.lost_answer()])
    replies = ask_each(server, 3, priced=False)
    assert [reply.signal.cost_usd for reply in replies] == [None, None, None]


def test_headers_of_the_limits_travel_with_the_answer(start: Start) -> None:
    signal = ask(start(limits=Limits(per_second=60)), "gpt-4o-transcribe").signal
    assert (signal.kind, signal.status, signal.limit_requests, signal.remaining_requests) == (
        SignalKind.OK,
        200,
        60,
        59,
    )
    assert signal.reset_requests_s is not None
    assert signal.limit_tokens
    assert signal.remaining_tokens is not None
    assert signal.request_id.startswith("req_")
    assert 0 < signal.latency_s < 20


# What goes wrong


@dataclass(frozen=True)
class Case:
    """A fault and what is made of it."""

    fault: Fault
    failure_class: str
    code: str
    signal: str
    status: int
    retry_after_s: float | None = None
    charged: bool = False
    category: str = "network"


CASES = [
    Case(faults.rate_limited(), "transient", "rate_limited", "rate_limited", 429),
    Case(faults.rate_limited(retry_after_s=7), "transient", "rate_limited", "rate_limited", 429, 7.0),
    Case(faults.rate_limited(retry_after_ms=250), "transient", "rate_limited", "rate_limited", 429, 0.25),
    Case(faults.insufficient_quota(), "config", "no_credit", "refused", 429),
    Case(faults.insufficient_balance(), "config", "no_credit", "refused", 402),
    Case(faults.key_revoked(), "config", "key_refused", "refused", 401),
    Case(faults.forbidden(), "config", "key_refused", "refused", 403),
    Case(faults.model_gone(), "config", "no_such_model", "refused", 404),
    Case(faults.status(404, "Not Found"), "config", "wrong_address", "refused", 404),
    Case(faults.status(405), "config", "wrong_address", "refused", 405),
    Case(faults.status(400, "Model Not Exist"), "config", "no_such_model", "refused", 400),
    Case(faults.status(400), "permanent", "rejected", "rejected", 400, category="processing"),
    Case(faults.status(422), "permanent", "rejected", "rejected", 422, category="processing"),
    Case(faults.status(413), "permanent", "too_large", "rejected", 413, category="processing"),
    Case(faults.status(408), "transient", "server_error", "overloaded", 408),
    Case(faults.status(409), "transient", "server_error", "overloaded", 409),
    Case(faults.server_error(500), "transient", "server_error", "overloaded", 500),
    Case(faults.server_error(502), "transient", "server_error", "overloaded", 502),
    Case(faults.server_error(503), "transient", "server_error", "overloaded", 503),
    Case(faults.server_error(504), "transient", "server_error", "overloaded", 504),
    Case(faults.status(529), "transient", "server_error", "overloaded", 529),
    Case(faults.redirect(URL, 301), "config", "redirected", "refused", 301),
    Case(faults.redirect(URL, 308), "config", "redirected", "refused", 308),
    Case(faults.html(), "transient", "bad_answer", "bad_answer", 200, charged=True, category="processing"),
    Case(faults.garbage("null"), "transient", "bad_answer", "bad_answer", 200, charged=True, category="processing"),
    Case(faults.garbage("foo"), "transient", "bad_answer", "bad_answer", 200, charged=True, category="processing"),
    Case(faults.garbage("broken"), "transient", "bad_answer", "bad_answer", 200, charged=True, category="processing"),
    Case(faults.truncated(), "transient", "bad_answer", "bad_answer", 200, charged=True, category="processing"),
    Case(faults.empty_text(), "transient", "no_words", "bad_answer", 200, charged=True, category="processing"),
    Case(
        faults.segments_beyond_the_end(),
        "transient",
        "bad_answer",
        "bad_answer",
        200,
        charged=True,
        category="processing",
    ),
    Case(faults.cut("before"), "transient", "connection", "connection", 0, charged=True),
    Case(faults.cut("before", reset=True), "transient", "connection", "connection", 0, charged=True),
    Case(faults.cut("head"), "transient", "connection", "connection", 0, charged=True),
    Case(faults.cut("body"), "transient", "connection", "connection", 0, charged=True),
    Case(faults.cut("body", reset=True), "transient", "connection", "connection", 0, charged=True),
    Case(faults.lost_answer(), "transient", "connection", "connection", 0, charged=True),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.fault.name.replace(" ", "-"))
def test_every_fault_has_a_class_a_code_and_a_signal(start: Start, case: Case) -> None:
    server = start(faults=[case.fault])
    reply = ask(server)
    failure = reply.failure
    assert failure is not None
    assert failure.failure_class is FailureClass(case.failure_class)
    assert failure.category is Category(case.category)
    assert failure.code == case.code
    assert failure.retry_after_s == case.retry_after_s
    assert failure.parks == ("openai" if case.failure_class == "config" else "")
    assert (reply.signal.kind, reply.signal.status) == (SignalKind(case.signal), case.status)
    assert reply.signal.retry_after_s == case.retry_after_s
    assert reply.signal.cost_usd == (pytest.approx(4 / 60 * 0.006) if case.charged else None)
    assert failure.message
    assert "\n" not in failure.message
    assert not reply.segments
    (entry,) = server.ledger.entries
    assert case.charged or not entry.paid, "what was paid is counted"


def test_a_missing_model_is_not_put_right_by_resuming(start: Start) -> None:
    """`trax-ray resume` would ask for the same one."""
    failure = ask(start(faults=[faults.status(400, "Model Not Exist")])).failure
    assert failure is not None
    assert failure.message.endswith("take --model gpt-transcribe with the same `trax-ray batch` command")


def test_every_fault_of_the_server_is_one_of_these() -> None:
    """So that a new one isn't forgotten here. The others are for chat, or no faults to a client that waits."""
    makers = {name for name in faults.__all__ if name[0].islower()}
    plans = {"at", "first_of", "in_order", "sometimes", "starting"}
    others = {"finished_by", "missing_fields", "segments_out_of_order", "slow", "kept_alive", "dripping", "hang"}
    names = {case.fault.name.replace(" ", "_") for case in CASES}
    assert [maker for maker in makers - plans - others if not any(name.startswith(maker) for name in names)] == []


def test_missing_fields_are_no_failure(start: Start) -> None:
    reply = ask(start(faults=[faults.missing_fields()]))
    assert [segment.text for segment in reply.segments] == ["The train leaves at nine.", "Bring your coat."]
    assert [segment.confidence for segment in reply.segments] == [None, None]


@pytest.mark.parametrize("fault", [faults.slow(0.3), faults.kept_alive(0.3), faults.dripping(0.0005)])
def test_a_slow_answer_is_an_answer(start: Start, fault: Fault) -> None:
    reply = ask(start(faults=[fault]))
    assert reply.failure is None
    assert " ".join(segment.text for segment in reply.segments) == TEXT


@pytest.mark.parametrize("fault", [faults.hang(), faults.dripping(0.2)])
def test_who_waits_no_longer_closes_the_connection(start: Start, fault: Fault) -> None:
    """The deadline is set around the whole request, by whoever makes the attempt."""
    server = start(faults=[fault])
    began = time.monotonic()
    with pytest.raises(asyncio.TimeoutError):
        ask(server, timeout_s=0.5)
    assert time.monotonic() - began < 3
    end = time.monotonic() + 3
    while server.ledger.in_flight and time.monotonic() < end:
        time.sleep(0.02)
    assert server.ledger.in_flight == 0


def test_nobody_is_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    reply = ask(f"http://127.0.0.1:{port}/v1")
    assert reply.failure is not None
    assert (reply.failure.failure_class, reply.failure.code) == (FailureClass.TRANSIENT, "connection")
    assert reply.signal.kind is SignalKind.CONNECTION
    assert reply.signal.cost_usd is None, "nothing was sent"


def test_a_name_that_does_not_exist() -> None:
    reply = ask("http://nowhere.invalid/v1")
    assert reply.failure is not None
    assert (reply.failure.failure_class, reply.failure.code) == (FailureClass.TRANSIENT, "connection")
    assert reply.failure.message.startswith("nobody answers at http://nowhere.invalid/v1: ")
    assert (reply.signal.cost_usd, reply.signal.unreached) == (None, True)


@pytest.mark.parametrize(
    "said",
    [
        "Client sent an HTTP request to an HTTPS server.\n",
        "<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>",
        "Bad Request. Reason: You're speaking plain HTTP to an SSL-enabled server port.",
    ],
    ids=["go", "nginx", "apache"],
)
def test_http_where_https_is_spoken_parks(start: Start, said: str) -> None:
    server = start(faults=[Fault("http to https", reply=Raw(400, said, "text/plain"), works=False)])
    reply = ask(server)
    assert reply.failure is not None
    assert (reply.failure.failure_class, reply.failure.code) == (FailureClass.CONFIG, "wrong_address")
    assert "the server speaks https: correct --base-url" in reply.failure.message


@contextmanager
def raw_server(head: str, pieces: Iterator[bytes]) -> Iterator[str]:
    """Answers one request with a head and pieces of a body, for as long as somebody reads."""

    def serve() -> None:
        line, _ = listening.accept()
        with line, suppress(OSError):
            with line.makefile("rb") as asked:
                named = [text for text in iter(asked.readline, b"\r\n") if text.lower().startswith(b"content-length:")]
                asked.read(int(named[0].split(b":")[1]))
            line.sendall(head.encode().replace(b"\n", b"\r\n") + b"\r\n\r\n")
            for piece in pieces:
                line.sendall(piece)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        thread.join(10)


def gzip_bomb() -> Iterator[bytes]:
    """Two gigabytes of spaces."""
    packing = zlib.compressobj(9, wbits=31)
    for _ in range(2048):
        yield packing.compress(b" " * 2**20)
    yield packing.flush()


HEAD = "HTTP/1.1 {status}\nContent-Type: application/json\nConnection: close"


@pytest.mark.parametrize(
    ("head", "pieces"),
    [
        (HEAD, lambda: repeat(b" " * 2**16)),
        (f"{HEAD}\nContent-Encoding: gzip", gzip_bomb),
        (f"{HEAD}\nTransfer-Encoding: chunked", lambda: repeat(b"10000\r\n" + b" " * 2**16 + b"\r\n")),
    ],
    ids=["endless", "gzip", "chunked"],
)
@pytest.mark.parametrize("status", ["200 OK", "503 Busy"])
def test_an_answer_without_end_is_read_so_far_and_no_further(
    head: str, pieces: Callable[[], Iterator[bytes]], status: str
) -> None:
    tracemalloc.start()
    with raw_server(head.format(status=status), pieces()) as url:
        reply = ask(url)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reply.failure is not None
    assert peak < 64 * 2**20
    if status == "200 OK":
        assert (reply.failure.failure_class, reply.failure.code) == (FailureClass.TRANSIENT, "answer_too_large")
        assert "it is longer than 16 MB" in reply.failure.message
        assert (reply.signal.kind, reply.signal.status) == (SignalKind.BAD_ANSWER, 200)
        assert reply.signal.cost_usd, "it was a 200"
    else:
        assert (reply.failure.code, reply.signal.status) == ("server_error", 503)


@pytest.mark.parametrize(
    ("packing", "body", "why"),
    [("gzip", b"no gzip", "it is damaged"), ("br", b"\x8b\x00", "packed as 'br', which wasn't asked for")],
)
def test_a_body_that_can_not_be_unpacked_is_a_bad_answer(packing: str, body: bytes, why: str) -> None:
    head = HEAD.format(status="200 OK") + f"\nContent-Encoding: {packing}\nContent-Length: {len(body)}"
    with raw_server(head, iter([body])) as url:
        reply = ask(url)
    assert code_of(reply) == "bad_answer"
    assert reply.failure is not None
    assert why in reply.failure.message


def test_a_key_that_comes_back_as_the_name_of_the_request_is_in_no_signal() -> None:
    head = HEAD.format(status="200 OK") + f"\nX-Request-Id: {KEY.encode().hex()}\nContent-Length: 16"
    with raw_server(head, iter([b'{"text": "hello"}'[:16]])) as url:
        assert ask(url).signal.request_id == "***"


@pytest.mark.parametrize("wbits", [31, 15], ids=["gzip", "deflate"])
def test_a_packed_answer_is_unpacked(wbits: int) -> None:
    packing = zlib.compressobj(wbits=wbits)
    body = packing.compress(b'{"text": "packed"}') + packing.flush()
    encoding = "gzip" if wbits == 31 else "deflate"
    head = HEAD.format(status="200 OK") + f"\nContent-Encoding: {encoding}\nContent-Length: {len(body)}"
    with raw_server(head, iter([body[:9], body[9:]])) as url:
        (segment,) = ask(url).segments
    assert segment.text == "packed"


def test_a_server_that_says_nothing_while_one_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trax_ray.providers.openai_connection.CONNECT_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"https://127.0.0.1:{listening.getsockname()[1]}/v1"
        reply = ask(url)
    assert reply.failure is not None
    assert (reply.failure.failure_class, reply.failure.code) == (FailureClass.TRANSIENT, "timeout")
    assert reply.failure.message == f"nobody answers at {url}: ConnectTimeout"
    assert (reply.signal.cost_usd, reply.signal.unreached) == (None, True)


def test_https_where_none_is_spoken_parks() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def refuse() -> None:
            line, _ = listening.accept()
            with line:
                line.recv(10_000)
                line.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=refuse)
        thread.start()
        reply = ask(f"https://127.0.0.1:{listening.getsockname()[1]}/v1")
        thread.join(timeout=10)
    assert reply.failure is not None
    assert (reply.failure.failure_class, reply.failure.code) == (FailureClass.CONFIG, "wrong_address")
    assert "doesn't speak https" in reply.failure.message
    assert reply.signal.kind is SignalKind.REFUSED


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl, to make a certificate")
def test_a_certificate_that_nobody_vouches_for_parks(tmp_path: Path) -> None:
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run([*made, "-keyout", tmp_path / "key", "-out", tmp_path / "cert"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        received: list[bytes] = []

        def serve() -> None:
            line, _ = listening.accept()
            with line:
                try:
                    received.append(context.wrap_socket(line, server_side=True).recv(10))
                except OSError:
                    received.append(b"")

        thread = threading.Thread(target=serve)
        thread.start()
        reply = ask(f"https://localhost:{listening.getsockname()[1]}/v1")
        thread.join(timeout=10)
    assert received == [b""], "nothing is said to somebody who can't be trusted"
    assert reply.failure is not None
    assert (reply.failure.failure_class, reply.failure.code) == (FailureClass.CONFIG, "wrong_address")
    assert "certificate" in reply.failure.message


def test_a_server_with_a_shutdown_behind_it_is_told_with_what_comes_after(start: Start) -> None:
    for shutdown, model in zip(SHUTDOWNS, ("whisper-1", "gpt-4o-mini-transcribe"), strict=True):
        reply = ask(start(faults=[faults.model_gone()]), model)
        assert reply.failure is not None
        assert f"take --model {shutdown.successor}" in reply.failure.message
        assert str(shutdown.on) in reply.failure.message


def test_retry_after_as_a_date(start: Start) -> None:
    reply = ask(start(faults=[faults.rate_limited(retry_after_s=90, as_date=True)]))
    assert reply.failure is not None
    assert reply.failure.retry_after_s == pytest.approx(90, abs=5)


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_take_neither_upload_nor_key_along(start: Start, status: int) -> None:
    other = start()
    server = start(faults=[faults.redirect(f"{other.url}/audio/transcriptions", status)])
    assert code_of(ask(server)) == "redirected"
    assert len(server.ledger.entries) == 1
    assert other.ledger.entries == []


# The key


def test_messages_do_not_show_the_key(start: Start) -> None:
    secret = "hidden-0123456789abcdef"
    echoes = [
        faults.status(400, f"Bad key {secret}"),
        faults.status(500, f"crashed with Authorization: Bearer {secret}"),
        faults.status(401, f"Incorrect API key provided: {secret}."),
        faults.status(404, f"no route for {secret}"),
        Fault("text", reply=Raw(500, f"<pre>{secret}</pre>", "text/html"), works=False),
        Fault("detail", reply=Raw(422, {"detail": [{"msg": secret}]}, JSON), works=False),
        faults.status(400, "x" * 290 + secret),
    ]
    server = start(faults=echoes, key=secret)
    for reply in ask_each(server, len(echoes), key=secret):
        assert reply.failure is not None
        assert secret not in repr(reply)
        assert secret[:16] not in repr(reply), "nor the beginning of it, where a message is cut"
    assert {entry.key for entry in server.ledger.entries} == {server.ledger.entries[0].key}


def test_what_looks_like_a_key_is_not_shown_either(start: Start) -> None:
    refused = ask(start(), key="sk-proj-someone-elses-key-0123")
    assert refused.failure is not None
    assert "proj" not in refused.failure.message
    assert refused.failure.message.endswith("set a valid key, or see to the account, and run the same command again")


def test_a_server_that_wants_no_key_gets_none_of_ours(start: Start) -> None:
    server = start(key=None)
    assert ask(server, key=None).failure is None
    assert server.ledger.entries[0].key == fingerprint_of_key("none")


def test_nothing_is_taken_from_the_environment(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library takes what it isn't given: a server, and who pays."""
    for name, value in (("BASE_URL", "http://127.0.0.1:1/v1"), ("ORG_ID", "org-1"), ("PROJECT_ID", "proj-1")):
        monkeypatch.setenv(f"OPENAI_{name}", value)
    server = start()
    assert ask(server).failure is None
    service = connect("whisper-1", key=Secret(KEY), base_url="", priced=True)
    client = service._connection.client()
    assert str(client.base_url) == "https://api.openai.com/v1/"
    sent = {name.lower() for name, value in client.default_headers.items() if isinstance(value, str)}
    assert not {name for name in sent if name.startswith("openai-")}


def test_the_service_shows_no_key_in_a_traceback(start: Start) -> None:
    service = connect("whisper-1", key=Secret("hidden-0123456789"), base_url="", priced=True)
    assert "hidden" not in repr(service) + repr(vars(service)) + repr(vars(service._connection))


# Servers that give less


def foreign(call: faults.Call) -> Fault | None:
    """A server of another make: no verbose_json, and only an object with a text."""
    if (call.fields or {}).get("response_format") == ["json"]:
        return Fault("text only", reply=Raw(200, {"text": TEXT}, JSON), works=False)
    return faults.status(400, "response_format 'verbose_json' is not supported by this server")


@pytest.mark.parametrize("model", ["Systran/faster-whisper-small", "whisper-1"])
def test_a_server_without_the_detailed_format_is_asked_for_less_from_then_on(start: Start, model: str) -> None:
    server = start(faults=foreign)
    first, second, third = ask_each(server, 3, model, word_timestamps=True)
    assert first.failure is not None
    assert (first.failure.failure_class, first.failure.code) == (FailureClass.TRANSIENT, "format_refused")
    assert first.signal.cost_usd is None
    for reply in (second, third):
        assert reply.failure is None
        assert (reply.segments[0].text, reply.made_up, reply.language) == (TEXT, ("segment_times",), None)
    asked = [entry.fields["response_format"] for entry in server.ledger.entries]
    assert asked == [["verbose_json"], ["json"], ["json"]]
    assert "timestamp_granularities[]" not in server.ledger.entries[1].fields


def test_the_same_in_the_words_of_fastapi(start: Start) -> None:
    detail = [{"type": "enum", "loc": ["body", "response_format"], "msg": "Input should be 'json' or 'text'"}]
    refusal = Fault("422", reply=Raw(422, {"detail": detail}, JSON), works=False)
    reply = ask(start(faults=[refusal]), "some-model")
    assert code_of(reply) == "format_refused"


def test_a_server_that_refuses_every_format_is_not_asked_for_ever(start: Start) -> None:
    refusal = faults.status(400, "response_format is wrong")
    first, second = ask_each(start(faults=[refusal, refusal]), 2, "some-model")
    assert code_of(first) == "format_refused"
    assert code_of(second) == "rejected"


def no_opus(call: Call) -> Fault | None:
    """A server that reads WAV only."""
    return None if str(call.file_name).endswith(".wav") else faults.status(400, "Unsupported audio format: ogg")


def test_a_server_that_does_not_take_opus_gets_wav_from_then_on(start: Start) -> None:
    server = start(faults=no_opus)
    first, second, third = ask_each(server, 3, upload=upload_of(31.25))
    assert code_of(first) == "format_refused"
    assert (second.failure, third.failure) == (None, None)
    assert second.segments[-1].end_s <= 31.25
    sent = server.ledger.entries
    assert [entry.file_name for entry in sent] == ["audio.ogg", "audio.wav", "audio.wav"]
    assert sent[1].audio_s == pytest.approx(31.25, abs=0.01)
    assert sent[1].received_bytes > 31.25 * WAV_BYTES_PER_S > 5 * sent[0].received_bytes


def test_the_same_by_its_status(start: Start) -> None:
    first, second, third = ask_each(start(faults=[faults.status(415)] * 3), 3)
    assert code_of(first) == "format_refused"
    assert (code_of(second), code_of(third)) == ("rejected", "rejected"), "it isn't that"


def test_what_is_sent_otherwise_takes_its_room_in_memory() -> None:
    service = connect("whisper-1", key=None, base_url=URL, priced=False)
    assert service.bytes_per_s == 0.0
    assert service._learns(415, "")
    assert service.bytes_per_s == WAV_BYTES_PER_S


def test_openais_own_models_are_asked_for_what_the_table_says() -> None:
    own = connect("whisper-1", key=None, base_url="", priced=True)
    assert not own._learns(400, "response_format is wrong")
    assert not own._learns(415, "")
    assert connect("some-model", key=None, base_url="", priced=True)._learns(400, "response_format is wrong")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"message": "m", "code": "c", "type": "t"}, ("c", "m")),
        ({"message": "m", "code": None, "type": "t"}, ("t", "m")),
        ({"message": "m", "code": 404}, ("404", "m")),
        ({"detail": "Not Found"}, ("", "Not Found")),
        ({"error": "flat"}, ("", "flat")),
        ({"detail": [{"loc": ["body", "file"]}]}, ("", '[{"loc": ["body", "file"]}]')),
        ("<html>busy</html>", ("", "<html>busy</html>")),
        ([1], ("", "[1]")),
        (None, ("", "")),
        ({}, ("", "")),
    ],
)
def test_refusals_of_all_forms(body: object, said: tuple[str, str]) -> None:
    assert said_in(body) == said


# Many at the same time


def test_many_requests_share_a_loop_and_get_their_own_answers(start: Start) -> None:
    server = start(lambda asked: f"This is {asked.fields['prompt'][0]} speaking.", decode=False)

    async def talk() -> list[Reply]:
        service = connect("whisper-1", key=Secret(KEY), base_url=server.url, priced=False)
        requests = [
            service.transcribe(
                SHORT.data,
                duration_s=4.0,
                speech=SHORT.speech,
                options=EngineOptions(initial_prompt=f"number{number}"),
            )
            for number in range(64)
        ]
        try:
            return await asyncio.gather(*requests)
        finally:
            await service.close()

    replies = asyncio.run(talk())
    assert [reply.segments[0].text for reply in replies] == [f"This is number{n} speaking." for n in range(64)]
    assert not any(math.isnan(reply.signal.latency_s) for reply in replies)
    assert len({reply.signal.request_id for reply in replies}) == 64
