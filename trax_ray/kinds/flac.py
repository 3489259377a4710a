"""A recording is written as 16 kHz FLAC, and listened to as it passes. Loads what decodes: imported by who does it."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np

from trax_ray.codes import WarningCode
from trax_ray.kinds.assignment import Progress
from trax_ray.kinds.form import Form
from trax_ray.media import decode
from trax_ray.media.analysis import Analyser, combined
from trax_ray.media.choice import voices_of
from trax_ray.media.loudness import Loudness, Meter, levelled
from trax_ray.media.medium import Readable
from trax_ray.media.source import Source, read_info
from trax_ray.media.speech import SAMPLE_RATE_HZ
from trax_ray.media.vad import SileroDetector, spans_of, total_s
from trax_ray.media.wanted import Wanted

__all__ = ["Written", "fits", "write_flac"]


@dataclass(frozen=True, slots=True)
class Written:
    """What was found while a recording was written.

    Args:
        warnings: Codes of what decoding had to say, sorted.
        figures: Fields of `Converted`; its `warnings` are what the sound itself is like.
    """

    warnings: tuple[str, ...]
    figures: dict[str, Any]


def fits(path: Readable, *, flac: bool) -> bool:
    """Whether a file is by its header what converting makes: 16 kHz, mono, 16 bits.

    Args:
        path: The recording.
        flac: Whether it has to be FLAC; else WAV will do.

    Raises:
        As `trax_ray.media.source.probe`.
    """
    source = Source.of(path)
    if len(source.pieces) > 1 or source.pieces[0].options:
        return False
    with source.opened() as (container, audio):
        info = read_info(container, audio, source.medium, source.pieces[0])
        known = {"flac": "flac"} if flac else {"flac": "flac", "wav": "pcm_s16le"}
        alike = info.codec == known.get(info.container) and audio.codec_context.format.name == "s16"
        return bool(alike and (info.sample_rate_hz, info.channels) == (SAMPLE_RATE_HZ, 1))


def write_flac(path: Readable, form: Form, file: BinaryIO | None, comment: str) -> Generator[Progress, None, Written]:
    """Write a recording as 16 kHz FLAC: mono, or a channel for each speaker.

    Args:
        path: The recording.
        form: What is heard of it.
        file: Open for writing, in binary; None to listen only.
        comment: What the FLAC file says of itself.

    Yields:
        Progress.
    """
    voices = voices_of(Source.of(path), form.track) if form.split else ()
    wanted = [form.wanted(voice) for voice in voices] or [form.wanted()]
    loudness = (yield from _measured(path, wanted)) if form.loudness else []
    found = yield from _written(path, wanted, loudness, file, comment)
    if form.split and not voices:
        found = replace(found, warnings=tuple(sorted({*found.warnings, WarningCode.NOT_SPLIT.value})))
    return found


def _measured(path: Readable, wanted: Sequence[Wanted]) -> Generator[Progress, None, list[Loudness]]:
    """How loud each channel is."""
    found = []
    for each in wanted:
        with Meter() as meter, decode.stream(path, wanted=each) as blocks:
            for block in blocks:
                meter.feed(block)
                yield Progress(0.0)
            found.append(meter.finish())
    return found


def _written(
    path: Readable, wanted: Sequence[Wanted], loudness: Sequence[Loudness], file: BinaryIO | None, comment: str
) -> Generator[Progress, None, Written]:
    """Write what is heard, and say what it is like; of the recording itself, before its loudness is changed."""
    voices = [_Voice() for _ in wanted]
    with ExitStack() as stack:
        streams = [stack.enter_context(decode.stream(path, wanted=each)) for each in wanted]
        heard = [voice.hear(blocks) for voice, blocks in zip(voices, streams, strict=True)]
        if loudness:
            heard = [levelled(blocks, each) for blocks, each in zip(heard, loudness, strict=True)]
        write = _nowhere if file is None else stack.enter_context(_flac(file, len(wanted), comment))
        for blocks in zip(*heard, strict=True):
            write(blocks[0] if len(blocks) == 1 else np.stack(blocks, axis=1))
            yield Progress(0.0)
        warnings = sorted({str(code) for each in streams for code in each.warnings})
        duration_s = round(streams[0].duration_s, 3)
    figures = combined([voice.figures() for voice in voices])
    speech_s = sum(voice.speech_s() for voice in voices)
    if speech_s <= 0:
        figures["warnings"] = [*figures["warnings"], WarningCode.NO_SPEECH]
    figures |= {
        "duration_s": duration_s,
        "speech_s": round(speech_s, 3),
        "channels": len(wanted),
        "lufs": tuple(each.lufs for each in loudness),
        "gain_db": tuple(each.gain_db for each in loudness),
    }
    return Written(tuple(warnings), figures)


def _nowhere(samples: decode.Audio) -> None:
    """Nothing is written."""


@contextmanager
def _flac(file: BinaryIO, channels: int, comment: str) -> Iterator[Callable[[decode.Audio], None]]:
    """What writes samples to a FLAC file, shape (n_samples,) or (n_samples, channels)."""
    import soundfile

    with (
        _Sink(file) as sink,
        soundfile.SoundFile(
            sink, "w", samplerate=SAMPLE_RATE_HZ, channels=channels, format="FLAC", subtype="PCM_16"
        ) as flac,
    ):
        flac.comment = comment

        def write(samples: decode.Audio) -> None:
            flac.write(samples)
            sink.check()

        yield write


class _Voice:
    """What is heard of a channel, and said of it."""

    def __init__(self) -> None:
        self._analyser = Analyser()
        self._detector = SileroDetector()
        self._probabilities: list[Any] = []
        self._samples = 0

    def hear(self, blocks: Iterable[decode.Audio]) -> Iterator[decode.Audio]:
        """The same blocks, listened to as they pass."""
        for block in blocks:
            self._analyser.feed(block)
            self._probabilities.append(self._detector.feed(block))
            self._samples += len(block)
            yield block

    def figures(self) -> dict[str, Any]:
        """As of `Analyser`."""
        return self._analyser.figures()

    def speech_s(self) -> float:
        """Seconds of speech; asked for once, at the end."""
        self._probabilities.append(self._detector.finish())
        return total_s(spans_of(np.concatenate(self._probabilities), self._samples))


class _Sink:
    """A file for libsndfile to write to, which says no more of an error than that there was one.

    The first OSError is kept, and raised when the block ends in place of what libsndfile made of it: so a full disk
    is one.

    Args:
        file: Open for writing, in binary.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._error: OSError | None = None

    def __enter__(self) -> _Sink:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, Exception):  # the end of a generator isn't one
            self.check()

    def check(self) -> None:
        """Raise the OSError that came, if any."""
        if self._error is not None:
            raise self._error

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self._error = self._error or error
            return 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)  # writes first what is buffered
        except OSError as error:
            self._error = self._error or error
            return -1

    def tell(self) -> int:
        return self._file.tell()
