"""Edits of a window's segments, and what comes of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from trax_ray.enhance.characters import cleaned, hides, unusable
from trax_ray.enhance.gates import GATES, Found, Rules, compare
from trax_ray.enhance.glossary import Glossary
from trax_ray.enhance.matching import places
from trax_ray.enhance.windows import Window, WindowSegment

__all__ = ["FORM", "LEVELS", "Applied", "Edit", "Enhanced", "Refused", "apply"]

LEVELS = ("format", "words")
"""What may change: punctuation and casing alone; or besides, words that were doubted."""

MOST_UNLIKE = 4
"""Words that don't sound like what was heard, for each that does: who proposes more of them is guessing.

Of those who know what was said a third and more of the words pass the gates, of those who guess one in a thousand.
"""


@dataclass(frozen=True, slots=True)
class Edit:
    """What a model wants to change.

    Args:
        segment: The number of the segment.
        before: A passage of its text (`from` in the answer).
        after: What should stand there (`to`).
        kind: What the model calls it; counted under the kind that it is.
    """

    segment: int
    before: str
    after: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """An edit that wasn't made.

    Args:
        edit: The edit.
        gate: The name of the gate that refused it.
        reason: One sentence for people, and for the model that is asked again.
        harmful: Whether it would have changed what was said; False where it only doesn't fit the text.
    """

    edit: Edit
    gate: str
    reason: str
    harmful: bool = True


@dataclass(frozen=True, slots=True)
class Enhanced:
    """A segment after its edits.

    Args:
        number: Its place in the transcript, counted from 1.
        start_s: As it was.
        end_s: As it was.
        original: As recognised.
        text: After the edits; the original where the gates didn't hold.
        held: Whether no edit of it was refused for what it says.
        paragraph: Whether a paragraph begins with it.
    """

    number: int
    start_s: float
    end_s: float
    original: str
    text: str
    held: bool = True
    paragraph: bool = False


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of a window's edits.

    Args:
        segments: All of the window's, in order.
        accepted: The edits that were made; their `kind` is the one that the gates found.
        refused: The others.
    """

    segments: tuple[Enhanced, ...]
    accepted: tuple[Edit, ...] = ()
    refused: tuple[Refused, ...] = field(default=())

    @property
    def holds(self) -> bool:
        """Whether the gates of all its segments held; else the window is worth a second asking."""
        return all(segment.held for segment in self.segments)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why edits were refused, for the second asking; without those that only didn't fit the text."""
        return tuple(dict.fromkeys(each.reason for each in self.refused if each.harmful))

    @property
    def unlike(self) -> int:
        """How many words were refused because they don't sound like what was heard."""
        return sum(each.gate == "sound" for each in self.refused)

    @property
    def edits_by_kind(self) -> dict[str, int]:
        """How many edits of each kind were made."""
        return dict(sorted(Counter(edit.kind for edit in self.accepted).items()))

    @property
    def refused_by_gate(self) -> dict[str, int]:
        """How many edits each gate refused."""
        return dict(sorted(Counter(each.gate for each in self.refused).items()))


FORM = {
    "no_segment": "there is no such segment here",
    "no_match": "the passage isn't in the segment",
    "two_matches": "the passage stands there more than once; more words around it make it clear",
    "no_passage": "there is no passage that it would replace",
    "overlap": "it overlaps another edit of the segment",
    "characters": "it holds invisible characters, or what is no character",
    "too_long": "it is much longer than what it replaces",
    "together": "together with other edits of the segment it would change what was said",
    "guessed": "nearly all words that were proposed here don't sound like what was heard, so this one is a guess too",
}
"""The gates that look at an edit's form, and why they refuse; those of `gates.GATES` look at what it says."""

_HARMFUL_FORM = frozenset({"characters", "too_long", "together", "guessed"})


def apply(
    window: Window,
    edits: Sequence[Edit],
    *,
    level: str = "format",
    glossary: Glossary | None = None,
    remove_fillers: bool = False,
    paragraphs: Sequence[int] = (),
    unlike: int = 0,
) -> Applied:
    """Make those edits that pass the gates. Times and the number of segments never change.

    A segment with an edit that would change what was said keeps its original whole: who got that wrong may have got
    its neighbour wrong, too. Edits that only don't fit the text are left out alone.

    Args:
        window: The segments.
        edits: In any order.
        level: `format` or `words`.
        glossary: Whose terms may be put in.
        remove_fillers: Whether words such as `um` may go.
        paragraphs: Numbers of segments with which a paragraph should begin; others are left out.
        unlike: Words of earlier answers to the same window that were refused for their sound.

    Raises:
        ValueError: Another level.
    """
    if level not in LEVELS:
        raise ValueError(f"level is one of {', '.join(LEVELS)}, not {level!r}")
    common = _common(window) if level == "words" else frozenset()
    asked: dict[int, list[Edit]] = {segment.number: [] for segment in window.segments}
    refused: list[Refused] = []
    for edit in dict.fromkeys(edits):
        if edit.segment in asked:
            asked[edit.segment].append(edit)
        else:
            refused.append(_refused(edit, "no_segment"))
    rules = {
        segment.number: Rules(
            level=level,
            glossary=glossary or Glossary(),
            remove_fillers=remove_fillers,
            language=segment.language,
            common=common,
        )
        for segment in window.segments
    }
    made = {each.number: _edited(each, asked[each.number], rules[each.number]) for each in window.segments}
    unlike += sum(refusal.gate == "sound" for each in made.values() for refusal in each.refused)
    if unlike > MOST_UNLIKE * sum(each.alike for each in made.values()):
        for each in window.segments:
            if made[each.number].alike:
                made[each.number] = _edited(each, asked[each.number], rules[each.number], believed=False)
    segments = tuple(
        Enhanced(
            number=each.number,
            start_s=each.start_s,
            end_s=each.end_s,
            original=each.text,
            text=made[each.number].text,
            held=not any(refusal.harmful for refusal in made[each.number].refused),
            paragraph=each.number in paragraphs,
        )
        for each in window.segments
    )
    return Applied(
        segments=segments,
        accepted=tuple(edit for each in made.values() for edit in each.accepted),
        refused=(*refused, *(refusal for each in made.values() for refusal in each.refused)),
    )


_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")


def _common(window: Window) -> frozenset[str]:
    """The words that stand somewhere in the window, or around it, in lower case."""
    texts = (window.before, window.after, *(segment.text for segment in window.segments))
    return frozenset(word for text in texts for word in _WORD.findall(text) if word.islower())


@dataclass(frozen=True, slots=True)
class _Made:
    """What becomes of a segment: its text, the edits that were made and those that weren't.

    Args:
        alike: Edits of words that pass the gates each alone.
    """

    text: str
    accepted: tuple[Edit, ...]
    refused: tuple[Refused, ...]
    alike: int


def _edited(segment: WindowSegment, edits: Sequence[Edit], rules: Rules, *, believed: bool = True) -> _Made:
    """Make the edits of a segment; those of words only if who proposes them is believed."""
    refused: list[Refused] = []
    spans: list[tuple[int, int, str, Edit]] = []
    for edit in edits:
        span, gate = _placed(segment.text, edit)
        if gate:
            refused.append(_refused(edit, gate))
        elif span and segment.text[span[0] : span[1]] != span[2]:
            spans.append((*span, edit))
    spans.sort(key=lambda span: (span[0], span[1]))
    clear = [
        span
        for at, span in enumerate(spans)
        if not any(_overlap(span, other) for number, other in enumerate(spans) if number != at)
    ]
    refused += [_refused(span[3], "overlap") for span in spans if span not in clear]
    made: list[Edit] = []
    for start, end, put, edit in clear:
        found = _compared(segment, start, end, put, rules)
        if found.gate:
            refused.append(_refused(edit, found.gate, found.detail))
        elif found.kind in ("word", "term") and hides(edit.after, edit.before):
            refused.append(_refused(edit, "characters"))
        elif found.kind == "word" and not believed:
            refused.append(_refused(edit, "guessed"))
        else:
            made.append(replace(edit, kind=found.kind))
    alike = sum(edit.kind == "word" for edit in made)
    text = _with(segment.text, [span[:3] for span in clear])
    if len(made) > 1 and len(made) == len(clear):
        found = compare(segment.text, text, segment.doubted, rules)
        if found.gate:
            refused += [_refused(edit, "together", found.detail) for edit in made]
    if any(each.harmful for each in refused):
        return _Made(segment.text, (), tuple(refused), alike)
    return _Made(text, tuple(made), tuple(refused), alike)


AROUND = 12
"""Words beside a passage that are compared with it: numbers and terms may begin or end there."""


def _compared(segment: WindowSegment, start: int, end: int, put: str, rules: Rules) -> Found:
    """What the gates say to an edit alone, looking at it and the words around it."""
    text = segment.text
    left, right = start, end
    for _ in range(AROUND):
        left = max(0, text.rfind(" ", 0, max(0, left - 1)))
        right = text.find(" ", right + 1) if right < len(text) and text.find(" ", right + 1) >= 0 else len(text)
    doubts = [
        replace(doubt, start=max(0, doubt.start - left), end=doubt.end - left)
        for doubt in segment.doubted
        if doubt.end > left and doubt.start < right
    ]
    part = text[left:right]
    return compare(part, _with(part, [(start - left, end - left, put)]), doubts, rules)


def _refused(edit: Edit, gate: str, detail: str = "") -> Refused:
    why = FORM.get(gate) or GATES[gate]
    return Refused(
        edit=edit,
        gate=gate,
        reason=f"Segment {edit.segment}: {why}" + (f" ({detail})." if detail else "."),
        harmful=gate in GATES or gate in _HARMFUL_FORM,
    )


def _placed(text: str, edit: Edit) -> tuple[tuple[int, int, str] | None, str | None]:
    """Where an edit belongs and what it puts there; or the gate that refuses it; or neither, where nothing changes."""
    if not edit.before.strip():
        return None, "no_passage"
    if unusable(edit.after):
        return None, "characters"
    if len(edit.after) > 2 * len(edit.before) + 40:
        return None, "too_long"
    found = places(text, edit.before)
    if len(found) != 1:
        return None, "two_matches" if found else "no_match"
    start, end = found[0]
    # The spaces around a passage belong to the text: without them its words would grow together with their neighbours.
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return (start, end, cleaned(edit.after, text[start:end]).strip()), None


def _overlap(first: tuple[int, int, str, Edit], second: tuple[int, int, str, Edit]) -> bool:
    return first[0] < second[1] and second[0] < first[1]


def _with(text: str, spans: Sequence[tuple[int, int, str]]) -> str:
    """A text with other passages in place; where a passage goes, one of the spaces around it goes as well."""
    for start, end, put in sorted(spans, reverse=True):
        before, after = text[:start], text[end:]
        if not put and after[:1] in (" ", ""):
            before = before.rstrip(" ") if before.endswith(" ") else before
        if not put and not before:
            after = after.lstrip(" ")
        text = before + put + after
    return text
