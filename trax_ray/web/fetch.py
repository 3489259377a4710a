"""Fetching, from the side of the attempt: a process of its own does it, and is ended with the attempt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from trax_ray.codes import FailureCode
from trax_ray.errors import DiskFull, NetworkError, ProcessingError, ResourceError, TraxRayError
from trax_ray.web.addresses import checked_url
from trax_ray.web.job import Entry, Item, Job, Told

__all__ = ["fetch", "list_entries", "look"]

SILENCE_S = 120.0
"""How long nothing may come from the process that fetches. yt-dlp gives up on a silent host after 20 s."""

SIGN_OF_LIFE_S = 0.5
"""How often the attempt hears something while it waits."""

_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from trax_ray.web.child import main; main()"

_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "SYSTEMROOT")
"""The environment of the process that fetches: no keys, no proxies, no settings of libraries."""


def look(job: Job, cookies: str = "") -> Generator[Told, None, Item]:
    """What a site says of a recording.

    Raises:
        As `fetch`.
    """
    result = yield from _messages(replace(job, task="look"), cookies)
    return Item.from_dict(result)


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


def list_entries(job: Job, cookies: str = "") -> Iterator[Entry]:
    """The recordings that a playlist, a channel or a page holds, as they are read.

    Raises:
        As `fetch`.
    """
    found: list[Entry] = []
    working = _messages(replace(job, task="list"), cookies, found.append)
    for _ in working:
        yield from found
        found.clear()
    yield from found


def _messages(
    job: Job, cookies: str, take: Callable[[Entry], None] = lambda entry: None
) -> Generator[Told, None, dict[str, Any]]:
    """Run the process, and pass on what it tells."""
    checked_url(job.url)
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    # By the pipe: yt-dlp writes cookies back, and a copy on the disk would outlive whoever is killed.
    own = Path(cookies).read_text(errors="surrogateescape") if cookies else ""
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", _START, json.dumps([part for part in sys.path if part])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
            | {"HOME": str(folder.absolute()), "TMPDIR": str(folder.absolute())},
            start_new_session=True,
        )
        try:
            assert process.stdin is not None
            process.stdin.write(replace(job, folder=str(folder.absolute()), cookies=own).line().encode())
            process.stdin.flush()
            told = Told(0)
            for line in _lines(process):
                if line is None:
                    yield told
                elif "progress" in line:
                    new = Told(**line["progress"])
                    told = replace(new, site=new.site or told.site)
                    yield told
                elif "entry" in line:
                    take(Entry(**line["entry"]))
                    yield told
                elif "error" in line:
                    raise _error(line["error"])
                else:
                    result: dict[str, Any] = line["result"]
                    return result
            process.wait()
            complaints.seek(0)
            raise _ended(process.returncode, complaints.read().decode(errors="replace"))
        finally:
            _end(process)


def _lines(process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any] | None]:
    """What the process writes; None where nothing came for a while.

    Raises:
        NetworkError: Nothing came for too long.
    """
    said: Queue[bytes | None] = Queue()

    def listen() -> None:
        assert process.stdout is not None
        # A pipe that is closed under a thread that reads is an error of either kind.
        with suppress(OSError, ValueError):
            for line in process.stdout:
                said.put(line)
        said.put(None)

    threading.Thread(target=listen, daemon=True).start()
    silent_s = 0.0
    while True:
        try:
            line = said.get(timeout=SIGN_OF_LIFE_S)
        except Empty:
            silent_s += SIGN_OF_LIFE_S
            if silent_s >= SILENCE_S:
                raise NetworkError(
                    f"nothing came for {SILENCE_S:g} s, and the attempt was ended", code=FailureCode.TIMEOUT
                ) from None
            yield None
            continue
        if line is None:
            return
        silent_s = 0.0
        yield json.loads(line)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


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
