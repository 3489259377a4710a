"""The captions that a publisher wrote: which are taken, and fetching them. Used in the process that fetches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from trax_ray.codes import FailureClass, FailureCode
from trax_ray.web.errors import Unusable, described
from trax_ray.web.job import Captions, Job
from trax_ray.web.lists import read_limited

__all__ = ["fetched", "offered"]

MOST_BYTES = 8 << 20

_ORDER = ("vtt", "srt", "json", "html", "txt")
"""Formats that are read, the best first: what has times comes before what has none."""

_FORMATS = {
    "vtt": "vtt",
    "text/vtt": "vtt",
    "srt": "srt",
    "application/srt": "srt",
    "text/srt": "srt",
    "application/x-subrip": "srt",
    "text/plain": "txt",
    "application/json": "json",
    "text/html": "html",
}


def offered(info: Mapping[str, Any]) -> tuple[Captions, ...]:
    """What a site offers of a recording; what it made by a machine is kept apart by yt-dlp, and isn't among them."""
    found = []
    for language, forms in (info.get("subtitles") or {}).items():
        if language == "live_chat":
            continue
        for form in forms or ():
            if form.get("ext") in ("vtt", "srt") and (form.get("protocol") or "https").startswith("http"):
                found.append(Captions(str(form.get("url") or ""), form["ext"], str(language), form.get("data") or ""))
    return tuple(found)


def fetched(
    ydl: Any, job: Job, there: Iterable[Captions], refused: Sequence[str] = (), own: str = ""
) -> Captions | None:
    """The captions that are wanted; None where there are none in the recording's language.

    Args:
        ydl: yt-dlp.
        job: Its `languages` are those that are wanted.
        there: What is offered.
        refused: The addresses that the guard has refused so far; it grows.
        own: The recording's language, where its site says it.

    Raises:
        What yt-dlp raises where they can't be had now; what can't be had at all is passed over.
    """
    for each in _in_order([each for each in there if _form(each)], job.languages or ((own,) if own else ())):
        if each.text:
            return replace(each, type=_form(each))
        before = len(refused)
        try:
            with ydl.urlopen(each.url) as response:
                data = read_limited(response, MOST_BYTES, "the file with captions")
        except Exception as error:
            if described(error, job, tuple(refused[before:]))["failure_class"] == FailureClass.TRANSIENT.value:
                raise
            continue
        return replace(each, type=_form(each), text=_text(data))
    return None


def _text(data: bytes) -> str:
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            return data.decode("utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else encoding)
        except UnicodeDecodeError:
            continue
    raise Unusable("the captions are no text", FailureCode.NOT_SUBTITLES)


def _form(captions: Captions) -> str:
    suffix = captions.url.partition("?")[0].rpartition(".")[2].lower()
    return _FORMATS.get(captions.type, "") or (suffix if suffix in _ORDER else "")


def _in_order(there: Sequence[Captions], languages: Sequence[str]) -> list[Captions]:
    """Those of a wanted language, the best form first; where no language is wanted all, if they are of one."""
    for language in languages:
        fitting = [each for each in there if _is(each.language, language)] or [
            each for each in there if not each.language
        ]
        if fitting:
            exact = [each for each in fitting if each.language.lower() == language.lower()]
            return sorted(exact or fitting, key=lambda each: _ORDER.index(_form(each)))
    one = len({each.language for each in there}) == 1
    return sorted(there, key=lambda each: _ORDER.index(_form(each))) if one and not languages else []


def _is(language: str, wanted: str) -> bool:
    """Whether `en-GB` is what was asked for as `en`."""
    return language.lower().replace("_", "-").partition("-")[0] == wanted.lower().replace("_", "-").partition("-")[0]
