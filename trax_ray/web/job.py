"""What goes to the process that fetches, and what comes back: plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any

__all__ = ["ANY_SITE", "MEDIA", "Captions", "Entry", "Item", "Job", "Kept", "Told"]

MEDIA = "media"
"""Stem of the file that is fetched, in its folder."""

ANY_SITE = ("Generic", "HTML5MediaEmbed")
"""What yt-dlp calls extractors that aren't of one site."""

_LIVE = ("is_live", "is_upcoming", "post_live")


def _day(timestamp: Any) -> str:
    """The day of a time in seconds since the epoch, YYYYMMDD in UTC; empty where there is none."""
    if not isinstance(timestamp, int | float) or not 0 < timestamp < 1e11:
        return ""
    return datetime.fromtimestamp(timestamp, timezone.utc).strftime("%Y%m%d")


@dataclass(frozen=True, slots=True)
class Captions:
    """Captions that a publisher offers.

    Args:
        url: Where they are.
        type: Their media type, or the suffix of their file.
        language: Code of their language, such as `de` or `en-GB`; empty where nobody says.
        text: All of them, where they were fetched.
    """

    url: str
    type: str = ""
    language: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """A feed as it was when it was read last, for servers that say whether it has changed since.

    Args:
        url: Where it is.
        etag: What its server calls this state of it; empty for nothing.
        modified: When its server says that it last changed; empty for nothing.
        text: All of it, its bytes as characters.
    """

    url: str
    etag: str = ""
    modified: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """What to do.

    Args:
        url: What to fetch.
        task: `look` for what is known of it, `fetch` for the media too, `captions` for those alone, `expand` for the
            recordings behind `urls`.
        folder: The folder into which all goes; nothing is written outside of it.
        allow_private_network: Whether any address may be reached, and not only public ones.
        cookies: All of a file with cookies; empty for none.
        urls: What to expand.
        max_items: How many entries of each to list; None for all.
        since: The first day of entries to list, YYYYMMDD; empty for all.
        match: What the titles of entries to list hold, in any case; empty for all.
        kept: Feeds among the URLs as they were before.
        info: What an earlier `look` was told, to fetch without asking the site again; empty for nothing.
        languages: Languages of captions to fetch beside a `look`, the best first; None for no captions, empty for the
            recording's own.
        captions: The captions to fetch where somebody else than the site offers them.
        request_pause_s: Seconds between the requests by which a site's pages are read.
    """

    url: str
    task: str
    folder: str
    allow_private_network: bool = False
    cookies: str = ""
    urls: tuple[str, ...] = ()
    max_items: int | None = None
    since: str = ""
    match: str = ""
    kept: tuple[Kept, ...] = ()
    info: str = ""
    languages: tuple[str, ...] | None = None
    captions: tuple[Captions, ...] = ()
    request_pause_s: float = 0.0

    def line(self) -> str:
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def read(cls, line: str) -> Job:
        said = json.loads(line)
        said["urls"] = tuple(said["urls"])
        said["languages"] = None if said["languages"] is None else tuple(said["languages"])
        said["captions"] = tuple(Captions(**each) for each in said["captions"])
        said["kept"] = tuple(Kept(**each) for each in said["kept"])
        return cls(**said)


@dataclass(frozen=True, slots=True)
class Told:
    """How far a download is.

    Args:
        bytes: What has come.
        total_bytes: Of how many; 0 where the server doesn't say.
        site: What yt-dlp calls the site that it knows the address of; empty for any other: files, pages and feeds.
        loading: Whether nobody was asked yet: the process that fetches is being loaded.
    """

    bytes: int
    total_bytes: int = 0
    site: str = ""
    loading: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def fraction(self) -> float:
        """Share that is done, 0-1; 0 where nobody knows."""
        return min(1.0, self.bytes / self.total_bytes) if self.total_bytes else 0.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One recording of a playlist, a channel, a page or a feed; or of a URL that is one recording.

    Args:
        url: Its page or file.
        id: Its name at its site, or in its feed.
        title: Its title; empty where the list doesn't say.
        extractor: Which of yt-dlp's extractors knows it; empty for a plain URL.
        uploaded_on: Day of its publication, YYYYMMDD; empty where the list doesn't say.
        duration_s: Its length, seconds; None where the list doesn't say.
        key: What it is known by wherever it is named: the same in other lists, and where its URL has changed. Empty
            where nothing but its URL tells it.
        series: Title of the list.
        page: Its page, where `url` is its file; empty where nobody says.
        media: Whether `url` is its file, so that no site has to be asked about it.
        description: What its feed says of it.
        captions: The transcripts that its feed names.
        archive: Its names in an archive of downloads, of which the first one is ours to write.
    """

    url: str
    id: str = ""
    title: str = ""
    extractor: str = ""
    uploaded_on: str = ""
    duration_s: float | None = None
    key: str = ""
    series: str = ""
    page: str = ""
    media: bool = False
    description: str = ""
    captions: tuple[Captions, ...] = ()
    archive: tuple[str, ...] = ()

    @classmethod
    def of(cls, info: Mapping[str, Any], url: str = "") -> Entry:
        """From what yt-dlp says of it; `url` is its own where that is known."""
        duration = info.get("duration")
        formats = [each["url"] for each in info.get("formats") or () if each.get("url")]
        linked = info.get("url") if info.get("_type") in ("url", "url_transparent") else None
        page = url or linked or info.get("webpage_url")
        day = info.get("upload_date") or _day(info.get("timestamp") or info.get("release_timestamp"))
        return cls(
            url=str(page or info.get("url") or (formats[-1] if formats else "")),
            id=str(info.get("id") or ""),
            title=str(info.get("title") or ""),
            extractor=str(info.get("ie_key") or info.get("extractor_key") or ""),
            uploaded_on=str(day or ""),
            duration_s=float(duration) if isinstance(duration, int | float) else None,
            media=not page,
            archive=tuple(str(each) for each in info.get("_old_archive_ids") or ()),
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Entry:
        captions = tuple(Captions(**each) for each in data["captions"])
        return cls(**{**data, "captions": captions, "archive": tuple(data["archive"])})

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


MOST_TEXT = 100_000
"""Characters of one thing that a site says of a recording, and of its JSON where it isn't a text. Descriptions end at
5,000 on YouTube; a site that says more than this has something else in mind."""

MOST_NAMES = 1_000
"""Of languages of captions, and of names in an archive."""


def _plain(value: Any) -> Any:
    """What a site says, as JSON types: texts cut where they are too long, what else is too long left out (None)."""
    if value is None or isinstance(value, str):
        return value and value[:MOST_TEXT]
    text = json.dumps(value, default=str)
    return json.loads(text) if len(text) <= MOST_TEXT else None


@dataclass(frozen=True, slots=True)
class Item:
    """One recording of the web.

    Args:
        info: What its site says of it, by yt-dlp's names; only plain figures and texts.
        captions: Languages of the captions that the publisher offers.
        file: Name of the file that was fetched, in the folder; empty where only the site was asked.
        whole: All that yt-dlp knows after a `look`, for a `fetch` after it; empty after others. It may hold addresses
            that are secrets.
        taken: The captions that were fetched beside a `look`; None where there are none.
        archive: Its names in an archive of downloads: the one it has now, then those it had before.
    """

    info: dict[str, Any] = field(default_factory=dict)
    captions: tuple[str, ...] = ()
    file: str = ""
    whole: str = ""
    taken: Captions | None = None
    archive: tuple[str, ...] = ()

    @classmethod
    def of(cls, info: Mapping[str, Any], names: Sequence[str], file: str = "") -> Item:
        """From what yt-dlp says of it."""
        kept = {name: _plain(info.get(name)) for name in names}
        captions = info.get("subtitles") or {}
        offered = tuple(sorted(str(language) for language in captions if language != "live_chat"))
        key, own = info.get("extractor_key") or info.get("ie_key"), info.get("id")
        archive = ([f"{key.lower()} {own}"] if key and own else []) + [*(info.get("_old_archive_ids") or ())]
        said = {name: value for name, value in kept.items() if value is not None}
        return cls(said, offered[:MOST_NAMES], file, archive=tuple(map(str, archive[:MOST_NAMES])))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Item:
        taken = data.get("taken")
        return cls(
            dict(data["info"]),
            tuple(data["captions"]),
            str(data["file"]),
            str(data.get("whole") or ""),
            None if taken is None else Captions(**taken),
            tuple(data.get("archive") or ()),
        )

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
