"""Video files: their sound counts, their pictures don't."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from trax_ray.media.decode import stream


@pytest.mark.parametrize(("suffix", "codec", "loss"), [("mkv", "pcm_s16le", 1e-4), ("mp4", "aac", 0.05)])
def test_the_sound_of_a_video(tmp_path: Path, suffix: str, codec: str, loss: float) -> None:
    path = tmp_path / f"talk.{suffix}"
    seconds = np.arange(2 * 16_000) / 16_000
    tone = 0.5 * np.sin(2 * np.pi * 440 * seconds)
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        audio = container.add_stream(codec, rate=16_000, layout="mono")
        for number in range(20):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 10 * number, np.uint8), format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, 10)
            container.mux(video.encode(picture))
        sound = av.AudioFrame.from_ndarray(np.rint(tone * 32767).astype(np.int16)[None], format="s16", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = 16_000, 0, Fraction(1, 16_000)
        fifo = av.AudioFifo()
        fifo.write(sound)
        size = audio.codec_context.frame_size or 1024
        while (frame := fifo.read(size)) or (frame := fifo.read(partial=True) if fifo.samples else None):
            container.mux(audio.encode(frame))
        for each in (video, audio):
            container.mux(each.encode(None))
    with stream(path) as blocks:
        samples = np.concatenate(list(blocks))
    assert samples.size / 16_000 == pytest.approx(2.0, abs=0.1)
    middle = slice(8_000, 24_000)
    assert float(np.sqrt(np.mean(samples[middle] ** 2))) == pytest.approx(0.5 / np.sqrt(2), abs=loss)
