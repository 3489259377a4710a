"""What has to be settled before transcripts are enhanced: how far, by which model, and with whose key."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from trax_ray.codes import FailureCode
from trax_ray.core.ids import fingerprint_of
from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import BatchTask
from trax_ray.errors import SetupError, UsageError
from trax_ray.kinds.enhance import ENHANCE, EnhanceData
from trax_ray.kinds.enhancing import glossary_of
from trax_ray.plan.options import option
from trax_ray.plan.tasks import InputFile
from trax_ray.providers.base import TextProvider
from trax_ray.providers.keys import find_key
from trax_ray.providers.registry import default_text_model, text_provider_of

__all__ = ["enhancer_of", "plan_enhancement", "text_shutdowns", "with_text_model"]

TASK = ENHANCE.name

ENHANCEMENTS_PER_TRANSCRIPTION = 16
"""By so much an enhancement weighs less than a transcription in the estimate of the time still to go, which goes by
size."""


def with_text_model(spec: BatchSpec, *, wanted: bool = False) -> BatchSpec:
    """The spec with all that an enhancement needs, as far as one is asked for.

    Args:
        spec: The batch.
        wanted: Whether transcripts are enhanced whatever its options say.

    Raises:
        UsageError: Options contradict each other, or nobody has the model.
        SetupError: The model's key is missing, or can't be one.
    """
    given, task = spec.enhance, spec.task
    if not given.level and (wanted or task == TASK):
        given = replace(given, level="format")
    if not given.level and task == "transcribe" and given.glossary and glossary_of(given.glossary).rules:
        given = replace(given, level="rules")
    if given.level and task not in ("transcribe", TASK) and not wanted:
        raise UsageError(f"{option('enhance').label} enhances transcripts, and task (--task) {task} makes none")
    if given.level == "rules" and not given.glossary:
        raise UsageError(f"{option('enhance').label}: rules are those of a glossary: give {option('glossary').label}")
    for name in ("remove_fillers", "off_peak", "summary", "enhance_model", "enhance_base_url"):
        if getattr(given, name.removeprefix("enhance_")) and not given.asks:
            raise UsageError(f"{option(name).label} is of use with {option('enhance').label} only: give that too")
    if not given.asks:
        return replace(spec, enhance=given)
    model = given.model or default_text_model(given.base_url)
    if not model:
        raise UsageError(f"{option('enhance_base_url').label} needs the name of a model: give --enhance-model")
    spec = replace(spec, enhance=replace(given, model=model))
    provider = enhancer_of(spec)
    _expect_key(provider, spec)
    _expect_price(provider, spec)
    if not given.off_peak:
        return spec
    price, hours = provider.prices.price_of(model), sorted(provider.prices.peak_hours.hours)
    if price is None or price.peak is None or not hours:
        raise UsageError(f"{option('off_peak').label}: {model} isn't known to cost less at some hours: leave it out")
    return replace(spec, enhance=replace(spec.enhance, peak_hours=tuple(hours)))


def plan_enhancement(
    entry: InputFile, spec: BatchSpec, *, of: BatchTask | None, depends_on: Sequence[str] = ()
) -> BatchTask:
    """The task that enhances one transcript.

    Args:
        entry: The recording, or the transcript's file.
        spec: The batch, with its text model.
        of: The task that transcribes the recording; None where the transcript is a file.
        depends_on: Ids of tasks that must succeed first.
    """
    asked = spec.enhance
    file_id = entry.file_id if of is None else of.file_id
    rules = glossary_of(asked.glossary)
    how = {
        "level": asked.level,
        "formats": sorted(spec.formats),
        **({"model": asked.model, "base_url": asked.base_url} if asked.asks else {}),
        **({"glossary": rules.fingerprint} if rules else {}),
        **({"remove_fillers": True} if asked.remove_fillers else {}),
        **({"summary": True} if asked.summary else {}),
    }
    identity = [entry.size_bytes, entry.mtime_ns, entry.inode] if of is None else []
    told = [TASK, how, identity, entry.output, entry.reference, entry.reference_mtime_ns]
    return ENHANCE.task(
        EnhanceData(
            transcript_path=entry.file if of is None else "",
            name=entry.name,
            output=entry.output,
            level=asked.level,
            language=(entry.language or spec.language) if of is None else None,
            reference=entry.reference,
            size_bytes=entry.size_bytes // (ENHANCEMENTS_PER_TRANSCRIPTION if of is not None else 1),
            off_peak=bool(asked.peak_hours),
            missing=entry.missing and of is None,
            extra=dict(entry.extra or {}) if of is None else {},
        ),
        id=f"{TASK}-{file_id}",
        file_id=file_id,
        fingerprint=fingerprint_of(told, of="" if of is None else of.fingerprint),
        priority=entry.priority,
        max_retries=spec.retry.max_retries,
        depends_on=depends_on,
        provider=enhancer_of(spec).name if asked.asks else TASK,
    )


def enhancer_of(spec: BatchSpec) -> TextProvider:
    """The provider of the batch's text model.

    Raises:
        UsageError: Nobody has it.
    """
    return text_provider_of(spec.enhance.model, base_url=spec.enhance.base_url)


def text_shutdowns(spec: BatchSpec) -> Iterable[str]:
    """What to know of a text model whose days are numbered."""
    if not spec.enhance.asks:
        return
    model, base_url = spec.enhance.model, spec.enhance.base_url
    shutdown = enhancer_of(spec).shutdown(model, base_url=base_url)
    if shutdown is not None:
        comes = f"--enhance-model {shutdown.successor} comes after it"
        yield f"WARNING: {model} is announced to end on {shutdown.on}: {comes}"


def _expect_key(provider: TextProvider, spec: BatchSpec) -> None:
    if provider.key_variable and find_key(provider.key_variable) is None and not spec.enhance.base_url:
        raise SetupError(
            f"{option('enhance').label} asks {spec.enhance.model}, which needs a key: set {provider.key_variable}, or "
            f"{provider.key_variable}_FILE to a file that holds it; a server of your own needs --enhance-base-url and "
            "--enhance-model",
            code=FailureCode.NO_KEY,
        )


def _expect_price(provider: TextProvider, spec: BatchSpec) -> None:
    """A cap can't be kept with a model whose price nobody knows; on this machine and its network none is charged."""
    model, base_url = spec.enhance.model, spec.enhance.base_url
    if spec.max_cost_usd is None or _is_near(base_url):
        return
    if provider.request_usd(model, "", 1, base_url=base_url, limited=True) is None:
        raise UsageError(
            f"--max-cost can't be kept: what {model} costs isn't known here: leave it out, or take another "
            "--enhance-model"
        )


def _is_near(base_url: str) -> bool:
    """Whether a server is on this machine, or in a private network."""
    host = (urlsplit(base_url).hostname or "") if base_url else ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or (bool(host) and "." not in host)
