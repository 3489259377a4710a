"""Recordings in an object store behind a network that fails, under `kill -9`: all are transcribed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from batch_program import Command, until

from tests.support.store_proxy import Faults, StoreProxy
from tests.support.store_servers import environment, moto, program, seaweedfs
from trax_ray.kinds.accuracy import count_errors
from trax_ray.report.fold import read_history
from trax_ray.store.uris import ObjectPath

pytestmark = pytest.mark.timeout(600)

FAILING = 0.1

MOST_REQUESTS = 12
"""For each recording and run: a list's share, looks, its bytes, and what is repeated of them."""


@pytest.mark.parametrize("name", ["moto", "seaweedfs"])
@pytest.mark.parametrize("victim", ["driver", "everything"])
def test_all_is_transcribed_where_one_in_ten_requests_fails_and_the_batch_is_killed(
    samples: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record: Callable[..., None],
    name: str,
    victim: str,
) -> None:
    if name == "seaweedfs" and program("weed") is None:
        pytest.skip("weed isn't installed: make store-servers, and TRAX_RAY_LIVE=.live")
    recordings = sorted(path for path in (samples / "stories").iterdir() if path.suffix != ".txt")
    with moto() if name == "moto" else seaweedfs() as server, StoreProxy(server.url) as proxy:
        server.create_bucket("talks")
        for path in recordings:
            server.put("talks", f"in/stories/{path.name}", path.read_bytes())
        for variable, value in environment(proxy.url).items():
            monkeypatch.setenv(variable, value)
        proxy.faults = Faults(rate=FAILING, seed=1)
        folder = tmp_path / "stored"
        folder.mkdir()
        with Command(ObjectPath("s3", "talks", "in"), folder) as command:
            command.until_at_work()
            command.look()
            killed = [command.driver()] if victim == "driver" else command.left()
            for process in killed:
                process.kill()
            until(lambda: (command.look(), not command.left())[1], 60.0, what="the end of all processes")
            command.process.communicate(timeout=10)
            done = command.again()
            assert done.returncode == 0, done.stderr
            stored = command.out
        requests, failed = len(proxy.seen), sum(bool(each.fault) for each in proxy.seen)
    assert requests <= 2 * MOST_REQUESTS * len(recordings)
    assert failed
    history = read_history(stored)
    records = history.state.records.values()
    assert all(each.state.terminal and each.failure is None for each in records)
    for path in recordings:
        reference = path.with_suffix(".txt").read_text()
        counted = count_errors(reference, (stored / f"{path.stem}.txt").read_text())
        assert counted is not None
        assert counted.errors < counted.words / 2, path  # pocketsphinx is rough; what is missing would show
    record(
        what=f"recordings in {name} behind a failing network; kill -9 of {victim}",
        runs=1,
        seeds="1",
        found=f"all transcribed; {requests} requests for {len(recordings)} recordings, {failed} failed",
    )
