"""What an option of a batch is: one row for the command line's flag and the keyword in Python.

Ranges are checked by the spec. What is checked here is the form: whole numbers, finite ones, texts that an unset
variable of a shell has left empty.
"""

from __future__ import annotations

import math
import numbers
import operator
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from trax_ray.core.spec import BatchSpec, Enhancement, Limits, RetryPolicy
from trax_ray.errors import UsageError
from trax_ray.plan.tasks import MAX_PRIORITY
from trax_ray.store.files import absolute
from trax_ray.store.uris import is_object_uri

__all__ = ["PARTS", "Option", "a_priority", "folder", "not_empty", "refused"]

PARTS: Mapping[str, type[Any]] = {"limits": Limits, "retry": RetryPolicy, "enhance": Enhancement}
"""Fields of the spec that are specs of their own."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    Args:
        name: The keyword in Python; empty for what only the command line has.
        flags: Its flags, the long one first; empty for what only Python has. INPUT, which is none, has no dash.
        kind: What it takes: `int`, `float`, `str`, `bool`, or `list` for texts that may be repeated.
        help: What it means, for `--help`.
        field: Where its value goes in the spec, such as `limits.max_workers`; empty where it doesn't go there.
        optional: Whether it may be None, which is its default then and leaves the spec's.
        value: Its default, where the spec has none.
        read: Makes the spec's value of one that has the right kind; raises UsageError with the option's label.
        metavar: What `--help` shows for the value; None for the kind's name.
        bare: What its flag means without a value, and True in Python; empty where it needs one. One that has this takes
            its value after a `=` only.
        key: Its name among the command line's parameters and in a recorded command; by default the flag's.
    """

    name: str
    flags: tuple[str, ...]
    kind: type[Any]
    help: str
    field: str = ""
    optional: bool = False
    value: Any = None
    read: Callable[[Any, str], Any] | None = None
    metavar: str | None = None
    bare: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        if not self.key:
            flag = self.flags[0].strip("-").replace("-", "_") if self.flags else self.name
            object.__setattr__(self, "key", flag)

    @property
    def default(self) -> Any:
        """What holds where nothing is given, in the form in which it could be."""
        if self.optional or not self.field or self.value is not None:
            return self.value
        part, _, name = self.field.rpartition(".")
        return next(each.default for each in fields(PARTS.get(part, BatchSpec)) if each.name == name)

    @property
    def label(self) -> str:
        """What messages call it: `max_workers (--workers)`, so that both sides know what is meant."""
        names = [each for each in (self.name, *self.flags[:1]) if each]
        return f"{names[0]} ({names[1]})" if len(names) > 1 else names[0]

    def checked(self, given: Any) -> Any:
        """The spec's value of one that was given and isn't None.

        Raises:
            UsageError: It is of another kind or makes no sense; names the option.
            SetupError: It asks for what this version doesn't have.
        """
        if self.bare and isinstance(given, bool):
            if not given:
                return ""
            given = self.bare
        value = _KINDS[self.kind](given, self.label)
        return value if self.read is None else self.read(value, self.label)


# Kinds


def refused(label: str, expected: str, got: object) -> UsageError:
    return UsageError(f"{label}: expected {expected}, got {got!r:.80}")


def _whole(given: Any, label: str) -> int:
    try:
        if isinstance(given, bool):
            raise TypeError
        return operator.index(given)
    except TypeError:
        raise refused(label, "a whole number", given) from None


def _finite(given: Any, label: str) -> float:
    if isinstance(given, bool) or not isinstance(given, numbers.Real) or not math.isfinite(given):
        raise refused(label, "a finite number", given)
    return given if isinstance(given, int) else float(given)


def _text(given: Any, label: str) -> str:
    if isinstance(given, os.PathLike):
        given = os.fsdecode(given)
    if not isinstance(given, str):
        raise refused(label, "text", given)
    return given


def _switch(given: Any, label: str) -> bool:
    if not isinstance(given, bool):
        raise refused(label, "True or False", given)
    return given


def _texts(given: Any, label: str) -> list[str]:
    if isinstance(given, str):
        return [given]
    if not isinstance(given, Sequence) or not all(isinstance(each, str) for each in given):
        raise refused(label, "text, or a list of texts", given)
    return list(given)


_KINDS: Mapping[type[Any], Callable[[Any, str], Any]] = {
    int: _whole,
    float: _finite,
    str: _text,
    bool: _switch,
    list: _texts,
}


# Readers that several options have


def not_empty(given: str, label: str) -> str:
    """Empty is what a variable of a shell that isn't set leaves, and would mean something else than it looks like."""
    if not given.strip():
        raise UsageError(
            f"{label}: expected a value, got {given!r}: is a variable not set? Leave it out for its default"
        )
    return given


def a_priority(given: int, label: str) -> int:
    """A number of which the lower goes first."""
    if not 0 <= given <= MAX_PRIORITY:
        raise refused(label, f"a number from 0 (first) to {MAX_PRIORITY}", given)
    return given


def folder(given: str, label: str) -> str:
    """An absolute path, whether something is there or not.

    Raises:
        UsageError: It is empty, or a URI: only inputs and outputs may be in object stores.
    """
    if is_object_uri(given):
        raise UsageError(f"{label}: expected a folder on a disk, got {given}: it can't be in an object store")
    return str(absolute(not_empty(given, label)))
