"""A request: a part of a recording, transcribed by a service. One request is one attempt.

Requests wait, so many of them share a process; nothing here computes on its event loop. What is sent was prepared by
the recording's own task. What was paid for is an artifact before it counts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

from trax_ray.codes import FailureCode, WarningCode
from trax_ray.core.limits.signals import ProviderSignal, SignalKind
from trax_ray.core.task import Category, Failure, FailureClass, Outcome, TaskType
from trax_ray.kinds.asking import claimed, in_time, latest_of, room
from trax_ray.kinds.assignment import Assignment
from trax_ray.kinds.base import Kind
from trax_ray.kinds.codec import to_json
from trax_ray.kinds.reading import Stretch
from trax_ray.kinds.recording import Part, Recording
from trax_ray.kinds.transcript import Transcript
from trax_ray.kinds.uploads import Prepared, Uploads
from trax_ray.providers.base import EngineOptions, Reply, SpeechService
from trax_ray.providers.credentials import key_of

__all__ = ["BYTES_IN_FLIGHT", "REQUEST", "call"]

BYTES_IN_FLIGHT = 128 * 2**20
"""Uploads that one process holds in memory at the same time, bytes."""


async def call(assignment: Assignment) -> Outcome:
    """Make one request, in a process that makes many.

    Returns:
        The key of the part's transcript and its `Figures`, and what the answer means for the requests that follow.
    """
    began = time.monotonic()
    part, transcript = await asyncio.to_thread(_look, assignment)
    if transcript is not None:
        return part.outcome(transcript, cached=True)
    async with claimed(part.recording.layout, part.recording.task.id, part.key):
        look = await asyncio.to_thread(_look_again, part)
        if isinstance(look, Transcript):  # a copy of the recording was faster, and has paid
            return part.outcome(look, cached=True)
        reply = None if look.halved else await _ask(part, look, began)
        if reply is None or (reply.failure is not None and reply.failure.code == FailureCode.TOO_LARGE):
            transcript, reply = await _ask_in_halves(part, look.prepared, began)
        elif reply.failure is None:
            transcript = part.uploads.transcript(part.span, look.prepared, reply, began)
        if transcript is None:
            cost = {} if reply.signal.cost_usd is None else {"cost_usd": reply.signal.cost_usd}
            return Outcome(failure=reply.failure, signal=reply.signal, metrics=cost)
        transcript = await asyncio.to_thread(part.recording.keep, part.key, transcript)
    return part.outcome(transcript, signal=reply.signal)


async def close() -> None:
    """Let go of the connections of this event loop."""
    await room().close()


REQUEST = Kind(
    name="request",
    task_type=TaskType.TRANSCRIBE,
    data=Part,
    calls=call,
    closes=close,
    asks=True,
)


# What these do could be done step by step; each way to a thread and back costs more than most of the steps.


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a recording, or half of one."""

    recording: Recording
    span: Stretch
    key: str

    @property
    def uploads(self) -> Uploads:
        return Uploads(self.recording)

    @classmethod
    def of(cls, recording: Recording, span: Stretch) -> _Part:
        return cls(recording, span, recording.part_key(span))

    def outcome(self, transcript: Transcript, *, signal: ProviderSignal | None = None, cached: bool = False) -> Outcome:
        figures = replace(
            transcript.figures(), cached=cached or None, cost_usd=None if signal is None else signal.cost_usd
        )
        return Outcome(artifact_key=self.key, signal=signal, metrics=to_json(figures))


@dataclass(frozen=True, slots=True)
class _Ready:
    """What is to be sent, its bytes, and whether a service took it in halves only, before."""

    prepared: Prepared
    size_bytes: int
    halved: bool = False


def _look(assignment: Assignment) -> tuple[_Part, Transcript | None]:
    """The part, and its transcript where that is there."""
    data = REQUEST.read(assignment.task)
    part = _Part.of(Recording.of(assignment, data), data.span)
    return part, part.recording.kept(part.key)


def _look_again(part: _Part) -> Transcript | _Ready:
    """The transcript where it is there by now, else what to send."""
    transcript = part.recording.kept(part.key)
    if transcript is not None:
        return transcript
    uploads = part.uploads
    prepared = uploads.prepared(part.span)
    halved = uploads.is_prepared(uploads.halves(part.span, prepared)[0])
    return _Ready(prepared, uploads.size_bytes(part.span), halved)


def _look_at_half(half: _Part) -> Transcript | _Ready:
    """The transcript of half a request where it is there, or needs no asking; else what to send."""
    transcript = half.recording.kept(half.key)
    if transcript is None and not half.uploads.is_prepared(half.span):
        half.uploads.again(half.span)
        transcript = half.recording.kept(half.key)
    if transcript is not None:
        return transcript
    return _Ready(half.uploads.prepared(half.span), half.uploads.size_bytes(half.span))


# Asking


async def _ask(part: _Part, ready: _Ready, began: float) -> Reply:
    recording, prepared, spec = part.recording, ready.prepared, part.recording.assignment.spec
    service = _service(part.uploads)
    options = EngineOptions(recording.language, recording.prompt, spec.word_timestamps)
    async with _budget().reserved(max(ready.size_bytes, int(service.bytes_per_s * prepared.sent_s))):
        upload = await asyncio.to_thread(part.uploads.read, part.span)
        request = service.transcribe(upload, duration_s=prepared.sent_s, speech=prepared.speech, options=options)
        pace = room().pace(recording.model, spec.base_url)
        reply = await in_time(request, pace, prepared.sent_s, latest_of(spec, began))
        if isinstance(reply, Reply):
            return await asyncio.to_thread(_kept_where_empty_again, part, reply)
        way_out = "" if spec.task_timeout_s is None else ": give a larger --task-timeout"
        message = f"the server gave no answer within {reply:.3g} s{way_out}"
        failure = Failure(FailureClass.TRANSIENT, Category.NETWORK, FailureCode.DEADLINE, message)
        # It may have been worked on, and then it is charged for.
        provider, priced = part.uploads.provider, part.uploads.priced
        price = provider.cost_usd(recording.model, {}, prepared.sent_s, time.time()) if priced else None
        signal = ProviderSignal(kind=SignalKind.CONNECTION, latency_s=round(reply, 3), cost_usd=price)
        return Reply(failure=failure, signal=signal)


def _service(uploads: Uploads) -> SpeechService:
    """The service that a request goes to; with another key it is another one."""
    provider, priced, model = uploads.provider, uploads.priced, uploads.recording.model
    base_url, key = uploads.recording.assignment.spec.base_url, key_of(provider.key_variable)
    return room().service(
        ("speech", model, base_url, priced, key),
        lambda: provider.connect(model, key=key, base_url=base_url, priced=priced),
    )


def _kept_where_empty_again(part: _Part, reply: Reply) -> Reply:
    """The reply; one that is empty for the second time is what there is, and no reason to lose what else was paid."""
    if reply.failure is None or reply.failure.code != FailureCode.NO_WORDS:
        return reply
    if not part.uploads.is_empty_again(part.span):
        return reply
    return Reply(replace(reply.signal, kind=SignalKind.OK), warnings=(WarningCode.EMPTY_ANSWER.value,))


async def _ask_in_halves(part: _Part, prepared: Prepared, began: float) -> tuple[Transcript | None, Reply]:
    """The transcript of a part that a service takes in two halves only; each half is kept as soon as it is paid.

    Returns:
        The transcript, None where a half failed; and what was said last, with what all of it has cost.
    """
    recording, spans = part.recording, part.uploads.halves(part.span, prepared)
    made: list[Transcript] = []
    reply = Reply(ProviderSignal())
    usd: list[float] = []
    for half in (_Part.of(recording, span) for span in spans):
        look = await asyncio.to_thread(_look_at_half, half)
        if not isinstance(look, Transcript):
            reply = await _ask(half, look, began)
            usd += [] if reply.signal.cost_usd is None else [reply.signal.cost_usd]
            reply = replace(reply, signal=replace(reply.signal, cost_usd=sum(usd) if usd else None))
            if reply.failure is not None:
                return None, reply
            transcript = half.uploads.transcript(half.span, look.prepared, reply, began)
            look = await asyncio.to_thread(recording.keep, half.key, transcript)
        made.append(look)
    whole = Transcript.join(
        made,
        language=recording.language,
        duration_s=prepared.duration_s,
        warnings=prepared.warnings,
        source=recording.source,
    )
    await asyncio.to_thread(part.uploads.forget, spans)
    known = [each.cost_usd for each in made if each.cost_usd is not None]
    # One request, to everyone else.
    return replace(whole, chunks=None, cost_usd=sum(known) if known else None), reply


class _Budget:
    """Bytes that may be in memory at the same time. One upload is always let through."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._most = most
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def reserved(self, size: int) -> AsyncIterator[None]:
        size = min(size, self._most)
        async with self._changed:
            await self._changed.wait_for(lambda: size <= self._left)
            self._left -= size
        try:
            yield
        finally:
            async with self._changed:
                self._left += size
                self._changed.notify_all()


_rooms: WeakKeyDictionary[asyncio.AbstractEventLoop, _Budget] = WeakKeyDictionary()


def _budget() -> _Budget:
    return _rooms.setdefault(asyncio.get_running_loop(), _Budget(BYTES_IN_FLIGHT))
