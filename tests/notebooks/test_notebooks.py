"""The notebooks of notebooks, run from beginning to end in kernels of their own: `make test-notebooks`."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

nbformat = pytest.importorskip("nbformat", reason="needs the extra `notebooks`")
nbclient = pytest.importorskip("nbclient", reason="needs the extra `notebooks`")

pytestmark = [pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")]

LARGEST_OUTPUT = 60_000
"""Of one cell in a notebook that is kept, characters: plots of 60 dots per inch, and no sound."""


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short name: Ray's sockets take no long ones."""
    folder = Path(tempfile.mkdtemp(prefix="nb-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["cluster", "quality_review", "quickstart"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_outputs_are_small(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        assert sum(len(str(output)) for output in cell.get("outputs", ())) < LARGEST_OUTPUT, cell.source[:60]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_from_beginning_to_end(path: Path, monkeypatch: pytest.MonkeyPatch, short: Path) -> None:
    # Heads of others are none of its business: what it starts and stops is its own.
    for name in ("HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "TMPDIR"):
        monkeypatch.setenv(name, str(short))
    monkeypatch.setenv("TRAX_RAY_SAMPLES", str(ROOT / "samples"))
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    if os.environ.get("TRAX_RAY_KEEP_NOTEBOOKS"):
        nbformat.write(_small(notebook), path)


def _small(notebook: Any) -> Any:
    """What is kept in the repository: without sound, what libraries had to say, and the times of this run."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [
                each
                for each in cell.outputs
                if each.get("name") != "stderr" and "<audio" not in str(each.get("data", {}).get("text/html"))
            ]
    notebook.metadata.pop("widgets", None)
    return notebook
