"""The page: what is added up and packed while the rows pass by, put into the template at the end."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from trax_ray.core.policy.spots import Spot, spots_of
from trax_ray.report.fold import History
from trax_ray.report.page.drawing import bars
from trax_ray.report.page.figures import Figures
from trax_ray.report.page.pack import Pack, packed
from trax_ray.report.page.ranking import Ranking
from trax_ray.report.page.rows import COLUMNS, file_values, transcript_values
from trax_ray.report.page.times import run_view
from trax_ray.report.tables import Entry
from trax_ray.report.text import clean, one_line
from trax_ray.store import writing
from trax_ray.store.explaining import explain, shown
from trax_ray.store.layout import Layout

__all__ = ["MOST_TEXT_BYTES", "Page"]

MOST_TEXT_BYTES = 64 * 1024 * 1024
"""Compressed transcripts that a page holds, bytes: those of some sixty thousand recordings of five minutes. Of what
comes after that it has everything but the transcripts."""

_SCRIPTS = ("data", "player", "marks", "spots", "table", "file", "main")
_CODE = re.compile(r"`([^`]+)`")
_SECRET = re.compile(r"//[^/@\s]*@")


class Page:
    """The page of a report in the making: a context manager that is given the inputs in the order of adding.

    Args:
        layout: The output folder.
        final: Whether transcripts come with the inputs; else the page says where they will be.
    """

    def __init__(self, layout: Layout, *, final: bool) -> None:
        self._layout = layout
        self._final = final
        self._figures = Figures()
        self._ranking = Ranking()
        self._rows = Pack("rows")
        self._texts = Pack("text", MOST_TEXT_BYTES)

    def __enter__(self) -> Page:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with ExitStack() as stack:
            stack.callback(self._rows.close)
            stack.callback(self._texts.close)

    def add(
        self,
        entry: Entry,
        row: Mapping[str, Any],
        segments: Mapping[str, Sequence[Any]],
        uncovered: Sequence[tuple[float, float]] = (),
    ) -> None:
        """Take an input.

        Args:
            entry: The input.
            row: Its row of the table files.
            segments: Columns of the table segments.
            uncovered: Stretches of speech without words, seconds.

        Raises:
            DiskFull: No space for the temporary file.
        """
        number = self._figures.files
        self._figures.add_file(row)
        try:
            self._rows.add(file_values(entry, row, self._layout.output_dir))
            if not self._final:
                return
            self._figures.add_confidence(segments["confidence"])
            if not row.get("duplicate_of"):  # one of two copies is enough
                columns = [segments[name] for name in ("start_s", "end_s", "text", "confidence", "warnings")]
                for spot in spots_of(entry.file_id, zip(*columns, strict=True), uncovered):
                    self._ranking.add(number, spot)
            self._texts.add(transcript_values(segments, uncovered, row.get("text")))
        except OSError as error:
            raise explain(error, self._layout.index_html, "write") from error

    def write(self, history: History, facts: Mapping[str, Any]) -> None:
        """Write the page.

        Args:
            history: The batch.
            facts: What run.json holds.

        Raises:
            DiskFull: No space, no quota; the page that was there is intact.
            FileError: It can't be written.
        """
        path = self._layout.index_html
        try:
            with writing.Draft(path) as draft:
                with draft.stream() as stream:
                    for part in self._parts(history, facts):
                        stream.write(part)
                draft.commit(keep_same=True)
        except OSError as error:
            raise explain(error, path, "write") from error

    def _parts(self, history: History, facts: Mapping[str, Any]) -> Iterator[bytes]:
        rows, texts = list(self._rows.elements()), self._texts.elements()
        first_text = next(texts, b"")  # after which the number of chunks is known
        script, style = _script(), _asset("page.css")
        spots = self._ranking.worst_first()
        page = _template("page.html").render(
            **self._content(history, facts),
            script_hash=_hash(script),
            style_hash=_hash(style),
            style=_safe(style),
            row_chunks=self._rows.count,
            text_chunks=self._texts.count,
            spots_shown=len(spots),
            spots_seen=self._ranking.seen,
        )
        yield page.encode("utf-8", "backslashreplace")
        yield from rows
        yield b'<script type="text/plain" id="spots-0">%s</script>\n' % packed([_spot_values(*each) for each in spots])
        yield first_text
        yield from texts
        yield f"<script>{script}</script>\n</body>\n</html>\n".encode()

    def _content(self, history: History, facts: Mapping[str, Any]) -> dict[str, Any]:
        figures = self._figures
        return {
            "facts": facts,
            "counts": facts["counts"],
            "quality": facts["quality_metrics"],
            "limits": facts["spec"].get("limits", {}),
            "tasks": sum(facts["tasks"].values()),
            "figures": figures,
            "failures": figures.failure_groups(),
            "warnings": figures.warning_rows(),
            "has_confidence": bool(figures.confidence.total),
            "distributions": [
                (each.title, _safe(bars(each.labelled(), each.title))) for each in figures.distributions()
            ],
            "run": _run_with_markup(history),
            "provenance": _provenance(facts),
            "parameters": _parameters(facts),
            "final": self._final,
            "out": shlex.quote(one_line(shown(self._layout.output_dir))),
            "as_of": _moment(facts["as_of"]),
            "store": hashlib.sha256(f"{facts['name']} {facts['started_at']}".encode()).hexdigest()[:16],
        }


def _run_with_markup(history: History) -> dict[str, Any]:
    view = run_view(history)
    return {
        "charts": [(heading, _safe(chart)) for heading, chart in view.charts],
        "moments": view.moments,
        "moments_left_out": view.moments_left_out,
        "lanes": view.lanes,
    }


def _spot_values(file: int, spot: Spot) -> list[Any]:
    times = (round(spot.start_s * 1000), round(spot.end_s * 1000))
    return [file, *times, spot.text, list(spot.reasons), round(spot.words, 1)]


def _provenance(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    spec = facts["spec"]
    chosen = {
        "Model": spec.get("model"),
        "Server": spec.get("base_url"),
        "Language": spec.get("language") or "detected",
        "Began": _moment(facts["started_at"]),
        "Ended": _moment(facts["ended_at"]) if facts["ended_at"] else "",
        "trax_ray": facts["trax_ray_version"],
        "Ray": facts["ray_version"],
        "Python": facts["python_version"],
        "Written on": facts["host"],
        "Prices as of": facts.get("prices_as_of"),
        "Format": f"schema {facts['schema_version']}",
    }
    return [(name, _shown(value)) for name, value in chosen.items() if value]


def _parameters(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = []
    for name, value in facts["spec"].items():
        if isinstance(value, Mapping):
            found += [(f"{name}.{inner}", _shown(each)) for inner, each in value.items()]
        else:
            found.append((name, _shown(value)))
    return found


def _shown(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else "–" if value is None else str(value)  # noqa: RUF001
    return _SECRET.sub("//", one_line(text))


def _moment(iso: str | None) -> str:
    return "" if iso is None else f"{iso[:10]} {iso[11:19]} UTC"


def _hours(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"


# Assets


def _asset(name: str) -> str:
    return (Path(__file__).parent / "assets" / name).read_text("utf-8")


@cache
def _script() -> str:
    """All scripts as one, in a scope of their own."""
    parts = "\n".join(_asset(f"{name}.js") for name in _SCRIPTS)
    parts = parts.replace("$COLUMNS", json.dumps(list(COLUMNS)))
    return f'(() => {{\n"use strict";\n{parts}\n}})();'


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _safe(markup: str) -> Any:
    from markupsafe import Markup

    return Markup(markup)


@cache
def _template(name: str) -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=False)
    environment.filters["codes"] = _codes
    environment.globals.update(n=lambda value: f"{value:,}", hours=_hours, one_line=one_line)
    return environment.from_string(_asset(name))


def _codes(text: str) -> Any:
    """Text in which what stands between backticks is code."""
    from markupsafe import Markup, escape

    pieces: Iterable[str] = _CODE.split(clean(text))
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if number % 2 else escape(piece) for number, piece in enumerate(pieces)
    )
