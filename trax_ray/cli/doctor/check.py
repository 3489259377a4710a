"""One line of `trax-ray doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from trax_ray.report.text import one_line

__all__ = ["Check", "Verdict"]


class Verdict(str, Enum):
    """What a check comes to."""

    OK = "OK"
    NOTE = "note"
    MISSING = "MISSING"


@dataclass(frozen=True, slots=True)
class Check:
    """One line.

    Args:
        verdict: MISSING means that no batch can run before it is mended; a note stops none.
        topic: What was looked at.
        text: What was found.
        way_out: What to do; empty where there is nothing to do.
    """

    verdict: Verdict
    topic: str
    text: str
    way_out: str = ""

    @property
    def line(self) -> str:
        """The check as it is printed."""
        text = f"{self.text}: {self.way_out}" if self.way_out else self.text
        return one_line(f"{self.verdict.value:<8} {self.topic:<14} {text}")
