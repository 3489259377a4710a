"""What a batch is asked to do: frozen, validated, JSON in and out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from trax_ray.core.policy.schedule import parse_hours
from trax_ray.errors import UsageError

__all__ = [
    "CAPTIONS",
    "CHANNELS",
    "DEFAULT_BATCH_PRIORITY",
    "DEFAULT_CHUNK_SIZE",
    "DEFAULT_CPU_LIMIT_PERCENT",
    "DEFAULT_MAX_RETRIES",
    "DEFAULT_MEMORY_LIMIT_MB",
    "DEFAULT_PROGRESS_INTERVAL",
    "DEFAULT_QUEUE_SIZE",
    "DEFAULT_WORKERS",
    "ENHANCE_LEVELS",
    "OUTPUT_FORMATS",
    "SECRET_VARIABLES",
    "SUBTITLE_STYLES",
    "TASKS",
    "VAD_LEVELS",
    "BatchSpec",
    "Enhancement",
    "Limits",
    "RetryPolicy",
]

DEFAULT_WORKERS = 8
DEFAULT_QUEUE_SIZE = 1000
DEFAULT_PROGRESS_INTERVAL = 5.0
DEFAULT_MEMORY_LIMIT_MB = 2048
DEFAULT_CPU_LIMIT_PERCENT = 90
DEFAULT_CHUNK_SIZE = 600
DEFAULT_MAX_RETRIES = 3
DEFAULT_BATCH_PRIORITY = 10

SECRET_VARIABLES = ("OPENAI_API_KEY", "DEEPSEEK_API_KEY", "ENHANCE_API_KEY")
"""Environment variables that hold keys. Ray's daemons never get to see them: children inherit, and dashboards show."""

CHANNELS = ("mix", "left", "right", "split")

TASKS = ("transcribe", "preprocess", "download", "youtube", "enhance")
"""What a batch can be asked for of each input; the steps before it come by themselves."""

MOST_PAUSE_S = 3600.0

CAPTIONS = ("never", "prefer", "only")
"""Whether a publisher's captions are taken as the transcript."""

ENHANCE_LEVELS = ("", "rules", "format", "words")
"""How far a transcript may be changed: not at all, by the rules of a glossary, in its form, or in doubted words too."""

VAD_LEVELS = ("off", "low", "normal", "high")

SUBTITLE_STYLES = ("none", "netflix", "bbc")

OUTPUT_FORMATS = ("txt", "srt", "vtt", "tsv", "json")
"""Formats of a transcript, each the suffix of its file, in the order of openai-whisper."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UsageError(message)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a failed attempt is made again, and how long that waits.

    Args:
        max_retries: Attempts after the first one.
        base_s: Upper bound of the first delay, seconds; it doubles with every retry.
        cap_s: Upper bound of every delay that the other side didn't ask for, seconds.
        priority_step: What each retry adds to the priority number.
        aging_s: Seconds of waiting that take one priority step of a retry back; never more than was added.
        max_deaths: Processes of its own that one task may kill before it is quarantined.
        max_losses: Attempts that a task may lose with their nodes before this counts against it.
        memory_factor: What a task that ran out of memory asks for next, as a multiple.
    """

    max_retries: int = DEFAULT_MAX_RETRIES
    base_s: float = 1.0
    cap_s: float = 60.0
    priority_step: int = 1
    aging_s: float = 60.0
    max_deaths: int = 2
    max_losses: int = 10
    memory_factor: int = 2

    def __post_init__(self) -> None:
        _require(self.max_retries >= 0, f"max_retries (--max-retries): expected 0 or more, got {self.max_retries}")
        _require(0 <= self.base_s <= self.cap_s, f"expected 0 <= base_s <= cap_s, got {self.base_s}, {self.cap_s}")
        _require(self.priority_step >= 0, f"expected a priority step of 0 or more, got {self.priority_step}")
        _require(self.aging_s > 0, f"expected aging_s above 0, got {self.aging_s}")
        _require(self.max_deaths >= 1, f"expected max_deaths of 1 or more, got {self.max_deaths}")
        _require(self.max_losses >= 0, f"expected max_losses of 0 or more, got {self.max_losses}")
        _require(self.memory_factor >= 2, f"expected a memory factor of 2 or more, got {self.memory_factor}")


@dataclass(frozen=True, slots=True)
class Limits:
    """Ceilings of a batch, not promises.

    Args:
        max_workers: Tasks that run at the same time in the whole batch.
        queue_size: Ready tasks held in memory; retries are never refused.
        memory_limit_mb: MiB per node for the batch's own processes.
        cpu_limit_percent: Share of a node's cores that CPU-bound tasks may take, 1-100.
        host_requests: Recordings that are fetched from one host of the web at once; None leaves it to the host, see
            `trax_ray.core.limits.manners`.
        host_pause_s: Seconds between two recordings of one host; None leaves it to the host.
        prefetch_mb: Megabytes (10^6 bytes) of media that may be fetched ahead of their transcription; None leaves it to
            the free disk, see `trax_ray.core.policy.prefetch`.
    """

    max_workers: int = DEFAULT_WORKERS
    queue_size: int = DEFAULT_QUEUE_SIZE
    memory_limit_mb: int = DEFAULT_MEMORY_LIMIT_MB
    cpu_limit_percent: float = DEFAULT_CPU_LIMIT_PERCENT
    host_requests: int | None = None
    host_pause_s: float | None = None
    prefetch_mb: int | None = None

    def __post_init__(self) -> None:
        _require(self.max_workers >= 1, f"max_workers (--workers): expected 1 or more, got {self.max_workers}")
        _require(self.queue_size >= 1, f"queue_size: expected 1 or more, got {self.queue_size}")
        _require(
            self.memory_limit_mb >= 1,
            f"memory_limit_mb (--memory-limit): expected more than 0, got {self.memory_limit_mb}",
        )
        _require(
            0 < self.cpu_limit_percent <= 100,
            f"cpu_limit_percent (--cpu-limit): expected 1 to 100, got {self.cpu_limit_percent:g}",
        )
        _require(
            self.host_requests is None or self.host_requests >= 1,
            f"host_requests (--host-requests): expected 1 or more, got {self.host_requests}",
        )
        _require(
            self.host_pause_s is None or 0 <= self.host_pause_s <= MOST_PAUSE_S,
            f"host_pause (--host-pause): expected 0 to {MOST_PAUSE_S:g} seconds, got {self.host_pause_s}",
        )
        _require(
            self.prefetch_mb is None or self.prefetch_mb >= 1,
            f"prefetch_mb (--prefetch-mb): expected 1 or more, got {self.prefetch_mb}",
        )


@dataclass(frozen=True, slots=True)
class Enhancement:
    """How transcripts are enhanced.

    Args:
        level: Of `ENHANCE_LEVELS`; empty for not at all.
        model: The text model; empty where none is asked.
        base_url: Address of its server; empty for its provider's own.
        glossary: The lines of a glossary; empty for none. Its terms go to recognisers too.
        remove_fillers: Leave out what says nothing, such as `um`.
        off_peak: Ask only at hours at which the provider charges less.
        peak_hours: Those at which it charges more, Monday to Friday, UTC; as of `core.policy.schedule.PeakHours`.
        summary: Write a summary of each recording, in a file of its own.
    """

    level: str = ""
    model: str = ""
    base_url: str = ""
    glossary: str = ""
    remove_fillers: bool = False
    off_peak: bool = False
    peak_hours: tuple[int, ...] = ()
    summary: bool = False

    def __post_init__(self) -> None:
        _require(
            self.level in ENHANCE_LEVELS,
            f"enhance (--enhance): expected {', '.join(ENHANCE_LEVELS[1:])}, got {self.level}",
        )
        object.__setattr__(self, "peak_hours", tuple(self.peak_hours))

    @property
    def asks(self) -> bool:
        """Whether a text model is asked."""
        return self.level in ("format", "words")


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """All that a batch needs to know, the same for every task in it.

    Its values are checked here, whoever makes one. What people give on the command line or to
    `create_batch_processor` becomes one in `trax_ray.plan.options`, which also refuses what makes no sense there and
    yet stands in journals of earlier versions: those are read through here too.

    Args:
        output_dir: Absolute path of the folder for transcripts, report and journal.
        name: What the Ray dashboard shows; defaults to the output folder's name.
        model: Speech model, such as `pocketsphinx` or `whisper-1`.
        language: ISO 639-1 code; None lets the model detect it.
        chunk_size_s: Longest stretch that is transcribed in one attempt, seconds.
        formats: Transcript formats, of `OUTPUT_FORMATS`.
        initial_prompt: Text that primes the model; None for none.
        word_timestamps: Ask the model for word times.
        progress_interval_s: Seconds between progress reports.
        stall_timeout_s: Seconds without a sign of life after which an attempt is ended.
        report_interval_s: Seconds between rewrites of the report's tables while the batch runs.
        limits: Ceilings.
        retry: When failed attempts are made again.
        log_level: Name of the level from which on workers and coordinator log.
        runner: `module:function` that makes an attempt; tests put a scripted one here.
        caller: The same for attempts that share a process: a coroutine function.
        task_timeout_s: Longest time that one attempt may take, seconds; None sets no limit.
        grace_s: After a signal, seconds that running attempts are given before they are cancelled; None leaves
            it to what runs, see `trax_ray.core.policy.ending`.
        start_at: Nothing starts before, seconds since the epoch; 0.0 means at once.
        only_between: Daily hours in which attempts may start, `HH:MM-HH:MM` in the coordinator's local time; empty
            means always.
        preprocess: Convert each recording to 16 kHz mono FLAC first, and transcribe that.
        channels: Which channels are transcribed, of `CHANNELS`; with `split` each by itself, as one speaker.
        audio_track: Number of the sound track, from 1, or its language; empty for the one that holds the speech.
        loudness: Bring converted audio to -23 LUFS; then every recording is converted first.
        keep_audio: Keep converted audio after what needs it is committed.
        base_url: Address of a server of OpenAI's protocol; empty for OpenAI's own.
        max_cost_usd: What paid requests may cost, US dollars: none starts that would exceed it; None sets no limit.
        vad: How readily sound counts as speech, of `VAD_LEVELS`; `off` hands all of a recording to the model.
        reference_dir: Absolute path of the folder of reference transcripts, for recordings whose manifest row names
            none; empty for none.
        allow_private_network: Fetch from any address, and not from public ones only.
        cookies: Absolute path of a file with cookies for what needs a login; empty for none.
        keep_media: Keep what was fetched after what needs it is committed, in `OUT/media`.
        task: What is made of each input, of `TASKS`.
        captions: Whether captions that a publisher wrote are taken as the transcript, of `CAPTIONS`.
        max_items: How many recordings of each playlist, channel, page and feed are taken; None for all.
        since: The first day of publication of those, YYYYMMDD; empty for any.
        match: What their titles hold, in any case; empty for any.
        download_archive: Absolute path of a list of what was fetched before, in yt-dlp's format; empty for none.
        max_line_width: Columns in a line of the subtitles; None takes the style's.
        max_line_count: Lines in a cue likewise.
        max_words_per_line: Words in a line; None sets no limit.
        subtitle_style: House rules for subtitles, of `SUBTITLE_STYLES`.
        priority: Of recordings whose manifest row says nothing else; lower runs first, 0 is the highest.
        enhance: How transcripts are enhanced, if at all.
        batch_priority: Of the batch among those that share its cluster: lower goes first, 0 is the highest.
    """

    output_dir: str
    name: str = ""
    model: str = ""
    language: str | None = None
    chunk_size_s: int = DEFAULT_CHUNK_SIZE
    formats: tuple[str, ...] = OUTPUT_FORMATS
    initial_prompt: str | None = None
    word_timestamps: bool = False
    progress_interval_s: float = DEFAULT_PROGRESS_INTERVAL
    stall_timeout_s: float = 600.0
    report_interval_s: float = 60.0
    limits: Limits = field(default_factory=Limits)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    log_level: str = "WARNING"
    runner: str = "trax_ray.kinds.run:run"
    caller: str = "trax_ray.kinds.run:call"
    task_timeout_s: float | None = None
    grace_s: float | None = None
    start_at: float = 0.0
    only_between: str = ""
    preprocess: bool = False
    channels: str = "mix"
    audio_track: str = ""
    loudness: bool = False
    keep_audio: bool = False
    base_url: str = ""
    max_cost_usd: float | None = None
    vad: str = "normal"
    reference_dir: str = ""
    allow_private_network: bool = False
    cookies: str = ""
    keep_media: bool = False
    captions: str = "never"
    max_items: int | None = None
    since: str = ""
    match: str = ""
    download_archive: str = ""
    priority: int = 0
    task: str = "transcribe"
    max_line_width: int | None = None
    max_line_count: int | None = None
    max_words_per_line: int | None = None
    subtitle_style: str = "none"
    enhance: Enhancement = field(default_factory=Enhancement)
    batch_priority: int = DEFAULT_BATCH_PRIORITY

    def __post_init__(self) -> None:
        _require(bool(self.output_dir), "a batch needs an output folder")
        _require(
            self.chunk_size_s >= 10, f"chunk_size (--chunk-size): expected 10 seconds or more, got {self.chunk_size_s}"
        )
        _require(
            self.progress_interval_s > 0,
            f"progress_interval (--progress-interval): expected more than 0 seconds, got {self.progress_interval_s:g}",
        )
        _require(self.stall_timeout_s > 0, f"expected a stall time-out above 0, got {self.stall_timeout_s}")
        _require(self.report_interval_s > 0, f"expected a report interval above 0, got {self.report_interval_s}")
        _require(
            self.task_timeout_s is None or self.task_timeout_s > 0,
            f"task_timeout (--task-timeout): expected more than 0 seconds, got {self.task_timeout_s}",
        )
        _require(0 <= self.start_at < float("inf"), f"start_at: expected seconds since the epoch, got {self.start_at}")
        if self.only_between:
            parse_hours(self.only_between)
        _require(
            self.max_cost_usd is None or self.max_cost_usd >= 0,
            f"max_cost_usd (--max-cost): expected 0 or more US dollars, got {self.max_cost_usd}",
        )
        _require(
            self.channels in CHANNELS, f"channels (--channels): expected {', '.join(CHANNELS)}, got {self.channels}"
        )
        if self.loudness:
            object.__setattr__(self, "preprocess", True)
        _require(self.vad in VAD_LEVELS, f"vad (--vad): expected {', '.join(VAD_LEVELS)}, got {self.vad}")
        _require(
            self.grace_s is None or self.grace_s >= 0,
            f"grace (--grace): expected a grace period of 0 seconds or more, got {self.grace_s}",
        )
        _require(
            self.captions in CAPTIONS, f"captions (--captions): expected {', '.join(CAPTIONS)}, got {self.captions}"
        )
        _require(
            self.max_items is None or self.max_items >= 1,
            f"max_items (--max-items): expected 1 or more, got {self.max_items}",
        )
        for name, least in (("max_line_width", 10), ("max_line_count", 1), ("max_words_per_line", 1)):
            value = getattr(self, name)
            flag = "--" + name.replace("_", "-")
            _require(value is None or value >= least, f"{name} ({flag}): expected {least} or more, got {value}")
        _require(
            self.subtitle_style in SUBTITLE_STYLES,
            f"subtitle_style (--subtitle-style): expected {', '.join(SUBTITLE_STYLES)}, got {self.subtitle_style}",
        )
        _require(self.task in TASKS, f"task (--task): expected {', '.join(TASKS)}, got {self.task}")
        _require(self.priority >= 0, f"priority (--priority): expected 0 (first) or more, got {self.priority}")
        _require(
            self.batch_priority >= 0,
            f"batch_priority (--batch-priority): expected 0 (first) or more, got {self.batch_priority}",
        )
        unknown = [name for name in self.formats if name not in OUTPUT_FORMATS]
        _require(
            not unknown and bool(self.formats),
            f"formats (--output-format): expected {', '.join(OUTPUT_FORMATS)}, got {', '.join(unknown) or 'none'}",
        )
        object.__setattr__(self, "formats", tuple(dict.fromkeys(self.formats)))
        if not self.name:
            object.__setattr__(self, "name", self.output_dir.rstrip("/").rpartition("/")[2] or "batch")

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON types."""
        found = asdict(self) | {"formats": list(self.formats)}
        found["enhance"]["peak_hours"] = list(self.enhance.peak_hours)
        return found

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BatchSpec:
        """The spec that `to_dict` wrote; keys of a later version are left out."""
        values = _known(cls, data)
        values["formats"] = tuple(values.get("formats", OUTPUT_FORMATS))
        values["limits"] = Limits(**_known(Limits, values.get("limits", {})))
        values["retry"] = RetryPolicy(**_known(RetryPolicy, values.get("retry", {})))
        values["enhance"] = Enhancement(**_known(Enhancement, values.get("enhance", {})))
        return cls(**values)


def _known(kind: type[Any], data: Mapping[str, Any]) -> dict[str, Any]:
    names = {entry.name for entry in fields(kind)}
    return {key: value for key, value in data.items() if key in names}
