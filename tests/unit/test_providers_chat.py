"""Text models by OpenAI's chat protocol against a real socket: what is asked, what each answer means."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.speech_server import KEY, Fault, SpeechServer, faults
from tests.support.speech_server.wire import Reply as Raw
from trax_ray.core.limits.signals import SignalKind
from trax_ray.core.task import FailureClass
from trax_ray.errors import UsageError
from trax_ray.providers import chat, deepseek
from trax_ray.providers.base import TextProvider, TextReply
from trax_ray.providers.keys import Secret
from trax_ray.providers.prices import tokens_of
from trax_ray.providers.registry import text_provider_of

INSTRUCTIONS = "Answer with one JSON object. " * 40
MODEL = "deepseek-flash"
CANARY = "sk-canary-9f8e7d6c5b4a3210"

Start = Callable[..., SpeechServer]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts servers that end with the test."""
    servers: list[SpeechServer] = []

    def begin(**options: Any) -> SpeechServer:
        servers.append(SpeechServer(**{"chat": '{"edits": []}'} | options).start())
        return servers[-1]

    yield begin
    for server in servers:
        server.close()


def ask_each(
    server: SpeechServer | str,
    times: int = 1,
    *,
    provider: TextProvider = deepseek.PROVIDER,
    model: str = MODEL,
    key: str | None = KEY,
    priced: bool = True,
    as_json: bool = True,
    max_tokens: int = 500,
) -> list[TextReply]:
    """The answers to some requests, one after the other, by one service."""
    url = server if isinstance(server, str) else server.url

    async def talk() -> list[TextReply]:
        service = provider.connect(model, key=Secret(key) if key else None, base_url=url, priced=priced)
        try:
            return [
                await service.complete(INSTRUCTIONS, "the text", max_tokens=max_tokens, as_json=as_json)
                for _ in range(times)
            ]
        finally:
            await service.close()

    return asyncio.run(asyncio.wait_for(talk(), 20.0))


def ask(server: SpeechServer | str, **more: Any) -> TextReply:
    return ask_each(server, **more)[0]


def saying(content: Any, *, finish: str = "stop", usage: Any = None) -> Fault:
    """An answer of any form."""
    message = {"role": "assistant", "content": content}
    payload: dict[str, Any] = {"choices": [{"index": 0, "message": message, "finish_reason": finish}]}
    return Fault("saying", reply=Raw(200, payload if usage is None else {**payload, "usage": usage}))


def refusing(message: str, status: int = 400) -> Fault:
    return faults.status(status, message)


def test_a_request_is_what_the_maker_asks_for(start: Start) -> None:
    server = start()
    reply = ask(server)
    (entry,) = server.ledger.of("chat")
    assert reply.text == '{"edits": []}'
    assert reply.failure is None
    assert not reply.cut_off
    assert entry.fields == {
        "model": MODEL,
        "temperature": 0.0,
        "max_tokens": 500,
        "response_format": {"type": "json_object"},
        "thinking": {"type": "disabled"},
    }
    assert [each["role"] for each in entry.messages] == ["system", "user"]
    assert entry.messages[0]["content"] == INSTRUCTIONS


def test_tokens_and_money_agree_with_the_servers_account(start: Start) -> None:
    server = start()
    first, second = ask_each(server, 2)
    entries = server.ledger.of("chat")
    assert first.cached_tokens == 0
    assert second.cached_tokens
    assert second.cached_tokens >= 64
    for reply, entry in zip((first, second), entries, strict=True):
        usage = entry.usage or {}
        assert reply.input_tokens == usage["prompt_tokens"]
        assert reply.output_tokens == usage["completion_tokens"]
        assert reply.signal.used_tokens == usage["total_tokens"]
        assert reply.signal.cost_usd is not None
        # The server knows no peak hours.
        assert reply.signal.cost_usd in (pytest.approx(entry.usd), pytest.approx(2 * entry.usd))
    assert ask(server, priced=False).signal.cost_usd is None


def test_any_server_is_asked_in_the_common_words_only(start: Start) -> None:
    server = start(key=None)
    ask(server, provider=chat.PROVIDER, key=None, as_json=False)
    (entry,) = server.ledger.of("chat")
    assert entry.fields == {"model": MODEL, "temperature": 0.0, "max_tokens": 500}


def plan_for_chat(*ordered: Fault | None) -> Any:
    return faults.in_order(ordered, endpoint="chat")


@pytest.mark.parametrize(
    ("message", "left_out", "instead"),
    [
        ("'response_format.type' must be 'json_schema' or 'text'", "response_format", None),
        (
            "Unsupported parameter: 'max_tokens' isn't for this model. Use 'max_completion_tokens' instead.",
            "max_tokens",
            "max_completion_tokens",
        ),
        ("Unsupported value: 'temperature' does not support 0 with this model.", "temperature", None),
        ("Unrecognized request argument supplied: thinking", "thinking", None),
    ],
)
def test_a_server_without_a_parameter_is_asked_without_it(
    start: Start, message: str, left_out: str, instead: str | None
) -> None:
    server = start(faults=plan_for_chat(refusing(message)))
    refused, second, third = ask_each(server, 3)
    assert refused.failure is not None
    assert (refused.failure.code, refused.failure.failure_class) == ("format_refused", FailureClass.TRANSIENT)
    assert second.failure is None
    assert third.failure is None
    for entry in server.ledger.of("chat")[1:]:
        assert left_out not in entry.fields
        assert instead is None or instead in entry.fields


def test_what_is_refused_again_is_refused(start: Start) -> None:
    said = "response_format is unknown"
    server = start(faults=plan_for_chat(refusing(said), refusing(said)))
    first, second = ask_each(server, 2)
    assert first.failure is not None
    assert second.failure is not None
    assert (first.failure.code, second.failure.code) == ("format_refused", "rejected")


TRANSIENT, PERMANENT, CONFIG = FailureClass.TRANSIENT, FailureClass.PERMANENT, FailureClass.CONFIG


@pytest.mark.parametrize(
    ("fault", "code", "failure_class", "kind"),
    [
        (faults.rate_limited(retry_after_s=7), "rate_limited", TRANSIENT, SignalKind.RATE_LIMITED),
        (faults.insufficient_balance(), "no_credit", CONFIG, SignalKind.REFUSED),
        (faults.insufficient_quota(), "no_credit", CONFIG, SignalKind.REFUSED),
        (faults.key_revoked(), "key_refused", CONFIG, SignalKind.REFUSED),
        (faults.model_gone(), "no_such_model", CONFIG, SignalKind.REFUSED),
        (faults.redirect("http://127.0.0.1:9/v1"), "redirected", CONFIG, SignalKind.REFUSED),
        (faults.server_error(500), "server_error", TRANSIENT, SignalKind.OVERLOADED),
        (faults.server_error(502), "server_error", TRANSIENT, SignalKind.OVERLOADED),
        (faults.server_error(503), "server_error", TRANSIENT, SignalKind.OVERLOADED),
        (refusing("Invalid parameters", 422), "rejected", PERMANENT, SignalKind.REJECTED),
        (refusing("This model's maximum context length is 8192 tokens"), "rejected", PERMANENT, SignalKind.REJECTED),
        (faults.finished_by("content_filter"), "content_filter", PERMANENT, SignalKind.OK),
        (faults.finished_by("insufficient_system_resource"), "server_error", TRANSIENT, SignalKind.OVERLOADED),
        (faults.html(), "bad_answer", TRANSIENT, SignalKind.BAD_ANSWER),
        (faults.garbage("null"), "bad_answer", TRANSIENT, SignalKind.BAD_ANSWER),
        (faults.garbage("foo"), "bad_answer", TRANSIENT, SignalKind.BAD_ANSWER),
        (faults.garbage("broken"), "bad_answer", TRANSIENT, SignalKind.BAD_ANSWER),
        (faults.truncated(), "bad_answer", TRANSIENT, SignalKind.BAD_ANSWER),
        (saying({"edits": []}), "bad_answer", TRANSIENT, SignalKind.BAD_ANSWER),
        (faults.cut("body"), "connection", TRANSIENT, SignalKind.CONNECTION),
        (faults.lost_answer(), "connection", TRANSIENT, SignalKind.CONNECTION),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else "",
)
def test_failures_are_classified_as_for_speech(
    start: Start, fault: Fault, code: str, failure_class: FailureClass, kind: SignalKind
) -> None:
    reply = ask(start(faults=plan_for_chat(fault)))
    assert reply.failure is not None
    assert (reply.failure.code, reply.failure.failure_class, reply.signal.kind) == (code, failure_class, kind)
    assert bool(reply.failure.parks) == (failure_class is CONFIG)
    assert "--base-url" not in reply.failure.message.replace("--enhance-base-url", "")
    assert "--model" not in reply.failure.message.replace("--enhance-model", "")


def test_a_request_whose_answer_is_lost_counts_as_paid_at_the_most(start: Start) -> None:
    lost = ask(start(faults=plan_for_chat(faults.lost_answer())))
    answered = ask(start())
    assert lost.signal.cost_usd is not None
    assert answered.signal.cost_usd is not None
    assert lost.signal.cost_usd > answered.signal.cost_usd
    nobody = ask("http://127.0.0.1:9/v1")
    assert nobody.signal.unreached
    assert nobody.signal.cost_usd is None


def test_an_answer_that_stops_in_the_middle_says_so(start: Start) -> None:
    reply = ask(start(faults=plan_for_chat(faults.finished_by("length"))))
    assert reply.failure is None
    assert reply.cut_off
    assert reply.text == '{"edits": []}'[: len('{"edits": []}') // 2]


def test_an_answer_of_any_length_is_bounded_and_one_of_none_is_an_answer(start: Start) -> None:
    reply = ask(start(faults=plan_for_chat(saying("x" * 10_000))))
    assert (len(reply.text), reply.cut_off, reply.failure) == (8_000, True, None)
    for said in (faults.empty_text(), saying(None)):
        reply = ask(start(faults=plan_for_chat(said)))
        assert (reply.text, reply.cut_off, reply.failure) == ("", False, None)


def test_thoughts_before_an_answer_are_no_part_of_it(start: Start) -> None:
    said = '<think>\nThe user wants {"edits": [1]}.\n</think>\n{"edits": []}'
    assert ask(start(faults=plan_for_chat(saying(said)))).text.strip() == '{"edits": []}'


def test_what_a_server_leaves_out_is_none(start: Start) -> None:
    reply = ask(start(faults=plan_for_chat(saying("{}", usage={"prompt_tokens": "many"}))))
    assert (reply.input_tokens, reply.cached_tokens, reply.output_tokens) == (None, None, None)
    details = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    reply = ask(start(faults=plan_for_chat(saying("{}", usage=details))))
    assert (reply.input_tokens, reply.cached_tokens, reply.output_tokens) == (9, 4, 2)


def test_no_message_shows_the_key(start: Start) -> None:
    server = start(key=CANARY, faults=plan_for_chat(refusing(f"bad request by {CANARY}", 422)))
    reply = ask(server, key=CANARY)
    assert reply.failure is not None
    assert CANARY not in json.dumps([str(reply), reply.failure.message])


def test_whose_model_it_is() -> None:
    assert text_provider_of("deepseek-flash") is deepseek.PROVIDER
    assert text_provider_of("anything", base_url="http://localhost:8000/v1") is chat.PROVIDER
    assert text_provider_of("deepseek-flash", base_url="https://api.deepseek.com/beta") is deepseek.PROVIDER
    with pytest.raises(UsageError, match="deepseek-flash"):
        text_provider_of("gpt-9")


def test_what_a_request_costs_at_the_most() -> None:
    prices = deepseek.PROVIDER.prices
    assert prices.text_usd("deepseek-flash", 1_000_000, 0) == pytest.approx(0.30)
    assert prices.text_usd("deepseek-flash", 1_000_000, 1_000_000, peak=False) == pytest.approx(0.75)
    assert prices.text_usd("llama", 1, 1) is None
    assert (tokens_of("a" * 10), tokens_of("字" * 10), tokens_of("")) == (3, 6, 0)
