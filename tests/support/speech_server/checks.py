"""What the services refuse, in their own words.

Unknown fields of a form are ignored, as OpenAI does: a 200 doesn't mean that a field was read.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from tests.support.speech_server.answers import Refused, refusal
from tests.support.speech_server.hearing import Heard
from tests.support.speech_server.models import (
    AUDIO_SUFFIXES,
    CHAT_MODELS,
    HINT_LANGUAGES,
    LANGUAGES,
    SPEECH_MODELS,
    ChatModel,
    SpeechModel,
)
from tests.support.speech_server.wire import Form, Reply, Upload

__all__ = ["check_chat", "check_form", "check_key", "no_model", "too_long", "wrong_url"]

_SHORTEST_S = 0.1
_UNCHUNKED_S = 30.0


def check_key(key: str | None, accepted: Collection[str] | None, endpoint: str, model: str | None) -> None:
    """Refuse a missing or wrong key.

    Args:
        key: As sent.
        accepted: What is accepted; None accepts anything.
        endpoint: Of the request.
        model: As asked for; DeepSeek says it in other words.

    Raises:
        Refused: 401.
    """
    if accepted is None or key in accepted:
        return
    if model is not None and model.startswith("deepseek"):
        message = f"Authentication Fails, Your api key: ****{(key or '')[-4:]} is invalid"
        raise Refused(refusal(401, message, kind="authentication_error", code="invalid_request_error"))
    if not key:
        message = "You didn't provide an API key. You need to provide your API key in an Authorization header."
        raise Refused(_as_text(refusal(401, message), endpoint))
    masked = f"{key[:8]}{'*' * max(0, len(key) - 12)}{key[-4:]}" if len(key) > 12 else "*" * len(key)
    message = f"Incorrect API key provided: {masked}. You can find your API key at https://platform.openai.com."
    raise Refused(_as_text(refusal(401, message, code="invalid_api_key"), endpoint))


def _as_text(reply: Reply, endpoint: str) -> Reply:
    """The audio endpoints send this JSON as text/plain. Observed by others on the real service."""
    if endpoint == "transcriptions":
        reply.payload, reply.content_type = reply.body, "text/plain"
    return reply


def wrong_url(method: str, path: str) -> Reply:
    """404 for an address where nothing is."""
    return refusal(404, f"Invalid URL ({method} {path})")


def no_model(model: str, gone: Collection[str]) -> Reply:
    """404 for a model that isn't there, or no longer."""
    if model in gone:
        message = (
            f"The model `{model}` has been deprecated, learn more here: https://platform.openai.com/docs/deprecations"
        )
    else:
        message = f"The model `{model}` does not exist or you do not have access to it."
    return refusal(404, message, code="model_not_found")


def too_long(limit: int, received: int) -> Reply:
    """413, which OpenAI calls an error of the server."""
    message = f"Maximum content size limit ({limit}) exceeded ({received} bytes read)"
    return refusal(413, message, kind="server_error")


def check_form(
    form: Form | None, heard: Heard | None, gone: Collection[str]
) -> tuple[SpeechModel, Form, Upload, Heard]:
    """Refuse what POST /v1/audio/transcriptions refuses.

    Args:
        form: The form; None where the body was none.
        heard: What is known of the upload; None without one.
        gone: Models that were shut down.

    Returns:
        The model, and what there is then: the form, its file, what is known of that.

    Raises:
        Refused: 400 or 404.
    """
    if form is None:
        raise _bad("Could not parse multipart form")
    if form.file is None or heard is None:
        raise _bad("[{'type': 'missing', 'loc': ('body', 'file'), 'msg': 'Field required'}]")
    name = form.one("model")
    if not name:
        raise _bad("you must provide a model parameter")
    if name not in SPEECH_MODELS or name in gone:
        raise Refused(no_model(name, gone))
    model = SPEECH_MODELS[name]
    _check_suffix(model, form.file.suffix)
    _check_format(model, form)
    _check_options(model, form)
    _check_audio(model, form, heard)
    return model, form, form.file, heard


def _bad(message: str, param: str | None = None, code: str | None = None) -> Refused:
    return Refused(refusal(400, message, param=param, code=code))


def _check_suffix(model: SpeechModel, suffix: str) -> None:
    if suffix in AUDIO_SUFFIXES:
        return
    if model.name == "whisper-1":
        raise _bad(f"Invalid file format. Supported formats: {list(AUDIO_SUFFIXES)}")
    raise _bad(f"Unsupported file format {suffix}", "file", "unsupported_value")


def _check_format(model: SpeechModel, form: Form) -> None:
    wanted = form.one("response_format") or "json"
    if wanted not in model.formats:
        others = " or ".join(repr(name) for name in model.formats)
        message = f"response_format '{wanted}' is not compatible with model '{model.inner_name}'. Use {others} instead."
        raise _bad(message, "response_format", "unsupported_value")
    granularities = form.many("timestamp_granularities")
    if granularities and wanted != "verbose_json":
        message = "`response_format` must be `verbose_json` if `timestamp_granularities[]` is provided"
        raise _bad(message, "timestamp_granularities", "invalid_value")
    if not {*granularities} <= {"word", "segment"}:
        raise _bad("timestamp_granularities[] must be 'word' or 'segment'", "timestamp_granularities", "invalid_value")
    if "logprobs" in form.many("include") and (not model.counts_tokens or model.diarizes or wanted != "json"):
        raise _bad(f"logprobs are not supported with model '{model.inner_name}'", "include", "unsupported_value")


def _check_options(model: SpeechModel, form: Form) -> None:
    _check_temperature(form)
    if form.one("stream") == "true" and model.name != "whisper-1":
        raise _bad("The speech server for tests doesn't stream", "stream", "unsupported_value")
    if model.takes_hints:
        _check_hints(form)
    elif (language := form.one("language")) and language not in LANGUAGES:
        message = f"Invalid language '{language}'. Language parameter must be specified in ISO-639-1 format."
        raise _bad(message, "language", "invalid_language_format")
    if model.diarizes and form.one("prompt"):
        raise _bad("Prompt is not supported for diarization models", "prompt", "unsupported_parameter")


def _check_temperature(form: Form) -> None:
    try:
        warm = float(form.one("temperature") or 0.0)
    except ValueError:
        warm = -1.0
    if not 0.0 <= warm <= 1.0:
        raise _bad("temperature must be between 0 and 1", "temperature", "invalid_value")


def _check_hints(form: Form) -> None:
    for code in (*form.many("languages"), *form.fields.get("languages", ())):
        if code not in HINT_LANGUAGES:
            raise _bad(f"Unsupported language '{code}'", "languages", "invalid_value")
    for keyword in form.many("keywords"):
        if {*keyword} & {"\r", "\n", "<", ">"}:
            raise _bad("Keywords must not contain line breaks or angle brackets", "keywords", "invalid_value")


def _check_audio(model: SpeechModel, form: Form, heard: Heard) -> None:
    if heard.error is not None:
        if model.name == "whisper-1":
            raise _bad("The audio file could not be decoded or its format is not supported.")
        raise _bad("Audio file might be corrupted or unsupported", "file", "invalid_value")
    if heard.seconds < _SHORTEST_S:
        message = f"Audio file is too short. Minimum audio length is {_SHORTEST_S} seconds."
        raise _bad(message, "file", "audio_too_short")
    if model.longest_s is not None and heard.seconds > model.longest_s:
        limit = f"longer than {model.longest_s:.0f} seconds which is the maximum for this model"
        raise _bad(f"audio duration {heard.seconds} seconds is {limit}", None, "invalid_value")
    chunks = form.one("chunking_strategy") or form.one("chunking_strategy[type]")
    if model.diarizes and heard.seconds > _UNCHUNKED_S and not chunks:
        raise _bad("chunking_strategy is required for diarization models", "chunking_strategy", "invalid_value")


def check_chat(body: bytes, gone: Collection[str]) -> tuple[ChatModel, Mapping[str, Any]]:
    """Refuse what DeepSeek's POST /chat/completions refuses.

    Args:
        body: The request's body.
        gone: Models that were shut down.

    Returns:
        The model and the decoded body.

    Raises:
        Refused: 400.
    """
    code = "invalid_request_error"
    try:
        asked = json.loads(body)
    except ValueError as error:
        raise _bad(f"Failed to parse the request body as JSON: {error}", None, code) from None
    if not isinstance(asked, dict) or not isinstance(asked.get("messages"), list) or not asked["messages"]:
        raise _bad("Failed to deserialize the JSON body into the target type: missing field `messages`", None, code)
    model = asked.get("model")
    if model not in CHAT_MODELS or model in gone:
        raise _bad("Model Not Exist", None, code)  # 400, not 404: that is how DeepSeek says it
    if asked.get("stream"):
        raise _bad("The speech server for tests doesn't stream", None, code)
    mode = asked.get("response_format") or {}
    if mode.get("type") == "json_object" and "json" not in json.dumps(asked["messages"]).lower():
        message = "Prompt must contain the word 'json' in some form to use 'response_format' of type 'json_object'."
        raise _bad(message, None, code)
    return CHAT_MODELS[model], asked
