"""What has to be settled before a batch begins: its model, who has it, and keys."""

from __future__ import annotations

import json
import os
from pathlib import Path

from trax_ray.codes import FailureCode
from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import ResourceRequest
from trax_ray.errors import SetupError, UsageError
from trax_ray.providers.base import SpeechProvider
from trax_ray.providers.keys import Secret, find_key, scrub
from trax_ray.providers.registry import provider_of, providers
from trax_ray.store.explaining import explain, shown
from trax_ray.store.files import ensure_folder, read_regular
from trax_ray.store.layout import Layout
from trax_ray.store.writing import write_atomically

__all__ = ["find_keys", "pin_model", "pinned_model", "provider_for", "request_of", "resolve_model"]

SERVER_DEFAULT = "whisper-1"
"""The model that a server is asked for when none is named: the name that servers of this protocol know."""


def resolve_model(model: str | None, output_dir: str, *, base_url: str = "", language: str | None = None) -> str:
    """The model of a batch: the one that was named, else what is at hand, as long as that mixes no engines.

    Args:
        model: As it was named; None where it wasn't.
        output_dir: The output folder, which remembers the model of its transcripts.
        base_url: Address of a server of OpenAI's protocol; then the model isn't one of this machine.
        language: The batch's; None where it wasn't given. What is chosen must know it.

    Raises:
        SetupError: None was named, and none is at hand or another one made what is there.
    """
    if model:
        # Workers have other working folders.
        return str(Path(model).absolute()) if os.sep in model and Path(model).is_dir() else model
    from trax_ray.providers.choice import choose_model

    pinned = pinned_model(output_dir)
    chosen = SERVER_DEFAULT if base_url else choose_model(language)
    if pinned and pinned != chosen:
        raise SetupError(
            f"the transcripts in {shown(output_dir)} come from {pinned}, and without --model this run would take "
            f"{chosen}: give --model {pinned} to go on, --model {chosen} to do them again, or another --output-dir"
        )
    return chosen


def provider_for(
    model: str, spec: BatchSpec, *, language: str | None = None, prompt: str | None = None
) -> SpeechProvider:
    """The provider of a model, with all that can be seen before any work.

    Args:
        model: Its name or folder.
        spec: The batch.
        language: Of one recording; None takes the batch's.
        prompt: Of one recording; None takes the batch's.

    Raises:
        UsageError: Nobody has the model, or it lacks what is asked for.
        SetupError: Its key or its package is missing, its key can't be one, or its weights are damaged.
    """
    provider = provider_of(model, base_url=spec.base_url)
    provider.check(
        language=language or spec.language,
        model=model,
        word_timestamps=spec.word_timestamps,
        initial_prompt=prompt or spec.initial_prompt,
    )
    if provider.service and not spec.base_url:
        _expect_no_other_address(provider)
    limited = spec.max_cost_usd is not None
    if limited and provider.service and provider.estimate_usd(model, 60.0, limited=limited) is None:
        raise UsageError(
            f"--max-cost can't be kept: what {model} costs isn't known here: leave it out, or take another --model"
        )
    if provider.key_variable and find_key(provider.key_variable) is None and not spec.base_url:
        raise SetupError(
            f"the model {model} needs a key: set {provider.key_variable}, or {provider.key_variable}_FILE to a file "
            "that holds it; a server of your own needs --base-url; --model tiny.en needs neither",
            code=FailureCode.NO_KEY,
        )
    return provider


def _expect_no_other_address(provider: SpeechProvider) -> None:
    """Recordings that somebody expects on a server of their own don't go to the provider's, nor the other way round."""
    variable = provider.address_variable
    address = None if variable is None else os.environ.get(variable)
    if address is None or (address and provider.prices.is_makers_own(address)):
        return
    is_set = f"is set to {scrub(address)}" if address else "is set, and empty"
    raise UsageError(
        f"{variable} {is_set}, and trax_ray goes by --base-url alone: give that for the recordings to go to a server "
        f"of yours, or unset {variable} for them to go to {provider.name}"
    )


def request_of(spec: BatchSpec) -> ResourceRequest | None:
    """What an attempt at a recording asks of a node, with the batch's model; None where a service has it, or nobody."""
    if not spec.model:
        return None
    try:
        provider = provider_of(spec.model, base_url=spec.base_url)
    except UsageError:  # of a provider that isn't installed here, or that another process brings
        return None
    return None if provider.service else provider.resources(spec.model)


def find_keys() -> dict[str, Secret]:
    """The keys of all services that are set here, by variable.

    Raises:
        SetupError: What is set can't be a key.
    """
    found = {each.key_variable: find_key(each.key_variable) for each in providers() if each.key_variable}
    return {variable: key for variable, key in found.items() if key is not None}


def pinned_model(output_dir: str) -> str | None:
    """The model that an output folder's transcripts come from; None where there are none yet.

    Raises:
        FileError: The note can't be read.
        SetupError: It is damaged.
    """
    path = Layout.of(output_dir).model_pin
    try:
        model = json.loads(read_regular(path)).get("model")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise explain(error, path, "read") from error
    except (ValueError, AttributeError, RecursionError):
        raise SetupError(
            f"{shown(path)}, which remembers the model of the transcripts there, is damaged: give the --model that "
            "made them, which also mends it"
        ) from None
    return str(model) if model else None


def pin_model(output_dir: str, model: str) -> None:
    """Note in the output folder which model its transcripts come from."""
    path = Layout.of(output_dir).model_pin
    ensure_folder(path.parent)
    write_atomically(path, json.dumps({"model": model}).encode())
