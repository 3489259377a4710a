"""Edits of a window's segments, and what comes of them."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from trax_ray.enhance.glossary import Glossary
from trax_ray.enhance.windows import Window

__all__ = ["LEVELS", "Applied", "Edit", "Enhanced", "Refused", "apply"]

LEVELS = ("format", "words")
"""What may change: punctuation and casing alone; or besides, words that were doubted."""


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
    def edits_by_kind(self) -> dict[str, int]:
        """How many edits of each kind were made."""
        return dict(sorted(Counter(edit.kind for edit in self.accepted).items()))

    @property
    def refused_by_gate(self) -> dict[str, int]:
        """How many edits each gate refused."""
        return dict(sorted(Counter(each.gate for each in self.refused).items()))


def apply(
    window: Window,
    edits: Sequence[Edit],
    *,
    level: str = "format",
    glossary: Glossary | None = None,
    remove_fillers: bool = False,
    paragraphs: Sequence[int] = (),
) -> Applied:
    """Make those edits that pass the gates. Times and the number of segments never change.

    Args:
        window: The segments.
        edits: In any order.
        level: `format` or `words`.
        glossary: Whose terms may be put in.
        remove_fillers: Whether words such as `um` may go.
        paragraphs: Numbers of segments with which a paragraph should begin; others are left out.
    """
    texts = {segment.number: segment.text for segment in window.segments}
    accepted: list[Edit] = []
    refused: list[Refused] = []
    for edit in edits:
        text = texts.get(edit.segment)
        if text is None:
            refused.append(Refused(edit, "no_segment", f"There is no segment {edit.segment} here.", harmful=False))
        elif text.count(edit.before) != 1:
            refused.append(Refused(edit, "no_match", f"Segment {edit.segment}: no one match.", harmful=False))
        elif _letters(edit.before) != _letters(edit.after):
            refused.append(Refused(edit, "words", f"Segment {edit.segment}: words would change."))
        else:
            texts[edit.segment] = text.replace(edit.before, edit.after)
            accepted.append(edit)
    spoilt = {each.edit.segment for each in refused if each.harmful}
    return Applied(
        segments=tuple(
            Enhanced(
                number=segment.number,
                start_s=segment.start_s,
                end_s=segment.end_s,
                original=segment.text,
                text=segment.text if segment.number in spoilt else texts[segment.number],
                held=segment.number not in spoilt,
                paragraph=segment.number in paragraphs,
            )
            for segment in window.segments
        ),
        accepted=tuple(edit for edit in accepted if edit.segment not in spoilt),
        refused=tuple(refused),
    )


def _letters(text: str) -> list[str]:
    kept = (" " if each.isspace() else each for each in text.casefold() if unicodedata.category(each)[0] not in "P")
    return "".join(kept).split()
