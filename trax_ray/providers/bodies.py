"""Bodies of answers as they come in: read as a stream, unpacked here, and never larger than a transcript can be.

The HTTP library reads a body whole and unpacks it as it comes: an answer of 700 MB takes ten times that, and 2 MB of
gzip may be 2 GB. So a hook of the client puts a bounded stream in the place of each body.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

import httpx2

from trax_ray.codes import FailureCode

__all__ = ["ANSWER_MOST_BYTES", "REFUSAL_MOST_BYTES", "BodyError", "bound"]

ANSWER_MOST_BYTES = 16 * 2**20
"""The longest answer that is read, unpacked. Ten minutes of speech with times of words are 1 MB; 64 requests share a
process."""

REFUSAL_MOST_BYTES = 2**20
"""How much of an error's body is read; the rest is left."""

_ANY_ZLIB = 47
"""gzip or zlib, with the largest window."""


class BodyError(Exception):
    """A body can't be read.

    Args:
        message: Why.
        code: Of the failure that it is.
    """

    def __init__(self, message: str, code: FailureCode) -> None:
        super().__init__(message)
        self.code = code


async def bound(response: httpx2.Response) -> None:
    """Put a bounded stream in the place of a body that isn't read yet; a hook for the client's responses."""
    packing = response.headers.pop("content-encoding", "identity").strip().lower()
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _Bounded(response.stream, packing, is_answer=response.is_success)


class _Bounded(httpx2.AsyncByteStream):
    """A body of a bounded length. An error's is cut off there, of an answer nothing is of use then."""

    def __init__(self, body: httpx2.AsyncByteStream, packing: str, *, is_answer: bool) -> None:
        self._body = body
        self._packing = packing
        self._is_answer = is_answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = ANSWER_MOST_BYTES if self._is_answer else REFUSAL_MOST_BYTES
        packed = self._packing in ("gzip", "x-gzip", "deflate")
        if not packed and self._packing not in ("identity", ""):
            if not self._is_answer:
                return
            raise BodyError(f"it is packed as {self._packing!a}, which wasn't asked for", FailureCode.BAD_ANSWER)
        unpacking = zlib.decompressobj(_ANY_ZLIB) if packed else None
        async for piece in self._body:
            try:
                part = unpacking.decompress(piece, left + 1) if unpacking else piece
            except zlib.error as error:
                raise BodyError(f"it is damaged: {error}", FailureCode.BAD_ANSWER) from None
            if len(part) > left:
                if self._is_answer:
                    raise BodyError(f"it is longer than {ANSWER_MOST_BYTES >> 20} MB", FailureCode.ANSWER_TOO_LARGE)
                yield part[:left]
                return
            left -= len(part)
            yield part

    async def aclose(self) -> None:
        await self._body.aclose()
