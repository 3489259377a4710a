"""How answers go out: whole, byte by byte, after empty lines, or not to the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.speech_server.faults import Sending
from tests.support.speech_server.ledger import Entry
from tests.support.speech_server.wire import Connection, Reply

__all__ = ["Delivery", "deliver"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """How one answer is to go out.

    Args:
        sending: See `Sending`.
        interval_s: Between bytes or empty lines.
        lasts_s: How long empty lines are sent.
        reset: A cut connection is reset rather than ended.
        keep: The client may send another request on the connection, if the answer is sent whole.
    """

    sending: Sending = Sending.WHOLE
    interval_s: float = 0.0
    lasts_s: float = 0.0
    reset: bool = False
    keep: bool = True


async def deliver(line: Connection, entry: Entry, reply: Reply, how: Delivery, end: Callable[[], None]) -> bool:
    """Send an answer.

    Args:
        line: The client's connection.
        entry: Gets the status as soon as it goes out, and `completed`.
        reply: The answer.
        how: In which way.
        end: Closes the entry; called before the client can know that the answer has ended.

    Returns:
        Whether another request may come on this connection.
    """

    def finish() -> None:
        entry.completed = reply.status == 200
        end()

    if how.sending is Sending.NEVER:
        await line.wait_until_gone()
        return False
    if how.sending is Sending.CUT_BEFORE:
        end()
        line.cut(reset=how.reset)
        return False
    entry.status = reply.status
    body = reply.body
    if how.sending is Sending.WHOLE:
        return await line.send(reply.head(len(body), close=not how.keep) + body, finish) and how.keep
    if how.sending is Sending.DRIPPING:
        await _drip(line, reply, body, how.interval_s, finish)
    elif how.sending is Sending.KEPT_ALIVE:
        await _keep_alive(line, reply, body, how, finish)
    else:
        part = b"" if how.sending is Sending.CUT_AFTER_HEAD else body[: len(body) // 2]
        await line.send(reply.head(len(body), close=True) + part)
        await asyncio.sleep(0.01)  # a reset overtakes what the client hasn't read yet
        end()
        line.cut(reset=how.reset)
    return False


async def _drip(line: Connection, reply: Reply, body: bytes, interval_s: float, finish: Callable[[], None]) -> None:
    await line.send(reply.head(len(body), close=True))
    for index in range(len(body)):
        await asyncio.sleep(interval_s)
        if not await line.send(body[index : index + 1], finish if index == len(body) - 1 else None):
            return


async def _keep_alive(line: Connection, reply: Reply, body: bytes, how: Delivery, finish: Callable[[], None]) -> None:
    until = time.monotonic() + how.lasts_s
    await line.send(reply.head(None, close=True))
    while time.monotonic() < until:
        await asyncio.sleep(how.interval_s)
        if not await line.send(b"1\r\n\n\r\n"):
            return
    await line.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body), finish)
