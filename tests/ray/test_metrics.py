"""The metrics of a batch on the real endpoint of a node, and the board's queries on a real Prometheus."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from trax_ray.cluster.connect import Connection
from trax_ray.core import gauges
from trax_ray.processor import BatchProcessor
from trax_ray.testing.factories import make_spec, make_task

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]

BOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "trax_ray.json"


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


@pytest.fixture
def prometheus(tmp_path: Path, head: Connection) -> Iterator[str]:
    """A Prometheus that reads this head's metrics every second; its address."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("needs the program prometheus (Debian's package of that name)")
    targets = [f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}" for node in ray.nodes() if node["Alive"]]
    config = {"global": {"scrape_interval": "1s"}, "scrape_configs": [{"job_name": "ray"}]}
    config["scrape_configs"][0]["static_configs"] = [{"targets": targets}]  # type: ignore[index]
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (tmp_path / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        _wait_until_ready(f"http://{address}")
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(10)


def _wait_until_ready(address: str) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            get(f"{address}/-/ready")
            return
        except OSError:
            assert time.monotonic() < until, "Prometheus doesn't come up"
            time.sleep(0.2)


def ask(address: str, expression: str) -> list[Any]:
    """What an expression gives at this moment."""
    query = urllib.parse.urlencode({"query": expression})
    answer = json.loads(get(f"{address}/api/v1/query?{query}"))
    assert answer["status"] == "success", answer
    return list(answer["data"]["result"])


def test_a_batch_is_seen(prometheus: str, tmp_path: Path) -> None:
    expressions = [target["expr"] for panel in json.loads(BOARD.read_text())["panels"] for target in panel["targets"]]
    asked = [expression.replace("$batch", "watched") for expression in expressions]

    async def batch() -> None:
        processor = BatchProcessor(make_spec(tmp_path / "out", name="watched"))
        processor.feed([make_task(f"t{number}", file_id=f"f{number}", sleep_s=2.0) for number in range(20)])
        running = asyncio.create_task(processor.start())
        answers: dict[str, list[Any]] = {}
        until = time.monotonic() + 120
        while time.monotonic() < until and not running.done():
            for expression in asked:
                answers[expression] = answers.get(expression) or await asyncio.to_thread(ask, prometheus, expression)
            await asyncio.sleep(1.0)
        await processor.stop()
        await running
        silent = [each for each in asked if not answers.get(each)]
        # Nothing is asked of a provider here.
        assert all("provider" in each for each in silent), silent

    asyncio.run(batch())
    named = {each["metric"]["__name__"] for each in ask(prometheus, '{__name__=~"ray_trax_ray_.*"}')}
    of_providers = {f"ray_{each.name}" for each in gauges.GAUGES if "provider" in each.tags}
    assert named >= {f"ray_{each.name}" for each in gauges.GAUGES} - of_providers
