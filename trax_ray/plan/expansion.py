"""URLs that hold several recordings become those: playlists, channels, pages and feeds are read before a batch starts.

The same recording is the same input wherever it is named: in two feeds, in a playlist and by itself, under an address
that has changed since. What can't be read is an input of its own, which fails and says why.
"""

from __future__ import annotations

import re
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from urllib.parse import unquote, urlsplit, urlunsplit

from trax_ray.codes import FailureClass
from trax_ray.core.spec import BatchSpec
from trax_ray.errors import TraxRayError
from trax_ray.plan.inputs import MEDIA_SUFFIXES, Found
from trax_ray.plan.past import Past
from trax_ray.plan.tasks import is_fetched
from trax_ray.store.download_archive import read_archive
from trax_ray.store.explaining import shown
from trax_ray.web.addresses import name_of_url
from trax_ray.web.fetch import Listing, expand
from trax_ray.web.job import Entry, Job, Kept

__all__ = ["Expansion", "Lists", "expanded", "listings"]

MOST_TITLE_BYTES = 120
"""Of a title in the name of an output; a name has room for suffixes, and for what tells it from others."""

AGAIN_AFTER_S = 2.0
"""Before a second look at what failed for a moment."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """What inputs come to.

    Args:
        found: The recordings, each once, in the order in which they are named.
        notes: What is left out and why, for a person.
        lists: How many URLs were lists.
    """

    found: tuple[Found, ...]
    notes: tuple[str, ...] = ()
    lists: int = 0


Reader = Callable[[Sequence[str], BatchSpec], Iterable[Listing]]


class Lists:
    """Reads lists again and again: feeds that their servers say haven't changed don't come twice."""

    def __init__(self) -> None:
        self._kept: dict[str, Kept] = {}

    def __call__(self, urls: Sequence[str], spec: BatchSpec) -> Iterator[Listing]:
        """As `listings`."""
        for listing in listings(urls, spec, [self._kept[url] for url in urls if url in self._kept]):
            if listing.kept is not None:
                self._kept[listing.url] = listing.kept
            yield listing


def listings(urls: Sequence[str], spec: BatchSpec, kept: Sequence[Kept] = ()) -> Iterator[Listing]:
    """What is behind URLs, in their order; of lists those recordings that a batch wants.

    Args:
        urls: At least one.
        spec: The batch: `max_items`, `since`, `match`, `cookies` and `allow_private_network` hold.
        kept: Feeds among them as they were before.
    """
    with tempfile.TemporaryDirectory(prefix="trax-ray-") as folder:
        job = Job(
            url=urls[0],
            task="expand",
            folder=folder,
            allow_private_network=spec.allow_private_network,
            urls=tuple(urls),
            max_items=spec.max_items,
            since=spec.since,
            match=spec.match,
            kept=tuple(kept),
        )
        found = list(expand(job, spec.cookies))
        again = tuple(each.url for each in found if _for_a_moment(each))
        if again:
            time.sleep(AGAIN_AFTER_S)
            second = {each.url: each for each in expand(replace(job, urls=again), spec.cookies)}
            found = [second.get(each.url, each) if _for_a_moment(each) else each for each in found]
        yield from found


def _for_a_moment(listing: Listing) -> bool:
    return listing.error is not None and listing.error.failure_class == FailureClass.TRANSIENT.value


def expanded(found: Sequence[Found], spec: BatchSpec, past: Past, read: Reader = listings) -> Expansion:
    """Take URLs apart that hold several recordings.

    A URL whose file has a name of media, and one that was transcribed before, is one recording; nobody is asked.

    Args:
        found: What was named, in order.
        spec: The batch.
        past: What earlier runs were given.
        read: Gives what is behind URLs.
    """
    asked = [each.path for each in found if is_fetched(each.path) and not _is_one(each.path, past)]
    there = {each.url: each for each in read(asked, spec)} if asked else {}
    gathering = _Gathering(spec, past)
    for each in found:
        if not is_fetched(each.path):
            gathering.found.append(each)
        elif each.path in there:
            gathering.take(each, there[each.path])
        else:
            gathering.add(replace(each, entry=_plain(each.path)))
    return Expansion(tuple(gathering.found), tuple(gathering.notes()), gathering.lists)


def _is_one(url: str, past: Past) -> bool:
    return _names_media(url) or past.is_transcribed(past.id_of(url, ""))


def _names_media(url: str) -> bool:
    return not name_of_url(url, MEDIA_SUFFIXES).endswith(".url")


def _plain(url: str) -> Entry:
    """A URL of which nobody says more, under the name that yt-dlp gives it in an archive."""
    name = unquote(urlsplit(url).path.rstrip("/").rpartition("/")[2]).rpartition(".")[0]
    return Entry(url, media=_names_media(url), archive=(f"generic {name}",) if name and _names_media(url) else ())


@dataclass(slots=True)
class _Gathering:
    spec: BatchSpec
    past: Past
    found: list[Found] = field(default_factory=list)
    lists: int = 0
    _seen: set[str] = field(default_factory=set)
    _twice: int = 0
    _nameless: int = 0
    _archived: list[str] = field(default_factory=list)
    _empty: list[str] = field(default_factory=list)
    _unread: list[tuple[str, TraxRayError]] = field(default_factory=list)
    _archive: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.spec.download_archive:
            self._archive = read_archive(Path(self.spec.download_archive))

    def take(self, given: Found, listing: Listing) -> None:
        """What is behind one URL."""
        if listing.alone:
            (entry,) = listing.entries
            self.add(replace(given, key=entry.key, entry=entry))
            return
        self.lists += 1
        shared = _shared(listing.entries)
        for entry in listing.entries:
            self._add_entry(given, entry, shared)
        if listing.error is not None:
            self._unread.append((given.path, listing.error))
            self.add(replace(given, entry=Entry(given.path), listing=True))
        elif not listing.entries:
            self._empty.append(given.path)

    def _add_entry(self, given: Found, entry: Entry, shared: frozenset[str]) -> None:
        url = _without_login(entry.url)
        if not is_fetched(url):
            self._nameless += 1
            return
        # A name that several have says nothing of any of them.
        names = tuple(name for name in entry.archive if name not in shared)
        entry = replace(entry, url=url, archive=names or entry.archive[:1])
        folder = _fit_for_a_name(entry.series)
        name = _fit_for_a_name(entry.title) or name_of_url(url, MEDIA_SUFFIXES).removesuffix(".url")
        relative = PurePath(folder, f"{name}.url") if folder else PurePath(f"{name}.url")
        self.add(Found(url, relative, row=given.row, key=entry.key, entry=entry))

    def add(self, found: Found) -> None:
        """Take a recording, once however often it is named."""
        marks = {_normal(found.path), *([found.key] if found.key else [])}
        if marks & self._seen:
            self._seen |= marks
            self._twice += 1
            return
        self._seen |= marks
        entry = found.entry
        if entry is not None and self._archive.intersection(entry.archive) and not self._is_known(found):
            self._archived.append(entry.title or found.path)
            return
        self.found.append(found)

    def _is_known(self, found: Found) -> bool:
        """Whether it is this output folder's own: its journal says what is still to be done, and no archive does."""
        return self.past.id_of(found.path, found.key) in self.past.inputs

    def notes(self) -> Iterator[str]:
        if self._twice:
            yield f"{self._twice} named more than once"
        if self._archived:
            names = f"such as {shown(self._archived[0])}"
            yield f"{len(self._archived)} in the archive {shown(self.spec.download_archive)} already, {names}"
        if self._nameless:
            yield f"{self._nameless} without a URL left out"
        for url, error in self._unread:
            yield f"can't read {shown(url)}: {error.code}"
        for url in self._empty:
            wanted = " that is wanted" if self.spec.since or self.spec.match else ""
            yield f"no recording{wanted} in {shown(url)}"


def _shared(entries: Iterable[Entry]) -> frozenset[str]:
    """Names in archives that more than one of a list's recordings have, as where all files are called `media.mp3`."""
    counts = Counter(name for entry in entries for name in set(entry.archive))
    return frozenset(name for name, count in counts.items() if count > 1)


def _normal(url: str) -> str:
    """What URLs of the same thing have in common: no scheme, port that goes without saying, fragment, nor tags."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    port = parts.port if parts.port not in (None, 80, 443) else None
    query = "&".join(each for each in parts.query.split("&") if each and not each.lower().startswith("utm_"))
    fragment = parts.fragment if parts.fragment.startswith(("!", "/")) else ""
    return urlunsplit(("", f"{host}:{port}" if port else host, parts.path or "/", query, fragment))


def _without_login(url: str) -> str:
    """A URL without the name and password that it may hold: those would stand in the journal."""
    parts = urlsplit(url)
    if parts.username is None and parts.password is None:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _fit_for_a_name(title: str) -> str:
    """A title as a part of a path: one line, no slashes, not hidden, not too long."""
    text = unicodedata.normalize(
        "NFC", "".join(" " if unicodedata.category(each)[0] == "C" else each for each in title)
    )
    text = " ".join(re.sub(r"[/\\]", "-", text).split()).lstrip(".").strip()
    while len(text.encode()) > MOST_TITLE_BYTES:
        text = text[:-1]
    return text.strip()
