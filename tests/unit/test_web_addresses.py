"""Which addresses may be reached, and which URLs may be asked for."""

from __future__ import annotations

import pytest

from trax_ray.errors import UsageError
from trax_ray.web.addresses import checked_url, is_url, wrong_with

PUBLIC = (
    "93.184.216.34",
    "8.8.8.8",
    "1.1.1.1",
    "172.15.255.255",
    "172.32.0.1",
    "2606:4700:4700::1111",
    "64:ff9b::808:808",
    "::ffff:8.8.8.8",
)

NOT_PUBLIC = (
    *("127.0.0.1", "127.8.8.8", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("169.254.169.254", "100.64.0.1", "100.100.100.200", "192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1"),
    *("198.51.100.7", "203.0.113.9", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "168.63.129.16"),
    *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:7f00:1", "::127.0.0.1", "2002:7f00:1::", "2001:0:7f00:1::"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "3fff::1", "5f00::1", "4000::1"),
    *("localhost", "example.org", "127.1", "2130706433", "0x7f000001", "017700000001", "127.0.0.1 ", ""),
    "::ffff:127.0.0.1%1",
)  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_reached(address: str) -> None:
    assert wrong_with(address) == ""


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_what_is_not_public_may_not(address: str) -> None:
    """Names and other spellings among them: the guard is asked with what `connect` is given, which is numeric."""
    assert wrong_with(address)


@pytest.mark.parametrize("text", ["http://a/b", "https://a", "HTTPS://A/b", "file:///etc/passwd", "s3://bucket/key"])
def test_what_is_meant_as_a_url(text: str) -> None:
    assert is_url(text)


@pytest.mark.parametrize("text", ["talk.mp3", "a/b", "C:\\a", "http:x.wav", "://x", "a b://c", "", "ä://x"])
def test_what_is_meant_as_a_path(text: str) -> None:
    assert not is_url(text)


@pytest.mark.parametrize(
    "text",
    [
        *("file:///etc/passwd", "ftp://a/b", "javascript://a", "http://", "http:///a", "http://[::1/a", "http://a:b/c"),
        *("http://a:99999/", "http://a/b c", "http://a/\x00", "gopher://a/", "data://text"),
    ],
)
def test_what_is_not_asked_for(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked_url(text)
    assert caught.value.code == "bad_url"


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as caught:
        checked_url("https://me:sesame@example.org/feed.xml")
    assert "sesame" not in str(caught.value)
    assert "https://example.org/feed.xml" in str(caught.value)
    assert "--cookies" in str(caught.value)


def test_white_space_around_a_url_goes() -> None:
    assert checked_url(" https://example.org/a.mp3\n") == "https://example.org/a.mp3"
