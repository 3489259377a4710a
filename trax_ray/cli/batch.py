"""`trax-ray batch`: from options to an exit code."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import signal
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from trax_ray.arrow import spare_pandas
from trax_ray.cli import display, outlook, parent, recorded, summary
from trax_ray.cli.exits import EXIT_FAILED, EXIT_SETUP, EXIT_STOPPED, say_error, write_report_anyway
from trax_ray.cli.notices import Notices, standing_of_idle
from trax_ray.core.policy.schedule import parse_start
from trax_ray.core.progress import BatchProgress
from trax_ray.core.spec import BatchSpec
from trax_ray.core.state.waiting import EVERYTHING
from trax_ray.errors import BusyError, SetupError, TraxRayError, UsageError
from trax_ray.heads import notes
from trax_ray.plan import look
from trax_ray.plan.inputs import STDIN
from trax_ray.plan.manifest import read_bytes_of
from trax_ray.plan.options import DEFAULT_OUTPUT_DIR, OPTIONS, make_spec
from trax_ray.plan.plan import Plan
from trax_ray.plan.planner import make_plan
from trax_ray.processor import BatchProcessor
from trax_ray.report.result import BatchResult
from trax_ray.store.explaining import shown
from trax_ray.store.files import ensure_folder
from trax_ray.store.layout import Layout
from trax_ray.store.lease import expect_nobody
from trax_ray.store.uris import ObjectPath, is_object_uri
from trax_ray.watching import make_watch

__all__ = ["Command", "continue_batch", "drive", "exit_code", "run", "say_the_way_out"]


@dataclass(frozen=True)
class Command:
    """A `trax-ray batch` command, as it was given.

    Args:
        inputs: Each INPUT.
        lists: Each `--input-list`.
        options: Values of the options that Python has too, by their names there; what isn't there has its default.
        dry_run: Only show what would be done.
        quiet: Show nothing but errors.
        as_json: Show the dry run for programs.
        again: The command that continues.
    """

    inputs: tuple[str, ...]
    lists: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    dry_run: bool = False
    quiet: bool = False
    again: str = ""
    as_json: bool = False

    @property
    def output_dir(self) -> str:
        """Its output folder, as it was given."""
        return str(self.options.get("output_dir") or DEFAULT_OUTPUT_DIR)

    @classmethod
    def of(cls, values: Mapping[str, Any], again: str = "") -> Command:
        """The command of values by the options' keys: the command line's, or those that were recorded."""
        return cls(
            inputs=tuple(values["inputs"] or ()),
            lists=tuple(values["lists"] or ()),
            options={each.name: values[each.key] for each in OPTIONS if each.name and each.key in values},
            dry_run=values["dry_run"],
            quiet=values["quiet"],
            again=again,
            as_json=bool(values.get("json")),
        )


def run(command: Command, stdin: bytes | None = None) -> int:
    """Do what a command says.

    Args:
        command: The command.
        stdin: What standard input had to say when the command was first given; None reads it where it is named.

    Returns:
        The exit code.

    Raises:
        UsageError: A bad value, or nothing to do.
        SetupError: Something is missing.
    """
    spec = replace(make_spec(command.options), log_level=_log_level())
    command, stdin = _pipe_as_stdin(command, stdin)
    command = replace(command, again=_again(command, spec.output_dir))
    source = _StandardInput(stdin)
    options = command.options
    watch = None if command.dry_run else make_watch(options)
    here = not (options.get("address") or os.environ.get("RAY_ADDRESS"))
    ray: dict[str, Any] = {"address": options.get("address"), "lean": bool(options.get("lean"))}
    if watch is not None:
        processor = BatchProcessor(spec, watch=watch, **ray)
        processor.watch(command.inputs, command.lists, read_stdin=source.read)
        plan = Plan(processor.spec, (), ())
    else:
        plan = make_plan(command.inputs, spec, lists=command.lists, read_stdin=source.read)
    view = outlook.outlook_of(
        plan, here=here, within_s=look.DRY_RUN_S if command.dry_run else look.RUN_S, quiet=command.quiet
    )
    plan = view.plan
    if command.dry_run:
        (outlook.show_json if command.as_json else outlook.show_plan)(view)
        return 0
    layout = Layout.of(spec.output_dir)
    ensure_folder(layout.private)
    if watch is None:
        processor = BatchProcessor(plan.spec, **ray)
        processor.take(plan)
        processor.predicted = view.finish
    # A coordinator outlives a killed driver for a while, and holds the folder.
    notes.reap_orphans()
    expect_nobody(layout.lock)
    expect_nobody(layout.starting)
    # Of two batches that race for a folder the one that gets it is the one that is continued there.
    processor.on_held = lambda: recorded.record(layout, _to_record(command, plan.spec, source.content))
    parent.tell(again=command.again, output_dir=str(layout.output_dir))
    if not command.quiet and watch is None:
        outlook.announce(view)
    elif not command.quiet and watch is not None:
        outlook.announce_watch(view, [*command.inputs, *command.lists], watch.settle_s)
    told: list[BatchResult] = []

    def show(result: BatchResult) -> None:
        """Once, and as soon as it is there: to leave Ray takes a second or two."""
        if told:
            return
        told.append(result)
        if not command.quiet:
            summary.show_result(result, processor.watched if watch else [task.file_id for task in plan.tasks])
            sys.stdout.flush()
        say_the_way_out(result, command.again)
        if parent.present() and notes.started_here():
            # All is committed. A head of our own needn't be left, which takes a second or two: it is ended.
            notes.end_own_head()
            notes.forget_head()
            parent.leave(exit_code(result))

    limit = view.capacity.reason if view.capacity else ""
    running = drive(
        processor, output_dir=command.output_dir, again=command.again, quiet=command.quiet, show=show, limit=limit
    )
    try:
        result = asyncio.run(running)
    except (BusyError, UsageError):
        raise
    except TraxRayError as error:
        say_error(error)
        write_report_anyway(str(layout.output_dir))
        _say_what_continues(command.again)
        return EXIT_SETUP
    show(result)
    return exit_code(result)


def _log_level() -> str:
    """What workers are to log: what somebody here takes."""
    return "DEBUG" if logging.getLogger("trax_ray").isEnabledFor(logging.DEBUG) else "WARNING"


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
    layout = Layout.of(output_dir)
    kept = recorded.read(layout)
    command = _recorded(kept.options, layout)
    with _working_folder(kept.working_folder, command, layout):
        return run(command, kept.stdin)


def exit_code(result: BatchResult) -> int:
    """0 all succeeded, 1 some failed for good, 3 parked or no report, 130 stopped; the highest that applies."""
    if result.reason == "stopped":
        return EXIT_STOPPED
    if result.reason == "parked" or result.report_error:
        return EXIT_SETUP
    return EXIT_FAILED if result.failure_count else 0


async def drive(
    processor: BatchProcessor,
    *,
    output_dir: str,
    again: str,
    quiet: bool = False,
    show: Callable[[BatchResult], None] | None = None,
    limit: str = "",
) -> BatchResult:
    """Run a batch to its end: its progress on stderr, and what signals are to do.

    Args:
        processor: It has its tasks.
        output_dir: Its output folder, as people call it.
        again: The command that continues; a second signal says it.
        quiet: Show no progress.
        show: Called with the result as soon as it is known, before Ray is left.
        limit: Why fewer attempts run than were asked for, as far as that was said already.
    """
    loop = asyncio.get_running_loop()
    loop.run_in_executor(None, spare_pandas)
    stopped_at = 0.0
    screen = display.NoDisplay() if quiet else display.make_display()
    ended = False

    def end(result: BatchResult) -> None:
        nonlocal ended
        ended = True
        screen.end()
        if show is not None:
            show(result)

    processor.on_result = end

    def stop() -> None:
        nonlocal stopped_at
        if ended:  # nothing is left to stop, and what is shown holds
            return
        if not processor.at_work:
            # There is nothing to wait for, and Ray's start can't be interrupted.
            screen.end()
            _end_at_once(again)
        if not stopped_at:
            stopped_at = loop.time()
            processor.interrupt()
            screen.note("stopping; what was finished is kept, and a second signal stops at once")
        elif loop.time() - stopped_at > SAME_SIGNAL_S:
            _end_at_once(again)

    for number in parent.SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            loop.add_signal_handler(number, stop)
    notices = Notices(output_dir, limit)

    idle = ""

    def update(progress: BatchProgress) -> None:
        nonlocal idle
        # A batch that watches and has nothing to do says so once, and not every five seconds for days.
        before, idle = idle, standing_of_idle(progress)
        if idle and idle == before:
            return
        for text in notices.of(progress):
            screen.note(text)
        screen.update(progress)

    with screen:
        return await processor.start(progress_callback=update)


SAME_SIGNAL_S = 0.2
"""Whoever signals all processes of a batch signals this one twice: directly, and by its parent, which passes it on."""


def _end_at_once(again: str) -> None:
    """Leave as after a `kill -9`, which loses nothing either, but take the Ray that was started here along."""
    _say_what_continues(again)
    notes.end_own_head()
    parent.leave(EXIT_STOPPED)


class _StandardInput:
    """Standard input, read once at most; `content` is None until it is."""

    def __init__(self, content: bytes | None) -> None:
        self.content = content

    def read(self) -> bytes:
        if self.content is None:
            self.content = sys.stdin.buffer.read()
        return self.content


def _pipe_as_stdin(command: Command, stdin: bytes | None) -> tuple[Command, bytes | None]:
    """The same with a list from a pipe, such as a shell's `<(find ...)`, as one on standard input, which is recorded.

    Where there are several, or standard input is read besides, they stay what they are, and can't be continued.
    """
    pipes = [name for name in command.lists if name != STDIN and _is_pipe(name)]
    if len(pipes) != 1 or STDIN in (*command.inputs, *command.lists):
        return command, stdin
    lists = tuple(STDIN if name == pipes[0] else name for name in command.lists)
    return replace(command, lists=lists), read_bytes_of(pipes[0])


def _is_pipe(name: str) -> bool:
    try:
        mode = Path(name).stat().st_mode
    except (OSError, ValueError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _to_record(command: Command, spec: BatchSpec, stdin: bytes | None) -> recorded.Recorded:
    """What continues the batch: 22:00 stays the 22:00 that was meant."""
    given = dict(command.options)
    if given.get("start_at") is not None:
        given["start_at"] = datetime.fromtimestamp(spec.start_at, timezone.utc).isoformat(timespec="seconds")
    values = {each.key: given.get(each.name, each.default) for each in OPTIONS if each.name and each.flags}
    values |= {
        "inputs": command.inputs,
        "lists": command.lists,
        "dry_run": command.dry_run,
        "quiet": command.quiet,
    }
    return recorded.Recorded(values, os.getcwd(), stdin)  # noqa: PTH109 - as text, with surrogate escapes


def _recorded(values: Mapping[str, Any], layout: Layout) -> Command:
    """The command that `_to_record` took apart, in this version or another one.

    What a later version has besides is left out, and what an earlier one lacks has its default. Version 0.1 recorded
    empty texts for what wasn't given.
    """
    given = {key: value for key, value in values.items() if value != ""}
    try:
        command = Command.of({"lists": (), "dry_run": False, "quiet": False, **given}, _resume(layout.output_dir))
    except (KeyError, TypeError) as error:
        raise SetupError(
            f"the command recorded in {shown(layout.output_dir)} lacks options ({error}): give the `trax-ray batch` "
            "command again"
        ) from error
    return replace(command, options={**command.options, "output_dir": str(layout.output_dir)})


@contextmanager
def _working_folder(folder: str, command: Command, layout: Layout) -> Iterator[None]:
    """Work in another folder for a while. Where it is gone that matters only if something is relative to it."""
    before = os.getcwd()  # noqa: PTH109 - as above
    try:
        os.chdir(folder)
    except OSError as error:
        if not _stands_alone(command):
            raise SetupError(
                f"the batch in {shown(layout.output_dir)} was started in {shown(folder)}, and that can't be entered: "
                f"{error.strerror}: bring it back, or give the `trax-ray batch` command again"
            ) from error
    try:
        yield
    finally:
        os.chdir(before)


def _stands_alone(command: Command) -> bool:
    """Whether the command means the same wherever, whenever and by whomever it is given."""
    given = command.options
    names = [*command.inputs, *command.lists, command.output_dir, given.get("reference"), given.get("glossary")]
    model, moment = given.get("model"), given.get("start_at")
    if model and os.sep in model:
        names.append(model)
    # The next 22:00 is another one a day later.
    fixed = moment is None or parse_start(moment, 0.0, timezone.utc) == parse_start(moment, 1e9, timezone.utc)
    return fixed and all(is_object_uri(name) or Path(name).is_absolute() for name in names if name is not None)


def _again(command: Command, output_dir: str) -> str:
    """The command that continues, from wherever it is given: the same again, where that is one."""
    return command.again if _stands_alone(command) else _resume(output_dir)


def _resume(output_dir: str | ObjectPath | Path) -> str:
    return shlex.join(["trax-ray", "resume", shown(output_dir)])


def say_the_way_out(result: BatchResult, again: str) -> None:
    """On stderr: what is parked and why, what is missing, and the command that continues where there is more to do."""
    for provider, reason in result.parked.items():
        print(f"trax-ray: {'the batch' if provider == EVERYTHING else provider} is parked: {reason}", file=sys.stderr)
    if result.report_error:
        print(f"trax-ray: the report couldn't be written: {result.report_error}", file=sys.stderr)
    if result.reason != "complete" or result.report_error:
        _say_what_continues(again)


def _say_what_continues(again: str) -> None:
    print(f"trax-ray: this continues: {again}", file=sys.stderr, flush=True)
