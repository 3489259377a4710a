"""Find the stretches of a recording that hold speech, with Silero VAD.

The model is the ONNX file inside the faster-whisper wheel (Silero VAD v6, MIT licence). It is run here window by
window with its state carried on, so that a stream of any length needs the same memory: faster-whisper's own
wrapper takes the whole recording at once and imports CTranslate2 for it.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from trax_ray.errors import SetupError
from trax_ray.media.speech import SAMPLE_RATE_HZ, Span

__all__ = ["WINDOW", "Detector", "SileroDetector", "spans_of", "speech_spans", "total_s"]

Audio = npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float32]

WINDOW = 512
"""Samples per decision (32 ms). Source: the model accepts no other length at 16 kHz."""

_CONTEXT = 64
"""Samples of the window before that the model sees again. Source: input shape (n, 576) of the model."""

_BATCH = 312
"""Windows per call, 10 s. Measured: 10,000 at once take 80 MB more and are slower."""

SPEECH = 0.5
"""A window at or above this probability starts speech. Source: the default of silero-vad."""

SILENCE = 0.35
"""A window below this ends it. Source: the default of silero-vad, 0.15 below the other."""

MIN_SPEECH_S = 0.1
"""Anything shorter is a click or a breath."""

MIN_SILENCE_S = 0.2
"""Speech goes on over pauses shorter than this. Measured with pocketsphinx: 0.2 to 0.3 s are best, 1 s and more worse;
Whisper's spans are joined again up to its window of 30 s."""

PAD_S = 0.3
"""Kept on either side: soft first and last sounds score low, and pocketsphinx wants some silence around speech."""

_QUIET_PEAK = 0.1
"""Recordings with a lower peak are amplified to it before detection; nobody else sees that copy. Measured: at a peak
of 0.005 a fifth of soft speech is missed without, and white, pink and brown noise stay below 0.3 at any level."""

_PURE_TONE = 0.9
"""A span with this share of its energy at one frequency is a tone: a 200 Hz tone that pulses scores as speech."""


class Detector(Protocol):
    """Anything that says for each 32 ms of a stream how likely it is speech."""

    def feed(self, block: Audio) -> Probabilities:
        """Take the next samples; give the probabilities, 0-1, of all windows that became complete."""
        ...

    def finish(self) -> Probabilities:
        """Give the probability of the last, incomplete window (filled up with silence), or nothing."""
        ...


class SileroDetector:
    """Silero VAD over a stream; the same probabilities however the stream is cut into blocks.

    Args:
        gain: Factor on the samples before detection.
    """

    def __init__(self, gain: float = 1.0) -> None:
        self._session = _session()
        self._gain = np.float32(gain)
        self._rest: Audio = np.zeros(0, dtype=np.float32)
        self._context: Audio = np.zeros(_CONTEXT, dtype=np.float32)
        self._state = (np.zeros((1, 1, 128), dtype=np.float32), np.zeros((1, 1, 128), dtype=np.float32))

    def feed(self, block: Audio) -> Probabilities:
        """See `Detector`. `block` is float32, shape (n_samples,), mono, [-1, 1], at 16,000 Hz."""
        samples = np.concatenate([self._rest, block])
        whole = len(samples) - len(samples) % WINDOW
        self._rest = samples[whole:].copy()
        windows = samples[:whole].reshape(-1, WINDOW)
        found = [self._run(windows[at : at + _BATCH]) for at in range(0, len(windows), _BATCH)]
        return np.concatenate(found) if found else np.zeros(0, dtype=np.float32)

    def finish(self) -> Probabilities:
        """See `Detector`."""
        if not len(self._rest):
            return np.zeros(0, dtype=np.float32)
        return self.feed(np.zeros(WINDOW - len(self._rest), dtype=np.float32))

    def _run(self, windows: Audio) -> Probabilities:
        windows = windows * self._gain
        before = np.concatenate([self._context[None], windows[:-1, -_CONTEXT:]])
        self._context = windows[-1, -_CONTEXT:].copy()
        inputs = {"input": np.concatenate([before, windows], axis=1), "h": self._state[0], "c": self._state[1]}
        output, hidden, cell = self._session.run(None, inputs)
        self._state = (hidden, cell)
        return np.asarray(output, dtype=np.float32).reshape(-1)


def speech_spans(
    audio: Audio, *, min_speech_s: float = MIN_SPEECH_S, min_silence_s: float = MIN_SILENCE_S, pad_s: float = PAD_S
) -> list[Span]:
    """Find speech.

    Args:
        audio: float32, shape (n_samples,), mono, [-1, 1], at 16,000 Hz. It isn't changed.
        min_speech_s: Shorter speech is dropped.
        min_silence_s: Pauses shorter than this don't end a span.
        pad_s: Added on either side of a span, up to the middle of the pause between two.

    Returns:
        Spans in order, without overlap, within the audio. None in silence, noise and tones.

    Raises:
        SetupError: The faster-whisper wheel holds no Silero model.
    """
    if audio.ndim != 1:
        raise ValueError(f"expected mono, got shape {audio.shape}")
    peak = _peak(audio)
    detector = SileroDetector(gain=_QUIET_PEAK / peak if 0 < peak < _QUIET_PEAK else 1.0)
    probabilities = np.concatenate([detector.feed(audio), detector.finish()])
    spans = spans_of(probabilities, len(audio), min_speech_s=min_speech_s, min_silence_s=min_silence_s, pad_s=pad_s)
    return [span for span in spans if not _is_tone(audio, span)]


def spans_of(
    probabilities: Probabilities,
    n_samples: int,
    *,
    min_speech_s: float = MIN_SPEECH_S,
    min_silence_s: float = MIN_SILENCE_S,
    pad_s: float = PAD_S,
) -> list[Span]:
    """Turn probabilities into spans: two thresholds, short pauses bridged, short speech dropped, padding. Pure.

    Args:
        probabilities: One per window of 512 samples, 0-1.
        n_samples: Length of the audio; no span ends later.
        min_speech_s: See `speech_spans`.
        min_silence_s: See `speech_spans`.
        pad_s: See `speech_spans`.

    Returns:
        Spans in order, without overlap.
    """
    runs: list[list[int]] = []
    inside = False
    for index, probability in enumerate(probabilities):
        if not inside and probability >= SPEECH:
            inside = True
            if runs and (index * WINDOW - runs[-1][1]) < min_silence_s * SAMPLE_RATE_HZ:
                continue
            runs.append([index * WINDOW, index * WINDOW])
        elif inside and probability < SILENCE:
            inside = False
            runs[-1][1] = index * WINDOW
    if inside:
        runs[-1][1] = n_samples
    runs = [run for run in runs if run[1] - run[0] >= min_speech_s * SAMPLE_RATE_HZ]
    if not runs:
        return []
    pad = round(pad_s * SAMPLE_RATE_HZ)
    middles = [(left[1] + right[0]) // 2 for left, right in pairwise(runs)]
    starts = [max(start - pad, low) for (start, _), low in zip(runs, [0, *middles], strict=True)]
    ends = [min(end + pad, high) for (_, end), high in zip(runs, [*middles, n_samples], strict=True)]
    return [
        Span(start / SAMPLE_RATE_HZ, end / SAMPLE_RATE_HZ)
        for start, end in zip(starts, ends, strict=True)
        if end > start
    ]


def total_s(spans: Sequence[Span]) -> float:
    """Seconds of speech in all spans."""
    return sum(span.end_s - span.start_s for span in spans)


def _peak(audio: Audio) -> float:
    """The level that one sample in a thousand exceeds: a click doesn't hide that the rest is quiet."""
    if not len(audio):
        return 0.0
    step = max(1, len(audio) // 1_000_000)
    return float(np.quantile(np.abs(audio[::step]), 0.999))


def _is_tone(audio: Audio, span: Span) -> bool:
    """Whether nearly all of a span's energy lies at one frequency (within 60 Hz of it) all the time."""
    samples = audio[round(span.start_s * SAMPLE_RATE_HZ) : round(span.end_s * SAMPLE_RATE_HZ)]
    power: npt.NDArray[np.float64] = np.zeros(WINDOW // 2 + 1)
    taper = np.hanning(WINDOW).astype(np.float32)
    for at in range(0, len(samples) - WINDOW + 1, WINDOW * _BATCH):
        part = samples[at : at + WINDOW * _BATCH]
        windows = part[: len(part) - len(part) % WINDOW].reshape(-1, WINDOW)
        power += (np.abs(np.fft.rfft(windows * taper, axis=1)) ** 2).sum(axis=0)
    power = power[2:]  # below 60 Hz is rumble
    total = power.sum()
    if total <= 0:
        return False
    peak = int(np.argmax(power))
    return bool(power[max(0, peak - 2) : peak + 3].sum() / total > _PURE_TONE)


@functools.lru_cache(maxsize=1)
def _session() -> Any:
    """The model, loaded once per process, on one thread."""
    import onnxruntime

    found = importlib.util.find_spec("faster_whisper")
    folders = list(found.submodule_search_locations or ()) if found else []
    models = [path for folder in folders for path in sorted(Path(folder, "assets").glob("silero_vad*.onnx"))]
    if not models:
        raise SetupError("faster-whisper's speech detector is missing: reinstall with `pip install faster-whisper`")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(models[-1]), sess_options=options, providers=["CPUExecutionProvider"])
