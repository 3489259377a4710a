"""What each speech model of OpenAI's protocol gives, what it costs, and when it ends: the tables of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase

from trax_ray.errors import UsageError
from trax_ray.providers.base import Shutdown
from trax_ray.providers.prices import Price, PriceList

__all__ = ["COMPATIBLE", "MODELS", "PRICES", "SHUTDOWNS", "ServiceModel", "model_of"]


@dataclass(frozen=True, slots=True)
class ServiceModel:
    """One row.

    Args:
        models: Its name, or a pattern with `*`.
        response_format: What is asked for.
        segments: Whether answers have times of segments. Without, each request is one segment, from the speech in it.
        words: Whether answers can have times of words.
        logprobs: Whether token log probabilities can be asked for, as the source of confidence.
        speakers: Whether segments name their speaker.
        prompt: What an initial prompt becomes: `prompt`, `keywords` (parted at commas), or empty: refused.
        language: The parameter for the language: `language` or `languages`.
        chunking: Whether the server is to cut long audio itself: required by diarization above 30 s.
        longest_s: Seconds of audio that one request may hold.
    """

    models: str
    response_format: str
    segments: bool = False
    words: bool = False
    logprobs: bool = False
    speakers: bool = False
    prompt: str = "prompt"
    language: str = "language"
    chunking: bool = False
    longest_s: float = 600.0

    def check(self, model: str, *, word_timestamps: bool, initial_prompt: str | None) -> None:
        """See before any work that the model has what is asked.

        Raises:
            UsageError: It hasn't; names one that does.
        """
        if word_timestamps and not self.words:
            raise UsageError(
                f"{model} gives no word times: leave out --word-timestamps, or take whisper-1, or a local model"
            )
        if initial_prompt and not self.prompt:
            raise UsageError(f"{model} takes no prompt: leave out --initial-prompt, or take gpt-transcribe")


TEXT_ONLY_S = 30.0
"""Longest request to models that give text without times: a segment of the transcript is a request then."""

MODELS = (
    ServiceModel("whisper-1", "verbose_json", segments=True, words=True),
    ServiceModel(
        "gpt-4o*-transcribe-diarize*", "diarized_json", segments=True, speakers=True, prompt="", chunking=True
    ),
    ServiceModel("gpt-4o*-transcribe*", "json", logprobs=True, longest_s=TEXT_ONLY_S),
    ServiceModel("gpt-transcribe*", "json", prompt="keywords", language="languages", longest_s=TEXT_ONLY_S),
)
"""Source: OpenAI's reference of `POST /v1/audio/transcriptions`, and the parameters of its Python library 3.52."""

COMPATIBLE = ServiceModel("*", "verbose_json", segments=True, words=True)
"""A model that the table doesn't know, on a server of the same protocol: asked for most, taken with what it gives."""


def model_of(model: str) -> ServiceModel:
    """The row of a model."""
    return next((row for row in MODELS if fnmatchcase(model, row.models)), COMPATIBLE)


_4O = Price(minute=0.006, audio_input=6.00, text_input=2.50, output=10.00)

PRICES = PriceList(
    as_of=date(2026, 11, 20),
    hosts=(".openai.com",),
    rows={
        "gpt-transcribe": Price(minute=0.0045),
        "whisper-1": Price(minute=0.006),
        "gpt-4o-transcribe": _4O,
        "gpt-4o-transcribe-diarize": _4O,
        "gpt-4o-mini-transcribe": Price(minute=0.003, audio_input=3.00, text_input=1.25, output=5.00),
    },
)
"""What OpenAI charges for its own.

Source:
    gpt-transcribe: its page, developers.openai.com/api/docs/models/gpt-transcribe. Text input and output of
    gpt-4o-transcribe and gpt-4o-mini-transcribe: their pages at developers.openai.com/api/docs/models.

    Not seen on a page of the maker's, but with others who quote it: whisper-1 (openrouter.ai), the prices per minute
    and of audio tokens of the gpt-4o models (OpenAI's cookbook, price lists of others). The models' pages name just
    one price of input, $2.50 and $1.25, under "audio tokens"; if it holds for audio, the figures here are too high.
    Not checked: gpt-4o-transcribe-diarize, taken to cost what gpt-4o-transcribe does.
"""

SHUTDOWNS = (
    Shutdown("whisper-1", date(2027, 2, 26), "gpt-transcribe"),
    Shutdown("gpt-4o*-transcribe", date(2027, 2, 26), "gpt-transcribe"),
)
"""As of 2026-11-20. Source: the announcements on OpenAI's page of deprecations,
platform.openai.com/docs/deprecations."""
