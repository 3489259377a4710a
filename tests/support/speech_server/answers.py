"""The bodies of answers as OpenAI and DeepSeek write them: transcripts in every format, usage, chat, refusals."""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.speech_server.models import LANGUAGES, ChatModel, SpeechModel
from tests.support.speech_server.scripts import Transcript
from tests.support.speech_server.wire import JSON, Form, Reply
from trax_ray.media.speech import Segment, Word

__all__ = [
    "Refused",
    "chat_usage",
    "completion",
    "refusal",
    "speech_usage",
    "token_count",
    "transcription",
]

_TEXT = "text/plain; charset=utf-8"
_TOKENS_PER_S = 10
"""Audio tokens of the gpt-4o models for a second. Measured by others on the real service: 37 for 3.8 s."""


class Refused(Exception):
    """A request that the service refuses; carries the reply.

    Args:
        reply: The refusal.
    """

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def refusal(
    status: int,
    message: str,
    *,
    kind: str = "invalid_request_error",
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """An error in OpenAI's form.

    Args:
        status: The HTTP status.
        message: In words.
        kind: The error's `type`.
        param: The field that was wrong.
        code: A word for programs.
        headers: More headers.
    """
    error = {"message": message, "type": kind, "param": param, "code": code}
    return Reply(status, {"error": error}, JSON, dict(headers or {}))


def transcription(model: SpeechModel, form: Form, said: Transcript, seconds: float) -> tuple[Reply, dict[str, Any]]:
    """Answer POST /v1/audio/transcriptions.

    Args:
        model: The model.
        form: What was asked for; already found valid.
        said: What is said.
        seconds: Duration of the upload.

    Returns:
        The answer, and its usage, which the formats in plain text don't have in them.
    """
    usage = speech_usage(model, said, seconds, form.one("prompt") or "")
    return _formatted(model, form, said, seconds, usage), usage


def _formatted(model: SpeechModel, form: Form, said: Transcript, seconds: float, usage: dict[str, Any]) -> Reply:
    wanted = form.one("response_format") or "json"
    if wanted == "text":
        return Reply(payload=said.text + "\n", content_type=_TEXT)
    if wanted == "srt":
        return Reply(payload=_srt(said.segments), content_type=_TEXT)
    if wanted == "vtt":
        return Reply(payload=_vtt(said.segments), content_type=_TEXT)
    if wanted == "verbose_json":
        return Reply(payload=_verbose(form, said, seconds, usage))
    if wanted == "diarized_json":
        return Reply(payload=_diarized(form, said, seconds, usage))
    answer: dict[str, Any] = {"text": said.text}
    if model.takes_hints:
        # It repeats the hints that it was given; only without any does it say what it heard.
        codes = form.fields.get("languages[]") or form.fields.get("languages") or [said.language]
        answer["languages"] = [{"code": code} for code in codes] if said.text else []
    if "logprobs" in form.many("include"):
        answer["logprobs"] = _logprobs(said)
    return Reply(payload={**answer, "usage": usage})


def speech_usage(model: SpeechModel, said: Transcript, seconds: float, prompt: str) -> dict[str, Any]:
    """The `usage` of an answer: whole seconds, begun ones count; or tokens."""
    if not model.counts_tokens:
        return {"type": "duration", "seconds": math.ceil(seconds)}
    audio, text, output = round(seconds * _TOKENS_PER_S), token_count(prompt), token_count(said.text)
    return {
        "type": "tokens",
        "total_tokens": audio + text + output,
        "input_tokens": audio + text,
        "input_token_details": {"text_tokens": text, "audio_tokens": audio},
        "output_tokens": output,
    }


def token_count(text: str) -> int:
    """About as many tokens as a text has: 0.3 for a character.

    Source: DeepSeek's documentation, for English.
    """
    return math.ceil(0.3 * len(text))


def _verbose(form: Form, said: Transcript, seconds: float, usage: dict[str, Any]) -> dict[str, Any]:
    granularities = form.many("timestamp_granularities") or ["segment"]
    answer: dict[str, Any] = {
        "task": "transcribe",
        "language": LANGUAGES.get(said.language, said.language),
        "duration": seconds,
        "text": said.text,
    }
    if "word" in granularities:
        answer["words"] = [
            {"word": word.text.strip(".,;:!?\"'()"), "start": word.start_s, "end": word.end_s}
            for word in said.words or _words(said.segments)
        ]
    if "segment" in granularities:
        temperature = float(form.one("temperature") or 0.0)
        answer["segments"] = [_segment(number, each, temperature) for number, each in enumerate(said.segments)]
    return {**answer, "usage": usage}


def _words(segments: Sequence[Segment]) -> list[Word]:
    """Words of segments that have none with times: spread evenly."""
    words: list[Word] = []
    for segment in segments:
        texts = segment.text.split()
        step = (segment.end_s - segment.start_s) / max(1, len(texts))
        words += [
            Word(segment.start_s + step * index, segment.start_s + step * (index + 1), text)
            for index, text in enumerate(texts)
        ]
    return words


def _segment(number: int, segment: Segment, temperature: float) -> dict[str, Any]:
    raw = segment.text.encode()
    confidence = 0.8 if segment.confidence is None else max(segment.confidence, 1e-6)
    ratio = len(raw) / max(1, len(zlib.compress(raw)))
    return {
        "id": number,
        "seek": int(segment.start_s // 30) * 3000,
        "start": segment.start_s,
        "end": segment.end_s,
        "text": f" {segment.text}",
        "tokens": [50364, *(zlib.crc32(word.encode()) % 50257 for word in segment.text.split()), 50414],
        "temperature": temperature,
        "avg_logprob": math.log(confidence) if segment.avg_logprob is None else segment.avg_logprob,
        "compression_ratio": ratio if segment.compression_ratio is None else segment.compression_ratio,
        "no_speech_prob": 0.01 if segment.no_speech_prob is None else segment.no_speech_prob,
    }


def _diarized(form: Form, said: Transcript, seconds: float, usage: dict[str, Any]) -> dict[str, Any]:
    known = form.many("known_speaker_names")
    speakers = said.speakers or ("A",) * len(said.segments)
    names = {label: known[index] for index, label in enumerate(dict.fromkeys(speakers)) if index < len(known)}
    segments = [
        {
            "type": "transcript.text.segment",
            "id": f"seg_{number:03}",
            "start": segment.start_s,
            "end": segment.end_s,
            "text": segment.text,
            "speaker": names.get(speaker, speaker),
        }
        for number, (segment, speaker) in enumerate(zip(said.segments, speakers, strict=True), start=1)
    ]
    return {"task": "transcribe", "duration": seconds, "text": said.text, "segments": segments, "usage": usage}


def _logprobs(said: Transcript) -> list[dict[str, Any]]:
    """A token per word, of which the first has no space before it."""
    words = list(said.words) or _words(said.segments)
    tokens = [f" {word.text}" if index else word.text for index, word in enumerate(words)]
    sure = [0.9 if word.probability is None else max(word.probability, 1e-6) for word in words]
    return [
        {"token": token, "logprob": math.log(probability), "bytes": list(token.encode())}
        for token, probability in zip(tokens, sure, strict=True)
    ]


def _clock(time_s: float, mark: str) -> str:
    thousandths = max(0, round(time_s * 1000))
    minutes, rest = divmod(thousandths, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{mark}{rest % 1000:03}"


def _srt(segments: Sequence[Segment]) -> str:
    cues = (
        f"{number}\n{_clock(each.start_s, ',')} --> {_clock(each.end_s, ',')}\n{each.text}\n\n"
        for number, each in enumerate(segments, start=1)
    )
    return "".join(cues) + "\n"


def _vtt(segments: Sequence[Segment]) -> str:
    cues = (f"{_clock(each.start_s, '.')} --> {_clock(each.end_s, '.')}\n{each.text}\n\n" for each in segments)
    return "WEBVTT\n\n" + "".join(cues)


def completion(model: str, content: str, finish_reason: str, usage: dict[str, Any], *, at: int) -> dict[str, Any]:
    """Answer POST /chat/completions.

    Args:
        model: As asked for.
        content: What the model says.
        finish_reason: `stop`, `length`, `content_filter` or `insufficient_system_resource`.
        usage: See `chat_usage`.
        at: Seconds since the epoch.
    """
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
    return {
        "id": hashlib.md5(f"{at}{content}".encode(), usedforsecurity=False).hexdigest(),
        "object": "chat.completion",
        "created": at,
        "model": model,
        "choices": [choice],
        "usage": usage,
        "system_fingerprint": "fp_speech_server",
    }


def chat_usage(
    model: ChatModel, body: Mapping[str, Any], content: str, cached: set[bytes]
) -> tuple[dict[str, Any], float]:
    """Count tokens as DeepSeek does: what begins like an earlier prompt comes from the cache, in steps of 64 tokens.

    Args:
        model: The model.
        body: The request.
        content: The answer.
        cached: Beginnings of earlier prompts; those of this one are added.

    Returns:
        The `usage` of the answer, and the price in USD.
    """
    prompt = "\n".join(f"{message.get('role')}: {_flat(message.get('content'))}" for message in body["messages"])
    digest, hits, missed = hashlib.sha256(model.name.encode()), 0, False
    characters = 64 * 10 // 3
    for start in range(0, len(prompt) - characters + 1, characters):
        digest.update(prompt[start : start + characters].encode())
        beginning = digest.digest()
        missed = missed or beginning not in cached
        hits += 0 if missed else 64
        cached.add(beginning)
    total, output = max(hits, token_count(prompt)), token_count(content)
    usage = {
        "prompt_tokens": total,
        "completion_tokens": output,
        "total_tokens": total + output,
        "prompt_tokens_details": {"cached_tokens": hits},
        "completion_tokens_details": {"reasoning_tokens": 0},
        "prompt_cache_hit_tokens": hits,
        "prompt_cache_miss_tokens": total - hits,
    }
    return usage, (hits * model.hit + (total - hits) * model.miss + output * model.output) / 1e6


def _flat(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content)
