"""A process that recognises English: reads paths as JSON, a line each, and answers with segments, a line each."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from trax_ray.core.task import ResourceRequest
from trax_ray.errors import TraxRayError
from trax_ray.media import decode, vad
from trax_ray.providers import pocketsphinx
from trax_ray.providers.base import EngineOptions

__all__ = ["main"]


def main() -> None:
    """Recognise until there is nothing more to read."""
    engine = pocketsphinx.load("pocketsphinx", ResourceRequest())
    for line in sys.stdin:
        try:
            audio = decode.read(Path(json.loads(line)))
            options = EngineOptions(word_timestamps=True)
            found = [asdict(segment) for segment in engine.transcribe(audio, vad.speech_spans(audio), options)]
        except TraxRayError:
            found = []
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
