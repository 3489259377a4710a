"""A glossary: terms that a recogniser and an enhancer should know, and rules that need neither."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Glossary", "Rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A replacement.

    Args:
        pattern: What is looked for.
        put: What stands there afterwards.
        regex: Whether `pattern` is a regular expression.
    """

    pattern: str
    put: str
    regex: bool = False


@dataclass(frozen=True, slots=True)
class Glossary:
    """What a glossary file says; without arguments an empty one.

    Args:
        terms: In order, each once.
        rules: In order.
    """

    terms: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()

    @classmethod
    def read(cls, path: str | Path) -> Glossary:
        """The glossary of a file.

        Raises:
            UsageError: It can't be read, or a line of it means nothing.
        """
        lines = Path(path).read_text("utf-8-sig").splitlines()
        return cls(terms=tuple(dict.fromkeys(line.strip() for line in lines if line.strip())))

    def __bool__(self) -> bool:
        return bool(self.terms or self.rules)

    @property
    def fingerprint(self) -> str:
        """A text that is the same for glossaries that say the same; part of what an artifact is kept by."""
        return repr((self.terms, self.rules))

    @property
    def prompt(self) -> str:
        """The terms as recognisers take them: one line, parted by commas; empty without terms."""
        return ", ".join(self.terms)

    def apply_rules(self, text: str) -> str:
        """A text after the rules, in their order."""
        return text
