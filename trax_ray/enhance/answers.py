"""What a model answered to a window, read with distrust: repaired where that is certain, else refused as a whole."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trax_ray.enhance.edits import Edit
from trax_ray.enhance.replies import PROBLEMS, read_object

__all__ = ["PROBLEMS", "Answer", "read_answer"]

MOST_EDITS = 5_000
"""Edits of an answer; more than a window has words is no answer to it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a window.

    Args:
        edits: As they stand in it; empty where it can't be used.
        paragraphs: Numbers of segments with which it would begin a paragraph.
        problem: Why it can't be used, a key of `PROBLEMS`; None where it can.
        reason: The same as a sentence, for people and for the second asking.
        repairs: What was mended, words for counting: `code_fence`, `chatter`, `thinking`, `trailing_comma`,
            `bare_list`, `number_as_text`, `paragraphs`.
    """

    edits: tuple[Edit, ...] = ()
    paragraphs: tuple[int, ...] = ()
    problem: str | None = None
    reason: str = ""
    repairs: tuple[str, ...] = ()


def read_answer(text: str | None, *, finish_reason: str | None = None) -> Answer:
    """The edits of an answer.

    Mended is what can be read in one way only: a code fence or chatter around the object, thinking before it, a comma
    too many, a list of edits without the object around it, numbers in quotation marks. An answer in which one edit has
    another shape is refused whole.

    Args:
        text: The content of the message.
        finish_reason: Why the server stopped (`stop`, `length`, `content_filter`, ...); None where it doesn't say.
    """
    reply = read_object(text, finish_reason=finish_reason)
    if reply.problem:
        return Answer(problem=reply.problem, reason=PROBLEMS[reply.problem])
    repairs = list(reply.repairs)
    value = reply.value
    if isinstance(value, list):
        value = {"edits": value}
        repairs.append("bare_list")
    given = value.get("edits")
    if not isinstance(given, list) or len(given) > MOST_EDITS:
        return _wrong()
    edits = [_edit(each, repairs) for each in given]
    if any(each is None for each in edits):
        return _wrong()
    return Answer(
        edits=tuple(each for each in edits if each is not None),
        paragraphs=_paragraphs(value.get("paragraphs", []), repairs),
        repairs=tuple(dict.fromkeys(repairs)),
    )


def _wrong() -> Answer:
    return Answer(problem="wrong_shape", reason=PROBLEMS["wrong_shape"])


def _edit(given: Any, repairs: list[str]) -> Edit | None:
    if not isinstance(given, Mapping):
        return None
    number = _number(given.get("segment"), repairs)
    before, after, kind = given.get("from"), given.get("to"), given.get("kind", "")
    if number is None or not isinstance(before, str) or not isinstance(after, str):
        return None
    return Edit(number, before, after, kind[:40] if isinstance(kind, str) else "")


def _number(given: Any, repairs: list[str]) -> int | None:
    if isinstance(given, bool):
        return None
    if isinstance(given, int):
        return given
    text = f"{given:.0f}" if isinstance(given, float) and given.is_integer() else given
    if not isinstance(text, str) or not re.fullmatch(r"[0-9]{1,9}", text.strip()):
        return None
    repairs.append("number_as_text")
    return int(text)


def _paragraphs(given: Any, repairs: list[str]) -> tuple[int, ...]:
    """What can be read of a list of numbers; where a paragraph begins changes nothing that was said."""
    numbers = [_number(each, []) for each in given] if isinstance(given, list) else []
    found = tuple(sorted({each for each in numbers if each is not None}))
    if not isinstance(given, list) or None in numbers:
        repairs.append("paragraphs")
    return found
