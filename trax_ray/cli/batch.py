"""`trax-ray batch`: from options to an exit code."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from trax_ray import heads
from trax_ray.cli import display
from trax_ray.core.plan import MAX_PRIORITY, InputFile, plan_file
from trax_ray.core.progress import BatchProgress, BatchResult
from trax_ray.core.spec import OUTPUT_FORMATS, BatchSpec, Limits, RetryPolicy
from trax_ray.core.task import BatchTask, ResourceRequest
from trax_ray.errors import SetupError, UsageError
from trax_ray.processor import BatchProcessor, known_outputs, resolve_model
from trax_ray.providers.registry import provider_of
from trax_ray.report.text import one_line
from trax_ray.store.files import ensure_folder, shown
from trax_ray.store.inputs import Found, Scan, describe, scan
from trax_ray.store.layout import Layout

__all__ = ["Options", "exit_code", "run"]

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


def run(options: Options) -> int:
    """Do what the options say.

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
    output_dir = Path(options.output_dir).absolute()
    reference = _reference_folder(options.reference, output_dir)
    spec = _spec(options, output_dir)
    if options.base_url and provider_of(spec.model).key_variable is None:
        raise UsageError(
            f"--base-url is the address of a server, and the model {spec.model} runs on this machine: "
            "leave one of them out"
        )
    found = _scan(options, output_dir)
    entries = describe(
        found.found, taken=known_outputs(spec.output_dir), reference_dir=reference, priority=options.priority
    )
    tasks = _plan(found.found, entries, spec)
    if options.dry_run:
        display.show_plan(tasks, spec, _notes(found))
        return 0
    ensure_folder(Layout(output_dir).private)
    processor = BatchProcessor(spec, address=options.address, lean=options.lean)
    processor.feed(tasks, requests={task.resources for task in tasks})
    if not options.quiet:
        display.say(f"{len(tasks)} recordings, model {spec.model}, output {shown(output_dir)}{_notes(found)}")
    result = asyncio.run(_run(processor, options))
    code = exit_code(result)
    if not options.quiet:
        display.show_result(result, [task.file_id for task in tasks])
    _say_the_way_out(result, options.again)
    return code


def exit_code(result: BatchResult) -> int:
    """0 all succeeded, 1 some failed for good, 3 parked or no report, 130 stopped; the highest that applies."""
    if result.reason == "stopped":
        return EXIT_STOPPED
    if result.reason == "parked" or result.report_error:
        return EXIT_SETUP
    return EXIT_FAILED if result.failure_count else 0


async def _run(processor: BatchProcessor, options: Options) -> BatchResult:
    loop = asyncio.get_running_loop()
    screen = display.NoDisplay() if options.quiet else display.make_display()

    def stop() -> None:
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
        if notice and notice != before:
            screen.note(notice)
        screen.update(progress)

    with screen:
        return await processor.start(progress_callback=update)


def _why_nothing_starts(progress: BatchProgress, output_dir: str) -> str:
    if progress.paused:
        return f"paused: {shlex.join(['trax-ray', 'resume', output_dir])} goes on"
    if progress.waits_until is not None:
        return f"nothing starts before {datetime.fromtimestamp(progress.waits_until).astimezone():%Y-%m-%d %H:%M %Z}"
    return ""


def _end_at_once(again: str) -> None:
    """Leave as after a `kill -9`, which loses nothing either, but take the Ray that was started here along."""
    print(f"trax-ray: this continues: {again}", file=sys.stderr, flush=True)
    heads.end_own_head()
    os._exit(EXIT_STOPPED)


def _spec(options: Options, output_dir: Path) -> BatchSpec:
    return BatchSpec(
        output_dir=str(output_dir),
        model=resolve_model(options.model, str(output_dir)),
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


def _scan(options: Options, output_dir: Path) -> Scan:
    given = (*options.inputs, *options.lists)
    found = scan(options.inputs, output_dir, lists=options.lists)
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
        SetupError: A model that this version can't run.
    """
    known: dict[tuple[str, str | None], tuple[str, ResourceRequest]] = {}
    models: dict[str, int] = {}
    tasks = []
    for given, entry in zip(found, entries, strict=True):
        model, language = entry.model or spec.model, entry.language or spec.language
        if (model, language) not in known:
            blamed = given.row if entry.model or entry.language else None
            known[model, language] = _provider(model, language, blamed.where if blamed else "")
        models.setdefault(model, len(models))
        tasks.append(plan_file(entry, spec, *known[model, language]))
    return sorted(tasks, key=lambda task: (task.priority, models[task.data.get("model") or spec.model]))


def _provider(model: str, language: str | None, where: str) -> tuple[str, ResourceRequest]:
    """Name of the provider of a model, and what an attempt asks of a node."""
    try:
        provider = provider_of(model)
        provider.check(language=language)
    except (UsageError, SetupError) as error:
        if not where:
            raise
        raise type(error)(f"{where}: {error.message}", code=error.code) from error
    return provider.name, provider.resources(model)


def _notes(found: Scan) -> str:
    """What one should know of the inputs before the start."""
    notes = []
    if found.ignored:
        notes.append(f"{found.ignored} other files ignored")
    missing = [entry.path for entry in found.found if entry.missing]
    if missing:
        notes.append(f"{len(missing)} not there, such as {shown(missing[0])}")
    notes += [f"can't read {path}: {reason}" for path, reason in found.unreadable.items()]
    return one_line("".join(f"; {note}" for note in notes))


def _say_the_way_out(result: BatchResult, again: str) -> None:
    for provider, reason in result.parked.items():
        print(f"trax-ray: {provider} is parked: {reason}", file=sys.stderr)
    if result.report_error:
        print(f"trax-ray: the report couldn't be written: {result.report_error}", file=sys.stderr)
    if result.reason != "complete" or result.report_error:
        print(f"trax-ray: this continues: {again}", file=sys.stderr)
