"""Levels and bandwidth: the same as librosa's, without its start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import librosa
import numpy as np
import numpy.typing as npt
import pytest

from trax_ray.media import decode
from trax_ray.media.analysis import FRAME, HOP, Analyser, _rms, _rolloff_hz
from trax_ray.media.speech import SAMPLE_RATE_HZ

Audio = npt.NDArray[np.float32]

BIN_HZ = SAMPLE_RATE_HZ / FRAME


def speech(samples: Path) -> Audio:
    return decode.read(samples / "stories" / "the_river.ogg", end_s=30.0)


def noise(samples: Path) -> Audio:
    return np.random.default_rng(1).normal(0, 0.1, 5 * SAMPLE_RATE_HZ).astype(np.float32)


def tone_and_silence(samples: Path) -> Audio:
    times = np.arange(3 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    return np.concatenate([0.5 * np.sin(2 * np.pi * 1000 * times), np.zeros(SAMPLE_RATE_HZ)]).astype(np.float32)


@pytest.mark.long
@pytest.mark.parametrize("make", [speech, noise, tone_and_silence])
def test_levels_and_rolloff_are_librosas(make: object, samples: Path) -> None:
    """Levels to a ten-thousandth; the roll-off to one bin of 15.6 Hz, and to the bin in 99 of 100 frames."""
    audio = make(samples)  # type: ignore[operator]
    frames = np.lib.stride_tricks.sliding_window_view(audio, FRAME)[::HOP]
    levels = librosa.feature.rms(y=audio, frame_length=FRAME, hop_length=HOP, center=False)[0]
    np.testing.assert_allclose(_rms(frames), levels, rtol=1e-4, atol=1e-7)
    assert _rms(frames).dtype == np.float32
    rolloff = librosa.feature.spectral_rolloff(
        y=audio, sr=SAMPLE_RATE_HZ, n_fft=FRAME, hop_length=HOP, center=False, roll_percent=0.99
    )[0]
    apart = np.abs(_rolloff_hz(frames) - rolloff)
    assert apart.max() <= BIN_HZ
    assert (apart == 0).mean() >= 0.99


@pytest.mark.parametrize("size", [1, FRAME - 1, FRAME, 3 * SAMPLE_RATE_HZ])
def test_blocks_of_any_size_say_about_the_same(size: int, samples: Path) -> None:
    audio = speech(samples)[: 20 * SAMPLE_RATE_HZ]
    audio = audio[: size * 2000] if size == 1 else audio
    analyser = Analyser()
    for at in range(0, len(audio), size):
        analyser.feed(audio[at : at + size])
    whole = Analyser()
    whole.feed(audio)
    assert analyser.figures()["peak_dbfs"] == whole.figures()["peak_dbfs"]
    assert analyser.figures()["loudness_dbfs"] == whole.figures()["loudness_dbfs"]
    if size > FRAME:
        assert analyser.figures()["bandwidth_hz"] == pytest.approx(whole.figures()["bandwidth_hz"], abs=5 * BIN_HZ)


def test_a_long_block_is_as_many_short_ones(samples: Path) -> None:
    """However many frames are looked at together."""
    audio = np.concatenate([speech(samples)] * 3)
    analyser = Analyser()
    analyser.feed(audio)
    frames = np.lib.stride_tricks.sliding_window_view(audio, FRAME)[::HOP]
    np.testing.assert_array_equal(np.concatenate(analyser._levels), _rms(frames))
    np.testing.assert_array_equal(np.concatenate(analyser._rolloff), _rolloff_hz(frames))


def test_a_worker_that_analyses_does_not_wait_for_librosa() -> None:
    program = """
import sys
import numpy as np
from trax_ray.media.analysis import Analyser
Analyser().feed(np.ones(16_000, dtype=np.float32))
print(sorted({"librosa", "numba", "scipy"} & set(sys.modules)))
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
