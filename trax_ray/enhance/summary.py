"""A summary of a transcript, in a file of its own: a title, five points, chapters whose times exist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trax_ray.media.speech import Segment

__all__ = ["Chapter", "Summary", "read_summary", "summary_messages"]


@dataclass(frozen=True, slots=True)
class Chapter:
    """A chapter: where it begins, and what it is called.

    Args:
        start_s: The beginning of a segment, seconds.
        title: One line.
    """

    start_s: float
    title: str


@dataclass(frozen=True, slots=True)
class Summary:
    """A checked summary.

    Args:
        title: One line.
        points: What is said, one line each.
        chapters: In order of time.
        problem: Why an answer can't be used; None where it can.
        reason: The same as a sentence, for people and for a second asking.
    """

    title: str = ""
    points: tuple[str, ...] = ()
    chapters: tuple[Chapter, ...] = ()
    problem: str | None = None
    reason: str = ""

    def markdown(self) -> str:
        """The file `NAME.summary.md`."""
        return f"# {self.title}\n"


def summary_messages(
    segments: Sequence[Segment], *, language: str | None = None, reasons: Sequence[str] = ()
) -> list[dict[str, str]]:
    """The messages that ask a model for a summary."""
    return [{"role": "system", "content": "Summarise."}, {"role": "user", "content": ""}]


def read_summary(text: str | None, segments: Sequence[Segment], *, finish_reason: str | None = None) -> Summary:
    """An answer as a summary, checked: every chapter begins where a segment does."""
    return Summary(problem="wrong_json", reason="The answer was not the JSON that was asked for.")
