"""The JavaScript runtime by which yt-dlp solves YouTube's riddles: a program beside it, which gets no permissions."""

from __future__ import annotations

from importlib.util import find_spec
from urllib.parse import urlsplit

__all__ = ["runtime_for"]

_SITES = ("youtube.com", "youtu.be", "youtube-nocookie.com")


def runtime_for(url: str) -> str:
    """Path of the one program that may be started to fetch a URL; empty where none is needed, or installed.

    The extra `youtube` installs it and what it runs. It is started without a permission to read, write, start anything
    or reach a network, by yt-dlp's own options.
    """
    host = (urlsplit(url).hostname or "").lower()
    if not any(host == site or host.endswith(f".{site}") for site in _SITES) or find_spec("yt_dlp_ejs") is None:
        return ""
    try:
        from deno import find_deno_bin
    except ImportError:
        return ""
    try:
        return str(find_deno_bin())
    except FileNotFoundError:
        return ""
