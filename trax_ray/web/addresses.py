"""Which addresses may be reached: public ones. Pure: an address goes in, what is wrong with it comes out.

The lists are those of IANA's registries of special-purpose addresses, and not `ipaddress.is_global`, which means
something else in each version of Python.
"""

from __future__ import annotations

import re
from collections.abc import Container
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import PurePath
from urllib.parse import unquote, urlsplit

from trax_ray.codes import FailureCode
from trax_ray.errors import UsageError

__all__ = ["checked_url", "is_url", "name_of_url", "wrong_with"]

MOST_CHARACTERS = 80
"""Of a name that is made of a URL."""

_SPECIAL_V4 = {
    IPv4Network(network): kind
    for network, kind in {
        "0.0.0.0/8": "this network",
        "10.0.0.0/8": "private",
        "100.64.0.0/10": "a provider's private network",
        "127.0.0.0/8": "loopback",
        # Azure's service for its virtual machines has a public address and is reached from inside only.
        "168.63.129.16/32": "a cloud's own service",
        "169.254.0.0/16": "link-local",
        "172.16.0.0/12": "private",
        "192.0.0.0/24": "reserved",
        "192.0.2.0/24": "documentation",
        "192.88.99.0/24": "reserved",
        "192.168.0.0/16": "private",
        "198.18.0.0/15": "benchmarks",
        "198.51.100.0/24": "documentation",
        "203.0.113.0/24": "documentation",
        "224.0.0.0/4": "multicast",
        "240.0.0.0/4": "reserved",
    }.items()
}

_SPECIAL_V6 = {
    IPv6Network(network): kind
    for network, kind in {
        "::1/128": "loopback",
        "::/128": "unspecified",
        "fc00::/7": "private",
        "fe80::/10": "link-local",
        "ff00::/8": "multicast",
        "2001::/23": "reserved",
        "2001:db8::/32": "documentation",
        "2002::/16": "a tunnel to IPv4",
        "3fff::/20": "documentation",
    }.items()
}

_PUBLIC_V6 = IPv6Network("2000::/3")
"""All that is given out so far."""

_TRANSLATED_V6 = IPv6Network("64:ff9b::/96")
"""IPv4 addresses as networks without IPv4 reach them."""


def wrong_with(host: str) -> str:
    """Why an address may not be reached; empty where it may.

    Args:
        host: A numeric address, as it is given to `connect`, with or without a zone. A name is refused: who connects
            has resolved it, and whoever checks the name checks something else.
    """
    try:
        address = ip_address(host)
    except ValueError:
        return "not a numeric address"
    if isinstance(address, IPv6Address):
        inner = _inner_v4(address)
        return _wrong_with_v6(address) if inner is None else _wrong_with_v4(inner)
    return _wrong_with_v4(address)


def _inner_v4(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that is reached by it; None where there is none."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if IPv6Address(int(address)) in _TRANSLATED_V6:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def _wrong_with_v4(address: IPv4Address) -> str:
    return next((kind for network, kind in _SPECIAL_V4.items() if address in network), "")


def _wrong_with_v6(address: IPv6Address) -> str:
    bare = IPv6Address(int(address))  # a zone isn't part of what networks are compared with
    special = next((kind for network, kind in _SPECIAL_V6.items() if bare in network), "")
    return special or ("" if bare in _PUBLIC_V6 else "reserved")


def is_url(text: str) -> bool:
    """Whether an input is meant as a URL: it has a scheme and `//`, as no path of a file needs to have."""
    scheme, mark, _ = text.partition("://")
    return bool(mark) and scheme.isascii() and scheme.replace("+", "").replace("-", "").isalnum()


def checked_url(text: str) -> str:
    """A URL that may be asked for.

    Args:
        text: As it was given; white space around it goes.

    Raises:
        UsageError: It isn't http or https, has no host, or holds a name and password: those would be in the journal.
    """
    url = text.strip()
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"{url!r} is no URL: {error}", code=FailureCode.BAD_URL) from error
    if parts.scheme.lower() not in ("http", "https"):
        raise UsageError(f"{url!r}: only http and https URLs are fetched", code=FailureCode.BAD_URL)
    if not host:
        raise UsageError(f"{url!r} names no host", code=FailureCode.BAD_URL)
    if parts.username is not None or parts.password is not None:
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        raise UsageError(
            f"the URL {bare!r} was given with a name and password, which journals and reports would show: "
            "give the URL without them, and `--cookies FILE` for what needs a login",
            code=FailureCode.BAD_URL,
        )
    if any(character.isspace() or not character.isprintable() for character in url):
        raise UsageError(f"{url!r} holds white space: write it as %20", code=FailureCode.BAD_URL)
    return url


def name_of_url(url: str, suffixes: Container[str]) -> str:
    """A name for what is at a URL, before anybody has looked: the file's where it names one, else all of the URL.

    Args:
        url: As of `checked_url`.
        suffixes: Those of media files, lower case, with the dot.

    Returns:
        With a suffix, which names of outputs leave out: that of the file, or `.url`.
    """
    parts = urlsplit(url)
    last = unquote(parts.path.rstrip("/").rpartition("/")[2])
    if PurePath(last).suffix.lower() in suffixes and PurePath(last).name == last:
        return last
    whole = "-".join(re.findall(r"\w+", f"{parts.hostname} {unquote(parts.path)} {unquote(parts.query)}"))
    return f"{whole[:MOST_CHARACTERS]}.url"
