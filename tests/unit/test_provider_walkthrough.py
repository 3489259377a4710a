"""docs/adding-a-provider.md, followed step by step: in this package, and in another one."""

from __future__ import annotations

import os
import re
import subprocess
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

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PAGE = Path(__file__).resolve().parents[2] / "docs" / "adding-a-provider.md"
MODULE, LINE, TRIAL = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
(PROJECT,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
(COMMAND,) = re.findall(r"```bash\n(.*?)\n```", PAGE.read_text())
(DOCTOR,) = re.findall(r"```text\n(.*?)\n```", PAGE.read_text())


@pytest.fixture
def work(tmp_path: Path, samples: Path) -> Path:
    """A working folder with the samples in it."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "samples").symlink_to(samples)
    return tmp_path / "work"


def said_sound(work: Path, said: str) -> None:
    """The trial of step 3 printed what it wrote, and that is the engine's."""
    found = re.fullmatch(r"(\d+) segments: (.*)\n+", said, re.DOTALL)
    assert found, said
    words = (work / "out" / "first_test.txt").read_text().split()
    assert words == found[2].split() == ["sound"] * int(found[1])
    assert words
    assert "sound" in (work / "out" / "first_test.srt").read_text()


class TestInThisPackage:
    @pytest.fixture(autouse=True)
    def tone(self, tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Steps 1 and 2a, in a folder that counts as part of `trax_ray/providers`."""
        (tmp_path / "providers").mkdir()
        (tmp_path / "providers" / "tone.py").write_text(MODULE)
        monkeypatch.setattr(trax_ray.providers, "__path__", [*trax_ray.providers.__path__, str(tmp_path / "providers")])
        monkeypatch.setattr(registry, "BUILT_IN", (*registry.BUILT_IN, *eval(LINE)))
        monkeypatch.chdir(work)
        registry.forget()
        _engine.cache_clear()
        yield
        registry.forget()
        _engine.cache_clear()
        sys.modules.pop("trax_ray.providers.tone", None)
        vars(trax_ray.providers).pop("tone", None)

    def test_the_module_is_an_engine(self) -> None:
        engine = registry.load_engine("tone", ResourceRequest())
        assert isinstance(engine, SpeechEngine)
        assert (engine.name, engine.model, engine.language) == ("tone", "tone", None)
        assert registry.provider_of("pocketsphinx").name == "pocketsphinx"

    def test_it_transcribes_without_ray(self, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
        exec(compile(TRIAL, str(PAGE), "exec"), {})
        said_sound(work, capsys.readouterr().out)

    def test_the_command_line_takes_it(self) -> None:
        done = CliRunner().invoke(app, [*COMMAND.split()[1:], "--dry-run"])
        assert done.exit_code == 0, done.output
        assert "with tone" in done.output
        done = CliRunner().invoke(app, ["batch", "samples", "--model", "ton"])
        assert done.exit_code == 2
        assert "tone (says where there is sound)" in done.output


class TestInAnotherPackage:
    """The distribution as `pip install` leaves it, found by other processes as it is by Ray's workers."""

    @pytest.fixture
    def site(self, tmp_path: Path) -> Path:
        """Steps 1 and 2b: a folder with the module and what an installer writes of `pyproject.toml` beside it."""
        project = tomllib.loads(PROJECT)["project"]
        name, version = project["name"], project["version"]
        info = tmp_path / "site" / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (tmp_path / "site" / "trax_ray_tone.py").write_text(MODULE)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(
            "".join(
                f"[{group}]\n" + "".join(f"{point} = {value}\n" for point, value in points.items())
                for group, points in project["entry-points"].items()
            )
        )
        return tmp_path / "site"

    def run(self, work: Path, site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=120)

    def test_it_transcribes_without_ray(self, work: Path, site: Path) -> None:
        done = self.run(work, site, "-c", TRIAL)
        assert done.returncode == 0, done.stderr
        said_sound(work, done.stdout)

    def test_without_the_package_nobody_has_the_model(self, work: Path, tmp_path: Path) -> None:
        done = self.run(work, tmp_path, "-c", TRIAL)
        assert done.returncode != 0
        assert "no provider has the model tone" in done.stderr

    def test_the_command_line_takes_it(self, work: Path, site: Path) -> None:
        done = self.run(work, site, "-m", "trax_ray", *COMMAND.split()[1:], "--dry-run")
        assert done.returncode == 0, done.stderr
        assert "with tone" in done.stdout

    def test_the_doctor_names_it(self, work: Path, site: Path) -> None:
        done = self.run(work, site, "-m", "trax_ray", "doctor")
        assert DOCTOR in done.stdout.splitlines(), done.stdout + done.stderr

    @pytest.mark.long
    def test_a_broken_package_stops_nothing_and_the_doctor_says_why(self, work: Path, site: Path) -> None:
        (site / "trax_ray_tone.py").write_text("import nothing_of_this_name")
        done = self.run(work, site, "-m", "trax_ray", "batch", "samples", "--model", "pocketsphinx", "--dry-run")
        assert done.returncode == 0, done.stderr
        (warning,) = [line for line in done.stderr.splitlines() if "trax-ray-tone" in line]
        assert warning.startswith("WARNING ")
        assert "No module named 'nothing_of_this_name'" in warning
        done = self.run(work, site, "-m", "trax_ray", "doctor")
        (line,) = [line for line in done.stdout.splitlines() if "trax-ray-tone 0.1" in line]
        assert line.startswith("note     provider ")
        assert "isn't used: ModuleNotFoundError: No module named 'nothing_of_this_name'" in line

    def test_help_does_not_look_for_packages(self, work: Path, site: Path) -> None:
        (site / "trax_ray_tone.py").write_text("raise SystemExit('it was imported')")
        code = (
            "import sys\nfrom importlib import metadata\nfrom trax_ray.cli.app import main\n"
            "metadata.entry_points = None\nsys.argv = ['trax-ray', 'batch', '--help']\n"
            "try: main()\nexcept SystemExit as end: assert not end.code, end.code\n"
            "print('registry:', 'trax_ray_tone' in sys.modules)"
        )
        done = self.run(work, site, "-c", code)
        assert done.stdout.splitlines()[-1:] == ["registry: False"], done.stderr


def test_what_the_page_names_is_there() -> None:
    root = PAGE.parents[1]
    named = re.findall(r"`([\w/.]+\.(?:py|toml))`", PAGE.read_text())
    named = [name for name in named if not name.endswith("tone.py")]
    assert len(named) >= 6
    assert not [name for name in named if not os.path.exists(root / name)]
