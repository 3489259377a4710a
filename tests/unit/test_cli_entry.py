"""The way into the command: what it imports from where, streams that break, and the parent that outlives a batch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT
from trax_ray.heads.processes import find
from trax_ray.store.processes import mark_of

MODULE = (sys.executable, "-m", "trax_ray")
DRY = ("batch", str(ROOT / "samples"), "--model", "pocketsphinx", "--dry-run")

PARENT = """
import os, signal, subprocess, sys, time
sys.argv = ["trax-ray", "batch", "talks"]
# Tests that run in the background, or under nohup, ignore these, and their programs would too.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from trax_ray.cli import parent

def command():
{body}

parent.run(command)
"""


def run_parent(body: str) -> subprocess.Popen[str]:
    """A command of our own with such a parent."""
    code = PARENT.format(body="\n".join(f"    {line}" for line in body.splitlines()))
    own = [sys.executable, "-c", code]
    return subprocess.Popen(own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("path", [None, f":{ROOT}"])
def test_nothing_is_imported_from_the_working_folder(tmp_path: Path, path: str | None) -> None:
    for name in ("typer", "psutil", "click", "av", "pyarrow", "rich"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('executed')")
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        environ["PYTHONPATH"] = path
    done = subprocess.run([*MODULE, *DRY], capture_output=True, text=True, cwd=tmp_path, env=environ)
    assert done.returncode == 0, done.stderr
    assert "recordings would be transcribed" in done.stdout


def test_a_reader_that_goes_away_changes_nothing_about_the_exit_code() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*MODULE, *DRY], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.stderr == "trax-ray: nobody reads standard output any more (Broken pipe)\n"
    assert done.returncode == 0


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_streams_that_were_never_open_are_no_error(closed: str) -> None:
    done = subprocess.run(["bash", "-c", f'"$@" {closed}', "bash", *MODULE, *DRY], capture_output=True)
    assert done.returncode == 0


def test_names_that_the_terminal_does_not_know_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "Grüße\u4f60.wav").write_bytes((ROOT / "samples" / "first_test.wav").read_bytes())
    environ = {**os.environ, "PYTHONIOENCODING": "ascii"}
    own = [*MODULE, "batch", str(tmp_path), "--model", "pocketsphinx", "--dry-run"]
    done = subprocess.run(own, capture_output=True, text=True, env=environ)
    assert done.returncode == 0, done.stderr
    assert "Gr\\xfc\\xdfe\\u4f60.wav" in done.stdout


def test_a_working_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    entry = "from trax_ray.cli.entry import main; main()"
    code = f"import os, sys; os.rmdir(os.getcwd()); sys.argv = ['trax-ray', 'batch', 'x']; {entry}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 3
    assert "the working folder is gone" in done.stderr


@pytest.mark.parametrize(("body", "code"), [("pass", 0), ("sys.exit(2)", 2), ("sys.exit(None)", 0)])
def test_the_parent_exits_as_its_child_does(body: str, code: int) -> None:
    process = run_parent(body)
    _, stderr = process.communicate()
    assert (process.returncode, stderr) == (code, "")


@pytest.mark.parametrize(
    ("end", "how"), [("os._exit(1)", "with 1"), ("os.abort()", "by SIGABRT"), ("os.kill(os.getpid(), 9)", "by SIGKILL")]
)
def test_a_child_that_was_ended_is_spoken_for(end: str, how: str) -> None:
    """Ray ends its driver by `exit` and by `abort`; both come without a word."""
    process = run_parent(f"parent.tell(again='trax-ray resume out')\n{end}")
    _, stderr = process.communicate()
    assert process.returncode == 3
    assert f"was ended {how}" in stderr
    assert stderr.endswith("trax-ray: this continues: trax-ray resume out\n")
    process = run_parent(end)
    assert process.communicate()[1].endswith("trax-ray: this continues: trax-ray batch talks\n")


def test_a_child_that_dies_after_its_last_word_has_ended_as_it_said() -> None:
    process = run_parent("parent.tell(exit_code=0)\nos.abort()")
    process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("number", "group"),
    [(signal.SIGINT, True), (signal.SIGTERM, True), (signal.SIGTERM, False), (signal.SIGHUP, False)],
)
def test_a_signal_reaches_the_child_once(number: signal.Signals, group: bool) -> None:
    body = f"""
seen = []
signal.signal({int(number)}, lambda *_: seen.append(1))
print("up", flush=True)
until = time.monotonic() + 30
while not seen and time.monotonic() < until:
    time.sleep(0.01)
for _ in range(20):  # a second one comes at once, if at all
    time.sleep(0.01)
print(len(seen))
sys.exit(130)
"""
    process = run_parent(body)
    assert first_line(process) == "up"
    (os.killpg if group else os.kill)(process.pid, number)
    stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (130, "1\n"), stderr


def test_a_signal_before_anything_has_begun_is_a_stop() -> None:
    process = run_parent("print('up', flush=True)\ntime.sleep(60)")
    first_line(process)
    process.terminate()
    _, stderr = process.communicate()
    assert process.returncode == 130
    assert "stopped before anything had begun: this continues: trax-ray batch talks" in stderr


def test_a_child_that_does_not_listen_is_ended_by_the_third_signal() -> None:
    process = run_parent("signal.signal(15, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(60)")
    first_line(process)
    while process.poll() is None:
        process.terminate()
        time.sleep(0.05)
    assert process.returncode == 130
    assert process.communicate()[1].endswith("this continues: trax-ray batch talks\n")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere they are left to the next run")
def test_what_the_child_leaves_behind_is_ended() -> None:
    left = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)"
    process = run_parent(f"left = {left}\nprint(left.pid, flush=True)\nos._exit(1)")
    left_pid = int(first_line(process))
    process.communicate()
    assert not psutil.pid_exists(left_pid)


def test_kill_9_of_the_parent_ends_the_child() -> None:
    process = run_parent("print(os.getpid(), flush=True)\ntime.sleep(60)")
    child = int(first_line(process))
    mark = mark_of(child)
    process.kill()
    process.communicate()  # until the child's ends of the pipes are closed too
    while find(child, mark):  # and its last thread is gone
        time.sleep(0.01)
