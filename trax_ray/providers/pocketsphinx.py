"""pocketsphinx: speech recognition offline, in English, rough; the model is inside its wheel, which is an extra.

Measured on 112 s of recorded English (10 clips, 258 words; 2 cores): word error rate pooled 0.44 (0.40 to 0.50 when
the same clips are shifted by 9 ms, made softer or given faint noise, so differences below 0.03 mean little), real
time factor 0.2 to 0.25 on one core, 210 MB with the model. What mattered and what didn't:

- Whole utterances (`full_utt`), normalised by their own mean: 0.44. Live normalisation gives 0.50 to 0.64, also
  when it starts from the mean of the whole file.
- Phrases rather than minutes: pauses of 0.2 s end one, and 20 s do. Pauses of 1 s: 0.51.
- The estimate of the noise lives on from phrase to phrase of a file (without: 0.45), and ends with it: otherwise
  results depend on what was decoded before.
- Language weight 5 or 8 instead of 6.5, 8 Gaussians instead of 4, no second pass, no best path, no noise removal:
  worse by 0.01 to 0.05. Wider beams, other word and silence penalties, gain and dither: no gain.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trax_ray.codes import FailureCode
from trax_ray.errors import ProcessingError, SetupError
from trax_ray.media.speech import SAMPLE_RATE_HZ, Segment, Span, Word
from trax_ray.providers.base import EngineOptions, EngineProvider

if TYPE_CHECKING:
    from trax_ray.core.task import ResourceRequest
    from trax_ray.providers.base import Audio

__all__ = ["PROVIDER", "PocketsphinxEngine", "load", "segments_of"]

NAME = "pocketsphinx"
MAX_PIECE_S = 20.0
"""Longer speech is cut at its quietest moment in the last quarter before this."""

PAUSE_S = 0.6
"""A pause this long between two words begins a new segment."""

_ENGLISH = frozenset({"en", "eng", "english"})


class PocketsphinxProvider(EngineProvider):
    """See `EngineProvider`."""

    name = NAME
    models = "pocketsphinx (offline, English, rough)"
    languages = frozenset({"en"})
    extra = "pocketsphinx"
    prompts = False

    def has(self, model: str) -> bool:
        """Its name; there is only this one."""
        return model == NAME

    def memory_mb(self, model: str) -> int:
        """Measured: 160 with the model and ten minutes of audio, 230 at the most, shared libraries included."""
        return 256

    def load(self, model: str, resources: ResourceRequest) -> PocketsphinxEngine:
        """See `load` below."""
        return load(model, resources)


PROVIDER = PocketsphinxProvider()


def load(model: str, resources: ResourceRequest) -> PocketsphinxEngine:
    """Load the English model of the pocketsphinx wheel.

    Args:
        model: `pocketsphinx`; there is only this one.
        resources: Not used: it runs on one thread.

    Raises:
        SetupError: pocketsphinx isn't installed, or without its model.
    """
    return PocketsphinxEngine(model)


class PocketsphinxEngine:
    """One decoder, kept for many files; what it says doesn't depend on what it heard before. See `SpeechEngine`."""

    name = NAME

    def __init__(self, model: str = NAME) -> None:
        self.model = model
        self.language: str | None = None
        self._decoder = _decoder()

    def transcribe(self, audio: Audio, speech: Sequence[Span], options: EngineOptions) -> Iterator[Segment]:
        """Recognise English.

        Args:
            audio: float32, shape (n_samples,), mono, [-1, 1], at 16,000 Hz.
            speech: Spans that hold speech, in order.
            options: `initial_prompt` is ignored: the engine has none.

        Yields:
            Segments in order: the words between two pauses. `confidence` is the mean of the words' posterior
            probabilities in the word lattice. Measured on 256 words: 0.67 for right words and 0.41 for wrong
            ones, area under the ROC curve 0.72, mean 0.57 where 0.59 were right; so it is an honest but rough
            estimate. (The probability of a whole utterance, `get_prob`, means nothing: 1e-2 to 1e-14 by length.)

        Raises:
            ProcessingError: `unsupported_language` (class config); `engine_failed` (transient).
        """
        _require_english(options.language)
        if audio.ndim != 1:
            raise ValueError(f"expected mono, got shape {audio.shape}")
        self.language = "en"
        return self._segments(audio, speech, word_timestamps=options.word_timestamps)

    def _segments(self, audio: Audio, speech: Sequence[Span], *, word_timestamps: bool) -> Iterator[Segment]:
        first = True
        for span in speech:
            words: list[Word] = []
            for start, end in _pieces(audio, span):
                words += self._words(audio[start:end], start / SAMPLE_RATE_HZ, forget=first)
                first = False
            for segment in segments_of(words):
                yield segment if word_timestamps else replace(segment, words=())

    def _words(self, audio: Audio, offset_s: float, *, forget: bool) -> list[Word]:
        """Decode one utterance; `forget` drops the noise estimate of what came before."""
        import numpy as np

        samples = np.clip(np.rint(audio * 32768.0), -32768, 32767).astype(np.int16)
        decoder = self._decoder
        try:
            if forget:
                decoder.reinit_feat()  # 0.1 ms
            decoder.start_utt()
            try:
                decoder.process_raw(samples.tobytes(), full_utt=True)
            finally:
                decoder.end_utt()
            found = list(decoder.seg() or ())
        except RuntimeError as error:
            self._decoder = _decoder()
            raise ProcessingError(
                f"pocketsphinx failed on {len(audio) / SAMPLE_RATE_HZ:.1f} s of audio at {offset_s:.1f} s: {error}",
                failure_class="transient",
                code=FailureCode.ENGINE_FAILED,
            ) from error
        rate = float(decoder.config["frate"])
        longest_s = len(audio) / SAMPLE_RATE_HZ
        words = []
        for part in found:
            text = _clean(part.word)
            if text:
                start_s = min(part.start_frame / rate, longest_s)
                end_s = min((part.end_frame + 1) / rate, longest_s)
                probability = min(1.0, max(0.0, float(part.prob)))
                words.append(Word(offset_s + start_s, offset_s + end_s, text, probability))
        return words


def segments_of(words: Sequence[Word], *, pause_s: float = PAUSE_S) -> list[Segment]:
    """Join words to segments that end at pauses. Pure.

    Args:
        words: In order of time, with probabilities.
        pause_s: The pause between two words that begins a new segment.

    Returns:
        Segments in order, each with its words and the mean of their probabilities as confidence.
    """
    groups: list[list[Word]] = []
    for word in words:
        if groups and word.start_s - groups[-1][-1].end_s < pause_s:
            groups[-1].append(word)
        else:
            groups.append([word])
    segments = []
    for group in groups:
        known = [word.probability for word in group if word.probability is not None]
        segments.append(
            Segment(
                start_s=group[0].start_s,
                end_s=group[-1].end_s,
                text=" ".join(word.text for word in group),
                confidence=sum(known) / len(known) if known else None,
                words=tuple(group),
            )
        )
    return segments


def _pieces(audio: Audio, span: Span) -> Iterator[tuple[int, int]]:
    """The samples of a span, cut at quiet moments into pieces of at most `MAX_PIECE_S`."""
    from trax_ray.media.chunking import quietest

    start = max(0, round(span.start_s * SAMPLE_RATE_HZ))
    end = min(len(audio), round(span.end_s * SAMPLE_RATE_HZ))
    limit = round(MAX_PIECE_S * SAMPLE_RATE_HZ)
    while end - start > limit:
        high = min(limit, (end - start) * 3 // 4)
        cut = start + quietest(audio[start : start + high], high * 3 // 4, high)
        yield start, cut
        start = cut
    if end > start:
        yield start, end


def _clean(word: str) -> str:
    """The word without its variant's number, `and(2)`; empty for fillers: `<s>`, `[NOISE]`, `++um++`."""
    return "" if word[:1] in "<[+" else re.sub(r"\(\d+\)$", "", word)


def _require_english(language: str | None) -> None:
    if language is not None and re.split(r"[-_]", language.lower())[0] not in _ENGLISH:
        raise ProcessingError(
            f"pocketsphinx only knows English; for {language} take a Whisper model, such as --model base",
            failure_class="config",
            code=FailureCode.UNSUPPORTED_LANGUAGE,
        )


def _decoder() -> Any:
    """A decoder that keeps quiet."""
    try:
        from pocketsphinx import Decoder

        return Decoder(loglevel="FATAL")
    except (ImportError, RuntimeError) as error:
        raise SetupError(
            f'pocketsphinx can\'t be loaded ({error}): pip install --force-reinstall "trax-ray[pocketsphinx]", or '
            "take another --model"
        ) from error
