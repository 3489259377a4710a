"""Languages, however servers name them."""

from __future__ import annotations

import pytest

from trax_ray.providers.languages import CODES, code_of


@pytest.mark.parametrize(
    ("named", "code"),
    [
        ("english", "en"),
        ("English", "en"),
        ("haitian creole", "ht"),
        ("en", "en"),
        ("EN-us", "en"),
        ("pt_BR", "pt"),
        ("yue", "yue"),
        ("klingon", "klingon"),
        (" german ", "de"),
        ("unknown", None),
        ("auto", None),
        ("", None),
        (None, None),
        (5, None),
    ],
)
def test_names_and_codes(named: object, code: str | None) -> None:
    assert code_of(named) == code


def test_they_are_whispers() -> None:
    from faster_whisper.tokenizer import _LANGUAGE_CODES

    assert sorted(CODES.values()) == sorted(_LANGUAGE_CODES)
