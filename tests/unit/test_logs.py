"""Log records: from a worker's stderr back into records of the driver's, and into files."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trax_ray.cli.app import app
from trax_ray.errors import SetupError
from trax_ray.logs import MARK, FromWorkers, log_to_file, say_what_it_is_about

WORKER = """
import logging
from trax_ray.logs import say_what_it_is_about, set_up_worker
set_up_worker("DEBUG")
say_what_it_is_about(batch="talks", task="transcribe-1", attempt=2)
logger = logging.getLogger("trax_ray.media")
logger.debug("damaged packet: %s", "two\\nlines")
print("no record of ours", file=__import__("sys").stderr)
try:
    1 / 0
except ZeroDivisionError as error:
    logger.warning("odd", exc_info=error)
"""


@pytest.fixture(autouse=True)
def ours() -> Iterator[logging.Logger]:
    """The package's logger, as it was."""
    logger = logging.getLogger("trax_ray")
    handlers, level = logger.handlers[:], logger.level
    yield logger
    for handler in logger.handlers:
        if handler not in handlers:
            handler.close()
    logger.handlers[:] = handlers
    logger.setLevel(level)
    say_what_it_is_about()


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """What a worker prints."""
    done = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, text=True, check=True)
    return done.stderr.splitlines()


def test_a_workers_records_arrive_as_what_they_were(lines: list[str], tmp_path: Path) -> None:
    log_to_file(str(tmp_path / "log"), "json")
    for line in lines:
        FromWorkers().take(line, "pid=7")
    first, plain, second = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    about = {"batch": "talks", "task": "transcribe-1", "attempt": 2}
    assert first["message"] == "damaged packet: two\nlines"
    assert (first["level"], first["logger"]) == ("DEBUG", "trax_ray.media")
    assert {name: first[name] for name in about} == about
    assert "ZeroDivisionError" in second["traceback"]
    assert plain["message"] == "(pid=7) no record of ours"
    sent = json.loads(lines[0].removeprefix(MARK))
    assert first["time"] == sent["time"], "it is the worker's"


def test_text_is_for_people(lines: list[str], tmp_path: Path) -> None:
    log_to_file(str(tmp_path / "log"), "text")
    FromWorkers().take(lines[0], "pid=7")
    (line, _) = (tmp_path / "log").read_text().splitlines()
    assert line.endswith("DEBUG trax_ray.media [talks transcribe-1 2] damaged packet: two")


@pytest.mark.parametrize("line", [MARK, MARK + "{", MARK + "[]", MARK + '{"time": 1}', MARK + '{"time": "x"}', ""])
def test_what_only_looks_like_a_record_is_kept_as_it_is(line: str, tmp_path: Path) -> None:
    log_to_file(str(tmp_path / "log"), "json")
    FromWorkers().take(line, "pid=7")
    (kept,) = (tmp_path / "log").read_text().splitlines()
    assert json.loads(kept)["message"] == f"(pid=7) {line}"


def test_attempts_side_by_side_are_told_apart(tmp_path: Path) -> None:
    """A lane makes many in one thread."""
    log_to_file(str(tmp_path / "log"), "json")

    async def attempt(number: int) -> None:
        say_what_it_is_about(task=f"t{number}")
        await asyncio.sleep(0)
        logging.getLogger("trax_ray.kinds").debug("%d", number)

    async def lane() -> None:
        await asyncio.gather(*(attempt(number) for number in range(5)))

    asyncio.run(lane())
    told = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {(each["task"], each["message"]) for each in told} == {(f"t{number}", str(number)) for number in range(5)}


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"--log-file: can't write .*: give another file"):
        log_to_file(str(tmp_path / "not" / "there"), "text")


def test_the_format_is_one_of_two() -> None:
    done = CliRunner().invoke(app, ["batch", "a.mp3", "--log-format", "xml"])
    assert done.exit_code == 2
    assert "--log-format: expected text or json, got xml" in done.stderr
