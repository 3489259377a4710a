"""All specimens of the zoo, in the order of the table in `docs/media.md`."""

from __future__ import annotations

from tests.support.zoo.bench import Specimen
from tests.support.zoo.joined import CUT, JOINED, SPOILED
from tests.support.zoo.lying import LYING, SWELLING
from tests.support.zoo.strange import NAMED, NOT_MEDIA, POINTING, UNUSUAL

__all__ = ["SPECIMENS"]

SPECIMENS: dict[str, tuple[Specimen, ...]] = {
    "Unusual, and right": UNUSUAL,
    "Joined with `cat`": JOINED,
    "Cut off": CUT,
    "Spoiled": SPOILED,
    "Headers that lie": LYING,
    "More than they seem": SWELLING,
    "Pointing elsewhere": POINTING,
    "No recordings": NOT_MEDIA,
    "Names": NAMED,
}
"""By what is the matter with them."""
