"""The options of a batch: one table, from which the command line's flags and the keywords in Python are made.

A row says what an option is called in both, what it means, what it takes and where its value goes in the `BatchSpec`,
whose default is the option's. A new one is a field of the spec, a row here, a keyword of `create_batch_processor`
(a test compares them) and a line of the README.

Ranges are checked by the spec. What is checked here is the form: whole numbers, finite ones, texts that an unset
variable of a shell has left empty, and what people write and a spec holds otherwise, such as `22:00`.
"""

from __future__ import annotations

import math
import numbers
import operator
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from trax_ray.core.policy.schedule import parse_start
from trax_ray.core.spec import OUTPUT_FORMATS, BatchSpec, Limits, RetryPolicy
from trax_ray.errors import SetupError, UsageError
from trax_ray.plan.tasks import MAX_PRIORITY
from trax_ray.providers.keys import check_base_url
from trax_ray.providers.languages import read_language
from trax_ray.store.files import absolute, shown

__all__ = ["DEFAULT_OUTPUT_DIR", "OPTIONS", "Option", "make_spec", "option"]

DEFAULT_OUTPUT_DIR = "trax_ray_output"

_PARTS: Mapping[str, type[Any]] = {"limits": Limits, "retry": RetryPolicy}
"""Fields of the spec that are specs of their own."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    Args:
        name: The keyword in Python; empty for what only the command line has.
        flags: Its flags, the long one first; empty for what only Python has. INPUT, which is none, has no dash.
        kind: What it takes: `int`, `float`, `str`, `bool`, or `list` for texts that may be repeated.
        help: What it means, for `--help`.
        field: Where its value goes in the spec, such as `limits.max_workers`; empty where it doesn't go there.
        optional: Whether it may be None, which is its default then and leaves the spec's.
        value: Its default, where the spec has none.
        read: Makes the spec's value of one that has the right kind; raises UsageError with the option's label.
        metavar: What `--help` shows for the value; None for the kind's name.
        key: Its name among the command line's parameters and in a recorded command; by default the flag's.
    """

    name: str
    flags: tuple[str, ...]
    kind: type[Any]
    help: str
    field: str = ""
    optional: bool = False
    value: Any = None
    read: Callable[[Any, str], Any] | None = None
    metavar: str | None = None
    key: str = ""

    def __post_init__(self) -> None:
        if not self.key:
            flag = self.flags[0].strip("-").replace("-", "_") if self.flags else self.name
            object.__setattr__(self, "key", flag)

    @property
    def default(self) -> Any:
        """What holds where nothing is given, in the form in which it could be."""
        if self.optional or not self.field or self.value is not None:
            return self.value
        part, _, name = self.field.rpartition(".")
        return next(each.default for each in fields(_PARTS.get(part, BatchSpec)) if each.name == name)

    @property
    def label(self) -> str:
        """What messages call it: `max_workers (--workers)`, so that both sides know what is meant."""
        names = [each for each in (self.name, *self.flags[:1]) if each]
        return f"{names[0]} ({names[1]})" if len(names) > 1 else names[0]

    def checked(self, given: Any) -> Any:
        """The spec's value of one that was given and isn't None.

        Raises:
            UsageError: It is of another kind or makes no sense; names the option.
            SetupError: It asks for what this version doesn't have.
        """
        value = _KINDS[self.kind](given, self.label)
        return value if self.read is None else self.read(value, self.label)


# Kinds


def _refused(label: str, expected: str, got: object) -> UsageError:
    return UsageError(f"{label}: expected {expected}, got {got!r:.80}")


def _whole(given: Any, label: str) -> int:
    try:
        if isinstance(given, bool):
            raise TypeError
        return operator.index(given)
    except TypeError:
        raise _refused(label, "a whole number", given) from None


def _finite(given: Any, label: str) -> float:
    if isinstance(given, bool) or not isinstance(given, numbers.Real) or not math.isfinite(given):
        raise _refused(label, "a finite number", given)
    return given if isinstance(given, int) else float(given)


def _text(given: Any, label: str) -> str:
    if isinstance(given, os.PathLike):
        given = os.fsdecode(given)
    if not isinstance(given, str):
        raise _refused(label, "text", given)
    return given


def _switch(given: Any, label: str) -> bool:
    if not isinstance(given, bool):
        raise _refused(label, "True or False", given)
    return given


def _texts(given: Any, label: str) -> list[str]:
    if isinstance(given, str):
        return [given]
    if not isinstance(given, Sequence) or not all(isinstance(each, str) for each in given):
        raise _refused(label, "text, or a list of texts", given)
    return list(given)


_KINDS: Mapping[type[Any], Callable[[Any, str], Any]] = {
    int: _whole,
    float: _finite,
    str: _text,
    bool: _switch,
    list: _texts,
}


# From what people write to what a spec holds


def _not_empty(given: str, label: str) -> str:
    """Empty is what a variable of a shell that isn't set leaves, and would mean something else than it looks like."""
    if not given.strip():
        raise UsageError(
            f"{label}: expected a value, got {given!r}: is a variable not set? Leave it out for its default"
        )
    return given


def _base_url(given: str, label: str) -> str:
    return check_base_url(_not_empty(given, label))


def _address(given: str, label: str) -> str:
    host, colon, port = _not_empty(given, label).rpartition("://")[2].rpartition(":")
    if colon and host and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise UsageError(f"{label}: expected HOST:PORT with a port from 1 to 65535, got {given!r:.80}")
    return given


def _folder(given: str, label: str) -> str:
    return str(absolute(_not_empty(given, label)))


def _reference(given: str, label: str) -> str:
    folder = _folder(given, label)
    if not os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir raises for names that are too long
        raise UsageError(f"{label}: {shown(given)} is no folder")
    return folder


def _cookies(given: str, label: str) -> str:
    path = Path(_not_empty(given, label)).absolute()
    if not path.is_file():
        raise UsageError(f"{label}: there is no file {shown(given)}: save the cookies of a browser that is logged in")
    return str(path)


def _formats(given: Sequence[str], label: str) -> tuple[str, ...]:
    names = [name.strip().lower() for value in given for name in value.split(",")]
    return OUTPUT_FORMATS if "all" in names else tuple(names)


def _language(given: str, label: str) -> str | None:
    try:
        return read_language(_not_empty(given, label))
    except UsageError as error:
        raise error if label in error.message else UsageError(f"{label}: {error.message}") from None


def _moment(given: str, label: str) -> float:
    return parse_start(given, time.time(), None)


def _priority(given: int, label: str) -> int:
    if not 0 <= given <= MAX_PRIORITY:
        raise _refused(label, f"a number from 0 (first) to {MAX_PRIORITY}", given)
    return given


def _no_enhancement(given: bool, label: str) -> bool:
    if given:
        raise SetupError(f"{label} isn't in this version of trax_ray yet: leave it out")
    return given


OPTIONS: tuple[Option, ...] = (
    Option(
        "",
        ("INPUT",),
        list,
        "Recordings, folders, quoted patterns such as 'talks/**/*.mp3', manifests (.csv, .jsonl or .parquet with a "
        "column file_name; language, priority, model, prompt and reference hold for their row), or - for a list of "
        "paths on standard input. Names that begin with a dash come after --.",
        optional=True,
        metavar="INPUT",
        key="inputs",
    ),
    Option(
        "",
        ("--input-list", "-a"),
        list,
        "File with one path per line (or NUL between them), or a manifest; - is standard input; may be repeated. "
        "Paths are relative to the list's folder.",
        optional=True,
        key="lists",
    ),
    Option(
        "max_workers",
        ("--workers",),
        int,
        "Tasks that run at the same time; a ceiling, not a promise.",
        "limits.max_workers",
    ),
    Option("queue_size", (), int, "Ready tasks held in memory.", "limits.queue_size"),
    Option(
        "progress_interval", ("--progress-interval",), float, "Seconds between progress reports.", "progress_interval_s"
    ),
    Option(
        "memory_limit_mb",
        ("--memory-limit",),
        int,
        "MB per node for the batch's own processes.",
        "limits.memory_limit_mb",
    ),
    Option(
        "cpu_limit_percent",
        ("--cpu-limit",),
        float,
        "Percent of a node's cores that tasks may take, 1-100.",
        "limits.cpu_limit_percent",
    ),
    Option(
        "model",
        ("--model",),
        str,
        "Speech model: tiny.en, tiny ... large-v3, turbo or a folder (faster-whisper), whisper-1 (OpenAI), "
        "pocketsphinx (offline, English, rough). Without it: whisper-1 where a key is set, else base where its "
        "weights are at hand or can be had, else tiny.en where it is at hand and the language may be English.",
        "model",
        optional=True,
        read=_not_empty,
    ),
    Option(
        "base_url",
        ("--base-url",),
        str,
        "Address of a server that speaks OpenAI's protocol, such as http://host:8000/v1; it has any --model.",
        "base_url",
        optional=True,
        read=_base_url,
    ),
    Option(
        "max_cost_usd",
        ("--max-cost",),
        float,
        "US dollars: no paid request starts that would exceed it; the batch can be continued.",
        "max_cost_usd",
        optional=True,
    ),
    Option(
        "language",
        ("--language",),
        str,
        "Language, by its code or its name, such as de or German; detected if not given.",
        "language",
        optional=True,
        read=_language,
    ),
    Option(
        "vad", ("--vad",), str, "How readily sound counts as speech: off (all of it does), low, normal or high.", "vad"
    ),
    Option(
        "chunk_size", ("--chunk-size",), int, "Longest stretch transcribed in one attempt, seconds.", "chunk_size_s"
    ),
    Option(
        "output_dir",
        ("--output-dir", "-o"),
        str,
        "Folder for transcripts and report. The same again continues.",
        "output_dir",
        value=DEFAULT_OUTPUT_DIR,
        read=_folder,
    ),
    Option(
        "formats",
        ("--output-format", "-f"),
        list,
        f"{', '.join(OUTPUT_FORMATS)} or all; may be repeated.  [default: all]",
        "formats",
        optional=True,
        read=_formats,
        key="formats",
    ),
    Option(
        "reference",
        ("--reference",),
        str,
        "Folder of reference transcripts (NAME.txt) to measure accuracy against.",
        "reference_dir",
        optional=True,
        read=_reference,
    ),
    Option("max_retries", ("--max-retries",), int, "Attempts after the first one.", "retry.max_retries"),
    Option(
        "priority",
        ("--priority",),
        int,
        "0 highest, 1-5 high, 6-10 normal, 11 and above low.",
        "priority",
        read=_priority,
    ),
    Option(
        "initial_prompt",
        ("--initial-prompt",),
        str,
        "Text that primes the model (Whisper models).",
        "initial_prompt",
        optional=True,
    ),
    Option("word_timestamps", ("--word-timestamps",), bool, "Word times in the JSON output.", "word_timestamps"),
    Option(
        "task_timeout",
        ("--task-timeout",),
        float,
        "Longest time that one attempt may take, seconds.  [default: no limit]",
        "task_timeout_s",
        optional=True,
    ),
    Option(
        "grace",
        ("--grace",),
        float,
        "Seconds that running attempts are given to end after a signal.  [default: 2, with paid requests under way 10]",
        "grace_s",
        optional=True,
    ),
    Option(
        "start_at",
        ("--start-at",),
        str,
        "Start nothing before: '2026-11-21 22:00', or 22:00 for the next one.  [default: at once]",
        "start_at",
        optional=True,
        read=_moment,
        metavar="WHEN",
    ),
    Option(
        "only_between",
        ("--only-between",),
        str,
        "Hours of the day in which attempts may start, such as 22:00-06:00.  [default: all]",
        "only_between",
        optional=True,
        read=_not_empty,
        metavar="HH:MM-HH:MM",
    ),
    Option(
        "preprocess",
        ("--preprocess",),
        bool,
        "Convert recordings to 16 kHz mono FLAC first, and transcribe that.",
        "preprocess",
    ),
    Option(
        "cookies",
        ("--cookies",),
        str,
        "File with cookies (Netscape format) for recordings that need a login.",
        "cookies",
        optional=True,
        read=_cookies,
        metavar="FILE",
    ),
    Option(
        "keep_media",
        ("--keep-media",),
        bool,
        "Keep what was fetched from the web, in OUT/media.",
        "keep_media",
    ),
    Option(
        "allow_private_network",
        ("--allow-private-network",),
        bool,
        "Fetch from this machine and its network too, and not from public addresses only.",
        "allow_private_network",
    ),
    Option(
        "keep_audio",
        ("--keep-audio",),
        bool,
        "With --preprocess: keep the converted audio, in OUT/audio.",
        "keep_audio",
    ),
    Option(
        "enhance",
        ("--enhance",),
        bool,
        "Also enhance transcripts after transcription.",
        value=False,
        read=_no_enhancement,
    ),
    Option(
        "address",
        ("--address",),
        str,
        "HOST:PORT of a Ray cluster; without it RAY_ADDRESS, a local head, or a new one.",
        optional=True,
        read=_address,
    ),
    Option("lean", ("--lean",), bool, "Start a local Ray without its dashboard: less memory.", value=False),
    Option("", ("--dry-run",), bool, "Show what would be done, and do nothing.", value=False),
    Option("", ("--quiet", "-q"), bool, "No progress; errors and the exit code only.", value=False),
    Option("", ("--verbose", "-v"), bool, "Debug messages on stderr.", value=False),
)
"""In the order of `--help`."""

_BY_NAME = {each.name: each for each in OPTIONS if each.name}


def option(name: str) -> Option:
    """The option with this keyword.

    Raises:
        KeyError: There is none.
    """
    return _BY_NAME[name]


def make_spec(given: Mapping[str, Any]) -> BatchSpec:
    """The spec of what somebody asks for; its model is empty where none is named.

    Args:
        given: Values by the options' keywords, in the form in which people give them. What isn't there, or is None,
            has its default.

    Raises:
        UsageError: A value makes no sense, or two contradict each other; names the options.
        SetupError: Something is asked for that this version doesn't have.
    """
    values: dict[str, Any] = {}
    parts: dict[str, dict[str, Any]] = {name: {} for name in _PARTS}
    for each in _BY_NAME.values():
        value = each.default if given.get(each.name) is None else given[each.name]
        if value is None:
            continue
        value = each.checked(value)
        part, _, name = each.field.rpartition(".")
        if name:
            (parts[part] if part else values)[name] = value
    if values["keep_audio"] and not values["preprocess"]:
        keeps, converts = option("keep_audio").label, option("preprocess").label
        raise UsageError(f"{keeps} keeps what {converts} converts: give both of them, or neither")
    return BatchSpec(**values, **{name: kind(**parts[name]) for name, kind in _PARTS.items()})
