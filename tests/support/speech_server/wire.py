"""HTTP/1.1 as far as clients of speech services need it, on asyncio streams: requests, forms, replies.

Nothing here knows models or faults. Requests come with Content-Length or in chunks; replies have a Content-Length
unless their pieces are sent one by one.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

__all__ = ["JSON", "Connection", "Form", "Head", "Reply", "Upload", "parse_form"]

JSON = "application/json"

LIMIT = 1 << 18
"""Bytes that a connection holds unread, and the longest head of a request."""

_PIECE = 1 << 16


@dataclass(frozen=True, slots=True)
class Head:
    """What comes before a request's body.

    Args:
        method: In capitals.
        path: Without the query.
        query: What follows the `?`.
        headers: Names in lower case.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]

    @property
    def keeps_alive(self) -> bool:
        """Whether the client may send another request on this connection."""
        return self.headers.get("connection", "").lower() != "close"


@dataclass(slots=True)
class Reply:
    """An answer before it is sent.

    Args:
        status: The HTTP status.
        payload: What the body is made of: text is sent as it is, bytes too, anything else as JSON.
        content_type: Of the body.
        headers: More headers.
    """

    status: int = 200
    payload: Any = None
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        """The body as it is sent."""
        if isinstance(self.payload, bytes):
            return self.payload
        if isinstance(self.payload, str) and self.content_type != JSON:
            return self.payload.encode()
        return json.dumps(self.payload, ensure_ascii=False).encode()

    def head(self, length: int | None, *, close: bool) -> bytes:
        """Status line and headers.

        Args:
            length: Of the body; None for a body in chunks.
            close: Tell the client that the connection ends after this.
        """
        phrase = HTTPStatus(self.status).phrase if self.status in HTTPStatus._value2member_map_ else "Unknown"
        lines = [f"HTTP/1.1 {self.status} {phrase}", f"date: {formatdate(usegmt=True)}"]
        lines.append(f"content-type: {self.content_type}")
        lines.append("transfer-encoding: chunked" if length is None else f"content-length: {length}")
        lines.append(f"connection: {'close' if close else 'keep-alive'}")
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Connection:
    """One client's connection: reads requests, and tells of every send whether the socket took all of it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        writer.transport.set_write_buffer_limits(0)  # so that drain waits until the socket has everything

    @property
    def is_gone(self) -> bool:
        """Whether the client has closed its side, or the connection is lost."""
        return self._reader.at_eof() or self._writer.transport.is_closing()

    async def read_head(self) -> Head | None:
        """The head of the next request; None when the client has closed, or sends something else than HTTP."""
        try:
            raw = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return None
        first, *rest = raw.decode("latin-1").split("\r\n")
        parts = first.split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            return None
        path, _, query = parts[1].partition("?")
        headers = {}
        for line in rest:
            name, colon, value = line.partition(":")
            if colon:
                headers[name.strip().lower()] = value.strip()
        return Head(parts[0].upper(), unquote(path), query, headers)

    async def read_body(self, head: Head, limit: int, counted: Callable[[int], None]) -> bytes | None:
        """Read the body to its end, also one that is too long, because a client reads no answer before it has sent all.

        Args:
            head: The request's head.
            limit: Longer bodies are read and thrown away.
            counted: Is told how many bytes have come so far.

        Returns:
            The body; None when it is longer than `limit`.

        Raises:
            asyncio.IncompleteReadError: The client went away before the end.
        """
        if head.headers.get("expect", "").lower() == "100-continue":
            self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        chunked = head.headers.get("transfer-encoding", "").lower() == "chunked"
        pieces = self._chunks() if chunked else self._pieces(int(head.headers.get("content-length", "0")))
        body = bytearray()
        total = 0
        async for piece in pieces:
            total += len(piece)
            counted(total)
            if total <= limit:
                body += piece
        return bytes(body) if total <= limit else None

    async def _pieces(self, left: int) -> AsyncIterator[bytes]:
        while left:
            piece = await self._reader.read(min(left, _PIECE))
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(piece)
            yield piece

    async def _chunks(self) -> AsyncIterator[bytes]:
        while size := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16):
            async for piece in self._pieces(size):
                yield piece
            await self._reader.readexactly(2)
        while await self._reader.readuntil(b"\r\n") != b"\r\n":
            pass

    async def send(self, data: bytes, accepted: Callable[[], None] | None = None) -> bool:
        """Send bytes.

        Args:
            data: What to send.
            accepted: Is called as soon as the socket has taken the last byte, before anything else can happen.

        Returns:
            Whether the socket took all of it, and the client hadn't gone before.
        """
        if self.is_gone:
            return False
        self._writer.write(data)
        if self._writer.transport.get_write_buffer_size():
            try:
                await self._writer.drain()
            except ConnectionError:
                return False
        if accepted is not None:
            accepted()
        return True

    async def wait_until_gone(self) -> None:
        """Wait until the client closes; what it sends before that is thrown away."""
        try:
            while await self._reader.read(_PIECE):
                pass
        except ConnectionError:
            pass

    def cut(self, *, reset: bool) -> None:
        """End the connection at once.

        Args:
            reset: Let the client see a reset rather than an end.
        """
        if reset:
            taken = self._writer.get_extra_info("socket")
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.transport.abort()
        else:
            self._writer.close()


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of a form."""

    file_name: str
    content_type: str
    data: bytes

    @property
    def suffix(self) -> str:
        """The ending of its name in lower case, without the dot; empty where there is none."""
        name, dot, suffix = self.file_name.rpartition(".")
        return suffix.lower() if dot and name else ""


@dataclass(frozen=True, slots=True)
class Form:
    """A form: values by name, in order, and the file in the field `file`."""

    fields: Mapping[str, list[str]]
    file: Upload | None

    def one(self, name: str) -> str | None:
        """The last value of a field; None where it isn't there."""
        values = self.fields.get(name)
        return values[-1] if values else None

    def many(self, name: str) -> list[str]:
        """All values of `name[]`."""
        return list(self.fields.get(f"{name}[]", ()))


_PARAMETER = re.compile(r';\s*([\w*]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))')


def parse_form(content_type: str, body: bytes) -> Form | None:
    """Decode multipart/form-data.

    Args:
        content_type: The header, with the boundary.
        body: The body.

    Returns:
        The form; None when it is no such form, or broken.
    """
    kind, _, _ = content_type.partition(";")
    boundary = _parameters(content_type).get("boundary", "")
    if kind.strip().lower() != "multipart/form-data" or not boundary:
        return None
    mark = b"--" + boundary.encode("latin-1")
    fields: dict[str, list[str]] = {}
    file: Upload | None = None
    at = body.find(mark)
    while at >= 0:
        at += len(mark)
        if body.startswith(b"--", at):
            return Form(fields, file)
        end = body.find(b"\r\n" + mark, at)
        split = body.find(b"\r\n\r\n", at, end)
        if end < 0 or split < 0:
            return None
        headers = _headers(body[at:split])
        found = _parameters(headers.get("content-disposition", ""))
        name, data = found.get("name", ""), body[split + 4 : end]
        if "filename" in found:
            if name == "file":
                file = Upload(found["filename"], headers.get("content-type", ""), data)
        else:
            fields.setdefault(name, []).append(data.decode(errors="replace"))
        at = end + 2
    return None


def _headers(raw: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in raw.decode(errors="replace").split("\r\n"))
    return {name.strip().lower(): value.strip() for name, _, value in lines}


def _parameters(header: str) -> dict[str, str]:
    """`name="a"` and the like; clients write quotes in names as `%22` or `\\"`, other alphabets as UTF-8 or `name*`."""
    found = {}
    for name, quoted, bare in _PARAMETER.findall(header):
        value = re.sub(r"\\(.)", r"\1", quoted) or bare
        if name.endswith("*"):
            found[name[:-1]] = unquote(value.rpartition("'")[2])
        else:
            found.setdefault(name, value.replace("%22", '"'))
    return found
