"""Subtitles of others: what our own writer and pysubs2 write, and what programs and people make of the two formats."""

from __future__ import annotations

import pysubs2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trax_ray.errors import MediaError
from trax_ray.media.speech import Segment
from trax_ray.media.subtitle_reader import read_subtitles
from trax_ray.media.subtitles import render

SAID = (
    Segment(0.5, 3.0, "Winds of 30 & more, she said <quietly>."),
    Segment(3.2, 5.0, "{And} nothing --> else."),
    Segment(3_700.0, 3_702.5, "An hour later."),
)


def texts(data: str | bytes) -> list[str]:
    return [each.text for each in read_subtitles(data.encode() if isinstance(data, str) else data)]


@pytest.mark.parametrize("fmt", ["srt", "vtt"])
def test_what_we_write_we_read(fmt: str) -> None:
    found = read_subtitles(render(fmt, SAID).encode())
    expected = [each.text.replace("-->", "->") if fmt == "srt" else each.text for each in SAID]
    assert [each.text for each in found] == expected
    assert [(each.start_s, each.end_s) for each in found] == [(each.start_s, each.end_s) for each in SAID]


@pytest.mark.parametrize("fmt", ["srt", "vtt"])
def test_what_another_program_writes(fmt: str) -> None:
    lines = pysubs2.SSAFile()
    lines.append(pysubs2.SSAEvent(start=1_500, end=2_750, text=r"{\i1}First{\i0} line\Nsecond line"))
    lines.append(pysubs2.SSAEvent(start=3_600_000, end=3_601_000, text="Later"))
    found = read_subtitles(lines.to_string(fmt).encode())
    assert [(each.start_s, each.end_s, each.text) for each in found] == [
        (1.5, 2.75, "First line second line"),
        (3_600.0, 3_601.0, "Later"),
    ]


def test_voices_notes_styles_and_escapes() -> None:
    text = """\ufeffWEBVTT - from somewhere
Kind: captions

NOTE nobody hears
this

STYLE
::cue { color: red }

intro
00:01.000 --> 00:02.500 align:start position:0%
<v.loud Ann &amp; Co>Fish &amp; chips</v>
<v Bob><i>No</i> <00:00:02.000>thanks

00:04.000 --> 00:05.000
{curly} a < b
"""
    found = read_subtitles(text.encode())
    assert [(each.start_s, each.end_s, each.speaker, each.text) for each in found] == [
        (1.0, 2.5, "Ann & Co", "Fish & chips"),
        (1.0, 2.5, "Bob", "No thanks"),
        (4.0, 5.0, None, "{curly} a < b"),
    ]


def test_srt_as_people_write_it() -> None:
    text = (
        "1\r\n0:00:01,5 --> 0:00:02,000\r\n{\\an8}<font color='red'>Above</font> <i>all</i>\r\n\r\n"
        "still said\r\n\r\n2\r\n00:00:03.000 --> 00:00:02.000 X1:10\r\n42\r\n\r\n"
        "3\r\n00:00:04,000 --> 00:00:05,000\r\n\r\n4\r\n00:00:06,000 --> 00:00:07,000\r\na <b and c> d &amp; e\r\n"
    )
    found = read_subtitles(text.encode())
    assert [(each.start_s, each.end_s, each.text) for each in found] == [
        (1.5, 2.0, "Above all still said"),
        (3.0, 3.0, "42"),
        (6.0, 7.0, "a <b and c> d &amp; e"),
    ]


def test_without_numbers_and_empty_lines() -> None:
    text = "00:00:01,0 --> 00:00:02,0\nOne\n00:00:02,0 --> 00:00:03,0\nTwo\n3\n00:00:03,0 --> 00:00:04,0\nThree"
    assert texts(text) == ["One", "Two", "Three"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings(encoding: str) -> None:
    assert texts("1\n00:00:01,000 --> 00:00:02,000\nGrüße\n".encode(encoding)) == ["Grüße"]


def test_a_cue_that_goes_on_is_one() -> None:
    text = "".join(f"00:00:0{n},000 --> 00:00:0{n + 1},000\nthe same\n\n" for n in range(3))
    (found,) = read_subtitles(text.encode())
    assert (found.start_s, found.end_s) == (0.0, 3.0)


@pytest.mark.parametrize("data", [b"", b"WEBVTT\n", b"\x00\xff\xfe" * 50, b"<html>no</html>", b"1\n00:00:01,000\n"])
def test_no_subtitles(data: bytes) -> None:
    with pytest.raises(MediaError) as caught:
        read_subtitles(data, "talk.srt")
    assert (caught.value.code, caught.value.failure_class) == ("not_subtitles", "permanent")
    assert str(caught.value).startswith("talk.srt: ")


@given(st.binary(max_size=400) | st.text(alphabet="0123456789:,.->\n <v&;WEBTNOSYL{}\\a", max_size=400).map(str.encode))
def test_anything_is_cues_or_none(data: bytes) -> None:
    try:
        found = read_subtitles(data)
    except MediaError:
        return
    assert all(each.text and each.end_s >= each.start_s for each in found)
    assert sorted(each.start_s for each in found) == [each.start_s for each in found]
