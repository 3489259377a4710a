"""Which provider has a model: the built-in ones, and those that other packages bring.

A built-in provider is one module and one line in `BUILT_IN`. Another package names its own in the entry point group
`trax_ray.providers`, and is found wherever it is installed, in Ray's workers too. See `docs/adding-a-provider.md`.
Nothing heavy is imported here, and providers only when the first is asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from threading import RLock
from typing import TYPE_CHECKING, TypeVar

from trax_ray.errors import UsageError
from trax_ray.providers.base import EngineProvider, Provider, ServiceProvider, Shutdown, SpeechProvider, TextProvider
from trax_ray.providers.prices import PriceList

if TYPE_CHECKING:
    from trax_ray.core.task import ResourceRequest
    from trax_ray.providers.base import SpeechEngine

__all__ = [
    "BUILT_IN",
    "GROUP",
    "Plugin",
    "default_text_model",
    "forget",
    "is_service",
    "load_engine",
    "plugins",
    "provider_of",
    "providers",
    "revision_of",
    "service_of",
    "takes_prompts",
    "text_provider_of",
]

BUILT_IN = (
    "trax_ray.providers.pocketsphinx:PROVIDER",
    "trax_ray.providers.faster_whisper:PROVIDER",
    "trax_ray.providers.openai:PROVIDER",
    "trax_ray.providers.deepseek:PROVIDER",
    "trax_ray.providers.chat:PROVIDER",
)
"""`module:OBJECT` of each, in the order in which they are asked."""

GROUP = "trax_ray.providers"
"""The entry points of other packages' providers; their names don't matter, their values are `module:OBJECT`."""

P = TypeVar("P", bound=Provider)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plugin:
    """What came of one entry point of another package.

    Args:
        distribution: The package and its version, such as `trax-ray-tone 0.1`.
        entry: The entry point, such as `tone = trax_ray_tone:PROVIDER`.
        provider: What it brought; None where it can't be used.
        problem: Why it can't be used; empty where it can.
    """

    distribution: str
    entry: str
    provider: Provider | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What there is, by sort; each in the order in which it is asked."""

    plugins: tuple[Plugin, ...]
    providers: tuple[Provider, ...]
    speech: tuple[SpeechProvider, ...]
    engines: tuple[EngineProvider, ...]
    texts: tuple[TextProvider, ...]


_loading = RLock()
"""Held while providers are loaded: in a lane several threads ask at the same time."""


def providers() -> tuple[Provider, ...]:
    """All that can be used, the built-in ones first."""
    return _loaded().providers


def plugins() -> tuple[Plugin, ...]:
    """What other packages bring, and what of it can't be used."""
    return _loaded().plugins


def forget() -> None:
    """Look for providers anew when the next is asked for; for tests."""
    _load.cache_clear()


def provider_of(model: str, *, base_url: str = "") -> SpeechProvider:
    """The provider that has a speech model.

    Args:
        model: Its name or folder.
        base_url: Address of a server of OpenAI's protocol; then that has whatever isn't a model of this machine.

    Raises:
        UsageError: None has it; names what there is.
    """
    provider = _speech(model, base_url)
    if provider is None:
        raise _unknown(model, _loaded().speech)
    return provider


def service_of(model: str, *, base_url: str = "") -> ServiceProvider:
    """The provider of a speech model that is asked over the network; as `provider_of`.

    Raises:
        UsageError: No service has it.
    """
    provider = _speech(model, base_url)
    if not isinstance(provider, ServiceProvider):
        raise _unknown(model, (each for each in _loaded().speech if each.service))
    return provider


def text_provider_of(model: str, *, base_url: str = "") -> TextProvider:
    """The provider that has a text model.

    Args:
        model: Its name.
        base_url: Address of a server of OpenAI's protocol; then that has it, whose own provider is asked where it has
            one.

    Raises:
        UsageError: None has it; names what there is.
    """
    texts = _loaded().texts
    at_home = (each for each in texts if base_url and each.prices.hosts and each.prices.is_makers_own(base_url))
    provider = next(at_home, None) or _find(texts, model, base_url)
    if provider is None:
        raise _unknown(model, _loaded().texts)
    return provider


def default_text_model(base_url: str = "") -> str:
    """The text model that is asked where none is named.

    Args:
        base_url: Address of a server; then only a provider whose own it is has one.

    Returns:
        Its name; empty where one must be named.
    """
    texts = (each for each in _loaded().texts if each.default_model and each.prices.is_makers_own(base_url))
    return next((each.default_model for each in texts), "")


def is_service(model: str, base_url: str = "") -> bool:
    """Whether a speech model is asked over the network; False for one that nobody has."""
    provider = _speech(model, base_url)
    return provider is not None and provider.service


def revision_of(model: str, base_url: str = "") -> int:
    """The revision of what has a speech model; 1 for a model that nobody has."""
    provider = _speech(model, base_url)
    return 1 if provider is None else provider.revision


def takes_prompts(model: str, base_url: str = "") -> bool:
    """Whether a text can prime a speech model; False for one that nobody has."""
    provider = _speech(model, base_url)
    return provider is not None and provider.prompts


def load_engine(model: str, resources: ResourceRequest) -> SpeechEngine:
    """Load a local model. Takes seconds: callers keep what they get.

    Args:
        model: Its name or folder.
        resources: What the attempt has: threads and device follow from it.

    Raises:
        UsageError: No provider has the model, or it doesn't run on this machine.
        SetupError: The weights, or the package that it needs, aren't to be had.
    """
    provider = provider_of(model)
    if not isinstance(provider, EngineProvider):
        raise UsageError(f"the model {model} doesn't run on this machine: {provider.name} is a service")
    provider.check(language=None)
    return provider.load(model, resources)


# Looking up


def _speech(model: str, base_url: str) -> SpeechProvider | None:
    if not base_url:
        return _find(_loaded().speech, model, "")
    return _find(_loaded().engines, model, "") or _find(_loaded().speech, model, base_url)


def _find(every: Iterable[P], model: str, base_url: str) -> P | None:
    """The first that has a model; at a server that the user names, the one that takes any model of such a server."""
    return next((each for each in every if (each.any_server if base_url else _has(each, model))), None)


def _has(provider: Provider, model: str) -> bool:
    try:
        return bool(provider.has(model))
    except Exception as error:  # noqa: BLE001 - another package's code; what it has nobody else may go without
        _warn_once(f"the provider {provider.name} can't say whether it has the model {model}: {_said(error)}")
        return False


def _unknown(model: str, every: Iterable[Provider]) -> UsageError:
    known = "; ".join(provider.models for provider in every)
    return UsageError(f"no provider has the model {model}: known are {known or 'none'}")


# Loading


def _loaded() -> _Loaded:
    with _loading:
        return _load()


@cache
def _load() -> _Loaded:
    built_in = []
    for where in BUILT_IN:
        module, _, name = where.partition(":")
        built_in.append(_checked(getattr(import_module(module), name)))
    found = _plugins({provider.name for provider in built_in})
    every = (*built_in, *(plugin.provider for plugin in found if plugin.provider is not None))
    return _Loaded(
        plugins=found,
        providers=every,
        speech=tuple(each for each in every if isinstance(each, SpeechProvider)),
        engines=tuple(each for each in every if isinstance(each, EngineProvider)),
        texts=tuple(each for each in every if isinstance(each, TextProvider)),
    )


def _plugins(names: set[str]) -> tuple[Plugin, ...]:
    """Load what other packages bring, and say once what of it can't be used.

    Args:
        names: Those that are taken.
    """
    found = []
    try:
        points = sorted(metadata.entry_points(group=GROUP), key=lambda point: (point.name, point.value))
    except Exception as error:  # noqa: BLE001 - a damaged package may break the search in any way
        points = []
        found.append(Plugin("packages", GROUP, None, f"what is installed can't be searched: {_said(error)}"))
    for point in points:
        plugin = _plugin(point, names)
        names |= {plugin.provider.name} if plugin.provider else set()
        found.append(plugin)
    for plugin in found:
        if plugin.provider is None:
            _warn_once(f"{plugin.distribution}: the provider `{plugin.entry}` isn't used: {plugin.problem}")
    return tuple(found)


def _plugin(point: metadata.EntryPoint, names: set[str]) -> Plugin:
    """Load what another package brings; whatever is wrong with it is its own matter."""
    distribution = f"{point.dist.name} {point.dist.version}" if point.dist else "a package"
    entry = f"{point.name} = {point.value}"
    try:
        provider = _checked(point.load())
    except (Exception, SystemExit) as error:  # noqa: BLE001 - another package's code, which stops nobody else
        return Plugin(distribution, entry, None, _said(error))
    if provider.name in names:
        return Plugin(distribution, entry, None, f"there is a provider of the name {provider.name} already")
    return Plugin(distribution, entry, provider)


def _checked(made: object) -> Provider:
    """What a module holds, if it is a provider.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(made, EngineProvider | ServiceProvider | TextProvider):
        said = "a class: make an instance of it" if isinstance(made, type) else f"a {type(made).__name__}"
        raise TypeError(f"expected an EngineProvider, a ServiceProvider or a TextProvider, got {said}")
    for attribute, good in _DATA.items():
        value = getattr(made, attribute, None)
        if not good(value):
            raise TypeError(f"{type(made).__name__}.{attribute} can't be {value!r}")
    return made


_DATA: Mapping[str, Callable[[object], bool]] = {
    "name": lambda value: isinstance(value, str) and bool(value),
    "models": lambda value: isinstance(value, str) and bool(value),
    "key_variable": lambda value: value is None or (isinstance(value, str) and bool(value)),
    "revision": lambda value: isinstance(value, int) and value >= 1,
    "extra": lambda value: isinstance(value, str),
    "prices": lambda value: isinstance(value, PriceList),
    "shutdowns": lambda value: isinstance(value, Sequence) and all(isinstance(each, Shutdown) for each in value),
}
"""What the data of a provider must be, that is read before anybody has named one of its models."""


@cache
def _warn_once(text: str) -> None:
    _log.warning("%s", text)


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
