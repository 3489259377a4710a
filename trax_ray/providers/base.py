"""What a provider is: the object that says what it has and asks, and the Protocols of what it makes.

A provider is a light object that stands in a module of its own and that `trax_ray.providers.registry` finds. It is an
`EngineProvider` (models that run on this machine), a `ServiceProvider` (speech, asked over the network) or a
`TextProvider` (text models, asked over the network). Nobody else knows which providers there are: what differs between
them is said by the methods and the data of the object.

An engine gets audio that somebody else decoded and the spans in it that hold speech; it gives back segments.
It opens no files, knows nothing of Ray and nothing of retries, and raises only errors of `trax_ray.errors`.
A service is asked over the network, one request for one attempt, and says besides what its answer means for the next.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from trax_ray.codes import FailureCode
from trax_ray.core.limits.signals import ProviderSignal
from trax_ray.core.task import Failure, ResourceRequest
from trax_ray.errors import SetupError, UsageError
from trax_ray.media.speech import SAMPLE_RATE_HZ, Segment, Span, Word
from trax_ray.providers.languages import front_of
from trax_ray.providers.prices import NO_PRICES, PriceList, tokens_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from trax_ray.providers.keys import Secret

    Audio = npt.NDArray[np.float32]

__all__ = [
    "SAMPLE_RATE_HZ",
    "EngineOptions",
    "EngineProvider",
    "Provider",
    "Reply",
    "Segment",
    "ServiceProvider",
    "Shutdown",
    "Span",
    "SpeechEngine",
    "SpeechProvider",
    "SpeechService",
    "TextProvider",
    "TextReply",
    "TextService",
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

    Engines are made by `EngineProvider.load`.
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
        warnings: Codes of what else there is to know of the answer, such as `text_beyond_segments`.
        failure: Why the request came to nothing; None where it didn't.
    """

    signal: ProviderSignal
    segments: tuple[Segment, ...] = ()
    language: str | None = None
    made_up: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    failure: Failure | None = None


@runtime_checkable
class SpeechService(Protocol):
    """Speech-to-text behind a network, for many requests at the same time in one event loop.

    Services are made by `ServiceProvider.connect`.
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


@dataclass(frozen=True, slots=True)
class TextReply:
    """What a text model said to one request.

    Args:
        signal: What it means for the requests that follow: limits, breaker, money.
        text: What it wrote.
        cut_off: Whether it stopped at the longest output that was allowed, and not by itself.
        input_tokens: Tokens of text that went in, those from the provider's cache too; None where it doesn't say.
        cached_tokens: Of those, the ones from the provider's cache; None where it doesn't say.
        output_tokens: Tokens that came out; None where it doesn't say.
        failure: Why the request came to nothing; None where it didn't.
    """

    signal: ProviderSignal
    text: str = ""
    cut_off: bool = False
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    failure: Failure | None = None


@runtime_checkable
class TextService(Protocol):
    """A text model behind a network, for many requests at the same time in one event loop.

    Text services are made by `TextProvider.connect`.
    """

    name: str
    """The provider's name, such as `deepseek`."""

    model: str
    """The model that is asked for, as it is recorded beside each result."""

    async def complete(self, instructions: str, text: str, *, max_tokens: int, as_json: bool) -> TextReply:
        """Send one request, and never repeat it: that is decided elsewhere.

        Args:
            instructions: The system prompt. It comes first and is the same for many requests, so that the provider's
                cache knows it.
            text: What they are applied to: data, and never instructions.
            max_tokens: The longest output that is allowed, tokens.
            as_json: Whether the output must be one JSON object.
        """
        ...

    async def close(self) -> None:
        """Let go of all connections."""
        ...


# Providers


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The announcement that models will be shut down.

    Args:
        models: A model's name, or a pattern with `*`.
        on: The first day without it.
        successor: What to take instead.
    """

    models: str
    on: date
    successor: str


class Provider(ABC):
    """What all providers say of themselves. An instance stands in the provider's module and never changes.

    A subclass sets the data below as class attributes and overrides the methods that differ.
    """

    name: str
    """Its name, as reports, limits and failures say it."""

    models: str
    """What to name for `--model`, for people."""

    key_variable: str | None = None
    """Environment variable of the key; None where no key is needed."""

    address_variable: str | None = None
    """Environment variable by which other programs choose its server. It isn't obeyed, nor passed over in silence:
    recordings would go elsewhere than somebody expects."""

    unused_variables: Sequence[str] = ()
    """Environment variables that other programs obey for it and that aren't obeyed here; a batch says so."""

    any_server: bool = False
    """Whether it takes any model of a server whose address the user gives. One provider of each sort does, the one that
    speaks OpenAI's protocol."""

    revision: int = 1
    """Goes up when it makes something else of the same input: then results are made anew."""

    extra: str = ""
    """The package that it needs and that only an extra of trax-ray of the same name installs; empty for none."""

    prices: PriceList = NO_PRICES
    """What it charges."""

    shutdowns: Sequence[Shutdown] = ()
    """Which of its models are announced to end."""

    @abstractmethod
    def has(self, model: str) -> bool:
        """Whether a model name is this provider's."""

    def shutdown(self, model: str, *, base_url: str = "") -> Shutdown | None:
        """The announcement that concerns a model, if there is one.

        Args:
            model: Its name.
            base_url: The server's address; on one that isn't the maker's own, names are only names.
        """
        if not self.prices.is_makers_own(base_url):
            return None
        return next((each for each in self.shutdowns if fnmatchcase(model, each.models)), None)

    def prices_hold(self, base_url: str, *, limited: bool) -> bool:
        """Whether a server charges what this provider's prices say; see `PriceList.hold`."""
        return self.prices.hold(base_url, limited=limited)

    def estimate_usd(self, model: str, duration_s: float, *, base_url: str = "", limited: bool = False) -> float | None:
        """About what a request will cost.

        Args:
            model: Its name.
            duration_s: Seconds of audio, or of the audio behind a text.
            base_url: The server's address; empty for the maker's own.
            limited: Whether the user set a limit to the costs.

        Returns:
            USD; None where that isn't known.
        """
        return self.prices.estimate_usd(model, duration_s) if self.prices_hold(base_url, limited=limited) else None

    def cost_usd(
        self, model: str, usage: Mapping[str, Any] | None, duration_s: float | None, at: float
    ) -> float | None:
        """What an answer of a server that is paid has cost, USD; see `PriceList.cost_usd`."""
        return self.prices.cost_usd(model, usage, duration_s, at)

    def check_installed(self) -> None:
        """See that the package which it needs is there, without importing it.

        Raises:
            SetupError: It isn't.
        """
        # Looked for, not imported: that is for the processes that use it.
        if self.extra and find_spec(self.extra) is None:
            raise SetupError(
                f'{self.name} isn\'t installed: pip install "trax-ray[{self.extra}]", or take another --model',
                code=FailureCode.NOT_INSTALLED,
            )


class SpeechProvider(Provider):
    """What engines and services have in common; a provider is one of `EngineProvider` and `ServiceProvider`."""

    service: ClassVar[bool]
    """Whether it is asked over the network."""

    languages: frozenset[str] | None = None
    """Codes that it knows; None for many."""

    gpu: bool = False
    """Whether it can use a GPU."""

    prompts: bool = True
    """Whether a text can prime its models."""

    @abstractmethod
    def memory_mb(self, model: str) -> int:
        """What a process with the model needs, MiB."""

    def resources(self, model: str, *, gpus: float = 0.0) -> ResourceRequest:
        """What an attempt with this model asks of a node: a core, for the model or to prepare what a service is sent.

        Args:
            model: Its name or folder.
            gpus: What the cluster's best node has of GPUs; 0 asks for none. At most one is asked for, and only
                where the provider can use it.
        """
        return ResourceRequest(
            num_cpus=1.0,
            memory_mb=self.memory_mb(model),
            num_gpus=min(1.0, gpus) if self.gpu else 0.0,
        )

    def check(
        self,
        *,
        language: str | None,
        model: str = "",
        word_timestamps: bool = False,
        initial_prompt: str | None = None,
    ) -> None:
        """See before any work that the provider can do what is asked.

        Args:
            language: ISO 639-1 code; None where it wasn't given.
            model: Its name or folder; empty checks what holds for all of them.
            word_timestamps: Whether words are to have times.
            initial_prompt: Text that primes the model; None or empty for none.

        Raises:
            UsageError: It doesn't know the language, or the model lacks what is asked for.
            SetupError: The package that it needs isn't installed, or its weights are damaged.
        """
        if language is not None and self.languages is not None and front_of(language) not in self.languages:
            known = ", ".join(sorted(self.languages))
            raise UsageError(f"{self.name} only knows {known}, got --language {language}: take another --model")
        if initial_prompt and not self.prompts:
            raise UsageError(f"{self.name} can't be primed by a text: leave out --initial-prompt (or the prompt)")
        self.check_installed()


class EngineProvider(SpeechProvider):
    """A provider of speech models that run on this machine."""

    service = False

    @abstractmethod
    def load(self, model: str, resources: ResourceRequest) -> SpeechEngine:
        """Load a model. Called once per process; what it gives is kept for the next recordings.

        Args:
            model: Its name or folder.
            resources: What the attempt has: threads and device follow from it.

        Raises:
            SetupError: The weights, or the package that it needs, aren't to be had.
        """


class ServiceProvider(SpeechProvider):
    """A provider of speech models that are asked over the network."""

    service = True

    def memory_mb(self, model: str) -> int:
        """What it takes to decode a recording and to prepare requests, MiB."""
        return 512

    @abstractmethod
    def longest_request_s(self, model: str) -> float:
        """The longest stretch of audio that one request may hold, seconds."""

    @abstractmethod
    def connect(self, model: str, *, key: Secret | None, base_url: str, priced: bool) -> SpeechService:
        """Make a client. Nothing is sent; callers keep what they get.

        Args:
            model: The model's name.
            key: The key; None for servers that want none.
            base_url: The server's address; empty for the provider's own.
            priced: Whether the server charges what the provider's prices say.
        """


class TextProvider(Provider):
    """A provider of text models that are asked over the network."""

    default_model: str = ""
    """The model that is asked where none is named; empty where one must be."""

    def request_usd(
        self, model: str, text: str, max_tokens: int, *, base_url: str = "", limited: bool = False, peak: bool = True
    ) -> float | None:
        """What a request costs at the most, about: nothing of it is in the provider's cache, and it is answered fully.

        Args:
            model: Its name.
            text: All that is sent.
            max_tokens: The longest output that is allowed.
            base_url: The server's address; empty for the maker's own.
            limited: Whether the user set a limit to the costs.
            peak: Whether it may be sent at hours at which more is charged.

        Returns:
            USD; None where that isn't known.
        """
        if not self.prices_hold(base_url, limited=limited):
            return None
        return self.prices.text_usd(model, tokens_of(text), max_tokens, peak=peak)

    @abstractmethod
    def connect(self, model: str, *, key: Secret | None, base_url: str, priced: bool) -> TextService:
        """Make a client; as `ServiceProvider.connect`."""
