"""Browsers and a real batch for the tests of the page. What isn't installed is skipped, with the reason."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.in_process import run_batch
from trax_ray.core.spec import BatchSpec
from trax_ray.report import write

HOSTILE = "=cmd()<script>alert(1)<img src=x onerror=alert(2)>\u202egpj\x1b[31m.ogg"


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
    spec = BatchSpec(output_dir=str(folder / "out"), name="samples", model="tiny.en", reference_dir=str(recordings))
    run_batch([recordings], spec)
    as_it_is = write.segment_rows

    def enhanced(file_id: str, payload: Any, other: Any = None) -> Iterator[dict[str, Any]]:
        """A stand-in for what an enhancement would have changed, one confidence that is low, and two speakers."""
        for row in as_it_is(file_id, payload, other):
            if row["text"].startswith("How long"):
                row["enhanced_text"] = row["text"].replace("working here", "in this place")
            if "interview" in str(payload["source"]):
                row["speaker"] = ("Anna", "Ben")[row["segment"] % 2]
            if row["text"].startswith("The machines"):
                row |= {"confidence": 0.3, "warnings": "low_confidence"}
            yield row

    write.segment_rows = enhanced
    try:
        write.write_report(folder / "out", final=True)
    finally:
        write.segment_rows = as_it_is
    return folder / "out"


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Debian's Chromium."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium: apt install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="there is no Playwright: make test-page installs it")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
