"""The page in Debian's Chromium, from the disk: what people do with it, what it asks for, and whom it shuts out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

AXE = Path(os.environ.get("TRAX_RAY_LIVE", ".live")) / "axe" / "node_modules" / "axe-core" / "axe.min.js"

Open = Callable[..., Any]


@pytest.fixture
def opened(chromium: Any, out: Path) -> Iterator[Open]:
    """Opens the page; at the end nothing must have been said on the console, and nothing asked of anybody."""
    contexts, said, asked = [], [], []

    def open_(width: int = 1280, address: str = "", **options: Any) -> Any:
        context = chromium.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address or f"{(out / 'report' / 'index.html').as_uri()}")
        page.wait_for_selector("body[data-ready]", state="attached")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "blob:"))] == []


def names(page: Any) -> list[str]:
    return page.locator("#table tbody .open").all_inner_texts()


def row(page: Any, name: str) -> Any:
    return page.locator("#table tbody tr").filter(has_text=name).first


def test_sorting(opened: Open) -> None:
    page = opened()
    head = page.get_by_role("columnheader", name="Length")
    assert head.get_attribute("aria-sort") == "none"
    page.get_by_role("button", name="Length").click()
    assert head.get_attribute("aria-sort") == "ascending"
    lengths = page.locator("#table tbody .c-duration").all_inner_texts()
    assert lengths[-1] == "", "what isn't known comes last"
    page.get_by_role("button", name="Length").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert names(page)[0] == "stories/the_river.ogg"


def test_search_in_names_and_text(opened: Open) -> None:
    page = opened()
    page.fill("#query", "RIVER mountains")
    page.wait_for_selector("#table tbody tr:nth-child(2)", state="detached")
    assert names(page) == ["stories/the_river.ogg"]
    page.wait_for_selector("#table mark")
    assert page.locator("#table mark").inner_text().lower() in ("river", "mountains")
    assert "1 file of" in page.inner_text("#shown")
    page.fill("#query", "interview")
    row(page, "talks/interview").wait_for()
    page.get_by_role("button", name="Clear").click()
    assert len(names(page)) > 10


def test_filters(opened: Open) -> None:
    page = opened()
    page.select_option("#f-status", "failed")
    assert names(page) == ["broken.wav"]
    page.get_by_role("button", name="Clear").click()
    page.select_option("#f-warning", "no_speech")
    assert names(page) == ["quiet_room.flac"]


def test_failures_lead_to_their_files(opened: Open) -> None:
    page = opened()
    page.locator("#attention a[data-file]").click()
    page.locator("#file-h", has_text="broken.wav").wait_for()
    assert "is it complete and really a media file?" in page.inner_text("#file-body")


def test_a_click_plays_and_seeks(opened: Open) -> None:
    page = opened()
    for name in (
        "talks/interview.m4a",
        "talks/meeting.mp3",
        "stories/the_river.ogg",
        "voices/dashwood_leisure.flac",
        "first_test.wav",
        "100% #1? a&b 'q'.mp3",
        "bytes",
    ):
        row(page, name).locator(".open").click()
        page.locator("#file-h", has_text=name).wait_for()
        times = page.locator("#transcript .at")
        button = times.nth(min(1, times.count() - 1))
        button.click()
        page.wait_for_timeout(400)
        state = page.evaluate("() => [audio.currentTime, audio.paused, audio.error && audio.error.message]")
        minutes, seconds = button.inner_text().split(":")
        assert state[2] is None, name
        assert abs(state[0] - int(minutes) * 60 - int(seconds)) < 3, (name, state)
        assert state[1] is False, name


def test_what_was_changed_is_shown_and_speakers_are_named(opened: Open) -> None:
    page = opened()
    row(page, "interview").locator(".open").click()
    page.wait_for_selector("#transcript del")
    assert page.inner_text("#transcript del") == "long"
    assert page.inner_text("#transcript ins") == "long,"
    assert page.locator("#transcript .speaker").all_inner_texts()[:2] == ["Anna: ", "Ben: "]
    page.uncheck("#diff")
    assert page.locator("#transcript del").count() == 0
    page.get_by_role("button", name="Next of 1 doubtful place").click()
    assert page.inner_text("#transcript .now p").startswith("Ben: The machines")
    assert page.locator("#transcript .doubt").count() == 1


def test_what_was_refused_and_what_a_warning_means_stands_with_the_file(opened: Open) -> None:
    page = opened()
    row(page, "the_river").locator(".open").click()
    page.locator("#file-body .warning", has_text="enhancement_refused").wait_for()
    assert "0 made, 2 refused" in page.inner_text("#file-body")
    told = page.inner_text("#file-body .warning")
    assert "says which, and why. What to do: nothing; another --enhance-model may do better" in told


def test_on_a_phone_it_is_seen_which_files_failed(opened: Open) -> None:
    page = opened(390)
    link = page.locator("#attention a[data-file]").bounding_box()
    assert 0 <= link["x"] < link["x"] + link["width"] <= 390


def test_spots_by_keyboard_and_marks_that_stay(opened: Open, out: Path, tmp_path: Path) -> None:
    page = opened()
    page.keyboard.press("j")
    first = page.locator("#spots .now .said").inner_text()
    page.keyboard.press(" ")
    page.wait_for_timeout(400)
    assert page.evaluate("() => audio.paused") is False
    page.keyboard.press(" ")
    assert page.evaluate("() => audio.paused") is True
    page.keyboard.press("c")
    assert page.inner_text("#checked-count").startswith("1 of ")
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert page.locator("#spots .now .said").inner_text() == first
    with page.expect_download() as saved:
        page.click("#save-marks")
    saved.value.save_as(tmp_path / "marks.json")
    assert len(json.loads((tmp_path / "marks.json").read_text())["marks"]) == 1
    page.reload()
    page.wait_for_selector("body[data-ready]", state="attached")
    assert page.inner_text("#checked-count").startswith("1 of ")
    page.check("#hide-checked")
    assert first not in page.inner_text("#spots")
    other = opened()
    assert other.inner_text("#checked-count").startswith("0 of ")
    other.set_input_files("#load-marks", tmp_path / "marks.json")
    other.locator("#checked-count", has_text="1 of ").wait_for()


def test_hostile_names_are_text(opened: Open) -> None:
    page = opened()
    shown = next(name for name in names(page) if name.startswith("=cmd()"))
    assert shown.endswith(r"\u202egpj\x1b[31m.ogg")
    assert page.locator("#table img").count() == 0
    row(page, "=cmd()").locator(".open").click()
    page.locator("#file-h", has_text="<script>").wait_for()


def test_an_address_opens_a_file(opened: Open, out: Path) -> None:
    page = opened(address=f"{(out / 'report' / 'index.html').as_uri()}#file-3")
    page.locator("#file:not([hidden])").wait_for()


@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_nothing_is_wider_than_the_window(opened: Open, width: int) -> None:
    page = opened(width)
    row(page, "interview").locator(".open").click()
    page.wait_for_selector("#transcript")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing_serious(opened: Open, scheme: str, width: int) -> None:
    if not AXE.exists():
        pytest.skip(f"there is no {AXE}: make test-page installs it")
    page = opened(width, color_scheme=scheme, bypass_csp=True)
    row(page, "interview").locator(".open").click()
    page.wait_for_selector("#transcript .at")
    page.locator("#transcript .at").first.click()
    page.evaluate("() => document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    page.add_script_tag(content=AXE.read_text())
    found = page.evaluate("() => axe.run()")["violations"]
    told = [(each["id"], each["impact"], [node["html"][:150] for node in each["nodes"][:3]]) for each in found]
    assert [each for each in told if each[1] in ("serious", "critical")] == []
