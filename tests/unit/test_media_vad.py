"""Speech detection: none in silence, noise and tones; all of it in recorded speech, however quiet."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from trax_ray.media import decode, vad
from trax_ray.media.speech import Span

RATE = 16_000
SPEECH_DIR = Path(os.environ.get("TRAX_RAY_SPEECH_DIR", Path(__file__).parents[3] / "shared" / "speech"))


def recordings() -> list[Path]:
    if not SPEECH_DIR.is_dir():
        return []
    found = [path for folder in ("english", "languages") for path in (SPEECH_DIR / folder).rglob("*")]
    return sorted(path for path in found if path.suffix not in ("", ".txt"))


@pytest.fixture
def speech_dir() -> Path:
    if not SPEECH_DIR.is_dir():
        pytest.skip(f"no recorded speech at {SPEECH_DIR}: set TRAX_RAY_SPEECH_DIR")
    return SPEECH_DIR


def noise(kind: str, seconds: float = 20.0) -> np.ndarray:
    """Audio without speech, peak about 1."""
    n = int(seconds * RATE)
    t = np.arange(n) / RATE
    white = np.random.default_rng(7).standard_normal(n)
    if kind == "silence":
        return np.zeros(n, np.float32)
    if kind in ("pink", "brown"):
        power = 0.5 if kind == "pink" else 1.0
        spectrum = np.fft.rfft(white) / np.maximum(np.arange(n // 2 + 1), 1) ** power
        white = np.fft.irfft(spectrum, n)
        made = white / np.abs(white).max()
    elif kind == "white":
        made = white / np.abs(white).max()
    elif kind == "hum":
        made = sum(np.sin(2 * np.pi * 50 * k * t) / k for k in range(1, 6)) / 2
    elif kind == "tone":
        made = np.sin(2 * np.pi * 440 * t)
    elif kind == "pulsing tone":
        made = np.sin(2 * np.pi * 200 * t) * (1 + np.sin(2 * np.pi * 4 * t)) / 2
    else:
        made = np.sin(2 * np.pi * 1000 * t) * (t % 1 < 0.5)
    return made.astype(np.float32)


class TestNoSpeech:
    @pytest.mark.parametrize("level", [0.003, 0.1, 0.9])
    @pytest.mark.parametrize("kind", ["silence", "white", "pink", "brown", "hum", "tone", "pulsing tone", "beeps"])
    def test_noise_and_tones(self, kind: str, level: float) -> None:
        assert vad.speech_spans(noise(kind) * np.float32(level)) == []

    @pytest.mark.parametrize("samples", [0, 1, 511, 512, 513])
    def test_almost_nothing(self, samples: int) -> None:
        assert vad.speech_spans(np.zeros(samples, np.float32)) == []

    def test_a_recorded_room(self, speech_dir: Path) -> None:
        assert vad.speech_spans(decode.read(speech_dir / "silence" / "no-speech.wav")) == []

    test_a_recorded_room = pytest.mark.speech(test_a_recorded_room)

    def test_stereo_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"expected mono, got shape \(2, 100\)"):
            vad.speech_spans(np.zeros((2, 100), np.float32))


@pytest.mark.speech
class TestSpeech:
    @pytest.mark.parametrize("path", recordings(), ids=lambda path: path.name)
    def test_found_at_any_level(self, path: Path, speech_dir: Path) -> None:
        audio = decode.read(path)
        seconds = len(audio) / RATE
        loud = vad.total_s(vad.speech_spans(audio))
        assert loud > 0.7 * seconds
        for peak in (0.02, 0.002):
            quiet = (audio * (peak / np.abs(audio).max())).astype(np.float32)
            assert vad.total_s(vad.speech_spans(quiet)) > 0.9 * loud

    def test_silence_around_speech_is_left_out(self, speech_dir: Path) -> None:
        speech = decode.read(speech_dir / "english" / "read" / "quilter.wav")
        pause = noise("white", 5.0) * np.float32(0.003)
        spans = vad.speech_spans(np.concatenate([pause, speech, pause, speech, pause]))
        assert len(spans) == 2
        for span, start_s in zip(spans, (5.0, 10.0 + len(speech) / RATE), strict=True):
            assert start_s - 0.5 < span.start_s < start_s + 1.0
            assert span.start_s + 4.5 < span.end_s < start_s + len(speech) / RATE + 0.5

    def test_a_click_does_not_hide_quiet_speech(self, speech_dir: Path) -> None:
        audio = decode.read(speech_dir / "english" / "read" / "quilter.wav") * np.float32(0.005)
        clicked = audio.copy()
        clicked[1000] = 1.0
        assert vad.total_s(vad.speech_spans(clicked)) > 0.9 * vad.total_s(vad.speech_spans(audio))

    def test_the_audio_is_not_changed(self, speech_dir: Path) -> None:
        audio = decode.read(speech_dir / "english" / "read" / "quilter.wav") * np.float32(0.01)
        before = audio.copy()
        audio.flags.writeable = False
        vad.speech_spans(audio)
        assert np.array_equal(audio, before)

    def test_blocks_do_not_matter(self, speech_dir: Path) -> None:
        audio = decode.read(speech_dir / "english" / "read" / "quilter.wav")
        once, pieces = vad.SileroDetector(), vad.SileroDetector()
        whole = np.concatenate([once.feed(audio), once.finish()])
        cuts = [0, 100, 612, 5_000, 5_001, 50_000, len(audio)]
        parts = [pieces.feed(audio[a:b]) for a, b in pairwise(cuts)]
        assert np.allclose(np.concatenate([*parts, pieces.finish()]), whole, atol=1e-4)
        assert len(whole) == -(-len(audio) // vad.WINDOW)


class TestSpansOf:
    def spans(self, pattern: str, **options: float) -> list[tuple[float, float]]:
        """`#` is a window of speech, `-` of silence, `~` of neither; times in windows."""
        levels = {"#": 0.9, "~": 0.4, "-": 0.1}
        probabilities = np.array([levels[mark] for mark in pattern], np.float32)
        options = {"min_speech_s": 0.0, "min_silence_s": 0.0, "pad_s": 0.0} | options
        found = vad.spans_of(probabilities, len(pattern) * vad.WINDOW, **options)
        return [(span.start_s * RATE / vad.WINDOW, span.end_s * RATE / vad.WINDOW) for span in found]

    def test_two_thresholds(self) -> None:
        assert self.spans("--~##~~#~--~-#-") == [(3, 9), (13, 14)]

    def test_speech_up_to_the_end(self) -> None:
        assert self.spans("--##") == [(2, 4)]

    def test_short_pauses_are_bridged(self) -> None:
        assert self.spans("##--##---##", min_silence_s=0.08) == [(0, 6), (9, 11)]

    def test_short_speech_is_dropped(self) -> None:
        assert self.spans("-#--###-", min_speech_s=0.07) == [(4, 7)]

    def test_padding_meets_in_the_middle(self) -> None:
        assert self.spans("-##----##---", pad_s=0.032) == [(0, 4), (6, 10)]
        assert self.spans("-##----##---", pad_s=1.0) == [(0, 5), (5, 12)]

    def test_nothing(self) -> None:
        assert vad.spans_of(np.zeros(0, np.float32), 0) == []

    def test_total(self) -> None:
        assert vad.total_s([Span(1.0, 2.5), Span(4.0, 5.0)]) == 2.5


@pytest.mark.long
def test_memory_is_bounded_for_ten_minutes() -> None:
    """Beyond the array itself (38 MB) detection takes well under 60 MB; and it doesn't load faster_whisper."""
    script = (
        "import resource, sys, numpy as np\n"
        "from trax_ray.media import vad\n"
        "unit = 2**20 if sys.platform == 'darwin' else 2**10\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit\n"
        "vad.speech_spans(np.zeros(160_000, np.float32))\n"
        "audio = np.random.default_rng(0).standard_normal(9_600_000, dtype=np.float32) * np.float32(0.05)\n"
        "before = peak()\n"
        "vad.speech_spans(audio)\n"
        "print(peak() - before)\n"
        "assert not {'faster_whisper', 'ctranslate2', 'av'} & set(sys.modules)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout) < 60


class TestSecondLook:
    """Speech that the detector misses at first: softer than the rest, after another voice, below a tone."""

    @pytest.fixture
    def sentence(self, speech_dir: Path) -> np.ndarray:
        return decode.read(speech_dir / "english" / "read" / "quilter.wav")

    def within(self, audio: np.ndarray, start_s: float, end_s: float, **options: str) -> float:
        spans = vad.speech_spans(audio, **options)
        return sum(max(0.0, min(span.end_s, end_s) - max(span.start_s, start_s)) for span in spans)

    @pytest.mark.parametrize("softer_db", [12, 20, 32, 40])
    def test_a_softer_voice_is_found_whole(self, sentence: np.ndarray, softer_db: int) -> None:
        length_s = len(sentence) / RATE
        soft = sentence * np.float32(10 ** (-softer_db / 20))
        audio = np.concatenate([sentence, soft, sentence])
        alone = vad.total_s(vad.speech_spans(sentence))
        assert self.within(audio, length_s, 2 * length_s) >= 0.9 * alone

    def test_without_it_a_soft_one_is_lost(self, sentence: np.ndarray) -> None:
        """What `low` is for, and that the second look is what finds it."""
        length_s = len(sentence) / RATE
        audio = np.concatenate([sentence, sentence * np.float32(0.01), sentence])
        assert self.within(audio, length_s + 0.5, 2 * length_s - 0.5, sensitivity="low") < 1.0

    @pytest.mark.parametrize("frequency_hz", [50, 100, 440, 1000, 3000])
    @pytest.mark.parametrize("louder_db", [8, 16, 20])
    def test_speech_below_a_steady_tone_is_found(self, sentence: np.ndarray, frequency_hz: int, louder_db: int) -> None:
        level = np.sqrt((sentence**2).mean()) * 10 ** (louder_db / 20) * np.sqrt(2)
        mixed = sentence + level * np.sin(2 * np.pi * frequency_hz * np.arange(len(sentence)) / RATE)
        mixed = (mixed * 0.9 / np.abs(mixed).max()).astype(np.float32)
        assert vad.total_s(vad.speech_spans(mixed)) >= 4.5

    def test_an_offset_is_no_level(self, sentence: np.ndarray) -> None:
        quiet = sentence * np.float32(0.005)
        moved = quiet + np.float32(0.4)
        assert vad.total_s(vad.speech_spans(moved)) == pytest.approx(vad.total_s(vad.speech_spans(quiet)), abs=0.3)

    def test_off_takes_all_of_it(self) -> None:
        audio = noise("white", 3.0)
        assert vad.speech_spans(audio, sensitivity="off") == [Span(0.0, 3.0)]
        assert vad.speech_spans(audio[:0], sensitivity="off") == []

    def test_the_levels_are_those_of_the_batch(self) -> None:
        from trax_ray.core.spec import VAD_LEVELS

        assert {"off", *vad.SENSITIVITIES} == set(VAD_LEVELS)

    @pytest.mark.parametrize("level", [1e-3, 0.05, 0.5])
    @pytest.mark.parametrize("kind", ["white", "pink", "brown", "hum", "tone", "pulsing tone", "beeps"])
    def test_however_sensitive_noise_is_none(self, kind: str, level: float) -> None:
        assert vad.speech_spans(noise(kind) * np.float32(level)) == []
