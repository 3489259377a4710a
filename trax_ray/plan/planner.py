"""Inputs and options become a `Plan`, whichever way they were given.

The command line (and its `--dry-run`), `BatchProcessor.add` and `BatchProcessor.add_task` plan here, and nowhere else.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from trax_ray.core.ids import file_id_of
from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import BatchTask, TaskType
from trax_ray.errors import UsageError
from trax_ray.kinds.table import asked_of_a_node, needed_field
from trax_ray.media.transcript_reader import TRANSCRIPT_SUFFIXES
from trax_ray.plan.captions import with_captions
from trax_ray.plan.enhancing import plan_enhancement, text_shutdowns, with_text_model
from trax_ray.plan.expansion import Lists, expanded
from trax_ray.plan.inputs import MEDIA_SUFFIXES, Found, Scan, describe, read_stdin, scan
from trax_ray.plan.models import resolve_model
from trax_ray.plan.past import Past, outputs_of, read_past
from trax_ray.plan.plan import Call, Plan, ignored_files
from trax_ray.plan.steps import (
    audio_outputs,
    in_order,
    metadata_outputs,
    served_by,
    shutdowns,
    steps_of,
    unused_variables,
)
from trax_ray.plan.tasks import InputFile, is_fetched, plan_call, provider_of_download
from trax_ray.plan.transcripts import transcripts_of
from trax_ray.providers.choice import notice
from trax_ray.providers.languages import read_language
from trax_ray.providers.registry import is_service
from trax_ray.store.explaining import shown
from trax_ray.store.layout import plan_names
from trax_ray.store.objects import stats_of
from trax_ray.store.uris import ObjectPath, is_object_uri
from trax_ray.web.addresses import checked_url, name_of_url

__all__ = ["Planner", "make_plan", "with_model"]


def make_plan(
    inputs: Sequence[str],
    spec: BatchSpec,
    *,
    lists: Sequence[str] = (),
    read_stdin: Callable[[], bytes] = read_stdin,
) -> Plan:
    """Plan a batch over inputs; writes nothing.

    Args:
        inputs: What INPUT takes on the command line.
        spec: The batch; where its model is empty, the plan's spec has the one that is at hand.
        lists: Files with one path per line, or manifests.
        read_stdin: Gives standard input, where `-` is among them; called once at most.

    Raises:
        UsageError: Nothing to transcribe, an input or a manifest that makes no sense, or a model that nobody has.
        SetupError: A model, a key or a package is missing; or a URL.
        JournalError: The journal in the output folder is damaged.
    """
    return Planner(spec.output_dir).inputs(spec, inputs, lists=lists, read_stdin=read_stdin)


def with_model(spec: BatchSpec) -> BatchSpec:
    """The spec with the model that was named, else with what is at hand.

    Raises:
        UsageError: It has the address of a server, and its model runs on this machine.
        SetupError: No model is named, and none is at hand or another one made what is in the output folder.
    """
    model = resolve_model(spec.model or None, spec.output_dir, base_url=spec.base_url, language=spec.language)
    if spec.base_url and not is_service(model, spec.base_url):
        raise UsageError(
            f"--base-url is the address of a server, and the model {model} runs on this machine: leave one of them out"
        )
    return replace(spec, model=model)


class Planner:
    """Makes tasks of inputs and calls over one output folder: the same ones give the same tasks in the next run.

    Args:
        output_dir: The output folder; its journal is read when it is first needed.

    Attributes:
        known: Ids of the tasks on which others may depend: those that were taken.
        added: Ids of those that were taken since `begin_run`.
    """

    def __init__(self, output_dir: str) -> None:
        self.known: set[str] = set()
        self.added: set[str] = set()
        self._output_dir = output_dir
        self._lists = Lists()
        self._past: Past | None = None
        self._given: dict[str, str] = {}
        self._repeats: Counter[str] = Counter()
        self._transcribed: dict[str, BatchTask] = {}
        self._fetched: dict[str, str] = {}  # URLs, by the ids of the tasks that were called for to fetch them

    @property
    def past(self) -> Past:
        """What earlier runs left in the output folder.

        Raises:
            JournalError: The journal there is damaged.
        """
        if self._past is None:
            self._past = read_past(self._output_dir)
        return self._past

    def take(self, plan: Plan) -> None:
        """Go on after a plan, of this or of another planner for the same output folder: its tasks were taken."""
        if self._past is None:
            self._past = plan.past
        self._note(plan.tasks)
        for entry in plan.recordings:
            self._repeats[entry.path] = max(1, self._repeats[entry.path])

    def take_call(self, call: Call) -> None:
        """Go on after a call: it was taken, and the same one again is another one."""
        self._note(call.steps)
        self._repeats[call.key] += 1
        self._fetched |= {task.id: task.data["url"] for task in call.steps if task.task_type is TaskType.DOWNLOAD}

    def begin_run(self) -> None:
        """What comes now is for another run: the same calls and inputs are the same ones again, as for other processes.

        Tasks that were taken may still be depended on, and keep their names.
        """
        self.added.clear()
        self._repeats.clear()

    def _note(self, tasks: Iterable[BatchTask]) -> None:
        tasks = list(tasks)
        ids = {task.id for task in tasks}
        self._given |= outputs_of(tasks)
        self._transcribed |= {task.id: task for task in tasks if task.task_type is TaskType.TRANSCRIBE}
        self.known |= ids
        self.added |= ids

    def _taken(self) -> dict[str, str]:
        """The names of outputs that are given, as of `Past.outputs`, by earlier runs and so far."""
        return {**self.past.outputs, **self._given}

    # Inputs

    def inputs(
        self,
        spec: BatchSpec,
        inputs: Sequence[str],
        *,
        lists: Sequence[str] = (),
        read_stdin: Callable[[], bytes] = read_stdin,
        found: Scan | None = None,
    ) -> Plan:
        """Plan inputs, as `make_plan` does. A recording that was planned before is the same one; see `take`.

        Args:
            found: What of them is to be planned, where somebody has looked already; then nothing is nothing wrong.
        """
        if not inputs and not lists:
            raise UsageError(
                f"nothing to {spec.task}: give an INPUT (a file, a folder, a manifest, or - for a list on stdin)"
            )
        named = bool(spec.model) or spec.task != TaskType.TRANSCRIBE.value
        if spec.task == TaskType.TRANSCRIBE.value:
            spec = with_model(spec)
        spec = with_text_model(spec)
        enhances = spec.task == TaskType.ENHANCE.value
        reference = _reference_folder(spec)
        watched = found is not None
        suffixes = frozenset(TRANSCRIPT_SUFFIXES) if enhances else MEDIA_SUFFIXES
        found = found or scan(inputs, spec.output_dir, lists=lists, read_stdin=read_stdin, suffixes=suffixes)
        found = transcripts_of(found) if enhances else found
        web = expanded(found.found, spec, self.past, self._lists)
        ids = self._ids(web.found)
        ended = {path for path, file_id in ids.items() if self.past.is_transcribed(file_id)}
        if not found.present and not ended and not watched:
            raise UsageError(f"nothing to {spec.task}: {'; '.join(_reasons(found, (*inputs, *lists))[:3])}")
        files = [entry.path for entry in found.found if not is_fetched(entry.path)]
        if spec.task in (TaskType.DOWNLOAD.value, TaskType.YOUTUBE.value) and files:
            raise UsageError(f"{shown(files[0])} is a file: task (--task) {spec.task} fetches URLs, leave it out")
        taken = self._taken()
        stored = is_object_uri(spec.output_dir)
        entries = describe(
            web.found, taken=taken, ids=ids, reference_dir=reference, priority=spec.priority, stored=stored
        )
        entries = [with_captions(entry, spec) for entry in entries]
        audio = audio_outputs({entry.file_id: entry.output for entry in entries}, spec, taken)
        metadata = metadata_outputs({entry.file_id: entry.output for entry in entries if entry.url}, taken)
        tasks = in_order(web.found, entries, spec, audio, metadata)
        missing = tuple(entry.path for entry in entries if entry.missing)
        return Plan(
            spec=spec,
            tasks=tuple(tasks),
            recordings=tuple(entries),
            missing=missing,
            archived=tuple(path for path in missing if path in ended),
            ignored=found.ignored,
            ignored_suffixes=found.ignored_suffixes,
            unreadable=found.unreadable,
            web_notes=web.notes,
            notice="" if named else notice(spec.model),
            warnings=(*shutdowns(tasks, spec), *text_shutdowns(spec), *unused_variables(tasks, spec)),
            past=self.past,
        )

    def _ids(self, found: Sequence[Found]) -> dict[str, str]:
        """The id of each recording, by its path."""
        ids = self.past.ids((each.path, str(each.relative)) for each in found if not each.key)
        return ids | {each.path: self.past.id_of(each.path, each.key) for each in found if each.key}

    # Calls

    def check(self, task_type: TaskType, data: Mapping[str, Any], depends_on: tuple[str, ...]) -> None:
        """Refuse a call that makes no sense.

        Raises:
            UsageError: `data` lacks its key, or a dependency is unknown.
        """
        required = needed_field(task_type)
        made = {"file_path": {*self._fetched}, "transcript_path": {*self._transcribed}}.get(required, set())
        if not data.get(required) and made.isdisjoint(depends_on):
            raise UsageError(f"a task of the kind {task_type.value} needs data[{required!r}], got {sorted(data)}")
        missing = [name for name in depends_on if name not in self.known]
        if missing:
            raise UsageError(f"depends_on names {missing[0]}, which has not been added to this batch")

    def call(
        self,
        spec: BatchSpec,
        task_type: TaskType,
        data: Mapping[str, Any],
        priority: int,
        depends_on: tuple[str, ...],
    ) -> Call:
        """What becomes of one call that was checked; see `take_call`.

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
            return self._transcription(spec, data, priority, depends_on)
        if task_type is TaskType.ENHANCE:
            return self._enhancement(spec, data, priority, depends_on)
        of_web = task_type in (TaskType.DOWNLOAD, TaskType.YOUTUBE)
        if of_web:
            data = {**data, "url": checked_url(str(data["url"]))}
        call = f"{task_type.value} {sorted(data.items(), key=str)}"
        found = self._recording(data, depends_on) if task_type is TaskType.PREPROCESS else None
        entry = _described(found, priority) if found else None
        task = plan_call(
            task_type,
            data,
            priority=priority,
            depends_on=depends_on,
            repeat=self._repeats[call],
            spec=spec,
            provider=provider_of_download(data["url"]) if of_web else task_type.value,
            resources=asked_of_a_node(task_type),
            identity=[entry.size_bytes, entry.mtime_ns, entry.inode] if entry else None,
            changed_ns=entry.changed_ns if entry else 0,
        )
        if of_web:
            task = self._with_output_of_web(task)
        return Call(call, (self._with_audio_output(task, entry) if entry else task,))

    def _with_audio_output(self, task: BatchTask, entry: InputFile) -> BatchTask:
        """Name the file that a PREPROCESS task writes, by its own id: it keeps the name in the next run."""
        output = self._output_of(task.id, PurePath("audio", PurePath(entry.path).name))
        more: dict[str, Any] = {"file_path": entry.file, "name": entry.name, "output": output}
        more |= {"missing": True} if entry.missing else {}
        return replace(task, data={**task.data, **more})

    def _with_output_of_web(self, task: BatchTask) -> BatchTask:
        """Name the file that a task which was called for leaves, the media or what is said of them: it was wanted."""
        name = name_of_url(task.data["url"], MEDIA_SUFFIXES)
        folder = "media" if task.task_type is TaskType.DOWNLOAD else "metadata"
        more = {"name": name.removesuffix(".url"), "output": self._output_of(task.id, PurePath(folder, name))}
        return replace(task, data={**task.data, **more})

    def _output_of(self, each_id: str, relative: PurePath) -> str:
        """The name of an output: the one of an earlier run, else one that nothing else has."""
        stored = is_object_uri(self._output_dir)
        return plan_names([(each_id, relative)], self._taken(), stored=stored)[each_id]

    def _transcription(
        self, spec: BatchSpec, data: Mapping[str, Any], priority: int, depends_on: tuple[str, ...]
    ) -> Call:
        found = self._recording(data, depends_on)
        repeat = self._repeats[found.path]
        (file_id,) = self.past.ids([(found.path, str(found.relative))]).values()
        file_id = file_id_of(found.path, repeat) if repeat else file_id
        relative = found.relative.with_stem(f"{found.relative.stem}-{repeat + 1}") if repeat else found.relative
        entry = replace(
            _described(found, priority),
            file_id=file_id,
            output=self._output_of(file_id, relative),
            language=_language(data.get("language")),
            reference=str(data.get("reference") or ""),
            model=data.get("model"),
            prompt=data.get("prompt"),
        )
        spec = replace(spec, task=TaskType.TRANSCRIBE.value)
        audio = audio_outputs({file_id: entry.output}, spec, self._taken())
        served, kept = served_by(entry, spec), audio.get(file_id, "")
        steps = steps_of(entry, spec, served, kept, depends_on=depends_on, repeat=repeat, fetched=True)
        return Call(found.path, steps)

    def _enhancement(
        self, spec: BatchSpec, data: Mapping[str, Any], priority: int, depends_on: tuple[str, ...]
    ) -> Call:
        """The transcript of a call: the file that it names, else what a task that it depends on makes."""
        path = data.get("transcript_path")
        call = f"{TaskType.ENHANCE.value} {sorted(data.items(), key=str)} {depends_on if not path else ''}"
        repeat = self._repeats[call]
        needed = None if path else next(self._transcribed[name] for name in depends_on if name in self._transcribed)
        found = _found(path) if path else Found("", PurePath(str(needed.data.get("name") or "") if needed else ""))
        own = file_id_of(call, repeat)
        entry = replace(
            _described(found, priority) if path else InputFile(path="", name=str(found.relative), output=""),
            priority=priority,
            file_id=own,
            language=_language(data.get("language")),
            reference=str(data.get("reference") or ""),
        )
        task_id = f"{TaskType.ENHANCE.value}-{own}"
        beside = needed.data["output"] if needed is not None and not repeat else ""
        output = beside or self._output_of(own, found.relative)
        task = plan_enhancement(replace(entry, output=output), spec, of=needed, depends_on=depends_on)
        # A call is an input of its own, whosever transcript it enhances.
        return Call(call, (replace(task, id=task_id, file_id=own),))

    def _recording(self, data: Mapping[str, Any], depends_on: tuple[str, ...]) -> Found:
        """The recording of a call: the file that it names, else what a task that it depends on fetches."""
        if data.get("file_path"):
            return _found(data["file_path"])
        url = next(self._fetched[name] for name in depends_on if name in self._fetched)
        return Found(url, PurePath(name_of_url(url, MEDIA_SUFFIXES)))


def _reference_folder(spec: BatchSpec) -> Path | None:
    if not spec.reference_dir:
        return None
    folder = Path(spec.reference_dir)
    real = Path(os.path.realpath(folder))
    stored = is_object_uri(spec.output_dir)
    if not stored and Path(os.path.realpath(spec.output_dir)) in (real, *real.parents):
        raise UsageError(
            f"--reference {shown(folder)} lies in the output folder: transcripts that we wrote can't be references"
        )
    return folder


def _reasons(found: Scan, given: Iterable[str]) -> list[str]:
    """Why there is nothing to transcribe."""
    reasons = [f"{path}: {reason}" for path, reason in found.unreadable.items()]
    reasons += [f"{shown(entry.path)}: no such file" for entry in found.found if entry.missing]
    if found.ignored or not reasons:
        ignored = f" ({ignored_files(found.ignored, found.ignored_suffixes)})" if found.ignored else ""
        reasons.append(f"no recordings in {', '.join(map(shown, given))}{ignored}")
    return reasons


def _language(given: Any) -> str | None:
    if given is None:
        return None
    try:
        return read_language(str(given))
    except UsageError as error:
        raise UsageError(f"data['language']: {error.message}") from None


def _found(path: Any) -> Found:
    """A recording that was named, links as they were."""
    if is_object_uri(str(path)):
        stored = ObjectPath.of(str(path))
        stat = stats_of([stored])[stored]
        return Found(str(stored), PurePath(stored.name or stored.bucket), missing=stat is None, stat=stat)
    absolute = os.path.abspath(os.fspath(path))  # noqa: PTH100 - Path.resolve follows links
    return Found(absolute, PurePath(PurePath(absolute).name))


def _described(found: Found, priority: int) -> InputFile:
    return describe([found], taken={}, priority=priority)[0]
