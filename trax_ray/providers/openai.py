"""Speech by OpenAI's protocol: api.openai.com, or any server that speaks it.

One request is one attempt. Answers are read by `openai_answers`, because the library takes HTML for a transcript. Its
exceptions hold the key and don't cross processes, so none leaves this module.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trax_ray.codes import FailureCode
from trax_ray.core.task import Category, Failure, FailureClass
from trax_ray.errors import ProcessingError
from trax_ray.media.encode import WAV_BYTES_PER_S, wav
from trax_ray.media.speech import Span
from trax_ray.providers.base import EngineOptions, Reply, ServiceProvider
from trax_ray.providers.keys import Secret
from trax_ray.providers.openai_answers import read_answer
from trax_ray.providers.openai_connection import Connection
from trax_ray.providers.openai_models import COMPATIBLE, PRICES, SHUTDOWNS, model_of
from trax_ray.providers.openai_refusals import judge, said_in

if TYPE_CHECKING:
    import openai

__all__ = ["PROVIDER", "OpenAISpeech", "connect"]

NAME = "openai"

UPLOAD_LIMIT_BYTES = 26_214_400
"""Source: OpenAI's reference, 25 MiB."""

OWN_URL = "https://api.openai.com/v1"

_NO_OPUS = re.compile(
    r"\b(file|audio|media)\b.{0,40}\b(format|type|codec)|\b(decod|unsupported|unrecogni[sz]ed|ogg|opus|wav)",
    re.IGNORECASE,
)
"""What servers of one's own may say of an upload that they can't read."""


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
        self._connection = Connection(NAME, own_name="OpenAI", own_url=OWN_URL, base_url=base_url, key=key)
        self._priced = priced
        self._row = model_of(model)
        self._json_only = False
        self._as_wav = False

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
            raw = await self._connection.client().audio.transcriptions.with_raw_response.create(
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
        await self._connection.close()

    # Asking

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
            signal=self._connection.signal("ok", 200, headers, latency_s, price),
        )

    def _unusable(self, why: str, code: str, headers: Mapping[str, str], duration_s: float, latency_s: float) -> Reply:
        """It was a 200, so it is likely to be charged for."""
        message = f"the server's answer can't be used: {self._connection.clean(why)}"
        failure = Failure.of(ProcessingError(message, failure_class="transient", code=code))
        price = self._price({}, duration_s)
        return Reply(failure=failure, signal=self._connection.signal("bad_answer", 200, headers, latency_s, price))

    def _refused(self, error: openai.APIStatusError, latency_s: float) -> Reply:
        status, headers = error.status_code, error.response.headers
        code, message = said_in(error.body)
        message = self._connection.clean(message or error.response.reason_phrase or "no reason given")
        if self._learns(status, message):
            failure = Failure(
                FailureClass.TRANSIENT, Category.PROCESSING, FailureCode.FORMAT_REFUSED, f"HTTP {status}: {message}"
            )
            return Reply(failure=failure, signal=self._connection.signal("rejected", status, headers, latency_s, None))
        failure, kind = judge(status, code, message, self.model, NAME, PROVIDER.shutdown(self.model))
        signal = self._connection.signal(kind, status, headers, latency_s, None)
        if failure.failure_class is FailureClass.TRANSIENT and signal.retry_after_s:
            failure = replace(failure, retry_after_s=signal.retry_after_s)
        return Reply(failure=failure, signal=signal)

    def _learns(self, status: int, message: str) -> bool:
        """Whether a refusal says how this server wants to be asked; from then on it is asked so."""
        refused = status in (400, 415, 422)
        if refused and "response_format" in message and (self._connection.base_url or self._row is COMPATIBLE):
            learnt, self._json_only = not self._json_only, True
            return learnt
        if refused and self._connection.base_url and (status == 415 or _NO_OPUS.search(message)):
            learnt, self._as_wav = not self._as_wav, True
            return learnt
        return False

    def _lost(self, error: Exception, code: FailureCode, duration_s: float, began: float) -> Reply:
        """No answer came. One that was asked for may have been worked on, and then it is charged for."""
        lost = self._connection.lost(error, code, began)
        price = self._price({}, duration_s) if lost.asked else None
        return Reply(failure=lost.failure, signal=replace(lost.signal, cost_usd=price))

    def _price(self, usage: Mapping[str, Any], duration_s: float) -> float | None:
        return PROVIDER.cost_usd(self.model, usage, duration_s, time.time()) if self._priced else None


def _keywords(prompt: str) -> list[str]:
    return [word for part in prompt.split(",") if (word := part.strip())]
