"""Answers of a chat model by OpenAI's protocol: nothing in them is believed.

A 200 may hold HTML, `null`, another object, no choice, or a text without end; servers of the same protocol leave out
what they like. What the model says is left as it is: who asked reads it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trax_ray.codes import FailureCode
from trax_ray.errors import ProcessingError

__all__ = ["Completion", "read_completion"]

CHARACTERS_PER_TOKEN = 16
"""No model's tokens are longer on average: an answer with more characters is cut off there."""

_THOUGHTS = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
"""What models that think aloud put before their answer, where the server doesn't take it out."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What a server answered.

    Args:
        text: What the model wrote, without its thoughts; may be empty.
        finish: Why it stopped: `stop`, `length`, `content_filter` and so on; empty where the server doesn't say.
        usage: The server's account of tokens; empty where it gives none.
    """

    text: str
    finish: str
    usage: Mapping[str, Any]

    def tokens(self, *names: str) -> int | None:
        """A count of the account, under the first of some names that it has; None where it has none."""
        for name in names:
            value = self.usage.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
                return value
        return None

    @property
    def cached_tokens(self) -> int | None:
        """Tokens of the prompt that came from the provider's cache, by DeepSeek's name or OpenAI's."""
        details = self.usage.get("prompt_tokens_details")
        found = self.tokens("prompt_cache_hit_tokens")
        if found is None and isinstance(details, Mapping):
            found = Completion("", "", details).tokens("cached_tokens")
        return found


def read_completion(body: bytes, *, max_tokens: int) -> Completion:
    """Make sense of an answer.

    Args:
        body: All bytes of it.
        max_tokens: The longest output that was allowed.

    Raises:
        ProcessingError: It is no answer of this protocol; code `bad_answer`, class transient.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise _bad(f"it is {'HTML' if body.lstrip()[:1] == b'<' else 'no JSON'}") from None
    if not isinstance(content, dict):
        raise _bad(f"expected an object, got {type(content).__name__}")
    choices = content.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise _bad("there is no message in it")
    text = message.get("content")
    if text is not None and not isinstance(text, str):
        raise _bad(f"the message is {type(text).__name__}")
    usage, finish = content.get("usage"), choice.get("finish_reason")
    most = CHARACTERS_PER_TOKEN * max_tokens
    text, finish = (text or "")[:most], "length" if len(text or "") > most else finish
    text = _THOUGHTS.sub("", text, count=1)
    return Completion(
        text=text,
        finish=finish if isinstance(finish, str) else "",
        usage=usage if isinstance(usage, dict) else {},
    )


def _bad(why: str) -> ProcessingError:
    return ProcessingError(why, failure_class="transient", code=FailureCode.BAD_ANSWER)
