"""The speech providers: which models each has, what they need, and where the code is.

A new provider is one module with a `load` function and one entry in `SPEECH_PROVIDERS`; see
`docs/adding-a-provider.md`. Nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from trax_ray.codes import FailureCode
from trax_ray.core.task import ResourceRequest
from trax_ray.errors import SetupError, UsageError
from trax_ray.providers.openai_models import model_of
from trax_ray.providers.weights import WHISPER_REPOSITORIES, english_only, is_english

if TYPE_CHECKING:
    from trax_ray.providers.base import SpeechEngine, SpeechService
    from trax_ray.providers.keys import Secret

__all__ = [
    "SPEECH_PROVIDERS",
    "SpeechProvider",
    "connect_service",
    "is_service",
    "load_engine",
    "provider_of",
    "revision_of",
]


@dataclass(frozen=True, slots=True)
class SpeechProvider:
    """One provider of speech recognition.

    Args:
        name: Its name, as reports and failures say it.
        models: What to name for `--model`, for people.
        has: Says whether a model name is this provider's.
        module: Where `load(model, resources) -> SpeechEngine` is.
        memory_mb: What a process with the model needs, MiB, by model name.
        key_variable: Environment variable of the key; None for local models.
        languages: Codes that it knows; None for many.
        gpu: Whether it can use a GPU.
        service: Whether it is asked over the network: then `module` has `connect` in place of `load`.
        revision: Goes up when it makes something else of the same audio: then transcripts are made anew.
        extra: The package that it needs and that only an extra of the same name installs; empty for none.
    """

    name: str
    models: str
    has: Callable[[str], bool]
    module: str
    memory_mb: Callable[[str], int]
    key_variable: str | None = None
    languages: frozenset[str] | None = None
    gpu: bool = False
    service: bool = False
    revision: int = 1
    extra: str = ""

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

    def longest_request_s(self, model: str) -> float:
        """The longest stretch of audio that one request to a service may hold, seconds."""
        return model_of(model).longest_s

    def check(
        self,
        *,
        language: str | None,
        model: str = "",
        word_timestamps: bool = False,
        initial_prompt: str | None = None,
    ) -> None:
        """See before any work that the provider can do what is asked.

        Raises:
            UsageError: It doesn't know the language, or the model lacks what is asked for.
            SetupError: The package that it needs isn't installed.
        """
        if self.service and model:
            model_of(model).check(model, word_timestamps=word_timestamps, initial_prompt=initial_prompt)
        if language is not None and self.languages is not None and language.lower() not in self.languages:
            known = ", ".join(sorted(self.languages))
            raise UsageError(f"{self.name} only knows {known}, got --language {language}: take another --model")
        if language is not None and english_only(model) and not self.service and not is_english(language):
            raise UsageError(f"{model} only knows en, got --language {language}: take another --model")
        # Looked for, not imported: that is for the processes that use it.
        if self.extra and find_spec(self.extra) is None:
            raise SetupError(
                f'{self.name} isn\'t installed: pip install "trax-ray[{self.extra}]", or take another --model',
                code=FailureCode.NOT_INSTALLED,
            )


_WHISPER_MB = {
    "turbo": 2048,
    "distil-large": 2048,
    "distil-medium": 1280,
    "large": 3840,
    "medium": 2048,
    "small": 1024,
    "base": 768,
    "tiny": 768,
}
"""Memory of a process with an int8 model on the CPU, MiB, by the first that the name contains: a tenth and 40 (ten
minutes of audio) above what is needed, rounded up to what Ray is asked for.

Measured: peak resident memory of the whole process (decoding, speech detection, one thread, beam 5, and as many
windows at once as `faster_whisper` takes) with random weights of the published shapes: tiny 489, base 563, small 854,
medium 1603, turbo 1698. That is 175 for Python and its libraries and the larger of: while loading, the float16 file
of two bytes a parameter (39, 74, 244, 769 and 809 million) and, for small models, half as much again; while decoding,
a byte a parameter and, per window, two attention matrices (heads x 1500 x 1500 x 4 bytes) and the decoder's view of
the audio (layers x 2 x 1500 x width x 4 bytes). Computed from that, not measured: large (1,550 million) 3,310,
distil-large (756) 1,620, distil-medium (394) 1,080. On a GPU: not measured.
"""


def _is_whisper(model: str) -> bool:
    return model in WHISPER_REPOSITORIES or _is_folder(model)


def _is_folder(model: str) -> bool:
    return ("/" in model or model.startswith(".")) and Path(model).is_dir()


def _whisper_memory_mb(model: str) -> int:
    if _is_folder(model):
        weights = Path(model) / "model.bin"
        size = weights.stat().st_size if weights.is_file() else 0
        return 512 + 11 * size // (10 * 2**20)  # float16 assumed; covers every size above
    return next(figure for name, figure in _WHISPER_MB.items() if name in model)


def _always(memory_mb: int) -> Callable[[str], int]:
    return lambda model: memory_mb


SPEECH_PROVIDERS = (
    SpeechProvider(
        name="pocketsphinx",
        models="pocketsphinx (offline, English, rough)",
        has=lambda model: model == "pocketsphinx",
        module="trax_ray.providers.pocketsphinx",
        memory_mb=_always(512),
        languages=frozenset({"en"}),
        extra="pocketsphinx",
    ),
    SpeechProvider(
        name="faster-whisper",
        models="tiny, base, small, medium, large-v3, turbo (and their .en and distil forms), or a folder",
        has=_is_whisper,
        module="trax_ray.providers.faster_whisper",
        memory_mb=_whisper_memory_mb,
        gpu=True,
        revision=2,  # windows of 15 s, held against the speech in them
    ),
    SpeechProvider(
        name="openai",
        models="whisper-1, gpt-* (OpenAI), or any model of a server that --base-url names",
        has=lambda model: model == "whisper-1" or model.startswith("gpt-"),
        module="trax_ray.providers.openai",
        memory_mb=_always(512),
        key_variable="OPENAI_API_KEY",
        service=True,
    ),
)
"""One entry each, in the order in which they are asked."""


def provider_of(model: str, *, base_url: str = "") -> SpeechProvider:
    """The provider that has a model.

    Args:
        model: Its name or folder.
        base_url: Address of a server of OpenAI's protocol; then that has whatever isn't a model of this machine.

    Raises:
        UsageError: None has it; names what there is.
    """
    for provider in SPEECH_PROVIDERS:
        if provider.has(model) or (base_url and provider.service):
            return provider
    known = "; ".join(provider.models for provider in SPEECH_PROVIDERS)
    raise UsageError(f"no provider has the model {model}: known are {known}")


def is_service(model: str, base_url: str = "") -> bool:
    """Whether a model is asked over the network; False for one that nobody has."""
    for provider in SPEECH_PROVIDERS:
        if provider.has(model) or (base_url and provider.service):
            return provider.service
    return False


def revision_of(model: str, base_url: str = "") -> int:
    """The revision of what has a model; 1 for a model that nobody has."""
    for provider in SPEECH_PROVIDERS:
        if provider.has(model) or (base_url and provider.service):
            return provider.revision
    return 1


def load_engine(model: str, resources: ResourceRequest) -> SpeechEngine:
    """Load a local model. Takes seconds: callers keep what they get.

    Args:
        model: Its name or folder.
        resources: What the attempt has: threads and device follow from it.

    Raises:
        UsageError: No provider has the model.
        SetupError: The weights, or the package that it needs, aren't to be had.
    """
    provider = provider_of(model)
    provider.check(language=None)
    engine: SpeechEngine = import_module(provider.module).load(model, resources)
    return engine


def connect_service(
    provider: SpeechProvider, model: str, *, key: Secret | None, base_url: str, priced: bool
) -> SpeechService:
    """Make a service's client. Nothing is sent; callers keep what they get.

    Args:
        provider: Whose; a service.
        model: The model's name.
        key: The key; None for servers that want none.
        base_url: The server's address; empty for the provider's own.
        priced: Whether the server charges what the provider's own does.
    """
    service: SpeechService = import_module(provider.module).connect(model, key=key, base_url=base_url, priced=priced)
    return service
