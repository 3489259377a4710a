"""What yt-dlp's exceptions mean, by the exceptions themselves and by the sentences of sites."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from trax_ray.web.errors import Live, Nothing, Several, described
from trax_ray.web.job import Job

JOB = Job("https://example.org/talk?token=sesame", "fetch", "/nowhere")


def of_status(status: int, **headers: str) -> Exception:
    """The error that yt-dlp raises for an answer with this status, as it comes out of the library."""
    import io

    from yt_dlp.networking import Response
    from yt_dlp.networking.exceptions import HTTPError
    from yt_dlp.utils import DownloadError, ExtractorError

    names = {name.replace("_", "-"): value for name, value in headers.items()}
    cause = HTTPError(Response(io.BytesIO(b""), JOB.url, names, status=status))
    inner = ExtractorError("Unable to download webpage", cause=cause, expected=True)
    return DownloadError(str(inner), (ExtractorError, inner, None))


def of_words(words: str) -> Exception:
    from yt_dlp.utils import DownloadError, ExtractorError

    inner = ExtractorError(words, expected=True)
    return DownloadError(f"ERROR: {inner}", (ExtractorError, inner, None))


def meaning(error: BaseException, *refused: str) -> tuple[Any, ...]:
    said = described(error, JOB, refused)
    assert "sesame" not in said["message"]
    assert said["message"].startswith("example.org: ")
    return said["code"], said["failure_class"]


@pytest.mark.parametrize(
    ("status", "code", "failure_class"),
    [
        (401, "login_required", "permanent"),
        (403, "forbidden", "transient"),
        (404, "gone", "permanent"),
        (408, "timeout", "transient"),
        (410, "gone", "permanent"),
        (418, "gone", "permanent"),
        (429, "rate_limited", "transient"),
        (451, "geo_blocked", "permanent"),
        (500, "server_error", "transient"),
        (503, "server_error", "transient"),
    ],
)
def test_what_a_status_means(status: int, code: str, failure_class: str) -> None:
    assert meaning(of_status(status)) == (code, failure_class)


@pytest.mark.parametrize(
    ("words", "code", "failure_class"),
    [
        ("[youtube] a: Sign in to confirm you\u2019re not a bot. Use --cookies", "bot_check", "config"),
        ("[youtube] a: Private video. Sign in if you've been granted access", "gone", "permanent"),
        ("[youtube] a: Video unavailable. This video has been removed by the uploader", "gone", "permanent"),
        ("[youtube] a: Join this channel to get access to members-only content", "login_required", "permanent"),
        ("[vimeo] a: This video is only available for registered users. Use --cookies", "login_required", "permanent"),
        ("[bbc] a: This video is not available from your location due to geo restriction", "geo_blocked", "permanent"),
        ("[youtube] a: This live event will begin in 3 days.", "live_stream", "permanent"),
        ("[generic] a: No video formats found!", "nothing_to_fetch", "permanent"),
        ("[x] a: This video is DRM protected", "protected", "permanent"),
        ("ERROR: \r[download] Got error: 10 bytes read, 13538 more expected", "incomplete", "transient"),
        ("[download] Got error: HTTP Error 404: Not Found. Giving up after 2 retries", "gone", "permanent"),
        ("No connection adapters were found for 'file:///etc/passwd'", "address_refused", "permanent"),
        ('RTMP download detected but "rtmpdump" could not be run', "protected", "permanent"),
        ("Read timed out.", "timeout", "transient"),
        ("something that nobody has seen", "fetch_failed", "transient"),
    ],
)
def test_what_sites_say(words: str, code: str, failure_class: str) -> None:
    assert meaning(of_words(words)) == (code, failure_class)


@pytest.mark.parametrize(
    ("error", "code", "failure_class"),
    [
        (Live("a", "is_live"), "live_stream", "permanent"),
        (Nothing(), "nothing_to_fetch", "permanent"),
        (Several("Talks"), "several_recordings", "permanent"),
        (ConnectionResetError(), "connection", "transient"),
        (TimeoutError(), "timeout", "transient"),
        (MemoryError(), "out_of_memory", "resource"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full", "config"),
    ],
)
def test_what_other_errors_mean(error: BaseException, code: str, failure_class: str) -> None:
    assert meaning(error) == (code, failure_class)


def test_what_the_guard_refused_is_said_before_all_else() -> None:
    """Libraries turn its error into one that looks like any lost connection."""
    assert meaning(ConnectionRefusedError(), "127.0.0.1 (loopback)") == ("address_refused", "permanent")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("-1", None),
        ("soon", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("inf", None),
        ("1e999", None),
        ("1e300", None),
        ("nan", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None),
    ],
)
def test_how_long_the_server_wants_us_to_wait(header: str, seconds: float | None) -> None:
    assert described(of_status(429, Retry_After=header), JOB, ())["retry_after_s"] == seconds
