"""What DeepSeek's text models cost, and when they cost more."""

from __future__ import annotations

from datetime import date

from trax_ray.core.policy.schedule import PeakHours
from trax_ray.providers.prices import Price, PriceList

__all__ = ["PRICES", "is_peak"]

PEAK_HOURS_UTC = frozenset({1, 2, 3, 6, 7, 8, 9})
"""Hours at double price, Monday to Friday: 01:00-04:00 and 06:00-10:00. Chinese public holidays are off-peak too; they
aren't known here, so that costs on those days come out too high."""


def is_peak(at: float) -> bool:
    """Whether DeepSeek charges double.

    Args:
        at: Seconds since the epoch.
    """
    return PeakHours(PEAK_HOURS_UTC).hold(at)


_FLASH = Price(
    text_input=0.15,
    cached_input=0.003,
    output=0.60,
    peak=Price(text_input=0.30, cached_input=0.006, output=1.20),
)

PRICES = PriceList(
    as_of=date(2026, 11, 26),
    hosts=(".deepseek.com",),
    peak_hours=PeakHours(PEAK_HOURS_UTC),
    rows={
        "deepseek-flash": _FLASH,
        "deepseek-v4-flash": _FLASH,
        "deepseek-v4-pro": Price(
            text_input=0.66,
            cached_input=0.022,
            output=1.98,
            peak=Price(text_input=1.32, cached_input=0.044, output=3.96),
        ),
    },
)
"""Source: api-docs.deepseek.com/quick_start/pricing, for the prices, the peak hours, and that deepseek-v4-flash is
billed as flash."""
