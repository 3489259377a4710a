"""Make the synthetic sample clips, and beside each clip the text that it speaks; those in `voices` are recordings.

The clips and their texts are kept in the repository, so nobody has to run this to use them. It is here to show where
they come from, and to make them again when the table below has changed. One table, `CLIPS`, holds everything: where a
clip goes, who speaks what in it, and how it is encoded. `flite` speaks, `ffmpeg` encodes, and nothing is random, so
the same versions of the two programs give the same bytes.

Example:
    $ python samples/make.py --out /tmp/samples
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import subprocess
import sys
import tempfile
import wave
from array import array
from dataclasses import dataclass
from pathlib import Path

RATE = 16_000
VOICES = ("rms", "awb")
PACKAGES = {"flite": "flite", "ffmpeg": "ffmpeg"}

WAV = ("-c:a", "pcm_s16le")
FLAC = ("-c:a", "flac", "-compression_level", "12")
MP3 = ("-c:a", "libmp3lame", "-b:a", "48k")
VORBIS = ("-c:a", "libvorbis", "-q:a", "2")
OPUS = ("-c:a", "libopus", "-b:a", "24k")
AAC = ("-c:a", "aac", "-b:a", "80k", "-movflags", "+faststart")


class SampleError(Exception):
    """A clip cannot be made; the message is one line for the person who asked for it."""


@dataclass(frozen=True)
class Turn:
    """What one voice says without being interrupted.

    Attributes:
        voice: The flite voice, one of `VOICES`.
        text: One or more sentences. Each is synthesised by itself.
    """

    voice: str
    text: str


@dataclass(frozen=True)
class Clip:
    """One row of the table.

    Attributes:
        path: Where the clip goes, relative to the output folder. The ending names the format.
        turns: Who says what, in order. A clip without turns is silent.
        encoder: The encoder's arguments for ffmpeg.
        gap_s: Seconds between two sentences.
        rate: Samples per second in the file.
        stereo: Two channels: the first voice on the left, any other on the right.
        silence_s: Length of a clip without turns, in seconds.
    """

    path: str
    turns: tuple[Turn, ...]
    encoder: tuple[str, ...]
    gap_s: float = 0.7
    rate: int = RATE
    stereo: bool = False
    silence_s: float = 0.0

    @property
    def reference(self) -> str:
        """The text of the clip, one line for each turn, or nothing at all for a silent clip."""
        return "".join(f"{turn.text}\n" for turn in self.turns)


CLIPS: tuple[Clip, ...] = (
    Clip(
        path="first_test.wav",
        turns=(
            Turn(
                "rms",
                "This recording was made to test the system. It is short, and every word is easy to understand.",
            ),
        ),
        encoder=WAV,
    ),
    Clip(
        path="quiet_room.flac",
        turns=(),
        encoder=FLAC,
        silence_s=6.0,
    ),
    Clip(
        path="long_pause.ogg",
        turns=(
            Turn("rms", "Something was said here, and then nothing was said for a long time."),
            Turn("rms", "Now the silence is over, and we can go on."),
        ),
        encoder=VORBIS,
        gap_s=20.0,
    ),
    Clip(
        path="talks/meeting.mp3",
        turns=(
            Turn(
                "rms",
                "Good morning, and welcome to the meeting. We have two questions to answer today. "
                "The first one is the budget for the next year. The second one is the date of our next meeting.",
            ),
        ),
        encoder=MP3,
        gap_s=0.6,
    ),
    Clip(
        path="talks/interview.m4a",
        turns=(
            Turn("awb", "How long have you been working here?"),
            Turn("rms", "I have been working here for almost twenty years."),
            Turn("awb", "What has changed the most?"),
            Turn("rms", "The machines are much better, but the people are the same."),
        ),
        encoder=AAC,
        rate=44_100,
        stereo=True,
    ),
    Clip(
        path="talks/old_recordings.flac",
        turns=(
            Turn(
                "rms",
                "I have listened to many of these recordings. We want to keep them for the future. "
                "The first thing we need is a list of all the recordings.",
            ),
        ),
        encoder=FLAC,
    ),
    Clip(
        path="talks/weather.ogg",
        turns=(
            Turn(
                "awb",
                "The weather will be cold and dry in the north. In the south there will be some rain during the night. "
                "The wind will be strong near the coast.",
            ),
        ),
        encoder=OPUS,
    ),
    Clip(
        path="stories/the_river.ogg",
        turns=(
            Turn(
                "rms",
                "This story is about a river and the people who live near it. "
                "The town is not very old, and most of the houses are made of stone. "
                "Most of the people in the town work on the land, and some of them work at the station. "
                "Every spring the snow melted in the mountains, and the water came down into the valley. "
                "One night, after a long week of rain, the water began to rise very quickly.",
            ),
            Turn(
                "rms",
                "A young man at the station heard it first. "
                "He ran from house to house and told everyone to leave. "
                "Some of them did not believe him. "
                "They had seen high water before, and they were not afraid. "
                "But by midnight the old bridge was gone, and the water was in the streets. "
                "Nobody was hurt, because everyone had listened in the end.",
            ),
            Turn(
                "rms",
                "In the morning they stood on the hill and looked down at what was left. "
                "The school was gone, and so was the market. "
                "The church was still standing, but the doors were open and the floor was full of sand. "
                "It took more than two years to build the town again. "
                "The government paid for some of it, but most of the work was done by the people themselves. "
                "The new houses were built on higher ground. "
                "They decided to write everything down, so that nobody would forget.",
            ),
            Turn(
                "rms",
                "There is now a small office near the station where all of these records are kept. "
                "I have listened to many of these recordings. "
                "The sound is not always good, and sometimes you can hear the rain on the window. "
                "But when you listen for a long time, you begin to understand what they lost. "
                "You also begin to understand why they stayed. "
                "The river is quiet today, and people come to swim in it. "
                "Nobody in the town has forgotten what it can do. "
                "That is the end of the story.",
            ),
        ),
        encoder=OPUS,
        gap_s=0.8,
    ),
    Clip(
        path="stories/the_storm.mp3",
        turns=(
            Turn(
                "rms",
                "The wind became stronger during the night. We closed all the windows and waited for the morning.",
            ),
        ),
        encoder=MP3,
        rate=44_100,
    ),
    Clip(
        path="stories/the_last_train.m4a",
        turns=(
            Turn(
                "awb",
                "The last train had already left when we came to the station. "
                "We had no money for a hotel, so we waited until the morning.",
            ),
        ),
        encoder=("-c:a", "aac", "-b:a", "48k", "-movflags", "+faststart"),
        rate=22_050,
    ),
    Clip(
        path="stories/the_letter.ogg",
        turns=(
            Turn(
                "rms",
                "She came back to the village after ten years. The house was empty, but the door was open. "
                "On the table there was a letter with her name on it.",
            ),
        ),
        encoder=VORBIS,
    ),
)


def run(command: list[str]) -> str:
    """Run a program to its end.

    Args:
        command: The program and its arguments.

    Returns:
        What the program printed.

    Raises:
        SampleError: The program failed.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise SampleError(f"{command[0]} failed with status {done.returncode}: {lines[-1]}")
    return done.stdout


def check_programs() -> None:
    """Make sure that both programs are here, and that flite has our voices.

    Asked for a voice that it lacks, flite speaks with another one and reports success.

    Raises:
        SampleError: A program is not installed, or flite lacks a voice.
    """
    for program, package in PACKAGES.items():
        if shutil.which(program) is None:
            raise SampleError(f"{program} is not installed (on Debian and Ubuntu: apt-get install {package})")
    available = run(["flite", "-lv"]).split()
    missing = [voice for voice in VOICES if voice not in available]
    if missing:
        raise SampleError(f"flite has no voice {' and no voice '.join(missing)} (Debian's package flite has them)")


def speak(voice: str, sentence: str, scratch: Path) -> array[int]:
    """Synthesise one sentence.

    Args:
        voice: The flite voice.
        sentence: What to say.
        scratch: A folder for the file that flite writes.

    Returns:
        16-bit samples, mono, at `RATE`.

    Raises:
        SampleError: flite failed, or wrote another format than 16-bit mono at `RATE`.
    """
    target = scratch / "sentence.wav"
    run(["flite", "-voice", voice, "-t", sentence, "-o", str(target)])
    with wave.open(str(target), "rb") as spoken:
        found = (spoken.getnchannels(), spoken.getsampwidth(), spoken.getframerate())
        if found != (1, 2, RATE):
            raise SampleError(f"flite wrote (channels, bytes, rate) {found} for voice {voice}, not {(1, 2, RATE)}")
        return little_endian(spoken.readframes(spoken.getnframes()))


def little_endian(data: bytes) -> array[int]:
    """Read 16-bit samples as wav files hold them.

    Args:
        data: Little-endian 16-bit samples.

    Returns:
        The samples.
    """
    samples = array("h")
    samples.frombytes(data)
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def hiss(seconds: float) -> array[int]:
    """Make the noise of a room in which nothing happens, far too faint to be taken for speech.

    Args:
        seconds: How long.

    Returns:
        16-bit samples, mono, at `RATE`; always the same ones.
    """
    source = random.Random(0)
    return array("h", (source.randint(-2, 2) for _ in range(round(seconds * RATE))))


def render(clip: Clip, scratch: Path) -> list[array[int]]:
    """Put the sound of a clip together.

    Args:
        clip: The row of the table.
        scratch: A folder for passing files.

    Returns:
        One array of 16-bit samples for each channel, all of one length.
    """
    if not clip.turns:
        return [hiss(clip.silence_s)]
    channels = [array("h") for _ in range(2 if clip.stereo else 1)]
    gap = array("h", [0]) * round(clip.gap_s * RATE)
    for turn in clip.turns:
        side = 1 if clip.stereo and turn.voice != clip.turns[0].voice else 0
        for sentence in re.split(r"(?<=[.?!])\s+", turn.text):
            samples = speak(turn.voice, sentence, scratch)
            if channels[0]:
                samples = gap + samples
            for index, channel in enumerate(channels):
                channel.extend(samples if index == side else array("h", [0]) * len(samples))
    return channels


def write_wav(channels: list[array[int]], target: Path) -> None:
    """Write samples to a wav file.

    Args:
        channels: One array of 16-bit samples for each channel, all of one length.
        target: The file to write.
    """
    frames = array("h", [0]) * (len(channels[0]) * len(channels))
    for index, channel in enumerate(channels):
        frames[index :: len(channels)] = channel
    if sys.byteorder == "big":
        frames.byteswap()
    with wave.open(str(target), "wb") as sound:
        sound.setnchannels(len(channels))
        sound.setsampwidth(2)
        sound.setframerate(RATE)
        sound.writeframes(frames.tobytes())


def make(clip: Clip, out: Path) -> tuple[float, int]:
    """Make one clip and its text.

    Args:
        clip: The row of the table.
        out: The output folder.

    Returns:
        The clip's duration in seconds and the size of its file in bytes.

    Raises:
        SampleError: flite or ffmpeg failed.
    """
    target = out / clip.path
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "clip.wav"
        channels = render(clip, Path(folder))
        write_wav(channels, source)
        # Without the bitexact flags, ffmpeg writes its version and random serial numbers into the file.
        exact = ["-map_metadata", "-1", "-fflags", "+bitexact", "-flags:a", "+bitexact"]
        quiet = ["-nostdin", "-hide_banner", "-loglevel", "error", "-y"]
        run(["ffmpeg", *quiet, "-i", str(source), *clip.encoder, "-ar", str(clip.rate), *exact, str(target)])
    target.with_suffix(".txt").write_text(clip.reference, encoding="utf-8")
    return len(channels[0]) / RATE, target.stat().st_size


def main() -> int:
    """Make every clip of the table.

    Returns:
        The exit status: 0, or 1 when a clip could not be made.
    """
    parser = argparse.ArgumentParser(description="Make the sample clips with flite and ffmpeg.")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        default=Path(__file__).resolve().parent,
        help="folder for the clips and their texts (default: the folder of this script)",
    )
    out: Path = parser.parse_args().out
    try:
        check_programs()
        for clip in CLIPS:
            seconds, size = make(clip, out)
            print(f"{clip.path:28} {seconds:6.1f} s {size / 1000:7.1f} kB")
    except (SampleError, OSError) as error:
        print(f"make.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
