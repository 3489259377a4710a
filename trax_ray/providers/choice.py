"""Which model a batch takes when none is named."""

from __future__ import annotations

import os

from trax_ray.errors import SetupError
from trax_ray.providers.weights import NO_WEIGHTS, PROBE_S, weights_at_hand, weights_to_be_had

__all__ = ["LOCAL_DEFAULT", "choose_model", "weights_at_hand", "weights_to_be_had"]

LOCAL_DEFAULT = "base"
"""The faster-whisper model without a key. Measured with random weights of its shape: it takes a fifth of the speech's
length on one core; `small` takes four fifths."""


def choose_model() -> str:
    """The model for a batch that names none.

    Returns:
        `whisper-1` where a key is set, else `base` where its weights are at hand or can be downloaded, which
        takes up to 10 s to find out.

    Raises:
        SetupError: Nothing is at hand; names the three ways out.
    """
    if os.environ.get("OPENAI_API_KEY"):
        return "whisper-1"
    if weights_at_hand(LOCAL_DEFAULT) or weights_to_be_had(LOCAL_DEFAULT, PROBE_S):
        return LOCAL_DEFAULT
    raise SetupError(f"no speech model is at hand: {NO_WEIGHTS}", code="no_model")
