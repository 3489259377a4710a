"""A second service, from another package's entry point, through plan, requests, bill and doctor: no name is asked for
anywhere, so what OpenAI's service can, this one can too."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator, Sequence
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from trax_ray.cli.app import app
from trax_ray.cli.doctor.check import Verdict
from trax_ray.cli.doctor.models import check_keys
from trax_ray.core.limits.signals import ProviderSignal, SignalKind
from trax_ray.core.spec import BatchSpec
from trax_ray.core.task import BatchTask, Outcome, TaskType
from trax_ray.errors import SetupError, UsageError
from trax_ray.kinds import request as service
from trax_ray.kinds.assignment import Assignment
from trax_ray.kinds.recording import Recording
from trax_ray.kinds.transcribe import TRANSCRIBE, transcribe
from trax_ray.kinds.uploads import Uploads
from trax_ray.plan.models import find_keys, provider_for
from trax_ray.providers import registry
from trax_ray.providers.base import EngineOptions, Reply, Segment, ServiceProvider, Shutdown, Span, SpeechService
from trax_ray.providers.credentials import hand_over
from trax_ray.providers.keys import Secret
from trax_ray.providers.prices import Price, PriceList

KEY = "ear-0123456789"
MODEL = "ear-1"


class Ear:
    """Says "heard" and nothing else, and keeps what it was asked."""

    name = "ear"
    bytes_per_s = 0.0

    def __init__(self, model: str, provider: EarProvider, **connected: Any) -> None:
        self.model = model
        self.connected = connected
        self._provider = provider
        self.asked: list[float] = []

    async def transcribe(
        self, upload: bytes, *, duration_s: float, speech: Sequence[Span], options: EngineOptions
    ) -> Reply:
        self.asked.append(duration_s)
        cost = self._provider.cost_usd(self.model, None, duration_s, 0.0) if self.connected["priced"] else None
        return Reply(
            signal=ProviderSignal(kind=SignalKind.OK, status=200, latency_s=0.1, cost_usd=cost),
            segments=tuple(Segment(span.start_s, span.end_s, "heard") for span in speech),
            language="en",
        )

    async def close(self) -> None:
        pass


class EarProvider(ServiceProvider):
    name = "ear"
    models = "ear-1, ear-free (a test's)"
    key_variable = "EAR_KEY"
    languages = frozenset({"en", "fi"})
    prices = PriceList(date(2026, 1, 1), {MODEL: Price(minute=0.60)}, hosts=(".ear.example",))
    shutdowns = (Shutdown(MODEL, date(2026, 2, 1), "ear-2"),)

    def __init__(self) -> None:
        self.made: list[Ear] = []

    def has(self, model: str) -> bool:
        return model.startswith("ear-")

    def longest_request_s(self, model: str) -> float:
        return 5.0

    def connect(self, model: str, *, key: Secret | None, base_url: str, priced: bool) -> SpeechService:
        self.made.append(Ear(model, self, key=key, base_url=base_url, priced=priced))
        return self.made[-1]


PROVIDER = EarProvider()


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Iterator[EarProvider]:
    point = metadata.EntryPoint("ear", f"{__name__}:PROVIDER", registry.GROUP)
    monkeypatch.setattr(metadata, "entry_points", lambda group: [point] if group == registry.GROUP else [])
    registry.forget()
    PROVIDER.made.clear()
    yield PROVIDER
    registry.forget()


def spec_of(out: Path, **fields: Any) -> BatchSpec:
    return BatchSpec(str(out), **{"model": MODEL, "formats": ("txt", "json"), **fields})


@pytest.mark.usefixtures("ear")
def test_what_is_settled_before_a_batch_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of(tmp_path, max_cost_usd=1.0)
    with pytest.raises(SetupError, match="the model ear-1 needs a key: set EAR_KEY, or EAR_KEY_FILE"):
        provider_for(MODEL, spec)
    monkeypatch.setenv("EAR_KEY", KEY)
    assert provider_for(MODEL, spec) is PROVIDER
    assert find_keys() == {"EAR_KEY": Secret(KEY)}
    with pytest.raises(UsageError, match="ear only knows en, fi, got --language de"):
        provider_for(MODEL, spec, language="de")
    with pytest.raises(UsageError, match="what ear-free costs isn't known"):
        provider_for("ear-free", spec)
    assert provider_for("ear-free", spec_of(tmp_path)) is PROVIDER
    assert provider_for(MODEL, spec_of(tmp_path, word_timestamps=True)) is PROVIDER, "OpenAI's table isn't asked"


@pytest.mark.parametrize(("model", "cost"), [(MODEL, 0.60), ("ear-free", None)])
def test_a_recording_from_its_requests_to_its_transcript(
    ear: EarProvider, samples: Path, tmp_path: Path, model: str, cost: float | None
) -> None:
    hand_over({"EAR_KEY": KEY, "OPENAI_API_KEY": "sk-0123456789"})
    spec = spec_of(tmp_path / "out", model=model)
    data = {"file_path": str(samples / "first_test.wav"), "output": "talk"}
    task = BatchTask("talk", TaskType.TRANSCRIBE, data, provider="ear")
    assert Uploads(Recording.of(Assignment(spec, task), TRANSCRIBE.read(task))).limit_s == 5.0
    *_, planned = transcribe(Assignment(spec, task))
    assert isinstance(planned, Outcome)
    assert len(planned.children) > 1, "no request is longer than five seconds"
    assert {child.provider for child in planned.children} == {"ear"}

    async def together() -> list[Outcome]:
        try:
            return await asyncio.gather(*(service.call(Assignment(spec, child)) for child in planned.children))
        finally:
            await service.close()

    asked = asyncio.run(together())
    hand_over({})
    (client,) = ear.made
    assert client.connected == {"key": Secret(KEY), "base_url": "", "priced": True}
    assert max(client.asked) <= 5.0
    seconds = [math.ceil(each) for each in client.asked]
    costs = [outcome.metrics["cost_usd"] for outcome in asked if "cost_usd" in outcome.metrics]
    estimates = [child.data["estimate_usd"] for child in planned.children if "estimate_usd" in child.data]
    if cost is None:
        assert costs == estimates == []
    else:
        assert sorted(costs) == pytest.approx(sorted(cost * each / 60 for each in seconds))
        assert sum(costs) <= sum(estimates) + cost / 60

    keys = {child.id: outcome.artifact_key for child, outcome in zip(planned.children, asked, strict=True)}
    *_, done = transcribe(Assignment(spec, task, attempt=2, children=keys))
    assert isinstance(done, Outcome)
    assert done.failure is None
    assert set((tmp_path / "out" / "talk.txt").read_text().split()) == {"heard"}
    assert json.loads((tmp_path / "out" / "talk.json").read_text())["model"] == model


def test_prices_and_ends_are_those_of_the_makers_own_server(ear: EarProvider) -> None:
    assert ear.estimate_usd(MODEL, 60) == ear.estimate_usd(MODEL, 60, base_url="https://a.ear.example/v1") == 0.60
    assert ear.estimate_usd(MODEL, 60, base_url="https://api.openai.com/v1") is None
    assert ear.estimate_usd(MODEL, 60, base_url="http://127.0.0.1:1", limited=True) == 0.60
    assert ear.shutdown(MODEL) == ear.shutdown(MODEL, base_url="https://a.ear.example/v1") == PROVIDER.shutdowns[0]
    assert ear.shutdown(MODEL, base_url="http://127.0.0.1:1/v1") is None
    assert ear.shutdown("ear-free") is None


@pytest.mark.usefixtures("ear")
def test_the_command_line_and_the_doctor_know_it(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EAR_KEY", KEY)
    own = ["batch", str(samples / "first_test.wav"), "--model", MODEL, "-o", str(tmp_path / "out"), "--dry-run"]
    done = CliRunner().invoke(app, own)
    assert done.exit_code == 0, done.output
    assert "with ear-1" in done.output
    assert "WARNING: ear-1 is announced to end on 2026-02-01: --model ear-2 comes after it" in done.output
    keys = {check.text: check.verdict for check in check_keys({"EAR_KEY": KEY})}
    assert keys["EAR_KEY is set"] is Verdict.OK
    assert "OPENAI_API_KEY isn't set; only the models of openai will need it" in keys
    assert "EAR_KEY isn't set; only the models of ear will need it" in {check.text for check in check_keys({})}


@pytest.mark.usefixtures("ear")
def test_at_the_address_of_a_server_openais_protocol_is_spoken() -> None:
    assert registry.provider_of(MODEL, base_url="http://127.0.0.1:1/v1").name == "openai"
