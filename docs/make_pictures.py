"""Takes the pictures of the page from the output folder of a real batch: `python docs/make_pictures.py OUT`.

Needs Chromium and Playwright (`make test-page`), and the stories of the samples among what was transcribed.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PICTURES = Path(__file__).with_name("pictures")


def hear_a_spot(page: Any) -> None:
    """The first spot plays."""
    page.keyboard.press("j")
    page.keyboard.press(" ")


def find_and_play(page: Any) -> None:
    """A word is looked for, and the file with it plays."""
    page.fill("#query", "river mountains")
    page.wait_for_selector("#table mark")
    page.locator("#table tbody .open").first.click()
    page.locator("#transcript .at").nth(2).click()


def see_the_files(page: Any) -> None:
    """The list of files."""
    page.evaluate("() => document.getElementById('files').scrollIntoView({ behavior: 'instant' })")


SHOTS: tuple[tuple[str, int, int, str, Callable[[Any], None]], ...] = (
    ("report", 1280, 1000, "light", hear_a_spot),
    ("report-file-dark", 1280, 800, "dark", find_and_play),
    ("report-phone", 390, 844, "light", see_the_files),
)


def main(out: Path) -> None:
    """Take them all."""
    from playwright.sync_api import sync_playwright

    PICTURES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, width, height, scheme, act in SHOTS:
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.goto((out.resolve() / "report" / "index.html").as_uri())
            page.wait_for_selector("body[data-ready]", state="attached")
            act(page)
            page.wait_for_timeout(700)
            page.screenshot(path=PICTURES / f"{name}.png")
            page.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
