"""Podcast feeds: the recordings that RSS and Atom name. Used in the process that fetches."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from trax_ray.codes import FailureCode
from trax_ray.web.errors import Unusable
from trax_ray.web.job import Captions, Entry

__all__ = ["Feed", "is_feed", "parse_feed"]

_MARKS = (b"<rss", b"<feed", b"<rdf:rdf")
_TYPES = ("application/rss+xml", "application/atom+xml", "application/rdf+xml")
_NOT_HEARD = ("image/", "text/", "application/pdf", "application/epub", "application/x-shockwave-flash", "font/")
_NAMESPACE = "podcastindex"
"""What the addresses of the podcast namespace have in common; there are three of them in use."""


@dataclass(frozen=True, slots=True)
class Feed:
    """What a feed says.

    Args:
        title: Its title.
        entries: Its recordings, in its order.
        following: URL of its next page; empty where there is none.
    """

    title: str
    entries: tuple[Entry, ...]
    following: str = ""


def is_feed(content_type: str, beginning: bytes) -> bool:
    """Whether an answer is a feed, by its type and its first bytes. XHTML is XML too, and none."""
    if content_type.partition(";")[0].strip().lower() in _TYPES:
        return True
    return any(mark in beginning[:2048].lower() for mark in _MARKS) and b"<html" not in beginning[:2048].lower()


def parse_feed(url: str, data: bytes) -> Feed:
    """The recordings of a feed. Items without one are left out; where no item has one their pages are taken.

    Args:
        url: Where it is: what links are relative to.
        data: All of it.

    Raises:
        Unusable: `bad_feed`: it is damaged, or no feed.
    """
    from xml import sax

    handler = _handler(url)
    try:
        sax.parse(io.BytesIO(data), handler)
    except (sax.SAXException, ValueError, KeyError) as error:
        raise Unusable(f"the feed is damaged ({error})"[:200], FailureCode.BAD_FEED) from error
    found = handler.data
    title = str(found.get("title") or "")
    # The library sorts them by their days; a feed has an order of its own.
    episodes = sorted(found["episodes"], key=lambda episode: int(episode["_number"]))
    heard = [
        (episode, tuple(handler.captions.get(episode["_number"], ())), _enclosure(episode)) for episode in episodes
    ]
    with_media = any(media for _, _, media in heard)
    entries = tuple(
        _entry(url, title, episode, captions, media)
        for episode, captions, media in heard
        if media or (episode.get("link") and not with_media)
    )
    return Feed(title, entries, str(found.get("paged_feed_next") or ""))


def _handler(url: str) -> Any:
    """podcastparser's, which also sees transcripts: the library keeps one of them, without its type."""
    import podcastparser

    class Handler(podcastparser.PodcastHandler):
        def __init__(self) -> None:
            super().__init__(url, 0)
            self.captions: dict[int, list[Captions]] = {}
            self._count = 0

        def add_episode(self) -> None:
            super().add_episode()
            self._count += 1
            self.episodes[-1]["_number"] = self._count

        def startElement(self, name: str, attrs: Any) -> None:  # noqa: N802 - the library's name
            super().startElement(name, attrs)
            prefix, _, bare = name.rpartition(":")
            if bare != "transcript" or not self.episodes or not attrs.get("url"):
                return
            if _NAMESPACE in str(self.namespace.lookup(prefix) or "").lower() and len(self.path_stack) == 4:
                said = Captions(
                    url=urljoin(self.base, attrs["url"].strip()),
                    type=str(attrs.get("type") or "").partition(";")[0].strip().lower(),
                    language=str(attrs.get("language") or ""),
                )
                self.captions.setdefault(self._count, []).append(said)

    return Handler()


def _enclosure(episode: Mapping[str, Any]) -> str:
    """The media of an episode: the first of its enclosures that may be heard; empty where there is none."""
    for each in episode.get("enclosures") or ():
        if each.get("url") and not str(each.get("mime_type") or "").lower().startswith(_NOT_HEARD):
            return str(each["url"])
    return ""


def _entry(url: str, title: str, episode: Mapping[str, Any], captions: tuple[Captions, ...], media: str) -> Entry:
    page = str(episode.get("link") or "")
    guid = str(episode.get("guid") or media or page).strip()
    published = int(episode.get("published") or 0)
    day = datetime.fromtimestamp(published, timezone.utc).strftime("%Y%m%d") if published > 0 else ""
    # As yt-dlp calls what it fetches from a plain URL.
    plain = unquote(urlsplit(media).path.rstrip("/").rpartition("/")[2]).rpartition(".")[0] if media else ""
    return Entry(
        url=media or page,
        id=guid,
        title=str(episode.get("title") or ""),
        uploaded_on=day,
        duration_s=float(episode["total_time"]) if episode.get("total_time") else None,
        key=guid if "://" in guid or len(guid) >= _UNIQUE else f"{guid} of {url}",
        series=title,
        page=page,
        media=bool(media),
        description=str(episode.get("description") or "")[:_MOST_DESCRIPTION],
        captions=captions,
        archive=("rss " + "%20".join(guid.split()), *([f"generic {plain}"] if plain else [])),
    )


_UNIQUE = 20
"""Characters of a name that no other feed has by chance; shorter ones are numbers, counted by each feed."""

_MOST_DESCRIPTION = 4_000
