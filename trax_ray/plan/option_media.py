"""Options: what of a recording is heard."""

from __future__ import annotations

from trax_ray.errors import UsageError
from trax_ray.plan.option import Option, not_empty, refused
from trax_ray.providers.languages import read_language

__all__ = ["MEDIA"]


def _track(given: str, label: str) -> str:
    given = not_empty(given, label).strip()
    if given.isascii() and given.isdecimal():
        if not 1 <= int(given) <= 1_000:
            raise refused(label, "a number from 1 (the first), or a language", given)
        return str(int(given))
    try:
        language = read_language(given)
    except UsageError as error:
        raise UsageError(f"{label}: {error.message}") from None
    if language is None:
        raise refused(label, "a number from 1 (the first), or a language", given)
    return language


MEDIA: tuple[Option, ...] = (
    Option(
        "channels",
        ("--channels",),
        str,
        "What is heard of several channels: mix, left, right, or split: each by itself, as one speaker. A mix in "
        "which channels cancel each other out is the better one of them.",
        "channels",
    ),
    Option(
        "audio_track",
        ("--audio-track",),
        str,
        "Of several sound tracks, the number of one, from 1, or its language, such as 2 or de.  [default: the one "
        "that holds the speech]",
        "audio_track",
        optional=True,
        read=_track,
        metavar="N|LANG",
    ),
    Option(
        "loudness",
        ("--loudness",),
        bool,
        "Bring recordings to -23 LUFS (EBU R128) where they are converted; sets --preprocess.",
        "loudness",
    ),
)
"""What of a recording is heard."""
