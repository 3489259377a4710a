"""YOUTUBE: what a site says of a recording, of YouTube or of any other site that yt-dlp knows, and its captions."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trax_ray.codes import FailureCode
from trax_ray.core.ids import digest
from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import Outcome, ResourceRequest, TaskType
from trax_ray.errors import NetworkError, ProcessingError
from trax_ray.kinds.assignment import Assignment, Progress
from trax_ray.kinds.base import Kind
from trax_ray.kinds.captions import can_be_read, expect_captions
from trax_ray.kinds.codec import from_json, to_json
from trax_ray.kinds.fetched import forget_media, media_folder, pause_of_requests, site_figures
from trax_ray.kinds.hosts import Talk
from trax_ray.kinds.known import INFO, KIND, FoundCaptions, SiteSays
from trax_ray.store.artifacts import ArtifactStore
from trax_ray.store.download_archive import read_archive
from trax_ray.store.files import ensure_folder
from trax_ray.store.layout import Layout
from trax_ray.store.outputs import write_files
from trax_ray.web.fetch import expand, fetch_captions, look
from trax_ray.web.job import Captions, Entry, Item, Job, Told

__all__ = ["YOUTUBE", "YoutubeData", "make_youtube"]

FORMAT_VERSION = 1

_WITHOUT_TRANSCRIPT = ("youtube", "download", "preprocess")
"""What batches are asked for that make none."""

_Asked = Generator[Told, None, "tuple[Item, Captions | None]"]


@dataclass(frozen=True, slots=True)
class YoutubeData:
    """What a YOUTUBE task is given.

    Args:
        url: Where the recording is, or the page that shows it.
        name: What people see; empty for the URL.
        output: Path of what is said of it, below the output folder, without suffix; empty writes no file.
        entry: What its list or feed says of it; None where nothing does.
        listing: It is a list that couldn't be read when the batch was planned: an attempt says why.
        language: Code of the language that captions are to have; None for the recording's own.
        size_bytes: What it weighs in the estimate of the time still to go.
    """

    url: str
    name: str = ""
    output: str = ""
    entry: Entry | None = None
    listing: bool = False
    language: str | None = None
    size_bytes: int = 0


def make_youtube(assignment: Assignment) -> Iterator[Progress | Outcome]:
    """Ask a site of one recording.

    Where the recording is fetched next, all that yt-dlp knows stays beside its media until then, so that the site
    isn't asked twice.

    Yields:
        Progress, then one Outcome whose metrics are a `SiteSays`.
    """
    yield Progress(0.0, loading=True)
    task, data, spec = assignment.task, YOUTUBE.read(assignment.task), assignment.spec
    layout = Layout.of(spec.output_dir)
    store = ArtifactStore(layout.artifacts)
    chained = task.file_id != task.id
    languages = _languages(spec, data, chained=chained)
    key = store.key(
        digest([data.url]), KIND, {} if languages is None else {"captions": list(languages)}, "", FORMAT_VERSION
    )
    payload = store.get(key)
    talk = Talk(layout, task.file_id, lambda told: _pause_s(spec, told))
    if payload is None:
        try:
            item, captions = yield from talk.follow(_ask(data, layout, spec, task.file_id, languages, chained=chained))
        except NetworkError as error:
            yield talk.failed(error)
            return
        payload = store.put(key, _payload(data, item, captions))[1]
    _expect_new(spec, payload)
    if languages is not None and spec.captions == "only":
        forget_media(layout, task.file_id)
        expect_captions(payload.get("found"), data.name or data.url)
    yield Outcome(
        artifact_key=key,
        metrics=to_json(_said(layout, task.file_id, data, payload, cached=talk.told is None)),
        signal=talk.signal,
    )


YOUTUBE = Kind(
    name=KIND,
    task_type=TaskType.YOUTUBE,
    data=YoutubeData,
    runs=make_youtube,
    asks=True,
    resources=ResourceRequest(num_cpus=0.0, memory_mb=256),
    needs="url",
)


def _pause_s(spec: BatchSpec, told: Told | None) -> float | None:
    """How long to leave a site alone after it was asked, seconds; None for any other host."""
    if spec.limits.host_pause_s is None and not (told is not None and told.site):
        return None
    return pause_of_requests(spec) or None


def _languages(spec: BatchSpec, data: YoutubeData, *, chained: bool) -> tuple[str, ...] | None:
    """The languages of captions that are wanted, as of `Job.languages`; nobody does where no transcript is made."""
    if spec.captions == "never" or not chained or spec.task in _WITHOUT_TRANSCRIPT:
        return None
    language = data.language or spec.language
    return (language,) if language else ()


def _ask(
    data: YoutubeData,
    layout: Layout,
    spec: BatchSpec,
    file_id: str,
    languages: tuple[str, ...] | None,
    *,
    chained: bool,
) -> _Asked:
    folder = media_folder(layout, file_id)
    ensure_folder(folder)
    job = Job(
        url=data.url,
        task="look",
        folder=str(folder),
        allow_private_network=spec.allow_private_network,
        languages=languages,
        captions=() if languages is None or data.entry is None else data.entry.captions,
        request_pause_s=pause_of_requests(spec),
    )
    if data.listing:
        _fail_as_list(replace(job, urls=(data.url,), max_items=1), spec)
    if data.entry is not None and data.entry.media:
        captions = (yield from fetch_captions(job, spec.cookies)) if job.captions else None
        return _of_entry(data.entry), captions
    item = yield from look(job, spec.cookies)
    if chained and item.whole and item.taken is None and spec.task != KIND:
        # Not for others: it may hold addresses that are secrets.
        with os.fdopen(os.open(folder / INFO, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
            stream.write(item.whole)
    return item, item.taken


def _fail_as_list(job: Job, spec: BatchSpec) -> None:
    """Say why a list can't be read.

    Raises:
        NetworkError: The reason; transient where it can be read by now.
    """
    (listing,) = expand(job, spec.cookies)
    if listing.error is not None:
        raise listing.error
    raise NetworkError(
        f"{job.url} can be read again: run the same command again",
        failure_class="permanent",
        code=FailureCode.SEVERAL_RECORDINGS,
    )


def _of_entry(entry: Entry) -> Item:
    """What a feed says, by yt-dlp's names."""
    info = {
        "id": entry.id,
        "title": entry.title,
        "channel": entry.series,
        "upload_date": entry.uploaded_on,
        "duration": entry.duration_s,
        "description": entry.description,
        "webpage_url": entry.page,
    }
    languages = tuple(sorted({each.language for each in entry.captions if each.language}))
    return Item({name: value for name, value in info.items() if value}, languages)


def _payload(data: YoutubeData, item: Item, captions: Captions | None) -> dict[str, Any]:
    """What is kept: all that the site says, and the captions that were fetched."""
    entry = data.entry or Entry(data.url)
    info = dict(item.info)
    for name, value in (("title", entry.title), ("upload_date", entry.uploaded_on)):
        info.setdefault(name, value)
    archive = item.archive or entry.archive
    if entry.media:
        archive = entry.archive
    kept: dict[str, Any] = {"info": info, "captions": list(item.captions), "archive": list(archive)}
    if captions is not None:
        origin = "feed" if entry.media else "publisher"
        made = FoundCaptions(captions.text, captions.type, captions.language, origin)
        if can_be_read(made):
            kept["found"] = to_json(made)
    return kept


def _expect_new(spec: BatchSpec, payload: dict[str, Any]) -> None:
    """See that a recording isn't in the archive under a name that it had before, which shows only now.

    Raises:
        ProcessingError: `archived`: permanent.
    """
    names = payload["archive"][1:]
    if spec.download_archive and names and read_archive(Path(spec.download_archive)).intersection(names):
        code = FailureCode.ARCHIVED
        raise ProcessingError(f"{payload['info'].get('title') or names[0]}: {code.meaning}: {code.way_out}", code=code)


def _said(layout: Layout, file_id: str, data: YoutubeData, payload: dict[str, Any], *, cached: bool) -> SiteSays:
    info = payload["info"]
    item = Item(info, tuple(payload["captions"]))
    outputs: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    if data.output:
        wanted = f"{data.output}.json"
        text = json.dumps({"url": data.url, **info, "captions": payload["captions"]}, ensure_ascii=False, indent=2)
        (name,) = write_files(layout, file_id, {wanted: (text + "\n").encode("utf-8", "backslashreplace")})
        outputs, kept = (name,), () if name == wanted else (wanted,)
    found = payload.get("found")
    made = None if found is None else from_json(FoundCaptions, found)
    return SiteSays.of(
        data.url,
        info,
        **site_figures(item),
        captions=item.captions,
        captions_from="" if made is None else made.origin,
        archive=tuple(payload["archive"]),
        outputs=outputs,
        kept_outputs=kept,
        cached=cached,
    )
