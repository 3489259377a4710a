"""What can go wrong with a speech service, as orders to the speech server.

A `Fault` says what happens to one request. A plan says to which: a list is taken fault by fault, None meaning a good
answer; a function of a `Call` decides by itself; `at`, `starting`, `sometimes` and `first_of` make plans.

    SpeechServer(faults=[faults.rate_limited(retry_after_s=2), None, faults.hang()])
    SpeechServer(faults=faults.at({3: faults.lost_answer()}))
    SpeechServer(faults=faults.sometimes(0.1, faults.server_error(503), faults.cut("body"), seed=1))
    SpeechServer(faults=lambda call: faults.garbage("null") if call.model == "whisper-1" else None)

Plans that are made here concern transcriptions unless they are told another endpoint, and `number` is counted for
each endpoint alone, so that looking at the list of models shifts nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from enum import Enum
from random import Random
from typing import Any, Literal, TypeAlias

from tests.support.speech_server.answers import refusal
from tests.support.speech_server.wire import JSON, Reply

__all__ = [
    "Call",
    "Effect",
    "Fault",
    "Plan",
    "Sending",
    "at",
    "cut",
    "dripping",
    "empty_text",
    "finished_by",
    "first_of",
    "forbidden",
    "garbage",
    "hang",
    "html",
    "in_order",
    "insufficient_balance",
    "insufficient_quota",
    "key_revoked",
    "kept_alive",
    "lost_answer",
    "missing_fields",
    "model_gone",
    "rate_limited",
    "redirect",
    "segments_beyond_the_end",
    "segments_out_of_order",
    "server_error",
    "slow",
    "sometimes",
    "starting",
    "status",
    "truncated",
]

_HTML = "text/html; charset=utf-8"
_OPTIONAL = ("seek", "tokens", "temperature", "avg_logprob", "compression_ratio", "no_speech_prob")


class Sending(Enum):
    """How an answer is sent."""

    WHOLE = "whole"
    NEVER = "never"
    CUT_BEFORE = "cut before the answer"
    CUT_AFTER_HEAD = "cut after the head"
    CUT_IN_BODY = "cut in the body"
    DRIPPING = "a byte now and then"
    KEPT_ALIVE = "empty lines, then the answer"


class Effect(Enum):
    """What stays after a fault."""

    REVOKE_KEY = "the key is refused until the server gets another"
    END_MODEL = "the model is gone"


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one request.

    Args:
        name: For the ledger.
        reply: Is answered instead of the right answer, before key and request are looked at.
        spoil: Changes the right answer; refusals stay as they are.
        sending: How the answer is sent.
        interval_s: Between the bytes or lines of a slow answer.
        reset: A cut connection is reset rather than ended.
        delay_s: Seconds before the answer, or two limits between which the server draws.
        effect: What stays.
        works: Whether the request is dealt with as usual before that, so that the ledger may count it as paid.
    """

    name: str
    reply: Reply | None = None
    spoil: Callable[[Reply], Reply] | None = None
    sending: Sending = Sending.WHOLE
    interval_s: float = 0.05
    reset: bool = False
    delay_s: float | tuple[float, float] = 0.0
    effect: Effect | None = None
    works: bool = True


@dataclass(frozen=True, slots=True)
class Call:
    """What a plan is asked about.

    Args:
        endpoint: `transcriptions`, `chat` or `models`.
        number: Counted from 1 for the endpoint.
        model: As asked for; None where none is named.
        audio: The ledger's name for what was heard; None outside transcriptions.
        audio_s: Its duration in seconds.
        fields: The form, or the body of a chat.
        key: Fingerprint of the key.
        file_name: Of the upload.
    """

    endpoint: str
    number: int
    model: str | None = None
    audio: str | None = None
    audio_s: float = 0.0
    fields: Mapping[str, Any] | None = None
    key: str | None = None
    file_name: str | None = None


Plan: TypeAlias = Callable[[Call], "Fault | None"]


# Plans


def in_order(faults: Sequence[Fault | None], *, endpoint: str = "transcriptions") -> Plan:
    """One fault for each call from now on; None, and the end, mean good answers."""
    left = list(faults)
    return lambda call: left.pop(0) if left and call.endpoint == endpoint else None


def at(faults: Mapping[int, Fault], *, endpoint: str = "transcriptions") -> Plan:
    """Faults for calls by their number."""
    return lambda call: faults.get(call.number) if call.endpoint == endpoint else None


def starting(number: int, fault: Fault, *, endpoint: str = "transcriptions") -> Plan:
    """A fault for this call and all after it."""
    return lambda call: fault if call.endpoint == endpoint and call.number >= number else None


def sometimes(probability: float, *faults: Fault, seed: int = 0, endpoint: str = "transcriptions") -> Plan:
    """One of some faults, by chance. The same calls fail with the same seed, in whatever order they are dealt with."""

    def plan(call: Call) -> Fault | None:
        chance = Random(f"{seed} {call.endpoint} {call.number}")
        return chance.choice(faults) if call.endpoint == endpoint and chance.random() < probability else None

    return plan


def first_of(*plans: Plan) -> Plan:
    """The fault of the first plan that has one."""
    return lambda call: next((fault for plan in plans if (fault := plan(call)) is not None), None)


# Refusals


def status(code: int, message: str | None = None, *, error_code: str | None = None) -> Fault:
    """Any status, with OpenAI's form of error: 400, 408, 409, 413, 422 and so on."""
    text = message or f"The speech server was told to answer {code}."
    kind = "server_error" if code >= 500 or code == 413 else "invalid_request_error"
    return _refused(f"status {code}", refusal(code, text, kind=kind, code=error_code))


def rate_limited(
    *, retry_after_s: float | None = None, as_date: bool = False, retry_after_ms: float | None = None
) -> Fault:
    """429 because of too many requests.

    Args:
        retry_after_s: For the header `retry-after`; None leaves it away.
        as_date: Write it as a date, from when the server is told so.
        retry_after_ms: For the header `retry-after-ms`; None leaves it away.
    """
    headers = {}
    if retry_after_s is not None:
        then = datetime.now(timezone.utc) + timedelta(seconds=retry_after_s)
        headers["retry-after"] = format_datetime(then, usegmt=True) if as_date else f"{retry_after_s:g}"
    if retry_after_ms is not None:
        headers["retry-after-ms"] = f"{retry_after_ms:g}"
    message = "Rate limit reached in organization org-speech-server on requests per min (RPM). Please try again later."
    return _refused("rate_limited", refusal(429, message, kind="requests", code="rate_limit_exceeded", headers=headers))


def insufficient_quota() -> Fault:
    """429 because no credit is left; trying again doesn't help."""
    message = "You exceeded your current quota, please check your plan and billing details."
    return _refused("insufficient_quota", refusal(429, message, kind="insufficient_quota", code="insufficient_quota"))


def insufficient_balance() -> Fault:
    """DeepSeek's 402: no credit is left."""
    error = refusal(402, "Insufficient Balance", kind="unknown_error", code="invalid_request_error")
    return _refused("insufficient_balance", error)


def server_error(code: int = 500) -> Fault:
    """500, 503 or another, in JSON; 502 and 504 as the page of a proxy."""
    if code in (502, 504):
        page = f"<html><head><title>{code}</title></head><body><center><h1>{code}</h1></center></body></html>"
        return _refused(f"server_error {code}", Reply(code, page, _HTML))
    messages = {
        500: "The server had an error while processing your request. Sorry about that!",
        503: "The server is currently overloaded with other requests. Sorry about that! You can retry your request.",
    }
    return _refused(f"server_error {code}", refusal(code, messages.get(code, messages[500]), kind="server_error"))


def key_revoked() -> Fault:
    """401, now and for every later request with this key, until the server gets another."""
    return Fault("key_revoked", effect=Effect.REVOKE_KEY)


def model_gone() -> Fault:
    """404, now and for every later request for this model: its day of shutdown has come."""
    return Fault("model_gone", effect=Effect.END_MODEL)


def forbidden() -> Fault:
    """403: the country isn't served."""
    message = "Country, region, or territory not supported"
    return _refused(
        "forbidden", refusal(403, message, kind="request_forbidden", code="unsupported_country_region_territory")
    )


def redirect(url: str, code: int = 307) -> Fault:
    """Send the client elsewhere, say to a second speech server, whose ledger tells what it was sent."""
    return _refused("redirect", Reply(code, "", "text/plain", {"location": url}))


# Answers that aren't what they seem


def html() -> Fault:
    """200 with a page: a captive portal, or a wrong address. No work is done."""
    return _refused("html", Reply(200, "<!doctype html><html><body>Sign in to the network</body></html>", _HTML))


def garbage(kind: Literal["null", "foo", "broken"]) -> Fault:
    """200 with JSON that is no answer, after the work: `null`, `{"foo": 1}`, or text that is no JSON."""
    body = {"null": b"null", "foo": b'{"foo": 1}', "broken": b'{"text": "this is no'}[kind]
    return Fault(f"garbage {kind}", spoil=lambda reply: replace(reply, payload=body, content_type=JSON))


def truncated() -> Fault:
    """200 with half of the body, and the Content-Length of that half."""
    return Fault("truncated", spoil=lambda reply: replace(reply, payload=reply.body[: len(reply.body) // 2]))


def empty_text() -> Fault:
    """200 with nothing said."""

    def spoil(answer: Any) -> Any:
        if "choices" in answer:
            answer["choices"][0]["message"]["content"] = ""
            return answer
        return {name: [] if isinstance(value, list) else value for name, value in answer.items()} | {"text": ""}

    return Fault("empty_text", spoil=lambda reply: _changed(reply, spoil, text=""))


def missing_fields() -> Fault:
    """verbose_json whose segments have an id, times and text only, as compatible servers write it."""

    def spoil(answer: Any) -> Any:
        for segment in answer.get("segments") or ():
            for name in _OPTIONAL:
                segment.pop(name, None)
        return answer

    return Fault("missing_fields", spoil=lambda reply: _changed(reply, spoil))


def segments_out_of_order() -> Fault:
    """Segments and words from the last to the first."""

    def spoil(answer: Any) -> Any:
        for name in ("segments", "words"):
            if answer.get(name):
                answer[name].reverse()
        return answer

    return Fault("segments_out_of_order", spoil=lambda reply: _changed(reply, spoil))


def segments_beyond_the_end(by_s: float = 30.0) -> Fault:
    """The last segment ends after the audio does, and one more begins there."""

    def spoil(answer: Any) -> Any:
        segments = answer.get("segments")
        if segments:
            last = segments[-1]
            last["end"] = answer["duration"] + by_s
            segments.append({**last, "start": last["end"], "end": last["end"] + by_s, "text": " Thank you."})
        return answer

    return Fault("segments_beyond_the_end", spoil=lambda reply: _changed(reply, spoil))


def finished_by(reason: Literal["length", "content_filter", "insufficient_system_resource"]) -> Fault:
    """A chat that ended otherwise than by itself: its text stops in the middle."""

    def spoil(answer: Any) -> Any:
        choice = answer["choices"][0]
        choice["finish_reason"] = reason
        choice["message"]["content"] = choice["message"]["content"][: len(choice["message"]["content"]) // 2]
        return answer

    return Fault(f"finished_by {reason}", spoil=lambda reply: _changed(reply, spoil))


# Sending


def hang() -> Fault:
    """No answer, ever; the connection stays open until the client closes it. No work is done."""
    return Fault("hang", sending=Sending.NEVER, works=False)


def dripping(interval_s: float = 0.05) -> Fault:
    """A byte now and then: no single read lasts long, and the whole does."""
    return Fault("dripping", sending=Sending.DRIPPING, interval_s=interval_s)


def kept_alive(seconds: float, interval_s: float = 0.05) -> Fault:
    """The head and then an empty line now and then for some seconds, as DeepSeek does under load; then the answer."""
    return Fault("kept_alive", sending=Sending.KEPT_ALIVE, interval_s=interval_s, delay_s=seconds)


def cut(where: Literal["before", "head", "body"] = "before", *, reset: bool = False) -> Fault:
    """The connection ends before the answer (no work is done), after its head, or in the middle of its body."""
    if where == "before":
        return Fault("cut before", sending=Sending.CUT_BEFORE, reset=reset, works=False)
    sending = Sending.CUT_AFTER_HEAD if where == "head" else Sending.CUT_IN_BODY
    return Fault(f"cut {where}", sending=sending, reset=reset)


def lost_answer(*, reset: bool = False) -> Fault:
    """The work is done and paid, and the connection ends before the answer: the worst of all."""
    return Fault("lost_answer", sending=Sending.CUT_BEFORE, reset=reset)


def slow(delay_s: float, most_s: float | None = None) -> Fault:
    """A right answer, late: after so many seconds, or between so many and `most_s`."""
    return Fault("slow", delay_s=delay_s if most_s is None else (delay_s, most_s))


def _refused(name: str, reply: Reply) -> Fault:
    return Fault(name, reply=reply, works=False)


def _changed(reply: Reply, change: Callable[[Any], Any], *, text: str | None = None) -> Reply:
    """The reply with its JSON changed; a reply in text becomes `text` if there is one."""
    if isinstance(reply.payload, dict):
        return replace(reply, payload=change(copy.deepcopy(reply.payload)))
    return reply if text is None else replace(reply, payload=text)
