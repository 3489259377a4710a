"""What was said, found by words: an index over the segments of a report, in SQLite's full-text search.

The index lies beside the tables, in `OUT/report/search.sqlite`; of a batch in an object store on the machine that
searches. It is made by the first search after a report, so that
those who never search don't pay for it, and says itself which segments it was made from.

Each row of it is a segment and the one after it, so that a phrase is found that runs over both; the text stands in it
once. Characters of scripts without spaces are words of their own there.
"""

from __future__ import annotations

import re
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow.parquet as pq

from trax_ray.core.writing import is_unspaced
from trax_ray.errors import DiskFull, FileError, UsageError
from trax_ray.report.parquet import read_columns
from trax_ray.store import files, writing
from trax_ray.store.explaining import explain
from trax_ray.store.layout import Layout
from trax_ray.store.looking import exists, opened, stamp_of

__all__ = ["Found", "Hit", "as_query", "search"]

FORMAT = 1
"""Of the index; goes up when it is made in another way."""

_PART = "\u200b"
"""Stands between characters of scripts without spaces: no letter, and without width."""

_BEGIN, _END = "\ue000", "\ue001"
"""Around what was found; texts that hold them lose them."""

_TOKEN = re.compile(r'"(?P<phrase>[^"]*)"(?P<phrase_star>\*)?|(?P<near>\bNEAR\()|(?P<mark>[()])|(?P<word>[^\s"()]+)')
_CONTEXT = 60
_GROUP = 10_000
_OPERATORS = ("AND", "OR", "NOT")


@dataclass(frozen=True, slots=True)
class Hit:
    """A place where something was said.

    Args:
        file_id: The input's.
        file_name: As people see it.
        start_s: Where the segment begins, seconds; None for a transcript without segments.
        end_s: Where it ends.
        speaker: Who says it; None where nobody knows.
        text: The segment.
        snippet: What was found, with what stands around it.
        marks: Start and end of what was found, in the snippet.
    """

    file_id: str
    file_name: str
    start_s: float | None
    end_s: float | None
    speaker: str | None
    text: str
    snippet: str
    marks: tuple[tuple[int, int], ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self) | {"marks": [list(mark) for mark in self.marks]}


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Args:
        hits: By file in the order of adding, and by time.
        total: How many there are, also beyond `limit`.
        file_count: In how many inputs.
    """

    hits: list[Hit]
    total: int
    file_count: int


def search(output_dir: str | Path, query: str, *, limit: int | None = 50) -> Found:
    """Find words in what was said in a batch.

    Args:
        output_dir: The batch's output folder, with a report.
        query: Words, all of which are said in a segment or the next; `"a phrase"`, `begin*`, `one OR other`, `NOT`,
            `NEAR(one other, 5)` (at most five words between them) and parentheses as SQLite's FTS5 has them. Case and
            accents don't count.
        limit: How many hits are given; None gives all.

    Raises:
        FileError: There is no report; permanent, `trax-ray report OUT` builds it.
        UsageError: The query makes no sense.
        DiskFull: No room for the index.
    """
    layout = Layout.of(output_dir)
    wanted = as_query(query)
    with closing(_opened(layout)) as base:
        try:
            rows = base.execute(
                "SELECT rowid, highlight(found, 0, ?, ?) FROM found WHERE found MATCH ? ORDER BY rowid",
                (_BEGIN, _END, wanted),
            )
            own = [(number, text) for number, text in rows if _begins_in_first(text)]
        except sqlite3.OperationalError as error:
            raise UsageError(f"this can't be searched for: {query!r} ({error})") from error
        shown = own if limit is None else own[:limit]
        hits = [_hit(base, number, text) for number, text in shown]
        return Found(hits, len(own), len(_files_of(base, [number for number, _ in own])))


def as_query(query: str) -> str:
    """A query in FTS5's language, in which all that people write between its operators is words and phrases.

    Raises:
        UsageError: It holds no words, or a quotation mark or a parenthesis without its other half.
    """
    if query.count('"') % 2:
        raise UsageError(f"a quotation mark has no other half: {query}")
    made: list[str] = []
    open_: list[bool] = []  # whether each parenthesis that is open is one of NEAR
    letters = False
    for found in _TOKEN.finditer(query):
        phrase, word, mark = found["phrase"], found["word"], found["mark"]
        if mark == ")":
            if not open_:
                raise UsageError(f"a parenthesis has no other half: {query}")
            made.append(")*" if open_.pop() else ")")
            continue
        if word in _OPERATORS and not (open_ and open_[-1]):
            made.append(word)
            continue
        if made and (made[-1] == ")" or (mark and made[-1] not in (*_OPERATORS, "("))):
            made.append("AND")  # which FTS5 only leaves out between words
        if found["near"] or mark:
            open_.append(bool(found["near"]))
            made.append(found["near"] or "(")
            continue
        letters = letters or any(letter.isalnum() for letter in phrase or word or "")
        if phrase is not None:
            made.append(_quoted(phrase) + (found["phrase_star"] or ""))
        else:
            near = bool(open_ and open_[-1])
            made += [word] if near and made[-1] == "," and word.isdigit() else _words(word, near=near)
    if open_:
        raise UsageError(f"a parenthesis has no other half: {query}")
    if not letters:
        raise UsageError("there are no words to search for")
    return " ".join(")" if each == ")*" else each for each in made)


def _words(word: str, *, near: bool) -> list[str]:
    """A word; within NEAR( a comma stands before the distance, which is a number."""
    before, comma, after = word.rpartition(",")
    if near and comma and (not after or after.isdigit()):
        return [*([_quoted(before)] if before else []), ",", *([after] if after else [])]
    if word.endswith("*") and word.strip("*"):
        return [_quoted(word.rstrip("*")) + "*"]
    return [_quoted(word)]


def _quoted(text: str) -> str:
    return '"' + _spaced(text).replace('"', '""') + '"'


def _spaced(text: str) -> str:
    """The text as it is indexed."""
    text = text.replace(_BEGIN, "").replace(_END, "").replace(_PART, "")
    if text.isascii():
        return text
    return "".join(f"{_PART}{each}{_PART}" if is_unspaced(each) else each for each in text)


# Hits


def _begins_in_first(marked: str) -> bool:
    """Whether what was found begins in a row's own segment: what lies in the next one is found there too."""
    return -1 < marked.find(_BEGIN) < marked.index("\n")


def _files_of(base: sqlite3.Connection, numbers: list[int]) -> set[int]:
    found: set[int] = set()
    for at in range(0, len(numbers), 500):
        some = numbers[at : at + 500]
        marks = ",".join("?" * len(some))
        found.update(row[0] for row in base.execute(f"SELECT DISTINCT file FROM said WHERE id IN ({marks})", some))
    return found


def _hit(base: sqlite3.Connection, number: int, marked: str) -> Hit:
    file_id, name, start, end, speaker, text = base.execute(
        "SELECT files.file_id, files.name, start_s, end_s, speaker, text FROM said JOIN files ON files.id = said.file "
        "WHERE said.id = ?",
        (number,),
    ).fetchone()
    snippet, marks = _snippet(marked.replace(_PART, "").rstrip("\n").replace("\n", " "))
    return Hit(file_id, name, start, end, speaker, text.replace(_PART, ""), snippet, marks)


def _snippet(marked: str) -> tuple[str, tuple[tuple[int, int], ...]]:
    """What stands around the first mark, without marks, and where these were."""
    at = marked.index(_BEGIN)
    last = marked.find(_END, at)
    low, high = max(0, at - _CONTEXT), min(len(marked), last + 2 * _CONTEXT)
    if low:
        low = marked.find(" ", low, at) + 1 or low
    if high < len(marked):
        high = max(marked.rfind(" ", last, high), last + 1)
    plain, marks, begun = ("… " if low else ""), [], None
    for letter in marked[low:high]:
        if letter == _BEGIN:
            begun = len(plain)
        elif letter == _END:
            if begun is not None:
                marks.append((begun, len(plain)))
            begun = None
        else:
            plain += letter
    return plain + (" …" if high < len(marked) else ""), tuple(marks)


# The index


def _opened(layout: Layout) -> sqlite3.Connection:
    """The index of the report that is there now; made where it isn't, or is another one's."""
    path, stamp = layout.here / "report" / "search.sqlite", _stamp(layout)
    found = _open_if_fresh(path, stamp)
    if found is not None:
        return found
    try:
        files.ensure_folder(path.parent, lasting=False)
        with writing.written_atomically(path) as temporary:
            _build(temporary, layout, stamp)
    except DiskFull:
        raise
    except FileError:
        # The folder may not be written to. It isn't kept then.
        return _in_a_temporary_file(layout, stamp)
    made = _open_if_fresh(path, stamp)
    if made is None:  # another report was written meanwhile
        return _in_a_temporary_file(layout, stamp)
    return made


def _in_a_temporary_file(layout: Layout, stamp: str) -> sqlite3.Connection:
    with tempfile.TemporaryDirectory(prefix="trax_ray_search_") as folder:
        path = Path(folder) / "search.sqlite"
        _build(path, layout, stamp)
        base = _connection(path)
        base.execute("SELECT value FROM about").fetchone()  # it is open now, and stays so when its name is gone
        return base


def _stamp(layout: Layout) -> str:
    """What the index is made from: the tables as they are."""
    parts = [f"format {FORMAT}"]
    for name in ("files", "segments"):
        path = layout.table(name)
        try:
            stamp = stamp_of(path)
        except FileNotFoundError:
            if name == "files":
                read_columns(path, ["file_id"])  # says the way out
            parts.append(f"no {name}")
            continue
        except OSError as error:
            raise explain(error, path, "read") from error
        parts.append(f"{name} {stamp}")
    return ", ".join(parts)


def _connection(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path), errors='surrogateescape')}?mode=ro&immutable=1", uri=True)


def _open_if_fresh(path: Path, stamp: str) -> sqlite3.Connection | None:
    if not path.is_file():
        return None
    base = _connection(path)
    try:
        if base.execute("SELECT value FROM about").fetchone() == (stamp,):
            return base
    except sqlite3.DatabaseError:  # damaged, or nobody's
        pass
    base.close()
    return None


def _build(path: Path, layout: Layout, stamp: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as base:
        base.executescript(
            """
            PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -20000;
            CREATE TABLE about (value TEXT);
            CREATE TABLE files (id INTEGER PRIMARY KEY, file_id TEXT, name TEXT);
            CREATE TABLE said (id INTEGER PRIMARY KEY, file INTEGER, start_s REAL, end_s REAL, speaker TEXT, text TEXT);
            CREATE VIEW windows AS SELECT one.id, one.text || char(10) || coalesce(next.text, '') AS text
                FROM said AS one LEFT JOIN said AS next ON next.id = one.id + 1 AND next.file = one.file;
            CREATE VIRTUAL TABLE found USING fts5(text, content='windows', content_rowid='id',
                tokenize="unicode61 remove_diacritics 2");
            BEGIN;
            """
        )
        numbers: dict[str, int] = {}
        whole: dict[str, str] = {}
        for file_id, name, text in _rows(layout, "files", ("file_id", "file_name", "text")):
            numbers[file_id] = len(numbers)
            base.execute("INSERT INTO files VALUES (?, ?, ?)", (numbers[file_id], file_id, name))
            if text:
                whole[file_id] = text
        columns = ("file_id", "start_s", "end_s", "speaker", "text")
        if exists(layout.table("segments")):
            for file_id, start, end, speaker, text in _rows(layout, "segments", columns):
                if file_id in numbers:
                    whole.pop(file_id, None)
                    _say(base, numbers[file_id], start, end, speaker, text or "")
        for file_id, text in whole.items():  # transcripts without segments
            _say(base, numbers[file_id], None, None, None, text)
        base.execute("INSERT INTO found(rowid, text) SELECT id, text FROM windows")
        base.execute("INSERT INTO about VALUES (?)", (stamp,))
        base.execute("COMMIT")


def _say(
    base: sqlite3.Connection, file: int, start: float | None, end: float | None, speaker: str | None, text: str
) -> None:
    said = " ".join(_spaced(text).splitlines())
    base.execute("INSERT INTO said VALUES (NULL, ?, ?, ?, ?, ?)", (file, start, end, speaker, said))


def _rows(layout: Layout, table: str, columns: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    """The rows of a table, in its order, a part at a time."""
    path = layout.table(table)
    read_columns(path, ())  # says the way out where it is none
    with opened(path) as stream:
        for batch in pq.ParquetFile(stream).iter_batches(_GROUP, columns=list(columns)):
            found = [batch.column(name).to_pylist() for name in columns]
            yield from zip(*found, strict=True)
