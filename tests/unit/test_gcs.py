"""What is at an address: Ray, which Ray, or something else. One real head is asked in tests/ray."""

from __future__ import annotations

import platform
import socket
from importlib.metadata import version

import pytest

from tests.support.gcs import answer, serving
from trax_ray import gcs
from trax_ray.gcs import Found, Peer, ask, problem_of

OWN = (version("ray"), platform.python_version())


def test_a_head_says_its_versions() -> None:
    with serving(answer()) as address:
        assert ask(address) == Found(Peer.RAY, *OWN)
        assert ask(address).joinable


@pytest.mark.parametrize(("ray", "python"), [("2.9.3", ""), ("", "3.9.1")])
def test_a_head_of_other_versions_can_not_be_joined(ray: str, python: str) -> None:
    with serving(answer(ray, python)) as address:
        found = ask(address)
        assert found.peer is Peer.RAY
        assert not found.joinable
        assert f"it is Ray {ray or OWN[0]} on Python {python or OWN[1]}" in problem_of(found)


@pytest.mark.parametrize(
    "said",
    [
        b"-ERR unknown command 'PRI'\r\n",  # Redis
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00" * 4000,
        b"\xff" * 4000,
    ],
)
def test_what_is_not_ray_is_seen(said: bytes) -> None:
    with serving(said) as address:
        found = ask(address, 0.5)
        assert found.peer is Peer.OTHER
        assert problem_of(found) == "what answers there isn't Ray"


def test_one_that_says_nothing_is_not_waited_for_long() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert ask(f"127.0.0.1:{server.getsockname()[1]}", 0.2).peer is Peer.OTHER


def test_nobody() -> None:
    for address in ("127.0.0.1:1", "no port", "", "127.0.0.1:99999999"):
        assert ask(address, 0.5).peer is Peer.NOBODY


def test_a_head_that_keeps_its_versions_to_itself_is_still_ray() -> None:
    """One that minds our token: Ray itself says so when a batch joins it."""
    with serving(answer()[:33] + bytes.fromhex("00000f010500000001") + b"@\x0bgrpc-status\x0216") as address:
        assert ask(address, 0.5).joinable


def test_texts_of_any_length() -> None:
    assert gcs._text("a" * 126) == b"\x7e" + b"a" * 126
    assert gcs._text("a" * 127)[:2] == b"\x7f\x00"
    assert gcs._text("a" * 300)[:3] == b"\x7f\xad\x01"
