"""Typed values at the borders: dataclasses here, JSON types in the journal, in artifacts and in what travels."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from trax_ray.media.speech import Span, Word

if TYPE_CHECKING:
    from cattrs import Converter

__all__ = ["from_json", "to_json"]

T = TypeVar("T")


@lru_cache(maxsize=1)
def _converter() -> Converter:
    # Not at the top: what only plans and looks never needs it.
    from cattrs import Converter

    converter = Converter(omit_if_default=True, detailed_validation=False)
    # Pairs and quadruples in place of objects: a long transcript has thousands of them.
    converter.register_unstructure_hook(Span, lambda span: [span.start_s, span.end_s])
    converter.register_structure_hook(Span, lambda pair, _: Span(float(pair[0]), float(pair[1])))
    converter.register_unstructure_hook(Word, lambda word: [word.start_s, word.end_s, word.text, word.probability])
    converter.register_structure_hook(Word, lambda four, _: Word(*four))
    return converter


def to_json(value: Any) -> dict[str, Any]:
    """A dataclass as JSON types; fields that have their default are left out."""
    encoded: dict[str, Any] = _converter().unstructure(value)
    return encoded


def from_json(kind: type[T], data: Mapping[str, Any]) -> T:
    """The dataclass that `to_json` wrote; what it doesn't know is left out.

    Args:
        kind: The dataclass.
        data: JSON types.

    Raises:
        KeyError: A field without a default is missing.
        ValueError: A value of another type, such as text where a number belongs.
        TypeError: Likewise.
    """
    return _converter().structure(data, kind)
