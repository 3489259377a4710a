"""Enhancement that waits for cheap hours, from the plan to the files, in a batch without Ray."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from tests.support.chat import punctuating
from tests.support.in_process import run_batch
from tests.support.speech_server import KEY, SpeechServer, constant
from trax_ray.cli.notices import Notices
from trax_ray.core.spec import BatchSpec, Enhancement
from trax_ray.core.standing import fold
from trax_ray.core.state.events import Dispatch
from trax_ray.core.state.machine import BatchState
from trax_ray.plan.enhancing import with_text_model
from trax_ray.providers.credentials import hand_over

SAID = "so the harbour was built in 1892 and nobody knows who paid"
MONDAY_S = datetime(2026, 11, 23, tzinfo=timezone.utc).timestamp()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[SpeechServer]:
    """A server for both: speech, and chat."""
    keys = {"OPENAI_API_KEY": KEY, "ENHANCE_API_KEY": KEY}
    for name, key in keys.items():
        monkeypatch.setenv(name, key)
    hand_over(keys)
    with SpeechServer(constant(SAID), chat=punctuating) as running:
        yield running
    hand_over({})


@pytest.fixture
def recordings(samples: Path, tmp_path: Path) -> Path:
    """Two short ones."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("long_pause.ogg", "stories/the_letter.ogg"):
        (folder / Path(name).name).write_bytes((samples / name).read_bytes())
    return folder


class Run:
    """A batch that begins at some hour of that Monday, and what happened in it.

    Attributes:
        started: The kind of each attempt, and the hour at which it started.
        said: What a person is told beside the progress.
    """

    def __init__(self, folder: Path, out: Path, server: SpeechServer, hour: float, *, off_peak: bool = True) -> None:
        self.started: list[tuple[str, float]] = []
        self.said: list[str] = []
        self._notices = Notices(str(out))
        enhancement = Enhancement(level="format", model="deepseek-flash", base_url=server.url, off_peak=off_peak)
        spec = BatchSpec(str(out), model="whisper-1", base_url=server.url, formats=("txt",), enhance=enhancement)
        ended = run_batch(
            [folder], with_text_model(spec), before=self._before, looks=self._look, begins_at=MONDAY_S + 3600 * hour
        )
        self.states = {record.state.value for record in ended.state.records.values()}

    def _look(self, state: BatchState) -> None:
        self._state = state
        self.said += self._notices.of(fold(state, state.now, {}))

    def _before(self, dispatch: Dispatch) -> None:
        self.started.append((dispatch.task.kind, (self._state.now - MONDAY_S) / 3600))

    def hours(self, *kinds: str) -> list[float]:
        """When attempts of these kinds started."""
        return [hour for kind, hour in self.started if kind in kinds]


def test_enhancement_waits_and_says_until_when_and_transcription_goes_on(
    server: SpeechServer, recordings: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run = Run(recordings, out, server, 2.5)
    assert run.states == {"succeeded"}
    spoken, asked = run.hours("transcribe", "speech_chunk", "chunk"), run.hours("enhance", "window")
    assert len(spoken) >= 2
    assert max(spoken) < 3.0, "they don't wait"
    assert len(asked) >= 4, "a file's windows, and what puts them together"
    assert min(asked) >= 4.0
    assert max(asked) < 4.1
    until = datetime.fromtimestamp(MONDAY_S + 4 * 3600).astimezone()
    assert run.said == [f"enhancement waits for the provider's cheap hours, until {until:%Y-%m-%d %H:%M %Z}"]
    assert sorted(path.name for path in out.glob("*.enhanced.txt")) == [
        "long_pause.enhanced.txt",
        "the_letter.enhanced.txt",
    ]


def test_at_cheap_hours_and_without_the_option_nothing_waits(
    server: SpeechServer, recordings: Path, tmp_path: Path
) -> None:
    for hour, off_peak in ((4.5, True), (2.5, False), (24 * 5 + 2.5, True)):
        run = Run(recordings, tmp_path / str(hour), server, hour, off_peak=off_peak)
        assert run.states == {"succeeded"}
        assert max(hour for _, hour in run.started) < hour + 0.5
        assert run.said == []


def test_a_peak_that_begins_meanwhile_holds_what_has_not_begun(
    server: SpeechServer, recordings: Path, tmp_path: Path
) -> None:
    """Windows that were answered are put together at the peak, as that costs nothing; others wait for its end."""
    run = Run(recordings, tmp_path / "out", server, 5.999)
    assert run.states == {"succeeded"}
    assert not any(6.0 <= hour < 10.0 for hour in run.hours("window"))
    assert max(run.hours("window")) >= 10.0
    assert [line.partition(",")[0] for line in run.said] == ["enhancement waits for the provider's cheap hours"]
