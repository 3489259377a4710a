"""The steps of a recording: which tasks they are, who does them, and in which order recordings are begun."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePath

from trax_ray.core.policy.prediction import length_steps
from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import BatchTask, ResourceRequest, TaskType
from trax_ray.errors import SetupError, UsageError
from trax_ray.kinds.download import DOWNLOAD
from trax_ray.kinds.enhance import ENHANCE
from trax_ray.kinds.preprocess import PREPROCESS
from trax_ray.kinds.transcribe import TRANSCRIBE
from trax_ray.kinds.youtube import YOUTUBE
from trax_ray.plan.enhancing import plan_enhancement
from trax_ray.plan.inputs import Found
from trax_ray.plan.lengths import length_of
from trax_ray.plan.models import provider_for
from trax_ray.plan.tasks import InputFile, plan_conversion, plan_download, plan_file, plan_look
from trax_ray.providers.registry import provider_of
from trax_ray.store.layout import plan_names

__all__ = [
    "audio_outputs",
    "in_order",
    "longest_first",
    "metadata_outputs",
    "served_by",
    "shutdowns",
    "steps_of",
    "unused_variables",
]


def audio_outputs(outputs: Mapping[str, str], spec: BatchSpec, taken: Mapping[str, str]) -> dict[str, str]:
    """Where converted audio that is kept goes: paths below the output folder, without suffix, by file id.

    Args:
        outputs: The names of the transcripts, by file id.
        spec: The batch; where nothing is converted, or kept, there are none.
        taken: The names that outputs had before, as of `Past.outputs`.
    """
    if not (spec.preprocess and spec.keep_audio) and spec.task != PREPROCESS.name:
        return {}
    # By the id of the task that makes it: audio that was asked for from Python keeps its name and isn't overwritten.
    makers = {each: f"{PREPROCESS.name}-{each}" for each in outputs}
    wanted = [(makers[each], PurePath("audio", f"{output}.flac")) for each, output in outputs.items()]
    names = plan_names(wanted, taken)
    return {each: names[maker] for each, maker in makers.items()}


def metadata_outputs(outputs: Mapping[str, str], taken: Mapping[str, str]) -> dict[str, str]:
    """Where what sites say of recordings goes: paths below the output folder, without suffix, by file id.

    Args:
        outputs: The names of the transcripts of recordings of the web, by file id.
        taken: As of `audio_outputs`.
    """
    makers = {each: f"{YOUTUBE.name}-{each}" for each in outputs}
    names = plan_names(
        [(makers[each], PurePath("metadata", f"{output}.json")) for each, output in outputs.items()], taken
    )
    return {each: names[maker] for each, maker in makers.items()}


_Served = tuple[str, ResourceRequest]
"""Name of the provider of a model, and what an attempt asks of a node."""

NOBODY: _Served = ("", ResourceRequest())
"""Who transcribes, where nothing is transcribed."""


def in_order(
    found: Sequence[Found],
    entries: Sequence[InputFile],
    spec: BatchSpec,
    audio: Mapping[str, str],
    metadata: Mapping[str, str],
) -> list[BatchTask]:
    """The tasks of the recordings, those that run first first: the queue in memory is bounded.

    Within a priority those of one model follow each other, so that it is loaded seldom, and among those the longest
    come first, so that no long one is left over in the end.

    Raises:
        UsageError: A model that nobody has, or a language that it doesn't speak; names the manifest's row.
        SetupError: A model whose key is missing.
    """
    known: dict[tuple[str, str | None, bool], _Served] = {}
    recordings: list[tuple[BatchTask, ...]] = []
    for given, entry in zip(found, entries, strict=True):
        model = entry.model or spec.model
        asked = model, entry.language or spec.language, bool(entry.prompt or spec.initial_prompt)
        if spec.task == TRANSCRIBE.name and asked not in known:
            blamed = given.row if entry.model or entry.language or entry.prompt else None
            known[asked] = served_by(entry, spec, blamed.where if blamed else "")
        more = audio.get(entry.file_id, ""), metadata.get(entry.file_id, "")
        recordings.append(steps_of(entry, spec, known.get(asked, NOBODY), *more))
    return longest_first(recordings, spec, length_of)


def longest_first(
    recordings: Iterable[Sequence[BatchTask]], spec: BatchSpec, audio_s: Callable[[BatchTask], float | None]
) -> list[BatchTask]:
    """The tasks of recordings in the order in which they run: by priority, by model, and the longest first.

    Those of about the same length, or of unknown length, stay as they are.

    Args:
        recordings: The steps of each.
        spec: The batch.
        audio_s: How long the recording of a task is, seconds; None where nobody knows.
    """
    models: dict[str, int] = {}
    ranked: list[tuple[int, int, int, Sequence[BatchTask]]] = []
    for steps in recordings:
        last = steps[-1]
        rank = models.setdefault(str(last.data.get("model") or spec.model), len(models))
        ranked.append((last.priority, rank, -length_steps(audio_s(last) or 0.0), steps))
    ranked.sort(key=lambda each: each[:3])
    return [task for *_, steps in ranked for task in steps]


def served_by(entry: InputFile, spec: BatchSpec, where: str = "") -> _Served:
    """Who transcribes a recording; `where` is what is blamed where nobody can."""
    model = entry.model or spec.model
    try:
        provider = provider_for(model, spec, language=entry.language, prompt=entry.prompt)
    except (UsageError, SetupError) as error:
        if not where:
            raise
        raise type(error)(f"{where}: {error.message}", code=error.code) from error
    return provider.name, provider.resources(model)


def steps_of(
    entry: InputFile,
    spec: BatchSpec,
    served: _Served,
    audio: str,
    metadata: str = "",
    *,
    depends_on: tuple[str, ...] = (),
    repeat: int = 0,
    fetched: bool = False,
) -> tuple[BatchTask, ...]:
    """The tasks of one recording, in the order in which they run.

    Args:
        entry: The recording.
        spec: The batch.
        served: Who transcribes it.
        audio: Where converted audio goes.
        metadata: Where what its site says goes.
        depends_on: Ids of tasks that must succeed first.
        repeat: How often the same recording was added before.
        fetched: Whether one of those fetches it.
    """
    if spec.task == ENHANCE.name:
        return (plan_enhancement(entry, spec, of=None, depends_on=depends_on),)
    steps: list[BatchTask] = []
    said: tuple[str, ...] = ()
    if entry.url and not fetched and _is_asked_about(entry, spec):
        steps.append(plan_look(entry, spec, metadata, depends_on=depends_on, repeat=repeat))
        depends_on = said = (steps[-1].id,)
    if spec.task == YOUTUBE.name:
        return tuple(steps)
    if entry.url and not fetched:
        media = f"media/{entry.output}" if spec.keep_media or spec.task == DOWNLOAD.name else ""
        steps.append(plan_download(entry, spec, media, depends_on=depends_on, repeat=repeat))
        depends_on = (*said, steps[-1].id)
    if spec.task == DOWNLOAD.name:
        return tuple(steps)
    if (spec.preprocess and not entry.captions) or spec.task == PREPROCESS.name:
        steps.append(plan_conversion(entry, spec, audio, depends_on=depends_on, repeat=repeat))
        # What was fetched for it is what both read.
        depends_on = (*(depends_on if entry.url else ()), steps[-1].id)
    if spec.task == PREPROCESS.name:
        return tuple(steps)
    steps.append(plan_file(entry, spec, *served, depends_on=depends_on, repeat=repeat))
    if spec.enhance.level:
        steps.append(plan_enhancement(entry, spec, of=steps[-1], depends_on=(steps[-1].id,)))
    return tuple(steps)


def _is_asked_about(entry: InputFile, spec: BatchSpec) -> bool:
    """Whether there is more to be known of a recording than its file says; a plain URL of a file has no site."""
    about = entry.entry
    return spec.task == YOUTUBE.name or entry.listing or about is None or not about.media or bool(about.title)


def shutdowns(tasks: Sequence[BatchTask], spec: BatchSpec) -> Iterable[str]:
    """What to know of models whose days are numbered. On a server of one's own names are only names."""
    for model in _models(tasks, spec):
        shutdown = provider_of(model, base_url=spec.base_url).shutdown(model, base_url=spec.base_url)
        if shutdown is not None:
            yield f"WARNING: {model} is announced to end on {shutdown.on}: --model {shutdown.successor} comes after it"


def unused_variables(tasks: Sequence[BatchTask], spec: BatchSpec) -> Iterable[str]:
    """Variables of the environment that other programs obey and this one doesn't."""
    asked = {provider_of(model, base_url=spec.base_url) for model in _models(tasks, spec)}
    found = sorted({name for provider in asked for name in provider.unused_variables if os.environ.get(name)})
    if found:
        yield f"{' and '.join(found)} {'is' if len(found) == 1 else 'are'} set and not sent: the key decides who pays"


def _models(tasks: Sequence[BatchTask], spec: BatchSpec) -> dict[str, None]:
    """The speech models of tasks, each once, in their order."""
    spoken = (task for task in tasks if task.task_type is TaskType.TRANSCRIBE)
    return dict.fromkeys(str(task.data.get("model") or spec.model) for task in spoken)
