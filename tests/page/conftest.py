"""Browsers and a real batch for the tests of the page. What isn't installed is skipped, with the reason."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support import chat
from tests.support.in_process import run_batch
from tests.support.speech_server import SpeechServer
from trax_ray.core.spec import BatchSpec, Enhancement
from trax_ray.report import write

HOSTILE = "=cmd()<script>alert(1)<img src=x onerror=alert(2)>\u202egpj\x1b[31m.ogg"


def commas(body: Mapping[str, Any]) -> str:
    """What the text model says: one edit that holds, and one that the gates refuse."""
    said = chat.segments_of(body).items()
    held = [chat.edit(number, "How long", "How long,") for number, text in said if text.startswith("How long")]
    refused = [chat.edit(number, "river", "lake") for number, text in said if text.count("river") == 1]
    return chat.answer(*held, *refused)


@pytest.fixture(scope="session")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a real batch over the samples, with odd names and broken files; not to be changed."""
    folder = tmp_path_factory.mktemp("page")
    recordings = folder / "in"
    shutil.copytree(Path(__file__).parents[2] / "samples", recordings, ignore=shutil.ignore_patterns("*.py", "*.md"))
    shutil.copy(recordings / "talks" / "weather.ogg", recordings / HOSTILE)
    shutil.copy(recordings / "talks" / "meeting.mp3", recordings / "100% #1? a&b 'q'.mp3")
    shutil.copy(recordings / "first_test.wav", os.fsencode(recordings) + b"/bytes \xff.wav")
    (recordings / "broken.wav").write_bytes(b"RIFF, and nothing more")
    with SpeechServer(chat=commas, key=None) as server:
        spec = BatchSpec(
            output_dir=str(folder / "out"),
            name="samples",
            model="tiny.en",
            reference_dir=str(recordings),
            enhance=Enhancement(level="format", base_url=server.url, model="deepseek-flash"),
        )
        run_batch([recordings], spec)
    as_it_is = write.segment_columns

    def with_speakers(file_id: str, payload: Any, other: Any = None) -> dict[str, list[Any]]:
        """A stand-in for an engine that tells two speakers apart, and for one confidence that is low."""
        columns = as_it_is(file_id, payload, other)
        if "interview" in str(payload.get("source")):
            columns["speaker"] = [("Anna", "Ben")[number % 2] for number in columns["segment"]]
        for number, text in enumerate(columns["text"]):
            if text.startswith("The machines"):
                columns["confidence"][number], columns["warnings"][number] = 0.3, "low_confidence"
        return columns

    write.segment_columns = with_speakers
    try:
        write.write_report(folder / "out", final=True)
    finally:
        write.segment_columns = as_it_is
    return folder / "out"


@pytest.fixture(scope="module")
def chromium(out: Path) -> Iterator[Any]:
    """Debian's Chromium. Playwright keeps a loop running from its start to its end: no batch can be run meanwhile, and
    no test that is a coroutine."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium: apt install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="there is no Playwright: make test-page installs it")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
