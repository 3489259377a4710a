"""docs/adding-a-task-kind.md, followed step by step."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import trax_ray.kinds
from trax_ray.core.state.events import decode_task, encode
from trax_ray.errors import ProcessingError
from trax_ray.kinds import table
from trax_ray.kinds.assignment import Assignment
from trax_ray.kinds.base import Kind
from trax_ray.kinds.run import run
from trax_ray.testing.factories import make_spec

PAGE = Path(__file__).resolve().parents[2] / "docs" / "adding-a-task-kind.md"
MODULE, LINE, TRIAL = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture(autouse=True)
def longest(tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kind[object]]:
    """Steps 1 and 2, in a folder that counts as part of `trax_ray/kinds`; a working folder with the samples."""
    (tmp_path / "kinds").mkdir()
    (tmp_path / "kinds" / "longest.py").write_text(MODULE)
    monkeypatch.setattr(trax_ray.kinds, "__path__", [*trax_ray.kinds.__path__, str(tmp_path / "kinds")])
    module = importlib.import_module("trax_ray.kinds.longest")
    (kind,) = eval(LINE, vars(module))
    monkeypatch.setitem(table.KINDS, kind.name, kind)  # type: ignore[arg-type]
    (tmp_path / "samples").symlink_to(samples)
    monkeypatch.chdir(tmp_path)
    yield kind
    sys.modules.pop("trax_ray.kinds.longest", None)
    vars(trax_ray.kinds).pop("longest", None)


def test_it_works_without_ray(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(TRIAL, str(PAGE), "exec"), {})
    said = re.fullmatch(r"longest: (\w+)\n", capsys.readouterr().out)
    assert said
    words = (tmp_path / "out" / "first_test.txt").read_text().replace(".", " ").split()
    assert len(said[1]) == max(map(len, words))


def test_its_tasks_survive_the_journal_and_run_in_a_process_of_their_own(longest: Kind[object]) -> None:
    task = longest.task(longest.data(), id="t", depends_on=("a",))
    assert decode_task(encode(task)) == task
    assert (task.kind, task.shared, task.asks_provider, task.resources.num_cpus) == ("longest", False, False, 0.25)


def test_without_a_transcript_it_says_so(longest: Kind[object], tmp_path: Path) -> None:
    with pytest.raises(ProcessingError, match="depend on a TRANSCRIBE task"):
        list(run(Assignment(make_spec(tmp_path), longest.task(longest.data(), id="t"))))


def test_every_kind_is_in_the_table_and_in_a_file_of_its_own() -> None:
    folder = Path(table.__file__).parent
    files = {kind.name: folder / f"{kind.name}.py" for kind in table._ALL}
    assert all(path.exists() for path in files.values())
    declared = {path.stem for path in folder.glob("*.py") if re.search(r"^[A-Z]+ = Kind\(", path.read_text(), re.M)}
    assert declared == set(files)
