"""The process that fetches: yt-dlp as a library, and for each job a process of its own, under the guard.

It reads lines of JSON, each a `Job`, and answers each with lines of JSON: progress, then a result or an error, then how
the job's process ended. It ends when its standard input does: whoever started it is gone then.

Where forking is safe (Linux) a job's process is a copy of this one, in which yt-dlp is loaded, and which has never
talked to anybody. Elsewhere this process does one job itself, and ends.
"""

from __future__ import annotations

import io
import json
import os
import resource
import select
import signal
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, TextIO

from trax_ray.web.guard import Guard, close_ways_out
from trax_ray.web.javascript import runtime_for
from trax_ray.web.job import ANY_SITE, MEDIA, Item, Job, Told

__all__ = ["main"]

PROGRESS_EVERY_S = 0.5
SOCKET_TIMEOUT_S = 20.0
FRAGMENT_RETRIES = 2
"""Of one fragment among hundreds, within one attempt: an attempt for each would use up those of the whole."""

MOST_WHOLE = 8 << 20
"""Characters of what yt-dlp knows of one recording; those with hundreds of formats have half a million."""

_LINE_BYTES = 1 << 16

_MEMORY_BYTES = 2 << 30
_NO_SUCH_PROGRAM = "/nonexistent/ffmpeg"
"""Where yt-dlp looks for ffmpeg, which would fetch by itself: it starts one for what it can't do alone."""

_INFO = (
    "id",
    "title",
    "extractor_key",
    "webpage_url",
    "channel",
    "channel_id",
    "uploader",
    "upload_date",
    "timestamp",
    "duration",
    "description",
    "chapters",
    "tags",
    "categories",
    "availability",
    "live_status",
    "view_count",
    "language",
    "thumbnail",
)


_NOT_FOR_FETCHING = (
    "automatic_captions",
    "cookies",
    "heatmap",
    "requested_downloads",
    "requested_formats",
    "requested_subtitles",
    "subtitles",
    "thumbnails",
)


def main() -> None:
    """Do the jobs that standard input names, one after the other."""
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print isn't what we say
    close_ways_out()  # before they are loaded
    line = _line()
    _load(Job.read(line).url if line else "")
    while line:
        ended = _done(line, told) if line.strip() else 0
        told.write("\n")  # one that was killed may have ended within a line
        _tell(told, ended=ended)
        line = _line()


def _done(line: str, told: TextIO) -> int:
    """Have a job done; how its process has ended."""
    if sys.platform != "linux":
        _work(Job.read(line), told)
    process = os.fork()
    if process == 0:
        _work(Job.read(line), told)
    _wait(process)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _wait(process: int) -> None:
    """Until a job's process has ended, or whoever wants the job: then it ends, with this one and all others of theirs.

    The job watches for that too. But a regular expression that takes its time lets no other thread of a process run.
    """
    try:
        ended = os.pidfd_open(process)
    except OSError:  # a kernel that has none
        return
    watched = select.poll()
    watched.register(ended, select.POLLIN)
    watched.register(0, 0)  # that it is closed is told in any case
    if any(file == 0 for file, _ in watched.poll()):
        os.killpg(0, signal.SIGKILL)
    os.close(ended)


def _line() -> str:
    """The next line of standard input, and no byte beyond it; empty at its end."""
    line = bytearray()
    while not line.endswith(b"\n"):
        part = os.read(0, _LINE_BYTES)
        if not part:
            return ""
        line += part
    return line.decode()


def _load(url: str) -> None:
    """What most jobs need. That an extractor looks whether a URL is its own compiles a pattern, of each of 1,700."""
    os.environ["YTDLP_NO_PLUGINS"] = "1"
    import yt_dlp.extractor.generic

    import trax_ray.web.errors  # noqa: F401 - for the jobs

    for site in yt_dlp.YoutubeDL({"quiet": True, "cachedir": False, "logger": _Quiet()})._ies.values():
        site.suitable(url)


def _work(job: Job, told: TextIO) -> NoReturn:
    """Do one job in this process, which ends."""
    os.environ |= {"HOME": job.folder, "TMPDIR": job.folder}
    tempfile.tempdir = job.folder
    threading.Thread(target=_end_with_parent, daemon=True).start()
    runtime = runtime_for(job.url)
    guard = Guard(
        folder=Path(job.folder),
        allow_private_network=job.allow_private_network,
        programs=frozenset({runtime} if runtime else ()),
    )
    _limit()
    guard.install()
    try:
        result = _do(job, told, guard)
    except Exception as error:  # noqa: BLE001 - the border: every exception becomes a line
        from trax_ray.web.errors import described

        _tell(told, error=described(error, job, tuple(guard.refused)))
    else:
        _tell(told, result=result)
    told.flush()
    os._exit(0)  # threads of libraries may be waiting for hosts


def _end_with_parent() -> None:
    # Nothing is read: what comes next is for the next job.
    watched = select.poll()
    watched.register(0, 0)
    watched.poll()
    os._exit(1)


def _limit() -> None:
    """Memory, and no core files."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        # Of memory that is written to: JavaScript's runtime reserves much more than it ever takes.
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = _MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(hard, _MEMORY_BYTES)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _tell(told: TextIO, **line: Any) -> None:
    told.write(json.dumps(line) + "\n")
    told.flush()


def _do(job: Job, told: TextIO, guard: Guard) -> dict[str, Any]:
    os.chdir(job.folder)
    if job.task == "expand":
        from trax_ray.web.lists import expand

        return expand(job, lambda: _yt_dlp(job, told), lambda **line: _tell(told, **line), guard.refused)
    with _yt_dlp(job, told) as ydl:
        if job.task == "captions":
            _tell(told, progress=Told(0).to_dict())
            return _with_captions(ydl, job, {}, guard).to_dict()
        _tell(told, progress=Told(0, site=_site_of(ydl, job.url)).to_dict())
        if job.task == "fetch" and job.info:
            item = _fetched_as_known(ydl, job)
            if item is not None:
                return item.to_dict()
        info = ydl.extract_info(job.url, download=False)
        info = _single(ydl, info)
        _tell(told, progress=Told(0, site=_named(info.get("extractor_key"))).to_dict())
        item = Item.of(info, _INFO)
        if item.live:
            from trax_ray.web.errors import Live

            raise Live(item.title or job.url, item.live_status)
        if job.task == "look":
            return _with_captions(ydl, job, info, guard).to_dict()
        return _fetched(ydl, info).to_dict()


def _fetched(ydl: Any, info: dict[str, Any]) -> Item:
    done = ydl.process_ie_result(info, download=True)
    (made,) = done["requested_downloads"]
    return Item.of({**info, **done}, _INFO, file=Path(made["filepath"]).name)


def _fetched_as_known(ydl: Any, job: Job) -> Item | None:
    """Fetch by what the site said a while ago; None where that doesn't hold any more, and it has to be asked again."""
    import yt_dlp

    from trax_ray.web.errors import described

    try:
        return _fetched(ydl, ydl.sanitize_info(json.loads(job.info), remove_private_keys=True))
    except (yt_dlp.utils.YoutubeDLError, ValueError, KeyError, TypeError) as error:
        if described(error, job, ())["failure_class"] == "transient" and "HTTP Error 403" not in str(error):
            raise
        return None


def _with_captions(ydl: Any, job: Job, info: dict[str, Any], guard: Guard) -> Item:
    """What a site says, with all that fetching needs, and with the captions that are wanted."""
    from trax_ray.web.captions import fetched, offered

    taken = None
    if job.languages is not None:
        taken = fetched(ydl, job, (*job.captions, *offered(info)), guard.refused, str(info.get("language") or ""))
    whole = ydl.sanitize_info(info, remove_private_keys=True)
    for name in _NOT_FOR_FETCHING:
        whole.pop(name, None)
    for form in whole.get("formats") or ():
        form.pop("cookies", None)  # they are given by the pipe, and kept nowhere
        headers = form.get("http_headers") or {}
        form["http_headers"] = {name: value for name, value in headers.items() if name.lower() != "cookie"}
    known = json.dumps(whole) if info else ""
    # What is larger isn't worth keeping: the site is asked again.
    return replace(Item.of(info, _INFO), whole=known if len(known) <= MOST_WHOLE else "", taken=taken)


def _site_of(ydl: Any, url: str) -> str:
    """What yt-dlp calls the site of an address; empty for any that it knows nothing special of."""
    return _named(next((name for name, site in ydl._ies.items() if site.suitable(url)), ""))


def _named(site: Any) -> str:
    return "" if site in ANY_SITE else str(site or "")


def _single(ydl: Any, info: Any) -> Any:
    """The one recording that a page holds.

    Raises:
        Nothing: It holds none.
        Several: It holds more than one: all but the first would be lost without a word.
    """
    from trax_ray.web.errors import Nothing, Several

    while info.get("_type") in ("playlist", "multi_video"):
        entries = (entry for entry in info.get("entries") or () if entry)
        first, second = next(entries, None), next(entries, None)
        if first is None:
            raise Nothing
        if second is not None:
            raise Several(str(info.get("title") or ""))
        info = ydl.process_ie_result(first, download=False)
    return info


def _yt_dlp(job: Job, told: TextIO) -> Any:
    """yt-dlp with what we allow, and nothing else."""
    import yt_dlp

    last_s = 0.0

    def progress(status: dict[str, Any]) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if status.get("status") == "downloading" and now_s - last_s < PROGRESS_EVERY_S:
            return
        last_s = now_s
        total = status.get("total_bytes") or status.get("total_bytes_estimate")
        _tell(told, progress=Told(int(status.get("downloaded_bytes") or 0), int(total or 0)).to_dict())

    runtime = runtime_for(job.url)
    if runtime:
        # It keeps notes, and asks the world for newer versions of itself, where it isn't told otherwise.
        os.environ |= {"DENO_DIR": str(Path(job.folder, ".deno")), "DENO_NO_UPDATE_CHECK": "1"}
    options: dict[str, Any] = {
        "quiet": True,
        "noprogress": True,
        "no_color": True,
        "logger": _Quiet(),
        "progress_hooks": [progress],
        "format": "bestaudio/best",
        "outtmpl": {"default": f"{MEDIA}.%(ext)s"},
        "noplaylist": True,
        "extract_flat": "in_playlist",
        "lazy_playlist": True,
        "cachedir": False,
        "updatetime": False,
        "continuedl": True,
        "overwrites": False,
        "sleep_interval_requests": job.request_pause_s,
        "retries": 0,
        "extractor_retries": 0,
        "file_access_retries": 0,
        "fragment_retries": FRAGMENT_RETRIES,
        "skip_unavailable_fragments": False,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "proxy": "",
        "fixup": "never",
        "postprocessors": [],
        "hls_prefer_native": True,
        "external_downloader": {"default": "native"},
        "ffmpeg_location": _NO_SUCH_PROGRAM,
        "js_runtimes": {"deno": {"path": runtime}} if runtime else {},
        "remote_components": [],
        "enable_file_urls": False,
        "writethumbnail": False,
        "usenetrc": False,
        "geo_bypass": False,
    }
    if job.cookies:
        options["cookiefile"] = io.StringIO(job.cookies)
    return yt_dlp.YoutubeDL(options)


class _Quiet:
    """Takes what yt-dlp has to say; what matters comes as an exception."""

    def debug(self, message: str) -> None:
        pass

    info = warning = error = debug
