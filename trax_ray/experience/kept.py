"""What earlier runs of this user took, kept in one small file: seconds and memory by kind, model and machine.

It holds no names of recordings and no text. Without it, or where it is damaged or another program's, there is no
prediction before a run has some figures of its own: nothing else depends on it.
"""

from __future__ import annotations

import io
import logging
import os
import platform
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from trax_ray.core.policy.prediction import Observation
from trax_ray.errors import SetupError, TraxRayError
from trax_ray.places import data_folder
from trax_ray.store.explaining import shown
from trax_ray.store.files import ensure_folder
from trax_ray.store.writing import write_atomically

__all__ = ["MOST", "MOST_OF_ONE", "path", "recall", "remember", "this_machine"]

logger = logging.getLogger(__name__)

MOST = 5_000
"""Observations that are kept, the newest: about 100 kB."""

MOST_OF_ONE = 200
"""Of one kind, model and machine."""

MOST_BYTES = 10_000_000
"""A larger file isn't ours."""

VERSION = b"1"

_KEY = b"trax_ray_experience"

_COLUMNS = ("kind", "model", "machine", "audio_s", "seconds", "memory_mb", "at", "run")


def path() -> Path:
    """The file; raises as `places.data_folder`."""
    return data_folder() / "experience.parquet"


@cache
def this_machine() -> str:
    """What observations call this machine: its processor and how many cores, which other names don't change."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            name = next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {os.cpu_count() or 1} cores"


def recall(machine: str | None = None) -> tuple[Observation, ...]:
    """What is known, oldest first.

    Args:
        machine: Only what was seen there; None for all.
    """
    try:
        found = _read(path())
    except SetupError:  # a user without a home
        return ()
    return tuple(each for each in found if machine is None or each.machine == machine)


def remember(new: Iterable[Observation]) -> None:
    """Add what a run has seen. Where that can't be kept the next run knows less, and a remark says so."""
    new = list(new)
    if not new:
        return
    try:
        kept = _bounded([*_read(path()), *new])
        ensure_folder(path().parent)
        write_atomically(path(), _packed(kept))
    except TraxRayError as error:
        logger.info("how long this run took isn't kept for predictions: %s", error)


def _read(file: Path) -> list[Observation]:
    """The observations in the file; none, with a remark, where it is no file of this version."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if file.stat().st_size > MOST_BYTES:
            raise ValueError("it is too large")
        with file.open("rb") as stream:
            table = pq.ParquetFile(stream).read()
        if (table.schema.metadata or {}).get(_KEY) != VERSION:
            raise ValueError("another program or version wrote it")
        return [Observation(**{name: row[name] for name in _COLUMNS}) for row in table.to_pylist() if _is_sound(row)]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        logger.warning(
            "%s isn't used for predictions: %s", shown(file), str(error).splitlines()[0] if str(error) else ""
        )
        return []


def _is_sound(row: dict[str, object]) -> bool:
    """Whether figures are figures: a time of 1e300 s would say something of every batch to come."""
    texts = (row["kind"], row["model"], row["machine"], row["run"])
    numbers = (row["audio_s"], row["seconds"], row["memory_mb"], row["at"])
    return all(isinstance(each, str) for each in texts) and all(
        isinstance(each, float) and 0.0 <= each < 1e10 for each in numbers
    )


def _bounded(observations: list[Observation]) -> list[Observation]:
    """The newest of each, and the newest of all."""
    by_what: dict[tuple[str, str, str], list[Observation]] = defaultdict(list)
    for each in sorted(observations, key=lambda each: each.at):
        by_what[each.kind, each.model, each.machine].append(each)
    kept = [each for several in by_what.values() for each in several[-MOST_OF_ONE:]]
    return sorted(kept, key=lambda each: each.at)[-MOST:]


def _packed(observations: list[Observation]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, number = pa.string(), pa.float64()
    kinds = [text, text, text, number, number, number, number, text]
    schema = pa.schema(list(zip(_COLUMNS, kinds, strict=True)), metadata={_KEY: VERSION})
    rows = [{name: getattr(each, name) for name in _COLUMNS} for each in observations]
    written = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), written, compression="zstd")
    return written.getvalue()
