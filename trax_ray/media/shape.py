"""How subtitles are shaped: how much a line and a cue hold, where a line ends, and how fast they may be read."""

from __future__ import annotations

from dataclasses import dataclass, replace

from trax_ray.core.spec import BatchSpec
from trax_ray.core.writing import breakable, is_unspaced, width

__all__ = ["DEFAULT", "PHRASE_ENDS", "SENTENCE_ENDS", "STYLES", "Shape", "shape_of", "wrapped"]

SENTENCE_ENDS = frozenset(".?!…。！？")  # noqa: RUF001 - marks of other scripts are meant
PHRASE_ENDS = frozenset(",;:–—、，；：")  # noqa: RUF001 - marks of other scripts are meant

_ARTICLES_AND_THE_LIKE = (
    "a an the and or but of to in on at by for with from as is "
    "der die das den dem des ein eine einen einem einer und oder von zu im am an mit für auf "
    "le la les un une des du de et ou à au aux en dans par pour "
    "el los las una unos y o del al con por para que"
)
_BINDING = frozenset(_ARTICLES_AND_THE_LIKE.split())
"""Words after which a line doesn't end gladly, in English, German, French and Spanish."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What subtitles keep to.

    Args:
        columns: Of a line. Source: Netflix Timed Text Style Guide, English, 2.1; BBC uses 37, EBU 40.
        wide_columns: Of a line of a script without spaces, in which a wide character takes two. Source: Netflix Timed
            Text Style Guides: 16 characters in Chinese, 13 to 20 in Japanese.
        lines: Of a cue. Source: as columns.
        words: In a line; None for any number.
        cue_s: The longest time that a cue stays, seconds. Source: as columns.
        characters_per_s: How fast it may be read, spaces included; None where only words count, or nothing does.
        words_per_s: The same in words.
    """

    columns: int = 42
    wide_columns: int = 40
    lines: int = 2
    words: int | None = None
    cue_s: float = 7.0
    characters_per_s: float | None = None
    words_per_s: float | None = None

    def columns_of(self, text: str) -> int:
        """How wide a line of this text may be."""
        return self.wide_columns if is_unspaced(text) else self.columns

    def fits(self, line: str) -> bool:
        """Whether a text is a line."""
        return width(line) <= self.columns_of(line) and (self.words is None or len(line.split()) <= self.words)

    def reading_s(self, text: str) -> float:
        """Seconds that reading takes at the highest speed that is allowed; 0 where none is set."""
        by_characters = len(text) / self.characters_per_s if self.characters_per_s else 0.0
        by_words = len(text.split()) / self.words_per_s if self.words_per_s else 0.0
        return max(by_characters, by_words)


DEFAULT = Shape()

STYLES = {
    "none": DEFAULT,
    # Netflix Timed Text Style Guide, English, 2.1 and 14: 42 characters, 2 lines, 20 characters a second for adults.
    "netflix": Shape(characters_per_s=20.0),
    # BBC Subtitle Guidelines: 37 characters, 2 lines, 160 to 180 words a minute.
    "bbc": Shape(columns=37, words_per_s=3.0),
}
"""Of `--subtitle-style`."""


def shape_of(spec: BatchSpec) -> Shape:
    """The shape that a batch asks for: its style's, but for what is given by itself.

    Words in a line are words in a cue where nothing is said about lines, as openai-whisper has it.
    """
    shape = STYLES[spec.subtitle_style]
    if spec.max_line_width is not None:
        shape = replace(shape, columns=spec.max_line_width, wide_columns=spec.max_line_width)
    if spec.max_words_per_line is not None:
        shape = replace(shape, words=spec.max_words_per_line, lines=1)
    if spec.max_line_count is not None:
        shape = replace(shape, lines=spec.max_line_count)
    return shape


def wrapped(text: str, shape: Shape = DEFAULT) -> str:
    """Break a cue's text into lines: where a phrase ends, else as equal as its words allow.

    Args:
        text: One line.
        shape: What a line holds.

    Returns:
        The same text; lines are parted by a line feed. Words are never broken; scripts without spaces have lines that
        may end between any two characters.
    """
    if shape.fits(text):
        return text
    parts = breakable(text)
    pairs = [("".join(parts[:at]).rstrip(), "".join(parts[at:])) for at in range(1, len(parts))]
    fitting = [
        (_break_cost(first, second), at)
        for at, (first, second) in enumerate(pairs)
        if shape.lines > 1 and shape.fits(first) and shape.fits(second)
    ]
    if fitting:
        return "\n".join(pairs[min(fitting)[1]])
    lines = [parts[0]]
    for part in parts[1:]:
        if shape.fits((lines[-1] + part).rstrip()):
            lines[-1] += part
        else:
            lines.append(part)
    return "\n".join(line.rstrip() for line in lines)


def _break_cost(first: str, second: str) -> float:
    """How little one wants a line to end here: lines of unequal length, and phrases that are torn, cost."""
    ending = first[-1:]
    gain = 16 if ending in SENTENCE_ENDS else 12 if ending in PHRASE_ENDS else 0
    torn = 14 if first.rsplit(" ", 1)[-1].casefold() in _BINDING else 0
    return abs(width(first) - width(second)) - gain + torn
