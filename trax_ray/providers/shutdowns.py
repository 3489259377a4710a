"""Models that their providers have announced to shut down. Nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase

__all__ = ["AS_OF", "SHUTDOWNS", "Shutdown", "shutdown_of"]

AS_OF = date(2026, 11, 20)
"""When the dates below were noted."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """One announcement.

    Args:
        models: A model's name, or a pattern with `*`.
        on: The first day without it.
        successor: What to take instead.
    """

    models: str
    on: date
    successor: str


SHUTDOWNS = (
    Shutdown("whisper-1", date(2027, 2, 26), "gpt-transcribe"),
    Shutdown("gpt-4o*-transcribe", date(2027, 2, 26), "gpt-transcribe"),
)
"""Source: the announcements on OpenAI's page of deprecations, platform.openai.com/docs/deprecations."""


def shutdown_of(model: str) -> Shutdown | None:
    """The announcement that concerns a model, if there is one."""
    return next((each for each in SHUTDOWNS if fnmatchcase(model, each.models)), None)
