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
from trax_ray.web.fetch import fetch
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
        sys.stdout.write(json.dumps([name, str(code), sum(each.connections for each in private)]) + "\n")
        sys.stdout.flush()

    with ExitStack() as stack:
        server = stack.enter_context(MediaServer(host=PUBLIC))
        wanted = list(cases(server.url))
        for _, _, answers in wanted:
            server.answers |= answers
        server.answers["/fine.mp3"] = Answer(b"ID3" + b"\0" * 2_000, "audio/mpeg")
        pool = stack.enter_context(ThreadPoolExecutor(2))
        list(pool.map(lambda case: tried(case[0], case[1]), [("fine", f"{server.url}/fine.mp3", {}), *wanted]))


if __name__ == "__main__":
    main()
