"""`create_batch_processor`: the options of a batch as keywords."""

from __future__ import annotations

import os
from collections.abc import Sequence

from trax_ray.core.spec import (
    DEFAULT_BATCH_PRIORITY,
    DEFAULT_CHUNK_SIZE,
    DEFAULT_CPU_LIMIT_PERCENT,
    DEFAULT_MAX_RETRIES,
    DEFAULT_MEMORY_LIMIT_MB,
    DEFAULT_PROGRESS_INTERVAL,
    DEFAULT_QUEUE_SIZE,
    DEFAULT_WORKERS,
)
from trax_ray.plan.options import DEFAULT_OUTPUT_DIR, make_spec
from trax_ray.processor import BatchProcessor
from trax_ray.watching import make_watch

__all__ = ["create_batch_processor"]


def create_batch_processor(
    max_workers: int = DEFAULT_WORKERS,
    queue_size: int = DEFAULT_QUEUE_SIZE,
    progress_interval: float = DEFAULT_PROGRESS_INTERVAL,
    memory_limit_mb: int = DEFAULT_MEMORY_LIMIT_MB,
    cpu_limit_percent: float = DEFAULT_CPU_LIMIT_PERCENT,
    output_dir: str | os.PathLike[str] = DEFAULT_OUTPUT_DIR,
    model: str | None = None,
    language: str | None = None,
    chunk_size: int = DEFAULT_CHUNK_SIZE,
    enhance: bool | str = False,
    address: str | None = None,
    base_url: str | None = None,
    max_cost_usd: float | None = None,
    vad: str = "normal",
    formats: str | Sequence[str] | None = None,
    max_line_width: int | None = None,
    max_line_count: int | None = None,
    max_words_per_line: int | None = None,
    subtitle_style: str = "none",
    reference: str | os.PathLike[str] | None = None,
    max_retries: int = DEFAULT_MAX_RETRIES,
    priority: int = 0,
    watch: bool = False,
    settle: float | None = None,
    poll: str | None = None,
    task: str = "transcribe",
    enhance_model: str | None = None,
    enhance_base_url: str | None = None,
    glossary: str | os.PathLike[str] | None = None,
    remove_fillers: bool = False,
    off_peak: bool = False,
    summary: bool = False,
    initial_prompt: str | None = None,
    word_timestamps: bool = False,
    task_timeout: float | None = None,
    grace: float | None = None,
    start_at: str | None = None,
    only_between: str | None = None,
    batch_priority: int = DEFAULT_BATCH_PRIORITY,
    channels: str = "mix",
    audio_track: str | None = None,
    loudness: bool = False,
    preprocess: bool = False,
    keep_audio: bool = False,
    max_items: int | None = None,
    since: str | None = None,
    match: str | None = None,
    download_archive: str | os.PathLike[str] | None = None,
    captions: str = "never",
    cookies: str | os.PathLike[str] | None = None,
    keep_media: bool = False,
    prefetch_mb: int | None = None,
    host_requests: int | None = None,
    host_pause: float | None = None,
    allow_private_network: bool = False,
    lean: bool = False,
) -> BatchProcessor:
    """Make a processor for one batch.

    Args:
        max_workers: Tasks that run at the same time; a ceiling.
        queue_size: Ready tasks held in memory.
        progress_interval: Seconds between calls of the progress callback.
        memory_limit_mb: MiB per node for the batch's own processes.
        cpu_limit_percent: Share of a node's cores for CPU-bound tasks, 1-100.
        output_dir: Folder for transcripts, report and journal; the same folder again continues.
        model: Speech model; None takes what is at hand (see `trax_ray.providers.registry`).
        language: ISO 639-1 code; None lets the model detect it.
        chunk_size: Longest stretch that is transcribed in one attempt, seconds.
        enhance: `format` (or True; every word stays), `words` (doubted words too), or `rules` (the glossary's alone).
        address: `host:port` of a Ray cluster; None finds or starts one.
        base_url: Address of a server of OpenAI's protocol; None takes OpenAI's own.
        max_cost_usd: What paid requests may cost, US dollars: none starts that would exceed it; None sets no limit.
        vad: How readily sound counts as speech: `off`, `low`, `normal` or `high`.
        formats: Formats of transcripts: `txt`, `srt`, `vtt`, `tsv`, `json`; None for all.
        max_line_width: Columns in a line of the subtitles; None takes the style's, 42.
        max_line_count: Lines in a cue; None for 2, and for 1 with `max_words_per_line`.
        max_words_per_line: Words in a line; None sets no limit.
        subtitle_style: House rules for line lengths and reading speed: `none`, `netflix` or `bbc`.
        reference: Folder of reference transcripts for what `add` adds; None for none.
        max_retries: Attempts after the first one.
        priority: Of what `add` adds; lower runs first, 0 is the highest.
        watch: Keep the batch open for what comes later to the inputs of `add`; `stop` or `interrupt` ends it.
        settle: With `watch`: seconds for which a file has to stay as it is until it is taken; None takes 10.
        poll: With `watch`: how often feeds and playlists are read again, such as `90s` or `6h`; None takes `30m`.
        task: What is made of each input: `transcribe`, `preprocess` or `download`; steps before it come too.
        enhance_model: Text model that enhances; None takes DeepSeek's.
        enhance_base_url: Address of a chat server of OpenAI's protocol; None takes DeepSeek's own.
        glossary: File with terms and rules, one a line; None for none.
        remove_fillers: With `enhance`: leave out what says nothing, such as `um`.
        off_peak: With `enhance`: ask only at hours at which the provider charges less.
        summary: With `enhance`: write a summary of each recording too.
        initial_prompt: Text that primes Whisper models; None for none.
        word_timestamps: Put word times into the JSON transcripts.
        task_timeout: Longest time that one attempt may take, seconds; None sets no limit.
        grace: Seconds that running attempts have to end after an `interrupt`; None gives 2, or 10 to paid requests.
        start_at: Start nothing before: `2026-11-21 22:00`, or `22:00` for the next one; None starts at once.
        only_between: Hours of the day in which attempts may start, such as `22:00-06:00`; None for all.
        batch_priority: Of the batch among those on the same cluster: lower goes first, 0 is the highest.
        channels: What is heard of several channels: `mix`, `left`, `right` or `split`: each by itself, as one speaker.
        audio_track: Number of the sound track, from 1, or its language; None for the one that holds the speech.
        loudness: Bring recordings to -23 LUFS (EBU R128) where they are converted; sets `preprocess`.
        preprocess: Convert recordings to 16 kHz mono FLAC first, and transcribe that.
        keep_audio: With `preprocess`: keep the converted audio, in `output_dir/audio`.
        max_items: Recordings that are taken of each playlist, channel, page and feed; None for all.
        since: Take only what was published on that day or later, such as `2026-11-21`; None for all.
        match: Take only recordings of lists whose title holds this text, in any case; None for all.
        download_archive: File that lists what was fetched, as yt-dlp writes it; None for none.
        captions: Take the publisher's own captions as the transcript: `never`, `prefer`, or `only`.
        cookies: File with cookies, in Netscape's format, for recordings that need a login; None for none.
        keep_media: Keep what was fetched from the web, in `output_dir/media`.
        prefetch_mb: MB fetched ahead of transcription; None takes a quarter of the free disk, at most 5000.
        host_requests: Recordings that are fetched from one host at once; None takes 2, from sites such as YouTube 1.
        host_pause: Seconds between two recordings of one host; None takes 10 to 20 at sites such as YouTube, else none.
        allow_private_network: Fetch from this machine and its network too, and not from public addresses only.
        lean: Start a local Ray head without the dashboard.

    Raises:
        UsageError: A value makes no sense.
        SetupError: What was asked for isn't in this version.
    """
    given = dict(locals())  # the keywords above by their names; `trax_ray.plan.options` has a row for each
    return BatchProcessor(make_spec(given), address=address, lean=lean, watch=make_watch(given))
