"""The one thread that calls Ray, and what a driver says while its coordinator is away. Ray isn't started."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from trax_ray.cluster.connect import _JobConfig
from trax_ray.cluster.driver import Driver
from trax_ray.cluster.thread import in_ray, post_to_ray
from trax_ray.core.standing import Expected
from trax_ray.testing.factories import make_spec


def test_all_calls_are_made_by_one_thread_whoever_asks() -> None:
    with ThreadPoolExecutor(8) as pool:
        threads = {*pool.map(lambda _: in_ray(threading.get_ident), range(50)), in_ray(threading.get_ident)}
    assert len(threads) == 1
    assert threads != {threading.get_ident()}
    assert in_ray(lambda: in_ray(threading.get_ident)) in threads, "it doesn't wait for itself"


def test_an_error_comes_to_who_asked_and_the_thread_goes_on() -> None:
    def fail() -> None:
        raise SystemExit(1)  # as Ray does now and then

    post_to_ray(fail)
    with pytest.raises(SystemExit):
        in_ray(fail)
    assert in_ray(lambda: 1) == 1


def test_what_is_posted_is_called_in_order() -> None:
    called: list[int] = []
    for number in range(20):
        post_to_ray(called.append, number)
    in_ray(lambda: None)
    assert called == list(range(20))


def test_what_that_thread_starts_outlives_the_signals_that_end_programs() -> None:
    code = "import signal; print(*sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())))"
    started = in_ray(lambda: subprocess.run([sys.executable, "-c", code], capture_output=True, text=True))
    assert {int(number) for number in started.stdout.split()} == {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


def test_a_driver_whose_coordinator_is_away_knows_how_much_it_was_given(tmp_path: Path) -> None:
    def gone() -> Any:
        raise ray.exceptions.ActorDiedError

    driver = Driver(make_spec(tmp_path), expected=Expected(300, 300.0))
    driver._actor = SimpleNamespace(snapshot=SimpleNamespace(remote=gone))
    assert driver.snapshot().total_tasks == 300


def test_a_job_sends_no_folders_for_modules() -> None:
    """Ray adds the driver's working folder and that of its program."""
    config = _JobConfig(metadata={"batch": "talks"})
    config._py_driver_sys_path.extend(["/downloads"])
    assert list(config._get_proto_job_config().py_driver_sys_path) == []
