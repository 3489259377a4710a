"""What a model answered, read with distrust: repaired where that is certain, else refused as a whole."""

from __future__ import annotations

import json
from dataclasses import dataclass

from trax_ray.enhance.edits import Edit

__all__ = ["Answer", "read_answer"]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a window.

    Args:
        edits: As they stand in it; empty where it can't be used.
        paragraphs: Numbers of segments with which it would begin a paragraph.
        problem: Why it can't be used, a word for counting; None where it can.
        reason: The same as a sentence, for people and for the second asking.
        repairs: What was mended, words for counting: `code_fence`, `chatter`, ...
    """

    edits: tuple[Edit, ...] = ()
    paragraphs: tuple[int, ...] = ()
    problem: str | None = None
    reason: str = ""
    repairs: tuple[str, ...] = ()


def read_answer(text: str | None, *, finish_reason: str | None = None) -> Answer:
    """The edits of an answer.

    Args:
        text: The content of the message.
        finish_reason: Why the server stopped (`stop`, `length`, `content_filter`, ...); None where it doesn't say.
    """
    try:
        given = json.loads(text or "")
        edits = tuple(Edit(each["segment"], each["from"], each["to"], each.get("kind", "")) for each in given["edits"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return Answer(problem="wrong_json", reason="The answer was not the JSON that was asked for.")
    return Answer(edits=edits)
