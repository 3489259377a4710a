"""Word documents of transcripts: paragraphs with who speaks and when. Needs python-docx, the extra `docx`."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trax_ray.core.writing import joined
from trax_ray.errors import SetupError
from trax_ray.report.export.reading import Row
from trax_ray.report.text import one_line

__all__ = ["document", "paragraphs_of"]

PAUSE_S = 2.0
"""After a silence of this length a new paragraph begins, seconds."""

PARAGRAPH_S = 60.0
"""One that has lasted this long ends with its sentence, seconds."""

_ENDS = (".", "?", "!", "…", "。", "？", "！")  # noqa: RUF001 - marks of other scripts are meant
_NOT_XML = re.compile("[\ufffe\uffff]")


@dataclass
class Paragraph:
    """What one speaker says in a row.

    Args:
        start_s: When it begins, seconds; None where nobody knows.
        speaker: Who; None where nobody knows.
        text: What.
    """

    start_s: float | None
    speaker: str | None
    text: str


def document(row: Row, segments: Sequence[Row], text_of: str = "text") -> bytes:
    """A transcript as a Word document.

    Args:
        row: Of files.
        segments: Its segments; where there are none its text is one paragraph.
        text_of: The column that the texts come from; `text` where that is null.

    Raises:
        SetupError: python-docx isn't installed.
    """
    try:
        import docx
    except ModuleNotFoundError as error:
        raise SetupError("docx files need python-docx: pip install 'trax-ray[docx]'") from error
    made = docx.Document()
    name = _xml(row["title"] or row["file_name"])
    made.core_properties.title = name[:255]
    made.core_properties.author = _xml(row["model"] or "")[:255]
    made.core_properties.comments = ""
    if row["ended_at"] is not None:
        made.core_properties.created = made.core_properties.modified = row["ended_at"]
    made.add_heading(name, level=1)
    made.add_paragraph(_about(row), style="Subtitle")
    for each in paragraphs_of(segments, text_of) if segments else [Paragraph(None, None, row["text"] or "")]:
        _add(made.add_paragraph(), each)
    stream = io.BytesIO()
    made.save(stream)
    return stream.getvalue()


def paragraphs_of(segments: Sequence[Row], text_of: str = "text") -> Iterator[Paragraph]:
    """Segments as people read them: a new paragraph for each speaker, after a pause, and once a minute."""
    now: list[Row] = []
    for each in segments:
        if now and _breaks(now, each):
            yield _paragraph(now, text_of)
            now = []
        now.append(each)
    if now:
        yield _paragraph(now, text_of)


def _breaks(now: Sequence[Row], after: Row) -> bool:
    last = now[-1]
    if after["speaker"] != last["speaker"] or after["start_s"] is None or last["end_s"] is None:
        return True
    if after["start_s"] - last["end_s"] >= PAUSE_S:
        return True
    return last["end_s"] - (now[0]["start_s"] or 0.0) >= PARAGRAPH_S and (last["text"] or "").endswith(_ENDS)


def _paragraph(rows: Sequence[Row], text_of: str) -> Paragraph:
    text = joined((each.get(text_of) or each["text"] or "").strip() for each in rows)
    return Paragraph(rows[0]["start_s"], rows[0]["speaker"], text)


def _add(made: Any, paragraph: Paragraph) -> None:
    from docx.shared import Pt, RGBColor

    if paragraph.start_s is not None:
        time = made.add_run(f"{_clock(paragraph.start_s)}\t")
        time.font.size, time.font.color.rgb = Pt(9), RGBColor(0x60, 0x60, 0x60)
    if paragraph.speaker:
        made.add_run(f"{_xml(paragraph.speaker)}: ").bold = True
    made.add_run(_xml(paragraph.text))


def _about(row: Row) -> str:
    parts = [row["file_name"] if row["title"] else None, row["language"], row["model"]]
    length = None if row["duration"] is None else _clock(row["duration"])
    return _xml(" · ".join(str(part) for part in (length, *parts) if part))


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _xml(text: str) -> str:
    """Text that XML can hold."""
    return _NOT_XML.sub("\ufffd", one_line(text))
