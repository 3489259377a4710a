"""The frames of one audio stream, each in its place.

Decoding starts late in one of three ways, so that chunks [0, a) + [a, b) + ... are together exactly as long as the
whole decode:

    seek   the container stores exact positions: jump near the start, decode, drop samples by their timestamps
    skip   packets carry exact positions, but jumps land anywhere (MP3, ADTS, Ogg): read on without decoding
    count  neither: decode from the beginning and drop
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from trax_ray.media.frames import listened, silence
from trax_ray.media.source import MediaInfo, is_damage
from trax_ray.media.speech import SAMPLE_RATE_HZ
from trax_ray.media.timeline import MAX_GAP_S, Timeline, lead_s

__all__ = ["Decoder"]

logger = logging.getLogger(__name__)

_SEEK_FORMATS = frozenset({"wav", "w64", "aiff", "au", "caf", "flac", "mov,mp4,m4a,3gp,3g2,mj2"})
_SEEK_CODECS = ("pcm_", "flac", "alac", "aac")
_SKIP_FORMATS = frozenset({"mp3", "aac", "ogg"})

_GAPLESS_FORMATS = frozenset({"wav", "w64", "aiff", "au", "caf", "flac", "mp3", "aac", "ogg"})
"""A gap in one of these is damage; in others, such as screen recordings, it may be meant."""

_FROM_ZERO = ("mov,", "matroska,")
"""Containers whose times begin at 0; in others they begin with the first stream."""

_PREROLL_S = 2.0
"""Decoded and dropped before a late start: fills the MP3 bit reservoir, AAC's and Opus's overlap and the resampler."""

_GAP_S = 0.1
"""A jump of the timestamps by more than this is lost audio, so that later times stay right."""

_EXACT_GAP_S = 0.02
"""The same in the formats whose timestamps count samples."""

_LONGEST_PACKET_S = 10.0
"""A damaged packet is believed to hold no more."""

_READ_ERRORS = 10
"""After so many read errors in a row the rest of the file counts as lost."""


class Decoder:
    """Frames of one audio stream, each with the index of its first sample at its own rate.

    Args:
        container: An open file.
        audio: Its audio stream.
        info: What its header says.
        channel: The channel to listen to; None for all.
        alone: Whether what hasn't that channel is silent; else all of it is listened to.
        follows: Whether it is joined to another file: then it begins where that one ends.

    Attributes:
        damaged: Packets that the decoder refused, and gaps where such were lost.
        whole: Frames that were decoded.
        lead_s: Seconds by which the audio begins late.
        zero_s: What the container's times count from, where that isn't 0, seconds.
        jumped: Whether timestamps jump so far that no silence was put there.
        left_out_s: Sum of such jumps forward, seconds.
        read_to: The byte after the last packet that was read; None where it isn't known, or other streams lie between.
    """

    def __init__(
        self, container: Any, audio: Any, info: MediaInfo, channel: int | None, *, alone: bool, follows: bool
    ) -> None:
        self._container = container
        self._audio = audio
        self._info = info
        self._channel = channel
        self._alone = alone
        self._follows = follows
        self._pending: Any = None
        self.damaged = 0
        self.whole = 0
        self.lead_s = 0.0
        self.zero_s = 0.0
        self.jumped = False
        self.left_out_s = 0.0
        self.read_to: int | None = None
        self._refused_s = 0.0

    def frames(self, start: int) -> Iterator[tuple[int, Any]]:
        """Decode from shortly before a position to the end.

        Args:
            start: The position in samples at 16 kHz.

        Yields:
            (index, frame): the index counts samples of the frame's own rate from the container's zero; the first frame
            comes from there or from at least `_PREROLL_S` before `start`, except that a start beyond the end of the
            file yields what is there, or nothing.
        """
        origin: int | None = None
        near_s = start / SAMPLE_RATE_HZ - _PREROLL_S
        mode = self._mode() if near_s > 2 * _PREROLL_S else "count"
        if mode != "count":
            origin = self._origin()
            if origin is None or not self._go_near(mode, origin, near_s - self.lead_s):
                self._rewind()
                mode, origin = "count", None
        yield from self._placed(origin)

    def _mode(self) -> str:
        name, codec = self._info.container, self._info.codec
        if name in _SEEK_FORMATS and codec.startswith(_SEEK_CODECS):
            return "seek" if not name.startswith("mov") or self._is_gapless() else "count"
        return "skip" if name in _SKIP_FORMATS else "count"

    def _is_gapless(self) -> bool:
        """Whether as many samples as the index of an MP4 file lists are as long as it says."""
        audio, context = self._audio, self._audio.codec_context
        if not audio.duration or not context.sample_rate:
            return False
        listed_s = audio.frames * max(1, context.frame_size) / context.sample_rate
        return bool(abs(listed_s - float(audio.duration * audio.time_base)) < _GAP_S)

    def _origin(self) -> int | None:
        """The timestamp of the first decoded frame; None when there is none or it isn't exact."""
        for packet in self._packets():
            for frame in self._decoded(packet, count=False):
                exact = frame.pts is not None and (self._audio.time_base * frame.sample_rate).numerator == 1
                if not exact:
                    return None
                self._find_zero(float(frame.pts * self._audio.time_base))
                return int(frame.pts)
        return None

    def _find_zero(self, first_s: float) -> None:
        """Take up what the first frame's time says of the container's zero."""
        if self._follows:
            self.zero_s = first_s
            return
        start_us = self._container.start_time
        name = self._info.container
        late_s = lead_s(
            first_s, None if start_us is None else start_us / 1_000_000, from_zero=name.startswith(_FROM_ZERO)
        )
        self.jumped |= late_s > MAX_GAP_S
        self.lead_s = late_s if _GAP_S < late_s <= MAX_GAP_S else 0.0
        self.zero_s = first_s - self.lead_s

    def _rewind(self) -> None:
        self._container.seek(int(self._audio.start_time or 0), stream=self._audio, backward=True, any_frame=False)
        self._audio.codec_context.flush_buffers()
        self.damaged = self.whole = 0
        self._pending = None

    def _go_near(self, mode: str, origin: int, near_s: float) -> bool:
        """Stand at a packet that begins before `near_s` after `origin`; False when positions can't be trusted."""
        if near_s <= 2 * _PREROLL_S:
            return False
        target = origin + int(Fraction(near_s) / self._audio.time_base)
        if mode == "seek":
            self._container.seek(target, stream=self._audio, backward=True, any_frame=False)
            self._audio.codec_context.flush_buffers()
            self._pending = next(self._packets(), None)
            pending = self._pending
            return pending is not None and (pending.pts is None or pending.pts <= target)
        self._rewind()
        expected: int | None = None
        slack = int(Fraction(_GAP_S) / self._audio.time_base)
        for packet in self._packets():
            if packet.pts is None or not packet.duration:
                return False
            if expected is not None and abs(packet.pts - expected) > slack:
                return False
            expected = packet.pts + packet.duration
            if expected > target:
                self._pending = packet
                return True
        return False

    def _placed(self, origin: int | None) -> Iterator[tuple[int, Any]]:
        """Decode on from here; lost stretches become silence.

        Args:
            origin: The first frame's timestamp where decoding starts late; None where it starts with that frame.
        """
        timeline: Timeline | None = None
        stamped = origin is not None
        # Whole numbers divided: the float is the same, and a fraction for each frame costs a quarter of its decoding.
        seconds, ticks = self._audio.time_base.numerator, self._audio.time_base.denominator
        index = 0
        for packet in self._packets():
            for frame in self._decoded(packet, count=timeline is not None or origin is None):
                rate = frame.sample_rate
                stamp_s = None if frame.pts is None else frame.pts * seconds / ticks
                if timeline is None and origin is not None:
                    stamp = None if frame.pts is None else (frame.pts - origin) * self._audio.time_base * rate
                    if stamp is None or stamp.denominator != 1 or stamp < 0:
                        continue
                    index = int(stamp) + round(self.lead_s * rate)
                    timeline = self._timeline(index / rate)
                if stamp_s is not None and not stamped:
                    stamped = True
                    if timeline is None:
                        self._find_zero(stamp_s)
                    else:
                        self.zero_s = stamp_s - timeline.at_s
                frame = listened(frame, self._channel, alone=self._alone)
                if timeline is None:
                    timeline = self._timeline(round(self.lead_s * rate) / rate)
                    gap = round(self.lead_s * rate)
                else:
                    gap = round(self._gap_s(timeline, stamp_s) * rate)
                yield from silence(frame, index, gap)
                yield index + gap, frame
                index += gap + frame.samples
                timeline.heard(frame.samples / rate)

    def _timeline(self, at_s: float) -> Timeline:
        gap_s = _EXACT_GAP_S if self._info.container in _GAPLESS_FORMATS else _GAP_S
        duration_s = self._info.duration_s
        last_s = None if duration_s is None else self.lead_s + duration_s + 1.0
        self._refused_s = 0.0
        return Timeline(gap_s, at_s=at_s, last_s=last_s)

    def _gap_s(self, timeline: Timeline, stamp_s: float | None) -> float:
        """The silence before a frame with this timestamp, seconds; what was found is taken up."""
        refused_s, self._refused_s = self._refused_s, 0.0
        if stamp_s is None:
            return 0.0
        gap_s = timeline.gap_s(stamp_s - self.zero_s, refused_s)
        self.damaged += gap_s > 0 and self._info.container in _GAPLESS_FORMATS
        self.jumped |= timeline.jumped
        self.left_out_s = timeline.left_out_s
        return gap_s

    def _packets(self) -> Iterator[Any]:
        """Packets of the audio stream to the end of the file, over a few read errors."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            yield pending
        failed = 0
        while failed < _READ_ERRORS:
            try:
                for packet in self._container.demux(self._audio):
                    failed = 0
                    if packet.pos is not None and packet.size and len(self._container.streams) == 1:
                        self.read_to = max(self.read_to or 0, packet.pos + packet.size)
                    yield packet
                return
            except IndexError:  # PyAV, of a packet of a stream that wasn't there when the file was opened
                self.damaged += not failed
                failed = max(failed, 1)
            except Exception as error:
                if not is_damage(error, reading=True):
                    raise
                logger.debug("read error: %s", error)
                self.damaged += not failed
                failed += 1

    def _decoded(self, packet: Any, *, count: bool) -> list[Any]:
        """The frames of one packet; none when it is damaged."""
        try:
            frames = [frame for frame in self._audio.codec_context.decode(packet) if frame.samples]
        except Exception as error:
            if not is_damage(error, reading=False):
                raise
            logger.debug("damaged packet: %s", error)
            self.damaged += count and bool(packet.size)
            self._refused_s += min(_LONGEST_PACKET_S, float((packet.duration or 0) * self._audio.time_base))
            return []
        self.whole += len(frames)
        return frames
