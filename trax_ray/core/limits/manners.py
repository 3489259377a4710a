"""How a host of the web is asked that nobody has an agreement with: few requests at once, and pauses between them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trax_ray.core.limits.signals import ProviderSignal, usable

__all__ = ["HOST_REQUESTS", "Manners"]

HOST_REQUESTS = 2
"""Recordings that are fetched from one host at the same time, where nobody says. Browsers open six connections to a
host, podcast programs one or two."""


@dataclass(slots=True)
class Manners:
    """What is kept to with one host.

    A site that shuts out who asks in haste says so nowhere; whoever fetches knows it by its name, and the signal of
    each request to it says how long to leave it alone (`pause_s`). From then on it gets one request at a time, unless
    somebody asked for more.

    Args:
        together: Whether several may run at the same time in spite of pauses: somebody asked for that.
        one_by_one: Whether the host is one that gets pauses.
        free_at: Until when it is left alone, seconds.
    """

    together: bool = False
    one_by_one: bool = False
    free_at: float = -math.inf

    def on_signal(self, signal: ProviderSignal, now: float) -> None:
        """A request came back."""
        if usable(signal.pause_s) and signal.pause_s > 0:
            self.one_by_one = not self.together
            self.free_at = max(self.free_at, now + signal.pause_s)

    def room(self, room: int, running: int, now: float) -> int:
        """Of so many requests that might start beside those that run, the ones that may."""
        if now < self.free_at:
            return 0
        return min(room, 1 - running) if self.one_by_one else room

    def why(self, now: float) -> str:
        """Why no more start, in words for a person; empty where nothing is in the way."""
        if now < self.free_at:
            return f"politeness: the next request in {self.free_at - now:.0f} s (--host-pause)"
        return ""
