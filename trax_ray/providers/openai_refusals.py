"""What a server means that speaks OpenAI's protocol and gives no answer: by refusals, by headers, or by nothing."""

from __future__ import annotations

import json
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass

from trax_ray.codes import FailureCode
from trax_ray.core.limits.signals import ProviderSignal, SignalKind, wait_asked_s
from trax_ray.core.task import Category, Failure, FailureClass
from trax_ray.providers.base import Shutdown

__all__ = [
    "SPEECH_FLAGS",
    "TEXT_FLAGS",
    "Flags",
    "duration_s",
    "is_unreached",
    "judge",
    "retry_after_s",
    "said_in",
    "signal_of",
    "was_never_sent",
    "wrong_address",
]

_NO_MODEL = re.compile(r"\bmodels?\b.{0,120}\b(not (exist|found|available)|deprecated|retired)\b", re.IGNORECASE)
"""What services say of a model that they don't have. DeepSeek says it with a 400: `Model Not Exist`."""

_WANTS_HTTPS = re.compile(r"\bhttp request\b.{0,40}\bhttps\b|\bplain http\b.{0,40}\b(https|ssl|tls)\b", re.IGNORECASE)
"""What servers answer who expect TLS: Go's library, nginx, Apache."""


_NO_ROOM = re.compile(
    r"\b(maximum|max) context length\b|\bcontext (length|window|size)\b.{0,80}\bexceed", re.IGNORECASE
)
"""What servers say of a text that is longer than what a model takes: OpenAI, vLLM, llama.cpp."""


@dataclass(frozen=True, slots=True)
class Flags:
    """What messages call the options that a refusal is about.

    Args:
        server: Of the address.
        model: Of the model.
    """

    server: str
    model: str


SPEECH_FLAGS = Flags("--base-url", "--model")
TEXT_FLAGS = Flags("--enhance-base-url", "--enhance-model")


def said_in(body: object) -> tuple[str, str]:
    """The code and the message in the body of a refusal: OpenAI's form, FastAPI's, or whatever text is there."""
    if not isinstance(body, dict):
        return "", str(body or "")
    code = str(body.get("code") or body.get("type") or "")
    message = body.get("message") or body.get("detail") or body.get("error") or ""
    return code, message if isinstance(message, str) else json.dumps(message, default=str)


def wrong_address(cause: BaseException) -> str:
    """Why trying again won't help against an error of the connection; empty where it may."""
    import httpx2

    if isinstance(cause, httpx2.UnsupportedProtocol | httpx2.InvalidURL):
        return "the address can't be asked"
    seen: BaseException | None = cause
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return "the server's certificate isn't trusted"
        if isinstance(seen, ssl.SSLError) and seen.reason == "WRONG_VERSION_NUMBER":
            return "the server doesn't speak https"
        seen = seen.__cause__ or seen.__context__
    return ""


def is_unreached(cause: BaseException) -> bool:
    import httpx2

    return isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout)


def was_never_sent(cause: BaseException) -> bool:
    import httpx2

    return is_unreached(cause) or isinstance(cause, httpx2.PoolTimeout)


def judge(
    status: int,
    code: str,
    message: str,
    model: str,
    provider: str,
    ended: Shutdown | None,
    flags: Flags = SPEECH_FLAGS,
) -> tuple[Failure, str]:
    """What an answer that is no 200 means: for its task, and for the provider.

    Args:
        status: Of HTTP.
        code: The server's word for it, such as `insufficient_quota`.
        message: Its sentence, without secrets.
        model: What was asked for.
        provider: Who was asked.
        ended: What was announced of the end of the model; None where nothing was.
        flags: What the options are called.

    Returns:
        The failure, and the kind of signal.
    """
    said = f"HTTP {status}: {message}"

    def failure(kind: FailureClass, category: Category, name: FailureCode, text: str = said) -> Failure:
        return Failure(kind, category, name, text, parks=provider if kind is FailureClass.CONFIG else "")

    if status == 402 or code == "insufficient_quota":
        text = f"{said}: see to the account's money, and run the same command again"
        return failure(FailureClass.CONFIG, Category.NETWORK, FailureCode.NO_CREDIT, text), "refused"
    if status in (401, 403):
        text = f"{said}: set a valid key, or see to the account, and run the same command again"
        return failure(FailureClass.CONFIG, Category.NETWORK, FailureCode.KEY_REFUSED, text), "refused"
    if code == "model_not_found" or (status in (400, 404) and _NO_MODEL.search(message)):
        after = f"{model} was announced to end on {ended.on}, take {flags.model} {ended.successor}" if ended else ""
        text = f"{said}: {after or f'take another {flags.model}'} with the same `trax-ray batch` command"
        return failure(FailureClass.CONFIG, Category.NETWORK, FailureCode.NO_SUCH_MODEL, text), "refused"
    if status == 400 and _WANTS_HTTPS.search(message):
        text = f"{said}: the server speaks https: correct {flags.server}"
        return failure(FailureClass.CONFIG, Category.NETWORK, FailureCode.WRONG_ADDRESS, text), "refused"
    if status in (404, 405):
        text = f"{said}: nothing is there: correct {flags.server}; most end in /v1"
        return failure(FailureClass.CONFIG, Category.NETWORK, FailureCode.WRONG_ADDRESS, text), "refused"
    if 300 <= status < 400:
        text = f"{said}: the server sends requests elsewhere, which aren't followed: correct {flags.server}"
        return failure(FailureClass.CONFIG, Category.NETWORK, FailureCode.REDIRECTED, text), "refused"
    if status == 429:
        return failure(FailureClass.TRANSIENT, Category.NETWORK, FailureCode.RATE_LIMITED), "rate_limited"
    if status in (408, 409) or status >= 500:
        return failure(FailureClass.TRANSIENT, Category.NETWORK, FailureCode.SERVER_ERROR), "overloaded"
    if code == "context_length_exceeded" or (status == 400 and _NO_ROOM.search(message)):
        text = f"{said}: take a {flags.model} with a longer context"
        return failure(FailureClass.PERMANENT, Category.PROCESSING, FailureCode.REJECTED, text), "rejected"
    if status == 413:
        text = f"{said}: give a smaller --chunk-size"
        return failure(FailureClass.PERMANENT, Category.PROCESSING, FailureCode.TOO_LARGE, text), "rejected"
    return failure(FailureClass.PERMANENT, Category.PROCESSING, FailureCode.REJECTED), "rejected"


def signal_of(
    kind: str, status: int, headers: Mapping[str, str], latency_s: float, price: float | None
) -> ProviderSignal:
    return ProviderSignal(
        kind=SignalKind(kind),
        status=status,
        retry_after_s=retry_after_s(headers, time.time()),
        limit_requests=_whole(headers.get("x-ratelimit-limit-requests")),
        remaining_requests=_whole(headers.get("x-ratelimit-remaining-requests")),
        reset_requests_s=duration_s(headers.get("x-ratelimit-reset-requests")),
        limit_tokens=_whole(headers.get("x-ratelimit-limit-tokens")),
        remaining_tokens=_whole(headers.get("x-ratelimit-remaining-tokens")),
        reset_tokens_s=duration_s(headers.get("x-ratelimit-reset-tokens")),
        latency_s=round(latency_s, 4),
        cost_usd=price,
        request_id=str(headers.get("x-request-id") or "")[:100],
    )


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """What the server asks to wait: milliseconds, seconds, or a date. None where it says nothing that makes sense."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    return wait_asked_s(headers.get("retry-after"), now)


def duration_s(text: str | None) -> float | None:
    """A duration as `x-ratelimit-reset-*` writes it: `6m0s`, `1.2s`, `20ms`, `1h2m`, or plain seconds."""
    if not text:
        return None
    plain = _number(text)
    if plain is not None:
        return plain
    total, number = 0.0, ""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    rest = text.strip()
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789."))
        number, rest = rest[:digits], rest[digits:]
        unit = next((unit for unit in units if rest.startswith(unit)), None)
        value = _number(number)
        if unit is None or value is None:
            return None
        total += value * units[unit]
        rest = rest[len(unit) :]
    return total


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < 1e9 else None


def _whole(text: str | None) -> int | None:
    value = _number(text)
    return None if value is None else int(value)
