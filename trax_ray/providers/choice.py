"""Which model a batch takes when none is named."""

from __future__ import annotations

import os

from trax_ray.errors import SetupError

__all__ = ["choose_model"]


def choose_model() -> str:
    """The model for a batch that names none: `whisper-1` where a key is set.

    Raises:
        SetupError: Nothing is at hand; names the ways out.
    """
    if os.environ.get("OPENAI_API_KEY"):
        return "whisper-1"
    raise SetupError(
        "no speech model is at hand: set OPENAI_API_KEY, name a model that faster-whisper has or can load "
        "(--model base, or a folder), or take --model pocketsphinx (offline, English, rough)"
    )
