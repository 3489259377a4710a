"""How much room on the disk a batch will take, before it starts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath

from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import BatchTask, TaskType
from trax_ray.store.layout import Layout

__all__ = ["Room", "audio_s", "bytes_needed", "format_bytes", "room_for"]

BLOCK_BYTES = 4096
"""What file systems give to a file at least, and to a folder."""

_BYTES_PER_S = {
    "txt": 13.0,
    "srt": 21.0,
    "vtt": 19.0,
    "tsv": 16.0,
    "json": 71.0,
    "artifact": 43.0,
    "flac": 17_400.0,
}
"""Bytes per second of speech: `the_river.ogg` of the samples, and for FLAC the largest of them."""

_BYTES_PER_S_WITH_WORDS = _BYTES_PER_S | {"json": 415.0, "artifact": 148.0}

_TASK_BYTES = 1_700
"""Of one task in the journal (1,208) and in the report's tables (about 500)."""

_BATCH_BYTES = 64 * 1024
"""Of what every batch writes: the tables' frames, run.json, status, locks."""

_MAX_FOLDERS = 2 * 256
"""Artifacts and content hashes lie in up to 256 folders each."""

_LOSSY_BYTES_PER_S = 6_100.0
_SOURCE_BYTES_PER_S = {
    **dict.fromkeys(("wav", "wave", "aif", "aifc", "aiff", "au", "caf"), 32_000.0),
    **dict.fromkeys(("flac", "ape", "tak", "tta", "wv"), 16_000.0),
    **dict.fromkeys(("ogg", "oga", "opus", "spx", "amr", "gsm"), 2_600.0),
    **dict.fromkeys(("mp4", "m4v", "mkv", "mov", "avi", "webm", "wmv", "flv", "mpg", "mpeg", "ts"), 50_000.0),
}
"""Bytes per second of recordings, so low that their length is rather over- than underestimated: speech in the samples
has 32,006 as WAV, 15,934 as FLAC, 2,578 and more as Ogg, 6,060 and more as MP3 and M4A. There is no video among them:
400 kbit/s is what a video call sends at the least."""


@dataclass(frozen=True, slots=True)
class Room:
    """Room on the disk of an output folder.

    Args:
        needed_bytes: About what the batch will take.
        free_bytes: What there is; None where that can't be told.
        stored: Whether it is in an object store, which has room for all.
    """

    needed_bytes: int
    free_bytes: int | None
    stored: bool = False

    @property
    def enough(self) -> bool:
        """Whether it is, as far as can be told."""
        return self.free_bytes is None or self.free_bytes >= self.needed_bytes


def room_for(tasks: Iterable[BatchTask], spec: BatchSpec) -> Room:
    """About how much room the tasks will take, and how much there is; what has its transcripts counts no more."""
    layout = Layout.of(spec.output_dir)
    if layout.stored:
        return Room(bytes_needed(tasks, spec), None, stored=True)
    needed = bytes_needed((task for task in tasks if not _has_outputs(task, layout, spec)), spec)
    # os.path.exists, because Path.exists raises where a folder may not be entered: who writes there will say so.
    there = next(folder for folder in (layout.here, *layout.here.parents) if os.path.exists(folder))  # noqa: PTH110
    try:
        return Room(needed, shutil.disk_usage(there).free)
    except OSError:
        return Room(needed, None)


def _has_outputs(task: BatchTask, layout: Layout, spec: BatchSpec) -> bool:
    if "output" not in task.data:
        return False
    paths = [layout.here / layout.name_of(task.data["output"], suffix) for suffix in spec.formats]
    return bool(paths) and all(map(os.path.exists, paths))


def audio_s(path: str, size_bytes: int) -> float:
    """About how long a recording is, seconds, by its suffix and its size; rather too long than too short."""
    suffix = PurePath(path).suffix.lower().removeprefix(".")
    return size_bytes / _SOURCE_BYTES_PER_S.get(suffix, _LOSSY_BYTES_PER_S)


def bytes_needed(tasks: Iterable[BatchTask], spec: BatchSpec) -> int:
    """About how many bytes a batch will take on the disk of its output folder, files rounded up to whole blocks.

    Counted are transcripts, artifacts, journal and report. With `spec.preprocess` converted audio comes on top: all
    of it where it is kept; else that of recordings of more than one chunk, which stays until the last of their chunks
    is done, and of the largest others twice as many as there are workers.

    The figures per second were measured on `samples/` with pocketsphinx: of `the_river.ogg`, 124 s of speech without
    pauses, txt took 1,592 bytes, srt 2,603, vtt 2,350, tsv 1,925, json 8,733 (51,297 with word times), and the
    artifact 5,264 (18,270 with word times); a journal of eleven recordings 13,283; FLAC at most 17,302 a second. How
    long a recording is follows from its size, see `audio_s`: off by two or three times either way is usual.

    Args:
        tasks: The tasks of the batch; what counts are the recordings to transcribe, by `size_bytes`.
        spec: The batch.
    """
    count = 0
    total = float(_BATCH_BYTES)
    long_audio, short_audio = 0.0, []
    for task in tasks:
        if task.task_type is not TaskType.TRANSCRIBE or task.parent:
            continue
        count += 1
        length_s = audio_s(str(task.data.get("file_path") or ""), int(task.data.get("size_bytes") or 0))
        total += _of_recording(length_s, spec)
        if spec.preprocess:
            total += BLOCK_BYTES + _TASK_BYTES  # the figures of the conversion
            flac = _blocks(length_s * _BYTES_PER_S["flac"])
            if length_s > spec.chunk_size_s or spec.keep_audio:
                long_audio += flac
            else:
                short_audio.append(flac)
    in_flight = sorted(short_audio, reverse=True)[: 2 * spec.limits.max_workers]
    return round(total + min(2 * count, _MAX_FOLDERS) * BLOCK_BYTES + long_audio + sum(in_flight))


def _of_recording(length_s: float, spec: BatchSpec) -> float:
    """Bytes of all that one recording leaves: transcripts, artifact, those of its chunks, content hash, journal."""
    rates = _BYTES_PER_S_WITH_WORDS if spec.word_timestamps else _BYTES_PER_S
    chunks = int(length_s // spec.chunk_size_s) + 1 if length_s > spec.chunk_size_s else 0
    text = sum(_blocks(rates[name] * length_s) for name in spec.formats)
    artifact = _blocks(rates["artifact"] * length_s)
    of_chunks = chunks * (_blocks(artifact / chunks) + _TASK_BYTES) if chunks else 0
    return text + artifact + of_chunks + BLOCK_BYTES + _TASK_BYTES


def _blocks(size_bytes: float) -> int:
    """The bytes of all blocks that a file takes; an empty one counts as one."""
    return max(1, -int(-size_bytes // BLOCK_BYTES)) * BLOCK_BYTES


def format_bytes(count: float) -> str:
    """A number of bytes for people: `0 kB`, `12 MB`, `3.4 GB`, two digits or more, decimal units."""
    units = iter(("kB", "MB", "GB", "TB"))
    unit, count = next(units), count / 1000
    while count >= 999.5 and unit != "TB":
        unit, count = next(units), count / 1000
    return f"{count:.1f} {unit}" if unit != "kB" and count < 9.95 else f"{count:.0f} {unit}"
