"""A batch's text model: what a request to it costs at the most, and how it is asked from a lane."""

from __future__ import annotations

from dataclasses import dataclass

from trax_ray.codes import FailureCode
from trax_ray.core.limits.signals import ProviderSignal, SignalKind
from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import Category, Failure, FailureClass
from trax_ray.kinds.asking import in_time, latest_of, room
from trax_ray.providers.base import TextProvider, TextReply, TextService
from trax_ray.providers.credentials import key_of
from trax_ray.providers.registry import text_provider_of

__all__ = ["TextModel"]

TOKENS_PER_S = 25.0
"""What models write at the least, about: by it a longer answer is waited for longer."""


@dataclass(frozen=True, slots=True)
class TextModel:
    """The text model of a batch.

    Args:
        spec: The batch.
    """

    spec: BatchSpec

    @property
    def provider(self) -> TextProvider:
        """Whose it is."""
        return text_provider_of(self.spec.enhance.model, base_url=self.spec.enhance.base_url)

    @property
    def name(self) -> str:
        """What keys of artifacts call it: a model's name says little where anybody may have given it."""
        model, base_url = self.spec.enhance.model, self.spec.enhance.base_url
        return f"{model} at {base_url}" if base_url else model

    @property
    def revision(self) -> int:
        """Goes up when the provider makes something else of the same text."""
        return self.provider.revision

    def price_usd(self, text: str, max_tokens: int) -> float | None:
        """What a request costs at the most, about; None where no price is known.

        Args:
            text: All that is sent.
            max_tokens: The longest output that is allowed.
        """
        asked = self.spec.enhance
        return self.provider.request_usd(
            asked.model,
            text,
            max_tokens,
            base_url=asked.base_url,
            limited=self.spec.max_cost_usd is not None,
            peak=not asked.peak_hours,
        )

    async def ask(self, instructions: str, text: str, *, max_tokens: int, as_json: bool, began: float) -> TextReply:
        """Send one request, and wait as long as the server's pace lets expect.

        Args:
            instructions: As of `TextService.complete`, and likewise the next three.
            text: What they are applied to.
            max_tokens: The longest output that is allowed.
            as_json: Whether the output must be one JSON object.
            began: When the attempt began, seconds of the monotonic clock.
        """
        asked = self.spec.enhance
        request = self._service().complete(instructions, text, max_tokens=max_tokens, as_json=as_json)
        pace = room().pace(asked.model, asked.base_url)
        reply = await in_time(request, pace, max_tokens / TOKENS_PER_S, latest_of(self.spec, began))
        if isinstance(reply, TextReply):
            return reply
        way_out = "" if self.spec.task_timeout_s is None else ": give a larger --task-timeout"
        message = f"the server gave no answer within {reply:.3g} s{way_out}"
        # It may have been worked on, and then it is charged for.
        price = self.price_usd(instructions + text, max_tokens) if self._priced else None
        return TextReply(
            ProviderSignal(kind=SignalKind.CONNECTION, latency_s=round(reply, 3), cost_usd=price),
            failure=Failure(FailureClass.TRANSIENT, Category.NETWORK, FailureCode.DEADLINE, message),
        )

    @property
    def _priced(self) -> bool:
        limited = self.spec.max_cost_usd is not None
        return self.provider.prices_hold(self.spec.enhance.base_url, limited=limited)

    def _service(self) -> TextService:
        """The client; with another key it is another one."""
        asked, provider, priced = self.spec.enhance, self.provider, self._priced
        key = key_of(provider.key_variable)
        return room().service(
            ("text", asked.model, asked.base_url, priced, key),
            lambda: provider.connect(asked.model, key=key, base_url=asked.base_url, priced=priced),
        )
