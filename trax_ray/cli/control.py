"""`trax-ray status`, `watch`, `pause`, `resume`, `stop`, `retry-failed`, `clean`, `up` and `down`. None loads Ray."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from trax_ray.cli import display
from trax_ray.cli.exits import EXIT_STOPPED
from trax_ray.control import Answer, BatchControl, BatchStatus, Outcome, Phase, no_batch
from trax_ray.core.progress import format_duration, format_usd
from trax_ray.errors import UsageError
from trax_ray.heads import notes, standing
from trax_ray.plan.disk import format_bytes
from trax_ray.report.text import one_line
from trax_ray.store.cleaning import clean, clean_everything
from trax_ray.store.epochs import has_journal
from trax_ray.store.explaining import shown
from trax_ray.store.layout import Layout
from trax_ray.store.looking import exists
from trax_ray.store.uris import is_object_uri

__all__ = [
    "clean_up",
    "end_head",
    "pause",
    "resume",
    "retry_failed",
    "show_status",
    "start_head",
    "stop",
    "watch",
]

SILENT_S = 30.0
"""A running batch says how it stands every second; where there are no file locks a dead one may look alive."""

GONE_S = 5.0
"""A coordinator that died is replaced within this time; a batch whose coordinator stays away has ended."""

ENDED = (Phase.COMPLETE, Phase.STOPPED, Phase.PARKED)


# Looking


def show_status(output_dir: str, *, as_json: bool) -> None:
    """Print how a batch stands."""
    status = BatchControl(output_dir).status()
    if as_json:
        print(json.dumps(status.to_dict(), indent=1))
        return
    for line in _lines(status):
        print(one_line(line))


def _lines(status: BatchStatus) -> Iterator[str]:
    yield f"{status.name}: {_headline(status)}"
    if status.at_work:
        since = f" since {_moment(status.since)}" if status.since else ""
        # Of one that has just begun the figures are older than it is, or there are none yet.
        heard_at = max(status.updated_at, status.since or 0.0)
        silent_s = time.time() - heard_at if heard_at else 0.0
        silent = f", last heard of {format_duration(silent_s)} ago" if silent_s > SILENT_S else ""
        yield f"held by: {status.holder}, process {status.pid} on {status.host}{since}{silent}"
    yield (
        f"inputs: {status.succeeded} of {status.total} succeeded, {status.failed} failed, "
        f"{status.cancelled} cancelled, {status.queued} waiting"
    )
    if status.at_work:
        # Not "of": what waits for a service, or takes a part of a core, runs beside those.
        slots = "" if status.slots is None else f", room for {status.slots} that take a core each"
        reason = f" ({status.limits_reason})" if status.limits_reason else ""
        yield f"attempts: {status.active} running{slots}{reason}"
        for provider, why in status.services.items():
            yield f"service: {provider}: {why}"
        if status.saves_until is not None:
            yield f"enhancement: waits for the provider's cheap hours, until {_moment(status.saves_until)}"
    if status.memory_mb is not None and status.cpu_percent is not None:
        yield f"machine: {status.memory_mb:.1f} MB of the batch's own, CPU {status.cpu_percent:.1f}%"
    remaining = status.estimated_remaining_s
    left = f", {'--' if remaining is None else format_duration(remaining)} to go" if status.at_work else ""
    low, high = status.remaining_low_s, status.remaining_high_s
    if left and low is not None and high is not None:
        left += f" ({format_duration(low)} to {format_duration(high)})"
    yield f"time: {format_duration(status.elapsed_s)}{left}"
    if status.cost_usd is not None:
        cap = "" if status.max_cost_usd is None else f" of {format_usd(status.max_cost_usd)}"
        yield f"cost: {format_usd(status.cost_usd)}{cap}"
    if status.failures:
        counted = ", ".join(f"{kind} {count}" for kind, count in status.failures.items())
        page = Layout.of(status.output_dir).index_html
        yield f"failures: {counted}" + (f"; which and why: {shown(page)}" if exists(page) else "")
    yield from _parked(status)
    if status.requests:
        yield f"not taken up yet: {', '.join(status.requests)}"


def _parked(status: BatchStatus) -> Iterator[str]:
    for provider, reason in status.parked.items():
        yield f"parked: {provider}: {reason}"


def _headline(status: BatchStatus) -> str:
    """Where it stands, and what one may do about it."""
    resume = _command("resume", status.output_dir)
    if status.phase is Phase.WAITING and status.waits_until is not None:
        return f"waiting until {_moment(status.waits_until)}"
    if status.phase is Phase.PAUSED:
        return f"paused; {resume} goes on"
    if status.phase is Phase.INTERRUPTED:
        return f"interrupted, no batch is running; {resume} continues it"
    if status.phase is Phase.STOPPED:
        return f"stopped; {resume} goes on"
    if status.phase is Phase.PARKED:
        return f"parked; once its cause is gone {resume} goes on, or the `trax-ray batch` command with other options"
    return str(status.phase.value)


def watch(output_dir: str, interval_s: float) -> int:
    """Show a batch's progress until it ends.

    Args:
        output_dir: Its output folder.
        interval_s: Seconds between two looks.

    Returns:
        The exit code: 0, also where the batch isn't running; 130 where the watching was interrupted.

    Raises:
        UsageError: The interval makes no sense.
        FileError: There is no batch in the folder.
    """
    if not interval_s > 0:
        raise UsageError(f"expected an --interval above 0 seconds, got {interval_s:g}")
    control = BatchControl(output_dir)
    status = control.status(failures=False)
    if not status.at_work:
        print(one_line(f"not running: {_headline(status)}"))
        return 0
    try:
        status = _follow(control, status, max(interval_s, control.news_period_s if is_object_uri(output_dir) else 0.0))
    except KeyboardInterrupt:
        print("no longer watched; the batch goes on")
        return EXIT_STOPPED
    print(one_line(f"{_headline(status)}: {status.succeeded} of {status.total} succeeded, {status.failed} failed"))
    for line in _parked(status):
        print(one_line(line))
    return 0


def _follow(control: BatchControl, status: BatchStatus, interval_s: float) -> BatchStatus:
    """Show how the batch stands again and again; the last of it."""
    said, gone_at, seen = "", 0.0, status
    with display.make_display("watching") as screen:
        while True:
            if status.at_work:
                headline, gone_at, seen = _headline(status), 0.0, status
                if headline not in (said, Phase.RUNNING.value):
                    screen.note(one_line(headline))
                said = headline
                screen.update(status)
            else:
                gone_at = gone_at or time.monotonic()
            if status.phase in ENDED or (gone_at and time.monotonic() - gone_at >= GONE_S):
                break
            time.sleep(interval_s if status.at_work else GONE_S / 10)
            status = control.status(failures=False)
        if not status.at_work:  # memory and load as they were when it still had some
            screen.update(
                replace(status, memory_usage_mb=seen.memory_usage_mb, cpu_usage_percent=seen.cpu_usage_percent)
            )
    return status


# Steering


def pause(output_dir: str) -> None:
    """Ask for a pause, and say what came of it."""
    _say(BatchControl(output_dir).pause())


def stop(output_dir: str) -> None:
    """Ask for the end, and say what came of it."""
    _say(BatchControl(output_dir).stop())


def retry_failed(output_dir: str) -> None:
    """Ask for another try of what failed for good, and say what came of it."""
    _say(BatchControl(output_dir).retry_failed())


def resume(output_dir: str) -> int:
    """Let a running batch go on; start one again that doesn't run.

    Returns:
        The exit code: that of the batch where it is started again.

    Raises:
        SetupError: No batch runs, and no command is recorded that could be run again.
    """
    answer = BatchControl(output_dir).resume()
    if answer.status.at_work:
        _say(answer)
        return 0
    from trax_ray.cli.batch import continue_batch

    return continue_batch(output_dir)


def _say(answer: Answer) -> None:
    print(one_line(_SENTENCES[answer.command, answer.outcome](answer)))


def _pause_taken_up(answer: Answer) -> str:
    active = answer.status.active
    running = f"; {display.count(active, 'attempt')} that {'is' if active == 1 else 'are'} running will be finished"
    return f"paused: nothing starts any more{running if active else ''}"


def _waits(answer: Answer) -> str:
    return (
        f"the batch (process {answer.status.pid} on {answer.status.host}) hasn't taken it up yet: "
        f"the request to {answer.command} stays in its inbox"
    )


def _resume_of(answer: Answer) -> str:
    return _command("resume", answer.status.output_dir)


def _again(answer: Answer) -> str:
    return f"{display.count(answer.inputs, 'input')} that had failed"


_NOT_RUNNING = "no batch is running there"

_SENTENCES: Mapping[tuple[str, Outcome], Callable[[Answer], str]] = {
    ("pause", Outcome.TAKEN_UP): _pause_taken_up,
    ("pause", Outcome.LEFT): lambda answer: f"{_NOT_RUNNING}: the next run will begin paused",
    ("pause", Outcome.NOTHING): lambda answer: f"{_NOT_RUNNING}, and it is paused already: the next run begins paused",
    ("resume", Outcome.TAKEN_UP): lambda answer: "resumed",
    ("stop", Outcome.TAKEN_UP): lambda answer: f"stopped; what was finished is kept, and {_resume_of(answer)} goes on",
    ("stop", Outcome.NOTHING): lambda answer: f"{_NOT_RUNNING} ({answer.status.phase.value}): nothing to stop",
    ("retry-failed", Outcome.TAKEN_UP): lambda answer: f"{_again(answer)} will be done again",
    ("retry-failed", Outcome.LEFT): lambda answer: (
        f"{_NOT_RUNNING}: {_again(answer)} will be done again by {_resume_of(answer)}"
    ),
    ("retry-failed", Outcome.NOTHING): lambda answer: f"{_NOT_RUNNING}, and no input has failed: nothing to do again",
    **{(command, Outcome.WAITS): _waits for command in ("pause", "resume", "stop", "retry-failed")},
}


def clean_up(output_dir: str, *, everything: bool) -> None:
    """Take away what an output folder can do without, and say how much it was.

    Raises:
        FileError: There is no batch in the folder.
        BusyError: A batch holds the folder.
    """
    layout = Layout.of(output_dir)
    if not (layout.private.is_dir() if isinstance(layout.private, Path) else has_journal(layout.journal)):
        raise no_batch(layout)
    cleaned = (clean_everything if everything else clean)(layout, time.time())
    print(f"removed {display.count(cleaned.file_count, 'file')} ({format_bytes(cleaned.size_bytes)})")
    if everything:
        print("The journal is gone: transcripts and report stay, and a later run begins anew.")


# Heads


def start_head(*, lean: bool) -> None:
    """Start a Ray head that stays, or say that there is one.

    Raises:
        SetupError: Ray doesn't start.
    """
    import trax_ray.cluster  # noqa: F401 - its settings for Ray, which are made without loading it

    head = standing.up(lean=lean)
    dashboard = f"; dashboard: {head.dashboard_url}" if head.dashboard_url else ""
    dashboard += f" ({head.notice})" if head.notice else ""
    if head.new:
        print(f"Ray is up at {head.address}; batches on this machine join it{dashboard}")
    elif head.ours:
        print(f"Ray is up already at {head.address}{dashboard}")
    else:
        print(f"`ray start` has started Ray at {head.address} already; batches on this machine join it")


def end_head(*, force: bool) -> None:
    """End the Ray head that `up` started, and what is left of heads whose batch is dead.

    Args:
        force: Also a head that is in use.

    Raises:
        BusyError: Somebody works on it.
    """
    left = notes.reap_orphans()
    head, ended = standing.down(force=force)
    if head:
        print(f"Ray at {head.address} is down ({display.count(ended, 'process', 'processes')})")
    if left:
        print(f"ended {display.count(left, 'process', 'processes')} that dead batches had left behind")
    if not head and not left:
        print("nothing of ours is running")


# Words


def _command(name: str, output_dir: str) -> str:
    return f"`{shlex.join(['trax-ray', name, shown(output_dir)])}`"


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M %Z}"
