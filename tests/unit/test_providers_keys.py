"""Keys: where they come from, what they must look like, and that nobody sees them."""

from __future__ import annotations

import base64
import pickle
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from trax_ray.errors import SetupError, UsageError
from trax_ray.providers.keys import Secret, check_base_url, find_key, scrub

KEY = "sk-canary-0123456789"


def test_a_key_comes_from_the_environment_else_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    assert find_key("SOME_KEY") is None
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    monkeypatch.setenv("SOME_KEY_FILE", str(file))
    found = find_key("SOME_KEY")
    assert found is not None
    assert found.reveal() == KEY
    monkeypatch.setenv("SOME_KEY", "sk-another-key")
    found = find_key("SOME_KEY")
    assert found is not None
    assert found.reveal() == "sk-another-key"


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        (f"{KEY}\n", "a line end"),
        (f"{KEY} x", "a space"),
        (f"{KEY}\x07", "other characters"),
        (f"{KEY}é", "other characters"),
        ("short", "5 characters"),
        ("k" * 513, "513 characters"),
    ],
)
def test_what_can_not_be_a_key_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, value: str, wrong: str
) -> None:
    monkeypatch.setenv("SOME_KEY", value)
    with pytest.raises(SetupError, match=wrong) as caught:
        find_key("SOME_KEY")
    assert value.strip() not in caught.value.message
    assert caught.value.code == "no_key"


def test_a_file_that_can_not_be_read_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    monkeypatch.setenv("SOME_KEY_FILE", str(tmp_path / "missing"))
    with pytest.raises(SetupError, match=r"missing.* \(SOME_KEY_FILE\): No such file"):
        find_key("SOME_KEY")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    monkeypatch.setenv("SOME_KEY_FILE", str(tmp_path / "bytes"))
    with pytest.raises(SetupError, match="it isn't text"):
        find_key("SOME_KEY")


def test_a_secret_shows_itself_to_nobody_who_does_not_ask() -> None:
    secret = Secret(KEY)
    assert KEY not in f"{secret} {secret!r} {[secret]}"
    with pytest.raises(TypeError, match="isn't pickled"):
        pickle.dumps(secret)


def test_what_servers_say_is_scrubbed() -> None:
    said = f"Incorrect API key provided: {KEY}. Also sk-proj-AbCdEf123456 and Bearer abcdef123456"
    clean = scrub(said, Secret(KEY), None)
    assert "canary" not in clean
    assert "AbCdEf" not in clean
    assert "abcdef" not in clean
    assert clean.startswith("Incorrect API key provided: ***")


def every_character(form: Callable[[int], str]) -> str:
    return "".join(form(ord(character)) for character in KEY)


@pytest.mark.parametrize("beside", ["", "B", "Bearer ", "user:", "Authorization: Bearer "])
@pytest.mark.parametrize(
    "written",
    [
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: base64.b64encode(f"{text}\n and more".encode()).decode(),
        lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
        lambda text: text.encode().hex(),
        lambda text: text.encode().hex(":").upper(),
        lambda text: quote(text, safe=""),
        lambda text: quote(quote(text, safe=""), safe=""),
    ],
)
def test_keys_are_scrubbed_however_they_are_written(beside: str, written: Callable[[str], str]) -> None:
    echo = written(beside + KEY)
    clean = scrub(f"Bad header: {echo}, see above", Secret(KEY))
    assert clean.startswith("Bad header: ")
    assert clean.endswith(", see above")
    assert echo not in clean
    # What stood beside the key may be left, with a separator, and there are the stars.
    left = clean.removeprefix("Bad header: ").removesuffix(", see above")
    assert len(left) <= len(written(beside)) + 4, left


@pytest.mark.parametrize(
    "form",
    [
        lambda code: f"%{code:02x}",
        lambda code: f"%{code:02X}",
        lambda code: f"&#{code};",
        lambda code: f"&#x{code:x};",
        lambda code: f"\\u{code:04x}",
        lambda code: f"\\x{code:02x}",
        lambda code: f"={code:02X}",
        lambda code: f"%{code:02x}" if code % 2 else chr(code),
    ],
)
def test_keys_are_scrubbed_with_escapes_in_them(form: Callable[[int], str]) -> None:
    assert scrub(f"got '{every_character(form)}'", Secret(KEY)) == "got '***'"


def test_other_text_stays_as_it_is() -> None:
    said = "The file talk.mp3 can't be decoded: aGVsbG8gd29ybGQ= 68656c6c6f %20"
    assert scrub(said, Secret(KEY)) == said


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/v1", "https://speech.example/v1/"])
def test_an_address(url: str) -> None:
    assert check_base_url(url) == url.rstrip("/")


@pytest.mark.parametrize("url", ["", "ftp://host", "host:8000", "file:///etc/passwd", "http://"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(UsageError, match="expected an address such as"):
        check_base_url(url)


@pytest.mark.parametrize("url", [f"http://user:{KEY}@host/v1", f"http://host/v1?key={KEY}", f"http://host/#{KEY}"])
def test_an_address_holds_no_secret(url: str) -> None:
    with pytest.raises(UsageError, match="written into the journal") as caught:
        check_base_url(url)
    assert KEY not in caught.value.message


def test_the_same_key_is_the_same_secret() -> None:
    assert Secret("sk-0123456789") == Secret("sk-0123456789")
    assert len({Secret("sk-0123456789"), Secret("sk-0123456789"), Secret("sk-other-6789")}) == 2
    assert Secret("sk-0123456789") != "sk-0123456789"
