"""A clock that only moves when it is told to."""

from __future__ import annotations

__all__ = ["FakeClock"]


class FakeClock:
    """Seconds since the epoch, under the test's control.

    Args:
        now: Where it starts.
    """

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> float:
        """Move on; never back.

        Returns:
            The new time.
        """
        if seconds < 0:
            raise ValueError(f"time runs forward, got {seconds} s")
        self.now += seconds
        return self.now
