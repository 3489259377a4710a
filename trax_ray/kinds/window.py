"""A window of a transcript that is enhanced: a text model is asked for edits. One request is one attempt.

Requests wait, so many of them share a process; nothing here computes on its event loop. What a model answered is an
artifact before it counts, as it was written: what is made of it is decided afterwards, and may be decided again without
paying. A window whose answer fails its checks plans a second one, which is asked with the reasons.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from trax_ray.core.limits.signals import ProviderSignal
from trax_ray.core.task import FailureClass, Outcome, TaskType
from trax_ray.errors import FileError
from trax_ray.kinds.asking import claimed, room
from trax_ray.kinds.assignment import Assignment
from trax_ray.kinds.base import Kind
from trax_ray.kinds.codec import from_json, to_json
from trax_ray.kinds.enhancing import Answer, Passage
from trax_ray.kinds.text_model import TextModel
from trax_ray.providers.base import TextReply
from trax_ray.store.artifacts import ArtifactStore
from trax_ray.store.layout import Layout
from trax_ray.store.uris import Place

__all__ = ["WINDOW", "WindowData", "WindowFigures", "answer_key", "call"]


@dataclass(frozen=True, slots=True)
class WindowData:
    """What the task of a window is given.

    Args:
        passage: Key of the artifact that holds what is enhanced, and how.
        number: Which window of it, from 0.
        again: Whether it is asked for the second time.
        name: What people see of the transcript.
        off_peak: Whether it waits for the provider's cheap hours.
        size_bytes: Its share of the transcript's size, for the estimate of the time still to go.
        estimate_usd: What the request costs, about; None where no price is known.
    """

    passage: str
    number: int
    again: bool = False
    name: str = ""
    off_peak: bool = False
    size_bytes: int = 0
    estimate_usd: float | None = None


@dataclass(frozen=True, slots=True)
class WindowFigures:
    """What an outcome says of a window.

    Args:
        number: Which one.
        kept: Why it stays as it was, a code; empty where an answer is there.
        reason: The same as a sentence.
        cached: Whether the answer was there already.
        cost_usd: What the request was charged; None where nothing is known.
    """

    number: int
    kept: str = ""
    reason: str = ""
    cached: bool = False
    cost_usd: float | None = None


def answer_key(store: ArtifactStore, passage: str, number: int, model: TextModel, *, again: bool) -> str:
    """Key of the artifact of an answer: all that decides on it."""
    parameters: dict[str, Any] = {"window": number, **({"again": True} if again else {})}
    parameters |= {} if model.revision == 1 else {"revision": model.revision}
    return store.key(passage, "window", parameters, model.name, 1)


async def call(assignment: Assignment) -> Outcome:
    """Ask for one window, in a process that asks for many.

    Returns:
        The answer's key and `WindowFigures`; the second request as a child where the answer fails its checks.
    """
    began = time.monotonic()
    window = await asyncio.to_thread(_look, assignment)
    if assignment.children:
        return window.outcome_of_second(assignment)
    if window.answer is not None:
        return await asyncio.to_thread(window.judged, None)
    async with claimed(window.layout, assignment.task.id, window.key):
        window = await asyncio.to_thread(_look, assignment)
        if window.answer is not None:
            return await asyncio.to_thread(window.judged, None)
        instructions, text, most = await asyncio.to_thread(window.question)
        reply = await window.model.ask(instructions, text, max_tokens=most, as_json=True, began=began)
        if reply.failure is not None:
            return window.failed(reply)
        return await asyncio.to_thread(window.keep, reply)


async def close() -> None:
    """Let go of the connections of this event loop."""
    await room().close()


WINDOW = Kind(
    name="window",
    task_type=TaskType.ENHANCE,
    data=WindowData,
    calls=call,
    closes=close,
    asks=True,
)


@dataclass(frozen=True, slots=True)
class _Window:
    """An attempt at a window, with what follows from it.

    Args:
        assignment: The attempt.
        data: What it was given.
        layout: The output folder.
        store: Its artifacts.
        model: Who is asked.
        passage: What is enhanced.
        key: Of its answer.
        answer: That, where it is there.
        first: Of one that is asked again, the first answer.
    """

    assignment: Assignment
    data: WindowData
    layout: Layout
    store: ArtifactStore
    model: TextModel
    passage: Passage
    key: str
    answer: Answer | None
    first: Answer | None

    def question(self) -> tuple[str, str, int]:
        """Instructions, text, and the longest output that is allowed, tokens."""
        reasons = () if self.first is None else self.passage.judge(self.data.number, self.first).reasons
        return self.passage.question(self.data.number, reasons)

    def failed(self, reply: TextReply) -> Outcome:
        """What comes of a request without an answer.

        One that is refused for good says something of this window only: it stays as it was, and the others go on.
        """
        assert reply.failure is not None
        cost = reply.signal.cost_usd
        if reply.failure.failure_class is not FailureClass.PERMANENT:
            return Outcome(
                failure=reply.failure, signal=reply.signal, metrics={} if cost is None else {"cost_usd": cost}
            )
        kept = WindowFigures(self.data.number, reply.failure.code, reply.failure.message, cost_usd=cost)
        return Outcome(signal=reply.signal, metrics=to_json(kept))

    def keep(self, reply: TextReply) -> Outcome:
        """Commit an answer, and see what it is worth."""
        answer = Answer(
            text=reply.text,
            cut_off=reply.cut_off,
            input_tokens=reply.input_tokens or 0,
            cached_tokens=reply.cached_tokens or 0,
            output_tokens=reply.output_tokens or 0,
            cost_usd=reply.signal.cost_usd,
        )
        stored = from_json(Answer, self.store.put(self.key, to_json(answer))[1])
        return replace(self, answer=stored).judged(reply.signal)

    def judged(self, signal: ProviderSignal | None) -> Outcome:
        """The outcome of an answer that is there: the end, or a second request.

        Args:
            signal: What the provider said with it; None where it was there before.
        """
        assert self.answer is not None
        figures = WindowFigures(
            self.data.number, cached=signal is None, cost_usd=None if signal is None else signal.cost_usd
        )
        if self.data.again or self.passage.judge(self.data.number, self.answer).holds:
            return Outcome(artifact_key=self.key, signal=signal, metrics=to_json(figures))
        task, data = self.assignment.task, replace(self.data, again=True)
        child = WINDOW.task(
            data,
            id=f"{task.id}/again",
            file_id=task.file_id,
            fingerprint=f"{task.fingerprint}",
            priority=task.priority,
            max_retries=task.max_retries,
            depends_on=task.depends_on,
            parent=task.id,
            chunk=task.chunk,
            provider=task.provider,
            resources=task.resources,
        )
        return Outcome(children=(child,), signal=signal, metrics=to_json(figures))

    def outcome_of_second(self, assignment: Assignment) -> Outcome:
        """The outcome of a window that was asked for twice."""
        (second,) = assignment.children.values()
        figures = replace(from_json(WindowFigures, second.figures), cost_usd=None, cached=True)
        return Outcome(artifact_key=second.artifact_key or self.key, metrics=to_json(figures))


def _look(assignment: Assignment) -> _Window:
    """The window, and its answer where that is there."""
    data = WINDOW.read(assignment.task)
    layout = Layout.of(assignment.spec.output_dir)
    store = ArtifactStore(layout.artifacts)
    model = TextModel(assignment.spec)
    keys = {again: answer_key(store, data.passage, data.number, model, again=again) for again in (False, True)}
    return _Window(
        assignment=assignment,
        data=data,
        layout=layout,
        store=store,
        model=model,
        passage=_passage(store.folder, data.passage),
        key=keys[data.again],
        answer=_answer(store, keys[data.again]),
        first=_answer(store, keys[False]) if data.again else None,
    )


@lru_cache(maxsize=8)
def _passage(folder: Place, key: str) -> Passage:
    """What is enhanced; it stays the same under its key, and dozens of windows ask for it."""
    payload: Mapping[str, Any] | None = ArtifactStore(folder).get(key)
    if payload is None:
        raise FileError("what was to be enhanced has vanished: run the same command again", failure_class="transient")
    return Passage.read(payload)


def _answer(store: ArtifactStore, key: str) -> Answer | None:
    payload = store.get(key)
    return None if payload is None else from_json(Answer, payload)
