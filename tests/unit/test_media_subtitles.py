"""Transcript formats: openai-whisper's shapes, cues that can be read, nothing lost, always valid."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pysubs2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trax_ray.core.spec import OUTPUT_FORMATS, BatchSpec
from trax_ray.core.writing import breakable, width
from trax_ray.errors import UsageError
from trax_ray.media.shape import DEFAULT, STYLES, Shape, shape_of, wrapped
from trax_ray.media.speech import Segment, Word
from trax_ray.media.subtitles import MIN_CUE_MS, fast_cues, render, to_cues

TWO = [Segment(0.0, 1.5, "Hello there.", confidence=0.9), Segment(3661.25, 3663.0, "Good bye!")]


class TestFormats:
    def test_txt(self) -> None:
        assert render("txt", TWO) == "Hello there.\nGood bye!\n"

    def test_srt(self) -> None:
        assert render("srt", TWO) == (
            "1\n00:00:00,000 --> 00:00:01,500\nHello there.\n\n2\n01:01:01,250 --> 01:01:03,000\nGood bye!\n\n"
        )

    def test_vtt(self) -> None:
        assert render("vtt", TWO) == (
            "WEBVTT\n\n00:00.000 --> 00:01.500\nHello there.\n\n01:01:01.250 --> 01:01:03.000\nGood bye!\n\n"
        )

    def test_tsv(self) -> None:
        assert render("tsv", TWO) == "start\tend\ttext\n0\t1500\tHello there.\n3661250\t3663000\tGood bye!\n"

    def test_json(self) -> None:
        words = (Word(0.0, 0.5, "Hello", 0.8), Word(0.5, 1.5, "there.", None))
        meta = {"language": "en", "model": "tiny", "duration": 12.5, "warnings": ["truncated"], "text": "not this"}
        content = json.loads(render("json", [Segment(0.0, 1.5, "Hello there.", words=words), TWO[1]], meta=meta))
        assert content["text"] == "Hello there. Good bye!"
        assert (content["language"], content["model"], content["duration"]) == ("en", "tiny", 12.5)
        assert content["warnings"] == ["truncated"]
        assert [row["id"] for row in content["segments"]] == [0, 1]
        assert content["segments"][1]["start"] == 3661.25
        assert content["segments"][0]["words"][0] == {"word": "Hello", "start": 0.0, "end": 0.5, "probability": 0.8}
        assert "words" not in content["segments"][1]

    @pytest.mark.parametrize(
        ("fmt", "content"), [("txt", ""), ("srt", ""), ("vtt", "WEBVTT\n\n"), ("tsv", "start\tend\ttext\n")]
    )
    def test_empty(self, fmt: str, content: str) -> None:
        assert render(fmt, []) == content
        assert render(fmt, [Segment(0.0, 1.0, " \n ")]) == content

    def test_empty_json(self) -> None:
        assert json.loads(render("json", [])) == {"text": "", "segments": [], "language": None}

    def test_unknown_format(self) -> None:
        with pytest.raises(ValueError, match=r"'doc'.*txt, srt, vtt, tsv, json"):
            render("doc", [])

    @pytest.mark.parametrize("fmt", OUTPUT_FORMATS)
    def test_times_must_be_numbers(self, fmt: str) -> None:
        with pytest.raises(ValueError, match="times in seconds"):
            render(fmt, [Segment(float("nan"), 1.0, "x")])

    def test_json_without_nan(self) -> None:
        content = render("json", [Segment(0.0, 1.0, "x", avg_logprob=float("-inf"))])
        assert json.loads(content, parse_constant=pytest.fail)["segments"][0]["avg_logprob"] is None


class TestText:
    def test_arrows_cannot_forge_a_cue(self) -> None:
        text = "x\n\n2\n00:00:09,000 --> 00:00:10,000\nforged"
        srt = render("srt", [Segment(0.0, 5.0, text)])
        assert srt == "1\n00:00:00,000 --> 00:00:05,000\nx 2 00:00:09,000 -> 00:00:10,000 forged\n\n"
        vtt = render("vtt", [Segment(0.0, 5.0, text)])
        assert vtt.count("-->") == 1
        assert len(pysubs2.SSAFile.from_string(vtt, format_="vtt")) == 1

    def test_vtt_escapes(self) -> None:
        assert "\nAT&amp;T &lt;b&gt;x&lt;/b&gt; &amp;lt;\n" in render("vtt", [Segment(0, 1, "AT&T <b>x</b> &lt;")])

    def test_srt_keeps_what_it_can(self) -> None:
        assert "\nAT&T <b> {x} \\N\n" in render("srt", [Segment(0, 1, "AT&T <b> {x} \\N")])

    @pytest.mark.parametrize("fmt", OUTPUT_FORMATS)
    def test_breaks_and_tabs_become_spaces(self, fmt: str) -> None:
        content = render(fmt, [Segment(0.0, 1.0, "\ta\r\nb\x0bc\x00d\u2028e\ud800f ")])
        assert "a b c d e?f" in content
        assert content.encode() == content.encode("utf-8", "strict")


class TestCues:
    def test_word_times_decide(self) -> None:
        words = [Word(float(at), at + 0.5, f"word{at}") for at in range(6)] + [Word(20.0, 20.5, "late")]
        cues = to_cues([Segment(0.0, 20.5, " ".join(word.text for word in words), words=tuple(words))])
        assert [text for _, _, text in cues] == ["word0 word1 word2 word3 word4 word5", "late"]
        assert cues[1][:2] == (20_000, 20_500)
        assert cues[0][:2] == (0, 5_500)

    def test_without_word_times_in_proportion(self) -> None:
        cues = to_cues([Segment(10.0, 22.0, "aaaa bbbb. cccc dddd.")])
        assert [text for _, _, text in cues] == ["aaaa bbbb.", "cccc dddd."]
        assert cues[0][1] == cues[1][0]
        assert cues[0][1] == pytest.approx(16_000, abs=400)

    def test_words_that_are_not_the_text_are_not_trusted(self) -> None:
        cues = to_cues([Segment(0.0, 2.0, "all of this", words=(Word(0.0, 1.0, "all"),))])
        assert [text for _, _, text in cues] == ["all of this"]

    def test_sentences_stay_whole_where_possible(self) -> None:
        text = "This is the first sentence of the two and it is rather long. The second one is shorter than that."
        assert [cue[2] for cue in to_cues([Segment(0.0, 6.0, text)])] == [text[:61].strip(), text[61:].strip()]

    def test_writing_without_spaces(self) -> None:
        text = "汉" * 200
        cues = to_cues([Segment(0.0, 20.0, text)])
        assert "".join(cue[2] for cue in cues) == text
        assert max(len(cue[2]) for cue in cues) <= DEFAULT.columns * DEFAULT.lines

    def test_segments_that_overlap(self) -> None:
        cues = to_cues([Segment(0.0, 5.0, "one"), Segment(2.0, 4.0, "two"), Segment(4.5, 6.0, "three")])
        assert [cue[2] for cue in cues] == ["one", "two", "three"]
        assert all(before[1] <= after[0] for before, after in pairwise(cues))

    @pytest.mark.parametrize(
        "times",
        [
            [(0.0, 10.0), (2.0, 4.0), (3.0, 5.0), (3.0, 3.0), (9.0, 12.0)],
            [(0.0, 5.0)] * 4,
            [(1.0, 1.0)] * 4,
            [(0.0, 30.0), (0.05, 0.06), (0.07, 30.0)],
        ],
    )
    def test_no_cue_of_overlapped_segments_is_too_short_to_be_seen(self, times: list[tuple[float, float]]) -> None:
        segments = [Segment(start, end, f"word{number}") for number, (start, end) in enumerate(times)]
        cues = to_cues(segments)
        assert [cue[2] for cue in cues] == [each.text for each in segments]
        assert all(end - start >= MIN_CUE_MS for start, end, _ in cues)
        assert all(before[1] <= after[0] for before, after in pairwise(cues))

    def test_a_remark_stands_where_it_is_made_in_another_ones_speech(self) -> None:
        cues = to_cues([Segment(0.0, 12.0, "aaaa bbbb. cccc dddd."), Segment(3.0, 5.0, "mhm")])
        assert cues == [(0, 3000, "aaaa bbbb."), (3000, 5000, "mhm"), (6286, 12000, "cccc dddd.")]

    def test_cues_that_begin_together_share_their_time(self) -> None:
        cues = to_cues([Segment(0.0, 5.0, "one"), Segment(0.0, 1.0, "two")])
        assert cues == [(0, 500, "one"), (500, 1000, "two")]

    def test_a_long_stay_is_cut(self) -> None:
        assert to_cues([Segment(0.0, 60.0, "word")]) == [(0, int(DEFAULT.cue_s * 1000), "word")]


texts = st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), min_size=0, max_size=60).map(" ".join)
times = st.floats(0, 10_000)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(times, st.floats(0, 90), texts), max_size=6))
def test_cues_lose_nothing_and_lie_in_order(rows: list[tuple[float, float, str]]) -> None:
    segments = [Segment(start, start + long, text) for start, long, text in sorted(rows)]
    cues = to_cues(segments)
    said = re.sub(r"\s", "", "".join(segment.text for segment in segments))
    shown = re.sub(r"\s", "", "".join(text for _, _, text in cues))
    drop = dict.fromkeys([*range(32), *range(127, 160)])
    assert sorted(shown) == sorted(said.translate(drop))
    if all(before.end_s <= after.start_s for before, after in pairwise(segments)):
        assert shown == said.translate(drop)
    last = 0
    for start, end, text in cues:
        assert last <= start <= end - MIN_CUE_MS
        assert text.strip() == text != ""
        assert end - start <= DEFAULT.cue_s * 1000
        last = end
    for _, _, text in cues:
        assert wrapped(text).count("\n") < DEFAULT.lines or max(map(len, text.split())) > DEFAULT.columns / 2
    assert render("vtt", segments).count(" --> ") == render("srt", segments).count(" --> ") == len(cues)


@settings(max_examples=100, deadline=None)
@given(texts.map(lambda text: " ".join(text.split())).filter(bool))
def test_wrapping_keeps_the_words(text: str) -> None:
    lines = wrapped(text).split("\n")
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    if all(part.endswith(" ") for part in breakable(text)[:-1]):  # else lines break elsewhere, as after a wide comma
        assert " ".join(lines) == text
    assert all(width(line) <= DEFAULT.columns or len(breakable(line)) == 1 for line in lines)


# Shapes


SENTENCE = "When the snow melts, the river rises above the old bridge and nobody can cross it for a week."


def spec(**fields: object) -> BatchSpec:
    return BatchSpec(output_dir="/out", **fields)  # type: ignore[arg-type]


def test_lines_end_where_phrases_do() -> None:
    assert wrapped("When the snow melts, the river rises above it") == "When the snow melts,\nthe river rises above it"
    assert wrapped("They had waited for hours at the old station") == "They had waited for hours\nat the old station"
    assert (
        wrapped("Er wartete lange auf den letzten Zug nach Hause") == "Er wartete lange\nauf den letzten Zug nach Hause"
    )


@pytest.mark.parametrize(("columns", "lines"), [(20, 1), (30, 2), (16, 3), (80, 1)])
def test_lines_and_cues_hold_what_was_asked_for(columns: int, lines: int) -> None:
    shape = shape_of(spec(max_line_width=columns, max_line_count=lines))
    told = render("srt", [Segment(0.0, 6.0, SENTENCE)], shape=shape)
    cues = [block.split("\n")[2:] for block in told.strip().split("\n\n")]
    assert all(len(cue) <= lines and max(map(len, cue)) <= columns for cue in cues)
    assert " ".join(line for cue in cues for line in cue) == SENTENCE


def test_words_in_a_line_are_words_in_a_cue_where_nothing_is_said_of_lines() -> None:
    cues = to_cues([Segment(0.0, 6.0, SENTENCE)], shape_of(spec(max_words_per_line=3)))
    assert max(len(text.split()) for _, _, text in cues) == 3
    assert " ".join(text for _, _, text in cues) == SENTENCE
    two = shape_of(spec(max_words_per_line=3, max_line_count=2))
    assert max(len(text.split()) for _, _, text in to_cues([Segment(0.0, 6.0, SENTENCE)], two)) > 3
    assert all(len(line.split()) <= 3 for line in wrapped("one two three four five six", two).split("\n"))


def test_a_style_lets_cues_stay_until_they_are_read_and_names_those_that_cannot_be() -> None:
    forty = "a" * 19 + " " + "b" * 20
    lonely, hurried = Segment(0.0, 0.5, forty), Segment(10.0, 10.5, forty)
    segments = [lonely, hurried, Segment(11.0, 12.0, "next")]
    assert [cue[:2] for cue in to_cues(segments)] == [(0, 500), (10_000, 10_500), (11_000, 12_000)]
    netflix = STYLES["netflix"]
    assert [cue[:2] for cue in to_cues(segments, netflix)] == [(0, 2_000), (10_000, 11_000), (11_000, 12_000)]
    assert fast_cues(segments, netflix) == [(10.0, 11.0)]
    assert fast_cues(segments, DEFAULT) == []
    assert fast_cues([Segment(0.0, 1.0, "four words are here"), Segment(1.0, 2.0, "x")], STYLES["bbc"]) == [(0.0, 1.0)]


def test_what_is_given_by_itself_counts_before_the_style() -> None:
    assert shape_of(spec(subtitle_style="bbc")).columns == 37
    assert shape_of(spec(subtitle_style="bbc", max_line_width=30)) == Shape(30, 30, words_per_s=3.0)
    assert shape_of(spec()) == DEFAULT


@pytest.mark.parametrize(
    "fields", [{"max_line_width": 9}, {"max_line_count": 0}, {"max_words_per_line": 0}, {"subtitle_style": "arte"}]
)
def test_shapes_that_make_no_sense(fields: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(fields)).replace("_", "-")):
        spec(**fields)


@given(text=st.text("ab ,.", min_size=1, max_size=200), columns=st.integers(10, 60), words=st.integers(1, 9))
def test_nothing_gets_lost_in_any_shape(text: str, columns: int, words: int) -> None:
    shape = Shape(columns, columns, words=words, lines=3)
    told = "".join(text for _, _, text in to_cues([Segment(0.0, 9.0, text)], shape))
    assert told.replace(" ", "") == "".join(text.split())
