"""What providers charge: one dated table. Nothing heavy is imported here.

Prices are those of the makers' own services. A compatible server at another address may use the same names and
charge nothing, or more: there they hold only for somebody who says by a limit of costs that they do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timezone
from typing import Any, TypeGuard
from urllib.parse import urlsplit

__all__ = ["AS_OF", "PRICES", "Price", "cost_usd", "estimate_usd", "is_makers_own", "is_peak", "prices_hold"]

AS_OF = date(2026, 11, 20)
"""When the prices below were noted."""


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs, USD; None where it isn't charged that way.

    Args:
        minute: Per minute of audio; for models that are charged by tokens, what that comes to on average.
        audio_input: Per 1M tokens of audio that go in.
        text_input: Per 1M tokens of text that go in.
        cached_input: Per 1M tokens of text that go in and were in the provider's cache; None: as any others.
        output: Per 1M tokens that come out.
        peak: What counts in peak hours instead; None: the same.
    """

    minute: float | None = None
    audio_input: float | None = None
    text_input: float | None = None
    cached_input: float | None = None
    output: float | None = None
    peak: Price | None = None


_4O = Price(minute=0.006, audio_input=6.00, text_input=2.50, output=10.00)
_FLASH = Price(
    text_input=0.15,
    cached_input=0.003,
    output=0.60,
    peak=Price(text_input=0.30, cached_input=0.006, output=1.20),
)

PRICES: Mapping[str, Price] = {
    "gpt-transcribe": Price(minute=0.0045),
    "whisper-1": Price(minute=0.006),
    "gpt-4o-transcribe": _4O,
    "gpt-4o-transcribe-diarize": _4O,
    "gpt-4o-mini-transcribe": Price(minute=0.003, audio_input=3.00, text_input=1.25, output=5.00),
    "deepseek-flash": _FLASH,
    "deepseek-v4-flash": _FLASH,
    "deepseek-v4-pro": Price(
        text_input=0.66,
        cached_input=0.022,
        output=1.98,
        peak=Price(text_input=1.32, cached_input=0.044, output=3.96),
    ),
}
"""By the name of the model, without a date at its end.

Source:
    gpt-transcribe: its page, developers.openai.com/api/docs/models/gpt-transcribe. deepseek-flash and -v4-pro, peak
    hours, and that deepseek-v4-flash is billed as flash: api-docs.deepseek.com/quick_start/pricing. Text input and
    output of gpt-4o-transcribe and gpt-4o-mini-transcribe: their pages at developers.openai.com/api/docs/models.

    Not seen on a page of the maker's, but with others who quote it: whisper-1 (openrouter.ai), the prices per minute
    and of audio tokens of the gpt-4o models (OpenAI's cookbook, price lists of others). The models' pages name just
    one price of input, $2.50 and $1.25, under "audio tokens"; if it holds for audio, the figures here are too high.
    Not checked: gpt-4o-transcribe-diarize, taken to cost what gpt-4o-transcribe does.
"""

_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")

PEAK_HOURS_UTC = frozenset({1, 2, 3, 6, 7, 8, 9})
"""DeepSeek's hours at double price, Monday to Friday: 01:00-04:00 and 06:00-10:00. Chinese public holidays are off-peak
too; they aren't known here, so that costs on those days come out too high."""

SPEECH_TOKENS_PER_MINUTE = 250.0
"""Text tokens of a minute of fast speech: 190 words, 1.3 tokens each. For estimates only."""

PROMPT_TOKENS = 1000.0
"""What instructions add to a text that goes to a text model. For estimates only."""


def is_peak(at: float) -> bool:
    """Whether DeepSeek charges double.

    Args:
        at: Seconds since the epoch.
    """
    when = datetime.fromtimestamp(at, timezone.utc)
    return when.weekday() < 5 and when.hour in PEAK_HOURS_UTC


def prices_hold(base_url: str, *, limited: bool) -> bool:
    """Whether the table is right about a server.

    Args:
        base_url: Its address; empty for the maker's own.
        limited: Whether the user set a limit to the costs. Who does that for a server says that it charges; what,
            nobody else could know, and a gateway to the maker's service charges what that does.
    """
    return limited or is_makers_own(base_url)


def is_makers_own(base_url: str) -> bool:
    """Whether an address is that of a maker's own service; empty is."""
    host = urlsplit(base_url).hostname or ""
    return not base_url or host.endswith((".openai.com", ".deepseek.com"))


def cost_usd(model: str, usage: Mapping[str, Any] | None, duration_s: float | None, at: float) -> float | None:
    """What an answer has cost.

    Args:
        model: The name that was asked for.
        usage: The answer's `usage` object: tokens (of a transcription or of a chat completion), or
            `{"type": "duration", "seconds": n}`; None where it has none.
        duration_s: Seconds of audio that were sent; counts where the usage says nothing, in whole seconds, as usage
            is given. None: not audio.
        at: When it was asked, seconds since the epoch.

    Returns:
        USD; None where the model isn't in the table or there is nothing to count.
    """
    price = _price_of(model)
    if price is None:
        return None
    if price.peak is not None and is_peak(at):
        price = price.peak
    usage = usage if isinstance(usage, Mapping) else {}
    by_tokens = _by_tokens(price, usage)
    if by_tokens is not None:
        return by_tokens
    seconds = usage.get("seconds")
    if not _is_count(seconds):
        seconds = math.ceil(duration_s) if _is_count(duration_s) else None
    return price.minute * seconds / 60 if price.minute is not None and seconds is not None else None


def estimate_usd(model: str, duration_s: float) -> float | None:
    """About what a request will cost.

    Args:
        model: Its name. For a text model: to go through the transcript of the audio and write it anew, at peak.
        duration_s: Seconds of audio.

    Returns:
        USD; None where the model isn't in the table.
    """
    price = _price_of(model)
    if price is None or not _is_count(duration_s):
        return None
    if price.minute is not None:
        return price.minute * math.ceil(duration_s) / 60
    price = price.peak or price
    spoken = SPEECH_TOKENS_PER_MINUTE * duration_s / 60
    return (price.text_input or 0.0) * (spoken + PROMPT_TOKENS) / 1e6 + (price.output or 0.0) * spoken / 1e6


def _price_of(model: str) -> Price | None:
    """A model's price; that of `model-2025-12-15` is its model's."""
    return PRICES.get(model) or PRICES.get(_DATED.sub("", model))


def _by_tokens(price: Price, usage: Mapping[str, Any]) -> float | None:
    """USD by the tokens that a usage object counts; None where the model or the object doesn't count any."""
    if price.text_input is None or price.output is None:
        return None
    asked = usage.get("input_tokens", usage.get("prompt_tokens"))
    answered = usage.get("output_tokens", usage.get("completion_tokens"))
    if not _is_count(asked) or not _is_count(answered):
        return None
    details = usage.get("input_token_details", usage.get("prompt_tokens_details"))
    details = details if isinstance(details, Mapping) else {}
    cost = price.output * answered
    if price.audio_input is not None:
        text = details.get("text_tokens")
        text = min(text, asked) if _is_count(text) else 0  # what isn't said to be text is audio, the dearer one
        cost += price.audio_input * (asked - text) + price.text_input * text
    else:
        cached = usage.get("prompt_cache_hit_tokens", details.get("cached_tokens"))
        cached = min(cached, asked) if _is_count(cached) else 0
        cached_input = price.text_input if price.cached_input is None else price.cached_input
        cost += cached_input * cached + price.text_input * (asked - cached)
    return cost / 1e6


def _is_count(value: Any) -> TypeGuard[float]:
    """Whether it is a number that something can be charged for: servers send all sorts of things."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
