"""Speech by OpenAI's protocol: api.openai.com, or any server that speaks it.

One request is one attempt. The library's own retries are off, redirects aren't followed (they would take the upload
and the key along), and answers are read by `openai_answers`, because the library takes HTML for a transcript. Its
exceptions hold the key and don't cross processes, so none leaves this module.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import re
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trax_ray.codes import FailureCode
from trax_ray.core.limits.signals import ProviderSignal, SignalKind
from trax_ray.core.task import Category, Failure, FailureClass
from trax_ray.errors import ProcessingError
from trax_ray.media.encode import WAV_BYTES_PER_S, wav
from trax_ray.media.speech import Span
from trax_ray.providers.base import EngineOptions, Reply, ServiceProvider
from trax_ray.providers.keys import Secret, scrub
from trax_ray.providers.openai_answers import read_answer
from trax_ray.providers.openai_models import COMPATIBLE, PRICES, SHUTDOWNS, model_of

if TYPE_CHECKING:
    import openai

__all__ = ["PROVIDER", "OpenAISpeech", "connect"]

NAME = "openai"

UPLOAD_LIMIT_BYTES = 26_214_400
"""Source: OpenAI's reference, 25 MiB."""

OWN_URL = "https://api.openai.com/v1"

CONNECT_TIMEOUT_S = 20.0
READ_CHARACTERS, MESSAGE_CHARACTERS = 10_000, 300
"""Of what a server says: how much is looked at, and how much of that is kept."""

NO_KEY = "none"
"""What servers that want no key are sent, because the library insists on one."""

_NO_OPUS = re.compile(
    r"\b(file|audio|media)\b.{0,40}\b(format|type|codec)|\b(decod|unsupported|unrecogni[sz]ed|ogg|opus|wav)",
    re.IGNORECASE,
)
"""What servers of one's own may say of an upload that they can't read."""

_NO_MODEL = re.compile(r"\bmodels?\b.{0,120}\b(not (exist|found|available)|deprecated|retired)\b", re.IGNORECASE)
"""What services say of a model that they don't have. DeepSeek says it with a 400: `Model Not Exist`."""


_WANTS_HTTPS = re.compile(r"\bhttp request\b.{0,40}\bhttps\b|\bplain http\b.{0,40}\b(https|ssl|tls)\b", re.IGNORECASE)
"""What servers answer who expect TLS: Go's library, nginx, Apache."""


class OpenAIProvider(ServiceProvider):
    """See `ServiceProvider`."""

    name = NAME
    models = "whisper-1, gpt-* (OpenAI), or any model of a server that --base-url names"
    key_variable = "OPENAI_API_KEY"
    address_variable = "OPENAI_BASE_URL"
    unused_variables = ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
    any_server = True
    prices = PRICES
    shutdowns = SHUTDOWNS

    def has(self, model: str) -> bool:
        """OpenAI's own models, by the beginnings of their names."""
        return model == "whisper-1" or model.startswith("gpt-")

    def longest_request_s(self, model: str) -> float:
        """See `openai_models`."""
        return model_of(model).longest_s

    def check(
        self,
        *,
        language: str | None,
        model: str = "",
        word_timestamps: bool = False,
        initial_prompt: str | None = None,
    ) -> None:
        """See `SpeechProvider.check`; what a model has is in `openai_models`."""
        if model:
            model_of(model).check(model, word_timestamps=word_timestamps, initial_prompt=initial_prompt)
        super().check(language=language, model=model, word_timestamps=word_timestamps, initial_prompt=initial_prompt)

    def connect(self, model: str, *, key: Secret | None, base_url: str, priced: bool) -> OpenAISpeech:
        """See `connect` below."""
        return connect(model, key=key, base_url=base_url, priced=priced)


PROVIDER = OpenAIProvider()


def connect(model: str, *, key: Secret | None, base_url: str, priced: bool) -> OpenAISpeech:
    """Make the service. Nothing is sent yet.

    Args:
        model: The model's name.
        key: The key; None for servers that want none.
        base_url: The server's address; empty for OpenAI's own.
        priced: Whether the server charges what OpenAI does.
    """
    return OpenAISpeech(model, key, base_url, priced=priced)


class OpenAISpeech:
    """One model on one server, for many requests at the same time in one event loop."""

    name = NAME

    def __init__(self, model: str, key: Secret | None, base_url: str, *, priced: bool) -> None:
        self.model = model
        self._key = key
        self._base_url = base_url
        self._priced = priced
        self._row = model_of(model)
        self._json_only = False
        self._as_wav = False
        self._client: openai.AsyncOpenAI | None = None

    @property
    def bytes_per_s(self) -> float:
        """What a second of audio takes in memory while it is sent, where that isn't the upload itself; else 0.0."""
        return float(WAV_BYTES_PER_S) if self._as_wav else 0.0

    async def transcribe(
        self, upload: bytes, *, duration_s: float, speech: Sequence[Span], options: EngineOptions
    ) -> Reply:
        """Send one request.

        Args:
            upload: Audio, Opus in Ogg.
            duration_s: Its length.
            speech: Where in it speech was found.
            options: What the caller asked for.

        Returns:
            Segments, or why there are none; and what the answer means for the requests after it.
        """
        import openai

        file = ("audio.ogg", upload, "audio/ogg")
        if self._as_wav:
            file = ("audio.wav", await asyncio.to_thread(wav, upload), "audio/wav")
        began = time.monotonic()
        try:
            raw = await self._client_now().audio.transcriptions.with_raw_response.create(
                file=file, model=self.model, **self._parameters(duration_s, options)
            )
            body = raw.http_response.content
        except openai.APIStatusError as error:
            return self._refused(error, time.monotonic() - began)
        except openai.APITimeoutError as error:
            return self._lost(error, FailureCode.TIMEOUT, duration_s, began)
        except openai.APIConnectionError as error:
            return self._lost(error, FailureCode.CONNECTION, duration_s, began)
        except openai.OpenAIError as error:
            return self._lost(error, FailureCode.CLIENT, duration_s, began)
        except Exception as error:  # noqa: BLE001 - what the HTTP library raises while a body is read is its own
            return self._lost(error, FailureCode.CONNECTION, duration_s, began)
        return self._answered(body, raw.headers, duration_s, speech, time.monotonic() - began)

    async def close(self) -> None:
        """Let go of all connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    # Asking

    def _client_now(self) -> openai.AsyncOpenAI:
        if self._client is None:
            import httpx2
            import openai

            from trax_ray.providers import bodies

            # The library takes from the environment what it isn't given; a batch goes by what it was asked for, the
            # same on all nodes.
            self._client = openai.AsyncOpenAI(
                api_key=self._key.reveal() if self._key else NO_KEY,
                base_url=self._base_url or OWN_URL,
                max_retries=0,
                timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S),  # the attempt has a deadline as a whole
                http_client=openai.DefaultAsyncHttpxClient(
                    follow_redirects=False,
                    headers={"Accept-Encoding": "gzip, deflate"},  # what `bodies` unpacks
                    event_hooks={"response": [bodies.bound]},
                    limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
                ),
            )
            self._client.organization = self._client.project = None
        return self._client

    def _parameters(self, duration_s: float, options: EngineOptions) -> dict[str, Any]:
        row = self._row
        given: dict[str, Any] = {"response_format": "json" if self._json_only else row.response_format}
        if options.language:
            given[row.language] = [options.language] if row.language == "languages" else options.language
        if options.initial_prompt and row.prompt:
            prompt = options.initial_prompt
            given[row.prompt] = _keywords(prompt) if row.prompt == "keywords" else prompt
        if options.word_timestamps and row.words and not self._json_only:
            given["timestamp_granularities"] = ["word", "segment"]
        if row.logprobs:
            given["include"] = ["logprobs"]
        if row.chunking and duration_s > 30:
            given["chunking_strategy"] = "auto"
        return given

    # Reading

    def _answered(
        self, body: bytes, headers: Mapping[str, str], duration_s: float, speech: Sequence[Span], latency_s: float
    ) -> Reply:
        try:
            answer = read_answer(body, duration_s=duration_s, speech=speech)
        except ProcessingError as error:
            return self._unusable(str(error), error.code, headers, duration_s, latency_s)
        price = self._price(answer.usage, duration_s)
        return Reply(
            segments=answer.segments,
            language=answer.language,
            made_up=answer.made_up,
            warnings=answer.warnings,
            signal=_signal("ok", 200, headers, latency_s, price),
        )

    def _unusable(self, why: str, code: str, headers: Mapping[str, str], duration_s: float, latency_s: float) -> Reply:
        """It was a 200, so it is likely to be charged for."""
        message = f"the server's answer can't be used: {self._clean(why)}"
        failure = Failure.of(ProcessingError(message, failure_class="transient", code=code))
        price = self._price({}, duration_s)
        return Reply(failure=failure, signal=_signal("bad_answer", 200, headers, latency_s, price))

    def _refused(self, error: openai.APIStatusError, latency_s: float) -> Reply:
        status, headers = error.status_code, error.response.headers
        code, message = said_in(error.body)
        message = self._clean(message or error.response.reason_phrase or "no reason given")
        if self._learns(status, message):
            failure = Failure(
                FailureClass.TRANSIENT, Category.PROCESSING, FailureCode.FORMAT_REFUSED, f"HTTP {status}: {message}"
            )
            return Reply(failure=failure, signal=_signal("rejected", status, headers, latency_s, None))
        failure, kind = judge(status, code, message, self.model, NAME)
        signal = _signal(kind, status, headers, latency_s, None)
        if failure.failure_class is FailureClass.TRANSIENT and signal.retry_after_s:
            failure = replace(failure, retry_after_s=signal.retry_after_s)
        return Reply(failure=failure, signal=signal)

    def _learns(self, status: int, message: str) -> bool:
        """Whether a refusal says how this server wants to be asked; from then on it is asked so."""
        refused = status in (400, 415, 422)
        if refused and "response_format" in message and (self._base_url or self._row is COMPATIBLE):
            learnt, self._json_only = not self._json_only, True
            return learnt
        if refused and self._base_url and (status == 415 or _NO_OPUS.search(message)):
            learnt, self._as_wav = not self._as_wav, True
            return learnt
        return False

    def _lost(self, error: Exception, code: FailureCode, duration_s: float, began: float) -> Reply:
        """No answer came. One that was asked for may have been worked on, and then it is charged for."""
        from trax_ray.providers.bodies import BodyError

        cause = error.__cause__ or error
        if isinstance(cause, BodyError):
            return self._unusable(str(cause), cause.code, {}, duration_s, time.monotonic() - began)
        wrong = wrong_address(cause)
        if wrong:
            message = f"{wrong}: {self._clean(cause)}: correct --base-url, or the server's certificate"
            failure = Failure(FailureClass.CONFIG, Category.NETWORK, FailureCode.WRONG_ADDRESS, message, parks=NAME)
        else:
            said = self._clean(cause) or type(cause).__name__
            where = self._base_url or "OpenAI"
            lost = f"nobody answers at {where}" if _is_unreached(cause) else f"the request to {where} was lost"
            failure = Failure(FailureClass.TRANSIENT, Category.NETWORK, code, f"{lost}: {said}")
        price = None if wrong or _never_sent(cause) else self._price({}, duration_s)
        kind = "refused" if wrong else "connection"
        signal = _signal(kind, 0, {}, time.monotonic() - began, price)
        return Reply(failure=failure, signal=replace(signal, unreached=not wrong and _is_unreached(cause)))

    def _price(self, usage: Mapping[str, Any], duration_s: float) -> float | None:
        return PROVIDER.cost_usd(self.model, usage, duration_s, time.time()) if self._priced else None

    def _clean(self, what: object) -> str:
        return scrub(" ".join(str(what)[:READ_CHARACTERS].split()), self._key)[:MESSAGE_CHARACTERS]


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


def _is_unreached(cause: BaseException) -> bool:
    import httpx2

    return isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout)


def _never_sent(cause: BaseException) -> bool:
    import httpx2

    return _is_unreached(cause) or isinstance(cause, httpx2.PoolTimeout)


def judge(status: int, code: str, message: str, model: str, provider: str) -> tuple[Failure, str]:
    """What an answer that is no 200 means: for its task, and for the provider.

    Args:
        status: Of HTTP.
        code: The server's word for it, such as `insufficient_quota`.
        message: Its sentence, without secrets.
        model: What was asked for.
        provider: Who was asked.

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
        ended = PROVIDER.shutdown(model)
        after = f"{model} was announced to end on {ended.on}, take --model {ended.successor}" if ended else ""
        text = f"{said}: {after or 'take another --model'} with the same `trax-ray batch` command"
        return failure(FailureClass.CONFIG, Category.NETWORK, FailureCode.NO_SUCH_MODEL, text), "refused"
    if status == 400 and _WANTS_HTTPS.search(message):
        text = f"{said}: the server speaks https: correct --base-url"
        return failure(FailureClass.CONFIG, Category.NETWORK, FailureCode.WRONG_ADDRESS, text), "refused"
    if status in (404, 405):
        text = f"{said}: nothing is there: correct --base-url; most end in /v1"
        return failure(FailureClass.CONFIG, Category.NETWORK, FailureCode.WRONG_ADDRESS, text), "refused"
    if 300 <= status < 400:
        text = f"{said}: the server sends requests elsewhere, which aren't followed: correct --base-url"
        return failure(FailureClass.CONFIG, Category.NETWORK, FailureCode.REDIRECTED, text), "refused"
    if status == 429:
        return failure(FailureClass.TRANSIENT, Category.NETWORK, FailureCode.RATE_LIMITED), "rate_limited"
    if status in (408, 409) or status >= 500:
        return failure(FailureClass.TRANSIENT, Category.NETWORK, FailureCode.SERVER_ERROR), "overloaded"
    if status == 413:
        text = f"{said}: give a smaller --chunk-size"
        return failure(FailureClass.PERMANENT, Category.PROCESSING, FailureCode.TOO_LARGE, text), "rejected"
    return failure(FailureClass.PERMANENT, Category.PROCESSING, FailureCode.REJECTED), "rejected"


def _signal(
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
        request_id=_name(headers.get("x-request-id")),
    )


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """What the server asks to wait: milliseconds, seconds, or a date. None where it says nothing that makes sense."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    given = headers.get("retry-after")
    seconds = _number(given)
    if seconds is not None or not given:
        return seconds
    try:
        return max(0.0, email.utils.parsedate_to_datetime(given).timestamp() - now)
    except (ValueError, TypeError):
        return None


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


def _name(text: str | None) -> str:
    """A server's name for a request; what doesn't look like one is none: the key may be in it."""
    return text if text and re.fullmatch(r"(req[_-])?[0-9A-Za-z][0-9A-Fa-f-]{7,63}", text) else ""


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < 1e9 else None


def _whole(text: str | None) -> int | None:
    value = _number(text)
    return None if value is None else int(value)


def _keywords(prompt: str) -> list[str]:
    return [word for part in prompt.split(",") if (word := part.strip())]
