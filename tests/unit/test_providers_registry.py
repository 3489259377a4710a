"""Model names find their provider, other packages' providers too; nothing heavy is loaded to tell."""

from __future__ import annotations

import ast
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest

import trax_ray
from trax_ray.core.task import ResourceRequest
from trax_ray.errors import UsageError
from trax_ray.providers import registry
from trax_ray.providers.base import SpeechEngine, TextProvider
from trax_ray.providers.registry import (
    Plugin,
    is_service,
    load_engine,
    plugins,
    provider_of,
    providers,
    revision_of,
    service_of,
    text_provider_of,
)

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


def test_what_artifacts_keys_are_made_of() -> None:
    """Other figures here would make transcripts anew that are there, some of them paid."""
    figures = {
        model: (revision_of(model, url), is_service(model, url))
        for url in ("", "http://127.0.0.1:1/v1")
        for model in ("pocketsphinx", "base", "whisper-1", "nobodys")
    }
    assert figures == {
        "pocketsphinx": (1, False),
        "base": (2, False),
        "whisper-1": (1, True),
        "nobodys": (1, True),
    }
    assert (revision_of("nobodys"), is_service("nobodys")) == (1, False)


def test_a_service_is_no_engine_and_an_engine_is_no_service() -> None:
    assert service_of("whisper-1").longest_request_s("whisper-1") == 600
    with pytest.raises(UsageError, match="no provider has the model base: known are whisper-1"):
        service_of("base")
    with pytest.raises(UsageError, match="whisper-1 doesn't run on this machine: openai is a service"):
        load_engine("whisper-1", ResourceRequest())


def test_an_engine_is_loaded_by_its_model() -> None:
    engine = load_engine("pocketsphinx", ResourceRequest())
    assert isinstance(engine, SpeechEngine)
    assert engine.model == "pocketsphinx"


def test_only_the_standard_library_is_loaded() -> None:
    heavy = ("numpy", "av", "faster_whisper", "pocketsphinx", "ctranslate2", "onnxruntime", "openai", "ray")
    script = (
        "import sys; from trax_ray.providers.registry import plugins, provider_of, providers\n"
        "providers(), plugins(), provider_of('whisper-1').check(language=None, model='whisper-1')\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# Providers of other packages

HEAD = """
from trax_ray.providers.base import EngineProvider, TextProvider
from trax_ray.providers.prices import Price, PriceList

class Engine(EngineProvider):
    name = "{name}"
    models = "{name}-1 (a test's)"

    def has(self, model):
        return model == "{name}-1"

    def memory_mb(self, model):
        return 512

    def load(self, model, resources):
        raise NotImplementedError
"""
"""The module of a provider; its object is still to be made."""

GOOD = HEAD + "PROVIDER = Engine()\n"

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs distributions, each of one module of its own name; they are gone after the test."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)

    def put(name: str, source: str = GOOD, *, entry: str = "") -> None:
        entry = entry or f"{name} = {name}:PROVIDER"
        info = folder / f"{name}-0.1.dist-info"
        info.mkdir()
        (folder / f"{name}.py").write_text(source.replace("{name}", name))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
        (info / "entry_points.txt").write_text(f"[trax_ray.providers]\n{entry}\n")
        registry.forget()

    yield put
    registry.forget()
    registry._warn_once.cache_clear()
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "") or "").startswith(str(folder)):
            del sys.modules[name]


def test_without_plugins_there_are_the_built_in_ones() -> None:
    assert [provider.name for provider in providers()] == [
        "pocketsphinx",
        "faster-whisper",
        "openai",
        "deepseek",
        "chat",
    ]


def test_a_provider_of_another_package_is_found(install: Install) -> None:
    install("bell")
    provider = provider_of("bell-1")
    assert (provider.name, provider.service, provider.resources("bell-1").memory_mb) == ("bell", False, 512)
    assert [provider.name for provider in providers()][-1] == "bell", "the built-in ones are asked first"
    assert plugins() == (Plugin("bell 0.1", "bell = bell:PROVIDER", provider),)
    with pytest.raises(UsageError, match=r"whisper-1, .*; bell-1 \(a test's\)"):
        provider_of("bell-2")


def test_it_is_loaded_once_and_only_when_somebody_asks(install: Install) -> None:
    install("bell", GOOD)
    assert "bell" not in sys.modules
    assert provider_of("bell-1") is provider_of("bell-1")
    assert "bell" in sys.modules


def test_a_local_model_of_another_package_stays_local_beside_a_server(install: Install) -> None:
    install("bell")
    server = "http://127.0.0.1:1/v1"
    assert provider_of("bell-1", base_url=server).name == "bell"
    assert not is_service("bell-1", server)
    assert provider_of("bell-2", base_url=server).name == "openai"


@pytest.mark.parametrize(
    ("source", "entry", "problem"),
    [
        ("import nothing_of_this_name", "", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("def broken(:", "", "SyntaxError: "),
        ("raise SystemExit(3)", "", "SystemExit: 3"),
        (GOOD, "bad = bad:NOWHERE", "AttributeError: "),
        (GOOD, "bad = elsewhere:PROVIDER", "ModuleNotFoundError: "),
        (GOOD, "bad = bad:Engine", "TypeError: expected an EngineProvider, .* got a class: make an instance"),
        ("PROVIDER = 'bell'", "", "TypeError: expected an EngineProvider, .* got a str"),
        (HEAD + "Engine.load = None\nclass Half(EngineProvider): pass\nPROVIDER = Half()", "", "TypeError: .*abstract"),
        (HEAD + "Engine.name = ''\nPROVIDER = Engine()", "", "TypeError: Engine.name can't be ''"),
        (HEAD + "del Engine.models\nPROVIDER = Engine()", "", "TypeError: Engine.models can't be None"),
        (HEAD + "Engine.key_variable = ''\nPROVIDER = Engine()", "", "Engine.key_variable can't be ''"),
        (HEAD + "Engine.revision = 0\nPROVIDER = Engine()", "", "Engine.revision can't be 0"),
        (HEAD + "Engine.prices = {}\nPROVIDER = Engine()", "", "Engine.prices can't be {}"),
        (HEAD + "Engine.shutdowns = ('x',)\nPROVIDER = Engine()", "", "Engine.shutdowns can't be "),
        (HEAD + "Engine.name = 'openai'\nPROVIDER = Engine()", "", "there is a provider of the name openai already"),
    ],
)
def test_a_broken_package_stops_nothing_and_is_told_of_once(
    install: Install, caplog: pytest.LogCaptureFixture, source: str, entry: str, problem: str
) -> None:
    install("zinc")
    install("bad", source, entry=entry)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert provider_of("base").name == "faster-whisper"
            assert provider_of("whisper-1").key_variable == "OPENAI_API_KEY"
            assert provider_of("zinc-1").name == "zinc"
    (plugin,) = [each for each in plugins() if each.provider is None]
    assert plugin.distribution == "bad 0.1"
    assert re.search(problem, plugin.problem), plugin.problem
    (record,) = caplog.records
    assert record.getMessage().startswith("bad 0.1: the provider `bad = ")
    assert plugin.problem in record.getMessage()


def test_two_packages_of_one_name_of_provider(install: Install) -> None:
    install("bell")
    install("other", HEAD + "Engine.name = 'bell'\nEngine.has = lambda self, model: True\nPROVIDER = Engine()")
    assert [(each.distribution, each.problem) for each in plugins()] == [
        ("bell 0.1", ""),
        ("other 0.1", "there is a provider of the name bell already"),
    ]
    with pytest.raises(UsageError):
        provider_of("anything")


def test_a_provider_that_takes_every_model_takes_none_of_the_built_in_ones(install: Install) -> None:
    install("all", HEAD + "Engine.has = lambda self, model: True\nPROVIDER = Engine()")
    assert [provider_of(model).name for model in ("pocketsphinx", "base", "whisper-1", "other")] == [
        "pocketsphinx",
        "faster-whisper",
        "openai",
        "all",
    ]


def test_a_provider_that_fails_at_a_question_is_passed_over(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install("bad", HEAD + "Engine.has = lambda self, model: {}[model]\nPROVIDER = Engine()")
    install("bell")
    for _ in range(2):
        assert provider_of("bell-1").name == "bell"
    (record,) = caplog.records
    assert "bad can't say whether it has the model bell-1: KeyError: 'bell-1'" in record.getMessage()


def test_packages_that_can_t_be_searched(monkeypatch: pytest.MonkeyPatch, install: Install) -> None:
    install("bell")

    def fail(**kwargs: str) -> None:
        raise TypeError("no name")

    monkeypatch.setattr(metadata, "entry_points", fail)
    registry.forget()
    assert [(each.provider, each.problem) for each in plugins()] == [
        (None, "what is installed can't be searched: TypeError: no name")
    ]
    assert provider_of("base").name == "faster-whisper"


TEXTS = """
from trax_ray.providers.base import TextProvider

class Texts(TextProvider):
    name = "{name}"
    models = "{name}-chat (a test's)"
    key_variable = "{name}_KEY"
    any_server = ANY

    def has(self, model):
        return model == "{name}-chat"

    def connect(self, model, *, key, base_url, priced):
        raise NotImplementedError

PROVIDER = Texts()
"""


def test_text_models_have_providers_of_their_own(install: Install) -> None:
    with pytest.raises(UsageError, match="no provider has the model sage-chat: known are deepseek-flash"):
        text_provider_of("sage-chat")
    install("sage", TEXTS.replace("ANY", "False"))
    provider = text_provider_of("sage-chat")
    assert isinstance(provider, TextProvider)
    assert (provider.name, provider.key_variable) == ("sage", "sage_KEY")
    with pytest.raises(UsageError, match="no provider has the model sage-chat"):
        provider_of("sage-chat")
    install("open", TEXTS.replace("ANY", "True"))
    assert text_provider_of("any", base_url="http://127.0.0.1:1/v1").name == "chat", "the built-in ones come first"
    assert text_provider_of("sage-chat").name == "sage"


# Nobody else knows them

OPEN = {"base", "registry", "keys", "languages", "credentials", "choice", "weights"}
"""What the other rooms may use of `trax_ray.providers`; `weights` and `choice` are about the model for those who name
none."""

PACKAGE = Path(trax_ray.__file__).parent
OTHERS = [
    path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] not in ("providers", "testing")
]


def test_no_other_room_imports_a_provider_or_its_tables() -> None:
    found = {
        name.split(".")[2]
        for path in OTHERS
        for node in ast.walk(ast.parse(path.read_bytes()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [f"{node.module}.{alias.name}" for alias in node.names]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        if name.startswith("trax_ray.providers.")
    }
    assert {"base", "registry"} <= found, "the search is blind"
    assert found <= OPEN


def test_no_other_room_asks_for_a_provider_by_its_name() -> None:
    names = {provider.name for provider in providers()}
    asked = [
        f"{path}:{node.lineno}"
        for path in OTHERS
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Compare)
        for side in (node.left, *node.comparators)
        for part in (getattr(side, "elts", None) or [side])
        if isinstance(part, ast.Constant) and part.value in names
    ]
    assert not asked
