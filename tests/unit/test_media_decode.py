"""Decoding: exact chunks, hardened opening, clear errors, damage that is survived."""

from __future__ import annotations

import http.server
import itertools
import os
import struct
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from trax_ray.errors import FileError, MediaError, ProcessingError, TraxRayError
from trax_ray.media import decode, decoder, medium, source

BROKEN = Path(os.environ.get("TRAX_RAY_SPEECH_DIR", Path(__file__).parents[3] / "shared" / "speech")) / "broken"

CODECS = {
    "wav": "pcm_s16le",
    "flac": "flac",
    "mp3": "libmp3lame",
    "m4a": "aac",
    "opus": "libopus",
    "mka": "aac",
    "aac": "aac",
    "aiff": "pcm_s16be",
}


def sweep(seconds: float, rate: int, seed: int = 0) -> np.ndarray:
    t = np.arange(int(rate * seconds)) / rate
    noise = np.random.default_rng(seed).standard_normal(t.size)
    return (0.3 * np.sin(2 * np.pi * (200 + 20 * t) * t) + 0.01 * noise).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int, channels: int = 1) -> Path:
    """Encode mono samples, on each of the channels, by the file's suffix."""
    suffix = path.suffix[1:]
    if suffix == "ogg":
        with soundfile.SoundFile(path, "w", rate, channels, format="OGG", subtype="VORBIS") as out:
            for at in range(0, len(samples), 8000):  # libvorbis crashes on long writes
                out.write(np.repeat(samples[at : at + 8000, None], channels, axis=1))
        return path
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
    with av.open(str(path), "w") as container:
        out_stream = container.add_stream(CODECS[suffix], rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.repeat(samples[None], channels, axis=0), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        for packet in [*out_stream.encode(frame), *out_stream.encode(None)]:
            container.mux(packet)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("decode")


class TestChunks:
    @pytest.mark.parametrize("rate", [16_000, 44_100])
    @pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "m4a", "ogg", "opus", "mka", "aac", "aiff"])
    def test_chunks_are_together_the_whole(self, folder: Path, suffix: str, rate: int) -> None:
        if suffix == "opus":
            rate = 48_000
        path = write(folder / f"sweep{rate}.{suffix}", sweep(23.45, rate), rate)
        whole = decode.read(path)
        cuts = [0.0, 6.00003, 11.1, 17.654321, None]
        parts = [decode.read(path, start_s=a, end_s=b) for a, b in itertools.pairwise(cuts)]
        assert [len(part) for part in parts[:3]] == [96_000, 81_600, 104_869]
        joined = np.concatenate(parts)
        assert len(joined) == len(whole)
        assert abs(len(whole) / 16_000 - 23.45) < 0.15  # AAC without gapless information keeps its priming
        assert np.abs(joined - whole).max() < 0.02  # AAC's noise substitution is random after a seek
        assert np.corrcoef(joined, whole)[0, 1] > 0.999

    @pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
    def test_length_is_exact_where_the_format_is(self, folder: Path, suffix: str) -> None:
        path = write(folder / f"exact.{suffix}", sweep(3.0, 44_100), 44_100)
        assert len(decode.read(path)) == 48_000

    @pytest.mark.parametrize(("suffix", "mode"), [("wav", "seek"), ("m4a", "seek"), ("mp3", "skip"), ("ogg", "skip")])
    def test_a_late_start_does_not_decode_the_beginning(
        self, folder: Path, suffix: str, mode: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write(folder / f"late.{suffix}", sweep(40.0, 16_000), 16_000)
        counts: list[int] = []
        original = decoder.Decoder._decoded

        def counted(self: decoder.Decoder, packet: object, *, count: bool) -> list:
            counts.append(1)
            return original(self, packet, count=count)

        monkeypatch.setattr(decoder.Decoder, "_decoded", counted)
        decode.read(path)
        whole = len(counts)
        counts.clear()
        assert len(decode.read(path, start_s=37.0, end_s=38.0)) == 16_000
        assert len(counts) < whole / 4, mode

    def test_a_start_beyond_the_end_is_empty(self, folder: Path) -> None:
        for suffix in ("wav", "mp3", "mka"):
            path = write(folder / f"short.{suffix}", sweep(2.0, 16_000), 16_000)
            assert len(decode.read(path, start_s=5.0)) == 0
            assert len(decode.read(path, start_s=50.0, end_s=60.0)) == 0

    def test_blocks(self, folder: Path) -> None:
        path = write(folder / "blocks.wav", sweep(3.3, 16_000), 16_000)
        with decode.stream(path, block_s=1.0) as blocks:
            lengths = [len(block) for block in blocks]
            assert blocks.duration_s == pytest.approx(3.3)
            assert blocks.warnings == ()
        assert lengths == [16_000, 16_000, 16_000, 4_800]

    def test_a_stream_that_is_left_early_can_be_closed_twice(self, folder: Path) -> None:
        path = write(folder / "early.wav", sweep(3.0, 16_000), 16_000)
        blocks = decode.stream(path, block_s=0.5)
        assert next(blocks).dtype == np.float32
        blocks.close()
        blocks.close()
        assert list(blocks) == []

    @pytest.mark.parametrize("arguments", [{"start_s": -1.0}, {"start_s": 2.0, "end_s": 1.0}, {"block_s": 0.0}])
    def test_bad_stretches(self, folder: Path, arguments: dict) -> None:
        path = write(folder / "bad.wav", sweep(1.0, 16_000), 16_000)
        with pytest.raises(ValueError, match="expected 0 <= start_s"):
            decode.stream(path, **arguments)

    def test_memory_does_not_grow_with_length(self, folder: Path) -> None:
        path = folder / "long.wav"
        with soundfile.SoundFile(path, "w", 8_000, 1, subtype="PCM_U8") as out:
            minute = sweep(60.0, 8_000)
            for _ in range(6):
                out.write(minute)
        tracemalloc.start()
        try:
            samples = sum(len(block) for block in decode.stream(path, block_s=2.0))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert samples == 6 * 60 * 16_000
        assert peak < 2_000_000


class TestSamples:
    def test_sixteen_bit_mono_passes_bit_by_bit(self, folder: Path) -> None:
        samples = (sweep(1.0, 16_000) * 32767).astype(np.int16)
        soundfile.write(folder / "bits.wav", samples, 16_000, subtype="PCM_16")
        assert np.array_equal(decode.read(folder / "bits.wav"), samples.astype(np.float32) / 32768)

    @pytest.mark.parametrize("channels", [2, 6])
    def test_channels_are_mixed_within_range(self, folder: Path, channels: int) -> None:
        loud = np.sign(sweep(1.0, 16_000)) * np.float32(0.99)
        audio = decode.read(write(folder / f"ch{channels}.wav", loud, 16_000, channels))
        assert audio.shape == (16_000,)
        assert 0.9 < np.abs(audio).max() <= 1.0

    @pytest.mark.parametrize("channels", [3, 5, 9, 24])
    def test_unusual_numbers_of_channels(self, folder: Path, channels: int) -> None:
        path = folder / f"odd{channels}.wav"
        soundfile.write(path, np.repeat(sweep(6.0, 44_100)[:, None], channels, axis=1), 44_100, subtype="PCM_16")
        assert len(decode.read(path)) == 96_000
        assert len(decode.read(path, start_s=5.0, end_s=5.5)) == 8_000

    @pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "MS_ADPCM"])
    def test_kinds_of_wav(self, folder: Path, subtype: str) -> None:
        path = folder / f"{subtype}.wav"
        soundfile.write(path, sweep(8.0, 16_000), 16_000, subtype=subtype)
        whole = decode.read(path)
        assert abs(len(whole) - 128_000) < 2_000  # ADPCM fills its last block
        parts = [decode.read(path, end_s=7.0), decode.read(path, start_s=7.0)]
        assert np.allclose(np.concatenate(parts), whole, atol=1e-3)
        assert np.abs(whole).max() == pytest.approx(0.33, abs=0.05)

    def test_a_name_that_is_not_utf8(self, folder: Path) -> None:
        made = write(folder / "plain.wav", sweep(1.0, 16_000), 16_000)
        strange = os.fsencode(folder) + b"/\xff\xe9 ?#%s.wav"
        Path(os.fsdecode(strange)).write_bytes(made.read_bytes())
        assert len(decode.read(os.fsdecode(strange))) == 16_000


class TestProbe:
    def test_facts(self, folder: Path) -> None:
        info = decode.probe(write(folder / "facts.mp3", sweep(2.5, 44_100), 44_100, 2))
        assert (info.container, info.sample_rate_hz, info.channels) == ("mp3", 44_100, 2)
        assert info.codec.startswith("mp3")
        assert info.duration_s == pytest.approx(2.5, abs=0.1)
        assert info.declared_s == pytest.approx(2.5, abs=0.1)
        assert info.bit_rate_bps is not None
        assert info.bit_rate_bps > 8_000
        assert info.size_bytes == (folder / "facts.mp3").stat().st_size

    def test_nothing_is_decoded(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write(folder / "cheap.flac", sweep(2.0, 16_000), 16_000)

        def never(*_: object, **__: object) -> list:
            raise AssertionError("decoded")

        monkeypatch.setattr(decoder.Decoder, "_decoded", never)
        assert decode.probe(path).codec == "flac"


@pytest.fixture
def web_server() -> Iterator[tuple[str, list[str]]]:
    """A real server on loopback: its address, and what was asked of it."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


class TestHardening:
    @pytest.mark.parametrize("name", ["x.mp3", "x.wav", "x.m3u8", "x.mp4", "x.ffconcat", "x"])
    def test_a_list_opens_nothing_else(self, tmp_path: Path, name: str, web_server: tuple[str, list[str]]) -> None:
        address, asked = web_server
        secret = write(tmp_path / "secret.wav", sweep(1.0, 16_000), 16_000)
        texts = [
            f"ffconcat version 1.0\nfile '{secret}'\n",
            "ffconcat version 1.0\nfile 'secret.wav'\n",
            f"ffconcat version 1.0\nfile '{address}/a.wav'\n",
            f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{address}/a.ts\n#EXT-X-ENDLIST\n",
            f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{secret}\n#EXT-X-ENDLIST\n",
            f'<?xml version="1.0"?><MPD><Period><BaseURL>{address}/</BaseURL></Period></MPD>',
            "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
        ]
        for text in texts:
            (tmp_path / name).write_text(text)
            with pytest.raises(MediaError) as caught:
                decode.read(tmp_path / name)
            assert caught.value.code == "not_decodable"
            assert name in caught.value.message
        assert asked == []

    def test_the_guard_is_what_stops_it(self, tmp_path: Path) -> None:
        """The same list without our options does open the other file: the test above can fail."""
        write(tmp_path / "secret.wav", sweep(1.0, 16_000), 16_000)
        (tmp_path / "x.mp3").write_text("ffconcat version 1.0\nfile 'secret.wav'\n")
        with av.open(str(tmp_path / "x.mp3")) as container:
            assert sum(frame.samples for frame in container.decode(audio=0)) == 16_000

    @pytest.mark.parametrize("name", ["http:x.wav", "file:x.wav", "concat:a|b.wav", "pipe:0", "-", "data:x.wav"])
    def test_names_are_files_never_addresses(self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        made = write(tmp_path / "made.wav", sweep(1.0, 16_000), 16_000)
        monkeypatch.chdir(tmp_path)
        made.rename(tmp_path / name)
        assert len(decode.read(name)) == 16_000

    def test_no_list_format_is_allowed(self) -> None:
        allowed = set(source.FORMATS.split(","))
        assert not allowed & {"hls", "concat", "dash", "image2", "lavfi", "sdp", "rtsp", "rtp", "applehttp", "imf"}


class TestErrors:
    def code(self, path: str | Path) -> tuple[type, str, str]:
        with pytest.raises(TraxRayError) as caught:
            decode.read(path)
        error = caught.value
        assert Path(path).name in error.message
        return type(error), error.code, error.failure_class

    def test_missing(self, tmp_path: Path) -> None:
        assert self.code(tmp_path / "gone.wav") == (FileError, "not_found", "permanent")

    def test_folder(self, tmp_path: Path) -> None:
        assert self.code(tmp_path) == (FileError, "not_a_file", "permanent")

    def test_a_pipe_does_not_hang(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.wav")
        assert self.code(tmp_path / "pipe.wav") == (FileError, "not_a_file", "permanent")

    def test_not_permitted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write(tmp_path / "locked.wav", sweep(1.0, 16_000), 16_000)

        def refuse(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(medium, "open", refuse, raising=False)
        assert self.code(path) == (FileError, "permission_denied", "permanent")

    @pytest.mark.parametrize("content", [b"", b"hello, this is text\n" * 50, bytes(4096), b"RIFF\x24\0\0\0WAVE"])
    @pytest.mark.parametrize("suffix", ["wav", "mp3", "mp4", "flac", "txt"])
    def test_no_media(self, tmp_path: Path, content: bytes, suffix: str) -> None:
        path = tmp_path / f"x.{suffix}"
        path.write_bytes(content)
        kind, code, failure_class = self.code(path)
        assert (kind, failure_class) == (MediaError, "permanent")
        assert code in ("not_decodable", "no_audio_stream")

    def test_random_bytes(self, tmp_path: Path) -> None:
        for seed in range(5):
            path = tmp_path / "random.mp3"
            path.write_bytes(np.random.default_rng(seed).bytes(200_000))
            assert self.code(path)[:2] == (MediaError, "not_decodable")

    def test_video_without_audio(self, tmp_path: Path) -> None:
        path = tmp_path / "silent.mp4"
        with av.open(str(path), "w") as container:
            video = container.add_stream("mpeg4", rate=10)
            video.width = video.height = 64
            for index in range(3):
                frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
                frame.pts = index
                for packet in video.encode(frame):
                    container.mux(packet)
            for packet in video.encode(None):
                container.mux(packet)
        assert self.code(path) == (MediaError, "no_audio_stream", "permanent")

    def test_no_samples(self, tmp_path: Path) -> None:
        soundfile.write(tmp_path / "empty.wav", np.zeros(0, np.float32), 16_000)
        assert self.code(tmp_path / "empty.wav") == (MediaError, "no_samples", "permanent")

    @pytest.mark.speech
    @pytest.mark.parametrize(("name", "code"), [("null.wav", "no_samples"), ("bad.wav", "not_decodable")])
    def test_broken_recordings(self, name: str, code: str) -> None:
        if not BROKEN.is_dir():
            pytest.skip(f"no recorded speech at {BROKEN.parent}: set TRAX_RAY_SPEECH_DIR")
        assert self.code(BROKEN / name) == (MediaError, code, "permanent")

    @pytest.mark.parametrize(
        "error",
        [av.error.BugError(558323010, "Internal bug"), av.error.MemoryError(12, "Cannot allocate"), MemoryError()],
    )
    def test_bugs_of_the_decoder_are_transient(
        self, tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write(tmp_path / "fine.wav", sweep(1.0, 16_000), 16_000)

        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(decoder.Decoder, "_decoded", fail)
        assert self.code(path) == (ProcessingError, "decoder_bug", "transient")

    def test_sample_rates_beyond_reason(self, tmp_path: Path) -> None:
        path = write(tmp_path / "slow.wav", sweep(1.0, 16_000), 16_000)
        data = bytearray(path.read_bytes())
        at = data.index(b"fmt ") + 12
        data[at : at + 4] = struct.pack("<I", 1)
        path.write_bytes(data)
        assert self.code(path)[:2] == (MediaError, "not_decodable")


class TestDamage:
    def damaged(self, path: Path) -> decode.AudioStream:
        blocks = decode.stream(path)
        for _ in blocks:
            pass
        return blocks

    @pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "m4a"])
    def test_truncated(self, tmp_path: Path, suffix: str) -> None:
        path = write(tmp_path / f"cut.{suffix}", sweep(10.0, 16_000), 16_000)
        if suffix == "m4a":
            path = self.fast_start(path)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * 0.6)])
        blocks = self.damaged(path)
        assert "truncated" in blocks.warnings
        assert 5.0 < blocks.duration_s < 8.0
        assert blocks.missing_s == pytest.approx(10.0 - blocks.duration_s, abs=0.1)

    def fast_start(self, path: Path) -> Path:
        moved = path.with_name("moved.m4a")
        with av.open(str(path)) as original, av.open(str(moved), "w", options={"movflags": "faststart"}) as target:
            out = target.add_stream_from_template(original.streams.audio[0])
            for packet in original.demux(audio=0):
                if packet.dts is not None:
                    packet.stream = out
                    target.mux(packet)
        return moved

    @pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "m4a", "ogg", "opus", "mka", "aac", "aiff"])
    def test_whole_files_are_not_truncated(self, tmp_path: Path, suffix: str) -> None:
        path = write(tmp_path / f"whole.{suffix}", sweep(3.0, 48_000), 48_000)
        assert self.damaged(path).warnings == ()

    @pytest.mark.parametrize("size", [0, 0xFFFF_FFFF, 0x7FFF_FFFF, 0x7FFF_F024])
    def test_wav_from_a_pipe_is_not_truncated(self, tmp_path: Path, size: int) -> None:
        path = write(tmp_path / "pipe.wav", sweep(2.0, 16_000), 16_000)
        data = bytearray(path.read_bytes())
        at = data.index(b"data") + 4
        data[at : at + 4] = struct.pack("<I", size)
        path.write_bytes(data)
        blocks = self.damaged(path)
        assert blocks.duration_s == pytest.approx(2.0, abs=0.01)
        assert blocks.warnings == ()

    def test_a_stretch_is_not_truncated_unless_it_meets_the_end(self, tmp_path: Path) -> None:
        path = write(tmp_path / "cut.wav", sweep(10.0, 16_000), 16_000)
        path.write_bytes(path.read_bytes()[:200_000])
        with decode.stream(path, end_s=4.0) as inside, decode.stream(path, start_s=4.0, end_s=8.0) as last:
            assert sum(map(len, inside)) == 64_000
            assert sum(map(len, last)) < 64_000
            assert inside.warnings == ()
            assert last.warnings == ("truncated",)

    @pytest.mark.parametrize("suffix", ["mp3", "flac", "m4a", "opus", "ogg"])
    def test_damaged_frames_are_skipped(self, tmp_path: Path, suffix: str) -> None:
        path = write(tmp_path / f"hurt.{suffix}", sweep(20.0, 48_000), 48_000)
        data = bytearray(path.read_bytes())
        noise = np.random.default_rng(1).bytes(3_000)
        at = len(data) // 2
        data[at : at + len(noise)] = noise
        path.write_bytes(data)
        blocks = decode.stream(path)
        audio = np.concatenate(list(blocks))
        assert blocks.warnings == ("damaged_frames",)
        assert blocks.damaged_frames > 0
        assert abs(len(audio) / 16_000 - 20.0) < (0.5 if suffix == "mp3" else 0.02)
        clean = sweep(20.0, 16_000)
        assert np.corrcoef(audio[:100_000], clean[:100_000])[0, 1] > 0.9
        assert np.abs(audio[-32_000:]).max() > 0.2

    def test_mostly_damaged(self, tmp_path: Path) -> None:
        path = write(tmp_path / "wreck.m4a", sweep(20.0, 16_000), 16_000)
        data = bytearray(path.read_bytes())
        data[len(data) // 10 : -len(data) // 5] = bytes(len(data) - len(data) // 10 - len(data) // 5)
        path.write_bytes(data)
        with pytest.raises(MediaError, match="frames are damaged") as caught:
            decode.read(path)
        assert caught.value.code == "not_decodable"
