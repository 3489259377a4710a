"""DeepSeek's text models. Thinking is on there where nobody says otherwise, and is charged: it is turned off.

What begins like an earlier prompt comes from its cache and costs a fiftieth, so instructions come first and stay the
same. It knows no limit of requests, but one of connections (a 429).
"""

from __future__ import annotations

from trax_ray.providers.base import TextProvider
from trax_ray.providers.chat import Chat
from trax_ray.providers.deepseek_prices import PRICES
from trax_ray.providers.keys import Secret
from trax_ray.providers.openai_connection import Connection
from trax_ray.providers.openai_refusals import TEXT_FLAGS

__all__ = ["PROVIDER"]

NAME = "deepseek"

OWN_URL = "https://api.deepseek.com"

NO_THINKING = {"thinking": {"type": "disabled"}}
"""Source: api-docs.deepseek.com, Thinking Mode."""


class DeepSeekProvider(TextProvider):
    """See `TextProvider`."""

    name = NAME
    models = "deepseek-flash, deepseek-v4-pro (DeepSeek)"
    key_variable = "DEEPSEEK_API_KEY"
    prices = PRICES
    default_model = "deepseek-flash"

    def has(self, model: str) -> bool:
        """DeepSeek's own models, by the beginning of their names."""
        return model.startswith("deepseek-")

    def connect(self, model: str, *, key: Secret | None, base_url: str, priced: bool) -> Chat:
        """See `TextProvider.connect`."""
        connection = Connection(
            NAME, own_name="DeepSeek", own_url=OWN_URL, base_url=base_url, key=key, flags=TEXT_FLAGS
        )
        return Chat(self, model, connection, priced=priced, more=NO_THINKING)


PROVIDER = DeepSeekProvider()
