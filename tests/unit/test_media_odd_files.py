"""Files as they are found: joined, cut off, damaged, with wrong headers, odd times, several tracks and channels.

What is right is what the ffmpeg program makes of them, or the recording that they were made from.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from tests.unit.test_media_decode import sweep, write
from trax_ray.errors import TraxRayError
from trax_ray.media import choice, decode
from trax_ray.media.medium import LocalFile
from trax_ray.media.pieces import Piece, Slice, pieces_of
from trax_ray.media.source import Source
from trax_ray.plan.inputs import MEDIA_SUFFIXES, scan

SPEECH = Path(__file__).parents[2] / "samples" / "first_test.wav"


def ffmpeg(*arguments: object) -> bytes:
    """Run the ffmpeg program, which nobody here wrote."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("the program ffmpeg isn't installed")
    command = ["ffmpeg", "-v", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


def by_ffmpeg(path: Path, *options: str) -> np.ndarray:
    """What the ffmpeg program decodes."""
    raw = ffmpeg("-i", path, *options, "-f", "s16le", "-ac", 1, "-ar", 16_000, "-")
    return np.frombuffer(raw, np.int16).astype(np.float32) / 32768


def decoded(path: Path) -> tuple[np.ndarray, set[str]]:
    with decode.stream(path) as blocks:
        audio = blocks.rest()
        return audio, set(map(str, blocks.warnings))


def alike(one: np.ndarray, other: np.ndarray) -> float:
    length = min(len(one), len(other))
    return float(np.corrcoef(one[:length], other[:length])[0, 1])


def decoded_part(path: Path, start_s: float, end_s: float) -> set[str]:
    with decode.stream(path, start_s=start_s, end_s=end_s) as blocks:
        blocks.rest()
        return set(map(str, blocks.warnings))


def speech() -> np.ndarray:
    return decode.read(SPEECH)


def packets_of(samples: np.ndarray, codec: str, rate: int = 48_000) -> tuple[Any, list[Any]]:
    """Encode mono samples: the encoder's context, and packets with times in samples."""
    encoder: Any = av.CodecContext.create(codec, "w")
    encoder.sample_rate, encoder.layout, encoder.time_base = rate, "mono", Fraction(1, rate)
    encoder.format = "fltp"
    encoder.open()
    fifo = av.AudioFifo()
    frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    fifo.write(frame)
    packets = []
    while piece := fifo.read(encoder.frame_size):
        packets += encoder.encode(piece)
    return encoder, [*packets, *encoder.encode(None)]


def mux(
    path: Path, packets: Iterable[Any], codec: str, rate: int = 48_000, late: Callable[[float], float] = float
) -> Path:
    """Write packets, each at the second that `late` makes of its own; a muxer of FFmpeg's, no encoder."""
    with av.open(str(path), "w") as container:
        out: Any = container.add_stream(codec, rate=rate, layout="mono")
        out.codec_context.open()
        for packet in packets:
            made = av.Packet(bytes(packet))
            made.stream, made.time_base, made.duration = out, Fraction(1, rate), packet.duration or 0
            made.pts = made.dts = round(late(packet.pts / rate) * rate)
            container.mux(made)
    return path


class TestDamagedPackets:
    @pytest.mark.parametrize(("codec", "suffix"), [("aac", "mka"), ("aac", "m4a"), ("ac3", "mka")])
    @pytest.mark.parametrize("wanted", ["PermissionError", "UndefinedError"])
    def test_one_packet_that_the_decoder_refuses_with_any_number_loses_itself_alone(
        self, tmp_path: Path, codec: str, suffix: str, wanted: str
    ) -> None:
        _, packets = packets_of(np.resize(speech(), 5 * 48_000), codec)
        made = mux(tmp_path / f"whole.{suffix}", packets, codec)
        with av.open(str(made)) as container:
            extradata = container.streams.audio[0].codec_context.extradata
        at = 60
        damaged = self.damaged([bytes(packet) for packet in packets[at - 1 : at + 1]], codec, extradata, wanted)
        if damaged is None:
            pytest.skip(f"{codec} has no packet for which this FFmpeg says {wanted}")
        hurt = av.Packet(damaged)
        hurt.pts, hurt.duration = packets[at].pts, packets[at].duration
        path = mux(tmp_path / f"hurt.{suffix}", [*packets[:at], hurt, *packets[at + 1 :]], codec)
        audio, warnings = decoded(path)
        assert warnings == {"damaged_frames"}
        whole = decode.read(made)
        assert abs(len(audio) - len(whole)) < 1_000
        assert alike(audio[:16_000], whole[:16_000]) > 0.99
        assert alike(audio[-40_000:], whole[-40_000:]) > 0.99

    def damaged(self, pair: list[bytes], codec: str, extradata: bytes | None, wanted: str) -> bytes | None:
        for seed in range(3_000):
            choose = random.Random(seed)
            spoiled = bytearray(pair[1]) if seed else bytearray(b"\xff" * len(pair[1]))
            for _ in range(choose.choice([1, 3, 10]) if seed else 0):
                spoiled[choose.randrange(min(len(spoiled), 60))] = choose.randrange(256)
            decoder: Any = av.CodecContext.create(codec, "r")
            decoder.extradata = extradata
            try:
                for each in (pair[0], bytes(spoiled)):
                    decoder.decode(av.Packet(each))
            except av.error.FFmpegError as error:
                if type(error).__name__ == wanted:
                    return bytes(spoiled)
        return None

    def test_zeros_in_ac3(self, tmp_path: Path) -> None:
        _, packets = packets_of(sweep(6.0, 48_000), "ac3")
        data = b"".join(map(bytes, packets))
        path = tmp_path / "zeros.ac3"
        path.write_bytes(data[: len(data) // 2] + bytes(len(data) // 2))
        audio, warnings = decoded(path)
        assert len(audio) / 16_000 == pytest.approx(3.0, abs=0.1)
        assert "truncated" in warnings


class TestChannelsAndTracks:
    def stereo(self, path: Path, left: np.ndarray, right: np.ndarray) -> Path:
        soundfile.write(path, np.stack([left, right], axis=1), 16_000, subtype="PCM_16")
        return path

    def test_channels_that_cancel_each_other_are_not_mixed(self, tmp_path: Path) -> None:
        voice = speech()
        audio, warnings = decoded(self.stereo(tmp_path / "inverted.wav", voice, -voice))
        assert warnings == {"one_channel"}
        assert np.allclose(audio, voice, atol=1e-3)

    @pytest.mark.parametrize("suffix", ["mp3", "m4a", "opus", "ac3"])
    def test_neither_are_they_where_a_coder_leaves_something(self, tmp_path: Path, suffix: str) -> None:
        voice = speech()
        source = self.stereo(tmp_path / "inverted.wav", voice, -voice)
        ffmpeg("-i", source, "-b:a", "64k", tmp_path / f"inverted.{suffix}")
        audio, warnings = decoded(tmp_path / f"inverted.{suffix}")
        assert warnings == {"one_channel"}
        assert np.abs(audio).max() > 0.5 * np.abs(voice).max()

    def test_noise_on_one_channel_does_not_hide_the_voice_on_the_other(self, tmp_path: Path) -> None:
        voice = speech() * np.float32(0.25)
        noise = np.random.default_rng(0).uniform(-0.9, 0.9, len(voice)).astype(np.float32)
        audio, warnings = decoded(self.stereo(tmp_path / "noise.wav", noise, voice))
        assert warnings == {"one_channel"}
        assert np.allclose(audio, voice, atol=1e-3)

    @pytest.mark.parametrize("shares", [(1.0, 1.0), (1.0, 0.5), (0.0, 1.0), (1.0, 0.0)])
    def test_otherwise_channels_are_mixed(self, tmp_path: Path, shares: tuple[float, float]) -> None:
        voice = speech()
        path = self.stereo(tmp_path / "stereo.wav", voice * np.float32(shares[0]), voice * np.float32(shares[1]))
        audio, warnings = decoded(path)
        assert warnings == set()
        assert np.allclose(audio, voice * np.float32(sum(shares) / 2), atol=1e-3)

    def test_two_speakers_on_two_channels_are_both_heard(self, tmp_path: Path) -> None:
        voice = speech()
        quiet = np.zeros_like(voice)
        path = self.stereo(tmp_path / "call.wav", np.append(voice, quiet), np.append(quiet, voice))
        audio, warnings = decoded(path)
        assert warnings == set()
        assert np.allclose(audio, np.append(voice, voice) / 2, atol=1e-3)

    @pytest.mark.parametrize("suffix", ["wav", "mp3", "opus", "m4a"])
    def test_where_both_channels_are_the_same_a_glance_is_enough(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
    ) -> None:
        voice = np.tile(speech(), 4)
        noise = np.random.default_rng(0).uniform(-1e-3, 1e-3, (2, len(voice))).astype(np.float32)
        source = self.stereo(tmp_path / "both.wav", voice + noise[0], voice + noise[1])
        path = tmp_path / f"two.{suffix}"
        ffmpeg("-i", source, "-b:a", "96k", path)
        monkeypatch.delattr(choice, "_listen")
        assert choice.choice_of(Source.of(path)).channel is None

    def test_a_glance_that_finds_a_difference_anywhere_is_not_enough(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        voice = np.tile(speech(), 4)
        other = voice.copy()
        other[len(voice) // 2 :] *= -1  # from the middle on they cancel each other
        path = self.stereo(tmp_path / "half.wav", voice, other)
        listened: list[Any] = []
        real = choice._listen
        monkeypatch.setattr(choice, "_listen", lambda *given: listened.append(given) or real(*given))
        choice.choice_of(Source.of(path))
        assert listened

    @pytest.mark.parametrize(
        ("places", "alike"),
        [
            ([(1.0, 1.0)] * 4, True),
            ([(1.0, 0.91)] * 4, True),
            ([(1.0, 1.0)] * 3 + [(1.0, 0.5)], False),
            ([(1.0, 1.0)] * 3 + [(1e-3, 0.0)], True),  # noise in a pause
            ([(1.0, 1.0)] + [(0.0, 0.0)] * 3, False),  # most of it is still to be heard
            ([(0.0, 0.0)] * 4, False),
            ([], False),
        ],
    )
    def test_what_a_glance_comes_to(self, places: list[tuple[float, float]], alike: bool) -> None:
        assert choice.are_alike(places) is alike

    def test_listening_takes_little_memory(self) -> None:
        """Of each of the tracks and channels two minutes, 16 bits a sample."""
        minutes = np.zeros(2 * 60 * 16_000, np.int16)
        assert choice.MOST_TRACKS * (1 + choice.MOST_CHANNELS) * minutes.nbytes < 300_000_000
        heard: list[np.ndarray] = []
        voice = np.rint(speech() * 32767).astype(np.int16)
        assert choice.best_channel(voice, [voice, voice], lambda audio: heard.append(audio) or 1.0) is None
        assert heard == []

    def test_a_part_is_the_same_channel_as_the_whole(self, tmp_path: Path) -> None:
        voice = np.append(speech(), np.zeros(16_000 * 20, np.float32))
        path = self.stereo(tmp_path / "inverted.wav", voice, -voice)
        whole = decode.read(path)
        parts = [decode.read(path, start_s=a, end_s=b) for a, b in itertools.pairwise([0.0, 3.3, 12.1, None])]
        assert np.array_equal(np.concatenate(parts), whole)

    def two_tracks(self, path: Path, first: np.ndarray, second: np.ndarray) -> Path:
        with av.open(str(path), "w") as container:
            streams: list[Any] = [container.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in range(2)]
            for at in range(0, max(len(first), len(second)), 1_600):
                for stream, samples in zip(streams, (first, second), strict=True):
                    block = np.rint(samples[None, at : at + 1_600] * 32767).astype(np.int16)
                    if block.size:
                        frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
                        frame.sample_rate, frame.pts, frame.time_base = 16_000, at, Fraction(1, 16_000)
                        container.mux(stream.encode(frame))
            for stream in streams:
                container.mux(stream.encode(None))
        return path

    @pytest.mark.parametrize("spoken", [0, 1])
    def test_the_track_that_is_spoken_on_is_taken(self, tmp_path: Path, spoken: int) -> None:
        voice = speech()
        tracks = [np.zeros_like(voice), np.zeros_like(voice)]
        tracks[spoken] = voice
        audio, warnings = decoded(self.two_tracks(tmp_path / "tracks.mka", *tracks))
        assert warnings == {"several_tracks"}
        assert np.allclose(audio, voice, atol=1e-3)

    def test_of_two_spoken_tracks_the_default_one_is_taken(self, tmp_path: Path) -> None:
        voice = speech()
        audio, warnings = decoded(self.two_tracks(tmp_path / "tracks.mka", voice, -voice))
        assert warnings == {"several_tracks"}
        assert np.allclose(audio, voice, atol=1e-3)

    def test_a_long_file_is_not_read_whole_to_choose(self, tmp_path: Path) -> None:
        """Of three minutes two are listened to, in places that are spread evenly."""
        voice = np.tile(speech(), 25)
        path = self.two_tracks(tmp_path / "long.mov", np.zeros(len(voice), np.float32), voice)
        audio, warnings = decoded(path)
        assert warnings == {"several_tracks"}
        assert alike(audio, voice) > 0.99
        assert alike(decode.read(path, start_s=150.0, end_s=160.0), voice[2_400_000:2_560_000]) > 0.99


class TestTimes:
    @pytest.mark.parametrize(("suffix", "codec"), [("mka", "aac"), ("mka", "libopus"), ("m4a", "aac"), ("ts", "aac")])
    def test_hours_between_two_recordings_are_not_silence(self, tmp_path: Path, suffix: str, codec: str) -> None:
        _, packets = packets_of(sweep(6.0, 48_000), codec)
        path = mux(tmp_path / f"jump.{suffix}", packets, codec, late=lambda at_s: at_s if at_s < 3 else at_s + 36_000)
        audio, warnings = decoded(path)
        assert len(audio) / 16_000 == pytest.approx(6.0, abs=0.2)
        assert warnings == {"timestamps_jump"}

    @pytest.mark.parametrize(("suffix", "codec"), [("mka", "aac"), ("m4a", "aac"), ("ts", "aac")])
    def test_a_minute_is(self, tmp_path: Path, suffix: str, codec: str) -> None:
        _, packets = packets_of(sweep(6.0, 48_000), codec)
        path = mux(tmp_path / f"gap.{suffix}", packets, codec, late=lambda at_s: at_s if at_s < 3 else at_s + 55)
        audio, warnings = decoded(path)
        assert len(audio) / 16_000 == pytest.approx(61.0, abs=0.2)
        assert warnings == set()
        assert not audio[5 * 16_000 : 55 * 16_000].any()

    def test_a_file_is_no_longer_than_its_bytes_allow(self, tmp_path: Path) -> None:
        _, packets = packets_of(sweep(6.0, 48_000), "libopus")
        path = mux(tmp_path / "sparse.mka", packets, "libopus", late=lambda at_s: at_s * 2_500)
        assert path.stat().st_size < 100_000
        audio, warnings = decoded(path)
        assert len(audio) / 16_000 < 60 + 31 * 6.1
        assert warnings >= {"timestamps_jump"}

    @pytest.mark.parametrize(("suffix", "codec"), [("mka", "aac"), ("mka", "libopus"), ("m4a", "aac")])
    def test_audio_that_begins_late_keeps_its_times(self, tmp_path: Path, suffix: str, codec: str) -> None:
        _, packets = packets_of(sweep(40.0, 48_000), codec)
        whole = decode.read(mux(tmp_path / f"now.{suffix}", packets, codec))
        path = mux(tmp_path / f"late.{suffix}", packets, codec, late=lambda at_s: at_s + 5)
        audio, warnings = decoded(path)
        assert warnings == set()
        lead = len(audio) - len(whole)
        assert lead / 16_000 == pytest.approx(5.0, abs=0.1)
        assert not audio[: 4 * 16_000].any()
        assert alike(audio[lead:], whole) > 0.98
        parts = [decode.read(path, start_s=a, end_s=b) for a, b in itertools.pairwise([0.0, 2.5, 5.5, 21.3, None])]
        assert [len(part) for part in parts[:3]] == [40_000, 48_000, 252_800]
        joined = np.concatenate(parts)
        assert len(joined) == len(audio)
        assert alike(joined, audio) > 0.999

    @pytest.mark.parametrize("suffix", ["mkv", "mp4", "ts"])
    def test_sound_that_begins_after_the_picture(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"late.{suffix}"
        picture = ("-f", "lavfi", "-i", "testsrc=s=64x64:r=10:d=16")
        ffmpeg(*picture, "-itsoffset", 8, "-i", SPEECH, "-map", "0:v", "-map", "1:a", "-c:v", "mpeg4", path)
        voice = speech()
        audio, warnings = decoded(path)
        assert warnings == set()
        assert (len(audio) - len(voice)) / 16_000 == pytest.approx(8.0, abs=0.15)
        loud = np.flatnonzero(np.abs(audio) > 0.05)[0] - np.flatnonzero(np.abs(voice) > 0.05)[0]
        assert loud / 16_000 == pytest.approx(8.0, abs=0.1)


class TestCutOff:
    @pytest.mark.parametrize("suffix", ["ogg", "opus"])
    @pytest.mark.parametrize("filling", [False, True])
    def test_ogg_that_ends_in_the_middle_is_truncated(self, tmp_path: Path, suffix: str, filling: bool) -> None:
        path = write(tmp_path / f"cut.{suffix}", sweep(20.0, 48_000), 48_000)
        assert decoded(path)[1] == set()
        data = path.read_bytes()
        kept = int(len(data) * 0.6)
        path.write_bytes(data[:kept] + bytes(len(data) - kept if filling else 0))
        audio, warnings = decoded(path)
        assert "truncated" in warnings
        assert len(audio) > 16_000
        assert "truncated" not in decoded_part(path, 0.0, 1.0)

    def test_ogg_with_a_tag_behind_it_is_whole(self, tmp_path: Path) -> None:
        path = write(tmp_path / "tag.ogg", sweep(3.0, 48_000), 48_000)
        path.write_bytes(path.read_bytes() + b"TAG" + bytes(125))
        assert decoded(path)[1] == set()

    @pytest.mark.parametrize("seconds", [0.5, 1.0, 9.9])
    def test_wav_with_a_smaller_size_in_its_header_is_read_whole(self, tmp_path: Path, seconds: float) -> None:
        path = write(tmp_path / "small.wav", sweep(20.0, 16_000), 16_000)
        data = bytearray(path.read_bytes())
        at = data.index(b"data") + 4
        data[at : at + 4] = struct.pack("<I", int(seconds * 32_000))
        path.write_bytes(data)
        audio, warnings = decoded(path)
        assert len(audio) == 20 * 16_000
        assert warnings == set()
        assert np.array_equal(decode.read(path, start_s=11.0, end_s=13.0), audio[11 * 16_000 : 13 * 16_000])

    @pytest.mark.parametrize("behind", [b"LIST\x04\0\0\0abcd", b"junk" + struct.pack("<I", 9_000) + bytes(9_000)])
    @pytest.mark.parametrize("odd", [0, 1])
    def test_what_stands_behind_the_audio_of_wav_is_not_audio(self, tmp_path: Path, behind: bytes, odd: int) -> None:
        path = tmp_path / "tags.wav"
        soundfile.write(path, sweep(2.0, 16_000)[: 32_000 - odd], 16_000, subtype="PCM_U8")
        path.write_bytes(path.read_bytes() + behind)
        audio, warnings = decoded(path)
        assert len(audio) == 32_000 - odd
        assert warnings == set()

    @pytest.mark.parametrize("suffix", ["wav", "flac", "mp3"])
    def test_a_tag_in_front(self, tmp_path: Path, suffix: str) -> None:
        path = write(tmp_path / f"tag.{suffix}", sweep(8.0, 16_000), 16_000)
        whole = decode.read(path)
        path.write_bytes(b"ID3\x03\0\0\0\0\1\x0a" + bytes(138) + path.read_bytes())
        audio, warnings = decoded(path)
        assert np.array_equal(audio, whole)
        assert warnings == set()


class TestJoined:
    @pytest.mark.parametrize("rates", [(16_000, 16_000), (16_000, 8_000), (44_100, 16_000)])
    def test_two_wav_files_in_one(self, tmp_path: Path, rates: tuple[int, int]) -> None:
        parts = [write(tmp_path / f"{rate}-{at}.wav", sweep(6.0, rate, at), rate) for at, rate in enumerate(rates)]
        path = tmp_path / "two.wav"
        path.write_bytes(b"".join(part.read_bytes() for part in parts))
        audio, warnings = decoded(path)
        assert np.array_equal(audio, np.concatenate([decode.read(part) for part in parts]))
        assert warnings == set()
        halves = [decode.read(path, start_s=a, end_s=b) for a, b in itertools.pairwise([0.0, 4.9, 9.7, None])]
        assert np.array_equal(np.concatenate(halves), audio)

    @pytest.mark.parametrize("rates", [(48_000, 48_000), (16_000, 44_100), (44_100, 16_000)])
    def test_chained_ogg(self, tmp_path: Path, rates: tuple[int, int]) -> None:
        parts = [write(tmp_path / f"{rate}-{at}.ogg", sweep(6.0, rate, at), rate) for at, rate in enumerate(rates)]
        for at, part in enumerate(parts):  # libsndfile takes the time for a serial number: the same for both
            part.write_bytes(with_serial(part.read_bytes(), at + 1))
        path = tmp_path / "chained.ogg"
        path.write_bytes(b"".join(part.read_bytes() for part in parts))
        audio, warnings = decoded(path)
        assert np.array_equal(audio, np.concatenate([decode.read(part) for part in parts]))
        assert warnings == set()

    def test_two_mp4_files_in_one(self, tmp_path: Path) -> None:
        part = write(tmp_path / "part.m4a", sweep(6.0, 16_000), 16_000)
        path = tmp_path / "two.m4a"
        path.write_bytes(part.read_bytes() * 2)
        audio, warnings = decoded(path)
        assert np.array_equal(audio, np.tile(decode.read(part), 2))
        assert warnings == set()

    @pytest.mark.parametrize("suffix", ["mp3", "aac", "flac", "ts"])
    def test_what_ffmpeg_reads_on_in(self, tmp_path: Path, suffix: str) -> None:
        part = tmp_path / f"part.{suffix}"
        ffmpeg("-i", SPEECH, part)
        path = tmp_path / f"two.{suffix}"
        path.write_bytes(part.read_bytes() * 2)
        audio, warnings = decoded(path)
        assert len(audio) / 16_000 == pytest.approx(2 * len(speech()) / 16_000, abs=0.3)
        assert "truncated" not in warnings
        assert np.abs(audio[-len(speech()) :]).max() > 0.5 * np.abs(speech()).max()

    @pytest.mark.parametrize(("container", "suffix"), [("AIFF", "aiff"), ("W64", "w64")])
    def test_two_files_whose_first_words_are_their_length(self, tmp_path: Path, container: str, suffix: str) -> None:
        part, path = tmp_path / f"part.{suffix}", tmp_path / f"two.{suffix}"
        soundfile.write(part, sweep(6.0, 16_000)[:-1], 16_000, format=container, subtype="PCM_16")
        path.write_bytes(part.read_bytes() * 2)
        audio, warnings = decoded(path)
        assert np.array_equal(audio, np.tile(decode.read(part), 2))
        assert warnings == set()

    @pytest.mark.parametrize(("container", "suffix"), [("AIFF", "aiff"), ("W64", "w64"), ("CAF", "caf"), ("AU", "au")])
    def test_such_a_file_that_is_cut_off(self, tmp_path: Path, container: str, suffix: str) -> None:
        path = tmp_path / f"cut.{suffix}"
        soundfile.write(path, sweep(6.0, 16_000), 16_000, format=container, subtype="PCM_16")
        assert decoded(path)[1] == set()
        path.write_bytes(path.read_bytes()[:100_000])
        assert decoded(path)[1] == {"truncated"}

    def test_a_broken_second_part_is_said(self, tmp_path: Path) -> None:
        part = write(tmp_path / "part.wav", sweep(6.0, 16_000), 16_000).read_bytes()
        path = tmp_path / "two.wav"
        path.write_bytes(part + b"RIFF\x24\0\0\0WAVE" + bytes(60))
        audio, warnings = decoded(path)
        assert len(audio) == 6 * 16_000
        assert warnings == {"damaged_frames"}

    def test_a_slice_is_a_file_of_its_own(self, tmp_path: Path) -> None:
        path = tmp_path / "bytes"
        path.write_bytes(bytes(range(100)))
        piece = Slice(LocalFile.of(path), Piece(10, 20))
        assert piece.read() == bytes(range(10, 20))
        assert piece.seek(-3, os.SEEK_END) == 7
        assert piece.read(10) == bytes((17, 18, 19))
        assert piece.seek(2) == 2
        assert piece.seek(1, os.SEEK_CUR) == 3
        assert piece.tell() == 3
        assert piece.read(1) == b"\x0d"
        piece.close()
        assert pieces_of(LocalFile.of(path)) == (Piece(0, 100),)


def with_serial(data: bytes, serial: int) -> bytes:
    """An Ogg stream under another serial number, its pages' checksums made anew."""
    out = b""
    while data:
        length = 27 + data[26] + sum(data[27 : 27 + data[26]])
        page = bytearray(data[:length])
        data = data[length:]
        page[14:18], page[22:26] = struct.pack("<I", serial), bytes(4)
        check = 0
        for byte in page:
            check ^= byte << 24
            for _ in range(8):
                check = (check << 1 ^ 0x104C11DB7) if check & 0x8000_0000 else check << 1
        page[22:26] = struct.pack("<I", check)
        out += bytes(page)
    return out


class TestAnyBytes:
    def test_a_stream_that_appears_in_the_middle_ends_nothing(self, tmp_path: Path) -> None:
        """PyAV says IndexError. Source: Adobe's Video File Format 10.1, "FLV tags"."""
        _, packets = packets_of(np.resize(speech(), 6 * 44_100), "libmp3lame", 44_100)
        path = mux(tmp_path / "talk.flv", packets, "libmp3lame", 44_100)
        whole = decode.read(path)
        data = bytearray(path.read_bytes())
        at, tags = 13, []
        while at + 11 < len(data):
            tags.append(at)
            at += 15 + int.from_bytes(data[at + 1 : at + 4], "big")
        middle = tags[len(tags) // 2]
        data[middle], data[middle + 11] = 9, 0x12  # a picture, where sound was
        path.write_bytes(data)
        audio, warnings = decoded(path)
        assert abs(len(audio) - len(whole)) < 1_600
        assert warnings <= {"damaged_frames"}

    @pytest.mark.parametrize("suffix", ["wav", "ogg", "opus", "m4a", "aiff", "mka", "mp3", "flac"])
    def test_headers_that_were_altered_give_audio_or_one_of_our_errors(self, tmp_path: Path, suffix: str) -> None:
        made = write(tmp_path / f"made.{suffix}", sweep(8.0, 48_000), 48_000).read_bytes()
        for seed in range(12):
            choose = random.Random(seed)
            data = bytearray(made * 2 if seed % 3 == 0 and suffix in ("wav", "m4a", "aiff") else made)
            for _ in range(choose.choice([1, 5, 20])):
                data[choose.randrange(300) if seed % 2 else choose.randrange(len(data))] = choose.randrange(256)
            path = tmp_path / f"altered.{suffix}"
            path.write_bytes(data)
            try:
                whole = decode.read(path)
                parts = [decode.read(path, end_s=6.5), decode.read(path, start_s=6.5)]
            except TraxRayError:
                continue
            assert abs(sum(map(len, parts)) - len(whole)) < 2_000, seed  # what is damaged there may differ by a gap

    def test_ogg_that_has_no_first_page(self, tmp_path: Path) -> None:
        path = write(tmp_path / "made.ogg", sweep(2.0, 48_000), 48_000)
        data = bytearray(path.read_bytes())
        data[5] = 0
        path.write_bytes(data + with_serial(bytes(data), 7))
        assert pieces_of(LocalFile.of(path)) == (Piece(0, 2 * len(data)),)


class TestSuffixes:
    WANTED = "mpga weba f4a 3ga m4r mpa eac3 dts bwf f4v dss awb w64 asf sph"

    @pytest.mark.parametrize("suffix", WANTED.split())
    def test_a_folder_gives_them(self, tmp_path: Path, suffix: str) -> None:
        (tmp_path / f"talk.{suffix.upper()}").write_bytes(b"x")
        assert scan([str(tmp_path)], tmp_path / "out").present == 1
        assert f".{suffix}" in MEDIA_SUFFIXES

    @pytest.mark.parametrize(
        ("suffix", "how"),
        [
            ("mpga", "-f mp3"),
            ("weba", "-ar 48000 -f webm"),
            ("f4a", "-f mp4"),
            ("3ga", "-f 3gp -c:a aac"),
            ("m4r", "-f ipod"),
            ("mpa", "-f mp2"),
            ("eac3", ""),
            ("dts", "-strict -2 -ar 48000"),
            ("bwf", "-f wav -write_bext 1"),
            ("f4v", "-f f4v -c:a aac"),
            ("w64", ""),
            ("asf", ""),
        ],
    )
    def test_what_ffmpeg_writes_is_read_as_ffmpeg_does(self, tmp_path: Path, suffix: str, how: str) -> None:
        path = tmp_path / f"talk.{suffix}"
        ffmpeg("-i", SPEECH, *how.split(), path)
        audio, warnings = decoded(path)
        right = by_ffmpeg(path)
        assert warnings == set()
        assert abs(len(audio) - len(right)) < 1_600
        assert alike(audio, right) > 0.9

    def test_sphere(self, tmp_path: Path) -> None:
        """Source: NIST's header is 1,024 bytes of text."""
        samples = np.rint(speech() * 32767).astype("<i2")
        lines = [
            "NIST_1A",
            "   1024",
            "channel_count -i 1",
            f"sample_count -i {len(samples)}",
            "sample_rate -i 16000",
            "sample_n_bytes -i 2",
            "sample_byte_format -s2 01",
            "sample_sig_bits -i 16",
            "sample_coding -s3 pcm",
            "end_head",
        ]
        path = tmp_path / "talk.sph"
        path.write_bytes(("\n".join(lines) + "\n").encode().ljust(1_024) + samples.tobytes())
        audio, warnings = decoded(path)
        assert np.array_equal(audio, samples.astype(np.float32) / 32768)
        assert warnings == set()
