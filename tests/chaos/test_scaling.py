"""A cluster that starts nodes by itself: Ray's own autoscaler, whose nodes are processes of this machine.

Ray's class for it begins with `ray stop --force`, which ends everybody's Ray. This one starts its own, apart.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.util import get_node_ip_address

from trax_ray.heads.machine import token_file
from trax_ray.heads.processes import end

pytestmark = pytest.mark.timeout(400)

PROGRAM = Path(__file__).with_name("scaling_program.py")
HEAD_ID = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"
"""What Ray's fake provider calls its head."""


@pytest.fixture
def scaling(tmp_path: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Runs the program beside this file on a cluster whose head runs no tasks, and which may start two nodes, and one
    with a GPU."""
    home = Path("/tmp") / f"scale-{secrets.token_hex(3)}"
    (home / "tmp").mkdir(parents=True)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environ |= {"HOME": str(home), "TMPDIR": str(home / "tmp"), "RAY_AUTH_MODE": "token", "RAY_FAKE_CLUSTER": "1"}
    environ |= {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_enable_autoscaler_v2": "1"}
    environ["PYTHONPATH"] = str(Path(__file__).parents[1] / "support")
    environ |= {"RAY_CLOUD_INSTANCE_ID": HEAD_ID, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
        token = token_file()
    token.parent.mkdir()
    token.touch(0o600)
    token.write_text(secrets.token_hex(32))
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    provider = {"type": "external", "module": "scaling_provider.Provider", "launch_multiple": True}
    provider |= {"head_node_id": HEAD_ID, "gcs_address": f"{get_node_ip_address()}:{port}"}
    commands = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    config: dict[str, Any] = {
        "cluster_name": "scaling",
        "max_workers": 3,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 0.2,
        "provider": provider,
        "head_node_type": "ray.head.default",
        **{name: {} for name in ("file_mounts", "auth", "docker")},
        **{name: [] for name in ("cluster_synced_files", "rsync_exclude", "rsync_filter")},
        **{f"{name}_commands": [] for name in commands},
        "file_mounts_sync_continuously": False,
    }
    memory = {"memory": 2 * 2**30, "object_store_memory": 128 * 2**20}
    config["available_node_types"] = {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "worker": {"resources": {"CPU": 2, **memory}, "node_config": {}, "min_workers": 0, "max_workers": 2},
        "gpu": {"resources": {"CPU": 2, "GPU": 1, **memory}, "node_config": {}, "min_workers": 0, "max_workers": 1},
    }
    path = tmp_path / "cluster.json"
    path.write_text(json.dumps(config))
    start = [str(Path(sys.executable).parent / "ray"), "start", "--head", f"--autoscaling-config={path}"]
    start += ["--num-cpus=0"]
    start += [f"--port={port}", "--include-dashboard=false", "--disable-usage-stats"]
    start += ["--ray-client-server-port=21201", "--min-worker-port=32000", "--max-worker-port=32999"]

    def run(*arguments: str | Path, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, str(PROGRAM), f"127.0.0.1:{port}", *map(str, arguments)]
        return subprocess.run(words, env=environ, capture_output=True, text=True, check=False, timeout=seconds)

    try:
        begun = subprocess.run(start, env=environ, capture_output=True, text=True, check=False, timeout=120)
        assert begun.returncode == 0, begun.stdout + begun.stderr
        yield run
    finally:
        for session in (home / "tmp" / "ray").glob("session_2*"):
            end({"processes": [], "session_dir": str(session)})
        shutil.rmtree(home, ignore_errors=True)


def test_nodes_come_before_the_queue_drains_and_go_when_it_has(
    scaling: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, record: Callable[..., None]
) -> None:
    done = scaling(tmp_path / "out", "24", "4")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["succeeded"] == 24
    assert told["nodes"] == 2, "both were asked for, though the head alone is there at first"
    assert told["left"] == 0, "and let go"
    record(what="a cluster that scales, from no node to two and back", runs=1, seeds="", found="24 of 24 succeeded")


def test_a_kind_of_node_that_only_a_waiting_task_needs_comes_and_goes(
    scaling: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, record: Callable[..., None]
) -> None:
    done = scaling(tmp_path / "out", "8", "4", "gpu")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["succeeded"] == 9
    assert told["gpus"] == 1
    assert told["left"] == 0
    record(
        what="a node with a GPU for one task that waits", runs=1, seeds="", found="it came, 9 of 9 succeeded, it went"
    )


def test_what_a_killed_batch_asked_for_lapses(
    scaling: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    began = time.monotonic()
    done = scaling(tmp_path / "out", "200", "30", "kill")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["nodes"] >= 1
    assert told["left"] == 0, f"nodes that nobody uses cost money; looked after {time.monotonic() - began:.0f} s"
