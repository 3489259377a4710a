"""docs/adding-a-provider.md, followed step by step."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import trax_ray.providers
from trax_ray.cli.app import app
from trax_ray.core.task import ResourceRequest
from trax_ray.kinds.chunk import _engine
from trax_ray.providers import registry
from trax_ray.providers.base import SpeechEngine

PAGE = Path(__file__).resolve().parents[2] / "docs" / "adding-a-provider.md"
MODULE, ENTRY, TRIAL = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture
def tone(tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The page's steps 1 and 2, in a folder that counts as part of `trax_ray/providers`; gives the working folder."""
    (tmp_path / "providers").mkdir()
    (tmp_path / "providers" / "tone.py").write_text(MODULE)
    monkeypatch.setattr(trax_ray.providers, "__path__", [*trax_ray.providers.__path__, str(tmp_path / "providers")])
    entry = eval(ENTRY, dict(vars(registry)))
    monkeypatch.setattr(registry, "SPEECH_PROVIDERS", (*registry.SPEECH_PROVIDERS, entry))
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "samples").symlink_to(samples)
    monkeypatch.chdir(tmp_path / "work")
    _engine.cache_clear()
    yield tmp_path / "work"
    _engine.cache_clear()
    sys.modules.pop("trax_ray.providers.tone", None)
    vars(trax_ray.providers).pop("tone", None)


@pytest.mark.usefixtures("tone")
def test_the_module_is_an_engine() -> None:
    engine = registry.load_engine("tone", ResourceRequest())
    assert isinstance(engine, SpeechEngine)
    assert (engine.name, engine.model, engine.language) == ("tone", "tone", None)
    assert registry.provider_of("pocketsphinx").name == "pocketsphinx"


def test_it_transcribes_without_ray(tone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(TRIAL, str(PAGE), "exec"), {})
    said = re.fullmatch(r"(\d+) segments: (.*)\n+", capsys.readouterr().out, re.DOTALL)
    assert said
    words = (tone / "out" / "first_test.txt").read_text().split()
    assert words == said[2].split() == ["sound"] * int(said[1])
    assert words
    assert "sound" in (tone / "out" / "first_test.srt").read_text()


def test_the_command_line_takes_it(tone: Path) -> None:
    (line,) = re.findall(r"```bash\n(.*?)\n```", PAGE.read_text())
    done = CliRunner().invoke(app, [*line.split()[1:], "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "with tone" in done.output
    done = CliRunner().invoke(app, ["batch", "samples", "--model", "ton"])
    assert done.exit_code == 2
    assert "tone (says where there is sound)" in done.output


def test_what_the_page_names_is_there() -> None:
    root = PAGE.parents[1]
    named = [name for name in re.findall(r"`([\w/.]+\.(?:py|toml))`", PAGE.read_text()) if "/tone" not in name]
    assert len(named) >= 4
    assert not [name for name in named if not os.path.exists(root / name)]
