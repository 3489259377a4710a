"""pocketsphinx: independent of what was heard before, quiet, honest about its language, words in their places."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from trax_ray.core.task import ResourceRequest
from trax_ray.errors import ProcessingError, SetupError
from trax_ray.media import decode, vad
from trax_ray.media.speech import Segment, Span, Word
from trax_ray.providers import pocketsphinx
from trax_ray.providers.base import EngineOptions, SpeechEngine

WORDS = EngineOptions(word_timestamps=True)


@pytest.fixture(scope="module")
def engine() -> pocketsphinx.PocketsphinxEngine:
    return pocketsphinx.load("pocketsphinx", ResourceRequest())


def recognise(
    engine: SpeechEngine, audio: np.ndarray, options: EngineOptions = WORDS, speech: list[Span] | None = None
) -> list[Segment]:
    return list(engine.transcribe(audio, vad.speech_spans(audio) if speech is None else speech, options))


@pytest.fixture(scope="module")
def quilter(speech: Path) -> np.ndarray:
    return decode.read(speech / "english" / "read" / "quilter.wav")


@pytest.fixture(scope="module")
def cards(speech: Path) -> np.ndarray:
    return decode.read(speech / "english" / "read" / "cards-1.wav")


class TestEngine:
    def test_it_is_an_engine(self, engine: pocketsphinx.PocketsphinxEngine) -> None:
        assert isinstance(engine, SpeechEngine)
        assert (engine.name, engine.model) == ("pocketsphinx", "pocketsphinx")

    def test_no_spans_no_segments(self, engine: pocketsphinx.PocketsphinxEngine) -> None:
        assert recognise(engine, np.zeros(16_000, np.float32), speech=[]) == []

    @pytest.mark.parametrize("samples", [1, 100, 400, 2_000])
    def test_spans_too_short_for_a_word(self, engine: pocketsphinx.PocketsphinxEngine, samples: int) -> None:
        audio = np.zeros(16_000, np.float32)
        assert recognise(engine, audio, speech=[Span(0.5, 0.5 + samples / 16_000)]) == []

    @pytest.mark.parametrize("language", ["de", "fr-CA", "zh", "enm"])
    def test_other_languages(self, engine: pocketsphinx.PocketsphinxEngine, language: str) -> None:
        with pytest.raises(ProcessingError, match="pocketsphinx only knows English") as caught:
            engine.transcribe(np.zeros(16_000, np.float32), [], EngineOptions(language=language))
        assert (caught.value.failure_class, caught.value.code) == ("config", "unsupported_language")

    @pytest.mark.parametrize("language", [None, "en", "EN", "en-US", "en_gb", "english"])
    def test_english(self, engine: pocketsphinx.PocketsphinxEngine, language: str | None) -> None:
        assert list(engine.transcribe(np.zeros(16_000, np.float32), [], EngineOptions(language=language))) == []
        assert engine.language == "en"

    def test_stereo_is_refused(self, engine: pocketsphinx.PocketsphinxEngine) -> None:
        with pytest.raises(ValueError, match=r"expected mono, got shape \(2, 10\)"):
            engine.transcribe(np.zeros((2, 10), np.float32), [], WORDS)

    def test_a_missing_model_says_the_way_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(**_: object) -> None:
            raise RuntimeError("no model")

        monkeypatch.setattr("pocketsphinx.Decoder", fail)
        with pytest.raises(SetupError, match=r'pip install --force-reinstall "trax-ray\[pocketsphinx\]"'):
            pocketsphinx.load("pocketsphinx", ResourceRequest())

    def test_a_failure_inside_is_transient_and_leaves_a_fresh_decoder(self) -> None:
        class Failing:
            def start_utt(self) -> None:
                pass

            end_utt = reinit_feat = start_utt

            def process_raw(self, *_: object, **__: object) -> None:
                raise RuntimeError("inside")

        engine = pocketsphinx.PocketsphinxEngine()
        engine._decoder = Failing()
        audio = np.zeros(16_000, np.float32)
        with pytest.raises(ProcessingError, match=r"1\.0 s of audio at 0\.0 s: inside") as caught:
            recognise(engine, audio, speech=[Span(0.0, 1.0)])
        assert (caught.value.failure_class, caught.value.code) == ("transient", "engine_failed")
        assert recognise(engine, audio, speech=[Span(0.0, 0.02)]) == []


@pytest.mark.speech
class TestSpeech:
    def test_words_and_times(self, engine: pocketsphinx.PocketsphinxEngine, quilter: np.ndarray) -> None:
        segments = recognise(engine, quilter)
        text = " ".join(segment.text for segment in segments)
        assert "middle classes" in text
        assert "glad to welcome his gospel" in text
        assert not set("<>[]()") & set(text)
        words = [word for segment in segments for word in segment.words]
        assert [word.text for word in words] == text.split()
        assert all(0 < a.start_s < a.end_s <= b.start_s < 6.0 for a, b in pairwise(words))
        assert all(0.0 <= word.probability <= 1.0 for word in words if word.probability is not None)
        for segment in segments:
            assert (segment.start_s, segment.end_s) == (segment.words[0].start_s, segment.words[-1].end_s)
            assert segment.confidence == pytest.approx(np.mean([word.probability for word in segment.words]))

    def test_times_count_from_the_first_sample(
        self, engine: pocketsphinx.PocketsphinxEngine, cards: np.ndarray
    ) -> None:
        alone = recognise(engine, cards, speech=[Span(0.0, len(cards) / 16_000)])
        padded = np.concatenate([np.zeros(160_000, np.float32), cards])
        later = recognise(engine, padded, speech=[Span(10.0, len(padded) / 16_000)])
        assert [segment.text for segment in later] == [segment.text for segment in alone] == ["ten of clubs"]
        assert later[0].start_s == pytest.approx(alone[0].start_s + 10.0)

    def test_words_only_on_request(self, engine: pocketsphinx.PocketsphinxEngine, cards: np.ndarray) -> None:
        assert recognise(engine, cards, EngineOptions())[0].words == ()
        assert recognise(engine, cards)[0].words

    @pytest.mark.long
    def test_what_was_heard_before_does_not_matter(
        self, engine: pocketsphinx.PocketsphinxEngine, quilter: np.ndarray, cards: np.ndarray
    ) -> None:
        first = recognise(pocketsphinx.load("pocketsphinx", ResourceRequest()), quilter)
        recognise(engine, cards)
        noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
        recognise(engine, noise, speech=[Span(0.0, 1.0)])
        next(iter(engine.transcribe(cards, [Span(0.0, 1.0)], WORDS)), None)  # left early
        assert recognise(engine, quilter) == first

    def test_it_keeps_quiet(self, quilter: np.ndarray, cards: np.ndarray, capfd: pytest.CaptureFixture[str]) -> None:
        recognise(pocketsphinx.load("pocketsphinx", ResourceRequest()), cards)
        captured = capfd.readouterr()
        assert (captured.out, captured.err) == ("", "")

    @pytest.mark.long
    def test_long_speech_without_pauses(
        self, engine: pocketsphinx.PocketsphinxEngine, quilter: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pocketsphinx, "MAX_PIECE_S", 4.0)
        audio = np.tile(quilter[50_000:92_000], 3)
        segments = recognise(engine, audio, speech=[Span(0.0, len(audio) / 16_000)])
        assert " ".join(segment.text for segment in segments).count("gospel") >= 2
        assert 7.0 < segments[-1].end_s <= len(audio) / 16_000


class TestParts:
    @pytest.mark.parametrize("seconds", [0.0, 1.0, 20.0, 20.5, 25.0, 61.0, 200.0])
    def test_pieces_cover_a_span(self, seconds: float) -> None:
        audio = np.random.default_rng(0).standard_normal(round((seconds + 2) * 16_000)).astype(np.float32)
        pieces = list(pocketsphinx._pieces(audio, Span(1.0, 1.0 + seconds)))
        assert sum(end - start for start, end in pieces) == seconds * 16_000
        assert all(before[1] == after[0] for before, after in pairwise(pieces))
        assert all(0 < end - start <= 20 * 16_000 for start, end in pieces)
        if len(pieces) > 1:
            assert min(end - start for start, end in pieces) >= 4 * 16_000

    def test_pieces_stay_within_the_audio(self) -> None:
        assert list(pocketsphinx._pieces(np.zeros(16_000, np.float32), Span(0.5, 9.0))) == [(8_000, 16_000)]
        assert list(pocketsphinx._pieces(np.zeros(16_000, np.float32), Span(2.0, 9.0))) == []

    def test_segments_end_at_pauses(self) -> None:
        words = [Word(0.0, 0.5, "a", 0.5), Word(0.6, 1.0, "b", 1.0), Word(1.7, 2.0, "c", 0.2)]
        segments = pocketsphinx.segments_of(words)
        assert [(s.start_s, s.end_s, s.text, s.confidence) for s in segments] == [
            (0.0, 1.0, "a b", 0.75),
            (1.7, 2.0, "c", 0.2),
        ]
        assert pocketsphinx.segments_of([]) == []

    @pytest.mark.parametrize(
        ("word", "clean"),
        [
            ("and(2)", "and"),
            ("<s>", ""),
            ("</s>", ""),
            ("<sil>", ""),
            ("[NOISE]", ""),
            ("++UM++", ""),
            ("it's", "it's"),
        ],
    )
    def test_fillers_and_variants(self, word: str, clean: str) -> None:
        assert pocketsphinx._clean(word) == clean
