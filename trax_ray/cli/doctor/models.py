"""Keys of services, models at hand, and the one that a batch takes where none is named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from importlib.util import find_spec
from pathlib import Path

from trax_ray.cli.doctor.check import Check, Verdict
from trax_ray.codes import FailureCode
from trax_ray.errors import SetupError, TraxRayError
from trax_ray.providers.base import Provider, Shutdown, TextProvider
from trax_ray.providers.choice import ENGLISH_DEFAULT, choose_model
from trax_ray.providers.keys import find_key
from trax_ray.providers.registry import Plugin, provider_of, providers
from trax_ray.providers.weights import (
    EMBEDDED,
    NO_WEIGHTS,
    embedded_weights,
)

__all__ = [
    "check_cache",
    "check_default_model",
    "check_embedded",
    "check_keys",
    "check_plugin",
    "check_pocketsphinx",
    "check_shutdown",
    "default_model",
    "embedded_model",
    "pocketsphinx_files",
]

SHUTDOWN_NOTICE_DAYS = 180


def check_keys(environ: Mapping[str, str]) -> Iterator[Check]:
    """Which keys are set. Their values are looked at and never shown."""
    uses = {each.key_variable: _needed_for(each) for each in providers() if each.key_variable}
    for name, use in uses.items():
        value = environ.get(name, "")
        if not value and environ.get(f"{name}_FILE"):
            yield _check_key_file(name)
        elif not value:
            yield Check(Verdict.NOTE, "key", f"{name} isn't set; only {use} will need it")
        elif value.split() != [value]:
            yield Check(Verdict.NOTE, "key", f"{name} is set and holds white space", "set it again, without line ends")
        else:
            yield Check(Verdict.OK, "key", f"{name} is set")


def _needed_for(provider: Provider) -> str:
    """What needs a provider's key."""
    if not isinstance(provider, TextProvider):
        return f"the models of {provider.name}"
    return "a server that --enhance-base-url names, and that wants one," if provider.any_server else "--enhance"


def _check_key_file(name: str) -> Check:
    """Whether there is a key in the file that is to hold it."""
    try:
        found = find_key(name)
    except SetupError as error:
        return Check(Verdict.NOTE, "key", error.message)
    if found is None:
        return Check(Verdict.NOTE, "key", f"the file of {name}_FILE is empty", f"write the key into it, or set {name}")
    return Check(Verdict.OK, "key", f"{name}_FILE is set, and its file holds a key")


def check_embedded(found: bool, damage: str, *, others: bool) -> Check:
    """Whether the Whisper that can be installed as a package is there, and is what it must be.

    Args:
        found: Whether it is installed and intact.
        damage: What is wrong with it, and the way out; empty where it is intact or not installed.
        others: Whether another model is there or can be had: without any, no batch can run.
    """
    lacking = Verdict.NOTE if others else Verdict.MISSING
    if damage:
        return Check(lacking, ENGLISH_DEFAULT, damage)
    if not found:
        way_out = f'pip install "trax-ray[{EMBEDDED[ENGLISH_DEFAULT].extra}]" (Whisper, offline, English)'
        return Check(lacking, ENGLISH_DEFAULT, "its package isn't installed", way_out)
    return Check(Verdict.OK, ENGLISH_DEFAULT, "installed and intact (Whisper, offline, English)")


def check_pocketsphinx(installed: bool, files: bool) -> Check:
    """Whether pocketsphinx is installed, with its English model.

    Args:
        installed: Whether the package is there.
        files: Whether the model files of its wheel are.
    """
    if not installed:
        way_out = 'pip install "trax-ray[pocketsphinx]" (offline, English, rough)'
        return Check(Verdict.NOTE, "pocketsphinx", "not installed; only --model pocketsphinx needs it", way_out)
    if not files:
        way_out = 'pip install --force-reinstall "trax-ray[pocketsphinx]"'
        return Check(Verdict.NOTE, "pocketsphinx", "its model files are not there", way_out)
    return Check(Verdict.OK, "pocketsphinx", "installed, with its English model (offline, rough)")


def check_cache(weights: Sequence[str]) -> Check:
    """Which Whisper models were downloaded.

    Args:
        weights: Names of those whose weights are in Hugging Face's cache.
    """
    if weights:
        return Check(Verdict.OK, "faster-whisper", f"weights in Hugging Face's cache: {', '.join(weights)}")
    text = "no weights in Hugging Face's cache; a named model is downloaded at its first use"
    return Check(Verdict.NOTE, "faster-whisper", text)


def embedded_model() -> tuple[bool, str]:
    """Whether tiny.en's package is installed and intact, and what is wrong with it."""
    try:
        return embedded_weights(ENGLISH_DEFAULT) is not None, ""
    except SetupError as error:
        return False, error.message


def default_model() -> tuple[str | None, str]:
    """What a batch takes that names no model, and why this version can't run it, if it can't.

    Where there is neither key nor weights the hub is asked, for up to ten seconds.
    """
    try:
        model = choose_model()
    except SetupError as error:
        return None, "" if error.code == FailureCode.NO_MODEL else error.message
    try:
        provider_of(model).check(language=None)
    except TraxRayError as error:
        return model, error.message
    return model, ""


def check_default_model(model: str | None, problem: str) -> Check:
    """Whether a batch may leave out `--model`.

    Args:
        model: What it would take; None where nothing is at hand.
        problem: Why this version can't run it, or nothing could be chosen; empty where that isn't so.
    """
    if model is None and problem:
        return Check(Verdict.NOTE, "default model", "a batch without --model stops", problem)
    if model is None:
        return Check(Verdict.NOTE, "default model", "none is at hand for a batch without --model", NO_WEIGHTS)
    if problem:
        return Check(Verdict.NOTE, "default model", f"a batch without --model would take {model}", problem)
    english = " (English only)" if model == ENGLISH_DEFAULT else ""
    return Check(Verdict.OK, "default model", f"a batch without --model takes {model}{english}")


def check_shutdown(shutdown: Shutdown, today: date) -> Check:
    """Whether a model is near its announced end."""
    days = (shutdown.on - today).days
    way_out = f"plan for {shutdown.successor}"
    if days <= 0:
        return Check(Verdict.NOTE, "shutdown", f"{shutdown.models} was to end on {shutdown.on}", way_out)
    text = f"{shutdown.models} ends on {shutdown.on}, in {days} days"
    if days <= SHUTDOWN_NOTICE_DAYS:
        return Check(Verdict.NOTE, "shutdown", text, way_out)
    return Check(Verdict.OK, "shutdown", text)


def check_plugin(plugin: Plugin) -> Check:
    """Whether a provider that another package brings can be used. No batch needs it before it is named."""
    if plugin.provider is not None:
        text = f"{plugin.provider.name}, of the package {plugin.distribution}: {plugin.provider.models}"
        return Check(Verdict.OK, "provider", text)
    text = f"`{plugin.entry}` of the package {plugin.distribution} isn't used: {plugin.problem}"
    return Check(Verdict.NOTE, "provider", text, "take another version of that package, or uninstall it")


def pocketsphinx_files() -> bool:
    """Whether pocketsphinx's wheel has its English model; found without importing it."""
    found = find_spec("pocketsphinx")
    if found is None or found.origin is None:
        return False
    model = Path(found.origin).parent / "model" / "en-us"
    return all((model / name).exists() for name in ("en-us/mdef", "en-us.lm.bin", "cmudict-en-us.dict"))
