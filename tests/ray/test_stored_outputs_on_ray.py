"""`trax-ray batch -o s3://...` as a person runs it: real audio, a Ray of its own, a store that somebody else wrote."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.store_proxy import StoreProxy
from tests.support.store_servers import StoreServer, environment, moto
from trax_ray.control import BatchControl, Phase
from trax_ray.store.objects import forget_clients
from trax_ray.testing.history import check

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

OUT = "s3://talks/out"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[StoreServer, StoreProxy]]:
    """A store that the environment names, where a batch finds no Ray but its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with (
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as sessions,
        moto() as server,
        StoreProxy(server.url) as proxy,
    ):
        monkeypatch.setenv("RAY_TMPDIR", sessions)
        for name, value in environment(proxy.url).items():
            monkeypatch.setenv(name, value)
        forget_clients()
        server.create_bucket("talks")
        yield server, proxy
    forget_clients()


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "trax_ray", *map(str, words)]


def said(*words: str | Path) -> str:
    done = subprocess.run(command(*words), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def until(condition: Callable[[], bool], timeout_s: float = 120.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.5)


def test_a_batch_in_a_store_is_steered_from_elsewhere_and_continued(
    store: tuple[StoreServer, StoreProxy], samples: Path
) -> None:
    server, proxy = store
    for path in (samples / "stories").iterdir():
        if path.suffix != ".txt":
            server.put("talks", f"in/{path.name}", path.read_bytes())
    own = ("batch", "s3://talks/in", "-o", OUT, "--model", "pocketsphinx", "--chunk-size", "30", "--lean")
    running = subprocess.Popen(command(*own), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: any(key.endswith(".json") for key in server.keys("talks", "out/.trax/artifacts")))
        assert "paused: nothing starts any more" in said("pause", OUT)
        assert "paused" in said("status", OUT)
        assert BatchControl(OUT).status().phase is Phase.PAUSED
        assert "resumed" in said("resume", OUT)
        assert "stopped; what was finished is kept" in said("stop", OUT)
        _, errors = running.communicate(timeout=120)
    finally:
        running.kill()
    assert running.returncode == 130, errors
    assert f"trax-ray batch s3://talks/in -o {OUT}" in errors  # what continues it
    assert "out: stopped" in said("status", OUT)
    kept = set(server.keys("talks", "out/.trax/artifacts"))
    assert f"Transcripts: {OUT}" in said(*own)
    assert kept <= set(server.keys("talks", "out/.trax/artifacts"))
    assert check(OUT).problems == ()
    for path in (samples / "stories").iterdir():
        if path.suffix != ".txt":
            assert server.get("talks", f"out/{path.stem}.txt")
    assert "place" in said("search", OUT, "the")
    assert not [key for key in server.keys("talks", "out") if b"Signature" in server.get("talks", key)]
    assert not [each for each in proxy.seen if each.status == 403]
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in errors.replace("tests", "")
