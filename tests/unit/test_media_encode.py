"""Opus for services: fast, small, and the same sound."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from trax_ray.media import decode, encode
from trax_ray.media.speech import SAMPLE_RATE_HZ


def test_the_encoder_takes_the_complexity_that_it_is_given(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = decode.read(samples / "first_test.wav")
    ours = encode.opus(audio)
    assert len(ours) == len(encode.opus(audio))
    monkeypatch.setattr(encode, "COMPLEXITY", 10)
    assert len(encode.opus(audio)) < len(ours) < 1.6 * len(encode.opus(audio)), "FFmpeg's default works harder"


def test_what_is_sent_sounds_as_it_did(samples: Path) -> None:
    audio = decode.read(samples / "first_test.wav")
    heard, rate = soundfile.read(io.BytesIO(encode.wav(encode.opus(audio))), dtype="float32")
    assert rate == SAMPLE_RATE_HZ
    length = min(len(heard), len(audio))
    assert length >= len(audio) - SAMPLE_RATE_HZ // 50
    assert np.corrcoef(audio[:length], heard[:length])[0, 1] > 0.95
