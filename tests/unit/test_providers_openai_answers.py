"""What servers answer, and what of it is believed."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trax_ray.codes import FailureCode
from trax_ray.errors import ProcessingError, UsageError
from trax_ray.media.speech import Span
from trax_ray.providers.openai_answers import Answer, read_answer
from trax_ray.providers.openai_models import COMPATIBLE, model_of

SPEECH = [Span(0.5, 3.0), Span(4.0, 9.0)]


def read(content: Any, speech: list[Span] = SPEECH, duration_s: float = 10.0) -> Answer:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return read_answer(body, duration_s=duration_s, speech=speech)


def test_segments_with_all_that_whisper_gives() -> None:
    segment = {"id": 0, "start": 0.5, "end": 3.0, "text": " One. ", "avg_logprob": -0.2, "no_speech_prob": 0.1}
    word = {"word": "One.", "start": 0.6, "end": 1.0}
    content = {"text": "One.", "language": "English", "segments": [segment | {"compression_ratio": 1.1}]}
    answer = read(content | {"words": [word], "usage": {"type": "duration", "seconds": 10}})
    (found,) = answer.segments
    assert (found.start_s, found.end_s, found.text) == (0.5, 3.0, "One.")
    assert (found.avg_logprob, found.no_speech_prob, found.compression_ratio) == (-0.2, 0.1, 1.1)
    assert found.confidence == pytest.approx(math.exp(-0.2))
    assert [(each.text, each.start_s) for each in found.words] == [("One.", 0.6)]
    assert (answer.language, answer.usage["seconds"], answer.made_up) == ("en", 10, ())


def test_a_segment_needs_times_and_text_and_nothing_else() -> None:
    (found,) = read({"segments": [{"start": 1, "end": 2, "text": "one"}]}).segments
    assert (found.confidence, found.avg_logprob, found.words, found.speaker) == (None, None, (), None)


@pytest.mark.parametrize(("logprobs", "known"), [((0.0, 0.0), False), ((0.0,), False), ((0.0, -0.4), True)])
def test_a_confidence_that_is_a_placeholder_is_unknown(logprobs: tuple[float, ...], known: bool) -> None:
    """Servers that have none write 0.0, which would be 100 % of every word."""
    segments = [
        {"start": number, "end": number + 1, "text": "one", "avg_logprob": each} for number, each in enumerate(logprobs)
    ]
    found = read({"segments": segments}).segments
    assert [each.confidence is not None for each in found] == [known] * len(logprobs)
    assert [each.avg_logprob is not None for each in found] == [known] * len(logprobs)


def test_a_text_without_times_gets_those_of_the_speech_that_was_sent() -> None:
    answer = read({"text": "all of it"})
    (found,) = answer.segments
    assert (found.start_s, found.end_s, found.text) == (0.5, 9.0, "all of it")
    assert answer.made_up == ("segment_times",)


def test_confidence_of_a_text_is_the_mean_of_its_tokens() -> None:
    tokens = [{"token": "a", "logprob": -0.1}, {"token": "b", "logprob": -0.3}, {"token": "c", "logprob": None}]
    (found,) = read({"text": "a b c", "logprobs": tokens}).segments
    assert found.confidence == pytest.approx(math.exp(-0.2))


def test_speakers_are_named() -> None:
    segments = [{"start": 0, "end": 2, "text": "hello", "speaker": "A"}, {"start": 2, "end": 4, "text": "x"}]
    assert [found.speaker for found in read({"segments": segments}).segments] == ["A", None]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"<html>busy</html>", "it is HTML"),
        (b"{", "it is no JSON"),
        (b"", "it is no JSON"),
        (b"\xff\xfe", "it is no JSON"),
        (b"[" * 100_000, "it is no JSON"),
        (None, "expected an object, got NoneType"),
        ("text", "expected an object, got str"),
        ({"foo": 1}, "there is no text"),
        ({"text": None}, "there is no text"),
        ({"text": 5}, "the text is int"),
        ({"text": "x", "segments": ["x"]}, "a segment isn't an object"),
        ({"text": "x", "segments": [{"start": 0, "end": 1}]}, "a segment has no text"),
        ({"text": "x", "segments": [{"start": 0, "text": "x"}]}, "a segment has no times"),
        ({"text": "x", "segments": [{"start": "0", "end": 1, "text": "x"}]}, "a segment has no times"),
        ({"text": "x", "segments": [{"start": 3, "end": 99, "text": "x"}]}, "and 10.00 s were sent"),
        ({"text": "x", "segments": [{"start": 12, "end": 14, "text": "x"}]}, "and 10.00 s were sent"),
    ],
)
def test_what_can_not_be_right_is_no_transcript(content: Any, why: str) -> None:
    with pytest.raises(ProcessingError, match=why) as caught:
        read(content)
    assert (caught.value.code, caught.value.failure_class) == (FailureCode.BAD_ANSWER, "transient")


@pytest.mark.parametrize(
    "content", [{"text": ""}, {"text": "", "segments": []}, {"segments": [{"start": 0, "end": 1, "text": "  "}]}]
)
def test_an_empty_answer_to_speech_is_asked_for_again(content: Any) -> None:
    with pytest.raises(ProcessingError, match=r"it is empty, and there are 7\.5 s of speech") as caught:
        read(content)
    assert (caught.value.code, caught.value.failure_class) == (FailureCode.NO_WORDS, "transient")


def test_segments_are_put_in_order_and_so_are_their_ends() -> None:
    segments = [{"start": 5, "end": 6, "text": "two"}, {"start": 3, "end": 1, "text": "one"}]
    answer = read({"text": "one two", "segments": segments})
    assert [(each.start_s, each.end_s, each.text) for each in answer.segments] == [(1, 3, "one"), (5, 6, "two")]
    assert (answer.made_up, answer.warnings) == ((), ())


def said(*segments: tuple[float, float, str]) -> list[dict[str, Any]]:
    return [{"start": start, "end": end, "text": text} for start, end, text in segments]


@pytest.mark.parametrize(
    ("text", "segments", "whole"),
    [
        ("One two. Three four.", said((1, 3, " One two.")), [(1, 3, "One two."), (3, 9, "Three four.")]),
        ("One two. Three four.", said((5, 9, " Three four.")), [(0.5, 5, "One two."), (5, 9, "Three four.")]),
        (
            "One. Two. Three.",
            said((1, 3, "One."), (5, 9, "Three.")),
            [(1, 3, "One."), (3, 5, "Two."), (5, 9, "Three.")],
        ),
        ("One. Two. Three.", said((1, 5, "One."), (5, 9, "Three.")), [(1, 5, "One. Two."), (5, 9, "Three.")]),
        ("One. Two.", said((0.5, 9, "Two.")), [(0.5, 9, "One. Two.")]),
        ("One. Two.", said((0.5, 9, "One.")), [(0.5, 9, "One. Two.")]),
        ("一二三。四五六。", said((1, 3, "一二三。")), [(1, 3, "一二三。"), (3, 9, "四五六。")]),
        ("Nothing of this was in them at all.", said((1, 3, "x")), [(0.5, 9, "Nothing of this was in them at all.")]),
    ],
)
def test_where_segments_hold_less_than_the_text_the_text_wins(
    text: str, segments: list[dict[str, Any]], whole: list[tuple[float, float, str]]
) -> None:
    answer = read({"text": text, "segments": segments})
    assert [(each.start_s, each.end_s, each.text) for each in answer.segments] == whole
    assert answer.warnings == ("text_beyond_segments",)


@pytest.mark.parametrize("text", ["One two, three.", "one  two three", "One two 3", ""])
def test_a_text_that_is_only_written_otherwise_changes_nothing(text: str) -> None:
    answer = read({"text": text, "segments": said((1, 3, " One two"), (4, 6, " three."))})
    assert [each.text for each in answer.segments] == ["One two", "three."]
    assert answer.warnings == ()


@pytest.mark.parametrize("end_s", [10.4, 12.63, 30.0])
def test_a_last_segment_may_end_in_the_silence_that_whisper_filled_up_with(end_s: float) -> None:
    """faster-whisper behind open-asr-server gave a segment from 7.12 to 15.92 s of 13.29 s."""
    segments = [{"start": 0.0, "end": 3.0, "text": "one"}, {"start": 3.5, "end": end_s, "text": "two"}]
    read_segments = read({"text": "one two", "segments": segments}).segments
    assert [(each.start_s, each.end_s) for each in read_segments] == [(0.0, 3.0), (3.5, 10.0)]


def test_hardly_any_speech_may_have_been_a_cough() -> None:
    assert read({"text": ""}, [Span(1.0, 2.5)]).segments == ()


def test_times_a_little_beyond_the_audio_are_brought_within() -> None:
    (found,) = read({"segments": [{"start": -0.2, "end": 10.4, "text": "x"}]}).segments
    assert (found.start_s, found.end_s) == (0.0, 10.0)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
fields = st.fixed_dictionaries(
    {},
    optional={
        "text": json_values,
        "segments": json_values
        | st.lists(st.fixed_dictionaries({"start": json_values, "end": json_values, "text": json_values}), max_size=3),
        "words": json_values,
        "language": json_values,
        "usage": json_values,
        "logprobs": json_values,
    },
)


@settings(max_examples=300, deadline=None)
@given(content=json_values | fields)
def test_whatever_comes_is_segments_or_a_bad_answer(content: Any) -> None:
    try:
        answer = read(json.dumps(content).encode())
    except ProcessingError:
        return
    for found in answer.segments:
        assert found.text.strip()
        assert 0 <= found.start_s <= found.end_s <= 10.0
        assert found.confidence is None or 0 <= found.confidence <= 1
    assert answer.segments, "7.5 s of speech and no words"


@pytest.mark.parametrize(
    ("model", "asked", "words", "speakers", "prompt"),
    [
        ("whisper-1", "verbose_json", True, False, "prompt"),
        ("gpt-4o-transcribe", "json", False, False, "prompt"),
        ("gpt-4o-mini-transcribe", "json", False, False, "prompt"),
        ("gpt-4o-mini-transcribe-2025-12-15", "json", False, False, "prompt"),
        ("gpt-4o-transcribe-diarize", "diarized_json", False, True, ""),
        ("gpt-transcribe", "json", False, False, "keywords"),
    ],
)
def test_the_table_of_models(model: str, asked: str, words: bool, speakers: bool, prompt: str) -> None:
    row = model_of(model)
    assert (row.response_format, row.words, row.speakers, row.prompt) == (asked, words, speakers, prompt)


def test_what_a_model_lacks_is_refused_before_any_work() -> None:
    with pytest.raises(UsageError, match="gpt-transcribe gives no word times: leave out --word-timestamps"):
        model_of("gpt-transcribe").check("gpt-transcribe", word_timestamps=True, initial_prompt=None)
    with pytest.raises(UsageError, match="takes no prompt"):
        model_of("gpt-4o-transcribe-diarize").check("it", word_timestamps=False, initial_prompt="Hello")
    model_of("whisper-1").check("whisper-1", word_timestamps=True, initial_prompt="Hello")


def test_an_unknown_model_is_asked_for_most() -> None:
    assert model_of("Systran/faster-whisper-small") is COMPATIBLE
