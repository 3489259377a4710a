"""The files that are made from a transcript, in the formats and the shape that a batch asks for."""

from __future__ import annotations

from dataclasses import dataclass

from trax_ray.codes import WarningCode
from trax_ray.core.spec import BatchSpec
from trax_ray.kinds.transcript import Source, Transcript
from trax_ray.store.layout import Layout
from trax_ray.store.outputs import write_files

__all__ = ["Written", "write_outputs"]


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a transcript's files.

    Args:
        outputs: The files, paths below the output folder.
        kept: Those of others that were kept, beside which ours are.
        warnings: Codes of what is to be known of them.
    """

    outputs: tuple[str, ...]
    kept: tuple[str, ...]
    warnings: tuple[str, ...]


def write_outputs(layout: Layout, spec: BatchSpec, source: Source, transcript: Transcript, output: str) -> Written:
    """Write a transcript in the formats that were asked for.

    Args:
        layout: The output folder.
        spec: Says formats and the shape of subtitles.
        source: The input that they are for.
        transcript: All of it.
        output: Path of its files below the output folder, without suffix.

    Raises:
        DiskFull: No space, no quota, read-only.
        FileError: Not permitted, or something stands in the way; permanent.
    """
    from trax_ray.media.shape import shape_of
    from trax_ray.media.subtitles import fast_cues, render

    shape = shape_of(spec)
    subtitled = not {"srt", "vtt"}.isdisjoint(spec.formats)
    fast = fast_cues(transcript.segments, shape) if subtitled else []
    about = transcript.about() | ({"fast_cues": [list(span) for span in fast]} if fast else {})
    wanted = {}
    for suffix in spec.formats:
        text = render(suffix, transcript.segments, meta=about, shape=shape)
        wanted[layout.name_of(output, suffix)] = text.encode("utf-8", "backslashreplace")
    names = write_files(layout, source.file_id, wanted)
    kept = tuple(name for name, written in zip(wanted, names, strict=True) if name != written)
    warnings = [WarningCode.OUTPUT_KEPT.value] if kept else []
    warnings += [WarningCode.FAST_SUBTITLES.value] if fast else []
    return Written(tuple(names), kept, tuple(warnings))
