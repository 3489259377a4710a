"""The Protocol that all speech engines share, and the plain data that passes through it.

An engine gets audio that somebody else decoded and the spans in it that hold speech; it gives back segments.
It opens no files, knows nothing of Ray and nothing of retries, and raises only errors of `trax_ray.errors`.
A service is asked over the network, one request for one attempt, and says besides what its answer means for the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from trax_ray.core.limits.signals import ProviderSignal
from trax_ray.core.task import Failure
from trax_ray.media.speech import SAMPLE_RATE_HZ, Segment, Span, Word

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Audio = npt.NDArray[np.float32]

__all__ = [
    "SAMPLE_RATE_HZ",
    "EngineOptions",
    "Reply",
    "Segment",
    "Span",
    "SpeechEngine",
    "SpeechService",
    "Word",
]


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What a caller may ask of any engine.

    Args:
        language: ISO 639-1 code; None lets the engine detect it.
        initial_prompt: Text that primes the engine; engines without prompts ignore it.
        word_timestamps: Fill `Segment.words`.
    """

    language: str | None = None
    initial_prompt: str | None = None
    word_timestamps: bool = False


@runtime_checkable
class SpeechEngine(Protocol):
    """A local speech-to-text model, loaded once per process and used for many files.

    Engines are made by a factory `load(model: str, resources: ResourceRequest) -> SpeechEngine` in a module
    of their own, and found through `trax_ray.providers.registry`.
    """

    name: str
    """The provider's name, such as `pocketsphinx`."""

    model: str
    """The model that is loaded, as it is recorded beside each transcript."""

    language: str | None
    """The language of the last transcription, detected or given; None before the first."""

    def transcribe(self, audio: Audio, speech: Sequence[Span], options: EngineOptions) -> Iterator[Segment]:
        """Recognise the speech in `audio`, span by span, in order of time.

        Args:
            audio: float32, shape (n_samples,), mono, [-1, 1], at 16,000 Hz. The engine must not change it.
            speech: Spans of `audio` that hold speech, in order, without overlap. Nothing outside them is
                recognised; no spans means no segments.
            options: What the caller asked for.

        Yields:
            Segments in order of time, as soon as each is known.

        Raises:
            ProcessingError: The engine can't do what was asked, such as a language that it doesn't speak.
        """
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """What a service said to one request: segments, or why there are none.

    Args:
        signal: What it means for the requests that follow: limits, breaker, money.
        segments: In order of time, counted from the upload's beginning.
        language: As recognised; None where the service doesn't say.
        made_up: What it left out and was filled in, such as `segment_times`.
        failure: Why the request came to nothing; None where it didn't.
    """

    signal: ProviderSignal
    segments: tuple[Segment, ...] = ()
    language: str | None = None
    made_up: tuple[str, ...] = ()
    failure: Failure | None = None


@runtime_checkable
class SpeechService(Protocol):
    """Speech-to-text behind a network, for many requests at the same time in one event loop.

    Services are made by a factory `connect(model: str, *, key: Secret | None, base_url: str, priced: bool) ->
    SpeechService`.
    """

    name: str
    """The provider's name, such as `openai`."""

    model: str
    """The model that is asked for, as it is recorded beside each transcript."""

    @property
    def bytes_per_s(self) -> float:
        """What a second of audio takes in memory while it is sent, where that isn't the upload itself; else 0.0."""
        ...

    async def transcribe(
        self, upload: bytes, *, duration_s: float, speech: Sequence[Span], options: EngineOptions
    ) -> Reply:
        """Send one request, and never repeat it: that is decided elsewhere.

        Args:
            upload: Opus in Ogg, 16,000 Hz, mono.
            duration_s: Its length.
            speech: Where in it speech was found, in order.
            options: What the caller asked for.
        """
        ...

    async def close(self) -> None:
        """Let go of all connections."""
        ...
