"""What goes over the wire: bodies and forms of requests as they come, replies before they go out.

Nothing here knows models or faults, and HTTP itself is aiohttp's. Only forms are read here, as aiohttp's reader changes
the whole process's filters of warnings for each part, and tests in other threads rely on them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from aiohttp.web import BaseRequest

__all__ = ["JSON", "Form", "Reply", "Upload", "parse_form", "read_body"]

JSON = "application/json"


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


async def read_body(http: BaseRequest, limit: int) -> bytes | None:
    """Read a body to its end, also one that is too long, because a client reads no answer before it has sent all.

    Args:
        http: The request.
        limit: Bytes; longer bodies are read and thrown away.

    Returns:
        The body; None when it is longer than `limit`.

    Raises:
        ConnectionError: The client went away before the end.
    """
    body = bytearray()
    async for piece in http.content.iter_any():
        if http.content.total_bytes <= limit:
            body += piece
    return bytes(body) if http.content.total_bytes <= limit else None


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
