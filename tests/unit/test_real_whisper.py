"""A real Whisper, tiny.en, on small recordings on which words were lost or made up."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from trax_ray.core.policy.quality import uncovered
from trax_ray.core.task import ResourceRequest
from trax_ray.kinds.accuracy import count_errors
from trax_ray.media.decode import Audio, read
from trax_ray.media.vad import speech_spans
from trax_ray.providers import faster_whisper_engine as faster_whisper
from trax_ray.providers import weights
from trax_ray.providers.base import EngineOptions, Segment

RATE = 16_000
SPEECH_DIR = Path(os.environ.get("TRAX_RAY_SPEECH_DIR", Path(__file__).parents[3] / "shared" / "speech"))
QUILTER = "mr quilter is the apostle of the middle classes and we are glad to welcome his gospel"

pytestmark = [
    pytest.mark.skipif(weights.local_weights("tiny.en") is None, reason='install the extra "tiny"'),
]


@pytest.fixture(scope="module")
def engine() -> faster_whisper.FasterWhisperEngine:
    return faster_whisper.load("tiny.en", ResourceRequest())


@pytest.fixture(scope="module")
def cases() -> Path:
    folder = SPEECH_DIR.parent / "cases"
    if not folder.is_dir():
        pytest.skip(f"no cases beside {SPEECH_DIR}: set TRAX_RAY_SPEECH_DIR")
    return folder


def heard(engine: faster_whisper.FasterWhisperEngine, audio: Audio) -> list[Segment]:
    return list(engine.transcribe(audio, speech_spans(audio), EngineOptions()))


def text_of(segments: list[Segment]) -> str:
    return " ".join(segment.text for segment in segments)


def errors(reference: str, segments: list[Segment]) -> int:
    counted = count_errors(reference, text_of(segments))
    assert counted is not None
    return counted.errors


def bare_s(audio: Audio, segments: list[Segment]) -> float:
    spans = [(span.start_s, span.end_s) for span in speech_spans(audio)]
    found = uncovered(spans, [(each.start_s, each.end_s, each.text) for each in segments])
    return sum(end_s - start_s for start_s, end_s in found)


def test_where_the_decoder_stops_early_the_rest_is_decoded_too(
    engine: faster_whisper.FasterWhisperEngine, cases: Path
) -> None:
    audio = read(cases / "five-sentences-29s.opus")
    segments = heard(engine, audio)
    assert errors((cases / "five-sentences-29s.txt").read_text(), segments) <= 12
    assert len(text_of(segments).split()) >= 79
    assert bare_s(audio, segments) == 0.0


def test_coverage_tells_where_it_was_not(
    engine: faster_whisper.FasterWhisperEngine, cases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault brought back: what comes after the first segment of each window is dropped, as if it had been said."""
    audio = read(cases / "five-sentences-29s.opus")
    real = faster_whisper.split_at_stamps
    monkeypatch.setattr(faster_whisper, "split_at_stamps", lambda *given: (real(*given)[0][:1], None))
    monkeypatch.setattr(faster_whisper, "unheard", lambda found: [])
    segments = heard(engine, audio)
    assert len(text_of(segments).split()) < 70
    assert bare_s(audio, segments) > 4.0


def test_a_sentence_said_three_times_is_said_three_times(
    engine: faster_whisper.FasterWhisperEngine, cases: Path
) -> None:
    segments = heard(engine, read(cases / "sentence-said-three-times.opus"))
    assert text_of(segments).lower().count("welcome his gospel") == 3
    assert len(text_of(segments).split()) == 51


@pytest.mark.parametrize("frequency_hz", [100, 1000])
@pytest.mark.parametrize("louder_db", [8, 16])
def test_speech_below_a_steady_tone_is_heard(
    engine: faster_whisper.FasterWhisperEngine, frequency_hz: int, louder_db: int
) -> None:
    if not SPEECH_DIR.is_dir():
        pytest.skip(f"no recorded speech at {SPEECH_DIR}: set TRAX_RAY_SPEECH_DIR")
    speech = read(SPEECH_DIR / "english" / "read" / "quilter.wav")
    level = np.sqrt((speech**2).mean()) * 10 ** (louder_db / 20) * np.sqrt(2)
    tone = level * np.sin(2 * np.pi * frequency_hz * np.arange(len(speech)) / RATE)
    mixed = (speech + tone).astype(np.float32)
    mixed *= 0.9 / np.abs(mixed).max()
    segments = heard(engine, mixed)
    assert errors(QUILTER, segments) <= (3 if frequency_hz == 100 else 8), text_of(segments)


@pytest.mark.parametrize("softer_db", [0, 20, 32])
def test_a_softer_voice_between_two_louder_ones_is_heard(
    engine: faster_whisper.FasterWhisperEngine, softer_db: int
) -> None:
    if not SPEECH_DIR.is_dir():
        pytest.skip(f"no recorded speech at {SPEECH_DIR}: set TRAX_RAY_SPEECH_DIR")
    loud = read(SPEECH_DIR / "english" / "audiobook" / "dashwood-0870.wav")
    soft = read(SPEECH_DIR / "english" / "read" / "quilter.wav") * np.float32(10 ** (-softer_db / 20))
    segments = heard(engine, np.concatenate([loud, soft, loud]))
    middle = [each for each in segments if len(loud) / RATE - 0.5 <= each.start_s < (len(loud) + len(soft)) / RATE - 1]
    assert "middle classes" in text_of(middle)


def test_the_far_side_of_a_call_is_heard(engine: faster_whisper.FasterWhisperEngine, cases: Path) -> None:
    segments = heard(engine, read(cases / "call-far-side-20dB-softer.opus"))
    assert "complaint against the wizard" in text_of(segments)


def test_a_last_sentence_is_not_said_once_more(engine: faster_whisper.FasterWhisperEngine, samples: Path) -> None:
    segments = heard(engine, read(samples / "talks" / "interview.m4a"))
    assert text_of(segments).lower().count("the machines are much better") == 1


def test_words_have_times_in_their_segments(engine: faster_whisper.FasterWhisperEngine, samples: Path) -> None:
    audio = read(samples / "talks" / "interview.m4a")
    segments = list(engine.transcribe(audio, speech_spans(audio), EngineOptions(word_timestamps=True)))
    for segment in segments:
        assert " ".join(word.text for word in segment.words) == segment.text
        assert segment.start_s <= segment.words[0].start_s
        assert segment.words[-1].end_s <= segment.end_s
    years = next(word for segment in segments for word in segment.words if "years" in word.text)
    assert years.start_s == pytest.approx(5.6, abs=0.8)


@pytest.mark.parametrize("name", ["quiet_room.flac"])
def test_no_word_is_made_up_in_silence(engine: faster_whisper.FasterWhisperEngine, samples: Path, name: str) -> None:
    assert heard(engine, read(samples / name)) == []
