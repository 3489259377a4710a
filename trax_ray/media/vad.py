"""Find the stretches of a recording that hold speech, with Silero VAD.

The model is the ONNX file inside the faster-whisper wheel (Silero VAD v6, MIT licence). It is run here window by
window with its state carried on, so that a stream of any length needs the same memory: faster-whisper's own
wrapper takes the whole recording at once and imports CTranslate2 for it.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from trax_ray.errors import SetupError
from trax_ray.media.speech import SAMPLE_RATE_HZ, Span

__all__ = [
    "SENSITIVITIES",
    "WINDOW",
    "Detector",
    "Sensitivity",
    "SileroDetector",
    "spans_of",
    "speech_spans",
    "total_s",
]

Audio = npt.NDArray[np.float32]
Run = tuple[int, int]
Probabilities = npt.NDArray[np.float32]

WINDOW = 512
"""Samples per decision (32 ms). Source: the model accepts no other length at 16 kHz."""

_CONTEXT = 64
"""Samples of the window before that the model sees again. Source: input shape (n, 576) of the model."""

_BATCH = 312
"""Windows per call, 10 s. Measured: 10,000 at once take 80 MB more and are slower."""

SILENCE = 0.35
"""A window below this is a pause, for those who look for a place to cut. Source: the default of silero-vad."""

MIN_SPEECH_S = 0.1
"""Anything shorter is a click or a breath."""

MIN_SILENCE_S = 0.2
"""Speech goes on over pauses shorter than this. Measured with pocketsphinx: 0.2 to 0.3 s are best, 1 s and more worse;
Whisper's spans are joined again up to its window of 30 s."""

PAD_S = 0.3
"""Kept on either side: soft first and last sounds score low, and pocketsphinx wants some silence around speech."""

_LEVEL = 0.1
"""Quiet recordings are amplified to this level before detection; nobody else sees that copy. Measured: at a peak of
0.005 a fifth of soft speech is missed without, and white, pink and brown noise stay below 0.3 at any level."""

_SILENT_LEVEL = 1e-4
"""-80 dB: what stays below is silence and isn't amplified."""

_SECOND_LOOK_S = 0.4
"""Stretches without speech of this length or more are looked at again, each by itself and at its own level."""

_SECOND_LEVEL = 0.3
"""The level that those are brought to. Measured: speech 32 dB below that beside it is found whole, noise isn't."""

_LEVEL_S = 1.0
"""A level is taken over this long; the loudest of three neighbours counts, so that a pause isn't blown up."""

_PURE_TONE = 0.9
"""A span with this share of its energy at one frequency is a tone, or speech below a tone."""

_HIGH_PASS = 400
"""Samples of the moving average (25 ms) that is taken away before detection: a DC offset and rumble aren't level."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """How readily sound counts as speech.

    Args:
        speech: A window at or above this probability starts speech. The default is that of silero-vad.
        silence: A window below this ends it. The default is that of silero-vad, 0.15 below the other.
        second_look: The same two for stretches in which the first look found nothing; None for no second look.
    """

    speech: float = 0.5
    silence: float = 0.35
    second_look: tuple[float, float] | None = (0.4, 0.15)


SENSITIVITIES = {
    "low": Sensitivity(0.7, 0.55, None),
    "normal": Sensitivity(),
    "high": Sensitivity(0.3, 0.2, (0.2, 0.1)),
}
"""By the name that `--vad` takes; `off` is none of these: then all of a recording counts as speech."""


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
    audio: Audio,
    *,
    sensitivity: str = "normal",
    min_speech_s: float = MIN_SPEECH_S,
    min_silence_s: float = MIN_SILENCE_S,
    pad_s: float = PAD_S,
) -> list[Span]:
    """Find speech, at whatever level.

    The detector carries a state, and after another voice or a pause it can miss ten seconds of softer speech that it
    finds when it begins there. So what the first look leaves out is looked at once more by itself, at its own level.

    Args:
        audio: float32, shape (n_samples,), mono, [-1, 1], at 16,000 Hz. It isn't changed.
        sensitivity: `low`, `normal` or `high`; `off` takes all of the audio for speech.
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
    if sensitivity == "off":
        return [Span(0.0, len(audio) / SAMPLE_RATE_HZ)] if len(audio) else []
    wanted = SENSITIVITIES[sensitivity]
    heard = _without_rumble(audio)
    level = _peak(heard)
    gain = _LEVEL / level if _SILENT_LEVEL < level < _LEVEL else 1.0
    runs = _runs(_probabilities(heard, gain), len(audio), wanted.speech, wanted.silence, min_silence_s)
    runs = [run for run in runs if run[1] - run[0] >= min_speech_s * SAMPLE_RATE_HZ]
    if wanted.second_look is not None:
        for start, end in _left_out(runs, len(audio)):
            runs += _second_look(heard, start, end, wanted.second_look, min_speech_s, min_silence_s)
        runs = _joined(sorted(runs), min_silence_s)
    spans = _padded(runs, len(audio), pad_s)
    return [span for span in spans if not _is_tone(heard, span, wanted)]


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
    usual = SENSITIVITIES["normal"]
    runs = _runs(probabilities, n_samples, usual.speech, usual.silence, min_silence_s)
    return _padded([run for run in runs if run[1] - run[0] >= min_speech_s * SAMPLE_RATE_HZ], n_samples, pad_s)


def _runs(
    probabilities: Probabilities, n_samples: int, speech: float, silence: float, min_silence_s: float
) -> list[Run]:
    """Speech by two thresholds, in samples, short pauses bridged."""
    runs: list[Run] = []
    began: int | None = None
    for index, probability in enumerate(probabilities):
        if began is None and probability >= speech:
            began = index * WINDOW
        elif began is not None and probability < silence:
            runs.append((began, index * WINDOW))
            began = None
    if began is not None:
        runs.append((began, n_samples))
    return _joined(runs, min_silence_s)


def _joined(runs: Sequence[Run], min_silence_s: float) -> list[Run]:
    """Runs in order, those that are parted by a short pause as one."""
    joined: list[Run] = []
    for start, end in runs:
        if joined and start - joined[-1][1] < min_silence_s * SAMPLE_RATE_HZ:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _padded(runs: Sequence[Run], n_samples: int, pad_s: float) -> list[Span]:
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


def _left_out(runs: Sequence[Run], n_samples: int) -> list[Run]:
    """What lies between runs, where it is long enough to hold speech."""
    edges = [0, *(edge for run in runs for edge in run), n_samples]
    gaps = zip(edges[::2], edges[1::2], strict=True)
    return [(start, end) for start, end in gaps if end - start >= _SECOND_LOOK_S * SAMPLE_RATE_HZ]


def _second_look(
    heard: Audio, start: int, end: int, thresholds: tuple[float, float], min_speech_s: float, min_silence_s: float
) -> list[Run]:
    """Speech in a stretch that was left out, with a fresh detector and the level evened out."""
    levels = _levels(heard[start:end])
    if levels.max() < _SILENT_LEVEL:
        return []
    gains: Audio = np.float32(_SECOND_LEVEL) / np.maximum(levels, np.float32(_SILENT_LEVEL))
    detector = SileroDetector()
    found = []
    for first in range(0, len(levels), _LEVELS_AT_ONCE):
        evened = np.repeat(gains[first : first + _LEVELS_AT_ONCE], _LEVEL_STEP)
        part = heard[start + first * _LEVEL_STEP : end][: len(evened)]
        found.append(detector.feed(part * evened[: len(part)]))
    probabilities = np.concatenate([*found, detector.finish()])
    runs = _runs(probabilities, end - start, *thresholds, min_silence_s)
    return [(start + a, start + b) for a, b in runs if b - a >= min_speech_s * SAMPLE_RATE_HZ]


_LEVEL_STEP = int(_LEVEL_S * SAMPLE_RATE_HZ)

_LEVELS_AT_ONCE = 60
"""So that a long stretch isn't copied as a whole."""


def _levels(audio: Audio) -> Audio:
    """The level of each second, or of the louder one beside it."""
    parts = [_peak(audio[at : at + _LEVEL_STEP]) for at in range(0, len(audio), _LEVEL_STEP)]
    around = [0.0, *parts, 0.0]
    return np.array([max(around[at : at + 3]) for at in range(len(parts))], dtype=np.float32)


def _probabilities(audio: Audio, gain: float) -> Probabilities:
    detector = SileroDetector(gain=gain)
    return np.concatenate([detector.feed(audio), detector.finish()])


def _without_rumble(audio: Audio) -> Audio:
    """The audio less its moving average, block by block so that it needs little memory."""
    out = np.empty_like(audio)
    half = _HIGH_PASS // 2
    step = 60 * SAMPLE_RATE_HZ
    for at in range(0, len(audio), step):
        low, high = max(0, at - half), min(len(audio), at + step + half)
        sums = np.concatenate([[0.0], np.cumsum(audio[low:high], dtype=np.float64)])
        places = np.arange(at, min(len(audio), at + step)) - low
        first, last = np.maximum(places - half, 0), np.minimum(places + half, high - low)
        out[at : at + step] = audio[at : at + step] - (sums[last] - sums[first]) / (last - first)
    return out


def total_s(spans: Sequence[Span]) -> float:
    """Seconds of speech in all spans."""
    return sum(span.end_s - span.start_s for span in spans)


def _peak(audio: Audio) -> float:
    """The level that one sample in a thousand exceeds: a click doesn't hide that the rest is quiet."""
    if not len(audio):
        return 0.0
    step = max(1, len(audio) // 1_000_000)
    return float(np.quantile(np.abs(audio[::step]), 0.999))


def _is_tone(heard: Audio, span: Span, wanted: Sensitivity) -> bool:
    """Whether a span is a tone and nothing else: a 200 Hz tone that pulses scores as speech.

    Nearly all of its energy lies at one frequency (within 60 Hz of it), and what is left without that isn't speech.
    """
    samples = heard[round(span.start_s * SAMPLE_RATE_HZ) : round(span.end_s * SAMPLE_RATE_HZ)]
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
    if power[max(0, peak - 2) : peak + 3].sum() / total <= _PURE_TONE:
        return False
    rest = _notched(samples, (peak + 2) * SAMPLE_RATE_HZ / WINDOW)
    level = _peak(rest)
    if level < max(_SILENT_LEVEL, _peak(samples) * _TONE_REST):
        return True
    found = _runs(_probabilities(rest, _SECOND_LEVEL / level), len(rest), wanted.speech, wanted.silence, MIN_SILENCE_S)
    return sum(end - start for start, end in found) < _TONE_SPEECH_S * SAMPLE_RATE_HZ


_TONE_REST = 0.003
"""-50 dB: what is left of a tone itself, by its edges and the coding of the file, without anything below it."""

_TONE_SPEECH_S = 0.25
"""Speech below a tone lasts at least this long; a tone's edges score for less."""


def _notched(samples: Audio, frequency_hz: float) -> Audio:
    """The samples without what lies within 60 Hz of a frequency and its overtones."""
    spectrum = np.fft.rfft(samples)
    width = len(samples) / SAMPLE_RATE_HZ  # bins for each Hz
    for overtone in range(1, 4):
        centre = frequency_hz * overtone * width
        spectrum[max(0, int(centre - 60 * width)) : int(centre + 60 * width) + 1] = 0
    return np.asarray(np.fft.irfft(spectrum, len(samples)), dtype=np.float32)


@functools.lru_cache(maxsize=1)
def _session() -> Any:
    """The model, loaded once per process, on one thread."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it reports to its maker otherwise
    import onnxruntime

    onnxruntime.disable_telemetry_events()
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
