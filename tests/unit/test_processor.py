"""What the processor does before it needs Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

from trax_ray import TaskType, create_batch_processor
from trax_ray.core.spec import BatchSpec
from trax_ray.errors import SetupError, UsageError
from trax_ray.plan.planner import pin_model, pinned_model, provider_for, resolve_model


async def test_on_a_cluster_with_gpus_a_model_that_can_use_one_asks_for_it(tmp_path: Path) -> None:
    batch = create_batch_processor(output_dir=tmp_path, model="tiny")
    await batch.add_task(TaskType.TRANSCRIBE, {"file_path": "a.wav"})
    await batch.add_task(TaskType.TRANSCRIBE, {"file_path": "b.wav", "model": "pocketsphinx"})
    await batch.add_task(TaskType.PREPROCESS, {"file_path": "a.wav"})
    batch._gpus = 2.0
    assert [task.resources.num_gpus for task in batch._take(9)] == [1.0, 0.0, 0.0]


async def test_a_model_of_its_own_decides_on_provider_memory_and_language(tmp_path: Path) -> None:
    batch = create_batch_processor(output_dir=tmp_path, model="pocketsphinx")
    await batch.add_task(TaskType.TRANSCRIBE, {"file_path": "a.wav", "model": "small", "language": "de"})
    (task,) = batch._take(9)
    assert (task.provider, task.resources.memory_mb, task.data["language"]) == ("faster-whisper", 1024, "de")
    with pytest.raises(UsageError, match="pocketsphinx"):
        await batch.add_task(TaskType.TRANSCRIBE, {"file_path": "b.wav", "language": "de"})


async def test_the_same_calls_give_the_same_ids_in_the_next_run(tmp_path: Path) -> None:
    async def ids() -> list[str]:
        batch = create_batch_processor(output_dir=tmp_path, model="pocketsphinx")
        calls = [
            (TaskType.TRANSCRIBE, {"file_path": "a.wav"}),
            (TaskType.TRANSCRIBE, {"file_path": "a.wav"}),
            (TaskType.YOUTUBE, {"url": "https://example.org"}),
            (TaskType.YOUTUBE, {"url": "https://example.org"}),
        ]
        return [await batch.add_task(kind, data) for kind, data in calls]

    first = await ids()
    assert len(set(first)) == 4
    assert await ids() == first


def test_the_model_is_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pinned_model(str(tmp_path)) is None
    assert resolve_model("tiny", str(tmp_path)) == "tiny"
    monkeypatch.chdir(tmp_path.parent)
    assert resolve_model(f"./{tmp_path.name}", str(tmp_path)) == str(tmp_path)
    pin_model(str(tmp_path), "pocketsphinx")
    assert pinned_model(str(tmp_path)) == "pocketsphinx"
    monkeypatch.setattr("trax_ray.providers.choice.choose_model", lambda language: "pocketsphinx")
    assert resolve_model(None, str(tmp_path)) == "pocketsphinx"
    monkeypatch.setattr("trax_ray.providers.choice.choose_model", lambda language: "base")
    with pytest.raises(SetupError, match="--model pocketsphinx to go on"):
        resolve_model(None, str(tmp_path))
    assert resolve_model("base", str(tmp_path)) == "base"


async def test_prepared_recordings_overwrite_nothing_and_keep_their_names(tmp_path: Path) -> None:
    async def plan(names: dict[str, str]) -> dict[str, str]:
        batch = create_batch_processor(output_dir=tmp_path, model="pocketsphinx")
        batch._names = names
        await batch.add_task(TaskType.TRANSCRIBE, {"file_path": "a/talk.mp3"})
        for path in ("a/talk.mp3", "b/talk.mp3", "b/talk.wav"):
            await batch.add_task(TaskType.PREPROCESS, {"file_path": path})
        return {task.file_id: task.data["output"] for task in batch._take(9)}

    first = await plan({})
    assert len(set(first.values())) == len(first) == 4
    assert sum(output.startswith("audio/") for output in first.values()) == 3
    assert await plan(dict(first)) == first


async def test_a_recording_that_is_added_twice_overwrites_no_other(tmp_path: Path) -> None:
    batch = create_batch_processor(output_dir=tmp_path, model="pocketsphinx")
    for path in ("talk-2.mp3", "talk.mp3", "talk.mp3"):
        await batch.add_task(TaskType.TRANSCRIBE, {"file_path": path})
    outputs = [task.data["output"] for task in batch._take(9)]
    assert outputs[:2] == ["talk-2", "talk"]
    assert outputs[2] not in outputs[:2]


@pytest.mark.parametrize(
    ("model", "base_url", "refused"),
    [
        ("whisper-1", "", False),
        ("gpt-4o-mini-transcribe-2025-12-15", "http://127.0.0.1:1/v1", False),
        ("my-whisper", "http://127.0.0.1:1/v1", True),
    ],
)
def test_a_limit_of_costs_needs_a_price(
    model: str, base_url: str, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    provider_for(model, BatchSpec(str(tmp_path), model=model, base_url=base_url))
    spec = BatchSpec(str(tmp_path), model=model, base_url=base_url, max_cost_usd=1.0)
    if refused:
        with pytest.raises(UsageError, match=r"--max-cost can't be kept: what my-whisper costs isn't known"):
            provider_for(model, spec)
    else:
        provider_for(model, spec)
