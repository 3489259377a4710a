"""TRANSCRIBE by a service: prepared here, asked for there, one request for one attempt.

A recording's own attempt reads it, cuts it in pauses, and leaves what is to be sent as Opus in a private folder;
stretches without speech are settled at once and cost nothing. Each request is a task of its own, whose attempts share a
process with others, because they wait. When all have succeeded the recording's task runs again and assembles them.
Everything that was paid for is an artifact before it counts.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from trax_ray.core.ids import digest
from trax_ray.core.limits.signals import ProviderSignal, SignalKind
from trax_ray.core.task import BatchTask, Category, Failure, FailureClass, Outcome
from trax_ray.errors import BusyError, FileError
from trax_ray.kinds.assignment import Assignment, Progress
from trax_ray.kinds.chunks import plan_chunks
from trax_ray.kinds.recording import (
    CLAIM_PERIOD_S,
    Job,
    Payload,
    assembled,
    audio_of,
    bare,
    claim,
    figures_of,
    find_whole,
    finished,
    kept_segment,
    source_of,
)
from trax_ray.media.speech import SAMPLE_RATE_HZ, Span
from trax_ray.providers.base import TOO_LARGE, EngineOptions, Reply, ServiceProvider, SpeechService
from trax_ray.providers.credentials import key_of
from trax_ray.providers.keys import Secret
from trax_ray.providers.registry import service_of
from trax_ray.store.files import ensure_folder, explain, write_atomically
from trax_ray.store.lease import Lease

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Audio = npt.NDArray[np.float32]

__all__ = ["BYTES_IN_FLIGHT", "call", "call_alone", "keep_upload", "request_limit_s", "transcribe_by_service"]

T = TypeVar("T")

BYTES_IN_FLIGHT = 128 * 2**20
"""Uploads that one process holds in memory at the same time, bytes."""

DEADLINE_S = 60.0
DEADLINE_FACTOR = 2.0
"""A request is given so long, and so many times the length of its audio besides, as a whole: with sending, waiting and
receiving. Services take a tenth of the length or less; past this the connection has been forgotten."""

TIMEOUT_SHARE = 0.95
"""Of what is left of `--task-timeout` a request gets so much."""

Cuts = list[tuple[float, float]]


def request_limit_s(job: Job) -> float:
    """The longest stretch that one request may hold, seconds."""
    return min(float(job.assignment.spec.chunk_size_s), _provider(job).longest_request_s(job.model))


def transcribe_by_service(job: Job, started: float) -> Iterator[Progress | Outcome]:
    """Make one attempt at a recording: prepare its requests, or assemble what they brought.

    Args:
        job: The recording's.
        started: When the attempt began, seconds of the monotonic clock.

    Yields:
        Progress, then one Outcome: the transcript, or the requests to be made first.
    """
    key, payload = find_whole(job)
    cached = payload is not None
    if payload is None:
        lease = yield from claim(job, job.content)
        try:
            cuts, warnings, heard = yield from _cuts(job)
            open_ones = [span for span in cuts if job.store.get(_chunk_key(job, span)) is None]
            requests = []
            for span in open_ones:
                yield Progress(span[0] / cuts[-1][1])
                requests += yield from _prepare(job, span, heard)
        finally:
            lease.release()
        if requests:
            yield Outcome(children=_requests(job, cuts, requests), metrics={"chunks": len(requests)})
            return
        chunks = [_committed(job, span) for span in cuts]
        key = job.key("transcript", chunk_size_s=job.assignment.spec.chunk_size_s)
        payload = job.store.put(key, assembled(job, chunks, warnings, cuts[-1][1]))[1]
        _forget_uploads(job, cuts)
    yield Outcome(artifact_key=key, metrics=finished(job, payload, cached=cached))


async def call(assignment: Assignment) -> Outcome:
    """Make one request, in a process that makes many; nothing here computes on the event loop.

    Args:
        assignment: A request's task, as `transcribe_by_service` planned it.
    """
    began = time.monotonic()
    span = float(assignment.task.data["start_s"]), float(assignment.task.data["end_s"])
    job, key, payload = await asyncio.to_thread(_look, assignment, span)
    if payload is not None:
        return Outcome(artifact_key=key, metrics=figures_of(payload) | {"cached": True})
    async with _claimed(job, key):
        payload, prepared, size, halved = await asyncio.to_thread(_look_again, job, span)
        if payload is not None:  # a copy of the recording was faster, and has paid
            return Outcome(artifact_key=key, metrics=figures_of(payload) | {"cached": True})
        reply = None if halved else await _ask(job, prepared, size, span, began)
        if reply is None or (reply.failure is not None and reply.failure.code == TOO_LARGE):
            payload, reply = await _ask_in_halves(job, span, prepared, began)
        elif reply.failure is None:
            payload = _payload(job, span, prepared, reply, began)
        if payload is None:
            return Outcome(failure=reply.failure, signal=reply.signal, metrics=_cost(reply))
        payload = (await asyncio.to_thread(job.store.put, key, payload))[1]
    return Outcome(artifact_key=key, signal=reply.signal, metrics=figures_of(payload) | _cost(reply))


async def call_alone(assignment: Assignment) -> Outcome:
    """Make one request, in a process that makes no other, and leave nothing open."""
    try:
        return await call(assignment)
    finally:
        await _room().close()


# Preparing


def _provider(job: Job) -> ServiceProvider:
    return service_of(job.model, base_url=job.assignment.spec.base_url)


def _chunk_key(job: Job, span: tuple[float, float]) -> str:
    return job.key("chunk", start_s=span[0], end_s=span[1])


def _upload_path(job: Job, span: tuple[float, float]) -> Path:
    return job.layout.private / "uploads" / f"{job.key('upload', start_s=span[0], end_s=span[1])}.ogg"


@dataclass(frozen=True, slots=True)
class _Heard:
    """A recording that is one request, as it was decoded to find that out; at most as long as a request may be.

    Args:
        audio: float32, shape (n_samples,), mono, [-1, 1], at 16,000 Hz.
        warnings: What the decoder had to say.
    """

    audio: Audio
    warnings: tuple[str, ...]


def _cuts(job: Job) -> Generator[Progress, None, tuple[Cuts, tuple[str, ...], _Heard | None]]:
    """Where the recording is cut into requests, and what the decoder has to say of it. It is read once.

    Where one request holds all of it nothing has to be found out: no speech is looked for, and what was decoded is
    given along.
    """
    limit_s = request_limit_s(job)
    key = job.key("cuts", chunk_size_s=limit_s, requests=True)
    known = job.store.get(key)
    heard = None
    if known is None:
        path, remarks = yield from audio_of(job)
        cuts, heard, warnings = yield from _cut(path, limit_s)
        known = job.store.put(key, {"cuts": cuts, "warnings": [*remarks, *warnings]})[1]
    return [(start_s, end_s) for start_s, end_s in known["cuts"]], tuple(known["warnings"]), heard


def _cut(path: Path, limit_s: float) -> Generator[Progress, None, tuple[Cuts, _Heard | None, tuple[str, ...]]]:
    """Read a recording through: its cuts, its samples where they are one request, and the decoder's warnings."""
    import numpy as np

    from trax_ray.media.chunking import ChunkPlanner
    from trax_ray.media.decode import stream

    planner: ChunkPlanner | None = None
    kept: list[Audio] = []
    samples = 0
    with stream(path) as blocks:
        for block in blocks:
            samples += len(block)
            kept.append(block)
            if samples > limit_s * SAMPLE_RATE_HZ:
                planner = planner or ChunkPlanner(limit_s)
                for each in kept:
                    planner.feed(each)
                kept.clear()
            yield Progress(0.0)
        warnings = tuple(blocks.warnings)
    if planner is not None:
        return [(span.start_s, span.end_s) for span in planner.finish()], None, warnings
    whole = [(0.0, samples / SAMPLE_RATE_HZ)] if samples else []
    return whole, _Heard(np.concatenate(kept), warnings) if kept else None, warnings


def _prepare(job: Job, span: tuple[float, float], heard: _Heard | None) -> Generator[Progress, None, Cuts]:
    """Leave what one request sends where the process that sends it finds it.

    Returns:
        The span, in a list; none where it holds no speech: then its result is there already.
    """
    if _is_prepared(job, span):  # by an attempt that came to nothing
        return [span]
    if heard is None:
        path, _ = yield from audio_of(job)
        heard = _hear(path, span)
    yield Progress(0.0)
    return [span] if _encode(job, span, heard) is not None else []


def _hear(path: Path, span: tuple[float, float]) -> _Heard:
    from trax_ray.media.decode import stream

    with stream(path, start_s=span[0], end_s=span[1]) as blocks:
        return _Heard(blocks.rest(), tuple(blocks.warnings))


def _encode(job: Job, span: tuple[float, float], heard: _Heard) -> Payload | None:
    from trax_ray.media.encode import opus
    from trax_ray.media.vad import speech_spans, total_s

    audio = heard.audio
    speech = speech_spans(audio, sensitivity=job.assignment.spec.vad)
    prepared: Payload = {
        "duration_s": round(len(audio) / SAMPLE_RATE_HZ, 3),
        "speech_s": round(total_s(speech), 3),
        "warnings": list(heard.warnings),
    }
    if not speech:
        job.store.put(_chunk_key(job, span), _payload(job, span, prepared, None, time.monotonic()))
        return None
    first_s, last_s = speech[0].start_s, speech[-1].end_s
    sent = audio[int(first_s * SAMPLE_RATE_HZ) : int(last_s * SAMPLE_RATE_HZ)]
    prepared |= {
        "sent_from_s": round(first_s, 3),
        "sent_s": round(len(sent) / SAMPLE_RATE_HZ, 3),
        "speech": [[round(each.start_s - first_s, 3), round(each.end_s - first_s, 3)] for each in speech],
    }
    keep_upload(job, span, opus(sent))
    return job.store.note(_prepared_key(job, span), prepared)


# What is prepared can be prepared again, and nobody waits until it is on the disk. A power cut may leave anything under
# an upload's name, and a request for that would be paid: so it carries a checksum.


def keep_upload(job: Job, span: tuple[float, float], data: bytes) -> None:
    """Leave what a request sends in the private folder."""
    path = _upload_path(job, span)
    ensure_folder(path.parent, lasting=False)
    write_atomically(path, data + _seal(data), lasting=False)


def _upload(job: Job, span: tuple[float, float]) -> bytes | None:
    """What a request sends; None where it isn't there, or damaged."""
    try:
        data = _upload_path(job, span).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise explain(error, _upload_path(job, span), "read") from error
    sealed = data[:-_SEAL_BYTES]
    return sealed if sealed and data[-_SEAL_BYTES:] == _seal(sealed) else None


def _upload_again(job: Job, span: tuple[float, float]) -> bytes:
    """The same, prepared anew where it can't be used."""
    data = _upload(job, span)
    if data is None:
        path, _ = _result_of(audio_of(job))
        _encode(job, span, _hear(path, span))
        data = _upload(job, span)
    if data is None:
        raise _changed(job)
    return data


def _seal(data: bytes) -> bytes:
    return b"trax%08x" % zlib.crc32(data)


_SEAL_BYTES = len(_seal(b""))


def _changed(job: Job) -> FileError:
    return FileError(f"{job.task.data.get('name')} holds no speech any more: was it changed?", code="changed")


def _forget_uploads(job: Job, cuts: Cuts) -> None:
    for span in cuts:
        with suppress(OSError):
            _upload_path(job, span).unlink()


def _prepared_key(job: Job, span: tuple[float, float]) -> str:
    return job.key("prepared", start_s=span[0], end_s=span[1])


def _is_prepared(job: Job, span: tuple[float, float]) -> bool:
    return _upload_path(job, span).exists() and job.store.get(_prepared_key(job, span), relied_on=False) is not None


def _prepared(job: Job, span: tuple[float, float]) -> Payload:
    """What was prepared for a request; made again where it is gone."""
    prepared = job.store.get(_prepared_key(job, span), relied_on=False)
    if prepared is None or not _upload_path(job, span).exists():
        path, _ = _result_of(audio_of(job))
        prepared = _encode(job, span, _hear(path, span))
    if prepared is None:
        raise _changed(job)
    return prepared


def _result_of(working: Generator[Progress, None, T]) -> T:
    """What a generator returns, where nobody listens to its signs of life."""
    while True:
        try:
            next(working)
        except StopIteration as end:
            result: T = end.value
            return result


def _requests(job: Job, cuts: Cuts, wanted: Cuts) -> tuple[BatchTask, ...]:
    """The tasks of the requests. Those that are planned once more, because their results are gone, are other ones."""
    again = {"again": job.assignment.attempt} if job.assignment.children else {}
    children = zip(plan_chunks(job.task, cuts), cuts, strict=True)
    return tuple(
        replace(
            child,
            shared=True,
            data={**child.data, **_price(job, span)},
            fingerprint=digest([child.fingerprint, again]) if again else child.fingerprint,
        )
        for child, span in children
        if span in wanted
    )


def _price(job: Job, span: tuple[float, float]) -> dict[str, float]:
    """What a request will cost at the most, about; nothing where no price is known."""
    spec, limited = job.assignment.spec, job.assignment.spec.max_cost_usd is not None
    estimate = _provider(job).estimate_usd(job.model, span[1] - span[0], base_url=spec.base_url, limited=limited)
    return {} if estimate is None else {"estimate_usd": estimate}


def _priced(job: Job) -> bool:
    spec = job.assignment.spec
    return _provider(job).prices_hold(spec.base_url, limited=spec.max_cost_usd is not None)


def _committed(job: Job, span: tuple[float, float]) -> Payload:
    payload = job.store.get(_chunk_key(job, span))
    if payload is None:
        raise FileError("the result of a request has vanished: run the same command again", failure_class="transient")
    return payload


# Asking

# What these two do could be done step by step; each way to a thread and back costs more than most of the steps.


def _look(assignment: Assignment, span: tuple[float, float]) -> tuple[Job, str, Payload | None]:
    """The job, the key of the request's result, and that result where it is there."""
    job = Job.of(assignment)
    key = _chunk_key(job, span)
    return job, key, job.store.get(key)


def _look_again(job: Job, span: tuple[float, float]) -> tuple[Payload | None, Payload, int, bool]:
    """The result where it is there by now, else what was prepared, how many bytes that is, and if it was too large."""
    payload = job.store.get(_chunk_key(job, span))
    if payload is not None:
        return payload, {}, 0, False
    prepared = _prepared(job, span)
    size = _upload_path(job, span).stat().st_size
    return None, prepared, size, _is_prepared(job, _halves(span, prepared)[0])


async def _ask(job: Job, prepared: Payload, size: int, span: tuple[float, float], began: float) -> Reply:
    spec = job.assignment.spec
    service = _room().service(job)
    options = EngineOptions(job.language, job.prompt, spec.word_timestamps)
    async with _room().budget.reserved(max(size, int(service.bytes_per_s * prepared["sent_s"]))):
        upload = await asyncio.to_thread(_upload_again, job, span)
        deadline_s = DEADLINE_S + DEADLINE_FACTOR * prepared["sent_s"]
        if spec.task_timeout_s is not None:
            # Earlier than the attempt's own end, which knows nothing of what a request costs.
            deadline_s = min(deadline_s, (spec.task_timeout_s - (time.monotonic() - began)) * TIMEOUT_SHARE)
        speech = [Span(start_s, end_s) for start_s, end_s in prepared["speech"]]
        request = service.transcribe(upload, duration_s=prepared["sent_s"], speech=speech, options=options)
        try:
            return await asyncio.wait_for(request, deadline_s)
        except asyncio.TimeoutError:
            way_out = "" if spec.task_timeout_s is None else ": give a larger --task-timeout"
            message = f"the server gave no answer within {deadline_s:.3g} s{way_out}"
            failure = Failure(FailureClass.TRANSIENT, Category.NETWORK, "deadline", message)
            # It may have been worked on, and then it is charged for.
            price = _provider(job).cost_usd(job.model, {}, prepared["sent_s"], time.time()) if _priced(job) else None
            signal = ProviderSignal(kind=SignalKind.CONNECTION, latency_s=deadline_s, cost_usd=price)
            return Reply(failure=failure, signal=signal)


def _halves(span: tuple[float, float], prepared: Payload) -> Cuts:
    """A request that is too large, cut in the pause that is nearest to its middle."""
    middle_s = prepared["sent_s"] / 2
    pauses = [(before[1] + after[0]) / 2 for before, after in pairwise(prepared["speech"])]
    cut_s = min(pauses, key=lambda pause_s: abs(pause_s - middle_s), default=middle_s)
    cut_s = round(span[0] + prepared["sent_from_s"] + cut_s, 3)
    return [(span[0], cut_s), (cut_s, span[1])]


async def _ask_in_halves(
    job: Job, span: tuple[float, float], prepared: Payload, began: float
) -> tuple[Payload | None, Reply]:
    """The result of a request that a service takes in two parts only; each part is kept as soon as it is paid.

    Returns:
        The result, None where a part failed; and what was said last, with what all of it has cost.
    """
    parts: list[Payload] = []
    reply = Reply(ProviderSignal())
    usd: list[float] = []
    for half in _halves(span, prepared):
        part, of_half, size = await asyncio.to_thread(_look_at_half, job, half)
        if part is None:
            reply = await _ask(job, of_half, size, half, began)
            usd += [] if reply.signal.cost_usd is None else [reply.signal.cost_usd]
            reply = replace(reply, signal=replace(reply.signal, cost_usd=sum(usd) if usd else None))
            if reply.failure is not None:
                return None, reply
            part = _payload(job, half, of_half, reply, began)
            part = (await asyncio.to_thread(job.store.put, _chunk_key(job, half), part))[1]
        parts.append(part)
    whole = assembled(job, parts, prepared["warnings"], prepared["duration_s"])
    del whole["chunks"]  # one request, to everyone else
    await asyncio.to_thread(_forget_uploads, job, _halves(span, prepared))
    known = [part["cost_usd"] for part in parts if "cost_usd" in part]
    return whole | ({"cost_usd": sum(known)} if known else {}), reply


def _look_at_half(job: Job, half: tuple[float, float]) -> tuple[Payload | None, Payload, int]:
    """The result of half a request where it is there, or needs no asking; else what to send, and its bytes."""
    payload = job.store.get(_chunk_key(job, half))
    if payload is None and not _is_prepared(job, half):
        path, _ = _result_of(audio_of(job))
        _encode(job, half, _hear(path, half))
        payload = job.store.get(_chunk_key(job, half))
    if payload is not None:
        return payload, {}, 0
    return None, _prepared(job, half), _upload_path(job, half).stat().st_size


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


class _Room:
    """What the calls in one event loop share: the services, whose connections are used again, and the memory."""

    def __init__(self) -> None:
        self.budget = _Budget(BYTES_IN_FLIGHT)
        self._services: dict[tuple[str, str, bool, Secret | None], SpeechService] = {}

    def service(self, job: Job) -> SpeechService:
        """The service that a request goes to; with another key it is another one."""
        provider, base_url = _provider(job), job.assignment.spec.base_url
        key = key_of(provider.key_variable)
        what = (job.model, base_url, _priced(job), key)
        if what not in self._services:
            self._services[what] = provider.connect(job.model, key=key, base_url=base_url, priced=_priced(job))
        return self._services[what]

    async def close(self) -> None:
        """Let go of all connections."""
        while self._services:
            await self._services.popitem()[1].close()


_rooms: WeakKeyDictionary[asyncio.AbstractEventLoop, _Room] = WeakKeyDictionary()


def _room() -> _Room:
    return _rooms.setdefault(asyncio.get_running_loop(), _Room())


@asynccontextmanager
async def _claimed(job: Job, what: str) -> AsyncIterator[None]:
    """Wait until nobody else asks for the same; as `claim`, without holding up the others in this process.

    One lock for each request, or those that share one by chance would wait for one another; its file goes with it.
    """
    lease = Lease(job.layout.claim("calls") / what)
    while True:
        try:
            await _taken(lease, job.task.id)
            break
        except BusyError:
            await asyncio.sleep(CLAIM_PERIOD_S)
        except FileError as error:
            if error.code != "no_locks":
                raise
            break
    try:
        yield
    finally:
        # The thread gives it back also where this is cancelled again.
        await asyncio.shield(asyncio.to_thread(_give_back, lease))


async def _taken(lease: Lease, holder: str) -> None:
    """Take a lock in a thread. Where this is cancelled meanwhile the thread goes on, and what it took is given back."""
    taking = asyncio.ensure_future(asyncio.to_thread(lease.acquire, holder))
    try:
        await asyncio.shield(taking)
    except asyncio.CancelledError:
        taking.add_done_callback(lambda took: None if took.cancelled() or took.exception() else _give_back(lease))
        raise


def _give_back(lease: Lease) -> None:
    if lease.held:
        # While it is held: who opened the file before takes a new one where it is gone.
        with suppress(OSError):
            lease.path.unlink()
        lease.release()


def _payload(job: Job, span: tuple[float, float], prepared: Payload, reply: Reply | None, began: float) -> Payload:
    """The result of a request, or of a stretch without speech; times are counted from the recording's beginning."""
    offset_s = span[0] + prepared.get("sent_from_s", 0.0)
    segments = [kept_segment(segment, offset_s) for segment in (reply.segments if reply else ())]
    made_up = [f"made_up_{what}" for what in (reply.made_up if reply else ())]
    speech = [Span(start_s, end_s) for start_s, end_s in prepared.get("speech", ())]
    payload: Payload = {
        "text": " ".join(segment["text"] for segment in segments),
        "language": (reply.language if reply else None) or job.language,
        "model": job.model,
        "provider": _provider(job).name,
        "duration_s": prepared["duration_s"],
        "speech_s": prepared["speech_s"],
        "processing_s": round(time.monotonic() - began, 3),
        "media_warnings": sorted({*prepared["warnings"], *made_up}),
        "uncovered": bare(speech, offset_s, segments),
        "segments": segments,
        "source": source_of(job),
    }
    if reply is not None and reply.signal.cost_usd is not None:
        payload["cost_usd"] = reply.signal.cost_usd
    return payload


def _cost(reply: Reply) -> dict[str, Any]:
    return {} if reply.signal.cost_usd is None else {"cost_usd": reply.signal.cost_usd}
