"""Decode any recording to 16 kHz mono, in blocks, however long it is.

Positions are counted in samples at 16,000 Hz from the zero of the container's times: audio that begins late begins with
silence.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from trax_ray.codes import FailureCode, WarningCode
from trax_ray.errors import MediaError, TraxRayError
from trax_ray.media.choice import choice_of
from trax_ray.media.decoder import Decoder
from trax_ray.media.frames import Pool, aligned, resampled, resampler, shape_of
from trax_ray.media.medium import Readable, named
from trax_ray.media.pieces import ends_early, leaves_a_rest
from trax_ray.media.source import MediaInfo, Source, probe, read_info, translated, undecodable
from trax_ray.media.speech import SAMPLE_RATE_HZ
from trax_ray.media.wanted import ANYTHING, Wanted

__all__ = ["SAMPLE_RATE_HZ", "AudioStream", "MediaInfo", "probe", "read", "stream"]

Audio = npt.NDArray[np.float32]

BLOCK_S = 10.0
"""Seconds per block: 640 kB of float32."""

_UNMARKED_FORMATS = frozenset(
    {
        "ogg",
        "mp3",
        "aac",
        "ac3",
        "eac3",
        "dts",
        "amr",
        "mpegts",
        "mpeg",
        "matroska,webm",
        "w64",
        "caf",
        "asf",
        "avi",
        "flv",
    }
)
"""No header, or not always one, says how long these are, or FFmpeg doesn't tell."""

_LOWEST_RATE_HZ, _HIGHEST_RATE_HZ = 1_000, 768_000


def stream(
    path: Readable,
    *,
    start_s: float = 0.0,
    end_s: float | None = None,
    block_s: float = BLOCK_S,
    wanted: Wanted = ANYTHING,
) -> AudioStream:
    """Decode a file, or a stretch of it, block by block; memory doesn't grow with the file's length.

    Args:
        path: A local file, or a `Medium`.
        start_s: Where to begin, seconds from the container's zero, >= 0; rounded to the nearest sample.
        end_s: Where to stop, likewise; None for the end of the file.
        block_s: Length of a block in seconds, > 0; the last one is shorter.
        wanted: Which track and channel; by default those that hold the speech.

    Returns:
        An iterator of blocks, each float32, shape (n_samples,), mono, [-1, 1], at 16,000 Hz. The blocks of
        [0, a) and [a, b) are together as long as those of [0, b). Its `warnings` are complete once it is exhausted.

    Raises:
        FileError: `not_found`, `permission_denied` or `not_a_file` (permanent), `unreadable` (transient).
        MediaError: `not_decodable`, `no_audio_stream`, `no_such_track` or, at the end of a whole file, `no_samples`
            (permanent).
        ProcessingError: `decoder_bug` (transient): the decoder itself failed.
        ResourceError: No memory or file handles left.
    """
    return AudioStream(path, start_s=start_s, end_s=end_s, block_s=block_s, wanted=wanted)


def read(path: Readable, *, start_s: float = 0.0, end_s: float | None = None) -> Audio:
    """All of `stream` in one array; for stretches that fit in memory (10 minutes are 38 MB).

    Returns:
        float32, shape (n_samples,), mono, [-1, 1], at 16,000 Hz.
    """
    with stream(path, start_s=start_s, end_s=end_s) as blocks:
        return blocks.rest()


class AudioStream(Iterator[Audio]):
    """Blocks of decoded audio; see `stream`. Also a context manager that closes the file.

    Attributes:
        info: What the header says; of the first file where several were joined.
        choice: Which track and channel is decoded.
        duration_s: Seconds delivered so far.
        damaged_frames: Packets that the decoder refused, and gaps where such were lost. Where timestamps show a gap
            over 0.02 to 0.1 s, silence stands in its place; elsewhere (MP3) what follows moves forward.
        missing_s: Seconds that the header promised and the file doesn't hold; 0.0 until the end was reached.
        cut_off: Whether the file ends in the middle; False until the end was reached.
        jumped: Whether timestamps jump so far that no silence was put there.
        unread: Whether much of the file lies behind all that is read of it.
    """

    def __init__(self, path: Readable, *, start_s: float, end_s: float | None, block_s: float, wanted: Wanted) -> None:
        if start_s < 0 or block_s <= 0 or (end_s is not None and end_s < start_s):
            raise ValueError(f"expected 0 <= start_s <= end_s and block_s > 0, got {start_s}, {end_s}, {block_s}")
        self._path = path
        self._alone = wanted.alone
        self._source = Source.of(path)
        try:
            self.choice = choice_of(self._source, wanted)
            with ExitStack() as stack:
                self._first = stack.enter_context(self._source.opened(0, self.choice.track))
                self.info = read_info(*self._first, self._source.medium, self._source.pieces[0])
                self._opened = stack.pop_all()
        except Exception as error:
            raise translated(error, path) from error
        self.damaged_frames = 0
        self.missing_s = 0.0
        self.cut_off = False
        self.jumped = False
        self.unread = False
        self._start = round(start_s * SAMPLE_RATE_HZ)
        self._end = None if end_s is None else round(end_s * SAMPLE_RATE_HZ)
        self._delivered = 0
        self._blocks = self._run(max(1, round(block_s * SAMPLE_RATE_HZ)))

    @property
    def duration_s(self) -> float:
        """Seconds delivered so far."""
        return self._delivered / SAMPLE_RATE_HZ

    @property
    def warnings(self) -> tuple[WarningCode, ...]:
        """Codes of what was wrong and survived, and of what was chosen. Complete after the last block."""
        found = [
            (WarningCode.DAMAGED_FRAMES, self.damaged_frames > 0),
            (WarningCode.TRUNCATED, self.missing_s > 0 or self.cut_off),
            (WarningCode.TIMESTAMPS_JUMP, self.jumped),
            (WarningCode.UNREAD, self.unread),
        ]
        return (*self.choice.warnings, *(code for code, true in found if true))

    def __iter__(self) -> AudioStream:
        return self

    def __next__(self) -> Audio:
        return next(self._blocks)

    def __enter__(self) -> AudioStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def rest(self) -> Audio:
        """All blocks that are still to come in one array; no samples where there are none."""
        parts = list(self)
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)

    def close(self) -> None:
        """Close the file; safe to repeat."""
        self._blocks.close()
        self._opened.close()

    def _run(self, block: int) -> Generator[Audio, None, None]:
        """Cut what `_samples` gives to [start, end) and to blocks."""
        parts: list[npt.NDArray[np.int16]] = []
        held = 0
        try:
            for position, samples in self._samples():
                first = max(0, self._start - position)
                last = len(samples) if self._end is None else max(first, self._end - position)
                wanted = samples[first:last]
                while len(wanted):
                    part, wanted = wanted[: block - held], wanted[block - held :]
                    parts.append(part)
                    held += len(part)
                    if held == block:
                        yield self._block(parts)
                        parts, held = [], 0
                if self._end is not None and position + len(samples) >= self._end:
                    break
            if held:
                yield self._block(parts)
        except TraxRayError:
            raise
        except Exception as error:
            raise translated(error, self._path) from error
        finally:
            self._opened.close()

    def _block(self, parts: list[npt.NDArray[np.int16]]) -> Audio:
        samples: Audio = np.concatenate(parts).astype(np.float32) / np.float32(32768.0)
        self._delivered += len(samples)
        return samples

    def _samples(self) -> Iterator[tuple[int, npt.NDArray[np.int16]]]:
        """Decoded samples at 16 kHz of all pieces, each array with the position of its first sample in the file."""
        pieces = self._source.pieces
        start = self._start if len(pieces) == 1 else 0
        end = damaged = whole = 0
        empty = True
        for number in range(len(pieces)):
            base = end
            with ExitStack() as stack:
                try:
                    container, audio = stack.enter_context(self._source.opened(number)) if number else self._first
                except MediaError:
                    damaged += 1
                    self.damaged_frames = damaged
                    continue
                info = read_info(container, audio, self._source.medium, pieces[number]) if number else self.info
                channel = self.choice.channel
                decoder = Decoder(container, audio, info, channel, alone=self._alone, follows=number > 0)
                for position, samples in self._resampled(decoder, start):
                    empty = False
                    yield base + position, samples
                    end = base + position + len(samples)
                    self.damaged_frames = damaged + decoder.damaged
                    self.jumped |= decoder.jumped
            damaged, whole = damaged + decoder.damaged, whole + decoder.whole
            self.damaged_frames = damaged
            self.jumped |= decoder.jumped
            self.unread |= leaves_a_rest(self._source.medium, pieces[number], decoder.read_to, info.container)
            if end > base or not start:
                self.missing_s += _missing_s(info, decoder, (end - base) / SAMPLE_RATE_HZ)
        self._judge(damaged, whole, empty=empty)

    def _resampled(self, decoder: Decoder, start: int) -> Iterator[tuple[int, npt.NDArray[np.int16]]]:
        """Decoded samples at 16 kHz of one piece, each array with the position of its first sample in it."""
        position = 0
        pool, to_mono = Pool(), None
        shape: tuple[Any, ...] = ()
        for index, frame in decoder.frames(start):
            if frame.sample_rate < _LOWEST_RATE_HZ or frame.sample_rate > _HIGHEST_RATE_HZ:
                raise undecodable(self._path, f"a sample rate of {frame.sample_rate} Hz")
            if shape != shape_of(frame):
                for samples in _through(to_mono, (*pool.rest(), None)):
                    yield position, samples
                    position += len(samples)
                pool, to_mono, shape = Pool(), resampler(), shape_of(frame)
                if not position:
                    frame, index = aligned(frame, index)
                    if frame is None:
                        to_mono, shape = None, ()
                        continue
                    position = index * SAMPLE_RATE_HZ // frame.sample_rate
            frame.pts = None
            for samples in _through(to_mono, pool.add(frame)):
                yield position, samples
                position += len(samples)
        for samples in _through(to_mono, (*pool.rest(), None)):
            yield position, samples
            position += len(samples)

    def _judge(self, damaged: int, whole: int, *, empty: bool) -> None:
        """At the end of the file: was there anything, and was it all?"""
        if not self._start and damaged > whole:
            raise undecodable(self._path, f"{damaged} of {damaged + whole} frames are damaged")
        if not self._start and empty:
            if self.info.sample_rate_hz == 0:
                raise undecodable(self._path, "no decodable frame")
            raise MediaError(
                f"{named(self._path)} has an audio stream without a single sample", code=FailureCode.NO_SAMPLES
            )
        if self.info.declared_s is None and self.info.container in _UNMARKED_FORMATS:
            self.cut_off = ends_early(self._source.medium, self.info.container)


def _through(resampler: Any, frames: Iterable[Any]) -> Iterator[npt.NDArray[np.int16]]:
    """What comes out of a resampler for frames; None ends it."""
    for frame in frames:
        yield from resampled(resampler, frame)


def _missing_s(info: MediaInfo, decoder: Decoder, length_s: float) -> float:
    """Seconds that a header promises and that aren't there; 0.0 where it promises none."""
    if info.declared_s is None:
        return 0.0
    # In Matroska a length is counted from the container's zero, elsewhere from the first sample.
    before_s = decoder.zero_s if info.container.startswith("matroska") else -decoder.lead_s
    missing_s = info.declared_s - before_s - decoder.left_out_s - length_s
    exact = info.codec.startswith("pcm_") or info.codec == "flac"
    return missing_s if missing_s > (0.05 if exact else max(0.5, info.declared_s / 100)) else 0.0
