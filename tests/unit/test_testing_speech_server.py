"""The speech server, seen through the real client: every answer, every refusal, every fault, and what the ledger says.

What the client makes of each is asserted as it is, also where it is surprising: code that uses it must cope with that.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import io
import json
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import openai
import pytest

from tests.support.speech_server import (
    KEY,
    Asked,
    Entry,
    Fault,
    Limits,
    Recordings,
    SpeechServer,
    Transcript,
    constant,
    faults,
    fingerprint_of_key,
)
from tests.support.speech_server.__main__ import main
from tests.support.speech_server.hearing import bands_of, declared_s, place
from tests.support.speech_server.limits import Gate
from tests.support.speech_server.scripts import segments_of
from tests.support.speech_server.wire import parse_form
from trax_ray.media import decode
from trax_ray.media.speech import Segment, Word

TEXT = "The train leaves at nine. Bring your coat."
ENGLISH = "This recording was made to test the system. It is short, and every word is easy to understand."
FORMATS = {
    "wav": ("wav", "pcm_s16le", 16_000, 0),
    "flac": ("flac", "flac", 16_000, 0),
    "mp3": ("mp3", "libmp3lame", 16_000, 32_000),
    "ogg": ("ogg", "libopus", 16_000, 16_000),
    "m4a": ("mp4", "aac", 16_000, 32_000),
}

Start = Callable[..., SpeechServer]
Connect = Callable[..., openai.OpenAI]


def encoded(audio: np.ndarray, kind: str = "wav") -> tuple[str, bytes]:
    """Mono samples at 16 kHz as an upload: name and bytes."""
    container_format, codec, rate, bit_rate = FORMATS[kind]
    file = io.BytesIO()
    with av.open(file, "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        if bit_rate:
            stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray((audio * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = 16_000, 0
        resampler = av.AudioResampler(format=stream.format.name, layout="mono", rate=rate)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return f"a.{kind}", file.getvalue()


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    """Sound that comes and goes, different for each seed."""
    chance = np.random.default_rng(seed)
    loudness = np.repeat(chance.random(int(seconds * 5) + 1), 3200)[: int(seconds * 16_000)]
    return (0.3 * loudness * chance.standard_normal(len(loudness))).clip(-1, 1).astype(np.float32)


SHORT = encoded(noise(2.0))
LONG = encoded(noise(40.0), "flac")


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts servers that end with the test."""
    servers: list[SpeechServer] = []

    def begin(*arguments: Any, **options: Any) -> SpeechServer:
        servers.append(SpeechServer(*(arguments or (constant(TEXT),)), **options).start())
        return servers[-1]

    yield begin
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def pool() -> Iterator[Any]:
    """Connections for all clients: to make a client without them takes 30 ms."""
    with openai.DefaultHttpxClient() as client:
        yield client


@pytest.fixture
def connect(pool: Any) -> Connect:
    """Makes clients that don't retry."""

    def client(server: SpeechServer, **options: Any) -> openai.OpenAI:
        options = {"base_url": server.url, "api_key": KEY, "max_retries": 0, "timeout": 5.0, **options}
        return openai.OpenAI(**{"http_client": pool, **options})

    return client


@pytest.fixture(scope="module")
def recordings(samples: Path) -> Recordings:
    """The shipped recordings with their texts."""
    return Recordings.of_folder(samples)


def ask(client: openai.OpenAI, upload: tuple[str, bytes] = SHORT, model: str = "whisper-1", **fields: Any) -> Any:
    """Ask for a transcription."""
    return client.audio.transcriptions.create(model=model, file=upload, **fields)


def chat(client: openai.OpenAI, content: str = "hello", **fields: Any) -> Any:
    """Ask the chat model."""
    fields = {"model": "deepseek-flash", "messages": [{"role": "user", "content": content}], **fields}
    return client.chat.completions.create(**fields)


def last(server: SpeechServer) -> Entry:
    """The last request."""
    return server.ledger.entries[-1]


class TestAnswers:
    def test_whisper_answers_json_with_whole_seconds(self, start: Start, connect: Connect) -> None:
        server = start()
        answer = ask(connect(server), encoded(noise(2.4)))
        assert answer.text == TEXT
        assert (answer.usage.type, answer.usage.seconds) == ("duration", 3)
        entry = last(server)
        assert (entry.endpoint, entry.number, entry.path) == ("transcriptions", 1, "/v1/audio/transcriptions")
        assert (entry.model, entry.status, entry.completed, entry.paid) == ("whisper-1", 200, True, True)
        assert entry.audio_s == pytest.approx(2.4)
        assert entry.usd == pytest.approx(3 / 60 * 0.006)
        assert entry.received_bytes > 2.4 * 32_000
        assert entry.key == fingerprint_of_key(KEY)
        assert entry.file_name == "a.wav"

    @pytest.mark.parametrize(
        ("kind", "expected"),
        [
            ("text", f"{TEXT}\n"),
            ("srt", "1\n00:00:00,000 --> 00:00:01,209\nThe train leaves at nine.\n\n2\n00:00:01,209 --> "),
            ("vtt", "WEBVTT\n\n00:00:00.000 --> 00:00:01.209\nThe train leaves at nine.\n\n00:00:01.209 --> "),
        ],
    )
    def test_whisper_answers_in_plain_text(self, start: Start, connect: Connect, kind: str, expected: str) -> None:
        answer = ask(connect(start()), response_format=kind)
        assert isinstance(answer, str)
        assert answer.startswith(expected)

    def test_verbose_json_has_segments_with_all_fields(self, start: Start, connect: Connect) -> None:
        answer = ask(connect(start()), response_format="verbose_json", temperature=0.2)
        assert (answer.text, answer.language, answer.duration) == (TEXT, "english", 2.0)
        assert (answer.usage.seconds, answer.words) == (2, None)
        first, second = answer.segments
        assert (first.id, first.text, second.id, second.text) == (
            0,
            " The train leaves at nine.",
            1,
            " Bring your coat.",
        )
        assert first.start < first.end == second.start < second.end <= 2.0
        assert first.temperature == 0.2
        assert first.avg_logprob < 0 < first.compression_ratio
        assert 0 <= first.no_speech_prob <= 1
        assert first.seek == 0
        assert len(first.tokens) > 5

    def test_word_times_come_instead_of_segments_or_with_them(self, start: Start, connect: Connect) -> None:
        client = connect(start())
        words = ask(client, response_format="verbose_json", timestamp_granularities=["word"])
        assert [word.word for word in words.words] == ["The", "train", "leaves", "at", "nine", "Bring", "your", "coat"]
        assert words.segments is None
        both = ask(client, response_format="verbose_json", timestamp_granularities=["word", "segment"])
        assert len(both.words) == 8
        assert len(both.segments) == 2

    def test_a_script_may_give_segments_with_all_that_is_known(self, start: Start, connect: Connect) -> None:
        segment = Segment(0.5, 1.5, "Guten Tag.", avg_logprob=-0.7, no_speech_prob=0.3, compression_ratio=1.2)
        server = start(lambda _: Transcript((segment,), "de"))
        answer = ask(connect(server), response_format="verbose_json", timestamp_granularities=["word", "segment"])
        assert answer.language == "german"
        found = answer.segments[0]
        assert (found.avg_logprob, found.no_speech_prob, found.compression_ratio) == (-0.7, 0.3, 1.2)
        assert [(word.word, word.start, word.end) for word in answer.words] == [("Guten", 0.5, 1.0), ("Tag", 1.0, 1.5)]

    @pytest.mark.parametrize("model", ["gpt-4o-transcribe", "gpt-4o-mini-transcribe", "gpt-4o-transcribe-diarize"])
    def test_the_gpt_4o_models_count_tokens(self, start: Start, connect: Connect, model: str) -> None:
        server = start()
        answer = ask(connect(server), model=model)
        assert answer.text == TEXT
        assert (answer.logprobs, answer.usage.type) == (None, "tokens")
        assert answer.usage.input_token_details.audio_tokens == answer.usage.input_tokens == 20
        assert answer.usage.total_tokens == 20 + answer.usage.output_tokens
        assert last(server).usd == pytest.approx(2 / 60 * (0.003 if "mini" in model else 0.006))

    def test_log_probabilities_come_when_they_are_asked_for(self, start: Start, connect: Connect) -> None:
        answer = ask(connect(start()), model="gpt-4o-transcribe", include=["logprobs"])
        assert "".join(each.token for each in answer.logprobs) == TEXT
        assert all(each.logprob < 0 for each in answer.logprobs)
        assert bytes(map(int, answer.logprobs[1].bytes)) == b" train"

    def test_gpt_transcribe_answers_text_and_languages_and_ignores_language(
        self, start: Start, connect: Connect
    ) -> None:
        server = start()
        client = connect(server)
        answer = ask(client, model="gpt-transcribe", language="nonsense", keywords=["coat"], prompt="Trains.")
        assert (answer.text, [each.code for each in answer.languages]) == (TEXT, ["en"])
        assert (answer.usage.type, answer.usage.seconds) == ("duration", 2)
        assert last(server).fields["keywords[]"] == ["coat"]
        hinted = ask(client, model="gpt-transcribe", languages=["de", "nl"])
        assert [each.code for each in hinted.languages] == ["de", "nl"]
        assert last(server).usd == pytest.approx(2 / 60 * 0.0045)

    def test_speakers_are_told_apart(self, start: Start, connect: Connect) -> None:
        said = Transcript(
            (Segment(0.0, 0.8, "Hello."), Segment(0.9, 1.4, "Hi."), Segment(1.5, 2.0, "Bye.")), speakers=("A", "B", "A")
        )
        client = connect(start(lambda _: said))
        answer = ask(client, model="gpt-4o-transcribe-diarize", response_format="diarized_json")
        assert [(each.speaker, each.text, each.start) for each in answer.segments] == [
            ("A", "Hello.", 0.0),
            ("B", "Hi.", 0.9),
            ("A", "Bye.", 1.5),
        ]
        assert (answer.task, answer.duration, answer.text) == ("transcribe", 2.0, "Hello. Hi. Bye.")
        assert answer.segments[0].id == "seg_001"
        known = ask(
            client,
            model="gpt-4o-transcribe-diarize",
            response_format="diarized_json",
            known_speaker_names=["agent"],
            known_speaker_references=["data:audio/wav;base64,AAA="],
        )
        assert [each.speaker for each in known.segments] == ["agent", "B", "agent"]

    @pytest.mark.parametrize("strategy", ["auto", {"type": "server_vad", "threshold": 0.4}])
    def test_speakers_of_long_audio_need_a_strategy(self, start: Start, connect: Connect, strategy: Any) -> None:
        client = connect(start())
        with pytest.raises(openai.BadRequestError, match="chunking_strategy is required for diarization models"):
            ask(client, LONG, model="gpt-4o-transcribe-diarize", response_format="diarized_json")
        answer = ask(
            client,
            LONG,
            model="gpt-4o-transcribe-diarize",
            response_format="diarized_json",
            chunking_strategy=strategy,
        )
        assert answer.duration == pytest.approx(40)

    def test_headers_tell_about_limits_and_the_request(self, start: Start, connect: Connect) -> None:
        server = start(limits=Limits(per_second=50))
        client = connect(server)
        raw = client.audio.transcriptions.with_raw_response.create(model="whisper-1", file=SHORT)
        assert raw.headers["x-ratelimit-limit-requests"] == "50"
        assert int(raw.headers["x-ratelimit-remaining-requests"]) in (49, 50)
        assert raw.headers["x-ratelimit-reset-requests"].endswith("ms")
        assert "x-ratelimit-limit-tokens" not in raw.headers
        assert int(raw.headers["openai-processing-ms"]) >= 0
        assert raw.headers["x-request-id"] == last(server).request_id
        assert raw.parse().text == TEXT
        raw = client.audio.transcriptions.with_raw_response.create(model="gpt-4o-transcribe", file=SHORT)
        assert raw.headers["x-ratelimit-remaining-tokens"].isdigit()

    async def test_the_asynchronous_client_is_served_too(self, start: Start) -> None:
        server = start(decode=False)
        async with openai.AsyncOpenAI(base_url=server.url, api_key=KEY, max_retries=0) as client:
            asked = [client.audio.transcriptions.create(model="whisper-1", file=SHORT) for _ in range(20)]
            assert {answer.text for answer in await asyncio.gather(*asked)} == {TEXT}
        sums = server.ledger.sums
        assert (sums.received, sums.completed, sums.paid) == (20, 20, 20)

    def test_the_list_of_models_has_dates_of_shutdown(self, start: Start, connect: Connect) -> None:
        server = start()
        client = connect(server)
        found = {model.id: model.shutdown_date for model in client.models.list()}
        assert found["whisper-1"] == found["gpt-4o-transcribe-diarize"] == "2027-02-26"
        assert found["gpt-transcribe"] is None
        assert "deepseek-flash" in found
        assert client.models.retrieve("gpt-transcribe").owned_by == "openai-internal"
        with pytest.raises(openai.NotFoundError) as caught:
            client.models.retrieve("whisper-9")
        assert caught.value.code == "model_not_found"
        server.end_model("whisper-1")
        assert "whisper-1" not in {model.id for model in client.models.list()}
        assert [entry.number for entry in server.ledger.of("models")] == [1, 2, 3, 4]


class TestRefusals:
    @pytest.mark.parametrize(
        ("fields", "message", "param", "code"),
        [
            (
                {"model": "gpt-4o-transcribe", "response_format": "verbose_json"},
                "response_format 'verbose_json' is not compatible with model 'gpt-4o-transcribe-api-ev3'. "
                "Use 'json' or 'text' instead.",
                "response_format",
                "unsupported_value",
            ),
            ({"model": "gpt-transcribe", "response_format": "srt"}, "not compatible", "response_format", None),
            ({"model": "whisper-1", "response_format": "diarized_json"}, "not compatible", "response_format", None),
            (
                {"timestamp_granularities": ["word"]},
                "`response_format` must be `verbose_json` if `timestamp_granularities[]` is provided",
                "timestamp_granularities",
                "invalid_value",
            ),
            ({"include": ["logprobs"]}, "logprobs", "include", "unsupported_value"),
            ({"language": "english"}, "ISO-639-1", "language", "invalid_language_format"),
            ({"temperature": 1.5}, "between 0 and 1", "temperature", "invalid_value"),
            ({"model": "gpt-transcribe", "languages": ["nn"]}, "'nn'", "languages", "invalid_value"),
            ({"model": "gpt-transcribe", "keywords": ["a\nb"]}, "line breaks", "keywords", "invalid_value"),
            (
                {"model": "gpt-4o-transcribe-diarize", "prompt": "Names."},
                "Prompt is not supported for diarization models",
                "prompt",
                "unsupported_parameter",
            ),
            ({"model": "gpt-4o-transcribe", "stream": True}, "doesn't stream", "stream", "unsupported_value"),
        ],
    )
    def test_fields_that_a_model_lacks_are_refused(
        self, start: Start, connect: Connect, fields: dict[str, Any], message: str, param: str, code: str | None
    ) -> None:
        server = start()
        with pytest.raises(openai.BadRequestError) as caught:
            ask(connect(server), **fields)
        assert message in caught.value.message
        assert (caught.value.type, caught.value.param) == ("invalid_request_error", param)
        assert caught.value.code == (code or "unsupported_value")
        entry = last(server)
        assert (entry.status, entry.code, entry.paid, entry.completed) == (400, caught.value.code, False, False)

    def test_unknown_fields_are_ignored(self, start: Start, connect: Connect) -> None:
        server = start()
        assert ask(connect(server), extra_body={"bogus": "x"}, stream=True) is not None  # whisper-1 ignores it
        assert last(server).fields["bogus"] == ["x"]
        assert last(server).status == 200

    @pytest.mark.parametrize(
        ("upload", "model", "message", "code"),
        [
            (("a.wav", b"this is no audio"), "whisper-1", "could not be decoded", None),
            (("a.wav", b"this is no audio"), "gpt-transcribe", "corrupted or unsupported", "invalid_value"),
            (("a.mp3", b"ffconcat version 1.0\nfile 'b.wav'\n"), "whisper-1", "could not be decoded", None),
            (("a.opus", SHORT[1]), "whisper-1", "Invalid file format. Supported formats: ['flac', 'm4a'", None),
            (("a.opus", SHORT[1]), "gpt-transcribe", "Unsupported file format opus", "unsupported_value"),
            (("noending", SHORT[1]), "whisper-1", "Invalid file format", None),
            (encoded(noise(0.05)), "whisper-1", "too short", "audio_too_short"),
        ],
    )
    def test_uploads_that_are_no_audio_are_refused(
        self, start: Start, connect: Connect, upload: tuple[str, bytes], model: str, message: str, code: str | None
    ) -> None:
        server = start()
        with pytest.raises(openai.BadRequestError) as caught:
            ask(connect(server), upload, model=model)
        assert message in caught.value.message
        assert (caught.value.code, caught.value.type) == (code, "invalid_request_error")
        assert not last(server).paid

    def test_a_form_without_file_or_model_is_refused(self, start: Start, connect: Connect) -> None:
        server = start()
        client = connect(server)
        with pytest.raises(openai.BadRequestError, match="Could not parse multipart form"):
            client.post("/audio/transcriptions", cast_to=object, body={"model": "whisper-1"})
        with pytest.raises(openai.BadRequestError, match="Field required"):
            client.audio.transcriptions.create(model="whisper-1", file=("", b"x"))
        with pytest.raises(openai.BadRequestError, match="model parameter"):
            ask(client, model="")

    def test_gpt_4o_takes_1400_seconds_and_whisper_more(self, start: Start, connect: Connect) -> None:
        server = start(decode=False)
        shape = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 100, 100, 1, 8)  # 100 bytes a second
        head = struct.pack("<4sI4s", b"RIFF", 150_036, b"WAVE") + shape + struct.pack("<4sI", b"data", 150_000)
        upload = ("a.wav", head + bytes(150_000))
        client = connect(server)
        with pytest.raises(openai.BadRequestError, match=r"1500\.0 seconds is longer than 1400 seconds"):
            ask(client, upload, model="gpt-4o-transcribe")
        assert ask(client, upload).usage.seconds == 1500
        assert ask(client, upload, model="gpt-transcribe").usage.seconds == 1500

    def test_a_body_above_25_mib_is_refused_with_its_form(self, start: Start, connect: Connect) -> None:
        server = start(decode=False)
        client = connect(server)
        ask(client, ("a.mp3", bytes(26_214_400 - 2_000)))
        assert last(server).status == 200
        with pytest.raises(openai.APIStatusError, match=r"Maximum content size limit \(26214400\) exceeded") as caught:
            ask(client, ("a.mp3", bytes(26_214_400)))
        assert (caught.value.status_code, caught.value.type, caught.value.code) == (413, "server_error", None)
        assert last(server).received_bytes > 26_214_400
        assert (last(server).status, last(server).paid) == (413, False)

    def test_an_unknown_model_is_404(self, start: Start, connect: Connect) -> None:
        with pytest.raises(openai.NotFoundError, match="`whisper-2` does not exist") as caught:
            ask(connect(start()), model="whisper-2")
        assert (caught.value.code, caught.value.type) == ("model_not_found", "invalid_request_error")

    def test_a_wrong_key_is_401_and_never_in_the_ledger(self, start: Start, connect: Connect) -> None:
        server = start()
        wrong = "sk-wrong-and-secret-0000"
        with pytest.raises(openai.AuthenticationError, match=r"Incorrect API key provided: sk-wrong\*+0000") as caught:
            ask(connect(server, api_key=wrong))
        assert caught.value.code == "invalid_api_key"
        assert caught.value.response.headers["content-type"] == "text/plain"
        entry = last(server)
        assert (entry.status, entry.paid, entry.key) == (401, False, fingerprint_of_key(wrong))
        assert "secret" not in json.dumps(server.ledger.as_json())
        with pytest.raises(openai.AuthenticationError, match="didn't provide an API key"):
            ask(connect(server), extra_headers={"Authorization": openai.Omit()})
        assert last(server).key is None

    def test_without_a_key_of_its_own_a_server_takes_any(self, start: Start, connect: Connect) -> None:
        assert ask(connect(start(key=None), api_key="anything")).text == TEXT

    def test_a_wrong_address_is_404(self, start: Start, connect: Connect) -> None:
        server = start()
        with pytest.raises(openai.NotFoundError, match=r"Invalid URL \(POST /v1/audio/translations\)"):
            connect(server).post("/audio/translations", cast_to=object, body={})
        assert last(server).endpoint == "unknown"

    def test_a_script_that_fails_is_500_and_says_why(self, start: Start, connect: Connect) -> None:
        def script(_: Asked) -> str:
            raise LookupError("no such text")

        server = start(script)
        with pytest.raises(openai.InternalServerError, match="LookupError: no such text"):
            ask(connect(server))
        assert not last(server).paid


class TestChat:
    def test_it_says_what_its_script_says(self, start: Start, connect: Connect) -> None:
        server = start(chat=["one", "two"])
        client = connect(server, base_url=server.origin)
        answers = [chat(client, extra_body={"thinking": {"type": "disabled"}}) for _ in range(3)]
        assert [answer.choices[0].message.content for answer in answers] == ["one", "two", "two"]
        assert answers[0].choices[0].finish_reason == "stop"
        entry = last(server)
        assert (entry.endpoint, entry.path, entry.model) == ("chat", "/chat/completions", "deepseek-flash")
        assert entry.fields["thinking"] == {"type": "disabled"}
        assert "messages" not in entry.fields

    def test_a_function_sees_the_request(self, start: Start, connect: Connect) -> None:
        async def said(body: Any) -> str:
            return str(body["messages"][0]["content"]).upper()

        assert chat(connect(start(chat=said))).choices[0].message.content == "HELLO"

    def test_json_mode_repeats_in_json_and_wants_the_word(self, start: Start, connect: Connect) -> None:
        client = connect(start())
        mode = {"response_format": {"type": "json_object"}}
        answer = chat(client, "as json please", **mode)
        assert json.loads(answer.choices[0].message.content) == {"text": "as json please"}
        with pytest.raises(openai.BadRequestError, match="must contain the word 'json'"):
            chat(client, "plainly", **mode)

    def test_a_prompt_that_begins_like_an_earlier_one_comes_from_the_cache(
        self, start: Start, connect: Connect
    ) -> None:
        server = start(chat="yes")
        client = connect(server)
        system = {"role": "system", "content": "Correct this. " * 100}
        usages = [
            chat(client, messages=[system, {"role": "user", "content": text}]).usage for text in ("first", "second")
        ]
        assert usages[0].prompt_cache_hit_tokens == 0
        assert usages[0].prompt_cache_miss_tokens == usages[0].prompt_tokens > 400
        assert usages[1].prompt_cache_hit_tokens == 384
        assert usages[1].prompt_cache_hit_tokens + usages[1].prompt_cache_miss_tokens == usages[1].prompt_tokens
        first, second = server.ledger.entries
        assert first.usd == pytest.approx((usages[0].prompt_tokens * 0.15 + usages[0].completion_tokens * 0.6) / 1e6)
        assert second.usd < first.usd

    def test_deepseek_says_400_for_a_model_that_is_not_there(self, start: Start, connect: Connect) -> None:
        with pytest.raises(openai.BadRequestError, match="Model Not Exist") as caught:
            chat(connect(start()), model="deepseek-chat")
        assert caught.value.code == "invalid_request_error"

    def test_deepseek_words_its_401_and_402_otherwise(self, start: Start, connect: Connect) -> None:
        server = start(faults=faults.at({2: faults.insufficient_balance()}, endpoint="chat"))
        with pytest.raises(openai.AuthenticationError, match=r"\*\*\*\*9999 is invalid") as caught:
            chat(connect(server, api_key="sk-9999"))
        assert caught.value.type == "authentication_error"
        with pytest.raises(openai.APIStatusError, match="Insufficient Balance") as status:
            chat(connect(server))
        assert status.value.status_code == 402

    def test_a_chat_may_end_too_early_or_say_nothing(self, start: Start, connect: Connect) -> None:
        plan = faults.in_order([faults.finished_by("length"), faults.empty_text()], endpoint="chat")
        client = connect(start(chat='{"a": 1}', faults=plan))
        choice = chat(client).choices[0]
        assert (choice.finish_reason, choice.message.content) == ("length", '{"a"')
        assert chat(client).choices[0].message.content == ""

    @pytest.mark.parametrize("body", [b"{", b"[]", b'{"model": "deepseek-flash"}'])
    def test_a_body_that_is_no_chat_is_refused(self, start: Start, body: bytes) -> None:
        server = start()
        request = urllib.request.Request(f"{server.url}/chat/completions", body, {"Authorization": f"Bearer {KEY}"})
        with pytest.raises(urllib.error.HTTPError) as caught, urllib.request.urlopen(request):
            pass
        with caught.value:
            assert caught.value.status == 400


class TestFaults:
    @pytest.mark.parametrize(
        ("fault", "error", "status", "code"),
        [
            (faults.rate_limited(), openai.RateLimitError, 429, "rate_limit_exceeded"),
            (faults.insufficient_quota(), openai.RateLimitError, 429, "insufficient_quota"),
            (faults.server_error(), openai.InternalServerError, 500, None),
            (faults.server_error(502), openai.InternalServerError, 502, None),
            (faults.server_error(503), openai.InternalServerError, 503, None),
            (faults.forbidden(), openai.PermissionDeniedError, 403, "unsupported_country_region_territory"),
            (faults.status(400), openai.BadRequestError, 400, None),
            (faults.status(408), openai.APIStatusError, 408, None),
            (faults.status(409), openai.ConflictError, 409, None),
            (faults.status(413), openai.APIStatusError, 413, None),
            (faults.status(422, "Too much.", error_code="x"), openai.UnprocessableEntityError, 422, "x"),
        ],
    )
    def test_refusals_that_were_ordered(
        self, start: Start, connect: Connect, fault: Fault, error: type[Exception], status: int, code: str | None
    ) -> None:
        server = start(faults=[fault])
        client = connect(server)
        with pytest.raises(error) as caught:
            ask(client)
        assert isinstance(caught.value, openai.APIStatusError)
        assert (caught.value.status_code, caught.value.code) == (status, code)
        entry = last(server)
        assert (entry.fault, entry.status, entry.paid, entry.completed) == (fault.name, status, False, False)
        assert ask(client).text == TEXT
        assert last(server).fault is None

    def test_retry_after_comes_in_three_forms(self, start: Start, connect: Connect) -> None:
        forms = [
            faults.rate_limited(retry_after_s=7),
            faults.rate_limited(retry_after_s=90, as_date=True),
            faults.rate_limited(retry_after_ms=250),
            faults.rate_limited(),
        ]
        client = connect(start(faults=forms))
        headers = []
        for _ in forms:
            with pytest.raises(openai.RateLimitError) as caught:
                ask(client)
            headers.append(caught.value.response.headers)
        assert headers[0]["retry-after"] == "7"
        then = email.utils.parsedate_to_datetime(headers[1]["retry-after"]).timestamp()
        assert 60 < then - time.time() < 91
        assert (headers[2]["retry-after-ms"], headers[2].get("retry-after")) == ("250", None)
        assert "retry-after" not in headers[3]

    def test_the_client_would_retry_what_has_no_use_and_give_up_on_long_waits(
        self, start: Start, connect: Connect
    ) -> None:
        server = start(faults=faults.starting(1, faults.insufficient_quota()))
        with pytest.raises(openai.RateLimitError):
            ask(connect(server, max_retries=1))
        assert server.ledger.sums.received == 2
        server.order(faults.starting(1, faults.rate_limited(retry_after_s=121)))
        with pytest.raises(openai.RateLimitError):
            ask(connect(server, max_retries=1))
        assert server.ledger.sums.received == 3

    def test_a_revoked_key_stays_revoked_until_there_is_another(self, start: Start, connect: Connect) -> None:
        server = start(faults=faults.at({2: faults.key_revoked()}))
        client = connect(server)
        assert ask(client).text == TEXT
        for _ in range(2):
            with pytest.raises(openai.AuthenticationError):
                ask(client)
        with pytest.raises(openai.AuthenticationError):
            client.models.list()
        server.key = "sk-another"
        with pytest.raises(openai.AuthenticationError):
            ask(client)
        assert ask(connect(server, api_key="sk-another")).text == TEXT
        assert server.key == "sk-another"

    def test_a_model_that_is_gone_stays_gone(self, start: Start, connect: Connect) -> None:
        server = start(faults=[faults.model_gone()])
        client = connect(server)
        for _ in range(2):
            with pytest.raises(openai.NotFoundError, match="has been deprecated") as caught:
                ask(client)
            assert caught.value.code == "model_not_found"
        assert ask(client, model="gpt-transcribe").text == TEXT

    def test_a_page_instead_of_an_answer_is_a_string_for_the_client(self, start: Start, connect: Connect) -> None:
        server = start(faults=[faults.html()])
        answer = ask(connect(server))
        assert isinstance(answer, str)
        assert answer.startswith("<!doctype html>")
        assert (last(server).completed, last(server).paid) == (True, False)

    def test_garbage_is_a_success_for_the_client_unless_it_is_no_json(self, start: Start, connect: Connect) -> None:
        server = start(faults=[faults.garbage("null"), faults.garbage("foo"), faults.garbage("broken")])
        client = connect(server)
        assert ask(client) is None
        assert ask(client).text is None
        with pytest.raises(json.JSONDecodeError) as caught:
            ask(client)
        assert not isinstance(caught.value, openai.OpenAIError)
        assert all(entry.completed and entry.paid for entry in server.ledger.entries)

    def test_half_an_answer_with_the_length_of_the_half(self, start: Start, connect: Connect) -> None:
        client = connect(start(faults=[faults.truncated(), faults.truncated()]))
        with pytest.raises(json.JSONDecodeError):
            ask(client)
        assert ask(client, response_format="text") == f"{TEXT}\n"[: len(TEXT) // 2]

    def test_an_answer_that_says_nothing(self, start: Start, connect: Connect) -> None:
        client = connect(start(faults=[faults.empty_text()] * 3))
        assert ask(client).text == ""
        verbose = ask(client, response_format="verbose_json")
        assert (verbose.text, verbose.segments, verbose.duration) == ("", [], 2.0)
        assert ask(client, response_format="text") == ""

    def test_segments_may_lack_fields_come_in_disorder_or_beyond_the_end(self, start: Start, connect: Connect) -> None:
        kinds = [faults.missing_fields(), faults.segments_out_of_order(), faults.segments_beyond_the_end(5.0)]
        client = connect(start(faults=[*kinds, faults.missing_fields()]))
        lacking = ask(client, response_format="verbose_json").segments[0]
        assert (lacking.id, lacking.text) == (0, " The train leaves at nine.")
        assert (lacking.avg_logprob, lacking.no_speech_prob, lacking.tokens) == (None, None, None)
        backwards = ask(client, response_format="verbose_json", timestamp_granularities=["word", "segment"])
        assert [segment.id for segment in backwards.segments] == [1, 0]
        assert backwards.words[0].word == "coat"
        beyond = ask(client, response_format="verbose_json")
        assert [segment.end for segment in beyond.segments][1:] == [7.0, 12.0]
        assert ask(client, response_format="srt").startswith("1\n"), "formats in plain text have no fields to lack"

    def test_a_server_that_hangs_is_noticed_by_the_clients_clock_only(self, start: Start, connect: Connect) -> None:
        server = start(faults=[faults.hang()])
        with pytest.raises(openai.APITimeoutError):
            ask(connect(server, timeout=0.2))
        wait_until(lambda: server.ledger.in_flight == 0)
        entry = last(server)
        assert (entry.fault, entry.status, entry.paid, entry.completed) == ("hang", None, False, False)

    def test_a_slow_drip_outlasts_the_clients_timeout(self, start: Start, connect: Connect) -> None:
        server = start(faults=[faults.dripping(0.012)], decode=False)
        began = time.monotonic()
        answer = ask(connect(server, timeout=1.0))
        assert time.monotonic() - began > 1.1
        assert answer.text == TEXT
        assert last(server).completed

    def test_a_client_that_leaves_a_drip_has_paid_all_the_same(self, start: Start, connect: Connect) -> None:
        server = start(faults=[faults.dripping(0.2)])
        with pytest.raises(openai.APITimeoutError):
            ask(connect(server, timeout=0.1))
        wait_until(lambda: server.ledger.in_flight == 0)
        assert (last(server).status, last(server).paid, last(server).completed) == (200, True, False)

    def test_empty_lines_keep_a_client_waiting_and_do_no_harm(self, start: Start, connect: Connect) -> None:
        server = start(faults=[faults.kept_alive(1.3, 0.02)], decode=False)
        began = time.monotonic()
        assert ask(connect(server, timeout=1.0)).text == TEXT
        assert time.monotonic() - began > 1.3
        assert last(server).completed

    @pytest.mark.parametrize("reset", [False, True])
    @pytest.mark.parametrize("where", ["before", "head", "body"])
    def test_a_connection_that_is_cut(self, start: Start, connect: Connect, where: Any, reset: bool) -> None:
        server = start(faults=[faults.cut(where, reset=reset)])
        client = connect(server)
        with pytest.raises(openai.APIConnectionError) as caught:
            ask(client)
        assert not isinstance(caught.value, openai.APITimeoutError)
        entry = last(server)
        assert (entry.status, entry.paid) == ((None, False) if where == "before" else (200, True))
        assert not entry.completed
        assert ask(client).text == TEXT

    def test_a_lost_answer_is_paid_and_the_next_attempt_again(self, start: Start, connect: Connect) -> None:
        server = start(faults=[faults.lost_answer()])
        client = connect(server)
        with pytest.raises(openai.APIConnectionError):
            ask(client)
        entry = last(server)
        assert (entry.fault, entry.paid, entry.completed, entry.status) == ("lost_answer", True, False, None)
        assert entry.usd > 0
        ask(client)
        ledger = server.ledger
        assert ledger.paid_again() == {entry.audio: 2}
        assert (ledger.sums.paid, ledger.sums.completed) == (2, 1)
        assert ledger.sums.usd == pytest.approx(2 * entry.usd)
        assert ledger.sums.audio_s == pytest.approx(4.0)

    @pytest.mark.parametrize("fault", [faults.slow(0.15), faults.slow(0.15, 0.25)])
    def test_a_late_answer_is_right(self, start: Start, connect: Connect, fault: Fault) -> None:
        began = time.monotonic()
        assert ask(connect(start(faults=[fault]))).text == TEXT
        assert time.monotonic() - began >= 0.15

    def test_a_client_follows_a_redirect_with_its_upload_but_without_its_key(
        self, start: Start, connect: Connect
    ) -> None:
        elsewhere = start(constant("elsewhere"), key=None)
        server = start(faults=faults.starting(1, faults.redirect(f"{elsewhere.url}/audio/transcriptions")))
        assert ask(connect(server)).text == "elsewhere"
        assert (last(server).status, last(server).paid) == (307, False)
        sent = last(elsewhere)
        assert (sent.key, sent.audio, sent.file_name) == (None, last(server).audio, "a.wav")
        assert sent.received_bytes == last(server).received_bytes
        elsewhere.clear_ledger()
        with (
            openai.DefaultHttpxClient(follow_redirects=False) as careful,
            pytest.raises(openai.APIStatusError) as caught,
        ):
            ask(connect(server, http_client=careful))
        assert caught.value.status_code == 307
        assert not elsewhere.ledger.entries


class TestPlans:
    def test_chance_is_the_same_for_the_same_seed(self, start: Start, connect: Connect) -> None:
        def fates(seed: int) -> list[int | None]:
            plan = faults.sometimes(0.3, faults.status(409), faults.status(422), seed=seed)
            server = start(faults=plan, decode=False)
            client = connect(server)
            for _ in range(40):
                with contextlib.suppress(openai.APIStatusError):
                    ask(client)
            return [entry.status for entry in server.ledger.entries]

        first = fates(1)
        assert set(first) == {200, 409, 422}
        assert 4 < 40 - first.count(200) < 22
        assert fates(1) == first
        assert fates(2) != first

    def test_the_first_plan_that_has_a_fault_decides(self, start: Start, connect: Connect) -> None:
        plan = faults.first_of(faults.at({2: faults.status(409)}), faults.starting(2, faults.status(422)))
        client = connect(start(faults=plan))
        client.models.list()  # another endpoint shifts nothing
        assert ask(client).text == TEXT
        with pytest.raises(openai.ConflictError):
            ask(client)
        with pytest.raises(openai.UnprocessableEntityError):
            ask(client)

    def test_a_function_decides_by_what_is_asked(self, start: Start, connect: Connect) -> None:
        poisoned = encoded(noise(1.5, seed=9))
        calls = []

        def plan(call: faults.Call) -> Fault | None:
            calls.append(call)
            return faults.server_error() if call.audio_s < 1.8 else None

        server = start(faults=plan)
        client = connect(server)
        assert ask(client, prompt="Hm.").text == TEXT
        with pytest.raises(openai.InternalServerError):
            ask(client, poisoned)
        assert [(call.number, call.model, call.endpoint) for call in calls] == [
            (1, "whisper-1", "transcriptions"),
            (2, "whisper-1", "transcriptions"),
        ]
        assert calls[0].fields == {"model": ["whisper-1"], "prompt": ["Hm."]}
        assert calls[0].audio != calls[1].audio
        server.order(None)
        assert ask(client, poisoned).text == TEXT


class TestLimits:
    def test_more_at_the_same_time_than_allowed_get_429(self, start: Start, connect: Connect) -> None:
        go = threading.Event()
        server = start(waiting(go), limits=Limits(max_in_flight=2), decode=False)
        client = connect(server, timeout=30.0)

        def fate(_: int) -> str:
            try:
                return str(ask(client).text)
            except openai.RateLimitError as error:
                return error.message

        with ThreadPoolExecutor(6) as threads:
            fates = [threads.submit(fate, number) for number in range(6)]
            wait_until(lambda: [entry.status for entry in server.ledger.entries].count(429) == 4)
            assert server.ledger.in_flight == 2
            go.set()
        said = sorted(each.result() for each in fates)
        assert said[4:] == [TEXT, TEXT]
        assert all("Too many concurrent requests: 2" in message for message in said[:4])
        ledger = server.ledger
        assert (ledger.in_flight, ledger.sums.paid) == (0, 2)
        assert 3 <= ledger.max_in_flight <= 6

    def test_what_is_in_flight_is_counted(self, start: Start) -> None:
        go = threading.Event()
        server = start(waiting(go), decode=False)

        async def many() -> None:
            async with openai.AsyncOpenAI(base_url=server.url, api_key=KEY, max_retries=0) as client:
                asked = (client.audio.transcriptions.create(model="whisper-1", file=SHORT) for _ in range(30))
                await asyncio.gather(*asked)

        thread = threading.Thread(target=asyncio.run, args=(many(),))
        thread.start()
        wait_until(lambda: server.ledger.in_flight == 30)
        go.set()
        thread.join()
        ledger = server.ledger
        assert (ledger.in_flight, ledger.max_in_flight, ledger.sums.completed) == (0, 30, 30)

    def test_more_in_a_second_than_allowed_get_429_and_are_told_when(self, start: Start, connect: Connect) -> None:
        server = start(limits=Limits(per_second=0.1), decode=False)
        client = connect(server)
        ask(client)
        with pytest.raises(openai.RateLimitError, match="Please try again in") as caught:
            ask(client)
        headers = caught.value.response.headers
        assert 1 <= int(headers["retry-after"]) <= 10
        assert 1 <= int(headers["retry-after-ms"]) <= 10_000
        assert headers["x-ratelimit-remaining-requests"] == "0"
        server.limit(Limits())
        for _ in range(5):
            ask(client)

    def test_so_many_a_second_are_let_in(self) -> None:
        gate = Gate(Limits(per_second=2.0), 100.0)
        let_in = [gate.enter(100.0 + step / 10) is None for step in range(31)]
        assert [step for step, inside in enumerate(let_in) if inside] == [0, 1, 5, 10, 15, 20, 25, 30]
        assert gate.inside == 8
        refused = gate.enter(103.0)
        assert refused is not None
        assert refused.headers == {"retry-after": "1", "retry-after-ms": "500"}
        gate.leave(1_000_000, 103.0)
        told = gate.headers(103.5, tokens=True)
        assert (told["x-ratelimit-limit-requests"], told["x-ratelimit-remaining-requests"]) == ("2", "1")
        assert (told["x-ratelimit-reset-requests"], told["x-ratelimit-reset-tokens"]) == ("500ms", "29.5s")
        assert Gate(Limits(), 0.0).headers(0.0, tokens=False)["x-ratelimit-reset-requests"] == "0ms"

    def test_answers_take_their_time(self, start: Start, connect: Connect) -> None:
        client = connect(start(limits=Limits(delay_s=(0.1, 0.2), seed=3), decode=False))
        began = time.monotonic()
        ask(client)
        assert time.monotonic() - began >= 0.1


class TestHearing:
    @pytest.mark.parametrize("kind", sorted(FORMATS))
    def test_the_same_audio_has_one_name_however_it_is_encoded(self, start: Start, connect: Connect, kind: str) -> None:
        server = start()
        client = connect(server)
        ask(client, encoded(noise(3.0), "flac"))
        ask(client, encoded(0.5 * noise(3.0)[:47_000], kind))
        ask(client, encoded(noise(3.0, seed=1), kind))
        first, second, other = (entry.audio for entry in server.ledger.entries)
        assert first == second != other
        assert {audio: sums.paid for audio, sums in server.ledger.by_audio.items()} == {first: 2, other: 1}

    def test_silence_is_known_by_its_length(self, start: Start, connect: Connect) -> None:
        server = start()
        for seconds, kind in ((2.0, "wav"), (2.0, "ogg"), (3.0, "wav")):
            ask(connect(server), encoded(np.zeros(int(seconds * 16_000), np.float32), kind))
        first, second, longer = (entry.audio for entry in server.ledger.entries)
        assert first == second != longer

    @pytest.mark.parametrize("kind", ["ogg", "mp3"])
    def test_parts_of_a_recording_say_each_word_once(
        self, start: Start, connect: Connect, samples: Path, recordings: Recordings, kind: str
    ) -> None:
        server = start(recordings)
        client = connect(server)
        audio = decode.read(samples / "stories" / "the_river.ogg")
        cuts = [0, 131_000, 300_000, 431_000]
        said = [ask(client, encoded(audio[low:high], kind)).text for low, high in pairwise(cuts)]
        words = " ".join(said).split()
        assert words == (samples / "stories" / "the_river.txt").read_text().split()[: len(words)]
        assert len(words) == pytest.approx(27 / 124 * 322, rel=0.2)
        entries = server.ledger.entries
        assert {entry.recording for entry in entries} == {"stories/the_river.ogg"}
        assert [entry.start_s for entry in entries] == pytest.approx([cut / 16_000 for cut in cuts[:-1]], abs=0.05)

    def test_a_recording_is_found_among_others_and_with_silence_around_it(
        self, start: Start, connect: Connect, samples: Path, recordings: Recordings
    ) -> None:
        client = connect(start(recordings))
        for path in (samples / "first_test.wav", samples / "talks" / "interview.m4a"):
            audio = np.concatenate([np.zeros(24_000), decode.read(path), np.zeros(8_000)]).astype(np.float32)
            answer = ask(client, encoded(0.3 * audio, "ogg"), response_format="verbose_json")
            assert answer.text.split() == path.with_suffix(".txt").read_text().split()
            assert answer.segments[0].start > 1.4

    def test_what_is_in_no_recording_says_nothing_or_goes_on_to_another_script(
        self, start: Start, connect: Connect, samples: Path
    ) -> None:
        recordings = Recordings(otherwise=lambda asked: f"{asked.seconds:.0f} s, {asked.upload.suffix}")
        recordings.add(samples / "first_test.wav", ENGLISH)
        assert ask(connect(start(recordings))).text == "2 s, wav"
        assert ask(connect(start(Recordings()))).text == ""

    def test_timed_words_and_their_speakers_are_kept(self, start: Start, connect: Connect, tmp_path: Path) -> None:
        path = tmp_path / "talk.wav"
        path.write_bytes(encoded(noise(6.0))[1])
        recordings = Recordings()
        words = [Word(0.5, 1.0, "Hello."), Word(2.0, 2.5, "Hi"), Word(2.5, 3.5, "there."), Word(4.0, 5.0, "Bye.", 0.5)]
        recordings.add(path, words=words, speakers=["A", "B", "B", "A"])
        client = connect(start(recordings))
        part = encoded(noise(6.0)[24_000:80_000])
        answer = ask(client, part, model="gpt-4o-transcribe-diarize", response_format="diarized_json")
        found = [(each.speaker, each.text, each.start, each.end) for each in answer.segments]
        assert found == [("B", "Hi there.", 0.5, 2.0), ("A", "Bye.", 2.5, 3.5)]
        with pytest.raises(ValueError, match="a speaker for each of 4 words, got 1"):
            recordings.add(path, words=words, speakers=["A"])

    def test_recordings_need_a_server_that_decodes(self, start: Start, connect: Connect) -> None:
        with pytest.raises(openai.InternalServerError, match="told not to decode"):
            ask(connect(start(Recordings(), decode=False)))

    def test_segments_end_with_sentences_pauses_and_after_twelve_seconds(self) -> None:
        words = [Word(0, 1, "One."), Word(1, 2, "two"), Word(3.5, 4, "three")]
        words += [Word(4 + index, 5 + index, "on") for index in range(12)]
        assert [len(segment.words) for segment in segments_of(words)] == [1, 1, 12, 1]

    def test_places_are_found_to_the_frame(self) -> None:
        _, whole = bands_of([noise(10.0)])
        assert whole.shape == (500, 8)
        score, first = place(whole[100:300], whole)
        assert (round(score, 6), first) == (1.0, 100)
        assert place(np.zeros((50, 8), np.float32), whole) == (0.0, 0)

    @pytest.mark.parametrize("kind", ["wav", "flac", "ogg"])
    def test_durations_are_in_headers(self, kind: str) -> None:
        assert declared_s(encoded(noise(3.0), kind)[1]) == pytest.approx(3.0, abs=0.05)
        assert declared_s(bytes(8000)) == 2.0

    @pytest.mark.long
    def test_pocketsphinx_recognises_what_is_said(self, start: Start, connect: Connect, samples: Path) -> None:
        from tests.support.speech_server import Pocketsphinx

        server = start(Pocketsphinx())
        client = connect(server, timeout=60.0)
        upload = ("first.wav", (samples / "first_test.wav").read_bytes())
        answer = ask(client, upload, response_format="verbose_json", timestamp_granularities=["word", "segment"])
        assert "recording was made to test the system" in answer.text
        assert all(0 <= word.start <= word.end <= 7.6 for word in answer.words)
        assert ask(client).text == "", "noise has no words"


class TestWire:
    def test_forms_of_other_clients_are_read(self) -> None:
        body = (
            b'preamble\r\n--x\r\nContent-Disposition: form-data; name="a"\r\n\r\none\r\n'
            b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\ntwo\r\n--x\r\n'
            b'Content-Disposition: form-data; name=file; filename="q%22\\""; filename*=UTF-8\'\'%C3%A4.wav\r\n'
            b"Content-Type: audio/wav\r\n\r\n\r\n--y\r\n\r\n--x--\r\n"
        )
        form = parse_form('multipart/form-data; boundary="x"', body)
        assert form is not None
        assert form.fields == {"a": ["one", "two"]}
        assert form.file is not None
        assert (form.file.file_name, form.file.content_type, form.file.data) == ("ä.wav", "audio/wav", b"\r\n--y\r\n")
        assert form.file.suffix == "wav"
        assert parse_form("application/json", body) is None
        assert parse_form("multipart/form-data; boundary=x", body[:-20]) is None

    def test_bodies_may_come_in_chunks(self, start: Start) -> None:
        server = start(chat="yes")
        body = json.dumps({"model": "deepseek-flash", "messages": [{"role": "user", "content": "x"}]}).encode()
        pieces = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:10], body[10:]))
        with socket.create_connection(server_address(server)) as line:
            line.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n"
                b"expect: 100-continue\r\nconnection: close\r\nauthorization: Bearer " + KEY.encode() + b"\r\n\r\n"
            )
            assert line.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            line.sendall(pieces + b"0\r\n\r\n")
            with line.makefile("rb") as file:
                assert b'"content": "yes"' in file.read()
        assert last(server).received_bytes == len(body)

    def test_a_client_that_goes_away_is_in_the_ledger(self, start: Start) -> None:
        server = start()
        with socket.create_connection(server_address(server)) as line:
            line.sendall(b"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n12345")
            wait_until(lambda: server.ledger.in_flight == 1)
        wait_until(lambda: server.ledger.in_flight == 0)
        assert (last(server).received_bytes, last(server).status) == (5, None)
        with socket.create_connection(server_address(server)) as line:
            line.sendall(b"this is no HTTP\r\n\r\n")
            assert line.recv(12).endswith(b" 400")
        assert len(server.ledger.entries) == 1

    @pytest.mark.parametrize("reset", [False, True])
    @pytest.mark.parametrize(("where", "parts"), [("before", (0, 0)), ("head", (1, 0)), ("body", (1, 5))])
    def test_a_connection_is_cut_where_it_should_be(
        self, start: Start, where: Any, parts: tuple[int, int], reset: bool
    ) -> None:
        server = start(faults=faults.in_order([faults.cut(where, reset=reset)], endpoint="models"), key=None)
        with socket.create_connection(server_address(server)) as line:
            line.sendall(b"GET /v1/models/whisper-1 HTTP/1.1\r\nhost: a\r\n\r\n")
            got, end = all_from(line)
        head, found, body = got.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        assert (found != b"", body[:5]) == (parts[0] == 1, b'{"id": "whisper-1"'[: parts[1]])
        assert len(body) == (int(length[1]) // 2 if length and parts[1] else 0)
        assert end is (ConnectionResetError if reset else None)

    def test_an_answer_is_completed_when_the_socket_has_all_of_it(self, start: Start) -> None:
        server = start(chat="x" * 20_000_000)
        body = json.dumps({"model": "deepseek-flash", "messages": [{"role": "user", "content": "x"}]}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n"
        request = head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body
        with socket.create_connection(server_address(server)) as line:
            line.sendall(request)
            wait_until(lambda: server.ledger.in_flight == 1 and last(server).status == 200)
            assert not last(server).completed
        wait_until(lambda: server.ledger.in_flight == 0)
        assert (last(server).paid, last(server).completed) == (True, False)
        with socket.create_connection(server_address(server)) as line:
            line.sendall(request)
            read = 0
            while read < 20_000_000:
                read += len(line.recv(1 << 20))
            wait_until(lambda: last(server).completed)

    def test_a_client_that_left_while_the_work_was_done_has_paid(self, start: Start, connect: Connect) -> None:
        go = threading.Event()
        server = start(waiting(go))
        with pytest.raises(openai.APITimeoutError):
            ask(connect(server, timeout=0.1))
        go.set()
        wait_until(lambda: server.ledger.in_flight == 0)
        assert (last(server).paid, last(server).completed) == (True, False)

    def test_the_ledger_is_served_as_json(self, start: Start, connect: Connect) -> None:
        server = start()
        ask(connect(server), language="en")
        with urllib.request.urlopen(f"{server.origin}/_ledger") as answer:
            found = json.load(answer)
        assert (found["in_flight"], found["max_in_flight"], found["sums"]["paid"]) == (0, 1, 1)
        (entry,) = found["entries"]
        assert (entry["fields"], entry["status"]) == ({"model": ["whisper-1"], "language": ["en"]}, 200)
        assert entry["at"] < entry["ended_at"]
        assert list(found["by_audio"]) == [entry["audio"]]
        server.clear_ledger()
        assert not server.ledger.entries


class TestProgram:
    def test_it_prints_its_address_and_ends_when_told(self, connect: Connect) -> None:
        command = [sys.executable, "-m", "tests.support.speech_server", "--text", "hello", "--no-decode", "--key="]
        command += ["--fault", "server_error:1", "--fault", "null", "--delay", "0:0.01"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
            assert program.stdout is not None
            url = program.stdout.readline().strip()
            client = openai.OpenAI(base_url=url, api_key="any", max_retries=0)
            with client, pytest.raises(openai.InternalServerError):
                ask(client)
            program.send_signal(signal.SIGTERM)
            assert program.wait(10) == 0

    @pytest.mark.parametrize("arguments", [["--fault", "flood"], ["--script", "recordings"]])
    def test_what_it_does_not_know_ends_it(self, arguments: list[str]) -> None:
        with pytest.raises(SystemExit, match=r"no fault is called flood|needs --recordings"):
            main(arguments)

    def test_a_port_that_is_taken_is_an_error(self, start: Start) -> None:
        server = start()
        _, port = server_address(server)
        with pytest.raises(OSError, match=r"[Aa]ddress already in use"):
            SpeechServer(port=port).start()

    def test_a_server_can_be_closed_twice_and_keeps_its_ledger(self, start: Start, connect: Connect) -> None:
        server = start(faults=[None, faults.hang()])
        client = connect(server)
        ask(client)
        with ThreadPoolExecutor(1) as threads:
            hanging = threads.submit(ask, client)
            wait_until(lambda: server.ledger.in_flight == 1)
            server.close()
            with pytest.raises(openai.APIConnectionError):
                hanging.result()
        server.close()
        assert server.ledger.sums.completed == 1


def waiting(go: threading.Event) -> Callable[[Asked], Any]:
    """A script that waits for a sign."""

    async def said(_: Asked) -> str:
        while not go.is_set():
            await asyncio.sleep(0.002)
        return TEXT

    return said


def all_from(line: socket.socket) -> tuple[bytes, type[OSError] | None]:
    """What comes until the connection ends, and the error that it ends with."""
    got = b""
    line.settimeout(5)
    try:
        while piece := line.recv(1 << 16):
            got += piece
    except ConnectionResetError:
        return got, ConnectionResetError
    return got, None


def server_address(server: SpeechServer) -> tuple[str, int]:
    """For a socket."""
    return "127.0.0.1", int(server.origin.rpartition(":")[2])


def wait_until(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    """Wait for what happens in the server's thread."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it didn't happen"
        time.sleep(0.005)
