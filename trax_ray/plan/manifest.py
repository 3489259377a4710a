"""Lists and manifests: files that name recordings, and what shall hold for each of them.

A list has one path per line. Nothing in it is special: a name may begin with `#` or a space, hold quotes or `*`.
Where the text holds NUL bytes (`find -print0`) these part the paths instead, and names may hold line ends.

A manifest is CSV (parted by commas, semicolons or tabs), JSON lines or Parquet, one row per recording, with a
column `file_name` or `url`. The columns of `OBEYED` hold for their row; all others pass through to files.parquet.
An empty value is none. Names of these columns are known with spaces around them and in any case.

Both are bytes before they are text: paths that aren't UTF-8 become surrogate escapes, as everywhere.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trax_ray.errors import FileError, StoreError, UsageError
from trax_ray.plan.tasks import MAX_PRIORITY, Scalar
from trax_ray.providers.languages import read_language
from trax_ray.store.explaining import shown
from trax_ray.store.objects import read_object
from trax_ray.store.uris import ObjectPath, is_object_uri

__all__ = ["OBEYED", "Row", "is_manifest", "read_bytes_of", "read_list", "read_manifest"]

_SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")

_NAMES = ("file_name", "url")
OBEYED = ("language", "priority", "model", "prompt", "reference")
"""Columns that hold for their row, besides the two that name the recording."""

_KNOWN = frozenset((*_NAMES, *OBEYED))
_DELIMITERS = (",", ";", "\t")
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Row:
    """What a list or a manifest says about one recording. None, or empty, is what it doesn't say.

    Args:
        file_name: Path of the recording, as it stands there; empty where there is only a URL.
        where: The place, for messages: `talks.csv, line 3`.
        url: Where the recording is to be had; empty where there is a file.
        language: Its language code.
        priority: Lower runs first.
        model: Speech model.
        prompt: Text that primes the model.
        reference: Path of its reference transcript, as it stands there.
        extra: All other columns.
    """

    file_name: str
    where: str
    url: str = ""
    language: str | None = None
    priority: int | None = None
    model: str | None = None
    prompt: str | None = None
    reference: str = ""
    extra: Mapping[str, Scalar] = field(default_factory=dict, hash=False)

    @property
    def settings(self) -> dict[str, Scalar | Mapping[str, Scalar]]:
        """What it says besides the recording's name; empty where that is all."""
        said = {name: getattr(self, name) for name in (*OBEYED, "extra")}
        return {name: value for name, value in said.items() if value not in (None, "", {})}


def is_manifest(path: str) -> bool:
    """Whether a path's suffix is one of a manifest: `.csv`, `.jsonl`, `.ndjson`, `.parquet`, in any case."""
    return path.lower().endswith(_SUFFIXES)


def read_bytes_of(path: str) -> bytes:
    """The bytes of a list or a manifest, on a disk or in an object store.

    Raises:
        UsageError: It can't be read.
        StoreError, NetworkError: Its object store can't be asked.
    """
    if is_object_uri(path):
        try:
            return read_object(ObjectPath.of(path))[0]
        except FileError as error:
            if isinstance(error, StoreError):
                raise
            raise UsageError(f"can't read {path}: {error.message}: check the URI of the list or manifest") from error
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def read_list(data: bytes, name: str) -> list[Row]:
    """The paths of a list.

    Args:
        data: The list. A byte order mark is left out, and so are carriage returns where every line has one.
        name: What it is called in messages.

    Raises:
        UsageError: It is UTF-16.
    """
    data = _checked(data, name)
    if b"\0" in data:
        entries = [(number, entry) for number, entry in enumerate(data.split(b"\0"), start=1) if entry]
        return [Row(os.fsdecode(entry), f"{name}, entry {number}") for number, entry in entries]
    lines = data.split(b"\n")
    if all(line.endswith(b"\r") for line in lines[:-1]):
        lines = [line.removesuffix(b"\r") for line in lines]
    return [
        Row(os.fsdecode(line), f"{name}, line {number}") for number, line in enumerate(lines, start=1) if line.strip()
    ]


def read_manifest(path: str) -> list[Row]:
    """The rows of a manifest; none where it is empty.

    Args:
        path: Its path; the suffix says what it is.

    Raises:
        UsageError: It can't be read, has no `file_name` or `url`, or a value makes no sense; names file, line and
            the way out.
    """
    name, kind = shown(path), path.lower()
    if kind.endswith(".parquet"):
        records = _parquet_records(path, name)
    elif kind.endswith(".csv"):
        records = _csv_records(_text_of(path, name), name)
    else:
        records = _json_records(_text_of(path, name), name)
    return [_row(record, where) for where, record in records]


# From a file to records


Records = Iterator[tuple[str, Mapping[str, Any]]]
"""Place and values by column."""


def _unreadable(path: str, error: OSError) -> UsageError:
    return UsageError(f"can't read {shown(path)}: {error.strerror or error}: check the path of the list or manifest")


def _checked(data: bytes, name: str) -> bytes:
    """The bytes without a byte order mark."""
    if data.startswith(_UTF16_MARKS):
        raise UsageError(f"{name} is UTF-16: save it as UTF-8")
    return data.removeprefix(b"\xef\xbb\xbf")


def _text_of(path: str, name: str) -> str:
    return _checked(read_bytes_of(path), name).decode("utf-8", "surrogateescape")


def _csv_records(text: str, name: str) -> Records:
    if not text.strip():
        return
    delimiter = _delimiter(text)
    lines = _csv_lines(text, delimiter, name)
    columns = _columns(next(lines)[1], name)
    for number, cells in lines:
        where = f"{name}, line {number}"
        if len(cells) > len(columns):
            raise UsageError(
                f"{where}: {len(cells)} values for {len(columns)} columns: put values that hold {delimiter!r} in quotes"
            )
        yield where, {column: cell or None for column, cell in zip(columns, cells, strict=False)}


def _delimiter(text: str) -> str:
    """What parts the columns: that which makes one of the first line's words the name of one that we need."""
    header = text.lstrip().partition("\n")[0]
    for delimiter in _DELIMITERS:
        if any(word.strip(' "\r').casefold() in _NAMES for word in header.split(delimiter)):
            return delimiter
    return _DELIMITERS[0]


def _csv_lines(text: str, delimiter: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Number of the first line, and values, of each record that isn't empty."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise UsageError(f"{name}, line {number}: no valid CSV: {error}") from error
        if cells is None:
            return
        if cells:
            yield number, cells


def _json_records(text: str, name: str) -> Records:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{where}: no valid JSON: {error}: each line is one object") from error
        if not isinstance(value, dict):
            raise UsageError(
                f'{where}: expected an object such as {{"file_name": "talk.mp3"}}, got {line.strip()[:40]}'
            )
        yield where, dict(zip(_columns(list(value), where), value.values(), strict=True))


def _parquet_records(path: str, name: str) -> Records:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        # Opened here: Arrow takes no names that aren't UTF-8.
        with io.BytesIO(read_bytes_of(path)) if is_object_uri(path) else Path(path).open("rb") as stream:
            file = pq.ParquetFile(stream)
            names = dict(zip(file.schema_arrow.names, _columns(file.schema_arrow.names, name), strict=True))
            # Recordings inside a table would go through the journal; names may be bytes.
            kept = [
                each.name
                for each in file.schema_arrow
                if "binary" not in str(each.type) or names[each.name] in ("file_name", "reference")
            ]
            for batch in file.iter_batches(columns=kept):
                for record in batch.to_pylist():
                    number += 1
                    yield f"{name}, row {number}", {names[column]: value for column, value in record.items()}
    except OSError as error:
        if error.errno is not None:
            raise _unreadable(path, error) from error
        raise UsageError(f"{name} is damaged: {error}") from error
    except pa.ArrowException as error:
        raise UsageError(f"{name} is no Parquet file that can be read: {error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: a text isn't UTF-8: store names as binary values: {error}") from error


def _columns(given: Sequence[str], where: str) -> list[str]:
    """Columns by the names that we use: known ones as they are called here, those without a name by number."""
    columns = []
    for number, name in enumerate(given, start=1):
        known = name.strip().casefold()
        columns.append(known if known in _KNOWN else name.strip() or f"column_{number}")
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{where}: the column {twice} is there twice")
    if not set(columns) & set(_NAMES):
        there = ", ".join(columns[:8]) or "none"
        raise UsageError(f"{where}: a manifest needs a column file_name or url; there are: {there}")
    return columns


# From a record to a row


def _row(record: Mapping[str, Any], where: str) -> Row:
    file_name = _path(record.get("file_name"), "file_name", where)
    url = _text(record.get("url"), "url", where) or ""
    if not file_name and not url:
        raise UsageError(f"{where}: no file_name: name the recording or take the row out")
    extra = {name: value for name, value in record.items() if name not in _KNOWN}
    if file_name and url:
        extra["url"], url = url, ""
    return Row(
        file_name=file_name,
        where=where,
        url=url,
        language=_language(record.get("language"), where),
        priority=_priority(record.get("priority"), where),
        model=_text(record.get("model"), "model", where),
        prompt=_text(record.get("prompt"), "prompt", where),
        reference=_path(record.get("reference"), "reference", where),
        extra=_scalars(extra.items()),
    )


def _path(value: Any, column: str, where: str) -> str:
    """A path, empty where there is none. Spaces in it count."""
    if isinstance(value, bytes):
        value = os.fsdecode(value)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UsageError(f"{where}: expected a path as {column}, got {value!r:.80}")
    try:
        possible = b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:  # a surrogate that stands for no byte, as a JSON escape can give
        possible = False
    if not possible:
        raise UsageError(f"{where}: no file can be called {value!r:.80}: correct {column}")
    return value


def _language(value: Any, where: str) -> str | None:
    given = _text(value, "language", where)
    try:
        return None if given is None else read_language(given)
    except UsageError as error:
        raise UsageError(f"{where}: language: {error.message}") from None


def _text(value: Any, column: str, where: str) -> str | None:
    """Text without spaces around it; None where there is none."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise UsageError(f"{where}: expected text as {column}, got {value!r:.80}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{where}: {column} isn't UTF-8: save the manifest as UTF-8") from None
    return value.strip() or None


def _priority(value: Any, where: str) -> int | None:
    """A priority; 3, 3.0 and "3" are the same. None where there is none (pandas writes NaN)."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        if isinstance(value, bool):
            raise ValueError
        number = float(value)
        if math.isnan(number):
            return None
        if not (0 <= number <= MAX_PRIORITY and number.is_integer()):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise UsageError(
            f"{where}: expected a priority from 0 (first) to {MAX_PRIORITY}, a whole number, got {value!r:.80}"
        ) from None
    return int(number)


def _scalars(items: Iterable[tuple[str, Any]]) -> dict[str, Scalar]:
    """Values as the journal takes them, without those that are missing."""
    scalars = ((name, _scalar(value)) for name, value in items)
    return {name: value for name, value in scalars if value is not None}


def _scalar(value: Any) -> Scalar | None:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value if math.isfinite(value) else str(value)
    if isinstance(value, dict | list):
        return json.dumps(value, default=str, ensure_ascii=False)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
