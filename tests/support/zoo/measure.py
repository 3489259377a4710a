"""What becomes of each file of a folder: in another process, which is killed where it takes too long, and watched."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["LIMIT_S", "MEMORY_MB", "Measured", "heard_by_ffmpeg", "measured"]

LIMIT_S = 60.0
"""No file may take longer."""

MEMORY_MB = 600.0
"""No file may need more, MiB, of which loading libraries is 200."""


@dataclass(frozen=True)
class Measured:
    """What became of a file.

    Args:
        outcome: `heard`, the code of a failure, `hang` or `crash`.
        length_s: How much was heard, seconds.
        warnings: Codes, sorted.
        seconds: How long it took.
        peak_mb: The most memory that was in use, MiB.
        message: Of a failure.
    """

    outcome: str
    length_s: float = 0.0
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    peak_mb: float = 0.0
    message: str = ""


def measured(paths: Sequence[Path], network_log: Path | None = None) -> Iterator[tuple[Path, Measured]]:
    """Convert and judge each file, as PREPROCESS does.

    Args:
        paths: The files.
        network_log: Where strace writes all that is done with the network; None where nobody looks.
    """
    left = list(paths)
    while left:
        watch = (
            []
            if network_log is None
            else ["strace", "-f", "--seccomp-bpf", "-qq", "-A", "-e", "trace=%network", "-o", str(network_log)]
        )
        command = [*watch, sys.executable, "-m", "tests.support.zoo.measure"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            while left:
                began_s = time.monotonic()
                with suppress(BrokenPipeError):
                    child.stdin.write(json.dumps(os.fsencode(left[0]).hex()).encode() + b"\n")
                    child.stdin.flush()
                ready, _, _ = select.select([child.stdout], [], [], LIMIT_S + 30.0)
                line = child.stdout.readline() if ready else b""
                seconds = round(time.monotonic() - began_s, 2)
                if line:
                    found = json.loads(line)
                    yield left.pop(0), Measured(**{**found, "warnings": tuple(found["warnings"]), "seconds": seconds})
                    continue
                os.killpg(child.pid, 9)
                yield left.pop(0), Measured("crash" if ready else "hang", seconds=seconds)
                break
            else:
                child.stdin.close()


def heard_by_ffmpeg(path: Path) -> float | None:
    """How much the ffmpeg program decodes of a file, seconds; None where it makes nothing of it, or waits for ever."""
    name = f"file:{os.path.abspath(path)}"
    command = [
        "ffmpeg",
        "-nostdin",
        "-v",
        "error",
        "-i",
        name,
        "-map",
        "0:a:0",
        "-f",
        "s16le",
        "-ac",
        "1",
        "-ar",
        "16000",
    ]
    if not path.is_file():
        return None
    with tempfile.TemporaryFile() as out:
        try:
            subprocess.run([*command, "-"], stdout=out, stderr=subprocess.DEVNULL, timeout=LIMIT_S, check=False)
        except subprocess.TimeoutExpired:
            return None
        length = out.seek(0, os.SEEK_END)
    return length / 32_000 if length else None


def _peak_mb() -> float:
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found.group(1)) / 1024 if found else 0.0


def _one(path: Path) -> dict[str, Any]:
    from trax_ray.errors import TraxRayError
    from trax_ray.kinds.flac import write_flac
    from trax_ray.kinds.form import AS_IT_IS

    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak is this file's
    with tempfile.TemporaryFile() as file:
        working = write_flac(path, AS_IT_IS, file, "of the zoo")
        try:
            while True:
                next(working)
        except StopIteration as end:
            warnings = sorted({*map(str, end.value.warnings), *map(str, end.value.figures["warnings"])})
            told = {"outcome": "heard", "length_s": end.value.figures["duration_s"], "warnings": warnings}
        except TraxRayError as error:
            told = {"outcome": str(error.code), "warnings": [], "message": error.message[:300]}
        except Exception as error:  # noqa: BLE001 - what isn't one of ours is a find
            told = {"outcome": f"{type(error).__name__}", "warnings": [], "message": str(error)[:300]}
    return told | {"peak_mb": round(_peak_mb(), 1)}


def _main() -> None:
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_one(Path(os.fsdecode(bytes.fromhex(json.loads(line)))))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
