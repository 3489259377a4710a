"""Downloads that are interrupted, from servers that count: what has come once isn't fetched again."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from batch_program import Command, until

from tests.live.servers import free_port
from tests.support.media_server import Answer, MediaServer

pytestmark = pytest.mark.timeout(600)

RUNS = """
import sys
from trax_ray.web.fetch import fetch
from trax_ray.web.job import Job
for told in fetch(Job(sys.argv[1], "fetch", sys.argv[2], allow_private_network=True)):
    print(told.bytes, flush=True)
"""

PROBE_BYTES = 1 << 20
"""What a server may give to the connection with which yt-dlp sees what is at a URL, before that is closed again: it
lies in buffers of the system."""


def tone(path: Path, seconds: int) -> bytes:
    """A recording without speech: nothing is to be recognised in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = 0.2 * np.sin(2 * np.pi * 440 * np.arange(seconds * 16_000) / 16_000)
    soundfile.write(path, sound, 16_000)
    return path.read_bytes()


@dataclass(frozen=True)
class Nginx:
    """A web server of others. Its log has a line for each request: range, status, and the bytes of the body."""

    url: str
    log: Path

    def requests(self) -> list[tuple[int | None, int, int]]:
        """First byte that was asked for (None for all), status, and bytes that were sent, in the order of their end."""
        found = []
        for line in self.log.read_text().splitlines():
            match = re.fullmatch(r'GET "(?:bytes=(\d+)-\d*|-)" (\d+) (\d+)', line)
            if match:
                found.append((None if match[1] is None else int(match[1]), int(match[2]), int(match[3])))
        return found


@contextmanager
def nginx(folder: Path, files: Path, bytes_per_s: int) -> Iterator[Nginx]:
    """Serve files with ranges, as slowly as one wants."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx isn't installed")
    port = free_port()
    own = folder / "nginx"
    own.mkdir()
    places = "\n".join(
        f"{each}_temp_path {own}/{each};" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.getuid() == 0 else ""
    (own / "nginx.conf").write_text(
        f"""{user} daemon off; worker_processes 1; pid {own}/pid; error_log {own}/errors;
        events {{ }}
        http {{
            {places}
            log_format counted '$request_method "$http_range" $status $body_bytes_sent';
            access_log {own}/log counted;
            types {{ audio/x-wav wav; }}
            server {{ listen 127.0.0.1:{port}; root {files}; limit_rate {bytes_per_s}; }}
        }}"""
    )
    with subprocess.Popen([program, "-c", str(own / "nginx.conf"), "-p", str(own)], stderr=subprocess.PIPE) as process:
        try:
            until(lambda: (own / "pid").exists() or process.poll() is not None, 30, what="nginx")
            assert process.poll() is None, process.stderr and process.stderr.read()
            yield Nginx(f"http://127.0.0.1:{port}", own / "log")
        finally:
            process.terminate()


def had(folder: Path) -> int:
    """Bytes of a recording that have come."""
    return max((path.stat().st_size for path in folder.glob("media*")), default=0)


def test_kill_9_of_a_download_costs_no_byte_that_has_come(tmp_path: Path, record: Callable[..., None]) -> None:
    data = tone(tmp_path / "files" / "tone.wav", 120)
    own, kills = tmp_path / "own", 4
    with nginx(tmp_path, tmp_path / "files", 400_000) as server:
        starts = []
        for number in range(1, kills + 1):
            process = subprocess.Popen([sys.executable, "-c", RUNS, f"{server.url}/tone.wav", str(own)], text=True)
            until(lambda number=number: had(own) > number * 500_000, 120, what="some bytes")  # type: ignore[misc]
            (child,) = psutil.Process(process.pid).children()
            process.send_signal(signal.SIGKILL)
            process.wait()
            psutil.wait_procs([child], timeout=10)
            starts.append(had(own))
        done = subprocess.run(
            [sys.executable, "-c", RUNS, f"{server.url}/tone.wav", str(own)],
            check=True,
            capture_output=True,
            timeout=120,
        )
        assert done.returncode == 0
        assert (own / "media.wav").read_bytes() == data
        asked = until(lambda: len(ranged(server)) == kills and server.requests(), 30, what="the log")
        assert sorted(ranged(server)) == starts, "each attempt went on where the one before had ended"
        assert {status for start, status, _ in asked if start} == {206}
        last = [sent for start, _, sent in asked if start == starts[-1]]
        assert last == [len(data) - starts[-1]]
    record(
        what="kill -9 of a download from nginx",
        runs=kills,
        seeds="",
        found="each attempt asked for what was missing, to the byte",
    )


def ranged(server: Nginx) -> list[int]:
    """The first bytes that were asked for, of requests for a part."""
    return [start for start, _, _ in server.requests() if start]


def test_a_batch_of_downloads_is_stopped_killed_and_goes_on(
    samples: Path, tmp_path: Path, record: Callable[..., None]
) -> None:
    data = [tone(tmp_path / f"{number}.wav", 60 + number) for number in range(4)]
    answers = {
        f"/{number}.wav": Answer(each, "audio/x-wav", bytes_per_s=150_000, headers={"ETag": f'"{number}"'})
        for number, each in enumerate(data)
    }
    with MediaServer(answers) as server:
        urls = [f"{server.url}/{number}.wav" for number in range(4)]
        with Command(samples, tmp_path, urls, ("--allow-private-network", "-f", "txt")) as command:
            folder = command.out / ".trax" / "media"

            def parts() -> dict[str, int]:
                return {each.name: had(each) for each in folder.iterdir()} if folder.is_dir() else {}

            command.until(lambda: sum(size > 200_000 for size in parts().values()) == 2, 300, what="two downloads")
            gone_s = command.signalled(signal.SIGTERM)
            command.process.communicate(timeout=10)
            assert command.process.returncode == 130
            stopped, asked = parts(), len(server.asked)
            assert min(stopped.values()) > 200_000, "what has come is kept"

            command.start()
            command.until(
                lambda: sum(size > 600_000 for size in parts().values()) == 2, 300, what="the same two, further"
            )
            assert sorted(each.start for each in server.asked[asked:] if each.start) == sorted(stopped.values())
            command.killed()
            killed, asked = parts(), len(server.asked)

            done = command.again()
            assert done.returncode == 0, done.stderr
            again = sorted(each.start for each in server.asked[asked:] if each.start)
            assert again == sorted(killed.values()), "no byte that had come was asked for"
            assert parts() == {}, "the media are gone with their transcripts"
            assert len(list(command.out.glob("*.txt"))) == 4
            for number, each in enumerate(data):
                assert server.bytes_sent(f"/{number}.wav") <= len(each) + 3 * PROBE_BYTES
    record(
        what="SIGTERM, then kill -9, of a batch that fetches",
        runs=1,
        seeds="",
        found=f"all gone {gone_s:.1f} s after SIGTERM; each download went on at the byte where it was",
    )


def test_media_ahead_of_their_transcription_stay_within_the_bound(
    samples: Path, tmp_path: Path, record: Callable[..., None]
) -> None:
    """On real Ray, with sizes that only the servers know."""
    count, bound_mb = 8, 5
    data = tone(tmp_path / "tone.wav", 60)  # 1.9 MB
    with MediaServer({f"/{number}.wav": Answer(data, "audio/x-wav") for number in range(count)}) as server:
        urls = [f"{server.url}/{number}.wav" for number in range(count)]
        more = ("--allow-private-network", "-f", "txt", "--prefetch-mb", str(bound_mb), "--host-requests", "8")
        with Command(samples, tmp_path, urls, more) as command:
            folder, most = command.out / ".trax" / "media", 0
            while command.process.poll() is None:
                command.look()
                most = max(most, sum(had(each) for each in folder.iterdir()) if folder.is_dir() else 0)
                time.sleep(0.05)
            assert command.process.returncode == 0
            assert len(list(command.out.glob("*.txt"))) == count
            assert list(folder.iterdir()) == []
    assert 0 < most <= bound_mb * 10**6
    found = f"at most {most / 10**6:.1f} MB of {bound_mb} on the disk, of {count * len(data) / 10**6:.0f} MB in all"
    record(what="downloads with a bound on the disk", runs=1, seeds="", found=found)
