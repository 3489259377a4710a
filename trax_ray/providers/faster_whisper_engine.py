"""Whisper on this machine, through faster-whisper and CTranslate2.

The speech is cut into windows of up to 15 s (`whisper_windows`), and several are decoded at once. Whisper says in its
time stamps where it wants to go on, and often stops in mid-speech: so each window is held against the speech in it, and
what has no words is decoded again. Windows are padded by a second and not to the 30 s that Whisper was trained on,
which halves the time; where that makes it repeat itself or doubt, that window is decoded once more in full length.

Beam search at temperature 0 only, so that the same audio gives the same text: Whisper's usual fallback draws tokens at
higher temperatures, and CTranslate2's generator can't be seeded per request (measured: the text depends on what the
process decoded before). A text that is a loop even in full length is decoded without repetition.
"""

from __future__ import annotations

import errno
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trax_ray.codes import FailureCode
from trax_ray.core.task import ResourceRequest
from trax_ray.errors import DiskFull, NetworkError, ProcessingError, ResourceError, SetupError, TraxRayError
from trax_ray.providers.base import SAMPLE_RATE_HZ, EngineOptions, Segment, Span
from trax_ray.providers.weights import (
    PROBE_S,
    WHISPER_REPOSITORIES,
    local_weights,
    missing_files,
    no_weights,
    weights_to_be_had,
)
from trax_ray.providers.whisper_segments import segment_of, split_at_stamps, words_of
from trax_ray.providers.whisper_windows import Found, Piece, Window, is_crammed, is_loop, unheard, windows_of

if TYPE_CHECKING:
    from faster_whisper import WhisperModel

__all__ = ["FasterWhisperEngine", "load"]

Audio = npt.NDArray[np.float32]

_GPU_BATCH = 32
_BATCHES = ((100 * 2**20, 8), (192 * 2**20, 4))
_BATCH = 2
"""Windows decoded at once: on a CPU eight for weights below 100 MiB (tiny), four below 192 (base), else two. Measured
with int8 on one core: with tiny.en four instead of two save a fifth of the decoding, eight a tenth more. Peak memory of
the process: tiny.en 476 MiB with eight, base 525 with four, small 656 with two."""

BEAM_SIZE = 5
"""Source: the default of openai/whisper's command line and of faster-whisper."""

NO_SPEECH = 0.6
LOW_LOGPROB = -1.0
"""A window with a higher `no_speech_prob` and a lower `avg_logprob` is silence. Source: openai/whisper's defaults."""

_NO_REPEAT = 4
"""In the last try no four tokens in a row occur twice in a window."""

_PAD_S = 1.0
"""Silence after a window, for the decoder to see its end. Measured: 1, 2 and 3 s are alike."""

_FULL_S = 30
_TOKENS_PER_S, _TOKENS = 14, 40
"""The longest text of a window: tokens a second, and tokens besides; more is a loop, and takes long."""

_SURE = 0.5
"""Below this probability a window's language is taken from the windows before it, where it is among theirs."""

_LANGUAGE_PAUSE = SAMPLE_RATE_HZ // 2
"""Where the language is detected, windows end in pauses of this length: one language each, mostly."""


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
        raise ResourceError(f"no memory to load the model {model}", code=FailureCode.OUT_OF_MEMORY) from error
    except Exception as error:  # CTranslate2 and tokenizers raise bare exceptions for damaged files
        failure = _translated(error, model)
        if isinstance(failure, ResourceError):
            raise failure from error
        raise SetupError(
            f"the model in {folder} can't be loaded: {_line(error)}", code=FailureCode.BAD_MODEL
        ) from error
    bands = len(whisper.feature_extractor.mel_filters)
    if bands != whisper.model.n_mels:
        raise SetupError(
            f"the model in {folder} wants {whisper.model.n_mels} mel bands, its preprocessor_config.json says {bands}: "
            f"copy that file from the original model",
            code=FailureCode.BAD_MODEL,
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
        """See `SpeechEngine`. Segments come batch by batch; of pauses only those up to 2 s are heard.

        Where no language is given each window's is detected; `language` is then the one of most speech.

        Raises:
            ProcessingError: `unknown_language`, or `language_not_spoken` by an English-only model (permanent).
            ResourceError: Out of memory.
            SetupError: The GPU's libraries are missing.
        """
        if audio.ndim != 1:
            raise ValueError(f"expected mono, got shape {audio.shape}")
        self.language = self._given(options.language)
        if self.language is not None:
            waiting = windows_of(audio, speech)
        else:
            waiting = windows_of(audio, speech, pause=_LANGUAGE_PAUSE)
        spoken: Counter[str] = Counter()
        decoder = _Decoder(self._whisper, self.model, options, self.language, spoken)
        ready: list[tuple[Piece, Found]] = []
        floor_s = 0.0
        while waiting:
            batch, waiting = waiting[: self._batch_size], waiting[self._batch_size :]
            for found in decoder.decode(audio, batch):
                ready += [(piece, found) for piece in found.pieces]
                waiting += unheard(found)
            if self.language is None or spoken:
                self.language = max(spoken, key=lambda code: spoken[code])
            waiting.sort(key=lambda window: window.start)
            ready.sort(key=lambda each: each[0].start)
            # What is still to be decoded may begin before what was: segments come in order of time.
            while ready and (not waiting or ready[0][0].start < waiting[0].start):
                piece, found = ready.pop(0)
                segment = segment_of(piece, found, floor_s)
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
                code=FailureCode.LANGUAGE_NOT_SPOKEN,
            )
        known = self._whisper.supported_languages
        if code not in known or (multilingual and self._whisper.hf_tokenizer.token_to_id(f"<|{code}|>") is None):
            raise ProcessingError(
                f"the model {self.model} doesn't know the language {language}: "
                f"expected an ISO 639-1 code such as {', '.join(known[:3])} or en",
                code=FailureCode.UNKNOWN_LANGUAGE,
            )
        return code


class _Decoder:
    """Decodes the windows of one recording.

    Args:
        whisper: The loaded model.
        model: Its name, for errors.
        options: What the caller asked for.
        language: The one that was given; None detects each window's.
        spoken: Takes the samples of speech by language.
    """

    def __init__(
        self, whisper: WhisperModel, model: str, options: EngineOptions, language: str | None, spoken: Counter[str]
    ) -> None:
        from faster_whisper.tokenizer import Tokenizer
        from faster_whisper.transcribe import get_suppressed_tokens

        self._whisper = whisper
        self._model = model
        self._options = options
        self._language = language
        self._spoken = spoken
        self._tokenizer: Any = Tokenizer(
            whisper.hf_tokenizer, bool(whisper.model.is_multilingual), task="transcribe", language=language or "en"
        )
        self._suppressed = get_suppressed_tokens(self._tokenizer, [-1])
        self._primed = self._tokenizer.encode(" " + options.initial_prompt.strip()) if options.initial_prompt else []
        self._tried = self._repaired = 0

    def decode(self, audio: Audio, windows: Sequence[Window]) -> list[Found]:
        """What each window holds, in the same order."""
        try:
            # In full length a window takes four times the memory.
            step = max(1, len(windows) // 4) if self._needs_full else len(windows)
            batches = [windows[at : at + step] for at in range(0, len(windows), step)]
            found = [each for batch in batches for each in self._pass(audio, batch, full=self._needs_full)]
            doubted = [index for index, each in enumerate(found) if _is_wrong(each) or each.avg_logprob < LOW_LOGPROB]
            self._tried += len(windows)
            self._repaired += len(doubted)
            for index in doubted:
                found[index] = self._again(audio, found[index])
        except (RuntimeError, ValueError) as error:
            raise _translated(error, self._model) from error
        found = [replace(each, pieces=()) if _silent(each) else each for each in found]
        for each in found:
            self._spoken[each.language] += sum(end - start for start, end in each.window.parts if each.pieces)
        return found

    @property
    def _needs_full(self) -> bool:
        """Whether this model, or this recording, is one that wants the full length: then nothing is tried before."""
        return self._tried >= 8 and self._repaired > self._tried / 4

    def _again(self, audio: Audio, first: Found) -> Found:
        """A window that repeats itself or is doubted, in full length; and, if it is still a loop, without repeats."""
        second = self._pass(audio, [first.window], full=True)[0]
        best = second if _is_wrong(first) or second.avg_logprob > first.avg_logprob else first
        if not is_loop(best):
            return best
        return self._pass(audio, [first.window], full=True, no_repeat=_NO_REPEAT)[0]

    def _pass(self, audio: Audio, windows: Sequence[Window], *, full: bool = False, no_repeat: int = 0) -> list[Found]:
        from faster_whisper.audio import pad_or_trim

        whisper = self._whisper
        longest_s = max(window.end - window.start for window in windows) / SAMPLE_RATE_HZ
        seconds = _FULL_S if full else min(_FULL_S, math.ceil(longest_s + _PAD_S))
        features = [whisper.feature_extractor(audio[window.start : window.end])[..., :-1] for window in windows]
        frames = seconds * whisper.frames_per_second
        encoded = whisper.encode(np.stack([pad_or_trim(each, frames) for each in features]))
        languages = self._languages(encoded, windows)
        prompts = [self._prompt(language) for language in languages]
        longest = len(prompts[0]) + _TOKENS + int(_TOKENS_PER_S * longest_s)
        results = whisper.model.generate(
            encoded,
            prompts,
            beam_size=BEAM_SIZE,
            max_length=min(whisper.max_length, longest),
            suppress_blank=True,
            suppress_tokens=self._suppressed,
            max_initial_timestamp_index=50,
            no_repeat_ngram_size=no_repeat,
            return_scores=True,
            return_no_speech_prob=True,
        )
        found = [
            self._found(window, language, result)
            for window, language, result in zip(windows, languages, results, strict=True)
        ]
        return self._with_words(found, encoded) if self._options.word_timestamps else found

    def _prompt(self, language: str) -> list[int]:
        if self._whisper.model.is_multilingual:
            self._tokenizer.language = self._tokenizer.tokenizer.token_to_id(f"<|{language}|>")
            self._tokenizer.language_code = language
        return list(self._whisper.get_prompt(self._tokenizer, self._primed))

    def _languages(self, encoded: Any, windows: Sequence[Window]) -> list[str]:
        if self._language is not None:
            return [self._language] * len(windows)
        languages = []
        for votes in self._whisper.model.detect_language(encoded):
            chances = {token[2:-2]: chance for token, chance in votes}
            best = max(chances, key=lambda code: chances[code])
            if chances[best] < _SURE and self._spoken:
                best = max(self._spoken, key=lambda code: chances.get(code, 0.0))
            languages.append(best)
        return languages

    def _found(self, window: Window, language: str, result: Any) -> Found:
        tokens = list(result.sequences_ids[0])
        begin = self._tokenizer.timestamp_begin
        length = window.end - window.start
        parts, seek = split_at_stamps(tokens, begin, length)
        pieces = []
        for start, end, part in parts:
            text_tokens = tuple(token for token in part if token < self._tokenizer.eot)
            text = self._tokenizer.decode(list(text_tokens)).strip()
            if text and start < length:  # in what is only padding nothing is said
                low, high = window.start + start, window.start + min(max(end, start), length)
                pieces.append(Piece(low, high, text, text_tokens))
        logprob = float(result.scores[0]) * len(tokens) / (len(tokens) + 1)
        at = None if seek is None else window.start + min(seek, length)
        return Found(window, tuple(pieces), at, logprob, float(result.no_speech_prob), language)

    def _with_words(self, found: list[Found], encoded: Any) -> list[Found]:
        """The pieces with times for each word, by the decoder's attention; a batch is aligned in one language."""
        # A window without words takes its place in the batch.
        silence: dict[str, Any] = {"start": 0.0, "end": 0.0, "tokens": [], "seek": 0}
        laid_out: list[list[dict[str, Any]]] = [
            [
                {
                    "start": (piece.start - each.window.start) / SAMPLE_RATE_HZ,
                    "end": (piece.end - each.window.start) / SAMPLE_RATE_HZ,
                    "tokens": list(piece.tokens),
                    "seek": 0,
                }
                for piece in each.pieces
            ]
            or [dict(silence)]
            for each in found
        ]
        frames = [math.ceil((each.window.end - each.window.start) / _FRAME) for each in found]
        self._whisper.add_word_timestamps(
            laid_out, self._tokenizer, encoded, frames, _OPENING, _CLOSING, last_speech_timestamp=0.0
        )
        return [
            replace(
                each,
                pieces=tuple(
                    replace(piece, words=tuple(words_of(timed["words"], each.window.start / SAMPLE_RATE_HZ)))
                    for piece, timed in zip(each.pieces, timed_pieces, strict=False)
                ),
            )
            for each, timed_pieces in zip(found, laid_out, strict=True)
        ]


_FRAME = SAMPLE_RATE_HZ // 100
"""Samples of one of Whisper's frames, 10 ms."""

_OPENING, _CLOSING = "\"'\u201c\u00bf([{-", "\"'.\u3002,\uff0c!\uff01?\uff1f:\uff1a\u201d)]}\u3001"
"""Marks that go with the word after and before them. Source: the defaults of faster-whisper."""


def _is_wrong(found: Found) -> bool:
    return is_loop(found) or is_crammed(found)


def _silent(found: Found) -> bool:
    return found.no_speech_prob > NO_SPEECH and found.avg_logprob < LOW_LOGPROB


def _folder(model: str) -> Path:
    """The folder with a model's files, downloaded where need be."""
    if model not in WHISPER_REPOSITORIES:
        folder = Path(model).absolute()
        missing = missing_files(folder)
        if missing:
            raise SetupError(
                f"{folder} holds no Whisper model in CTranslate2's format: {', '.join(missing)} missing; convert one "
                f"with `ct2-transformers-converter --copy_files tokenizer.json preprocessor_config.json`",
                code=FailureCode.BAD_MODEL,
            )
        return folder
    local = local_weights(model)
    if local is not None:
        return local
    if not weights_to_be_had(model, PROBE_S):
        raise no_weights(model)
    return _download(model)


def _batch_size(device: str, folder: Path) -> int:
    if device == "cuda":
        return _GPU_BATCH
    size = (folder / "model.bin").stat().st_size
    return next((windows for limit, windows in _BATCHES if size < limit), _BATCH)


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
        raise NetworkError(f"the download of {model} broke off: {_line(error)}", code=FailureCode.DOWNLOAD) from error


def _translated(error: Exception, model: str) -> TraxRayError:
    """Our error for one of CTranslate2's, which are bare: only the text tells them apart."""
    text = str(error)
    if "out of memory" in text:
        return ResourceError(f"out of GPU memory with the model {model}", code=FailureCode.OUT_OF_MEMORY)
    if "is not found or cannot be loaded" in text or "CUDA driver" in text:
        return SetupError(f"the GPU can't be used: {_line(error)}", code=FailureCode.GPU_LIBRARIES)
    return ProcessingError(f"{model} failed: {_line(error)}", failure_class="transient", code=FailureCode.ENGINE)


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (f"{type(error).__name__}: {text}" if text else type(error).__name__)[:300]
