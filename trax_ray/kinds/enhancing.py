"""What is enhanced and how: what a model is asked for each window of it, and what its answers are worth.

The one place where tasks meet `trax_ray.enhance`, which knows neither tasks nor services. A summary is asked for in the
same way, of a passage that is one window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from trax_ray.core.ids import digest
from trax_ray.core.spec import BatchSpec
from trax_ray.core.writing import units
from trax_ray.enhance import answers, edits, prompts
from trax_ray.enhance.glossary import Glossary
from trax_ray.enhance.prompts import PROMPT_VERSION
from trax_ray.enhance.summary import Summary, read_summary, summary_messages
from trax_ray.enhance.windows import Window, plan_windows
from trax_ray.kinds.codec import from_json, to_json
from trax_ray.media.speech import Segment

__all__ = ["PROMPT_VERSION", "SUMMARY", "Answer", "Judged", "Passage", "glossary_of", "terms_of"]

SUMMARY = "summary"
"""The level of a passage that is summed up."""

SUMMARY_TOKENS = 2000
TOKENS_LEAST, TOKENS_PER_WORD = 1000, 8
"""The longest answer to a window, tokens: an edit names a passage twice, and a text without punctuation needs one in
each line."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered; the payload of its artifact.

    Args:
        text: As it was written.
        cut_off: Whether it stopped at the longest output.
        input_tokens: What went in, what came from the provider's cache too; 0 where it doesn't say, and likewise below.
        cached_tokens: Of those, what came from the cache.
        output_tokens: What came out.
        cost_usd: What was charged; None where nothing is known.
    """

    text: str
    cut_off: bool = False
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None

    @property
    def finish(self) -> str | None:
        """Why it ended, as far as that matters for what it is worth."""
        return "length" if self.cut_off else None


@dataclass(frozen=True, slots=True)
class Judged:
    """What an answer is worth.

    Args:
        holds: Whether nothing in it had to be refused.
        reasons: Why it doesn't hold, sentences for the second asking.
        problem: Why it can't be used at all, a word; empty where it can.
        applied: What came of its edits; None where it can't be used, and of a summary.
        summary: What it sums up; None of edits, and where it can't be used.
    """

    holds: bool
    reasons: tuple[str, ...] = ()
    problem: str = ""
    applied: edits.Applied | None = None
    summary: Summary | None = None


@dataclass(frozen=True)
class Passage:
    """A transcript, or what is left to do of it, and how it is enhanced; the payload of an artifact.

    Args:
        segments: In order; the rules of the glossary are applied.
        level: Of `ENHANCE_LEVELS`, or `SUMMARY`.
        language: ISO 639-1 code; None where nobody knows.
        glossary: Its lines.
        remove_fillers: Leave out what says nothing.
    """

    segments: tuple[Segment, ...]
    level: str
    language: str | None = None
    glossary: str = ""
    remove_fillers: bool = False

    @classmethod
    def read(cls, payload: Mapping[str, Any]) -> Passage:
        """The passage of an artifact's payload."""
        return from_json(cls, payload)

    def payload(self) -> dict[str, Any]:
        """What its artifact holds."""
        return to_json(self)

    def parameters(self) -> dict[str, Any]:
        """What decides on the result, segments and model apart; JSON types."""
        known = glossary_of(self.glossary)
        return {
            "level": self.level,
            "language": self.language,
            "glossary": digest(known.fingerprint) if known else "",
            "remove_fillers": self.remove_fillers,
        }

    @cached_property
    def windows(self) -> tuple[Window, ...]:
        """The windows; one of all of it where it is summed up."""
        words = sum(len(units(each.text)) for each in self.segments) + 1
        size = {"target_words": words} if self.level == SUMMARY else {}
        return plan_windows(self.segments, language=self.language, **size)

    def question(self, number: int, reasons: Sequence[str]) -> tuple[str, str, int]:
        """What a model is asked.

        Args:
            number: The window.
            reasons: Why the first answer didn't hold; empty when it is asked for the first time.

        Returns:
            Instructions, the same for all windows; the window as text; and the longest output that is allowed, tokens.
        """
        if self.level == SUMMARY:
            asked = summary_messages(self.segments, language=self.language, reasons=reasons)
            most = SUMMARY_TOKENS
        else:
            window = self.windows[number]
            asked = prompts.messages(window, reasons=reasons, **self._how())
            most = TOKENS_LEAST + TOKENS_PER_WORD * sum(len(units(each.text)) for each in window.segments)
        return asked[0]["content"], "\n\n".join(each["content"] for each in asked[1:]), most

    def judge(self, number: int, answer: Answer, earlier: Sequence[Answer] = ()) -> Judged:
        """What an answer to a window is worth.

        Args:
            number: The window.
            answer: The answer.
            earlier: Those that were given to the same window before: who guessed then isn't believed later.
        """
        if self.level == SUMMARY:
            summary = read_summary(answer.text, self.segments, finish_reason=answer.finish)
            if summary.problem:
                return Judged(False, (summary.reason,), summary.problem)
            return Judged(True, summary=summary)
        read = answers.read_answer(answer.text, finish_reason=answer.finish)
        if read.problem:
            return Judged(False, (read.reason,), read.problem)
        before = [judged.applied for judged in (self.judge(number, each) for each in earlier) if judged.applied]
        unlike = sum(each.unlike for each in before)
        window = self.windows[number]
        applied = edits.apply(window, read.edits, paragraphs=read.paragraphs, unlike=unlike, **self._how())
        return Judged(applied.holds, applied.reasons, applied=applied)

    def _how(self) -> dict[str, Any]:
        return {
            "level": self.level,
            "glossary": glossary_of(self.glossary),
            "remove_fillers": self.remove_fillers,
        }


def terms_of(spec: BatchSpec) -> str:
    """The terms of a batch's glossary as a text that primes recognisers; empty without any."""
    return glossary_of(spec.enhance.glossary).prompt if spec.enhance.glossary else ""


@lru_cache(maxsize=4)
def glossary_of(lines: str) -> Glossary:
    """The glossary of its lines; an empty one of none."""
    return Glossary.parse(lines)
