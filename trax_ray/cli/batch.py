"""`trax-ray batch`: from options to an exit code."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timezone
from pathlib import Path, PurePath
from typing import Any

from trax_ray import heads
from trax_ray.cli import display, recorded
from trax_ray.core.ids import file_id_of
from trax_ray.core.policy.schedule import parse_start
from trax_ray.core.progress import BatchProgress
from trax_ray.core.spec import OUTPUT_FORMATS, BatchSpec, Limits, RetryPolicy
from trax_ray.core.task import BatchTask, ResourceRequest, TaskType
from trax_ray.errors import SetupError, UsageError
from trax_ray.plan.disk import bytes_needed, format_bytes
from trax_ray.plan.inputs import STDIN, Found, Scan, describe, scan
from trax_ray.plan.manifest import read_bytes_of
from trax_ray.plan.planner import known_outputs, provider_for, resolve_model
from trax_ray.plan.tasks import MAX_PRIORITY, InputFile, plan_chain, plan_file
from trax_ray.processor import BatchProcessor
from trax_ray.providers.choice import notice
from trax_ray.providers.keys import check_base_url
from trax_ray.providers.registry import is_service, provider_of
from trax_ray.report.result import BatchResult
from trax_ray.report.text import one_line
from trax_ray.store.files import ensure_folder, shown
from trax_ray.store.layout import Layout, plan_names
from trax_ray.store.lease import expect_nobody

__all__ = ["Options", "continue_batch", "exit_code", "run"]

EXIT_FAILED = 1
EXIT_SETUP = 3
EXIT_STOPPED = 130


@dataclass(frozen=True)
class Options:
    """The command line's values, as they were given; `again` is the command that continues."""

    inputs: tuple[str, ...]
    lists: tuple[str, ...]
    workers: int
    progress_interval: float
    memory_limit: int
    cpu_limit: int
    model: str | None
    base_url: str | None
    language: str | None
    chunk_size: int
    output_dir: str
    formats: tuple[str, ...]
    reference: str | None
    max_retries: int
    priority: int
    initial_prompt: str | None
    word_timestamps: bool
    enhance: bool
    address: str | None
    lean: bool
    dry_run: bool
    quiet: bool
    again: str
    task_timeout: float | None = None
    start_at: str | None = None
    only_between: str = ""
    preprocess: bool = False
    keep_audio: bool = False
    max_cost: float | None = None
    vad: str = "normal"


def run(options: Options, stdin: bytes | None = None) -> int:
    """Do what the options say.

    Args:
        options: The command line's values.
        stdin: What standard input had to say when the command was first given; None reads it where it is named.

    Returns:
        The exit code.

    Raises:
        UsageError: A bad value, or nothing to do.
        SetupError: Something is missing.
    """
    if not 0 <= options.priority <= MAX_PRIORITY:
        raise UsageError(f"expected a --priority from 0 (first) to {MAX_PRIORITY}, got {options.priority}")
    if not options.inputs and not options.lists:
        raise UsageError(
            "nothing to transcribe: give an INPUT (a file, a folder, a manifest, or - for a list on stdin)"
        )
    if options.enhance:
        raise SetupError("--enhance isn't in this version of trax_ray yet: leave it out")
    if options.keep_audio and not options.preprocess:
        raise UsageError("--keep-audio keeps what --preprocess converts: give both of them, or neither")
    output_dir = Path(options.output_dir).absolute()
    options, stdin = _pipe_as_stdin(options, stdin)
    options = replace(options, again=_again(options, output_dir))
    reference = _reference_folder(options.reference, output_dir)
    spec = _spec(options, output_dir)
    if options.base_url and not is_service(spec.model, spec.base_url):
        raise UsageError(
            f"--base-url is the address of a server, and the model {spec.model} runs on this machine: "
            "leave one of them out"
        )
    source = _StandardInput(stdin)
    found = _scan(options, output_dir, source)
    entries = describe(
        found.found, taken=known_outputs(spec.output_dir), reference_dir=reference, priority=options.priority
    )
    tasks = _plan(found.found, entries, spec)
    said = "" if options.model else notice(spec.model)
    if options.dry_run:
        if said:
            print(said)
        transcriptions = [task for task in tasks if task.task_type is TaskType.TRANSCRIBE]
        display.show_plan(transcriptions, spec, _notes(found, spec))
        print("\n".join([_disk(tasks, spec), *_shutdowns(tasks, spec)]))
        return 0
    layout = Layout(output_dir)
    ensure_folder(layout.private)
    processor = BatchProcessor(spec, address=options.address, lean=options.lean)
    processor.feed(tasks, requests={task.resources for task in tasks})
    # A coordinator outlives a killed driver for a while, and holds the folder.
    heads.reap_orphans()
    expect_nobody(layout.lock)
    expect_nobody(layout.starting)
    recorded.record(layout, _command(options, spec, source.content))
    if not options.quiet:
        if said:
            display.say(said)
        display.say(f"{len(entries)} recordings, model {spec.model}, output {shown(output_dir)}{_notes(found, spec)}")
        display.say(_disk(tasks, spec))
        for line in _shutdowns(tasks, spec):
            display.say(line)
    told: list[BatchResult] = []

    def show(result: BatchResult) -> None:
        """Once, and as soon as it is there: to leave Ray takes a second or two."""
        if told:
            return
        told.append(result)
        if not options.quiet:
            display.show_result(result, [task.file_id for task in tasks])
            sys.stdout.flush()
        _say_the_way_out(result, options.again)

    result = asyncio.run(_run(processor, options, show))
    show(result)
    return exit_code(result)


def continue_batch(output_dir: str) -> int:
    """Run the command that a batch was last started with again: its options, working folder and standard input.

    Args:
        output_dir: The batch's output folder; it may have been moved since.

    Returns:
        The exit code.

    Raises:
        UsageError: As `run`.
        SetupError: No command is recorded there, it can't be used any more, or as `run`.
    """
    layout = Layout(Path(output_dir))
    command = recorded.read(layout)
    options = replace(
        _options(command.options, layout), output_dir=str(layout.output_dir), again=_resume(layout.output_dir)
    )
    with _working_folder(command.working_folder, options, layout):
        return run(options, command.stdin)


def exit_code(result: BatchResult) -> int:
    """0 all succeeded, 1 some failed for good, 3 parked or no report, 130 stopped; the highest that applies."""
    if result.reason == "stopped":
        return EXIT_STOPPED
    if result.reason == "parked" or result.report_error:
        return EXIT_SETUP
    return EXIT_FAILED if result.failure_count else 0


async def _run(processor: BatchProcessor, options: Options, show: Callable[[BatchResult], None]) -> BatchResult:
    loop = asyncio.get_running_loop()
    screen = display.NoDisplay() if options.quiet else display.make_display()
    ended = False

    def end(result: BatchResult) -> None:
        nonlocal ended
        ended = True
        screen.end()
        show(result)

    processor.on_result = end

    def stop() -> None:
        if ended:  # nothing is left to stop, and what is shown holds
            return
        screen.note("stopping; what was finished is kept, and a second signal stops at once")
        processor.interrupt()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, _end_at_once, options.again)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    notice = ""

    def update(progress: BatchProgress) -> None:
        nonlocal notice
        before, notice = notice, _why_nothing_starts(progress, options.output_dir)
        # What is left of a wait isn't worth a line each time.
        if notice and _DIGITS.sub("", notice) != _DIGITS.sub("", before):
            screen.note(notice)
        screen.update(progress)

    with screen:
        return await processor.start(progress_callback=update)


_DIGITS = re.compile(r"[0-9]+")


def _why_nothing_starts(progress: BatchProgress, output_dir: str) -> str:
    if progress.paused:
        return f"paused: {shlex.join(['trax-ray', 'resume', output_dir])} goes on"
    if progress.waits_until is not None:
        return f"nothing starts before {datetime.fromtimestamp(progress.waits_until).astimezone():%Y-%m-%d %H:%M %Z}"
    if progress.services and progress.queued_tasks and not progress.active_workers:
        return "; ".join(f"{provider}: {reason}" for provider, reason in progress.services.items())
    return ""


def _end_at_once(again: str) -> None:
    """Leave as after a `kill -9`, which loses nothing either, but take the Ray that was started here along."""
    print(f"trax-ray: this continues: {again}", file=sys.stderr, flush=True)
    heads.end_own_head()
    os._exit(EXIT_STOPPED)


class _StandardInput:
    """Standard input, read once at most; `content` is None until it is."""

    def __init__(self, content: bytes | None) -> None:
        self.content = content

    def read(self) -> bytes:
        if self.content is None:
            self.content = sys.stdin.buffer.read()
        return self.content


def _pipe_as_stdin(options: Options, stdin: bytes | None) -> tuple[Options, bytes | None]:
    """The same with a list from a pipe, such as a shell's `<(find ...)`, as one on standard input, which is recorded.

    Where there are several, or standard input is read besides, they stay what they are, and can't be continued.
    """
    pipes = [name for name in options.lists if name != STDIN and _is_pipe(name)]
    if len(pipes) != 1 or STDIN in (*options.inputs, *options.lists):
        return options, stdin
    lists = tuple(STDIN if name == pipes[0] else name for name in options.lists)
    return replace(options, lists=lists), read_bytes_of(pipes[0])


def _is_pipe(name: str) -> bool:
    try:
        mode = Path(name).stat().st_mode
    except (OSError, ValueError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _command(options: Options, spec: BatchSpec, stdin: bytes | None) -> recorded.Recorded:
    """What continues the batch: 22:00 stays the 22:00 that was meant."""
    values = asdict(options)
    del values["again"]
    if options.start_at is not None:
        values["start_at"] = datetime.fromtimestamp(spec.start_at, timezone.utc).isoformat(timespec="seconds")
    return recorded.Recorded(values, os.getcwd(), stdin)  # noqa: PTH109 - as text, with surrogate escapes


def _options(values: Mapping[str, Any], layout: Layout) -> Options:
    """The options that `_command` took apart; those of a later version are left out."""
    known = {each.name for each in fields(Options)}
    own: dict[str, Any] = {"again": ""}
    for name in known & set(values):
        own[name] = tuple(values[name]) if isinstance(values[name], list) else values[name]
    try:
        return Options(**own)
    except TypeError as error:
        raise SetupError(
            f"the command recorded in {shown(layout.output_dir)} lacks options ({error}): give the `trax-ray batch` "
            "command again"
        ) from error


@contextmanager
def _working_folder(folder: str, options: Options, layout: Layout) -> Iterator[None]:
    """Work in another folder for a while. Where it is gone that matters only if something is relative to it."""
    before = os.getcwd()  # noqa: PTH109 - as above
    try:
        os.chdir(folder)
    except OSError as error:
        if not _stands_alone(options):
            raise SetupError(
                f"the batch in {shown(layout.output_dir)} was started in {shown(folder)}, and that can't be entered: "
                f"{error.strerror}: bring it back, or give the `trax-ray batch` command again"
            ) from error
    try:
        yield
    finally:
        os.chdir(before)


def _stands_alone(options: Options) -> bool:
    """Whether the command means the same wherever, whenever and by whomever it is given."""
    names = [*options.inputs, *options.lists, options.output_dir, options.reference]
    if options.model and os.sep in options.model:
        names.append(options.model)
    moment = options.start_at
    # The next 22:00 is another one a day later.
    fixed = moment is None or parse_start(moment, 0.0, timezone.utc) == parse_start(moment, 1e9, timezone.utc)
    return fixed and all(Path(name).is_absolute() for name in names if name is not None)


def _again(options: Options, output_dir: Path) -> str:
    """The command that continues, from wherever it is given: the same again, where that is one."""
    return options.again if _stands_alone(options) else _resume(output_dir)


def _resume(output_dir: Path) -> str:
    return shlex.join(["trax-ray", "resume", shown(output_dir)])


def _spec(options: Options, output_dir: Path) -> BatchSpec:
    base_url = check_base_url(options.base_url) if options.base_url else ""
    return BatchSpec(
        output_dir=str(output_dir),
        model=resolve_model(options.model, str(output_dir), base_url=base_url, language=options.language),
        language=options.language,
        chunk_size_s=options.chunk_size,
        formats=_formats(options.formats),
        initial_prompt=options.initial_prompt,
        word_timestamps=options.word_timestamps,
        progress_interval_s=options.progress_interval,
        limits=Limits(
            max_workers=options.workers,
            memory_limit_mb=options.memory_limit,
            cpu_limit_percent=options.cpu_limit,
        ),
        retry=RetryPolicy(max_retries=options.max_retries),
        task_timeout_s=options.task_timeout,
        start_at=0.0 if options.start_at is None else parse_start(options.start_at, time.time(), None),
        only_between=options.only_between,
        preprocess=options.preprocess,
        keep_audio=options.keep_audio,
        base_url=base_url,
        max_cost_usd=options.max_cost,
        vad=options.vad,
    )


def _formats(given: Sequence[str]) -> tuple[str, ...]:
    names = [name.strip() for value in given for name in value.split(",")]
    return OUTPUT_FORMATS if "all" in names else tuple(names)


def _reference_folder(given: str | None, output_dir: Path) -> Path | None:
    if given is None:
        return None
    folder = Path(given).absolute()
    if not folder.is_dir():
        raise UsageError(f"--reference {shown(given)} is no folder")
    if folder == output_dir or output_dir in folder.parents:
        raise UsageError(
            f"--reference {shown(given)} lies in the output folder: transcripts that we wrote can't be references"
        )
    return folder


def _scan(options: Options, output_dir: Path, source: _StandardInput) -> Scan:
    given = (*options.inputs, *options.lists)
    found = scan(options.inputs, output_dir, lists=options.lists, read_stdin=source.read)
    if not found.present:
        reasons = [f"{path}: {reason}" for path, reason in found.unreadable.items()]
        reasons += [f"{shown(entry.path)}: no such file" for entry in found.found if entry.missing]
        if found.ignored or not reasons:
            reasons.append(f"no recordings in {', '.join(map(shown, given))}")
        raise UsageError(f"nothing to transcribe: {'; '.join(reasons[:3])}")
    return found


def _plan(found: Sequence[Found], entries: Sequence[InputFile], spec: BatchSpec) -> list[BatchTask]:
    """The tasks of the recordings, those that run first first: the queue in memory holds only so many.

    Within a priority those of one model follow each other, so that it is loaded seldom.

    Raises:
        UsageError: A model that nobody has, or a language that it doesn't speak; names the manifest's row.
        SetupError: A model whose key is missing.
    """
    known: dict[tuple[str, str | None, bool], tuple[str, ResourceRequest]] = {}
    models: dict[str, int] = {}
    audio = _audio_names(entries, spec) if spec.preprocess else {}
    ranked: list[tuple[int, int, tuple[BatchTask, ...]]] = []
    for given, entry in zip(found, entries, strict=True):
        model = entry.model or spec.model
        asked = model, entry.language or spec.language, bool(entry.prompt or spec.initial_prompt)
        if asked not in known:
            blamed = given.row if entry.model or entry.language or entry.prompt else None
            known[asked] = _provider(model, spec, entry, blamed.where if blamed else "")
        rank = models.setdefault(model, len(models))
        if spec.preprocess:
            steps: tuple[BatchTask, ...] = plan_chain(entry, spec, *known[asked], audio=audio[entry.path])
        else:
            steps = (plan_file(entry, spec, *known[asked]),)
        ranked.append((entry.priority, rank, steps))
    ranked.sort(key=lambda each: each[:2])
    return [task for _, _, steps in ranked for task in steps]


def _audio_names(entries: Sequence[InputFile], spec: BatchSpec) -> dict[str, str]:
    """Where converted audio that is kept goes: paths below the output folder, without suffix, by the recording's."""
    layout = Layout(Path(spec.output_dir))
    ids = {entry.path: file_id_of(entry.path) for entry in entries}
    if not spec.keep_audio:
        return dict.fromkeys(ids, "")
    # By the id of the task that makes it: audio that was asked for from Python keeps its name and isn't overwritten.
    wanted = [
        (f"{TaskType.PREPROCESS.value}-{ids[entry.path]}", PurePath("audio", f"{entry.output}.flac"))
        for entry in entries
    ]
    names = plan_names(wanted, known_outputs(str(layout.output_dir)))
    return {entry.path: names[each] for entry, (each, _) in zip(entries, wanted, strict=True)}


def _provider(model: str, spec: BatchSpec, entry: InputFile, where: str) -> tuple[str, ResourceRequest]:
    """Name of the provider of a model, and what an attempt asks of a node."""
    try:
        provider = provider_for(model, spec, language=entry.language, prompt=entry.prompt)
    except (UsageError, SetupError) as error:
        if not where:
            raise
        raise type(error)(f"{where}: {error.message}", code=error.code) from error
    return provider.name, provider.resources(model)


def _notes(found: Scan, spec: BatchSpec) -> str:
    """What one should know of the inputs before the start."""
    notes = ["converted to 16 kHz mono FLAC first"] if spec.preprocess else []
    if found.ignored:
        notes.append(f"{found.ignored} other files ignored")
    missing = [entry.path for entry in found.found if entry.missing]
    if missing:
        notes.append(f"{len(missing)} not there, such as {shown(missing[0])}")
    notes += [f"can't read {path}: {reason}" for path, reason in found.unreadable.items()]
    return one_line("".join(f"; {note}" for note in notes))


def _disk(tasks: Sequence[BatchTask], spec: BatchSpec) -> str:
    """About how much room the batch will take, and how much there is; what has its transcripts counts no more."""
    layout = Layout(Path(spec.output_dir))
    # os.path.exists, because Path.exists raises where a folder may not be entered: who writes there will say so.
    left = [task for task in tasks if not _has_outputs(task, layout, spec)]
    need = bytes_needed(left, spec)
    line = f"disk: about {format_bytes(need)} needed"
    there = next(folder for folder in (layout.output_dir, *layout.output_dir.parents) if os.path.exists(folder))  # noqa: PTH110
    try:
        free = shutil.disk_usage(there).free
    except OSError:
        return line
    if free >= need:
        return f"{line}, {format_bytes(free)} free"
    return (
        f"{line}, {format_bytes(free)} free: WARNING: that isn't enough: make room or give another --output-dir "
        "(a full disk stops the batch; what is finished stays)"
    )


def _shutdowns(tasks: Sequence[BatchTask], spec: BatchSpec) -> Iterator[str]:
    """What to know of models whose days are numbered. On a server of one's own names are only names."""
    for model in dict.fromkeys(task.data.get("model") or spec.model for task in tasks):
        shutdown = provider_of(model, base_url=spec.base_url).shutdown(model, base_url=spec.base_url)
        if shutdown is not None:
            yield f"WARNING: {model} is announced to end on {shutdown.on}: --model {shutdown.successor} comes after it"


def _has_outputs(task: BatchTask, layout: Layout, spec: BatchSpec) -> bool:
    paths = [layout.transcript(task.data["output"], suffix) for suffix in spec.formats if "output" in task.data]
    return bool(paths) and all(map(os.path.exists, paths))


def _say_the_way_out(result: BatchResult, again: str) -> None:
    for provider, reason in result.parked.items():
        print(f"trax-ray: {provider} is parked: {reason}", file=sys.stderr)
    if result.report_error:
        print(f"trax-ray: the report couldn't be written: {result.report_error}", file=sys.stderr)
    if result.reason != "complete" or result.report_error:
        print(f"trax-ray: this continues: {again}", file=sys.stderr)
