"""Options: how recordings become transcripts, and where those go."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import PurePath

from trax_ray.core.spec import OUTPUT_FORMATS
from trax_ray.errors import UsageError
from trax_ray.plan.option import Option, folder, not_empty
from trax_ray.providers.keys import check_base_url
from trax_ray.providers.languages import read_language
from trax_ray.store.explaining import shown
from trax_ray.store.uris import ObjectPath, is_object_uri

__all__ = ["DEFAULT_OUTPUT_DIR", "SPEECH"]

DEFAULT_OUTPUT_DIR = "trax_ray_output"


RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""The variable that Ray sets for the command of a job."""


_SPOILT = re.compile(r"(s3|s3a|gs|az|abfss?):/[^/]", re.IGNORECASE)
"""What `pathlib.Path` makes of a URI."""


def _output_folder(given: str, label: str) -> str:
    if is_object_uri(given):
        try:
            return str(ObjectPath.of(given))
        except UsageError as error:
            raise UsageError(f"{label}: {error.message}") from None
    if _SPOILT.match(given):
        raise UsageError(f"{label}: {shown(given)} was a URI before it was made a Path, which takes a slash: give text")
    path = folder(given, label)
    if RAY_JOB in os.environ and not PurePath(given).is_absolute():
        raise UsageError(
            f"{label}: {shown(given)} lies in the job's working folder, which Ray throws away: give an absolute path "
            "that every node sees"
        )
    return path


def _base_url(given: str, label: str) -> str:
    return check_base_url(not_empty(given, label))


def _formats(given: Sequence[str], label: str) -> tuple[str, ...]:
    names = [name.strip().lower() for value in given for name in value.split(",")]
    return OUTPUT_FORMATS if "all" in names else tuple(names)


def _language(given: str, label: str) -> str | None:
    try:
        return read_language(not_empty(given, label))
    except UsageError as error:
        raise error if label in error.message else UsageError(f"{label}: {error.message}") from None


SPEECH: tuple[Option, ...] = (
    Option(
        "model",
        ("--model",),
        str,
        "Speech model: tiny.en, tiny ... large-v3, turbo or a folder (faster-whisper), whisper-1 (OpenAI), "
        "pocketsphinx (offline, English, rough). Without it: whisper-1 where a key is set, else base where its "
        "weights are at hand or can be had, else tiny.en where it is at hand and the language may be English.",
        "model",
        optional=True,
        read=not_empty,
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
        "initial_prompt",
        ("--initial-prompt",),
        str,
        "Text that primes the model (Whisper models).",
        "initial_prompt",
        optional=True,
    ),
    Option("word_timestamps", ("--word-timestamps",), bool, "Word times in the JSON output.", "word_timestamps"),
    Option(
        "preprocess",
        ("--preprocess",),
        bool,
        "Convert recordings to 16 kHz mono FLAC first, and transcribe that.",
        "preprocess",
    ),
    Option(
        "keep_audio",
        ("--keep-audio",),
        bool,
        "With --preprocess: keep the converted audio, in OUT/audio.",
        "keep_audio",
    ),
    Option(
        "output_dir",
        ("--output-dir", "-o"),
        str,
        "Folder for transcripts and report, or a URI such as s3://bucket/folder. The same again continues.",
        "output_dir",
        value=DEFAULT_OUTPUT_DIR,
        read=_output_folder,
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
        "max_line_width",
        ("--max-line-width",),
        int,
        "Columns in a line of the subtitles.  [default: 42]",
        "max_line_width",
        optional=True,
    ),
    Option(
        "max_line_count",
        ("--max-line-count",),
        int,
        "Lines in a cue of the subtitles.  [default: 2; 1 with --max-words-per-line]",
        "max_line_count",
        optional=True,
    ),
    Option(
        "max_words_per_line",
        ("--max-words-per-line",),
        int,
        "Words in a line of the subtitles; best with --word-timestamps.  [default: no limit]",
        "max_words_per_line",
        optional=True,
    ),
    Option(
        "subtitle_style",
        ("--subtitle-style",),
        str,
        "House rules for line lengths and reading speed: none, netflix or bbc.",
        "subtitle_style",
    ),
)
"""How recordings become transcripts, and where those go."""
