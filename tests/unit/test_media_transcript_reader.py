"""Transcripts, ours and others': what is read of each."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trax_ray.errors import MediaError
from trax_ray.media.speech import Segment, Word
from trax_ray.media.subtitles import render
from trax_ray.media.transcript_reader import PIECE_WORDS, read_transcript

SEGMENTS = (
    Segment(0.0, 2.5, "We begin at nine.", confidence=0.91, avg_logprob=-0.1, words=(Word(0.0, 0.4, "We", 0.9),)),
    Segment(3.0, 5.25, "Bring your coat.", speaker="A"),
)


def packed(content: Any) -> bytes:
    return json.dumps(content).encode()


@pytest.mark.parametrize("fmt", ["json", "srt", "vtt"])
def test_what_we_write_is_read_again(fmt: str) -> None:
    written = read_transcript(render(fmt, SEGMENTS, meta={"language": "en"}).encode(), f".{fmt}")
    assert written.timed
    assert [(each.start_s, each.end_s, each.text) for each in written.segments] == [
        (each.start_s, each.end_s, f"{each.speaker}: {each.text}" if fmt == "srt" and each.speaker else each.text)
        for each in SEGMENTS
    ], "SRT has no place of its own for speakers"
    if fmt == "json":
        assert (written.segments[0].confidence, written.segments[0].words) == (0.91, SEGMENTS[0].words)
        assert (written.segments[1].speaker, written.language) == ("A", "en")


def test_text_has_no_times_and_long_paragraphs_are_taken_apart_between_sentences() -> None:
    said = " ".join(f"This is sentence number {number}." for number in range(40))
    written = read_transcript(f"A line.\n\n{said}\n".encode(), ".txt")
    assert not written.timed
    texts = [each.text for each in written.segments]
    assert texts[0] == "A line."
    assert " ".join(texts[1:]) == said
    assert all(len(text.split()) <= PIECE_WORDS for text in texts)
    assert all(text.endswith(".") for text in texts)


def test_the_json_of_openai_whisper() -> None:
    segment = {
        "id": 0,
        "seek": 0,
        "start": 0.0,
        "end": 4.0,
        "text": " Hello there.",
        "tokens": [50364],
        "temperature": 0.0,
        "avg_logprob": -0.5,
        "compression_ratio": 1.2,
        "no_speech_prob": 0.02,
        "words": [{"word": " Hello", "start": 0.0, "end": 0.5, "probability": 0.4}],
    }
    written = read_transcript(packed({"text": " Hello there.", "segments": [segment], "language": "en"}), ".JSON")
    (found,) = written.segments
    assert (found.text, written.language, found.avg_logprob) == ("Hello there.", "en", -0.5)
    assert found.confidence == pytest.approx(0.6065, abs=1e-3)
    assert found.words == (Word(0.0, 0.5, "Hello", 0.4),)


def test_the_json_of_others() -> None:
    beside = {
        "language": "english",
        "segments": [{"start": 0, "end": 2, "text": "One."}, {"start": 2, "end": 3, "text": "Two."}],
        "words": [{"word": "One", "start": 0.1, "end": 0.9}, {"word": "Two", "start": 2.1, "end": 2.9}],
    }
    written = read_transcript(packed(beside), ".json")
    assert [[word.text for word in each.words] for each in written.segments] == [["One"], ["Two"]]
    assert written.language is None
    scored = {
        "segments": [{"start": 0, "end": 1, "text": "a", "words": [{"word": "a", "start": 0, "end": 1, "score": 2}]}]
    }
    assert read_transcript(packed(scored), ".json").segments[0].words == (Word(0.0, 1.0, "a", 1.0),)
    cpp = {"result": {"language": "de"}, "transcription": [{"offsets": {"from": 0, "to": 1500}, "text": " Ja."}]}
    written = read_transcript(packed(cpp), ".json")
    assert (written.segments, written.language) == ((Segment(0.0, 1.5, "Ja."),), "de")
    bare = read_transcript(packed({"text": "Only text."}), ".json")
    assert (bare.timed, [each.text for each in bare.segments]) == (False, ["Only text."])


@pytest.mark.parametrize(
    ("data", "suffix"),
    [
        (b"", ".txt"),
        (b" \n\n", ".txt"),
        (b"{", ".json"),
        (b"[]", ".json"),
        (b"null", ".json"),
        (b'{"segments": []}', ".json"),
        (b'{"segments": [null, {"text": "a"}, {"start": "x", "end": 1, "text": "a"}]}', ".json"),
        (b'{"counts": {"total": 4}}', ".json"),
        (b"[" * 100_000, ".json"),
        (b"no cue", ".srt"),
    ],
)
def test_what_is_no_transcript_is_said(data: bytes, suffix: str) -> None:
    with pytest.raises(MediaError, match="talk"):
        read_transcript(data, suffix, "talk")
