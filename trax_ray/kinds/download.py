"""DOWNLOAD: the media of a recording of the web, by yt-dlp, in a process that reaches public addresses only."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import Outcome, ResourceRequest, TaskType
from trax_ray.errors import NetworkError
from trax_ray.kinds.assignment import Assignment, Progress
from trax_ray.kinds.base import Kind
from trax_ray.kinds.captions import expect_captions
from trax_ray.kinds.codec import to_json
from trax_ray.kinds.fetched import KIND, Downloaded, download, forget_media, known_download, media_folder
from trax_ray.kinds.hosts import Talk
from trax_ray.kinds.known import captions_of_site, info_of, site_says
from trax_ray.providers.registry import is_service
from trax_ray.store.artifacts import ArtifactStore, content_hash
from trax_ray.store.download_archive import add_to_archive
from trax_ray.store.files import bring_to_disk, ensure_folder
from trax_ray.store.layout import Layout
from trax_ray.store.outputs import Outputs, beside, stored_outputs
from trax_ray.web.job import Told

__all__ = ["DOWNLOAD", "DownloadData", "make_download"]

SITE_PAUSE_S = (10.0, 20.0)
"""Between two recordings of a site that yt-dlp knows by name, seconds: such sites shut out who asks in haste. It is
drawn anew each time. Source: yt-dlp's preset `-t sleep`, see `REQUEST_PAUSE_S`."""


@dataclass(frozen=True, slots=True)
class DownloadData:
    """What a DOWNLOAD task is given.

    Args:
        url: Where the recording is, or the page that shows it.
        name: What people see; empty for the URL.
        output: Path of the media below the output folder, without suffix. Empty for private media, which are there
            until the input's transcript is.
        size_bytes: What it weighs in the estimate of the time still to go.
        archive: Its names in an archive of downloads, where its list or feed says them; empty for what its site says.
    """

    url: str
    name: str = ""
    output: str = ""
    size_bytes: int = 0
    archive: tuple[str, ...] = ()


def make_download(assignment: Assignment) -> Iterator[Progress | Outcome]:
    """Fetch one recording.

    Yields:
        Progress, then one Outcome whose metrics are a `Downloaded`, with what the host's answer means for the
        requests after it.
    """
    yield Progress(0.0, loading=True)
    task, data, spec = assignment.task, DOWNLOAD.read(assignment.task), assignment.spec
    layout = Layout.of(spec.output_dir)
    store = ArtifactStore(layout.artifacts)
    delivery = _Delivery(layout, data, task.file_id, read_next=task.file_id != task.id and spec.task != KIND)
    if captions_of_site(assignment, store) is not None and not data.output:
        # They are the transcript: nobody needs the media.
        says = site_says(assignment)
        names = data.archive or (says.archive if says else ())
        yield Outcome(metrics=to_json(Downloaded(data.url, "", 0, "", archive=names)))
        return
    if spec.captions == "only" and spec.task == "transcribe" and task.file_id != task.id and not data.output:
        expect_captions(None, data.name or data.url)  # a plain file, of which no site or feed says more
    key, known = known_download(store, data.url)
    there = None if known is None else delivery.found(known)
    if there is not None:
        yield Outcome(artifact_key=key, metrics=to_json(there))
        return
    talk = Talk(layout, task.file_id, lambda told: _pause_s(spec, told))
    info = info_of(assignment, media_folder(layout, task.file_id))
    working = download(store, layout, spec, data.url, task.file_id, needed=bool(data.output), info=info)
    try:
        key, made = yield from talk.follow(working)
    except NetworkError as error:
        yield talk.failed(error)
        return
    delivered = delivery.deliver(made, cached=talk.told is None)
    if data.output and spec.download_archive:
        add_to_archive(Path(spec.download_archive), delivered.archive)
    yield Outcome(artifact_key=key, metrics=to_json(delivered), signal=talk.signal)


def _pause_s(spec: BatchSpec, told: Told | None) -> float | None:
    """How long to leave the host alone after a request, seconds; None where nothing asks for that."""
    given = spec.limits.host_pause_s
    if given is None and told is not None and told.site:
        return round(random.uniform(*SITE_PAUSE_S), 3)
    return given or None


@dataclass(frozen=True, slots=True)
class _Delivery:
    """Where media go that a user gets.

    Args:
        layout: The output folder.
        data: What the task was given.
        file_id: The input's.
        read_next: Whether another task reads them.
    """

    layout: Layout
    data: DownloadData
    file_id: str
    read_next: bool = True

    def found(self, known: Downloaded) -> Downloaded | None:
        """What is known of the recording, where its media needn't be fetched; None where they have to be."""
        stored = stored_outputs(self.layout, self.file_id) if self.data.output else None
        if stored is not None:
            wanted = self._wanted(known)
            name = stored.find_made(wanted, known.content, beside(wanted))
            return self._said(known, wanted, name, cached=True) if name else None
        wanted, name = self._place(known)
        if not self.data.output or _holds(self.layout.here / name, known.content):
            return self._said(known, wanted, name, cached=True)
        return None

    def deliver(self, made: Downloaded, *, cached: bool) -> Downloaded:
        """Bring what was fetched to where it belongs."""
        stored = stored_outputs(self.layout, self.file_id) if self.data.output else None
        if stored is not None:
            wanted, source = self._wanted(made), media_folder(self.layout, self.file_id) / made.file
            name = stored.put_made(wanted, source, made.content, beside(wanted))
            if not self.read_next:
                forget_media(self.layout, self.file_id)
            return self._said(made, wanted, name, cached=cached)
        wanted, name = self._place(made)
        if self.data.output:
            target = self.layout.here / name
            Outputs(self.layout, self.file_id).remember({name: made.content})
            ensure_folder(target.parent)
            (media_folder(self.layout, self.file_id) / made.file).replace(target)
            bring_to_disk(target)
            forget_media(self.layout, self.file_id)
        return self._said(made, wanted, name, cached=cached)

    def _place(self, made: Downloaded) -> tuple[str, str]:
        """The path that is wanted, below the output folder, and the one that it gets."""
        source = media_folder(self.layout, self.file_id) / made.file
        if not self.data.output:
            name = str(source.relative_to(self.layout.here))
            return name, name
        wanted = self._wanted(made)
        place = Outputs(self.layout, self.file_id).place
        return wanted, place(wanted, lambda path: _holds(path, made.content))

    def _wanted(self, made: Downloaded) -> str:
        """The name that media get which a user is to have, below the output folder, where nothing else has it."""
        return f"{self.data.output}{PurePath(made.file).suffix}"

    def _said(self, made: Downloaded, wanted: str, name: str, *, cached: bool) -> Downloaded:
        outputs = (name,) if self.data.output else ()
        kept = (wanted,) if name != wanted else ()
        archive = self.data.archive or made.archive
        # In a store they are beyond the reach of what reads files: that has its own on this machine, or fetches it.
        own = media_folder(self.layout, self.file_id) / made.file
        media = str(own.relative_to(self.layout.here)) if self.layout.stored else name
        return replace(made, media=media, outputs=outputs, kept_outputs=kept, cached=cached, archive=archive)


def _holds(path: Path, content: str) -> bool:
    """Whether a file has this content."""
    return path.is_file() and content_hash(path) == content


DOWNLOAD = Kind(
    name=KIND,
    task_type=TaskType.DOWNLOAD,
    data=DownloadData,
    runs=make_download,
    asks=True,
    resources=ResourceRequest(num_cpus=0.0, memory_mb=256),
    needs="url",
    prepares_calls=lambda task, spec: spec.task == "transcribe" and is_service(spec.model or "", spec.base_url),
)
