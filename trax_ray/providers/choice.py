"""Which model a batch takes when none is named."""

from __future__ import annotations

from trax_ray.codes import FailureCode
from trax_ray.errors import SetupError
from trax_ray.providers.keys import find_key
from trax_ray.providers.weights import (
    NO_WEIGHTS,
    NO_WEIGHTS_OF_OTHER_LANGUAGES,
    PROBE_S,
    is_english,
    weights_at_hand,
    weights_to_be_had,
)

__all__ = ["ENGLISH_DEFAULT", "LOCAL_DEFAULT", "choose_model", "notice", "weights_at_hand", "weights_to_be_had"]

LOCAL_DEFAULT = "base"
"""The faster-whisper model without a key. Measured with random weights of its shape: it takes a fifth of the speech's
length on one core; `small` takes four fifths."""

ENGLISH_DEFAULT = "tiny.en"
"""What is taken for English where `base` isn't to be had: it can be installed as a package (the extra `tiny`)."""


def choose_model(language: str | None = None) -> str:
    """The model for a batch that names none.

    Args:
        language: The language that was given; None where it wasn't.

    Returns:
        `whisper-1` where a key is set, else `base` where its weights are at hand or can be downloaded, which
        takes up to 10 s to find out, else `tiny.en` where it is at hand and the language is English or wasn't given.

    Raises:
        SetupError: Nothing is at hand; names the ways out. Or the key's file can't be read, or what is set can't be a
            key, or the weights that are at hand are damaged.
    """
    if find_key("OPENAI_API_KEY") is not None:
        return "whisper-1"
    if weights_at_hand(LOCAL_DEFAULT) or weights_to_be_had(LOCAL_DEFAULT, PROBE_S):
        return LOCAL_DEFAULT
    if language is not None and not is_english(language):
        raise SetupError(
            f"no speech model for the language {language} is at hand: {NO_WEIGHTS_OF_OTHER_LANGUAGES}",
            code=FailureCode.NO_MODEL,
        )
    if weights_at_hand(ENGLISH_DEFAULT):
        return ENGLISH_DEFAULT
    raise SetupError(f"no speech model is at hand: {NO_WEIGHTS}", code=FailureCode.NO_MODEL)


def notice(model: str) -> str:
    """What should be said of a model that nobody named, before anything else; empty where there is nothing."""
    if model != ENGLISH_DEFAULT:
        return ""
    return f"model: {model} (English only; for other languages take --model base or larger, or a service)"
