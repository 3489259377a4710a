"""How answers go out: whole, byte by byte, after empty lines, or not to the end."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable

from aiohttp.web import BaseRequest, Response, StreamResponse

from tests.support.speech_server.faults import Fault, Sending
from tests.support.speech_server.ledger import Entry
from tests.support.speech_server.wire import Reply

__all__ = ["deliver"]

_LOOK_S = 0.005
"""Between looks whether a client that gets no answer is still there."""


async def deliver(
    http: BaseRequest, entry: Entry, reply: Reply, fault: Fault | None, lasts_s: float, end: Callable[[], None]
) -> StreamResponse:
    """Send an answer.

    Args:
        http: The request.
        entry: Gets the status as soon as it goes out, and `completed`.
        reply: The answer.
        fault: Says in which way; None means whole.
        lasts_s: How long empty lines are sent, where the fault is that.
        end: Closes the entry; called before the client can know that the answer has ended.

    Returns:
        What aiohttp is to take for the answer; all that goes out has gone out.

    Raises:
        ConnectionError: The client has gone.
    """

    def finish() -> None:
        entry.completed = reply.status == 200
        end()

    sending = Sending.WHOLE if fault is None else fault.sending
    if sending is Sending.NEVER:
        while not _is_gone(http):
            await asyncio.sleep(_LOOK_S)
        raise ConnectionResetError
    reset = fault is not None and fault.reset
    if sending is Sending.CUT_BEFORE:
        end()
        raise _cut(http, reset=reset)
    if http.transport is not None:
        http.transport.set_write_buffer_limits(0)  # so that aiohttp waits until the socket has taken the last byte
    entry.status = reply.status
    body, headers = reply.body, {"content-type": reply.content_type, **reply.headers}
    if sending is Sending.WHOLE:
        whole = Response(status=reply.status, body=body, headers=headers)
        await whole.prepare(http)
        await whole.write_eof()
        finish()
        return whole
    answer = StreamResponse(status=reply.status, headers=headers)
    answer.force_close()
    interval_s = 0.0 if fault is None else fault.interval_s
    if sending is Sending.KEPT_ALIVE:
        answer.enable_chunked_encoding()
        until = time.monotonic() + lasts_s
        await answer.prepare(http)
        while time.monotonic() < until:
            await asyncio.sleep(interval_s)
            await answer.write(b"\n")
        await answer.write_eof(body)
    else:
        answer.content_length = len(body)
        await answer.prepare(http)
        if sending is not Sending.DRIPPING:
            await answer.write(b"" if sending is Sending.CUT_AFTER_HEAD else body[: len(body) // 2])
            await asyncio.sleep(0.01)  # a reset overtakes what the client hasn't read yet
            end()
            raise _cut(http, reset=reset)
        for index in range(len(body)):
            await asyncio.sleep(interval_s)
            await answer.write(body[index : index + 1])
    finish()
    return answer


def _is_gone(http: BaseRequest) -> bool:
    """Whether the client has closed its side, or the connection is lost."""
    return http.transport is None or http.transport.is_closing()


def _cut(http: BaseRequest, *, reset: bool) -> ConnectionError:
    """End the connection at once, and give the error that ends the request.

    Args:
        http: The request.
        reset: Let the client see a reset rather than an end.
    """
    if http.transport is not None and reset:
        taken = http.transport.get_extra_info("socket")
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        http.transport.abort()
    elif http.transport is not None:
        http.transport.close()
    return ConnectionResetError()
