"""The models that the speech server plays: what each accepts, answers, refuses and costs.

The figures stand here on their own and aren't read from `trax_ray.providers`: a server for tests that shared them
with the code under test would agree with its mistakes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import Any

__all__ = [
    "AS_OF",
    "AUDIO_SUFFIXES",
    "CHAT_MODELS",
    "HINT_LANGUAGES",
    "LANGUAGES",
    "SPEECH_MODELS",
    "ChatModel",
    "SpeechModel",
    "description",
    "listing",
]

AS_OF = date(2026, 11, 20)
"""When prices, limits and shutdown dates were noted."""

AUDIO_SUFFIXES = ("flac", "m4a", "mp3", "mp4", "mpeg", "mpga", "oga", "ogg", "wav", "webm")
"""Endings of names that OpenAI accepts. `opus` and `aac` aren't among them, whatever is inside."""

_ANNOUNCED = "2027-02-26"
_CREATED = 1_700_000_000


@dataclass(frozen=True, slots=True)
class SpeechModel:
    """A model of /v1/audio/transcriptions.

    Args:
        name: Its id.
        formats: Values of `response_format` that it has.
        usd_per_minute: Price; of models that are billed by tokens, OpenAI's own estimate.
        counts_tokens: Whether `usage` counts tokens; else it counts whole seconds.
        longest_s: Longer audio is refused; None where only the size of the upload is limited.
        shutdown: The announced date, as the list of models has it; None where there is none.
    """

    name: str
    formats: tuple[str, ...]
    usd_per_minute: float
    counts_tokens: bool = False
    longest_s: float | None = None
    shutdown: str | None = _ANNOUNCED

    @property
    def diarizes(self) -> bool:
        """Whether it tells speakers apart."""
        return self.name.endswith("-diarize")

    @property
    def takes_hints(self) -> bool:
        """Whether it reads `languages` and `keywords`, and not `language`."""
        return self.name == "gpt-transcribe"

    @property
    def inner_name(self) -> str:
        """What messages about a wrong `response_format` call it."""
        return self.name if self.name == "whisper-1" else f"{self.name}-api-ev3"


@dataclass(frozen=True, slots=True)
class ChatModel:
    """A model of /chat/completions.

    Args:
        name: Its id.
        hit: USD per million prompt tokens that were in the cache, off-peak.
        miss: USD per million other prompt tokens.
        output: USD per million tokens of the answer.
    """

    name: str
    hit: float
    miss: float
    output: float


_PLAIN = ("json", "text")

SPEECH_MODELS = {
    model.name: model
    for model in (
        SpeechModel("whisper-1", ("json", "text", "srt", "verbose_json", "vtt"), 0.006),
        SpeechModel("gpt-4o-transcribe", _PLAIN, 0.006, counts_tokens=True, longest_s=1400.0),
        SpeechModel("gpt-4o-mini-transcribe", _PLAIN, 0.003, counts_tokens=True, longest_s=1400.0),
        SpeechModel("gpt-4o-mini-transcribe-2025-12-15", _PLAIN, 0.003, counts_tokens=True, longest_s=1400.0),
        SpeechModel(
            "gpt-4o-transcribe-diarize", (*_PLAIN, "diarized_json"), 0.006, counts_tokens=True, longest_s=1400.0
        ),
        SpeechModel("gpt-transcribe", _PLAIN, 0.0045, shutdown=None),
    )
}
"""Source: OpenAI's API reference and price list. The 1400 s are in no documentation; messages of the service say
`audio duration 1500.0 seconds is longer than 1400 seconds which is the maximum for this model`."""

CHAT_MODELS = {
    model.name: model
    for model in (
        ChatModel("deepseek-flash", 0.003, 0.15, 0.60),
        ChatModel("deepseek-v4-pro", 0.022, 0.66, 1.98),
    )
}
"""Source: DeepSeek's price list."""

LANGUAGES = {
    "af": "afrikaans",
    "ar": "arabic",
    "hy": "armenian",
    "az": "azerbaijani",
    "be": "belarusian",
    "bs": "bosnian",
    "bg": "bulgarian",
    "ca": "catalan",
    "zh": "chinese",
    "hr": "croatian",
    "cs": "czech",
    "da": "danish",
    "nl": "dutch",
    "en": "english",
    "et": "estonian",
    "fi": "finnish",
    "fr": "french",
    "gl": "galician",
    "de": "german",
    "el": "greek",
    "he": "hebrew",
    "hi": "hindi",
    "hu": "hungarian",
    "is": "icelandic",
    "id": "indonesian",
    "it": "italian",
    "ja": "japanese",
    "kn": "kannada",
    "kk": "kazakh",
    "ko": "korean",
    "lv": "latvian",
    "lt": "lithuanian",
    "mk": "macedonian",
    "ms": "malay",
    "mr": "marathi",
    "mi": "maori",
    "ne": "nepali",
    "no": "norwegian",
    "fa": "persian",
    "pl": "polish",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sr": "serbian",
    "sk": "slovak",
    "sl": "slovenian",
    "es": "spanish",
    "sw": "swahili",
    "sv": "swedish",
    "tl": "tagalog",
    "ta": "tamil",
    "th": "thai",
    "tr": "turkish",
    "uk": "ukrainian",
    "ur": "urdu",
    "vi": "vietnamese",
    "cy": "welsh",
}
"""Codes that `language` accepts, each with the name that verbose_json answers."""

HINT_LANGUAGES = frozenset({*LANGUAGES, "bn", "yue", "ka", "gu", "ml", "te"})
"""Codes that `languages` of gpt-transcribe accepts; any other is refused."""


def listing(gone: Collection[str] = ()) -> dict[str, Any]:
    """The answer of GET /v1/models.

    Args:
        gone: Models that were shut down.
    """
    names = [name for name in (*SPEECH_MODELS, *CHAT_MODELS) if name not in gone]
    return {"object": "list", "data": [description(name) for name in names]}


def description(name: str) -> dict[str, Any]:
    """The answer of GET /v1/models/{id}, for a model that is there."""
    if name in CHAT_MODELS:
        return {"id": name, "object": "model", "created": _CREATED, "owned_by": "deepseek"}
    found: dict[str, Any] = {"id": name, "object": "model", "created": _CREATED, "owned_by": "openai-internal"}
    shutdown = SPEECH_MODELS[name].shutdown
    return found if shutdown is None else {**found, "shutdown_date": shutdown}
