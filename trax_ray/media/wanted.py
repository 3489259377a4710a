"""What of a file is to be listened to, where somebody says so: a sound track, a channel. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ANYTHING", "Wanted", "number_of_track", "speaker_of"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a file is to be listened to.

    Args:
        track: Its sound track: a number, from 1, or a language, by its code; empty for the one that holds the speech.
        channel: Number of the channel, from 0; None for a mix of all, or for the better one where the mix hides
            something. What has no such channel is mixed.
        alone: Whether nothing but that channel will do: where it isn't there, there is silence.
    """

    track: str = ""
    channel: int | None = None
    alone: bool = False


ANYTHING = Wanted()
"""What is taken where nobody says anything."""


def speaker_of(channel: int, channels: int) -> str:
    """What a speaker is called who has a channel for himself."""
    return ("left", "right")[channel] if channels == 2 else f"channel {channel + 1}"


def number_of_track(wanted: str, languages: Sequence[str]) -> int | None:
    """Which of a file's sound tracks is meant.

    Args:
        wanted: As of `Wanted.track`.
        languages: The language of each, as the file says it: `ger`, `de-AT`, or nothing.

    Returns:
        Its number, from 0; of several in a language the first. The only one of a file that doesn't say its language is
        in any. None where there is none.
    """
    if wanted.isdecimal():
        number = int(wanted) - 1
        return number if number < len(languages) else None
    if len(languages) == 1 and not _language(languages[0]):
        return 0
    asked = _language(wanted)
    return next((number for number, each in enumerate(languages) if _language(each) == asked), None)


def _language(tag: str) -> str:
    """A language without country or script, by its shortest code; empty where a file doesn't say it."""
    import langcodes

    try:
        found = langcodes.Language.get(tag.strip().replace("_", "-")).language or ""
    except langcodes.LanguageTagError:
        return ""
    return "" if found in ("und", "mis", "zxx", "mul") else found
