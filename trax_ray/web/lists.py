"""The recordings behind a URL: a playlist's, a channel's, a page's, a feed's. Used in the process that fetches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from trax_ray.codes import FailureCode
from trax_ray.web.errors import Several, Unusable, described
from trax_ray.web.feed import is_feed, parse_feed
from trax_ray.web.job import ANY_SITE, Entry, Job, Kept

__all__ = ["expand", "read_limited"]

MOST_FEED_BYTES = 32 << 20
MOST_KEPT_BYTES = 8 << 20
"""Of a feed that is kept to be asked for again only where it has changed."""

NOT_MODIFIED = 304

MOST_PAGES = 100
"""Of one feed."""

MOST_ENTRIES = 50_000
"""Of one URL, where nobody says how many are wanted: some lists never end."""

MOST_HOPS = 5
"""From a URL to another one that it stands for, or from a list to a list that it holds."""

GENERIC = "Generic"
_LISTS = ("playlist", "multi_video")
_LINKS = ("url", "url_transparent")


def expand(job: Job, open_ydl: Callable[[], Any], tell: Callable[..., None], refused: list[str]) -> dict[str, Any]:
    """Tell of the recordings behind each URL of a job, as they are read.

    Args:
        job: The job.
        open_ydl: Gives yt-dlp.
        tell: Tells: `at` is the number of the URL that is begun, `entry` one of its recordings, `listed` its title,
            whether it is one recording (`alone`) and a feed to be kept, `failed` why it can't be read.
        refused: The addresses that the guard has refused so far; it grows.
    """
    with open_ydl() as ydl:
        for number, url in enumerate(job.urls):
            before = len(refused)
            tell(at=number)
            try:
                reading = _Reading(ydl, job)
                for entry in reading.entries(url):
                    tell(entry=entry.to_dict())
            except Exception as error:  # noqa: BLE001 - the border: every exception becomes a line
                tell(failed=described(error, replace(job, url=url), tuple(refused[before:])))
            else:
                kept = None if reading.kept is None else asdict(reading.kept)
                tell(listed={"title": reading.title, "alone": reading.alone, "kept": kept})
    return {}


def read_limited(response: Any, most_bytes: int, what: str) -> bytes:
    """All of an answer.

    Raises:
        Unusable: It is longer.
    """
    data = bytearray()
    while part := response.read(min(1 << 16, most_bytes + 1 - len(data))):
        data += part
        if len(data) > most_bytes:
            raise Unusable(f"{what} is longer than {most_bytes >> 20} MB", FailureCode.BAD_FEED)
    return bytes(data)


@dataclass(slots=True)
class _Reading:
    """One URL that is read."""

    ydl: Any
    job: Job
    title: str = ""
    alone: bool = False
    kept: Kept | None = None
    _seen: set[str] = field(default_factory=set)

    def entries(self, url: str) -> Iterator[Entry]:
        """Its recordings that are wanted, in its order."""
        count = 0
        for read, entry in enumerate(self._all(url), start=1):
            if self.job.max_items is None and read > MOST_ENTRIES:
                code = FailureCode.LIST_TOO_LONG
                raise Unusable(code.meaning, code)
            wanted = entry if self.alone else self._wanted(entry)
            if wanted is None:
                continue
            yield wanted
            count += 1
            if count == self.job.max_items:
                return

    def _all(self, url: str) -> Iterator[Entry]:
        extractor = _extractor(url)
        if extractor.ie_key() == GENERIC:
            feed = self._feed(url)
            if feed is not None:
                yield from feed
                return
        elif extractor.is_single_video(url):
            self.alone = True
            yield _named(Entry(url, id=str(extractor.get_temp_id(url) or ""), extractor=extractor.ie_key()))
            return
        info = self._follow(url)
        if info.get("_type") not in _LISTS:
            self.alone = True
            yield _named(Entry.of(info, url))
            return
        self.title = str(info.get("title") or "")
        yield from self._held(info, MOST_HOPS)

    def _feed(self, url: str) -> Iterator[Entry] | None:
        """The recordings of a feed, or of the URL itself where that is a recording; None where it is neither."""
        import yt_dlp

        before = next((each for each in self.job.kept if each.url == url), Kept(url))
        headers = {"If-None-Match": before.etag, "If-Modified-Since": before.modified}
        request = yt_dlp.networking.Request(url, headers={name: value for name, value in headers.items() if value})
        try:
            response = self.ydl.urlopen(request)
        except yt_dlp.networking.exceptions.HTTPError as error:
            if error.status != NOT_MODIFIED or not before.text:
                raise
            return self._pages(url, before.text.encode("latin-1"))
        kind = str(response.headers.get("Content-Type") or "")
        if kind.lower().startswith(("audio/", "video/")):
            response.close()
            self.alone = True
            return iter([Entry(url)])
        data = response.read(4096)
        if not is_feed(kind, data):
            response.close()
            return None
        data += read_limited(response, MOST_FEED_BYTES, "the feed")
        etag, modified = (str(response.headers.get(name) or "") for name in ("ETag", "Last-Modified"))
        if (etag or modified) and len(data) <= MOST_KEPT_BYTES and response.url == url:
            self.kept = Kept(url, etag, modified, data.decode("latin-1"))
        return self._pages(response.url, data)

    def _pages(self, url: str, data: bytes) -> Iterator[Entry]:
        feed = parse_feed(url, data)
        self.title = feed.title
        read = {url}
        for _ in range(MOST_PAGES):
            yield from feed.entries
            if not feed.following or feed.following in read:
                return
            read.add(feed.following)
            with self.ydl.urlopen(feed.following) as response:
                feed = parse_feed(response.url, read_limited(response, MOST_FEED_BYTES, "the feed"))

    def _hops(self, url: str, ie_key: str | None = None) -> Iterator[dict[str, Any]]:
        """What yt-dlp says of a URL, and of the ones that it stands for."""
        for _ in range(MOST_HOPS):
            info: dict[str, Any] = self.ydl.extract_info(url, download=False, process=False, ie_key=ie_key) or {}
            yield info
            if info.get("_type") not in _LINKS:
                return
            url, ie_key = info["url"], info.get("ie_key")
        raise Several("")

    def _follow(self, url: str, ie_key: str | None = None) -> dict[str, Any]:
        """What yt-dlp says of a URL in the end."""
        *_, info = self._hops(url, ie_key)
        return info

    def _held(self, info: dict[str, Any], hops: int) -> Iterator[Entry]:
        """The recordings of a list, and of the lists that it holds."""
        for held in info.get("entries") or ():
            if not held:
                continue
            url = str(held.get("url") or "")
            if held.get("_type") in _LISTS:
                inner = held
            elif held.get("_type") in _LINKS and _holds_several(held):
                if url in self._seen or not hops:
                    continue
                self._seen.add(url)
                inner = self._follow(url, held.get("ie_key"))
                if inner.get("_type") not in _LISTS:
                    yield _named(replace(Entry.of(inner, url), series=self.title))
                    continue
            else:
                entry = Entry.of(held)
                if not entry.url:
                    raise Several(self.title)
                yield _named(replace(entry, series=self.title))
                continue
            yield from self._held(inner, hops - 1)

    def _wanted(self, entry: Entry) -> Entry | None:
        """An entry that is wanted, with its day where that matters."""
        if self.job.match and self.job.match.casefold() not in entry.title.casefold():
            return None
        if self.job.since:
            entry = entry if entry.uploaded_on else self._dated(entry)
            if entry.uploaded_on and entry.uploaded_on < self.job.since:
                return None
        return entry

    def _dated(self, entry: Entry) -> Entry:
        """An entry with its day, for which its site is asked. Where that fails its own task will say why."""
        import yt_dlp

        if entry.media:
            return entry
        try:
            days = (Entry.of(info).uploaded_on for info in self._hops(entry.url))
            return replace(entry, uploaded_on=next(filter(None, days), ""))
        except yt_dlp.utils.YoutubeDLError:
            return entry


def _extractor(url: str) -> Any:
    """The one of yt-dlp's extractors that knows a URL; the last one takes all."""
    import yt_dlp

    return next(each for each in yt_dlp.extractor.gen_extractor_classes() if each.suitable(url))


def _holds_several(held: dict[str, Any]) -> bool:
    """Whether an entry of a list is a list itself, as the parts of a channel are; False where nobody knows."""
    import yt_dlp

    key, url = held.get("ie_key"), held["url"]
    known = yt_dlp.extractor.get_info_extractor(key) if key else _extractor(url)
    return known.ie_key() != GENERIC and known.is_single_video(url) is False


def _named(entry: Entry) -> Entry:
    """An entry of a site that yt-dlp knows with what it is known by there."""
    if not entry.extractor or not entry.id:
        return entry
    name = f"{entry.extractor.lower()} {entry.id}"
    return replace(entry, key="" if entry.extractor in ANY_SITE else name, archive=(name, *entry.archive))
