"""The windows of a passage, as its own task sees them: which are to be asked, and what came of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from trax_ray.core.ids import fingerprint_of
from trax_ray.core.task import BatchTask
from trax_ray.enhance.summary import Summary
from trax_ray.kinds.assignment import Assignment
from trax_ray.kinds.codec import from_json
from trax_ray.kinds.enhancing import PROMPT_VERSION, SUMMARY, Answer, Passage
from trax_ray.kinds.text_model import TextModel
from trax_ray.kinds.window import WINDOW, WindowData, WindowFigures, answer_key
from trax_ray.store.artifacts import ArtifactStore

__all__ = ["Windows"]


@dataclass(frozen=True)
class Windows:
    """The windows of a passage.

    Args:
        assignment: The attempt at what they belong to.
        store: Where their answers are.
        passage: What they are windows of; None where nobody is asked.
        content: What tells that from other passages: the key of what it is made from.
    """

    assignment: Assignment
    store: ArtifactStore
    passage: Passage | None
    content: str

    @property
    def model(self) -> TextModel:
        """Who is asked."""
        return TextModel(self.assignment.spec)

    @cached_property
    def key(self) -> str:
        """Of the passage's artifact, where the windows' tasks find it."""
        assert self.passage is not None
        parameters = {**self.passage.parameters(), "prompt": PROMPT_VERSION}
        return self.store.key(self.content, "passage", parameters, "", 1)

    @property
    def _numbers(self) -> range:
        return range(0 if self.passage is None else len(self.passage.windows))

    # What came of them

    def answers(self) -> dict[int, tuple[Answer, ...]]:
        """The answers to each window that has any, in the order in which they came."""
        found: dict[int, tuple[Answer, ...]] = {}
        for number in self._numbers:
            payloads = [self.store.get(self._key_of(number, again=again)) for again in (False, True)]
            given = tuple(from_json(Answer, payload) for payload in payloads if payload is not None)
            found |= {number: given} if given else {}
        return found

    def kept(self) -> dict[int, tuple[str, str]]:
        """Those that were refused an answer and stay as they were, with the code and the reason."""
        return {number: (each.kept, each.reason) for number, each in self._told().items() if each.kept}

    def summary(self) -> Summary | None:
        """What a passage is summed up as; None where no answer could be used."""
        assert self.passage is not None
        for answer in reversed(self.answers().get(0, ())):
            summary = self.passage.judge(0, answer).summary
            if summary is not None:
                return summary
        return None

    def _told(self) -> dict[int, WindowFigures]:
        """What they had to say that an earlier attempt planned."""
        planned = {self._id_of(number): number for number in self._numbers}
        made = ((planned[name], each) for name, each in self.assignment.children.items() if name in planned)
        return {number: from_json(WindowFigures, each.figures) for number, each in made}

    # Those to be asked

    def wanted(self) -> tuple[BatchTask, ...]:
        """Those that are still to be asked, as tasks. What they are windows of is committed before."""
        if self.passage is None:
            return ()
        told, answers = self._told(), self.answers()
        gone = [number for number, each in told.items() if not each.kept and number not in answers]
        missing = [n for n in self._numbers if n not in told and not self._is_final(n, answers.get(n, ()))]
        if not missing and not gone:
            return ()
        self.store.put(self.key, self.passage.payload())
        # Those that are asked once more, because their answers have vanished, are other tasks.
        once_more = {"attempt": self.assignment.attempt} if gone else {}
        return tuple(self._task(number, once_more) for number in sorted([*missing, *gone]))

    def _is_final(self, number: int, answers: tuple[Answer, ...]) -> bool:
        assert self.passage is not None
        return len(answers) > 1 or any(self.passage.judge(number, each).holds for each in answers)

    def _task(self, number: int, once_more: Mapping[str, int]) -> BatchTask:
        assert self.passage is not None
        task, given = self.assignment.task, self.assignment.task.data
        instructions, text, most = self.passage.question(number, ())
        data = WindowData(
            passage=self.key,
            number=number,
            name=str(given.get("name") or ""),
            off_peak=bool(given.get("off_peak")),
            size_bytes=int(given.get("size_bytes") or 0) // len(self.passage.windows),
            estimate_usd=self.model.price_usd(instructions + text, most),
        )
        own = [self.key, number, self.model.name, *once_more.values()]
        return WINDOW.task(
            data,
            id=self._id_of(number),
            file_id=task.file_id,
            fingerprint=fingerprint_of(own, of=task.fingerprint),
            priority=task.priority,
            max_retries=task.max_retries,
            depends_on=task.depends_on,
            parent=task.id,
            chunk=number,
            provider=self.model.provider.name,
            resources=task.resources,
        )

    def _id_of(self, number: int) -> str:
        summed_up = self.passage is not None and self.passage.level == SUMMARY
        return f"{self.assignment.task.id}/{SUMMARY if summed_up else number}"

    def _key_of(self, number: int, *, again: bool) -> str:
        return answer_key(self.store, self.key, number, self.model, again=again)
