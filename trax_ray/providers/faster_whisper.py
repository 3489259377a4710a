"""Whisper on this machine, through faster-whisper and CTranslate2.

The speech is cut into windows of up to 30 s, and several windows are decoded at once. Beam search at temperature 0
only, so that the same audio gives the same text: Whisper's usual fallback draws tokens at higher temperatures, and
CTranslate2's generator can't be seeded per request (measured: the text depends on what the process decoded before).
A window whose text repeats itself is decoded once more without repetition instead.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trax_ray.core.quality import REPETITION_RATIO, compression_ratio
from trax_ray.core.task import ResourceRequest
from trax_ray.errors import DiskFull, NetworkError, ProcessingError, ResourceError, SetupError, TraxRayError
from trax_ray.media.chunking import FRAME, quietest
from trax_ray.providers.base import SAMPLE_RATE_HZ, EngineOptions, Segment, Span, Word
from trax_ray.providers.weights import (
    PROBE_S,
    WHISPER_REPOSITORIES,
    cached_weights,
    missing_files,
    no_weights,
    weights_to_be_had,
)

if TYPE_CHECKING:
    from faster_whisper import WhisperModel

__all__ = ["FasterWhisperEngine", "Window", "load", "windows_of"]

Audio = npt.NDArray[np.float32]

WINDOW = 30 * SAMPLE_RATE_HZ
"""Samples that Whisper sees at once."""

LIMIT = WINDOW - FRAME
"""The longest window: 20 ms below, as faster-whisper counts a window's frames up to the next second."""

PAUSE = 3 * SAMPLE_RATE_HZ
"""Speech goes on in the same window over pauses up to this; it bounds by how much a segment can be late."""

_GPU_BATCH, _SMALL_BATCH = 16, 2
_SMALL_BYTES = 192 * 2**20
"""Windows decoded at once: on a CPU two for weights below this (tiny, base), else one. Measured with int8 on one core:
two instead of one save 18 % of the time for 120 MB with base, 9 % for 365 MB with small; four save base 7 % more, for
330 MB. The memory is better spent on another worker."""

BEAM_SIZE = 5
"""Source: the default of openai/whisper's command line and of faster-whisper."""

NO_SPEECH = 0.6
LOW_LOGPROB = -1.0
"""A window with a higher `no_speech_prob` and a lower `avg_logprob` is silence. Source: openai/whisper's defaults."""

_NO_REPEAT = 4
"""In the second try no four tokens in a row occur twice in a window."""

_DETECT_WINDOWS = 3
"""The language is detected on the first 30 s of speech, and on up to 60 s more while none has half the vote."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of audio that is decoded in one go; all figures are samples.

    Args:
        start: Where it begins.
        end: Where it ends, at most `LIMIT` later.
        parts: The speech in it, as (start, end); what lies between them is muted.
    """

    start: int
    end: int
    parts: tuple[tuple[int, int], ...]

    def write(self, audio: Audio, to: Audio) -> None:
        """Copy the speech in it to the beginning of `to`."""
        for start, end in self.parts:
            to[start - self.start : end - self.start] = audio[start:end]


def load(model: str, resources: ResourceRequest) -> FasterWhisperEngine:
    """Load a Whisper model.

    Args:
        model: A name such as `base`, or the path of a folder that holds a model in CTranslate2's format.
        resources: Threads (whole cores, at least one), and the GPU where one was asked for and is there.

    Returns:
        The engine: int8 on the CPU, float16 on a GPU.

    Raises:
        SetupError: The weights can't be had (found out within 10 s), or the folder holds no such model.
        NetworkError: A download that had begun broke off; transient, it goes on where it stopped.
        DiskFull: No room for the weights.
    """
    folder = _folder(model)
    import ctranslate2
    from faster_whisper import WhisperModel

    device = "cuda" if resources.num_gpus > 0 and ctranslate2.get_cuda_device_count() else "cpu"
    try:
        whisper = WhisperModel(
            str(folder),
            device=device,
            compute_type="float16" if device == "cuda" else "int8",
            cpu_threads=max(1, int(resources.num_cpus)),
            num_workers=1,
        )
    except MemoryError as error:
        raise ResourceError(f"no memory to load the model {model}", code="out_of_memory") from error
    except Exception as error:  # CTranslate2 and tokenizers raise bare exceptions for damaged files
        failure = _translated(error, model)
        if isinstance(failure, ResourceError):
            raise failure from error
        raise SetupError(f"the model in {folder} can't be loaded: {_line(error)}", code="bad_model") from error
    bands = len(whisper.feature_extractor.mel_filters)
    if bands != whisper.model.n_mels:
        raise SetupError(
            f"the model in {folder} wants {whisper.model.n_mels} mel bands, its preprocessor_config.json says {bands}: "
            f"copy that file from the original model",
            code="bad_model",
        )
    return FasterWhisperEngine(model, whisper, batch_size=_batch_size(device, folder))


class FasterWhisperEngine:
    """A loaded Whisper model; see `SpeechEngine`.

    A segment's `confidence` is the mean probability of its words where word times were asked for, else
    exp(avg_logprob), the geometric mean of its window's token probabilities.

    Args:
        model: What it was asked for by.
        whisper: The loaded model.
        batch_size: Windows decoded at once.
    """

    name = "faster-whisper"

    def __init__(self, model: str, whisper: WhisperModel, *, batch_size: int) -> None:
        self.model = model
        self.language: str | None = None
        self._whisper = whisper
        self._batch_size = batch_size

    def transcribe(self, audio: Audio, speech: Sequence[Span], options: EngineOptions) -> Iterator[Segment]:
        """See `SpeechEngine`. Segments come batch by batch; pauses are muted, and text timed into one is dropped.

        Raises:
            ProcessingError: `unknown_language`, or `language_not_spoken` by an English-only model (permanent).
            ResourceError: Out of memory.
            SetupError: The GPU's libraries are missing.
        """
        if audio.ndim != 1:
            raise ValueError(f"expected mono, got shape {audio.shape}")
        windows = windows_of(audio, speech)
        self.language = self._given(options.language)
        if not windows:
            return
        if self.language is None:
            self.language = self._detect(audio, windows)
        floor_s = 0.0
        for at in range(0, len(windows), self._batch_size):
            batch = windows[at : at + self._batch_size]
            for window, found in zip(batch, self._decode(audio, batch, options), strict=True):
                for raw in found:
                    segment = _segment(raw, window, floor_s)
                    if segment is not None:
                        floor_s = segment.end_s
                        yield segment

    def _given(self, language: str | None) -> str | None:
        """The language that was asked for, as Whisper writes it; None where it is to be detected."""
        multilingual = bool(self._whisper.model.is_multilingual)
        if language is None:
            return None if multilingual else "en"
        code = language.strip().lower().replace("_", "-").split("-")[0]
        if not multilingual and code != "en":
            raise ProcessingError(
                f"the model {self.model} only knows English, got the language {language}: "
                f"take one without .en, or leave --language out",
                code="language_not_spoken",
            )
        known = self._whisper.supported_languages
        if code not in known or (multilingual and self._whisper.hf_tokenizer.token_to_id(f"<|{code}|>") is None):
            raise ProcessingError(
                f"the model {self.model} doesn't know the language {language}: "
                f"expected an ISO 639-1 code such as {', '.join(known[:3])} or en",
                code="unknown_language",
            )
        return code

    def _detect(self, audio: Audio, windows: Sequence[Window]) -> str:
        speech = np.concatenate(
            [audio[start:end] for window in windows[:_DETECT_WINDOWS] for start, end in window.parts]
        )
        try:
            language, _, _ = self._whisper.detect_language(speech, language_detection_segments=_DETECT_WINDOWS)
        except (RuntimeError, ValueError) as error:
            raise _translated(error, self.model) from error
        return str(language)

    def _decode(self, audio: Audio, windows: Sequence[Window], options: EngineOptions) -> list[list[Any]]:
        """What faster-whisper finds in each window, timed from the window's beginning."""
        found = self._pass(audio, windows, options)
        repeating = [index for index, raw in enumerate(found) if _ratio(raw) > REPETITION_RATIO]
        if repeating:
            again = self._pass(audio, [windows[index] for index in repeating], options, no_repeat=_NO_REPEAT)
            for index, raw in zip(repeating, again, strict=True):
                found[index] = min(found[index], raw, key=_ratio)
        return [[] if raw and _silent(raw[0]) else raw for raw in found]

    def _pass(
        self, audio: Audio, windows: Sequence[Window], options: EngineOptions, *, no_repeat: int = 0
    ) -> list[list[Any]]:
        from faster_whisper import BatchedInferencePipeline

        # Each window begins at a multiple of 30 s of a recording of its own, so that segments tell theirs.
        laid_out = np.zeros(len(windows) * WINDOW, dtype=np.float32)
        clips = []
        for index, window in enumerate(windows):
            window.write(audio, laid_out[index * WINDOW :])
            length_s = (window.end - window.start) / SAMPLE_RATE_HZ
            clips.append({"start": 30.0 * index, "end": 30.0 * index + length_s})
        found: list[list[Any]] = [[] for _ in windows]
        try:
            segments, _ = BatchedInferencePipeline(self._whisper).transcribe(
                laid_out,
                language=self.language,
                clip_timestamps=clips,
                vad_filter=False,
                batch_size=len(windows),
                beam_size=BEAM_SIZE,
                temperature=0.0,
                condition_on_previous_text=False,
                without_timestamps=False,
                no_repeat_ngram_size=no_repeat,
                initial_prompt=options.initial_prompt or None,
                word_timestamps=options.word_timestamps,
            )
            for segment in segments:
                index = segment.seek // 3000
                _shift(segment, -30.0 * index)
                found[index].append(segment)
        except (RuntimeError, ValueError) as error:
            raise _translated(error, self.model) from error
        return found


def windows_of(audio: Audio, speech: Sequence[Span]) -> list[Window]:
    """Cut and merge spans of speech into windows that Whisper can take. Pure.

    Args:
        audio: float32, shape (n_samples,), mono, [-1, 1], at 16,000 Hz.
        speech: Spans in order, without overlap.

    Returns:
        Windows in order: neighbours are merged while they fit, a span that is too long is cut where it is
        quietest in the last third.
    """
    windows: list[Window] = []
    for start, end in _pieces(audio, speech):
        last = windows[-1] if windows else None
        if last is not None and start - last.end <= PAUSE and end - last.start <= LIMIT:
            windows[-1] = Window(last.start, end, (*last.parts, (start, end)))
        else:
            windows.append(Window(start, end, ((start, end),)))
    return windows


def _pieces(audio: Audio, speech: Sequence[Span]) -> Iterator[tuple[int, int]]:
    for span in speech:
        start = max(0, round(span.start_s * SAMPLE_RATE_HZ))
        end = min(len(audio), round(span.end_s * SAMPLE_RATE_HZ))
        while end - start > LIMIT:
            cut = start + quietest(audio[start : start + LIMIT], LIMIT * 2 // 3, LIMIT)
            yield start, cut
            start = cut
        if end - start >= FRAME:
            yield start, end


def _segment(raw: Any, window: Window, floor_s: float) -> Segment | None:
    """One of faster-whisper's segments as ours, in the recording's time; None where there is nothing in it."""
    text = raw.text.strip()
    offset_s = window.start / SAMPLE_RATE_HZ
    placed = _placed(float(raw.start) + offset_s, float(raw.end) + offset_s, window)  # NumPy's, with word times
    if not text or placed is None:
        return None
    start_s = max(placed[0], floor_s)
    end_s = max(placed[1], start_s)
    words = _words(raw.words or (), offset_s, start_s, end_s)
    logprob = _finite(raw.avg_logprob)
    confidence = None if logprob is None else math.exp(min(logprob, 0.0))
    known = [word.probability for word in words if word.probability is not None]
    if known:
        confidence = sum(known) / len(known)
    silence = _finite(raw.no_speech_prob)
    return Segment(
        start_s=start_s,
        end_s=end_s,
        text=text,
        confidence=confidence,
        avg_logprob=logprob,
        no_speech_prob=None if silence is None else min(max(silence, 0.0), 1.0),
        compression_ratio=_finite(raw.compression_ratio),
        words=words,
    )


def _placed(start_s: float, end_s: float, window: Window) -> tuple[float, float] | None:
    """A segment's times, moved into the speech that it touches; None where it touches none."""
    spans = [(start / SAMPLE_RATE_HZ, end / SAMPLE_RATE_HZ) for start, end in window.parts]
    touched = [(low, high) for low, high in spans if start_s < high and end_s > low]
    if not touched or end_s <= start_s:
        return None
    return max(start_s, touched[0][0]), min(end_s, touched[-1][1])


def _words(words: Sequence[Any], offset_s: float, start_s: float, end_s: float) -> tuple[Word, ...]:
    placed = []
    for word in words:
        begins = min(max(float(word.start) + offset_s, start_s), end_s)
        ends = min(max(float(word.end) + offset_s, begins), end_s)
        text = word.word.strip()
        if text:
            probability = _finite(word.probability)
            placed.append(Word(begins, ends, text, None if probability is None else min(max(probability, 0.0), 1.0)))
            start_s = ends
    return tuple(placed)


def _shift(segment: Any, by_s: float) -> None:
    for timed in (segment, *(segment.words or ())):
        timed.start += by_s
        timed.end += by_s


def _ratio(found: Sequence[Any]) -> float:
    """How much a window's text repeats itself."""
    return compression_ratio("".join(raw.text for raw in found).strip())


def _silent(raw: Any) -> bool:
    return bool(raw.no_speech_prob > NO_SPEECH and raw.avg_logprob < LOW_LOGPROB)


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _folder(model: str) -> Path:
    """The folder with a model's files, downloaded where need be."""
    if model not in WHISPER_REPOSITORIES:
        folder = Path(model).absolute()
        missing = missing_files(folder)
        if missing:
            raise SetupError(
                f"{folder} holds no Whisper model in CTranslate2's format: {', '.join(missing)} missing; convert one "
                f"with `ct2-transformers-converter --copy_files tokenizer.json preprocessor_config.json`",
                code="bad_model",
            )
        return folder
    cached = cached_weights(model)
    if cached is not None:
        return cached
    if not weights_to_be_had(model, PROBE_S):
        raise no_weights(model)
    return _download(model)


def _batch_size(device: str, folder: Path) -> int:
    if device == "cuda":
        return _GPU_BATCH
    return _SMALL_BATCH if (folder / "model.bin").stat().st_size < _SMALL_BYTES else 1


def _download(model: str) -> Path:
    """Fetch the weights of a named model; the hub's client waits, resumes and locks."""
    from faster_whisper import download_model

    try:
        return Path(download_model(model))
    except Exception as error:
        number = getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no room for the weights of {model} in Hugging Face's cache") from error
        if number in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise SetupError(
                f"the weights of {model} can't be written to Hugging Face's cache: {_line(error)}"
            ) from error
        raise NetworkError(f"the download of {model} broke off: {_line(error)}", code="download") from error


def _translated(error: Exception, model: str) -> TraxRayError:
    """Our error for one of CTranslate2's, which are bare: only the text tells them apart."""
    text = str(error)
    if "out of memory" in text:
        return ResourceError(f"out of GPU memory with the model {model}", code="out_of_memory")
    if "is not found or cannot be loaded" in text or "CUDA driver" in text:
        return SetupError(f"the GPU can't be used: {_line(error)}", code="gpu_libraries")
    return ProcessingError(f"{model} failed: {_line(error)}", failure_class="transient", code="engine")


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (f"{type(error).__name__}: {text}" if text else type(error).__name__)[:300]
