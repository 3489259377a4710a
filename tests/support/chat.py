"""What a chat model says to a window of a transcript: faithful edits, and unfaithful ones, for the speech server.

    with SpeechServer(chat=chat.punctuating) as server: ...

A script gets the body of a request. `segments_of` reads the window in it as the model would.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["answer", "edit", "is_summary", "punctuating", "segments_of", "slow"]

_FROM = re.compile(r"\{.*\}", re.DOTALL)


def segments_of(body: Mapping[str, Any]) -> dict[int, str]:
    """The segments of a request's window, by their numbers."""
    found = _FROM.search(body["messages"][-1]["content"])
    data = json.loads(found[0]) if found else {}
    return {each["segment"]: each["text"] for each in data.get("segments", ())}


def is_summary(body: Mapping[str, Any]) -> bool:
    """Whether a summary is asked for."""
    return "chapters" in body["messages"][0]["content"]


def edit(segment: int, before: str, after: str, kind: str = "punctuation") -> dict[str, Any]:
    """An edit as it stands in an answer."""
    return {"segment": segment, "from": before, "to": after, "kind": kind}


def answer(*edits: Mapping[str, Any], **more: Any) -> str:
    """An answer of edits."""
    return json.dumps({"edits": list(edits), **more}, ensure_ascii=False)


def punctuating(body: Mapping[str, Any]) -> str:
    """A sentence of each segment: a capital letter at its beginning, a full stop at its end."""
    edits = []
    for number, text in segments_of(body).items():
        words = text.split()
        if len(words) > 1 and text[-1].isalnum():
            last = " ".join(words[-2:])
            if text.count(words[0]) == 1 and len(words) > 3:
                edits.append(edit(number, words[0], words[0].capitalize(), "casing"))
            if text.count(last) == 1:
                edits.append(edit(number, last, f"{last}."))
    return answer(*edits)


def slow(script: Callable[[Mapping[str, Any]], str], tokens_per_s: float, first_s: float) -> Callable[[Any], Any]:
    """A script that takes as long as a model does: a while to the first token, then one after the other."""

    async def say(body: Mapping[str, Any]) -> str:
        import asyncio

        said = script(body)
        await asyncio.sleep(first_s + 0.3 * len(said) / tokens_per_s)
        return said

    return say
