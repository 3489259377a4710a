"""A recording of the web: what is known of it once it was fetched, where its media lie, and fetching them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trax_ray.codes import FailureCode
from trax_ray.core.ids import digest
from trax_ray.core.spec import BatchSpec
from trax_ray.errors import FileError
from trax_ray.kinds.assignment import Assignment, Progress
from trax_ray.kinds.codec import from_json, to_json
from trax_ray.kinds.conversion import private_audio
from trax_ray.store.artifacts import ArtifactStore, Hashed, content_hash
from trax_ray.store.explaining import shown
from trax_ray.store.files import bring_to_disk, ensure_folder
from trax_ray.store.layout import Layout
from trax_ray.web.fetch import fetch
from trax_ray.web.job import Item, Job, Told

__all__ = [
    "KIND",
    "Downloaded",
    "download",
    "downloaded",
    "fetch_again",
    "forget_input",
    "forget_media",
    "host_of",
    "inputs_with_media",
    "known_download",
    "media_folder",
    "media_of",
    "pause_of_requests",
    "progress_of",
    "site_figures",
]

KIND = "download"
"""Name of the kind of task that fetches."""

FORMAT_VERSION = 1

REQUEST_PAUSE_S = 0.75
"""Between the requests by which a page is read; the first one never waits, so a plain file doesn't.

Source:
    yt-dlp's preset `-t sleep`, as of 2026.10: `--sleep-requests 0.75 --sleep-interval 10 --max-sleep-interval 20`.
"""


@dataclass(frozen=True, slots=True)
class Downloaded:
    """What is known of a recording once it was fetched: the payload of its artifact, and what its task's outcome says.

    Args:
        url: Where it was.
        content: SHA-256 of its media, hexadecimal.
        size_bytes: Their size.
        file: Name of their file in the folder of the input's media.
        processing_s: Seconds that fetching took.
        title: Its title, as its site has it; empty here and below where the site doesn't say.
        channel: Who published it.
        uploaded_on: Day of its publication, YYYYMMDD.
        webpage: Its page.
        site_id: Its name at its site.
        captions: Languages of the captions that the publisher offers.
        archive: Its names in an archive of downloads, of which the first one is ours to write.
        media: Its media, a path below the output folder; empty in artifacts, and where captions took their place.
        outputs: Files that a user gets, paths below the output folder; None in artifacts.
        kept_outputs: Files that weren't ours to replace, beside which ours went.
        cached: Whether it was known already; None in artifacts.
    """

    url: str
    content: str
    size_bytes: int
    file: str
    processing_s: float = 0.0
    title: str = ""
    channel: str = ""
    uploaded_on: str = ""
    webpage: str = ""
    site_id: str = ""
    captions: tuple[str, ...] = ()
    archive: tuple[str, ...] = ()
    media: str = ""
    outputs: tuple[str, ...] | None = None
    kept_outputs: tuple[str, ...] = ()
    cached: bool | None = None


def host_of(url: str) -> str:
    """The host that a URL names: what limits of requests go by."""
    return urlsplit(url).hostname or ""


def media_folder(layout: Layout, file_id: str) -> Path:
    """Where the media of an input are from their download to its transcript, and what has come of them so far."""
    return layout.work / "media" / file_id


def forget_media(layout: Layout, file_id: str) -> None:
    """Let go of an input's media. What can't be deleted takes room, and that is no reason to fail."""
    shutil.rmtree(media_folder(layout, file_id), ignore_errors=True)


def inputs_with_media(layout: Layout) -> list[str]:
    """The inputs of which media are there, or parts of them."""
    try:
        return sorted(path.name for path in (layout.work / "media").iterdir())
    except OSError:
        return []


def forget_input(layout: Layout, file_id: str) -> None:
    """Let go of all that was fetched, and made from that, for an input that has failed for good. As `forget_media`."""
    forget_media(layout, file_id)
    with suppress(OSError):
        private_audio(layout, file_id).unlink()


def downloaded(assignment: Assignment) -> Downloaded | None:
    """What a task which this one depends on has fetched; None where none did."""
    for result in assignment.needed.values():
        if result.kind == KIND:
            return from_json(Downloaded, result.figures)
    return None


def media_of(layout: Layout, fetched: Downloaded) -> Hashed:
    """The media that were fetched. They may be gone by now, which matters to those only who read them."""
    return Hashed(layout.here / fetched.media, fetched.content, (0, 0, 0, 0))


def fetch_again(
    assignment: Assignment, layout: Layout, store: ArtifactStore, fetched: Downloaded
) -> Generator[Progress, None, None]:
    """Fetch media that are gone: they go with the transcript, and what then needs them again finds none.

    Raises:
        FileError: `not_found`: the user had them, and they aren't fetched behind the user's back.
        NetworkError: As `download`.
    """
    path, file_id = layout.here / fetched.media, assignment.task.file_id
    if path.parent != media_folder(layout, file_id):
        raise FileError(f"{shown(path)} isn't there any more: bring it back", code=FailureCode.NOT_FOUND)
    for told in download(store, layout, assignment.spec, fetched.url, file_id, needed=True):
        yield progress_of(told)


def progress_of(told: Told) -> Progress:
    """The same as the sign of life of an attempt."""
    return Progress(told.fraction, told.bytes, told.total_bytes, told.loading)


def pause_of_requests(spec: BatchSpec) -> float:
    """Seconds between the requests by which a page is read."""
    return REQUEST_PAUSE_S if spec.limits.host_pause_s is None else min(REQUEST_PAUSE_S, spec.limits.host_pause_s)


def _job(url: str, folder: Path, spec: BatchSpec, info: str) -> Job:
    return Job(
        url=url,
        task="fetch",
        folder=str(folder),
        allow_private_network=spec.allow_private_network,
        info=info,
        request_pause_s=pause_of_requests(spec),
    )


def download(
    store: ArtifactStore,
    layout: Layout,
    spec: BatchSpec,
    url: str,
    file_id: str,
    *,
    needed: bool,
    info: str = "",
) -> Generator[Told, None, tuple[str, Downloaded]]:
    """Fetch a recording, as far as that hasn't been done; what an earlier attempt got is continued.

    Args:
        store: Where what is known of it is kept.
        layout: The output folder.
        spec: The batch.
        url: Where it is.
        file_id: The input that it is for.
        needed: Whether the media have to be there in the end, or what is known of them alone.
        info: What yt-dlp knows of it already; empty for nothing.

    Yields:
        How far it is.

    Returns:
        The key of what is known of it, and that.

    Raises:
        NetworkError: It can't be had, or not now.
        DiskFull: There is no room for it.
    """
    began_s = time.monotonic()
    key, known = known_download(store, url)
    folder = media_folder(layout, file_id)
    if known is not None and (not needed or _is_there(folder, known)):
        return key, known
    ensure_folder(folder)
    item = yield from fetch(_job(url, folder, spec, info), spec.cookies)
    path = folder / item.file
    bring_to_disk(path)
    content = content_hash(path)
    if known is not None and known.content != content:
        raise FileError(
            f"{host_of(url)}: another recording is at this URL than the one that was fetched before: "
            "give another --output-dir to transcribe it",
            code=FailureCode.CHANGED,
        )
    found = Downloaded(
        url=url,
        content=content,
        size_bytes=path.stat().st_size,
        file=item.file,
        processing_s=round(time.monotonic() - began_s, 3),
        captions=item.captions,
        archive=item.archive,
        **site_figures(item),
    )
    return key, replace(from_json(Downloaded, store.put(key, to_json(found))[1]), file=item.file)


def known_download(store: ArtifactStore, url: str) -> tuple[str, Downloaded | None]:
    """The key of what is known of a recording of the web, and that; None where it wasn't fetched yet."""
    key = store.key(digest([url]), KIND, {"format": "bestaudio"}, "", FORMAT_VERSION)
    payload = store.get(key)
    return key, None if payload is None else from_json(Downloaded, payload)


def site_figures(item: Item) -> dict[str, Any]:
    """What a site says of a recording, by our names."""
    info = item.info
    return {
        "title": str(info.get("title") or ""),
        "channel": str(info.get("channel") or info.get("uploader") or ""),
        "uploaded_on": str(info.get("upload_date") or ""),
        "webpage": str(info.get("webpage_url") or ""),
        "site_id": str(info.get("id") or ""),
    }


def _is_there(folder: Path, known: Downloaded) -> bool:
    """Whether the media are there, whole: their file has its name only then."""
    try:
        return os.stat(folder / known.file).st_size == known.size_bytes  # noqa: PTH116 - beside what it may raise
    except OSError:
        return False
