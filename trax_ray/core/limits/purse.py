"""The money of a batch: one cap over all providers that it pays. Amounts are whole billionths of a US dollar."""

from __future__ import annotations

from dataclasses import dataclass

from trax_ray.core.limits.signals import usable

__all__ = ["NANO", "Purse", "nano_of"]

NANO = 1_000_000_000
"""Billionths in a US dollar: sums of whole numbers come out the same in any order."""


def nano_of(usd: float | None) -> int:
    """An amount in billionths; 0 where none is known."""
    return round(usd * NANO) if usable(usd) else 0


@dataclass(slots=True)
class Purse:
    """What may be spent, what is, and what requests in flight will take, by their estimates.

    Args:
        most: The cap; None for none.
        spent: By all providers together.
        reserved: For all requests in flight.
    """

    most: int | None = None
    spent: int = 0
    reserved: int = 0

    def limit(self, usd: float | None) -> None:
        """Set the cap, as of a later run."""
        self.most = None if usd is None else round(usd * NANO)

    def allows(self, estimate_usd: float | None) -> bool:
        """Whether the money suffices for one more request, those in flight counted by their estimates."""
        if self.most is None:
            return True
        total = self.spent + self.reserved
        return total < self.most and total + nano_of(estimate_usd) <= self.most
