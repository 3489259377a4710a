"""Many batches in one process, each with a Ray of its own: a notebook, a service, somebody's script."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from batch_program import own_ray

pytestmark = pytest.mark.timeout(1200)

PROGRAM = Path(__file__).with_name("many_batches.py")
BATCHES = 20


def test_twenty_batches_in_one_process_each_leave_ray_and_come_back(
    tmp_path: Path, record: Callable[..., None]
) -> None:
    with own_ray(tmp_path) as environ:
        command = [sys.executable, str(PROGRAM), str(tmp_path / "out"), str(BATCHES)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1100, env=environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is through") == BATCHES
    record(what="batches in one process", runs=BATCHES, seeds="", found="all through; Ray left and started each time")


def test_twenty_batches_in_one_notebook_leave_its_kernel_alive(tmp_path: Path, record: Callable[..., None]) -> None:
    manager = pytest.importorskip("jupyter_client.manager", reason="needs ipykernel and jupyter_client")
    with own_ray(tmp_path) as environ:
        kernel, client = manager.start_new_kernel(kernel_name="python3", env=environ, startup_timeout=60)
        try:
            cells = [
                f"import sys; sys.path.insert(0, {str(PROGRAM.parent)!r})",
                "import many_batches; from pathlib import Path",
                *(f"await many_batches.run(Path({str(tmp_path / 'out')!r}), {each})" for each in range(BATCHES)),
            ]
            for cell in cells:
                said = client.execute_interactive(cell, timeout=300, output_hook=lambda message: None)
                assert said["content"]["status"] == "ok", said["content"]
            assert kernel.is_alive()
        finally:
            client.stop_channels()
            kernel.shutdown_kernel(now=True)
    record(what="batches in one notebook kernel", runs=BATCHES, seeds="", found="all through; the kernel lives")
