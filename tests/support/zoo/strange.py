"""What isn't a recording, points elsewhere, has a strange name, or is right and unusual."""

from __future__ import annotations

import gzip
import io
import os
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.support.zoo.bench import RATE, SPEECH, Bench, Specimen
from tests.support.zoo.joined import whole

__all__ = ["NAMED", "NOT_MEDIA", "POINTING", "UNUSUAL"]

HOST = "http://192.0.2.1"
"""An address that is nobody's (RFC 5737): who asks it is seen, and gets no answer."""


def _text(text: str) -> Callable[[Bench], bytes]:
    return lambda bench: text.replace("SPEECH", str(SPEECH)).replace("HOST", HOST).encode()


def _outside(bench: Bench) -> bytes:
    """MP4 whose samples are in another file."""
    made = bytearray(whole(bench, "m4a"))
    at = made.find(b"url \0\0\0\x01")
    made[at + 7] = 0
    return bytes(made)


POINTING = (
    Specimen(
        "hls.mp3",
        "an HLS playlist",
        _text("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nHOST/a.ts\n#EXT-X-ENDLIST\n"),
    ),
    Specimen(
        "hls-encrypted.wav",
        "an HLS playlist with a key to fetch",
        _text('#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="HOST/key"\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nHOST/a.ts\n'),
    ),
    Specimen("list.m4a", "a list of other files (ffconcat)", _text("ffconcat version 1.0\nfile 'SPEECH'\n")),
    Specimen("list-far.mp3", "such a list with an address", _text("ffconcat version 1.0\nfile 'HOST/a.wav'\n")),
    Specimen(
        "session.mp3",
        "a session description (SDP)",
        _text("v=0\no=- 0 0 IN IP4 192.0.2.1\ns=x\nc=IN IP4 192.0.2.1\nm=audio 5004 RTP/AVP 0\n"),
    ),
    Specimen(
        "dash.mp4",
        "a DASH manifest",
        _text(
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><BaseURL>HOST/</BaseURL></Period></MPD>'
        ),
    ),
    Specimen(
        "playlist.wma",
        "a Windows Media playlist (ASX)",
        _text('<asx version="3.0"><entry><ref href="HOST/a.wma"/></entry></asx>'),
    ),
    Specimen(
        "playlist.ogg",
        "a playlist (XSPF)",
        _text(
            '<?xml version="1.0"?><playlist version="1"><trackList><track><location>HOST/a.ogg</location></track></trackList></playlist>'
        ),
    ),
    Specimen("playlist.aac", "a playlist (PLS)", _text("[playlist]\nFile1=HOST/a.aac\nNumberOfEntries=1\n")),
    Specimen("stream.rm", "a RealAudio pointer (RAM)", _text("rtsp://192.0.2.1/a.rm\n")),
    Specimen("reference.mov", "a QuickTime reference (RTSPtext)", _text("RTSPtext\nrtsp://192.0.2.1/a.mov\n")),
    Specimen("cue.flac", "a cue sheet", _text('FILE "SPEECH" WAVE\n  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n')),
    Specimen("metadata.mp3", "FFmpeg's metadata text", _text(";FFMETADATA1\ntitle=x\n")),
    Specimen("outside.m4a", "MP4 that says its samples are in another file", _outside),
)


def _zip(bench: Bench) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.wav", whole(bench, "wav"))
    return file.getvalue()


def _folder(bench: Bench) -> None:
    (bench.folder / "folder.mp3").mkdir()


def _link(name: str, target: str) -> Callable[[Bench], None]:
    return lambda bench: (bench.folder / name).symlink_to(target)


def _pipe(bench: Bench) -> None:
    os.mkfifo(bench.folder / "pipe.wav")


def _socket(bench: Bench) -> None:
    here = Path.cwd()
    with socket.socket(socket.AF_UNIX) as made:
        os.chdir(bench.folder)  # the path of a socket may have 108 bytes
        try:
            made.bind("socket.ogg")
        finally:
            os.chdir(here)


NOT_MEDIA = (
    Specimen(
        "page.mp3",
        "a web page, as a failed download leaves it",
        _text("<!DOCTYPE html><html><head><title>Sign in</title></head><body>Sign in</body></html>" * 40),
    ),
    Specimen("answer.mp3", "a server's JSON", _text('{"error": "not found"}')),
    Specimen(
        "letter.wav",
        "a PDF file",
        _text("%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer << /Root 1 0 R >>\n%%EOF\n" * 30),
    ),
    Specimen("archive.wav", "a ZIP archive with a WAV file in it", _zip),
    Specimen("packed.wav", "a WAV file, packed by gzip", lambda bench: gzip.compress(whole(bench, "wav"))),
    Specimen("program.mp4", "a program", lambda _: Path("/proc/self/exe").read_bytes()[:200_000]),
    Specimen(
        "pointer.wav",
        "a pointer of Git LFS",
        _text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"),
    ),
    Specimen(
        "finder.mp3",
        "what macOS puts beside files on foreign disks (AppleDouble)",
        lambda _: b"\0\x05\x16\x07\0\x02\0\0Mac OS X        " + bytes(4_000),
    ),
    Specimen("picture.mp4", "a still picture as a video", lambda bench: _picture(bench)),
    Specimen("film.mp4", "a video without sound", lambda bench: _film(bench)),
    Specimen("subtitles.mkv", "Matroska with subtitles and nothing else", lambda bench: _subtitles(bench)),
    Specimen("folder.mp3", "a folder", _folder),
    Specimen("pipe.wav", "a named pipe into which nobody writes", _pipe),
    Specimen("socket.ogg", "a socket", _socket),
    Specimen("device.wav", "a link to /dev/zero", _link("device.wav", "/dev/zero")),
    Specimen("nowhere.mp3", "a link to nothing", _link("nowhere.mp3", "gone.mp3")),
    Specimen("round.mp3", "a link to itself", _link("round.mp3", "round.mp3")),
)


def _film(bench: Bench) -> bytes:
    path = bench.scratch / "film.mp4"
    bench.run("ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", "testsrc=d=2:s=160x120", "-c:v", "mpeg4", path)
    return path.read_bytes()


def _picture(bench: Bench) -> bytes:
    path = bench.scratch / "picture.png"
    bench.run("ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", "testsrc=d=1:s=160x120", "-frames:v", 1, path)
    return path.read_bytes()


def _subtitles(bench: Bench) -> bytes:
    (bench.scratch / "in.srt").write_text("1\n00:00:00,000 --> 00:00:02,000\nnothing to hear\n\n")
    bench.run("ffmpeg", "-v", "error", "-y", "-i", "in.srt", "out.mkv")
    return (bench.scratch / "out.mkv").read_bytes()


_NAMES = {
    "http:x.wav": "a name like an address",
    "pipe:0": "a name like a pipe's",
    "concat:a|b.wav": "a name like a list",
    "-i.wav": "a name like a flag",
    "%d.wav": "a name like a series of pictures",
    "a\nb.wav": "a name of two lines",
    "quote'\"$(id).wav": "a name that a shell would obey",
    "\u202egpj.wav": "a name that reads from right to left",
    "u\u0308ber.wav": "a name with a letter of two characters",
    os.fsdecode(b"caf\xe9.wav"): "a name that isn't UTF-8",
    "x" * 251 + ".wav": "a name of 255 bytes",
    "no suffix": "a name without a suffix",
    "wrong.mp3": "WAV under the name of MP3",
    " .wav": "a name of a blank",
    "nul.wav": "a name that Windows keeps for itself",
}

NAMED = tuple(Specimen(name, what, lambda bench: whole(bench, "wav")) for name, what in _NAMES.items())


def _stereo(right: float) -> Callable[[Bench], bytes]:
    return lambda bench: bench.wav(np.stack([bench.speech(), right * bench.speech()], axis=1))


def _hidden(bench: Bench) -> bytes:
    noise = np.random.default_rng(5).normal(0, 0.3, len(bench.speech()))
    return bench.wav(np.stack([noise, bench.speech()], axis=1))


def _second_track(bench: Bench) -> bytes:
    (bench.scratch / "silent.wav").write_bytes(bench.wav(np.zeros(8 * RATE)))
    return bench.by("mkv", "mkvmerge", "-q", "-o", "MADE", bench.scratch / "silent.wav", "SPEECH")


def _late(bench: Bench) -> bytes:
    return bench.by("mkv", "mkvmerge", "-q", "-o", "MADE", "--sync", "0:5000", "SPEECH")


def _turns(bench: Bench) -> bytes:
    """Six channels, the voice in the middle one."""
    return bench.ffmpeg("flac", "-af", "pan=5.1|FC=c0")


def _live(bench: Bench) -> bytes:
    """WebM as a browser records it: no length, clusters of unknown size."""
    return bench.run("ffmpeg", "-v", "error", "-i", SPEECH, "-c:a", "libopus", "-f", "webm", "-live", 1, "-")


def _fragments(bench: Bench) -> bytes:
    return bench.ffmpeg("mp4", "-c:a", "aac", "-movflags", "frag_keyframe+empty_moov+default_base_moof")


def _sox(suffix: str, *options: object) -> Callable[[Bench], bytes]:
    return lambda bench: bench.by(suffix, "sox", "-R", "SPEECH", *options, "MADE")


UNUSUAL = (
    Specimen("inverted.wav", "stereo whose right channel is the left one upside down", _stereo(-1.0)),
    Specimen("hidden.wav", "stereo with noise on the left and a voice on the right", _hidden),
    Specimen("one-sided.wav", "stereo with nothing on the right", _stereo(0.0)),
    Specimen("centre.flac", "six channels, the voice in the centre", _turns),
    Specimen("second-track.mkv", "a silent track and a spoken one, by mkvmerge", _second_track),
    Specimen("late.mkv", "a track that begins after 5 s, by mkvmerge", _late),
    Specimen("browser.webm", "WebM as browsers record it, without a length", _live),
    Specimen("fragments.mp4", "MP4 in fragments", _fragments),
    Specimen(
        "lame.mp3",
        "MP3 by LAME, variable bit rate",
        lambda bench: bench.by("mp3", "lame", "--quiet", "-V", "2", "SPEECH", "MADE"),
    ),
    Specimen(
        "free.mp3",
        "MP3 in free format, by LAME",
        lambda bench: bench.by(
            "mp3", "lame", "--quiet", "--freeformat", "-b", "40", "--resample", "16", "SPEECH", "MADE"
        ),
    ),
    Specimen(
        "opusenc.opus",
        "Ogg Opus by opusenc, frames of 60 ms",
        lambda bench: bench.by("opus", "opusenc", "--quiet", "--framesize", "60", "--bitrate", "16", "SPEECH", "MADE"),
    ),
    Specimen(
        "oggenc.ogg", "Ogg Vorbis by oggenc", lambda bench: bench.by("ogg", "oggenc", "-Q", "-o", "MADE", "SPEECH")
    ),
    Specimen(
        "flac.oga",
        "FLAC in Ogg, by flac",
        lambda bench: bench.by("oga", "flac", "-s", "--ogg", "-f", "-o", "MADE", "SPEECH"),
    ),
    Specimen("speex.spx", "Speex by speexenc", lambda bench: bench.by("spx", "speexenc", "--quiet", "SPEECH", "MADE")),
    Specimen(
        "wavpack.wv",
        "WavPack, lossy, by wavpack",
        lambda bench: bench.by("wv", "wavpack", "-q", "-b256", "SPEECH", "-o", "MADE"),
    ),
    Specimen("twolame.mp2", "MP2 by TwoLAME", lambda bench: bench.by("mp2", "twolame", "--quiet", "SPEECH", "MADE")),
    Specimen("voice.voc", "Creative VOC by SoX", _sox("voc")),
    Specimen("voice.gsm", "GSM without a container, by SoX", _sox("gsm", "-r", 8_000)),
    Specimen("law.wav", "WAV with A-law at 8 kHz, by SoX", _sox("wav", "-r", 8_000, "-e", "a-law")),
    Specimen("adpcm.wav", "WAV with IMA ADPCM, by SoX", _sox("wav", "-e", "ima-adpcm")),
    Specimen("float.wav", "WAV with 64-bit floats, by SoX", _sox("wav", "-e", "floating-point", "-b", 64)),
    Specimen("sphere.sph", "NIST SPHERE by SoX", _sox("sph")),
    Specimen("pipe.au", "AU from a pipe, without a size", lambda bench: bench.run("sox", SPEECH, "-t", "au", "-")),
    Specimen("pipe.wav.w64", "Wave64 by SoX", _sox("w64")),
    Specimen("rf64.wav", "RF64", lambda bench: bench.ffmpeg("wav", "-rf64", "always")),
    Specimen("alac.m4a", "Apple Lossless", lambda bench: bench.ffmpeg("m4a", "-c:a", "alac")),
    Specimen("dts.dts", "DTS", lambda bench: bench.ffmpeg("dts", "-c:a", "dca", "-strict", -2, "-ar", 48_000)),
    Specimen(
        "film-with-sound.mp4",
        "a video with sound",
        lambda bench: bench.ffmpeg(
            "mp4", "-f", "lavfi", "-i", "testsrc=d=7:s=160x120", "-c:v", "mpeg4", "-c:a", "aac", "-shortest"
        ),
    ),
    Specimen("clipped.flac", "speech that is 20 dB too loud", lambda bench: bench.ffmpeg("flac", "-af", "volume=20dB")),
    Specimen(
        "whisper.flac", "speech that is 50 dB too soft", lambda bench: bench.ffmpeg("flac", "-af", "volume=-50dB")
    ),
    Specimen(
        "telephone.wav",
        "speech from 300 to 3,400 Hz",
        lambda bench: bench.ffmpeg(
            "wav", "-af", "highpass=300:p=2,lowpass=3200:p=2,lowpass=3200:p=2,lowpass=3200:p=2", "-ar", 8_000
        ),
    ),
    Specimen("silent.mp3", "eight seconds of silence", lambda bench: bench.ffmpeg("mp3", "-af", "volume=0")),
)
