"""Which model a batch takes when none is named: the order, the language, the ways out, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from trax_ray.cli.app import app
from trax_ray.create import create_batch_processor
from trax_ray.errors import SetupError
from trax_ray.plan.models import pin_model, resolve_model
from trax_ray.providers import choice

KEY = "sk-0123456789"


class Machine:
    """What there is: weights at hand, weights to be had, and how often the hub was asked."""

    def __init__(self) -> None:
        self.at_hand: set[str] = set()
        self.to_be_had: set[str] = set()
        self.asked: list[str] = []

    def ask(self, model: str, timeout_s: float) -> bool:
        assert timeout_s == 10.0
        self.asked.append(model)
        return model in self.to_be_had


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(choice, "weights_at_hand", lambda model: model in made.at_hand)
    monkeypatch.setattr(choice, "weights_to_be_had", made.ask)
    return made


def test_the_order(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the last resort to the first choice; each comes before all that came before it here."""
    with pytest.raises(SetupError):
        choice.choose_model()
    machine.at_hand = {"tiny.en"}
    assert choice.choose_model() == "tiny.en"
    machine.to_be_had = {"base"}
    assert choice.choose_model() == "base"
    machine.asked.clear()
    machine.at_hand = {"base", "tiny.en"}
    assert choice.choose_model() == "base"
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert choice.choose_model() == "whisper-1"
    assert machine.asked == [], "neither a key nor weights at hand need the hub"


def test_a_key_in_a_file_counts(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.at_hand = {"base"}
    (tmp_path / "key").write_text(f"{KEY}\n")
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(tmp_path / "key"))
    assert choice.choose_model() == "whisper-1"
    (tmp_path / "key").write_text("")
    assert choice.choose_model() == "base"


@pytest.mark.parametrize("content", [None, "short", "with a space in it"])
def test_a_broken_key_is_no_missing_key(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    machine.at_hand = {"base"}
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(tmp_path / "key"))
    if content is not None:
        (tmp_path / "key").write_text(content)
    with pytest.raises(SetupError) as caught:
        choice.choose_model()
    assert caught.value.code == "no_key"
    assert "OPENAI_API_KEY_FILE" in caught.value.message


@pytest.mark.parametrize("language", [None, "en", "EN", "en-US", "en_GB"])
def test_tiny_en_speaks_english(machine: Machine, language: str | None) -> None:
    machine.at_hand = {"tiny.en"}
    assert choice.choose_model(language) == "tiny.en"


@pytest.mark.parametrize("language", ["de", "German", "end", "es"])
def test_and_nothing_else(machine: Machine, language: str) -> None:
    machine.at_hand = {"tiny.en"}
    with pytest.raises(SetupError, match=f"the language {language} is at hand") as caught:
        choice.choose_model(language)
    assert caught.value.code == "no_model"
    assert "--model base" in caught.value.message
    assert not [name for name in ("tiny", "pocketsphinx") if name in caught.value.message], "they know English only"
    machine.at_hand = {"tiny.en", "base"}
    assert choice.choose_model(language) == "base"


def test_the_ways_out(machine: Machine) -> None:
    with pytest.raises(SetupError) as caught:
        choice.choose_model()
    assert caught.value.code == "no_model"
    ways = ('pip install "trax-ray[tiny]"', "./folder", "OPENAI_API_KEY", 'pip install "trax-ray[pocketsphinx]"')
    assert [way for way in ways if way not in caught.value.message] == []


def test_only_tiny_en_needs_a_word() -> None:
    assert choice.notice("tiny.en").startswith("model: tiny.en (English only; ")
    assert choice.notice("base") == choice.notice("whisper-1") == ""


def test_the_output_folder_keeps_its_model(machine: Machine, tmp_path: Path) -> None:
    machine.at_hand = {"tiny.en"}
    assert resolve_model(None, str(tmp_path), language="en") == "tiny.en"
    pin_model(str(tmp_path), "tiny.en")
    machine.to_be_had = {"base"}
    with pytest.raises(SetupError, match=r"--model tiny\.en to go on"):
        resolve_model(None, str(tmp_path), language="en")


class TestOnTheCommandLine:
    def batch(self, samples: Path, out: Path, *arguments: str) -> tuple[int, str, str]:
        own = ["batch", str(samples / "first_test.wav"), "-o", str(out), *arguments, "--dry-run"]
        done = CliRunner().invoke(app, own)
        return done.exit_code, done.stdout, done.stderr

    def test_the_first_line_says_that_it_is_english_only(self, machine: Machine, samples: Path, tmp_path: Path) -> None:
        machine.at_hand = {"tiny.en"}
        code, said, _ = self.batch(samples, tmp_path / "out")
        assert code == 0
        assert said.splitlines()[0] == choice.notice("tiny.en")
        assert " with tiny.en, into " in said.splitlines()[1]

    def test_who_names_it_knows_it(self, samples: Path, tmp_path: Path) -> None:
        code, said, _ = self.batch(samples, tmp_path / "out", "--model", "tiny.en")
        assert code == 0
        assert "English only" not in said

    def test_another_language_has_no_model(self, machine: Machine, samples: Path, tmp_path: Path) -> None:
        machine.at_hand = {"tiny.en"}
        code, _, said = self.batch(samples, tmp_path / "out", "--language", "de")
        assert code == 3
        assert "no speech model for the language de is at hand" in said


async def test_from_python(machine: Machine, samples: Path, tmp_path: Path) -> None:
    machine.at_hand = {"tiny.en"}
    german = create_batch_processor(output_dir=tmp_path / "german", language="de")
    with pytest.raises(SetupError, match="the language de"):
        await german.add_task("transcribe", {"file_path": str(samples / "first_test.wav")})
    english = create_batch_processor(output_dir=tmp_path / "english")
    await english.add_task("transcribe", {"file_path": str(samples / "first_test.wav")})
    assert english.spec.model == "tiny.en"


def test_offline_mode_goes_to_tiny_en_at_once(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real look into caches and packages, with nothing but the extra installed."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert choice.choose_model() == "tiny.en"
