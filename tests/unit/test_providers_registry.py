"""Model names find their provider; nothing heavy is loaded to tell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trax_ray.core.task import ResourceRequest
from trax_ray.errors import SetupError, UsageError
from trax_ray.providers.base import SpeechEngine
from trax_ray.providers.registry import SPEECH_PROVIDERS, is_service, load_engine, provider_of

WHISPER = [
    "tiny",
    "tiny.en",
    "base",
    "base.en",
    "small",
    "small.en",
    "medium",
    "medium.en",
    "large-v1",
    "large-v2",
    "large-v3",
    "large",
    "large-v3-turbo",
    "turbo",
    "distil-small.en",
    "distil-medium.en",
    "distil-large-v2",
    "distil-large-v3",
]


@pytest.mark.parametrize("model", WHISPER)
def test_whisper_models(model: str) -> None:
    assert provider_of(model).name == "faster-whisper"


@pytest.mark.parametrize("model", ["whisper-1", "gpt-transcribe", "gpt-4o-transcribe"])
def test_services(model: str) -> None:
    provider = provider_of(model)
    assert (provider.name, provider.key_variable) == ("openai", "OPENAI_API_KEY")
    assert provider.service
    assert provider.resources(model).num_cpus == 1, "to prepare what is sent"


def test_a_server_of_the_protocol_has_what_no_model_of_this_machine_is() -> None:
    assert provider_of("Systran/faster-whisper-small", base_url="http://127.0.0.1:1/v1").name == "openai"
    assert provider_of("tiny", base_url="http://127.0.0.1:1/v1").name == "faster-whisper"
    assert is_service("anything", "http://127.0.0.1:1/v1")
    assert not is_service("anything")
    assert not is_service("pocketsphinx", "http://127.0.0.1:1/v1")


def test_a_folder_is_a_whisper_model(tmp_path: Path) -> None:
    assert provider_of(str(tmp_path)).name == "faster-whisper"


@pytest.mark.parametrize("model", ["", "whisper", "pocketsphinx2", "base/none", "./gone"])
def test_unknown_models(model: str) -> None:
    with pytest.raises(UsageError, match=r"pocketsphinx .*tiny, base, .*whisper-1"):
        provider_of(model)


def test_larger_models_ask_for_more_memory() -> None:
    asked = [provider_of(model).resources(model).memory_mb for model in ("base", "small", "medium", "large-v3")]
    assert asked == sorted(asked)
    assert len(set(asked)) == 4


def test_pocketsphinx_only_knows_english() -> None:
    provider = provider_of("pocketsphinx")
    provider.check(language=None)
    provider.check(language="EN")
    with pytest.raises(UsageError, match="only knows en, got --language de"):
        provider.check(language="de")


def test_a_provider_without_code_says_so() -> None:
    for provider in SPEECH_PROVIDERS:
        if not provider.module:
            with pytest.raises(SetupError, match="can't use"):
                provider.check(language=None)


def test_an_engine_is_loaded_by_its_model() -> None:
    engine = load_engine("pocketsphinx", ResourceRequest())
    assert isinstance(engine, SpeechEngine)
    assert engine.model == "pocketsphinx"


def test_only_the_standard_library_is_loaded() -> None:
    heavy = ("numpy", "av", "faster_whisper", "pocketsphinx", "ctranslate2", "onnxruntime", "openai", "ray")
    script = f"import sys, trax_ray.providers.registry; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
