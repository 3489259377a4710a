"""faster-whisper: Whisper on this machine. What it has and asks; the engine is in `faster_whisper_engine`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trax_ray.errors import UsageError
from trax_ray.providers.base import EngineProvider
from trax_ray.providers.weights import EMBEDDED, WHISPER_REPOSITORIES, english_only, knows, local_weights

if TYPE_CHECKING:
    from trax_ray.core.task import ResourceRequest
    from trax_ray.providers.faster_whisper_engine import FasterWhisperEngine

__all__ = ["PROVIDER"]

_WHISPER_MB = {
    "turbo": 2048,
    "distil-large": 2048,
    "distil-medium": 1280,
    "large": 3840,
    "medium": 2048,
    "small": 1024,
    "base": 768,
    "tiny": 512,
}
"""Memory of a process with an int8 model on the CPU, MiB, by the first that the name contains: a tenth and 40 (ten
minutes of audio) above what is needed, rounded up to what Ray is asked for; for tiny what its workers were measured
to take (real weights of tiny.en, ten minutes of audio): 340 to 420, and 490 at the most while it loads.

Measured: peak resident memory of the whole process (decoding, speech detection, one thread, beam 5, and as many
windows at once as `faster_whisper` takes) with random weights of the published shapes: tiny 489, base 563, small 854,
medium 1603, turbo 1698. That is 175 for Python and its libraries and the larger of: while loading, the float16 file
of two bytes a parameter (39, 74, 244, 769 and 809 million) and, for small models, half as much again; while decoding,
a byte a parameter and, per window, two attention matrices (heads x 1500 x 1500 x 4 bytes) and the decoder's view of
the audio (layers x 2 x 1500 x width x 4 bytes). Computed from that, not measured: large (1,550 million) 3,310,
distil-large (756) 1,620, distil-medium (394) 1,080. On a GPU: not measured.
"""


class FasterWhisperProvider(EngineProvider):
    """See `EngineProvider`."""

    name = "faster-whisper"
    models = "tiny, base, small, medium, large-v3, turbo (and their .en and distil forms), or a folder"
    gpu = True
    revision = 2  # windows of 15 s, held against the speech in them

    def has(self, model: str) -> bool:
        """A name that faster-whisper knows, or a folder."""
        return model in WHISPER_REPOSITORIES or _is_folder(model)

    def memory_mb(self, model: str) -> int:
        """By the table above; for a folder by the size of its weights, float16 assumed, which covers every size."""
        if _is_folder(model):
            weights = Path(model) / "model.bin"
            size = weights.stat().st_size if weights.is_file() else 0
            return 512 + 11 * size // (10 * 2**20)
        return next(figure for name, figure in _WHISPER_MB.items() if name in model)

    def check(
        self,
        *,
        language: str | None,
        model: str = "",
        word_timestamps: bool = False,
        initial_prompt: str | None = None,
    ) -> None:
        """See `SpeechProvider.check`. Weights that came as a package are looked through before they are used."""
        if language is not None and model and not knows(model, language):
            only = "only knows en" if english_only(model) else "doesn't know that language"
            raise UsageError(f"{model} {only}, got --language {language}: take another --model")
        super().check(language=language, model=model, word_timestamps=word_timestamps, initial_prompt=initial_prompt)
        if model in EMBEDDED:
            local_weights(model)

    def load(self, model: str, resources: ResourceRequest) -> FasterWhisperEngine:
        """See `faster_whisper_engine.load`."""
        from trax_ray.providers.faster_whisper_engine import load

        return load(model, resources)


PROVIDER = FasterWhisperProvider()


def _is_folder(model: str) -> bool:
    return ("/" in model or model.startswith(".")) and Path(model).is_dir()
