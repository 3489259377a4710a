"""Text models by OpenAI's chat protocol: any server that speaks it, and what DeepSeek's provider stands on.

One request is one attempt: nothing is repeated here. Temperature is 0, so that the same text is answered alike as far
as the server can. JSON mode is asked for; a server that refuses it, or another parameter that not all know, is asked
without from then on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trax_ray.codes import FailureCode
from trax_ray.core.limits.signals import ProviderSignal, SignalKind
from trax_ray.core.task import Category, Failure, FailureClass
from trax_ray.errors import ProcessingError
from trax_ray.providers import deepseek_prices
from trax_ray.providers.base import TextProvider, TextReply
from trax_ray.providers.chat_answers import Completion, read_completion
from trax_ray.providers.keys import Secret
from trax_ray.providers.openai_connection import Connection
from trax_ray.providers.openai_refusals import TEXT_FLAGS, judge, said_in
from trax_ray.providers.prices import tokens_of

if TYPE_CHECKING:
    import openai

__all__ = ["PROVIDER", "Chat"]

NAME = "chat"

_MAY_LACK = ("response_format", "temperature", "thinking", "max_tokens")
"""Parameters that servers refuse which are otherwise of use. Source: LM Studio (`response_format.type must be
'json_schema' or 'text'`), OpenAI's reasoning models (`max_tokens`, `temperature`)."""


class Chat:
    """One model on one server, for many requests at the same time in one event loop.

    Args:
        provider: Whose model it is: its name, its prices.
        model: The model's name.
        connection: To its server.
        priced: Whether the server charges what the provider's prices say.
        more: Parameters that only this provider's server has.
    """

    def __init__(
        self,
        provider: TextProvider,
        model: str,
        connection: Connection,
        *,
        priced: bool,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = provider.name
        self.model = model
        self._provider = provider
        self._connection = connection
        self._priced = priced
        self._more = dict(more or {})
        self._without: set[str] = set()

    async def complete(self, instructions: str, text: str, *, max_tokens: int, as_json: bool) -> TextReply:
        """Send one request; see `TextService.complete`."""
        import openai

        began = time.monotonic()
        likely = {
            "prompt_tokens": tokens_of(instructions) + tokens_of(text),
            "completion_tokens": max_tokens,
        }
        try:
            raw = await self._connection.client().chat.completions.with_raw_response.create(
                model=self.model,
                messages=[{"role": "system", "content": instructions}, {"role": "user", "content": text}],
                **self._parameters(max_tokens, as_json),
            )
            body = raw.http_response.content
        except openai.APIStatusError as error:
            return self._refused(error, time.monotonic() - began)
        except openai.APITimeoutError as error:
            return self._lost(error, FailureCode.TIMEOUT, likely, began)
        except openai.OpenAIError as error:
            code = FailureCode.CONNECTION if isinstance(error, openai.APIConnectionError) else FailureCode.CLIENT
            return self._lost(error, code, likely, began)
        except Exception as error:  # noqa: BLE001 - what the HTTP library raises while a body is read is its own
            return self._lost(error, FailureCode.CONNECTION, likely, began)
        return self._answered(body, raw.headers, max_tokens, likely, time.monotonic() - began)

    async def close(self) -> None:
        """Let go of all connections."""
        await self._connection.close()

    # Asking

    def _parameters(self, max_tokens: int, as_json: bool) -> dict[str, Any]:
        given: dict[str, Any] = {}
        if "temperature" not in self._without:
            given["temperature"] = 0.0
        given["max_completion_tokens" if "max_tokens" in self._without else "max_tokens"] = max_tokens
        if as_json and "response_format" not in self._without:
            given["response_format"] = {"type": "json_object"}
        more = {name: value for name, value in self._more.items() if name not in self._without}
        return {**given, "extra_body": more} if more else given

    # Reading

    def _answered(
        self,
        body: bytes,
        headers: Mapping[str, str],
        max_tokens: int,
        likely: Mapping[str, int],
        latency_s: float,
    ) -> TextReply:
        try:
            answer = read_completion(body, max_tokens=max_tokens)
        except ProcessingError as error:
            # It was a 200, so it is likely to be charged for.
            signal = self._signal("bad_answer", headers, latency_s, self._price(likely))
            message = f"the server's answer can't be used: {self._connection.clean(error.message)}"
            return TextReply(signal, failure=_failure(FailureClass.TRANSIENT, error.code, message))
        signal = self._signal("ok", headers, latency_s, self._price(answer.usage or likely))
        signal = replace(signal, used_tokens=answer.tokens("total_tokens") or 0)
        reply = TextReply(
            signal,
            text=answer.text,
            cut_off=answer.finish == "length",
            input_tokens=answer.tokens("prompt_tokens", "input_tokens"),
            cached_tokens=answer.cached_tokens,
            output_tokens=answer.tokens("completion_tokens", "output_tokens"),
        )
        return self._as_ended(reply, answer)

    def _as_ended(self, reply: TextReply, answer: Completion) -> TextReply:
        """The reply by why the model stopped."""
        if answer.finish == "content_filter":
            message = "the provider's filter doesn't let the model say more"
            return replace(reply, failure=_failure(FailureClass.PERMANENT, FailureCode.CONTENT_FILTER, message))
        if answer.finish == "insufficient_system_resource":
            failure = Failure(
                FailureClass.TRANSIENT,
                Category.NETWORK,
                FailureCode.SERVER_ERROR,
                "the provider broke off: it has no room for the request at present",
            )
            return replace(reply, failure=failure, signal=replace(reply.signal, kind=SignalKind.OVERLOADED))
        return reply

    def _refused(self, error: openai.APIStatusError, latency_s: float) -> TextReply:
        status, headers = error.status_code, error.response.headers
        code, message = said_in(error.body)
        message = self._connection.clean(message or error.response.reason_phrase or "no reason given")
        if self._learns(status, message):
            failure = _failure(FailureClass.TRANSIENT, FailureCode.FORMAT_REFUSED, f"HTTP {status}: {message}")
            return TextReply(self._connection.signal("rejected", status, headers, latency_s, None), failure=failure)
        ended = self._provider.shutdown(self.model, base_url=self._connection.base_url)
        failure, kind = judge(status, code, message, self.model, self.name, ended, TEXT_FLAGS)
        signal = self._connection.signal(kind, status, headers, latency_s, None)
        if failure.failure_class is FailureClass.TRANSIENT and signal.retry_after_s:
            failure = replace(failure, retry_after_s=signal.retry_after_s)
        return TextReply(signal, failure=failure)

    def _learns(self, status: int, message: str) -> bool:
        """Whether a refusal names a parameter that can be left out; from then on it is."""
        if status not in (400, 415, 422):
            return False
        named = [name for name in _MAY_LACK if name in message and name not in self._without]
        self._without.update(named[:1])
        return bool(named)

    def _lost(self, error: Exception, code: FailureCode, likely: Mapping[str, int], began: float) -> TextReply:
        """No answer came. One that was asked for may have been worked on, and then it is charged for."""
        lost = self._connection.lost(error, code, began)
        price = self._price(likely) if lost.asked else None
        return TextReply(replace(lost.signal, cost_usd=price), failure=lost.failure)

    def _signal(self, kind: str, headers: Mapping[str, str], latency_s: float, price: float | None) -> ProviderSignal:
        return self._connection.signal(kind, 200, headers, latency_s, price)

    def _price(self, usage: Mapping[str, Any]) -> float | None:
        return self._provider.cost_usd(self.model, usage, None, time.time()) if self._priced else None


def _failure(kind: FailureClass, code: str, message: str) -> Failure:
    return Failure(kind, Category.PROCESSING, code, message)


class ChatProvider(TextProvider):
    """See `TextProvider`; any model of a server that `--enhance-base-url` names."""

    name = NAME
    models = "any model of a server that --enhance-base-url names"
    key_variable = "ENHANCE_API_KEY"
    any_server = True
    prices = replace(deepseek_prices.PRICES, hosts=())
    """For a gateway to models whose prices are known, and only where the user sets a limit of costs."""

    def has(self, model: str) -> bool:
        """None without a server's address."""
        return False

    def connect(self, model: str, *, key: Secret | None, base_url: str, priced: bool) -> Chat:
        """See `TextProvider.connect`."""
        connection = Connection(NAME, own_name=base_url, own_url=base_url, base_url=base_url, key=key, flags=TEXT_FLAGS)
        return Chat(self, model, connection, priced=priced)


PROVIDER = ChatProvider()
