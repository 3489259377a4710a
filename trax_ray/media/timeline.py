"""Where decoded audio belongs: what a jump of the timestamps means. Pure.

A gap becomes silence, so that later times stay those of the container. But timestamps are only numbers in a file, and
recordings that were joined, or were made to do harm, jump by hours: silence is filled in up to a bound.
"""

from __future__ import annotations

__all__ = ["MAX_GAP_S", "Timeline", "lead_s"]

MAX_GAP_S = 60.0
"""The longest gap that becomes silence, beyond what is known to be damaged there."""

SILENCE_TO_SOUND = 30.0
"""Filled in are at most `MAX_GAP_S` and this many times what was decoded: packets of a hundred bytes that stand a
minute apart would be a day in 150 kB. A radio channel that is recorded while somebody speaks stays below."""

_NOTED_S = 1.0
"""A jump that is left out, by more than this, is told."""


class Timeline:
    """The place of each decoded frame, from its timestamp and from what came before it.

    Args:
        tolerance_s: Timestamps may differ from the count by this much without meaning anything, seconds.
        at_s: Where the first frame belongs, seconds.
        last_s: No gap reaches beyond this; None where it isn't known.

    Attributes:
        at_s: Where what comes next belongs, seconds.
        filled_s: Seconds of silence that were filled in.
        left_out_s: Sum of the jumps forward that were left out, seconds.
        jumped: Whether a jump that matters was left out.
    """

    def __init__(self, tolerance_s: float, *, at_s: float = 0.0, last_s: float | None = None) -> None:
        self.at_s = at_s
        self.filled_s = 0.0
        self.left_out_s = 0.0
        self.jumped = False
        self._tolerance_s = tolerance_s
        self._last_s = last_s
        self._shift_s = 0.0
        self._heard_s = 0.0

    def gap_s(self, stamp_s: float, refused_s: float = 0.0) -> float:
        """The silence that belongs before a frame, seconds; 0.0 where none does.

        Args:
            stamp_s: The frame's timestamp, seconds from the same zero as `at_s`.
            refused_s: Length of the damaged packets before it, seconds.
        """
        lost_s = stamp_s - self._shift_s - self.at_s
        if abs(lost_s) <= self._tolerance_s:
            return 0.0
        if lost_s > 0 and self._is_silence(lost_s, refused_s):
            self.filled_s += lost_s
            self.at_s += lost_s
            return lost_s
        self._shift_s += lost_s
        self.left_out_s += max(0.0, lost_s)
        self.jumped |= abs(lost_s) > _NOTED_S
        return 0.0

    def heard(self, length_s: float) -> None:
        """A frame was decoded."""
        self.at_s += length_s
        self._heard_s += length_s

    def _is_silence(self, lost_s: float, refused_s: float) -> bool:
        if self._last_s is not None and self.at_s + lost_s > self._last_s:
            return False
        allowed_s = MAX_GAP_S + refused_s
        return lost_s <= allowed_s and self.filled_s + lost_s <= allowed_s + SILENCE_TO_SOUND * self._heard_s


def lead_s(first_s: float, start_s: float | None, *, from_zero: bool) -> float:
    """How late the audio begins, by its container's time.

    Args:
        first_s: Timestamp of the first frame, seconds.
        start_s: The earliest timestamp of all streams, seconds; None where it isn't known.
        from_zero: Whether the container's time begins at 0 (MP4, Matroska); else it begins with its first stream (TS).

    Returns:
        Seconds, 0.0 or more. Where all streams begin after `MAX_GAP_S` their times count from elsewhere, such as the
        time of day.
    """
    zero_s = first_s if start_s is None else min(first_s, start_s)
    if from_zero and 0.0 < zero_s <= MAX_GAP_S:
        zero_s = 0.0
    return first_s - zero_s
