"""The JSON in what a model replied: read with distrust, repaired where there is only one way to read it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

__all__ = ["PROBLEMS", "Reply", "read_object"]

LONGEST = 2_000_000
"""Characters of a reply; more can't be the answer to a window."""

PROBLEMS = {
    "empty": "The answer was empty.",
    "truncated": "The answer was cut off before its end; answer with fewer edits.",
    "filtered": "The service held the answer back.",
    "too_long": "The answer was far too long.",
    "no_json": "The answer was no JSON; answer with the JSON object alone.",
    "wrong_json": "The answer was JSON with an error in it; answer with one valid JSON object.",
    "two_answers": "The answer held more than one JSON object; answer with one alone.",
    "wrong_shape": "The answer was JSON of another shape than the one that was asked for.",
}
"""Why a reply can't be used, as words for counting and as sentences for people and for a second asking."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The JSON of a reply.

    Args:
        value: An object or a list; None where there is a problem.
        problem: A key of `PROBLEMS`, or None.
        repairs: What was mended: `code_fence`, `chatter`, `thinking`, `trailing_comma`.
    """

    value: Any = None
    problem: str | None = None
    repairs: tuple[str, ...] = ()


class _TwoKeys(ValueError):
    """An object that has a key twice: which of them counts is anybody's guess."""


_TAG = r"(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|analysis|scratchpad)"
_THOUGHT = re.compile(rf"<({_TAG})>.*?</\1>", re.DOTALL | re.IGNORECASE)
_BEGINS, _ENDS = re.compile(f"<{_TAG}>", re.IGNORECASE), re.compile(f"</{_TAG}>", re.IGNORECASE)
_FENCE = re.compile(r"```[\w-]*[ \t]*\r?\n?(.*?)```", re.DOTALL)
_STRING_OR_COMMA = re.compile(r'"(?:[^"\\]|\\.)*"|,(?=\s*[}\]])', re.DOTALL)
_STOPPED_EARLY = {"length": "truncated", "max_tokens": "truncated", "content_filter": "filtered", "refusal": "filtered"}


def read_object(text: str | None, *, finish_reason: str | None = None) -> Reply:
    """The one JSON object, or list, of a reply.

    Args:
        text: What the model replied.
        finish_reason: Why the server stopped, in the words of OpenAI's API; None where it doesn't say.
    """
    if finish_reason in _STOPPED_EARLY:
        return Reply(problem=_STOPPED_EARLY[finish_reason])
    if text is None or not text.strip("\ufeff \t\r\n"):
        return Reply(problem="empty")
    if len(text) > LONGEST:
        return Reply(problem="too_long")
    repairs: list[str] = []
    body = text.strip("\ufeff \t\r\n")
    without = _without_thoughts(body)
    if without != body:
        repairs.append("thinking")
        body = without
    fences = _FENCE.findall(body)
    if len(fences) > 1:
        return Reply(problem="two_answers")
    if fences:
        repairs.append("code_fence")
        if _FENCE.sub("", body).strip():
            repairs.append("chatter")
        body = fences[0].strip()
    return _read(body, repairs)


def _without_thoughts(text: str) -> str:
    """What isn't between tags of thinking; one that was never begun, or never ended, reaches to the text's border."""
    text = _THOUGHT.sub("", text)
    ends = [match.end() for match in _ENDS.finditer(text)]
    text = text[ends[-1] :] if ends else text
    begins = _BEGINS.search(text)
    return (text[: begins.start()] if begins else text).strip()


def _read(body: str, repairs: list[str]) -> Reply:
    start = next((at for at, character in enumerate(body) if character in "{["), None)
    if start is None:
        return Reply(problem="no_json")
    problem = "wrong_json"
    for mend in (False, True):
        source = _without_trailing_commas(body) if mend else body
        if mend and source == body:
            break
        try:
            value, end = _DECODER.raw_decode(source, start)
        except (ValueError, RecursionError):
            continue
        rest = source[end:]
        if "{" in rest or "[" in rest:
            problem = "two_answers"
            continue
        if rest.strip() or start:
            repairs.append("chatter")
        if mend:
            repairs.append("trailing_comma")
        try:
            return Reply(value=_whole(value), repairs=tuple(dict.fromkeys(repairs)))
        except RecursionError:
            return Reply(problem="wrong_json")
    return Reply(problem=problem)


def _without_trailing_commas(text: str) -> str:
    return _STRING_OR_COMMA.sub(lambda match: "" if match.group() == "," else match.group(), text)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _TwoKeys("a key stands twice")
    return found


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant, strict=False)


def _whole(value: Any) -> Any:
    """The same without halves of surrogate pairs, which no file can hold."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_whole(each) for each in value]
    if isinstance(value, dict):
        return {_whole(key): _whole(each) for key, each in value.items()}
    return value
