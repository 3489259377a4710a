"""What an answer costs, by a provider's list of prices: arithmetic only. The lists stand with the providers.

Prices are those of the makers' own services. A compatible server at another address may use the same names and
charge nothing, or more: there they hold only for somebody who says by a limit of costs that they do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeGuard
from urllib.parse import urlsplit

from trax_ray.core.policy.schedule import NO_PEAK, PeakHours

__all__ = ["NO_PRICES", "Price", "PriceList", "tokens_of"]

_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")

SPEECH_TOKENS_PER_MINUTE = 250.0
"""Text tokens of a minute of fast speech: 190 words, 1.3 tokens each. For estimates only."""

PROMPT_TOKENS = 1000.0
"""What instructions add to a text that goes to a text model. For estimates only."""


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


@dataclass(frozen=True, slots=True)
class PriceList:
    """One maker's prices.

    Args:
        as_of: When they were noted.
        rows: By the name of the model, without a date at its end.
        hosts: Ends of the host names of the maker's own service, such as `.openai.com`.
        peak_hours: At which prices of peak hours count.
    """

    as_of: date
    rows: Mapping[str, Price]
    hosts: tuple[str, ...] = ()
    peak_hours: PeakHours = NO_PEAK

    def is_makers_own(self, base_url: str) -> bool:
        """Whether an address is that of the maker's own service; empty is."""
        return not base_url or (urlsplit(base_url).hostname or "").endswith(self.hosts)

    def hold(self, base_url: str, *, limited: bool) -> bool:
        """Whether the list is right about a server.

        Args:
            base_url: Its address; empty for the maker's own.
            limited: Whether the user set a limit to the costs. Who does that for a server says that it charges; what,
                nobody else could know, and a gateway to the maker's service charges what that does.
        """
        return limited or self.is_makers_own(base_url)

    def price_of(self, model: str) -> Price | None:
        """A model's price; that of `model-2025-12-15` is its model's. None where the list has none."""
        return self.rows.get(model) or self.rows.get(_DATED.sub("", model))

    def cost_usd(
        self, model: str, usage: Mapping[str, Any] | None, duration_s: float | None, at: float
    ) -> float | None:
        """What an answer has cost.

        Args:
            model: The name that was asked for.
            usage: The answer's `usage` object: tokens (of a transcription or of a chat completion), or
                `{"type": "duration", "seconds": n}`; None where it has none.
            duration_s: Seconds of audio that were sent; counts where the usage says nothing, in whole seconds, as
                usage is given. None: not audio.
            at: When it was asked, seconds since the epoch.

        Returns:
            USD; None where the model isn't in the list or there is nothing to count.
        """
        price = self.price_of(model)
        if price is None:
            return None
        if price.peak is not None and self.peak_hours.hold(at):
            price = price.peak
        usage = usage if isinstance(usage, Mapping) else {}
        by_tokens = _by_tokens(price, usage)
        if by_tokens is not None:
            return by_tokens
        seconds = usage.get("seconds")
        if not _is_count(seconds):
            seconds = math.ceil(duration_s) if _is_count(duration_s) else None
        return price.minute * seconds / 60 if price.minute is not None and seconds is not None else None

    def estimate_usd(self, model: str, duration_s: float) -> float | None:
        """About what a request will cost.

        Args:
            model: Its name. For a text model: to go through the transcript of the audio and write it anew, at peak.
            duration_s: Seconds of audio.

        Returns:
            USD; None where the model isn't in the list.
        """
        price = self.price_of(model)
        if price is None or not _is_count(duration_s):
            return None
        if price.minute is not None:
            return price.minute * math.ceil(duration_s) / 60
        price = price.peak or price
        spoken = SPEECH_TOKENS_PER_MINUTE * duration_s / 60
        return (price.text_input or 0.0) * (spoken + PROMPT_TOKENS) / 1e6 + (price.output or 0.0) * spoken / 1e6

    def text_usd(self, model: str, input_tokens: int, output_tokens: int, *, peak: bool = True) -> float | None:
        """What a request to a text model costs at the most: nothing of it is in the provider's cache.

        Args:
            model: Its name.
            input_tokens: Tokens that go in; see `tokens_of`.
            output_tokens: Tokens that may come out.
            peak: Whether it may be sent in peak hours.

        Returns:
            USD; None where the model isn't in the list, or isn't charged by the token.
        """
        price = self.price_of(model)
        if price is None:
            return None
        price = (price.peak or price) if peak else price
        return _by_tokens(price, {"prompt_tokens": input_tokens, "completion_tokens": output_tokens})


def tokens_of(text: str) -> int:
    """About how many tokens a text has, rather too many.

    Source: DeepSeek's documentation, 0.3 for an English character and 0.6 for a Chinese one.
    """
    plain = sum(character.isascii() for character in text)
    return math.ceil(0.3 * plain + 0.6 * (len(text) - plain))


NO_PRICES = PriceList(as_of=date.min, rows={})
"""Of a provider that charges nothing, or of which nothing is known."""


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
