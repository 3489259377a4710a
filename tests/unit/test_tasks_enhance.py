"""ENHANCE as a kind of task, with a chat server and without Ray: what it plans, asks, keeps, writes and says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from enhancing import SAID, Driver, payload_of, segments, spec_of, task_of, timed, transcribed
from test_enhance_unfaithful import TEXTS, UNFAITHFUL

from tests.support.chat import answer, edit, is_summary, punctuating, segments_of
from tests.support.speech_server import KEY, SpeechServer, faults
from trax_ray.kinds.recording import _primed
from trax_ray.media.speech import Segment
from trax_ray.providers.credentials import hand_over

Start = Callable[..., SpeechServer]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts servers that end with the test, and hands their key to this process."""
    servers: list[SpeechServer] = []

    def begin(chat: Any = punctuating, **options: Any) -> SpeechServer:
        servers.append(SpeechServer(chat=chat, **options).start())
        return servers[-1]

    hand_over({"ENHANCE_API_KEY": KEY})
    yield begin
    hand_over({})
    for server in servers:
        server.close()


def test_a_transcript_reads_well_and_says_the_same(start: Start, tmp_path: Path) -> None:
    server = start()
    driver = Driver(spec_of(tmp_path, server), transcribed(tmp_path, timed()))
    done = driver.through(task_of())
    assert done.failure is None
    assert len(server.ledger.of("chat")) == 1
    assert sorted(done.metrics["outputs"]) == [
        f"talk.enhanced.{each}" for each in ("diff", "json", "srt", "tsv", "txt", "vtt")
    ]
    lines = (tmp_path / "talk.enhanced.txt").read_text().splitlines()
    assert lines == [f"{line[0].upper()}{line[1:]}." for line in SAID.splitlines()]
    content = json.loads((tmp_path / "talk.enhanced.json").read_text())
    assert [(each["start"], each["end"]) for each in content["segments"]] == [
        (4.0 * n, 4.0 * n + 3.5) for n in range(6)
    ]
    assert content["enhancement"]["level"] == "format"
    assert len(content["enhancement"]["changes"]) == 6
    assert content["model"] == "tiny.en"
    diff = (tmp_path / "talk.enhanced.diff").read_text()
    assert "[-the-]{+The+} walls are nine metres high{+.+}" in diff
    assert (done.metrics["segments"], done.metrics["segments_preserved"]) == (6, 6)
    assert sum(done.metrics["edits"].values()) == 12
    assert done.metrics["input_tokens"] > 0
    assert "cost_usd" not in done.metrics, "its windows were charged, and their attempts say it"


def test_the_same_again_asks_nobody(start: Start, tmp_path: Path) -> None:
    server = start()
    spec, needed = spec_of(tmp_path, server), transcribed(tmp_path, timed())
    first, second = (Driver(spec, needed).through(task_of()) for _ in range(2))
    assert len(server.ledger.of("chat")) == 1
    assert first.artifact_key == second.artifact_key
    assert ("cached" in first.metrics, second.metrics.get("cached")) == (False, True)
    other = Driver(spec_of(tmp_path, server, level="words"), needed).through(task_of(level="words"))
    assert other.artifact_key != first.artifact_key
    assert len(server.ledger.of("chat")) == 2


def test_a_long_transcript_is_asked_in_windows_with_one_prefix(start: Start, tmp_path: Path) -> None:
    server = start()
    given = segments(200)
    driver = Driver(spec_of(tmp_path, server), transcribed(tmp_path, given))
    done = driver.through(task_of())
    entries = server.ledger.of("chat")
    assert done.metrics["windows"] == len(entries) >= 5
    assert server.ledger.max_in_flight > 1
    assert len({entry.messages[0]["content"] for entry in entries}) == 1, "what a provider's cache knows"
    asked = [number for entry in entries for number in segments_of({"messages": entry.messages})]
    assert sorted(asked) == list(range(1, 201)), "each segment is in one window"
    payload = payload_of(tmp_path, done)
    said = payload["text"].replace(".", "").casefold().split()
    assert said == [word for each in given for word in each.text.split()], "nothing is lost or doubled at the joins"


def test_what_was_paid_for_isnt_asked_again_after_a_death(start: Start, tmp_path: Path) -> None:
    """Three windows are answered and four are lost: only these are asked when the task starts anew."""
    server = start(faults=faults.starting(4, faults.server_error(500), endpoint="chat"))
    spec, needed = spec_of(tmp_path, server), transcribed(tmp_path, segments(200))
    assert Driver(spec, needed).through(task_of()).failure is not None
    paid = [entry for entry in server.ledger.of("chat") if entry.paid]
    assert len(paid) == 3
    server.order(None)
    done = Driver(spec, needed).through(task_of())
    assert done.failure is None
    paid = [entry for entry in server.ledger.of("chat") if entry.paid]
    assert len(paid) == done.metrics["windows"]


def learning() -> Callable[[Any], str]:
    """A model that changes a number, and when it is asked once more punctuates."""
    asked: list[Any] = []

    def say(body: Any) -> str:
        asked.append(body)
        if len(asked) > 1:
            return punctuating(body)
        return answer(
            *(edit(n, "nine", "ten", "words") for n, text in segments_of(body).items() if "nine metres" in text)
        )

    return say


def test_a_window_that_fails_its_checks_is_asked_once_more_with_the_reasons(start: Start, tmp_path: Path) -> None:
    server = start(learning())
    driver = Driver(spec_of(tmp_path, server), transcribed(tmp_path, timed()))
    done = driver.through(task_of())
    first, second = server.ledger.of("chat")
    assert first.messages[0] == second.messages[0]
    assert first.messages[1] != second.messages[1], "the reasons are in it"
    assert done.metrics["windows_asked_again"] == 1
    assert "nine metres" in (tmp_path / "talk.enhanced.txt").read_text()
    assert done.metrics["segments_preserved"] == 6


@pytest.mark.parametrize("said", ["I can't help with that.", "null", "", '{"edits": "none"}', "{" * 500])
def test_what_cant_be_used_leaves_the_original_with_the_reason(start: Start, tmp_path: Path, said: str) -> None:
    server = start(said)
    driver = Driver(spec_of(tmp_path, server), transcribed(tmp_path, timed()))
    done = driver.through(task_of())
    assert done.failure is None
    assert (tmp_path / "talk.enhanced.txt").read_text().splitlines() == SAID.splitlines()
    assert (done.metrics["windows_kept"], done.metrics["segments_preserved"]) == (1, 0)
    assert "enhancement_refused" in done.metrics["warnings"]
    (kept,) = json.loads((tmp_path / "talk.enhanced.json").read_text())["enhancement"]["kept"]
    assert kept["segments"] == [1, 6]
    assert kept["reason"]
    assert len(server.ledger.of("chat")) == 2, "once more, and then never again"
    again = Driver(spec_of(tmp_path, server), driver.needed).through(task_of())
    assert again.metrics["cached"]
    assert len(server.ledger.of("chat")) == 2


def test_one_window_that_the_provider_refuses_stays_and_the_others_go_on(start: Start, tmp_path: Path) -> None:
    server = start(faults=faults.at({1: faults.finished_by("content_filter")}, endpoint="chat"))
    driver = Driver(spec_of(tmp_path, server), transcribed(tmp_path, segments(200)))
    done = driver.through(task_of())
    assert done.failure is None
    assert done.metrics["windows_kept"] == 1
    assert done.metrics["refused"]["content_filter"] == 1


def test_a_server_that_refuses_every_window_fails_the_enhancement(start: Start, tmp_path: Path) -> None:
    server = start(faults=faults.starting(1, faults.status(422, "no such thing"), endpoint="chat"))
    done = Driver(spec_of(tmp_path, server), transcribed(tmp_path, segments(200))).through(task_of())
    assert done.failure is not None
    assert (done.failure.code, done.failure.failure_class.value) == ("rejected", "permanent")
    assert "no such thing" in done.failure.message
    assert not (tmp_path / "talk.enhanced.txt").exists()


def test_accuracy_before_and_after(start: Start, tmp_path: Path) -> None:
    reference = tmp_path / "reference.txt"
    reference.write_text(SAID.replace("harbour", "arbour"))
    server = start()
    done = Driver(spec_of(tmp_path, server), transcribed(tmp_path, timed())).through(task_of(reference=str(reference)))
    words = len(SAID.split())
    assert (done.metrics["errors_before"], done.metrics["errors_after"], done.metrics["reference_words"]) == (
        1,
        1,
        words,
    )
    assert done.metrics["accuracy_after"] == pytest.approx(100 * (1 - 1 / words))


def test_a_file_is_enhanced_alone_and_text_without_times_gets_none(start: Start, tmp_path: Path) -> None:
    server = start()
    given = tmp_path / "given"
    given.mkdir()
    (given / "notes.txt").write_text(SAID)
    (given / "film.srt").write_text("1\n00:00:01,000 --> 00:00:04,000\nso today we talk about the harbour\n\n")
    out = tmp_path / "out"
    driver = Driver(spec_of(out, server))
    notes = driver.through(task_of("notes", transcript_path=str(given / "notes.txt")))
    assert sorted(notes.metrics["outputs"]) == ["notes.enhanced.diff", "notes.enhanced.json", "notes.enhanced.txt"]
    film = driver.through(task_of("film", transcript_path=str(given / "film.srt")))
    assert len(film.metrics["outputs"]) == 6
    assert "00:00:01,000 --> 00:00:04,000\nSo today we talk" in (out / "film.enhanced.srt").read_text()
    assert (given / "notes.txt").read_text() == SAID


def test_nothing_said_is_nothing_asked(start: Start, tmp_path: Path) -> None:
    server = start()
    done = Driver(spec_of(tmp_path, server), transcribed(tmp_path, ())).through(task_of())
    assert done.failure is None
    assert server.ledger.of("chat") == []
    assert (tmp_path / "talk.enhanced.txt").read_text() == ""
    assert done.metrics["segments"] == 0


def test_files_of_others_stay(start: Start, tmp_path: Path) -> None:
    (tmp_path / "talk.enhanced.txt").write_text("mine")
    done = Driver(spec_of(tmp_path, start()), transcribed(tmp_path, timed())).through(task_of())
    assert (tmp_path / "talk.enhanced.txt").read_text() == "mine"
    assert done.metrics["kept_outputs"] == ["talk.enhanced.txt"]
    assert (tmp_path / "talk.enhanced.new.txt").exists()


def test_a_task_without_a_transcript_says_so(start: Start, tmp_path: Path) -> None:
    done = Driver(spec_of(tmp_path, start())).through(task_of())
    assert done.failure is not None
    assert "no transcript to enhance" in done.failure.message


def test_the_key_stands_nowhere(start: Start, tmp_path: Path) -> None:
    canary = "sk-canary-0a1b2c3d4e5f"
    hand_over({"ENHANCE_API_KEY": canary})
    server = start(key=canary, faults=faults.at({1: faults.status(422, f"no: {canary}")}, endpoint="chat"))
    driver = Driver(spec_of(tmp_path, server), transcribed(tmp_path, segments(80)))
    done = driver.through(task_of())
    assert "cost" not in str(done.failure)
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert canary.encode() not in kept + repr((done, driver.windows)).encode()


# Without a model, and beside one


def test_rules_need_no_model_and_no_key(tmp_path: Path) -> None:
    hand_over({})
    spec = spec_of(tmp_path, level="rules", glossary="harbour -> Harbour\n/nine (metres)/ -> 9 \\1\nKubernetes\n")
    done = Driver(spec, transcribed(tmp_path, timed())).through(task_of(level="rules"))
    assert done.failure is None
    lines = (tmp_path / "talk.enhanced.txt").read_text().splitlines()
    assert lines[0] == "so today we talk about the Harbour"
    assert lines[2] == "the walls are 9 metres high"
    assert done.metrics["edits"] == {"rule": 2}
    assert (done.metrics["segments_preserved"], done.metrics["input_tokens"]) == (6, 0)


def test_terms_go_to_the_text_model_and_to_recognisers(start: Start, tmp_path: Path) -> None:
    server = start()
    spec = spec_of(tmp_path, server, glossary="Kubernetes\nGrafana Loki\n", initial_prompt="A talk.")
    Driver(spec, transcribed(tmp_path, timed())).through(task_of())
    (entry,) = server.ledger.of("chat")
    assert "Grafana Loki" in entry.messages[0]["content"]
    assert _primed("A talk.", spec, "tiny.en") == "A talk. Kubernetes, Grafana Loki"
    assert _primed(None, spec, "pocketsphinx") is None, "which can't be primed"


HESITANT = "um so today uh we talk about the harbour\nuh huh\nthe erm walls are nine metres high"


def without_hesitation(body: Any) -> str:
    """A model that takes out sounds of hesitation where it is told to, and one word more."""
    told = 'Take out sounds of hesitation such as "um"' in body["messages"][0]["content"]
    edits = []
    for number, text in segments_of(body).items():
        kept = [word for word in text.split() if not (told and word in ("um", "uh", "erm", "nine"))]
        if kept and " ".join(kept) != text:
            edits.append(edit(number, text, " ".join(kept), "filler"))
    return answer(*edits)


def test_hesitation_is_taken_out_where_that_is_wanted_and_nothing_else(start: Start, tmp_path: Path) -> None:
    server = start(without_hesitation)
    done = Driver(spec_of(tmp_path, server, remove_fillers=True), transcribed(tmp_path, timed(HESITANT))).through(
        task_of()
    )
    assert done.failure is None
    assert (tmp_path / "talk.enhanced.txt").read_text().splitlines() == [
        "so today we talk about the harbour",
        "uh huh",
        "the erm walls are nine metres high",
    ], "who takes out a number as well is believed in nothing of that segment, and an answer is no hesitation"
    assert done.metrics["edits"] == {"filler": 1}
    assert (done.metrics["segments"], done.metrics["segments_preserved"]) == (3, 1)
    assert "[-um -]" in (tmp_path / "talk.enhanced.diff").read_text()
    content = json.loads((tmp_path / "talk.enhanced.json").read_text())
    assert content["segments"][0]["start"] == 0.0
    out = tmp_path / "other"
    again = Driver(spec_of(out, server), transcribed(out, timed(HESITANT))).through(task_of())
    assert again.artifact_key != done.artifact_key
    assert (out / "talk.enhanced.txt").read_text().splitlines() == HESITANT.splitlines()


SUMMARY = {
    "title": "The harbour",
    "points": ["One", "Two", "Three", "Four", "Five"],
    "chapters": [{"start_s": 0.0, "title": "Beginning"}, {"start_s": 16.0, "title": "The king"}],
}


def summing_up(*summaries: str) -> Callable[[Any], str]:
    """A model that punctuates, and sums up: with these answers, one after the other."""
    left = list(summaries)

    def say(body: Any) -> str:
        return left.pop(0) if is_summary(body) else punctuating(body)

    return say


def test_a_summary_is_a_file_of_its_own_and_its_times_exist(start: Start, tmp_path: Path) -> None:
    wrong = json.dumps(SUMMARY | {"chapters": [{"start_s": 3600.0, "title": "After the end"}]})
    server = start(summing_up(wrong, json.dumps(SUMMARY)))
    done = Driver(spec_of(tmp_path, server, summary=True), transcribed(tmp_path, timed())).through(task_of())
    assert done.failure is None
    said = (tmp_path / "talk.summary.md").read_text()
    assert said.startswith("# The harbour\n")
    assert "0:00:16 The king" in said or "0:16 The king" in said
    assert "talk.summary.md" in done.metrics["outputs"]
    assert "harbour" not in (tmp_path / "talk.enhanced.txt").read_text().replace("the harbour.", "")
    assert len(server.ledger.of("chat")) == 3, "the window, a summary whose time doesn't exist, and one that holds"
    again = Driver(spec_of(tmp_path, server, summary=True), transcribed(tmp_path, timed())).through(task_of())
    assert again.failure is None
    assert len(server.ledger.of("chat")) == 3


def test_without_a_summary_that_holds_there_is_none(start: Start, tmp_path: Path) -> None:
    server = start(summing_up("no", "no"))
    done = Driver(spec_of(tmp_path, server, summary=True), transcribed(tmp_path, timed())).through(task_of())
    assert done.failure is None
    assert "no_summary" in done.metrics["warnings"]
    assert not (tmp_path / "talk.summary.md").exists()


@pytest.mark.long
def test_an_unfaithful_answer_by_whatever_way_leaves_the_original(start: Start, tmp_path: Path) -> None:
    """All kinds of them, asked twice each, by a server: no file changes, and each file is counted as not preserved."""
    given = tuple(Segment(4.0 * n, 4.0 * n + 3.0, text, confidence=0.2) for n, text in enumerate(TEXTS))
    saying, counted = [""], 0
    server = start(lambda body: saying[0])
    for number, (kind, (text, _)) in enumerate(UNFAITHFUL.items()):
        saying[0], out = text or "", tmp_path / str(number)
        done = Driver(spec_of(out, server), transcribed(out, given)).through(task_of())
        assert done.failure is None, kind
        assert (out / "talk.enhanced.txt").read_text().splitlines() == list(TEXTS), kind
        counted += sum(done.metrics["refused"].values()) > 0
    assert counted >= 50
