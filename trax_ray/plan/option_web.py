"""Options: what is fetched from the web."""

from __future__ import annotations

from pathlib import Path

from trax_ray.errors import UsageError
from trax_ray.plan.option import Option, not_empty
from trax_ray.store.files import shown

__all__ = ["WEB"]


def _cookies(given: str, label: str) -> str:
    path = Path(not_empty(given, label)).absolute()
    if not path.is_file():
        raise UsageError(f"{label}: there is no file {shown(given)}: save the cookies of a browser that is logged in")
    return str(path)


WEB: tuple[Option, ...] = (
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
