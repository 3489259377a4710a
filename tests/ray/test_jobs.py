"""Batches as jobs of a head that somebody started with tokens on: by `ray job submit`, and by `trax-ray submit`."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trax_ray.heads.machine import token_file
from trax_ray.heads.processes import end

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

BIN = Path(sys.executable).parent
START = ("start", "--head", "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", "--disable-usage-stats")
# Two heads on one machine: what this one listens at must be nobody else's.
PORTS = ("--port=26479", "--dashboard-port=28266", "--ray-client-server-port=21101")
MORE_PORTS = ("--dashboard-agent-listen-port=25336", "--min-worker-port=31000", "--max-worker-port=31999")
DASHBOARD = "http://127.0.0.1:28266"


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Runs commands as somebody in whose home a cluster's token lies; a head that wants it is up."""
    home = Path("/tmp") / f"jobs-{secrets.token_hex(3)}"  # the names of sockets are short
    (home / "tmp").mkdir(parents=True)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environ |= {"HOME": str(home), "TMPDIR": str(home / "tmp"), "RAY_AUTH_MODE": "token", "NO_COLOR": "1"}
    environ["PATH"] = f"{BIN}{os.pathsep}{environ['PATH']}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
        path = token_file()
    path.parent.mkdir()
    path.touch(0o600)
    path.write_text(secrets.token_hex(32))
    folder = tmp_path_factory.mktemp("elsewhere")

    def run(*words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*map(str, words)], env=environ, cwd=folder, capture_output=True, text=True, check=False, timeout=300
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    run(BIN / "ray", *START, *PORTS, *MORE_PORTS, "--num-cpus=2")
    try:
        yield run
    finally:
        sessions = [*(home / "tmp" / "ray").glob("session_2*")]
        for session in sessions:
            end({"processes": [], "session_dir": str(session)})


def job_of(shell: Any, job_id: str) -> dict[str, Any]:
    """What the jobs API says of a job."""
    program = (
        "import json, sys; from ray.job_submission import JobSubmissionClient as C; "
        "i = C(sys.argv[1]).get_job_info(sys.argv[2]); "
        "print(json.dumps([i.status.value, i.driver_exit_code, i.metadata]))"
    )
    status, code, metadata = json.loads(shell(sys.executable, "-c", program, DASHBOARD, job_id).stdout.splitlines()[-1])
    return {"status": status, "code": code, "metadata": metadata}


def test_rays_own_command_submits_a_batch(shell: Any, samples: Path, tmp_path: Path) -> None:
    one = samples / "long_pause.ogg"
    more = ("--working-dir", ".", "--metadata-json", '{"asked_by": "ada"}', "--submission-id", "plain")
    job = (BIN / "ray", "job", "submit", "--address", DASHBOARD, *more, "--")
    done = shell(*job, "trax-ray", "batch", one, "--task", "preprocess", "-o", tmp_path / "out")
    assert "Progress: 1/1 (100.0% success)" in done.stdout
    assert job_of(shell, "plain") == {"status": "SUCCEEDED", "code": 0, "metadata": {"asked_by": "ada"}}
    assert (tmp_path / "out" / "audio" / "long_pause.flac").is_file()
    refused = shell(
        *(each for each in job if each not in ("--submission-id", "plain")), "trax-ray", "batch", one, check=False
    )
    assert "lies in the job's working folder, which Ray throws away" in refused.stdout + refused.stderr
    assert refused.returncode != 0


def test_submit_stop_submit_again(shell: Any, samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    batch = ("--dashboard", DASHBOARD, samples, "--model", "pocketsphinx", "-f", "txt", "-o", out)
    first = shell("trax-ray", "submit", *batch)
    (job_id,) = re.findall(r"submitted as job (trax-ray-out-[0-9a-f]{8}) to " + DASHBOARD, first.stdout)
    again = shell("trax-ray", "submit", *batch)
    assert f"the job {job_id} works on {out} already" in again.stdout
    until = time.monotonic() + 120
    while not any(out.glob("**/*.txt")) and time.monotonic() < until:
        time.sleep(0.5)
    finished = sorted(path.relative_to(out) for path in out.glob("**/*.txt"))
    assert finished, "it has done something"
    shell(BIN / "ray", "job", "stop", "--address", DASHBOARD, job_id)
    ended = job_of(shell, job_id)
    assert ended["status"] == "STOPPED"
    assert ended["metadata"] == {"job_name": "trax-ray out", "batch": "out", "output_dir": str(out)}
    before = {path: (out / path).stat().st_mtime_ns for path in finished}
    done = shell("trax-ray", "submit", "--follow", *batch)
    assert "Progress:" in done.stdout
    assert "succeeded" in done.stderr
    everything = sorted(path.relative_to(out) for path in out.glob("**/*.txt"))
    assert len(everything) > len(finished)
    assert {path: (out / path).stat().st_mtime_ns for path in finished} == before, "what was finished isn't done again"


def test_the_exit_code_is_the_batchs(shell: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.mp3").write_bytes(b"this is no music" * 100)
    batch = (tmp_path / "broken.mp3", "--task", "preprocess", "-o", tmp_path / "out", "--dashboard", DASHBOARD)
    done = shell("trax-ray", "submit", "--follow", *batch, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "failed" in done.stderr
    nobody = shell("trax-ray", "submit", *batch[:-1], "http://127.0.0.1:9", check=False)
    assert nobody.returncode == 3
    assert "the cluster at http://127.0.0.1:9 doesn't take jobs" in nobody.stderr
