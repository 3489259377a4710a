"""PREPROCESS: a recording as 16 kHz mono FLAC, and what can be heard of its quality."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from trax_ray.core.task import Outcome
from trax_ray.store.artifacts import ArtifactStore, content_hash
from trax_ray.store.files import ensure_folder, written_atomically
from trax_ray.store.layout import Layout
from trax_ray.tasks.assignment import Assignment, Progress

__all__ = ["FORMAT_VERSION", "preprocess"]

FORMAT_VERSION = 1


def preprocess(assignment: Assignment) -> Iterator[Progress | Outcome]:
    """Convert and analyse one recording.

    Args:
        assignment: Its task's `data`: `file_path`, and `output`, the path of the FLAC file below the output
            folder without suffix.

    Yields:
        Progress, then one Outcome whose metrics hold the figures of `media.analysis`, `duration_s`, `speech_s`,
        `warnings` and `outputs`.

    Raises:
        FileError: The recording can't be read, or the file can't be written; permanent.
        MediaError: There is nothing to decode; permanent.
    """
    started = time.monotonic()
    yield Progress(0.0)
    layout = Layout(Path(assignment.spec.output_dir))
    store = ArtifactStore(layout.artifacts)
    source = Path(assignment.task.data["file_path"])
    target = layout.output_dir / f"{assignment.task.data['output']}.flac"
    key = store.key(content_hash(source, layout.hashes), "preprocess", {"sample_rate_hz": 16_000}, "", FORMAT_VERSION)
    figures = store.get(key)
    cached = figures is not None
    if figures is None or not target.exists():
        ensure_folder(target.parent)
        found = yield from _convert(source, target)
        figures = store.put(key, found | {"processing_s": round(time.monotonic() - started, 3)})[1]
    outputs = [str(target.relative_to(layout.output_dir))]
    yield Outcome(artifact_key=key, metrics=figures | {"outputs": outputs, "cached": cached})


def _convert(source: Path, target: Path) -> Generator[Progress, None, dict[str, Any]]:
    import numpy as np
    import soundfile

    from trax_ray.media.analysis import Analyser
    from trax_ray.media.decode import stream
    from trax_ray.media.speech import SAMPLE_RATE_HZ
    from trax_ray.media.vad import SileroDetector, spans_of, total_s

    analyser, detector = Analyser(), SileroDetector()
    probabilities = []
    samples = 0
    with (
        stream(source) as blocks,
        written_atomically(target) as temporary,
        soundfile.SoundFile(
            temporary, "w", samplerate=SAMPLE_RATE_HZ, channels=1, format="FLAC", subtype="PCM_16"
        ) as flac,
    ):
        for block in blocks:
            flac.write(block)
            analyser.feed(block)
            probabilities.append(detector.feed(block))
            samples += len(block)
            yield Progress(0.0)
        warnings = blocks.warnings
    probabilities.append(detector.finish())
    speech_s = total_s(spans_of(np.concatenate(probabilities), samples))
    figures = analyser.figures()
    found = {*warnings, *figures.pop("warnings"), *(() if speech_s > 0 else ("no_speech",))}
    return {
        "duration_s": round(samples / SAMPLE_RATE_HZ, 3),
        "speech_s": round(speech_s, 3),
        **figures,
        "warnings": sorted(found),
    }
