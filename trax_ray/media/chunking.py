"""Decide where to cut a long recording, while it is read once.

`CutRule` and `choose_cut` are the decision, pure; `ChunkPlanner` feeds them from a stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from trax_ray.media.speech import SAMPLE_RATE_HZ, Span
from trax_ray.media.vad import SILENCE, WINDOW, Detector, SileroDetector

__all__ = ["FRAME", "ChunkPlanner", "CutRule", "choose_cut", "quietest"]

Audio = npt.NDArray[np.float32]

FRAME = 320
"""Samples per level (20 ms)."""

SEARCH_S = 30.0
"""A cut is looked for in the last 30 s before the limit, but at most in the last quarter of a chunk."""

MIN_TAIL_S = 10.0
"""No last chunk is shorter than this, or than a quarter of a chunk, where that can be avoided."""

_MIN_SILENCE = 6
"""Windows (192 ms): a shorter pause lies inside a word as often as between two."""


@dataclass(frozen=True, slots=True)
class CutRule:
    """Where a cut may lie. All figures are samples at 16,000 Hz.

    Args:
        limit: The longest chunk.
        search: How far before the limit a cut may lie, below `limit`.
        tail: The shortest last chunk, where avoidable; `search + tail` is at most half of `limit`.
    """

    limit: int
    search: int
    tail: int

    @classmethod
    def of(cls, chunk_size_s: float) -> CutRule:
        """The rule for chunks of at most `chunk_size_s` seconds (at least 1)."""
        if not chunk_size_s >= 1.0:
            raise ValueError(f"expected a chunk size of at least 1 s, got {chunk_size_s}")
        quarter_s = chunk_size_s / 4
        limit, search, tail = chunk_size_s, min(SEARCH_S, quarter_s), min(MIN_TAIL_S, quarter_s)
        return cls(*(int(value * SAMPLE_RATE_HZ) for value in (limit, search, tail)))

    def window(self, start: int, known: int, *, ended: bool) -> tuple[int, int] | None:
        """Where the chunk that begins at `start` may be cut.

        Args:
            start: Where the chunk begins.
            known: How far the recording has been read.
            ended: Whether that is its end.

        Returns:
            (low, high) with start < low <= high <= start + limit; None when the rest fits into one chunk or
            more must be read to decide.
        """
        rest = known - start
        if rest <= self.limit or (not ended and rest < self.limit + self.tail):
            return None
        high = start + min(self.limit, rest - self.tail)
        return max(start + 1, high - self.search), high


def choose_cut(low: int, high: int, speech: npt.NDArray[np.float32], levels: npt.NDArray[np.float32]) -> int:
    """The middle of the longest silence, else the quietest frame. Pure.

    Args:
        low: First sample where a cut may lie.
        high: Last one.
        speech: Speech probability of each window of 512 samples, from sample 0 on.
        levels: Level of each frame of 320 samples, from sample 0 on.

    Returns:
        A sample with low <= cut <= high. Of equally long silences the last one counts.
    """
    first, last = -(-low // WINDOW), high // WINDOW
    longest, middle = 0, 0
    run = 0
    for index in range(first, min(last, len(speech))):
        run = run + 1 if speech[index] < SILENCE else 0
        if run and run >= longest:
            longest, middle = run, (index + 1) * WINDOW - run * WINDOW // 2
    if longest >= _MIN_SILENCE:
        return middle
    first, last = -(-low // FRAME), high // FRAME
    frames = levels[first:last]
    if not len(frames):
        return high
    quiet = len(frames) - 1 - int(np.argmin(frames[::-1]))
    return (first + quiet) * FRAME + FRAME // 2


def quietest(audio: Audio, low: int, high: int) -> int:
    """The middle of the quietest 20 ms of `audio` between two samples; for speech that must be cut."""
    return choose_cut(low, high, np.ones(0, dtype=np.float32), _levels(audio))


class ChunkPlanner:
    """Cut points of a recording that is fed block by block; it keeps figures, never audio.

    Args:
        chunk_size_s: The longest chunk in seconds, at least 1.
        detector: What tells speech from silence; None for Silero VAD.
    """

    def __init__(self, chunk_size_s: float = 600.0, *, detector: Detector | None = None) -> None:
        self.rule = CutRule.of(chunk_size_s)
        self._detector: Detector = detector if detector is not None else SileroDetector()
        self._cuts = [0]
        self._known = 0
        self._base = 0  # the sample that the figures begin at, a multiple of both WINDOW and FRAME
        self._speech: npt.NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        self._levels: npt.NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        self._rest: Audio = np.zeros(0, dtype=np.float32)

    @property
    def duration_s(self) -> float:
        """Seconds fed so far."""
        return self._known / SAMPLE_RATE_HZ

    def feed(self, block: Audio) -> list[Span]:
        """Take the next samples.

        Args:
            block: float32, shape (n_samples,), mono, [-1, 1], at 16,000 Hz.

        Returns:
            The chunks whose ends became certain; usually none.
        """
        self._known += len(block)
        self._speech = np.concatenate([self._speech, self._detector.feed(block)])
        samples = np.concatenate([self._rest, block])
        whole = len(samples) - len(samples) % FRAME
        self._rest = samples[whole:].copy()
        self._levels = np.concatenate([self._levels, _levels(samples[:whole])])
        return self._advance(ended=False)

    def finish(self) -> list[Span]:
        """Say that the recording has ended.

        Returns:
            All chunks: they cover [0, duration) in order without gap or overlap; none for no samples.
        """
        self._speech = np.concatenate([self._speech, self._detector.finish()])
        self._advance(ended=True)
        if self._known > self._cuts[-1]:
            self._cuts.append(self._known)
        return self._spans(0)

    def _advance(self, *, ended: bool) -> list[Span]:
        before = len(self._cuts)
        while (window := self.rule.window(self._cuts[-1], self._known, ended=ended)) is not None:
            low, high = (sample - self._base for sample in window)
            cut = choose_cut(low, high, self._speech, self._levels) + self._base
            self._cuts.append(cut)
            step = WINDOW * FRAME
            drop = (cut - self._base) // step * step
            self._speech = self._speech[drop // WINDOW :]
            self._levels = self._levels[drop // FRAME :]
            self._base += drop
        return self._spans(before - 1)

    def _spans(self, first: int) -> list[Span]:
        cuts = self._cuts[first:]
        return [Span(a / SAMPLE_RATE_HZ, b / SAMPLE_RATE_HZ) for a, b in pairwise(cuts)]


def _levels(samples: Audio) -> npt.NDArray[np.float32]:
    """Mean square of each whole frame of 20 ms."""
    frames = samples[: len(samples) - len(samples) % FRAME].reshape(-1, FRAME)
    return np.asarray((frames * frames).mean(axis=1), dtype=np.float32)
