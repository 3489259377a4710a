"""What is behind a URL: feeds of other programs, playlists, pages; with the real yt-dlp and podcastparser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from feedgen.feed import FeedGenerator

from tests.support.media_server import Answer, MediaServer
from trax_ray.web.feed import is_feed, parse_feed
from trax_ray.web.fetch import Listing, expand
from trax_ray.web.job import Captions, Job

RSS = "application/rss+xml"


def listings(web: MediaServer, folder: Path, *paths: str, **fields: Any) -> list[Listing]:
    urls = tuple(path if "://" in path else f"{web.url}{path}" for path in paths)
    return list(expand(Job("", "expand", str(folder), allow_private_network=True, urls=urls, **fields)))


def test_a_feed_that_another_program_made() -> None:
    made = FeedGenerator()
    made.load_extension("podcast")
    made.title("Talks")
    made.id("https://example.org/")
    made.link(href="https://example.org/")
    made.description("All talks")
    for number in range(3):
        item = made.add_entry(order="append")
        item.id(f"https://example.org/talks/{number}")
        item.title(f"Talk {number}")
        item.link(href=f"https://example.org/talks/{number}")
        item.enclosure(f"https://cdn.example.org/media.mp3?episode={number}", "1234", "audio/mpeg")
        item.published(f"2026-03-0{number + 1}T23:30:00-05:00")
        item.podcast.itunes_duration("01:02:03")
    data = made.rss_str()
    feed = parse_feed("https://example.org/feed", data)
    assert is_feed("text/xml", data)
    assert feed.title == "Talks"
    assert [entry.title for entry in feed.entries] == ["Talk 0", "Talk 1", "Talk 2"]
    first = feed.entries[0]
    assert first.url == "https://cdn.example.org/media.mp3?episode=0"
    assert (first.uploaded_on, first.media, first.series) == ("20260302", True, "Talks")
    assert first.key == "https://example.org/talks/0", "it stays where the address of the media changes"


SHAPES = b"""<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0" xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd" xmlns:atom="http://www.w3.org/2005/Atom"
 xmlns:podcast="https://podcastindex.org/namespace/1.0"><channel><title>Shapes</title>
<atom:link rel="next" href="https://example.org/feed?page=2"/>
<item><title>Transcripts</title><guid isPermaLink="false">1</guid><pubDate>Tue, 05 May 2026 10:00:00 GMT</pubDate>
 <itunes:duration>61</itunes:duration><link>https://example.org/one</link>
 <enclosure url="https://example.org/one/default.mp3" type="audio/mpeg"/>
 <podcast:transcript url="/one.vtt" type="text/vtt" language="en"/>
 <podcast:transcript url="https://example.org/one.json" type="application/json; charset=utf-8"/></item>
<item><title>A text with a picture</title><link>https://example.org/text</link>
 <enclosure url="https://example.org/a.jpg" type="image/jpeg"/></item>
<item><title>Two</title><guid>urn:uuid:5b3e1d2c-0000-4000-8000-000000000000</guid>
 <enclosure url="https://example.org/two/default.mp3"/></item>
<podcast:liveItem status="live"><title>Live</title><enclosure url="https://example.org/live" type="audio/mpeg"/>
</podcast:liveItem>
</channel></rss>"""


def test_shapes_of_real_feeds() -> None:
    feed = parse_feed("https://example.org/feed", SHAPES)
    assert feed.following == "https://example.org/feed?page=2"
    one, two = feed.entries
    assert (one.title, one.uploaded_on, one.duration_s, one.page) == (
        "Transcripts",
        "20260505",
        61.0,
        "https://example.org/one",
    )
    assert one.captions == (
        Captions("https://example.org/one.vtt", "text/vtt", "en"),
        Captions("https://example.org/one.json", "application/json"),
    )
    assert one.key == "1 of https://example.org/feed", "other feeds have a 1 too"
    assert one.archive == ("rss 1", "generic default")
    assert (two.key, two.captions) == ("urn:uuid:5b3e1d2c-0000-4000-8000-000000000000", ())


def test_atom() -> None:
    data = b"""<feed xmlns="http://www.w3.org/2005/Atom"><title>Atoms</title><entry><id>urn:uuid:0-0-0-0-0000000000</id>
<title>One</title><updated>2026-01-02T03:04:05Z</updated><link href="https://example.org/one"/>
<link rel="enclosure" type="audio/ogg" length="5" href="one.ogg"/></entry></feed>"""
    (entry,) = parse_feed("https://example.org/feeds/atom", data).entries
    assert (entry.url, entry.page) == ("https://example.org/feeds/one.ogg", "https://example.org/one")
    assert (entry.uploaded_on, entry.media) == ("20260102", True)


def test_a_feed_of_pages_takes_those() -> None:
    data = b"""<feed xmlns="http://www.w3.org/2005/Atom" xmlns:media="http://search.yahoo.com/mrss/"><title>Channel</title>
<entry><id>yt:video:BaW_jenozKc</id><title>A video</title><published>2026-01-02T03:04:05+00:00</published>
<link rel="alternate" href="https://www.youtube.com/watch?v=BaW_jenozKc"/><media:group>
<media:content url="https://www.youtube.com/v/BaW_jenozKc?version=3" type="application/x-shockwave-flash"/>
</media:group></entry></feed>"""
    (entry,) = parse_feed("https://www.youtube.com/feeds/videos.xml", data).entries
    assert (entry.url, entry.media) == ("https://www.youtube.com/watch?v=BaW_jenozKc", False)
    assert entry.uploaded_on == "20260102"


BOMB = (
    b"<?xml version='1.0'?><!DOCTYPE rss [<!ENTITY a '"
    + b"a" * 1000
    + b"'>"
    + b"".join(b"<!ENTITY %c '%s'>" % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(8))
    + b"]><rss><channel><title>&i;</title></channel></rss>"
)


@pytest.mark.parametrize("data", [SHAPES[:900], b"<rss><channel>&nbsp;</channel></rss>", b"<html></html>", BOMB, b""])
def test_damaged_feeds(data: bytes) -> None:
    with pytest.raises(Exception, match="damaged") as caught:
        parse_feed("https://example.org/feed", data)
    assert getattr(caught.value, "code", "") == "bad_feed"


def rss(*items: str, title: str = "Talks", more: str = "") -> Answer:
    body = (
        f"<?xml version='1.0'?><rss version='2.0'><channel><title>{title}</title>{more}{''.join(items)}</channel></rss>"
    )
    return Answer(body.encode(), RSS)


def item(number: int, **also: str) -> str:
    more = "".join(f"<{name}>{text}</{name}>" for name, text in also.items())
    return f"<item><title>Episode {number}</title><enclosure url='/{number}.ogg' type='audio/ogg'/>{more}</item>"


@pytest.mark.long
def test_several_urls_in_one_process(web: MediaServer, weather: bytes, tmp_path: Path) -> None:
    videos = "".join(f"<video src='/{name}.ogg'></video>" for name in "ab")
    web.answers |= {
        "/feed": rss(*map(item, range(30))),
        "/one": Answer(b"<html><title>One</title><video src='/a.ogg'></video></html>", "text/html"),
        "/two": Answer(f"<html><title>Two</title>{videos}</html>".encode(), "text/html"),
        "/text": Answer(b"<html><title>Text</title></html>", "text/html"),
        "/damaged": Answer(rss(item(1)).body[:-20], RSS),
        "/stream": Answer(weather, "audio/ogg"),
        "/a.ogg": Answer(weather, "audio/ogg"),
    }
    paths = ("/feed", "/gone", "/one", "/two", "/text", "/damaged", "/stream", "https://youtu.be/BaW_jenozKc")
    found = listings(web, tmp_path, *paths)
    feed, gone, one, two, text, damaged, stream, video = found
    assert [entry.title for entry in feed.entries] == [f"Episode {number}" for number in range(30)]
    assert (feed.title, feed.alone, feed.error) == ("Talks", False, None)
    assert feed.entries[4].url == f"{web.url}/4.ogg"
    assert [(each.entries, each.error and each.error.code) for each in (gone, text)] == [
        ((), "gone"),
        ((), "nothing_to_fetch"),
    ]
    assert damaged.error is not None
    assert (damaged.error.code, damaged.error.failure_class) == ("bad_feed", "permanent")
    assert one.alone
    assert [entry.url for entry in one.entries] == [f"{web.url}/one"]
    assert [entry.url for entry in two.entries] == [f"{web.url}/a.ogg", f"{web.url}/b.ogg"]
    assert (two.title, two.alone) == ("Two", False)
    assert stream.alone
    assert (video.alone, video.entries[0].key) == (True, "youtube BaW_jenozKc"), "nobody had to be asked"
    assert len(web.asked) < 20


def test_what_is_wanted_of_a_feed(web: MediaServer, tmp_path: Path) -> None:
    days = [f"{number:02} May 2026 10:00:00 GMT" for number in range(1, 21)]
    items = [item(number, pubDate=f"Tue, {day}") for number, day in enumerate(days)]
    web.answers |= {
        "/feed": rss(*items[:10], more="<atom:link xmlns:atom='http://www.w3.org/2005/Atom' rel='next' href='/more'/>"),
        "/more": rss(*items[10:]),
    }
    (found,) = listings(web, tmp_path, "/feed")
    assert len(found.entries) == 20, "its pages are one"
    (found,) = listings(web, tmp_path, "/feed", max_items=2, since="20260508", match="EPISODE 1")
    assert [entry.title for entry in found.entries] == ["Episode 10", "Episode 11"]


@pytest.mark.long
def test_a_page_that_is_asked_for_its_day(web: MediaServer, weather: bytes, tmp_path: Path) -> None:
    page = (
        '<html><title>{0}</title><script type=\'application/ld+json\'>{{"@context":"http://schema.org","@type":'
        '"VideoObject","name":"{0}","uploadDate":"2026-0{1}-01","contentUrl":"http://127.0.0.1:9/a.mp4"}}</script></html>'
    )
    links = "".join(f"<item><title>{name}</title><link>/{name}</link></item>" for name in ("old", "new", "lost"))
    web.answers |= {
        "/feed": rss(links),
        "/old": Answer(page.format("old", 2).encode(), "text/html"),
        "/new": Answer(page.format("new", 6).encode(), "text/html"),
    }
    (found,) = listings(web, tmp_path, "/feed", since="20260501")
    assert [entry.title for entry in found.entries] == ["new", "lost"], "why one is lost its own row says"


@pytest.mark.long
def test_addresses_that_are_not_public(web: MediaServer, tmp_path: Path) -> None:
    urls = (f"{web.url}/feed", "http://[::1]:9/feed")
    found = list(expand(Job("", "expand", str(tmp_path), urls=urls)))
    assert found[0].error is not None
    assert found[0].error.code == "address_refused"
    assert web.asked == []


@pytest.mark.long
def test_a_feed_that_never_ends(web: MediaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trax_ray.web.process.SILENCE_S", 6.0)
    web.answers |= {
        "/slow": Answer(rss(*map(item, range(99))).body, RSS, bytes_per_s=100),
        "/feed": rss(item(1)),
    }
    slow, fine = listings(web, tmp_path, "/slow", "/feed")
    assert slow.error is not None
    assert (slow.error.code, slow.error.failure_class) == ("timeout", "transient")
    assert len(fine.entries) == 1, "the others go on"
