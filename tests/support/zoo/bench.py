"""What the makers of the zoo have at hand: a folder, one recording of speech, and other people's programs."""

from __future__ import annotations

import shutil
import subprocess
import wave
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["RATE", "SPEECH", "Bench", "Missing", "Specimen"]

SPEECH = Path(__file__).parents[3] / "samples" / "first_test.wav"
"""7.5 s of speech at 16,000 Hz."""

RATE = 16_000


class Missing(Exception):
    """A program that makes such files isn't installed."""


@dataclass(frozen=True)
class Bench:
    """Where a specimen is made.

    Args:
        folder: Of the zoo.
        scratch: Of what is needed on the way.
    """

    folder: Path
    scratch: Path
    _made: dict[str, bytes] = field(default_factory=dict)

    def run(self, *command: object) -> bytes:
        """Run a program; what it writes to its standard output.

        Raises:
            Missing: It isn't installed.
        """
        words = [str(each) for each in command]
        if shutil.which(words[0]) is None:
            raise Missing(words[0])
        done = subprocess.run(words, check=True, capture_output=True, timeout=120, cwd=self.scratch)
        return done.stdout

    def ffmpeg(self, suffix: str, *options: object, source: Path | None = None) -> bytes:
        """Speech as the ffmpeg program writes it, by a suffix and options; made once."""
        name = " ".join(map(str, (suffix, *options, source or "")))
        if name not in self._made:
            target = self.scratch / f"made.{suffix}"
            self.run("ffmpeg", "-v", "error", "-y", "-i", source or SPEECH, *options, target)
            self._made[name] = target.read_bytes()
        return self._made[name]

    def by(self, suffix: str, *command: object) -> bytes:
        """What a program leaves in the file `made.SUFFIX`, which the word MADE stands for; SPEECH is the recording."""
        target = self.scratch / f"made.{suffix}"
        target.unlink(missing_ok=True)
        self.run(*(target if word == "MADE" else SPEECH if word == "SPEECH" else word for word in command))
        return target.read_bytes()

    def wav(self, audio: npt.NDArray[np.float64] | None = None, rate: int = RATE) -> bytes:
        """Samples in [-1, 1], shape (n,) or (n, channels), as 16-bit WAV; the recording where none are given."""
        audio = self.speech() if audio is None else audio
        channels = 1 if audio.ndim == 1 else audio.shape[1]
        path = self.scratch / "made-by-hand.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(channels)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes((np.clip(audio, -1, 1) * 32767).astype("<i2").tobytes())
        return path.read_bytes()

    def speech(self) -> npt.NDArray[np.float64]:
        """The recording's samples."""
        with wave.open(str(SPEECH), "rb") as file:
            assert file.getframerate() == RATE
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        mono: npt.NDArray[np.float64] = samples.reshape(-1, file.getnchannels()).mean(axis=1) / 32768.0
        return mono


@dataclass(frozen=True)
class Specimen:
    """A file of the zoo.

    Args:
        name: Its name; of those that aren't UTF-8 as surrogate escapes.
        what: What it is, for a person.
        make: Makes it: bytes to be written under the name, or None where it did that itself.
    """

    name: str
    what: str
    make: Callable[[Bench], bytes | None]

    def put(self, bench: Bench) -> Path:
        """Make it, in the zoo's folder."""
        path = bench.folder / self.name
        made = self.make(bench)
        if made is not None:
            path.write_bytes(made)
        return path
