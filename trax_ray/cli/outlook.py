"""What a batch will do, shown before it does: the dry run, the first lines of every run, and the same for programs."""

from __future__ import annotations

import json
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from trax_ray.cli.display import count, say
from trax_ray.core.policy.prediction import Range
from trax_ray.core.progress import format_duration, format_usd
from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import BatchTask
from trax_ray.experience import forecast
from trax_ray.heads.machine import usable_cores
from trax_ray.plan.disk import format_bytes
from trax_ray.store.explaining import shown
from trax_ray.store.layout import Layout

if TYPE_CHECKING:
    from trax_ray.plan.disk import Room
    from trax_ray.plan.outlook import Outlook
    from trax_ray.plan.plan import Plan

__all__ = ["announce", "announce_watch", "format_range", "outlook_of", "show_json", "show_plan"]

MAX_ROWS = 40

JSON_VERSION = 1
"""Goes up when a key changes its meaning, or goes; not when one is added."""

TELL_AFTER_S = 5.0
"""How often it is said how far a long look at recordings is, where nobody watches a terminal."""


def outlook_of(plan: Plan, *, here: bool, within_s: float, quiet: bool) -> Outlook:
    """Look at the recordings of a plan, and see what it will come to.

    Args:
        plan: The plan; the outlook's has what was found in its tasks.
        here: Whether it will run on this machine.
        within_s: Seconds that the look may take.
        quiet: Say nothing meanwhile.
    """
    from trax_ray.plan.look import look_at, with_lengths
    from trax_ray.plan.outlook import Outlook

    with _looking(quiet) as tell:
        look = look_at(plan, within_s=within_s, processes=int(usable_cores()), tell=tell)
    return Outlook(
        with_lengths(plan, look),
        look,
        forecast.experience_of(here=here),
        forecast.slots_of(plan.spec, here=here),
        forecast.at_once(plan.spec) if here else None,
    )


@contextmanager
def _looking(quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """What a look tells how far it is."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("looking at recordings", total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:
        said_at, lock = [time.monotonic()], threading.Lock()

        def tell(done: int, total: int) -> None:
            with lock:
                if time.monotonic() - said_at[0] < TELL_AFTER_S:
                    return
                said_at[0] = time.monotonic()
            say(f"looked at {done} of {count(total, 'recording')}")

        yield tell


# For people


def announce(outlook: Outlook) -> None:
    """On stderr: what a batch is about to do."""
    plan, spec = outlook.plan, outlook.plan.spec
    if plan.notice:
        say(plan.notice)
    how = f"model {spec.model}{_then(spec)}" if plan.transcribes else f"to {spec.task}{_by(spec)}"
    say(f"{count(len(plan.recordings), _what(spec))}, {how}, output {shown(spec.output_dir)}{_notes(plan)}")
    for line in _lines(outlook):
        say(line)


def announce_watch(outlook: Outlook, names: Sequence[str], settle_s: float) -> None:
    """On stderr: what a batch that watches is about to do."""
    plan, spec = outlook.plan, outlook.plan.spec
    how = f"model {spec.model}" if plan.transcribes else f"to {spec.task}"
    say(f"watching {', '.join(map(shown, names))}, {how}, output {shown(spec.output_dir)}{_notes(plan)}")
    stop = shlex.join(["trax-ray", "stop", spec.output_dir])
    say(f"files join when they have stayed as they are for {settle_s:g} s; {stop} ends it, and so does Ctrl-C")
    for line in _limit(outlook):
        say(line)


def show_plan(outlook: Outlook) -> None:
    """What a batch would do."""
    from trax_ray.report.text import one_line

    plan = outlook.plan
    if plan.notice:
        print(plan.notice)
    tasks, spec = plan.wanted, plan.spec
    would_be = _WOULD_BE[spec.task].format(spec.model) + (_then(spec) if plan.transcribes else _by(spec))
    print(f"{count(len(tasks), _what(spec))} would be {would_be}, into {shown(spec.output_dir)}{_notes(plan)}")
    for task in tasks[:MAX_ROWS]:
        told = [f"{task.data['name']} -> {_below(task, spec)}", *_own_settings(task, outlook)]
        print("  " + one_line("; ".join(told)))
    if len(tasks) > MAX_ROWS:
        print(f"  and {len(tasks) - MAX_ROWS} more")
    print("\n".join(_lines(outlook)))


_WOULD_BE = {
    "transcribe": "transcribed with {}",
    "preprocess": "converted",
    "download": "fetched",
    "youtube": "asked about at their sites",
    "enhance": "enhanced",
}
_SUFFIXES = {"preprocess": ".flac", "download": ".*", "youtube": ".json", "enhance": ".enhanced.*"}


def _what(spec: BatchSpec) -> str:
    return "transcript" if spec.task == "enhance" else "recording"


def _by(spec: BatchSpec) -> str:
    """Who enhances, and how far."""
    if not spec.enhance.level:
        return ""
    return f" ({spec.enhance.level}{f', {spec.enhance.model}' if spec.enhance.model else ''})"


def _then(spec: BatchSpec) -> str:
    return f" and enhanced{_by(spec)}" if spec.enhance.level else ""


def _lines(outlook: Outlook) -> Iterator[str]:
    """The figures, one line each."""
    yield from _audio(outlook)
    kinds = outlook.tasks
    if len(kinds) > 1:
        yield "tasks: " + ", ".join(f"{number} {kind}" for kind, number in kinds.items())
    for cost in outlook.costs:
        price = "not known here" if cost.usd is None else f"about {format_usd(cost.usd)} (prices of {cost.as_of})"
        yield f"cost: {cost.provider} {cost.model}: {price}{_cap(outlook, cost.usd)}"
    if outlook.recordings:
        yield f"time: {_time(outlook)}"
    yield from _limit(outlook)
    yield _room(outlook.plan.room)
    yield from outlook.plan.warnings


def _audio(outlook: Outlook) -> Iterator[str]:
    if outlook.done_before:
        yield f"done before: {count(outlook.done_before, 'recording')}"
    if outlook.audio_s:
        guessed = outlook.guessed
        of = "all lengths" if guessed == len(outlook.recordings) else count(guessed, "length")
        by_size = f" ({of} guessed by size)" if guessed else ""
        recordings = count(len(outlook.recordings), "recording")
        yield f"audio: {format_duration(outlook.audio_s)} to do in {recordings}{by_size}"
    for paths, what in (
        (outlook.look.copies, "a copy of another, by its beginning, middle and end"),
        (outlook.look.silent, "without sound"),
        (outlook.look.broken, "not to be read or decoded"),
    ):
        if paths:
            yield _few(outlook.plan, list(paths), what)


def _few(plan: Plan, paths: list[str], what: str) -> str:
    from trax_ray.report.text import one_line

    names = {str(task.data.get("file_path")): str(task.data.get("name")) for task in plan.wanted}
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return one_line(f"{what}: {', '.join(names.get(path, path) for path in paths[:3])}{more}")


def _cap(outlook: Outlook, usd: float | None) -> str:
    cap = outlook.plan.spec.max_cost_usd
    if cap is None:
        return ""
    short = ": WARNING: it will end before all is done" if usd is not None and usd > cap else ""
    return f", --max-cost {cap:g}{short}"


def _time(outlook: Outlook) -> str:
    finish = outlook.finish
    if finish is None:
        return "not known before some of it is done" + ("" if outlook.slots is not None else " on that cluster")
    now = datetime.now().astimezone()
    first, last = (now + timedelta(seconds=each) for each in (finish.low_s, finish.high_s))
    day = f"{last:%Y-%m-%d} " if last.date() != now.date() else ""
    when = f"between {first:%H:%M} and {day}{last:%H:%M}" if f"{first:%H:%M}" != f"{last:%H:%M}" else f"{last:%H:%M}"
    return f"about {format_range(finish)}, done {'' if when.startswith('between') else 'at '}{when}"


def format_range(found: Range) -> str:
    """`3m10s (2m40s to 4m05s)`."""
    low, middle, high = (format_duration(each) for each in (found.low_s, found.middle_s, found.high_s))
    return f"{middle} ({low} to {high})"


def _limit(outlook: Outlook) -> list[str]:
    """The line that says why fewer attempts run than `--workers` asks for; none where as many do."""
    found = outlook.capacity
    if found is None or not found.reason:
        return []
    return [f"at once: {found.slots} of {outlook.plan.spec.limits.max_workers} workers on this machine: {found.reason}"]


def _below(task: BatchTask, spec: BatchSpec) -> str:
    """The files that a task would write, below the output folder, as a shell has several of them."""
    output = task.data["output"]
    if spec.task != "transcribe":
        return f"{output}{_SUFFIXES[spec.task]}"
    suffixes = [*spec.formats, *(["enhanced.*"] if spec.enhance.level else [])]
    return f"{output}.{{{','.join(suffixes)}}}" if len(suffixes) > 1 else f"{output}.{suffixes[0]}"


def _targets(task: BatchTask, layout: Layout, spec: BatchSpec) -> list[str]:
    """The files that a task would write."""
    if spec.task == "transcribe":
        made = [str(layout.transcript(task.data["output"], suffix)) for suffix in spec.formats]
        return made + ([f"{layout.output_dir / task.data['output']}.enhanced.*"] if spec.enhance.level else [])
    suffix = _SUFFIXES[spec.task]
    return [f"{layout.output_dir / task.data['output']}{suffix}"]


def _notes(plan: Plan) -> str:
    from trax_ray.report.text import one_line

    return one_line("".join(f"; {note}" for note in plan.notes))


def _room(room: Room) -> str:
    line = f"{'store' if room.stored else 'disk'}: about {format_bytes(room.needed_bytes)} needed"
    if room.free_bytes is None:
        return line
    line += f", {format_bytes(room.free_bytes)} free"
    if room.enough:
        return line
    return (
        f"{line}: WARNING: that isn't enough: make room or give another --output-dir "
        "(a full disk stops the batch; what is finished stays)"
    )


def _own_settings(task: BatchTask, outlook: Outlook) -> list[str]:
    """What holds for one recording and not for the batch, and what was seen of it."""
    spec, path = outlook.plan.spec, str(task.data.get("file_path"))
    own = [f"{name} {task.data[name]}" for name in ("model", "prompt") if name in task.data]
    if task.data.get("language") not in (None, spec.language):
        own.append(f"language {task.data['language']}")
    if task.priority:
        own.append(f"priority {task.priority}")
    if task.data.get("audio_s") is not None:
        own.append(format_duration(task.data["audio_s"]))
    problem = outlook.look.found[path].code if path in outlook.look.found else ""
    return own + ([problem] if problem else [])


# For programs


def show_json(outlook: Outlook) -> None:
    """What a batch would do, as JSON on standard output; `docs/plan.md` says what is in it."""
    from trax_ray.report.text import clean_all

    print(json.dumps(clean_all(as_json(outlook)), indent=1, ensure_ascii=False))


def as_json(outlook: Outlook) -> dict[str, Any]:
    """The outlook as JSON types."""
    plan, spec, look = outlook.plan, outlook.plan.spec, outlook.look
    found = outlook.capacity
    return {
        "schema_version": JSON_VERSION,
        "task": spec.task,
        "model": spec.model or None,
        "output_dir": shown(spec.output_dir),
        "inputs": {
            "found": len(plan.recordings),
            "to_do": len(outlook.recordings),
            "done_before": outlook.done_before,
            "missing": len(plan.missing) - len(plan.archived),
            "archived": len(plan.archived),
            "ignored": plan.ignored,
            "copies": len(look.copies),
            "without_sound": len(look.silent),
            "broken": len(look.broken),
            "unreadable_folders": len(plan.unreadable),
        },
        "audio": {"seconds": round(outlook.audio_s, 3), "guessed": outlook.guessed},
        "tasks": outlook.tasks,
        "cost": [
            {"provider": each.provider, "model": each.model, "usd": each.usd, "prices_as_of": str(each.as_of)}
            for each in outlook.costs
        ],
        "max_cost_usd": spec.max_cost_usd,
        "finish": _finish_as_json(outlook.finish),
        "at_once": {
            "workers": spec.limits.max_workers,
            "slots": outlook.slots,
            "reason": found.reason if found else "",
        },
        "disk": {"needed_bytes": plan.room.needed_bytes, "free_bytes": plan.room.free_bytes},
        "notice": plan.notice,
        "notes": list(plan.notes),
        "warnings": list(plan.warnings),
        "recordings": [_recording_as_json(task, outlook) for task in plan.wanted],
    }


def _finish_as_json(finish: Range | None) -> dict[str, Any] | None:
    if finish is None:
        return None
    now = datetime.now(timezone.utc)
    seconds = {"low_s": finish.low_s, "middle_s": finish.middle_s, "high_s": finish.high_s}
    at = {
        f"{name}_at": (now + timedelta(seconds=each)).isoformat(timespec="seconds")
        for name, each in zip(("low", "middle", "high"), seconds.values(), strict=True)
    }
    return {**{name: round(each, 1) for name, each in seconds.items()}, **at}


def _recording_as_json(task: BatchTask, outlook: Outlook) -> Mapping[str, Any]:
    data, look = task.data, outlook.look
    path = str(data.get("file_path") or "")
    seen = look.found.get(path)
    return {
        "file_id": task.file_id,
        "name": data["name"],
        "path": path or None,
        "url": data.get("url"),
        "audio_s": data.get("audio_s"),
        "problem": "not_found" if data.get("missing") else (seen.code or None) if seen else None,
        "copy_of": look.copies.get(path),
        "priority": task.priority,
        "outputs": _targets(task, Layout.of(outlook.plan.spec.output_dir), outlook.plan.spec),
    }
