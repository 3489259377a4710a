"""What goes to the process that fetches, and what comes back: plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["ANY_SITE", "MEDIA", "Entry", "Item", "Job", "Told"]

MEDIA = "media"
"""Stem of the file that is fetched, in its folder."""

ANY_SITE = ("Generic", "HTML5MediaEmbed")
"""What yt-dlp calls extractors that aren't of one site."""

_LIVE = ("is_live", "is_upcoming", "post_live")


@dataclass(frozen=True, slots=True)
class Job:
    """What to do.

    Args:
        url: What to fetch.
        task: `look` for what is known of it, `fetch` for the media too, `list` for what a playlist holds.
        folder: The folder into which all goes; nothing is written outside of it.
        allow_private_network: Whether any address may be reached, and not only public ones.
        cookies: All of a file with cookies; empty for none.
        max_items: How many entries to list; None for all.
        request_pause_s: Seconds between the requests by which a site's pages are read.
    """

    url: str
    task: str
    folder: str
    allow_private_network: bool = False
    cookies: str = ""
    max_items: int | None = None
    request_pause_s: float = 0.0

    def line(self) -> str:
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def read(cls, line: str) -> Job:
        return cls(**json.loads(line))


@dataclass(frozen=True, slots=True)
class Told:
    """How far a download is.

    Args:
        bytes: What has come.
        total_bytes: Of how many; 0 where the server doesn't say.
        site: What yt-dlp calls the site that it knows the address of; empty for any other: files, pages and feeds.
    """

    bytes: int
    total_bytes: int = 0
    site: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def fraction(self) -> float:
        """Share that is done, 0-1; 0 where nobody knows."""
        return min(1.0, self.bytes / self.total_bytes) if self.total_bytes else 0.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One recording of a playlist.

    Args:
        url: Its page or file.
        id: Its name at its site.
        title: Its title; empty where the list doesn't say.
        extractor: Which of yt-dlp's extractors knows it; empty for a plain URL.
        uploaded_on: Day of its publication, YYYYMMDD; empty where the list doesn't say.
        duration_s: Its length, seconds; None where the list doesn't say.
    """

    url: str
    id: str = ""
    title: str = ""
    extractor: str = ""
    uploaded_on: str = ""
    duration_s: float | None = None

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Entry:
        """From what yt-dlp says of it."""
        duration = info.get("duration")
        return cls(
            url=str(info.get("url") or info.get("webpage_url") or info.get("original_url") or ""),
            id=str(info.get("id") or ""),
            title=str(info.get("title") or ""),
            extractor=str(info.get("ie_key") or info.get("extractor_key") or ""),
            uploaded_on=str(info.get("upload_date") or ""),
            duration_s=float(duration) if isinstance(duration, int | float) else None,
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Item:
    """One recording of the web.

    Args:
        info: What its site says of it, by yt-dlp's names; only plain figures and texts.
        captions: Languages of the captions that the publisher offers.
        file: Name of the file that was fetched, in the folder; empty where only the site was asked.
    """

    info: dict[str, Any] = field(default_factory=dict)
    captions: tuple[str, ...] = ()
    file: str = ""

    @classmethod
    def of(cls, info: Mapping[str, Any], names: Sequence[str], file: str = "") -> Item:
        """From what yt-dlp says of it."""
        kept = {name: info[name] for name in names if info.get(name) is not None}
        captions = info.get("subtitles") or {}
        offered = tuple(sorted(str(language) for language in captions if language != "live_chat"))
        return cls(json.loads(json.dumps(kept, default=str)), offered, file)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Item:
        return cls(dict(data["info"]), tuple(data["captions"]), str(data["file"]))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def title(self) -> str:
        return str(self.info.get("title") or "")

    @property
    def live_status(self) -> str:
        return str(self.info.get("live_status") or "")

    @property
    def live(self) -> bool:
        """Whether it isn't a whole recording: it goes on, or hasn't begun."""
        return self.live_status in _LIVE
