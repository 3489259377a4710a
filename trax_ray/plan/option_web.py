"""Options: what is fetched from the web."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from trax_ray.core.spec import CAPTIONS
from trax_ray.errors import UsageError
from trax_ray.plan.option import Option, not_empty, refused
from trax_ray.store.explaining import shown

__all__ = ["WEB"]


def _cookies(given: str, label: str) -> str:
    path = Path(not_empty(given, label)).absolute()
    if not path.is_file():
        raise UsageError(f"{label}: there is no file {shown(given)}: save the cookies of a browser that is logged in")
    return str(path)


def _day(given: str, label: str) -> str:
    text = not_empty(given, label).strip()
    if len(text) == 8 and text.isdigit():
        text = f"{text[:4]}-{text[4:6]}-{text[6:]}"
    try:
        return date.fromisoformat(text).strftime("%Y%m%d")
    except ValueError:
        raise refused(label, "a day such as 2026-11-21", given) from None


def _archive(given: str, label: str) -> str:
    path = Path(not_empty(given, label)).absolute()
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"{label}: {shown(given)} can't be a file: name one in a folder that is there")
    return str(path)


def _captions(given: str, label: str) -> str:
    return not_empty(given, label).strip().lower()


WEB: tuple[Option, ...] = (
    Option(
        "max_items",
        ("--max-items",),
        int,
        "Recordings that are taken of each playlist, channel, page and feed, the first ones of those that are wanted.",
        "max_items",
        optional=True,
        metavar="N",
    ),
    Option(
        "since",
        ("--since",),
        str,
        "Take only what was published on that day or later, such as 2026-11-21.",
        "since",
        optional=True,
        read=_day,
        metavar="DATE",
    ),
    Option(
        "match",
        ("--match",),
        str,
        "Take only recordings of playlists, channels and feeds whose title holds this text, in any case.",
        "match",
        optional=True,
        read=not_empty,
        metavar="TEXT",
    ),
    Option(
        "download_archive",
        ("--download-archive",),
        str,
        "File that lists what was fetched, as yt-dlp writes it: what stands there isn't fetched; what is, is added.",
        "download_archive",
        optional=True,
        read=_archive,
        metavar="FILE",
    ),
    Option(
        "captions",
        ("--captions",),
        str,
        f"Take the publisher's own captions as the transcript: {', '.join(CAPTIONS)} (what has none fails).",
        "captions",
        read=_captions,
    ),
    Option(
        "cookies",
        ("--cookies",),
        str,
        "File with cookies (Netscape format) for recordings that need a login.",
        "cookies",
        optional=True,
        read=_cookies,
        metavar="FILE",
    ),
    Option(
        "keep_media",
        ("--keep-media",),
        bool,
        "Keep what was fetched from the web, in OUT/media.",
        "keep_media",
    ),
    Option(
        "prefetch_mb",
        ("--prefetch-mb",),
        int,
        "MB of media that may be fetched ahead of their transcription.  [default: a quarter of the free disk, at most "
        "5000]",
        "limits.prefetch_mb",
        optional=True,
    ),
    Option(
        "host_requests",
        ("--host-requests",),
        int,
        "Recordings that are fetched from one host at once.  [default: 2, from sites such as YouTube 1]",
        "limits.host_requests",
        optional=True,
    ),
    Option(
        "host_pause",
        ("--host-pause",),
        float,
        "Seconds between two recordings of one host.  [default: 10 to 20 at sites such as YouTube, else 0]",
        "limits.host_pause_s",
        optional=True,
    ),
    Option(
        "allow_private_network",
        ("--allow-private-network",),
        bool,
        "Fetch from this machine and its network too, and not from public addresses only.",
        "allow_private_network",
    ),
)
"""What is fetched from the web."""
