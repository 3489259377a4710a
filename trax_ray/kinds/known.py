"""What a site has said of a recording, for the tasks that come after the one that asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trax_ray.kinds.assignment import Assignment
from trax_ray.kinds.codec import from_json
from trax_ray.store.artifacts import ArtifactStore

__all__ = ["INFO", "KIND", "FoundCaptions", "SiteSays", "captions_of_site", "info_of", "site_says"]

KIND = "youtube"
"""Name of the kind of task that asks sites."""

INFO = "info.json"
"""Beside the media: what yt-dlp knows of a recording, until it is fetched."""

MOST_CHAPTERS = 200
MOST_TAGS = 100
"""In an outcome; all of them are in the file of the recording."""


@dataclass(frozen=True, slots=True)
class FoundCaptions:
    """Captions that a publisher wrote.

    Args:
        text: All of them.
        type: Their media type, or the suffix of their file.
        language: Code of their language; empty where nobody says.
        origin: Where they are from: `publisher` (the recording's page), `feed`, or `file` (beside the recording).
    """

    text: str
    type: str = ""
    language: str = ""
    origin: str = "publisher"


@dataclass(frozen=True, slots=True)
class SiteSays:
    """What a site says of a recording: the metrics of a YOUTUBE task.

    Args:
        url: Where it is.
        title: Its title; empty here and below where the site doesn't say.
        channel: Who published it.
        uploaded_on: Day of its publication, YYYYMMDD.
        webpage: Its page.
        site_id: Its name at its site.
        duration_s: Its length, seconds; None here and below where the site doesn't say.
        view_count: How often it was seen.
        availability: Who may see it, such as `public` or `unlisted`.
        chapters: Second at which each begins, and its title.
        tags: What it is filed under.
        captions: Languages of the captions that the publisher offers.
        captions_from: Where captions were fetched that are to be its transcript; empty where none were.
        archive: Its names in an archive of downloads, of which the first one is ours to write.
        outputs: The file that a user gets, a path below the output folder.
        kept_outputs: A file that wasn't ours to replace, beside which ours went.
        cached: Whether it was known already.
    """

    url: str
    title: str = ""
    channel: str = ""
    uploaded_on: str = ""
    webpage: str = ""
    site_id: str = ""
    duration_s: float | None = None
    view_count: int | None = None
    availability: str = ""
    chapters: tuple[tuple[float, str], ...] = ()
    tags: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    captions_from: str = ""
    archive: tuple[str, ...] = ()
    outputs: tuple[str, ...] | None = None
    kept_outputs: tuple[str, ...] = ()
    cached: bool | None = None

    @classmethod
    def of(cls, url: str, info: Mapping[str, Any], **fields: Any) -> SiteSays:
        """From what yt-dlp says of it; anything may stand there."""
        chapters = [each for each in info.get("chapters") or () if isinstance(each, Mapping)]
        return cls(
            url=url,
            duration_s=_number(info.get("duration")),
            view_count=None if _number(info.get("view_count")) is None else int(info["view_count"]),
            availability=str(info.get("availability") or ""),
            chapters=tuple((_number(each.get("start_time")) or 0.0, str(each.get("title") or "")) for each in chapters)[
                :MOST_CHAPTERS
            ],
            tags=tuple(str(each) for each in info.get("tags") or ())[:MOST_TAGS],
            **fields,
        )


def site_says(assignment: Assignment) -> SiteSays | None:
    """What a task which this one depends on was told by a site; None where none asked."""
    for result in assignment.needed.values():
        if result.kind == KIND:
            return from_json(SiteSays, result.figures)
    return None


def captions_of_site(assignment: Assignment, store: ArtifactStore) -> FoundCaptions | None:
    """The captions that a task which this one depends on has fetched; None where it found none, or none are wanted."""
    for result in assignment.needed.values():
        if result.kind == KIND and result.figures.get("captions_from") and assignment.spec.captions != "never":
            payload = store.get(result.artifact_key) or {}
            return from_json(FoundCaptions, payload["found"]) if payload.get("found") else None
    return None


def info_of(assignment: Assignment, folder: Path) -> str:
    """What yt-dlp knows of a recording since its site was asked; empty where it wasn't, or nothing is left of it."""
    if site_says(assignment) is None:
        return ""
    try:
        return (folder / INFO).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
