"""URLs, pages, playlists and feeds that lead to what isn't public: nobody there hears of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("hostile_web.py")

OTHERWISE = {
    "fine": "fetched",
    "IPv6": "connection",  # here and below: where there is no other IPv6 than loopback nobody looks for such addresses
    "IPv6 in full": "connection",
    "compatible": "connection",
    "redirect to IPv6": "connection",
    "link-local with a zone": "connection",
    "name with a dot": "connection",
    "page: og:video": "nothing_to_fetch",
    "page: frame": "nothing_to_fetch",
    "page: refresh": "nothing_to_fetch",
    "page: RTMP": "protected",
    "HLS: protected": "protected",
    "HLS: live": "live_stream",
}
"""What becomes of a case where it isn't `address_refused`."""

OUTSIDE = ("images", "transcript", "chapters", "following page", "DTD", "stylesheet")
"""Feeds whose recording is outside: it is fetched, and what they have inside isn't."""


def expected(name: str) -> set[str]:
    """What may become of a case."""
    if name.endswith(": captions"):
        return {"none", "address_refused", "bad_url"}
    if name.startswith(("feed:", "list", "captions of")):
        of_a_recording = name[-1].isdigit()
        outside = name.startswith(("captions of", *(f"feed: {each}" for each in OUTSIDE)))
        return {"address_refused", "bad_url", *(["fetched"] if outside else [])} if of_a_recording else {"listed"}
    return {"address_refused", OTHERWISE.get(name, "")}


def own_network() -> bool:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    return subprocess.run(["unshare", "-rn", "true"], check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not own_network(), reason="needs `unshare -rn` and `ip`: a network of its own")
def test_nobody_is_led_inside(tmp_path: Path) -> None:
    done = subprocess.run(
        ["unshare", "-rn", sys.executable, str(PROGRAM), str(tmp_path)], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) > 90
    assert [line for line in found if line[2]] == [], "connections came to addresses that aren't public"
    codes = {name: code for name, code, _ in found}
    dead = {"feed: following page", "feed: moved", "feed: inside"}
    assert {name for name in dead if codes[name] != "address_refused"} == set()
    wrong = {name: code for name, code in codes.items() if name not in dead and code not in expected(name)}
    assert wrong == {}
