"""The form in which a recording is heard, where the batch asks for one: channels, sound track, loudness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trax_ray.core.spec import BatchSpec
from trax_ray.media.wanted import Wanted

__all__ = ["AS_IT_IS", "Form"]


@dataclass(frozen=True, slots=True)
class Form:
    """The form in which a recording is heard.

    Args:
        channels: `mix`, `left`, `right` or `split`.
        track: The sound track, as of `trax_ray.media.wanted.Wanted`; empty for the one that holds the speech.
        loudness: Whether converted audio is brought to one loudness.
    """

    channels: str = "mix"
    track: str = ""
    loudness: bool = False

    @classmethod
    def of(cls, spec: BatchSpec) -> Form:
        """What a batch asks for."""
        return cls(spec.channels, spec.audio_track, spec.loudness)

    @property
    def split(self) -> bool:
        """Whether each channel is heard by itself."""
        return self.channels == "split"

    @property
    def parameters(self) -> dict[str, Any]:
        """What keys of artifacts say of it: only what isn't as it always was, so that older ones stay."""
        given = {"channels": self.channels, "track": self.track, "loudness": self.loudness}
        usual = {"channels": "mix", "track": "", "loudness": False}
        return {name: value for name, value in given.items() if value != usual[name]}

    def wanted(self, voice: int | None = None) -> Wanted:
        """What of a file is listened to.

        Args:
            voice: Number of the channel that is heard by itself, from 0; None where none is.
        """
        if voice is not None:
            return Wanted(self.track, voice, alone=True)
        return Wanted(self.track, {"left": 0, "right": 1}.get(self.channels))


AS_IT_IS = Form()
