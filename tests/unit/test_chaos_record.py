"""The record of the chaos tests: a table in a page, rewritten and nothing else touched."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

CONFTEST = Path(__file__).resolve().parents[1] / "chaos" / "conftest.py"


@pytest.fixture(scope="module")
def chaos() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chaos_conftest", CONFTEST)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_what_is_between_the_markers_is_rewritten(chaos: ModuleType) -> None:
    page = "above\n<!-- chaos:begin -->\nold\n\nolder\n<!-- chaos:end -->\nbelow\n"
    once = chaos.rewritten(page, "new\n")
    assert once == "above\n<!-- chaos:begin -->\nnew\n<!-- chaos:end -->\nbelow\n"
    assert chaos.rewritten(once, "new") == once
    assert chaos.rewritten("<!-- chaos:begin --><!-- chaos:end -->", "x").splitlines()[1] == "x"


@pytest.mark.parametrize(
    "page",
    [
        "nothing",
        "<!-- chaos:begin -->",
        "<!-- chaos:end --> <!-- chaos:begin -->",
        "<!-- chaos:begin --> <!-- chaos:begin --> <!-- chaos:end -->",
        "<!-- chaos:begin --> <!-- chaos:end --> <!-- chaos:end -->",
    ],
)
def test_a_page_without_its_markers_is_refused(chaos: ModuleType, page: str) -> None:
    with pytest.raises(ValueError, match="once each"):
        chaos.rewritten(page, "new")


def test_rows_are_sorted_and_cells_hold_their_lines(chaos: ModuleType) -> None:
    rows = [
        chaos.Row("b dies", 12345, "0-9", "nothing | lost\nat all", 12.6),
        chaos.Row("a dies", result="skipped: no accelerator"),
    ]
    assert chaos.table(rows, "Then.").splitlines() == [
        "Then.",
        "",
        "| what | runs | seeds | result | seconds |",
        "|---|---:|---|---|---:|",
        "| a dies |  |  | skipped: no accelerator | 0 |",
        "| b dies | 12,345 | 0-9 | nothing \\| lost at all | 13 |",
    ]


def test_what_it_says_of_the_machine(chaos: ModuleType) -> None:
    assert chaos.heading().startswith("Run on 2")
    assert f"Python {sys.version.split()[0]} and Ray " in chaos.heading()


def test_names_are_spoken(chaos: ModuleType) -> None:
    assert chaos.spoken("test_a_node_is_lost") == "a node is lost"
    assert chaos.spoken("test_a_node_is_lost[gcs-2]") == "a node is lost (gcs-2)"


TESTS = """
import pytest

def test_one(record):
    record("one thing", 3, "1-3", "nothing lost")

def test_two(record):
    record("two things", 2, "", "nothing lost")
    assert False

@pytest.mark.skip(reason="there is no tool")
def test_three(record):
    pass

def test_four():
    pytest.skip("there is no disk")

def test_five():
    pass
"""


def test_a_session_leaves_its_table(tmp_path: Path) -> None:
    """Tests that were skipped or failed are in it too."""
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text())
    (tmp_path / "test_it.py").write_text(TESTS)
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n<!-- chaos:begin -->\n<!-- chaos:end -->\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    environment = os.environ | {"TRAX_RAY_CHAOS_RECORD": str(page)}
    session = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert "1 failed, 2 passed, 2 skipped" in session.stdout, session.stdout + session.stderr
    lines = page.read_text().splitlines()
    assert lines[:3] == ["# Page", "", "<!-- chaos:begin -->"]
    assert lines[3].startswith("Run on ")
    assert lines[7:] == [
        "| four |  |  | skipped: there is no disk | 0 |",
        "| one thing | 3 | 1-3 | nothing lost | 0 |",
        "| three |  |  | skipped: there is no tool | 0 |",
        "| two |  |  | **failed** | 0 |",
        "<!-- chaos:end -->",
    ]


def test_without_a_page_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text())
    (tmp_path / "test_it.py").write_text("def test_it(record):\n    record('a', 1, '', 'b')\n")
    environment = {name: value for name, value in os.environ.items() if name != "TRAX_RAY_CHAOS_RECORD"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    session = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert session.returncode == 0, session.stdout + session.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix) == ["conftest.py", "test_it.py"]
