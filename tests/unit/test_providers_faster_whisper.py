"""Whisper on this machine: the real loading and decoding code, on a random model; and where weights come from."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.support.tiny_whisper import make_tiny_whisper
from trax_ray.core.task import ResourceRequest
from trax_ray.errors import DiskFull, NetworkError, ProcessingError, ResourceError, SetupError, TraxRayError
from trax_ray.media.decode import read
from trax_ray.media.vad import speech_spans
from trax_ray.providers import choice, registry, weights
from trax_ray.providers import faster_whisper_engine as faster_whisper
from trax_ray.providers.base import EngineOptions, Span, SpeechEngine
from trax_ray.providers.faster_whisper_engine import FasterWhisperEngine, _Decoder, load
from trax_ray.providers.whisper_segments import segment_of, split_at_stamps, words_of
from trax_ray.providers.whisper_windows import (
    LIMIT,
    PAUSE,
    Found,
    Piece,
    Window,
    is_crammed,
    is_loop,
    unheard,
    windows_of,
)

RATE = 16_000
COMMIT = "0123456789abcdef0123456789abcdef01234567"
BASE = weights.WHISPER_REPOSITORIES["base"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random multilingual model."""
    return make_tiny_whisper(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def engine(tiny: Path) -> FasterWhisperEngine:
    """It, loaded."""
    return load(str(tiny), ResourceRequest())


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> FasterWhisperEngine:
    """A random English-only model."""
    return load(str(make_tiny_whisper(tmp_path_factory.mktemp("tiny.en"), multilingual=False)), ResourceRequest())


@pytest.fixture(scope="module")
def river(samples: Path) -> np.ndarray:
    """Three windows and more of speech."""
    return read(samples / "stories" / "the_river.ogg")[: 65 * RATE]


@pytest.fixture(scope="module")
def spans(river: np.ndarray) -> list[Span]:
    """Where it is."""
    return speech_spans(river)


def noise(seconds: float, level: float = 0.3) -> np.ndarray:
    return (np.random.default_rng(3).standard_normal(int(seconds * RATE)) * level).astype(np.float32)


def found(window: Window, *pieces: Piece, seek: int | None = None, **figures: Any) -> Found:
    """What a window held; by default said with confidence."""
    return Found(window, pieces, seek, **({"avg_logprob": -0.1, "no_speech_prob": 0.0, "language": "en"} | figures))


def piece(start_s: float, end_s: float, text: str = "hello", tokens: int | None = None) -> Piece:
    """Words in a window, each a token of its own unless told otherwise."""
    numbers = range(len(text.split()) if tokens is None else tokens)
    return Piece(round(start_s * RATE), round(end_s * RATE), text, tuple(numbers))


class TestTranscribing:
    def test_the_engine_keeps_the_contract(self, engine: FasterWhisperEngine, tiny: Path) -> None:
        assert isinstance(engine, SpeechEngine)
        assert (engine.name, engine.model) == ("faster-whisper", str(tiny))

    @pytest.mark.parametrize("words", [False, True])
    def test_segments_are_in_order_inside_the_speech_and_without_gaps_in_their_figures(
        self, engine: FasterWhisperEngine, river: np.ndarray, spans: list[Span], words: bool
    ) -> None:
        before = river.copy()
        found = list(engine.transcribe(river, spans, EngineOptions("en", word_timestamps=words)))
        assert len(found) >= 4
        assert engine.language == "en"
        assert np.array_equal(river, before)
        assert all(left.end_s <= right.start_s for left, right in pairwise(found))
        for segment in found:
            assert segment.text == segment.text.strip() != ""
            assert segment.start_s <= segment.end_s
            assert any(segment.start_s < span.end_s and segment.end_s > span.start_s for span in spans)
            assert spans[0].start_s <= segment.start_s
            assert segment.end_s <= spans[-1].end_s
            assert 0.0 <= segment.confidence <= 1.0
            assert 0.0 <= segment.no_speech_prob <= 1.0
            assert math.isfinite(segment.avg_logprob)
            assert segment.compression_ratio > 0
            assert {type(t) for word in (segment, *segment.words) for t in (word.start_s, word.end_s)} == {float}
            assert bool(segment.words) is words

    def test_words_are_in_order_inside_their_segment_and_make_its_confidence(
        self, engine: FasterWhisperEngine, river: np.ndarray, spans: list[Span]
    ) -> None:
        found = list(engine.transcribe(river[: 30 * RATE], spans, EngineOptions("en", word_timestamps=True)))
        for segment in found:
            edges = [segment.start_s, *(t for word in segment.words for t in (word.start_s, word.end_s)), segment.end_s]
            assert edges == sorted(edges)
            probabilities = [word.probability for word in segment.words]
            assert segment.confidence == pytest.approx(sum(probabilities) / len(probabilities))
        # A word that runs on over the end of a segment belongs to that one.
        words = "".join(word.text for segment in found for word in segment.words)
        assert words == "".join(segment.text for segment in found).replace(" ", "")

    def test_without_words_confidence_is_the_mean_token_probability(
        self, engine: FasterWhisperEngine, river: np.ndarray, spans: list[Span]
    ) -> None:
        segment = next(engine.transcribe(river, spans[:4], EngineOptions("en")))
        assert segment.confidence == pytest.approx(math.exp(segment.avg_logprob))

    def test_the_same_audio_gives_the_same_text_whatever_came_before(
        self, engine: FasterWhisperEngine, tiny: Path, river: np.ndarray, spans: list[Span]
    ) -> None:
        spans = [span for span in spans if span.end_s < 30]
        fresh = list(load(str(tiny), ResourceRequest()).transcribe(river, spans, EngineOptions("en")))
        assert list(engine.transcribe(river, spans, EngineOptions("en"))) == fresh

    def test_an_abandoned_transcription_leaves_nothing_behind(
        self, engine: FasterWhisperEngine, river: np.ndarray, spans: list[Span]
    ) -> None:
        single = FasterWhisperEngine("tiny", engine._whisper, batch_size=1)
        options, two = EngineOptions("en", word_timestamps=True), [span for span in spans if span.end_s < 40]
        whole = list(single.transcribe(river, two, options))
        next(single.transcribe(river, two, options))
        assert list(single.transcribe(river, two, options)) == whole

    def test_what_lies_far_from_speech_is_not_heard(self, engine: FasterWhisperEngine, river: np.ndarray) -> None:
        speech = [Span(0.5, 9.0), Span(11.5, 14.0), Span(30.0, 38.0)]
        loud = noise(40.0)
        quiet = np.zeros_like(loud)
        for span in speech:
            part = slice(int(span.start_s * RATE), int(span.end_s * RATE))
            loud[part] = quiet[part] = river[part]
        options = EngineOptions("en")
        assert list(engine.transcribe(loud, speech, options)) == list(engine.transcribe(quiet, speech, options))

    def test_no_speech_gives_no_segments(self, engine: FasterWhisperEngine, river: np.ndarray) -> None:
        assert list(engine.transcribe(river, [], EngineOptions())) == []
        assert engine.language is None
        assert list(engine.transcribe(river[:0], [Span(0.0, 1.0)], EngineOptions("de"))) == []

    @pytest.mark.parametrize("words", [False, True])
    def test_a_model_that_says_nothing_gives_no_segments(
        self, tmp_path: Path, river: np.ndarray, spans: list[Span], words: bool
    ) -> None:
        silent = load(str(make_tiny_whisper(tmp_path, end_logit=60.0)), ResourceRequest())
        assert list(silent.transcribe(river, spans[:4], EngineOptions("en", word_timestamps=words))) == []

    def test_segments_come_while_the_rest_is_still_to_be_decoded(
        self, engine: FasterWhisperEngine, river: np.ndarray, spans: list[Span], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        passes = []
        single = FasterWhisperEngine("tiny", engine._whisper, batch_size=1)
        real = _Decoder.decode
        monkeypatch.setattr(_Decoder, "decode", lambda *args: passes.append(1) or real(*args))
        found = single.transcribe(river, [span for span in spans if span.end_s < 40], EngineOptions("en"))
        next(found)
        assert len(passes) == 1
        list(found)
        assert len(passes) > 1

    def test_a_prompt_may_be_longer_than_the_model_takes(
        self, engine: FasterWhisperEngine, river: np.ndarray, spans: list[Span]
    ) -> None:
        options = EngineOptions("en", initial_prompt="Names: Aoife, Siobhan. " * 60)
        assert list(engine.transcribe(river[: 20 * RATE], spans[:1], options)) is not None

    def test_stereo_is_refused(self, engine: FasterWhisperEngine) -> None:
        with pytest.raises(ValueError, match=r"expected mono, got shape \(2, 16000\)"):
            next(engine.transcribe(np.zeros((2, RATE), np.float32), [Span(0, 1)], EngineOptions("en")))


class TestLanguage:
    def test_each_window_has_its_own_and_the_file_the_one_most_spoken(
        self, engine: FasterWhisperEngine, river: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        heard = iter([{"de": 0.9, "en": 0.1}, {"en": 0.8, "de": 0.2}, {"fr": 0.3, "en": 0.25, "de": 0.2}, {"es": 1.0}])

        class Model:
            """The real one; what it detects is given."""

            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

            def detect_language(self, encoded: Any) -> list[list[tuple[str, float]]]:
                return [[(f"<|{code}|>", chance) for code, chance in next(heard).items()]]

        real = engine._whisper.model
        monkeypatch.setattr(engine._whisper, "model", Model())
        monkeypatch.setattr(faster_whisper, "unheard", lambda found: [])
        monkeypatch.setattr(faster_whisper, "LOW_LOGPROB", -1e9)
        monkeypatch.setattr(faster_whisper, "is_loop", lambda found: False)
        single = FasterWhisperEngine("tiny", engine._whisper, batch_size=1)
        speech = [Span(0, 5), Span(6, 14), Span(15, 20), Span(21, 24)]
        segments = list(single.transcribe(river, speech, EngineOptions()))
        # Not sure of the third, and English is the likelier one of those that were spoken before.
        assert [
            {segment.language for segment in segments if span.start_s <= segment.start_s < span.end_s}
            for span in speech
        ] == [{"de"}, {"en"}, {"en"}, {"es"}]
        assert single.language == "en"

    def test_one_window_holds_one_language_mostly(self, river: np.ndarray) -> None:
        speech = [Span(0, 5), Span(5.3, 8), Span(9, 12)]
        assert len(windows_of(river, speech)) == 1
        assert len(windows_of(river, speech, pause=faster_whisper._LANGUAGE_PAUSE)) == 2

    @pytest.mark.parametrize(("asked", "kept"), [("de", "de"), ("EN", "en"), ("pt-BR", "pt"), ("zh_TW", "zh")])
    def test_a_given_one_is_kept_as_whisper_writes_it(
        self, engine: FasterWhisperEngine, river: np.ndarray, asked: str, kept: str
    ) -> None:
        list(engine.transcribe(river, [Span(0, 2)], EngineOptions(asked)))
        assert engine.language == kept

    @pytest.mark.parametrize("asked", ["xx", "klingon", "", "yue"])
    def test_an_unknown_one_is_named(self, engine: FasterWhisperEngine, river: np.ndarray, asked: str) -> None:
        with pytest.raises(ProcessingError, match=f"the language {asked}") as caught:
            list(engine.transcribe(river, [Span(0, 2)], EngineOptions(asked)))
        assert (caught.value.code, caught.value.failure_class) == ("unknown_language", "permanent")

    def test_an_english_only_model_refuses_any_other(self, english: FasterWhisperEngine, river: np.ndarray) -> None:
        with pytest.raises(ProcessingError, match="only knows English, got the language de") as caught:
            list(english.transcribe(river, [Span(0, 2)], EngineOptions("de")))
        assert caught.value.code == "language_not_spoken"

    @pytest.mark.parametrize("asked", [None, "en", "en-GB"])
    def test_an_english_only_model_speaks_english(
        self, english: FasterWhisperEngine, river: np.ndarray, spans: list[Span], asked: str | None
    ) -> None:
        assert list(english.transcribe(river, spans[:3], EngineOptions(asked, word_timestamps=True)))
        assert english.language == "en"


class TestWindows:
    def test_neighbours_are_merged_while_they_fit(self) -> None:
        speech = [Span(1, 7), Span(8, 12), Span(14, 15.5), Span(16, 20), Span(23, 25)]
        windows = windows_of(noise(60), speech)
        assert [(w.start / RATE, w.end / RATE) for w in windows] == [(1, 15.5), (16, 20), (23, 25)]
        assert [len(w.parts) for w in windows] == [3, 1, 1]

    def test_a_long_span_is_cut_where_it_is_quiet(self) -> None:
        audio = noise(70)
        audio[int(13.0 * RATE) : int(13.2 * RATE)] *= 0.01
        windows = windows_of(audio, [Span(0, 70)])
        assert windows[0].end / RATE == pytest.approx(13.1, abs=0.1)

    def test_no_window_is_too_long_and_no_speech_is_lost(self) -> None:
        audio = noise(600, 0.1)
        random = np.random.default_rng(11)
        for _ in range(50):
            edges = np.sort(random.uniform(0, 620, size=2 * random.integers(1, 12)))
            speech = [Span(float(a), float(b)) for a, b in edges.reshape(-1, 2)]
            windows = windows_of(audio, speech)
            parts = [part for window in windows for part in window.parts]
            assert all(end > start for start, end in parts)
            assert all(left[1] <= right[0] for left, right in pairwise(parts))
            for window in windows:
                assert window.end - window.start <= LIMIT
                assert (window.start, window.end) == (window.parts[0][0], window.parts[-1][1])
                assert all(right[0] - left[1] <= PAUSE for left, right in pairwise(window.parts))
            heard = sum(end - start for start, end in parts) / RATE
            there = sum(max(0.0, min(span.end_s, 600.0) - span.start_s) for span in speech)
            assert heard == pytest.approx(there, abs=0.021 * len(speech))


class TestWhatHasNoWords:
    WINDOW = Window(10 * RATE, 24 * RATE, ((10 * RATE, 13 * RATE), (15 * RATE, 24 * RATE)))

    def rests(self, *pieces: Piece, seek_s: float | None = None, again: bool = False) -> list[tuple[float, float]]:
        window = Window(self.WINDOW.start, self.WINDOW.end, self.WINDOW.parts, again)
        seek = None if seek_s is None else round(seek_s * RATE)
        return [(rest.start / RATE, rest.end / RATE) for rest in unheard(found(window, *pieces, seek=seek))]

    def test_a_window_with_words_all_over_needs_nothing(self) -> None:
        assert self.rests(piece(10, 13), piece(15.5, 23.5)) == []

    def test_speech_after_the_last_words_is_decoded_again(self) -> None:
        assert self.rests(piece(10, 13), piece(15, 20)) == [(20, 24)]

    def test_so_is_what_the_decoder_itself_left_for_later(self) -> None:
        assert self.rests(piece(10, 13), piece(15, 23.5), seek_s=20.0) == [(20, 24)]

    def test_and_what_lies_before_and_between(self) -> None:
        assert self.rests(piece(11.5, 13), piece(18, 23.5)) == [(10, 11.5), (15, 18)]

    def test_pauses_are_none_of_it(self) -> None:
        assert self.rests(piece(10, 12.5), piece(15.4, 24)) == []

    def test_once_more_only_after_the_last_words(self) -> None:
        assert self.rests(piece(11.5, 13), piece(18, 20), again=True) == [(20, 24)]

    def test_a_decoder_that_stops_at_once_is_not_asked_for_ever(self) -> None:
        assert self.rests(piece(10, 10.2), again=True) == []
        assert self.rests() == []

    def test_whatever_the_decoder_says_it_comes_to_an_end(self) -> None:
        random = np.random.default_rng(5)
        for _ in range(200):
            waiting, rounds = [self.WINDOW], 0
            while waiting:
                window = waiting.pop()
                rounds += 1
                edges = np.sort(random.integers(window.start, window.end + 1, size=4))
                pieces = [Piece(int(a), int(b), "a", (1,)) for a, b in edges.reshape(-1, 2)]
                seek = int(random.integers(window.start, window.end + 1)) if random.random() < 0.5 else None
                waiting += unheard(found(window, *pieces, seek=seek))
            assert rounds < 100


class TestTimeStamps:
    BEGIN = 1000

    def split(self, *tokens: int | float) -> tuple[list[tuple[float, float, int]], float | None]:
        written = [self.BEGIN + round(token * 50) if isinstance(token, float) else token for token in tokens]
        parts, seek = split_at_stamps(written, self.BEGIN, 15 * RATE)
        return [(start / RATE, end / RATE, len(part)) for start, end, part in parts], seek and seek / RATE

    def test_a_pair_at_the_end_says_where_to_go_on(self) -> None:
        assert self.split(0.0, 7, 8, 4.0, 4.0, 9, 9.0, 9.0) == ([(0.0, 4.0, 4), (4.0, 9.0, 3)], 9.0)

    def test_a_single_one_says_that_nothing_follows(self) -> None:
        assert self.split(0.0, 7, 4.0, 4.0, 9, 9.0) == ([(0.0, 4.0, 3), (4.0, 9.0, 3)], None)

    def test_what_follows_the_last_pair_is_unfinished(self) -> None:
        assert self.split(0.0, 7, 4.0, 4.0, 9, 9) == ([(0.0, 4.0, 3)], 4.0)

    def test_without_a_pair_it_is_one_segment(self) -> None:
        assert self.split(0.0, 7, 8, 6.0) == ([(0.0, 6.0, 4)], None)
        assert self.split(7, 8) == ([(0.0, 15.0, 2)], None)

    def test_they_are_parted_as_faster_whisper_does(self) -> None:
        from faster_whisper import WhisperModel

        random = np.random.default_rng(2)
        tokenizer = SimpleNamespace(timestamp_begin=self.BEGIN)
        whisper = SimpleNamespace(time_precision=0.02, input_stride=2)
        for _ in range(500):
            # As Whisper is held to: it begins with a stamp, and stamps never go back.
            stamps = iter(np.sort(random.integers(1, 700, size=12)))
            tokens = [self.BEGIN]
            for _ in range(random.integers(1, 5)):
                tokens += [int(token) for token in random.integers(0, 900, size=random.integers(1, 4))]
                stamp = self.BEGIN + int(next(stamps))
                tokens += [stamp] * int(random.integers(0, 3))
            theirs, seek, through = WhisperModel._split_segments_by_timestamps(
                whisper, tokenizer, tokens, 0.0, 1500, 15.0, 0
            )
            parts, ours = split_at_stamps(tokens, self.BEGIN, 15 * RATE)
            assert [part for _, _, part in parts] == [segment["tokens"] for segment in theirs]
            assert [start / RATE for start, _, _ in parts] == pytest.approx([each["start"] for each in theirs])
            assert (ours is None) == (through or seek == 1500)
            assert ours is None or ours / RATE == pytest.approx(seek / 100)


class TestSegments:
    WINDOW = Window(10 * RATE, 20 * RATE, ((10 * RATE, 13 * RATE), (15 * RATE, 20 * RATE)))

    @pytest.mark.parametrize(
        ("start", "end", "expected"),
        [
            (10.0, 12.0, (10.0, 12.0)),
            (12.0, 14.0, (12.0, 13.0)),
            (13.5, 16.0, (15.0, 16.0)),
            (12.0, 17.0, (12.0, 17.0)),
            (19.0, 20.0, (19.0, 20.0)),
            (13.2, 14.8, (13.2, 14.8)),
        ],
    )
    def test_times_are_moved_into_the_speech_and_no_words_are_dropped(
        self, start: float, end: float, expected: tuple[float, float]
    ) -> None:
        made = segment_of(piece(start, end), found(self.WINDOW), 0.0)
        assert (made.start_s, made.end_s) == expected

    def test_time_never_runs_backwards(self) -> None:
        made = segment_of(piece(10.5, 11.0), found(self.WINDOW), 11.5)
        assert (made.start_s, made.end_s) == (11.5, 11.5)

    def test_what_is_not_a_number_is_unknown(self) -> None:
        nan = float("nan")
        made = segment_of(piece(10, 11), found(self.WINDOW, avg_logprob=nan, no_speech_prob=nan), 0.0)
        assert (made.confidence, made.avg_logprob, made.no_speech_prob) == (None,) * 3
        word = {"word": " a", "start": 0.1, "end": 0.2, "probability": nan}
        assert [each.probability for each in words_of([word], 0.0)] == [None]

    def test_a_positive_log_probability_is_no_more_than_certain(self) -> None:
        assert segment_of(piece(10, 11), found(self.WINDOW, avg_logprob=0.01), 0.0).confidence == 1.0


class TestLoops:
    WINDOW = Window(0, 6 * RATE, ((0, 6 * RATE),))
    SENTENCE = piece(0, 6, "hold the line please all our lines are taken " * 2, tokens=24)

    def test_what_is_said_slowly_may_repeat_itself(self) -> None:
        assert not is_loop(found(self.WINDOW, self.SENTENCE))

    def test_more_than_can_be_said_is_a_loop(self) -> None:
        assert is_loop(found(self.WINDOW, piece(0, 6, "la", tokens=90)))

    def test_so_is_what_is_repeated_in_a_hurry(self) -> None:
        tokens = (*range(18), *range(18))
        assert is_loop(found(self.WINDOW, Piece(0, 6 * RATE, "words", tokens)))
        assert not is_loop(found(self.WINDOW, Piece(0, 6 * RATE, "words", tuple(range(36)))))

    def test_words_need_room(self) -> None:
        said = piece(0, 5.8, "the people are the same " * 4)
        assert not is_crammed(found(self.WINDOW, said))
        assert is_crammed(found(self.WINDOW, said, piece(5.8, 6.0, "the people are the same as they were")))
        assert is_crammed(found(self.WINDOW, piece(0, 6, "a " * 20), piece(0.5, 6)))
        assert not is_crammed(found(self.WINDOW, said, piece(5.8, 6.0, "yes they are")))

    def decoded(
        self, engine: FasterWhisperEngine, monkeypatch: pytest.MonkeyPatch, *answers: Found
    ) -> tuple[Found, list[tuple[bool, int]]]:
        asked, given = [], iter(answers)

        def answer(self: Any, audio: Any, windows: Any, *, full: bool = False, no_repeat: int = 0) -> list[Found]:
            asked.append((full, no_repeat))
            return [next(given)]

        monkeypatch.setattr(_Decoder, "_pass", answer)
        decoder = _Decoder(engine._whisper, "tiny", EngineOptions("en"), "en", Counter())
        return decoder.decode(np.zeros(6 * RATE, np.float32), [self.WINDOW])[0], asked

    def test_a_loop_is_decoded_in_full_length_and_then_without_repetition(
        self, engine: FasterWhisperEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        loop, good = found(self.WINDOW, piece(0, 6, "la", tokens=90)), found(self.WINDOW, piece(0, 6))
        assert self.decoded(engine, monkeypatch, loop, good) == (good, [(False, 0), (True, 0)])
        assert self.decoded(engine, monkeypatch, loop, loop, good) == (good, [(False, 0), (True, 0), (True, 4)])

    def test_a_doubted_window_keeps_the_surer_text(
        self, engine: FasterWhisperEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        doubted = found(self.WINDOW, piece(0, 6, "mumble"), avg_logprob=-1.2)
        worse, better = (found(self.WINDOW, piece(0, 6), avg_logprob=value) for value in (-1.4, -0.7))
        assert self.decoded(engine, monkeypatch, doubted, worse)[0] == doubted
        assert self.decoded(engine, monkeypatch, doubted, better)[0] == better

    def test_a_window_that_is_probably_silence_is_dropped(
        self, engine: FasterWhisperEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        silence = found(self.WINDOW, piece(0, 6, "you"), no_speech_prob=0.9, avg_logprob=-1.4)
        unsure = found(self.WINDOW, piece(0, 6, "you"), no_speech_prob=0.9, avg_logprob=-0.4)
        assert self.decoded(engine, monkeypatch, silence, silence)[0].pieces == ()
        assert self.decoded(engine, monkeypatch, unsure)[0].pieces == unsure.pieces

    def test_the_real_last_try_repeats_nothing(
        self, engine: FasterWhisperEngine, river: np.ndarray, spans: list[Span], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        said: list[list[int]] = []
        real = faster_whisper.split_at_stamps
        monkeypatch.setattr(
            faster_whisper, "split_at_stamps", lambda tokens, *rest: said.append(tokens) or real(tokens, *rest)
        )
        decoder = _Decoder(engine._whisper, "tiny", EngineOptions("en"), "en", Counter())
        decoder._pass(river, windows_of(river, spans)[:2], full=True, no_repeat=2)
        for tokens in said:
            pairs = list(pairwise(tokens))
            assert len(pairs) == len(set(pairs)) > 0


class TestLoading:
    def captured(self, monkeypatch: pytest.MonkeyPatch, gpus: int) -> dict[str, Any]:
        import ctranslate2
        import faster_whisper as library

        taken: dict[str, Any] = {}

        def fake(folder: str, **named: Any) -> Any:
            taken.update(named)
            return SimpleNamespace(
                model=SimpleNamespace(n_mels=80), feature_extractor=SimpleNamespace(mel_filters=[0] * 80)
            )

        monkeypatch.setattr(library, "WhisperModel", fake)
        monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: gpus)
        return taken

    @pytest.mark.parametrize(
        ("request_", "gpus", "device", "compute_type", "threads"),
        [
            (ResourceRequest(num_cpus=1), 0, "cpu", "int8", 1),
            (ResourceRequest(num_cpus=0.25), 0, "cpu", "int8", 1),
            (ResourceRequest(num_cpus=3.5), 2, "cpu", "int8", 3),
            (ResourceRequest(num_gpus=1), 0, "cpu", "int8", 1),
            (ResourceRequest(num_gpus=0.5), 1, "cuda", "float16", 1),
        ],
    )
    def test_device_and_threads_follow_from_the_resources(
        self,
        tiny: Path,
        monkeypatch: pytest.MonkeyPatch,
        request_: ResourceRequest,
        gpus: int,
        device: str,
        compute_type: str,
        threads: int,
    ) -> None:
        taken = self.captured(monkeypatch, gpus)
        load(str(tiny), request_)
        assert taken == {"device": device, "compute_type": compute_type, "cpu_threads": threads, "num_workers": 1}

    def test_a_folder_without_a_model_names_what_is_missing(self, tmp_path: Path) -> None:
        (tmp_path / "model.safetensors").touch()
        with pytest.raises(SetupError, match=r"model\.bin, config\.json, tokenizer\.json, vocabulary\.json missing"):
            load(str(tmp_path), ResourceRequest())

    def test_a_missing_tokenizer_is_never_asked_for_on_the_hub(self, tiny: Path, tmp_path: Path) -> None:
        shutil.copytree(tiny, tmp_path / "model")
        (tmp_path / "model" / "tokenizer.json").unlink()
        with pytest.raises(SetupError, match=r"format: tokenizer\.json missing"):
            load(str(tmp_path / "model"), ResourceRequest())

    @pytest.mark.parametrize("name", ["model.bin", "tokenizer.json", "vocabulary.json"])
    def test_a_damaged_file_is_a_set_up_error(self, tiny: Path, tmp_path: Path, name: str) -> None:
        folder = tmp_path / "model"
        shutil.copytree(tiny, folder)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(SetupError, match="can't be loaded") as caught:
            load(str(folder), ResourceRequest())
        assert caught.value.failure_class == "config"

    def test_the_wrong_mel_bands_are_named(self, tiny: Path, tmp_path: Path) -> None:
        folder = tmp_path / "model"
        shutil.copytree(tiny, folder)
        (folder / "preprocessor_config.json").write_text(json.dumps({"feature_size": 128}))
        with pytest.raises(SetupError, match=r"wants 80 mel bands, its preprocessor_config\.json says 128"):
            load(str(folder), ResourceRequest())

    @pytest.mark.parametrize(
        ("text", "kind", "failure_class"),
        [
            ("CUDA failed with error out of memory", ResourceError, "resource"),
            ("Library libcublas.so.12 is not found or cannot be loaded", SetupError, "config"),
            ("something else", ProcessingError, "transient"),
        ],
    )
    def test_errors_while_decoding_become_ours(
        self,
        engine: FasterWhisperEngine,
        river: np.ndarray,
        monkeypatch: pytest.MonkeyPatch,
        text: str,
        kind: type[TraxRayError],
        failure_class: str,
    ) -> None:
        def fail(*args: Any, **named: Any) -> None:
            raise RuntimeError(text)

        monkeypatch.setattr(engine._whisper, "encode", fail)
        for language in ("en", None):
            with pytest.raises(kind) as caught:
                list(engine.transcribe(river, [Span(0, 2)], EngineOptions(language)))
            assert caught.value.failure_class == failure_class

    @pytest.mark.long
    def test_the_128_band_shape_of_large_models_works(self, tmp_path: Path, river: np.ndarray) -> None:
        folder = make_tiny_whisper(tmp_path, n_mels=128, n_layers=2, n_decoder_layers=1)
        assert list(load(str(folder), ResourceRequest()).transcribe(river, [Span(0, 25)], EngineOptions("en")))


Answer = Callable[[BaseHTTPRequestHandler], None]


class Hub:
    """A hub on loopback whose answers a test chooses."""

    def __init__(self) -> None:
        self.answer: Answer = lambda request: request.send_error(404)
        self.requests: list[str] = []
        self.closing = threading.Event()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.requests.append(f"{self.command} {self.path}")
                hub.answer(self)

            def do_HEAD(self) -> None:
                self.do_GET()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def hang(self, request: BaseHTTPRequestHandler) -> None:
        self.closing.wait(30)

    def close(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()


def there(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    for name, value in {"ETag": '"abc"', "X-Repo-Commit": COMMIT, "Content-Length": "1000"}.items():
        request.send_header(name, value)
    request.end_headers()


def sign_in_page(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Length", "12")
    request.end_headers()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    from huggingface_hub import constants

    made = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", made.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield made
    made.close()


def put_into_cache(cache: Path, model: Path) -> Path:
    """Lay a model's files into Hugging Face's cache as `base`."""
    folder = cache / f"models--{BASE.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    shutil.copytree(model, folder / "snapshots" / COMMIT)
    return folder / "snapshots" / COMMIT


class TestWeights:
    def test_the_names_are_those_of_faster_whisper(self) -> None:
        from faster_whisper import utils

        assert utils._MODELS == weights.WHISPER_REPOSITORIES

    def test_cached_weights_are_found_and_loaded_without_a_request(self, hub: Hub, tiny: Path, tmp_path: Path) -> None:
        from huggingface_hub import try_to_load_from_cache

        assert not weights.weights_at_hand("base")
        folder = put_into_cache(tmp_path / "cache", tiny)
        assert try_to_load_from_cache(BASE, "model.bin") == str(folder / "model.bin")
        assert weights.weights_at_hand("base")
        assert not weights.weights_at_hand("small")
        assert load("base", ResourceRequest()).model == "base"
        assert hub.requests == []

    def test_half_a_download_is_not_at_hand(self, hub: Hub, tiny: Path, tmp_path: Path) -> None:
        (put_into_cache(tmp_path / "cache", tiny) / "model.bin").unlink()
        assert not weights.weights_at_hand("base")

    def test_a_folder_is_at_hand_when_it_is_complete(self, tiny: Path, tmp_path: Path) -> None:
        assert weights.weights_at_hand(str(tiny))
        assert not weights.weights_at_hand(str(tmp_path))
        assert not weights.weights_at_hand("nonsense")

    @pytest.mark.parametrize(
        ("answer", "expected"),
        [(there, True), (sign_in_page, False)]
        + [(lambda request, status=status: request.send_error(status), False) for status in (401, 404, 429, 503)],
    )
    def test_they_are_to_be_had_where_the_hub_says_so(self, hub: Hub, answer: Answer, expected: bool) -> None:
        hub.answer = answer
        assert weights.weights_to_be_had("base", 5.0) is expected
        assert f"HEAD /{BASE}/resolve/main/model.bin" in hub.requests

    def test_a_hub_that_hangs_costs_no_more_than_the_time_allowed(self, hub: Hub) -> None:
        hub.answer = hub.hang
        started = time.monotonic()
        assert not weights.weights_to_be_had("base", 0.5)
        assert time.monotonic() - started < 5.0

    def test_a_closed_port_is_an_answer(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        started = time.monotonic()
        assert not weights.weights_to_be_had("base")
        assert time.monotonic() - started < 5.0

    def test_offline_mode_asks_nobody(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        hub.answer = there
        assert not weights.weights_to_be_had("base")
        assert hub.requests == []

    def test_without_weights_loading_names_the_ways_out_in_time(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.answer = hub.hang
        monkeypatch.setattr(faster_whisper, "PROBE_S", 0.5)
        started = time.monotonic()
        with pytest.raises(SetupError) as caught:
            load("base", ResourceRequest())
        assert time.monotonic() - started < 5.0
        assert (caught.value.failure_class, caught.value.code) == ("config", "no_weights")
        for way in ("OPENAI_API_KEY", "folder", "--model pocketsphinx"):
            assert way in str(caught.value)

    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (OSError(28, "No space left on device"), DiskFull),
            (PermissionError(13, "Permission denied"), SetupError),
            (ConnectionResetError(104, "Connection reset by peer"), NetworkError),
            (RuntimeError("Data processing error: CAS service error"), NetworkError),
        ],
    )
    def test_a_download_that_breaks_off(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[TraxRayError]
    ) -> None:
        import faster_whisper as library

        def fail(model: str) -> str:
            raise error

        hub.answer = there
        monkeypatch.setattr(library, "download_model", fail)
        with pytest.raises(kind):
            load("base", ResourceRequest())

    def test_weights_are_downloaded(self, hub: Hub, tiny: Path, tmp_path: Path) -> None:
        """The real client in a fresh process, which takes the hub's address from the environment."""
        hub.answer = lambda request: serve(request, tiny)
        script = (
            "import trax_ray.providers.faster_whisper_engine as f; from trax_ray.core.task import ResourceRequest; "
            "print(f.load('base', ResourceRequest()).model)"
        )
        environment = os.environ | {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_XET": "1",
        }
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout) == (0, "base\n"), done.stderr
        assert f"GET /{BASE}/resolve/{COMMIT}/model.bin" in hub.requests


def serve(request: BaseHTTPRequestHandler, model: Path) -> None:
    """Answer as the hub does: what the repository is, what is in it, and its files."""
    files = {path.name: path.read_bytes() for path in model.iterdir()}
    head = {"X-Repo-Commit": COMMIT, "Content-Type": "application/json"}
    if "/resolve/" in request.path:
        name = request.path.rpartition("/")[2]
        body = files.get(name, b"")
        head["ETag"] = f'"{name}"'
    elif "/tree/" in request.path:
        body = json.dumps(
            [{"type": "file", "path": name, "size": len(data), "oid": name} for name, data in files.items()]
        ).encode()
    else:
        body = json.dumps(
            {"id": BASE, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files], "tags": []}
        ).encode()
    request.send_response(200)
    for name, value in (head | {"Content-Length": str(len(body))}).items():
        request.send_header(name, value)
    request.end_headers()
    if request.command == "GET":
        request.wfile.write(body)


class TestChoice:
    def test_a_key_comes_first(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-none-at-all")
        assert choice.choose_model() == "whisper-1"
        assert hub.requests == []

    def test_then_weights_at_hand(self, hub: Hub, tiny: Path, tmp_path: Path) -> None:
        put_into_cache(tmp_path / "cache", tiny)
        assert choice.choose_model() == "base"
        assert hub.requests == []

    def test_then_weights_that_can_be_had(self, hub: Hub) -> None:
        hub.answer = there
        assert choice.choose_model() == "base"

    def test_choosing_loads_nothing_heavy(self, tmp_path: Path) -> None:
        script = (
            "import sys; from trax_ray.providers.choice import weights_at_hand; weights_at_hand('base'); "
            "print({'faster_whisper', 'ctranslate2', 'numpy', 'httpx', 'httpx2', 'requests'} & set(sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout == "set()\n"


class TestResources:
    @pytest.mark.parametrize(
        ("model", "measured_mb"),
        [("tiny", 420), ("base", 563), ("small", 854), ("medium", 1603), ("turbo", 1698)],
    )
    def test_the_request_covers_what_was_measured(self, model: str, measured_mb: int) -> None:
        provider = registry.provider_of(model)
        assert measured_mb * 1.1 <= provider.resources(model).memory_mb <= measured_mb * 1.6 + 256

    def test_every_name_has_a_figure_and_a_distilled_model_needs_less(self) -> None:
        figures = {name: registry.provider_of(name).resources(name).memory_mb for name in weights.WHISPER_REPOSITORIES}
        assert figures["distil-large-v3"] < figures["large-v3"]
        assert figures["turbo"] == figures["large-v3-turbo"] < figures["large-v3"]
        assert figures["base"] == figures["base.en"] < figures["small"] < figures["medium"] < figures["large"]

    def test_a_folder_is_judged_by_its_weights(self, tiny: Path) -> None:
        assert registry.provider_of(str(tiny)).resources(str(tiny)).memory_mb <= 768

    def test_a_gpu_is_asked_for_only_where_there_is_one_and_it_is_of_use(self) -> None:
        def gpus(model: str, has: float) -> float:
            return registry.provider_of(model).resources(model, gpus=has).num_gpus

        assert registry.provider_of("base").resources("base").num_gpus == 0.0
        assert [gpus("base", has) for has in (0.0, 0.5, 1.0, 8.0)] == [0.0, 0.5, 1.0, 1.0]
        assert gpus("pocketsphinx", 4.0) == gpus("whisper-1", 4.0) == 0.0
