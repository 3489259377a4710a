"""What calls become tasks, and what has to be settled before a batch begins: its model, provider, keys and names."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from trax_ray.codes import FailureCode
from trax_ray.core.ids import file_id_of
from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import BatchTask, ResourceRequest, TaskType
from trax_ray.errors import SetupError, UsageError
from trax_ray.plan.inputs import Found, describe
from trax_ray.plan.tasks import InputFile, plan_call, plan_file
from trax_ray.providers.base import SpeechProvider
from trax_ray.providers.keys import Secret, find_key
from trax_ray.providers.registry import provider_of, providers
from trax_ray.store.files import ensure_folder, read_bytes, shown, write_atomically
from trax_ray.store.layout import Layout, plan_names

__all__ = ["TaskPlanner", "find_keys", "known_outputs", "pin_model", "pinned_model", "provider_for", "resolve_model"]

SERVER_DEFAULT = "whisper-1"
"""The model that a server is asked for when none is named: the name that servers of this protocol know."""

REQUIRED_KEYS: Mapping[TaskType, str] = {
    TaskType.TRANSCRIBE: "file_path",
    TaskType.PREPROCESS: "file_path",
    TaskType.ENHANCE: "transcript_path",
    TaskType.YOUTUBE: "url",
    TaskType.DOWNLOAD: "url",
}

_IO_BOUND = ResourceRequest(num_cpus=0.25, memory_mb=256)


class TaskPlanner:
    """Makes tasks of calls, one after the other: the same calls give the same tasks in the next run.

    Attributes:
        known: Ids of the tasks on which others may depend; whoever takes a task adds it.
    """

    def __init__(self) -> None:
        self.known: set[str] = set()
        self._repeats: Counter[str] = Counter()
        self._names: dict[str, str] | None = None

    def check(self, task_type: TaskType, data: Mapping[str, Any], depends_on: tuple[str, ...]) -> None:
        """Refuse a call that makes no sense.

        Raises:
            UsageError: `data` lacks its key, or a dependency is unknown.
        """
        required = REQUIRED_KEYS[task_type]
        if not data.get(required):
            raise UsageError(f"a task of the kind {task_type.value} needs data[{required!r}], got {sorted(data)}")
        missing = [name for name in depends_on if name not in self.known]
        if missing:
            raise UsageError(f"depends_on names {missing[0]}, which has not been added to this batch")

    def plan(
        self,
        spec: BatchSpec,
        task_type: TaskType,
        data: Mapping[str, Any],
        priority: int,
        depends_on: tuple[str, ...],
    ) -> BatchTask:
        """What becomes of one call that was checked.

        Args:
            spec: The batch; with its model, where it is to be transcribed.
            task_type: The kind.
            data: As of `BatchProcessor.add_task`.
            priority: Lower runs first.
            depends_on: Ids of tasks that must succeed first.

        Raises:
            UsageError: The priority is negative, or the model can't do what is asked for.
            SetupError: The provider's key is missing, or can't be one.
        """
        if task_type is TaskType.TRANSCRIBE:
            return self._plan_transcription(spec, data, priority, depends_on)
        call = f"{task_type.value} {sorted(data.items(), key=str)}"
        self._repeats[call] += 1
        found = _found(data["file_path"]) if task_type is TaskType.PREPROCESS else None
        entry = _described(found, priority) if found else None
        task = plan_call(
            task_type,
            data,
            priority=priority,
            depends_on=depends_on,
            repeat=self._repeats[call] - 1,
            spec=spec,
            provider=task_type.value,
            resources=ResourceRequest() if entry else _IO_BOUND,
            identity=[entry.size_bytes, entry.mtime_ns, entry.inode] if entry else None,
        )
        return self._with_audio_output(spec, task, entry) if entry else task

    def _with_audio_output(self, spec: BatchSpec, task: BatchTask, entry: InputFile) -> BatchTask:
        """Name the file that a PREPROCESS task writes, by its own id: it keeps the name in the next run."""
        output = self._output_of(spec, task.id, PurePath("audio", PurePath(entry.path).name))
        more = {"file_path": entry.path, "name": entry.name, "output": output}
        return replace(task, data={**task.data, **more})

    def _output_of(self, spec: BatchSpec, each_id: str, relative: PurePath) -> str:
        """The name of an output: the one of an earlier run, else one that nothing else has."""
        if self._names is None:
            self._names = known_outputs(spec.output_dir)
        self._names |= plan_names([(each_id, relative)], self._names)
        return self._names[each_id]

    def _plan_transcription(
        self, spec: BatchSpec, data: Mapping[str, Any], priority: int, depends_on: tuple[str, ...]
    ) -> BatchTask:
        found = _found(data["file_path"])
        self._repeats[found.path] += 1
        repeat = self._repeats[found.path] - 1
        relative = found.relative.with_stem(f"{found.relative.stem}-{repeat + 1}") if repeat else found.relative
        entry = replace(
            _described(found, priority),
            output=self._output_of(spec, file_id_of(found.path, repeat), relative),
            language=data.get("language"),
            reference=str(data.get("reference") or ""),
            model=data.get("model"),
            prompt=data.get("prompt"),
        )
        model = entry.model or spec.model
        provider = provider_for(model, spec, language=entry.language, prompt=entry.prompt)
        return plan_file(entry, spec, provider.name, provider.resources(model), depends_on=depends_on, repeat=repeat)


def _found(path: Any) -> Found:
    """A recording that was named, links as they were."""
    absolute = os.path.abspath(os.fspath(path))  # noqa: PTH100 - Path.resolve follows links
    return Found(absolute, PurePath(PurePath(absolute).name))


def _described(found: Found, priority: int) -> InputFile:
    return describe([found], taken={}, priority=priority)[0]


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
    """
    path = Layout(Path(output_dir)).model_pin
    if not path.exists():
        return None
    model = json.loads(read_bytes(path)).get("model")
    return str(model) if model else None


def pin_model(output_dir: str, model: str) -> None:
    """Note in the output folder which model its transcripts come from."""
    path = Layout(Path(output_dir)).model_pin
    ensure_folder(path.parent)
    write_atomically(path, json.dumps({"model": model}).encode())


def known_outputs(output_dir: str) -> dict[str, str]:
    """The names of outputs that earlier runs gave, by file id; of converted audio that is kept, by task id.

    Raises:
        JournalError: The journal there is damaged.
    """
    from trax_ray.store.epochs import read_chain

    names: dict[str, str] = {}
    for record in read_chain(Layout(Path(output_dir)).journal):
        if record.get("event") in ("TasksAdded", "Revived"):
            for task in record["tasks"]:
                if task.get("parent"):
                    continue
                data = task.get("data", {})
                converts = task["task_type"] == TaskType.PREPROCESS.value
                if data.get("output"):
                    names[task["id"] if converts else task.get("file_id") or task["id"]] = data["output"]
                audio = str(data.get("audio", ""))  # version 0.1's
                if converts and audio.startswith("audio/"):
                    names[task["id"]] = audio.removesuffix(".flac")
    return names
