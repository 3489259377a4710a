"""The worst places of all that pass by, in memory for as many as a person hears."""

from __future__ import annotations

import heapq

from trax_ray.core.policy.spots import Spot

__all__ = ["MOST_SPOTS", "Ranking"]

MOST_SPOTS = 300
"""Places that the page lists."""


class Ranking:
    """As `rank_spots`, without keeping what wouldn't be listed.

    Args:
        most: How many it keeps.
    """

    def __init__(self, most: int = MOST_SPOTS) -> None:
        self.seen = 0
        self._most = most
        self._heap: list[tuple[float, int, int, Spot]] = []

    def add(self, file: int, spot: Spot) -> None:
        """See a place.

        Args:
            file: Number of its input, from 0, in the order of adding.
            spot: The place; of equal ones the earlier one is listed first.
        """
        self.seen += 1
        entry = (spot.words, -self.seen, file, spot)
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def worst_first(self) -> list[tuple[int, Spot]]:
        """The numbers of their inputs, and the places."""
        return [(file, spot) for _, _, file, spot in sorted(self._heap, key=lambda entry: (-entry[0], -entry[1]))]
