"""pocketsphinx: speech recognition offline, in English, rough; the model is inside its wheel.

Measured on 110 s of recorded English (10 clips, 258 words; 2 cores): word error rate pooled 0.43 to 0.48 depending
on where pauses are cut, real time factor 0.2 on one core, 220 MB with the model. What mattered and what didn't:

- Whole utterances (`full_utt`) let it normalise by the utterance's own mean: 0.49 becomes 0.43 to 0.47, and nothing
  of one utterance is left for the next. Live normalisation, also when started from the file's mean, gives 0.50-0.60.
- Phrases rather than minutes: spans are cut at pauses and after at most 20 s.
- Language weight 5 or 8 instead of 6.5, 8 Gaussians instead of 4, no second pass, no best path: all worse by
  0.01 to 0.05. Wider beams and other word and silence penalties: no difference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trax_ray.errors import ProcessingError, SetupError
from trax_ray.media.chunking import quietest
from trax_ray.media.speech import SAMPLE_RATE_HZ, Segment, Span, Word
from trax_ray.providers.base import EngineOptions

if TYPE_CHECKING:
    from trax_ray.core.task import ResourceRequest

__all__ = ["PocketsphinxEngine", "load", "segments_of"]

Audio = npt.NDArray[np.float32]

NAME = "pocketsphinx"
