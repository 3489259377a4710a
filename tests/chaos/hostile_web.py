"""Runs in a network of its own, in which a public address is this machine's too: tries to be led to what isn't public.

    unshare -rn python hostile_web.py FOLDER

Writes a line of JSON for each case: its name, the code of its failure, and how many connections came to addresses that
aren't public.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from tests.support.media_server import Answer, MediaServer
from trax_ray.errors import TraxRayError
from trax_ray.web.addresses import is_url
from trax_ray.web.fetch import expand, fetch, fetch_captions, look
from trax_ray.web.job import Job

PUBLIC = "198.41.0.4"
PRIVATE = "10.9.8.7"
CLOUD = "169.254.169.254"
PORT = 8080

HLS, DASH, HTML = "application/vnd.apple.mpegurl", "application/dash+xml", "text/html"

DIRECT = {
    "dotted": "127.0.0.1",
    "short": "127.1",
    "number": "2130706433",
    "hexadecimal": "0x7f000001",
    "hexadecimal parts": "0x7f.0.0.0x1",
    "octal": "0177.0.0.1",
    "zero": "0",
    "all zeros": "0.0.0.0",
    "another loopback": "127.8.8.8",
    "name": "localhost",
    "name with a dot": "localhost.",
    "wide digits": "\uff11\uff12\uff17.\uff10.\uff10.\uff11",
    "circled digits": "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460",
    "IPv6": "[::1]",
    "IPv6 in full": "[0:0:0:0:0:0:0:1]",
    "mapped": "[::ffff:127.0.0.1]",
    "mapped, hexadecimal": "[::ffff:7f00:1]",
    "compatible": "[::127.0.0.1]",
    "link-local with a zone": "[fe80::1%25lo]",
    "private": PRIVATE,
    "mapped private": f"[::ffff:{PRIVATE}]",
    "a cloud's metadata": CLOUD,
    "a cloud's metadata, mapped": f"[::ffff:{CLOUD}]",
}


def cases(server: str) -> Iterator[tuple[str, str, dict[str, Answer]]]:
    """Name, URL, and what the public server has for it."""
    inside = f"http://127.0.0.1:{PORT}"
    for name, host in DIRECT.items():
        yield name, f"http://{host}:{PORT}/a.mp3", {}
    for status in (301, 302, 303, 307, 308):
        at = f"/to{status}.mp3"
        yield f"redirect {status}", server + at, {at: moved(f"{inside}/a.mp3", status)}
    for name, target in {
        "redirect to IPv6": f"http://[::1]:{PORT}/a.mp3",
        "redirect to a name": f"http://localhost:{PORT}/a.mp3",
        "redirect without a scheme": f"//127.0.0.1:{PORT}/a.mp3",
        "redirect to a file": "file:///etc/passwd",
        "redirect to gopher": f"gopher://127.0.0.1:{PORT}/_a",
    }.items():
        at = f"/{name.replace(' ', '-')}.mp3"
        yield name, server + at, {at: moved(target, 302)}
    yield (
        "two redirects",
        f"{server}/first.mp3",
        {"/first.mp3": moved("/second.mp3", 302), "/second.mp3": moved(f"{inside}/a.mp3", 302)},
    )
    pages = {
        "video": f"<video src='{inside}/a.mp4'></video>",
        "source": f"<video><source src='{inside}/a.mp4'></video>",
        "audio": f"<audio src='{inside}/a.mp3'></audio>",
        "og:video": f"<meta property='og:video' content='{inside}/a.mp4'>",
        "frame": f"<iframe src='{inside}/embed'></iframe>",
        "refresh": f"<meta http-equiv='refresh' content='0; url={inside}/a.mp3'>",
        "JSON-LD": "<script type='application/ld+json'>"
        f'{{"@context":"http://schema.org","@type":"VideoObject","name":"a","contentUrl":"{inside}/a.mp4"}}</script>',
        "RTMP": f"<video src='rtmp://127.0.0.1:{PORT}/a'></video>",
        "jwplayer": f"<script>jwplayer('a').setup({{file: '{inside}/a.mp4'}});</script>",
    }
    for name, body in pages.items():
        at = f"/page-{name}"
        yield f"page: {name}", server + at, {at: page(body)}
    lists = {
        "segment": f"#EXTINF:4,\n{inside}/a.ts\n#EXT-X-ENDLIST\n",
        "key": f'#EXT-X-KEY:METHOD=AES-128,URI="{inside}/key"\n#EXTINF:4,\n/a.ts\n#EXT-X-ENDLIST\n',
        "map": f'#EXT-X-MAP:URI="{inside}/init.mp4"\n#EXTINF:4,\n/a.ts\n#EXT-X-ENDLIST\n',
        "protected": f'#EXT-X-KEY:METHOD=SAMPLE-AES,URI="{inside}/key"\n#EXTINF:4,\n{inside}/a.ts\n#EXT-X-ENDLIST\n',
        "live": f"#EXTINF:4,\n{inside}/a.ts\n",
        "redirected segment": "#EXTINF:4,\n/to302.mp3\n#EXT-X-ENDLIST\n",
    }
    for name, body in lists.items():
        at = f"/{name.replace(' ', '-')}.m3u8"
        text = f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n{body}"
        yield (
            f"HLS: {name}",
            server + at,
            {at: Answer(text.encode(), HLS), "/a.ts": Answer(b"\x47" * 188, "video/mp2t")},
        )
    master = f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=100000\n{inside}/list.m3u8\n"
    yield "HLS: variant", f"{server}/master.m3u8", {"/master.m3u8": Answer(master.encode(), HLS)}
    dash = (
        "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011' type='static' "
        "mediaPresentationDuration='PT4S'><Period><AdaptationSet mimeType='audio/mp4'><Representation id='a' "
        f"bandwidth='1000' codecs='mp4a.40.2'><BaseURL>{inside}/a.mp4</BaseURL></Representation></AdaptationSet>"
        "</Period></MPD>"
    )
    yield "DASH: address of the media", f"{server}/a.mpd", {"/a.mpd": Answer(dash.encode(), DASH)}
    feed = (
        "<?xml version='1.0'?><rss version='2.0'><channel><title>a</title><item><title>b</title>"
        f"<link>{inside}/b</link><enclosure url='{inside}/b.mp3' type='audio/mpeg' length='1'/></item></channel></rss>"
    )
    yield "feed", f"{server}/feed.xml", {"/feed.xml": Answer(feed.encode(), "application/rss+xml")}


def lists(server: str) -> Iterator[tuple[str, str, dict[str, Answer]]]:
    """The same for what is taken apart before it is fetched: feeds and lists."""
    inside = f"http://127.0.0.1:{PORT}"
    outside = f"<enclosure url='{server}/fine.mp3' type='audio/mpeg'/>"
    feeds = {
        "enclosure": f"<item><title>a</title><enclosure url='{inside}/a.mp3' type='audio/mpeg'/></item>",
        "enclosure with a login": f"<item><title>a</title><enclosure url='http://a:b@127.0.0.1:{PORT}/a.mp3'/></item>",
        "enclosure of a file": "<item><title>a</title><enclosure url='file:///etc/passwd' type='audio/mpeg'/></item>",
        "enclosure by way of a redirect": f"<item><title>a</title><enclosure url='{server}/to302.mp3'/></item>",
        "link": f"<item><title>a</title><link>{inside}/a</link></item>",
        "images": f"<image><url>{inside}/a.png</url></image><itunes:image href='{inside}/b.png'/>"
        f"<item><title>a</title><itunes:image href='{inside}/c.png'/>{outside}</item>",
        "transcript": f"<item><title>a</title>{outside}"
        f"<podcast:transcript url='{inside}/a.vtt' type='text/vtt'/></item>",
        "transcript by way of a redirect": f"<item><title>a</title>{outside}"
        f"<podcast:transcript url='{server}/to302.mp3' type='text/vtt'/></item>",
        "transcript of a file": f"<item><title>a</title>{outside}"
        "<podcast:transcript url='file:///etc/passwd' type='text/plain'/></item>",
        "chapters": f"<item><title>a</title>{outside}<podcast:chapters url='{inside}/a.json'/></item>",
        "following page": f"<atom:link rel='next' href='{inside}/more'/><item><title>a</title>{outside}</item>",
    }
    names = (
        "xmlns:podcast='https://podcastindex.org/namespace/1.0' xmlns:atom='http://www.w3.org/2005/Atom' "
        "xmlns:itunes='http://www.itunes.com/dtds/podcast-1.0.dtd'"
    )
    bodies = {
        name: f"<rss version='2.0' {names}><channel><title>a</title>{each}</channel></rss>"
        for name, each in feeds.items()
    }
    entity = "<rss version='2.0'><channel><title>&a;</title></channel></rss>"
    bodies |= {
        "DTD": f"<!DOCTYPE rss SYSTEM '{inside}/a.dtd'>{bodies['images']}",
        "entity": f"<!DOCTYPE rss [<!ENTITY a SYSTEM '{inside}/a'>]>{entity}",
        "entity of a file": f"<!DOCTYPE rss [<!ENTITY a SYSTEM 'file:///etc/passwd'>]>{entity}",
        "stylesheet": f"<?xml-stylesheet href='{inside}/a.xsl' type='text/xsl'?>{bodies['images']}",
    }
    for name, body in bodies.items():
        at = f"/{name.replace(' ', '-')}.xml"
        yield (
            f"feed: {name}",
            server + at,
            {at: Answer(b"<?xml version='1.0'?>" + body.encode(), "application/rss+xml")},
        )
    yield "feed: moved", f"{server}/moved.xml", {"/moved.xml": moved(f"{inside}/feed", 301)}
    yield "feed: inside", f"{inside}/feed.xml", {}
    several = "".join(f"<audio src='{inside}/{name}.mp3'></audio>" for name in "ab")
    yield "list of a page", f"{server}/several", {"/several": page(several)}
    track = f"<trackList><track><location>{inside}/a.mp3</location></track></trackList>"
    xspf = f"<playlist xmlns='http://xspf.org/ns/0/' version='1'>{track}</playlist>"
    yield "list: XSPF", f"{server}/a.xspf", {"/a.xspf": Answer(xspf.encode(), "application/xspf+xml")}
    tracks = f"<video src='{server}/fine.mp3'><track kind='subtitles' srclang='en' src='{inside}/a.vtt'></video>"
    yield "captions of a page", f"{server}/captions", {"/captions": page(tracks)}


def moved(target: str, status: int) -> Answer:
    return Answer(b"", HTML, status=status, headers={"Location": target})


def page(body: str) -> Answer:
    return Answer(f"<html><head><title>a</title></head><body>{body}</body></html>".encode(), HTML)


class Listener:
    """Counts connections to addresses that aren't public; answers as a server would that has what is asked for."""

    def __init__(self, family: socket.AddressFamily, host: str) -> None:
        self.connections = 0
        self._socket = socket.socket(family)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self._socket.bind((host, PORT))
        self._socket.listen()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            self.connections += 1
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nContent-Length: 3\r\n\r\nID3")
            connection.close()


def main() -> None:
    folder = Path(sys.argv[1])
    for command in (
        ["link", "set", "lo", "up"],
        *(["addr", "add", f"{address}/32", "dev", "lo"] for address in (PUBLIC, PRIVATE, CLOUD)),
        ["-6", "addr", "add", "fe80::1/64", "dev", "lo"],
    ):
        subprocess.run(["ip", *command], check=True)
    private = [Listener(socket.AF_INET6, "::")]
    private += [Listener(socket.AF_INET, host) for host in ("127.0.0.1", "127.8.8.8", PRIVATE, CLOUD)]

    def tried(name: str, url: str) -> None:
        job = Job(url, "fetch", str(folder / name.replace(" ", "-").replace(":", "").replace(",", "")))
        try:
            for _ in fetch(job):
                pass
            code = "fetched"
        except TraxRayError as error:
            code = error.code
        say(name, str(code))

    def say(name: str, code: str) -> None:
        sys.stdout.write(json.dumps([name, code, sum(each.connections for each in private)]) + "\n")
        sys.stdout.flush()

    def taken_apart(name: str, url: str) -> None:
        own = folder / name.replace(" ", "-").replace(":", "").replace(",", "")
        (listing,) = expand(Job(url, "expand", str(own), urls=(url,)))
        say(name, "listed" if listing.error is None else str(listing.error.code))
        for number, entry in enumerate(listing.entries):
            if is_url(entry.url):
                tried(f"{name}: {number}", entry.url)
            job = Job(entry.url, "captions", str(own), languages=("en",), captions=entry.captions)
            try:
                working = fetch_captions(job) if entry.captions or not is_url(entry.url) else look(job)
                for _ in working:
                    pass
            except TraxRayError as error:
                say(f"{name}: {number}: captions", str(error.code))
            else:
                say(f"{name}: {number}: captions", "none")

    with ExitStack() as stack:
        server = stack.enter_context(MediaServer(host=PUBLIC))
        wanted = list(cases(server.url))
        for _, _, answers in wanted:
            server.answers |= answers
        server.answers["/fine.mp3"] = Answer(b"ID3" + b"\0" * 2_000, "audio/mpeg")
        pool = stack.enter_context(ThreadPoolExecutor(2))
        apart = list(lists(server.url))
        for _, _, answers in apart:
            server.answers |= answers
        list(pool.map(lambda case: tried(case[0], case[1]), [("fine", f"{server.url}/fine.mp3", {}), *wanted]))
        list(pool.map(lambda case: taken_apart(case[0], case[1]), apart))


if __name__ == "__main__":
    main()
