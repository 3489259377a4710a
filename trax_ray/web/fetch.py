"""Fetching, from the side of the attempt: a process of its own does it, and is ended with the attempt."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trax_ray.codes import FailureCode
from trax_ray.errors import DiskFull, NetworkError, ProcessingError, ResourceError, TraxRayError
from trax_ray.web.addresses import checked_url
from trax_ray.web.job import Captions, Entry, Item, Job, Kept, Told
from trax_ray.web.process import fetcher

__all__ = ["Listing", "expand", "fetch", "fetch_captions", "look"]


def look(job: Job, cookies: str = "") -> Generator[Told, None, Item]:
    """What a site says of a recording.

    Raises:
        As `fetch`.
    """
    result = yield from _messages(replace(job, task="look"), cookies)
    return Item.from_dict(result)


def fetch_captions(job: Job, cookies: str = "") -> Generator[Told, None, Captions | None]:
    """The captions of a job, in one of its languages; None where there are none.

    Raises:
        As `fetch`.
    """
    result = yield from _messages(replace(job, task="captions"), cookies)
    return Item.from_dict(result).taken


def fetch(job: Job, cookies: str = "") -> Generator[Told, None, Item]:
    """Fetch a recording into the job's folder; what an earlier attempt left there is continued.

    Args:
        job: What to fetch.
        cookies: Path of a file with cookies, in the format of browsers' extensions; empty for none.

    Yields:
        How far it is, every half a second.

    Returns:
        What the site says of it, and the name of the file.

    Raises:
        UsageError: No URL that may be fetched.
        NetworkError: The site doesn't give it, or not now; its code says which.
        DiskFull: There is no room for it.
    """
    result = yield from _messages(replace(job, task="fetch"), cookies)
    return Item.from_dict(result)


@dataclass(frozen=True, slots=True)
class Listing:
    """What is behind a URL.

    Args:
        url: The URL.
        entries: Its recordings that are wanted, in its order.
        title: The title of the list; empty where it has none.
        alone: Whether the URL is one recording, and no list; `entries` is that one then.
        kept: The feed that it is, for the next reading; None where it is none, or its server doesn't say what changes.
        error: Why it can't be read to its end; what was read before is in `entries`. None where it was read.
    """

    url: str
    entries: tuple[Entry, ...] = ()
    title: str = ""
    alone: bool = False
    kept: Kept | None = None
    error: TraxRayError | None = None


def expand(job: Job, cookies: str = "") -> Iterator[Listing]:
    """The recordings behind the URLs of a job: playlists, channels, pages and feeds, or recordings themselves.

    One process asks for one after the other. Where it has to be ended another one goes on with those after that URL.

    Args:
        job: Its `urls`, which entries of them are wanted, and its folder.
        cookies: As of `fetch`.

    Yields:
        What is behind each URL, in their order, as soon as it is read.
    """
    left = [checked_url(url) for url in job.urls]
    while left:
        reading = _Listings(left)
        try:
            for _ in _messages(replace(job, task="expand", urls=tuple(left), url=left[0]), cookies, reading.take):
                yield from reading.finished()
        except TraxRayError as error:
            reading.fail(error)
        yield from reading.finished()
        left = left[reading.count :]


class _Listings:
    """What the process tells of several URLs, put together."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.count = 0
        self._urls = urls
        self._entries: list[Entry] = []
        self._finished: list[Listing] = []

    def take(self, line: dict[str, Any]) -> None:
        if "entry" in line:
            self._entries.append(Entry.from_dict(line["entry"]))
        elif "listed" in line:
            listed = line["listed"]
            self._end(**{**listed, "kept": None if listed["kept"] is None else Kept(**listed["kept"])})
        elif "failed" in line:
            self.fail(_error(line["failed"]))

    def fail(self, error: TraxRayError) -> None:
        if self.count < len(self._urls):
            self._end(error=error)

    def _end(self, **fields: Any) -> None:
        self._finished.append(Listing(self._urls[self.count], tuple(self._entries), **fields))
        self._entries.clear()
        self.count += 1

    def finished(self) -> Iterator[Listing]:
        yield from self._finished
        self._finished.clear()


def _messages(
    job: Job, cookies: str, take: Callable[[dict[str, Any]], None] = lambda line: None
) -> Generator[Told, None, dict[str, Any]]:
    """Have a job done, and pass on what is told; `take` gets what is neither progress nor the end."""
    checked_url(job.url)
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    # By the pipe: yt-dlp writes cookies back, and a copy on the disk would outlive whoever is killed.
    own = Path(cookies).read_text(errors="surrogateescape") if cookies else ""
    told = Told(0, loading=True)
    end: dict[str, Any] = {}
    # Lists are read by who plans, and then by nobody.
    with fetcher(keep=job.task != "expand") as process:
        for line in process.lines(replace(job, folder=str(folder.absolute()), cookies=own)):
            if line is None:
                yield told
            elif "progress" in line:
                new = Told(**line["progress"])
                told = replace(new, site=new.site or told.site)
                yield told
            elif "error" in line or "result" in line:
                end = line
                break
            else:
                take(line)
                told = replace(told, loading=False)
                yield told
        if not end:
            raise _ended(*process.last_words())
    if "error" in end:
        raise _error(end["error"])
    result: dict[str, Any] = end["result"]
    return result


def _error(data: dict[str, Any]) -> TraxRayError:
    code = data["code"]
    if code == FailureCode.DISK_FULL:
        return DiskFull(data["message"], code=code)
    kind: type[TraxRayError] = ResourceError if code == FailureCode.OUT_OF_MEMORY else NetworkError
    return kind(data["message"], failure_class=data["failure_class"], code=code, retry_after_s=data["retry_after_s"])


def _ended(code: int | None, complaints: str) -> TraxRayError:
    """The error of a process that ended without a word."""
    last = complaints.strip().splitlines()[-1:] or [""]
    if "No module named" in last[0]:
        return ProcessingError(
            f"yt-dlp can't be loaded: {last[0]}", failure_class="config", code=FailureCode.NOT_INSTALLED
        )
    return NetworkError(
        f"the process that fetches ended with exit code {code}: {last[0][:300]}", code=FailureCode.FETCH_FAILED
    )
