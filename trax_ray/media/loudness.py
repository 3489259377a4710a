"""Loudness of a recording, and one loudness for all, by EBU R128.

Measured and limited by FFmpeg's own filters, `ebur128` and `alimiter`. It takes two passes: what is loud at the end
isn't known at the beginning, and a filter that guesses (`loudnorm` in one pass) makes a speaker's voice swell and fade.
The gain is one for all of the recording. Source: EBU R 128, EBU Tech 3341; FFmpeg, af_loudnorm.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from trax_ray.media.speech import SAMPLE_RATE_HZ

__all__ = ["CEILING_DBFS", "MOST_GAIN_DB", "TARGET_LUFS", "Loudness", "Meter", "levelled"]

Audio = npt.NDArray[np.float32]

TARGET_LUFS = -23.0
"""Source: EBU R 128."""

CEILING_DBFS = -1.0
"""No sample is louder. Source: EBU R 128, maximum permitted true peak level."""

MOST_GAIN_DB = 40.0
"""A recording of nothing isn't made loud."""

_GATE_LUFS = -70.0
"""What is as soft as this all along has no loudness. Source: EBU Tech 3341, absolute gate."""

_KEY = "lavfi.r128.I"


@dataclass(frozen=True, slots=True)
class Loudness:
    """How loud a recording is.

    Args:
        lufs: Integrated loudness; None where it is silent, or shorter than 0.4 s.
        peak: The largest magnitude of a sample, 0-1.
    """

    lufs: float | None
    peak: float

    @property
    def gain_db(self) -> float:
        """What brings it to `TARGET_LUFS`, at most `MOST_GAIN_DB`; 0.0 where it has no loudness."""
        return 0.0 if self.lufs is None else round(min(MOST_GAIN_DB, TARGET_LUFS - self.lufs), 2)

    @property
    def needs_limit(self) -> bool:
        """Whether its peaks, with that gain, would be above `CEILING_DBFS`."""
        return self.gain_db > 0.0 and self.peak * _factor(self.gain_db) > _factor(CEILING_DBFS)


class Meter:
    """Measures a recording block by block; a context manager."""

    def __init__(self) -> None:
        self._told = tempfile.NamedTemporaryFile("r")  # noqa: SIM115 - closed with this
        # What the filter finds is in the frames' metadata, which PyAV shows from 18 on: another filter writes it down.
        written = {"mode": "print", "key": _KEY, "file": self._told.name, "direct": "1"}
        self._graph = _Graph(("ebur128", {"metadata": "1"}), ("ametadata", written))
        self._peak = 0.0
        self._lufs = _GATE_LUFS

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._told.close()

    def feed(self, block: Audio) -> None:
        """Take the next samples: float32, shape (n_samples,), mono, [-1, 1], at 16,000 Hz."""
        self._peak = max(self._peak, float(np.abs(block).max(initial=0.0)))
        self._take(self._graph.through(block))

    def finish(self) -> Loudness:
        """What was found."""
        self._take(self._graph.through(None))
        return Loudness(round(self._lufs, 2) if self._lufs > _GATE_LUFS else None, round(self._peak, 6))

    def _take(self, frames: Iterable[Any]) -> None:
        for _ in frames:
            pass
        for line in self._told:
            name, _, value = line.partition("=")
            if name == _KEY:
                self._lufs = float(value)


def levelled(blocks: Iterable[Audio], loudness: Loudness) -> Iterator[Audio]:
    """Bring a recording to `TARGET_LUFS`.

    Args:
        blocks: Each as `Meter.feed` takes it.
        loudness: Of all of it.

    Yields:
        As many blocks, each as long as the one that came in.
    """
    factor = np.float32(_factor(loudness.gain_db))
    if not loudness.needs_limit:
        for block in blocks:
            yield block * factor
        return
    limit = {"limit": f"{_factor(CEILING_DBFS):.6f}", "level": "0", "latency": "1"}
    graph = _Graph(("alimiter", limit))
    held: Audio = np.zeros(0, dtype=np.float32)
    lengths: list[int] = []
    for block in blocks:
        lengths.append(len(block))
        held = _joined(held, graph.through(block * factor))
        while lengths and len(held) >= lengths[0]:
            first = lengths.pop(0)
            yield held[:first]
            held = held[first:]
    held = _joined(held, graph.through(None))
    for length in lengths:
        rest, held = held[:length], held[length:]
        yield np.pad(rest, (0, length - len(rest)))


def _joined(held: Audio, frames: Iterable[Any]) -> Audio:
    return np.concatenate([held, *(frame.to_ndarray().reshape(-1) for frame in frames)]).astype(np.float32)


def _factor(decibels: float) -> float:
    return float(10.0 ** (decibels / 20.0))


class _Graph:
    """FFmpeg's filters, one behind the other, for mono audio at 16,000 Hz."""

    def __init__(self, *filters: tuple[str, Mapping[str, str]]) -> None:
        from av.filter import Graph

        self._graph: Any = Graph()
        shape = {"sample_fmts": "flt", "sample_rates": str(SAMPLE_RATE_HZ), "channel_layouts": "mono"}
        source = self._graph.add_abuffer(
            format="flt", sample_rate=SAMPLE_RATE_HZ, layout="mono", time_base=Fraction(1, SAMPLE_RATE_HZ)
        )
        chain = [source, *(self._graph.add(name, **given) for name, given in (*filters, ("aformat", shape)))]
        chain.append(self._graph.add("abuffersink"))
        for one, other in pairwise(chain):
            one.link_to(other)
        self._graph.configure()
        self._sent = 0

    def through(self, block: Audio | None) -> Iterator[Any]:
        """What comes out for a block; None ends it."""
        import av

        if block is not None and not len(block):
            return
        frame = None
        if block is not None:
            samples = np.ascontiguousarray(block[None], dtype=np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="flt", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE_HZ, self._sent, Fraction(1, SAMPLE_RATE_HZ)
            self._sent += len(block)
        self._graph.push(frame)
        while True:
            try:
                yield self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
