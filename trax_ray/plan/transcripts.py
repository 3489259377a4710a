"""Which of the files that were named or found are transcripts, each once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePath

from trax_ray.errors import UsageError
from trax_ray.media.transcript_reader import TRANSCRIPT_SUFFIXES
from trax_ray.plan.inputs import Found, Scan
from trax_ray.store.explaining import shown
from trax_ray.store.uris import is_object_uri
from trax_ray.web.addresses import is_url

__all__ = ["transcripts_of"]


def transcripts_of(found: Scan) -> Scan:
    """Transcripts, each once: of several files of one the one that says most, and none that an enhancement made.

    What a report holds is no transcript: `run.json` beside the journal of a batch.

    Raises:
        UsageError: One isn't a file of this machine.
    """
    best: dict[PurePath, Found] = {}
    for each in found.found:
        if is_url(each.path) or is_object_uri(each.path):
            raise UsageError(f"task (--task) enhance takes files of this machine: leave out {shown(each.path)}")
        path = PurePath(each.path)
        if not path.stem.endswith(".enhanced") and not _is_report(path.parent):
            best[path.with_suffix("")] = min(best.get(path.with_suffix(""), each), each, key=_says)
    kept = tuple(each for each in found.found if best.get(PurePath(each.path).with_suffix("")) is each)
    left = Counter(PurePath(each.path).suffix.lower() for each in found.found if each not in kept)
    left.update(found.ignored_suffixes)
    return replace(found, found=kept, ignored=left.total(), ignored_suffixes=dict(left.most_common()))


def _is_report(folder: PurePath) -> bool:
    """Whether a folder holds the report of a batch."""
    return folder.name == "report" and Path(folder.parent, ".trax").is_dir()


def _says(each: Found) -> int:
    suffix = PurePath(each.path).suffix.lower()
    return TRANSCRIPT_SUFFIXES.index(suffix) if suffix in TRANSCRIPT_SUFFIXES else len(TRANSCRIPT_SUFFIXES)
