"""Asks whether what answers at an address is Ray, and which one, without loading Ray.

Ray itself finds out the hard way: its client waits for what isn't Ray for twenty seconds, prints lines of C++, and says
that it may be overloaded. A port that Ray had noted once may be anybody's by now.

Ray's head (its GCS) speaks gRPC, which is HTTP/2, and keeps the versions that it was started with under a key. So this
sends one request and looks through the answer. It needs no more of HTTP/2 than these few frames.
"""

from __future__ import annotations

import json
import os
import platform
import re
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from importlib import metadata
from pathlib import Path

from trax_ray.places import home

__all__ = ["Found", "Peer", "ask", "problem_of"]

ASK_S = 2.0

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, GOAWAY = 0, 1, 4, 7
END_STREAM, ACKNOWLEDGED, END_HEADERS = 1, 1, 4
HEADER = struct.Struct(">I B I")  # length and kind in one, flags, stream
MOST_BYTES = 2**20


class Peer(Enum):
    """What is at an address: nobody, something that isn't Ray, or Ray."""

    NOBODY = "nobody"
    OTHER = "other"
    RAY = "Ray"


@dataclass(frozen=True, slots=True)
class Found:
    """What was found at an address.

    Args:
        peer: What it is.
        ray_version: Of its Ray; empty where it doesn't say.
        python_version: Of its Python; empty where it doesn't say.
    """

    peer: Peer
    ray_version: str = ""
    python_version: str = ""

    @property
    def joinable(self) -> bool:
        """Whether a batch of this process can join it, as far as that can be seen."""
        return self.peer is Peer.RAY and not problem_of(self)


def problem_of(found: Found) -> str:
    """Why a batch of this process can't join what was found; empty where nothing speaks against it."""
    if found.peer is Peer.NOBODY:
        return "nobody answers there"
    if found.peer is Peer.OTHER:
        return "what answers there isn't Ray"
    if not found.ray_version:
        return ""  # Ray itself will say what it minds
    ours, there = _own_versions(), (found.ray_version, found.python_version)
    if there == ours:
        return ""
    return f"it is Ray {there[0]} on Python {there[1]}, and this is Ray {ours[0]} on Python {ours[1]}"


def ask(address: str, timeout_s: float = ASK_S) -> Found:
    """Ask what is at `host:port`.

    Args:
        address: Where.
        timeout_s: How long all of it may take, seconds.
    """
    host, _, port = address.rpartition(":")
    until = time.monotonic() + timeout_s
    try:
        connection = socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s)
    except (OSError, ValueError, OverflowError):
        return Found(Peer.NOBODY)
    with connection:
        try:
            connection.sendall(_request(address))
            return _understood(_frames(connection, until))
        except (OSError, EOFError, ValueError):
            return Found(Peer.OTHER)


def _own_versions() -> tuple[str, str]:
    try:
        return metadata.version("ray"), platform.python_version()
    except metadata.PackageNotFoundError:
        return "", platform.python_version()


def _understood(frames: Iterator[tuple[int, int, bytes]]) -> Found:
    """What the frames of an answer say. gRPC begins with its settings; others say something else, or nothing."""
    kind, _, _ = next(frames)
    if kind != SETTINGS:
        return Found(Peer.OTHER)
    said = b""
    for kind, flags, content in frames:
        if kind == DATA:
            said += content
        if kind == GOAWAY or (kind in (DATA, HEADERS) and flags & END_STREAM):
            break
    match = re.search(rb"\{[^{}]*\"ray_version\".*\}", said, re.DOTALL)
    try:
        versions = json.loads(match[0]) if match else {}
        return Found(Peer.RAY, str(versions.get("ray_version", "")), str(versions.get("python_version", "")))
    except (ValueError, AttributeError):
        return Found(Peer.RAY)


def _frames(connection: socket.socket, until: float) -> Iterator[tuple[int, int, bytes]]:
    """Kind, flags and content of each frame that comes, until nothing does any more."""
    taken = 0
    while taken < MOST_BYTES:
        length_and_kind, flags, _ = HEADER.unpack(_read(connection, HEADER.size, until))
        length, kind = length_and_kind >> 8, length_and_kind & 0xFF
        if taken + length > MOST_BYTES:
            raise ValueError("that is no answer to what was asked")
        content = _read(connection, length, until)
        if kind == SETTINGS and not flags & ACKNOWLEDGED:
            connection.sendall(_frame(SETTINGS, ACKNOWLEDGED, 0, b""))
        taken += HEADER.size + length
        yield kind, flags, content


def _read(connection: socket.socket, count: int, until: float) -> bytes:
    read = b""
    while len(read) < count:
        connection.settimeout(max(until - time.monotonic(), 0.001))
        more = connection.recv(count - len(read))
        if not more:
            raise EOFError
        read += more
    return read


def _request(address: str) -> bytes:
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/ray.rpc.InternalKVGcsService/InternalKVGet"),
        (":authority", address),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    token = _token()
    if token:
        headers.append(("authorization", f"Bearer {token}"))
    block = b"".join(b"\x00" + _text(name) + _text(value) for name, value in headers)
    # An InternalKVGetRequest: key and namespace.
    message = b"\x0a" + _text("CLUSTER_METADATA") + b"\x12" + _text("cluster")
    return (
        PREFACE
        + _frame(SETTINGS, 0, 0, b"")
        + _frame(HEADERS, END_HEADERS, 1, block)
        + _frame(DATA, END_STREAM, 1, struct.pack(">?I", False, len(message)) + message)
    )


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return HEADER.pack(len(content) << 8 | kind, flags, stream) + content


def _text(text: str) -> bytes:
    """A text with its length before it, as HPACK (RFC 7541, 5.1: a prefix of seven bits) has it; the same in protobuf
    for the short ones that are sent there."""
    data = text.encode("ascii", "replace")
    rest = len(data)
    if rest < 0x7F:
        return bytes([rest]) + data
    length, rest = [0x7F], rest - 0x7F
    while rest >= 0x80:
        length.append(0x80 | rest & 0x7F)
        rest >>= 7
    return bytes([*length, rest]) + data


def _token() -> str:
    """Ray's token, as Ray finds it; empty where there is none."""
    token = os.environ.get("RAY_AUTH_TOKEN", "")
    if token or os.environ.get("RAY_AUTH_MODE", "token") != "token":
        return token
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or home() / ".ray" / "auth_token")
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
