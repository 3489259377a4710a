"""A glossary: terms that recognisers and an enhancer should know, and rules that need neither.

The file is UTF-8 text, one entry a line:

    # Lines that begin with a number sign are comments.
    Kubernetes
    Grafana Loki
    cooper netties -> Kubernetes
    /\\bk ?8 ?s\\b/i -> Kubernetes
    /^Thanks for watching!$/ ->

A line alone is a term. `old -> new` puts `new` wherever `old` stands as whole words, in capitals or not.
`/pattern/ -> new` does so for a regular expression, with `i` behind it in capitals or not; `\\1` in `new` is its first
group. Nothing behind the arrow takes away what is found. Rules apply in their order, to each segment alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from trax_ray.errors import ProcessingError, UsageError
from trax_ray.media.speech import Segment

if TYPE_CHECKING:
    from regex import Pattern

__all__ = ["Glossary", "Rule"]

ARROW = "->"
LONGEST_TERM = 100
"""Characters of a term; what is longer is a sentence, and would be said by nobody twice."""
LONGEST_FILE = 1_000_000
"""Bytes of a glossary."""
PROMPT_CHARACTERS = 600
"""What a recogniser takes as prompt; Whisper has room for 223 tokens, about three characters each for rare words."""
RULE_S = 2.0
"""Seconds that a rule may take for one segment."""
TRIAL_S = 0.5
"""Seconds that it may take for a text of the trial, which is longer than most segments."""
_TRIAL = ("a" * 1000 + "!", "word " * 200 + "!", "1" * 1000 + "!", " " * 1000 + "!", "aB3 ,." * 200)
"""Texts in which a rule that gets lost is seen before the work begins."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A replacement.

    Args:
        pattern: What is looked for.
        put: What stands there afterwards.
        regex: Whether `pattern` is a regular expression, and `put` may name its groups.
        ignore_case: Whether capitals don't matter.
        line: Where it stands in its file.
    """

    pattern: str
    put: str
    regex: bool = False
    ignore_case: bool = True
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Glossary:
    """What a glossary file says; without arguments an empty one.

    Args:
        terms: In order, each once.
        rules: In order.
        source: The file, for errors.
    """

    terms: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    source: str = field(default="", compare=False)

    @classmethod
    def read(cls, path: str | Path) -> Glossary:
        """The glossary of a file; see the module for what may stand there.

        Raises:
            UsageError: It can't be read, or a line of it means nothing. Names the file, the line and the way out.
        """
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise UsageError(f"the glossary {path} can't be read: {error.strerror}") from error
        if len(content) > LONGEST_FILE:
            raise UsageError(f"the glossary {path} has more than {LONGEST_FILE} bytes: keep the terms that are spoken")
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            raise UsageError(f"the glossary {path}, line {line} is no UTF-8: save the file as UTF-8") from error
        return cls.parse(text, source=str(path))

    @classmethod
    def parse(cls, text: str, *, source: str = "glossary") -> Glossary:
        """The glossary of a text.

        Raises:
            UsageError: A line of it means nothing.
        """
        terms: list[str] = []
        rules: list[Rule] = []
        for number, raw in enumerate(text.split("\n"), 1):
            line = raw.strip()
            if not line or line.startswith("#"):
                continue
            where = f"the glossary {source}, line {number}"
            if "\0" in line or any(ord(character) < 32 and character != "\t" for character in line):
                raise UsageError(f"{where} has control characters: take them out")
            if line.startswith("/"):
                rules.append(_regex_rule(line, number, where))
            elif ARROW in line:
                rules.append(_exact_rule(line, number, where))
            elif len(line) > LONGEST_TERM:
                raise UsageError(f"{where} has {len(line)} characters, a term up to {LONGEST_TERM}: one term a line")
            else:
                terms.append(" ".join(line.split()))
        return cls(tuple(dict.fromkeys(terms)), tuple(rules), source)

    def __bool__(self) -> bool:
        return bool(self.terms or self.rules)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what it says, hexadecimal: the same whatever its file is called and whatever comments it has."""
        said = [self.terms, [[rule.pattern, rule.put, rule.regex, rule.ignore_case] for rule in self.rules]]
        return hashlib.sha256(json.dumps(said, ensure_ascii=False).encode()).hexdigest()

    @property
    def prompt(self) -> str:
        """The terms as recognisers take them: one line with commas; the first ones that fit. Empty without terms."""
        taken: list[str] = []
        for term in self.terms:
            if len(", ".join([*taken, term])) > PROMPT_CHARACTERS:
                break
            taken.append(term)
        return ", ".join(taken)

    def apply_rules(self, text: str) -> str:
        """A text after the rules, in their order; without double spaces where something went.

        Raises:
            ProcessingError: A rule took more than two seconds. Names its line.
        """
        for rule in self.rules:
            changed = self._applied(rule, text)
            if changed != text:
                text = changed if rule.put else " ".join(changed.split())
        return text

    def apply_to(self, segments: Sequence[Segment]) -> tuple[Segment, ...]:
        """Segments after the rules. Times and words stay; segments of which nothing is left are left out.

        Raises:
            ProcessingError: A rule took more than two seconds. Names its line.
        """
        if not self.rules:
            return tuple(segments)
        changed = [replace(segment, text=self.apply_rules(segment.text).strip()) for segment in segments]
        return tuple(segment for segment in changed if segment.text)

    def _applied(self, rule: Rule, text: str) -> str:
        put = rule.put if rule.regex else rule.put.replace("\\", r"\\")
        try:
            return str(_compiled(rule).sub(put, text, timeout=RULE_S))
        except TimeoutError as error:
            raise ProcessingError(
                f"the glossary {self.source}, line {rule.line}: the rule took more than {RULE_S:g} s for one segment: "
                f"write it with fewer repeats inside repeats"
            ) from error


@lru_cache(maxsize=4096)
def _compiled(rule: Rule) -> Pattern[str]:
    import regex

    pattern = rule.pattern
    if not rule.regex:
        words = r"\s+".join(regex.escape(word) for word in pattern.split())
        pattern = (r"(?<!\w)" if pattern[0].isalnum() else "") + words + (r"(?!\w)" if pattern[-1].isalnum() else "")
    return regex.compile(pattern, regex.IGNORECASE if rule.ignore_case else 0)


def _exact_rule(line: str, number: int, where: str) -> Rule:
    old, _, new = (part.strip() for part in line.partition(ARROW))
    if not old:
        raise UsageError(f"{where} has nothing before the arrow: write `old -> new`")
    if ARROW in new:
        raise UsageError(f"{where} has two arrows: one rule a line")
    return Rule(old, " ".join(new.split()), line=number)


def _regex_rule(line: str, number: int, where: str) -> Rule:
    import regex

    head, arrow, new = line.rpartition(ARROW)
    head = head.strip()
    body, slash, flags = head[1:].rpartition("/")
    if not arrow or not slash or flags not in ("", "i"):
        raise UsageError(
            f"{where} begins with a slash and is no rule: write `/pattern/ -> new`, or `/pattern/i -> new`"
        )
    rule = Rule(body, new.strip(), regex=True, ignore_case=bool(flags), line=number)
    try:
        pattern = _compiled(rule)
        found = pattern.search("a b", timeout=TRIAL_S)
        if pattern.search("") is not None or (found and not found.group()):
            raise UsageError(f"{where}: the pattern matches where nothing stands: let it match one character at least")
        for group in re.findall(r"\\(\d+)", rule.put):
            if int(group) > pattern.groups:
                raise UsageError(f"{where} names the group {group}, and the pattern has {pattern.groups}")
        for text in _TRIAL:
            pattern.sub(rule.put, text, timeout=TRIAL_S)
    except TimeoutError as error:
        raise UsageError(f"{where}: the pattern gets lost in long texts: no repeats inside repeats") from error
    except (regex.error, IndexError) as error:
        raise UsageError(f"{where} is no regular expression: {error}") from error
    return rule
