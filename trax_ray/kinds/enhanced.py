"""An enhanced transcript: how it is kept, what is said of it, and the files made from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from trax_ray.codes import WarningCode
from trax_ray.core.spec import BatchSpec
from trax_ray.core.writing import joined
from trax_ray.enhance.diff import changes, diff_text
from trax_ray.enhance.edits import Applied
from trax_ray.enhance.edits import Enhanced as Line
from trax_ray.kinds.enhancing import Answer, Judged, Passage, glossary_of
from trax_ray.kinds.original import Original
from trax_ray.media.speech import Segment, Word

__all__ = ["Enhanced", "EnhancedFigures", "WindowResult"]

UNTIMED_FORMATS = ("txt", "json")
"""What is written of a text without times."""


@dataclass(frozen=True, slots=True)
class WindowResult:
    """What became of a window.

    Args:
        first: Number of its first segment, from 1.
        last: Of its last one.
        asked: How often a model was asked.
        kept: Why it stays as it was, a word; empty where an answer could be used.
        reason: The same as a sentence; and why edits were refused.
    """

    first: int
    last: int
    asked: int = 0
    kept: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Enhanced:
    """An enhanced transcript; the payload of its artifact.

    Args:
        text: All of it, a space or a line end between its segments.
        text_before: The same as it was.
        lines: Its segments, in order, before and after.
        windows: What became of each window, in order.
        level: How far it was to be changed.
        model: Who was asked; empty for nobody.
        provider: Whose model.
        language: ISO 639-1 code; None where nobody knows.
        edits: Edits that were made, by kind.
        refused: Edits and answers that were refused, by gate.
        input_tokens: What went into the model, and what came from its cache too.
        cached_tokens: Of those, what came from the cache.
        output_tokens: What came out.
        asked_usd: What the answers were charged; None where nothing is known.
        processing_s: Seconds that it took to apply them.
    """

    text: str
    text_before: str
    lines: tuple[Line, ...]
    windows: tuple[WindowResult, ...]
    level: str
    model: str
    provider: str
    language: str | None
    edits: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    asked_usd: float | None = None
    processing_s: float = 0.0

    @classmethod
    def of(
        cls,
        passage: Passage,
        original: Original,
        answers: Mapping[int, Sequence[Answer]],
        kept: Mapping[int, tuple[str, str]],
        **fields: Any,
    ) -> Enhanced:
        """The transcript that answers lead to.

        Args:
            passage: What was asked about.
            original: The transcript as it is.
            answers: By window, in the order in which they came.
            kept: Why windows have none, a word and a sentence.
            fields: The fields that don't follow from these.
        """
        lines: list[Line] = []
        windows: list[WindowResult] = []
        edits: Counter[str] = Counter()
        refused: Counter[str] = Counter()
        for number, window in enumerate(passage.windows):
            given = answers.get(number, ())
            judged = _best([passage.judge(number, answer, given[:at]) for at, answer in enumerate(given)])
            applied = judged.applied if judged else None
            code, reason = kept.get(number, ("", "")) if judged is None else (judged.problem, " ".join(judged.reasons))
            asks = number in answers or number in kept
            if applied is None:
                untouched = (Line(s.number, s.start_s, s.end_s, s.text, s.text, held=not asks) for s in window.segments)
                applied = Applied(tuple(untouched))
                refused.update({code: 1} if code else {})
            first, last = window.segments[0].number, window.segments[-1].number
            windows.append(WindowResult(first, last, len(given), code, reason))
            lines += applied.segments
            edits.update(applied.edits_by_kind)
            refused.update(applied.refused_by_gate)
        # What it was before is what the recogniser said, and not what the rules of the glossary made of it.
        spoken = [each.text for each in original.segments]
        lines = [replace(line, original=before) for line, before in zip(lines, spoken, strict=True)]
        ruled = sum(each.text != before for each, before in zip(passage.segments, spoken, strict=True))
        edits.update({"rule": ruled} if ruled else {})
        every = [answer for given in answers.values() for answer in given]
        usd = [each.cost_usd for each in every if each.cost_usd is not None]
        return cls(
            text=joined(line.text for line in lines),
            text_before=joined(spoken),
            lines=tuple(lines),
            windows=tuple(windows),
            level=passage.level,
            language=original.language,
            edits=dict(sorted(edits.items())),
            refused=dict(sorted(refused.items())),
            input_tokens=sum(each.input_tokens for each in every),
            cached_tokens=sum(each.cached_tokens for each in every),
            output_tokens=sum(each.output_tokens for each in every),
            asked_usd=sum(usd) if usd else None,
            **fields,
        )

    def figures(self) -> EnhancedFigures:
        """What is said of it in the outcome of the task that made it."""
        held = sum(line.held for line in self.lines)
        kept = sum(bool(window.kept) for window in self.windows)
        warnings = {WarningCode.ENHANCEMENT_REFUSED.value} if held < len(self.lines) else set()
        return EnhancedFigures(
            level=self.level,
            model=self.model,
            language=self.language,
            segments=len(self.lines),
            segments_preserved=held,
            segments_changed=sum(line.text != line.original for line in self.lines),
            windows=len(self.windows),
            windows_kept=kept,
            windows_asked_again=sum(window.asked > 1 for window in self.windows),
            edits=self.edits,
            refused=self.refused,
            input_tokens=self.input_tokens,
            cached_tokens=self.cached_tokens,
            output_tokens=self.output_tokens,
            asked_usd=self.asked_usd,
            processing_s=self.processing_s,
            warnings=tuple(sorted(warnings)),
        )

    def segments(self, original: Original) -> list[Segment]:
        """Its segments with their times; those of words where each word is still the same one."""
        found = []
        for line, before in zip(self.lines, original.segments, strict=True):
            found.append(replace(before, text=line.text, words=_words(line.text, before.words)))
        return [each for each in found if each.text.strip()]

    def files(self, spec: BatchSpec, original: Original) -> dict[str, str]:
        """The contents of its files, by what comes after `NAME.enhanced.`: those of a transcript, and a diff."""
        from trax_ray.media.shape import shape_of
        from trax_ray.media.subtitles import render

        segments, shape = self.segments(original), shape_of(spec)
        found = {}
        for suffix in spec.formats:
            if not original.timed and suffix not in UNTIMED_FORMATS:
                continue
            if suffix == "txt":
                found[suffix] = self._paragraphs() or render("txt", segments)
            else:
                about = {**original.about, "enhancement": self._about()}
                found[suffix] = render(suffix, segments, meta=about, shape=shape)
        return {**found, "diff": diff_text(self.lines)}

    def _paragraphs(self) -> str:
        """Its text in paragraphs; empty where it has none."""
        if not any(line.paragraph for line in self.lines[1:]):
            return ""
        paragraphs: list[list[str]] = [[]]
        for line in self.lines:
            if line.paragraph and paragraphs[-1]:
                paragraphs.append([])
            paragraphs[-1] += [line.text] if line.text.strip() else []
        return "\n\n".join(joined(each) for each in paragraphs if each) + "\n"

    def _about(self) -> dict[str, Any]:
        """What its JSON file says of how it was made."""
        kept = [each for each in self.windows if each.kept]
        return {
            "level": self.level,
            "model": self.model,
            "provider": self.provider,
            "edits": dict(self.edits),
            "refused": dict(self.refused),
            "kept": [{"segments": [each.first, each.last], "code": each.kept, "reason": each.reason} for each in kept],
            "changes": changes(self.lines),
        }


@dataclass(frozen=True, slots=True)
class EnhancedFigures:
    """What an outcome says of an enhanced transcript, and the report shows.

    Args:
        level: How far it was to be changed.
        model: Who was asked; empty for nobody.
        language: ISO 639-1 code; None where nobody knows.
        segments: How many there are.
        segments_preserved: Those in which no gate had to refuse anything.
        segments_changed: Those that read otherwise now.
        windows: How many there are.
        windows_kept: Those that stay as they were.
        windows_asked_again: Those that were asked twice.
        edits: Edits that were made, by kind.
        refused: Edits and answers that were refused, by gate.
        input_tokens: What went into the model, and what came from its cache too.
        cached_tokens: Of those, what came from the cache.
        output_tokens: What came out.
        asked_usd: What the answers were charged, whenever they came; None where nothing is known.
        processing_s: Seconds that it took to apply them.
        warnings: Codes of warnings, sorted.
        cached: Whether it was there already.
        outputs: Files that were written, paths below the output folder.
        kept_outputs: Files of others that have the names of outputs, and were kept.
        errors_before: Word errors of the transcript against the reference; None here and below without one.
        errors_after: The same after.
        reference_words: Words of the reference.
        accuracy_before: Percent.
        accuracy_after: Percent.
    """

    level: str
    model: str
    language: str | None
    segments: int
    segments_preserved: int
    segments_changed: int
    windows: int
    windows_kept: int
    windows_asked_again: int
    edits: Mapping[str, int]
    refused: Mapping[str, int]
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    asked_usd: float | None
    processing_s: float
    warnings: tuple[str, ...]
    cached: bool = False
    outputs: tuple[str, ...] = ()
    kept_outputs: tuple[str, ...] = ()
    errors_before: int | None = None
    errors_after: int | None = None
    reference_words: int | None = None
    accuracy_before: float | None = None
    accuracy_after: float | None = None


def _best(judged: Sequence[Judged]) -> Judged | None:
    """Of the answers to a window the one that is worth most: one that can be used, of which most holds; the later."""

    def worth(each: Judged) -> int:
        return -1 if each.applied is None else sum(line.held for line in each.applied.segments)

    return max(reversed(judged), key=worth) if judged else None


def _words(text: str, words: Sequence[Word]) -> tuple[Word, ...]:
    """Words with their times under a text that is written otherwise; none where it isn't the same words."""
    said = text.split()
    if len(said) != len(words) or any(_bare(one) != _bare(word.text) for one, word in zip(said, words, strict=True)):
        return ()
    return tuple(replace(word, text=one) for one, word in zip(said, words, strict=True))


def _bare(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())


def ruled(segments: Sequence[Segment], glossary: str) -> tuple[Segment, ...]:
    """Segments after the rules of a glossary."""
    known = glossary_of(glossary)
    if not known.rules:
        return tuple(segments)
    return tuple(replace(each, text=known.apply_rules(each.text)) for each in segments)
