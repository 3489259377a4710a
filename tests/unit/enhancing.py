"""A driver for tests of ENHANCE without Ray: it runs a task, the windows that it plans, and it again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.speech_server import SpeechServer
from trax_ray.core.spec import BatchSpec, Enhancement
from trax_ray.core.task import BatchTask, Outcome, Result, TaskType
from trax_ray.kinds import window
from trax_ray.kinds.assignment import Assignment
from trax_ray.kinds.codec import to_json
from trax_ray.kinds.enhance import ENHANCE, EnhanceData
from trax_ray.kinds.run import make_attempt
from trax_ray.kinds.transcript import Source, Transcript
from trax_ray.media.speech import Segment, Word
from trax_ray.store.artifacts import ArtifactStore
from trax_ray.store.layout import Layout

__all__ = ["Driver", "payload_of", "segments", "spec_of", "task_of", "timed", "transcribed"]

SAID = """so today we talk about the harbour
it was built in eighteen ninety two
the walls are nine metres high
nobody knows who paid for it
some say the king did not
ships came in during the spring"""


def timed(text: str = SAID) -> tuple[Segment, ...]:
    """A segment of four seconds for each line."""
    lines = text.splitlines()
    return tuple(Segment(4.0 * n, 4.0 * n + 3.5, line, confidence=0.9) for n, line in enumerate(lines))


def segments(count: int, words: int = 12) -> tuple[Segment, ...]:
    """A long talk; no two segments are the same."""
    return timed(
        "\n".join(" ".join([f"number{n}", *(f"word{(n * 7 + w) % 89}" for w in range(words))]) for n in range(count))
    )


def spec_of(out: Path, server: SpeechServer | None = None, *, level: str = "format", **fields: Any) -> BatchSpec:
    """A batch that enhances by a server."""
    own = {name: fields.pop(name) for name in list(fields) if name in Enhancement.__dataclass_fields__}
    own |= {} if server is None else {"base_url": server.url, "model": "deepseek-flash"}
    return BatchSpec(str(out), model="tiny.en", enhance=Enhancement(level=level, **own), **fields)


def task_of(name: str = "talk", **data: Any) -> BatchTask:
    """An ENHANCE task that depends on what transcribes."""
    own = EnhanceData(**{"name": f"{name}.mp3", "output": name, "level": "format"} | data)
    return ENHANCE.task(own, id=f"enhance-{name}", file_id=name, depends_on=(f"transcribe-{name}",), provider="chat")


def transcribed(
    out: Path, given: Sequence[Segment], name: str = "talk", language: str | None = "en"
) -> dict[str, Result]:
    """A committed transcript, as its task has it for those that depend on it."""
    whole = Transcript.of(
        given,
        (),
        language=language,
        model="tiny.en",
        provider="faster-whisper",
        duration_s=given[-1].end_s if given else 0.0,
        speech_s=1.0,
        processing_s=0.1,
        media_warnings=(),
        source=Source(name, f"{name}.mp3"),
    )
    store = ArtifactStore(Layout(out).artifacts)
    key = store.key(json.dumps(whole.payload()), "transcript", {}, "tiny.en", 1)
    store.put(key, whole.payload())
    return {f"transcribe-{name}": Result(key, to_json(whole.figures()), kind="transcribe")}


def payload_of(out: Path, outcome: Outcome) -> dict[str, Any]:
    """What an outcome's artifact holds."""
    payload = ArtifactStore(Layout(out).artifacts).get(outcome.artifact_key)
    assert payload is not None
    return payload


class Driver:
    """Makes attempts at a task and at all that it plans.

    Attributes:
        windows: The outcomes of windows, in the order in which they ended.
    """

    def __init__(self, spec: BatchSpec, needed: dict[str, Result] | None = None) -> None:
        self.spec = spec
        self.needed = needed or {}
        self.windows: list[Outcome] = []

    def through(self, task: BatchTask) -> Outcome:
        """The last outcome of a task; windows are asked together, and those that fail are tried once more."""
        children: dict[str, Result] = {}
        for number in range(1, 9):
            *_, outcome = make_attempt(
                Assignment(self.spec, task, attempt=number, children=children, needed=self.needed)
            )
            assert isinstance(outcome, Outcome)
            if not outcome.children:
                return outcome
            made = asyncio.run(self._all(outcome.children))
            failed = [each for each in made if each.failure is not None]
            if failed:
                return failed[0]
            children = {
                child.id: Result(each.artifact_key, each.metrics, child.kind)
                for child, each in zip(outcome.children, made, strict=True)
            }
        raise AssertionError("it plans again and again")

    async def _all(self, tasks: Sequence[BatchTask]) -> list[Outcome]:
        try:
            return await asyncio.gather(*(self._one(task) for task in tasks))
        finally:
            await window.close()

    async def _one(self, task: BatchTask) -> Outcome:
        assert task.task_type is TaskType.ENHANCE
        outcome = await self._call(task, {})
        if outcome.children:
            (child,) = outcome.children
            second = await self._one(child)
            if second.failure is not None:
                return second
            outcome = await self._call(task, {child.id: Result(second.artifact_key, second.metrics, child.kind)})
        return outcome

    async def _call(self, task: BatchTask, children: dict[str, Result]) -> Outcome:
        for attempt in (1, 2):
            outcome = await window.call(
                Assignment(self.spec, task, attempt=attempt, children=children, needed=self.needed)
            )
            self.windows.append(outcome)
            if outcome.failure is None or outcome.failure.failure_class.value != "transient":
                break
        return outcome


def word(text: str, start_s: float = 0.0, probability: float | None = None) -> Word:
    """A word of half a second."""
    return Word(start_s, start_s + 0.5, text, probability)
