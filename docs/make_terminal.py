"""Takes the pictures of the terminal from real batches over the samples: `python docs/make_terminal.py OUT`.

In a tmux of their own run a batch, so that the next ones know how long such recordings take, a dry run and another
batch: the plan and the board are of these two. Then the last one is run once more with enhancement, by a server on
loopback that puts commas and full stops, and its folder stays in OUT for the pictures of the page.

Needs tmux. The folder that the pictures show is /tmp/demo, which must not be there yet.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from tests.support import chat
from tests.support.speech_server import SpeechServer

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
FOLDER = Path("/tmp/demo")
COLUMNS, ROWS = 100, 30
WITHIN_S = 180.0
BATCH = "trax-ray batch talks --model tiny.en --reference talks --output-dir"

PHRASES = ("working here", "near it", "at night", "in spring", "to the meeting", "of these recordings")
"""A comma is put behind each of them."""


class Terminal:
    """A tmux server of its own with one window."""

    def __init__(self) -> None:
        self._server = ["tmux", "-L", f"picture-{os.getpid()}", "-f", os.devnull]

    def __enter__(self) -> Terminal:
        home = FOLDER / ".home"
        home.mkdir()
        settings = {"HOME": str(home), "PS1": "$ ", "TERM": "xterm-256color", "PATH": f"{_programs()}:/usr/bin:/bin"}
        size = ["-x", str(COLUMNS), "-y", str(ROWS)]
        given = [f"{name}={value}" for name, value in settings.items()]
        self._tmux("new-session", "-d", "-s", "it", *size, "env", "-i", *given, "bash", "--norc", "--noprofile")
        self.type(f"cd {FOLDER}; clear")
        return self

    def __exit__(self, *about: object) -> None:
        self._tmux("kill-server")

    def type(self, command: str) -> None:
        """Type a command where the shell waits for one, and press enter."""
        self.wait(lambda screen: screen.rstrip().endswith("$"))
        self._tmux("send-keys", "-t", "it", command, "Enter")

    def screen(self) -> str:
        """What stands there, with its colours."""
        return self._tmux("capture-pane", "-t", "it", "-p", "-e").rstrip("\n")

    def wait(self, for_what: Callable[[str], bool], every_s: float = 0.1) -> str:
        """The screen as soon as it is as wanted."""
        began = time.monotonic()
        while time.monotonic() - began < WITHIN_S:
            screen = self.screen()
            if for_what(Text.from_ansi(screen).plain):
                return screen
            time.sleep(every_s)
        raise SystemExit(f"this isn't what was waited for:\n{self.screen()}")

    def _tmux(self, *arguments: str) -> str:
        return subprocess.run([*self._server, *arguments], check=True, capture_output=True, text=True).stdout


def _programs() -> Path:
    """Where our command is."""
    return Path(sys.executable).parent


def in_the_middle(screen: str) -> bool:
    """Some are done, one has failed, and two are being transcribed."""
    done = re.search(r"(\d+)/\d+, 1 failed", screen)
    return done is not None and int(done[1]) >= 5 and len(re.findall("^transcribe .*s$", screen, re.MULTILINE)) == 2


def ended(screen: str) -> bool:
    """The command has ended and said where its report is."""
    return "Report: " in screen and screen.rstrip().endswith("$")


def take(screen: str, name: str) -> None:
    """Write a screen as SVG that asks nobody for fonts."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi(screen))
    svg = console.export_svg(title="trax-ray batch", unique_id=name)
    (PICTURES / f"{name}.svg").write_text(re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL))


def take_the_plan(terminal: Terminal) -> None:
    """Of a dry run."""
    terminal.type("clear")
    terminal.type("trax-ray batch talks --model tiny.en --output-dir out --dry-run")
    take(terminal.wait(lambda screen: "disk: " in screen), "plan")


def make_recordings() -> None:
    """The samples, and one file that is none."""
    talks = FOLDER / "talks"
    shutil.copytree(ROOT / "samples", talks, ignore=shutil.ignore_patterns("*.py", "*.md"))
    (talks / "interrupted.mp3").write_bytes(b"no sound " * 100_000)


def polishing(body: Mapping[str, Any]) -> str:
    """What the text model says: commas behind some phrases, and what `chat.punctuating` does besides."""
    edits = [
        chat.edit(number, phrase, f"{phrase},")
        for number, text in chat.segments_of(body).items()
        for phrase in PHRASES
        if re.search(rf"{phrase} \w", text)
    ]
    return chat.answer(*edits) if edits else chat.punctuating(body)


def enhance(out: Path) -> None:
    """The same batch once more, with enhancement."""
    with SpeechServer(chat=polishing, key=None) as server:
        command = (
            f"{_programs()}/{BATCH} {out} --enhance --enhance-base-url {server.url} --enhance-model deepseek-flash"
        )
        settings = {**os.environ, "HOME": str(FOLDER / ".home")}
        ended = subprocess.run(command.split(), cwd=FOLDER, env=settings, check=False)
    if ended.returncode != 1:  # one recording is none
        raise SystemExit(f"the batch with enhancement ended with exit code {ended.returncode}")


def main(kept: Path) -> None:
    """Run the batches, and take them."""
    FOLDER.mkdir()
    try:
        make_recordings()
        with Terminal() as terminal:
            terminal.type(f"{BATCH} before")
            terminal.wait(ended)
            take_the_plan(terminal)
            terminal.type("clear")
            terminal.type(f"{BATCH} out")
            take(terminal.wait(in_the_middle), "terminal")
            terminal.wait(ended)
        enhance(FOLDER / "out")
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(FOLDER, kept, ignore=shutil.ignore_patterns(".home", "before"))
    finally:
        shutil.rmtree(FOLDER)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
