"""What can be said of a recording before anybody transcribes it: level, noise, clipping, bandwidth.

Figures are kept, audio isn't: blocks of any size, memory for one level per 32 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trax_ray.codes import WarningCode
from trax_ray.media.speech import SAMPLE_RATE_HZ

__all__ = ["Analyser", "combined"]

Audio = npt.NDArray[np.float32]

FRAME = 1024
HOP = 512
"""Samples per level (64 ms) and from one to the next (32 ms)."""

ROLLOFF = 0.99

_WINDOW = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)).astype(np.float32)
"""Hann, periodic, as librosa's."""

_FRAMES_AT_ONCE = 512
"""16 s: a block of any size takes 8 MB more."""

CLIPPED = 0.999
"""A sample at or above this share of full scale counts as clipped."""

CLIPPING_SHARE = 1e-4
QUIET_PEAK_DBFS = -30.0
NOISY_SNR_DB = 10.0
TELEPHONE_HZ = 3_600.0
"""Telephone speech ends at 3.4 kHz (ITU-T G.711); what ends below this has lost what tells f from s."""

FLOOR_DBFS = -120.0


class Analyser:
    """Collects figures block by block."""

    def __init__(self) -> None:
        self._levels: list[Audio] = []
        self._rolloff: list[Audio] = []
        self._peak = 0.0
        self._clipped = 0
        self._samples = 0
        self._power = 0.0

    def feed(self, block: Audio) -> None:
        """Take the next samples: float32, shape (n_samples,), mono, [-1, 1], at 16,000 Hz."""
        if not len(block):
            return
        magnitudes = np.abs(block)
        self._peak = max(self._peak, float(magnitudes.max()))
        self._clipped += int(np.count_nonzero(magnitudes >= CLIPPED))
        self._samples += len(block)
        self._power += float(np.square(block, dtype=np.float64).sum())
        padded = block if len(block) >= FRAME else np.pad(block, (0, FRAME - len(block)))
        frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]
        for at in range(0, len(frames), _FRAMES_AT_ONCE):
            part = frames[at : at + _FRAMES_AT_ONCE]
            self._levels.append(_rms(part))
            self._rolloff.append(_rolloff_hz(part))

    def figures(self) -> dict[str, Any]:
        """What was found.

        Returns:
            `peak_dbfs`, `loudness_dbfs` (RMS of all), `noise_floor_dbfs` (10th percentile of levels), `snr_db`
            (90th over 10th percentile), `clipped_share` (0-1), `bandwidth_hz` (below which loud frames have 99 %
            of their energy) and the sorted list `warnings`: clipping, quiet, noisy, telephone_band.
        """
        levels = np.concatenate(self._levels) if self._levels else np.zeros(1, dtype=np.float32)
        rolloff = np.concatenate(self._rolloff) if self._rolloff else np.zeros(1, dtype=np.float32)
        low, high = (float(np.percentile(levels, share)) for share in (10, 90))
        loud = rolloff[levels >= high] if high > 0 else rolloff
        figures = {
            "peak_dbfs": _dbfs(self._peak),
            "loudness_dbfs": _dbfs((self._power / self._samples) ** 0.5 if self._samples else 0.0),
            "noise_floor_dbfs": _dbfs(low),
            "snr_db": round(_dbfs(high) - _dbfs(low), 1),
            "clipped_share": round(self._clipped / self._samples, 6) if self._samples else 0.0,
            "bandwidth_hz": round(float(np.percentile(loud, 90))),
        }
        return figures | {"warnings": _judge(figures)}


def combined(figures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of several channels as those of one recording.

    Args:
        figures: As `Analyser.figures` gives them, at least one.

    Returns:
        The same figures: of each the worst that any channel with sound has, and all warnings of those.
    """
    if len(figures) == 1:
        return figures[0]
    sounding = [each for each in figures if WarningCode.SILENCE not in each["warnings"]] or figures[:1]
    worst = {
        name: (min if name in ("snr_db", "bandwidth_hz", "loudness_dbfs", "peak_dbfs") else max)(
            each[name] for each in sounding
        )
        for name in sounding[0]
        if name != "warnings"
    }
    found = sorted({code for each in sounding for code in each["warnings"]})
    return worst | {"warnings": found}


# The next two are `librosa.feature.rms` and `spectral_rolloff`, with `center=False`. Librosa itself takes two seconds
# to its first answer in every process, and twenty where numba's cache is cold; a test holds these to it.


def _rms(frames: Audio) -> Audio:
    """The level of each frame: float32, shape (n_frames,), from frames of shape (n_frames, FRAME)."""
    return np.asarray(np.sqrt(np.square(frames).mean(axis=1)), dtype=np.float32)


def _rolloff_hz(frames: Audio) -> Audio:
    """The first frequency up to which each frame has `ROLLOFF` of the sum of its magnitudes, Hz; 0 for silence."""
    sums = np.abs(np.fft.rfft(frames * _WINDOW, axis=1)).cumsum(axis=1)
    first = np.argmax(sums >= ROLLOFF * sums[:, -1:], axis=1)
    return np.asarray(first * (SAMPLE_RATE_HZ / FRAME), dtype=np.float32)


def _dbfs(amplitude: float) -> float:
    return round(max(FLOOR_DBFS, 20.0 * float(np.log10(max(amplitude, 1e-12)))), 1)


def _judge(figures: dict[str, float]) -> list[WarningCode]:
    if figures["peak_dbfs"] <= FLOOR_DBFS:
        return [WarningCode.SILENCE]
    found = {
        WarningCode.CLIPPING: figures["clipped_share"] > CLIPPING_SHARE,
        WarningCode.QUIET: figures["peak_dbfs"] < QUIET_PEAK_DBFS,
        WarningCode.NOISY: figures["snr_db"] < NOISY_SNR_DB,
        WarningCode.TELEPHONE_BAND: figures["bandwidth_hz"] < TELEPHONE_HZ,
    }
    return sorted(name for name, holds in found.items() if holds)
