"""The gates: whether a new text of a segment still says what was said.

Both texts are aligned word by word. Where they differ, each gate may refuse, in the order of `GATES`. Level `format`
lets pass what has the same words, numbers by value, and fillers that may go. Level `words` besides lets pass words that
were doubted, or that become a term of the glossary, where old and new sound alike.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from trax_ray.core.writing import is_unspaced
from trax_ray.enhance.alignment import Change, changes
from trax_ray.enhance.characters import odd_letters, scripts
from trax_ray.enhance.forms import refusing_form
from trax_ray.enhance.glossary import Glossary
from trax_ray.enhance.numbers import in_digits, is_number, same_value
from trax_ray.enhance.sounds import sound_alike
from trax_ray.enhance.tokens import Token, is_letter, tokens
from trax_ray.enhance.vocabulary import (
    hesitations,
    is_common,
    is_measure,
    is_modal,
    is_negation,
    is_title,
    negates,
)
from trax_ray.enhance.windows import Doubt

__all__ = ["GATES", "LONGEST", "Found", "Rules", "compare"]

LONGEST = 3
"""Consecutive words that may be replaced at once."""

GATES = {
    "empty": "nothing would be left of the segment",
    "punctuation": "there would be more marks than a sentence needs",
    "spacing": "spaces would part characters of a script that has none",
    "casing": "whole passages would be in capitals",
    "lookalikes": "letters of another script",
    "symbol": "a sign would come or go that is no punctuation",
    "number": "a number, a date or a unit would change",
    "negation": "a negation would come or go, or a word would become its opposite",
    "insertion": "words would be added",
    "name": "a name would change that the glossary doesn't know",
    "order": "words would change places",
    "deletion": "words would be lost",
    "words": "words would change; at this level only punctuation and casing may",
    "length": f"more than {LONGEST} consecutive words would change",
    "certain": "words would change that the recogniser was sure of",
    "sound": "the new words don't sound like the old ones",
    "grammar": "another form of what was said; repairs of grammar and style change what was said",
}
"""The gates that look at what an edit says, and why they refuse."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What may change.

    Args:
        level: `format` or `words`.
        glossary: Whose terms may be put in.
        remove_fillers: Whether words such as `um` may go.
        language: ISO 639-1 code; None where nobody knows.
        common: Words of the window in lower case: what begins a sentence and is among them is no name.
    """

    level: str = "format"
    glossary: Glossary = field(default_factory=Glossary)
    remove_fillers: bool = False
    language: str | None = None
    common: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Found:
    """What a comparison finds.

    Args:
        gate: The gate that refuses; None where all hold.
        detail: What it is about, for people: `"seven" -> "eleven"`.
        kind: What the change is, where it passes: `punctuation`, `casing`, `number`, `filler`, `word`, `term`.
    """

    gate: str | None = None
    detail: str = ""
    kind: str = "punctuation"


def compare(before: str, after: str, doubts: Sequence[Doubt], rules: Rules) -> Found:
    """Whether a segment may have another text.

    Args:
        before: The original.
        after: The new text.
        doubts: What was doubted in the original.
        rules: What may change.
    """
    old, new = tokens(before, rules.language), tokens(after, rules.language)
    if old and not new:
        return Found("empty")
    form = refusing_form(before, after, old, new, has_terms=bool(rules.glossary.terms))
    if form:
        return Found(form)
    kinds = set()
    for change in changes(old, new, rules.language):
        kind, gate = _judge(change, old, new, doubts, rules)
        if gate:
            return Found(gate, _shown(change))
        kinds.add(kind)
    for kind in ("word", "term", "number", "filler", "spelling"):
        if kind in kinds:
            return Found(kind=kind)
    return Found(kind="casing" if after.lower() == before.lower() else "punctuation")


def _may_be_digits(change: Change, old: Sequence[Token], rules: Rules) -> bool:
    before = old[change.old_at - 1].key if change.old_at else ""
    end = change.old_at + len(change.old)
    after = old[end].key if end < len(old) else ""
    return in_digits(change.old, change.new, before, after, rules.language)


def _shown(change: Change) -> str:
    old, new = (" ".join(token.text for token in side) for side in (change.old, change.new))
    return f'"{old}" -> "{new}"'


# One change


def _judge(
    change: Change, old: Sequence[Token], new: Sequence[Token], doubts: Sequence[Doubt], rules: Rules
) -> tuple[str, str | None]:
    """What a change is, and the gate that refuses it."""
    said = change.old
    if rules.remove_fillers:
        said = hesitations(old, change.old_at, change.old_at + len(said), rules.language)
        if not said and not change.new:
            return "filler", None
    if same_value(said, change.new, rules.language) and _may_be_digits(change, old, rules):
        return "number", None
    if _same_spelling(said, change.new, new, change.new_at):
        return "spelling", None
    term = _is_term(change, new, rules)
    for gate, refuses in _GATES:
        if gate not in ("lookalikes", "order") and term and gate in _TERMS_MAY:
            continue
        if refuses(change, old, doubts, rules):
            return "term" if term else "word", gate
    return "term" if term else "word", None


def _keys(side: Sequence[Token]) -> list[str]:
    return [token.key for token in side]


def _same_spelling(said: Sequence[Token], put: Sequence[Token], new: Sequence[Token], at: int) -> bool:
    """What is written in two ways and heard in one.

    `dont`, `don't`; `l homme`, `l'homme`; `5 am`, `5 a.m.`; `g p s`, `GPS`; `mister`, `Mr.`.
    """
    old_text, new_text = "".join(_keys(said)), "".join(_keys(put))
    if not old_text or not new_text or (old_text + new_text).translate(_NO_DIGITS) != old_text + new_text:
        return False
    if old_text == new_text and ((at and new[at - 1].has_digit and old_text in ("am", "pm")) or _letters(said, put)):
        return True
    if len(said) == len(put) == 1:
        bare = old_text.replace("'", "")
        more = new_text.count("'") > old_text.count(
            "'"
        )  # what a recogniser leaves out may be put in, and none taken out
        same = more and bare == new_text.replace("'", "") and bare not in _HEARD_APART
        return same or (old_text, new_text) in _ABBREVIATED or (new_text, old_text) in _ABBREVIATED
    return " ".join(_keys(said)) == " ".join(_keys(put)).replace("'", " ") and old_text != new_text


def _letters(said: Sequence[Token], put: Sequence[Token]) -> bool:
    """Whether these are letters that are read one by one: alone, or in capitals where they stand together.

    Two of which the first is a word of its own aren't: `a b`, `i m`.
    """
    if any(len(side) == 2 and side[0].key in ("a", "i") for side in (said, put)):
        return False
    return all(len(token.key) == 1 or (len(token.key) < 6 and token.text.isupper()) for token in (*said, *put))


_NO_DIGITS = dict.fromkeys(range(ord("0"), ord("9") + 1))

_ABBREVIATED = {
    ("mister", "mr"),
    ("doctor", "dr"),
    ("professor", "prof"),
    ("okay", "ok"),
    ("etcetera", "etc"),
    ("versus", "vs"),
}
"""Words that are written short and read in full."""

_HEARD_APART = frozenset("its were well ill shell hell hed shed wed id cant wont".split())  # noqa: SIM905
"""Words that an apostrophe turns into others; `its` and `it's` sound alike, and mean two things."""


def _is_term(change: Change, new: Sequence[Token], rules: Rules) -> bool:
    """Whether all new words belong to terms of the glossary that then stand there whole."""
    if not change.new:
        return False
    covered: set[int] = set()
    keys = _keys(new)
    for term in rules.glossary.terms:
        words = _keys(tokens(term, rules.language))
        for start in range(len(keys) - len(words) + 1):
            if words and keys[start : start + len(words)] == words:
                covered.update(range(start, start + len(words)))
    return all(at in covered for at in range(change.new_at, change.new_at + len(change.new)))


_TERMS_MAY = frozenset({"number", "name", "certain", "grammar"})
"""The gates that a term of the glossary passes."""

_Gate = Callable[[Change, Sequence[Token], Sequence[Doubt], Rules], bool]


def _lookalikes(change: Change, old: Sequence[Token], doubts: Sequence[Doubt], rules: Rules) -> bool:
    there, put = "".join(token.key for token in old), "".join(_keys(change.new))
    here = scripts(there)
    return (bool(here) and not scripts(put) <= here) or not odd_letters(put, rules.language) <= set(there)


def _number(change: Change, old: Sequence[Token], doubts: Sequence[Doubt], rules: Rules) -> bool:
    before, after = (
        sorted(key for key in _keys(side) if is_number(key, rules.language) and key not in ("a", "an"))
        for side in (change.old, change.new)
    )
    if before != after:
        return True
    # `weak` may become `week`, but `metres` no `litres`, and `monday` no `sunday`.
    measures = [{key for key in _keys(side) if is_measure(key, rules.language)} for side in (change.old, change.new)]
    return all(measures) and measures[0] != measures[1]


def _symbol(change: Change, old: Sequence[Token], doubts: Sequence[Doubt], rules: Rules) -> bool:
    return any(not any(map(is_letter, token.key)) for token in (*change.old, *change.new))


def _negation(change: Change, old: Sequence[Token], doubts: Sequence[Doubt], rules: Rules) -> bool:
    before, after = (
        sorted(key for key in _keys(side) if is_negation(key, rules.language)) for side in (change.old, change.new)
    )
    return before != after or any(
        negates(first, second, rules.language) for first in _keys(change.old) for second in _keys(change.new)
    )


def _name(change: Change, old: Sequence[Token], doubts: Sequence[Doubt], rules: Rules) -> bool:
    if rules.level == "format":
        return False
    shouted = all(token.text.isupper() for token in old if token.text.isalpha())
    if not shouted and any(_is_name(token, rules) for token in change.old):
        return True
    if any(at and is_title(old[at - 1].key) for at in range(change.old_at, change.old_at + len(change.old))):
        return True
    # A word that becomes a name: only where a sentence begins a capital says nothing.
    return any(_is_name(token, rules) for token in change.new) and not shouted


def _is_name(token: Token, rules: Rules) -> bool:
    if not token.text[:1].isupper() or is_common(token.key):
        return False
    return not token.starts_sentence or token.key not in rules.common


def _insertion(change: Change, old: Sequence[Token], doubts: Sequence[Doubt], rules: Rules) -> bool:
    return not change.old


def _deletion(change: Change, old: Sequence[Token], doubts: Sequence[Doubt], rules: Rules) -> bool:
    return not change.new


def _words(change: Change, old: Sequence[Token], doubts: Sequence[Doubt], rules: Rules) -> bool:
    return rules.level != "words"


def _order(change: Change, old: Sequence[Token], doubts: Sequence[Doubt], rules: Rules) -> bool:
    before, after = _keys(change.old), _keys(change.new)
    return len(before) > 1 and before != after and sorted(before) == sorted(after)


def _certain(change: Change, old: Sequence[Token], doubts: Sequence[Doubt], rules: Rules) -> bool:
    return not all(_doubt(token, doubts) for token in change.old)


def _doubt(token: Token, doubts: Sequence[Doubt]) -> Doubt | None:
    return next((each for each in doubts if each.start <= token.start and token.end <= each.end), None)


def _length(change: Change, old: Sequence[Token], doubts: Sequence[Doubt], rules: Rules) -> bool:
    return max(len(change.old), len(change.new)) > LONGEST


def _sound(change: Change, old: Sequence[Token], doubts: Sequence[Doubt], rules: Rules) -> bool:
    before, after = " ".join(_keys(change.old)), " ".join(_keys(change.new))
    digits = [[character for character in side if character.isdecimal()] for side in (before, after)]
    if all(digits) and digits[0] != digits[1]:
        return True
    if is_unspaced(before) or is_unspaced(after):
        return True
    # A word more or less is only a matter of spaces where all else is nearly the same: `all together`, `altogether`.
    strictly = len(change.old) != len(change.new) or not _word_by_word(change, doubts)
    return not sound_alike(before, after, rules.language, strictly=strictly)


def _grammar(change: Change, old: Sequence[Token], doubts: Sequence[Doubt], rules: Rules) -> bool:
    """Forms of one word, which repair grammar and not hearing; little words, where no word alone is doubted."""
    if _without_accents(change.old) == _without_accents(change.new) or _in_full(change.old) == _in_full(change.new):
        return True
    if len(change.old) != len(change.new):
        return _loses_short_form(_keys(change.old), _keys(change.new))
    pairs = [pair for pair in zip(_keys(change.old), _keys(change.new), strict=True) if pair[0] != pair[1]]
    little = not _word_by_word(change, doubts) and any(is_common(first) or is_common(second) for first, second in pairs)
    if any(is_modal(first) and is_modal(second) for first, second in pairs):
        return True
    return little or any(_same_stem(first, second) for first, second in pairs)


def _loses_short_form(old: Sequence[str], new: Sequence[str]) -> bool:
    """`it s` is `it's`, and neither `its` nor the other way round."""
    return any(
        len(apart) == 2 and apart[1] in _TAILS and list(whole) == ["".join(apart)]
        for apart, whole in ((old, new), (new, old))
    )


_TAILS = frozenset({"s", "re", "ll", "ve", "d", "m", "t"})


_SHORT_FORMS = {"'s": " is", "'re": " are", "'ll": " will", "'ve": " have", "'d": " would", "'m": " am", "n't": " not"}


def _in_full(side: Sequence[Token]) -> str:
    """Without short forms: `it's` as `it is`."""
    text = " ".join(_keys(side))
    for short, full in _SHORT_FORMS.items():
        text = text.replace(short, full)
    return text


def _without_accents(side: Sequence[Token]) -> str:
    plain = unicodedata.normalize("NFKD", " ".join(_keys(side)))
    return "".join(character for character in plain if not unicodedata.combining(character))


def _word_by_word(change: Change, doubts: Sequence[Doubt]) -> bool:
    """Whether the doubt is of these very words."""
    return all((doubt := _doubt(token, doubts)) is not None and doubt.word for token in change.old)


_ENDINGS = ("s", "es", "'s", "d", "ed", "ing", "ly", "er", "est", "n", "en")
_AFTER_E = ("es", "ed", "ing", "er", "est")


def _same_stem(first: str, second: str) -> bool:
    return any(len(stem) >= 3 for stem in _stems(first) & _stems(second))


def _stems(word: str) -> set[str]:
    found = {word} | {word[: -len(end)] for end in _ENDINGS if word.endswith(end)}
    return found | {word[: -len(end)] + "e" for end in _AFTER_E if word.endswith(end)}


_GATES: tuple[tuple[str, _Gate], ...] = (
    ("lookalikes", _lookalikes),
    ("symbol", _symbol),
    ("number", _number),
    ("negation", _negation),
    ("insertion", _insertion),
    ("name", _name),
    ("order", _order),
    ("deletion", _deletion),
    ("words", _words),
    ("length", _length),
    ("certain", _certain),
    ("sound", _sound),
    ("grammar", _grammar),
)
