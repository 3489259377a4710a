"""Frames of decoded audio: mixed, cut and made. What FFmpeg gives and takes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from trax_ray.media.speech import SAMPLE_RATE_HZ

__all__ = ["Pool", "aligned", "listened", "planes_of", "resampled", "resampler", "shape_of", "silence", "zero_of"]


def shape_of(frame: Any) -> tuple[Any, ...]:
    return frame.sample_rate, frame.format.name, frame.layout.name, frame.layout.nb_channels


def resampler() -> Any:
    from av.audio.resampler import AudioResampler

    return AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE_HZ)


class Pool:
    """Puts frames of one shape together to about a second.

    Each call into FFmpeg costs more than what it does with the thousand samples of a frame. Measured: 44.1 kHz MP3 is
    decoded in half the time.
    """

    def __init__(self) -> None:
        self._fifo: Any = None

    def add(self, frame: Any) -> Iterator[Any]:
        """Take a frame, whose time doesn't matter any more; what is enough for a call."""
        if frame.samples >= frame.sample_rate or frame.layout.name.endswith(" channels"):
            yield from self.rest()
            yield frame
            return
        if self._fifo is None:
            from av.audio.fifo import AudioFifo

            self._fifo = AudioFifo()
        self._fifo.write(frame)
        if self._fifo.samples >= frame.sample_rate:
            yield from self.rest()

    def rest(self) -> Iterator[Any]:
        """What is left."""
        if self._fifo is not None and self._fifo.samples:
            frame = self._fifo.read()
            frame.pts = None
            yield frame


def resampler_to(frame: Any) -> Any:
    """To doubles, and nothing else."""
    from av.audio.resampler import AudioResampler

    return AudioResampler(format="dblp", layout=frame.layout.name, rate=frame.sample_rate)


def resampled(resampler: Any, frame: Any) -> Iterator[npt.NDArray[np.int16]]:
    if resampler is None:
        return
    for part in resampler.resample(frame):
        yield part.to_ndarray().reshape(-1)


def listened(frame: Any, channel: int | None, *, alone: bool = False) -> Any:
    """What is wanted of a frame: one of its channels. Where it hasn't that one, all, or silence in its place.

    All are the mean of them where FFmpeg knows no layout for their number, such as 9, and else left to the resampler.
    """
    if frame.format.name in ("s64", "s64p"):  # of which PyAV makes no array
        (frame,) = resampler_to(frame).resample(frame)
    if channel is not None and channel < frame.layout.nb_channels > 1:
        return _like(frame, planes_of(frame)[channel][None], layout="mono", format_name=frame.format.packed.name)
    if alone and channel:
        return _silent(frame)
    if not frame.layout.name.endswith(" channels"):
        return frame
    planes = planes_of(frame)
    mean = planes.mean(axis=0, dtype=np.float64).astype(planes.dtype)
    return _like(frame, mean[None], layout="mono", format_name=frame.format.packed.name)


def _silent(frame: Any) -> Any:
    """A mono frame that is as long, without a sound."""
    planes = planes_of(frame)[:1]
    silent = np.full_like(planes, zero_of(frame))
    return _like(frame, silent, layout="mono", format_name=frame.format.packed.name)


def zero_of(frame: Any) -> int:
    """What silence is in a frame's format."""
    return 128 if frame.format.name in ("u8", "u8p") else 0


def planes_of(frame: Any) -> npt.NDArray[Any]:
    """A frame's samples, shape (channels, samples)."""
    planes: npt.NDArray[Any] = frame.to_ndarray()
    return planes if frame.format.is_planar else planes.reshape(-1, frame.layout.nb_channels).T


def aligned(frame: Any, index: int) -> tuple[Any, int]:
    """Drop samples at the front until the index falls on a sample of the 16 kHz grid; (None, index) if none is left."""
    step = frame.sample_rate // math.gcd(frame.sample_rate, SAMPLE_RATE_HZ)
    drop = -index % step
    if drop == 0:
        return frame, index
    if drop >= frame.samples:
        return None, index
    planes = frame.to_ndarray()
    channels = 1 if frame.format.is_planar else frame.layout.nb_channels
    return _like(frame, planes[:, drop * channels :]), index + drop


def _like(frame: Any, planes: npt.NDArray[Any], *, layout: str = "", format_name: str = "") -> Any:
    """A frame of these samples with another frame's rate and, unless given, its format and layout."""
    import av

    made = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(planes), format=format_name or frame.format.name, layout=layout or frame.layout.name
    )
    made.sample_rate = frame.sample_rate
    return made


def silence(frame: Any, index: int, samples: int) -> Iterator[tuple[int, Any]]:
    """Silent frames of at most a second, `samples` long in all, in the format of `frame`."""
    if not samples:  # as nearly always
        return
    planes = frame.to_ndarray()
    zero = zero_of(frame)
    width = 1 if frame.format.is_planar else frame.layout.nb_channels
    while samples:
        part = min(samples, frame.sample_rate)
        yield index, _like(frame, np.full((planes.shape[0], part * width), zero, dtype=planes.dtype))
        index += part
        samples -= part
